"""Records: what a log line is before it is written, and its two written forms.

A record is a dictionary whose first entries are `time`, `level` and `event`. Values are texts, numbers, truth values,
lists of texts, and an object of numbers for the durations of phases. Anything else is shown by the name of its type: a
value that nobody thought of, a configuration or a secret, must not get into a log because somebody handed it over.
"""

import json
import os
import time
from collections.abc import Callable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

Record = dict[str, Any]

_DIM, _BOLD, _RESET = "\x1b[2m", "\x1b[1m", "\x1b[0m"
_COLOURS = {
    "debug": "\x1b[2m",
    "info": "\x1b[32m",
    "warning": "\x1b[33m",
    "error": "\x1b[31m",
    "critical": "\x1b[31;1m",
}


def timestamp(at: float) -> str:
    """RFC 3339 in UTC with milliseconds, from seconds since the epoch."""
    return timestamp_at(int(at * 1000))


@lru_cache(maxsize=16)  # on a busy machine several records fall into one millisecond
def timestamp_at(milliseconds: int) -> str:
    """The same, from milliseconds."""
    second, rest = divmod(milliseconds, 1000)
    return f"{_second(second)}.{rest:03d}Z"


@lru_cache(maxsize=4)
def _second(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


def _text(value: object) -> str:
    if isinstance(value, BaseException):
        return str(value) or type(value).__name__
    if isinstance(value, (os.PathLike, IPv4Address, IPv6Address, IPv4Network, IPv6Network)):
        return str(value)
    return f"<{type(value).__name__}>"


def _encoder() -> Callable[[Record], str]:
    """JSON in ASCII: readers that split lines at U+2028 or NEL, and terminals that obey C1 controls, exist.

    The standard library makes the same C encoder anew for every call, a quarter of the whole price of a short
    record. It is not documented, so when it is not there or is not what it was, the documented way is taken.
    """
    documented = json.JSONEncoder(separators=(",", ":"), check_circular=False, default=_text).encode
    try:
        make = json.encoder.c_make_encoder  # type: ignore[attr-defined]  # typeshed has what is documented
        pieces = make(None, _text, json.encoder.encode_basestring_ascii, None, ":", ",", False, False, True)
        probe = {"a": [1, "\u2028", None], "b": 0.5, "c": True}
        if "".join(pieces(probe, 0)) == documented(probe):
            return lambda record: "".join(pieces(record, 0))
    except (AttributeError, TypeError):
        pass
    return documented


json_text = _encoder()
"""The record as JSON, without a line break."""


def json_line(record: Record) -> str:
    """The record as one line of JSON."""
    return f"{json_text(record)}\n"


def console_line(record: Record) -> str:
    """The record as one readable line, without colours; an exception follows on lines of its own."""
    return _readable(record, colours=False)


def colour_line(record: Record) -> str:
    """The record as one readable line with ANSI colours."""
    return _readable(record, colours=True)


def _readable(record: Record, *, colours: bool) -> str:
    level = record["level"]
    colour, bold, dim, reset = (_COLOURS.get(level, ""), _BOLD, _DIM, _RESET) if colours else ("", "", "", "")
    event = _safe(record["event"] if isinstance(record["event"], str) else _text(record["event"]))
    words = [f"{dim}{record['time'][11:]}{reset} {colour}{level:<7}{reset} {bold}{event:<9}{reset}"]
    words += [
        f"{dim}{name}={reset}{_value(value)}"
        for name, value in record.items()
        if name not in ("time", "level", "event", "exception")
    ]
    lines = [" ".join(words)]
    lines += [f"    {_safe(line)}" for line in str(record.get("exception", "")).split("\n") if line]
    return "\n".join(lines) + "\n"


def _value(value: object) -> str:
    if isinstance(value, str):
        plain = value.isprintable() and value and not any(c in value for c in ' "=')
        return value if plain else json.dumps(value, ensure_ascii=not value.isprintable())
    if isinstance(value, (list, tuple)):
        return ",".join(map(_value, value))
    return json.dumps(value, default=_text)


def _safe(text: str) -> str:
    return text if text.isprintable() else json.dumps(text)[1:-1]
