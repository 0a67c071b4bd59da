"""Questions and answers as JSON, for programs that speak one line of it at a time.

{"id": 7, "question": {"message_id": "...", "upstreams": [...], ...}}
{"id": 7, "order": ["b", "a"]}
{"id": 7, "refuse": "not today"}    or with {"text": ..., "code": 550, "enhanced": "5.7.1"}
{"id": 7, "defer": "not now"}
{"id": 7, "error": "why it has no answer"}
"""

import json
from collections.abc import Mapping
from typing import Any

from waypost.plugins.header_fields import HeaderFields
from waypost.plugins.port import (
    Answer,
    NonsenseError,
    Order,
    Question,
    Refusal,
    UpstreamFacts,
    checked_deferral,
    checked_order,
    checked_refusal,
)
from waypost.smtp.reply import printable

MAX_LINE = 64 * 1024
"""Octets of one line from a program; more than any answer needs."""

MAX_HEADER = 64 * 1024
"""Characters of header fields that a program is shown; fields for which there is no room are left out."""

_ANSWERS = ("order", "refuse", "defer", "error")
_UPSTREAM = tuple(UpstreamFacts.__dataclass_fields__)
_PLAIN = tuple(name for name in Question.__dataclass_fields__ if name not in ("upstreams", "header"))


def question_object(question: Question) -> dict[str, Any]:
    """The question, for JSON. Half characters, which no JSON text may have, cannot be in it."""
    made: dict[str, Any] = {name: getattr(question, name) for name in _PLAIN}
    made["upstreams"] = [{name: getattr(facts, name) for name in _UPSTREAM} for facts in question.upstreams]
    made["header"] = None if question.header is None else _shown(question.header)
    return made


def read_question(made: Mapping[str, Any]) -> Question:
    """The question that `question_object` wrote."""
    header = made["header"]
    fields = None if header is None else HeaderFields(lambda: [(name, value) for name, value in header])
    plain = {name: made[name] for name in _PLAIN}
    plain |= {"recipients": tuple(plain["recipients"]), "unavailable": tuple(plain["unavailable"])}
    return Question(upstreams=tuple(UpstreamFacts(**facts) for facts in made["upstreams"]), header=fields, **plain)


def question_line(number: int, question: Question) -> bytes:
    """One line, its end included. ASCII, so that no program has to guess an encoding."""
    return json.dumps({"id": number, "question": question_object(question)}).encode("ascii") + b"\n"


def read_line(line: bytes) -> dict[str, Any]:
    """The object in one line. Raises `NonsenseError`."""
    try:
        made = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        raise NonsenseError(f"a line that is no JSON: {line[:60]!r}") from None
    if not isinstance(made, dict):
        raise NonsenseError(f"a line that is no JSON object: {line[:60]!r}")
    return made


def read_answer(made: Mapping[str, Any], question: Question) -> Answer:
    """The answer to `question`. Raises `NonsenseError`."""
    given = [key for key in _ANSWERS if key in made]
    if len(given) != 1:
        raise NonsenseError(f"an answer has one of {', '.join(_ANSWERS)}; this has {', '.join(given) or 'none'}")
    value = made[given[0]]
    match given[0]:
        case "order":
            if not isinstance(value, list):
                raise NonsenseError("`order` is a list of names")
            return checked_order(value, question)
        case "refuse":
            return checked_refusal(**_reply_parts(value))
        case "defer":
            return checked_deferral(**_reply_parts(value))
        case _:
            raise NonsenseError(f"it failed: {printable(str(value)[:300])}")


def answer_object(answer: Answer) -> dict[str, Any]:
    """The answer, for JSON: what `read_answer` reads."""
    if isinstance(answer, Order):
        return {"order": list(answer.upstreams)}
    reply = answer.reply
    enhanced = None if reply.enhanced is None else ".".join(map(str, reply.enhanced))
    key = "refuse" if isinstance(answer, Refusal) else "defer"
    return {key: {"text": reply.text, "code": reply.code, "enhanced": enhanced}}


def _reply_parts(value: object) -> dict[str, Any]:
    if isinstance(value, str):
        return {"text": value}
    if not isinstance(value, dict) or value.keys() - {"text", "code", "enhanced"}:
        raise NonsenseError("a reply is a text, or an object with `text`, `code` and `enhanced`")
    return {key: part for key, part in value.items() if part is not None}


def _shown(header: HeaderFields) -> list[tuple[str, str]]:
    shown: list[tuple[str, str]] = []
    room = MAX_HEADER
    for name, value in header:
        if len(name) + len(value) <= room:
            room -= len(name) + len(value)
            shown.append((name, value))
    return shown
