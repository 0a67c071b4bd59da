"""Holds data against the schema: every mistake as a `Problem`, and a model of what is right.

The model is made even when there are mistakes, from what is left without them, so that the checks over the whole
(`check.py`) can run and all errors come at once. What cannot be left out has a stand-in (`fields.StandIn`): a wrong
port must not hide the missing certificate of the same listener.
"""

import itertools
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from pydantic import ValidationError

from waypost.config.document import Data, Tree
from waypost.config.errors import Path, Problem, WrongValueError, did_you_mean, nearest_name
from waypost.config.fields import Section, Short, StandIn
from waypost.config.walk import keys_at, shape_at

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
    """A model and what was left out of it, or has a stand-in. `model` is None when nothing could be saved."""

    model: S | None
    problems: list[Problem]
    gone: frozenset[Path] = frozenset()

    def is_misspelt(self, path: Path) -> bool:
        """Whether a setting that does not exist stands beside `path` in the data, and `path` was meant by it."""
        if self.model is None:
            return False
        known = keys_at(type(self.model), path[:-1])
        beside = [gone[-1] for gone in self.gone if gone[:-1] == path[:-1] and gone[-1] not in known]
        return any(nearest_name(str(name), known) == path[-1] for name in beside)

    def original(self, path: Path) -> Path:
        """The path in the data of a `path` in the model: entries that were left out shift those behind them."""
        return _original(path, self.gone)


def validate(section: type[S], tree: Tree) -> Validated[S]:
    """Holds `tree` against `section`."""
    problems: list[Problem] = []
    gone: set[Path] = set()
    filled: dict[Path, str] = {}
    while True:
        try:
            model = section.model_validate(_without(tree.data, gone, filled))
            return Validated(model, problems, frozenset(gone))
        except ValidationError as error:
            found = cast(list[dict[str, Any]], error.errors(include_url=False, include_input=False))
        if not gone:  # what is wrong only because a mistake was taken out is not worth a word
            meant = {_meant(section, detail) for detail in found}
            said = (_problem(section, tree, detail) for detail in found if _path(detail) not in meant)
            problems += [problem for problem in said if problem is not None]
        before = frozenset(gone)
        for detail in found:
            if detail["type"] == "too_short" and _has_entries(_path(detail), found):
                continue  # they count again once they are without their mistakes
            path = _original(_path(detail), before)
            stand_in = _stand_in(section, path) if detail["type"] == "missing" else None
            if stand_in is not None and path not in filled:
                filled[path] = stand_in
                gone.add(path)
                continue
            target = tree.written(path[:-1] if detail["type"] == "missing" else path)
            while target in before:  # it is out already, so what surrounds it cannot stand either
                target = target[:-1]
            if not target:
                return Validated(None, problems)
            gone.add(target)


def _has_entries(path: Path, found: list[dict[str, Any]]) -> bool:
    """Whether something below `path` is among what was found wrong."""
    return any(len(below) > len(path) and below[: len(path)] == path for below in map(_path, found))


def _stand_in(section: type[Section], path: Path) -> str | None:
    shape = shape_at(section, path)
    return next((mark.text for mark in shape.metadata if isinstance(mark, StandIn)), None) if shape else None


def _without(node: Data, gone: set[Path], filled: Mapping[Path, str], path: Path = ()) -> Data:
    """A copy of the data without the nodes in `gone`, and with those in `filled`."""
    if isinstance(node, dict):
        left = {
            key: _without(value, gone, filled, (*path, key)) for key, value in node.items() if (*path, key) not in gone
        }
        return left | {str(here[-1]): text for here, text in filled.items() if here[:-1] == path}
    if isinstance(node, list):
        return [
            _without(item, gone, filled, (*path, index))
            for index, item in enumerate(node)
            if (*path, index) not in gone
        ]
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


def _meant(section: type[Section], detail: dict[str, Any]) -> Path | None:
    """What was meant by a setting that does not exist. That it is missing need not be said, too."""
    if detail["type"] != "extra_forbidden":
        return None
    path = _path(detail)
    name = nearest_name(str(path[-1]), keys_at(section, path[:-1]))
    return (*path[:-1], name) if name else None


def _not_a_mapping(section: type[Section], tree: Tree, path: Path) -> Problem:
    """A value where a mapping of settings belongs."""
    shape, value = shape_at(section, path), tree.get(path)
    if value is None:
        return tree.problem(path, "has no settings in it")
    if shape is not None and shape.section is not None and len(path) == 2 and path[-1] in shape.section.model_fields:
        return tree.problem(
            path, "must be a mapping of settings", "above it, a line with a name of your choice is missing"
        )
    short = next((mark.words for mark in shape.metadata if isinstance(mark, Short)), "") if shape else ""
    if short and shape and shape.container == "one":
        return tree.problem(path, f"must be one value ({short}) or a mapping of settings")
    advice = "write `name: value`, with a space after the colon" if isinstance(value, str) else ""
    return tree.problem(path, "must be a mapping of settings", advice)


def _problem(section: type[Section], tree: Tree, detail: dict[str, Any]) -> Problem | None:
    path, kind = _path(detail), detail["type"]
    if kind == "missing":
        return tree.problem(path, "is required")
    if kind == "extra_forbidden":
        advice = did_you_mean(str(path[-1]), keys_at(section, path[:-1]))
        return tree.problem(path, "there is no such setting", advice, key=True)
    if kind == "too_short" and tree.get(path):
        return None  # its entries are wrong, which has been said
    if kind in ("model_type", "model_attributes_type") and path:
        return _not_a_mapping(section, tree, path)
    if kind in ("tuple_type", "list_type") and isinstance(tree.get(path), dict):
        return tree.problem(path, "must be a list", "begin each entry with `- `")
    cause = detail.get("ctx", {}).get("error")
    if isinstance(cause, WrongValueError):
        return tree.problem(path, cause.text, cause.suggestion, key=detail["loc"] != path)
    return tree.problem(path, _WORDS.get(kind, detail["msg"]))
