"""Makes a scenario that breaks a promise smaller, for as long as it goes on breaking one."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from torture.scenario import Scenario

Breaks = Callable[[Scenario], bool]


def shrink(scenario: Scenario, breaks: Breaks, *, seconds: float = 60, tries: int = 2) -> Scenario:
    """The smallest scenario found that still breaks a promise.

    What depends on timing does not break every time: each candidate has several `tries`. The search ends after
    `seconds`, or when nothing smaller breaks.
    """
    deadline = time.monotonic() + seconds
    smaller = True
    while smaller:
        smaller = False
        for candidate in candidates(scenario):
            if time.monotonic() > deadline:
                return scenario
            if any(breaks(candidate) for _ in range(tries)):
                scenario, smaller = candidate, True
                break
    return scenario


def candidates(scenario: Scenario) -> Iterator[Scenario]:
    """Scenarios that are a little smaller, the boldest first."""
    for wave in range(len(scenario.crashes)):
        yield without_wave(scenario, wave)
    letters = scenario.letters
    if len(letters) > 1:
        half = len(letters) // 2
        yield replace(scenario, letters=letters[:half])
        yield replace(scenario, letters=letters[half:])
    for index in range(len(letters)):
        if len(letters) > 1:
            yield replace(scenario, letters=letters[:index] + letters[index + 1 :])
    for index in range(len(scenario.troubles)):
        yield replace(scenario, troubles=scenario.troubles[:index] + scenario.troubles[index + 1 :])
    if scenario.jumps:
        yield replace(scenario, jumps=())
    if scenario.in_doubt is not None:
        yield replace(scenario, in_doubt=None)
    if scenario.copies:
        yield replace(scenario, copies=scenario.copies - 1)
    for index, crash in enumerate(scenario.crashes):
        if crash.nth > 1:
            crashes = list(scenario.crashes)
            crashes[index] = replace(crash, nth=1)
            yield replace(scenario, crashes=tuple(crashes))
    for index, letter in enumerate(letters):
        if len(letter.recipients) > 1:
            fewer = replace(letter, recipients=letter.recipients[:1])
            yield replace(scenario, letters=(*letters[:index], fewer, *letters[index + 1 :]))
        if letter.size > 300:
            shorter = replace(letter, size=300)
            yield replace(scenario, letters=(*letters[:index], shorter, *letters[index + 1 :]))


def without_wave(scenario: Scenario, wave: int) -> Scenario:
    """Without this crash: what belonged to its wave happens in the next one."""

    def moved(of: int) -> int:
        return of - 1 if of > wave else of

    return replace(
        scenario,
        crashes=scenario.crashes[:wave] + scenario.crashes[wave + 1 :],
        letters=tuple(replace(letter, wave=moved(letter.wave)) for letter in scenario.letters),
        troubles=tuple(replace(trouble, wave=moved(trouble.wave)) for trouble in scenario.troubles),
        jumps=scenario.jumps[:wave] + scenario.jumps[wave + 1 :],
    )
