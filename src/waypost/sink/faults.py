"""Faults: what a sink does wrong, when, and to whom. Decided here, carried out by the session.

A rule is written `PHASE=ACTION CONDITION...`; `grammar` reads it.
"""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase

from waypost.smtp.reply import Reply


class Phase(StrEnum):
    """Where in a session a fault may happen, in the order of a session."""

    CONNECT = "connect"  # before the first octet, TLS included
    GREETING = "greeting"
    EHLO = "ehlo"
    STARTTLS = "starttls"
    AUTH = "auth"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    CONTENT = "content"  # after the 354 and some content, before the dot
    DOT = "dot"  # the content has ended; the message is not kept yet
    AFTER_DOT = "after-dot"  # the message is kept; the client has no answer yet
    VERDICT = "verdict"  # the same for each recipient, where each is answered (LMTP, PRDR)
    RSET = "rset"
    QUIT = "quit"


class Garbage(StrEnum):
    """Answers that are none."""

    BINARY = "binary"  # octets that are no text, where the answer should be
    ENDLESS = "endless"  # a line without an end
    MISMATCH = "mismatch"  # a reply of several lines whose codes differ
    UNSOLICITED = "unsolicited"  # the proper answer, and another that nobody asked for


@dataclass(frozen=True, slots=True)
class Say:
    """Answers this instead."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class Delay:
    """Waits so many seconds, then goes on as if nothing had been."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Hang:
    """Never answers; the connection stays open until the client goes."""


@dataclass(frozen=True, slots=True)
class Close:
    """Hangs up without an answer."""


@dataclass(frozen=True, slots=True)
class CloseAfter:
    """Answers, as usual or with `reply`, and hangs up."""

    reply: Reply | None = None


@dataclass(frozen=True, slots=True)
class Babble:
    """Answers with garbage."""

    kind: Garbage


Action = Say | Delay | Hang | Close | CloseAfter | Babble


@dataclass(frozen=True, slots=True)
class Fault:
    """One rule: an action at a phase, under conditions that must all hold.

    `every`, `first` and `chance` count only those passages of the phase for which the other conditions hold.
    """

    phase: Phase
    action: Action
    recipients: tuple[str, ...] = ()  # globs, one of which one recipient matches
    reverse_paths: tuple[str, ...] = ()  # globs; "<>" is the null reverse-path
    after: int = 0  # messages that have to be kept first
    every: int = 1
    first: int | None = None
    chance: float = 1.0
    text: str = ""
    """The rule as it was written."""


class Faults:
    """The rules of one sink, with what they have counted. `seed` makes `chance` repeatable."""

    def __init__(self, rules: Iterable[Fault] = (), seed: int = 1) -> None:
        self._random = random.Random(seed)  # noqa: S311 # repeatable chance is what a test wants; no secret here
        self._seed = seed
        self._rules: tuple[Fault, ...] = ()
        self._passed: list[int] = []
        self.replace(rules)

    @property
    def rules(self) -> Sequence[Fault]:
        """The rules in their order."""
        return self._rules

    def replace(self, rules: Iterable[Fault]) -> None:
        """Puts other rules in place; all counting begins anew."""
        self._rules = tuple(rules)
        self._passed = [0] * len(self._rules)
        self._random.seed(self._seed)

    def strike(
        self, phase: Phase, *, kept: int, reverse_path: str = "", recipients: Sequence[str] = ()
    ) -> list[Action]:
        """What to do wrong now: delays, and at most one other action, which is the last.

        `kept` messages are kept so far; the null reverse-path is empty, as is one that is not known yet.
        """
        found: list[Action] = []
        for number, rule in enumerate(self._rules):
            if rule.phase is not phase or kept < rule.after or not _concerns(rule, reverse_path, recipients):
                continue
            self._passed[number] += 1
            passed = self._passed[number]
            if passed % rule.every or (rule.first is not None and passed > rule.first):
                continue
            if rule.chance < 1 and self._random.random() >= rule.chance:
                continue
            found.append(rule.action)
            if not isinstance(rule.action, Delay):
                break
        return found


def _concerns(rule: Fault, reverse_path: str, recipients: Sequence[str]) -> bool:
    if rule.reverse_paths and not _matches(rule.reverse_paths, reverse_path or "<>"):
        return False
    return not rule.recipients or any(_matches(rule.recipients, each) for each in recipients)


def _matches(globs: Sequence[str], address: str) -> bool:
    return any(fnmatchcase(address.lower(), glob.lower()) for glob in globs)
