"""Measures a spool with a backlog: what 10,000, 100,000 and 1,000,000 queued copies of 1 KB cost.

    .venv/bin/python -m bench.backlog --counts 10000,100000,1000000 --store sqlite:FOLDER

The store is `sqlite:FOLDER` (a spool is made in it, and removed), `memory`, or the URL of an empty PostgreSQL
database. Everything goes through the port: senders prepare and commit messages with one copy each, nobody
delivers them; the spool is closed, opened again and looked at; then workers claim and settle all of it. Each
backlog has a process of its own. What should not depend on the backlog is compared: the first tenth with the last.
CPU is that of this process, so it says more than a rate does on a machine that is busy with other things.
"""

import argparse
import asyncio
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from waypost.delivery.memory_spool import MemorySpool
from waypost.delivery.spool import Filter, Planned, Settlement, Spool, copy_lane
from waypost.mail.content import MemoryContent
from waypost.mail.ids import make_id
from waypost.mail.message import Client, Envelope, Message, Recipient
from waypost.smtp.address import Address
from waypost.store.sqlite import SqliteSpool

LANE = copy_lane("new")
SIZE = 1024
BATCH = 20  # what the scheduler claims at once
MIB = 1024 * 1024

COLUMNS = {
    "enqueued_first": "enqueue, first tenth",
    "enqueued_last": "last tenth",
    "cpu_enqueued_first": "CPU of it, first tenth",
    "cpu_enqueued_last": "last tenth",
    "settled_first": "claim and settle, first tenth",
    "settled_last": "last tenth",
    "cpu_settled_first": "CPU of it, first tenth",
    "cpu_settled_last": "last tenth",
    "memory_before": "RSS, empty",
    "memory_after": "RSS, full",
    "ready": "start to ready",
    "find_first": "`find`, first page",
    "find_rare": "`find`, nothing",
    "lanes": "`lanes`",
    "disk": "on disk",
}


def make_spool(store: str) -> Spool:
    """The spool that `store` names."""
    if store == "memory":
        return MemorySpool()
    if store.startswith("sqlite:"):
        return SqliteSpool(Path(store.removeprefix("sqlite:")), allow_temporary=True)
    from waypost.store.postgres import PostgresSpool  # needs the extra `postgres`

    return PostgresSpool(store, instance="bench")


class Meter:
    """When each tenth of some work was done."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._done = 0
        self._marks = [(time.perf_counter(), time.process_time())]

    def add(self, done: int) -> None:
        """That much more is done."""
        self._done += done
        while len(self._marks) <= 10 * self._done // self._count:
            self._marks.append((time.perf_counter(), time.process_time()))

    def figures(self, name: str) -> dict[str, float]:
        """How many a second, and seconds of this process's CPU for each, in the first tenth and in the last."""
        figures = {}
        for which, begun, ended in ("first", *self._marks[:2]), ("last", *self._marks[9:11]):
            figures[f"{name}_{which}"] = self._count / 10 / (ended[0] - begun[0])
            figures[f"cpu_{name}_{which}"] = (ended[1] - begun[1]) / (self._count / 10)
        return figures


async def fill(spool: Spool, count: int, senders: int) -> Meter:
    """Queues `count` copies."""
    client = Client("relay", "127.0.0.1", 40000, "mail.example.com", "ESMTP")
    reverse_path = Address("sender", "example.com")
    body = b"x" * (SIZE - 2) + b"\r\n"
    meter = Meter(count)
    numbers = iter(range(count))

    async def send() -> None:
        for number in numbers:
            now = time.time()
            envelope = Envelope(reverse_path, (Recipient(Address(f"user{number}", "example.com")),))
            message = Message(make_id(int(now * 1000), number), now, client, envelope, MemoryContent(body))
            await spool.prepare(message, [Planned(LANE, "migration", now + 432000)])
            spool.commit(message.id)
            meter.add(1)

    await asyncio.gather(*(send() for _ in range(senders)))
    await spool.check()
    return meter


async def drain(spool: Spool, count: int, workers: int) -> Meter:
    """Claims and settles all of it."""
    meter = Meter(count)

    async def work() -> None:
        while claimed := await spool.claim(LANE, time.time(), BATCH):
            for delivery in claimed:
                delivery.message.content.close()
                spool.settle(Settlement(delivery))
            meter.add(len(claimed))

    await asyncio.gather(*(work() for _ in range(workers)))
    await spool.check()
    return meter


async def timed(work: Awaitable[Any]) -> float:
    """How long it takes, in seconds."""
    begun = time.perf_counter()
    await work
    return time.perf_counter() - begun


def memory() -> float:
    """MiB of this process that are in memory."""
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * resource.getpagesize() / MIB


async def measure(store: str, count: int, senders: int, workers: int) -> dict[str, float]:
    """All figures for one backlog."""
    spool = make_spool(store)
    await spool.open()
    await fill(spool, 1000, senders)  # warm
    await drain(spool, 1000, workers)
    figures = {"memory_before": memory()}
    figures |= (await fill(spool, count, senders)).figures("enqueued")
    figures["memory_after"] = memory()
    if store != "memory":
        await spool.close()
        figures["disk"] = _disk(store)
        begun = time.perf_counter()
        spool = make_spool(store)
        await spool.open()
        await spool.lanes()
        figures["ready"] = time.perf_counter() - begun
    figures["find_first"] = await timed(spool.find(Filter(), limit=100))
    figures["find_rare"] = await timed(spool.find(Filter(sender="nobody@*"), limit=100))
    figures["lanes"] = await timed(spool.lanes())
    figures |= (await drain(spool, count, workers)).figures("settled")
    await spool.close()
    return figures


def _disk(store: str) -> float:
    if not store.startswith("sqlite:"):
        return 0
    folder = Path(store.removeprefix("sqlite:"))
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / MIB


def _runner() -> Callable[[Coroutine[Any, Any, Any]], Any]:
    try:
        import uvloop
    except ImportError:
        return asyncio.run
    return uvloop.run


def _in_a_process(store: str, count: int, arguments: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, "-m", "bench.backlog", "--one", str(count), "--store", store]
    command += ["--senders", str(arguments.senders), "--workers", str(arguments.workers)]
    run = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    figures: dict[str, float] = json.loads(run.stdout)
    return figures


def _shown(name: str, value: float | None) -> str:
    if value is None:
        return "–"
    if name.startswith(("enqueued", "settled")):
        return f"{value:,.0f}/s"
    if name.startswith("cpu"):
        return f"{value * 1e6:,.0f} µs"
    if name.startswith(("memory", "disk")):
        return f"{value:,.0f} MiB"
    return f"{value * 1000:,.1f} ms"


def _table(results: dict[int, dict[str, float]]) -> str:
    rows = [["queued", *COLUMNS.values()], ["---:"] * (len(COLUMNS) + 1)]
    rows += [[f"{count:,}", *(_shown(name, result.get(name)) for name in COLUMNS)] for count, result in results.items()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().split("\n")
    model = next((line.split(":")[1].strip() for line in lines if "model name" in line), platform.machine())
    return f"{model}, {os.cpu_count()} cores, {platform.system()} {platform.release()}"


def main() -> None:
    """Prints one table, or the figures of one backlog as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", default="10000,100000", help="backlogs, divided by commas")
    parser.add_argument("--store", default="sqlite:.", help="sqlite:FOLDER, memory, or the URL of a database")
    parser.add_argument("--senders", type=int, default=20, help="messages that are stored at the same time")
    parser.add_argument("--workers", type=int, default=10, help="claims that are made at the same time")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one is not None:
        work = measure(arguments.store, arguments.one, arguments.senders, arguments.workers)
        print(json.dumps(_runner()(work)))
        return
    results: dict[int, dict[str, float]] = {}
    for count in map(int, arguments.counts.split(",")):
        store, folder = arguments.store, None
        if store.startswith("sqlite:"):
            folder = tempfile.mkdtemp(prefix="backlog-", dir=store.removeprefix("sqlite:"))
            store = f"sqlite:{folder}"
        try:
            results[count] = _in_a_process(store, count, arguments)
        finally:
            if folder is not None:
                shutil.rmtree(folder)
    kind = arguments.store.partition(":")[0]
    print(f"Backlog of copies of 1 KB, store {kind}, {arguments.senders} senders, {arguments.workers} workers.")
    print(f"{_machine()}; Python {platform.python_version()}; {datetime.now(UTC):%Y-%m-%d %H:%M} UTC.\n")
    print(_table(results))


if __name__ == "__main__":
    main()
