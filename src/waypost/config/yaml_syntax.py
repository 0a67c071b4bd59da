"""What is wrong with a text that is not YAML: where to look, and what to do, in words that are not the parser's.

The parser names the place where it gave up, which is often the line after the mistake, and speaks of tokens. Its
own words are kept only where nothing better is known; they never have a value of the file in them, which may be a
password.
"""

import re
from dataclasses import dataclass

import yaml

_NO_COLON = (
    "is not YAML: here is a setting without a colon",
    "write `name: value`, with a space after the colon",
)
_BARE_WORD = re.compile(r"( *)[A-Za-z_][\w.@-]*(?::\S[^#]*| [^:#]*)?(?: #.*)?")
_QUOTES = "put the value in quotes"


@dataclass(frozen=True, slots=True)
class SyntaxMistake:
    """A mistake. `line` and `column` count from 1; both are 0 when the place is not known."""

    line: int
    column: int
    text: str
    advice: str


def explain(error: yaml.MarkedYAMLError, text: str) -> SyntaxMistake:
    """The mistake behind an error of the parser over `text`."""
    problem, context = error.problem or "", error.context or ""
    here = error.problem_mark or error.context_mark
    start = error.context_mark or here
    if "undefined alias" in problem or "an alias" in context:
        return _at(here, "a value begins with *, which is an alias in YAML", _QUOTES)
    if "tag" in problem or "a tag" in context:
        return _at(here, "a value begins with !, which is a tag in YAML", _QUOTES)
    if "'\\t'" in problem:
        return _at(here, "is not YAML: a tab stands where a line or a value begins", "indent with spaces")
    if "cannot start any token" in problem:
        character = problem.removeprefix("found character ").partition(" ")[0]
        return _at(here, f"is not YAML: a value cannot begin with {character}", _QUOTES)
    if "quoted scalar" in context:
        if "end of stream" in problem or "document separator" in problem:
            return _at(start, "is not YAML: the quote that begins here does not end", "close it on the same line")
        return _at(here, f"is not YAML: {problem}", "in double quotes write \\ twice, or use single quotes")
    if "flow mapping" in context or "flow sequence" in context:
        bracket, end = ("{", "}") if "mapping" in context else ("[", "]")
        return _at(
            start,
            f"is not YAML: the {bracket} here has no {end} to it, or a comma is missing",
            f"the parser gave up on line {here.line + 1}" if here and start and here.line != start.line else "",
        )
    if "could not find expected ':'" in problem:
        return _at(start, *_NO_COLON)
    if "mapping values are not allowed" in problem and here:
        return _colon(here, text)
    if "expected '<document start>'" in problem:
        return _indentation(here, None, text)
    if "expected <block end>" in problem and any(token in problem for token in ("start>'", "'?'", "'-'")):
        return _indentation(here, start, text)
    if "expected <block end>" in problem:
        advice = "look for a quote or bracket that is missing or too many, here or in a line above"
        return _at(here, "is not YAML: there is something behind the end of a value", advice)
    return _at(
        here, f"is not YAML: {problem or context or 'cannot be read'}", "values with special characters need quotes"
    )


def _colon(here: yaml.Mark, text: str) -> SyntaxMistake:
    """A colon where none can be: the value before it has not ended. It began on this line, or on one above."""
    lines = _lines(text)
    line = lines[here.line][: here.column]
    if ": " in line:
        return _at(here, "is not YAML: a value has a colon and a space in it", _QUOTES)
    above = _above(here, lines)
    if above < 0 or re.search(r":( |$)", lines[above]):
        return SyntaxMistake(
            here.line + 1,
            len(line) - len(line.lstrip(" -")) + 1,
            f"is not YAML: is indented below line {above + 1}, which has a value already",
            "begin it in the column of the name there",
        )
    return SyntaxMistake(above + 1, len(lines[above]) - len(lines[above].lstrip(" -")) + 1, *_NO_COLON)


def _indentation(here: yaml.Mark | None, start: yaml.Mark | None, text: str) -> SyntaxMistake:
    if here:
        lines = _lines(text)
        above = _above(here, lines)
        word = _BARE_WORD.fullmatch(lines[above]) if above >= 0 else None
        if word:
            return SyntaxMistake(above + 1, len(word[1]) + 1, *_NO_COLON)
    if start is None:
        advice = "all settings of the file begin in the same column, mostly the first"
        return _at(here, "is not YAML: does not stand under the first setting of the file", advice)
    return _at(
        here,
        f"is not YAML: is not in line with the block that begins on line {start.line + 1}, column {start.column + 1}",
        "what belongs together begins in the same column",
    )


def _lines(text: str) -> list[str]:
    """The lines as YAML 1.1, and with it the parser's marks, count them."""
    return re.split("\r\n|[\r\n\x85\u2028\u2029]", text)


def _above(here: yaml.Mark, lines: list[str]) -> int:
    """The nearest line above that says anything, or -1."""
    above: int = here.line - 1
    while above >= 0 and not lines[above].partition("#")[0].strip():
        above -= 1
    return above


def _at(mark: yaml.Mark | None, text: str, advice: str) -> SyntaxMistake:
    return SyntaxMistake(mark.line + 1 if mark else 0, mark.column + 1 if mark else 0, text, advice)
