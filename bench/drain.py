"""A backlog through the real program: how soon it is ready, what it answers of its queue, how fast it drains.

    python -m bench.drain --counts 10000,100000,1000000 --drain 100000
    python -m bench.drain --counts 100000 --store postgresql --profile

For each number of queued copies of 1 KB a spool is filled through the port (as `bench.backlog` does), `waypost run`
is started on it with an upstream that nobody listens at, and asked by `waypost queue`. Then as many copies as `--drain`
says are delivered into the counting sink, and the same sink takes as many messages from `smtp-source` over as many
connections: the ratio of the two rates is what is required.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import ROOT
from bench.accounting import (
    MIB,
    Busy,
    Descendants,
    MemorySampler,
    forget_peak,
    main_threads,
    peak_resident,
    resident,
)
from bench.arrivals import Arrivals, check
from bench.commits import Stored, read_stored
from bench.instance import Instance, environment
from bench.ports import free_port
from bench.profiling import FILE, Profiled, table
from bench.report import about_machine, markdown_table
from bench.spread import plain
from bench.systems import cluster
from bench.systems.base import Place
from bench.systems.waypost import WaypostPass, program

SIZE = 1024
SINK = ("new",)
STALLED_AFTER = 60.0
REQUIRED = 0.6
FILLER = """
import asyncio, sys
from bench import backlog
async def fill():
    spool = backlog.make_spool(sys.argv[1])
    await spool.open()
    await backlog.fill(spool, int(sys.argv[2]), 50)
    await spool.close()
asyncio.run(fill())
"""


class Backlogged(WaypostPass):
    """One pool of copies, over so many connections, with a spool that has been filled before."""

    name = "waypost-backlog"
    title = "Waypost, a backlog of copies"
    sinks = SINK
    has_metrics = True

    def __init__(self, spool: dict[str, Any], upstream: int, connections: int) -> None:
        self._spool = spool
        self._upstream = upstream
        self._connections = connections

    def configuration(self, place: Place) -> dict[str, Any]:
        config = super().configuration(place)
        address = f"127.0.0.1:{self._upstream}"
        upstream = {"address": address, "tls": "off", "connections": self._connections}
        config["upstreams"] = {"primary": {"address": "127.0.0.1:9", "tls": "off"}, "new": upstream}
        config["routes"] = {"migration": {"primary": "primary", "copies": ["new"], "acceptance": "pass"}}
        config["rules"] = [{"route": "migration"}]
        return config | {"spool": self._spool, "admin": {"address": f"127.0.0.1:{place.admin}"}}


@dataclass(frozen=True, slots=True)
class Looked:
    """What a program with a backlog costs that cannot deliver it. Seconds, and octets of resident memory."""

    start: float
    resident: int
    summary: float
    page: float
    everything: float


@dataclass(frozen=True, slots=True)
class Drained:
    """How a backlog went out, beside the same messages from smtp-source."""

    messages: int
    rate: float
    direct: float
    cpu_per_thousand: float
    loop: Busy
    """Of each second, what the main thread ran and what it waited for a core. For the rest it slept: for the disk, the
    interpreter's lock or the sink."""
    sink_cores: float
    direct_sink_cores: float
    database_per_thousand: float | None
    peak_resident: int
    peak_proportional: int
    stored: Stored


@dataclass(frozen=True, slots=True)
class Backlog:
    """Where one backlog is."""

    directory: Path
    spool: dict[str, Any]
    database: int = 0
    """The process of a database, whose CPU time counts, too."""

    @property
    def store(self) -> str:
        """As `bench.backlog` names it."""
        return str(self.spool.get("url") or f"sqlite:{self.spool['path']}")


@contextmanager
def filled(work: Path, store: str, count: int) -> Iterator[Backlog]:
    """A spool with `count` copies, which is removed afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="drain-", dir=work))
    try:
        if store == "sqlite":
            backlog = Backlog(directory, {"path": str(directory / "spool"), "allow_temporary": True})
            _fill(backlog, count)
            yield backlog
        else:
            with cluster.Cluster(directory) as database:
                backlog = Backlog(directory, {"url": database.url}, database.pid)
                _fill(backlog, count)
                yield backlog
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _fill(backlog: Backlog, count: int) -> None:
    subprocess.run([sys.executable, "-c", FILLER, backlog.store, str(count)], check=True, cwd=ROOT)


def look(backlog: Backlog) -> Looked:
    """Starts the program while nobody takes the copies, and asks it."""
    system = Backlogged(backlog.spool, free_port(), 20)
    with Instance(system, backlog.directory, {"new": free_port()}) as instance:
        time.sleep(0.5)
        at_rest = resident(instance.group)
        ask = [program() or "waypost", "queue"]
        config = ["--config", str(backlog.directory / "waypost.yaml")]
        return Looked(
            instance.start_seconds,
            at_rest,
            _timed([*ask, "summary", *config], backlog),
            _timed([*ask, "list", "--limit", "100", *config], backlog),
            _timed([*ask, "list", *config], backlog),
        )


def _timed(command: list[str], backlog: Backlog) -> float:
    """Seconds that a person waits for a command, its own start included."""
    begun = time.monotonic()
    env = environment(backlog.directory)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=backlog.directory, env=env, timeout=900)
    return time.monotonic() - begun


def drain(backlog: Backlog, count: int, connections: int) -> Drained:
    """Lets the program deliver all of it, then sends as much directly."""
    with Arrivals(backlog.directory, SINK) as arrivals:
        sink, database = Descendants(), Descendants()
        sink.started(arrivals.pid)
        database.started(backlog.database)
        system = Backlogged(backlog.spool, arrivals.ports["new"], connections)
        before, database_before = sink.cpu().total, database.cpu().total
        with Instance(system, backlog.directory, arrivals.ports) as instance:
            cpu = instance.group.cpu().total
            stored = read_stored(instance.admin)
            forget_peak(instance.group)
            with MemorySampler(instance.group, 1.0) as memory:
                arrivals.wait_all(SINK, 1, STALLED_AFTER)
                loop, begun = main_threads(instance.group), time.monotonic()
                counts = arrivals.wait_all(SINK, count, STALLED_AFTER, poll=0.1)
                loop, lasted = main_threads(instance.group) - loop, time.monotonic() - begun
                sink_cpu = sink.cpu().total - before
            instance.wait_idle()
            spent = instance.group.cpu().total - cpu
            stored = read_stored(instance.admin) - stored
            peak = peak_resident(instance.group)
        database_cpu = database.cpu().total - database_before
        check(arrivals.count(), SINK, count, SIZE)
        seconds = counts["new"].last - counts["new"].first
        direct, direct_cores = _directly(arrivals, sink, count, connections)
        return Drained(
            messages=count,
            rate=count / seconds,
            direct=direct,
            cpu_per_thousand=(spent + database_cpu) / count * 1000,
            loop=Busy(loop.ran / lasted, loop.waited / lasted),
            sink_cores=sink_cpu / seconds,
            direct_sink_cores=direct_cores,
            database_per_thousand=database_cpu / count * 1000 if backlog.database else None,
            peak_resident=peak,
            peak_proportional=memory.peak,
            stored=stored,
        )


def _directly(arrivals: Arrivals, sink: Descendants, count: int, connections: int) -> tuple[float, float]:
    """The rate of smtp-source over kept connections, and the cores that the sink needed for it."""
    arrivals.reset()
    before = sink.cpu().total
    command = ["smtp-source", "-4", "-N", "-d", "-s", str(connections), "-m", str(count), "-l", str(SIZE)]
    subprocess.run([*command, f"127.0.0.1:{arrivals.ports['new']}"], check=True, capture_output=True, timeout=900)
    counted = arrivals.wait_all(SINK, count, STALLED_AFTER)["new"]
    seconds = counted.last - counted.first
    return count / seconds, (sink.cpu().total - before) / seconds


def profile(backlog: Backlog, count: int, connections: int) -> str:
    """The functions of the program that take most time of their own while it drains; the main thread's."""
    with Arrivals(backlog.directory, SINK) as arrivals:
        profiled = Profiled(Backlogged(backlog.spool, arrivals.ports["new"], connections))
        with Instance(profiled, backlog.directory, arrivals.ports) as instance:
            arrivals.wait_all(SINK, count, STALLED_AFTER, poll=0.5)
            instance.wait_idle()
    return table(backlog.directory / FILE)


def render(looked: dict[int, Looked], drained: list[Drained], connections: int, profiles: list[str]) -> str:
    """The report, in Markdown."""
    parts = []
    if looked:
        heads = (
            "Queued",
            "Start to first 220, s",
            "Resident, MiB",
            "`queue summary`, s",
            "`queue list --limit 100`, s",
        )
        rows = [
            (f"{count:,}", *map(plain, (each.start, each.resident / MIB, each.summary, each.page, each.everything)))
            for count, each in looked.items()
        ]
        parts += [["## With a backlog that nobody takes", "", *markdown_table((*heads, "`queue list`, s"), rows)]]
    for each in drained:
        ratio = each.rate / each.direct
        commits = each.stored.commits
        verdict = "met" if ratio >= REQUIRED else "**missed**"
        database = (
            "" if each.database_per_thousand is None else f", {each.database_per_thousand:.3f} of it the database"
        )
        parts += [
            [
                f"## Draining {each.messages:,} copies of 1 KB over {connections} connections",
                "",
                f"- Waypost {each.rate:,.0f}/s, smtp-source directly {each.direct:,.0f}/s: {ratio:.2f} of it"
                f" (required: {REQUIRED:g}; {verdict})",
                f"- Waypost's CPU: {each.cpu_per_thousand:.3f} s/1,000{database}",
                f"- while it drained the main thread ran {each.loop.ran:.0%} of the time, waited for a core"
                f" {each.loop.waited:.0%}, and slept {max(0.0, 1 - each.loop.ran - each.loop.waited):.0%}",
                f"- the sink needed {each.sink_cores:.2f} of a core, with smtp-source {each.direct_sink_cores:.2f}",
                f"- commits: {commits:,}, {each.messages / max(1, commits):.1f} messages to each",
                f"- peak memory: {each.peak_resident / MIB:.1f} MiB resident, {each.peak_proportional / MIB:.1f} MiB"
                " proportional",
            ]
        ]
    parts += [["## Profile of the main thread while it drains", "", "```", text, "```"] for text in profiles]
    return "\n\n".join("\n".join(part) for part in [["# A backlog", "", *about_machine()], *parts]) + "\n"


def _counts(text: str) -> list[int]:
    return [int(word) for word in text.split(",") if word]


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.drain", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--counts", type=_counts, default=[10_000, 100_000], help="backlogs to look at, or empty")
    parser.add_argument("--drain", type=_counts, default=[100_000], help="backlogs to drain, or empty")
    parser.add_argument("--store", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--connections", type=int, default=20, help="to the sink, at the same time")
    parser.add_argument("--profile", action="store_true", help="drain once more under cProfile")
    parser.add_argument("--work", type=Path, default=Path(__file__).parent / ".work", help="decides on the disk")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    work = options.work.resolve()
    looked: dict[int, Looked] = {}
    drained, profiles = [], []
    for count in options.counts:
        with filled(work, options.store, count) as backlog:
            looked[count] = look(backlog)
    for count in options.drain:
        with filled(work, options.store, count) as backlog:
            drained.append(drain(backlog, count, options.connections))
        if options.profile:
            with filled(work, options.store, count) as backlog:
                profiles.append(profile(backlog, count, options.connections))
    print(render(looked, drained, options.connections, profiles))


if __name__ == "__main__":
    main()
