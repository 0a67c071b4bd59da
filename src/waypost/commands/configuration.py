"""`waypost check` and `waypost config`: is the configuration right, what does it come to, and how to begin one."""

import argparse
import json
import os
import shutil
import sys
from textwrap import wrap
from typing import TextIO

from waypost.commands import CONFIGURATION, FAILED, FINE, Subparsers, add_command, add_config_option
from waypost.config.errors import ConfigurationError
from waypost.config.settings import Settings
from waypost.net.settings import ListenerSettings
from waypost.routing.route import Pool, Route

_SHOWN = 4  # networks of one listener, in the summary

_CHECK = """\
  waypost check                        what `waypost run` would use
  waypost check --config new.yaml      another one, before it is put in place
  waypost check --online               try the upstreams too, logins included

Every mistake is printed, one to a line, like this:
  waypost.yaml:12:9: routes.all.primary: there is no pool or upstream 'gmial';
  did you mean gmail?
Warnings look the same, with `warning:` in front, and change nothing.
Exit code: 0 fine, 78 mistakes, 1 when something failed with --online.
"""
_SHOW = """\
  waypost config show                    every value, and where it comes from
  waypost config show --no-origin        without the comments
  waypost config show --json | jq .origins
"""
_IMPORT = """\
  waypost config import config.yaml > waypost.yaml
  waypost config import            what is in the usual places, and variables

SMTP_DUP_ variables and USE_INSECURE_AUTH become part of what is printed:
remove them afterwards.
"""
_SCHEMA = """\
  waypost config schema > waypost.schema.json
and as the first line of waypost.yaml, for editors that know YAML:
  # yaml-language-server: $schema=waypost.schema.json
"""
_INIT = """\
  waypost config init > waypost.yaml
  waypost check
"""


def register(subparsers: Subparsers) -> None:
    """Adds `check` and `config` with its subcommands."""
    summary = "Read the configuration, report every mistake in it, and say what would run."
    check = add_command(subparsers, "check", summary=summary, examples=_CHECK)
    add_config_option(check)
    check.add_argument(
        "--online", action="store_true", help="also try every upstream, stage by stage, as `waypost upstream test` does"
    )
    check.set_defaults(run=_check)

    config = add_command(
        subparsers,
        "config",
        summary="Show, import or begin a configuration; print its schema.",
        examples="  waypost config init > waypost.yaml\n  waypost config show --help\n",
    )
    below: Subparsers = config.add_subparsers(dest="subcommand", metavar="SUBCOMMAND", required=True)
    show = add_command(below, "show", summary="Print every value and where it comes from.", examples=_SHOW)
    add_config_option(show)
    show.add_argument("--json", action="store_true", help="print one JSON object: settings and origins")
    show.add_argument(
        "--origin",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="say behind each value where it comes from (default: yes)",
    )
    show.set_defaults(run=_show)

    imported = add_command(
        below, "import", summary="Print the native form of a file of smtpmux or GoSMTP-dup.", examples=_IMPORT
    )
    imported.add_argument("file", nargs="?", metavar="FILE", help="the old file (default: the usual places)")
    imported.set_defaults(run=_import)

    schema = add_command(below, "schema", summary="Print the JSON Schema of the native form.", examples=_SCHEMA)
    schema.set_defaults(run=_schema)
    init = add_command(below, "init", summary="Print a commented sample to begin with.", examples=_INIT)
    init.set_defaults(run=_init)


def _check(arguments: argparse.Namespace) -> int:
    from waypost.config.load import read

    try:
        loaded = read(arguments.config, os.environ)
    except ConfigurationError as error:
        for problem in error.problems:
            _say(str(problem), sys.stderr)
        if len(error.problems) > 1:
            print(f"{len(error.problems)} mistakes", file=sys.stderr)
        return CONFIGURATION
    for warning in loaded.settings.warnings:
        _say(f"warning: {warning}", sys.stderr)
    print(f"{loaded.source or 'the environment'}: fine ({loaded.format} format)")
    for line in summary(loaded.settings):
        _say(line, sys.stdout)
    return _online(loaded.settings) if arguments.online else FINE


def _say(line: str, stream: TextIO) -> None:
    """Prints one line. On a terminal it is broken between words; a file or another program gets it whole."""
    if stream.isatty():
        columns = shutil.get_terminal_size().columns
        indent = " " * (len(line) - len(line.lstrip()) + 2)
        broken = wrap(line, columns - 1, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
        line = "\n".join(broken)
    print(line, file=stream)


def summary(settings: Settings) -> list[str]:
    """What would run, in a few lines."""
    from waypost.config.database import masked
    from waypost.config.fields import MASK

    lines = []
    for listener in settings.listeners:
        tls = "implicit TLS" if listener.implicit_tls else "STARTTLS" if listener.tls else "no TLS"
        protocol = "LMTP, " if listener.lmtp else ""
        lines.append(f"  listens on {listener.name}: {protocol}{listener.mode}, {tls}; {_trusts(listener)}")
    for route in settings.routes.routes.values():
        lines.append(f"  route {route.name}: {_route(route)}; {_acceptance(route, settings)}")
    accounts, rules = len(settings.routes.accounts), len(settings.routes.rules)
    lines.append(f"  {accounts} account{'' if accounts == 1 else 's'}, {rules} rule{'' if rules == 1 else 's'}")
    if settings.spool is not None:
        where = settings.spool.path or masked(settings.spool.url or "", MASK)
        lines.append(f"  what is owed waits in {where}")
    if settings.admin is not None:
        host = f"[{settings.admin.host}]" if ":" in settings.admin.host else settings.admin.host
        lines.append(f"  admin on {host}:{settings.admin.port}")
    return lines


def _trusts(listener: ListenerSettings) -> str:
    """Who may send, in a few words."""
    if listener.is_unix:
        return "for those who may open the socket"
    networks = ", ".join(map(str, listener.trusted_networks[:_SHOWN]))
    if len(listener.trusted_networks) > _SHOWN:
        networks += f" and {len(listener.trusted_networks) - _SHOWN} more"
    if listener.mode == "relay":
        return f"for clients in {networks}"
    return f"for accounts, and clients in {networks}" if networks else "for accounts"


def _route(route: Route) -> str:
    copies = ", ".join(_pool(copy.to) for copy in route.copies)
    return f"to {_pool(route.primary)}" + (f"; copies to {copies}" if copies else "")


def _acceptance(route: Route, settings: Settings) -> str:
    modes = {route.acceptance_for(listener.mode == "submission") for listener in settings.listeners}
    if len(modes) == 1:
        return f"acceptance {modes.pop()}"
    return "acceptance hybrid for submission, pass for relay"


def _pool(pool: Pool) -> str:
    if len(pool.members) == 1 and pool.members[0].upstream.name == pool.name:
        return pool.name
    members = ", ".join(member.upstream.name for member in pool.members)
    chosen = pool.strategy if pool.plugin is None else f"plugin {pool.plugin}, else {pool.strategy}"
    return f"{pool.name} ({chosen}: {members})"


def _online(settings: Settings) -> int:
    from waypost.commands.queue_view import plain
    from waypost.commands.upstream_test import probe_all, summary_line

    found = probe_all(settings)
    for upstream, finding in found:
        _say(plain(summary_line(upstream, finding)), sys.stdout)
    return FINE if all(finding.failed is None for _, finding in found) else FAILED


def _show(arguments: argparse.Namespace) -> int:
    from waypost.config.load import read
    from waypost.config.show import show_json, show_yaml

    loaded = read(arguments.config, os.environ)
    if arguments.json:
        print(json.dumps(show_json(loaded), indent=2, ensure_ascii=False))
    else:
        print(show_yaml(loaded, origins=arguments.origin), end="")
    return FINE


def _import(arguments: argparse.Namespace) -> int:
    from waypost.config.load import native_form
    from waypost.config.spool import default_folder
    from waypost.config.write import scalar, yaml_text

    tree, kind, warnings = native_form(arguments.file, os.environ)
    if kind == "native":
        print(f"{tree.source} is in the native form already", file=sys.stderr)
        return FAILED
    for warning in warnings:
        _say(f"warning: {warning}", sys.stderr)
    if kind == "smtpmux":
        _say("warning: the passwords of the old file are in what is printed, too", sys.stderr)
    print(f"# Imported from {tree.source or 'the environment'} ({kind} format) by `waypost config import`.")
    print(yaml_text(tree.data), end="")
    if kind == "smtpmux":
        print("# `acceptance: hybrid` keeps mail that no provider can take at once, and tries again for five days.")
        print("# With `acceptance: pass` it is refused for now instead, as smtpmux did, and nothing is kept on disk.")
    if kind == "smtpmux" or tree.get(("routes", "all", "copies")) is not None:
        path, because = default_folder(os.environ)
        print(f"# Where mail waits. Without this it is decided at the start; here and now: {because}.")
        print(f"# spool:\n#   path: {scalar(path or '/var/lib/waypost')}")
    return FINE


def _schema(arguments: argparse.Namespace) -> int:
    from waypost.config.schema import Configuration

    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Configuration.model_json_schema()}
    print(json.dumps(schema, indent=2, ensure_ascii=False))
    return FINE


def _init(arguments: argparse.Namespace) -> int:
    from waypost.config.sample import SAMPLE

    print(SAMPLE, end="")
    return FINE
