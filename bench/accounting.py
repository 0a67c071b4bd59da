"""What a system costs: CPU seconds and memory of all its processes, wherever they fork to.

A cgroup (version 2) counts to the microsecond and loses no process; /proc is the way where none can be made: ticks of
10 ms, and a process is found only while its parents live. The report names the one that was used.
"""

import os
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

TICKS = os.sysconf("SC_CLK_TCK")
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Cpu:
    """Seconds in user mode and in the kernel."""

    user: float
    system: float

    @property
    def total(self) -> float:
        """Both."""
        return self.user + self.system

    def __sub__(self, other: "Cpu") -> "Cpu":
        return Cpu(self.user - other.user, self.system - other.system)


class Group(Protocol):
    """All processes of one running system."""

    method: str

    def wrap(self, command: list[str]) -> list[str]:
        """The command that starts `command` inside the group."""

    def started(self, pid: int) -> None:
        """Says which process `wrap` became."""

    def pids(self) -> list[int]:
        """The processes that live now."""

    def cpu(self) -> Cpu:
        """The time of all processes of the group, those that ended included."""

    def close(self) -> None:
        """Removes the group; its processes have ended."""


class Cgroup:
    """A control group below our own, version 2. `cpu.stat` needs no controller."""

    method = "cgroup v2 cpu.stat"

    def __init__(self, path: Path) -> None:
        self._path = path
        path.mkdir()

    def wrap(self, command: list[str]) -> list[str]:
        return ["/bin/sh", "-c", 'echo 0 > "$0" && exec "$@"', str(self._path / "cgroup.procs"), *command]

    def started(self, pid: int) -> None:
        pass

    def pids(self) -> list[int]:
        return [int(pid) for pid in (self._path / "cgroup.procs").read_text().split()]

    def cpu(self) -> Cpu:
        figures = dict(line.split() for line in (self._path / "cpu.stat").read_text().splitlines())
        return Cpu(int(figures["user_usec"]) / 1e6, int(figures["system_usec"]) / 1e6)

    def close(self) -> None:
        deadline = time.monotonic() + 5
        while True:
            try:
                self._path.rmdir()
            except OSError:  # the kernel is still taking the last process apart
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
            else:
                return


class Descendants:
    """The process that was started and all below it, read from /proc."""

    method = "/proc/PID/stat of the process tree"

    def __init__(self) -> None:
        self._root = 0

    def wrap(self, command: list[str]) -> list[str]:
        return command

    def started(self, pid: int) -> None:
        self._root = pid

    def pids(self) -> list[int]:
        return list(self._tree())

    def cpu(self) -> Cpu:
        # utime, stime, and those of children that ended and were waited for: fields 14 to 17 of proc_pid_stat(5).
        trees = [[int(ticks) / TICKS for ticks in fields[11:15]] for fields in self._tree().values()]
        return Cpu(
            sum(user + waited for user, _, waited, _ in trees), sum(system + waited for _, system, _, waited in trees)
        )

    def _tree(self) -> dict[int, list[str]]:
        stats = dict(_read_stats())
        tree = {self._root: stats[self._root]} if self._root in stats else {}
        grown = True
        while grown:
            found = {pid: fields for pid, fields in stats.items() if pid not in tree and int(fields[1]) in tree}
            tree |= found
            grown = bool(found)
        return tree

    def close(self) -> None:
        pass


def _read_stats() -> Iterable[tuple[int, list[str]]]:
    """Each process with its fields from the third (state) on; the second may hold spaces and parentheses."""
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                text = Path("/proc", entry, "stat").read_text()
            except OSError:
                continue
            yield int(entry), text[text.rindex(")") + 2 :].split()


def new_group(name: str) -> Group:
    """A cgroup when one can be made here, else the process tree."""
    try:
        return Cgroup(_own_cgroup() / f"waypost-bench-{os.getpid()}-{name}")
    except OSError:
        return Descendants()


def _own_cgroup() -> Path:
    mounts = (line.split() for line in Path("/proc/mounts").read_text().splitlines())
    mount = next((fields[1] for fields in mounts if fields[2] == "cgroup2"), None)
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    own = next((line.removeprefix("0::/") for line in lines if line.startswith("0::/")), None)
    if mount is None or own is None:
        raise FileNotFoundError("no cgroup v2 here")
    return Path(mount) / own


def cpu_of_program(group: Group, name: str) -> float:
    """Seconds of those processes of a group that run the program `name`, and of their children that ended.

    From /proc whatever the group counts with, so to 10 ms for each process.
    """
    total = 0
    for pid in group.pids():
        try:
            text = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            continue
        if text[text.index("(") + 1 : text.rindex(")")] == name:
            total += sum(int(ticks) for ticks in text[text.rindex(")") + 2 :].split()[11:15])
    return total / TICKS


@dataclass(frozen=True, slots=True)
class Busy:
    """Seconds that main threads ran, and that they were ready to run and had no core."""

    ran: float
    waited: float

    def __sub__(self, other: "Busy") -> "Busy":
        return Busy(self.ran - other.ran, self.waited - other.waited)


def main_threads(group: Group) -> Busy:
    """Of the main threads of a group's processes; what is missing to the time that passed, they slept."""
    times = [0, 0]
    for pid in group.pids():
        try:
            ran, waited, _ = Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()
        except OSError:
            continue
        times = [times[0] + int(ran), times[1] + int(waited)]
    return Busy(times[0] / 1e9, times[1] / 1e9)


def _field(pid: int, file: str, key: str) -> int:
    """Octets of a `Key:  123 kB` line, 0 when the process has gone."""
    try:
        for line in Path(f"/proc/{pid}/{file}").read_text().splitlines():
            if line.startswith(key + ":"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def resident(group: Group) -> int:
    """Octets of resident memory, summed over the processes (shared pages count in each)."""
    return sum(_field(pid, "status", "VmRSS") for pid in group.pids())


def proportional(group: Group) -> int:
    """Octets of memory, each page shared by n processes counted as 1/n (PSS)."""
    return sum(_field(pid, "smaps_rollup", "Pss") for pid in group.pids())


def peak_resident(group: Group) -> int:
    """Octets of the highest resident memory since `forget_peak`, summed over the processes that live now."""
    return sum(_field(pid, "status", "VmHWM") for pid in group.pids())


def forget_peak(group: Group) -> None:
    """Lets the kernel begin anew with the highest resident memory (clear_refs 5; needs the right to do so)."""
    for pid in group.pids():
        try:
            Path(f"/proc/{pid}/clear_refs").write_text("5")
        except OSError:
            continue


class MemorySampler:
    """A thread that keeps the highest `proportional` memory of a group while it is entered."""

    def __init__(self, group: Group, interval: float = 0.25) -> None:
        self.peak = 0
        self._group = group
        self._interval = interval
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def _sample(self) -> None:
        while True:
            self.peak = max(self.peak, proportional(self._group))
            if self._stop.wait(self._interval):
                return

    def __enter__(self) -> "MemorySampler":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.peak = max(self.peak, proportional(self._group))
