"""Measures the spool alone: microseconds per message with two copies.

    .venv/bin/python bench/spool.py [--messages 20000] [--size 1024] [--profile]

Each sender prepares and commits; the two targets claim and settle what they are told is due, as the scheduler
does. CPU is that of the process, so the writer's thread is in it.
"""

import argparse
import asyncio
import cProfile
import os
import pstats
import tempfile
import time
from pathlib import Path

from waypost.delivery.spool import Planned, Settlement
from waypost.mail.content import MemoryContent
from waypost.mail.message import Client, Envelope, Message, Recipient
from waypost.smtp.address import Address
from waypost.store.sqlite import SqliteSpool

TARGETS = ("new", "archive")


class Targets:
    """Takes what is due at once and calls it done."""

    def __init__(self, spool: SqliteSpool) -> None:
        self._spool = spool
        self._due: set[str] = set()
        self._wake = asyncio.Event()
        self.done = 0

    def on_due(self, target: str) -> None:
        self._due.add(target)
        self._wake.set()

    async def run(self, deliveries: int) -> None:
        while self.done < deliveries:
            await self._wake.wait()
            self._wake.clear()
            due, self._due = self._due, set()
            for target in due:
                while claimed := await self._spool.claim(target, time.time(), 20):
                    for delivery in claimed:
                        self._spool.settle(Settlement(delivery))
                        self.done += 1


async def measure(senders: int, messages: int, size: int) -> tuple[float, float, float, float]:
    """Seconds for `messages` messages: CPU of the event loop's thread, user and kernel CPU in all, and time."""
    client = Client("relay", "127.0.0.1", 40000, "mail.example.com", "ESMTP")
    reverse_path = Address("sender", "example.com")
    planned = [Planned(target, "migration", time.time() + 432000) for target in TARGETS]
    body = b"x" * (size - 2) + b"\r\n"
    with tempfile.TemporaryDirectory(dir=".") as folder:
        spool = SqliteSpool(Path(folder) / "spool")
        targets = Targets(spool)
        spool.on_due = targets.on_due
        await spool.open()

        async def send(first: int) -> None:
            for number in range(first, messages, senders):
                recipients = (Recipient(Address(f"user{number}", "example.com")),)
                content = MemoryContent(body)
                message = Message(f"{number:08x}", time.time(), client, Envelope(reverse_path, recipients), content)
                await spool.prepare(message, planned)
                spool.commit(message.id)

        start = _clocks()
        await asyncio.gather(targets.run(messages * len(TARGETS)), *(send(n) for n in range(senders)))
        await spool.close()
        loop, user, system, wall = (end - begun for begun, end in zip(start, _clocks(), strict=True))
        return loop, user, system, wall


def _clocks() -> tuple[float, float, float, float]:
    times = os.times()
    return time.thread_time(), times.user, times.system, time.perf_counter()


def main() -> None:
    """Prints one line for each number of senders."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=20000)
    parser.add_argument("--size", type=int, default=1024, help="octets of content")
    parser.add_argument("--senders", type=int, nargs="*", default=[1, 20, 200])
    parser.add_argument("--profile", action="store_true", help="profile the event loop's side")
    arguments = parser.parse_args()
    try:
        import uvloop
    except ImportError:
        run = asyncio.run
    else:
        run = uvloop.run
    for senders in arguments.senders:
        profile = cProfile.Profile() if arguments.profile else None
        if profile is not None:
            profile.enable()
        loop, user, system, wall = run(measure(senders, arguments.messages, arguments.size))
        if profile is not None:
            profile.disable()
            pstats.Stats(profile).sort_stats("tottime").print_stats(20)
        each = 1e6 / arguments.messages
        print(
            f"{senders:4} senders, us per message: {user * each:6.1f} user, {system * each:6.1f} kernel"
            f" (event loop {loop * each:.1f} of both), {wall * each:6.1f} time",
            flush=True,
        )


if __name__ == "__main__":
    main()
