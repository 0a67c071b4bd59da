"""A process that stores messages and delivers them, as quickly as it can, until it is killed or the spool is empty.

`postgres_worker.py URL NAME LEASE DIARY COUNT`: its diary, which several write, says in lines of one word and a
message's id what it knows: `accepted`, `doubted` (handed out in doubt), `sent` (after the intent was recorded).
"""

import asyncio
import os
import sys

import structlog

from store.messages import ANN, NOW, make_message, plans
from waypost.delivery.spool import Delivery, Settlement, SpoolError
from waypost.store.postgres import PostgresSpool

LANE = "copy:new"


async def run(url: str, name: str, lease: float, diary: int, count: int) -> None:
    """Stores `count` messages and delivers what there is, of others too. With none to store it stops at the end."""
    spool = PostgresSpool(url, instance=name, lease=lease)
    await spool.open()

    def write(word: str, id_: str) -> None:
        os.write(diary, f"{word} {id_}\n".encode())

    async def store(first: int) -> None:
        for number in range(first, count, 4):
            id_ = f"{os.getpid()}-{number}"
            message = make_message(id_, recipients=(ANN,))
            if number % 2:
                await spool.prepare(message, plans(LANE))
                spool.commit(id_)
                await spool.check()
            else:
                await spool.accept(message, plans(LANE))
            write("accepted", id_)

    async def send(delivery: Delivery) -> None:
        id_ = delivery.message.id
        if delivery.doubt is not None:
            write("doubted", id_)
        try:
            await spool.intend(delivery, "new-1")
        except SpoolError:
            pass  # it is somebody else's now
        else:
            write("sent", id_)
            await asyncio.sleep(0.003)  # so long it takes, and in that time it is killed as a rule
        spool.settle(Settlement(delivery))

    async def deliver() -> None:
        while True:
            for orphan in await spool.orphans():
                spool.commit(orphan.message.id)
            claimed = await spool.claim(LANE, NOW, 5)
            await asyncio.gather(*map(send, claimed))
            if not claimed and not count and not await spool.lanes() and len(await spool.instances()) == 1:
                return
            await asyncio.sleep(0.001)

    await asyncio.gather(deliver(), *map(store, range(4)))
    await spool.close()


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    url, name, lease, path, count = sys.argv[1:]
    opened = os.open(path, os.O_WRONLY | os.O_APPEND)
    asyncio.run(run(url, name, float(lease), opened, int(count)))
