"""`waypost upstream`: how the upstreams are, what they say to a probe, and who is not to get any mail for now."""

import argparse
import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from waypost.commands import FINE, Subparsers, add_command, add_config_option

if TYPE_CHECKING:
    from waypost.commands.control import Daemon

_UPSTREAM = """\
  waypost upstream list               how they are, in the running Waypost
  waypost upstream test gmail         what works there, and what does not
  waypost upstream pause gmail        nothing new goes there
  waypost upstream COMMAND --help     examples of each command
"""
_LIST = """\
  waypost upstream list
  waypost upstream list --json | jq 'select(.state != "healthy")'

An upstream is healthy, failing (and left alone for a while), on trial (the next
message shows whether it is well again), asleep (it refused our login, or said
that a quota is spent), spent (a quota is, by our own count) or paused (by
hand). When all of a pool are failing or asleep, the best of them is tried
anyway; one that is spent or paused never is. TRIAL says when it is used again.
"""
_TEST = """\
  waypost upstream test                        every upstream
  waypost upstream test gmail ses
  waypost upstream test gmail --to me@example.com --from me@example.com
  waypost upstream test --config new.yaml --json | jq .stages

Each stage is as for mail: resolve, connect, greeting, EHLO, TLS, AUTH; MAIL and
RCPT when there is a recipient to ask about, then RSET. Nothing is ever sent. No
Waypost needs to run; this one logs in by itself. Exit code: 1 when one failed.
"""
_PAUSE = """\
  waypost upstream pause gmail

Nothing new goes there, neither from clients nor from the spool; what is under
way may end. The others of its pools take over. When there is none, mail waits
in the spool, and clients of routes with `acceptance: pass` hear 451. It stays
paused over restarts, and for all instances, until `waypost upstream resume`;
without a spool until Waypost is started anew.
"""
_RESUME = """\
  waypost upstream resume gmail

It is used again at once, also when it was left alone for failing, asleep, or
a login was refused: say so when you have mended it.
"""
_FORGETS = ", until Waypost is started anew: without a spool it remembers nothing"


def register(subparsers: Subparsers) -> None:
    """Adds `upstream` with its subcommands."""
    from waypost.commands.control import add_daemon_options

    summary = "See how upstreams are, test, pause and resume them."
    upstream = add_command(subparsers, "upstream", summary=summary, examples=_UPSTREAM)
    below: Subparsers = upstream.add_subparsers(dest="subcommand", metavar="SUBCOMMAND", required=True)

    listed = add_command(below, "list", summary="List upstreams, as the running Waypost knows them.", examples=_LIST)
    add_daemon_options(listed)
    listed.add_argument("--json", action="store_true", help="print one JSON object for each, on a line")
    listed.set_defaults(run=_list)

    test = add_command(below, "test", summary="Try what works at upstreams, stage by stage.", examples=_TEST)
    add_config_option(test)
    test.add_argument("names", nargs="*", metavar="NAME", help="an upstream (default: every one)")
    test.add_argument("--to", metavar="ADDRESS", help="the recipient to ask about, instead of `probe.canary`")
    test.add_argument("--from", dest="sender", metavar="ADDRESS", help="the reverse-path, instead of `probe.sender`")
    test.add_argument("--json", action="store_true", help="print one JSON object for each, on a line")
    test.set_defaults(run=_test)

    for action, what, examples in (
        ("pause", "Let nothing new go to upstreams.", _PAUSE),
        ("resume", "Let upstreams be used again.", _RESUME),
    ):
        parser = add_command(below, action, summary=what, examples=examples)
        add_daemon_options(parser)
        parser.add_argument("names", nargs="+", metavar="NAME", help="an upstream")
        parser.add_argument("--json", action="store_true", help="print one JSON object for each, on a line")
        parser.set_defaults(run=_act, action=action)


def _list(arguments: argparse.Namespace) -> int:
    from waypost.commands.control import ask
    from waypost.commands.queue_view import say, terminal_width
    from waypost.commands.upstream_view import list_lines

    def run(daemon: "Daemon") -> int:
        rows = daemon.lines("/api/upstreams")
        if arguments.json:
            for row in rows:
                print(json.dumps(row), flush=True)
        else:
            for line in list_lines(list(rows), terminal_width(), time.time()):
                say(line)
        return FINE

    return ask("upstream list", arguments, run)


def _act(arguments: argparse.Namespace) -> int:
    from waypost.commands.control import ask
    from waypost.commands.queue_view import say

    words: dict[str, Callable[[bool], str]] = {
        "pause": lambda changed: "paused" if changed else "was paused already",
        "resume": lambda changed: "is used again" if changed else "was in use already",
    }

    def run(daemon: "Daemon") -> int:
        body = {"action": arguments.action, "upstreams": arguments.names}
        for row in daemon.act(body, "/api/upstreams/actions"):
            if arguments.json:
                print(json.dumps(row))
            else:
                forgets = "" if row["remembered"] or arguments.action == "resume" else _FORGETS
                say(f"{row['upstream']} {words[arguments.action](row['changed'])}{forgets}")
        return FINE

    return ask(f"upstream {arguments.action}", arguments, run)


def _test(arguments: argparse.Namespace) -> int:
    from waypost.commands.upstream_test import run

    return run(arguments)
