"""Commands: what a client sends, one frozen value each.

The server engine parses lines into these and hands them out as events; the client engine takes them and
writes lines. The parts of a session that SMTP does not name, the greeting and the content with its end, are
commands too, because the peer answers them with a reply (`state`).
"""

from dataclasses import dataclass

from waypost.smtp.address import Address
from waypost.smtp.parameters import NO_MAIL_PARAMETERS, NO_RCPT_PARAMETERS, MailParameters, RcptParameters


@dataclass(frozen=True, slots=True)
class Connect:
    """The connection itself, which the server answers with its greeting (section 3.1)."""


@dataclass(frozen=True, slots=True)
class Ehlo:
    """EHLO with the client's name, as it gave it."""

    name: str


@dataclass(frozen=True, slots=True)
class Helo:
    """HELO: the same without extensions."""

    name: str


@dataclass(frozen=True, slots=True)
class Mail:
    """MAIL FROM."""

    reverse_path: Address
    parameters: MailParameters = NO_MAIL_PARAMETERS


@dataclass(frozen=True, slots=True)
class Rcpt:
    """RCPT TO."""

    forward_path: Address
    parameters: RcptParameters = NO_RCPT_PARAMETERS


@dataclass(frozen=True, slots=True)
class Data:
    """DATA."""


@dataclass(frozen=True, slots=True)
class EndOfContent:
    """The final dot after DATA."""


@dataclass(frozen=True, slots=True)
class Bdat:
    """One chunk by BDAT (RFC 3030): its size in octets, and whether it is the last."""

    size: int
    last: bool = False


@dataclass(frozen=True, slots=True)
class Rset:
    """RSET."""


@dataclass(frozen=True, slots=True)
class Noop:
    """NOOP."""


@dataclass(frozen=True, slots=True)
class Help:
    """HELP."""


@dataclass(frozen=True, slots=True)
class Vrfy:
    """VRFY."""

    argument: str


@dataclass(frozen=True, slots=True)
class Expn:
    """EXPN."""

    argument: str


@dataclass(frozen=True, slots=True)
class Quit:
    """QUIT."""


@dataclass(frozen=True, slots=True)
class StartTls:
    """STARTTLS (RFC 3207)."""


@dataclass(frozen=True, slots=True)
class Auth:
    """AUTH (RFC 4954): a mechanism and perhaps an initial response, still in base64."""

    mechanism: str
    initial: str | None = None

    def __repr__(self) -> str:
        return f"Auth({self.mechanism!r}, ...)"


@dataclass(frozen=True, slots=True)
class AuthResponse:
    """One answer to a 334 challenge, still in base64; `*` cancels."""

    text: str

    def __repr__(self) -> str:
        return "AuthResponse(...)"


Command = (
    Connect | Ehlo | Helo | Mail | Rcpt | Data | EndOfContent | Bdat | Rset | Noop | Help | Vrfy | Expn | Quit
    | StartTls | Auth | AuthResponse
)  # fmt: skip
