"""A whole server in this process: real sockets, a loop of its own in a thread, and a clock that can be put forward.

    with RunningServer(settings(port, upstream("a", sink.port))) as server, RawClient(port) as client:
        ...
        server.clock.put_forward(3600)
        assert server.told("relayed")

What is scripted is on the other side of the sockets: `rig.sink` for upstreams, `rig.client` for clients.
"""

import asyncio
import json
import threading
import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Any, Self, TypeVar

from structlog.testing import capture_logs

from rig.waiting import wait_until
from waypost.app import Server
from waypost.clock import SystemClock, Timer
from waypost.commands.run import run_loop
from waypost.config.settings import LogSettings, Settings
from waypost.delivery.spool import Spool
from waypost.net.settings import ListenerSettings
from waypost.observe.record import Record
from waypost.routing.health import State
from waypost.routing.route import Copy, Member, Pool, Route, Routes, Timeouts, Upstream, UpstreamTls

T = TypeVar("T")

PATIENT = Timeouts(connect=20, greeting=20, command=20, data=20, block=20, dot=20)
"""For upstreams that are expected to answer: a busy machine must not look like a silent peer."""

HASTY = Timeouts(connect=0.4, greeting=0.4, command=0.4, data=0.4, block=0.4, dot=0.4)
"""For upstreams that are expected to be silent."""

PLAIN = UpstreamTls(mode="off")


def upstream(name: str, port: int, **more: Any) -> Upstream:
    """An upstream on loopback, without TLS and with patience unless `more` says otherwise."""
    fields: dict[str, Any] = {"host": "127.0.0.1", "tls": PLAIN, "timeouts": PATIENT, "background_timeouts": PATIENT}
    return Upstream(name, port=port, **(fields | more))


def settings(
    port: int, *primaries: Upstream, copies: tuple[Copy, ...] = (), listener: Any = None, **more: Any
) -> Settings:
    """One relay listener on `port` and one route, through `primaries` in this order. `more` is the route's.

    The client gets the primary's answer, whatever the listener, unless `more` has another `acceptance`.
    """
    pool = Pool("providers", tuple(Member(each) for each in primaries))
    route = Route("all", pool, copies, **({"acceptance": "pass"} | more))
    return several_routes({"all": route}, Routes((), {"all": route}, {}), listener or relay_listener(port))


def several_routes(routes: dict[str, Route], decided: Routes, *listeners: ListenerSettings) -> Settings:
    """Settings for these routes, decided by `decided`."""
    pools = {pool.name: pool for route in routes.values() for pool in (route.primary, *(c.to for c in route.copies))}
    upstreams = {member.upstream.name: member.upstream for pool in pools.values() for member in pool.members}
    return Settings(
        hostname="waypost.example",
        listeners=listeners,
        routes=decided,
        upstreams=upstreams,
        pools=pools,
        spool=None,
        admin=None,
        log=LogSettings(level="debug"),
        shutdown_timeout=5,
    )


def relay_listener(port: int, **more: Any) -> ListenerSettings:
    """A relay listener on 127.0.0.1 for this machine."""
    from waypost.config.build import LOOPBACK

    fields: dict[str, Any] = {"name": f"127.0.0.1:{port}", "host": "127.0.0.1", "mode": "relay"}
    return ListenerSettings(port=port, **(fields | {"trusted_networks": LOOPBACK} | more))


def single(member: Upstream) -> Pool:
    """The pool of one upstream, under its name."""
    return Pool(member.name, (Member(member),))


class PutForwardClock(SystemClock):
    """The machine's clock, and on top of it whatever it was put forward by."""

    def __init__(self) -> None:
        self._ahead = 0.0
        self._timers: list[tuple[float, _Once]] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    def time(self) -> float:
        return super().time() + self._ahead

    def monotonic(self) -> float:
        return super().monotonic() + self._ahead

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        self._loop = asyncio.get_running_loop()
        once = _Once(callback)
        once.timer = super().call_later(delay, once.run)
        self._timers = [(at, timer) for at, timer in self._timers if not timer.done]
        self._timers.append((self.monotonic() + delay, once))
        return once

    def put_forward(self, seconds: float) -> None:
        """Time has passed: timers that fall due are called in their order. To be called in the loop."""
        self._ahead += seconds
        for at, timer in sorted(self._timers, key=lambda pair: pair[0]):
            if at <= self.monotonic():
                timer.run()


class _Once:
    def __init__(self, callback: Callable[[], None]) -> None:
        self._callback = callback
        self.timer: Timer | None = None
        self.done = False

    def run(self) -> None:
        if not self.done:
            self.cancel()
            self._callback()

    def cancel(self) -> None:
        self.done = True
        if self.timer is not None:
            self.timer.cancel()


class RunningServer:
    """A server, from start to stop, inside a `with`."""

    def __init__(self, settings: Settings, *, spool: Spool | None = None) -> None:
        self.records: list[Record] = []
        """The mail log, in order."""
        self.clock = PutForwardClock()
        self.operational: list[MutableMapping[str, Any]] = []
        """The records that are not about mail."""
        self._settings = settings
        self._spool = spool
        self._stack = ExitStack()
        self._faults: list[dict[str, Any]] = []
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run)
        self.server: Server | None = None

    def call(self, function: Callable[[], Awaitable[T] | T], seconds: float = 20) -> T:
        """Calls something in the server's loop, and waits for what comes of it."""
        assert self._loop is not None

        async def called() -> T:
            result = function()
            return await result if isinstance(result, Awaitable) else result

        return asyncio.run_coroutine_threadsafe(called(), self._loop).result(seconds)

    def put_forward(self, seconds: float) -> None:
        """Lets the server's clock jump."""
        self.call(lambda: self.clock.put_forward(seconds))

    def health(self, name: str) -> State:
        """What is thought of an upstream now."""
        assert self.server is not None
        return self.server.health[name].state(self.clock.monotonic())

    def metrics(self) -> str:
        """The metrics, as Prometheus reads them."""
        assert self.server is not None
        scrape = self.server.metrics.scrape
        return self.call(scrape).decode()

    def told(self, event: str, **fields: object) -> list[Record]:
        """The records of an event, those with these fields only."""
        found = [record for record in list(self.records) if record["event"] == event]
        return [record for record in found if all(record.get(key) == value for key, value in fields.items())]

    def wait_for(self, event: str, count: int = 1, **fields: object) -> list[Record]:
        """The records of an event, as soon as there are `count`."""
        return wait_until(
            lambda: found if len(found := self.told(event, **fields)) >= count else [],
            f"{count} records {event} {fields or ''} among {self.records}",
        )

    def stop(self) -> None:
        """Stops as SIGTERM does, and waits for the end. Idempotent."""
        loop, stopping = self._loop, self._stopping
        if loop is not None and stopping is not None and self._thread.is_alive():
            with suppress(RuntimeError):  # it may be ending by itself, its loop closed already
                loop.call_soon_threadsafe(stopping.set)
            self._thread.join(30)
            assert not self._thread.is_alive(), "the server does not end"
        if self._failure is not None:
            raise self._failure

    def stop_soon(self) -> None:
        """Begins to stop, and does not wait."""
        assert self._loop is not None
        assert self._stopping is not None
        self._loop.call_soon_threadsafe(self._stopping.set)

    def emit(self, line: str) -> None:
        """Takes the mail log."""
        self.records.append(json.loads(line))

    def __enter__(self) -> Self:
        self.operational = self._stack.enter_context(capture_logs())
        self._thread.start()
        self._started.wait(20)
        if self._failure is not None:
            raise self._failure
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:
            self.stop()
        if kind is not None:
            print("--- what the server logged", *self.operational, *self.records, sep="\n")
            return
        # A defect of ours is never part of a scenario: whatever peers do, nothing may break inside.
        broken = [record for record in self.operational if "exc_info" in record]
        assert not broken, broken
        assert not self._faults, self._faults

    def _run(self) -> None:
        try:
            run_loop(self._main)
        except BaseException as error:
            self._failure = error
        finally:
            self._started.set()

    async def _main(self) -> int:
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(lambda loop, context: self._faults.append(context))
        self._stopping = asyncio.Event()
        self.server = Server(self._settings, self, spool=self._spool, clock=self.clock)  # type: ignore[arg-type]
        await self.server.start()
        self._started.set()
        await self._stopping.wait()
        await self.server.stop()
        return 0


def seconds_for(action: Callable[[], object]) -> float:
    """How long something takes."""
    began = time.monotonic()
    action()
    return time.monotonic() - began
