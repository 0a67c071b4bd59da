"""Reads the lists of addresses and domains that rules name."""

import errno
import os
import stat

from waypost.routing.address_list import MAX_FILE, AddressList


def stamp_of(path: str | int) -> tuple[int, ...]:
    """What changes when a file does. Raises `OSError`."""
    seen = os.stat(path)
    return seen.st_mtime_ns, seen.st_ino, seen.st_size


def read_list(path: str) -> AddressList:
    """The list in a file. Raises `OSError`, and `ListError` with the lines that are no entries."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "is no regular file")  # opening a pipe would wait for somebody to write
    with open(path, "rb") as file:
        stamp = stamp_of(file.fileno())
        text = file.read(MAX_FILE + 1)
    if len(text) > MAX_FILE:
        raise OSError(None, f"is larger than {MAX_FILE // 1024 // 1024} MiB")
    return AddressList.parse(text, stamp)
