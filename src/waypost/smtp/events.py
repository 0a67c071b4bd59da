"""What the server engine tells its caller, besides commands.

`Mail`, `Data`, `EndOfContent` and `StartTls` come out as the commands they are.
"""

from dataclasses import dataclass

from waypost.smtp import commands as c
from waypost.smtp.reply import Reply
from waypost.smtp.sasl_server import Claim
from waypost.smtp.values import quick


@quick
@dataclass(frozen=True, slots=True)
class Recipients:
    """One RCPT, or several that were pipelined; answered with one reply each, in order."""

    commands: tuple[c.Rcpt, ...]


@quick
@dataclass(frozen=True, slots=True)
class Content:
    """A piece of content in wire form. It only tells."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Refused:
    """The content was drained and may not be passed on. `reply` says why, and is what to answer."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class Authenticate:
    """A client claims to be somebody. 235 lets it in."""

    mechanism: str
    claim: Claim


@dataclass(frozen=True, slots=True)
class VerifierWanted:
    """A client wants to prove that it knows the password of this account: answered with `ServerEngine.supply`."""

    mechanism: str
    username: str


@dataclass(frozen=True, slots=True)
class Abandoned:
    """The transaction under way is void: RSET, or a new EHLO. It only tells."""


@dataclass(frozen=True, slots=True)
class Closed:
    """The session is over, after QUIT or because of what the client did. It only tells, once."""


Event = (
    c.Mail
    | Recipients
    | c.Data
    | Content
    | c.EndOfContent
    | Refused
    | Authenticate
    | VerifierWanted
    | c.StartTls
    | Abandoned
    | Closed
)
