"""Waypost's own test server, in a thread, for clients that block; `rig.sink` is the one that shares no code with it."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self, TypeVar

from waypost.sink.answers import Watcher
from waypost.sink.server import Sink, SinkSettings
from waypost.smtp.order import ServerOptions

T = TypeVar("T")


class RunningSink:
    """A sink, from start to stop, inside a `with`."""

    def __init__(
        self,
        *faults: str,
        options: ServerOptions | None = None,
        watcher: Watcher | None = None,
        port: int = 0,
        **settings: Any,
    ) -> None:
        self._faults = faults
        self._watcher = watcher
        self._settings = SinkSettings(
            options=options or ServerOptions("sink.example"), **({"addresses": (("127.0.0.1", port),)} | settings)
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._started = threading.Event()
        self._stopping: asyncio.Event | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()))
        self._problems: list[dict[str, Any]] = []
        self.sink: Sink | None = None

    @property
    def port(self) -> int:
        return self.running.port

    @property
    def running(self) -> Sink:
        assert self.sink is not None
        return self.sink

    def call(self, function: Callable[[Sink], Awaitable[T] | T]) -> T:
        """Calls something in the sink's loop, and waits for what comes of it."""
        assert self._loop is not None

        async def called() -> T:
            result = function(self.running)
            return await result if isinstance(result, Awaitable) else result

        return asyncio.run_coroutine_threadsafe(called(), self._loop).result(20)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(20)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._loop is not None
        assert self._stopping is not None
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(20)
        assert not self._thread.is_alive()
        assert not self._problems, self._problems

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(lambda _, context: self._problems.append(context))
        self._stopping = asyncio.Event()
        async with Sink(self._settings, faults=self._faults, watcher=self._watcher) as self.sink:
            self._started.set()
            await self._stopping.wait()
