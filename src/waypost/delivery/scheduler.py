"""Delivers what the spool owes: each lane by itself, again with backoff, until it is done or given up.

The lanes do the work (`waypost.delivery.lane`); the attempts are made by `waypost.delivery.transfer`.
"""

import asyncio
from collections.abc import Awaitable, Callable

from waypost.clock import Clock
from waypost.delivery.lane import Attempts, Lane, Workplace
from waypost.delivery.notices import Notifier
from waypost.delivery.reporting import DeliveryLog
from waypost.delivery.settling import Follower
from waypost.delivery.spool import Delivery, Spool
from waypost.mail.outcome import Outcome
from waypost.routing.route import Pool, Route


class Scheduler:
    """All lanes. `wake` is what the spool's `on_due` has to call.

    `pool` and `route` find those of a name, None when there is none any more. Both are asked anew each time, for a
    reload may change the answer. `chance` returns a random number from 0 to 1.
    """

    def __init__(
        self,
        spool: Spool,
        attempts: Attempts,
        *,
        pool: Callable[[str], Pool | None],
        route: Callable[[str], Route | None],
        notifier: Notifier,
        log: DeliveryLog,
        clock: Clock,
        chance: Callable[[], float],
    ) -> None:
        follower = Follower(notifier, log, chance)
        self._workplace = Workplace(spool, attempts, follower, pool, route, clock, chance)
        self._lanes: dict[str, Lane] = {}
        self._running = False
        self._stopped = False

    async def start(self) -> None:
        """Begins, with what an earlier run left. Raises `SpoolError`."""
        self._running = True
        for count in await self._workplace.spool.lanes():
            if count.queued:
                self.wake(count.lane)

    def wake(self, lane: str) -> None:
        """Something may be due in `lane`. Returns at once; does nothing unless the scheduler is running."""
        if self._running:
            self._lane(lane).wake()

    def hasten(self, lane: str) -> None:
        """Somebody wants what waits in `lane` to be tried now, though its upstreams could not be reached before.

        Or has paused, or resumed, one of them.
        """
        if self._running:
            self._lane(lane).hasten()

    def adopt(self, delivery: Delivery, attempt: Awaitable[Outcome] | Outcome) -> None:
        """Settles a delivery whose attempt was begun elsewhere, when the outcome is there; closes its content.

        The attempt counts against its lane's limit, and `stop` waits for it. When it is broken off, what was recorded
        of it stands: it is in doubt.
        """
        self._lane(delivery.lane).adopt(delivery, attempt)

    async def stop(self, timeout: float) -> None:
        """Begins no more deliveries; those that run may end for `timeout` seconds, then they are cancelled.

        What was cancelled stays queued. To be called again when more may have been adopted meanwhile.
        """
        self._running, self._stopped = False, True
        running = [task for lane in self._lanes.values() for task in lane.stop()]
        if running:
            _, late = await asyncio.wait(running, timeout=timeout)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        for lane in self._lanes.values():
            lane.give_back()

    def _lane(self, name: str) -> Lane:
        lane = self._lanes.get(name)
        if lane is None:
            lane = self._lanes[name] = Lane(name, self._workplace)
            if self._stopped:
                lane.stop()
        return lane
