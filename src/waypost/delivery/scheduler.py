"""Delivers what the spool owes: each target by itself, again with backoff, until it is done or dead.

Every target has a lane, with as many workers as it may have deliveries at once. A worker claims, delivers and
settles; when nothing is due the lane has no task, only a timer. So a target that is dead or slow keeps nobody
waiting but itself, and a million queued messages cost no tasks.

A target that cannot be spoken to is tried with one delivery at a time, after growing pauses, until one gets
through: its backlog keeps its place instead of failing message by message.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Protocol, cast

import structlog

from waypost.clock import Clock, Timer
from waypost.delivery.spool import Delivery, Spool, SpoolError
from waypost.delivery.verdict import Verdict, expired, judge, postponed
from waypost.mail.message import Recipient
from waypost.mail.outcome import Outcome
from waypost.routing.route import Backoff

PREFETCH = 20
"""Deliveries that are claimed at once: a claim may have to wait for the disk."""

HOLD = 60
"""Seconds after which mail whose route or pool is not configured any more is looked at again."""

SPOOL_PAUSE = 1
"""Seconds after which a spool that could not be read is asked again."""

LONGEST_TRIAL_PAUSE = 60
"""Seconds between two trials of a target that cannot be reached; the first pause is one second."""

_LONGEST_SLEEP = 300  # seconds: the wall clock may be set while a timer, which follows another clock, is running

_log = structlog.get_logger(__name__)


class DeliveryLog(Protocol):
    """Whoever writes down what became of a copy."""

    def copied(self, delivery: Delivery, outcome: Outcome) -> None:
        """Some recipients, or all, were relayed."""

    def deferred(self, delivery: Delivery, outcome: Outcome, at: float) -> None:
        """Some recipients, or all, are tried again at `at`, in seconds since the epoch."""

    def dead(self, delivery: Delivery, recipients: tuple[Recipient, ...], reason: str) -> None:
        """These recipients are now a dead letter."""


class Scheduler:
    """The lanes of all targets. `wake` is what the spool's `on_due` has to call.

    `target_limit` says how many deliveries a target may have at once, None when there is no such pool any more;
    `backoff` is that of a route, None when there is no such route. Both are asked anew each time, for a reload
    may change the answer. `chance` returns a random number from 0 to 1.
    """

    def __init__(
        self,
        spool: Spool,
        deliver: Callable[[Delivery], Awaitable[Outcome]],
        *,
        target_limit: Callable[[str], int | None],
        backoff: Callable[[str], Backoff | None],
        log: DeliveryLog,
        clock: Clock,
        chance: Callable[[], float],
    ) -> None:
        self.spool = spool
        self.deliver = deliver
        self.target_limit = target_limit
        self.backoff = backoff
        self.log = log
        self.clock = clock
        self.chance = chance
        self._lanes: dict[str, _Lane] = {}
        self._running = False

    async def start(self) -> None:
        """Begins, with what an earlier run left. Raises `SpoolError`."""
        self._running = True
        for count in await self.spool.targets():
            if count.queued:
                self.wake(count.target)

    def wake(self, target: str) -> None:
        """Something may be due for `target`. Returns at once; does nothing unless the scheduler is running."""
        if not self._running:
            return
        lane = self._lanes.get(target)
        if lane is None:
            lane = self._lanes[target] = _Lane(target, self)
        lane.wake()

    async def stop(self, timeout: float) -> None:
        """Begins no more deliveries; those that run may end for `timeout` seconds, then they are cancelled.

        What was cancelled stays queued.
        """
        self._running = False
        workers = [worker for lane in self._lanes.values() for worker in lane.stop()]
        if workers:
            _, late = await asyncio.wait(workers, timeout=timeout)
            for worker in late:
                worker.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        for lane in self._lanes.values():
            lane.give_back()


class _Lane:
    """The deliveries to one target."""

    def __init__(self, target: str, scheduler: Scheduler) -> None:
        self._target = target
        self._name = f"deliver to {target}"
        self._scheduler = scheduler
        self._clock = scheduler.clock
        self._spool = scheduler.spool
        self._workers: set[asyncio.Task[None]] = set()
        self._claimed: deque[Delivery] = deque()
        self._claiming = False
        self._more = False  # something fell due while a claim was waiting for the disk
        self._stopping = False
        self._timer: Timer | None = None
        self._timer_at = 0.0
        self._failures = 0  # trials in a row in which the target could not be reached
        self._trial_at = 0.0
        self._last_answer = ""
        self._missing: set[str] = set()  # what is not configured any more, and was said to be so

    def wake(self) -> None:
        """Gets workers going, as many as there is work for and the target allows."""
        if self._claiming:
            self._more = True
        elif not self._stopping and not self._is_paused():
            wanted = min(self._allowed(), len(self._workers) + max(1, len(self._claimed)))
            while len(self._workers) < wanted:
                self._workers.add(asyncio.get_running_loop().create_task(self._work(), name=self._name))

    def stop(self) -> set[asyncio.Task[None]]:
        """Lets no worker begin another delivery; those that still have one."""
        self._stopping = True
        if self._timer is not None:
            self._timer.cancel()
        return set(self._workers)

    def give_back(self) -> None:
        """Lets go of what was claimed and will not be delivered."""
        while self._claimed:
            self._claimed.popleft().message.content.close()

    async def _work(self) -> None:
        """One worker: goes on until there is nothing to do, or there are more workers than the target allows."""
        try:
            while (delivery := await self._next()) is not None:
                await self._attempt(delivery)
                if len(self._workers) > self._allowed():
                    break
        except Exception as error:  # a defect of ours: the lane must go on, and nobody waits for this task
            _log.error("a delivery worker broke", target=self._target, exc_info=error)
            self._sleep_until(self._clock.time() + SPOOL_PAUSE)
        finally:
            # At once, not when the task is seen to have ended: when the limit has shrunk, one must stay.
            self._workers.discard(cast("asyncio.Task[None]", asyncio.current_task()))

    async def _next(self) -> Delivery | None:
        """The next delivery to try; None when there is nothing to do for this worker now."""
        while not self._is_paused() and not self._stopping:
            if self._claimed:
                delivery = self._claimed.popleft()
                if not self._failures or delivery.expires_at > self._clock.time():
                    return delivery
                # The target is known to be dead: the backlog must not outlive its time trial by trial.
                self._settle(delivery, expired(delivery, self._last_answer), None)
            elif self._claiming or not await self._claim():
                return None
        return None

    async def _claim(self) -> bool:
        """Claims what is due; whether there is something to do. Otherwise a timer is running, if anything waits."""
        self._claiming, self._more = True, False
        try:
            claimed = await self._spool.claim(self._target, self._clock.time(), PREFETCH)
            at = None if claimed or self._more else await self._spool.next_due(self._target)
        except SpoolError as error:
            _log.warning("the spool cannot be read", target=self._target, error=str(error))
            self._sleep_until(self._clock.time() + SPOOL_PAUSE)
            return False
        finally:
            self._claiming = False
        if at is not None:
            self._sleep_until(at)
        self._claimed.extend(claimed)
        if len(claimed) > 1:
            self.wake()
        return bool(claimed) or self._more

    async def _attempt(self, delivery: Delivery) -> None:
        outcome = None
        backoff = self._scheduler.backoff(delivery.route)
        try:
            if backoff is None:
                self._say_missing("route", delivery.route)
                now = self._clock.time()
                reason = f"route {delivery.route} is not configured any more"
                verdict = postponed(delivery, reason, now, now + HOLD)
            else:
                if self._missing:
                    self._missing.discard(delivery.route)
                outcome = await self._scheduler.deliver(delivery)
                verdict = judge(delivery, outcome, backoff, self._clock.time(), self._scheduler.chance())
        except Exception as error:  # a defect of ours must not cost the message, nor the lane
            _log.error("a delivery broke", target=self._target, message=delivery.message.id, exc_info=error)
            now = self._clock.time()
            verdict = postponed(delivery, f"internal error: {type(error).__name__}", now, now + HOLD)
        finally:
            delivery.message.content.close()
        self._settle(delivery, verdict, outcome)

    def _settle(self, delivery: Delivery, verdict: Verdict, outcome: Outcome | None) -> None:
        settlement = verdict.settlement
        self._spool.settle(settlement)
        log = self._scheduler.log
        if outcome is not None and verdict.relayed:
            log.copied(delivery, outcome)
        if outcome is not None and settlement.again:
            log.deferred(delivery, outcome, settlement.at)
        for recipients, reason in verdict.deaths:
            log.dead(delivery, recipients, reason)
        if settlement.again:
            self._sleep_until(settlement.at)
        if verdict.reached is False:
            self._unreachable(verdict.last_answer)
        elif verdict.reached and self._failures:
            self._failures = 0
            self.wake()

    def _unreachable(self, answer: str) -> None:
        self._last_answer = answer
        now = self._clock.time()
        if now >= self._trial_at:  # else it is one of several that ran when the first failed
            self._failures += 1
            self._trial_at = now + min(2.0 ** min(self._failures - 1, 10), LONGEST_TRIAL_PAUSE)
            self._sleep_until(self._trial_at)

    def _is_paused(self) -> bool:
        """Whether the next trial of a dead target has to wait; a timer is running then."""
        if not self._failures or self._clock.time() >= self._trial_at:
            return False
        self._sleep_until(self._trial_at)
        return True

    def _allowed(self) -> int:
        """How many deliveries may run now."""
        limit = self._scheduler.target_limit(self._target)
        if limit is None:
            self._say_missing("pool", self._target)
            self._sleep_until(self._clock.time() + HOLD)
            return 0
        if self._missing:
            self._missing.discard(self._target)
        return 1 if self._failures else max(1, limit)

    def _say_missing(self, kind: str, name: str) -> None:
        if name not in self._missing:
            self._missing.add(name)
            _log.warning(f"queued mail waits: its {kind} is not configured any more", **{kind: name})

    def _sleep_until(self, at: float) -> None:
        """Wakes the lane at `at`, or earlier when that was planned."""
        now = self._clock.time()
        at = min(at, now + _LONGEST_SLEEP)
        if self._timer is not None:
            if self._timer_at <= at:
                return
            self._timer.cancel()
        if not self._stopping:
            self._timer_at = at
            self._timer = self._clock.call_later(max(0.0, at - now), self._rise)

    def _rise(self) -> None:
        self._timer = None
        self.wake()
