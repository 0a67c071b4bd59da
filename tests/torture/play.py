"""One scenario on its stage: program, clients and upstreams, crash after crash, until everything has come to rest."""

import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

from rig.ports import free_port
from rig.postgres import PostgresCluster, new_database, shared_cluster
from torture.client import Clients, Told
from torture.promises import Found, ids_of
from torture.scenario import Crash, Scenario
from torture.stage import Lost, Nursery, Program, Sinks, Unavailable, configuration

_REST = 25.0  # seconds within which everything must have come to rest
_HOLDING = (b'"event":"copies_held"', b'"event":"in_doubt"')
"""What is logged when copies wait for the client to come again."""

_PACE = 0.04  # seconds between two looks
_LINGER = 0.15  # seconds for the last writes, of outcomes and of the journal, of a program that waits to be killed


class Play:
    """One scenario on its stage."""

    def __init__(
        self, scenario: Scenario, nursery: Nursery, folder: Path, sinks: Sinks, cluster: PostgresCluster | None = None
    ) -> None:
        self.scenario = scenario
        self.sinks = sinks
        self.port = free_port()
        self.cluster = cluster
        if scenario.store == "sqlite":
            self.spool = str(folder / "spool")
        elif cluster is None:
            self.cluster, self.spool = _database()
        else:
            self.spool = cluster.url(cluster.create_database())
        self.program = Program(
            nursery, folder / "run", configuration(scenario, sinks, self.port, self.spool), self.port
        )
        self.told = Told()
        self.clients: list[Clients] = []
        self._held_until = 0.0

    def perform(self) -> Found:
        """All of it; what is found at the end. Raises AssertionError when it does not come to an end."""
        for wave, crash in enumerate(self.scenario.crashes):
            try:
                self.start(wave, crash)
                self.rest(_LINGER)
                self.program.stop()
            except Lost:
                self.announce(up=False)
        try:
            self.start(len(self.scenario.crashes))
            self.rest()
            found = self.look()
            self.program.stop()
        except Lost as error:  # nothing was ordered that would kill it
            raise AssertionError(f"Waypost has died by itself:\n{self.program.said()[-3000:]}") from error
        return Found(**found, left=self.left())

    @property
    def programs(self) -> list[Program]:
        """All that take part."""
        return [self.program]

    def struck(self) -> list[str]:
        """The steps at which they were killed."""
        return [step for program in self.programs for step in program.struck()]

    def start(self, wave: int, crash: Crash | None = None) -> None:
        """Begins a wave: troubles, the program, and clients. Raises `Lost`."""
        scenario = self.scenario
        self.sinks.begin(wave)
        letters = [letter for letter in scenario.letters if letter.wave == wave]
        clients = Clients(letters, scenario.seed, [self.port], self.told)
        self.clients.append(clients)
        clients.start()
        self.program.start(crash, scenario.jumps[wave] if wave < len(scenario.jumps) else 0.0)
        self.announce(up=True)

    def announce(self, *, up: bool) -> None:
        """Lets the clients know whether there is anybody to connect to."""
        for clients in self.clients:
            clients.up(up)

    def rest(self, linger: float = 0.0) -> None:
        """Waits until the clients are through and nothing is owed any more. Raises `Lost`."""
        deadline = time.monotonic() + _REST
        since: float | None = None
        hastened = time.monotonic()
        while True:
            self.program.look()
            now = time.monotonic()
            if any(self.scenario.jumps) and now - hastened > 1:
                self.program.hasten()
                hastened = now
            if all(clients.done for clients in self.clients) and now >= self.held_until() and self.owes_nothing():
                since = now if since is None else since
                if now - since >= linger:
                    return
            else:
                since = None
            if now > deadline:
                raise AssertionError(f"not at rest after {_REST:g} s: {self.state()}")
            time.sleep(_PACE)

    def held_until(self) -> float:
        """Until when copies may be held without being in the queue: as the log says, by this process's clock."""
        if any(program.says_more(*_HOLDING) for program in self.programs):
            self._held_until = time.monotonic() + self.scenario.hold + 0.15
        return self._held_until

    def owes_nothing(self) -> bool:
        """Whether the queue is empty but for dead letters, and nothing is prepared by a process that has died."""
        try:
            lanes = self.ask("/api/queue/summary")
        except Unavailable:
            return False
        if any(lane["queued"] or lane["held"] for lane in lanes):
            return False
        return self.cluster is None or not prepared_in(self.cluster, self.spool)

    def ask(self, path: str) -> list[dict[str, Any]]:
        """What the control API says. Raises `Lost`."""
        try:
            return self.program.ask(path)
        except Unavailable:
            raise
        except OSError as error:
            self.program.look()
            time.sleep(0.05)
            self.program.look()
            raise AssertionError(f"the control API does not answer: {error}") from error

    def look(self) -> dict[str, Any]:
        """What there is to be seen while the program still runs."""
        stored = self.sinks.stored()
        told = self.told
        ids = ids_of(stored) | {each.id for each in told.tries if each.id is not None}
        journal = {}
        for id_ in sorted(filter(None, ids)):
            lives = self.ask(f"/api/trace?about={id_}")
            journal[id_] = lives[0]["events"] if lives else []
        return {
            "told": told,
            "stored": stored,
            "dead": self.ask("/api/queue?state=dead"),
            "journal": journal,
            "records": [record for program in self.programs for record in program.records()],
        }

    def left(self) -> list[str]:
        """What the stopped program has left in its store, besides dead letters."""
        return left_in(Path(self.spool)) if self.cluster is None else left_in_database(self.cluster, self.spool)

    def state(self) -> str:
        """What it is waiting for, for people."""
        try:
            queue = self.program.ask("/api/queue")
        except OSError as error:
            queue = [{"error": str(error)}]
        done = [clients.done for clients in self.clients]
        return f"clients done: {done}, queue: {queue}\n{self.program.said()[-3000:]}"

    def end(self) -> None:
        """Ends everything that still runs."""
        self.program.kill()
        for clients in self.clients:
            clients.stop()


_one_at_a_time = threading.Lock()


def _database() -> tuple[PostgresCluster, str]:
    """The shared cluster, started by the first who needs it, and the URL of an empty database in it."""
    with _one_at_a_time:
        return shared_cluster(), new_database()


def prepared_in(cluster: PostgresCluster, url: str) -> bool:
    """Whether a message is prepared in a PostgreSQL spool: it is in no queue, and may still be delivered."""
    return cluster.sql("SELECT count(*) FROM waypost.prepared", url.rpartition("/")[2]) != "0"


def left_in_database(cluster: PostgresCluster, url: str) -> list[str]:
    """Rows of a PostgreSQL spool that no dead letter needs, and instances that have not left."""
    database = url.rpartition("/")[2]
    questions = {
        "message that no delivery needs": "SELECT id FROM waypost.message m WHERE NOT EXISTS"
        " (SELECT FROM waypost.delivery d WHERE d.message = m.key)",
        "prepared message": "SELECT message FROM waypost.prepared",
        "delivery": "SELECT id FROM waypost.delivery WHERE state <> 'dead'",
        "upload": "SELECT message FROM waypost.upload",
        "chunk without a message": "SELECT message FROM waypost.chunk c WHERE NOT EXISTS"
        " (SELECT FROM waypost.message m WHERE m.key = c.message)",
    }
    left = []
    for what, question in questions.items():
        left += [f"{what} {row}" for row in filter(None, cluster.sql(question, database).split("\n"))]
    cluster.sql(f"DROP DATABASE {database} WITH (FORCE)")
    return left


def left_in(spool: Path) -> list[str]:
    """Rows and files of an SQLite spool that no dead letter needs."""
    with sqlite3.connect(f"file:{spool / 'spool.db'}?mode=ro", uri=True) as database:

        def rows(sql: str) -> list[Any]:
            return [row[0] for row in database.execute(sql)]

        left = [
            f"message {id_} that no delivery needs"
            for id_ in rows("SELECT id FROM message WHERE NOT EXISTS (SELECT 1 FROM delivery WHERE id >> 16 = key)")
        ]
        left += [f"a row in whole, of {key}" for key in rows("SELECT message FROM whole")]
        left += [f"an intent of {id_}" for id_ in rows("SELECT delivery FROM intent")]
        left += [f"delivery {id_} in state {0}" for id_ in rows("SELECT id FROM delivery WHERE state <> 2")]
        kept = {str(key) for key in rows("SELECT key FROM message WHERE file_size IS NOT NULL")}
    left += [f"file {path.name}" for path in (spool / "content").iterdir() if path.name not in kept]
    return left + [f"incoming/{path.name}" for path in (spool / "incoming").iterdir()]
