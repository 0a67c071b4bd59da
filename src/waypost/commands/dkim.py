"""`waypost dkim record`: what has to be in DNS, so that others can verify what Waypost signs."""

import argparse
import json
import os
import sys
from typing import TYPE_CHECKING, Any

from waypost.commands import FAILED, FINE, USAGE, Subparsers, add_command, add_config_option

if TYPE_CHECKING:
    from waypost.config.settings import DkimSettings

_EXAMPLES = """\
  waypost dkim record
  waypost dkim record example.com --json

docs/rewriting.md says how to make a key and when to change it.
"""
_RECORD = """\
  waypost dkim record
  waypost dkim record example.com
  waypost dkim record --json | jq -r '.[].text'

Prints the TXT record of each key of the configuration, in the form of a zone
file. Who has a web page for this enters the name that stands before IN, and
all that stands in quotes as one text, without the quotes.
"""
_STRING = 255  # octets in one string of a TXT record (RFC 1035 section 3.3)


def register(subparsers: Subparsers) -> None:
    """Adds `dkim`."""
    parser = add_command(subparsers, "dkim", summary="Print the DNS records of the DKIM keys.", examples=_EXAMPLES)
    below: Subparsers = parser.add_subparsers(dest="subcommand", metavar="SUBCOMMAND", required=True)
    record = add_command(below, "record", summary="Print what has to be in DNS.", examples=_RECORD)
    record.add_argument("domain", metavar="DOMAIN", nargs="?", help="only the keys of this domain")
    record.add_argument("--json", action="store_true", help="print a JSON list")
    add_config_option(record)
    record.set_defaults(run=_record)


def _record(arguments: argparse.Namespace) -> int:
    from waypost.config.load import load

    keys = load(arguments.config, os.environ).dkim
    if not keys:
        print("waypost dkim: the configuration has no `dkim`, so nothing is signed", file=sys.stderr)
        return FAILED
    wanted = None if arguments.domain is None else arguments.domain.lower().removesuffix(".")
    records = [_entry(key) for key in keys if wanted in (None, key.domain)]
    if not records:
        domains = ", ".join(sorted({key.domain for key in keys}))
        print(f"waypost dkim: there is no key for {arguments.domain!r}; there is one for {domains}", file=sys.stderr)
        return USAGE
    print(json.dumps(records, indent=2) if arguments.json else "\n".join(map(_zone, records)))
    return FINE


def _entry(key: "DkimSettings") -> dict[str, Any]:
    from waypost.mail.dkim import record
    from waypost.mail.dkim_key import read_key

    private = read_key(key.key.reveal().encode())
    return {
        "name": f"{key.selector}._domainkey.{key.domain}",
        "text": record(private.algorithm, private.public),
        "algorithm": private.algorithm,
        "bits": private.bits,
    }


def _zone(entry: dict[str, Any]) -> str:
    text = entry["text"]
    strings = [text[at : at + _STRING] for at in range(0, len(text), _STRING)]
    lines = "\n".join(f'  "{string}"' for string in strings)
    return f"; {entry['algorithm']}, {entry['bits']} bits\n{entry['name']}. IN TXT (\n{lines} )"
