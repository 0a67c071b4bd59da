"""Command lines: one parser and one encoder.

Arguments are parsed into values and written anew; nothing of a client's line is ever passed on as it came,
and the encoder refuses to write a line break.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from waypost.smtp import commands as c
from waypost.smtp.address import (
    NULL,
    ORDINARY,
    Address,
    AddressError,
    parse_forward_path,
    parse_reverse_path,
)
from waypost.smtp.errors import LocalProtocolError
from waypost.smtp.parameters import (
    NO_MAIL_PARAMETERS,
    NO_RCPT_PARAMETERS,
    ParameterError,
    parse_mail_parameters,
    parse_rcpt_parameters,
)
from waypost.smtp.reply import Reply, reply
from waypost.smtp.xattributes import Attributes, AttributeSyntaxError, encode_attributes, parse_attributes

_PATH = r'(?P<path><(?:[^"<>\\ ]|"(?:[^"\\]|\\.)*")*>)(?P<words> .*)?'
_MAIL = re.compile(rf"FROM: *{_PATH}", re.IGNORECASE)
_RCPT = re.compile(rf"TO: *{_PATH}", re.IGNORECASE)
_ORDINARY_RCPT = re.compile(rf"RCPT TO:<{ORDINARY}>", re.ASCII)
_BDAT = re.compile(r"([0-9]{1,19})( +LAST)?", re.IGNORECASE | re.ASCII)
_MECHANISM = re.compile(r"[A-Za-z0-9_\-]{1,20}", re.ASCII)
_BREAK = re.compile(r"[\r\n\0]")


class CommandError(ValueError):
    """A line that cannot be carried out. `reply` says why."""

    def __init__(self, answer: Reply) -> None:
        super().__init__(answer.text)
        self.reply = answer


def _error(code: int, enhanced: str, text: str) -> CommandError:
    return CommandError(reply(code, enhanced, text))


def parse(line: bytes) -> c.Command:
    """The command in a line, which comes without its CRLF. Raises `CommandError`."""
    # Clients say the same things again and again: DATA, QUIT, their name, their reverse-path. Credentials are
    # not remembered.
    return _parse(line) if line[:1] in b"Aa" else _remembered(line)


def _parse(line: bytes) -> c.Command:
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        raise _error(500, "5.5.2", "The line is neither ASCII nor UTF-8") from None
    ordinary = _ORDINARY_RCPT.fullmatch(text)
    if ordinary is not None:  # a shorter way, for recipients are what is rarely remembered
        return c.Rcpt(Address(ordinary["local"], ordinary["domain"]))
    if _BREAK.search(text):
        raise _error(500, "5.5.2", "A line ends with CRLF and has no other CR, LF or NUL in it")
    verb, _, argument = text.partition(" ")
    # Only ASCII has cases here: "ſ".upper() is "S", and nobody else would take RſET for a command.
    parser = _PARSERS.get(verb) or (_PARSERS.get(verb.upper()) if verb.isascii() else None)
    if parser is None:
        raise _error(500, "5.5.1", "Command not recognised")
    return parser(argument.strip(" "))


_remembered = lru_cache(maxsize=1024)(_parse)


def _ehlo(argument: str) -> c.Command:
    return c.Ehlo(_client_name("EHLO", argument))


def _helo(argument: str) -> c.Command:
    return c.Helo(_client_name("HELO", argument))


def _lhlo(argument: str) -> c.Command:
    return c.Lhlo(_client_name("LHLO", argument))


def _client_name(verb: str, argument: str) -> str:
    # Whatever a client calls itself is only ever shown, so only what could not be shown is refused.
    if not argument or " " in argument or not argument.isprintable():
        raise _error(501, "5.5.4", f"Say {verb} and the name of your host")
    return argument


def _mail(argument: str) -> c.Command:
    found = _MAIL.fullmatch(argument)
    if found is None:
        raise _error(501, "5.5.4", "Say MAIL FROM:<address>")
    try:
        path = found["path"]
        reverse_path = NULL if path == "<>" else parse_reverse_path(path)
        words = found["words"]
        parameters = parse_mail_parameters(_split(words)) if words else NO_MAIL_PARAMETERS
    except AddressError as error:
        raise _error(501, "5.1.7", f"The reverse-path is not valid: {error}") from None
    except ParameterError as error:
        raise CommandError(error.reply) from None
    if not (reverse_path.is_ascii or parameters.smtputf8):
        raise _error(553, "5.6.7", "An address that is not ASCII needs SMTPUTF8")
    return c.Mail(reverse_path, parameters)


def _rcpt(argument: str) -> c.Command:
    found = _RCPT.fullmatch(argument)
    if found is None:
        raise _error(501, "5.5.4", "Say RCPT TO:<address>")
    try:
        forward_path = parse_forward_path(found["path"])
        words = found["words"]
        parameters = parse_rcpt_parameters(_split(words)) if words else NO_RCPT_PARAMETERS
    except AddressError as error:
        raise _error(501, "5.1.3", f"The forward-path is not valid: {error}") from None
    except ParameterError as error:
        raise CommandError(error.reply) from None
    return c.Rcpt(forward_path, parameters)


def _split(words: str) -> list[str]:
    # Not `split()`: that would take a no-break space, or a tab, for the end of a parameter.
    return [word for word in words.split(" ") if word]


def _bdat(argument: str) -> c.Command:
    found = _BDAT.fullmatch(argument)
    if found is None:
        raise _error(501, "5.5.4", "Say BDAT, the number of octets, and perhaps LAST")
    return c.Bdat(int(found[1]), found[2] is not None)


def _auth(argument: str) -> c.Command:
    words = argument.split(" ")
    if not 1 <= len(words) <= 2 or not _MECHANISM.fullmatch(words[0]):
        raise _error(501, "5.5.4", "Say AUTH, a mechanism, and perhaps an initial response")
    return c.Auth(words[0].upper(), words[1] if len(words) == 2 else None)


def _attributes(make: Callable[[Attributes], c.Command]) -> Callable[[str], c.Command]:
    def parser(argument: str) -> c.Command:
        try:
            return make(parse_attributes(argument))
        except AttributeSyntaxError as error:
            raise _error(501, "5.5.4", f"Attributes are not valid: {error}") from None

    return parser


def _alone(verb: str, command: c.Command) -> Callable[[str], c.Command]:
    def parser(argument: str) -> c.Command:
        if argument:
            raise _error(501, "5.5.4", f"{verb} takes no argument")
        return command

    return parser


_PARSERS: dict[str, Callable[[str], c.Command]] = {
    "EHLO": _ehlo,
    "HELO": _helo,
    "LHLO": _lhlo,
    "MAIL": _mail,
    "RCPT": _rcpt,
    "BDAT": _bdat,
    "AUTH": _auth,
    "DATA": _alone("DATA", c.Data()),
    "RSET": _alone("RSET", c.Rset()),
    "QUIT": _alone("QUIT", c.Quit()),
    "STARTTLS": _alone("STARTTLS", c.StartTls()),
    "NOOP": lambda argument: c.Noop(),  # RFC 5321 section 4.1.1.9: an argument is to be ignored
    "HELP": lambda argument: c.Help(),
    "XCLIENT": _attributes(c.Xclient),
    "XFORWARD": _attributes(c.Xforward),
    "VRFY": c.Vrfy,
    "EXPN": c.Expn,
}


def encode(command: c.Command) -> bytes:
    """The line for a command, CRLF included.

    Raises `LocalProtocolError` when a value would break out of its line, or when the command has no line.
    """
    line = _ENCODERS[type(command)](command)
    if not line.isprintable() and _BREAK.search(line):
        raise LocalProtocolError("a command cannot contain a line break")
    try:
        return line.encode("utf-8") + b"\r\n"
    except UnicodeEncodeError:
        raise LocalProtocolError("a command is written in UTF-8, which has no surrogates") from None


def _no_line(command: c.Connect) -> str:
    raise LocalProtocolError("a connection is not a line")


_ENCODERS: dict[type, Callable[[Any], str]] = {
    c.Mail: lambda mail: f"MAIL FROM:<{mail.reverse_path}>{mail.parameters.encode()}",
    c.Rcpt: lambda rcpt: f"RCPT TO:<{rcpt.forward_path}>{rcpt.parameters.encode()}",
    c.Data: lambda data: "DATA",
    c.EndOfContent: lambda end: ".",
    c.Bdat: lambda bdat: f"BDAT {bdat.size}{' LAST' if bdat.last else ''}",
    c.Connect: _no_line,
    c.Ehlo: lambda ehlo: f"EHLO {ehlo.name}",
    c.Helo: lambda helo: f"HELO {helo.name}",
    c.Lhlo: lambda lhlo: f"LHLO {lhlo.name}",
    c.Auth: lambda auth: f"AUTH {auth.mechanism}" + ("" if auth.initial is None else f" {auth.initial or '='}"),
    c.AuthResponse: lambda response: response.text,
    c.StartTls: lambda starttls: "STARTTLS",
    c.Xclient: lambda xclient: f"XCLIENT{encode_attributes(xclient.attributes)}",
    c.Xforward: lambda xforward: f"XFORWARD{encode_attributes(xforward.attributes)}",
    c.Rset: lambda rset: "RSET",
    c.Quit: lambda quit_: "QUIT",
    c.Noop: lambda noop: "NOOP",
    c.Help: lambda help_: "HELP",
    c.Vrfy: lambda vrfy: f"VRFY {vrfy.argument}",
    c.Expn: lambda expn: f"EXPN {expn.argument}",
}
