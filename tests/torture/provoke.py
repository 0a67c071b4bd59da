"""Scenarios that are sure to come to particular steps: what each of them takes, and chains of them.

A scenario that is drawn comes to the rarer steps rarely. Here every step has a wave of its own, with the letters and
the troubles that lead to it, so that a few dozen scenarios come to all of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torture.scenario import Crash, Letter, Scenario, Trouble
from torture.steps import BY_NAME, MODES, Mode, Store, steps_of

_SMALL, _LARGE = 400, 150_000


@dataclass(frozen=True, slots=True)
class _Recipe:
    """What leads to a step. `after` is a crash in a wave of its own, one wave earlier."""

    troubles: tuple[Trouble, ...] = ()
    after: str | None = None
    size: int = _SMALL
    null: bool = False


def _put_off(phase: str = "dot", times: int = 2) -> Trouble:
    return Trouble("primary", phase, "4yz", times)


_QUEUED: tuple[Mode, ...] = ("hybrid", "spool")
_REFUSED = Trouble("primary", "dot", "5yz", 3)
_UNHEARD = Trouble("primary", "stored", "close", 1)

_RECIPES: tuple[tuple[str, tuple[Mode, ...], _Recipe], ...] = (
    ("file", MODES, _Recipe(size=_LARGE)),
    ("uploaded", MODES, _Recipe(size=_LARGE)),
    ("abort", ("pass",), _Recipe((Trouble("primary", "dot", "5yz", 1),))),
    ("abort", ("hybrid",), _Recipe((Trouble("primary", "dot", "5yz", 1),))),
    ("hold", ("pass",), _Recipe((_UNHEARD,))),
    ("supersede", ("pass",), _Recipe((_UNHEARD,))),
    ("commit as", ("hybrid",), _Recipe((_put_off(),))),
    ("late outcome", ("hybrid",), _Recipe((_put_off(times=4),))),
    ("accept", ("hybrid",), _Recipe((_put_off("mail"),))),
    ("with copies", ("hybrid",), _Recipe((_put_off(),))),
    ("notice", ("spool",), _Recipe((_REFUSED,))),
    ("notice", ("hybrid",), _Recipe((_put_off("mail", 4), _REFUSED))),
    ("dead letter", ("pass", "hybrid"), _Recipe((Trouble("copy1", "dot", "5yz", 1),))),
    ("dead letter", ("spool",), _Recipe((_REFUSED,), null=True)),
    ("another attempt", ("pass",), _Recipe((Trouble("copy1", "dot", "4yz", 1),))),
    ("another attempt", _QUEUED, _Recipe((_put_off(),))),
    ("recovery", MODES, _Recipe(after="reply made")),
    ("sweep", MODES, _Recipe(after="reply made")),
    ("orphans", ("pass", "hybrid"), _Recipe(after="dot sent")),
    ("resume", ("pass", "hybrid"), _Recipe(after="dot sent")),
    ("take over", MODES, _Recipe(after="reply made")),
    ("doubt told", MODES, _Recipe(after="intend")),
)


def chain(seed: int, mode: Mode, store: Store, names: Sequence[str], *, copies: int = 1) -> Scenario:
    """One scenario that comes to all of these steps, in waves one after the other."""
    letters: list[Letter] = []
    troubles: list[Trouble] = []
    crashes: list[Crash] = []
    for name in names:
        recipe = _recipe(name, mode)
        if recipe.after is not None:
            letters += _letters(len(crashes), _Recipe())
            crashes.append(Crash(recipe.after))
        wave = len(crashes)
        letters += _letters(wave, recipe)
        troubles += (replace(trouble, wave=wave) for trouble in recipe.troubles)
        crashes.append(Crash(name))
    seed = seed if seed % 3 else seed + 1  # one primary upstream: nothing fails over
    return Scenario(seed, mode, store, copies, tuple(letters), tuple(troubles), tuple(crashes))


def chains(seed: int, mode: Mode, store: Store, length: int = 8) -> list[Scenario]:
    """Scenarios that come to every step of a mode and store, with one copy and with two in turn."""
    names = [step.name for step in steps_of(mode, store)]
    parts = [names[first : first + length] for first in range(0, len(names), length)]
    return [
        chain(seed + number, mode, store, part, copies=1 + (seed + number) % 2) for number, part in enumerate(parts)
    ]


def _recipe(name: str, mode: Mode) -> _Recipe:
    assert name in BY_NAME
    for fragment, modes, recipe in _RECIPES:
        if fragment in name and mode in modes:
            return recipe
    return _Recipe()


def _letters(wave: int, recipe: _Recipe) -> list[Letter]:
    first = 2 * wave
    readers = (f"reader{first}a@example.net", f"reader{first}b@example.net")
    return [
        Letter(first, wave, 0, readers, recipe.size, null=recipe.null),
        Letter(first + 1, wave, 1, (f"reader{first + 1}a@example.net",), recipe.size, null=recipe.null),
    ]
