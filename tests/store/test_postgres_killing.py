"""Instances killed at any moment while they store and deliver: nothing is lost, and repeated only what is in doubt."""

import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from rig.postgres import new_database

LEASE = 0.5


def start(url: str, name: str, diary: Path, count: int) -> subprocess.Popen[bytes]:
    here = Path(__file__).parent
    words = [sys.executable, here / "postgres_worker.py", url, name, str(LEASE), diary, str(count)]
    return subprocess.Popen(words, env={"PYTHONPATH": str(here.parent), "PATH": "/usr/bin"}, stderr=subprocess.DEVNULL)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_killed_instances_lose_nothing_and_repeat_only_what_is_in_doubt(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    url, diary = new_database(), tmp_path / "diary"
    diary.touch()
    running = [start(url, f"mx{number}", diary, 10**6) for number in range(2)]
    for number in range(4):
        time.sleep(chance.uniform(0.5, 1.2))  # the moment at which one is killed
        which = chance.randrange(2)
        running[which].kill()
        running[which].wait(10)
        # Half of them come back under the same name, the others are missed until their lease is over.
        name = f"mx{which}" if chance.random() < 0.5 else f"other{number}"
        running[which] = start(url, name, diary, 10**6)
    time.sleep(chance.uniform(0.5, 1.2))  # likewise
    for process in running:
        process.kill()
        process.wait(10)
    assert start(url, "last", diary, 0).wait(60) == 0

    said = Counter(tuple(line.split()) for line in diary.read_text("ascii").split("\n") if line)
    accepted = {id_ for word, id_ in said if word == "accepted"}
    sent = {id_: said["sent", id_] for word, id_ in said if word == "sent"}
    assert len(accepted) > 200, "it was too slow to show anything"
    assert accepted - sent.keys() == set(), "lost"
    assert [id_ for id_, times in sent.items() if times > 1 + said["doubted", id_]] == [], "sent twice"
    assert sum(said["doubted", id_] for id_ in sent) > 0, "nobody was killed in the middle"
