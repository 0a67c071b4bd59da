"""Commands: what a client sends, one frozen value each.

The server engine parses lines into these and hands them out as events; the client engine takes them and
writes lines. The parts of a session that SMTP does not name, the greeting and the content with its end, are
commands too, because the peer answers them with a reply (`state`).
"""

from dataclasses import dataclass
from enum import Enum, auto
from typing import ClassVar

from waypost.smtp.address import Address
from waypost.smtp.parameters import NO_MAIL_PARAMETERS, NO_RCPT_PARAMETERS, MailParameters, RcptParameters
from waypost.smtp.values import quick
from waypost.smtp.xattributes import Attributes


class Kind(Enum):
    """Commands, as far as the table in `state` tells them apart."""

    CONNECT = auto()
    HELLO = auto()  # EHLO, HELO and LHLO
    MAIL = auto()
    RCPT = auto()
    DATA = auto()
    END = auto()  # the final dot
    CHUNK = auto()  # BDAT
    LAST_CHUNK = auto()  # BDAT LAST
    VERDICT = auto()  # what becomes of the content for one recipient, of whom others follow
    LAST_VERDICT = auto()
    RSET = auto()
    NOOP = auto()  # NOOP, HELP, VRFY, EXPN
    QUIT = auto()
    STARTTLS = auto()
    HANDSHAKE = auto()
    AUTH = auto()
    RESPONSE = auto()
    XCLIENT = auto()
    XFORWARD = auto()

    __hash__ = object.__hash__  # by identity: Enum's own runs in Python, and this is looked up for every command


@dataclass(frozen=True, slots=True)
class Connect:
    """The connection itself, which the server answers with its greeting (section 3.1)."""

    kind: ClassVar[Kind] = Kind.CONNECT


@dataclass(frozen=True, slots=True)
class Ehlo:
    """EHLO with the client's name, as it gave it."""

    kind: ClassVar[Kind] = Kind.HELLO
    name: str


@dataclass(frozen=True, slots=True)
class Helo:
    """HELO: the same without extensions."""

    kind: ClassVar[Kind] = Kind.HELLO
    name: str


@dataclass(frozen=True, slots=True)
class Lhlo:
    """LHLO: the same where LMTP is spoken (RFC 2033)."""

    kind: ClassVar[Kind] = Kind.HELLO
    name: str


@quick
@dataclass(frozen=True, slots=True)
class Mail:
    """MAIL FROM."""

    kind: ClassVar[Kind] = Kind.MAIL
    reverse_path: Address
    parameters: MailParameters = NO_MAIL_PARAMETERS


@quick
@dataclass(frozen=True, slots=True)
class Rcpt:
    """RCPT TO."""

    kind: ClassVar[Kind] = Kind.RCPT
    forward_path: Address
    parameters: RcptParameters = NO_RCPT_PARAMETERS

    @property
    def is_ascii(self) -> bool:
        """Whether it can travel without SMTPUTF8 (RFC 6531 section 3.4, RFC 6533 section 3)."""
        return self.forward_path.is_ascii and (self.parameters.orcpt is None or self.parameters.orcpt.isascii())


@dataclass(frozen=True, slots=True)
class Data:
    """DATA."""

    kind: ClassVar[Kind] = Kind.DATA


@dataclass(frozen=True, slots=True)
class EndOfContent:
    """The final dot after DATA."""

    kind: ClassVar[Kind] = Kind.END


@quick
@dataclass(frozen=True, slots=True)
class Bdat:
    """One chunk by BDAT (RFC 3030): its size in octets, and whether it is the last."""

    size: int
    last: bool = False

    @property
    def kind(self) -> Kind:
        """The table's word for it."""
        return Kind.LAST_CHUNK if self.last else Kind.CHUNK


@dataclass(frozen=True, slots=True)
class Rset:
    """RSET."""

    kind: ClassVar[Kind] = Kind.RSET


@dataclass(frozen=True, slots=True)
class Noop:
    """NOOP."""

    kind: ClassVar[Kind] = Kind.NOOP


@dataclass(frozen=True, slots=True)
class Help:
    """HELP."""

    kind: ClassVar[Kind] = Kind.NOOP


@dataclass(frozen=True, slots=True)
class Vrfy:
    """VRFY."""

    kind: ClassVar[Kind] = Kind.NOOP
    argument: str


@dataclass(frozen=True, slots=True)
class Expn:
    """EXPN."""

    kind: ClassVar[Kind] = Kind.NOOP
    argument: str


@dataclass(frozen=True, slots=True)
class Quit:
    """QUIT."""

    kind: ClassVar[Kind] = Kind.QUIT


@dataclass(frozen=True, slots=True)
class StartTls:
    """STARTTLS (RFC 3207)."""

    kind: ClassVar[Kind] = Kind.STARTTLS


@dataclass(frozen=True, slots=True)
class Auth:
    """AUTH (RFC 4954): a mechanism and perhaps an initial response, still in base64."""

    kind: ClassVar[Kind] = Kind.AUTH
    mechanism: str
    initial: str | None = None

    def __repr__(self) -> str:
        return f"Auth({self.mechanism!r}, ...)"


@dataclass(frozen=True, slots=True)
class AuthResponse:
    """One answer to a 334 challenge, still in base64; `*` cancels."""

    kind: ClassVar[Kind] = Kind.RESPONSE
    text: str

    def __repr__(self) -> str:
        return "AuthResponse(...)"


@dataclass(frozen=True, slots=True)
class Xclient:
    """XCLIENT: a trusted proxy says who the client is; the session starts over at the greeting."""

    kind: ClassVar[Kind] = Kind.XCLIENT
    attributes: Attributes


@dataclass(frozen=True, slots=True)
class Xforward:
    """XFORWARD: who the client of the next transaction was, for the log."""

    kind: ClassVar[Kind] = Kind.XFORWARD
    attributes: Attributes


Command = (
    Connect | Ehlo | Helo | Lhlo | Mail | Rcpt | Data | EndOfContent | Bdat | Rset | Noop | Help | Vrfy | Expn | Quit
    | StartTls | Auth | AuthResponse | Xclient | Xforward
)  # fmt: skip
