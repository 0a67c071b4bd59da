"""What a probe is asked to do at an upstream, and what it found there: values."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from waypost.mail.outcome import Phase, Stopped
from waypost.smtp.address import Address

if TYPE_CHECKING:
    from waypost.routing.route import Upstream

DAY = 86400.0

_SOME = 5

_STAGES = (Phase.RESOLVE, Phase.CONNECT, Phase.GREETING, Phase.EHLO, Phase.TLS, Phase.AUTH, Phase.MAIL, Phase.RCPT)
_TLS_FIRST = (Phase.RESOLVE, Phase.CONNECT, Phase.TLS, Phase.GREETING, Phase.EHLO, Phase.AUTH, Phase.MAIL, Phase.RCPT)


@dataclass(frozen=True, slots=True)
class ProbeSettings:
    """How one upstream is probed. Seconds; an `interval` of 0 is never, but on demand."""

    interval: float = 0.0
    login: bool = True
    """Whether it authenticates, where there are credentials."""
    canary: Address | None = None
    """The recipient that is asked about; None: neither MAIL nor RCPT."""
    sender: Address | None = None
    """The reverse-path of that; None is the null one."""


NOT_REACHED = "not reached"
"""The text of stages behind the one that failed."""

NO_PROBE = ProbeSettings()
"""None but on demand."""


class StageState(StrEnum):
    """What became of one stage."""

    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"  # not configured, or not reached


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of a probe. `text` is what there is to say of it; `seconds` how long it took."""

    phase: Phase
    state: StageState
    text: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Certificate:
    """What is worth knowing of a certificate. `not_after` is in seconds since the epoch."""

    not_after: float
    names: tuple[str, ...]
    """The host names and addresses that it is for (subjectAltName)."""
    fingerprint: str
    """SHA-256 of its DER form, in hexadecimal digits."""

    @property
    def some_names(self) -> str:
        """The names in a few words: there may be hundreds."""
        more = len(self.names) - _SOME
        return (", ".join(self.names[:_SOME]) or "no name") + (f" and {more} more" if more > 0 else "")

    def days_left(self, now: float) -> int:
        """Whole days until it ends; negative when it has ended."""
        return int((self.not_after - now) // DAY)


@dataclass(frozen=True, slots=True)
class Finding:
    """What a probe found at an upstream: a state for each stage, in their order. `at` is when it began."""

    upstream: str
    at: float
    stages: tuple[Stage, ...]
    stopped: Stopped | None = None
    """Where it ended, and on what; None when all went well."""
    tls: str | None = None
    """Version and cipher."""
    certificate: Certificate | None = None

    @property
    def failed(self) -> Stage | None:
        """The stage that failed, if one did."""
        return next((stage for stage in self.stages if stage.state is StageState.FAILED), None)


def stages_of(upstream: "Upstream") -> Sequence[Phase]:
    """The stages of a probe, in the order in which they happen there. STARTTLS belongs to `tls`."""
    return _TLS_FIRST if upstream.tls.mode == "implicit" else _STAGES
