"""Real faults of disks and databases: a full file system, one that takes no writes, failing fsync, a dead database.

None of them is a mock. File systems are small tmpfs mounts, system calls fail by strace, PostgreSQL is ended as by a
crash. What this machine does not allow is said, and not rehearsed.
"""

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

from rig.postgres import PostgresCluster
from rig.waiting import wait_until
from torture.scenario import Disaster, Scenario
from torture.stage import Program

_WRITES = "pwrite64,pwritev,write,writev,ftruncate,fallocate,unlink,rename,renameat2"


class Impossible(Exception):  # noqa: N818 - no error: the reason for a skip
    """This machine does not allow it."""


class Volume:
    """A small file system in memory, mounted on a folder. Needs root. For a `with`."""

    def __init__(self, folder: Path, megabytes: int) -> None:
        self.folder = folder
        self._megabytes = megabytes
        self._filler = folder / "filler"

    def fill(self) -> None:
        """Takes all of the room that is left."""
        with self._filler.open("wb", buffering=0) as file:
            for size in (65536, 4096, 512):
                try:
                    while file.write(bytes(size)):
                        pass
                except OSError:
                    continue

    def free(self) -> None:
        """Gives it back."""
        self._filler.unlink(missing_ok=True)

    def remount(self, how: str) -> None:
        """`ro` or `rw`."""
        _mount("-o", f"remount,{how}", str(self.folder))

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        _mount("-t", "tmpfs", "-o", f"size={self._megabytes}m,mode=700", "tmpfs", str(self.folder))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        subprocess.run(["umount", "--lazy", str(self.folder)], check=True, capture_output=True)


def _mount(*words: str) -> None:
    done = subprocess.run(["mount", *words], capture_output=True, text=True)
    if done.returncode:
        raise Impossible(f"mount {' '.join(words[:3])}: {done.stderr.strip()}")


class FailingCalls:
    """System calls of a running process on a folder's files that fail with `error`, from `begin` to `end`."""

    def __init__(self, program: Program, calls: str, error: str, folder: Path) -> None:
        self._program = program
        self._calls = calls
        self._error = error
        self._folder = folder
        self._strace: subprocess.Popen[bytes] | None = None
        self._log = program.folder / "strace.log"

    def begin(self) -> None:
        """Attaches to the process; returns when it is in effect. Raises `Impossible`."""
        strace = shutil.which("strace")
        if strace is None:
            raise Impossible("strace is not installed")
        # Files of the spool only: its journal is another matter, and sockets are none.
        names = [self._folder / name for name in ("spool.db", "spool.db-wal", "content", "incoming")]
        paths = [word for name in names for word in ("-P", str(name))]
        inject = ["-e", f"trace={self._calls}", "-e", f"inject={self._calls}:error={self._error}"]
        with self._log.open("wb") as log:
            self._strace = subprocess.Popen(
                [strace, "-f", *paths, *inject, "-p", str(self._program.pid)], stdout=log, stderr=log
            )
        process = self._strace

        def attached() -> bool:
            said = self._log.read_bytes()
            if process.poll() is not None:
                raise Impossible(f"strace: {said.decode('utf-8', 'backslashreplace').strip()[-200:]}")
            return b" attached" in said

        wait_until(attached, "strace to attach")

    def end(self) -> None:
        """Lets go of it."""
        process, self._strace = self._strace, None
        if process is not None:
            process.send_signal(signal.SIGINT)
            process.wait(20)


@cache
def own_cluster() -> PostgresCluster:
    """The cluster that is ended and started again; nobody else's."""
    return PostgresCluster().__enter__()


CLUSTER_IN_USE = threading.Lock()
"""Held by the one scenario that may end the cluster."""


class Trial:
    """The disaster of one scenario: what it takes, when it begins and ends."""

    def __init__(self, scenario: Scenario, program: Program, spool: str, volume: Volume | None) -> None:
        self._begin: Callable[[], None]
        self._end: Callable[[], None]
        self.is_total = scenario.disaster != "full"
        """Whether nothing can be recorded while it lasts. On a full disk there is a reserve for outcomes."""
        match scenario.disaster:
            case "full":
                assert volume is not None
                self._begin, self._end = volume.fill, volume.free
            case "read-only":
                calls = FailingCalls(program, _WRITES, "EROFS", Path(spool))
                self._begin, self._end = calls.begin, calls.end
            case "fsync":
                calls = FailingCalls(program, "fsync,fdatasync", "EIO", Path(spool))
                self._begin, self._end = calls.begin, calls.end
            case "database":
                self._begin = lambda: own_cluster().stop(signal.SIGQUIT)
                self._end = own_cluster().start
            case _:
                raise ValueError(scenario.disaster)

    def begin(self) -> None:
        """It begins. Raises `Impossible`."""
        self._begin()

    def end(self) -> None:
        """It is over."""
        self._end()


def why_not(disaster: Disaster) -> str | None:
    """Why a disaster cannot be rehearsed here, as far as that is known beforehand."""
    match disaster:
        case "full":
            return None if os.geteuid() == 0 else "mounting a small file system needs root"
        case "read-only" | "fsync":
            return None if shutil.which("strace") else "strace is not installed"
        case _:
            return None
