"""What became of one try, one recipient, one message.

A failed attempt is a value, not an exception that travels: whoever speaks to an upstream returns a `Reply`
when there was one and a `Failure` when there was none.
"""

from dataclasses import dataclass
from enum import StrEnum

from waypost.mail.message import Recipient
from waypost.smtp.reply import Reply
from waypost.smtp.values import quick


class Phase(StrEnum):
    """Where in the dialogue with an upstream something happened."""

    RESOLVE = "resolve"
    CONNECT = "connect"
    TLS = "tls"
    GREETING = "greeting"
    EHLO = "ehlo"
    STARTTLS = "starttls"
    AUTH = "auth"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    CONTENT = "content"  # octets before the final dot
    DOT = "dot"  # the dot was sent: acceptance is possible from here on

    __hash__ = str.__hash__  # Enum's own runs in Python, and phases are looked up for every attempt


class Cause(StrEnum):
    """Why there is no reply to judge."""

    UNREACHABLE = "unreachable"  # name not found, connection refused, no route
    TIMEOUT = "timeout"
    CLOSED = "closed"  # end of file or reset
    PROTOCOL = "protocol"  # what came was not SMTP, or nobody had asked for it
    TLS = "tls"  # handshake failed, or TLS required and not offered
    CERTIFICATE = "certificate"  # not trusted, wrong name, wrong fingerprint
    CAPABILITY = "capability"  # the upstream cannot carry this message (8BITMIME, SMTPUTF8, SIZE)
    PLAINTEXT = "plaintext"  # credentials would have gone in the clear
    LOGIN = "login"  # no access token, no mechanism in common, or an exchange that makes no sense
    BUSY = "busy"  # every connection that the upstream may have is in use
    QUOTA = "quota"  # what it may be given is spent, by our own count
    SENDER = "sender"  # it does not send for this reverse-path
    PAUSED = "paused"  # somebody has paused it
    SHUTDOWN = "shutdown"  # we are stopping
    LOCAL = "local"  # a fault of ours: content that cannot be read back


@dataclass(frozen=True, slots=True)
class Failure:
    """An attempt that ended without a reply that makes sense."""

    phase: Phase
    cause: Cause
    text: str

    def __str__(self) -> str:
        return f"{self.cause} at {self.phase}: {self.text}"


Answer = Reply | Failure
"""What one step of the dialogue with an upstream came to."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """An attempt that did not get as far as recipients: where it ended, and on what."""

    phase: Phase
    answer: Answer
    phases: tuple[tuple[Phase, float], ...] = ()
    """How many seconds each phase took, this one included, in their order."""


class Role(StrEnum):
    """What a delivery is to its message."""

    PRIMARY = "primary"
    COPY = "copy"


class Status(StrEnum):
    """The fate of one recipient in one delivery."""

    RELAYED = "relayed"
    DEFERRED = "deferred"
    FAILED = "failed"
    IN_DOUBT = "in_doubt"


@quick
@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at one upstream: where it ended, on what, and which rule judged it. Durations in seconds."""

    upstream: str
    phase: Phase
    answer: Answer
    rule: str
    duration: float
    reused: bool = False
    tls: str | None = None
    phases: tuple[tuple[Phase, float], ...] = ()
    """How long each phase took that the attempt went through, in their order."""
    dsn: bool = False
    """Whether the upstream offers DSN, so that it answers for notifications once it has accepted (RFC 3461)."""


@quick
@dataclass(frozen=True, slots=True)
class RecipientOutcome:
    """The fate of one recipient, with the answer that decided it and the upstream that gave it."""

    recipient: Recipient
    status: Status
    answer: Answer
    upstream: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one delivery came to: one entry per recipient, and the attempts in their order."""

    recipients: tuple[RecipientOutcome, ...]
    attempts: tuple[Attempt, ...]

    def having(self, status: Status) -> tuple[RecipientOutcome, ...]:
        """The recipients with this fate."""
        return tuple(r for r in self.recipients if r.status is status)
