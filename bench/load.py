"""The programs that send: smtp-source for the load, the latency client for times. Both are watched to their end."""

import os
import select
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from bench import ROOT
from bench.arrivals import Arrivals, check, describe
from bench.instance import Instance
from bench.matrix import Cell
from bench.systems.base import System

STALLED_AFTER = 30.0
"""Seconds without an arrival after which a run has failed."""


class LoadFailedError(Exception):
    """The program that sends gave up."""


@dataclass(frozen=True, slots=True)
class Sent:
    """Times of one load, as of time.monotonic()."""

    begun: float
    accepted: float  # smtp-source had its last answer
    delivered: float  # the last message was at its last sink


@dataclass(frozen=True, slots=True)
class Load:
    """What one running system is sent in one cell."""

    system: System
    cell: Cell
    arrivals: Arrivals
    instance: Instance

    def send(self, messages: int) -> Sent:
        """Sends `messages` with smtp-source; returns when all have arrived and the system is idle again."""
        command = ["smtp-source", "-4", "-C", "20", "-N", "-M", "client.bench.test", "-f", "foo@client.bench.test"]
        command += ["-t", "bar@bench.test", "-s", str(min(self.cell.concurrency, messages)), "-m", str(messages)]
        command += ["-l", str(self.cell.octets), *(["-d"] if self.cell.connections == "reused" else [])]
        return self.send_by([*command, f"127.0.0.1:{self.instance.port}"], messages)

    def send_by(self, command: list[str], messages: int) -> Sent:
        """Sends `messages` with another program, which does so by itself; returns as `send` does."""
        self.arrivals.reset()
        begun = time.monotonic()
        self._watch(command, messages)
        accepted = time.monotonic()
        last = self._wait_all(messages)
        return Sent(begun, accepted, last)

    def measure_latency(self, messages: int) -> list[float]:
        """Sends `messages` with the latency client; seconds for each."""
        self.arrivals.reset()
        command = [sys.executable, "-m", "bench.latency", f"--port={self.instance.port}", f"--messages={messages}"]
        command += [f"--sessions={self.cell.concurrency}", f"--size={self.cell.octets}"]
        command += ["--reuse"] if self.cell.connections == "reused" else []
        output = self._watch(command, messages)
        self._wait_all(messages)
        return [float(seconds) for seconds in output.strip("[]\n").split(",")]

    def _wait_all(self, messages: int) -> float:
        """Waits for all arrivals, then for what arrives too often; the time of the last arrival."""
        counts = self.arrivals.wait_all(self.system.sinks, messages, STALLED_AFTER)
        self.instance.wait_idle()
        check(self.arrivals.count(), self.system.sinks, messages, self.cell.octets)
        return max(counts[name].last for name in self.system.sinks)

    def _watch(self, command: list[str], messages: int) -> str:
        """Runs a sending program to its end and returns what it printed; ends it when nothing arrives any more."""
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, text=True)
        ended = os.pidfd_open(process.pid)
        seen, since = -1, time.monotonic()
        try:
            while not select.select([ended], [], [], 0.5)[0]:
                self.instance.check_alive()
                counts = self.arrivals.count()
                total = sum(counts[name].messages for name in self.system.sinks)
                if total > seen:
                    seen, since = total, time.monotonic()
                elif time.monotonic() - since > STALLED_AFTER:
                    stalled = describe(counts, self.system.sinks, messages)
                    raise LoadFailedError(f"{command[0]} stalls for {STALLED_AFTER:.0f} s; {stalled}")
        except BaseException:
            process.kill()
            raise
        finally:
            os.close(ended)
            output, errors = process.communicate()
        if process.returncode:
            raise LoadFailedError(f"{Path(command[0]).name} ended with {process.returncode}: {errors.strip()[-300:]}")
        return output
