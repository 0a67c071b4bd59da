"""A PostgreSQL of its own: a cluster in a folder, on a free port of loopback, with the settings of the package."""

import os
import pwd
import shutil
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bench.ports import free_port
from bench.systems.base import check_way, first_line

USER = "waypost"
SETTINGS = {"unix_socket_directories": "", "listen_addresses": "127.0.0.1"}
"""What differs from PostgreSQL's defaults, none of which is about speed: `fsync` and `synchronous_commit` are on."""
START_WITHIN = 30  # seconds


class Cluster:
    """A cluster whose folder is below `directory`. It is made by `make`, and runs inside a `with` or by `command`."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self._directory = directory
        self._folder = directory / "cluster"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """How clients reach its one database, by TCP."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/postgres"

    @property
    def pid(self) -> int:
        """The process that all others of the cluster come from, while it runs inside a `with`."""
        return 0 if self._process is None else self._process.pid

    def make(self) -> None:
        """Makes the files. Raises `subprocess.SubprocessError` and OSError."""
        self._folder.mkdir()
        person = _ordinary_user()
        if person is not None:
            check_way(self._directory)
            os.chown(self._folder, person.pw_uid, person.pw_gid)
        make = [str(_program("initdb")), "-D", str(self._data), "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C"]
        subprocess.run(_as(person, make), check=True, capture_output=True, cwd=self._folder)

    @property
    def command(self) -> list[str]:
        """Runs the server in the foreground."""
        settings = [word for name, value in SETTINGS.items() for word in ("-c", f"{name}={value}")]
        return _as(
            _ordinary_user(), [str(_program("postgres")), "-D", str(self._data), "-p", str(self.port), *settings]
        )

    @property
    def ready_command(self) -> list[str]:
        """Ends with 0 once the server takes connections."""
        return [str(_program("pg_isready")), "-q", "-h", "127.0.0.1", "-p", str(self.port)]

    def __enter__(self) -> Self:
        self.make()
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(self.command, stdout=log, stderr=log, cwd=self._folder)
        deadline = time.monotonic() + START_WITHIN
        while subprocess.run(self.ready_command, check=False).returncode:
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.__exit__(None, None, None)
                raise OSError(f"PostgreSQL did not start: {(self._folder / 'log').read_text()[-300:]}")
            time.sleep(0.02)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)  # disconnects everybody
            self._process.wait(30)

    def stop(self) -> None:
        """Ends a cluster that somebody else started, if it still runs."""
        if (self._data / "postmaster.pid").exists():
            command = [str(_program("pg_ctl")), "-D", str(self._data), "stop", "-m", "immediate"]
            subprocess.run(_as(_ordinary_user(), command), capture_output=True, check=False, timeout=30)

    @property
    def _data(self) -> Path:
        return self._folder / "data"


def unavailable() -> str | None:
    """Why no cluster can be made here, or None."""
    try:
        _program("postgres")
    except FileNotFoundError:
        return "PostgreSQL is not installed"
    if not os.geteuid() and _ordinary_user() is None:
        return "PostgreSQL does not run as root, and there is no user postgres or nobody"
    return None


def version() -> str:
    """Name and version for the report."""
    return first_line([str(_program("postgres")), "--version"])


def _program(name: str) -> Path:
    """One of PostgreSQL's programs, of the newest version; Debian has them outside of PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    elsewhere = shutil.which(name)
    if not found and elsewhere is None:
        raise FileNotFoundError(name)
    return found[-1] if found else Path(str(elsewhere))


def _ordinary_user() -> Any:
    """Whom the server runs as when we are root; else None."""
    if os.geteuid():
        return None
    return next((person for person in pwd.getpwall() if person.pw_name in ("postgres", "nobody")), None)


def _as(person: Any, command: list[str]) -> list[str]:
    if person is None:
        return command
    return ["setpriv", f"--reuid={person.pw_uid}", f"--regid={person.pw_gid}", "--clear-groups", *command]
