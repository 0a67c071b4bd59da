"""A private PostgreSQL: a cluster of its own in a temporary folder, on a free port of loopback.

It runs as an ordinary user, for PostgreSQL refuses root. The folder's name is short: it holds the socket.
"""

import asyncio
import atexit
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rig.ports import free_port
from rig.programs import lacking
from rig.waiting import wait_until
from waypost.store.postgres import PostgresSpool

USER = "waypost"
"""The superuser of the cluster, who needs no password."""

_SETTINGS = {
    "fsync": "on",
    "shared_buffers": "32MB",
    "max_connections": "100",
    "unix_socket_permissions": "0777",
    "log_line_prefix": "%m [%p] %a ",
    "autovacuum_naptime": "5s",
}


def find_program(name: str) -> Path:
    """One of PostgreSQL's programs, the newest. Skips the test, or fails it where it has to be there."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1]
    elsewhere = shutil.which(name)
    if elsewhere is None:
        lacking(f"PostgreSQL's {name} is not installed")
    return Path(str(elsewhere))


class PostgresCluster:
    """One cluster, running inside a `with`. `settings` go over those above."""

    def __init__(self, **settings: str) -> None:
        self._initdb, self._postgres = find_program("initdb"), find_program("postgres")
        self._settings = _SETTINGS | settings
        self._process: subprocess.Popen[bytes] | None = None
        self._as: dict[str, Any] = _ordinary_user()
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="wp-pg-"))
        self.data = self.folder / "data"
        self._log = self.folder / "log"

    def __enter__(self) -> Self:
        atexit.register(self._end)
        if "user" in self._as:
            os.chown(self.folder, self._as["user"], self._as["group"])
        self.folder.chmod(0o755)
        subprocess.run(
            [self._initdb, "-D", self.data, "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"],
            check=True,
            capture_output=True,
            cwd=self.folder,
            **self._as,
        )
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()
        atexit.unregister(self._end)

    def start(self) -> None:
        """Starts the server and waits until it takes connections."""
        options = [word for name, value in self._settings.items() for word in ("-c", f"{name}={value}")]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._postgres, "-D", self.data, "-k", self.folder, "-h", "127.0.0.1", "-p", str(self.port), *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
                **self._as,
            )
        wait_until(self._is_ready, "PostgreSQL to start", 30)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stops the server: SIGINT disconnects everybody, SIGQUIT is `pg_ctl stop -m immediate`, a crash."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(how)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(20)

    def signal_all(self, how: signal.Signals) -> None:
        """Sends a signal to every process of the cluster, SIGSTOP for one: the server hangs without a word."""
        assert self._process is not None
        for pid in [self._process.pid, *_children(self._process.pid)]:
            os.kill(pid, how)

    def url(self, database: str = "postgres") -> str:
        """How clients reach a database, by TCP."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{database}"

    def socket_url(self, database: str = "postgres") -> str:
        """The same by the unix socket."""
        return f"postgresql://{USER}@/{database}?host={self.folder}&port={self.port}"

    def create_database(self, template: str = "template0") -> str:
        """Makes a new database, an empty one or a copy of `template`; its name."""
        name = f"test_{secrets.token_hex(6)}"
        self.sql(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def sql(self, statement: str, database: str = "postgres") -> str:
        """Runs a statement by psql; its rows, a line each, columns parted by `|`."""
        words = ["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", self.socket_url(database), "-c", statement]
        done = subprocess.run([find_program("psql"), *words], capture_output=True, timeout=60)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode().strip()

    def _is_ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text("utf-8", "backslashreplace")[-3000:]
        try:
            said = (self.data / "postmaster.pid").read_text("ascii").split("\n")
        except FileNotFoundError:
            return False
        return len(said) > 7 and said[7].strip() == "ready" and said[0] == str(self._process.pid)

    def _end(self) -> None:
        if self._process is not None:
            self.signal_all(signal.SIGCONT)
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)


@cache
def shared_cluster() -> PostgresCluster:
    """A cluster for all tests of this run, which leave it running; ended with the run."""
    return PostgresCluster().__enter__()


def new_database(*, empty: bool = False) -> str:
    """The URL of a new database in the shared cluster: with an empty spool, or with nothing at all."""
    cluster = shared_cluster()
    return cluster.url(cluster.create_database() if empty else cluster.create_database(_spool_template()))


@cache
def _spool_template() -> str:
    """A database that was opened once: to copy it is quicker than to make all tables anew."""
    cluster = shared_cluster()
    name = cluster.create_database()

    async def make() -> None:
        spool = PostgresSpool(cluster.url(name), instance="template")
        await spool.open()
        await spool.close()

    with ThreadPoolExecutor(1) as thread:  # a loop may be running in this one
        thread.submit(asyncio.run, make()).result()
    return name


def _ordinary_user() -> dict[str, Any]:
    """The arguments that make a subprocess run as somebody who is not root."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    lacking("there is no ordinary user to run PostgreSQL as")
    raise AssertionError("unreachable")


def _children(pid: int) -> list[int]:
    said = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii")
    return [int(word) for word in said.split()]
