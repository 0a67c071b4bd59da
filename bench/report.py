"""The report in Markdown: machine, tables, the required ratios, and every run that failed."""

import os
import platform
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from bench.accounting import MIB
from bench.matrix import SIZE_TITLES, Cell
from bench.required import required_rows
from bench.run import Figures, Run
from bench.spread import spread


@dataclass(frozen=True, slots=True)
class Report:
    """All that the report tells."""

    runs: tuple[Run, ...]
    cells: tuple[Cell, ...]
    titles: dict[str, str]  # of the systems that ran, in order
    versions: dict[str, str]
    skipped: dict[str, str]
    rounds: int
    begun: datetime
    ended: datetime
    command: str
    interrupted: bool = False
    profiles: dict[str, str] = field(default_factory=dict)


def render(report: Report) -> str:
    """The whole page."""
    parts = [
        ["# Benchmark results"],
        _about(report),
        _systems(report),
        [
            "## Required ratios",
            "",
            *markdown_table(("Requirement", "Measured", "Limit", ""), required_rows(report.runs)),
        ],
        _cpu_summary(report),
        _start_and_rest(report),
        *_commits(report),
        *(_cell(report, cell) for cell in report.cells),
        *(["## Profile: " + title, "", "```", text, "```"] for title, text in report.profiles.items()),
        _failures(report),
    ]
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def _about(report: Report) -> list[str]:
    methods = {run.figures.accounting for run in report.runs if run.figures}
    return [
        f"Begun {report.begun:%Y-%m-%d %H:%M} UTC, ended {report.ended:%Y-%m-%d %H:%M} UTC"
        + (", **interrupted before its end**" if report.interrupted else "")
        + f", {report.rounds} round{'' if report.rounds == 1 else 's'}, systems interleaved: `{report.command}`",
        "",
        *about_machine(),
        f"- CPU time from: {', '.join(sorted(methods)) or 'no complete run'}",
        "",
        "Figures are medians over the rounds, with lowest and highest in parentheses. README.md beside this file says",
        "what is measured, and what it does not show.",
    ]


def about_machine() -> list[str]:
    """Items of a list that say what this was measured on."""
    return [
        f"- CPU: {_cpu_model()}, {os.cpu_count()} cores; memory {_memory() / 1024 / MIB:.0f} GiB",
        f"- kernel: {platform.system()} {platform.release()}; Python {platform.python_version()}",
    ]


def _systems(report: Report) -> list[str]:
    rows = [(title, f"`{name}`", report.versions[name]) for name, title in report.titles.items()]
    rows += [(title, "skipped", reason) for title, reason in report.skipped.items()]
    return ["## Systems", "", *markdown_table(("System", "Name", "Version"), rows)]


def _cpu_summary(report: Report) -> list[str]:
    busiest = 20 if any(cell.concurrency == 20 for cell in report.cells) else report.cells[0].concurrency
    cells = [cell for cell in report.cells if cell.concurrency == busiest]
    heads = [SIZE_TITLES[cell.size] + (", reused" if cell.connections == "reused" else "") for cell in cells]
    rows = [
        (title, *(_spread(report, name, cell, lambda figures: figures.cpu_per_thousand) for cell in cells))
        for name, title in report.titles.items()
    ]
    return [
        f"## CPU seconds per 1,000 messages, {busiest} session{'' if busiest == 1 else 's'}",
        "",
        *markdown_table(("System", *heads), rows),
    ]


def _start_and_rest(report: Report) -> list[str]:
    rows = []
    for name, title in report.titles.items():
        figures = [run.figures for run in report.runs if run.system == name and run.figures]
        start = spread([each.start for each in figures])
        rest = spread([each.resident_at_rest / MIB for each in figures])
        rows.append((title, start, rest))
    heads = ("System", "Start to first 220, s", "Resident at rest, MiB")
    note = "Resident memory is the sum over all processes; what they share counts in each."
    return ["## Start and rest", "", *markdown_table(heads, rows), "", note]


def _commits(report: Report) -> list[list[str]]:
    """How messages share commits, of systems that tell; nothing when there are none."""
    rows = []
    for cell in report.cells:
        for name, title in report.titles.items():
            chosen = [run.figures for run in report.runs if run.system == name and run.cell == cell and run.figures]
            told = [(each, each.stored) for each in chosen if each.stored is not None and each.stored.messages]
            if told:
                messages = spread([stored.messages / each.seconds for each, stored in told])
                commits = spread([stored.commits / each.seconds for each, stored in told])
                shared = spread([stored.messages / stored.commits for _, stored in told if stored.commits])
                rows.append((cell.title, title, messages, commits, shared))
    if not rows:
        return []
    heads = ("Cell", "System", "Messages stored/s", "Commits/s", "Messages per commit")
    note = [
        "From the first message to the last arrival, so commits that record what is going out and what went out are in",
        "it: a message that is stored and delivered alone needs three.",
    ]
    return [["## Group commit", "", *markdown_table(heads, rows), "", *note]]


COLUMNS: tuple[tuple[str, Callable[[Figures], float]], ...] = (
    ("Accepted/s", lambda figures: figures.accepted_per_second),
    ("Delivered/s", lambda figures: figures.delivered_per_second),
    ("CPU s/1,000", lambda figures: figures.cpu_per_thousand),
    ("of it in the kernel, %", lambda figures: figures.kernel_share * 100),
    ("Peak memory, MiB", lambda figures: figures.peak_proportional / MIB),
    ("Latency median, ms", lambda figures: figures.latency_median * 1000),
    ("Latency p99, ms", lambda figures: figures.latency_p99 * 1000),
)


def _cell(report: Report, cell: Cell) -> list[str]:
    rows = [
        (title, *(_spread(report, name, cell, value) for _, value in COLUMNS)) for name, title in report.titles.items()
    ]
    return [
        f"## {cell.title}",
        "",
        *markdown_table(("System", *(head for head, _ in COLUMNS)), rows),
        *_databases(report, cell),
    ]


def _databases(report: Report, cell: Cell) -> list[str]:
    """What of the CPU time is a database's, below the table of a cell."""
    lines = []
    for name, title in report.titles.items():
        runs = [run.figures for run in report.runs if run.system == name and run.cell == cell and run.figures]
        of_it = [each.database_cpu_per_thousand for each in runs if each.database_cpu_per_thousand is not None]
        if of_it:
            lines += ["", f"{title}: of its CPU seconds per 1,000 messages the database has {spread(of_it)}."]
    return lines


def _failures(report: Report) -> list[str]:
    failed = [run for run in report.runs if run.failure]
    if not failed:
        return ["## Failed runs", "", "None."]
    titles = report.titles
    rows = [(titles[run.system], run.cell.title, str(run.round), run.failure) for run in failed]
    return ["## Failed runs", "", *markdown_table(("System", "Cell", "Round", "Reason"), rows)]


def _spread(report: Report, name: str, cell: Cell, value: Callable[[Figures], float]) -> str:
    """Median and spread of one figure, and how many of the runs failed."""
    runs = [run for run in report.runs if run.system == name and run.cell == cell]
    failed = sum(1 for run in runs if run.failure)
    text = spread([value(run.figures) for run in runs if run.figures])
    return text + (f" **failed {failed} of {len(runs)}**" if failed else "")


def markdown_table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """The lines of one table."""
    heads = list(heads)
    lines = [_row(heads), "|" + "---|" * len(heads)]
    return lines + [_row(row) for row in rows]


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
