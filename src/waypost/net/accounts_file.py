"""Files of accounts: what `htpasswd` writes, and Dovecot's passwd-file. One account in a line.

A line that cannot be used is reported with its number, and its account cannot log in; the others can.
"""

from dataclasses import dataclass
from typing import Literal

from waypost.net.passwords import PasswordError, Stored, from_dovecot, from_htpasswd

FileFormat = Literal["htpasswd", "dovecot"]

_PARSE = {"htpasswd": from_htpasswd, "dovecot": from_dovecot}


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that cannot be used, numbered from 1, and why. `account` is empty when it names none."""

    number: int
    account: str
    why: str


@dataclass(frozen=True, slots=True)
class FileContent:
    """What a file says."""

    passwords: dict[str, Stored]
    bad: tuple[BadLine, ...]

    @property
    def weak(self) -> tuple[str, ...]:
        """The weak schemes in it."""
        return tuple(sorted({stored.scheme for stored in self.passwords.values() if stored.is_weak}))


def read_file(path: str, file_format: FileFormat) -> FileContent:
    """The accounts in a file. Raises `OSError`, and `ValueError` for what is no text."""
    with open(path, "rb") as file:
        return parse(file.read(), file_format)


def parse(octets: bytes, file_format: FileFormat) -> FileContent:
    """The accounts in the octets of a file. Raises `ValueError` for what is no text."""
    if b"\0" in octets:
        raise ValueError("it has octets of zero in it, so it is no text")
    passwords: dict[str, Stored] = {}
    bad: list[BadLine] = []
    seen: dict[str, int] = {}
    for number, line in enumerate(octets.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        line = line.removesuffix(b"\r")
        if not line.strip() or line.lstrip().startswith(b"#"):
            continue
        try:
            name, stored_text = _fields(line, file_format)
        except PasswordError as error:
            bad.append(BadLine(number, "", str(error)))
            continue
        if name in seen:
            bad.append(BadLine(number, name, f"the account is in line {seen[name]} already, which counts"))
            continue
        seen[name] = number
        try:
            passwords[name] = _PARSE[file_format](stored_text)
        except PasswordError as error:
            bad.append(BadLine(number, name, str(error)))
    return FileContent(passwords, tuple(bad))


def _fields(line: bytes, file_format: FileFormat) -> tuple[str, str]:
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        raise PasswordError("the line is not UTF-8") from None
    name, colon, rest = text.partition(":")
    # Behind the password a passwd-file may have uid, gid, comment, home, shell and extra fields.
    stored = rest.partition(":")[0] if file_format == "dovecot" else rest.rstrip()
    if not colon or not name:
        raise PasswordError("a line is NAME:PASSWORD, and this one has no name and colon in front")
    if not stored:
        raise PasswordError(f"there is no password for {name[:60]!r}")
    if not name.isprintable():
        raise PasswordError("the name has a control character in it")
    return name, stored
