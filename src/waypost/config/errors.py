"""What is wrong with a configuration, said so that a person can put it right; and where a value came from."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

Path = tuple[str | int, ...]
"""The way to one node: `("listeners", 0, "address")`."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value was written: a place in a file, a variable, a flag, or nowhere (a default).

    `key` is the setting's name there when it differs from ours: the old formats have their own.
    """

    source: str
    line: int = 0
    column: int = 0
    key: str = ""

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}" if self.line else self.source


DEFAULT = Origin("default")


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake. `place` is `file:line:column`, a variable or a flag; `suggestion` may be empty."""

    place: str
    key: str
    text: str
    suggestion: str = ""

    def __str__(self) -> str:
        start = ": ".join(part for part in (self.place, self.key, self.text) if part)
        return f"{start}; {self.suggestion}" if self.suggestion else start


class ConfigurationError(Exception):
    """The configuration cannot be used. `problems` has every mistake that was found, in order of place."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class WrongValueError(ValueError):
    """One value does not fit. Raised by the parsers of single values, turned into a `Problem` by their caller."""

    def __init__(self, text: str, suggestion: str = "") -> None:
        super().__init__(text)
        self.text = text
        self.suggestion = suggestion


def key_text(path: Path) -> str:
    """A path as people write it: `listeners[0].address`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def nearest_name(word: str, known: Iterable[str]) -> str:
    """The one of `known` that is nearest to `word`; empty when none is near."""
    by_lower = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[near[0]] if near else ""


def nearest(word: str, known: Iterable[str]) -> str:
    """The question whether the nearest of `known` was meant; empty when none is near."""
    near = nearest_name(word, known)
    return f"did you mean {near}?" if near else ""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A suggestion for a name that does not exist: the nearest that does, or what there is."""
    names = sorted(known)
    near = nearest(word, names)
    if near or not names:
        return near
    more = f" and {len(names) - 12} more" if len(names) > 12 else ""
    return f"known here: {', '.join(names[:12])}{more}"
