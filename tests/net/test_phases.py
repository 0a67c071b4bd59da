"""How long each phase of an attempt took, as it goes into its record."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence

import pytest

from rig.certificates import Certificates
from rig.faults import hold, say
from rig.ports import free_port
from rig.running import HASTY, upstream
from rig.sink import EXTENSIONS, StoringSink
from waypost.mail.content import MemoryContent
from waypost.mail.outcome import Phase, Stopped
from waypost.net.pool import Begun, UpstreamPool
from waypost.routing.route import Upstream, UpstreamTls
from waypost.smtp import commands as c
from waypost.smtp.address import Address
from waypost.smtp.client import Extensions

MAIL = c.Mail(Address("ann", "example.com"))
RCPT = c.Rcpt(Address("bob", "example.org"))
OPENED = [Phase.RESOLVE, Phase.CONNECT, Phase.GREETING, Phase.EHLO]
PIPELINED = tuple(each for each in EXTENSIONS if each != "CHUNKING")
HELD = 0.05  # seconds


class _HeldFromThere(threading.Event):
    """Is set a while after somebody has begun to wait: however long it took to come there."""

    def wait(self, timeout: float | None = None) -> bool:
        super().wait(HELD)
        return True


MakePool = Callable[[Upstream], UpstreamPool]


def worded(extensions: Extensions) -> tuple[c.Mail, Sequence[c.Rcpt]]:
    return MAIL, [RCPT]


@pytest.fixture
async def pool_of() -> AsyncIterator[MakePool]:
    """Makes pools, and closes them at the end."""
    made: list[UpstreamPool] = []

    def make(one: Upstream) -> UpstreamPool:
        made.append(UpstreamPool(one, "waypost.example", asyncio.get_running_loop().time))
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


async def send(pool: UpstreamPool, octets: bytes = b"x\r\n") -> dict[Phase, float]:
    """One message; its phases."""
    lent = (await begin(pool)).lent
    try:
        _, answer = await lent.send(MemoryContent(octets))
        assert str(answer).startswith("250")
        phases = lent.phases
    finally:
        lent.release()
    assert len(dict(phases)) == len(phases)
    assert all(seconds >= 0 for _, seconds in phases)
    return dict(phases)


async def test_opening_the_connection_belongs_to_the_first_attempt_only(sink: StoringSink, pool_of: MakePool) -> None:
    sink.extensions = PIPELINED
    pool = pool_of(upstream("first", sink.port))
    assert list(await send(pool)) == [*OPENED, Phase.MAIL, Phase.DATA, Phase.DOT]
    assert list(await send(pool)) == [Phase.MAIL, Phase.DATA, Phase.DOT]


async def test_without_pipelining_each_step_is_a_phase(sink: StoringSink, pool_of: MakePool) -> None:
    sink.extensions = ()
    pool = pool_of(upstream("first", sink.port))
    assert list(await send(pool)) == [*OPENED, Phase.MAIL, Phase.RCPT, Phase.DATA, Phase.DOT]


async def test_tls_is_a_phase_and_both_ehlos_are_one(
    make_sink: Callable[[StoringSink], StoringSink], certificates: Certificates, pool_of: MakePool
) -> None:
    sink = make_sink(StoringSink(tls=certificates.server_context(), extensions=PIPELINED))
    pool = pool_of(upstream("first", sink.port, tls=UpstreamTls(mode="starttls", verify=False)))
    assert list(await send(pool)) == [*OPENED, Phase.STARTTLS, Phase.TLS, Phase.MAIL, Phase.DATA, Phase.DOT]


async def test_the_time_is_found_under_the_phase_that_took_it(sink: StoringSink, pool_of: MakePool) -> None:
    sink.extensions = PIPELINED
    pool = pool_of(upstream("first", sink.port))
    sink.on("dot", hold(_HeldFromThere()))
    assert (await send(pool))[Phase.DOT] >= HELD


async def test_waiting_for_the_client_is_no_phase(sink: StoringSink, pool_of: MakePool) -> None:
    for extensions in (PIPELINED, EXTENSIONS):
        sink.extensions = extensions
        pool = pool_of(upstream("first", sink.port))
        lent = (await begin(pool)).lent
        before = dict(lent.phases)
        waited = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(HELD, waited.set_result, None)
        await waited
        assert dict(lent.phases) == before
        await lent.send(MemoryContent(b"no line end" if extensions is EXTENSIONS else b"x\r\n"))
        after = dict(lent.phases)
        lent.release()
        assert sum(after.values()) - sum(before.values()) < HELD


@pytest.mark.parametrize(("phase", "last"), [("connect", Phase.GREETING), ("ehlo", Phase.EHLO), ("mail", Phase.MAIL)])
async def test_an_attempt_that_stops_tells_the_phases_it_came_to(
    phase: str, last: Phase, sink: StoringSink, pool_of: MakePool
) -> None:
    sink.on(phase, say("421 4.3.2 Not now"))  # type: ignore[arg-type]  # a phase of the sink, which mypy sees as text
    stopped = await pool_of(upstream("first", sink.port)).begin(worded, background=False)
    assert isinstance(stopped, Stopped)
    assert stopped.phase is last
    assert [each for each, _ in stopped.phases] == [*OPENED, Phase.MAIL][: [*OPENED, Phase.MAIL].index(last) + 1]


async def test_an_upstream_that_is_not_there_took_its_time_to_connect(pool_of: MakePool) -> None:
    stopped = await pool_of(upstream("first", free_port(), timeouts=HASTY)).begin(worded, background=False)
    assert isinstance(stopped, Stopped)
    assert [each for each, _ in stopped.phases] == [Phase.RESOLVE, Phase.CONNECT]
