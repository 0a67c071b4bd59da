"""The short rehearsal: the program is killed at every step, in every mode, and keeps what it promised.

`make torture` is the long one.
"""

from collections.abc import Iterator

import pytest

from rig.postgres import find_program
from rig.programs import require
from torture.company import Company
from torture.provoke import chain, chains
from torture.report import Report
from torture.scenario import DISASTERS, derive
from torture.steps import MODES, STEPS, STORES, Step, Store, find, steps_of

POSTGRES = {
    "pass": ("content uploaded", "commits written", "orphans", "before outcomes written"),
    "hybrid": ("commit as", "intents written", "settle with copies"),
    "spool": ("before new messages written", "new messages written", "take over"),
}
"""A handful: the long run takes them all."""

DRAWN = range(9)


@pytest.fixture(scope="module")
def company() -> Iterator[Company]:
    with Company() as company:
        yield company


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("step", STEPS, ids=[step.name for step in STEPS])
def test_every_step_is_a_function_of_the_program(step: Step, store: Store) -> None:
    if store in step.stores:
        _, _, function = find(step.place(store))
        assert callable(function)


@pytest.mark.timeout(400)  # half a minute, unless the machine is busy with other things
def test_killed_at_every_step_with_sqlite(company: Company) -> None:
    report = Report()
    wanted = [scenario for mode in MODES for scenario in chains(1, mode, "sqlite")]
    report.results += company.play_all(iter(wanted))
    for mode in MODES:
        for step in steps_of(mode, "sqlite"):
            # On a machine that is busy otherwise a wave may pass by its step.
            for seed in range(3):
                if report.struck(mode, "sqlite")[step.name]:
                    break
                report.results.append(company.play(chain(seed, mode, "sqlite", [step.name])))
    assert not report.failures, report.text()
    for mode in MODES:
        missed = {step.name for step in steps_of(mode, "sqlite")} - set(report.struck(mode, "sqlite"))
        assert not missed, f"{mode}: nothing came to {missed}"


def test_whatever_a_seed_brings(company: Company) -> None:
    report = Report()
    report.results += company.play_all(derive(seed, mode=MODES[seed % 3]) for seed in DRAWN)
    assert not report.failures, report.text()
    assert any(result.struck for result in report.results)


@pytest.mark.foreign
def test_the_disk_fails_for_a_while(company: Company) -> None:
    """Full, not to be written, not to be synced: for real, so it needs root and strace."""
    require("strace")
    report = Report()
    report.results += company.play_all(derive(2, mode="spool", disaster=disaster) for disaster in DISASTERS["sqlite"])
    assert not report.failures, report.text()
    # Mounts and ptrace are often forbidden in containers: that is no lack of a program.
    skipped = [f"{result.scenario.disaster}: {result.impossible}" for result in report.results if result.impossible]
    if skipped:
        pytest.skip("; ".join(skipped))


@pytest.mark.foreign
def test_killed_with_postgres(company: Company) -> None:
    find_program("initdb")
    report = Report()
    report.results += company.play_all(chain(1, mode, "postgres", names) for mode, names in POSTGRES.items())
    assert not report.failures, report.text()
    assert sum(len(result.struck) for result in report.results) >= 6
