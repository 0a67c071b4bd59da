"""A process for `test_crash.py` to kill: it uses the spool and prints what it has been promised.

p ID   prepared, durable         c ID   a later durable write proves the commit durable, too
a ID   aborted, durable          s ID   the same for a settled delivery
"""

import asyncio
import sys
from itertools import count
from pathlib import Path

from store.messages import NOW, make_message, plans
from waypost.delivery.spool import Settlement
from waypost.store.sqlite import SqliteSpool


def say(word: str, id_: str) -> None:
    sys.stdout.write(f"{word} {id_}\n")
    sys.stdout.flush()


async def send(spool: SqliteSpool, sender: int) -> None:
    """Prepares without end; of four messages one is committed, one delivered, one aborted, one left."""
    for number in count():
        id_ = f"{sender}-{number}"
        target = f"new-{sender}" if number % 4 == 1 else f"idle-{sender}"
        size = 100_000 if number % 7 == 0 else 500
        await spool.prepare(make_message(id_, id_.encode() * (size // len(id_))), plans(target, "archive"))
        say("p", id_)
        match number % 4:
            case 0:
                spool.commit(id_)
                await spool.check()
                say("c", id_)
            case 1:
                spool.commit(id_)
                for delivery in await spool.claim(target, NOW, 100):
                    spool.settle(Settlement(delivery))
                    if delivery.message.id == id_:
                        await asyncio.sleep(0.05)  # a done half is recorded within 20 ms
                        await spool.check()
                        say("s", id_)
            case 2:
                await spool.abort(id_)
                say("a", id_)


async def main(path: Path) -> None:
    """Runs until it is killed."""
    spool = SqliteSpool(path)
    await spool.open()
    say("open", "")
    await asyncio.gather(*(send(spool, sender) for sender in range(5)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
