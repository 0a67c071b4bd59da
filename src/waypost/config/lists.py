"""Reads the lists of addresses and domains that rules name."""

import os

from waypost.routing.address_list import MAX_FILE, AddressList


def stamp_of(path: str | int) -> tuple[int, ...]:
    """What changes when a file does. Raises `OSError`."""
    stat = os.stat(path)
    return stat.st_mtime_ns, stat.st_ino, stat.st_size


def read_list(path: str) -> AddressList:
    """The list in a file. Raises `OSError`, and `ListError` with the lines that are no entries."""
    with open(path, "rb") as file:
        stamp = stamp_of(file.fileno())
        text = file.read(MAX_FILE + 1)
    if len(text) > MAX_FILE:
        raise OSError(None, f"is larger than {MAX_FILE // 1024 // 1024} MiB")
    return AddressList.parse(text, stamp)
