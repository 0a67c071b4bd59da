"""`waypost explain`: where a message would go, and why.

It reads the configuration and connects to nothing, unless it is told to ask the running Waypost.
"""

import argparse
import ipaddress
import json
import os
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from waypost.commands import FAILED, FINE, USAGE, Subparsers, add_command

if TYPE_CHECKING:
    from waypost.commands.control import Daemon
    from waypost.commands.explanation import Question
    from waypost.config.settings import Settings
    from waypost.net.settings import ListenerSettings
    from waypost.smtp.address import Address

_EXAMPLES = """\
  waypost explain --from app@example.com --to bob@example.net
  waypost explain --from app@example.com --to bob@example.net --account app
  waypost explain --from '<>' --to a@example.com --to b@example.org
  waypost explain --from a@example.com --to b@example.net --client 10.0.0.7
  waypost explain --from a@example.com --to b@example.net --message stored.eml
  waypost explain --from a@example.com --to b@example.net --size 6MB
  waypost explain --from a@b.example --to c@d.example --header 'Subject: hello'
  waypost explain --from a@b.example --to c@d.example --at 2026-12-24T23:00
  waypost explain --from a@b.example --to c@d.example --running
  waypost explain --id 06H02FAVX47CCNYM

A pool's plugin is started and asked; one that needs the content only about a
--message. Which upstreams are down, paused or over their quotas only the
running Waypost knows: --running asks it, else the order is that of a pool whose
upstreams are all well. --id asks it too, for a message that it has had. What is
not given is not known, and a rule that asks for it leaves the decision open.
Exit code 1 when a recipient is refused.
"""


def register(subparsers: Subparsers) -> None:
    """Adds `explain`."""
    from waypost.commands.control import add_daemon_options

    parser = add_command(
        subparsers,
        "explain",
        summary="Say where a message would go: which rule, which upstreams in which order, why.",
        examples=_EXAMPLES,
    )
    add_daemon_options(parser)
    parser.add_argument("--from", dest="sender", metavar="ADDRESS", help="reverse-path; <> is the null one")
    parser.add_argument(
        "--to",
        dest="recipients",
        metavar="ADDRESS",
        action="append",
        help="recipient; may be given again",
    )
    parser.add_argument("--account", help="the account that the client authenticates as")
    parser.add_argument("--client", metavar="IP", default="127.0.0.1", help="the client's address (default: 127.0.0.1)")
    parser.add_argument("--listener", metavar="NAME", help="host:port it comes in at (default: the first)")
    parser.add_argument("--helo", metavar="NAME", help="the name that the client gives in EHLO or HELO")
    parser.add_argument("--size", help="size of the content: octets, or like 5MB")
    parser.add_argument(
        "--header",
        dest="fields",
        metavar="'NAME: VALUE'",
        action="append",
        help="a header field; may be given again. With one of them, the message has no others",
    )
    parser.add_argument("--message", metavar="FILE", help="a stored message, for its header fields and size")
    parser.add_argument("--at", metavar="TIME", help="when, like 2026-12-24T23:00 or with +01:00 (default: now)")
    parser.add_argument(
        "--id", metavar="ID", help="a message that the running Waypost has had, by its id: nothing else is given then"
    )
    parser.add_argument(
        "--running", action="store_true", help="ask the running Waypost how its upstreams and quotas are"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=_explain)


def _explain(arguments: argparse.Namespace) -> int:
    from waypost.commands.control import ask
    from waypost.commands.explanation import explain, write
    from waypost.commands.explanation_running import order_of, stored_question
    from waypost.config.load import read
    from waypost.observe.log import configure

    configure("console", "error", fd=2)  # what plugins have to say is no part of the answer
    loaded = read(arguments.config, os.environ)

    def answer(daemon: "Daemon | None") -> int:
        try:
            if arguments.id is not None and daemon is not None:
                _check_alone(arguments)
                question = stored_question(daemon, arguments.id, loaded.settings)
            else:
                question = _question(arguments, loaded.settings)
        except (ValueError, OSError) as error:
            print(f"waypost explain: {error}", file=sys.stderr)
            return USAGE
        explanation = explain(loaded, question, None if daemon is None else order_of(daemon))
        print(json.dumps(explanation, indent=2) if arguments.json else write(explanation))
        return FINE if explanation["accepted"] else FAILED

    if arguments.id is None and not arguments.running:
        return answer(None)
    return ask("explain", arguments, answer)


def _check_alone(arguments: argparse.Namespace) -> None:
    given = ("sender", "recipients", "account", "listener", "helo", "size", "fields", "message", "at")
    if any(getattr(arguments, name) is not None for name in given):
        raise ValueError("with --id the message is the one that came in: only --json, --config and --socket go with it")


def _question(arguments: argparse.Namespace, settings: "Settings") -> "Question":
    """The message that the options describe. Raises ValueError and OSError."""
    from waypost.commands.explanation import Question

    if arguments.sender is None or not arguments.recipients:
        raise ValueError("--from and --to say which message is meant; or --id, for one that came in")
    listener = _listener(settings, arguments.listener)
    return Question(
        listener=listener,
        client=_client(listener, arguments.client),
        account=_account(settings, arguments.account),
        reverse_path=_address(arguments.sender, null=True),
        recipients=tuple(_address(text) for text in arguments.recipients),
        helo=arguments.helo,
        at=_moment(arguments.at),
        **_content(arguments.message, arguments.fields, arguments.size),
    )


def _address(text: str, *, null: bool = False) -> "Address":
    from waypost.smtp.address import NULL, AddressError, parse_forward_path

    if null and text in ("", "<>"):
        return NULL
    try:
        return parse_forward_path(text if text.startswith("<") else f"<{text}>")
    except AddressError as error:
        raise ValueError(f"{text!r} is not an address: {error}") from None


def _listener(settings: "Settings", name: str | None) -> "ListenerSettings":
    if name is None:
        return settings.listeners[0]
    for listener in settings.listeners:
        if listener.name == name:
            return listener
    names = ", ".join(listener.name for listener in settings.listeners)
    raise ValueError(f"there is no listener {name!r}; there is {names}")


def _client(listener: "ListenerSettings", address: str) -> str:
    """The client's address as the rules see it: at a unix socket there is none."""
    from waypost.net.stream import UNIX

    return UNIX if listener.is_unix else str(ipaddress.ip_address(address))


def _account(settings: "Settings", name: str | None) -> str | None:
    if name is None or name in settings.routes.accounts or settings.accounts_file is not None:
        return name
    from difflib import get_close_matches

    near = get_close_matches(name, settings.routes.accounts, n=1)
    raise ValueError(f"there is no account {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))


def _moment(text: str | None) -> float:
    """Seconds since the epoch; without a time zone it is a time of this machine."""
    if text is None:
        return time.time()
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is not a time; write it like 2026-12-24T23:00 or 2026-12-24T23:00+01:00") from None


def _content(file: str | None, fields: Sequence[str] | None, size: str | None) -> dict[str, Any]:
    """What is known of the content: `size` and `header`, and all of it from a file."""
    from waypost.config.values import size as octets
    from waypost.mail.content import MemoryContent
    from waypost.mail.field_values import FieldValues
    from waypost.mail.header import Header, read_header

    known: dict[str, Any] = {"size": None, "header": None, "content": None}
    if file is not None:
        with open(file, "rb") as stored:
            text = stored.read().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        content = MemoryContent((b"\r\n" + text).replace(b"\r\n.", b"\r\n..")[2:])
        known = {"size": content.size, "header": FieldValues(read_header(content)), "content": content}
    if fields:
        head = b"".join(_field(field) for field in fields)
        known["header"] = FieldValues(Header(head + b"\r\n"))
    if size is not None:
        try:
            known["size"] = octets(size)
        except ValueError as error:
            raise ValueError(f"{size!r} {error}; write octets, or a number with KB, MB or MiB") from None
    return known


def _field(text: str) -> bytes:
    octets = os.fsencode(text)
    name, colon, _ = octets.partition(b":")
    if not colon or not name.strip() or b"\r" in octets or b"\n" in octets or any(octet <= 32 for octet in name):
        raise ValueError(f"{text!r} is not a header field; write it like 'Subject: hello'")
    return octets + b"\r\n"
