"""What a server offers, and what it objects to: order, limits, and who may do what.

The table in `state` says which command may follow which; this says it in replies, and adds what depends on
the session: TLS, AUTH, limits.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

from waypost.smtp import commands as c
from waypost.smtp.commands import Kind
from waypost.smtp.parameters import NO_MAIL_PARAMETERS, NO_RCPT_PARAMETERS, MailParameters
from waypost.smtp.reply import Reply, reply
from waypost.smtp.sasl_server import WITH_PASSWORD
from waypost.smtp.state import TABLE, State


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """What a server offers and bears. Sizes in octets."""

    hostname: str
    max_size: int = 50 * 1024 * 1024
    max_line: int = 1024 * 1024
    max_recipients: int = 1000
    max_errors: int = 20
    starttls: bool = False
    auth: bool = False
    auth_required: bool = False
    tls_required: bool = False
    """No transaction without TLS, as where clients must show a certificate."""
    mechanisms: tuple[str, ...] = WITH_PASSWORD
    """What AUTH takes."""
    allow_plaintext_auth: bool = False
    xclient: bool = False
    """Whether this client may say, by XCLIENT, that it is another."""
    repair_line_ends: bool = False
    """Bare CR and LF in content become CRLF (submission) instead of being refused (relay)."""
    pipelining: bool = True
    eightbitmime: bool = True
    smtputf8: bool = True
    chunking: bool = True
    dsn: bool = True
    prdr: bool = True
    lmtp: bool = False
    """LMTP is spoken, not SMTP (RFC 2033)."""


_NONE_ACCEPTED = State.MAIL
IN_TRANSACTION = (State.MAIL, State.RCPT, State.CHUNKS)

_NO_HELLO = reply(503, "5.5.1", "Say EHLO first")
_NO_LHLO = reply(503, "5.5.1", "Say LHLO first")
_NOT_SMTP = reply(500, "5.5.1", "This is LMTP, not SMTP: say LHLO")
_NOT_LMTP = reply(500, "5.5.1", "Command not recognised")
_NO_MAIL = reply(503, "5.5.1", "Say MAIL first")
_NO_RECIPIENT = reply(554, "5.5.1", "No recipient was accepted")
NO_LMTP_RECIPIENT = reply(503, "5.5.1", "No recipient was accepted")
"""The same by RFC 2033 section 4.2."""
_NESTED = reply(503, "5.5.1", "A transaction is under way; RSET ends it")
_NO_AUTH = reply(502, "5.5.1", "AUTH is not offered here")
_NO_TLS = reply(502, "5.5.1", "STARTTLS is not offered here")
_AUTH_FIRST = reply(530, "5.7.0", "Authentication is required")
_MAIL_NEEDS_TLS = reply(530, "5.7.0", "TLS is required: say STARTTLS first")
_TLS_FIRST = reply(538, "5.7.11", "AUTH needs TLS here: say STARTTLS first")
_TWICE = reply(503, "5.5.1", "You are authenticated already")
_MECHANISM = reply(504, "5.5.4", "That mechanism is not offered")
_NO_EXTENSIONS = reply(555, "5.5.4", "Parameters need EHLO")
_NO_BDAT = reply(502, "5.5.1", "CHUNKING is not offered here")
_NO_PARAMETER = reply(555, "5.5.4", "A parameter belongs to an extension that is not offered here")
_NOT_ASCII = reply(553, "5.6.7", "An address that is not ASCII needs SMTPUTF8 with MAIL")
_TOO_LATE = reply(503, "5.5.1", "STARTTLS comes before AUTH")
_TOO_MANY = reply(452, "4.5.3", "Too many recipients; send the rest in another transaction")


_NO_XCLIENT = reply(550, "5.7.0", "Your address may not say that it is another")
_NO_XFORWARD = reply(502, "5.5.1", "XFORWARD is not offered here")
_XCLIENT = ("NAME", "ADDR", "PORT", "PROTO", "HELO")
"""The attributes that are taken, and LOGIN where there is AUTH. NAME is not used; EHLO says PROTO and HELO again."""


_ANSWERS: dict[type[c.Command], Reply] = {
    c.Rset: reply(250, "2.0.0", "OK"),
    c.Noop: reply(250, "2.0.0", "OK"),
    c.Quit: reply(221, "2.0.0", "Bye"),
    c.Help: reply(214, "2.0.0", "EHLO HELO MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT"),
    c.Vrfy: reply(252, "2.5.2", "Send a message and the servers behind will tell"),
    c.Expn: reply(502, "5.5.1", "Lists are not expanded here"),
}


_LMTP_HELP = reply(214, "2.0.0", "LHLO MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT")


class Standing(Protocol):
    """What of a session decides whether a command may be carried out."""

    state: State
    options: ServerOptions
    tls: bool
    authenticated: bool
    esmtp: bool
    smtputf8: bool  # said with MAIL
    recipients: int  # accepted in this transaction


def objection(command: c.Command, session: Standing) -> Reply | None:
    """Why this command cannot be carried out now, or None."""
    kind = command.kind
    if kind not in TABLE[session.state]:
        return _out_of_order(session, kind)
    check = _CHECKS.get(kind)
    return None if check is None else check(command, session)


def _check_hello(hello: c.Ehlo | c.Helo | c.Lhlo, session: Standing) -> Reply | None:
    if session.options.lmtp:
        return None if isinstance(hello, c.Lhlo) else _NOT_SMTP
    return _NOT_LMTP if isinstance(hello, c.Lhlo) else None


def _check_mail(mail: c.Mail, session: Standing) -> Reply | None:
    options = session.options
    if options.tls_required and not session.tls:
        return _MAIL_NEEDS_TLS
    if options.auth_required and not session.authenticated:
        return _AUTH_FIRST
    parameters = mail.parameters
    return None if parameters is NO_MAIL_PARAMETERS else _objection_to_parameters(parameters, session)


def _check_rcpt(rcpt: c.Rcpt, session: Standing) -> Reply | None:
    options = session.options
    if session.recipients >= options.max_recipients:
        return _TOO_MANY
    if rcpt.parameters is not NO_RCPT_PARAMETERS and not (session.esmtp and options.dsn):
        return _NO_PARAMETER if session.esmtp else _NO_EXTENSIONS
    return None if session.smtputf8 or rcpt.is_ascii else _NOT_ASCII


def _check_data(data: c.Data, session: Standing) -> Reply | None:
    return _nobody(session) if session.state is _NONE_ACCEPTED else None


def _nobody(session: Standing) -> Reply:
    return NO_LMTP_RECIPIENT if session.options.lmtp else _NO_RECIPIENT


def _check_bdat(bdat: c.Bdat, session: Standing) -> Reply | None:
    return None if session.options.chunking else _NO_BDAT


def _check_starttls(starttls: c.StartTls, session: Standing) -> Reply | None:
    if session.tls or not session.options.starttls:
        return _NO_TLS
    return _TOO_LATE if session.authenticated else None


def _check_auth(auth: c.Auth, session: Standing) -> Reply | None:
    options = session.options
    if not options.auth:
        return _NO_AUTH
    if session.authenticated:
        return _TWICE
    if not (session.tls or options.allow_plaintext_auth):
        return _TLS_FIRST
    return None if auth.mechanism in options.mechanisms else _MECHANISM


def _check_xclient(xclient: c.Xclient, session: Standing) -> Reply | None:
    if not session.options.xclient:
        return _NO_XCLIENT
    offered = _xclient_attributes(session.options)
    unknown = any(name not in offered for name, _ in xclient.attributes)
    return reply(501, "5.5.4", f"Attributes are {' '.join(offered)}") if unknown else None


def _xclient_attributes(options: ServerOptions) -> tuple[str, ...]:
    return (*_XCLIENT, "LOGIN") if options.auth else _XCLIENT


def _check_xforward(xforward: c.Xforward, session: Standing) -> Reply | None:
    return _NO_XFORWARD


_CHECKS: dict[Kind, Callable[[Any, Standing], Reply | None]] = {
    Kind.HELLO: _check_hello,
    Kind.MAIL: _check_mail,
    Kind.RCPT: _check_rcpt,
    Kind.DATA: _check_data,
    Kind.CHUNK: _check_bdat,
    Kind.LAST_CHUNK: _check_bdat,
    Kind.STARTTLS: _check_starttls,
    Kind.AUTH: _check_auth,
    Kind.XCLIENT: _check_xclient,
    Kind.XFORWARD: _check_xforward,
}


def _objection_to_parameters(parameters: MailParameters, session: Standing) -> Reply | None:
    options = session.options
    if not session.esmtp:
        return _NO_EXTENSIONS
    if parameters.size is not None and parameters.size > options.max_size:
        return reply(552, "5.3.4", f"The message is larger than {options.max_size} octets")
    wanted = (
        (parameters.body is not None, options.eightbitmime),
        (parameters.smtputf8, options.smtputf8),
        (parameters.ret is not None or parameters.envid is not None, options.dsn),
        (parameters.prdr, options.prdr and not options.lmtp),
    )
    return _NO_PARAMETER if any(used and not offered for used, offered in wanted) else None


def _out_of_order(session: Standing, kind: Kind) -> Reply:
    state = session.state
    if state is State.GREETED:
        return _NO_LHLO if session.options.lmtp else _NO_HELLO
    if state in IN_TRANSACTION:
        return _nobody(session) if kind in (Kind.CHUNK, Kind.LAST_CHUNK) else _NESTED
    return _NO_MAIL


@lru_cache(maxsize=256)
def offers(options: ServerOptions, tls: bool, authenticated: bool) -> Reply:
    """The answer to EHLO: the name, and what is offered at this point of the session."""
    extensions = (
        ("PIPELINING", options.pipelining),
        (f"SIZE {options.max_size}", True),
        ("8BITMIME", options.eightbitmime),
        ("SMTPUTF8", options.smtputf8),
        ("CHUNKING", options.chunking),
        ("ENHANCEDSTATUSCODES", True),
        ("DSN", options.dsn),
        ("PRDR", options.prdr and not options.lmtp),
    )
    lines = [options.hostname, *(keyword for keyword, offered in extensions if offered)]
    if options.starttls and not tls and not authenticated:
        lines.append("STARTTLS")
    if options.auth and options.mechanisms and not authenticated and (tls or options.allow_plaintext_auth):
        lines.append(f"AUTH {' '.join(options.mechanisms)}")
    if options.xclient:
        lines.append(f"XCLIENT {' '.join(_xclient_attributes(options))}")
    return Reply(250, tuple(lines))


def own_answer(command: c.Command, session: Standing) -> Reply:
    """The answer to a command that needs nobody's decision."""
    match command:
        case c.Ehlo() | c.Lhlo():
            return offers(session.options, session.tls, session.authenticated)
        case c.Helo():
            return reply(250, None, session.options.hostname)
        case c.Help() if session.options.lmtp:
            return _LMTP_HELP
        case _:
            return _ANSWERS[type(command)]
