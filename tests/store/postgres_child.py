"""A process with a spool on PostgreSQL that does what it is told, a line of JSON at a time, until it is killed.

As a program: `postgres_child.py URL NAME LEASE`. As a module: `ChildSpool` runs it.
"""

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import structlog

from store.messages import NOW, make_message, plans
from waypost.delivery.spool import Delivery, Settlement, SpoolError
from waypost.mail.content import CHUNK, MemoryContent
from waypost.store.postgres import PostgresSpool


class ChildSpool:
    """The process, as its parent sees it."""

    def __init__(self, url: str, name: str, lease: float) -> None:
        here = Path(__file__)
        self.process = subprocess.Popen(
            [sys.executable, here, url, name, str(lease)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"PYTHONPATH": str(here.parent.parent), "PATH": "/usr/bin"},
        )
        assert self._answer() == "open"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()

    def kill(self) -> None:
        """As `kill -9` does."""
        self.process.kill()
        self.process.wait(10)

    def pause(self) -> None:
        """Stops it in its tracks."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Lets it go on."""
        self.process.send_signal(signal.SIGCONT)

    def do(self, what: str, **arguments: Any) -> Any:
        """Has something done; what came of it, `error: ...` when it raised `SpoolError`."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"what": what} | arguments).encode() + b"\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the process has died"
        return json.loads(line)


class _Child:
    def __init__(self, spool: PostgresSpool) -> None:
        self.spool = spool
        self.claimed: dict[str, Delivery] = {}

    async def prepare(self, id: str, lanes: list[str]) -> None:
        await self.spool.prepare(make_message(id), plans(*lanes))

    async def accept(self, id: str, lanes: list[str]) -> None:
        await self.spool.accept(make_message(id), plans(*lanes))

    async def commit(self, id: str) -> None:
        self.spool.commit(id)

    async def begin_upload(self, size: int) -> None:
        """Starts to store large content, and never ends."""
        content = _Endless(size)
        self.task = asyncio.create_task(self.spool.prepare(make_message("endless", content), plans("copy:new")))
        while content.given < size:
            await asyncio.sleep(0.01)

    async def claim(self, lane: str, limit: int) -> list[str]:
        claimed = await self.spool.claim(lane, NOW, limit)
        self.claimed |= {delivery.message.id: delivery for delivery in claimed}
        return [delivery.message.id for delivery in claimed]

    async def intend(self, id: str, upstream: str) -> None:
        await self.spool.intend(self.claimed[id], upstream)

    async def settle(self, id: str) -> None:
        self.spool.settle(Settlement(self.claimed.pop(id)))
        await self.spool.check()


class _Endless(MemoryContent):
    def __init__(self, size: int) -> None:
        super().__init__(b"")
        self._size = size
        self.given = 0

    @property
    def size(self) -> int:
        return 2 * self._size

    def chunks(self, start: int = 0) -> Any:
        while self.given < self._size:
            self.given += CHUNK
            yield b"x" * CHUNK
        signal.pause()


async def _run(url: str, name: str, lease: float) -> None:
    spool = PostgresSpool(url, instance=name, lease=lease)
    await spool.open()
    child = _Child(spool)
    print(json.dumps("open"), flush=True)
    while line := await asyncio.to_thread(sys.stdin.buffer.readline):
        command = json.loads(line)
        try:
            answer = await getattr(child, command.pop("what"))(**command)
        except SpoolError as error:
            answer = f"error: {error}"
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # answers only go to stdout
    asyncio.run(_run(sys.argv[1], sys.argv[2], float(sys.argv[3])))
