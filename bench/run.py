"""One run: a system is started, warmed, loaded, timed and ended; what was measured, or why it failed."""

import shutil
import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from bench.accounting import MemorySampler, cpu_of_program, forget_peak, peak_resident, resident
from bench.arrivals import Arrivals, MissingError
from bench.commits import Stored, read_stored
from bench.instance import Instance, NotStartedError
from bench.load import Load, LoadFailedError
from bench.matrix import Cell
from bench.spread import percentile
from bench.systems.base import System


@dataclass(frozen=True, slots=True)
class Figures:
    """What one run measured. Memory in octets, times in seconds."""

    messages: int
    accepted_per_second: float
    delivered_per_second: float
    cpu_per_thousand: float
    kernel_share: float  # of the CPU time, 0 to 1
    peak_proportional: int
    peak_resident: int
    resident_at_rest: int
    start: float
    latency_median: float
    latency_p99: float
    accounting: str
    stored: Stored | None = None
    """What was stored, of systems that tell."""
    database_cpu_per_thousand: float | None = None
    """What of the CPU time was the database's, of systems that have one."""

    @property
    def seconds(self) -> float:
        """From the first message to the last arrival."""
        return self.messages / self.delivered_per_second


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
    settle: float = 0.5
    """Seconds after the first 220 before memory at rest is read."""

    def run(self, system: System, cell: Cell, number: int) -> Run:
        """Runs `system` through `cell`; a failure is a result, too."""
        directory = Path(tempfile.mkdtemp(prefix=f"{system.name}-", dir=self.work))
        try:
            with (
                Arrivals(directory, system.sinks, put_off=system.put_off) as arrivals,
                Instance(system, directory, arrivals.ports) as instance,
            ):
                return Run(system.name, cell, number, self._measure(Load(system, cell, arrivals, instance)))
        except (
            MissingError,
            NotStartedError,
            LoadFailedError,
            OSError,
            ValueError,
            subprocess.SubprocessError,
        ) as error:
            return Run(system.name, cell, number, failure=str(error) or type(error).__name__)
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def _measure(self, load: Load) -> Figures:
        group, cell, system = load.instance.group, load.cell, load.system
        time.sleep(self.settle)
        at_rest = resident(group)
        load.send(cell.warming_messages)

        forget_peak(group)
        messages = cell.messages(self.messages, self.quick)
        stored = read_stored(load.instance.admin) if system.has_metrics else None
        database = cpu_of_program(group, system.database)
        before = group.cpu()
        with MemorySampler(group) as memory:
            sent = load.send(messages)
        cpu = group.cpu() - before
        database = cpu_of_program(group, system.database) - database
        if stored is not None:
            stored = read_stored(load.instance.admin) - stored

        peak = peak_resident(group)
        took = load.measure_latency(cell.timed_messages(self.messages, self.quick))
        return Figures(
            messages=messages,
            accepted_per_second=messages / (sent.accepted - sent.begun),
            delivered_per_second=messages / (sent.delivered - sent.begun),
            cpu_per_thousand=cpu.total / messages * 1000,
            kernel_share=cpu.system / cpu.total if cpu.total else 0.0,
            peak_proportional=memory.peak,
            peak_resident=peak,
            resident_at_rest=at_rest,
            start=load.instance.start_seconds,
            latency_median=statistics.median(took),
            latency_p99=percentile(took, 99),
            accounting=group.method,
            stored=stored,
            database_cpu_per_thousand=database / messages * 1000 if system.database else None,
        )
