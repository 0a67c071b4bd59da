"""Connections to an upstream: opened, kept, shared, and given up."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest

from rig.faults import close, say
from rig.ports import free_port, has_ipv6
from rig.running import HASTY, PATIENT, PLAIN, upstream
from rig.sink import StoringSink
from waypost.mail.content import MemoryContent
from waypost.mail.outcome import Cause, Failure, Phase, Stopped
from waypost.net import connect as connecting
from waypost.net.pool import Begun, UpstreamPool
from waypost.routing.route import Upstream
from waypost.smtp import commands as c
from waypost.smtp.address import Address
from waypost.smtp.client import Extensions

MAIL = c.Mail(Address("ann", "example.com"))
RCPT = c.Rcpt(Address("bob", "example.org"))


def worded(extensions: Extensions) -> tuple[c.Mail, Sequence[c.Rcpt]]:
    return MAIL, [RCPT]


MakePool = Callable[..., UpstreamPool]


@pytest.fixture
async def pool_of() -> AsyncIterator[MakePool]:
    """Makes pools, and closes them at the end."""
    made: list[UpstreamPool] = []

    def make(one: Upstream, now: Callable[[], float] | None = None) -> UpstreamPool:
        made.append(UpstreamPool(one, "waypost.example", now or asyncio.get_running_loop().time))
        return made[-1]

    yield make
    for pool in made:
        pool.close()
    for _ in range(10):  # turns of the loop in which transports close
        await asyncio.sleep(0)


async def begin(pool: UpstreamPool) -> Begun:
    begun = await pool.begin(worded, background=False)
    assert isinstance(begun, Begun), begun
    return begun


async def send(pool: UpstreamPool) -> None:
    begun = await begin(pool)
    phase, answer = await begun.lent.send(MemoryContent(b"x\r\n"))
    assert phase is Phase.DOT
    assert str(answer).startswith("250"), answer
    begun.lent.release()


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(15):
        while not condition():
            await asyncio.sleep(0.01)


async def test_one_connection_serves_many_messages(pool_of: MakePool, sink: StoringSink) -> None:
    pool = pool_of(upstream("first", sink.port))
    for _ in range(5):
        await send(pool)
    assert repr(pool) == "<pool first: 0 busy, 1 idle, 0 waiting>"
    assert sink.sessions == 1
    assert len(sink.messages) == 5
    pool.close()
    await until(lambda: "QUIT" in sink.verbs())
    assert pool.counts == (0, 0)


async def test_the_cap_is_kept_and_who_waits_is_served_in_turn(pool_of: MakePool, sink: StoringSink) -> None:
    pool = pool_of(upstream("first", sink.port, max_connections=2))
    one, two = await begin(pool), await begin(pool)
    waiting = [asyncio.create_task(begin(pool)) for _ in range(3)]
    await until(lambda: "3 waiting" in repr(pool))
    one.lent.release()
    three = await waiting[0]
    assert not waiting[1].done()
    for lent in (two.lent, three.lent):
        lent.release()
    for task in waiting[1:]:
        (await task).lent.release()
    assert sink.sessions == 2


async def test_waiting_has_an_end(pool_of: MakePool, sink: StoringSink) -> None:
    pool = pool_of(upstream("first", sink.port, max_connections=1, timeouts=HASTY))
    one = await begin(pool)
    stopped = await pool.begin(worded, background=False)
    assert isinstance(stopped, Stopped)
    assert isinstance(stopped.answer, Failure)
    assert stopped.answer.cause is Cause.BUSY
    one.lent.release()
    await send(pool)


async def test_a_place_whose_connection_cannot_be_opened_is_given_on(pool_of: MakePool, sink: StoringSink) -> None:
    pool = pool_of(upstream("first", sink.port, max_connections=1))
    sink.on("connect", close(), 2)
    results = await asyncio.gather(*(pool.begin(worded, background=False) for _ in range(3)))
    [begun] = [result for result in results if isinstance(result, Begun)]
    assert pool.counts == (1, 0)
    begun.lent.release()


async def test_a_caller_that_is_cancelled_takes_no_place_with_it(pool_of: MakePool, sink: StoringSink) -> None:
    pool = pool_of(upstream("first", sink.port, max_connections=1))
    one = await begin(pool)
    waiting = asyncio.create_task(begin(pool))
    await until(lambda: "1 waiting" in repr(pool))
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    one.lent.release()
    await send(pool)
    assert pool.counts == (0, 1)


async def test_a_connection_ends_after_its_last_message(pool_of: MakePool, sink: StoringSink) -> None:
    pool = pool_of(upstream("first", sink.port, max_messages=2))
    for _ in range(5):
        await send(pool)
    assert sink.sessions == 3
    pool.close()
    await until(lambda: sink.verbs().count("QUIT") == 3)


async def test_idle_and_old_connections_are_closed(pool_of: MakePool, sink: StoringSink) -> None:
    now = 0.0
    pool = pool_of(upstream("first", sink.port, idle_timeout=30, max_age=300), lambda: now)
    await send(pool)
    now = 29
    pool.sweep()
    assert pool.counts == (0, 1)
    now = 31
    pool.sweep()
    assert pool.counts == (0, 0)
    now = 40
    while now < 330:
        await send(pool)
        now += 20
    assert sink.sessions == 2
    now = 345
    await send(pool)
    assert pool.counts == (0, 0), "too old to be kept"
    assert sink.sessions == 2


async def test_without_an_idle_time_nothing_is_kept(pool_of: MakePool, sink: StoringSink) -> None:
    pool = pool_of(upstream("first", sink.port, idle_timeout=0))
    await send(pool)
    await send(pool)
    assert sink.sessions == 2
    assert pool.counts == (0, 0)


async def test_what_the_upstream_has_closed_is_not_used(pool_of: MakePool, sink: StoringSink) -> None:
    pool = pool_of(upstream("first", sink.port))
    await send(pool)
    await asyncio.to_thread(sink.stop)
    sink.start()
    pool.sweep()
    await until(lambda: pool.counts == (0, 0) or pool.sweep())
    await send(pool)
    assert sink.sessions == 2


async def test_what_an_upstream_says_unasked_makes_its_connection_unfit(pool_of: MakePool, sink: StoringSink) -> None:
    """A reply that nobody asked for would be taken for the answer to the next command."""
    sink.on("stored", say("250 2.0.0 stored", "250 2.0.0 and more"))
    pool = pool_of(upstream("first", sink.port))
    begun = await begin(pool)
    await begun.lent.send(MemoryContent(b"x\r\n"))
    begun.lent.release()
    await send(pool)
    assert sink.sessions == 2


# -- where to connect to


def resolving(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Makes `many.example` a name with these addresses."""

    async def getaddrinfo(host: str, port: int, **how: Any) -> list[Any]:
        assert host == "many.example"
        return [
            (socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in addresses
        ]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)


def named(port: int, **more: Any) -> Upstream:
    return replace(Upstream("first", "many.example", port, tls=PLAIN, timeouts=PATIENT), **more)


async def test_a_dead_address_costs_a_moment_only(
    pool_of: MakePool, monkeypatch: pytest.MonkeyPatch, sink: StoringSink
) -> None:
    """Happy eyeballs: 192.0.2.1 answers nobody, and nobody waits for it."""
    resolving(monkeypatch, "192.0.2.1", "127.0.0.1")

    async def never(endpoint: tuple[str, int], *more: Any) -> Any:
        if endpoint[0] == "192.0.2.1":
            await asyncio.Event().wait()
        return await connect_one(endpoint, *more)

    connect_one = connecting._connect
    monkeypatch.setattr(connecting, "_connect", never)
    began = asyncio.get_running_loop().time()
    pool = pool_of(named(sink.port))
    await send(pool)
    assert asyncio.get_running_loop().time() - began < 5


async def test_a_refusing_address_is_passed_over(
    pool_of: MakePool, monkeypatch: pytest.MonkeyPatch, sink: StoringSink
) -> None:
    resolving(monkeypatch, "127.0.0.2", "127.0.0.1")
    pool = pool_of(named(sink.port))
    await send(pool)


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")
async def test_both_families_are_tried(pool_of: MakePool, monkeypatch: pytest.MonkeyPatch, sink: StoringSink) -> None:
    with ExitStack() as stack:
        six = stack.enter_context(StoringSink(host="::1"))
        resolving(monkeypatch, "127.0.0.1", "::1")
        pool = pool_of(named(six.port))
        await send(pool)
        assert len(six.messages) == 1


async def test_when_no_address_answers_the_first_one_says_why(
    pool_of: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolving(monkeypatch, "127.0.0.1", "127.0.0.2")
    stopped = await pool_of(named(free_port())).begin(worded, background=False)
    assert isinstance(stopped, Stopped)
    assert isinstance(stopped.answer, Failure)
    assert (stopped.phase, stopped.answer.cause) == (Phase.CONNECT, Cause.UNREACHABLE)


async def test_a_name_without_an_address(pool_of: MakePool, monkeypatch: pytest.MonkeyPatch) -> None:
    async def getaddrinfo(host: str, port: int, **how: Any) -> list[Any]:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    stopped = await pool_of(named(25)).begin(worded, background=False)
    assert isinstance(stopped, Stopped)
    assert stopped.phase is Phase.RESOLVE


async def test_a_resolver_that_is_silent_is_given_up(pool_of: MakePool, monkeypatch: pytest.MonkeyPatch) -> None:
    async def getaddrinfo(host: str, port: int, **how: Any) -> list[Any]:
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    stopped = await pool_of(named(25, timeouts=HASTY)).begin(worded, background=False)
    assert isinstance(stopped, Stopped)
    assert isinstance(stopped.answer, Failure)
    assert (stopped.phase, stopped.answer.cause) == (Phase.RESOLVE, Cause.TIMEOUT)
