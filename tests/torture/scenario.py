"""What happens in one scenario, as a value: derived from a seed, written as JSON, made smaller when it fails."""

import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from torture.steps import MODES, Mode, Step, Store, steps_of

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
    """One message that a client sends in a wave. `stubborn` clients come again until they have a final answer."""

    number: int
    wave: int
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
    """In one wave an upstream misbehaves, the first `times` that it comes to `phase` of `rig.faults`."""

    where: Where
    phase: str
    manner: Manner
    times: int = 1
    wave: int = 0


@dataclass(frozen=True, slots=True)
class Crash:
    """The program is killed when it comes to `step` for the `nth` time; then it is started again."""

    step: str
    nth: int = 1


@dataclass(frozen=True, slots=True)
class Scenario:
    """All that happens. It goes in waves: in each the program is started with one of the crashes in it, upstreams
    have their troubles and clients send their letters; the last wave is without a crash.
    """

    seed: int
    mode: Mode
    store: Store
    copies: int
    letters: tuple[Letter, ...]
    troubles: tuple[Trouble, ...] = ()
    crashes: tuple[Crash, ...] = ()
    jumps: tuple[float, ...] = ()
    """Seconds by which the clock is wrong, in each wave."""
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
    def waves(self) -> int:
        """How many there are."""
        return len(self.crashes) + 1

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
    seed: int, *, mode: Mode | None = None, store: Store = "sqlite", disaster: Disaster | None = None
) -> Scenario:
    """The scenario of a seed; what is given is taken, everything else drawn."""
    draw = random.Random(f"{seed}/{store}/{disaster}")
    drawn: Mode = draw.choice(MODES)
    mode = mode or drawn
    copies = draw.choice((0, 1, 1, 2, 2))
    crashes = _crashes(draw, steps_of(mode, store))
    if disaster is not None:
        crashes = crashes[:1] if disaster == "neighbour" else ()
    waves = len(crashes) + 1
    return Scenario(
        seed,
        mode,
        store,
        copies,
        tuple(_letter(draw, number, draw.randrange(waves)) for number in range(draw.randint(2, 4 + waves))),
        tuple(_trouble(draw, copies, draw.randrange(waves)) for _ in range(draw.choice((0, 0, 1, 2, 3)))),
        crashes=crashes,
        jumps=() if disaster else _jumps(draw, waves),
        disaster=disaster,
        in_doubt=draw.choice((None, None, None, "failover", "retry-same", "assume-sent", "tempfail")),
        hold=draw.choice((0.2, 0.2, 1.0)),
    )


def _letter(draw: random.Random, number: int, wave: int) -> Letter:
    recipients = tuple(f"reader{number}{letter}@example.net" for letter in "abc"[: draw.choice((1, 1, 2, 3))])
    size = draw.choice((300, 300, 300, 5_000, 70_000, 200_000))
    return Letter(number, wave, draw.randrange(2), recipients, size, draw.random() < 0.8, draw.random() < 0.1)


def _trouble(draw: random.Random, copies: int, wave: int) -> Trouble:
    wheres: list[Where] = ["primary", "primary", "second"]
    wheres += ("copy1", "copy2")[:copies]
    where = draw.choice(wheres)
    manner: Manner = draw.choice(("close", "close", "close", "4yz", "4yz", "5yz", "slow", "slow", "hang"))
    times = draw.choice((1, 1, 2, 3))
    if manner in ("4yz", "5yz"):
        return Trouble(where, draw.choice(_REFUSALS), manner, times, wave)
    if manner == "hang":
        return Trouble(where, draw.choice(("dot", "stored")), manner, 1, wave)
    return Trouble(where, draw.choice(_PHASES), manner, times, wave)


def _crashes(draw: random.Random, steps: Sequence[Step]) -> tuple[Crash, ...]:
    count = draw.choice((0, 1, 1, 1, 2, 2, 3))
    return tuple(Crash(draw.choice(steps).name, draw.choice((1, 1, 1, 2, 3))) for _ in range(count))


def _jumps(draw: random.Random, waves: int) -> tuple[float, ...]:
    if draw.random() < 0.85:
        return ()
    return tuple(draw.choice((0.0, _HOUR, -_HOUR, _MONTH, -_MONTH)) for _ in range(waves))
