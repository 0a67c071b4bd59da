"""Scenarios with a disaster: the store fails for a while, under mail that comes in and mail that goes out."""

import random
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from rig.ports import free_port
from torture.client import Clients
from torture.disasters import CLUSTER_IN_USE, Trial, Volume, own_cluster
from torture.play import Play
from torture.promises import Found
from torture.scenario import Letter, Scenario
from torture.stage import Lost, Nursery, Program, Sinks, configuration

_NOTICED = 0.6  # seconds until what was under way has ended, and the failure is known
_LASTS = 0.8  # seconds in which then nothing may be sent


class DisasterPlay(Play):
    """Letters of even numbers come before the disaster, the others in the middle of it."""

    def __init__(self, scenario: Scenario, nursery: Nursery, folder: Path, sinks: Sinks) -> None:
        self.stack = ExitStack()
        self.volume: Volume | None = None
        if scenario.disaster == "full":
            self.volume = self.stack.enter_context(
                Volume(folder / "spool", random.Random(scenario.seed).choice((6, 24)))
            )
        cluster = None
        if scenario.disaster == "database":
            self.stack.enter_context(CLUSTER_IN_USE)
            cluster = own_cluster()
        super().__init__(scenario, nursery, folder, sinks, cluster)

    def perform(self) -> Found:
        scenario = self.scenario
        trial = Trial(scenario, self.program, self.spool, self.volume)
        self.sinks.begin(0)
        before = self.invite([each for each in scenario.letters if each.number % 2 == 0])
        during = self.invite([each for each in scenario.letters if each.number % 2])
        self.program.start()
        before.up(True)
        time.sleep(random.Random(scenario.seed).uniform(0, 0.15))
        trial.begin()
        try:
            during.up(True)
            time.sleep(_NOTICED)
            sent = self.count()
            time.sleep(_LASTS)
            new = self.count() - sent
        finally:
            trial.end()
        if new and trial.is_total and (scenario.mode == "spool" or (scenario.copies and scenario.mode == "pass")):
            raise AssertionError(f"{new} messages were sent while no outcome could be recorded")
        return self.conclude()

    def conclude(self) -> Found:
        """What is found when everything has come to rest."""
        try:
            self.rest()
            found = self.look()
            self.program.stop()
        except Lost as error:
            raise AssertionError(f"Waypost has died by itself:\n{self.program.said()[-3000:]}") from error
        return Found(**found, left=self.left())

    def invite(self, letters: Sequence[Letter]) -> Clients:
        """Clients who wait to be let in, and come again as long as they are put off."""
        clients = Clients(letters, self.scenario.seed, self.ports, self.told, patient=True)
        self.clients.append(clients)
        clients.start()
        return clients

    def count(self) -> int:
        """How many messages have arrived anywhere."""
        return sum(map(len, self.sinks.stored().values()))

    @property
    def ports(self) -> list[int]:
        """Where clients may connect."""
        return [self.port]

    def end(self) -> None:
        super().end()
        self.stack.close()


class NeighbourPlay(DisasterPlay):
    """Two instances on one database, of which one is killed and does not come back."""

    def __init__(self, scenario: Scenario, nursery: Nursery, folder: Path, sinks: Sinks) -> None:
        super().__init__(scenario, nursery, folder, sinks)
        self.other_port = free_port()
        settings = configuration(scenario, sinks, self.other_port, self.spool)
        self.other = Program(nursery, folder / "other", settings, self.other_port)

    @property
    def ports(self) -> list[int]:
        return [self.port, self.other_port]

    def perform(self) -> Found:
        self.sinks.begin(0)
        self.program.start()
        clients = self.invite(self.scenario.letters)
        crash = next(iter(self.scenario.crashes), None)
        try:
            self.other.start(crash)
            clients.up(True)
            deadline = time.monotonic() + 2
            while time.monotonic() < deadline:
                self.other.look()
                time.sleep(0.02)
            self.other.stop()
        except Lost:
            clients.up(True)
        return self.conclude()

    @property
    def programs(self) -> list[Program]:
        return [self.program, self.other]

    def end(self) -> None:
        self.other.kill()
        super().end()


def play_of(scenario: Scenario, nursery: Nursery, folder: Path, sinks: Sinks) -> Play:
    """Who plays a scenario."""
    if scenario.disaster is None:
        return Play(scenario, nursery, folder, sinks)
    if scenario.disaster == "neighbour":
        return NeighbourPlay(scenario, nursery, folder, sinks)
    return DisasterPlay(scenario, nursery, folder, sinks)
