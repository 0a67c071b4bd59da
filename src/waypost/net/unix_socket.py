"""Unix sockets: bound so that none but those who may can open them, reached by paths of any length.

A socket's name has room for some hundred octets, and folders of spools and of tests can be longer. Linux lets us
name such a folder by a descriptor instead.
"""

import contextlib
import errno
import os
import socket
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

MAX_NAME = 107 if sys.platform == "linux" else 103
"""Octets that the name of a socket may have (sun_path of unix(7), without the NUL)."""

_CONNECT = 5.0  # seconds
_BACKLOG = 1024
_DESCRIPTORS = Path("/proc/self/fd")


def listen(path: Path, permissions: int = 0o600, *, own_folder: bool = True) -> socket.socket:
    """A listening socket, unless told otherwise one that only our user, and root, can open.

    With `own_folder` the folder is made when it is missing, for our user only. What a process that has died left
    there is removed. Raises `OSError` with the path in it: also when somebody answers there, or when what is there is
    no socket.
    """
    if own_folder:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _remove_stale(path)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _naming(path), short_name(path) as name:
            listening.bind(name)
            os.chmod(name, permissions)  # before anybody can connect, which begins with `listen`
            listening.listen(_BACKLOG)
        listening.setblocking(False)
    except BaseException:
        listening.close()
        raise
    return listening


def connect(path: Path, patience: float) -> socket.socket:
    """A connection to whoever listens there; `patience`, in seconds, is for each later step. Raises `OSError`."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(_CONNECT)
        with _naming(path), short_name(path) as name:
            connection.connect(name)
        connection.settimeout(patience)
    except BaseException:
        connection.close()
        raise
    return connection


def remove(path: Path) -> None:
    """Takes the file of a socket away, if it is there."""
    path.unlink(missing_ok=True)


@contextlib.contextmanager
def short_name(path: Path) -> Iterator[str]:
    """The path in a form that fits into the name of a socket, while the context lasts. Raises `OSError`."""
    if len(os.fsencode(path)) <= MAX_NAME:
        yield str(path)
        return
    by_descriptor = _DESCRIPTORS / "1234567" / path.name
    if not _DESCRIPTORS.is_dir() or len(os.fsencode(by_descriptor)) > MAX_NAME:
        raise OSError(errno.ENAMETOOLONG, f"is longer than the {MAX_NAME} octets that a socket's name may have")
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield str(_DESCRIPTORS / str(folder) / path.name)
    finally:
        os.close(folder)


def _remove_stale(path: Path) -> None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise FileExistsError(errno.EEXIST, "is there already and is no socket", str(path))
    try:
        connect(path, _CONNECT).close()
    except ConnectionRefusedError:
        path.unlink(missing_ok=True)
    except FileNotFoundError:  # gone in the meantime
        return
    else:
        raise OSError(errno.EADDRINUSE, "somebody answers there already", str(path))


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Errors of sockets do not say which one it was."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise
