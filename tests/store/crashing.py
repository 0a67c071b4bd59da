"""A process for `test_crash.py` to kill: it uses the spool and prints what it has been promised.

p ID   prepared, durable              c ID   a later durable write proves the commit durable, too
a ID   aborted, durable               s ID   the same for a settled copy
k ID   accepted, durable              w ID   committed with other deliveries, durable
i ID   an intent for its primary delivery is durable
d ID   a later durable write proves its primary delivery settled, with a copy and a notice
"""

import asyncio
import sys
from itertools import count
from pathlib import Path

from store.messages import APPS, ARCHIVE, NOW, make_message, plan, plans
from waypost.delivery.spool import Settlement
from waypost.store.sqlite import SqliteSpool

NOTICES = "primary:notices"
KINDS = 6


def say(word: str, id_: str) -> None:
    sys.stdout.write(f"{word} {id_}\n")
    sys.stdout.flush()


def content_of(id_: str) -> bytes:
    """Small, mostly; some is kept in a file."""
    size = 100_000 if int(id_.partition("-")[2]) % 7 == 0 else 500
    return id_.encode() * (size // len(id_))


async def send(spool: SqliteSpool, sender: int) -> None:
    """Stores messages without end, of six kinds: committed, delivered, aborted, left, re-committed, accepted."""
    for number in count():
        id_ = f"{sender}-{number}"
        message = make_message(id_, content_of(id_))
        kind = number % KINDS
        if kind == 5:
            await accepted(spool, sender, id_)
            continue
        lane = f"copy:new-{sender}" if kind == 1 else f"copy:idle-{sender}"
        await spool.prepare(message, plans(lane, ARCHIVE))
        say("p", id_)
        match kind:
            case 0:
                spool.commit(id_)
                await spool.check()
                say("c", id_)
            case 1:
                spool.commit(id_)
                for delivery in await spool.claim(lane, NOW, 100):
                    spool.settle(Settlement(delivery))
                    if delivery.message.id == id_:
                        await spool.check()
                        say("s", id_)
            case 2:
                await spool.abort(id_)
                say("a", id_)
            case 4:
                (running,) = await spool.commit_as(id_, [plan(APPS, running=True), plan(ARCHIVE)])
                say("w", id_)
                running.message.content.close()


async def accepted(spool: SqliteSpool, sender: int, id_: str) -> None:
    """A message of which the process is delivering the primary delivery; of two, one gets its outcome."""
    (primary,) = await spool.accept(make_message(id_, content_of(id_)), [plan(APPS, running=True)])
    say("k", id_)
    await spool.intend(primary, f"ses-{sender}")
    say("i", id_)
    primary.message.content.close()
    if int(id_.partition("-")[2]) % (2 * KINDS) == 5:
        notice = make_message(f"n{id_}", b"Subject: failed\r\n")
        spool.settle(Settlement(primary, copies=(plan(ARCHIVE),), notices=((notice, plan(NOTICES)),)))
        await spool.check()
        say("d", id_)


async def main(path: Path) -> None:
    """Runs until it is killed."""
    spool = SqliteSpool(path, allow_temporary=True)
    await spool.open()
    say("open", "")
    await asyncio.gather(*(send(spool, sender) for sender in range(5)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
