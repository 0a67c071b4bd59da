"""A probe: a session with an upstream, opened as for mail, stage by stage, and never any content.

    resolve, connect, greeting, EHLO, TLS, AUTH, then MAIL and RCPT to a canary, RSET and QUIT

What it does is what mail does (`waypost.net.opening`): so what it finds is what mail would find.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from waypost.mail.outcome import Answer, Cause, Failure, Phase, Stopped
from waypost.net.dialogue import Dialogue, is_positive
from waypost.net.login import Logins
from waypost.net.opening import open_session
from waypost.net.pool import Upstreams
from waypost.net.stopwatch import Stopwatch
from waypost.net.x509 import read_certificate
from waypost.routing.probing import NOT_REACHED, Finding, Stage, StageState, stages_of
from waypost.routing.route import Upstream
from waypost.smtp import commands as c
from waypost.smtp.address import NULL
from waypost.smtp.reply import printable

Tell = Callable[[Stage], None]
"""Hears of each stage when it is over, in their order."""

_PARTING = 2.0  # seconds that the answer to QUIT may take
_PART_OF = {Phase.STARTTLS: Phase.TLS}


def _unheard(stage: Stage) -> None:
    pass


class _Trail(Stopwatch):
    """Remembers what there is to tell of each phase, and tells of a stage as soon as it is certain that it is over."""

    __slots__ = ("_last", "_reached", "notes")

    def __init__(self, reached: Callable[[Phase], None]) -> None:
        super().__init__()
        self.notes: dict[Phase, list[str]] = {}
        self._reached = reached
        self._last: Phase | None = None

    def note(self, phase: Phase, text: str) -> None:
        self.notes.setdefault(phase, []).append(text)

    def lap(self, phase: Phase) -> None:
        super().lap(phase)
        if self._last is not None and phase is not self._last:
            self._reached(self._last)  # or else there would have been no next one
        self._last = phase

    def seconds(self, stage: Phase) -> float:
        """How long a stage took so far."""
        return sum(seconds for phase, seconds in self.laps if _PART_OF.get(phase, phase) is stage)


@dataclass(frozen=True, slots=True)
class Prober:
    """Probes upstreams. `now` is in seconds since the epoch."""

    hostname: str
    logins: Logins
    now: Callable[[], float]
    upstreams: Upstreams | None = None
    """Whose connections count: a probe takes none that mail may need. None: there is no mail."""

    async def probe(self, upstream: Upstream, tell: Tell = _unheard) -> Finding | None:
        """What an upstream says at each stage; None when mail has, or wants, all connections that it may have."""
        if self.upstreams is None:
            return (await self._probe(upstream, tell))[0]
        place = self.upstreams.place(upstream)
        if place is None:
            return None
        probing = asyncio.create_task(self._probe(upstream, tell))
        place.guest = probing.cancel
        try:
            finding, shown = await probing
            if shown is not None:
                place.certificate = shown
            return finding
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return None  # not we are to end: mail came, and wants the connection
        finally:
            place.leave()

    async def _probe(self, upstream: Upstream, tell: Tell) -> tuple[Finding, bytes | None]:
        """What it finds, and the certificate that was shown."""
        at = self.now()
        if not upstream.probe.login:
            upstream = replace(upstream, credentials=None)
        walk = _Walk(upstream, tell)
        try:
            stopped = await open_session(walk.dialogue, upstream, self.hostname, upstream.timeouts, self.logins)
            if stopped is None:
                stopped = await walk.ask_for_the_canary()
        finally:
            walk.dialogue.abort()
        stages = walk.end(stopped)
        if stopped is not None and isinstance(stopped.answer, Failure) and stopped.answer.cause is Cause.CERTIFICATE:
            walk.shown = await self._look(upstream)
        certificate = None if walk.shown is None else read_certificate(walk.shown)
        return Finding(upstream.name, at, stages, stopped, walk.tls, certificate), walk.shown

    async def _look(self, upstream: Upstream) -> bytes | None:
        """The certificate that was not good enough: another connection, on which nothing is entrusted to anybody."""
        tls = replace(upstream.tls, verify=False, fingerprints=())
        dialogue = Dialogue()
        try:
            naked = replace(upstream, tls=tls, credentials=None)
            await open_session(dialogue, naked, self.hostname, upstream.timeouts, self.logins)
            return None if dialogue.stream is None else dialogue.stream.peer_certificate
        finally:
            dialogue.abort()


class _Walk:
    """One probe under way."""

    def __init__(self, upstream: Upstream, tell: Tell) -> None:
        self.dialogue = Dialogue()
        self.shown: bytes | None = None
        self.tls: str | None = None
        self._upstream = upstream
        self._tell = tell
        self._order = stages_of(upstream)
        self._stages: list[Stage] = []
        self._is_over = False  # what follows is RSET and QUIT, whatever became of the stages
        self._trail = self.dialogue.watch = _Trail(self._reached)

    async def ask_for_the_canary(self) -> Stopped | None:
        """MAIL and RCPT, where there is a canary; then RSET and QUIT. What went wrong, or None."""
        probe, timeout = self._upstream.probe, self._upstream.timeouts.command
        stopped: Stopped | None = None
        if probe.canary is not None:
            commands: tuple[tuple[c.Command, Phase], ...] = (
                (c.Mail(probe.sender or NULL), Phase.MAIL),
                (c.Rcpt(probe.canary), Phase.RCPT),
            )
            for command, phase in commands:
                answer = await self.dialogue.ask(command, phase, timeout)
                self._trail.note(phase, str(answer))
                if not is_positive(answer):
                    self._is_over = True
                    stopped = Stopped(phase, answer)
                    break
            await self.dialogue.ask(c.Rset(), Phase.DATA, timeout)
        await self.dialogue.ask(c.Quit(), Phase.DATA, min(timeout, _PARTING))
        return stopped

    def end(self, stopped: Stopped | None) -> tuple[Stage, ...]:
        """All stages, when it is known where it ended."""
        if stopped is not None:
            phase = _PART_OF.get(stopped.phase, stopped.phase)
            self._tell_before(phase)
            # Some upstreams hang up on a token that is refused, and are not there when another one is tried.
            phase = self._order[min(len(self._stages), len(self._order) - 1)]
            text = _failure_text(stopped.answer, self._trail.notes.get(phase, ()))
            self._add(Stage(phase, StageState.FAILED, text, self._trail.seconds(phase)))
        for phase in self._order[len(self._stages) :]:
            self._add(self._passed(phase) if stopped is None else Stage(phase, StageState.SKIPPED, NOT_REACHED))
        return tuple(self._stages)

    def _reached(self, phase: Phase) -> None:
        """A phase is over, and the dialogue went on. That of EHLO may be tried as HELO, that of AUTH otherwise."""
        if self._is_over or phase in (Phase.EHLO, Phase.AUTH, Phase.STARTTLS, Phase.DATA):
            return
        stream = self.dialogue.stream
        if phase is Phase.TLS and stream is not None:
            self.tls = stream.tls
            self.shown = stream.peer_certificate
        if phase not in self._told:
            self._tell_before(phase)
            self._add(self._passed(phase))

    def _tell_before(self, phase: Phase) -> None:
        """What lies before a phase went well, or was left out."""
        while phase not in self._told and self._order[len(self._stages)] is not phase:
            self._add(self._passed(self._order[len(self._stages)]))

    @property
    def _told(self) -> set[Phase]:
        return {stage.phase for stage in self._stages}

    def _passed(self, phase: Phase) -> Stage:
        trail = self._trail
        notes: Sequence[str] = trail.notes.get(phase, ())
        if not any(_PART_OF.get(gone, gone) is phase for gone, _ in trail.laps):
            return Stage(phase, StageState.SKIPPED, self._why_not(phase))
        text = "; ".join(notes)
        match phase:
            case Phase.TLS if self.tls is None:
                return Stage(phase, StageState.SKIPPED, "STARTTLS was refused, and is not required")
            case Phase.TLS:
                text = self.tls or ""
            case Phase.AUTH if self._upstream.credentials is not None and notes:
                text = f"{notes[-1]} as {self._upstream.credentials.username}"
            case Phase.EHLO:
                text = ""
        return Stage(phase, StageState.OK, printable(text), trail.seconds(phase))

    def _why_not(self, phase: Phase) -> str:
        if not any(gone is Phase.CONNECT for gone, _ in self._trail.laps):
            return NOT_REACHED  # without an access token there is nothing to connect for
        if phase is Phase.RESOLVE:
            return "a socket on this machine"
        if phase is Phase.TLS:
            return "off" if self._upstream.tls.mode == "off" else "not offered, and not required"
        if phase is Phase.AUTH:
            return "no credentials" if self._upstream.probe.login else "off by `probe.login`"
        return "no recipient to ask about: `--to`, or `probe.canary`" if phase in (Phase.MAIL, Phase.RCPT) else ""

    def _add(self, stage: Stage) -> None:
        self._stages.append(stage)
        self._tell(stage)


def _failure_text(answer: Answer, notes: Sequence[str]) -> str:
    if not isinstance(answer, Failure):
        return printable(str(answer))
    return printable(f"{answer.text} ({'; '.join(notes)})" if len(notes) > 1 else answer.text)
