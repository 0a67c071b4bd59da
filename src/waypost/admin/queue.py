"""What people do with the spool: look through it, count what stands in it, and act on many deliveries at once.

Everything goes in pages, so that a million deliveries neither sit in memory nor keep mail waiting.
"""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace

from waypost.admin.filters import Request, applies, narrowed
from waypost.clock import Clock
from waypost.delivery.spool import Action, Delivery, Entry, Filter, Instance, Spool, State, copy_lane, primary_lane
from waypost.routing.route import Pool, Route

PAGE = 400
"""Deliveries that are looked at, or changed in one transaction, at a time: two or three milliseconds of the loop's."""

SAMPLE = 1000
"""Deliveries of a lane, the oldest, whose last answers the summary of the whole spool counts."""

REASONS = 3
"""How many of the commonest last answers are named for each lane."""

_MAX_KINDS = 1000  # answers that are told apart while counting
_UNIQUE = re.compile(r"(?=[\w.+=@-]*\d)[\w.+=@-]{8,}")  # queue ids, addresses, times: what differs from mail to mail

Altered = Callable[[Action, Entry, str], None]
"""Told of everything that was done by hand: what, to which delivery as it was before, and by which user."""


@dataclass(frozen=True, slots=True)
class Touched:
    """A delivery that an action came to, and whether the action was done, or would be."""

    entry: Entry
    done: bool


@dataclass(slots=True)
class LaneSummary:
    """What stands in a lane. `reasons` counts last answers, of `sampled` deliveries that had one."""

    lane: str
    queued: int = 0
    held: int = 0
    dead: int = 0
    oldest: float | None = None  # of what is queued or held, seconds since the epoch
    sampled: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    def count(self, entry: Entry) -> None:
        """Adds a delivery."""
        if entry.state is State.DEAD:
            self.dead += 1
        else:
            self.held += entry.state is State.HELD
            self.queued += entry.state is not State.HELD
            self.oldest = entry.received_at if self.oldest is None else min(self.oldest, entry.received_at)
        self.sample(entry)

    def sample(self, entry: Entry) -> None:
        """Counts its last answer only."""
        if not entry.reason:
            return
        self.sampled += 1
        kind = _UNIQUE.sub("*", entry.reason)
        if kind in self.reasons or len(self.reasons) < _MAX_KINDS:
            self.reasons[kind] += 1


class Queue:
    """The spool as people handle it. Methods raise `SpoolError`.

    `lifetime` gives the seconds after which a delivery of a route, by its name, expires.
    """

    def __init__(self, spool: Spool, clock: Clock, lifetime: Callable[[str], float], altered: Altered) -> None:
        self._spool = spool
        self._clock = clock
        self._lifetime = lifetime
        self._altered = altered
        self._altering: set[asyncio.Task[set[int]]] = set()

    async def pages(self, request: Request) -> AsyncIterator[Sequence[Entry]]:
        """The deliveries that were there when this began, by their numbers."""
        if _is_empty(request.where):
            return
        began, after, left = self._clock.time(), request.after, request.limit
        while left is None or left > 0:
            wanted = PAGE if left is None else min(PAGE, left)
            page = await self._spool.find(request.where, after=after, limit=wanted)
            if not page:
                return
            yield page
            if len(page) < wanted and all(entry.received_at >= began for entry in page):
                return  # all that is found is new: mail that keeps coming in must not keep us for ever
            after = page[-1].id
            left = None if left is None else left - len(page)

    async def read(self, number: int) -> tuple[Entry, Delivery] | None:
        """One delivery, whose content the caller closes."""
        return await self._spool.read(number)

    async def instances(self) -> Sequence[Instance]:
        """Every Waypost that works on the spool, this one included."""
        return await self._spool.instances()

    async def act(
        self, action: Action, request: Request, by: str, *, dry_run: bool = False
    ) -> AsyncIterator[Sequence[Touched]]:
        """Does something to every delivery that matches, in pages; `dry_run` only says what it would come to."""
        async for page in self.pages(replace(request, where=narrowed(request.where, action))):
            able = [entry for entry in page if applies(action, entry.state)]
            done = {entry.id for entry in able} if dry_run else await self._alter(action, able, by)
            yield [Touched(entry, entry.id in done) for entry in page]

    async def summary(self, where: Filter) -> Sequence[LaneSummary]:
        """Every lane that has anything that matches, by name.

        When nothing but lanes is asked for, the store's own counts are used, and answers are those of a sample.
        """
        if replace(where, lanes=None) != Filter():
            found: dict[str, LaneSummary] = {}
            async for page in self.pages(Request(where)):
                for entry in page:
                    found.setdefault(entry.lane, LaneSummary(entry.lane)).count(entry)
            return [found[lane] for lane in sorted(found)]
        summaries = []
        for count in await self._spool.lanes():
            if where.lanes is None or count.lane in where.lanes:
                summary = LaneSummary(count.lane, count.queued, count.held, count.dead, count.oldest)
                async for page in self.pages(Request(Filter(lanes=frozenset({count.lane})), limit=SAMPLE)):
                    for entry in page:
                        summary.sample(entry)
                summaries.append(summary)
        return summaries

    async def close(self) -> None:
        """Waits for changes that have begun, so that they are told of."""
        await asyncio.gather(*self._altering, return_exceptions=True)

    async def _alter(self, action: Action, entries: Sequence[Entry], by: str) -> set[int]:
        """The numbers for which it was done. Whoever asked may go away: what was done is told of all the same."""
        task = asyncio.create_task(self._alter_and_tell(action, entries, by))
        self._altering.add(task)
        task.add_done_callback(self._altering.discard)
        return await asyncio.shield(task)

    async def _alter_and_tell(self, action: Action, entries: Sequence[Entry], by: str) -> set[int]:
        now = self._clock.time()
        by_expiry: dict[float, list[int]] = {}
        for entry in entries:
            by_expiry.setdefault(now + self._lifetime(entry.route), []).append(entry.id)
        done: set[int] = set()
        try:
            for expires_at, numbers in by_expiry.items():
                done.update(await self._spool.alter(numbers, action, now, expires_at))
        finally:
            for entry in entries:
                if entry.id in done:
                    self._altered(action, entry, by)
        return done


def lanes_of_upstream(pools: dict[str, Pool], routes: dict[str, Route], upstream: str) -> frozenset[str] | None:
    """The lanes whose mail may go to an upstream, as the configuration is now; None when there is no such upstream."""
    reached = {name for name, pool in pools.items() if any(each.upstream.name == upstream for each in pool.members)}
    if not reached:
        return None
    copies = {copy_lane(name) for name in reached}
    return frozenset(copies | {primary_lane(route.name) for route in routes.values() if route.primary.name in reached})


def _is_empty(where: Filter) -> bool:
    """Whether nothing can match, because the choices have nothing in common."""
    return any(chosen is not None and not chosen for chosen in (where.ids, where.lanes))
