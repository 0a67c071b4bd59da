"""Content in files, and the folder that they live in.

    <spool>/            0700
      spool.db          envelopes, small content, what is owed
      incoming/         files that are still being written, or whose message was never prepared
      reserve           space that is given up when the disk is full, so that outcomes can still be recorded
      content/<key>     large content of stored messages; `<key>` is the message's key in the database

A file gets into `content/` by rename, after it was synced, and leaves it after its row is gone. So whatever
lies there without a row at start is left over from a crash.
"""

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from waypost.mail.content import CHUNK, Content, JoinedContent, MemoryContent


class SharedContent(MemoryContent):
    """Content in memory that several deliveries read: closing one of them takes nothing from the others."""

    __slots__ = ()

    def close(self) -> None:
        pass


class FileContent:
    """Content in a file, opened when it is first read unless `fd` is given.

    A temporary file is removed by `close`, unless `keep` has made it permanent. `path` is None for a file
    that has no name any more. Reads raise OSError when the file is gone or shorter than it was.
    """

    __slots__ = ("_ascii", "_fd", "_path", "_size", "_temporary")

    def __init__(self, path: Path | None, size: int, is_ascii: bool, fd: int = -1, *, temporary: bool = False) -> None:
        self._path = path
        self._size = size
        self._ascii = is_ascii
        self._fd = fd
        self._temporary = temporary

    @property
    def size(self) -> int:
        return self._size

    @property
    def is_ascii(self) -> bool:
        return self._ascii

    @property
    def ends_line(self) -> bool:
        return not self._size or self._read(2, max(0, self._size - 2)) == b"\r\n"

    @property
    def path(self) -> Path | None:
        """Where the file is, when it has a name."""
        return self._path

    def head(self, limit: int) -> bytes:
        return self._read(limit, 0) if self._size else b""

    def chunks(self, start: int = 0) -> Iterator[bytes]:
        while start < self._size:
            piece = self._read(CHUNK, start)
            start += len(piece)
            yield piece

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
        path, self._path = self._path, None
        if self._temporary and path is not None:
            path.unlink(missing_ok=True)

    def keep(self, path: Path) -> None:
        """Makes a temporary file permanent as `path`, on the same file system. Blocks; raises OSError.

        It is durable when `sync_folder` has been called on the folder of `path` as well.
        """
        if self._path is None:
            raise FileNotFoundError("the content was closed before it could be stored")
        os.fsync(self._descriptor())
        self._path.rename(path)
        self._path = path
        self._temporary = False

    def _descriptor(self) -> int:
        if self._fd < 0:
            if self._path is None:
                raise FileNotFoundError("content was read after it had been closed")
            try:
                self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError as error:
                raise OSError(
                    error.errno, f"content file {self._path} cannot be opened: {error.strerror or error}"
                ) from error
        return self._fd

    def _read(self, size: int, start: int) -> bytes:
        """Up to `size` octets, fewer only at the end of the content. Raises OSError when the file has fewer."""
        fd = self._descriptor()
        wanted = min(size, self._size - start)
        data = os.pread(fd, wanted, start)
        while len(data) < wanted:
            more = os.pread(fd, wanted - len(data), start + len(data))
            if not more:
                name = "a temporary file" if self._path is None else f"content file {self._path}"
                raise OSError(errno.EIO, f"{name} is truncated: it ends at octet {start + len(data)} of {self._size}")
            data += more
        return data


def flatten(content: Content) -> tuple[bytes, Content, int]:
    """`content` as octets in memory, followed by something plain from an offset on."""
    front, start = b"", 0
    while isinstance(content, JoinedContent):
        # `start` counts in the joined content: it may end within its front, or behind it.
        front += content.front[start:]
        start = content.start + max(0, start - len(content.front))
        content = content.rest
    return front, content, start


def write_content(content: Content, path: Path, via: Path) -> None:
    """Writes `content` to `path` by way of the temporary file `via`. Blocks; raises OSError.

    It is durable when `sync_folder` has been called on the folder of `path` as well.
    """
    fd = os.open(via, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        try:
            for piece in content.chunks():
                write_all(fd, [piece])
            os.fsync(fd)
        finally:
            os.close(fd)
        via.rename(path)
    except BaseException:
        via.unlink(missing_ok=True)
        raise


def write_all(fd: int, pieces: list[bytes]) -> None:
    """Writes every octet of `pieces`. Blocks; raises OSError."""
    at_once = 512  # below the smallest IOV_MAX in use, 1024
    for first in range(0, len(pieces), at_once):
        group = pieces[first : first + at_once]
        written = os.writev(fd, group)
        if written < sum(map(len, group)):  # disk nearly full, or a signal: the error comes with the next write
            rest = memoryview(b"".join(group))[written:]
            while rest:
                rest = rest[os.write(fd, rest) :]


def sync_folder(folder: Path) -> None:
    """Makes the names in `folder` durable. Blocks; raises OSError."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


_SWEPT_AT_ONCE = 1000

RESERVE = 8 * 1024 * 1024
"""Octets of the reserve: enough to fold SQLite's log into its file, whose space can then be used again."""


class SpoolFolder:
    """The folder of one spool. All methods block and raise OSError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.database = path / "spool.db"
        self.incoming = path / "incoming"
        self.content = path / "content"
        self.reserve = path / "reserve"

    def create(self) -> None:
        """Makes what is missing, for our eyes only."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in (self.path, self.incoming, self.content):
            folder.mkdir(mode=0o700, exist_ok=True)
            folder.chmod(0o700)
        sync_folder(self.path)
        sync_folder(self.path.parent)

    def make_reserve(self) -> bool:
        """Takes the reserve, unless it is there; whether it is now. Raises nothing."""
        if self.reserve.exists():
            return True
        try:
            write_content(MemoryContent(bytes(RESERVE)), self.reserve, self.incoming / "reserve")
        except OSError:
            return False
        return True

    def content_path(self, key: int) -> Path:
        """The file of the message with this key."""
        return self.content / str(key)

    def store(self, key: int, content: Content) -> tuple[bytes, FileContent, int]:
        """Makes large content durable: the octets that go into the row, the file, and the offset in it."""
        front, base, start = flatten(content)
        path = self.content_path(key)
        try:
            if isinstance(base, FileContent) and base.path is not None and base.path.parent == self.incoming:
                size, is_ascii = base.size, base.is_ascii
                base.keep(path)
            else:
                front, start, size, is_ascii = b"", 0, content.size, content.is_ascii
                write_content(content, path, self.incoming / f"{key}.prepare")
            sync_folder(self.content)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return front, FileContent(path, size, is_ascii), start

    def remove(self, keys: list[int]) -> None:
        """Removes the files of messages whose rows are gone."""
        for key in keys:
            self.content_path(key).unlink(missing_ok=True)

    def sweep(self, known: Callable[[list[int]], set[int]]) -> None:
        """Removes what a crash left: temporary files, and content of messages that are not `known`."""
        for entry in os.scandir(self.incoming):
            os.unlink(entry.path)
        some: list[int] = []
        for entry in os.scandir(self.content):
            if entry.name.isascii() and entry.name.isdigit() and len(entry.name) < 19:
                some.append(int(entry.name))
                if len(some) == _SWEPT_AT_ONCE:
                    self.remove(list(set(some) - known(some)))
                    some = []
            else:
                os.unlink(entry.path)
        self.remove(list(set(some) - known(some)))


def is_full(error: OSError) -> bool:
    """Whether there was no room, on the disk or in our share of it."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)
