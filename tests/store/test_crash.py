"""kill -9, again and again: what was promised before is there after."""

import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from store.messages import NOW, octets
from waypost.delivery.spool import Settlement
from waypost.store.sqlite import SqliteSpool

TESTS = Path(__file__).parent.parent


def number_of(id_: str) -> int:
    """Which message of its sender it is."""
    return int(id_.partition("-")[2])


def run_and_kill(path: Path, seconds: float) -> dict[str, set[str]]:
    """Lets the child work on the spool for a while, kills it, and returns what it had been promised, by word."""
    said: dict[str, set[str]] = {"p": set(), "c": set(), "s": set(), "a": set()}
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
    spool = SqliteSpool(tmp_path / "spool")
    await spool.open()
    prepared = {left.message.id: left.message for left in await spool.orphans()}
    claimed: dict[str, dict[str, bytes]] = {}
    for count in await spool.lanes():
        of_target = claimed.setdefault(count.lane, {})
        while deliveries := await spool.claim(count.lane, NOW, 50):
            for delivery in deliveries:
                assert delivery.message.id not in of_target
                of_target[delivery.message.id] = octets(delivery.message.content)
                delivery.message.content.close()
                spool.settle(Settlement(delivery))
        assert len(of_target) == count.queued
    archive = claimed.pop("archive")
    primary = {id_: data for of_target in claimed.values() for id_, data in of_target.items()}

    assert said["c"] <= primary.keys() | said["s"], "committed, so owed"
    assert said["c"] <= archive.keys()
    assert said["s"] <= archive.keys(), "done for one target, owed to the other"
    assert not said["s"] & primary.keys(), "done and recorded, so not sent again"
    assert not said["a"] & (prepared.keys() | primary.keys() | archive.keys())
    aborting = {id_ for id_ in said["p"] if number_of(id_) % 4 == 2}
    assert said["p"] - aborting <= prepared.keys() | archive.keys(), "prepared, so not lost"
    for id_, data in (primary | archive).items():
        size = 100_000 if number_of(id_) % 7 == 0 else 500
        assert data == id_.encode() * (size // len(id_))
    for id_ in prepared:
        await spool.abort(id_)
    await spool.close()
    assert list((tmp_path / "spool" / "content").iterdir()) == []
    assert list((tmp_path / "spool" / "incoming").iterdir()) == []
