"""Quotas that instances share: together they are never over, whatever happens to one of them."""

import asyncio
from collections import Counter

import asyncpg
import pytest

from rig.postgres import new_database
from waypost.clock import SystemClock
from waypost.delivery.quotas import Quotas, Reservation
from waypost.delivery.spool import SpoolError
from waypost.mail.outcome import Cause, Failure
from waypost.routing.quota import Quota
from waypost.routing.route import Upstream
from waypost.store.postgres import PostgresSpool

DAILY = Quota(200, "month", "recipients")


def upstream(*quotas: Quota) -> Upstream:
    return Upstream("ses", "localhost", 25, quotas=quotas)


async def instance(url: str, name: str) -> tuple[PostgresSpool, Quotas]:
    spool = PostgresSpool(url, instance=name)
    await spool.open()
    return spool, Quotas(spool.quotas, SystemClock())


async def send(quotas: Quotas, shared: Upstream, recipients: int, taken: int) -> int:
    reserved = await quotas.reserve(shared, recipients)
    if isinstance(reserved, Failure):
        assert reserved.cause is Cause.QUOTA, reserved
        return 0
    assert isinstance(reserved, Reservation)
    await asyncio.sleep(0)
    reserved.settle(taken)
    return taken


async def test_two_instances_together_are_never_over_and_spend_it_all() -> None:
    url = new_database()
    spools, both = zip(*[await instance(url, name) for name in ("one", "two")], strict=True)
    shared = upstream(DAILY)
    sent = 0
    for turn in range(40):
        work = [
            send(quotas, shared, 1 + turn % 4, (turn + n) % 2 * (1 + turn % 4)) for n in range(3) for quotas in both
        ]
        sent += sum(await asyncio.gather(*work))
    assert sent <= 200
    while more := sum(await asyncio.gather(*(send(quotas, shared, 1, 1) for quotas in both))):
        sent += more
    assert sent <= 200
    for quotas in both:
        await quotas.close()
    late = Quotas(spools[0].quotas, SystemClock())
    while await send(late, shared, 1, 1):
        sent += 1
    assert sent == 200, "what one gave back the other could use"
    for spool in spools:
        await spool.close()


async def test_an_instance_that_is_killed_has_counted_all_that_it_sent() -> None:
    url = new_database()
    spool, quotas = await instance(url, "one")
    shared, sent = upstream(Quota(100, "day"), Quota(150, "month", "recipients")), Counter[str]()
    for _ in range(30):
        sent["first"] += await send(quotas, shared, 1, 1)
    killed = spool
    spool, quotas = await instance(url, "two")  # the first one never gave back what it had leased
    while await send(quotas, shared, 1, 1):
        sent["second"] += 1
    assert sent["first"] == 30
    assert 100 - 30 - 3 <= sent["second"] <= 100 - 30
    await killed.close()
    await quotas.close()
    await spool.close()


async def test_a_database_that_is_gone_stops_what_is_limited_and_says_why() -> None:
    url = new_database()
    spool, quotas = await instance(url, "one")
    connection = await asyncpg.connect(url)
    await connection.execute("ALTER TABLE waypost.quota RENAME TO elsewhere")
    reserved = await quotas.reserve(upstream(DAILY), 1)
    assert isinstance(reserved, Failure)
    assert (reserved.cause, "cannot be counted" in reserved.text) == (Cause.QUOTA, True)
    with pytest.raises(SpoolError):
        await spool.quotas.lease("ses", DAILY, 1, {}, 0)
    await connection.execute("ALTER TABLE waypost.elsewhere RENAME TO quota")
    assert await send(quotas, upstream(DAILY), 1, 1) == 1
    await connection.execute("UPDATE waypost.quota SET tally = 'of another version'")
    assert await send(quotas, upstream(DAILY), 10, 10) == 10
    await connection.close()
    await quotas.close()
    await spool.close()
