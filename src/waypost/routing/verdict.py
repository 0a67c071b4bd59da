"""What an answer of an upstream means, and the rules by which that is found: the values behind `classify`."""

import re
from dataclasses import dataclass
from enum import StrEnum

from waypost.mail.outcome import Cause, Phase
from waypost.smtp.reply import EnhancedCode, Reply


class Kind(StrEnum):
    """What an answer says, and about whom."""

    ACCEPTED = "accepted"  # the message: 2yz to the final dot, and nothing else is
    PROCEED = "proceed"  # the command was carried out, or the content is awaited
    TRANSIENT = "transient"  # not now
    PERMANENT = "permanent"  # never: the message or the recipient is refused
    SITE = "site"  # the upstream cannot be used now
    SECURITY = "security"  # it cannot be used safely
    AUTH = "auth"  # it refuses our credentials
    SENDER_REFUSED = "sender_refused"  # this sender is not welcome there, which says nothing of other upstreams
    TOO_LARGE = "too_large"
    TOO_MANY_RECIPIENTS = "too_many_recipients"  # for one transaction: the rest goes in another
    QUOTA = "quota"  # our account has sent its share
    CAPABILITY = "capability"  # the upstream lacks an extension that the message needs
    NONSENSE = "nonsense"  # not an answer to what was asked
    IN_DOUBT = "in_doubt"  # the dot was sent and the outcome is not known
    BUSY = "busy"  # every connection that it may have is in use
    LOCAL = "local"  # our own doing


class HealthEffect(StrEnum):
    """What a verdict does to the upstream's health."""

    NONE = "none"
    FAILURE = "failure"
    SLEEP_AUTH = "sleep_auth"
    SLEEP_QUOTA = "sleep_quota"


@dataclass(frozen=True, slots=True)
class Verdict:
    """An answer, judged. `transient` says that it counts as temporary when every candidate has failed."""

    kind: Kind
    fail_over: bool
    transient: bool
    health: HealthEffect
    alert: bool  # somebody has to repair something
    rule: str
    sleep: float | None = None
    """Seconds that a spent quota lasts when the reply does not say; None: as long as the health policy says."""


_YES, _NO = True, False
_CONSEQUENCES: dict[Kind, tuple[bool, bool, HealthEffect, bool]] = {
    # fail over, transient, health, alert
    Kind.ACCEPTED: (_NO, _NO, HealthEffect.NONE, _NO),
    Kind.PROCEED: (_NO, _NO, HealthEffect.NONE, _NO),
    Kind.TRANSIENT: (_YES, _YES, HealthEffect.NONE, _NO),
    Kind.PERMANENT: (_NO, _NO, HealthEffect.NONE, _NO),
    Kind.SITE: (_YES, _YES, HealthEffect.FAILURE, _NO),
    Kind.SECURITY: (_YES, _YES, HealthEffect.FAILURE, _YES),
    Kind.AUTH: (_YES, _YES, HealthEffect.SLEEP_AUTH, _YES),
    Kind.SENDER_REFUSED: (_YES, _NO, HealthEffect.NONE, _NO),
    Kind.TOO_LARGE: (_YES, _NO, HealthEffect.NONE, _NO),
    Kind.TOO_MANY_RECIPIENTS: (_NO, _YES, HealthEffect.NONE, _NO),
    Kind.QUOTA: (_YES, _YES, HealthEffect.SLEEP_QUOTA, _NO),
    Kind.CAPABILITY: (_YES, _NO, HealthEffect.NONE, _NO),
    Kind.NONSENSE: (_YES, _YES, HealthEffect.FAILURE, _NO),
    Kind.IN_DOUBT: (_NO, _YES, HealthEffect.FAILURE, _NO),
    Kind.BUSY: (_YES, _YES, HealthEffect.NONE, _NO),
    Kind.LOCAL: (_NO, _YES, HealthEffect.NONE, _NO),
}


def verdict(kind: Kind, rule: str, sleep: float | None = None) -> Verdict:
    """The verdict of a kind, with all that follows from it, found by the rule of this name."""
    fail_over, transient, health, alert = _CONSEQUENCES[kind]
    return Verdict(kind, fail_over, transient, health, alert, rule, sleep)


Phrase = tuple[str, ...]
"""What a text has in it, piece after piece, with anything between: in lower case."""


@dataclass(frozen=True, slots=True)
class ReplyRule:
    """A condition on a reply, and its verdict. Empty conditions match everything; all must match."""

    verdict: Verdict
    phases: frozenset[Phase]
    codes: frozenset[int]
    enhanced: frozenset[EnhancedCode]
    text: re.Pattern[str] | None
    phrases: tuple[Phrase, ...] = ()
    """The user's own words for `text`: one of them is enough. No pattern that costs more than reading the text."""

    def matches(self, phase: Phase, answer: Reply) -> bool:
        """Whether the rule speaks of this reply in this phase."""
        return (
            phase in self.phases
            and (not self.codes or answer.code in self.codes)
            and (not self.enhanced or answer.enhanced in self.enhanced)
            and (self.text is None or self.text.search(answer.text) is not None)
            and (not self.phrases or _has_one_of(self.phrases, answer.text.lower()))
        )


def _has_one_of(phrases: tuple[Phrase, ...], text: str) -> bool:
    return any(_has(phrase, text) for phrase in phrases)


def _has(phrase: Phrase, text: str) -> bool:
    at = 0
    for piece in phrase:
        found = text.find(piece, at)
        if found < 0:
            return False
        at = found + len(piece)
    return True


def reply_rule(
    name: str, kind: Kind, phases: frozenset[Phase], codes: str = "", enhanced: str = "", text: str = ""
) -> ReplyRule:
    """A rule in the words of the failover table.

    `codes` are reply codes or severities (`452 5yz`), `enhanced` codes whose class may be open (`x.5.3 5.7.60`),
    `text` a regular expression that is looked for in small and capital letters. Raises `ValueError`.
    """
    return ReplyRule(
        verdict(kind, name),
        phases,
        codes_of(codes),
        enhanced_of(enhanced),
        re.compile(text, re.IGNORECASE) if text else None,
    )


def codes_of(words: str) -> frozenset[int]:
    """The reply codes in `452 5yz`. Raises `ValueError`."""
    return frozenset(code for word in words.split() for code in _codes(word))


def enhanced_of(words: str) -> frozenset[EnhancedCode]:
    """The enhanced codes in `x.5.3 5.7.60`. Raises `ValueError`."""
    return frozenset(code for word in words.split() for code in _enhanced(word))


def _codes(word: str) -> range:
    first = int(word.replace("yz", "00"))
    return range(first, first + 100 if word.endswith("yz") else first + 1)


def _enhanced(word: str) -> list[EnhancedCode]:
    kind, subject, detail = word.split(".")
    return [(digit, int(subject), int(detail)) for digit in ((4, 5) if kind == "x" else (int(kind),))]


@dataclass(frozen=True, slots=True)
class FailureRule:
    """The verdict on an attempt that ended without a reply."""

    verdict: Verdict
    causes: frozenset[Cause]


def failure_rule(name: str, kind: Kind, *causes: Cause) -> FailureRule:
    """A rule for these causes."""
    return FailureRule(verdict(kind, name), frozenset(causes))
