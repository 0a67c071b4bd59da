"""The admin address of one server: HTTP for health checks and metrics."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import structlog

log = structlog.get_logger()


class Admin:
    """Answers from `start` to `stop`. What it needs is loaded when it is made, a fifth of a second."""

    def __init__(
        self,
        readiness: Callable[[], Awaitable[Mapping[str, str | None]]],
        scrape: Callable[[], Awaitable[bytes]],
    ) -> None:
        from waypost.admin.api import make_app
        from waypost.admin.server import AdminServer

        self._server = AdminServer(make_app(readiness, scrape))
        self._task: asyncio.Task[None] | None = None

    def start(self, host: str, port: int) -> None:
        """Binds and answers. Raises `OSError`."""
        from waypost.admin.server import bind

        bound = bind(host, port)
        log.info("admin_listening", address=listening(*bound.getsockname()[:2]))
        self._task = asyncio.create_task(self._server.serve(bound))

    async def stop(self) -> None:
        """Ends; what is being answered is answered."""
        self._server.stop()
        if self._task is not None:
            await self._task


def listening(host: str, port: int) -> str:
    """An address as it is written: IPv6 in brackets, the path of a socket behind `unix:`."""
    if host.startswith("/"):
        return f"unix:{host}"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
