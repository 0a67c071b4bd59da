"""The options of `waypost queue` that say which deliveries are meant, as the control API reads them."""

import argparse
from collections.abc import Iterator, Mapping, Sequence

from waypost.commands.control import Daemon, Query, Row

STATES = ("queued", "running", "held", "dead")

_BATCH = 500  # numbers in one question: a request line is at most 16 KiB

Wanted = Mapping[str, Sequence[str]]
"""Which deliveries, by the names of the control API."""


def add_filters(parser: argparse.ArgumentParser, *, numbers: bool = True, limit: bool = True) -> None:
    """Adds the options that choose deliveries; all that are given must hold."""
    if numbers:
        parser.add_argument(
            "numbers",
            nargs="*",
            type=delivery_number,
            metavar="NUMBER",
            help="numbers of deliveries, as `list` prints them",
        )
    group = parser.add_argument_group("which deliveries", "All that is given must hold; what repeats, one of them.")
    add = group.add_argument
    add("--upstream", action="append", metavar="NAME", help="that may go to this upstream; may be given again")
    add("--lane", action="append", metavar="LANE", help="in this lane: primary:ROUTE or copy:POOL; may repeat")
    add("--route", action="append", metavar="NAME", help="of this route; may be given again")
    add("--state", action="append", choices=STATES, metavar="STATE", help="queued, running, held or dead; may repeat")
    add("--older-than", type=age, metavar="AGE", help="came in longer ago than AGE: 90s, 10m, 2h, 3d")
    add("--newer-than", type=age, metavar="AGE", help="came in within the last AGE")
    add(
        "--sender", type=_text, metavar="PATTERN", help="reverse-path; * and ? match any characters, <> is the null one"
    )
    add("--recipient", type=_text, metavar="PATTERN", help="one of the recipients")
    add("--error", type=_text, metavar="TEXT", help="TEXT is part of the last answer")
    add("--id", action="append", type=_id, metavar="ID", help="of this message, by its Waypost id; may be given again")
    if limit:
        add("--limit", type=_limit, metavar="N", help="N deliveries at the most, the lowest numbers first")


def wanted(arguments: argparse.Namespace) -> dict[str, list[str]]:
    """The deliveries that the options ask for."""
    chosen: dict[str, list[str]] = {}
    for name in ("upstream", "lane", "route", "state", "id"):
        if getattr(arguments, name):
            chosen[name] = getattr(arguments, name)
    for name in ("older_than", "newer_than", "sender", "recipient", "error", "limit"):
        if getattr(arguments, name, None) is not None:
            chosen[name] = [getattr(arguments, name)]
    numbers: list[int] = getattr(arguments, "numbers", [])
    if numbers:
        chosen["number"] = [str(number) for number in sorted(set(numbers))]
    return chosen


def is_everything(chosen: Wanted) -> bool:
    """Whether nothing but a limit was asked for."""
    return not set(chosen) - {"limit"}


def deliveries(daemon: Daemon, chosen: Wanted) -> Iterator[Row]:
    """The deliveries, by their numbers, as the daemon lists them."""
    numbers = chosen.get("number", ())
    limit = int(chosen["limit"][0]) if "limit" in chosen else None
    for start in range(0, len(numbers) or 1, _BATCH):
        batch = {**chosen, "number": numbers[start : start + _BATCH]}
        if limit is not None:
            batch["limit"] = [str(limit)]
        for row in daemon.lines("/api/queue", query(batch)):
            yield row
            limit = None if limit is None else limit - 1
        if limit == 0:
            return


def query(chosen: Wanted) -> Query:
    """The choice as it stands in a URL."""
    return [(name, value) for name, values in chosen.items() for value in values]


def age(text: str) -> str:
    """A duration as the API has it, in seconds, for argparse."""
    from waypost.config.errors import WrongValueError
    from waypost.config.values import duration

    try:
        return f"{duration(text):.3f}"
    except WrongValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} {error.text}: {error.suggestion or 'write 30s or 2h'}") from None


def delivery_number(text: str) -> int:
    """The number of a delivery, for argparse."""
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise argparse.ArgumentTypeError(f"{text!r} is not the number of a delivery; a message's id goes with --id")
    return int(text)


def _limit(text: str) -> str:
    if not (text.isascii() and text.isdecimal() and len(text) <= 18 and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, at least 1")
    return text


def _id(text: str) -> str:
    from waypost.mail.ids import make_id, read_id

    try:
        return make_id(*read_id(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _text(text: str) -> str:
    if not text or not text.isprintable():
        raise argparse.ArgumentTypeError("must not be empty, nor have characters that cannot be printed")
    return text
