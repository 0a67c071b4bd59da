"""One run: a system is started, warmed, loaded, timed and ended; what was measured, or why it failed."""

import os
import select
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from bench.accounting import MemorySampler, forget_peak, peak_resident, resident
from bench.arrivals import Arrivals, MissingError, check, describe
from bench.instance import Instance, NotStartedError
from bench.matrix import Cell
from bench.spread import percentile
from bench.systems.base import System

STALLED_AFTER = 30.0
"""Seconds without an arrival after which a run has failed."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What one run measured. Memory in octets, times in seconds."""

    messages: int
    accepted_per_second: float
    delivered_per_second: float
    cpu_per_thousand: float
    peak_proportional: int
    peak_resident: int
    resident_at_rest: int
    start: float
    latency_median: float
    latency_p99: float
    accounting: str


@dataclass(frozen=True, slots=True)
class Run:
    """One system in one cell in one round: figures, or the reason why there are none."""

    system: str
    cell: Cell
    round: int
    figures: Figures | None = None
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Bench:
    """What all runs have in common."""

    work: Path
    messages: int | None = None
    quick: bool = False
    settle: float = field(default=0.5)
    """Seconds after the first 220 before memory at rest is read."""

    def run(self, system: System, cell: Cell, number: int) -> Run:
        """Runs `system` through `cell`; a failure is a result, too."""
        directory = Path(tempfile.mkdtemp(prefix=f"{system.name}-", dir=self.work))
        try:
            with Arrivals(directory, system.sinks) as arrivals, Instance(system, directory, arrivals.ports) as instance:
                return Run(system.name, cell, number, self._measure(system, cell, arrivals, instance))
        except (MissingError, NotStartedError, LoadFailedError, OSError, subprocess.SubprocessError) as error:
            return Run(system.name, cell, number, failure=str(error) or type(error).__name__)
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def _measure(self, system: System, cell: Cell, arrivals: Arrivals, instance: Instance) -> Figures:
        time.sleep(self.settle)
        at_rest = resident(instance.group)
        self._load(system, cell, cell.warming_messages, arrivals, instance)  # warm-up

        forget_peak(instance.group)
        messages = cell.messages(self.messages, self.quick)
        cpu = instance.group.cpu_seconds()
        with MemorySampler(instance.group) as memory:
            begun, accepted, delivered = self._load(system, cell, messages, arrivals, instance)
        cpu = instance.group.cpu_seconds() - cpu

        took = self._latency(system, cell, arrivals, instance)
        return Figures(
            messages=messages,
            accepted_per_second=messages / (accepted - begun),
            delivered_per_second=messages / (delivered - begun),
            cpu_per_thousand=cpu / messages * 1000,
            peak_proportional=memory.peak,
            peak_resident=peak_resident(instance.group),
            resident_at_rest=at_rest,
            start=instance.start_seconds,
            latency_median=statistics.median(took),
            latency_p99=percentile(took, 99),
            accounting=instance.group.method,
        )

    def _load(
        self, system: System, cell: Cell, messages: int, arrivals: Arrivals, instance: Instance
    ) -> tuple[float, float, float]:
        """Sends `messages` with smtp-source; when it began, when the last was accepted, when the last arrived."""
        arrivals.reset()
        command = ["smtp-source", "-4", "-C", "20", "-N", "-M", "client.bench.test", "-f", "foo@client.bench.test"]
        command += ["-t", "bar@bench.test", "-s", str(min(cell.concurrency, messages)), "-m", str(messages)]
        command += ["-l", str(cell.octets), *(["-d"] if cell.connections == "reused" else [])]
        begun = time.monotonic()
        _watch([*command, f"127.0.0.1:{instance.port}"], system, messages, arrivals, instance)
        accepted = time.monotonic()
        counts = arrivals.wait_all(system.sinks, messages, STALLED_AFTER)
        instance.wait_idle()
        check(arrivals.count(), system.sinks, messages, cell.octets)
        return begun, accepted, max(counts[name].last for name in system.sinks)

    def _latency(self, system: System, cell: Cell, arrivals: Arrivals, instance: Instance) -> list[float]:
        messages = cell.timed_messages(self.messages, self.quick)
        arrivals.reset()
        command = [sys.executable, "-m", "bench.latency", f"--port={instance.port}", f"--sessions={cell.concurrency}"]
        command += [f"--messages={messages}", f"--size={cell.octets}"]
        command += ["--reuse"] if cell.connections == "reused" else []
        output = _watch(command, system, messages, arrivals, instance)
        arrivals.wait_all(system.sinks, messages, STALLED_AFTER)
        instance.wait_idle()
        check(arrivals.count(), system.sinks, messages, cell.octets)
        return [float(seconds) for seconds in output.strip("[]\n").split(",")]


class LoadFailedError(Exception):
    """The program that sends gave up."""


def _watch(command: list[str], system: System, messages: int, arrivals: Arrivals, instance: Instance) -> str:
    """Runs a sending program to its end and returns what it printed; ends it when nothing arrives any more."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    ended = os.pidfd_open(process.pid)
    seen, since = -1, time.monotonic()
    try:
        while not select.select([ended], [], [], 0.5)[0]:
            instance.check_alive()
            counts = arrivals.count()
            total = sum(counts[name].messages for name in system.sinks)
            if total > seen:
                seen, since = total, time.monotonic()
            elif time.monotonic() - since > STALLED_AFTER:
                stalled = describe(counts, system.sinks, messages)
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
