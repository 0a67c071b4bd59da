"""One lane: the deliveries of one route to its primary, or the copies for one pool.

A lane has as many workers as its upstreams may have deliveries at once. A worker claims, delivers and settles; when
nothing is due there is no task, only a timer. So a lane that is dead or slow keeps nobody waiting but itself, and a
million queued messages cost no tasks.

A lane whose upstreams cannot be spoken to, or are all asleep, is tried with one delivery at a time, after growing
pauses, until one gets through: its backlog keeps its place instead of failing message by message. Then it gets two at
a time, four, and so on.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, cast

import structlog

from waypost.clock import Clock
from waypost.delivery.alarm import Alarm
from waypost.delivery.settling import Follower
from waypost.delivery.spool import Delivery, Settlement, Spool, SpoolError, read_lane
from waypost.delivery.trials import Trials
from waypost.delivery.verdict import BUSY_PAUSE, FAULT_PAUSE, Verdict, expired, judge, postponed, said
from waypost.mail.outcome import Attempt, Cause, Failure, Outcome, Phase, RecipientOutcome, Role, Status
from waypost.routing.route import Backoff, InDoubtPolicy, Pool, Route

PREFETCH = 20
"""Deliveries that are claimed at once, or more where many connections are: a claim may have to wait for the disk."""

LONGEST_WAIT = 86400.0
"""Seconds beyond which no delivery waits for its next attempt, unless intervals are configured to be longer."""

LONG_REST = 60
"""Seconds of rest for which nothing that was claimed is kept."""

SPOOL_PAUSE = 1
"""Seconds after which a spool that could not be read is asked again."""

_RESTARTED = Failure(Phase.DOT, Cause.LOCAL, "no outcome was recorded before the restart")
_NO_ATTEMPT = Outcome((), ())

_log = structlog.get_logger(__name__)


class Attempts(Protocol):
    """Whoever makes attempts: `waypost.delivery.transfer`."""

    def pause(self, pool: Pool) -> float:
        """Seconds until an upstream of the pool may be given another message."""

    def sleeps(self, pool: Pool) -> bool:
        """Whether all upstreams of the pool have said that they take nothing for a while."""

    async def announce(self, deliveries: Sequence[Delivery], pool: Pool) -> None:
        """These copies will be delivered to this pool: whatever can be recorded for all of them at once."""

    def settled(self, delivery: Delivery) -> None:
        """The outcome of a delivery is recorded."""

    async def deliver(self, delivery: Delivery, pool: Pool, policy: InDoubtPolicy) -> Outcome:
        """Makes one attempt; what became of each recipient."""


@dataclass(frozen=True, slots=True)
class Workplace:
    """What all lanes work with. `pool` and `route` are asked each time, by name: a reload may change the answer."""

    spool: Spool
    attempts: Attempts
    follower: Follower
    pool: Callable[[str], Pool | None]
    route: Callable[[str], Route | None]
    clock: Clock
    chance: Callable[[], float]
    doubts: set[int] = field(default_factory=set)
    """Deliveries that are in doubt, and of which that was said."""
    missing: set[tuple[str, str]] = field(default_factory=set)
    """Routes and pools that are not configured any more, and of which that was said."""

    def say_doubt(self, delivery: Delivery, upstream: str) -> None:
        """Says once that a delivery is in doubt whose attempt ended with the process that made it."""
        if delivery.id not in self.doubts:
            self.doubts.add(delivery.id)
            self.follower.log.in_doubt(delivery, Attempt(upstream, Phase.DOT, _RESTARTED, "in-doubt", 0.0))

    def say_missing(self, kind: str, name: str) -> None:
        """Says once that mail waits for something that is not configured any more."""
        if (kind, name) not in self.missing:
            self.missing.add((kind, name))
            _log.warning(f"queued mail waits: its {kind} is not configured any more", **{kind: name})

    def record(self, settlement: Settlement) -> None:
        """Settles a delivery, and lets go of its content."""
        delivery = settlement.delivery
        self.spool.settle(settlement)
        self.attempts.settled(delivery)
        delivery.message.content.close()
        if settlement.doubt is not None:
            self.doubts.add(delivery.id)
        elif delivery.doubt is not None:
            self.doubts.discard(delivery.id)


@dataclass(frozen=True, slots=True)
class _Bounds:
    """What follows for a lane from its pool: deliveries at once, in one claim; whether somebody has a rate or quota."""

    limit: int
    batch: int
    is_paced: bool


def _bounds_of(pool: Pool) -> _Bounds:
    upstreams = [member.upstream for member in pool.members]
    limits = [max(1, upstream.max_connections) for upstream in upstreams]
    limit = max(limits) if pool.strategy == "ordered" and pool.plugin is None else sum(limits)
    batch = max(PREFETCH, 4 * limit)  # with less the lane waits for the disk between claims
    rates = [upstream.rate for upstream in upstreams if upstream.rate is not None]
    if len(rates) == len(upstreams):  # one second's worth: what is claimed should not have to wait for long
        batch = max(1, min(batch, int(sum(rates))))
    return _Bounds(limit, batch, bool(rates) or any(upstream.quotas for upstream in upstreams))


class Lane:
    """The deliveries of one lane."""

    def __init__(self, name: str, workplace: Workplace) -> None:
        self._name = name
        self._role, self._owner = read_lane(name)  # the route's name, or the pool's
        self._is_copy = self._role is Role.COPY
        self._place = workplace
        self._clock = workplace.clock
        self._spool = workplace.spool
        self._workers: set[asyncio.Task[None]] = set()
        self._adopted: set[asyncio.Task[None]] = set()
        self._claimed: deque[Delivery] = deque()
        self._claiming = False
        self._is_full = False  # whether the last claim left something
        self._more = False  # something fell due while a claim was waiting for the disk
        self._stopping = False
        self._alarm = Alarm(workplace.clock, self.wake)
        self._trials = Trials()
        self._rest_until = 0.0  # on the monotonic clock; 0 when it does not rest
        self._last: RecipientOutcome | None = None  # of the last trial
        self._known: Pool | None = None  # the pool as it was last, and what follows from it
        self._bounds = _Bounds(0, PREFETCH, False)
        self._longest_wait = LONGEST_WAIT

    def wake(self) -> None:
        """Gets workers going, as many as there is work for and the lane allows."""
        if self._claiming:
            self._more = True
        elif not self._stopping and not self._rests():
            wanted = min(self._allowed(), len(self._workers) + max(1, len(self._claimed)))
            while len(self._workers) < wanted:
                self._workers.add(asyncio.get_running_loop().create_task(self._work(), name=self._name))

    def adopt(self, delivery: Delivery, attempt: Awaitable[Outcome] | Outcome) -> None:
        """Settles a delivery by the outcome of an attempt that was begun elsewhere, when it is there."""
        if isinstance(attempt, Outcome):
            self._take_over(delivery, attempt)
        else:
            self._adopted.add(asyncio.get_running_loop().create_task(self._see_out(delivery, attempt), name=self._name))

    def stop(self) -> set[asyncio.Task[None]]:
        """Lets no worker begin another delivery; those that still have one."""
        self._stopping = True
        self._alarm.stop()
        return self._workers | self._adopted

    def give_back(self) -> None:
        """Lets go of what was claimed and will not be delivered now: it is as due as it was."""
        now, last = self._clock.time(), self._last if self._trials.failing else None
        while self._claimed:
            delivery = self._claimed.popleft()
            self._place.record(_unbegun(delivery, now, delivery.reason if last is None else said(last)))

    def hasten(self) -> None:
        """Somebody says that its upstreams are back, or are paused: now counts what they are, not the last trial."""
        self._bounds = replace(self._bounds, is_paced=True)  # from now on workers look before each delivery
        self._rest_until, self._last = 0.0, None  # what has no time left is tried all the same: it waited for this
        self._trials.hasten()
        self.wake()

    # -- the work

    async def _work(self) -> None:
        """One worker: goes on until there is nothing to do, or there are more workers than the lane allows."""
        try:
            while (delivery := await self._next()) is not None:
                try:
                    await self._attempt(delivery)
                except asyncio.CancelledError:  # it stays claimed, and is due or in doubt after the restart
                    delivery.message.content.close()
                    raise
                except Exception as error:  # a defect of ours must not cost the message
                    self._broke(delivery, error)
                if len(self._workers) > self._allowed():
                    break
        except Exception as error:  # a defect of ours: the lane must go on, and nobody waits for this task
            _log.error("a delivery worker broke", lane=self._name, exc_info=error)
            self._alarm.set(SPOOL_PAUSE)
        finally:
            # At once, not when the task is seen to have ended: when the limit has shrunk, one must stay.
            self._workers.discard(cast("asyncio.Task[None]", asyncio.current_task()))

    async def _next(self) -> Delivery | None:
        """The next delivery to try; None when there is nothing to do for this worker now."""
        while not self._stopping and not ((self._rest_until or self._bounds.is_paced) and self._rests()):
            if self._is_full and not self._claiming and len(self._claimed) <= self._bounds.batch // 2:
                await self._claim()  # while the others still have something to do
            elif self._claimed:
                delivery = self._claimed.popleft()
                if not self._trials.failing or self._last is None or delivery.expires_at > self._clock.time():
                    return delivery
                # Nobody is there, as is known: the backlog must not outlive its time trial by trial.
                route = self._place.route(delivery.route)
                self._settle(delivery, expired(delivery, self._last), _NO_ATTEMPT, route)
            elif self._claiming or not await self._claim():
                return None
        return None

    async def _claim(self) -> bool:
        """Claims what is due; whether there is something to do. Otherwise a timer is running, if anything waits."""
        self._claiming, self._more, self._is_full = True, False, False
        limit = self._bounds.batch
        try:
            now = self._clock.time()
            claimed = await self._spool.claim(self._name, now, limit)
            if self._is_copy and len(claimed) > 1 and self._known is not None:
                await self._place.attempts.announce(claimed, self._known)
            at = None if claimed or self._more else await self._spool.next_due(self._name)
            if at is not None and at - now > self._longest_wait:  # nobody set it so late: the clock has gone back
                claimed, at = await self._spool.claim(self._name, at, limit), None
        except SpoolError as error:
            _log.warning("the spool cannot be read", lane=self._name, error=str(error))
            self._alarm.set(SPOOL_PAUSE)
            return False
        finally:
            self._claiming = False
        if at is not None:
            self._alarm.set(at - self._clock.time())
        self._claimed.extend(claimed)
        self._is_full = len(claimed) == limit
        if len(claimed) > 1:
            self.wake()
        return bool(claimed) or self._more

    async def _attempt(self, delivery: Delivery) -> None:
        place = self._place
        route, pool = place.route(delivery.route), self._pool()
        if pool is None:  # gone since it was claimed: `_allowed` sees to it that the lane waits
            self._claimed.appendleft(delivery)
            return
        if route is None:
            self._place.say_missing("route", delivery.route)
            reason = f"route {delivery.route} is not configured any more"
            self._settle(delivery, postponed(delivery, reason, self._clock.time()), _NO_ATTEMPT, None)
            return
        if self._place.missing:
            self._place.missing.discard(("route", delivery.route))
        policy: InDoubtPolicy = route.in_doubt or "retry-same"
        if self._is_copy:
            policy = "retry-same"
        if delivery.doubt is not None:
            place.say_doubt(delivery, delivery.doubt)
        if delivery.doubt is not None and policy == "assume-sent":
            outcome = _assumed(delivery, delivery.doubt)
        else:
            outcome = await place.attempts.deliver(delivery, pool, policy)
        now, is_sent = self._clock.time(), policy == "assume-sent"
        verdict = judge(delivery, outcome, route.backoff, now, place.chance(), assume_sent=is_sent)
        if verdict.is_busy:
            self._claimed.appendleft(delivery)  # it stays claimed: waiting costs the disk nothing
            self._rest(BUSY_PAUSE)
            return
        self._settle(delivery, verdict, outcome, route)
        if verdict.reached is False or (verdict.again and place.attempts.sleeps(pool)):
            self._unreachable(verdict)
        elif verdict.reached and self._trials:
            self._trials.succeeded(self._limit())
            self.wake()

    def _settle(self, delivery: Delivery, verdict: Verdict, outcome: Outcome, route: Route | None) -> None:
        """Records what became of a delivery, and lets go of its content."""
        place = self._place
        settlement = place.follower.settle(delivery, self._role, verdict, outcome, route, self._clock.time())
        place.record(settlement)
        try:
            place.follower.tell(delivery, verdict, outcome, settlement)
        except Exception as error:  # a defect of ours: what is settled is settled
            _log.error("an outcome was not told of", lane=self._name, message=delivery.message.id, exc_info=error)
        if settlement.again:
            wait = settlement.at - self._clock.time()
            self._longest_wait = max(self._longest_wait, wait)
            self._alarm.set(wait)

    async def _see_out(self, delivery: Delivery, attempt: Awaitable[Outcome]) -> None:
        """Waits for an attempt that was begun elsewhere. When it is broken off, what was recorded stands."""
        try:
            self._take_over(delivery, await attempt)
        except asyncio.CancelledError:
            delivery.message.content.close()
            raise
        except Exception as error:  # a defect of ours must not cost the message
            self._broke(delivery, error)
        finally:
            self._adopted.discard(cast("asyncio.Task[None]", asyncio.current_task()))
        self.wake()

    def _take_over(self, delivery: Delivery, outcome: Outcome) -> None:
        route = self._place.route(delivery.route)
        backoff = Backoff() if route is None else route.backoff
        is_sent = route is not None and route.in_doubt == "assume-sent"
        verdict = judge(delivery, outcome, backoff, self._clock.time(), self._place.chance(), assume_sent=is_sent)
        self._settle(delivery, verdict, outcome, route)

    def _broke(self, delivery: Delivery, error: Exception) -> None:
        _log.error("a delivery broke", lane=self._name, message=delivery.message.id, exc_info=error)
        verdict = postponed(delivery, f"internal error: {type(error).__name__}", self._clock.time())
        self._settle(delivery, verdict, _NO_ATTEMPT, self._place.route(delivery.route))

    # -- when

    def _unreachable(self, verdict: Verdict) -> None:
        pause = self._trials.failed(self._clock.monotonic())
        if pause is not None:
            self._last = next(iter(verdict.again or verdict.failed), None)
            self._rest(pause)
            self.give_back()  # who looks at the queue sees it wait, and may hold or delete it

    def _rest(self, seconds: float) -> None:
        self._rest_until = self._clock.monotonic() + seconds
        self._alarm.set(seconds)

    def _rests(self) -> bool:
        """Whether nothing may be begun now though something is due; a timer is running then."""
        rest = self._rest_until - self._clock.monotonic() if self._rest_until else 0.0
        if rest <= 0:
            self._rest_until = 0.0
            rest = 0.0 if (pool := self._pool()) is None else self._place.attempts.pause(pool)
        if rest > 0:
            if rest > LONG_REST:  # a quota is spent: others may see what waits, and do something about it
                self.give_back()
            self._alarm.set(rest)
            return True
        return False

    def _allowed(self) -> int:
        """How many workers there may be now."""
        limit = self._limit()
        if not limit:
            self._alarm.set(FAULT_PAUSE)
            return 0
        return max(0, self._trials.allowed(limit) - len(self._adopted))

    def _limit(self) -> int:
        """How many deliveries the upstreams may have at once; 0 when they are not configured any more."""
        pool = self._pool()
        if pool is None:
            self._known = None
            self._place.say_missing("pool" if self._is_copy else "route", self._owner)
            return 0
        if pool is not self._known:
            self._place.missing.discard(("pool" if self._is_copy else "route", self._owner))
            self._known, self._bounds = pool, _bounds_of(pool)
        return self._bounds.limit

    def _pool(self) -> Pool | None:
        if self._is_copy:
            return self._place.pool(self._owner)
        route = self._place.route(self._owner)
        return None if route is None else route.primary


def _unbegun(delivery: Delivery, now: float, reason: str) -> Settlement:
    """Gives a claim back. It keeps its place before those that came later."""
    message = delivery.message
    at, recipients = min(now, message.received_at), message.envelope.recipients
    return Settlement(delivery, recipients, at, delivery.doubt, delivery.warned, reason=reason, attempted=False)


def _assumed(delivery: Delivery, upstream: str) -> Outcome:
    """The outcome of an attempt that nobody remembers, by the policy `assume-sent`."""
    recipients = delivery.message.envelope.recipients
    return Outcome(
        tuple(RecipientOutcome(recipient, Status.IN_DOUBT, _RESTARTED, upstream) for recipient in recipients),
        (Attempt(upstream, Phase.DOT, _RESTARTED, "assumed-sent", 0.0),),
    )
