"""A scheduler and everything around it: a clock that stands still, upstreams that do as they are told."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from waypost.clock import FakeClock
from waypost.delivery.memory_spool import MemorySpool
from waypost.delivery.notices import Notices
from waypost.delivery.scheduler import Scheduler
from waypost.delivery.spool import Delivery, Filter, Planned, State, copy_lane, primary_lane
from waypost.mail.content import MemoryContent
from waypost.mail.message import Client, Envelope, Message, Recipient
from waypost.mail.outcome import Answer, Attempt, Cause, Failure, Outcome, Phase, RecipientOutcome, Role, Status
from waypost.routing.route import Backoff, Copy, InDoubtPolicy, Member, Pool, Route, Upstream
from waypost.smtp.address import Address
from waypost.smtp.reply import reply

if TYPE_CHECKING:
    from waypost.store.sqlite import SqliteSpool

ANN, BOB, EVE = (Recipient(Address(name, "example.com")) for name in ("ann", "bob", "eve"))
SENDER = Address("sam", "example.org")
OK = reply(250, "2.0.0", "OK")
LATER = reply(451, "4.3.0", "later")
NEVER = reply(550, "5.1.1", "nobody here")
DOWN = Failure(Phase.CONNECT, Cause.UNREACHABLE, "connection refused")
BUSY = Failure(Phase.CONNECT, Cause.BUSY, "20 connections")
SILENT = Failure(Phase.DOT, Cause.TIMEOUT, "no answer within 600 s")
FATES = {
    OK: Status.RELAYED,
    LATER: Status.DEFERRED,
    NEVER: Status.FAILED,
    DOWN: Status.DEFERRED,
    BUSY: Status.DEFERRED,
    SILENT: Status.IN_DOUBT,
}


def pool_of(name: str, limit: int = 20, **upstream: float) -> Pool:
    return Pool(name, (Member(Upstream(name, "localhost", 25, max_connections=limit, **upstream)),))  # type: ignore[arg-type]


def message_of(id_: str, received_at: float, *recipients: Recipient) -> Message:
    envelope = Envelope(SENDER, recipients or (ANN,))
    return Message(id_, received_at, Client("l", "::1", 1), envelope, MemoryContent(b"Hello\r\n"))


def outcome_of(recipients: Sequence[Recipient], answer: Answer, upstream: str) -> Outcome:
    phase = answer.phase if isinstance(answer, Failure) else Phase.DOT
    return Outcome(
        tuple(RecipientOutcome(r, FATES[answer], answer, upstream) for r in recipients),
        (Attempt(upstream, phase, answer, "rule", 0.1),),
    )


@dataclass
class FakeNotifier:
    """Remembers what it is asked; `notices` are returned when something fails."""

    asked: list[tuple[str, str, tuple[Recipient, ...]]] = field(default_factory=list)
    silent: bool = False
    broken: bool = False

    def failed(
        self, delivery: Delivery, outcomes: Sequence[RecipientOutcome], now: float
    ) -> tuple[Notices, tuple[Recipient, ...]]:
        recipients = tuple(each.recipient for each in outcomes)
        self._note("failed", delivery, recipients)
        return ((), recipients) if self.silent else (self._notices("dsn", now), ())

    def delayed(self, delivery: Delivery, outcomes: Sequence[RecipientOutcome], now: float) -> Notices:
        self._note("delayed", delivery, tuple(each.recipient for each in outcomes))
        return self._notices("delay", now)

    def relayed(
        self, delivery: Delivery, outcomes: Sequence[RecipientOutcome], attempt: Attempt, now: float
    ) -> Notices:
        self._note("relayed", delivery, tuple(each.recipient for each in outcomes))
        return ()

    def _note(self, what: str, delivery: Delivery, recipients: tuple[Recipient, ...]) -> None:
        if self.broken:
            raise RuntimeError("a defect of the notifier")
        assert b"".join(delivery.message.content.chunks()) == b"Hello\r\n", "the content is open while it is asked"
        self.asked.append((what, delivery.message.id, recipients))

    def _notices(self, id_: str, now: float) -> Notices:
        return ((message_of(id_, now, BOB), Planned(primary_lane("notices"), "notices", now + 432_000)),)


class Stage:
    """The scheduler, and the record of what it did."""

    def __init__(self, spool: "MemorySpool | SqliteSpool") -> None:
        self.clock = FakeClock()
        self.spool = spool
        self.answers: dict[str, Answer | Exception] = {}
        self.gates: dict[str, asyncio.Event] = {}
        """Pools that keep a delivery until the gate is open."""
        self.pools: dict[str, Pool | None] = {}
        """Others than these have one upstream that takes 20 at once."""
        self.routes: dict[str, Route | None] = {}
        self.set_route("migration")
        self.set_route("notices")
        self.pauses: dict[str, float] = {}
        self.policies: list[InDoubtPolicy] = []
        self.sleeping: set[str] = set()
        self.announces = False
        """Whether intents are recorded, for all that is claimed."""
        self.notifier = FakeNotifier()
        self.tried: list[tuple[str, str, float]] = []
        self.running: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.events: list[tuple[str, str]] = []
        self.scheduler = Scheduler(
            spool,
            self,
            pool=self.pool,
            route=self.routes.get,
            notifier=self.notifier,
            log=self,
            clock=self.clock,
            chance=lambda: 0.5,
        )
        spool.on_due = self.scheduler.wake

    def pool(self, name: str) -> Pool | None:
        return self.pools[name] if name in self.pools else pool_of(name)

    def limit(self, name: str, limit: int) -> None:
        self.pools[name] = pool_of(name, limit)

    def set_route(self, name: str, *copies: str, **more: object) -> None:
        route = Route(name, pool_of("old"), tuple(Copy(pool_of(copy)) for copy in copies), backoff=Backoff(jitter=0))
        self.routes[name] = replace(route, **more)  # type: ignore[arg-type]

    # -- attempts

    def pause(self, pool: Pool) -> float:
        return max(0.0, self.pauses.get(pool.name, 0) - self.clock.monotonic())

    def sleeps(self, pool: Pool) -> bool:
        return pool.name in self.sleeping

    async def announce(self, deliveries: Sequence[Delivery], pool: Pool) -> None:
        if self.announces:
            for delivery in deliveries:
                await self.spool.intend(delivery, pool.name)

    def settled(self, delivery: Delivery) -> None:
        pass

    async def deliver(self, delivery: Delivery, pool: Pool, policy: InDoubtPolicy) -> Outcome:
        name = pool.name
        self.tried.append((name, delivery.message.id, self.clock.monotonic()))
        self.policies.append(policy)
        self.running[name] += 1
        self.most[name] = max(self.most[name], self.running[name])
        try:
            if name in self.gates:
                await self.gates[name].wait()
        finally:
            self.running[name] -= 1
        assert b"".join(delivery.message.content.chunks()) == b"Hello\r\n"
        answer = self.answers.get(name, OK)
        if isinstance(answer, Exception):
            raise answer
        return outcome_of(delivery.message.envelope.recipients, answer, name)

    # -- the log

    def attempted(self, message_id: str, attempt: Attempt, role: Role) -> None:
        raise AssertionError("attempts are told of by whoever makes them")

    async def recorded(self) -> None:
        pass

    def in_doubt(self, delivery: Delivery, attempt: Attempt) -> None:
        self.events.append(("in doubt", f"{delivery.message.id} at {attempt.upstream}: {attempt.answer}"))

    def relayed(self, delivery: Delivery, recipients: Sequence[Recipient], attempt: Attempt) -> None:
        self.events.append(("copied" if delivery.role is Role.COPY else "relayed", delivery.message.id))

    def deferred(self, delivery: Delivery, waiting: Sequence[RecipientOutcome], at: float) -> None:
        self.events.append(("deferred", f"{delivery.message.id} by {at - self.clock.time():.0f}"))

    def failed(self, delivery: Delivery, failed: Sequence[RecipientOutcome]) -> None:
        self.events.append(("failed", delivery.message.id))

    def dead(self, delivery: Delivery, recipients: Sequence[Recipient], reason: str) -> None:
        self.events.append(("dead", f"{delivery.message.id}: {reason}"))

    # -- what tests do

    async def queue(self, *ids: str, to: tuple[str, ...] = ("new",), lifetime: float = 432_000) -> None:
        """Copies for these pools."""
        for id_ in ids:
            now = self.clock.time()
            planned = [Planned(copy_lane(pool), "migration", now + lifetime) for pool in to]
            await self.spool.prepare(message_of(id_, now), planned)
            self.spool.commit(id_)

    async def accept(
        self, *ids: str, lifetime: float = 432_000, to: Sequence[Recipient] = (ANN,), doubt: str | None = None
    ) -> None:
        """Messages that are ours: each with a primary delivery by the route `migration`."""
        for id_ in ids:
            now = self.clock.time()
            planned = Planned(primary_lane("migration"), "migration", now + lifetime, doubt=doubt)
            await self.spool.accept(message_of(id_, now, *to), [planned])

    async def begin(self, id_: str, doubt: str | None = None) -> Delivery:
        """A message that is ours, whose first attempt is under way elsewhere."""
        now = self.clock.time()
        planned = Planned(primary_lane("migration"), "migration", now + 432_000, running=True, doubt=doubt)
        [delivery] = await self.spool.accept(message_of(id_, now), [planned])
        return delivery

    async def queued(self) -> dict[str, int]:
        """How many wait or run, by lane."""
        return {count.lane: count.queued for count in await self.spool.lanes() if count.queued}

    async def reasons(self, state: State = State.DEAD) -> list[str]:
        entries = await self.spool.find(Filter(states=frozenset({state})), limit=1000)
        return [entry.reason for entry in entries]

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

    def times(self, pool: str = "new") -> list[float]:
        return [at for tried, _, at in self.tried if tried == pool]


async def wait_until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)
