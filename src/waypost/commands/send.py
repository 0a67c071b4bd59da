"""`waypost send`: one test message, and the whole dialogue."""

import argparse
import json
import os
import socket
import sys
import time
from typing import TYPE_CHECKING

from waypost.commands import USAGE, Subparsers, add_command, add_config_option

if TYPE_CHECKING:
    from waypost.commands.send_dialogue import Request
    from waypost.commands.send_transcript import Line
    from waypost.routing.route import TlsMode
    from waypost.smtp.address import Address
    from waypost.smtp.sasl import Credentials

PASSWORD = "SMTP_PASSWORD"  # noqa: S105 # the name of a variable

_EXAMPLES = """\
  waypost send --to bob@example.net
  waypost send --server mail.example.com:25 --to bob@example.net
  waypost send --server smtp.example.com:465 --tls implicit --auth me \\
      --from me@example.com --to bob@example.net --subject Hello
  waypost send --server 127.0.0.1:2525 --to bob@example.net --data message.eml
  waypost send --server 127.0.0.1:2525 --to bob@example.net --quit-after rcpt
  waypost send --server unix:/run/dovecot/lmtp --lmtp --to bob@example.net

The password comes from --password-file, from $SMTP_PASSWORD, or is asked for;
it is not sent without TLS, unless to this machine or with --tls off.

exit codes: 0 accepted for every recipient, 1 refused for good or not SMTP,
69 cannot be reached, 75 refused for now or no answer.
"""


def register(subparsers: Subparsers) -> None:
    """Adds `send`."""
    parser = add_command(
        subparsers,
        "send",
        summary="Send a test message, and show every line that is said, with the time in seconds.",
        examples=_EXAMPLES,
    )
    add = parser.add_argument
    add("--server", metavar="HOST:PORT", help="or unix:/path; default: the first listener of the configuration")
    add("--lmtp", action="store_true", help="speak LMTP: each recipient is answered (default: as that listener does)")
    add_config_option(parser)
    add("--from", dest="sender", metavar="ADDRESS", help="reverse-path; <> is the null one (default: made up)")
    add("--to", dest="recipients", metavar="ADDRESS", action="append", required=True, help="may be given again")
    add("--ehlo", metavar="NAME", help="how to introduce ourselves (default: the name of this machine)")
    add("--timeout", metavar="SECONDS", type=_seconds, default=30.0, help="for each answer (default: 30)")
    add(
        "--quit-after",
        metavar="PHASE",
        choices=("greeting", "ehlo", "starttls", "auth", "mail", "rcpt"),
        help="end there: greeting, ehlo, starttls, auth, mail, rcpt",
    )
    add("--json", action="store_true", help="print one JSON object instead of the transcript")
    secure = parser.add_argument_group("security")
    secure.add_argument(
        "--tls",
        choices=("off", "opportunistic", "starttls", "implicit"),
        help="default opportunistic, which takes STARTTLS when offered and verifies nothing",
    )
    secure.add_argument("--ca-file", metavar="FILE", help="trust these authorities, PEM")
    secure.add_argument("--no-verify", action="store_true", help="accept any certificate")
    secure.add_argument("--auth", metavar="USER", help="authenticate as USER")
    secure.add_argument(
        "--mechanism",
        metavar="NAME",
        type=_mechanism,
        help="such as SCRAM-SHA-256; for XOAUTH2 and OAUTHBEARER the password is an access token "
        "(default: the best that is offered)",
    )
    secure.add_argument("--password-file", metavar="FILE", help="the password is the first line of FILE")
    content = parser.add_argument_group("content")
    content.add_argument("--subject", default="A test by waypost send")
    content.add_argument("--body", metavar="TEXT", help="default: one line that says what this is")
    content.add_argument("--header", metavar="'X: Y'", action="append", default=[], help="may be given again")
    content.add_argument("--data", metavar="FILE", help="the whole message; - is standard input")
    parser.set_defaults(run=_send)


class _UsageError(Exception):
    """What was asked for cannot be done."""


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not 0 < seconds < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return seconds


def _mechanism(text: str) -> str:
    from waypost.smtp.mechanisms import CLIENT_MECHANISMS

    if text.upper() not in CLIENT_MECHANISMS:
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(CLIENT_MECHANISMS)}")
    return text.upper()


def _send(arguments: argparse.Namespace) -> int:
    import asyncio

    try:
        request = _request(arguments)
    except _UsageError as error:
        print(f"waypost send: {error}", file=sys.stderr)
        return USAGE
    from waypost.commands.foreground import showable
    from waypost.commands.send_dialogue import Sending

    def show(line: "Line") -> None:
        if not arguments.json:
            print(showable(str(line)), flush=True)

    async def run() -> int:
        report = await Sending(request, show).run()
        print(json.dumps(report.as_json(), indent=2) if arguments.json else f"\n{showable(report.summary)}")
        return report.exit_code

    return asyncio.run(run())


def _request(arguments: argparse.Namespace) -> "Request":
    from waypost.commands.send_dialogue import Request
    from waypost.commands.send_message import FieldError, compose, fresh_message_id, wire_form
    from waypost.routing.route import UpstreamTls

    host, port, implicit, lmtp = _server(arguments)
    ehlo = arguments.ehlo or _own_name()
    sender = _address(f"waypost@{ehlo}" if arguments.sender is None else arguments.sender, null=True)
    recipients = tuple(_address(text) for text in arguments.recipients)
    if arguments.data is not None:
        if arguments.header or arguments.body is not None:
            raise _UsageError("--data is the whole message: it goes without --header and --body")
        content = _read(arguments.data)
    else:
        from waypost.commands.send_message import BODY

        body = BODY if arguments.body is None else arguments.body
        try:
            content = compose(
                str(sender),
                [str(each) for each in recipients],
                arguments.subject,
                body,
                arguments.header,
                fresh_message_id(ehlo.strip("[]")),
                time.time(),
            )
        except FieldError as error:
            raise _UsageError(str(error)) from None
    if arguments.mechanism is not None and arguments.auth is None:
        raise _UsageError("--mechanism means nothing without --auth USER")
    mode: TlsMode = arguments.tls or ("implicit" if implicit else "opportunistic")
    if arguments.ca_file is not None and mode in ("off", "opportunistic"):
        raise _UsageError(f"--ca-file means nothing with --tls {mode}, which verifies nothing; use --tls starttls")
    return Request(
        host,
        port,
        UpstreamTls(mode, verify=not arguments.no_verify, ca_file=arguments.ca_file),
        ehlo,
        sender,
        recipients,
        wire_form(content),
        None if arguments.auth is None else _credentials(arguments),
        arguments.mechanism,
        arguments.timeout,
        arguments.quit_after,
        lmtp,
    )


def _server(arguments: argparse.Namespace) -> tuple[str, int, bool, bool]:
    """Host, port, and whether TLS begins with the connection, and whether LMTP is spoken."""
    lmtp = arguments.lmtp
    if arguments.server is not None and arguments.server.startswith("unix:/"):
        return arguments.server.removeprefix("unix:"), 0, False, lmtp
    if arguments.server is not None:
        host, colon, port = arguments.server.rpartition(":")
        host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        if not colon or not host or not (port.isascii() and port.isdecimal() and 0 < int(port) < 65536):
            raise _UsageError(f"--server takes HOST:PORT, such as 127.0.0.1:2525 or [::1]:25, not {arguments.server!r}")
        return host, int(port), False, lmtp
    from waypost.config import smtp_dup
    from waypost.config.environment import CONFIG
    from waypost.config.load import PLACES, load

    named = arguments.config or os.environ.get(CONFIG) or smtp_dup.is_set(os.environ)
    if not named and not any(os.path.exists(place) for place in PLACES):
        raise _UsageError("there is no configuration whose first listener could be used; name a --server HOST:PORT")
    listener = load(arguments.config, os.environ).listeners[0]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(listener.host, listener.host)
    return host, listener.port, listener.implicit_tls, lmtp or listener.lmtp


def _own_name() -> str:
    name = socket.gethostname()
    return name if name and name.isascii() and name.isprintable() and " " not in name else "[127.0.0.1]"


def _address(text: str, *, null: bool = False) -> "Address":
    from waypost.smtp.address import NULL, AddressError, parse_forward_path

    if null and text in ("", "<>"):
        return NULL
    try:
        return parse_forward_path(text if text.startswith("<") else f"<{text}>")
    except AddressError as error:
        raise _UsageError(f"{text!r} is not an address: {error}") from None


def _read(name: str) -> bytes:
    if name == "-":
        return sys.stdin.buffer.read()
    try:
        with open(name, "rb") as file:
            return file.read()
    except OSError as error:
        raise _UsageError(f"--data {name}: {error.strerror}") from None


def _credentials(arguments: argparse.Namespace) -> "Credentials":
    from waypost.smtp.sasl import Credentials, Secret

    if arguments.password_file is not None:
        try:
            with open(arguments.password_file, encoding="utf-8") as file:
                password = file.readline().rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "is not UTF-8"
            raise _UsageError(f"--password-file {arguments.password_file}: {why}") from None
    elif os.environ.get(PASSWORD):
        password = os.environ[PASSWORD]
    elif sys.stdin.isatty():
        from getpass import getpass

        password = getpass(f"Password of {arguments.auth}: ")
    else:
        raise _UsageError(f"--auth needs a password: --password-file, ${PASSWORD}, or a terminal to ask on")
    return Credentials(arguments.auth, Secret(password))
