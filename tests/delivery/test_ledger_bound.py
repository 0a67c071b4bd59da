"""What the ledger forgets for want of room must not cost a copy."""

from collections.abc import Callable

import pytest

from waypost.clock import FakeClock
from waypost.delivery import indoubt
from waypost.delivery.copies import Copies
from waypost.delivery.indoubt import Ledger
from waypost.delivery.memory_spool import MemorySpool
from waypost.delivery.sending import IN_DOUBT, Relayed
from waypost.mail.content import MemoryContent
from waypost.mail.message import Client, Envelope, Message, Recipient
from waypost.mail.outcome import Status
from waypost.routing.route import Copy, Member, Pool, Route, Upstream
from waypost.smtp.address import Address
from waypost.smtp.reply import Reply


class NoLog:
    def not_taken(self, message: Message, target: str, reason: str) -> None:
        raise AssertionError(reason)


@pytest.fixture
def in_doubt() -> Callable[[Copies, int], object]:
    pool = Pool("new", (Member(Upstream("new", "127.0.0.1", 25)),))
    route = Route("r", pool, copies=(Copy(pool),), in_doubt_hold=60)

    async def run(copies: Copies, number: int) -> None:
        content = MemoryContent(b"Subject: %d\r\n\r\n" % number)
        recipients = (Recipient(Address(f"r{number}", "example.org")),)
        client = Client("l", "127.0.0.1", 1)
        message = Message(
            f"m{number}", 1e9, client, Envelope(Address("a", "example.com"), recipients), content, b"%d" % number
        )
        planned = await copies.prepare(message, route)
        assert not isinstance(planned, Reply)
        assert planned
        await copies.conclude(message, route, Relayed(Status.IN_DOUBT, IN_DOUBT), planned)

    return run


async def test_copies_that_the_ledger_has_forgotten_are_sent(
    in_doubt: Callable[[Copies, int], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indoubt, "_MAX_ENTRIES", 2)
    clock, spool = FakeClock(), MemorySpool()
    copies = Copies(spool, Ledger(clock), NoLog(), clock, lambda: 0.5)
    for number in range(5):
        await in_doubt(copies, number)
    assert await spool.claim("copy:new", clock.time(), 10) == []

    clock.advance(61)

    claimed = await spool.claim("copy:new", clock.time(), 10)
    assert sorted(delivery.message.id for delivery in claimed) == ["m0", "m1", "m2", "m3", "m4"]
