"""`waypost version`: the versions of Waypost and of what it stands on, for bug reports."""

import argparse
import json
import platform
import sqlite3
import ssl
from importlib.metadata import PackageNotFoundError, version

from waypost import __version__
from waypost.commands import FINE, Subparsers, add_command

_EXAMPLES = """\
  waypost version
  waypost version --json | jq -r .sqlite
"""


def register(subparsers: Subparsers) -> None:
    """Adds `version`."""
    parser = add_command(
        subparsers,
        "version",
        summary="Print the versions of Waypost and of what it stands on.",
        examples=_EXAMPLES,
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=_version)


def versions() -> dict[str, str | None]:
    """Name and version of each part; None for what is not installed."""
    try:
        uvloop: str | None = version("uvloop")
    except PackageNotFoundError:
        uvloop = None
    return {
        "waypost": __version__,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "sqlite": sqlite3.sqlite_version,
        "openssl": ssl.OPENSSL_VERSION,
        "uvloop": uvloop,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }


def _version(arguments: argparse.Namespace) -> int:
    found = versions()
    if arguments.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name:<9}{value or 'not installed'}")
    return FINE
