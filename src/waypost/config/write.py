"""Data into YAML that `document.parse` reads back as the same data, with a comment at each line if wanted."""

from collections.abc import Callable
from typing import Any

import yaml

from waypost.config.document import Data
from waypost.config.errors import Path

_INDENT = "  "


def yaml_text(data: dict[str, Data], comment: Callable[[Path], str] = lambda path: "") -> str:
    """The YAML of `data`; `comment` gives what to say about the value at a path."""
    lines: list[tuple[str, str]] = []
    for key, value in data.items():
        _entry(key, value, (key,), 0, comment, lines)
    width = min(60, max((len(line) for line, said in lines if said), default=0))
    return "".join(f"{line:{width}}  # {said}\n" if said else f"{line}\n" for line, said in lines)


def _entry(
    key: str, value: Data, path: Path, depth: int, comment: Callable[[Path], str], lines: list[tuple[str, str]]
) -> None:
    start = f"{_INDENT * depth}{scalar(key)}:"
    if isinstance(value, dict) and value:
        lines.append((start, ""))
        for name, below in value.items():
            _entry(name, below, (*path, name), depth + 1, comment, lines)
    elif isinstance(value, list) and value:
        lines.append((start, ""))
        for index, item in enumerate(value):
            _item(item, (*path, index), depth + 1, comment, lines)
    else:
        lines.append((f"{start} {_inline(value)}", comment(path)))


def _item(value: Data, path: Path, depth: int, comment: Callable[[Path], str], lines: list[tuple[str, str]]) -> None:
    if not isinstance(value, dict) or not value:
        lines.append((f"{_INDENT * depth}- {_inline(value)}", comment(path)))
        return
    before = len(lines)
    for name, below in value.items():
        _entry(name, below, (*path, name), depth + 1, comment, lines)
    line, said = lines[before]
    dash = f"{_INDENT * depth}- "
    lines[before] = (dash + line[len(dash) :], said)


def _inline(value: Data) -> str:
    """A value on the line of its key. A list in a list, which no setting has, is written in brackets."""
    if isinstance(value, dict):
        return (
            "{"
            + ", ".join(
                f"{_quoted(key)}: {_quoted(below) if isinstance(below, str) else _inline(below)}"
                for key, below in value.items()
            )
            + "}"
        )
    if isinstance(value, list):
        return "[" + ", ".join(_quoted(item) if isinstance(item, str) else _inline(item) for item in value) + "]"
    return "null" if value is None else scalar(value)


def _quoted(text: str) -> str:
    return _dumped(text, default_style='"')


def scalar(text: str) -> str:
    """One scalar on one line, in quotes only when it needs them."""
    if text in ("true", "false") or (text.isascii() and text.isdigit() and (text == "0" or text[0] != "0")):
        return text
    return _dumped(text) if text.isprintable() else _quoted(text)


def _dumped(value: Data, **style: Any) -> str:
    # YAML 1.1's own dumper: what another program would misread is put in quotes.
    dumped: str = yaml.safe_dump(value, width=2**31, allow_unicode=True, sort_keys=False, **style)
    return dumped.removesuffix("\n").removesuffix("\n...")
