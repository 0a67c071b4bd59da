"""Where it is counted what upstreams were given: the port, and the count of a Waypost that has it for itself.

What may be sent is leased ahead, in blocks, and a lease is durable before it is used. So a process that is killed has
sent no more than was counted; it may have sent less, by up to a block for each quota. An orderly stop returns what
was not used. That is one write to the disk for every block instead of one for every message.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from waypost.delivery.spool import Note, Spool
from waypost.routing.quota import Lease, Quota, Tally, lease, read_tally

KIND = "quota"
"""The kind of the notes that are kept here: the key is upstream and quota, the value the count."""


class QuotaStore(Protocol):
    """Counts what was leased, for all instances that share it."""

    async def lease(self, upstream: str, quota: Quota, least: int, returns: Mapping[float, int], debt: int) -> Lease:
        """See `waypost.routing.quota.lease`. With `least` 0 it only takes back. Durable when it returns.

        Raises `SpoolError`; whether something was changed is not certain then.
        """


class OwnCount:
    """The count of one process. With a spool it outlives a restart, all but that of seconds."""

    def __init__(self, now: Callable[[], float], spool: Spool | None = None) -> None:
        self._now = now
        self._spool = spool
        self.tallies: dict[str, Tally] = {}
        """What was leased, by upstream and quota."""

    async def lease(self, upstream: str, quota: Quota, least: int, returns: Mapping[float, int], debt: int) -> Lease:
        key = f"{upstream} {quota.key}"
        before = self.tallies.get(key, Tally())
        tally, leased = lease(before, quota, self._now(), least, returns, debt)
        if tally is not before:
            self.tallies[key] = tally
        if self._spool is not None and quota.per != "second" and tally.slots != before.slots:
            self._spool.put(Note(KIND, key, tally.written(), tally.until))
            if leased.granted:
                try:
                    await self._spool.check()  # what was put before is durable, too
                except BaseException:
                    self.tallies[key] = before
                    raise
        return leased

    def learn(self, notes: Iterable[Note]) -> None:
        """Takes up what was counted before a restart. Notes of other kinds are passed over."""
        for note in notes:
            if note.kind == KIND:
                try:
                    self.tallies[note.key] = read_tally(note.value)
                except ValueError:  # of another version: nothing is known of what it counted
                    continue
