"""The stage of a scenario: upstreams that outlive every crash, the configuration, and the program between them."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from rig.control import UnixConnection
from rig.faults import close, hang, hold, say
from rig.sink import StoringSink
from rig.stored import StoredMessage
from torture.scenario import SILENT_DOT, Crash, Scenario, Trouble, Where

TESTS = Path(__file__).parent.parent
WHERES: tuple[Where, ...] = ("primary", "second", "copy1", "copy2", "home")
TUNED = {
    "waypost.delivery.verdict:FAULT_PAUSE": 0.3,
    "waypost.delivery.verdict:BUSY_PAUSE": 0.3,
    "waypost.app.custody:ORPHANS_EVERY": 0.3,
}
"""Pauses that are long in earnest."""
TUNED_POSTGRES = {"waypost.store.postgres.spool:PostgresSpool.__init__.lease": 1.0}

_READY = 20.0  # seconds until a started program takes connections
_SLOW = 0.3  # seconds that a slow upstream takes


class Lost(Exception):  # noqa: N818 - an event, not an error
    """The program is not there (any more)."""


class Unavailable(OSError):  # noqa: N818 - what is asked is answered later
    """The store cannot be read now."""


class Nursery:
    """Processes of the program, started from one that has imported it. For one thread."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "torture.program", "--nursery"],
            cwd=TESTS,
            env=_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, order: Mapping[str, Any]) -> int:
        """A new process; its id."""
        return int(self._ask({"start": order}))

    def poll(self, pid: int) -> int | None:
        """The exit status, negative for a signal; None while it runs. To be asked until it is known, then no more."""
        return self._ask({"poll": pid})

    def close(self) -> None:
        """Ends it, and what it has started."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(20)
        self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, wish: Mapping[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{json.dumps(wish)}\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("WAYPOST_", "SMTP_DUP_"))}
    return kept | {"PYTHONPATH": str(TESTS)}


class Program:
    """One Waypost, started again and again in its folder."""

    def __init__(self, nursery: Nursery, folder: Path, settings: Mapping[str, Any], port: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = port
        self.pid: int | None = None
        self.starts = 0
        self._nursery = nursery
        self._config = folder / "waypost.yaml"
        self._config.write_text(yaml.safe_dump(dict(settings), sort_keys=False), "utf-8")
        spool = settings["spool"].get("path")
        self._control = Path(spool or folder) / "control.sock"
        self._tuned = TUNED | ({} if spool else TUNED_POSTGRES)
        self._store = "sqlite" if spool else "postgres"
        self._clock = folder / "clock"
        self._looked = {"stdout.log": 0, "stderr.log": 0}

    def start(self, crash: Crash | None = None, jump: float = 0.0) -> None:
        """Starts it, with a crash in it. It may be dead before it has come up."""
        self._clock.write_text(f"{jump:.0f}")
        order: dict[str, Any] = {
            "folder": str(self.folder),
            "config": str(self._config),
            "clock": str(self._clock),
            "tuned": self._tuned,
            "env": {"RUNTIME_DIRECTORY": str(self.folder)},
        }
        if crash is not None:
            order["crash"] = [crash.step, crash.nth, self._store]
        self.starts += 1
        self.pid = self._nursery.start(order)
        deadline = time.monotonic() + _READY
        while not self._greets():
            self.look()
            if time.monotonic() > deadline:
                raise AssertionError(f"Waypost does not come up:\n{self.said()[-3000:]}")
            time.sleep(0.005)

    def look(self) -> None:
        """Raises `Lost` when it has died, and AssertionError when it has ended in another way."""
        if self.pid is None:
            raise Lost
        status = self._nursery.poll(self.pid)
        if status is None:
            return
        self.pid = None
        if status == -signal.SIGKILL:
            raise Lost
        raise AssertionError(f"Waypost ended with {status}:\n{self.said()[-3000:]}")

    def stop(self) -> None:
        """SIGTERM. Raises `Lost` when it dies on the way, AssertionError when it does not end well."""
        if self.pid is None:
            raise Lost
        pid = self.pid
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + 20
        while (status := self._nursery.poll(pid)) is None:
            if time.monotonic() > deadline:
                raise AssertionError("Waypost does not end")
            time.sleep(0.005)
        self.pid = None
        if status == -signal.SIGKILL:
            raise Lost
        assert status == 0, f"Waypost ended with {status}:\n{self.said()[-3000:]}"

    def kill(self) -> None:
        """SIGKILL from outside, if it runs."""
        if self.pid is not None:
            pid, self.pid = self.pid, None
            os.kill(pid, signal.SIGKILL)
            while self._nursery.poll(pid) is None:
                time.sleep(0.005)

    def ask(self, path: str) -> list[dict[str, Any]]:
        """The answer of the control API, line by line. Raises OSError and http.client's errors."""
        connection = UnixConnection(self._control)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            octets = answer.read()
            if answer.status == 503:
                raise Unavailable(f"{path}: {octets!r}")
            if answer.status != 200:
                raise OSError(f"{path}: {answer.status} {octets!r}")
            return [json.loads(line) for line in octets.split(b"\n") if line]
        except http.client.HTTPException as error:
            raise OSError(str(error)) from error
        finally:
            connection.close()

    def hasten(self) -> None:
        """Does what an operator may do when the clock was wrong by some minutes or hours: `waypost queue retry --all`.

        What would wait for days must not need it, so that is left alone.
        """
        now = time.time() + float(self._clock.read_text())
        waits = [
            datetime.fromisoformat(each["next_attempt_at"]).timestamp() - now
            for each in self.ask("/api/queue?state=queued")
        ]
        if waits and all(60 < wait < 86400 for wait in waits):
            connection = UnixConnection(self._control)
            try:
                wish = {"action": "retry", "all": True}
                connection.request("POST", "/api/queue/actions", json.dumps(wish))
                connection.getresponse().read()
            finally:
                connection.close()

    def records(self) -> list[dict[str, Any]]:
        """Everything that was logged by all of them; a line that a crash has cut is left out."""
        found = []
        for name in ("stdout.log", "stderr.log"):
            path = self.folder / name
            for line in path.read_bytes().split(b"\n") if path.exists() else ():
                if line.startswith(b"{") and line.endswith(b"}"):
                    try:
                        found.append(json.loads(line))
                    except ValueError:
                        continue  # two halves, of the one who died and the one who came after
        return found

    def says_more(self, *words: bytes) -> bool:
        """Whether any of these words has been logged since this was asked last."""
        found = False
        for name in ("stdout.log", "stderr.log"):
            path = self.folder / name
            if path.exists():
                with path.open("rb") as file:
                    file.seek(self._looked[name])
                    octets = file.read()
                whole = octets.rfind(b"\n") + 1
                self._looked[name] += whole
                found |= any(word in octets[:whole] for word in words)
        return found

    def said(self) -> str:
        """What it wrote."""
        paths = [self.folder / name for name in ("stdout.log", "stderr.log")]
        return "".join(path.read_text("utf-8", "backslashreplace") for path in paths if path.exists())

    def struck(self) -> list[str]:
        """The steps at which it was killed."""
        path = self.folder / "struck"
        return path.read_text("utf-8").split("\n")[:-1] if path.exists() else []

    def _greets(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as probe:
                greeted = probe.recv(512).startswith(b"220 ")
                probe.sendall(b"QUIT\r\n")
                return greeted
        except OSError:
            return False


class Sinks:
    """The upstreams, in this process. They keep what they get whatever becomes of Waypost."""

    def __init__(self, scenario: Scenario) -> None:
        self._stack = ExitStack()
        self.by_name = {name: StoringSink(name=f"{name}.example") for name in WHERES}
        self._troubles = scenario.troubles
        self._timers: list[threading.Timer] = []

    def begin(self, wave: int) -> None:
        """The troubles of earlier waves are over, those of this one begin."""
        for sink in self.by_name.values():
            sink.behave()
        for trouble in self._troubles:
            if trouble.wave == wave:
                self._order(trouble)

    def _order(self, trouble: Trouble) -> None:
        sink = self.by_name[trouble.where]
        phase: Any = trouble.phase
        match trouble.manner:
            case "close":
                fault = close()
            case "4yz":
                fault = say("451 4.3.2 not now")
            case "5yz":
                fault = say("550 5.7.1 not here")
            case "hang":
                fault = hang()
            case "slow":
                release = threading.Event()
                timer = threading.Timer(_SLOW, release.set)
                timer.daemon = True
                timer.start()
                self._timers.append(timer)
                fault = hold(release)
        sink.on(phase, fault, trouble.times)

    def stored(self) -> dict[Where, list[StoredMessage]]:
        """What each of them has taken so far."""
        return {name: list(sink.messages) for name, sink in self.by_name.items()}

    def __enter__(self) -> Self:
        for sink in self.by_name.values():
            self._stack.enter_context(sink)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for timer in self._timers:
            timer.cancel()
        self._stack.__exit__(kind, error, trace)


def configuration(scenario: Scenario, sinks: Sinks, port: int, spool: str) -> dict[str, Any]:
    """The configuration of a scenario; `spool` is a folder or a URL."""
    dot = SILENT_DOT if scenario.is_silent else 10
    timeouts = dict.fromkeys(("connect", "greeting", "command", "data", "block"), 10) | {"dot": dot}
    timeouts = {phase: f"{seconds * 1000:.0f}ms" for phase, seconds in timeouts.items()}
    upstreams = {
        name: {"address": sink.address, "timeouts": timeouts, "background_timeouts": timeouts, "tls": "off"}
        for name, sink in sinks.by_name.items()
    }
    route: dict[str, Any] = {
        "primary": "primaries" if scenario.second else "primary",
        "acceptance": scenario.mode,
        "backoff": ["100ms"],
        "in_doubt_hold": f"{scenario.hold * 1000:.0f}ms",
        # This and what is kept below is beyond any jump of the clock: what expires or is forgotten is another matter.
        "lifetime": "365d",
        "sync_budget": "200ms",
    }
    if scenario.in_doubt is not None:
        route["in_doubt"] = scenario.in_doubt
    if scenario.copies:
        route["copies"] = list(scenario.targets)
    else:
        upstreams = {name: upstream for name, upstream in upstreams.items() if not name.startswith("copy")}
    is_url = spool.startswith("postgresql://")
    return {
        "hostname": "waypost.example",
        "listeners": [{"address": f"127.0.0.1:{port}", "mode": "relay", "trusted_networks": ["127.0.0.0/8"]}],
        "upstreams": upstreams,
        "pools": {"primaries": {"strategy": "ordered", "upstreams": ["primary", "second"]}},
        "routes": {"all": route, "back": {"primary": "home", "acceptance": "spool", "backoff": ["100ms"]}},
        "rules": [
            {"recipient": ["*@sender.example"], "route": "back"},
            {"recipient": ["*"], "route": "all"},
        ],
        "spool": {"keep_dead": "365d", **({"url": spool} if is_url else {"path": spool, "allow_temporary": True})},
        "journal": "365d",
        "notifications": {"per_hour": 1000},
        "log": {"format": "json"},
        "limits": {"spill_size": "64KiB"},
        "shutdown_timeout": "5s",
    }
