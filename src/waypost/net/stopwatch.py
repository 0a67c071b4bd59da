"""How long each phase of an attempt takes."""

from time import monotonic

from waypost.mail.outcome import Phase


class Stopwatch:
    """Measures one phase after the other. What lies between two, waiting for the client above all, counts for none.

    A phase that comes again (EHLO after STARTTLS, RCPT in several groups) adds to what it took before.
    """

    __slots__ = ("_laps", "_since")

    def __init__(self) -> None:
        self._laps: list[tuple[Phase, float]] = []
        self._since = monotonic()

    @property
    def laps(self) -> tuple[tuple[Phase, float], ...]:
        """The phases so far in their order, each with its seconds."""
        return tuple(self._laps)

    def reset(self) -> None:
        """Forgets all: an attempt begins."""
        self._laps = []

    def note(self, phase: Phase, text: str) -> None:
        """Something that a probe has to tell of a phase; who only measures does not keep it."""

    def start(self) -> None:
        """A phase begins."""
        self._since = monotonic()

    def lap(self, phase: Phase) -> None:
        """A phase ends, and the next one begins."""
        now = monotonic()
        took, self._since = now - self._since, now
        laps = self._laps
        for index, (known, before) in enumerate(laps):
            if known is phase:
                laps[index] = (phase, before + took)
                return
        laps.append((phase, took))
