"""kill -9, again and again: what was promised before is there after."""

import os
import random
import subprocess
import sys
import threading
from collections import defaultdict
from pathlib import Path

import pytest

from store.crashing import KINDS, NOTICES, content_of
from store.messages import APPS, ARCHIVE, NOW, octets
from waypost.delivery.spool import Settlement
from waypost.store.sqlite import SqliteSpool

TESTS = Path(__file__).parent.parent


def run_and_kill(path: Path, seconds: float) -> defaultdict[str, set[str]]:
    """Lets the child work on the spool for a while, kills it, and returns what it had been promised, by word."""
    said: defaultdict[str, set[str]] = defaultdict(set)
    with subprocess.Popen(
        [sys.executable, TESTS / "store" / "crashing.py", path],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(TESTS)},
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "open \n"
        killer = threading.Timer(seconds, child.kill)
        killer.start()
        for line in child.stdout:
            if line.endswith("\n"):
                word, _, id_ = line.strip().partition(" ")
                said[word].add(id_)
        killer.join()
    assert child.returncode == -9
    return said


@pytest.mark.parametrize("seed", range(4))
async def test_what_was_promised_survives_kill_g7(tmp_path: Path, seed: int) -> None:
    said = run_and_kill(tmp_path / "spool", random.Random(seed).uniform(0.2, 0.7))
    assert len(said["p"]) > 20
    assert said["i"]
    spool = SqliteSpool(tmp_path / "spool", allow_temporary=True)
    await spool.open()
    prepared = {left.message.id: left.message for left in await spool.orphans()}
    claimed: dict[str, set[str]] = {}
    doubts: dict[str, str | None] = {}
    for count in await spool.lanes():
        of_lane = claimed.setdefault(count.lane, set())
        while deliveries := await spool.claim(count.lane, NOW, 50):
            for delivery in deliveries:
                id_ = delivery.message.id
                assert id_ not in of_lane, "nothing is owed twice"
                of_lane.add(id_)
                data = b"Subject: failed\r\n" if count.lane == NOTICES else content_of(id_)
                assert octets(delivery.message.content) == data
                delivery.message.content.close()
                if count.lane == APPS:
                    doubts[id_] = delivery.doubt
                else:
                    assert delivery.doubt is None
                spool.settle(Settlement(delivery))
        assert len(of_lane) == count.queued
    archive, apps = claimed.pop(ARCHIVE), claimed.pop(APPS)
    notices = {id_.removeprefix("n") for id_ in claimed.pop(NOTICES, set())}
    copies = set().union(*claimed.values())
    owed = prepared.keys() | archive | apps

    assert said["c"] <= copies, "committed, so owed"
    assert said["c"] <= archive
    assert said["s"] <= archive, "done in one lane, owed in the other"
    assert not said["s"] & copies, "done and recorded, so not sent again"
    assert not said["a"] & (owed | copies)
    aborting = {id_ for id_ in said["p"] if int(id_.partition("-")[2]) % KINDS == 2}
    assert said["p"] - aborting <= owed, "prepared, so not lost"
    assert said["w"] <= apps & archive, "committed with other deliveries, which are what is owed"
    assert not said["w"] & copies
    assert said["k"] <= apps | archive, "accepted, so owed: the primary delivery, or the copy that it has left"
    for id_ in said["k"] & apps:
        known = {None, f"ses-{id_.partition('-')[0]}"}
        assert doubts[id_] in known
        assert doubts[id_] is not None or id_ not in said["i"], "an intent without an outcome is in doubt"
    assert not {id_ for id_, doubt in doubts.items() if doubt is not None} & said["w"]
    for id_ in said["k"]:
        assert (id_ in apps) + (id_ in archive) == 1, "a settlement is recorded as a whole"
        assert (id_ in archive) == (id_ in notices)
    assert said["d"] <= archive & notices
    for id_ in prepared:
        await spool.abort(id_)
    await spool.close()
    assert list((tmp_path / "spool" / "content").iterdir()) == []
    assert list((tmp_path / "spool" / "incoming").iterdir()) == []
