"""The control API's life: a unix socket from `start` to `stop`, and HTTP behind it once somebody connects.

Until then it is one listening socket and nothing else: the web server costs a fifth of a second and some ten
megabytes, which a Waypost that nobody asks anything should not pay.
"""

import asyncio
import contextlib
import importlib
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from waypost.admin.filters import LanesOf
from waypost.admin.queue import Queue
from waypost.admin.upstreams import Upstreams
from waypost.clock import Clock
from waypost.net.unix_socket import listen
from waypost.observe.journal import Journal
from waypost.routing.destination import Compass

if TYPE_CHECKING:
    from waypost.admin.server import AdminServer

log = structlog.get_logger()

_PARTS = ("server", "queue_api", "trace_api", "upstreams_api", "replay_api", "spoolless_api")
_WEB = tuple(f"waypost.admin.{name}" for name in _PARTS)


class Control:
    """The control API of one Waypost. `queue` is None where there is no spool, `journal` where none is kept.

    `lanes_of` gives the lanes of an upstream (`queue.lanes_of_upstream`). `compass` says where mail would go as
    things are configured.
    """

    def __init__(
        self,
        path: Path,
        queue: Queue | None,
        journal: Journal | None,
        clock: Clock,
        *,
        lanes_of: LanesOf,
        upstreams: Upstreams,
        compass: Compass,
    ) -> None:
        self.path = path
        self._queue = queue
        self._journal = journal
        self._clock = clock
        self._lanes_of = lanes_of
        self._upstreams = upstreams
        self._compass = compass
        self._listening: socket.socket | None = None
        self._server: AdminServer | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopped = False

    def start(self) -> None:
        """Listens. Raises `OSError` with the path: the API is not available then, and mail need not care."""
        self._listening = listen(self.path)
        asyncio.get_running_loop().add_reader(self._listening, self._asked)

    async def stop(self) -> None:
        """Ends: what is being answered has two seconds, the socket's file is removed. Idempotent."""
        self._stopped = True
        listening, self._listening = self._listening, None
        if listening is not None:
            self.path.unlink(missing_ok=True)  # before it is closed, while nobody can take the file for a stale one
            if self._task is None:
                asyncio.get_running_loop().remove_reader(listening)
                listening.close()
        if self._server is not None:
            self._server.stop()
        if self._task is not None:
            await self._task
        if self._queue is not None:
            await self._queue.close()

    def _asked(self) -> None:
        """Somebody has connected, for the first time. The connection waits in the backlog."""
        assert self._listening is not None  # noqa: S101 # the reader is removed when it goes
        asyncio.get_running_loop().remove_reader(self._listening)
        self._task = asyncio.create_task(self._serve(self._listening))

    async def _serve(self, listening: socket.socket) -> None:
        with contextlib.closing(listening):
            with ThreadPoolExecutor(1) as thread:  # the loop's own threads may all be busy with mail
                for module in _WEB:
                    await asyncio.get_running_loop().run_in_executor(thread, importlib.import_module, module)
            if self._stopped:
                return
            self._server = self._new_server()
            await self._server.serve(listening)

    def _new_server(self) -> "AdminServer":
        from starlette.applications import Starlette

        from waypost.admin.answers import ERRORS
        from waypost.admin.queue_api import queue_routes
        from waypost.admin.replay_api import replay_routes
        from waypost.admin.server import AdminServer
        from waypost.admin.spoolless_api import spoolless_routes
        from waypost.admin.trace_api import trace_routes
        from waypost.admin.upstreams_api import upstream_routes

        routes = [*upstream_routes(self._upstreams)]
        if self._queue is None:
            routes += spoolless_routes()
        else:
            routes += [
                *queue_routes(self._queue, self._lanes_of, self._clock.time),
                *trace_routes(self._journal, self._queue),
                *replay_routes(self._journal, self._compass),
            ]
        return AdminServer(Starlette(routes=routes, exception_handlers=ERRORS))
