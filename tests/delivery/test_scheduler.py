"""The scheduler, with a spool in memory, a clock that stands still, and targets that do as they are told."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from waypost.clock import FakeClock
from waypost.delivery.memory_spool import MemorySpool
from waypost.delivery.scheduler import HOLD, PREFETCH, Scheduler
from waypost.delivery.spool import Delivery, Planned
from waypost.mail.content import MemoryContent
from waypost.mail.message import Client, Envelope, Message, Recipient
from waypost.mail.outcome import Answer, Attempt, Cause, Failure, Outcome, Phase, RecipientOutcome, Status
from waypost.routing.route import Backoff
from waypost.smtp.address import NULL, Address
from waypost.smtp.reply import reply
from waypost.store.sqlite import SqliteSpool

ANN = Recipient(Address("ann", "example.com"))
OK = reply(250, "2.0.0", "OK")
LATER = reply(451, "4.3.0", "later")
NEVER = reply(550, "5.1.1", "nobody here")
DOWN = Failure(Phase.CONNECT, Cause.UNREACHABLE, "connection refused")
FATES = {OK: Status.RELAYED, LATER: Status.DEFERRED, NEVER: Status.FAILED, DOWN: Status.DEFERRED}


class Stage:
    """A scheduler and everything around it; the record of what it did."""

    def __init__(self, spool: MemorySpool | SqliteSpool) -> None:
        self.clock = FakeClock()
        self.spool = spool
        self.answers: dict[str, Answer] = {}
        self.gates: dict[str, asyncio.Event] = {}
        """Targets that keep a delivery until the gate is open."""
        self.limits: dict[str, int | None] = {}
        self.backoffs: dict[str, Backoff | None] = {"migration": Backoff(jitter=0)}
        self.tried: list[tuple[str, str, float]] = []
        self.running: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.events: list[tuple[str, str]] = []
        self.scheduler = Scheduler(
            spool,
            self.deliver,
            target_limit=lambda target: self.limits.get(target, 20),
            backoff=self.backoffs.get,
            log=self,
            clock=self.clock,
            chance=lambda: 0.5,
        )
        spool.on_due = self.scheduler.wake

    async def deliver(self, delivery: Delivery) -> Outcome:
        target = delivery.target
        self.tried.append((target, delivery.message.id, self.clock.monotonic()))
        self.running[target] += 1
        self.most[target] = max(self.most[target], self.running[target])
        try:
            if target in self.gates:
                await self.gates[target].wait()
        finally:
            self.running[target] -= 1
        assert b"".join(delivery.message.content.chunks()) == b"Hello\r\n"
        answer = self.answers.get(target, OK)
        if isinstance(answer, Exception):
            raise answer
        recipients = delivery.message.envelope.recipients
        phase = answer.phase if isinstance(answer, Failure) else Phase.DOT
        return Outcome(
            tuple(RecipientOutcome(r, FATES[answer], answer, target) for r in recipients),
            (Attempt(target, phase, answer, "rule", 0.1),),
        )

    def copied(self, delivery: Delivery, outcome: Outcome) -> None:
        self.events.append(("copied", delivery.message.id))

    def deferred(self, delivery: Delivery, outcome: Outcome, at: float) -> None:
        self.events.append(("deferred", f"{delivery.message.id} by {at - self.clock.time():.0f}"))

    def dead(self, delivery: Delivery, recipients: tuple[Recipient, ...], reason: str) -> None:
        self.events.append(("dead", f"{delivery.message.id}: {reason}"))

    async def queue(self, *ids: str, to: tuple[str, ...] = ("new",), lifetime: float = 432_000) -> None:
        for id_ in ids:
            now = self.clock.time()
            message = Message(id_, now, Client("l", "::1", 1), Envelope(NULL, (ANN,)), MemoryContent(b"Hello\r\n"))
            await self.spool.prepare(message, [Planned(target, "migration", now + lifetime) for target in to])
            self.spool.commit(id_)

    async def calm(self) -> None:
        """Until every task that can go on has done so: the clock stands still, so this ends."""
        for _ in range(200):
            await asyncio.sleep(0)

    async def pass_time(self, seconds: float) -> None:
        """Lets time pass from timer to timer, with everything done at each."""
        end = self.clock.time() + seconds
        while (due := self.clock.next_timer) is not None and due <= end:
            self.clock.advance(max(0.0, due - self.clock.time()))
            await self.calm()
        self.clock.advance(end - self.clock.time())

    def times(self, target: str = "new") -> list[float]:
        return [at for tried, _, at in self.tried if tried == target]


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    made = Stage(MemorySpool())
    await made.scheduler.start()
    yield made
    for gate in made.gates.values():
        gate.set()
    await made.scheduler.stop(1)


async def test_what_is_committed_is_delivered_at_once(stage: Stage) -> None:
    await stage.queue("m1", to=("new", "archive"))
    await stage.calm()
    assert sorted(stage.tried) == [("archive", "m1", 0), ("new", "m1", 0)]
    assert stage.events == [("copied", "m1")] * 2
    assert await stage.spool.targets() == []
    assert stage.clock.next_timer is None, "nothing to do, nothing to wait for"


async def test_a_deferred_copy_follows_its_backoff(stage: Stage) -> None:
    stage.answers["new"] = LATER
    await stage.queue("m1")
    await stage.calm()
    await stage.pass_time(8000)
    assert stage.times() == [0, 60, 180, 480, 1080, 2280, 4080, 7680]
    stage.answers["new"] = OK
    await stage.pass_time(3600)
    assert stage.events[-1] == ("copied", "m1")
    assert await stage.spool.targets() == []


async def test_a_new_backoff_holds_from_the_next_attempt(stage: Stage) -> None:
    stage.answers["new"] = LATER
    await stage.queue("m1")
    await stage.calm()
    stage.backoffs["migration"] = Backoff((7,), jitter=0)
    await stage.pass_time(75)
    assert stage.times() == [0, 60, 67, 74]


async def test_a_refused_copy_is_a_dead_letter_and_not_tried_again_g20(stage: Stage) -> None:
    stage.answers["new"] = NEVER
    await stage.queue("m1")
    await stage.calm()
    await stage.pass_time(100_000)
    assert stage.times() == [0]
    assert stage.events == [("dead", "m1: new: 550 5.1.1 nobody here")]
    assert [letter.reason for letter in stage.spool.dead_letters] == ["new: 550 5.1.1 nobody here"]


async def test_a_copy_expires_with_its_last_answer(stage: Stage) -> None:
    stage.answers["new"] = LATER
    await stage.queue("m1", lifetime=200)
    await stage.calm()
    await stage.pass_time(1000)
    assert stage.times() == [0, 60, 180, 200]
    assert stage.events[-1] == ("dead", "m1: expired: new: 451 4.3.0 later")


@pytest.mark.parametrize("fault", ["hangs", "is down", "defers", "breaks"])
async def test_a_dead_target_delays_nobody_g7(stage: Stage, fault: str) -> None:
    if fault == "hangs":
        stage.gates["dead"] = asyncio.Event()
    stage.answers["dead"] = {"is down": DOWN, "defers": LATER, "breaks": RuntimeError("a defect")}.get(fault, OK)
    ids = [f"m{number}" for number in range(100)]
    for id_ in ids:
        await stage.queue(id_, to=("dead", "new"))
    await stage.calm()
    assert sorted(id_ for target, id_, at in stage.tried if target == "new") == sorted(ids)
    assert set(stage.times()) == {0}
    assert [(count.target, count.queued) for count in await stage.spool.targets()] == [("dead", 100)]


async def test_no_target_gets_more_than_its_limit(stage: Stage) -> None:
    stage.gates["new"] = asyncio.Event()
    stage.limits["new"] = 3
    await stage.queue(*(f"m{number}" for number in range(50)))
    await stage.calm()
    assert stage.running["new"] == 3
    stage.gates["new"].set()
    await stage.calm()
    assert stage.most["new"] == 3
    assert len(stage.tried) == 50


async def test_a_backlog_uses_every_connection(stage: Stage) -> None:
    stage.limits["new"] = None
    await stage.queue(*(f"m{number}" for number in range(3 * PREFETCH)))
    await stage.calm()
    assert stage.tried == []
    stage.gates["new"] = asyncio.Event()
    stage.limits["new"] = 10
    await stage.pass_time(HOLD)
    assert stage.running["new"] == 10


async def test_a_limit_that_shrinks_leaves_somebody_working(stage: Stage) -> None:
    stage.gates["new"] = asyncio.Event()
    await stage.queue(*(f"m{number}" for number in range(60)))
    await stage.calm()
    assert stage.running["new"] == 20
    stage.limits["new"] = 2
    stage.gates["new"].set()
    await stage.calm()
    assert len(stage.tried) == 60


async def test_a_backlog_is_not_burnt_on_a_target_that_is_down(stage: Stage) -> None:
    """One trial at a time, after growing pauses; then everything at once."""
    stage.answers["new"] = DOWN
    stage.limits["new"] = 5
    await stage.queue(*(f"m{number}" for number in range(40)))
    await stage.calm()
    assert len(stage.tried) <= 5
    await stage.pass_time(600)
    assert len(stage.tried) <= 25
    pauses = [b - a for a, b in zip(stage.times()[5:], stage.times()[6:], strict=False)]
    assert max(pauses) == 60
    assert stage.most["new"] <= 5
    stage.answers["new"] = OK
    stage.tried.clear()
    await stage.pass_time(60)
    untried = {f"m{number}" for number in range(40)}
    assert len({id_ for _, id_, _ in stage.tried}) >= len(untried) - 25
    await stage.pass_time(3600)
    assert await stage.spool.targets() == []


async def test_a_backlog_expires_while_its_target_is_down(stage: Stage) -> None:
    stage.answers["new"] = DOWN
    await stage.queue(*(f"m{number}" for number in range(200)), lifetime=100)
    await stage.calm()
    await stage.pass_time(4000)
    assert len(stage.spool.dead_letters) == 200
    assert len(stage.tried) < 60
    assert {letter.reason for letter in stage.spool.dead_letters} == {
        "expired: new: unreachable at connect: connection refused"
    }


async def test_mail_for_a_pool_that_is_gone_waits(stage: Stage) -> None:
    stage.limits["new"] = None
    await stage.queue("m1")
    await stage.calm()
    await stage.pass_time(10 * HOLD)
    assert stage.tried == []
    stage.limits["new"] = 20
    await stage.pass_time(HOLD)
    assert len(stage.tried) == 1


async def test_mail_of_a_route_that_is_gone_waits(stage: Stage) -> None:
    gone, stage.backoffs["migration"] = stage.backoffs["migration"], None
    await stage.queue("m1")
    await stage.calm()
    await stage.pass_time(10 * HOLD)
    assert stage.tried == []
    stage.backoffs["migration"] = gone
    stage.answers["new"] = LATER
    await stage.pass_time(HOLD)
    assert stage.events == [("deferred", "m1 by 60")], "what was not tried does not count"


async def test_a_defect_in_delivering_does_not_cost_the_message(stage: Stage) -> None:
    stage.answers["new"] = RuntimeError("a defect")
    await stage.queue("m1")
    await stage.calm()
    assert len(stage.tried) == 1
    stage.answers["new"] = OK
    await stage.pass_time(HOLD)
    assert stage.events == [("copied", "m1")]


async def test_nothing_is_sent_until_the_spool_can_be_written(stage: Stage) -> None:
    stage.limits["new"] = None
    await stage.queue("m1")
    stage.limits["new"] = 20
    stage.spool.broken = "disk full"
    stage.scheduler.wake("new")
    await stage.calm()
    assert stage.tried == []
    stage.spool.broken = None
    await stage.pass_time(HOLD)
    assert len(stage.tried) == 1


async def test_stop_lets_running_deliveries_end_and_begins_no_others(stage: Stage) -> None:
    stage.gates["new"] = asyncio.Event()
    stage.limits["new"] = 2
    await stage.queue(*(f"m{number}" for number in range(10)))
    await stage.calm()
    stopping = asyncio.ensure_future(stage.scheduler.stop(60))
    await stage.calm()
    assert not stopping.done()
    stage.gates["new"].set()
    await stopping
    assert len(stage.tried) == 2
    assert len(stage.events) == 2
    assert [count.queued for count in await stage.spool.targets()] == [8]


async def test_stop_cancels_what_takes_too_long_and_it_stays_queued(stage: Stage) -> None:
    stage.gates["new"] = asyncio.Event()
    await stage.queue("m1")
    await stage.calm()
    await stage.scheduler.stop(0)
    assert stage.running["new"] == 0
    assert stage.events == []
    assert [count.queued for count in await stage.spool.targets()] == [1]
    await stage.queue("m2")
    await stage.calm()
    assert len(stage.tried) == 1, "a stopped scheduler begins nothing"


async def test_a_restart_delivers_what_was_left_g7(tmp_path: Path) -> None:
    first = Stage(SqliteSpool(tmp_path / "spool"))
    await first.spool.open()
    await first.scheduler.start()
    first.gates["new"] = asyncio.Event()
    first.answers["archive"] = LATER
    await first.queue("m1", "m2", to=("new", "archive"))
    await wait_until(lambda: first.running["new"] == 2 and len(first.times("archive")) == 2)
    await first.scheduler.stop(0)
    await first.spool.close()

    second = Stage(SqliteSpool(tmp_path / "spool"))
    await second.spool.open()
    await second.scheduler.start()
    await wait_until(lambda: len(second.events) == 2)
    assert sorted(second.tried) == [("new", "m1", 0), ("new", "m2", 0)]
    second.clock.advance(60)
    await wait_until(lambda: len(second.events) == 4)
    assert sorted(second.tried)[:2] == [("archive", "m1", 60), ("archive", "m2", 60)]
    assert await second.spool.targets() == []
    await second.scheduler.stop(1)
    await second.spool.close()


async def wait_until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)
