"""What is required of Waypost, computed from one report's runs.

A ratio is taken inside each round, where both systems ran within the same minute, and the median of the rounds counts.
"""

import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from bench.accounting import MIB
from bench.matrix import Cell
from bench.run import Figures, Run
from bench.spread import spread

Value = Callable[[Figures], float]


def _cpu(figures: Figures) -> float:
    return figures.cpu_per_thousand


def _latency(figures: Figures) -> float:
    return figures.latency_median


def _accepted(figures: Figures) -> float:
    return figures.accepted_per_second


@dataclass(frozen=True, slots=True)
class Ratio:
    """At most `limit` times what `reference` needs in the same cell; or at least, of what should be much."""

    title: str
    system: str
    reference: str
    cell: Cell
    value: Value
    limit: float
    at_least: bool = False


@dataclass(frozen=True, slots=True)
class Ceiling:
    """At most `limit` in the median of a group of runs; no cell means every run. `unit` follows the figures."""

    title: str
    system: str
    cell: Cell | None
    value: Value
    limit: float
    unit: str


RATIOS = (
    Ratio("CPU, pass, 1 KB, ÷ HAProxy", "waypost-pass", "haproxy", Cell("1k", "new", 20), _cpu, 1.0),
    Ratio("CPU, pass, 1 KB, reused, ÷ HAProxy", "waypost-pass", "haproxy", Cell("1k", "reused", 20), _cpu, 2.0),
    Ratio("CPU, pass, 100 KB, ÷ HAProxy", "waypost-pass", "haproxy", Cell("100k", "new", 20), _cpu, 2.0),
    Ratio("CPU, pass, 5 MB, ÷ HAProxy", "waypost-pass", "haproxy", Cell("5m", "new", 20), _cpu, 4.0),
    Ratio(
        "CPU, two durable copies, 1 KB, ÷ Postfix before-queue proxy",
        "waypost-copies",
        "postfix-proxy",
        Cell("1k", "new", 20),
        _cpu,
        0.5,
    ),
    Ratio(
        "median latency, 1 session, 1 KB, reused, ÷ HAProxy",
        "waypost-pass",
        "haproxy",
        Cell("1k", "reused", 1),
        _latency,
        1.5,
    ),
)


def _queueing(system: str, title: str, reference: str, place: str) -> tuple[Ratio, ...]:
    """What `spool` and `hybrid` owe to those who would else queue with Postfix."""
    beside = f"1 KB, ÷ Postfix as queueing relay, {place}"
    return (
        Ratio(f"CPU, {title}, 20 sessions, {beside}", system, reference, Cell("1k", "new", 20), _cpu, 0.25),
        Ratio(
            f"accepted/s, {title}, 200 sessions, {beside}",
            system,
            reference,
            Cell("1k", "new", 200),
            _accepted,
            5.0,
            at_least=True,
        ),
    )


_SAME, _DEFAULT = ("postfix-queue", "queue on the same disk"), ("postfix-queue-default", "queue at its default place")
_PUT_OFF = ("postfix-queue-put-off", "put off alike")

RATIOS += tuple(
    ratio
    for system, title, references in (
        ("waypost-spool", "spool", (_SAME, _DEFAULT)),
        ("waypost-hybrid", "hybrid", (_SAME, _DEFAULT)),
        ("waypost-hybrid-queued", "hybrid put off by its primary", (_PUT_OFF,)),
    )
    for reference in references
    for ratio in _queueing(system, title, *reference)
)


def _busy(system: str, title: str) -> tuple[Ceiling, ...]:
    return tuple(
        Ceiling(
            f"peak resident memory, {title}, 200 sessions of 1 KB, {way}",
            system,
            Cell("1k", way, 200),
            lambda figures: figures.peak_resident / MIB,
            120,
            "MiB",
        )
        for way in ("new", "reused")
    )


def _always(system: str, title: str) -> tuple[Ceiling, ...]:
    return (
        Ceiling(
            f"resident memory at rest, {title}", system, None, lambda figures: figures.resident_at_rest / MIB, 80, "MiB"
        ),
        Ceiling(f"start to first 220, {title}", system, None, lambda figures: figures.start, 1.0, "s"),
    )


CEILINGS = (
    *_always("waypost-pass", "pass"),
    *_busy("waypost-pass", "pass"),
    *_always("waypost-copies", "two copies"),
    *_busy("waypost-copies", "two copies"),
)


def is_needed(system: str, cell: Cell) -> bool:
    """Whether a run is worth its time in `--quick`: small messages of every system, large ones where they count."""
    return cell.size == "1k" or any(
        ratio.cell == cell and system in (ratio.system, ratio.reference) for ratio in RATIOS
    )


def required_rows(runs: Iterable[Run]) -> list[tuple[str, str, str, str]]:
    """Requirement, measured value with spread, limit, and `met`, `missed` or why neither can be said."""
    runs = tuple(runs)
    rows = [_ratio_row(ratio, runs) for ratio in RATIOS]
    return rows + [_ceiling_row(ceiling, runs) for ceiling in CEILINGS]


def _ratio_row(ratio: Ratio, runs: tuple[Run, ...]) -> tuple[str, str, str, str]:
    ours = _by_round(runs, ratio.system, ratio.cell)
    theirs = _by_round(runs, ratio.reference, ratio.cell)
    values = [
        ratio.value(ours[number]) / ratio.value(theirs[number])
        for number in ours.keys() & theirs.keys()
        if ratio.value(theirs[number]) > 0
    ]
    systems = (ratio.system, ratio.reference)
    failed = any(run.failure for run in runs if run.cell == ratio.cell and run.system in systems)
    sign = "≥" if ratio.at_least else "≤"
    verdict = _verdict(values, ratio.limit, failed, at_least=ratio.at_least)
    return (ratio.title, spread(values, "×"), f"{sign} {ratio.limit:g} ×", verdict)


def _ceiling_row(ceiling: Ceiling, runs: tuple[Run, ...]) -> tuple[str, str, str, str]:
    chosen = [run for run in runs if run.system == ceiling.system and ceiling.cell in (None, run.cell)]
    values = [ceiling.value(run.figures) for run in chosen if run.figures]
    failed = any(run.failure for run in chosen)
    unit = ceiling.unit
    return (
        ceiling.title,
        spread(values, unit),
        f"< {ceiling.limit:g} {unit}",
        _verdict(values, ceiling.limit, failed, strict=True),
    )


def _by_round(runs: tuple[Run, ...], system: str, cell: Cell) -> dict[int, Figures]:
    return {run.round: run.figures for run in runs if run.system == system and run.cell == cell and run.figures}


def _verdict(values: list[float], limit: float, failed: bool, *, strict: bool = False, at_least: bool = False) -> str:
    if not values:
        return "**missed**: the runs failed" if failed else "not measured"
    middle = statistics.median(values)
    met = middle >= limit if at_least else middle < limit if strict else middle <= limit
    return ("met" if met else "**missed**") + (", but some runs failed" if failed else "")
