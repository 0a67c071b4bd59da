"""`make torture`: scenarios from seeds, for as long as it is told, and a report."""

import argparse
import random
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import count

from torture.company import PARALLEL, Company
from torture.provoke import chains
from torture.report import Report, failure
from torture.run import Result
from torture.scenario import DISASTERS, Scenario, derive, read
from torture.shrink import shrink
from torture.steps import MODES, STORES, Mode, Store


def scenarios(seed: int, modes: Sequence[Mode], stores: Sequence[Store]) -> Iterator[Scenario]:
    """Scenarios without end: first those that come to every step, then whatever the seeds say."""
    for store in stores:
        for mode in modes:
            yield from chains(seed, mode, store)
    for number in count(seed):
        for store in stores:
            yield derive(number, mode=modes[number % len(modes)], store=store)
        if number % 4 == 0:
            store = stores[number // 4 % len(stores)]
            disasters = DISASTERS[store]
            disaster = disasters[number // (4 * len(stores)) % len(disasters)]
            yield derive(number, mode=modes[number // 4 % len(modes)], store=store, disaster=disaster)


def main(words: Sequence[str]) -> int:
    """The command; its exit code is 1 when a promise was broken."""
    arguments = _arguments(words)
    report = Report()
    until = time.monotonic() + arguments.minutes * 60
    with Company(arguments.parallel) as company:
        if arguments.scenario is not None:
            result = company.play(read(arguments.scenario), keep=True)
            report.results.append(result)
            print(result.log)
        else:
            print(f"seed {arguments.seed}", flush=True)
            wanted = scenarios(arguments.seed, arguments.mode or MODES, arguments.store or STORES[:1])
            for result in company.play_all(wanted, until):
                report.results.append(_shrunk(company, result) if result.broken else result)
                _progress(report)
    print(report.text())
    return 1 if report.failures else 0


def _shrunk(company: Company, result: Result) -> Result:
    print("\n".join(["", *failure(result), "  making it smaller ..."]), flush=True)
    last = result

    def breaks(scenario: Scenario) -> bool:
        nonlocal last
        found = company.play(scenario)
        if found.broken:
            last = found
        return bool(found.broken)

    shrink(result.scenario, breaks)
    return last


def _progress(report: Report) -> None:
    if len(report.results) % 50 == 0:
        print(f"{len(report.results)} scenarios, {len(report.failures)} broken", flush=True)


def _arguments(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make torture TORTURE_ARGS=...", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10, help="for how long; default: %(default)s")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="where to begin; default: anywhere")
    parser.add_argument("--mode", action="append", choices=MODES, help="only this acceptance mode; may be repeated")
    parser.add_argument("--store", action="append", choices=STORES, help="only this store; may be repeated")
    parser.add_argument("--parallel", type=int, default=PARALLEL, help="scenarios at once; default: %(default)s")
    parser.add_argument("--scenario", metavar="JSON", help="this scenario, once; its folder is kept")
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
