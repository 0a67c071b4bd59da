"""Holds data against the schema: every mistake as a `Problem`, and a model of what is right.

The model is made even when there are mistakes, from what is left without them, so that the checks over the whole
(`check.py`) can run and all errors come at once.
"""

import itertools
from collections.abc import Set
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from pydantic import ValidationError

from waypost.config.document import Data, Tree
from waypost.config.errors import Path, Problem, WrongValueError, did_you_mean
from waypost.config.fields import Section
from waypost.config.walk import keys_at

S = TypeVar("S", bound=Section)

_WORDS = {
    "model_type": "must be a mapping of settings",
    "model_attributes_type": "must be a mapping of settings",
    "dict_type": "must be a mapping of names",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "too_short": "must not be empty",
}


@dataclass(frozen=True, slots=True)
class Validated(Generic[S]):
    """A model and what was left out of it. `model` is None when nothing could be saved."""

    model: S | None
    problems: list[Problem]
    gone: frozenset[Path] = frozenset()

    def original(self, path: Path) -> Path:
        """The path in the data of a `path` in the model: entries that were left out shift those behind them."""
        return _original(path, self.gone)


def validate(section: type[S], tree: Tree) -> Validated[S]:
    """Holds `tree` against `section`."""
    problems: list[Problem] = []
    gone: set[Path] = set()
    while True:
        try:
            model = section.model_validate(_without(tree.data, gone))
            return Validated(model, problems, frozenset(gone))
        except ValidationError as error:
            found = cast(list[dict[str, Any]], error.errors(include_url=False, include_input=False))
        if not gone:  # what is wrong only because a mistake was taken out is not worth a word
            said = (_problem(section, tree, detail) for detail in found)
            problems += [problem for problem in said if problem is not None]
        before = frozenset(gone)
        for detail in found:
            path = _original(_path(detail), before)
            target = tree.written(path[:-1] if detail["type"] == "missing" else path)
            while target in before:  # it is out already, so what surrounds it cannot stand either
                target = target[:-1]
            if not target:
                return Validated(None, problems)
            gone.add(target)


def _without(node: Data, gone: set[Path], path: Path = ()) -> Data:
    """A copy of the data without the nodes in `gone`."""
    if isinstance(node, dict):
        return {key: _without(value, gone, (*path, key)) for key, value in node.items() if (*path, key) not in gone}
    if isinstance(node, list):
        return [_without(item, gone, (*path, index)) for index, item in enumerate(node) if (*path, index) not in gone]
    return node


def _original(path: Path, gone: Set[Path]) -> Path:
    found: Path = ()
    for part in path:
        if isinstance(part, int):
            left = (index for index in itertools.count() if (*found, index) not in gone)
            part = next(itertools.islice(left, part, None))
        found = (*found, part)
    return found


def _path(detail: dict[str, Any]) -> Path:
    path: Path = detail["loc"]
    return path[:-1] if path and path[-1] == "[key]" else path


def _problem(section: type[Section], tree: Tree, detail: dict[str, Any]) -> Problem | None:
    path, kind = _path(detail), detail["type"]
    if kind == "missing":
        return tree.problem(path, "is required")
    if kind == "extra_forbidden":
        advice = did_you_mean(str(path[-1]), keys_at(section, path[:-1]))
        return tree.problem(path, "there is no such setting", advice, key=True)
    if kind == "too_short" and tree.get(path):
        return None  # its entries are wrong, which has been said
    cause = detail.get("ctx", {}).get("error")
    if isinstance(cause, WrongValueError):
        return tree.problem(path, cause.text, cause.suggestion, key=detail["loc"] != path)
    return tree.problem(path, _WORDS.get(kind, detail["msg"]))
