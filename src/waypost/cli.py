"""The `waypost` program: finds the command that was asked for, runs it, and turns its end into an exit code.

A command's module is imported only when it is asked for: `waypost version` must not pay for the mail server.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NamedTuple

from waypost import __version__
from waypost.commands import CONFIGURATION, FAILED, FINE, INTERRUPTED, USAGE, Help


class _Entry(NamedTuple):
    module: str
    summary: str


COMMANDS = {
    "demo": _Entry("demo", "see Waypost work: servers, messages and all, no configuration"),
    "run": _Entry("run", "start: accept mail, relay it, copy it"),
    "check": _Entry("configuration", "read the configuration and report every error in it"),
    "explain": _Entry("explain", "say where a message would go, and why"),
    "config": _Entry("configuration", "show, import or begin a configuration; print its schema"),
    "upstream": _Entry("upstream", "see how upstreams are, test, pause and resume them"),
    "queue": _Entry("queue", "see what is owed, and do something about it"),
    "trace": _Entry("trace", "tell the life of a message"),
    "plan": _Entry("plan", "replay the last messages through a new configuration"),
    "oauth": _Entry("oauth", "log in at an upstream's provider, for its access tokens"),
    "dkim": _Entry("dkim", "print the DNS records of the keys that mail is signed with"),
    "send": _Entry("send", "send a test message and show the whole dialogue"),
    "sink": _Entry("sink", "a test server that keeps what it gets and fails on request"),
    "hash-password": _Entry("hash_password", "print what to store of a password"),
    "healthcheck": _Entry("healthcheck", "ask a running Waypost whether it can take mail"),
    "version": _Entry("version", "print the versions of Waypost and of what it stands on"),
}
"""Every command, in the order of the help: its module in `waypost.commands`, and what it is for."""

_DESCRIPTION = "One SMTP endpoint in front of all your mail servers. It routes, it duplicates."
_EPILOG = """\
examples:
  waypost demo                      watch it work, in one terminal
  waypost config init > waypost.yaml
  waypost check                     is the configuration right?
  waypost explain --from a@example.com --to b@example.net
  waypost run                       with ./waypost.yaml or that of /etc/waypost

exit codes:
   0  fine
   1  failed: the answer is no, or something went wrong
   2  the command line is wrong
  69  the running Waypost cannot be reached
  75  not now; try again later
  78  the configuration has errors, all of which are printed

Each command explains itself: waypost COMMAND --help"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command in `argv` (default: that of the process) and returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _run(words)
        if sys.stdout is not None:  # it is when the program was started with >&-
            sys.stdout.flush()  # here, where a closed pipe is still ours to handle
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone, `head` for example. Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except _configuration_error() as error:
        print(error, file=sys.stderr)
        return CONFIGURATION
    return code


def _run(words: list[str]) -> int:
    first = words[0] if words else ""
    if first == "help":
        words = [*words[1:2], "--help"]
        first = words[0]
    if not first:
        _parser().print_help(sys.stderr)
        return USAGE
    if first not in COMMANDS and first not in ("-h", "--help", "--version"):
        return _complain(first)
    parser = _parser()
    if first in COMMANDS:
        subparsers = parser.add_subparsers(dest="command", prog="waypost")
        importlib.import_module(f"waypost.commands.{COMMANDS[first].module}").register(subparsers)
    try:
        arguments = parser.parse_args(words)
    except SystemExit as ended:  # argparse has printed help, or what is wrong
        return ended.code if isinstance(ended.code, int) else FINE
    code: int = arguments.run(arguments)
    return code


def _parser() -> argparse.ArgumentParser:
    width = max(map(len, COMMANDS)) + 2
    listed = "\n".join(f"  {name:{width}}{entry.summary}" for name, entry in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="waypost",
        usage="waypost [-h] [--version] COMMAND ...",
        description=f"{_DESCRIPTION}\n\ncommands:\n{listed}",
        epilog=_EPILOG,
        formatter_class=Help,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"waypost {__version__}")
    return parser


def _complain(word: str) -> int:
    from difflib import get_close_matches

    if word.startswith("-"):
        advice = "Options come after the command: waypost COMMAND OPTIONS"
        print(f"waypost: {word!r} is not an option of waypost itself. {advice}", file=sys.stderr)
        return USAGE
    near = get_close_matches(word, COMMANDS, n=1)
    advice = f"Did you mean {near[0]!r}?" if near else "See waypost --help for the list."
    print(f"waypost: there is no command {word!r}. {advice}", file=sys.stderr)
    return USAGE


def _configuration_error() -> tuple[type[Exception], ...]:
    # Looked up rather than imported: whoever raised it has loaded it, and nobody else should wait for that.
    module = sys.modules.get("waypost.config.errors")
    return () if module is None else (module.ConfigurationError,)
