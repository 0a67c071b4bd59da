"""What a rehearsal has shown: a table of scenarios, the steps at which the program was killed, and the failures."""

import shlex
from collections import Counter
from dataclasses import dataclass, field

from torture.run import Result
from torture.scenario import Scenario
from torture.steps import MODES, STORES, Mode, Store, steps_of


def command(scenario: Scenario) -> str:
    """What repeats a scenario."""
    inner = f"--scenario {shlex.quote(scenario.text())}"
    return f"make torture TORTURE_ARGS={shlex.quote(inner)}"


@dataclass(slots=True)
class Report:
    """The sum of all results."""

    results: list[Result] = field(default_factory=list)

    @property
    def failures(self) -> list[Result]:
        """Scenarios in which a promise was broken."""
        return [result for result in self.results if result.broken]

    def struck(self, mode: Mode, store: Store) -> Counter[str]:
        """How often the program was killed at each step."""
        return Counter(
            step
            for result in self.results
            if result.scenario.mode == mode and result.scenario.store == store
            for step in result.struck
        )

    def text(self) -> str:
        """All of it, for people."""
        lines = [f"{'mode':8}{'store':10}{'fault':12}{'scenarios':>10}{'kills':>8}{'broken':>8}{'seconds each':>14}"]
        groups: dict[tuple[str, str, str], list[Result]] = {}
        for result in self.results:
            if result.impossible:
                continue
            scenario = result.scenario
            groups.setdefault((scenario.mode, scenario.store, fault_of(scenario)), []).append(result)
        for (mode, store, fault), results in sorted(groups.items()):
            kills = sum(len(result.struck) for result in results)
            broken = sum(bool(result.broken) for result in results)
            mean = sum(result.seconds for result in results) / len(results)
            lines.append(f"{mode:8}{store:10}{fault:12}{len(results):10}{kills:8}{broken:8}{mean:14.2f}")
        for store in STORES:
            for mode in MODES:
                struck = self.struck(mode, store)
                names = {step.name for step in steps_of(mode, store)}
                if struck:
                    lines.append(f"{mode} on {store}: killed at {len(names & set(struck))} of {len(names)} steps")
        skipped = {(each.scenario.disaster or "", each.impossible) for each in self.results if each.impossible}
        lines += [f"not rehearsed: {fault}: {why}" for fault, why in sorted(skipped)]
        for result in self.failures:
            lines += failure(result)
        total = len(self.results)
        lines.append(
            f"{total} scenarios, {sum(len(r.struck) for r in self.results)} kills, {len(self.failures)} broken"
        )
        return "\n".join(lines)


def fault_of(scenario: Scenario) -> str:
    """Which kind of fault a scenario is about."""
    if scenario.disaster is not None:
        return scenario.disaster
    if scenario.jumps:
        return "clock"
    if scenario.crashes:
        return "kill -9"
    return "upstreams" if scenario.troubles else "none"


def failure(result: Result) -> list[str]:
    """What was broken in a scenario, and how to see it again."""
    scenario = result.scenario
    lines = ["", f"BROKEN (seed {scenario.seed}): {scenario.summary()}"]
    lines += [f"  {each}" for each in result.broken[:10]]
    return [*lines, f"  again: {command(scenario)}", ""]
