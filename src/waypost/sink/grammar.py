"""The written form of faults, as `--fault` and `POST /faults` take it. Every mistake is named.

    PHASE=CODE [ENHANCED] [TEXT]       answer this instead
    PHASE=close-after [CODE ...]       answer, then hang up
    PHASE=delay SECONDS                answer late
    PHASE=hang                         never answer
    PHASE=close                        hang up before the answer
    PHASE=garbage [KIND]               binary, endless, mismatch, unsolicited

each followed by any of `to:GLOB`, `from:GLOB`, `first:N`, `every:N`, `after:N`, `chance:P`.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

from waypost.sink.faults import Action, Babble, Close, CloseAfter, Delay, Fault, Garbage, Hang, Phase, Say
from waypost.smtp.reply import Reply, from_wire


class FaultError(ValueError):
    """A rule that cannot be understood. The message quotes it and says what is wrong."""


_ACTIONS = ("delay", "hang", "close", "close-after", "garbage")
_CONDITIONS = ("to", "from", "first", "every", "after", "chance")
_CONDITION = re.compile(r"([a-z]{2,8}):(\S+)", re.ASCII)
_CODE = re.compile(r"[2-5][0-9][0-9]", re.ASCII)
_WHOLE = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6})?|\.[0-9]{1,6}", re.ASCII)

_KNOW_SENDER = (Phase.MAIL, Phase.RCPT, Phase.DATA, Phase.CONTENT, Phase.DOT, Phase.AFTER_DOT, Phase.VERDICT)
_KNOW_RECIPIENT = _KNOW_SENDER[1:]
_UNANSWERED = {
    Phase.CONNECT: "nothing is answered there; the first answer is the greeting",
    Phase.CONTENT: "nothing is answered there; the answer to content is given at dot",
}
_MAX_DELAY = 86_400.0

_DEFAULT_KIND = Garbage.BINARY


@dataclass(slots=True)
class _Conditions:
    recipients: list[str] = field(default_factory=list)
    reverse_paths: list[str] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)
    chance: float = 1.0


def parse_faults(texts: Iterable[str]) -> list[Fault]:
    """Several rules. Raises `FaultError` for the first that is wrong."""
    return [parse_fault(text) for text in texts]


def parse_fault(text: str) -> Fault:
    """One rule. Raises `FaultError`."""
    try:
        return _parse(text)
    except FaultError as error:
        raise FaultError(f"{text!r}: {error}") from None


def _parse(text: str) -> Fault:
    if not text.isprintable():
        raise FaultError("a rule is one line of printable text")
    name, equals, rest = text.partition("=")
    if not equals:
        raise FaultError("a rule is written PHASE=ACTION, for example rcpt=550 5.1.1 No such user")
    phase = _phase(name.strip().lower())
    words = rest.split()
    conditions = _take_conditions(words, phase)
    if not words:
        raise FaultError(f"what should happen at {phase}? A reply code, or one of {', '.join(_ACTIONS)}")
    numbers = conditions.numbers
    return Fault(
        phase,
        _action(words, phase),
        tuple(conditions.recipients),
        tuple(conditions.reverse_paths),
        after=numbers.get("after", 0),
        every=numbers.get("every", 1),
        first=numbers.get("first"),
        chance=conditions.chance,
        text=text.strip(),
    )


def _phase(name: str) -> Phase:
    try:
        return Phase(name)
    except ValueError:
        raise FaultError(f"there is no phase {name!r}{_near(name, list(Phase))}") from None


def _near(word: str, known: Sequence[str]) -> str:
    near = get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]}?" if near else f"; there is {', '.join(known)}"


# -- conditions


def _take_conditions(words: list[str], phase: Phase) -> _Conditions:
    """Takes the conditions off the end of `words`."""
    found = _Conditions()
    while words and (condition := _CONDITION.fullmatch(words[-1])) is not None:
        name, value = condition.groups()
        if name not in _CONDITIONS:
            near = get_close_matches(name, _CONDITIONS, n=1)
            if not near:
                break  # a word of the reply's text that has a colon in it
            raise FaultError(f"there is no condition {name!r}; did you mean {near[0]}?")
        _add_condition(found, name, value, phase)
        words.pop()
    return found


def _add_condition(found: _Conditions, name: str, value: str, phase: Phase) -> None:
    match name:
        case "to":
            if phase not in _KNOW_RECIPIENT:
                raise FaultError(f"to: needs a recipient, and at {phase} none is known yet")
            found.recipients.append(value)
        case "from":
            if phase not in _KNOW_SENDER:
                raise FaultError(f"from: needs a reverse-path, and at {phase} none is known")
            found.reverse_paths.append(value)
        case "chance":
            found.chance = _chance(value)
        case _:
            if not _WHOLE.fullmatch(value):
                raise FaultError(f"{name}: takes a whole number from 1 on, not {value!r}")
            if name in found.numbers:
                raise FaultError(f"{name}: is given twice")
            found.numbers[name] = int(value)


def _chance(value: str) -> float:
    number, percent = (value[:-1], 100.0) if value.endswith("%") else (value, 1.0)
    if not _NUMBER.fullmatch(number) or not 0 < float(number) / percent <= 1:
        raise FaultError(f"chance: takes a share such as 0.1 or 10%, not {value!r}")
    return float(number) / percent


# -- actions


def _action(words: Sequence[str], phase: Phase) -> Action:
    first, rest = words[0], words[1:]
    name = first.lower()
    if _CODE.fullmatch(first):
        _must_be_answered(phase, "a reply")
        return Say(_reply(words))
    match name:
        case "hang" | "close":
            _must_be_alone(name, rest)
            return Hang() if name == "hang" else Close()
        case "delay":
            return Delay(_seconds(rest))
        case "garbage":
            _must_be_answered(phase, name)
            return Babble(_kind(rest))
        case "close-after":
            if phase is Phase.CONNECT or (phase is Phase.CONTENT and not rest):
                _must_be_answered(phase, name)
            return CloseAfter(_reply(rest) if rest else None)
    if first.isdecimal():
        raise FaultError(f"{first} is no reply code; those are 200 to 599")
    raise FaultError(f"there is no action {first!r}{_near(name, _ACTIONS)}, and a reply begins with its code")


def _must_be_answered(phase: Phase, what: str) -> None:
    if phase in _UNANSWERED:
        raise FaultError(f"{what} is not possible at {phase}: {_UNANSWERED[phase]}")


def _must_be_alone(name: str, rest: Sequence[str]) -> None:
    if rest:
        advice = " (close-after gives an answer first)" if name == "close" else ""
        raise FaultError(f"{name} takes nothing behind it but conditions, not {' '.join(rest)!r}{advice}")


def _seconds(rest: Sequence[str]) -> float:
    if len(rest) != 1 or not _NUMBER.fullmatch(rest[0].removesuffix("s")):
        raise FaultError("delay takes a number of seconds, for example delay 2.5")
    seconds = float(rest[0].removesuffix("s"))
    if seconds > _MAX_DELAY:
        raise FaultError("delay takes at most 86400 seconds, a day")
    return seconds


def _kind(rest: Sequence[str]) -> Garbage:
    if not rest:
        return _DEFAULT_KIND
    word = " ".join(rest).lower()
    try:
        return Garbage(word)
    except ValueError:
        raise FaultError(f"there is no garbage {word!r}{_near(word, list(Garbage))}") from None


def _reply(words: Sequence[str]) -> Reply:
    if not _CODE.fullmatch(words[0]):
        raise FaultError(f"a reply begins with its code, 200 to 599, not {words[0]!r}")
    text = " ".join(words[1:]) or "As ordered"
    return from_wire(int(words[0]), [text.encode("utf-8")])
