"""Measures the spool alone: microseconds per message, and how many messages share a commit.

    .venv/bin/python -m bench.spool [--way pass|spool] [--messages 20000] [--size 1024] [--profile]

In `pass` each sender prepares and commits a message with two copies; in `spool` it accepts one with a primary
delivery, and an intent is recorded before each attempt. The lanes claim and settle what they are told is due, as
the scheduler does. CPU is that of the process, so the writer's thread is in it.
"""

import argparse
import asyncio
import cProfile
import os
import pstats
import tempfile
import time
from pathlib import Path

from waypost.delivery.spool import Delivery, Planned, Settlement, copy_lane, primary_lane
from waypost.mail.content import MemoryContent
from waypost.mail.ids import make_id
from waypost.mail.message import Client, Envelope, Message, Recipient
from waypost.smtp.address import Address
from waypost.store.sqlite import SqliteSpool

LANES = {"pass": (copy_lane("new"), copy_lane("archive")), "spool": (primary_lane("apps"),)}
WORKERS = 20


class Deliveries:
    """Takes what is due at once and calls it done, after an intent when there are workers for that."""

    def __init__(self, spool: SqliteSpool, expected: int, *, intends: bool) -> None:
        self._spool = spool
        self._left = expected
        self._due: set[str] = set()
        self._wake = asyncio.Event()
        self._free = asyncio.Semaphore(WORKERS) if intends else None
        self._running: set[asyncio.Task[None]] = set()

    def on_due(self, lane: str) -> None:
        """Something may be due in the lane."""
        self._due.add(lane)
        self._wake.set()

    async def run(self) -> None:
        """Until all that is expected is done."""
        while self._left:
            await self._wake.wait()
            self._wake.clear()
            due, self._due = self._due, set()
            for lane in due:
                while claimed := await self._spool.claim(lane, time.time(), 20):
                    self._left -= len(claimed)
                    for delivery in claimed:
                        await self._begin(delivery)
        await asyncio.gather(*self._running)

    async def _begin(self, delivery: Delivery) -> None:
        if self._free is None:
            self._spool.settle(Settlement(delivery))
            return
        await self._free.acquire()
        task = asyncio.create_task(self._deliver(delivery, self._free))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _deliver(self, delivery: Delivery, free: asyncio.Semaphore) -> None:
        await self._spool.intend(delivery, "ses")
        self._spool.settle(Settlement(delivery))
        free.release()


async def measure(way: str, senders: int, messages: int, size: int) -> tuple[list[float], int]:
    """For `messages` messages: CPU of the event loop's thread, user and kernel CPU in all, and time; commits."""
    client = Client("relay", "127.0.0.1", 40000, "mail.example.com", "ESMTP")
    reverse_path = Address("sender", "example.com")
    planned = [Planned(lane, "migration", time.time() + 432000) for lane in LANES[way]]
    body = b"x" * (size - 2) + b"\r\n"
    with tempfile.TemporaryDirectory(dir=".") as folder:
        spool = SqliteSpool(Path(folder) / "spool")
        deliveries = Deliveries(spool, messages * len(planned), intends=way == "spool")
        spool.on_due = deliveries.on_due
        await spool.open()
        numbers = iter(range(messages))

        async def send() -> None:
            for number in numbers:
                now = time.time()
                recipients = (Recipient(Address(f"user{number}", "example.com")),)
                content = MemoryContent(body)
                id_ = make_id(int(now * 1000), number)
                message = Message(id_, now, client, Envelope(reverse_path, recipients), content)
                if way == "spool":
                    await spool.accept(message, planned)
                else:
                    await spool.prepare(message, planned)
                    spool.commit(message.id)

        start = _clocks()
        await asyncio.gather(deliveries.run(), *(send() for _ in range(senders)))
        await spool.close()
        return [end - begun for begun, end in zip(start, _clocks(), strict=True)], spool.commits


def _clocks() -> tuple[float, float, float, float]:
    times = os.times()
    return time.thread_time(), times.user, times.system, time.perf_counter()


def main() -> None:
    """Prints one line for each way and number of senders."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--way", choices=[*LANES, "both"], default="both")
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
    for way in LANES if arguments.way == "both" else [arguments.way]:
        for senders in arguments.senders:
            profile = cProfile.Profile() if arguments.profile else None
            if profile is not None:
                profile.enable()
            clocks, commits = run(measure(way, senders, arguments.messages, arguments.size))
            if profile is not None:
                profile.disable()
                pstats.Stats(profile).sort_stats("tottime").print_stats(25)
            loop, user, system, wall = (clock * 1e6 / arguments.messages for clock in clocks)
            seconds = clocks[3]
            print(
                f"{way:5} {senders:3} senders, us per message: {user:6.1f} user, {system:6.1f} kernel"
                f" (event loop {loop:.1f} of both), {wall:6.1f} time;"
                f" {arguments.messages / seconds:,.0f} messages/s in {commits / seconds:,.0f} commits/s",
                flush=True,
            )


if __name__ == "__main__":
    main()
