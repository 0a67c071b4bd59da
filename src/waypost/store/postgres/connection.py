"""Connections to PostgreSQL: how they are made, kept and given up, and what their errors mean.

The only module that imports asyncpg. A connection on which anything went wrong is thrown away: what a
half-done conversation left behind is not worth finding out.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from waypost.delivery.spool import SpoolError, SpoolFullError

if TYPE_CHECKING:
    import asyncpg

    Connection = asyncpg.Connection[asyncpg.Record]
else:
    Connection = Any

T = TypeVar("T")

CONNECT_TIMEOUT = 3
"""Seconds after which a connection attempt is given up."""

COMMAND_TIMEOUT = 5
"""Seconds after which a statement is given up: a session waits for it, and its client for the session."""

POOL_SIZE = 4

OLDEST = 15
"""The first major version of PostgreSQL that is supported."""

_PREPARE_SESSION = """
SELECT set_config('application_name', 'waypost', false),
       set_config('jit', 'off', false),
       set_config('idle_in_transaction_session_timeout', '10s', false),
       set_config('lock_timeout', '4s', false),
       set_config('client_encoding', 'UTF8', false),
       set_config('synchronous_commit', CASE WHEN $1 THEN CASE current_setting('synchronous_commit')
           WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END ELSE 'off' END, false)
"""
# A process that is stopped in the middle of a transaction must not keep others from its rows for ever. Every
# acknowledgement rests on synchronous commits, so a server that has them off by default is not believed.


def load_driver() -> Any:
    """The module asyncpg. Raises `SpoolError` when it is not installed."""
    try:
        import asyncpg
    except ImportError as error:
        raise SpoolError(
            "a spool on PostgreSQL needs the Python package asyncpg, which is not installed:"
            " pip install 'waypost[postgres]'"
        ) from error
    return asyncpg


class Server:
    """One database, as the URL names it: makes connections to it."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.name = _without_secrets(url)
        """For people: no password."""

    async def connect(self, *, durable: bool, timeout: float = CONNECT_TIMEOUT) -> Connection:
        """A new connection. Raises `SpoolError`.

        Unless `durable`, a commit on it may be lost in a crash of the server; a later durable commit of any
        connection makes it durable as well, for there is one log and it is written in order.
        """
        with self.explained("cannot be reached"):
            async with asyncio.timeout(timeout):
                try:
                    connection: Connection = await load_driver().connect(
                        self._url, timeout=timeout, command_timeout=COMMAND_TIMEOUT
                    )
                except ValueError:  # its text may contain a part of the password
                    raise SpoolError(
                        f"the URL of the spool, {self.name}..., cannot be understood. It has the form"
                        " postgresql://user:password@host:5432/database, special characters as %23 and the like"
                    ) from None
                try:
                    await connection.fetchrow(_PREPARE_SESSION, durable)
                except BaseException:
                    connection.terminate()
                    raise
        return connection

    @contextmanager
    def explained(self, what: str = "cannot be used now") -> Iterator[None]:
        """Turns the driver's errors into `SpoolError`."""
        driver = load_driver()
        try:
            yield
        except TimeoutError as error:
            raise SpoolError(f"the spool {self.name} {what}: no answer in time") from error
        except driver.DiskFullError as error:
            raise SpoolFullError(f"the spool {self.name} {what}: {describe(error)}") from error
        except (OSError, driver.PostgresError, driver.InterfaceError, driver.InternalClientError) as error:
            raise SpoolError(f"the spool {self.name} {what}: {describe(error)}") from error


class Pool:
    """A few connections for questions, claims and large content: as many as are in use at once, up to `size`."""

    def __init__(self, server: Server, size: int = POOL_SIZE) -> None:
        self._server = server
        self._idle: list[Connection] = []
        self._slots = asyncio.Semaphore(size)
        self._closed = False

    @asynccontextmanager
    async def connection(self, timeout: float = COMMAND_TIMEOUT) -> AsyncIterator[Connection]:
        """Lends a connection, for `timeout` seconds, in which every error is a `SpoolError`."""
        with self._server.explained():
            async with asyncio.timeout(timeout), self._slots:
                connection = await self._take()
                try:
                    yield connection
                except BaseException:
                    connection.terminate()
                    raise
                if self._closed:
                    connection.terminate()
                else:
                    self._idle.append(connection)

    async def close(self) -> None:
        """Closes what is idle; what is lent is closed when it comes back."""
        self._closed = True
        while self._idle:
            await part(self._idle.pop())

    async def _take(self) -> Connection:
        if self._closed:
            raise SpoolError(f"the spool {self._server.name} is closed")
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                return connection
        return await self._server.connect(durable=False)


async def in_task(work: Coroutine[Any, Any, T]) -> T:
    """Awaits `work` in a task of its own: sessions are driven without one, and time-outs, the driver's too, need it."""
    task = asyncio.get_running_loop().create_task(work)
    try:
        return await task
    except BaseException:
        task.cancel()
        raise


async def part(connection: Connection) -> None:
    """Closes a connection, politely when that is possible within a second. Raises nothing."""
    driver = load_driver()
    try:
        await connection.close(timeout=1)
    except (OSError, TimeoutError, driver.PostgresError, driver.InterfaceError):
        connection.terminate()


def watch_end(connection: Connection, callback: Callable[[], None]) -> None:
    """Calls back when the connection has ended, whoever ended it."""
    connection.add_termination_listener(lambda _: callback())


def describe(error: BaseException) -> str:
    """An error of the driver in one line, with what to do where that is known."""
    state = getattr(error, "sqlstate", None)
    said = " ".join(str(error).split()) or type(error).__name__
    if state == "25006":
        return f"{said} (it is read-only, a standby perhaps: name the primary in the URL)"
    if state == "53300":
        return f"{said} (each Waypost needs up to {POOL_SIZE + 4} connections)"
    return said


def _without_secrets(url: str) -> str:
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        place = (f"[{host}]" if ":" in host else host) + ("" if parts.port is None else f":{parts.port}")
    except ValueError:
        return "postgresql://"
    # With an unescaped character in its password, a part of that would look like the host.
    return "postgresql://" if "@" in url.partition(parts.netloc)[2] else f"postgresql://{place}{parts.path}"
