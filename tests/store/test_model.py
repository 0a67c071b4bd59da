"""The durable spool against a model of what is owed, through any sequence of calls and restarts."""

import asyncio
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st

from store.messages import ANN, BOB, NOW, RECEIVED_AT, make_message, plans
from waypost.delivery.spool import Delivery, Settlement
from waypost.mail.message import Recipient
from waypost.store.sqlite import SqliteSpool

TARGETS = ("new", "archive", "third")
SIZES = (10, 3000, 70_000)

actions = st.one_of(
    st.tuples(st.just("prepare"), st.sampled_from(SIZES), st.integers(1, 3)),
    st.tuples(st.just("commit"), st.integers(0, 20)),
    st.tuples(st.just("abort"), st.integers(0, 20)),
    st.tuples(st.just("claim"), st.sampled_from(TARGETS), st.integers(1, 4)),
    st.tuples(st.just("settle"), st.integers(0, 20), st.sampled_from(["done", "again", "dead", "both"])),
    st.tuples(st.just("wait"), st.sampled_from([1, 30, 100])),
    st.tuples(st.just("flush")),
    st.tuples(st.just("restart")),
)


@dataclass
class Model:
    """What is owed: recipients and due time by message and target."""

    now: float = NOW
    prepared: dict[str, tuple[str, ...]] = field(default_factory=dict)
    owed: dict[tuple[str, str], tuple[tuple[Recipient, ...], float]] = field(default_factory=dict)
    in_flight: list[Delivery] = field(default_factory=list)
    dead: int = 0
    kept: set[str] = field(default_factory=set)

    def queued(self, target: str) -> int:
        return sum(of == target for _, of in self.owed)

    def due(self, target: str) -> set[str]:
        flying = {(d.message.id, d.lane) for d in self.in_flight}
        return {
            id_
            for (id_, of), (_, at) in self.owed.items()
            if of == target and at <= self.now and (id_, of) not in flying
        }


@contextmanager
def small_memory() -> Iterator[None]:
    """Bounds that are passed after a few messages."""
    with mock.patch("waypost.store.fresh.FRESH", 3), mock.patch("waypost.store.fresh.HELD_OCTETS", 12_000):
        yield


@settings(max_examples=60, deadline=None)
@given(st.lists(actions, max_size=60))
def test_any_sequence_of_calls_keeps_what_is_owed(steps: list[tuple[Any, ...]]) -> None:
    with tempfile.TemporaryDirectory() as folder, small_memory():
        asyncio.run(run(Path(folder) / "spool", steps))


async def run(path: Path, steps: list[tuple[Any, ...]]) -> None:
    model = Model()
    spool = SqliteSpool(path, now=lambda: model.now)
    await spool.open()
    for number, (action, *arguments) in enumerate(steps):
        if action == "restart":
            await spool.close()
            spool = SqliteSpool(path, now=lambda: model.now)
            await spool.open()
            left = await spool.orphans()
            assert {p.message.id for p in left} == model.prepared.keys()
            model.in_flight.clear()
        else:
            await act(spool, model, number, action, arguments)
        counts = {count.lane: (count.queued, count.dead) for count in await spool.lanes()}
        assert {target: queued for target, (queued, _) in counts.items() if queued} == {
            target: model.queued(target) for target in TARGETS if model.queued(target)
        }
        assert sum(dead for _, dead in counts.values()) == model.dead
    await finish(spool, model)


async def act(spool: SqliteSpool, model: Model, number: int, action: str, arguments: list[Any]) -> None:
    if action == "prepare":
        size, copies = arguments
        id_, targets = f"m{number}", TARGETS[:copies]
        message = make_message(id_, b"x" * size, recipients=(ANN, BOB), received_at=RECEIVED_AT + number)
        await spool.prepare(message, plans(*targets))
        model.prepared[id_] = targets
    elif action in ("commit", "abort") and model.prepared:
        id_ = sorted(model.prepared)[arguments[0] % len(model.prepared)]
        targets = model.prepared.pop(id_)
        if action == "abort":
            await spool.abort(id_)
        else:
            spool.commit(id_)
            model.owed |= {(id_, target): ((ANN, BOB), 0.0) for target in targets}
    elif action == "claim":
        target, limit = arguments
        due = model.due(target)
        claimed = await spool.claim(target, model.now, limit)
        assert {d.message.id for d in claimed} <= due
        assert bool(claimed) == bool(due)
        for delivery in claimed:
            assert delivery.message.envelope.recipients == model.owed[delivery.message.id, target][0]
        model.in_flight += claimed
    elif action == "settle" and model.in_flight:
        at, fate = arguments
        settle(spool, model, model.in_flight.pop(at % len(model.in_flight)), fate)
    elif action == "wait":
        model.now += arguments[0]
    elif action == "flush":
        await spool.check()


def settle(spool: SqliteSpool, model: Model, delivery: Delivery, fate: str) -> None:
    owed = (delivery.message.id, delivery.lane)
    recipients, _ = model.owed.pop(owed)
    again = recipients[:1] if fate in ("again", "both") else ()
    dead = recipients[-1:] if fate in ("dead", "both") else ()
    spool.settle(Settlement(delivery, again, model.now + 50, dead, "why"))
    if again:
        model.owed[owed] = (again, model.now + 50)
    if dead:
        model.dead += 1
        model.kept.add(delivery.message.id)


async def finish(spool: SqliteSpool, model: Model) -> None:
    """Everything that is owed is delivered; nothing is left but what dead letters and prepared messages need."""
    for delivery in model.in_flight:
        spool.settle(Settlement(delivery))
        del model.owed[delivery.message.id, delivery.lane]
    model.in_flight.clear()
    model.now += 1000
    for target in TARGETS:
        expected = model.due(target)
        seen: list[str] = []
        while claimed := await spool.claim(target, model.now, 5):
            for delivery in claimed:
                seen.append(delivery.message.id)
                spool.settle(Settlement(delivery))
        assert sorted(seen) == sorted(expected)
    await spool.close()
    again = SqliteSpool(spool.incoming.parent)
    await again.open()
    left = await again.orphans()
    assert {p.message.id for p in left} == model.prepared.keys()
    rows = await again._writer.read(lambda database: database.query("SELECT id, file_size IS NOT NULL FROM message"))
    assert {id_ for id_, _ in rows} == model.prepared.keys() | model.kept
    assert len(list((again.incoming.parent / "content").iterdir())) == sum(has_file for _, has_file in rows)
    await again.close()
