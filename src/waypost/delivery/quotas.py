"""The quotas of all upstreams: what is reserved when an upstream is chosen, and what becomes of it.

    reserve, when a transaction begins --2yz to the dot, or in doubt--> counted
                                       \\--anything else--> given back

Reserving takes from what was leased (`waypost.delivery.quota_store`), which is a few comparisons; a lease is asked for
when nothing of the last one is left. What is accepted only after its slot has ended counts in the slot of that moment;
so in a window that has begun there is room for what is still under way from the last one.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog

from waypost.clock import Clock, Timer
from waypost.delivery.quota_store import QuotaStore
from waypost.delivery.spool import SpoolError
from waypost.mail.outcome import Cause, Failure, Phase
from waypost.routing.quota import SECONDS, Lease, Quota, Tally
from waypost.routing.route import Upstream

log = structlog.get_logger()

_TOLD = frozenset({"hour", "day", "week", "month"})  # of shorter windows the log would be full
_PATIENCE = 3  # leases that are asked for one message, when slots turn faster than the store answers


@dataclass(frozen=True, slots=True)
class QuotaState:
    """One quota as it stands: for metrics and for people. Leases of other instances count as used."""

    quota: Quota
    used: int
    limit: int | None  # None: there is none now
    back_in: float  # seconds until there is room; 0 when there is


class Meter:
    """One quota of one upstream."""

    def __init__(self, upstream: str, quota: Quota, store: QuotaStore, clock: Clock) -> None:
        self.upstream = upstream
        self.quota = quota
        self._store = store
        self._clock = clock
        self._asking = asyncio.Lock()
        self._left = 0  # of the lease
        self._debt = 0  # accepted in a slot in which it was not reserved
        self._start = 0.0  # of the lease's slot
        self._until = 0.0  # the end of the lease
        self._returns: dict[float, int] = {}  # by the slot it was leased in
        self._open: dict[float, int] = {}  # reserved and not settled, by the slot it counts in
        self._gone: dict[float, float] = {}  # when those slots are forgotten
        self._moved: dict[float, float] = {}  # from slots that were, to the one that it counts in since
        self._tally = Tally()
        self._spent_until = 0.0
        self._spent_for = 1  # for this much, or more, there is no room until then
        self._told: Timer | None = None  # that it is spent

    def wait(self, amount: int = 1) -> float:
        """Seconds until there is room again for so much; 0 when there may be."""
        if not self._spent_until or amount < self._spent_for:
            return 0.0
        return max(0.0, self._spent_until - self._clock.time())

    async def reserve(self, amount: int) -> float | None:
        """Reserves; the slot it is counted in, or None when there is no room. Raises `SpoolError`."""
        if not self._has(amount):
            async with self._asking:
                for _ in range(_PATIENCE):
                    if self._has(amount) or self.wait(amount):
                        break
                    await self._lease(amount)
                if not self._has(amount):
                    return None
        self._left -= amount
        self._open[self._start] = self._open.get(self._start, 0) + amount
        return self._start

    def refund(self, slot: float, amount: int) -> None:
        """What was reserved was not sent."""
        self._spent_until = 0.0
        slot = self._settled(slot, amount)
        if slot == self._start:
            self._left += amount
        else:
            self._returns[slot] = self._returns.get(slot, 0) + amount

    def accepted(self, slot: float, amount: int) -> None:
        """What was reserved has been sent, as far as anybody knows."""
        slot = self._settled(slot, amount)
        if slot != self._start or self._clock.time() >= self._until:
            # Its slot has ended meanwhile: the upstream counts it now, and so do we, be there room or not.
            self._returns[slot] = self._returns.get(slot, 0) + amount
            self._debt += amount

    def state(self) -> QuotaState:
        """How it stands."""
        now = self._clock.time()
        left = self._left if now < self._until else 0
        used = max(0, self._tally.used(now) - left + self._debt)
        return QuotaState(self.quota, used, self.quota.limit_at(now), self.wait(self._spent_for))

    async def close(self) -> None:
        """Returns what was leased and not used. Raises `SpoolError`."""
        if self._told is not None:
            self._told.cancel()
        self._until = 0.0
        self._expire()
        if self._returns or self._debt:
            await self._ask(0)

    def _settled(self, slot: float, amount: int) -> float:
        """So much is no longer under way; the slot that it is counted in meanwhile."""
        while slot in self._moved:
            slot = self._moved[slot]
        self._open[slot] -= amount
        if not self._open[slot]:
            del self._open[slot]
            if not self._open:
                self._moved.clear()
        return slot

    def _move(self, gone: Sequence[float], told: int, start: float) -> None:
        """What is under way from slots that are gone was `told` to the store, and counts in the present slot now."""
        still = 0
        for slot in gone:
            if slot in self._open:
                self._moved[slot] = start
                still += self._open.pop(slot)
        if still:
            self._open[start] = self._open.get(start, 0) + still
        if still < told:  # settled while the store was asked, and counted by that
            self._returns[start] = self._returns.get(start, 0) + told - still

    def _has(self, amount: int) -> bool:
        return amount <= self._left and self._clock.time() < self._until

    def _expire(self) -> None:
        """What is left of a lease whose slot has ended goes back into it."""
        if self._clock.time() >= self._until and self._left > 0:
            self._returns[self._start] = self._returns.get(self._start, 0) + self._left
            self._left = 0

    async def _ask(self, amount: int) -> Lease:
        """Asks the store, which is told besides what is returned and what is owed.

        When it fails it may have done so all the same: what is owed is told again, and what is returned is not, for
        to count something twice is better than to count it never.
        """
        now = self._clock.time()
        gone = [slot for slot in self._open if self._gone.get(slot, 0.0) <= now]
        underway = sum(self._open[slot] for slot in gone)  # may be taken in the window that has begun
        (returns, self._returns), (debt, self._debt) = (self._returns, {}), (self._debt, 0)
        try:
            lease = await self._store.lease(self.upstream, self.quota, amount, returns, debt + underway)
        except BaseException:
            self._debt += debt
            raise
        if gone:
            self._move(gone, underway, lease.start)
        self._gone = {slot: at for slot, at in self._gone.items() if slot in self._open or slot == self._start}
        after = 0.0 if self.quota.window == "calendar" else SECONDS[self.quota.per]
        self._gone[lease.start] = self._clock.time() + lease.valid + after
        return lease

    async def _lease(self, amount: int) -> None:
        self._expire()
        lease = await self._ask(amount - self._left)  # what is left of the last one holds as long as its slot
        now = self._clock.time()
        self._tally = lease.tally
        if not lease.granted:
            is_full = lease.limit is not None and lease.tally.used(now) >= lease.limit
            self._spent(now + lease.back_in, 1 if is_full else amount)
            return
        if lease.start != self._start and self._left:  # the slot has turned while the store was asked
            self._returns[self._start] = self._returns.get(self._start, 0) + self._left
            self._left = 0
        self._start, self._until = lease.start, now + lease.valid
        self._left += lease.granted
        self._renewed()

    def _spent(self, until: float, amount: int) -> None:
        self._spent_until, self._spent_for = until, amount
        if self._told is None and amount == 1 and self.quota.per in _TOLD:
            wait = max(0.0, until - self._clock.time())
            log.warning("quota_spent", upstream=self.upstream, quota=str(self.quota), back_in=round(wait))
            self._told = self._clock.call_later(wait, self._renewed)

    def _renewed(self) -> None:
        told, self._told = self._told, None
        self._spent_until = 0.0
        if told is not None:
            told.cancel()
            log.info("quota_renewed", upstream=self.upstream, quota=str(self.quota))


class Reservation:
    """What one transaction has reserved. It ends once, with `settle`."""

    __slots__ = ("_parts", "_quotas", "recipients", "upstream")

    def __init__(self, quotas: "Quotas", upstream: Upstream) -> None:
        self._quotas = quotas
        self.upstream = upstream
        self.recipients = 0
        self._parts: list[tuple[Meter, float, int]] = []

    async def take(self, recipients: int) -> Failure | None:
        """Reserves for so many recipients, and for the message the first time; why it cannot, or None."""
        taken: list[tuple[Meter, float, int]] = []
        try:
            for meter in self._quotas.meters(self.upstream):
                by_message = meter.quota.of == "messages"
                amount = recipients if not by_message else int(not self.recipients)
                if not amount:
                    continue
                slot = await meter.reserve(amount)
                if slot is None:
                    self._undo(taken)
                    return Failure(Phase.MAIL, Cause.QUOTA, spent_text(meter.state()))
                taken.append((meter, slot, amount))
        except SpoolError as error:
            self._undo(taken)
            return Failure(Phase.MAIL, Cause.QUOTA, f"what has been sent cannot be counted: {error}")
        except BaseException:
            self._undo(taken)
            raise
        self._parts += taken
        self.recipients += recipients
        return None

    @property
    def room(self) -> int | None:
        """How many further recipients one transaction may have; None: any number."""
        most = self._quotas.most_recipients(self.upstream)
        return None if most is None else max(0, most - self.recipients)

    def settle(self, recipients: int) -> None:
        """The upstream has taken the message for so many recipients; 0 when it has not."""
        parts, self._parts = self._parts, []
        counted: dict[Meter, int] = {}
        for meter, slot, amount in parts:
            owed = (recipients if meter.quota.of == "recipients" else min(1, recipients)) - counted.get(meter, 0)
            sent = min(amount, owed)
            counted[meter] = counted.get(meter, 0) + sent
            if sent:
                meter.accepted(slot, sent)
            if sent < amount:
                meter.refund(slot, amount - sent)

    def _undo(self, taken: Sequence[tuple[Meter, float, int]]) -> None:
        for meter, slot, amount in taken:
            meter.refund(slot, amount)


def spent_text(state: QuotaState) -> str:
    """That a quota is spent, and for how long, in words."""
    return f"the quota of {state.quota} is spent, and there is room again in {_duration(state.back_in)}"


class Quotas:
    """The meters of all upstreams, by name."""

    def __init__(self, store: QuotaStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._meters: dict[str, tuple[Upstream, tuple[Meter, ...]]] = {}

    def meters(self, upstream: Upstream) -> Sequence[Meter]:
        """Those of one upstream. A quota that is configured anew goes on with the count of the store."""
        known = self._meters.get(upstream.name)
        if known is not None and (known[0] is upstream or known[0].quotas == upstream.quotas):
            return known[1]
        meters = tuple(Meter(upstream.name, quota, self._store, self._clock) for quota in upstream.quotas)
        self._meters[upstream.name] = (upstream, meters)
        return meters

    async def reserve(self, upstream: Upstream, recipients: int) -> Reservation | Failure:
        """Reserves one message for so many recipients, or says why there is no room."""
        reservation = Reservation(self, upstream)
        return await reservation.take(recipients) or reservation

    def most_recipients(self, upstream: Upstream) -> int | None:
        """How many recipients a transaction may have at all: more of them would wait for ever."""
        now = self._clock.time()
        limits = (quota.limit_at(now) for quota in upstream.quotas if quota.of == "recipients")
        return min((limit for limit in limits if limit is not None), default=None)

    def wait(self, upstream: Upstream) -> float:
        """Seconds until there is room in all quotas of the upstream; 0 when there may be now."""
        return max((meter.wait() for meter in self.meters(upstream)), default=0.0)

    def states(self, upstream: Upstream) -> Sequence[QuotaState]:
        """How each quota of the upstream stands."""
        return [meter.state() for meter in self.meters(upstream)]

    def load(self, upstream: Upstream) -> float:
        """The share that is used, of the fullest quota."""
        return max((s.used / s.limit for s in self.states(upstream) if s.limit), default=0.0)

    def spent(self, upstreams: Sequence[Upstream]) -> Mapping[str, tuple[float, str]]:
        """Those without room: seconds until there is some, and why in words."""
        found: dict[str, tuple[float, str]] = {}
        for upstream in upstreams:
            for meter in self.meters(upstream):
                wait = meter.wait()
                if wait and wait >= found.get(upstream.name, (0.0, ""))[0]:
                    found[upstream.name] = (wait, spent_text(meter.state()))
        return found

    async def close(self) -> None:
        """Returns what was leased and not used; what cannot be returned counts as used."""
        for _, meters in self._meters.values():
            for meter in meters:
                try:
                    await meter.close()
                except SpoolError as error:
                    log.warning(
                        "quota_not_returned", upstream=meter.upstream, quota=str(meter.quota), reason=str(error)
                    )


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{round(seconds / 3600)} h"
