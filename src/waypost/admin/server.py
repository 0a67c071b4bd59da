"""Serves a web application at the admin address, inside the loop that handles mail (uvicorn, tamed).

uvicorn thinks that it owns the process. Here it takes no signals, logs no requests, wakes up once a second
instead of ten times, and closes connections on which nobody asks anything.
"""

import asyncio
import contextlib
import errno
import os
import socket
import struct
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_HEAD = 16 * 1024
"""Octets that a request line and its header fields may have."""

MAX_CONNECTIONS = 100
"""At once; those above are answered 503."""

_REQUEST_WITHIN = 10.0  # seconds from connect, or from the last answer, to a whole request
_KEEP_ALIVE = 5  # seconds between requests on one connection
_PARTING = 2  # seconds that requests under way have when we stop


def bind(host: str, port: int) -> socket.socket:
    """A listening socket, on every interface without a host. Raises `OSError` when the address cannot be had."""
    if not host and socket.has_dualstack_ipv6():
        try:
            return socket.create_server((host, port), family=socket.AF_INET6, backlog=64, dualstack_ipv6=True)
        except OSError as error:
            if error.errno != errno.EADDRNOTAVAIL:  # the kernel has IPv6, but it is switched off
                raise
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=64)


def peer_user(connection: socket.socket | None) -> str | None:
    """The name, or else the number, of the user at the other end of a unix socket; None where nobody can know."""
    if connection is None or connection.family != socket.AF_UNIX or not hasattr(socket, "SO_PEERCRED"):
        return None
    import pwd  # which other systems do not have

    credentials = socket.socket(fileno=os.dup(connection.fileno()))  # uvloop's own objects do not know the option
    with credentials:
        _, uid, _ = struct.unpack("3i", credentials.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


class AdminServer:
    """An HTTP server for one application, from `serve` to `stop`."""

    def __init__(self, app: ASGIApp, *, request_within: float = _REQUEST_WITHIN) -> None:
        class Protocol(_Impatient):
            within = request_within

        self._server = _Embedded(
            uvicorn.Config(
                app,
                http=Protocol,
                ws="none",
                loop="none",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                limit_concurrency=MAX_CONNECTIONS,
                h11_max_incomplete_event_size=MAX_HEAD,
                timeout_keep_alive=_KEEP_ALIVE,
                timeout_graceful_shutdown=_PARTING + 1,
            )
        )

    async def serve(self, listening: socket.socket) -> None:
        """Answers on this socket, and closes it, until `stop`. Requests under way then have two seconds."""
        await self._server.serve([listening])

    def stop(self) -> None:
        """Makes `serve` end. May be called before it began, and again."""
        self._server.stop()


class _Embedded(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        self.should_exit = True
        self._stopped.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # uvicorn would cancel what is left, which it then reports as an error of the application.
        parting = asyncio.get_running_loop().call_later(_PARTING, self._abort)
        await super().shutdown(sockets)
        parting.cancel()

    def _abort(self) -> None:
        for connection in list(self.server_state.connections):
            if connection.transport is not None:
                connection.transport.abort()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # they belong to whoever runs the program

    async def main_loop(self) -> None:
        while not await self.on_tick(0):  # once a second, for the Date field
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self._stopped.wait()


class _Impatient(H11Protocol):
    """HTTP/1.1, closed when no whole request arrives in time: h11 itself would wait for ever."""

    within: float

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        user = peer_user(transport.get_extra_info("socket"))
        if user is not None:
            self.app_state = {**self.app_state, "user": user}
        self.loop.call_later(self.within, self._look)

    def _look(self) -> None:
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete:  # type: ignore[redundant-expr]  # it is None at first
            self.transport.close()
        else:
            self.loop.call_later(self.within, self._look)
