"""`python -m bench`: runs the plan and writes the report."""

import argparse
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

from bench.matrix import CONCURRENCY, CONNECTIONS, SIZES, Cell, Connections, plan
from bench.profiling import profile
from bench.report import Report, render
from bench.required import RATIOS, is_needed
from bench.run import Bench, Run
from bench.systems import SYSTEMS

HERE = Path(__file__).parent
NOT_QUICK = ("postfix-copies", "haraka", "aiosmtpd")
"""In no required ratio: left out of `--quick` unless named."""


def _words(allowed: Collection[str]) -> Callable[[str], tuple[str, ...]]:
    def parse(text: str) -> tuple[str, ...]:
        words = tuple(text.split(","))
        wrong = [word for word in words if word not in allowed]
        if wrong:
            raise argparse.ArgumentTypeError(f"{', '.join(wrong)}: choose from {', '.join(allowed)}")
        return words

    return parse


def _numbers(text: str) -> tuple[int, ...]:
    try:
        numbers = tuple(int(word) for word in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < 1:
        raise argparse.ArgumentTypeError(f"{text}: numbers from 1 on, separated by commas")
    return numbers


def _number(text: str) -> int:
    numbers = _numbers(text)
    if len(numbers) != 1:
        raise argparse.ArgumentTypeError(f"{text}: one number")
    return numbers[0]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Mail systems under smtp-source: throughput, CPU, memory and latency."
    )
    choose = parser.add_argument
    choose("--systems", type=_words(SYSTEMS), default=None, help=", ".join(SYSTEMS))
    choose("--sizes", type=_words(SIZES), default=tuple(SIZES), help=", ".join(SIZES))
    choose("--connections", type=_words(CONNECTIONS), default=CONNECTIONS, help="new, reused")
    choose("--concurrency", type=_numbers, default=CONCURRENCY, metavar="N,N", help="sessions at once: 1,20,200")
    choose("--rounds", type=_number, default=None, help="how often each system runs each cell (5; 1 with --quick)")
    choose("--messages", type=_number, default=None, help="messages in each run instead of a number that fits the size")
    choose("--quick", action="store_true", help="only what the required ratios need, half the messages, one round")
    choose("--profile", action="store_true", help="add profiles of Waypost in the cells of the required CPU ratios")
    choose("--report", type=Path, default=None, metavar="FILE", help="write the report there instead of printing it")
    choose("--work", type=Path, default=HERE / ".work", metavar="DIR", help="queues and spools; decides on the disk")
    return parser


def main() -> int:
    """The program; 0 unless a run failed or nothing could be run."""
    options = parser().parse_args()
    if not shutil.which("smtp-source"):
        sys.exit("smtp-source is not installed; it comes with Postfix")
    options.work.mkdir(parents=True, exist_ok=True)
    rounds = options.rounds or (1 if options.quick else 5)
    cells = plan(
        options.sizes, cast("tuple[Connections, ...]", options.connections), options.concurrency, options.quick
    )
    chosen = options.systems or tuple(name for name in SYSTEMS if not (options.quick and name in NOT_QUICK))
    skipped = {name: reason for name in chosen if (reason := SYSTEMS[name].unavailable())}
    names = [name for name in chosen if name not in skipped]
    for name, reason in skipped.items():
        print(f"skipped: {name}: {reason}", file=sys.stderr)
    if not names or not cells:
        sys.exit("nothing to run")
    versions = {name: SYSTEMS[name].version() for name in names}
    runs: list[Run] = []
    begun = datetime.now(UTC)
    interrupted = False
    for number in (signal.SIGINT, signal.SIGTERM):  # also in the background of a shell, where SIGINT is ignored
        signal.signal(number, signal.default_int_handler)
    bench = Bench(options.work.resolve(), options.messages, options.quick)
    profiles: dict[str, str] = {}
    try:
        pairs = [(name, cell) for cell in cells for name in names if not options.quick or is_needed(name, cell)]
        _run_all(bench, pairs, rounds, runs)
        if options.profile:
            _profile_all(bench, names, cells, profiles)
    except KeyboardInterrupt:
        interrupted = True
    text = render(
        Report(
            runs=tuple(runs),
            cells=tuple(cells),
            titles={name: SYSTEMS[name].title for name in names},
            versions=versions,
            skipped={SYSTEMS[name].title: reason for name, reason in skipped.items()},
            rounds=rounds,
            begun=begun,
            ended=datetime.now(UTC),
            command=shlex.join(["python", "-m", "bench", *sys.argv[1:]]),
            interrupted=interrupted,
            profiles=profiles,
        )
    )
    if options.report:
        options.report.write_text(text)
    else:
        print(text)
    return 1 if interrupted or any(run.failure for run in runs) else 0


def _run_all(bench: Bench, pairs: list[tuple[str, Cell]], rounds: int, runs: list[Run]) -> None:
    """Interleaved: in each round and cell, every system once, so that a noisy minute is noisy for all."""
    for number in range(1, rounds + 1):
        for name, cell in pairs:
            begun = time.monotonic()
            run = bench.run(SYSTEMS[name], cell, number)
            runs.append(run)
            _say(run, len(runs), rounds * len(pairs), time.monotonic() - begun)


def _profile_all(bench: Bench, names: list[str], cells: list[Cell], profiles: dict[str, str]) -> None:
    for name, cell in dict.fromkeys((ratio.system, ratio.cell) for ratio in RATIOS if not ratio.at_least):
        if name in names and cell in cells:
            title = f"{SYSTEMS[name].title}, {cell.title}"
            profiles[title] = profile(SYSTEMS[name], cell, cell.profiled_messages, bench.work)


def _say(run: Run, number: int, total: int, seconds: float) -> None:
    result = f"FAILED: {run.failure}"
    if run.figures:
        figures = run.figures
        result = (
            f"{figures.cpu_per_thousand:.3f} CPU s/1,000  {figures.delivered_per_second:.0f}/s  "
            f"{figures.latency_median * 1000:.2f} ms"
        )
    print(f"[{number}/{total}] {run.system}: {run.cell.title}: {result} ({seconds:.1f} s)", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
