"""What the control API is asked, read strictly: deliveries by their properties, and what is to be done with them.

The names are those of the options of `waypost queue`. Everything arrives as text, from a query string, or as the
same names in a JSON object; what makes no sense is a `BadRequestError`, whose message is for the person who asked.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar, get_args

from waypost.delivery.spool import Action, Filter, State, read_lane
from waypost.mail.ids import make_id, read_id

_T = TypeVar("_T")

ACTIONS: tuple[Action, ...] = get_args(Action)

MAX_VALUES = 10_000
"""Values of one name at the most: numbers of deliveries come in lists."""

MAX_TEXT = 1000
"""Characters of one value."""

LanesOf = Callable[[str], frozenset[str] | None]
"""The lanes whose mail may go to an upstream, by its name; None when there is no such upstream."""

_NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)
_SECONDS = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?", re.ASCII)

_APPLIES: dict[Action, frozenset[State]] = {
    "retry": frozenset({State.QUEUED, State.HELD, State.DEAD}),
    "hold": frozenset({State.QUEUED}),
    "release": frozenset({State.HELD}),
    "delete": frozenset({State.QUEUED, State.HELD, State.DEAD}),
}


class BadRequestError(ValueError):
    """What was asked makes no sense. The message says what is wrong and what would be right."""


@dataclass(frozen=True, slots=True)
class Request:
    """Which deliveries, from where on, and how many at the most (None: all)."""

    where: Filter
    after: int = 0
    limit: int | None = None

    @property
    def is_everything(self) -> bool:
        """Whether no property was asked for, so that every delivery is meant."""
        return self.where == Filter()


def applies(action: Action, state: State) -> bool:
    """Whether an action does something to a delivery in this state."""
    return state in _APPLIES[action]


def narrowed(where: Filter, action: Action) -> Filter:
    """The filter for those to which the action may apply, unless states or numbers were asked for."""
    return where if where.states is not None or where.ids is not None else replace(where, states=_APPLIES[action])


def read_request(given: Mapping[str, Sequence[str]], now: float, lanes_of: LanesOf) -> Request:
    """The deliveries that query parameters ask for. `now` is in seconds since the epoch. Raises `BadRequestError`."""
    unknown = sorted(set(given) - _NAMES)
    if unknown:
        raise BadRequestError(f"there is no parameter {unknown[0]!r}; there are {', '.join(sorted(_NAMES))}")
    for name, values in given.items():
        if not values:
            raise BadRequestError(f"{name} has no value")
        if len(values) > MAX_VALUES:
            raise BadRequestError(f"{name} is given {len(values)} times, at most {MAX_VALUES} are possible")
        for value in values:
            _check_text(name, value)
    where = Filter(
        ids=_set(given, "number", _number),
        message_ids=_set(given, "id", message_id),
        lanes=_lanes(given, lanes_of),
        routes=_set(given, "route", str),
        states=_set(given, "state", _state),
        received_before=_earliest(_age(given, "older_than", now), _moment(given, "received_before")),
        received_after=_latest(_age(given, "newer_than", now), _moment(given, "received_after")),
        sender=_single(given, "sender"),
        recipient=_single(given, "recipient"),
        reason=_single(given, "error"),
    )
    after, limit = _single(given, "after"), _single(given, "limit")
    return Request(where, _number(after) if after is not None else 0, _limit(limit))


_NAMES = {
    "number", "id", "lane", "upstream", "route", "state", "older_than", "newer_than", "received_before",
    "received_after", "sender", "recipient", "error", "after", "limit",
}  # fmt: skip


def message_id(text: str) -> str:
    """A Waypost id as it is stored, however it was typed. Raises `BadRequestError`."""
    try:
        return make_id(*read_id(text))
    except ValueError as error:
        raise BadRequestError(f"{text!r} is not an id of Waypost: {error}") from None


def moment(name: str, text: str) -> float:
    """Seconds: a number, not negative. Raises `BadRequestError`."""
    if _SECONDS.fullmatch(text) is None or not math.isfinite(float(text)):
        raise BadRequestError(f"{name} is a number of seconds, not {text!r}")
    return float(text)


def _check_text(name: str, value: str) -> None:
    if not value:
        raise BadRequestError(f"{name} is empty")
    if len(value) > MAX_TEXT:
        raise BadRequestError(f"{name} has {len(value)} characters, at most {MAX_TEXT} are possible")
    if not value.isprintable():
        raise BadRequestError(f"{name} has characters in it that cannot be printed")


def _single(given: Mapping[str, Sequence[str]], name: str) -> str | None:
    values = given.get(name, ())
    if len(values) > 1:
        raise BadRequestError(f"{name} can be given once only")
    return values[0] if values else None


def _set(given: Mapping[str, Sequence[str]], name: str, read: Callable[[str], _T]) -> frozenset[_T] | None:
    return frozenset(map(read, given[name])) if name in given else None


def _number(text: str) -> int:
    if _NUMBER.fullmatch(text) is None:
        raise BadRequestError(f"{text!r} is not the number of a delivery")
    return int(text)


def _limit(text: str | None) -> int | None:
    if text is None:
        return None
    if _NUMBER.fullmatch(text) is None or int(text) < 1:
        raise BadRequestError(f"limit is a whole number, at least 1, not {text!r}")
    return int(text)


def _state(text: str) -> State:
    try:
        return State(text)
    except ValueError:
        raise BadRequestError(f"there is no state {text!r}; there are {', '.join(State)}") from None


def _lanes(given: Mapping[str, Sequence[str]], lanes_of: LanesOf) -> frozenset[str] | None:
    named = _set(given, "lane", _lane)
    if "upstream" not in given:
        return named
    reached: frozenset[str] = frozenset()
    for upstream in given["upstream"]:
        lanes = lanes_of(upstream)
        if lanes is None:
            raise BadRequestError(f"there is no upstream {upstream!r} in the configuration of the running Waypost")
        reached |= lanes
    return reached if named is None else reached & named


def _lane(text: str) -> str:
    try:
        role, name = read_lane(text)
    except ValueError:
        name = ""
    if not name:
        raise BadRequestError(f"{text!r} is not a lane: write primary:ROUTE or copy:POOL")
    return f"{role}:{name}"


def _age(given: Mapping[str, Sequence[str]], name: str, now: float) -> float | None:
    text = _single(given, name)
    return None if text is None else now - moment(name, text)


def _moment(given: Mapping[str, Sequence[str]], name: str) -> float | None:
    text = _single(given, name)
    return None if text is None else moment(name, text)


def _earliest(*moments: float | None) -> float | None:
    return min((at for at in moments if at is not None), default=None)


def _latest(*moments: float | None) -> float | None:
    return max((at for at in moments if at is not None), default=None)
