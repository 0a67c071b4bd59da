"""What is reserved, counted and given back; what a crash and a restart leave; two that share one count."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import date, datetime
from typing import Literal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from waypost.clock import FakeClock
from waypost.delivery.memory_spool import MemorySpool
from waypost.delivery.quota_store import OwnCount
from waypost.delivery.quotas import Quotas, Reservation
from waypost.delivery.spool import SpoolError
from waypost.mail.outcome import Cause, Failure
from waypost.routing.quota import Growth, Quota, calendar_window
from waypost.routing.route import Upstream

DAILY = Quota(100, "day")
FATES = st.lists(st.tuples(st.sampled_from(["taken", "some", "refused", "open"]), st.integers(1, 5)), max_size=40)


def upstream(*quotas: Quota, name: str = "gmail") -> Upstream:
    return Upstream(name, "localhost", 25, quotas=quotas)


class Bench:
    """Quotas on a spool in memory, and a clock that stands still."""

    def __init__(self, *quotas: Quota) -> None:
        self.clock = FakeClock()
        self.spool = MemorySpool(now=self.clock.time)
        self.upstream = upstream(*quotas)
        self.start()

    def start(self) -> None:
        self.count = OwnCount(self.clock.time, self.spool)
        self.quotas = Quotas(self.count, self.clock)

    async def restart(self, *, orderly: bool) -> None:
        if orderly:
            await self.quotas.close()
        else:
            self.spool = self.spool.after_crash()
        self.start()
        self.count.learn(await self.spool.notes())

    async def send(self, recipients: int = 1, taken: int | None = None) -> bool:
        """One transaction; whether there was room."""
        reserved = await self.quotas.reserve(self.upstream, recipients)
        if isinstance(reserved, Failure):
            return False
        reserved.settle(recipients if taken is None else taken)
        return True

    async def send_all(self) -> int:
        """Until there is no room; how many got through."""
        sent = 0
        while await self.send():
            sent += 1
        return sent

    def count_now(self) -> Sequence[int]:
        """What the store would know, were there no process."""
        return [tally.used(self.clock.time()) for tally in self.count.tallies.values()]

    @property
    def used(self) -> Sequence[int]:
        return [state.used for state in self.quotas.states(self.upstream)]


async def test_exactly_as_many_as_the_quota_says() -> None:
    bench = Bench(DAILY)
    assert await bench.send_all() == 100
    assert bench.quotas.wait(bench.upstream) == pytest.approx(86400 * 61 / 60, abs=1440)
    bench.clock.advance(bench.quotas.wait(bench.upstream))
    assert await bench.send_all() == 100


async def test_every_quota_holds() -> None:
    bench = Bench(DAILY, Quota(30, "hour"), Quota(40, "day", "recipients"))
    sent = 0
    while await bench.send(2):
        sent += 1
    assert (sent, bench.used) == (20, [20, 20, 40])
    bench.clock.advance(3720)
    assert not await bench.send(2), "the recipients of the day are spent"


async def test_what_was_refused_or_not_taken_for_all_is_given_back() -> None:
    bench = Bench(Quota(5, "day"), Quota(10, "day", "recipients"))
    for _ in range(20):
        assert await bench.send(10, taken=0)
    assert bench.used == [0, 0]
    assert await bench.send(10, taken=3)
    assert bench.used == [1, 3]
    assert await bench.send(7)
    assert not await bench.send(1)


async def test_recipients_that_are_added_later_count_too() -> None:
    bench = Bench(Quota(5, "day"), Quota(10, "day", "recipients"))
    reserved = await bench.quotas.reserve(bench.upstream, 4)
    assert isinstance(reserved, Reservation)
    assert await reserved.take(6) is None
    assert reserved.room == 0, "more than it ever takes"
    assert bench.used == [1, 10]
    reserved.settle(7)
    assert bench.used == [1, 7]


async def test_the_smallest_quota_of_recipients_says_how_many_a_transaction_may_have() -> None:
    warm = Quota(0, "day", "recipients", growth=Growth(date(2001, 1, 1), (3,)))
    bench = Bench(Quota(5, "day"), Quota(7, "second", "recipients"), Quota(9, "day", "recipients"), warm)
    assert bench.quotas.most_recipients(bench.upstream) == 7, "the warm-up is over"
    assert bench.quotas.most_recipients(upstream(Quota(5, "day"))) is None


@pytest.mark.parametrize("quota", [Quota(3, "day", window="calendar"), Quota(3, "second"), Quota(3, "hour")])
@pytest.mark.parametrize("taken", [True, False])
async def test_what_is_under_way_when_the_window_turns_is_not_on_top_of_it(quota: Quota, taken: bool) -> None:
    """The upstream counts it when it takes it; until that is known there must be room for it."""
    bench = Bench(quota)
    underway = [await bench.quotas.reserve(bench.upstream, 1) for _ in range(2)]
    bench.clock.advance(2 * 86400)
    assert await bench.send_all() == 1
    bench.clock.advance(2 * 86400)
    assert await bench.send_all() == 1, "once more"
    for reserved in underway:
        assert isinstance(reserved, Reservation)
        reserved.settle(int(taken))
    assert bench.used == [3 if taken else 1]
    assert await bench.send_all() == (0 if taken else 2)
    bench.clock.advance(2 * 86400)
    assert await bench.send_all() == 3


async def test_a_large_message_that_finds_no_room_does_not_stop_small_ones() -> None:
    bench = Bench(Quota(10, "day", "recipients"))
    assert await bench.send(8)
    assert not await bench.send(5)
    assert bench.quotas.wait(bench.upstream) == 0
    assert await bench.send(2)
    assert not await bench.send(1)
    assert bench.quotas.wait(bench.upstream) > 0


@given(FATES, st.integers(1, 60), st.booleans())
def test_a_crash_at_any_moment_counts_no_less_than_was_sent(
    fates: list[tuple[str, int]], limit: int, orderly: bool
) -> None:
    async def live() -> None:
        bench = Bench(Quota(limit, "day", "recipients"))
        sent, running = 0, []
        for number, (fate, recipients) in enumerate(fates):
            reserved = await bench.quotas.reserve(bench.upstream, recipients)
            if isinstance(reserved, Failure):
                continue
            taken = {"taken": recipients, "some": 1, "refused": 0, "open": 0}[fate]
            if fate == "open":
                running.append(reserved)
            else:
                reserved.settle(taken)
            sent += taken
            if number == len(fates) // 2:
                if orderly:
                    for each in running:
                        each.settle(0)
                running.clear()
                await bench.restart(orderly=orderly)
                assert sum(bench.count_now()) >= sent
                if orderly:
                    assert sum(bench.count_now()) == sent
        assert sent <= limit
        sent += await bench.send_all()
        assert sent <= limit

    asyncio.run(live())


async def test_a_lease_is_durable_before_it_is_used() -> None:
    bench = Bench(DAILY)
    bench.spool.broken = "the disk is full"
    reserved = await bench.quotas.reserve(bench.upstream, 1)
    assert isinstance(reserved, Failure)
    assert (reserved.cause, "the disk is full" in reserved.text) == (Cause.QUOTA, True)
    bench.spool.broken = None
    assert await bench.send_all() == 100, "what was not granted is not lost"


async def test_few_writes_for_many_messages() -> None:
    bench = Bench(Quota(50_000, "day"))
    leases: list[int] = []
    lease = bench.count.lease

    async def counted(*args: object) -> object:
        leases.append(1)
        return await lease(*args)  # type: ignore[arg-type]

    bench.count.lease = counted  # type: ignore[method-assign,assignment]
    for _ in range(2000):
        assert await bench.send()
    assert len(leases) <= 10


async def test_what_is_accepted_after_midnight_counts_in_the_new_day() -> None:
    zone = ZoneInfo("Europe/Berlin")
    bench = Bench(Quota(3, "day", window="calendar", zone=zone, zone_name="Europe/Berlin"))
    reserved = await bench.quotas.reserve(bench.upstream, 1)
    assert isinstance(reserved, Reservation)
    bench.clock.advance(86400)
    reserved.settle(1)
    assert await bench.send_all() == 2


async def test_what_is_accepted_late_is_known_after_a_restart() -> None:
    bench = Bench(Quota(3, "day", window="calendar"))
    reserved = await bench.quotas.reserve(bench.upstream, 1)
    assert isinstance(reserved, Reservation)
    bench.clock.advance(86400)
    reserved.settle(1)
    await bench.restart(orderly=True)
    assert await bench.send_all() == 2


async def test_side_by_side_they_are_not_over_either() -> None:
    bench = Bench(Quota(50, "hour"), Quota(60, "day", "recipients"))
    assert sum(await asyncio.gather(*(bench.send() for _ in range(200)))) == 50


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(1, 4), st.sampled_from([0, 1]), st.floats(0, 9000))))
def test_two_instances_that_share_a_count_are_never_over(steps: list[tuple[int, int, int, float]]) -> None:
    async def live() -> None:
        clock = FakeClock()
        store = OwnCount(clock.time)
        quota = Quota(25, "hour", "recipients", "calendar")
        instances = [Quotas(store, clock), Quotas(store, clock)]
        shared = upstream(quota)
        sent: dict[float, int] = {}
        for who, recipients, is_taken, pause in steps:
            reserved = await instances[who].reserve(shared, recipients)
            if isinstance(reserved, Reservation):
                reserved.settle(recipients * is_taken)
                hour = quota.slot(clock.time())[0]
                sent[hour] = sent.get(hour, 0) + recipients * is_taken
            clock.advance(pause / len(steps))
        assert all(amount <= 25 for amount in sent.values())

    asyncio.run(live())


EDGES = [
    datetime(2026, *day, tzinfo=ZoneInfo(zone)).timestamp()
    for zone, *days in (
        ("Europe/Berlin", (3, 29), (3, 30), (10, 25), (10, 26)),
        ("America/Havana", (3, 8), (11, 1)),  # clocks are put forward at midnight, and back at one
        ("Asia/Kathmandu", (1, 1)),
    )
    for day in days
]
ZONES = [ZoneInfo(name) for name in ("Europe/Berlin", "America/Havana", "Asia/Kathmandu")]
STEPS = st.lists(
    st.tuples(
        st.integers(0, 1), st.integers(1, 4), st.sampled_from(["taken", "refused", "crash", "stop"]), st.floats(0, 1)
    ),
    max_size=40,
)


@given(STEPS, st.sampled_from(EDGES), st.floats(-5400, 0), st.sampled_from(ZONES), st.sampled_from(["hour", "day"]))
def test_no_window_is_ever_over_whoever_crashes_whenever_across_midnight_and_summer_time(
    steps: list[tuple[int, int, str, float]], edge: float, before: float, zone: ZoneInfo, per: Literal["hour", "day"]
) -> None:
    """Two instances on one count, from at most 90 minutes before midnight, or a change of clocks, to three hours on."""

    async def live() -> None:
        clock = FakeClock()
        clock.advance(edge + before - clock.time())
        store = OwnCount(clock.time)
        quota = Quota(12, per, "recipients", "calendar", zone, zone.key)
        instances, shared = [Quotas(store, clock), Quotas(store, clock)], upstream(quota)
        sent: Counter[float] = Counter()
        for who, recipients, fate, pause in steps:
            if fate == "stop":
                await instances[who].close()
            if fate in ("crash", "stop"):
                instances[who] = Quotas(store, clock)
                continue
            reserved = await instances[who].reserve(shared, recipients)
            if isinstance(reserved, Reservation):
                reserved.settle(recipients if fate == "taken" else 0)
                window, _ = calendar_window(per, zone, clock.time())
                sent[window] += recipients if fate == "taken" else 0
            known = sum(tally.used(clock.time()) for tally in store.tallies.values())
            assert known >= sent[calendar_window(per, zone, clock.time())[0]], "what was sent is counted, come what may"
            clock.advance(pause * 16_200 / len(steps))
        assert all(amount <= quota.limit for amount in sent.values()), sent

    asyncio.run(live())


async def test_spent_and_renewed_are_told_once_for_each_turn() -> None:
    bench = Bench(Quota(2, "day", window="calendar"))
    with capture_logs() as told:
        for _ in range(3):
            await bench.send_all()
            await bench.send_all()
            bench.clock.advance(86400)
    events = [record["event"] for record in told]
    assert events == ["quota_spent", "quota_renewed"] * 3
    assert told[0]["upstream"] == "gmail"
    assert told[0]["quota"] == "2 messages per day, by the calendar in UTC"
    assert told[0]["back_in"] > 0


async def test_a_new_limit_goes_on_with_the_count() -> None:
    bench = Bench(Quota(10, "day"))
    assert await bench.send_all() == 10
    bench.upstream = upstream(Quota(15, "day"))
    assert await bench.send_all() == 5


async def test_never_over_though_the_disk_fails_while_something_is_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(DAILY)
    check, failing = bench.spool.check, True

    async def sometimes() -> None:
        if failing:
            raise SpoolError("no space")
        await check()

    failing = False
    monkeypatch.setattr(bench.spool, "check", sometimes)
    assert await bench.send()
    bench.clock.advance(1440)  # the slot has turned, and what is left of its lease goes back
    failing = True
    assert not await bench.send()
    assert not await bench.send()
    failing = False
    assert 1 + await bench.send_all() <= 100


async def test_a_count_that_cannot_be_returned_costs_nothing_but_itself() -> None:
    class Broken:
        async def lease(self, *args: object) -> object:
            raise SpoolError("gone")

    bench = Bench(DAILY)
    assert await bench.send()
    meter = bench.quotas.meters(bench.upstream)[0]
    meter._store = Broken()  # type: ignore[assignment]
    with capture_logs() as told:
        await bench.quotas.close()
    assert [record["event"] for record in told] == ["quota_not_returned"]
