"""The harness's side of the counting sink: starts it, asks it, waits until everything has arrived."""

import json
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from bench import ROOT
from bench.ports import free_port

POLL = 0.02  # seconds between two questions


class MissingError(Exception):
    """What should have arrived did not, or came twice."""


@dataclass(frozen=True, slots=True)
class Count:
    """What one port of the sink took since `reset`."""

    messages: int
    octets: int
    recipients: int  # different ones
    repeated: int  # recipients that came again
    last: float  # time.monotonic() of the last message
    first: float = 0.0


class Arrivals:
    """A sink process with one port for the primary and one for each copy; those of `put_off` first say 451.

    With a `certificate` (PEM, with its key) they speak TLS from the first octet.
    """

    def __init__(
        self,
        directory: Path,
        names: tuple[str, ...],
        *,
        put_off: tuple[str, ...] = (),
        certificate: Path | None = None,
    ) -> None:
        self.ports = {name: free_port() for name in names}
        self._path = str(directory / "sink.sock")
        listen = [f"--listen={name}={port}" for name, port in self.ports.items()]
        command = [sys.executable, "-m", "bench.sink", f"--control={self._path}", *listen]
        command += [f"--put-off={name}" for name in put_off]
        command += [f"--certificate={certificate}"] if certificate else []
        self._process = subprocess.Popen(command, cwd=ROOT, start_new_session=True)  # Ctrl-C is for the harness alone
        self._control = self._connect()
        self._file = self._control.makefile("rwb")

    def _connect(self) -> socket.socket:
        deadline = time.monotonic() + 10
        while True:
            control = socket.socket(socket.AF_UNIX)
            try:
                control.connect(self._path)
            except OSError:
                control.close()
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise MissingError("the counting sink did not start") from None
                time.sleep(0.01)
            else:
                return control

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()
        self._control.close()
        self._process.terminate()
        self._process.wait()

    def _ask(self, order: bytes) -> bytes:
        self._file.write(order + b"\n")
        self._file.flush()
        return self._file.readline()

    def reset(self) -> None:
        """Sets all counts to nothing."""
        self._ask(b"reset")

    @property
    def pid(self) -> int:
        """The process that takes the messages."""
        return self._process.pid

    def count(self) -> dict[str, Count]:
        """The counts by port name."""
        return {name: Count(**figures) for name, figures in json.loads(self._ask(b"count")).items()}

    def wait_all(
        self, names: tuple[str, ...], messages: int, stalled_after: float, poll: float = POLL
    ) -> dict[str, Count]:
        """Waits until each of `names` has `messages`; asks every `poll` seconds.

        Raises MissingError when nothing has come for `stalled_after` seconds.
        """
        best, since = -1, time.monotonic()
        while True:
            counts = self.count()
            arrived = [counts[name].messages for name in names]
            if all(number >= messages for number in arrived):
                return counts
            if sum(arrived) > best:
                best, since = sum(arrived), time.monotonic()
            elif time.monotonic() - since > stalled_after:
                raise MissingError(describe(counts, names, messages))
            time.sleep(poll)


def check(counts: dict[str, Count], names: tuple[str, ...], messages: int, octets: int) -> None:
    """Raises `MissingError` unless each of `names` got each message once, with at least `octets` of content each.

    Every message of a run has a recipient of its own, so one that is lost and one that comes twice do not even out.
    """
    for name in names:
        count = counts[name]
        complete = count.messages == count.recipients == messages and not count.repeated
        if not complete or count.octets < messages * octets:
            raise MissingError(describe(counts, names, messages))


def describe(counts: dict[str, Count], names: tuple[str, ...], messages: int) -> str:
    """A sentence on what arrived where."""
    parts = (
        f"{name}: {count.messages} of {messages} messages, {count.recipients} different, {count.octets} octets"
        for name, count in counts.items()
        if name in names
    )
    return "not everything arrived once: " + "; ".join(parts)
