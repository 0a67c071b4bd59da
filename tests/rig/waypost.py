"""Waypost as its users run it: the installed command, in a process of its own."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import pytest
import yaml

from rig.waiting import wait_until

COMMAND = Path(sys.executable).parent / "waypost"

Record = dict[str, Any]


class WaypostProcess:
    """`waypost run` with a configuration, from its first 220 to SIGTERM.

    `settings` is the configuration file's content as plain values; with None, `arguments`, `env` and what lies
    in `folder`, the working directory, have to be enough. `ports` are those that must answer 220, `tls_ports`
    those that must take a connection, before the process counts as started. A second `start` uses the same
    arguments, environment and folder.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, Any] | None,
        *,
        ports: Sequence[int] = (),
        tls_ports: Sequence[int] = (),
        arguments: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._greetings = [*((port, b"220 ") for port in ports), *((port, b"") for port in tls_ports)]
        self._arguments = list(arguments)
        runtime = {"RUNTIME_DIRECTORY": str((folder / "runtime").absolute())}  # not everybody's
        self._environment = {**_clean_environment(), **runtime, **(env or {})}
        if settings is not None:
            path = folder / "waypost.yaml"
            path.write_text(yaml.safe_dump(dict(settings), sort_keys=False), "utf-8")
            self._arguments += ["--config", str(path)]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id of the running process."""
        assert self._process is not None, "Waypost is not running"
        return self._process.pid

    def start(self) -> Self:
        """Starts, and returns when every port has answered 220."""
        with self._log("stdout").open("ab") as stdout, self._log("stderr").open("ab") as stderr:
            self._process = self._spawn(stdout, stderr)
        for port, greeting in self._greetings:
            wait_until(lambda port=port, greeting=greeting: self._greets(port, greeting), f"a listener on port {port}")
        return self

    def stop(self, seconds: float = 15) -> int:
        """SIGTERM, and the exit code within `seconds`."""
        return self._end(signal.SIGTERM, seconds)

    def wait(self, seconds: float = 15) -> int:
        """The exit code of a process that ends by itself."""
        process, self._process = self._process, None
        assert process is not None, "Waypost is not running"
        return process.wait(seconds)

    def kill(self) -> None:
        """SIGKILL: nothing in the process has a chance to tidy up."""
        self._end(signal.SIGKILL, 15)

    def records(self, event: str | None = None) -> list[Record]:
        """The log records so far, in order; with `event`, those of this event only."""
        found = []
        for stream in ("stdout", "stderr"):
            path = self._log(stream)
            for line in path.read_bytes().split(b"\n") if path.exists() else []:
                if line.startswith(b"{") and line.endswith(b"}"):
                    found.append(json.loads(line))
        return found if event is None else [record for record in found if record.get("event") == event]

    def wait_for_record(self, event: str, count: int = 1, seconds: float = 15, **fields: object) -> list[Record]:
        """The records of `event` with these fields, as soon as there are `count`."""

        def enough() -> list[Record]:
            found = [
                record
                for record in self.records(event)
                if all(record.get(key) == value for key, value in fields.items())
            ]
            return found if len(found) >= count else []

        return wait_until(enough, f"{count} records {event} {fields or ''}", seconds)

    def output(self) -> str:
        """Everything that the process has written to its standard streams."""
        return "".join(
            self._log(stream).read_text("utf-8", "backslashreplace")
            for stream in ("stdout", "stderr")
            if self._log(stream).exists()
        )

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self._end(signal.SIGKILL, 15)
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is None:
            return
        if kind is not None:
            self.kill()
            print(f"--- what Waypost wrote\n{self.output()}")  # pytest shows it under the failure
            return
        code = self.stop()
        said = self.output()
        assert code == 0, f"Waypost ended with exit code {code}:\n{said}"
        assert "Traceback (most recent call last)" not in said, said

    def _log(self, stream: str) -> Path:
        return self.folder / f"{stream}.log"

    def _spawn(self, stdout: IO[bytes], stderr: IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [COMMAND, "run", *self._arguments],
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
        )

    def _greets(self, port: int, greeting: bytes) -> bool:
        assert self._process is not None
        code = self._process.poll()
        if code is not None:
            self._process = None
            pytest.fail(f"Waypost ended with exit code {code} before it listened:\n{self.output()}", pytrace=False)
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as probe:
                if greeting:
                    greeted = probe.recv(512).startswith(greeting)
                    probe.sendall(b"QUIT\r\n")
                    return greeted
                return True
        except OSError:
            return False

    def _end(self, with_signal: signal.Signals, seconds: float) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        process.send_signal(with_signal)
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(15)
            raise AssertionError(f"Waypost did not end within {seconds} seconds:\n{self.output()}") from None


def waypost(
    *arguments: str, folder: Path | None = None, env: Mapping[str, str] | None = None, seconds: float = 30
) -> subprocess.CompletedProcess[str]:
    """Runs another of Waypost's commands to its end."""
    return subprocess.run(
        [COMMAND, *arguments],
        cwd=folder,
        env={**_clean_environment(), **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=seconds,
        check=False,
    )


def _clean_environment() -> dict[str, str]:
    """The environment without anything that would configure Waypost."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("WAYPOST_", "SMTP_DUP_"))}
