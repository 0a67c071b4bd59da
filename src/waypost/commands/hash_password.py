"""`waypost hash-password`: what to store of a password. It never comes from the command line, where others see it."""

import argparse
import sys

from waypost.commands import FAILED, FINE, USAGE, Subparsers, add_command

_EXAMPLES = """\
  waypost hash-password                 asks twice, without showing it
  waypost hash-password < /run/secrets/password
  waypost hash-password --scheme scram-sha-256

What it prints is for `password` or `password_file` of an account. argon2id is
the best of them; with scram-sha-256 clients can use SCRAM-SHA-256, in which the
password is never said, and PLAIN as well.
"""


def register(subparsers: Subparsers) -> None:
    """Adds `hash-password`."""
    from waypost.net.password_hash import SCHEMES

    parser = add_command(
        subparsers,
        "hash-password",
        summary="Print what to store of a password; it is asked for, or read from stdin.",
        examples=_EXAMPLES,
    )
    default, *others = SCHEMES
    words = f"{default} (the default), {', '.join(others)}"
    parser.add_argument("--scheme", choices=tuple(SCHEMES), default=default, metavar="SCHEME", help=words)
    parser.set_defaults(run=_hash_password)


def _hash_password(arguments: argparse.Namespace) -> int:
    from waypost.net.password_hash import make
    from waypost.net.passwords import PasswordError

    try:
        password = _asked() if sys.stdin is not None and sys.stdin.isatty() else _read()
    except _UnusableError as error:
        print(f"waypost: {error}", file=sys.stderr)
        return USAGE
    try:
        print(make(arguments.scheme, password))
    except PasswordError as error:
        print(f"waypost: {error}", file=sys.stderr)
        return FAILED
    return FINE


class _UnusableError(Exception):
    """What was typed or read is no password."""


def _asked() -> str:
    from getpass import getpass

    password = getpass("Password: ")
    if getpass("Once more: ") != password:
        raise _UnusableError("the two are not the same; nothing was hashed")
    return _line(password)


def _read() -> str:
    octets = b"" if sys.stdin is None else sys.stdin.buffer.read()
    try:
        return _line(octets.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8"))
    except UnicodeDecodeError:
        raise _UnusableError("what was read is not UTF-8") from None


def _line(password: str) -> str:
    if not password:
        raise _UnusableError("the password is empty")
    if any(character in password for character in "\0\r\n"):
        raise _UnusableError("a password has one line")
    return password
