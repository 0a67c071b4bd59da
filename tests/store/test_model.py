"""Spools against a model of what is owed, through any sequence of calls, restarts and crashes."""

import asyncio
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import asyncpg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store.implementations import MemoryStore, PostgresStore, SqliteStore, Store
from store.messages import ANN, APPS, ARCHIVE, BOB, EXPIRES_AT, NEW, RECEIVED_AT, make_message, plan
from waypost.delivery.spool import Delivery, Entry, Filter, Planned, Settlement, Spool, State
from waypost.mail.message import Recipient

NOTICES = "primary:notices"
LANES = (APPS, NEW, ARCHIVE, NOTICES)
SIZES = (10, 3000, 70_000)

planned = st.lists(
    st.builds(
        plan,
        st.sampled_from(LANES[:3]),
        recipients=st.sampled_from([None, (ANN,), (BOB,)]),
        doubt=st.sampled_from([None, None, "ses"]),
        running=st.booleans(),
    ),
    min_size=1,
    max_size=3,
)
which = st.integers(0, 20)
actions = st.one_of(
    st.tuples(st.just("accept"), st.sampled_from(SIZES), planned),
    st.tuples(st.just("prepare"), st.sampled_from(SIZES), planned),
    st.tuples(st.just("commit"), which),
    st.tuples(st.just("commit_as"), which, planned),
    st.tuples(st.just("abort"), which),
    st.tuples(st.just("claim"), st.sampled_from(LANES), st.integers(1, 4)),
    st.tuples(st.just("claim"), st.sampled_from(LANES), st.integers(1, 4)),
    st.tuples(st.just("intend"), which, st.sampled_from(["ses", "gmail"])),
    st.tuples(
        st.just("settle"),
        which,
        st.sampled_from(["done", "again", "doubt", "dead", "both"]),
        st.sampled_from([(), (plan(NEW, recipients=(ANN,)),), (plan(NEW), plan(ARCHIVE, recipients=(BOB,)))]),
        st.integers(0, 2),
    ),
    st.tuples(st.just("alter"), which, st.sampled_from(["retry", "hold", "release", "delete"])),
    st.tuples(st.just("purge")),
    st.tuples(st.just("wait"), st.sampled_from([1, 30, 100])),
    st.tuples(st.just("flush")),
    st.tuples(st.just("restart")),
    st.tuples(st.just("crash")),
)


@dataclass(eq=False)
class Owed:
    """One delivery."""

    message: str
    lane: str
    recipients: tuple[Recipient, ...]
    at: float
    doubt: str | None = None
    state: State = State.QUEUED
    attempts: int = 0
    warned: bool = False
    intent: str | None = None
    died_at: float = 0

    def looks(self) -> tuple[object, ...]:
        """What people see of it."""
        addresses = tuple(str(recipient.address) for recipient in self.recipients)
        return (self.message, self.lane, addresses, self.doubt, self.state, self.attempts)

    def is_delivery(self, delivery: Delivery) -> bool:
        """Whether it was given out as this."""
        return (self.message, self.lane, self.recipients, self.doubt, self.attempts, self.warned) == (
            delivery.message.id,
            delivery.lane,
            delivery.message.envelope.recipients,
            delivery.doubt,
            delivery.attempts,
            delivery.warned,
        )


def looks(entry: Entry) -> tuple[object, ...]:
    return (entry.message_id, entry.lane, entry.recipients, entry.doubt, entry.state, entry.attempts)


@dataclass
class Model:
    """What should be there."""

    prepared: dict[str, list[Planned]] = field(default_factory=dict)
    owed: list[Owed] = field(default_factory=list)
    running: list[tuple[Delivery, Owed]] = field(default_factory=list)

    def add(self, message: str, plans: Sequence[Planned], deliveries: Sequence[Delivery] = ()) -> None:
        """All of `plans` are due; `deliveries` are those that run already."""
        left = list(deliveries)
        for each in plans:
            owed = Owed(message, each.lane, each.recipients or (ANN, BOB), 0, each.doubt)
            self.owed.append(owed)
            if each.running:
                self.run(left.pop(0), owed)
        assert not left

    def run(self, delivery: Delivery, owed: Owed) -> None:
        """It was claimed."""
        assert owed.is_delivery(delivery)
        owed.state = State.RUNNING
        self.running.append((delivery, owed))

    def due(self, lane: str, now: float) -> list[Owed]:
        return [o for o in self.owed if o.lane == lane and o.state is State.QUEUED and o.at <= now]

    def die(self) -> None:
        """The process has died."""
        self.running.clear()
        for owed in self.owed:
            if owed.state is State.RUNNING:
                owed.state, owed.doubt, owed.intent = State.QUEUED, owed.intent or owed.doubt, None

    def counts(self) -> dict[str, tuple[int, int, int]]:
        counts = {}
        for lane in LANES:
            of = Counter(o.state for o in self.owed if o.lane == lane)
            if of:
                counts[lane] = (of[State.QUEUED] + of[State.RUNNING], of[State.HELD], of[State.DEAD])
        return counts


@contextmanager
def small_bounds() -> Iterator[None]:
    """Bounds that are passed after a few messages."""
    with (
        mock.patch("waypost.store.fresh.FRESH", 3),
        mock.patch("waypost.store.fresh.HELD_OCTETS", 12_000),
        mock.patch("waypost.store.entries.LOOKED_AT", 4),
        mock.patch("waypost.store.by_hand._ALTERED_AT_ONCE", 2),
    ):
        yield


@pytest.mark.parametrize("kind", [SqliteStore, MemoryStore, PostgresStore])
def test_any_sequence_of_calls_keeps_what_is_owed(kind: Callable[[Any], Store]) -> None:
    @settings(max_examples=25 if kind is PostgresStore else 60, deadline=None)
    @given(st.lists(actions, max_size=60))
    def run_all(steps: list[tuple[Any, ...]]) -> None:
        with tempfile.TemporaryDirectory() as folder, small_bounds():
            store = kind(SimpleNamespace(getfixturevalue=lambda name: Path(folder)))
            asyncio.run(run(store, steps))

    run_all()


async def run(store: Store, steps: list[tuple[Any, ...]]) -> None:
    model = Model()
    spool = await store.start()
    for number, (action, *arguments) in enumerate(steps):
        if action in ("restart", "crash"):
            if action == "restart":
                await store.end()
            else:
                await spool.check()
            await store.kill()
            model.die()
            spool = await store.start()
            assert {p.message.id: list(p.planned) for p in await spool.orphans()} == model.prepared
        elif action == "wait":
            store.now += arguments[0]
        else:
            await ACTIONS[action](spool, model, f"m{number}", store.now, *arguments)
        assert {c.lane: (c.queued, c.held, c.dead) for c in await spool.lanes()} == model.counts()
        assert Counter(map(looks, await find_all(spool))) == Counter(owed.looks() for owed in model.owed)
    await finish(store, spool, model)


async def find_all(spool: Spool) -> list[Entry]:
    found: list[Entry] = []
    while page := await spool.find(Filter(), after=found[-1].id if found else 0, limit=7):
        found += page
    return found


def new_message(id_: str, size: int) -> Any:
    return make_message(id_, b"x" * size, recipients=(ANN, BOB), received_at=RECEIVED_AT + int(id_[1:]) % 60)


async def accept(spool: Spool, model: Model, id_: str, now: float, size: int, plans: list[Planned]) -> None:
    model.add(id_, plans, await spool.accept(new_message(id_, size), plans))


async def prepare(spool: Spool, model: Model, id_: str, now: float, size: int, plans: list[Planned]) -> None:
    plans = [replace(each, running=False) for each in plans]
    await spool.prepare(new_message(id_, size), plans)
    model.prepared[id_] = plans


def chosen(model: Model, index: int) -> str:
    return sorted(model.prepared)[index % len(model.prepared)]


async def commit(spool: Spool, model: Model, id_: str, now: float, index: int) -> None:
    if model.prepared:
        id_ = chosen(model, index)
        spool.commit(id_)
        model.add(id_, model.prepared.pop(id_))


async def commit_as(spool: Spool, model: Model, id_: str, now: float, index: int, plans: list[Planned]) -> None:
    if model.prepared:
        id_ = chosen(model, index)
        del model.prepared[id_]
        model.add(id_, plans, await spool.commit_as(id_, plans))


async def abort(spool: Spool, model: Model, id_: str, now: float, index: int) -> None:
    if model.prepared:
        id_ = chosen(model, index)
        del model.prepared[id_]
        await spool.abort(id_)


async def claim(spool: Spool, model: Model, id_: str, now: float, lane: str, limit: int) -> None:
    due = model.due(lane, now)
    claimed = await spool.claim(lane, now, limit)
    assert bool(claimed) == bool(due)
    assert len(claimed) <= limit
    for delivery in claimed:
        owed = next(o for o in due if o.state is State.QUEUED and o.is_delivery(delivery))
        model.run(delivery, owed)


async def intend(spool: Spool, model: Model, id_: str, now: float, index: int, upstream: str) -> None:
    if model.running:
        delivery, owed = model.running[index % len(model.running)]
        await spool.intend(delivery, upstream)
        owed.intent = upstream


async def settle(
    spool: Spool, model: Model, id_: str, now: float, index: int, fate: str, copies: tuple[Planned, ...], notices: int
) -> None:
    if not model.running:
        return
    delivery, owed = model.running.pop(index % len(model.running))
    again = owed.recipients[:1] if fate in ("again", "doubt", "both") else ()
    dead = owed.recipients[-1:] if fate in ("dead", "both") else ()
    doubt = "ses" if fate == "doubt" else None
    posted = tuple((new_message(f"{id_}{n}", 20), plan(NOTICES)) for n in range(notices))
    spool.settle(
        Settlement(
            delivery,
            again,
            now + 50,
            doubt,
            warned=fate == "doubt",
            dead=dead,
            reason="why",
            copies=copies,
            notices=posted,
        )
    )
    model.owed.remove(owed)
    attempts = owed.attempts + 1
    if again:
        warned = owed.warned or fate == "doubt"
        model.owed.append(
            replace(
                owed,
                recipients=again,
                at=now + 50,
                doubt=doubt,
                state=State.QUEUED,
                attempts=attempts,
                warned=warned,
                intent=None,
            )
        )
    if dead:
        model.owed.append(Owed(owed.message, owed.lane, dead, 0, None, State.DEAD, attempts, owed.warned, died_at=now))
    model.add(owed.message, copies)
    for message, each in posted:
        model.add(message.id, [each])


async def alter(spool: Spool, model: Model, id_: str, now: float, index: int, action: Any) -> None:
    """Does something to every third delivery."""
    every = [entry for place, entry in enumerate(await find_all(spool)) if (place + index) % 3 == 0]
    allowed = {
        "retry": (State.QUEUED, State.HELD, State.DEAD),
        "hold": (State.QUEUED,),
        "release": (State.HELD,),
        "delete": (State.QUEUED, State.HELD, State.DEAD),
    }[action]
    expected = [entry for entry in every if entry.state in allowed]
    altered = await spool.alter([entry.id for entry in every], action, now, EXPIRES_AT)
    assert sorted(altered) == sorted(entry.id for entry in expected)
    for entry in expected:
        # Of deliveries that look the same, one that is due at the same time.
        owed = min(
            (o for o in model.owed if o.looks() == looks(entry)),
            key=lambda o: abs(max(o.at, entry.received_at) - (entry.next_at or 0)),
        )
        if action == "delete":
            model.owed.remove(owed)
        else:
            owed.state, owed.at = (State.HELD, 0) if action == "hold" else (State.QUEUED, now)


async def purge(spool: Spool, model: Model, id_: str, now: float) -> None:
    old = [o for o in model.owed if o.state is State.DEAD and o.died_at < now - 10]
    assert await spool.purge(now - 10) == len(old)
    for owed in old:
        model.owed.remove(owed)


async def flush(spool: Spool, model: Model, id_: str, now: float) -> None:
    await spool.check()


ACTIONS: dict[str, Any] = {
    "accept": accept,
    "prepare": prepare,
    "commit": commit,
    "commit_as": commit_as,
    "abort": abort,
    "claim": claim,
    "intend": intend,
    "settle": settle,
    "alter": alter,
    "purge": purge,
    "flush": flush,
}


async def finish(store: Store, spool: Spool, model: Model) -> None:
    """Everything that is owed is delivered; nothing is left but what held, dead and prepared messages need."""
    for delivery, owed in model.running:
        spool.settle(Settlement(delivery))
        model.owed.remove(owed)
    store.now += 1000
    for lane in LANES:
        expected = [owed.message for owed in model.due(lane, store.now)]
        seen: list[str] = []
        while claimed := await spool.claim(lane, store.now, 5):
            for delivery in claimed:
                seen.append(delivery.message.id)
                spool.settle(Settlement(delivery))
        assert sorted(seen) == sorted(expected)
    kept = {owed.message for owed in model.owed if owed.state in (State.HELD, State.DEAD)}
    await store.end()
    await store.kill()
    again = await store.start()
    assert {p.message.id for p in await again.orphans()} == model.prepared.keys()
    assert {entry.message_id for entry in await find_all(again)} == kept
    if isinstance(store, SqliteStore):
        rows = await again._writer.read(lambda db: db.query("SELECT id, file_size IS NOT NULL FROM message"))
        assert {id_ for id_, _ in rows} == model.prepared.keys() | kept
        assert len(list((store.path / "content").iterdir())) == sum(has_file for _, has_file in rows)
        for table in ("intent", "whole"):
            (count,) = (await again._writer.read(lambda db, of=table: db.query(f"SELECT count(*) FROM {of}")))[0]
            assert count == (len(model.prepared) if table == "whole" else 0)
    if isinstance(store, PostgresStore):
        assert set(await column(store, "SELECT id FROM waypost.message")) == model.prepared.keys() | kept
        assert await column(store, "SELECT message FROM waypost.upload") == []
        chunked = "SELECT key FROM waypost.message WHERE content IS NULL ORDER BY key"
        chunks = "SELECT DISTINCT message FROM waypost.chunk ORDER BY message"
        assert await column(store, chunks) == await column(store, chunked)
    await store.end()


async def column(store: PostgresStore, sql: str) -> list[Any]:
    """What the database says, one value a row."""
    connection = await asyncpg.connect(store.url)
    try:
        return [row[0] for row in await connection.fetch(sql)]
    finally:
        await connection.close()
