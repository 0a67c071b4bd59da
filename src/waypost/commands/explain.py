"""`waypost explain`: where a message would go, and why. Reads the configuration and connects to nothing."""

import argparse
import ipaddress
import json
import os
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from waypost.commands import FAILED, FINE, USAGE, Subparsers, add_command, add_config_option

if TYPE_CHECKING:
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

A pool's plugin is started and asked; one that needs the content only about a
--message. Which upstreams are down only the running Waypost knows: the order is
that of a pool whose upstreams are all well. What is not given is not known, and
a rule that asks for it leaves the decision open. Exit code 1 when a recipient
is refused.
"""


def register(subparsers: Subparsers) -> None:
    """Adds `explain`."""
    parser = add_command(
        subparsers,
        "explain",
        summary="Say where a message would go: which rule, which upstreams in which order, why.",
        examples=_EXAMPLES,
    )
    add_config_option(parser)
    parser.add_argument(
        "--from", dest="sender", metavar="ADDRESS", required=True, help="reverse-path; <> is the null one"
    )
    parser.add_argument(
        "--to",
        dest="recipients",
        metavar="ADDRESS",
        action="append",
        required=True,
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
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=_explain)


def _explain(arguments: argparse.Namespace) -> int:
    from waypost.commands.explanation import Question, explain, write
    from waypost.config.load import read
    from waypost.observe.log import configure

    configure("console", "error", fd=2)  # what plugins have to say is no part of the answer
    loaded = read(arguments.config, os.environ)
    settings = loaded.settings
    try:
        question = Question(
            listener=_listener(settings, arguments.listener),
            client=str(ipaddress.ip_address(arguments.client)),
            account=_account(settings, arguments.account),
            reverse_path=_address(arguments.sender, null=True),
            recipients=tuple(_address(text) for text in arguments.recipients),
            helo=arguments.helo,
            at=_moment(arguments.at),
            **_content(arguments.message, arguments.fields, arguments.size),
        )
    except (ValueError, OSError) as error:
        print(f"waypost explain: {error}", file=sys.stderr)
        return USAGE
    explanation = explain(loaded, question)
    print(json.dumps(explanation, indent=2) if arguments.json else write(explanation))
    return FINE if explanation["accepted"] else FAILED


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
