"""The commands of the `waypost` program, one module each, and what they share: exit codes and the look of help.

A module offers `register(subparsers)`, which adds its parsers and names the function that carries the command
out: `parser.set_defaults(run=function)`, where the function takes the parsed arguments and returns an exit code.
Modules are imported only when their command is asked for (`waypost.cli`), and should import what is heavy only
when the command runs.
"""

import argparse
from typing import Any, TypeAlias

Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
"""What `add_subparsers` returns; argparse has no public name for it."""

FINE = 0
FAILED = 1
USAGE = 2
UNREACHABLE = 69  # the daemon does not answer (EX_UNAVAILABLE of sysexits.h)
TEMPORARY = 75  # try again later (EX_TEMPFAIL)
CONFIGURATION = 78  # the configuration has errors (EX_CONFIG)
INTERRUPTED = 130  # 128 + SIGINT, as shells count


class Help(argparse.RawDescriptionHelpFormatter):
    """Help with descriptions and examples left as they were written, never wider than 80 columns."""

    def __init__(self, prog: str, **options: Any) -> None:
        import shutil

        columns = min(80, shutil.get_terminal_size().columns)
        super().__init__(prog, **{"max_help_position": 26, "width": columns - 1, **options})


def add_command(subparsers: Subparsers, name: str, *, summary: str, examples: str = "") -> argparse.ArgumentParser:
    """Adds the parser of one command; `examples` become the end of its help."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        name,
        help=summary,
        description=summary,
        epilog=f"examples:\n{examples.rstrip()}" if examples else None,
        formatter_class=Help,
        allow_abbrev=False,
    )
    return parser


def add_config_option(parser: argparse.ArgumentParser) -> None:
    """Adds `--config FILE`, the same for every command that reads the configuration."""
    parser.add_argument(
        "-c",
        "--config",
        metavar="FILE",
        help="the configuration to use, instead of $WAYPOST_CONFIG or the usual places",
    )
