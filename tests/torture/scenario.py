"""What happens in one scenario, as a value: derived from a seed, written as JSON, made smaller when it fails."""

import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from torture.steps import Mode, Step, Store, steps_of

Where = Literal["primary", "second", "copy1", "copy2", "home"]
Manner = Literal["close", "4yz", "5yz", "hang", "slow"]
Disaster = Literal["full", "read-only", "fsync", "database", "neighbour"]

DISASTERS: dict[Store, tuple[Disaster, ...]] = {
    "sqlite": ("full", "read-only", "fsync"),
    "postgres": ("database", "neighbour"),
}
SILENT_DOT = 0.4
"""Seconds after which a dot counts as unanswered, in scenarios in which an upstream is silent."""


@dataclass(frozen=True, slots=True)
class Letter:
    """One message that a client sends. `stubborn` clients come again until they have a final answer."""

    number: int
    connection: int
    recipients: tuple[str, ...]
    size: int
    stubborn: bool = True
    null: bool = False  # the null reverse-path: nobody can be notified

    @property
    def sender(self) -> str:
        """The reverse-path; empty for the null one."""
        return "" if self.null else f"author{self.number}@sender.example"


@dataclass(frozen=True, slots=True)
class Trouble:
    """An upstream misbehaves, the next `times` it comes to `phase` of `rig.faults`."""

    where: Where
    phase: str
    manner: Manner
    times: int = 1


@dataclass(frozen=True, slots=True)
class Crash:
    """The program is killed when it comes to `step` for the `nth` time; then it is started again."""

    step: str
    nth: int = 1


@dataclass(frozen=True, slots=True)
class Scenario:
    """All that happens, in the order of the fields that are tuples."""

    seed: int
    mode: Mode
    store: Store
    copies: int
    letters: tuple[Letter, ...]
    troubles: tuple[Trouble, ...] = ()
    crashes: tuple[Crash, ...] = ()
    jumps: tuple[float, ...] = ()
    """Seconds by which the clock jumps, one at each start."""
    disaster: Disaster | None = None
    in_doubt: str | None = None
    hold: float = 0.3
    """`in_doubt_hold`, in seconds."""

    @property
    def is_silent(self) -> bool:
        """Whether an upstream lets Waypost wait until it gives up."""
        return any(trouble.manner == "hang" for trouble in self.troubles)

    @property
    def second(self) -> bool:
        """Whether the primary pool has a second upstream: by the seed, so that it stays while the rest shrinks."""
        return self.seed % 3 == 0

    @property
    def targets(self) -> tuple[Where, ...]:
        """The targets of the copies."""
        return ("copy1", "copy2")[: self.copies]  # type: ignore[return-value]

    def text(self) -> str:
        """As JSON on one line, for a person to hand back."""
        return json.dumps({name: value for name, value in asdict(self).items() if value not in ((), None)})

    def summary(self) -> str:
        """In a few words."""
        words = [f"{self.mode} on {self.store}", f"{len(self.letters)} messages", f"{self.copies} copies"]
        words += [f"killed at {crash.step!r} ({crash.nth})" for crash in self.crashes]
        words += [f"{each.where} {each.manner} at {each.phase} x{each.times}" for each in self.troubles]
        words += [f"clock {jump:+.0f} s" for jump in self.jumps if jump]
        if self.disaster is not None:
            words.append(f"disaster {self.disaster}")
        if self.in_doubt is not None:
            words.append(f"in_doubt {self.in_doubt}")
        return ", ".join(words)


def read(text: str) -> Scenario:
    """What `Scenario.text` has written."""
    fields: dict[str, Any] = json.loads(text)
    fields["letters"] = tuple(
        Letter(**(each | {"recipients": tuple(each["recipients"])})) for each in fields["letters"]
    )
    fields["troubles"] = tuple(Trouble(**each) for each in fields.get("troubles", ()))
    fields["crashes"] = tuple(Crash(**each) for each in fields.get("crashes", ()))
    fields["jumps"] = tuple(fields.get("jumps", ()))
    return Scenario(**fields)


_PHASES = ("ehlo", "mail", "rcpt", "data", "content", "dot", "stored", "dot", "stored")
_REFUSALS = ("mail", "rcpt", "data", "dot")
_HOUR, _MONTH = 3600.0, 30 * 86400.0


def derive(
    seed: int,
    *,
    mode: Mode | None = None,
    store: Store = "sqlite",
    step: Step | None = None,
    disaster: Disaster | None = None,
) -> Scenario:
    """The scenario of a seed; what is given is taken, everything else drawn."""
    draw = random.Random(f"{seed}/{store}")
    drawn_mode: Mode = draw.choice(("pass", "hybrid", "spool"))
    mode = mode or drawn_mode
    letters = tuple(_letter(draw, number) for number in range(draw.randint(2, 5)))
    copies = draw.choice((0, 1, 1, 2, 2))
    troubles = tuple(_trouble(draw, copies) for _ in range(draw.choice((0, 0, 1, 2, 3))))
    scenario = Scenario(
        seed,
        mode,
        store,
        copies,
        letters,
        troubles,
        crashes=_crashes(draw, steps_of(mode, store)),
        jumps=_jumps(draw),
        disaster=disaster,
        in_doubt=draw.choice((None, None, None, "failover", "retry-same", "assume-sent", "tempfail")),
        hold=draw.choice((0.2, 0.2, 1.0)),
    )
    if disaster is not None:
        scenario = replace(scenario, crashes=() if disaster != "neighbour" else scenario.crashes[:1], jumps=())
    return scenario if step is None else provoke(scenario, step)


def _letter(draw: random.Random, number: int) -> Letter:
    recipients = tuple(f"reader{number}{letter}@example.net" for letter in "abc"[: draw.choice((1, 1, 2, 3))])
    size = draw.choice((300, 300, 300, 5_000, 70_000, 200_000))
    return Letter(number, draw.randrange(2), recipients, size, draw.random() < 0.8, draw.random() < 0.1)


def _trouble(draw: random.Random, copies: int) -> Trouble:
    wheres: list[Where] = ["primary", "primary", "second"]
    wheres += ("copy1", "copy2")[:copies]
    where = draw.choice(wheres)
    manner: Manner = draw.choice(("close", "close", "close", "4yz", "4yz", "5yz", "slow", "slow", "hang"))
    times = draw.choice((1, 1, 2, 3))
    if manner in ("4yz", "5yz"):
        return Trouble(where, draw.choice(_REFUSALS), manner, times)
    if manner == "hang":
        return Trouble(where, draw.choice(("dot", "stored")), manner, 1)
    return Trouble(where, draw.choice(_PHASES), manner, times)


def _crashes(draw: random.Random, steps: Sequence[Step]) -> tuple[Crash, ...]:
    count = draw.choice((0, 1, 1, 1, 2, 2, 3))
    return tuple(Crash(draw.choice(steps).name, draw.choice((1, 1, 1, 2, 3, 4))) for _ in range(count))


def _jumps(draw: random.Random) -> tuple[float, ...]:
    if draw.random() < 0.85:
        return ()
    return tuple(draw.choice((0.0, _HOUR, -_HOUR, _MONTH, -_MONTH)) for _ in range(3))


def provoke(scenario: Scenario, step: Step) -> Scenario:
    """The same scenario with a crash at `step` in front, and with what it takes to come there."""
    letters, troubles, crashes = list(scenario.letters), list(scenario.troubles), [Crash(step.name)]
    if any(word in step.name for word in ("file", "uploaded")):
        letters[0] = replace(letters[0], size=200_000)
    spare = replace(letters[0], number=8, recipients=("reader8a@example.net",), connection=0)
    primary = scenario.mode == "pass" or (scenario.mode == "hybrid" and "commit as" not in step.name)
    match step.name:
        case name if "abort" in name or "notice" in name:
            troubles = [Trouble("primary", "rcpt" if scenario.mode == "hybrid" else "dot", "5yz", 1)]
            if scenario.mode == "hybrid":
                # First put off, so that it is ours, and then refused for good.
                refusal = Trouble("primary", "dot", "5yz", 1)
                troubles = [refusal] if "abort" in name else [Trouble("primary", "mail", "4yz", 1), refusal]
            letters = [replace(each, null=False, recipients=each.recipients[:1]) for each in letters[:1]]
        case name if "dead letter" in name:
            letters = [replace(each, null=True) for each in letters[:2]]
            where: Where = "primary" if scenario.mode == "spool" else "copy1"
            troubles = [Trouble(where, "dot", "5yz", 1)]
        case name if "another attempt" in name:
            troubles = [Trouble("copy1" if primary else "primary", "dot", "4yz", 1)]
        case name if "commit as" in name or name in ("before accept", "accept") or "with copies" in name:
            phase = "mail" if "accept" in name else "dot"
            troubles = [Trouble("primary", phase, "4yz", 2)] if scenario.mode == "hybrid" else []
        case name if "late outcome" in name:
            troubles = [Trouble("primary", "dot", "4yz", 2)]
        case name if "hold" in name:
            troubles = [Trouble("primary", "stored", "close", 1)]
        case name if "supersede" in name:
            troubles = [Trouble("primary", "stored", "close", 1)]
            letters = [replace(each, stubborn=True) for each in letters]
        case name if name in ("before recovery", "recovery", "before sweep", "sweep"):
            crashes = [Crash("reply made"), *crashes]
        case name if "orphans" in name or "resume" in name or "take over" in name:
            crashes = [Crash("the first content" if scenario.mode == "spool" else "dot sent"), *crashes]
            if scenario.mode == "spool":
                crashes[0] = Crash("claim")
            troubles = []
        case "doubt said":
            crashes = [Crash("in whole transaction of a copy"), *crashes]
            letters, troubles = [replace(each, size=300) for each in letters], []
        case name if "temporary file" in name:
            letters[0] = replace(letters[0], size=200_000)
        case name if "DATA" in name or "content under way" in name or "the dot" in name or "MAIL and" in name:
            troubles = []
    if scenario.mode == "hybrid" and step.modes == ("hybrid", "spool") and not troubles:
        troubles = [Trouble("primary", "dot", "4yz", 1)]
    return replace(
        scenario,
        letters=(*letters, spare),
        troubles=tuple(troubles),
        crashes=tuple(crashes),
        copies=max(1, scenario.copies),
        in_doubt=None,
        jumps=(),
        seed=scenario.seed if scenario.seed % 3 else scenario.seed + 1,  # one primary upstream: nothing fails over
    )
