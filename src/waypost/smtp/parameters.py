"""The parameters of MAIL and RCPT, typed and checked.

SIZE (RFC 1870), BODY (RFC 6152), SMTPUTF8 (RFC 6531), AUTH= (RFC 4954 section 5), RET, ENVID, NOTIFY and
ORCPT (RFC 3461), PRDR (draft-hall-prdr-00). Values that are only carried, ENVID, ORCPT and AUTH=, keep their xtext
form.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from waypost.smtp.reply import Reply, reply


class ParameterError(ValueError):
    """A parameter is unknown, repeated, or has a value that its RFC does not allow. `reply` says so."""

    def __init__(self, answer: Reply) -> None:
        super().__init__(answer.text)
        self.reply = answer


@dataclass(frozen=True, slots=True)
class MailParameters:
    """What came with MAIL. `None` and `False` mean that the client did not say."""

    size: int | None = None  # octets, as declared
    body: str | None = None  # 7BIT or 8BITMIME
    smtputf8: bool = False
    ret: str | None = None  # FULL or HDRS
    envid: str | None = None  # xtext
    auth: str | None = None  # xtext mailbox, or <>
    prdr: bool = False  # a reply for each recipient is asked for (draft-hall-prdr)

    def encode(self) -> str:
        """The parameters as they follow the path: each with a space in front, nothing when there are none."""
        if self is NO_MAIL_PARAMETERS:
            return ""
        words = []
        if self.size is not None:
            words.append(f" SIZE={self.size}")
        if self.body is not None:
            words.append(f" BODY={self.body}")
        if self.smtputf8:
            words.append(" SMTPUTF8")
        if self.ret is not None:
            words.append(f" RET={self.ret}")
        if self.envid is not None:
            words.append(f" ENVID={self.envid}")
        if self.auth is not None:
            words.append(f" AUTH={self.auth}")
        if self.prdr:
            words.append(" PRDR")
        return "".join(words)


@dataclass(frozen=True, slots=True)
class RcptParameters:
    """What came with RCPT."""

    notify: tuple[str, ...] | None = None  # ("NEVER",) or some of SUCCESS, FAILURE, DELAY
    orcpt: str | None = None  # address-type;xtext

    def encode(self) -> str:
        """The parameters as they follow the path."""
        if self.notify is None and self.orcpt is None:
            return ""
        notify = "" if self.notify is None else f" NOTIFY={','.join(self.notify)}"
        return notify if self.orcpt is None else f"{notify} ORCPT={self.orcpt}"


NO_MAIL_PARAMETERS = MailParameters()
NO_RCPT_PARAMETERS = RcptParameters()

_SIZE = re.compile(r"[0-9]{1,20}", re.ASCII)
_XTEXT = re.compile(r"(?:[\x21-\x2a\x2c-\x3c\x3e-\x7e]|\+[0-9A-F]{2})+", re.ASCII)
_UTEXT = re.compile(
    r"(?:[\x21-\x2a\x2c-\x3c\x3e-\x5b\x5d-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\U0010ffff]"
    r"|\+[0-9A-F]{2}|\\x\{[0-9A-F]+\})+"
)
_ADDRESS_TYPE = re.compile(r"[A-Za-z0-9\-]{1,32}", re.ASCII)
_MAX_ENVID = 100  # RFC 3461 section 4.4
_MAX_ORCPT = 500  # RFC 3461 section 4.2


def parse_mail_parameters(words: Iterable[str], *, dsn: bool = True, smtputf8: bool = True) -> MailParameters:
    """The parameters that follow the reverse-path. `dsn` and `smtputf8` say whether those are offered.

    Raises `ParameterError` with 501 for a bad value and 555 for a parameter that is not offered.
    """
    found: dict[str, str | int | bool] = {}
    for name, value in _split(words):
        match name:
            case "SIZE" if value is not None and _SIZE.fullmatch(value):
                found["size"] = int(value)
            case "BODY" if value is not None and _upper(value) in ("7BIT", "8BITMIME"):
                found["body"] = value.upper()
            case "SMTPUTF8" if value is None and smtputf8:
                found["smtputf8"] = True
            case "PRDR" if value is None:
                found["prdr"] = True
            case "RET" if value is not None and dsn and _upper(value) in ("FULL", "HDRS"):
                found["ret"] = value.upper()
            case "ENVID" if value is not None and dsn and len(value) <= _MAX_ENVID and _XTEXT.fullmatch(value):
                found["envid"] = value
            case "AUTH" if value is not None and (value == "<>" or _XTEXT.fullmatch(value)):
                found["auth"] = value
            case "SIZE" | "BODY" | "AUTH" | "PRDR":
                raise _bad_value(name)
            case "RET" | "ENVID" if dsn:
                raise _bad_value(name)
            case "SMTPUTF8" if smtputf8:
                raise _bad_value(name)
            case _:
                raise _unknown(name)
    return MailParameters(**found) if found else NO_MAIL_PARAMETERS  # type: ignore[arg-type]  # typed above


def parse_rcpt_parameters(words: Iterable[str], *, dsn: bool = True) -> RcptParameters:
    """The parameters that follow the forward-path; `ParameterError` as for MAIL."""
    notify: tuple[str, ...] | None = None
    orcpt: str | None = None
    for name, value in _split(words):
        if not dsn or name not in ("NOTIFY", "ORCPT"):
            raise _unknown(name)
        if name == "NOTIFY":
            notify = tuple(_upper(value or "").split(","))
            once = len(set(notify)) == len(notify)
            if notify != ("NEVER",) and not (once and set(notify) <= {"SUCCESS", "FAILURE", "DELAY"}):
                raise _bad_value(name)
        else:
            kind, semicolon, address = (value or "").partition(";")
            grammar = _UTEXT if kind.lower() == "utf-8" else _XTEXT
            fits = len(value or "") <= _MAX_ORCPT and _ADDRESS_TYPE.fullmatch(kind) and grammar.fullmatch(address)
            if not semicolon or not fits:
                raise _bad_value(name)
            orcpt = value
    return RcptParameters(notify, orcpt)


def _split(words: Iterable[str]) -> Iterable[tuple[str, str | None]]:
    seen = set()
    for word in words:
        name, equals, value = word.partition("=")
        name = _upper(name)
        if name in seen:
            raise ParameterError(reply(501, "5.5.4", f"{_shown(name)} is given twice"))
        seen.add(name)
        yield name, value if equals else None


def _upper(text: str) -> str:
    """Only ASCII has cases here: "ſ".upper() is "S"."""
    return text.upper() if text.isascii() else text


def _bad_value(name: str) -> ParameterError:
    return ParameterError(reply(501, "5.5.4", f"{name} has a value that is not allowed"))


def _unknown(name: str) -> ParameterError:
    return ParameterError(reply(555, "5.5.4", f"Parameter {_shown(name)} is not supported"))


def _shown(name: str) -> str:
    return name[:40] if name.isascii() and name.isprintable() else "?"
