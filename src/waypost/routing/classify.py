"""From an upstream's answer to a verdict, and from all verdicts to what the client hears.

The one thing that is not a rule's to decide: a message is accepted by 2yz to the final dot and by nothing else, and a
dot without an answer that makes sense leaves it in doubt.
"""

import re
from collections.abc import Sequence
from functools import lru_cache

from waypost.mail.outcome import Answer, Cause, Failure, Phase
from waypost.routing.failover import FAILURE_RULES, REPLY_RULES
from waypost.routing.verdict import HealthEffect, Kind, ReplyRule, Verdict, verdict
from waypost.smtp.reply import MAX_TEXT, EnhancedCode, Reply, printable, reply

__all__ = [
    "BUILT_IN", "HealthEffect", "Kind", "ReplyRules", "Verdict", "classify", "classify_verdict", "quota_reset_in",
    "summarise",
]  # fmt: skip

_ACCEPTED = verdict(Kind.ACCEPTED, "accepted")
_PROCEED = verdict(Kind.PROCEED, "proceed")
_NONSENSE = verdict(Kind.NONSENSE, "nonsense")
_UNANSWERED = verdict(Kind.IN_DOUBT, "in-doubt")
_NONSENSE_AT_DOT = verdict(Kind.IN_DOUBT, "in-doubt-nonsense")

_POSITIVE: dict[tuple[Phase, int], Verdict] = {
    (Phase.GREETING, 2): _PROCEED,
    (Phase.EHLO, 2): _PROCEED,
    (Phase.STARTTLS, 2): _PROCEED,
    (Phase.AUTH, 2): _PROCEED,
    (Phase.AUTH, 3): _PROCEED,
    (Phase.MAIL, 2): _PROCEED,
    (Phase.RCPT, 2): _PROCEED,
    (Phase.DATA, 3): _PROCEED,
    (Phase.CONTENT, 2): _PROCEED,  # one chunk of several (RFC 3030)
    (Phase.DOT, 2): _ACCEPTED,
}
_OF_A_RECIPIENT = {
    2: _ACCEPTED,
    4: verdict(Kind.TRANSIENT, "recipient-transient"),
    5: verdict(Kind.PERMANENT, "recipient-permanent"),
}
_FAILURES = {cause: rule.verdict for rule in FAILURE_RULES for cause in rule.causes}

_FAILURE_CODES: dict[Cause, str] = {
    Cause.UNREACHABLE: "4.4.1",
    Cause.TIMEOUT: "4.4.1",
    Cause.CLOSED: "4.4.2",
    Cause.PROTOCOL: "4.5.0",
    Cause.TLS: "4.7.5",
    Cause.CERTIFICATE: "4.7.5",
    Cause.CAPABILITY: "4.3.3",
    Cause.PLAINTEXT: "4.3.5",
    Cause.LOGIN: "4.3.5",
    Cause.BUSY: "4.3.2",
    Cause.QUOTA: "4.7.1",
    Cause.SENDER: "4.7.1",
    Cause.PAUSED: "4.3.2",
    Cause.SHUTDOWN: "4.3.2",
    Cause.LOCAL: "4.3.0",
}
_AGAIN = re.compile(
    r"\b(?:again|retry|resets?|wait)\b[^0-9]{0,20}([0-9]{1,6}) ?(s|secs?|seconds?|m|min|mins|minutes?|h|hours?)\b",
    re.IGNORECASE | re.ASCII,
)
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_MAX_RESET = 86400.0
_REMEMBERED = 512  # replies of at most 400 octets each
_NOBODY = reply(451, "4.3.0", "No upstream is available")
_OF_THE_MESSAGE = (Kind.TRANSIENT, Kind.QUOTA, Kind.TOO_MANY_RECIPIENTS)


class ReplyRules:
    """Ordered rules on refusals: those of one's own, then the built-in ones.

    Upstreams say the same few things again and again, and a put-off message hears one for every attempt: what was
    judged lately is remembered, since some rules look into the text.
    """

    __slots__ = ("_rules", "judge", "own")

    def __init__(self, own: Sequence[ReplyRule] = ()) -> None:
        self.own = tuple(own)
        self._rules = (*self.own, *REPLY_RULES)
        self.judge = lru_cache(maxsize=_REMEMBERED)(self._judge)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ReplyRules) and self.own == other.own

    def __hash__(self) -> int:
        return hash(self.own)

    def __repr__(self) -> str:
        return f"ReplyRules({self.own!r})"

    def _judge(self, phase: Phase, answer: Reply) -> Verdict:
        return next((rule.verdict for rule in self._rules if rule.matches(phase, answer)), _NONSENSE)


BUILT_IN = ReplyRules()


def classify(phase: Phase, answer: Answer, rules: ReplyRules = BUILT_IN) -> Verdict:
    """The verdict on an upstream's answer in a phase.

    Whether a reused connection was merely stale is the caller's to find out first.
    """
    if isinstance(answer, Failure):
        return _UNANSWERED if Phase.DOT in (phase, answer.phase) else _FAILURES[answer.cause]
    severity = answer.severity
    positive = _POSITIVE.get((phase, severity))
    if positive is not None:
        return positive
    if severity != 4 and severity != 5:
        return _NONSENSE_AT_DOT if phase is Phase.DOT else _NONSENSE
    return rules.judge(phase, answer)


def classify_verdict(answer: Answer) -> Verdict:
    """The verdict on what an upstream says of one recipient after the content (LMTP, PRDR).

    It is about that recipient: a mailbox that is full says nothing about the upstream. No rule changes that.
    """
    if isinstance(answer, Failure):
        return _UNANSWERED
    return _OF_A_RECIPIENT.get(answer.severity, _NONSENSE_AT_DOT)


def quota_reset_in(answer: Answer) -> float | None:
    """Seconds until a quota resets, when the reply says so (`try again after 3600 seconds`), a day at the most."""
    if isinstance(answer, Failure):
        return None
    found = _AGAIN.search(answer.text)
    if found is None:
        return None
    return min(int(found[1]) * _UNITS[found[2][0].lower()], _MAX_RESET)


def summarise(attempts: Sequence[tuple[Answer, Verdict]]) -> Reply:
    """What the client hears when every candidate failed; `attempts` in order of preference.

    4yz when any of them was temporary or in doubt, else 5yz. The words are those of the first choice, which is where
    the message would have gone on a better day. An upstream's 421 becomes our 451, since our session goes on.
    """
    if not attempts:
        return _NOBODY
    answer, judged = attempts[0]
    if any(verdict.transient for _, verdict in attempts):
        return _temporary(answer, judged)
    if isinstance(answer, Failure):
        return _cannot_carry(answer)
    return answer if answer.severity == 5 else _temporary(answer, judged)


def _temporary(answer: Answer, judged: Verdict) -> Reply:
    if isinstance(answer, Failure):
        in_doubt = judged.kind is Kind.IN_DOUBT
        return reply(451, "4.4.2" if in_doubt else _FAILURE_CODES[answer.cause], _words(answer))
    if judged.kind in (Kind.NONSENSE, Kind.IN_DOUBT):
        enhanced = "4.4.2" if judged.kind is Kind.IN_DOUBT else "4.5.0"
        return reply(451, enhanced, f"Unexpected reply of the upstream: {answer}")
    if judged.kind is Kind.AUTH:  # as it stands, a client would take it for a word on its own password
        first, *more = answer.lines or ("",)
        return Reply(451, (f"The upstream refuses our login: {first}", *more), (4, 3, 5))
    if answer.severity == 4 and answer.code != 421 and judged.kind in _OF_THE_MESSAGE:
        return answer
    if judged.kind is Kind.TOO_MANY_RECIPIENTS:  # the 552 of older servers means 452 (RFC 5321 section 4.5.3.1.10)
        return Reply(452, answer.lines, (4, 5, 3))
    # Codes of a greeting, of AUTH, or of a refusal that is final only there would mislead the client.
    kept = answer.enhanced if answer.severity == 4 else None
    enhanced_code: EnhancedCode = kept or (4, 4, 1)
    return Reply(451, answer.lines, enhanced_code)


def _cannot_carry(failure: Failure) -> Reply:
    """The refusal of a message that no upstream has the extension for (RFC 6152, 6531, 1870)."""
    words = failure.text.upper()
    if failure.cause is Cause.SENDER:
        return reply(550, "5.7.1", _words(failure))
    if "SMTPUTF8" in words:
        return reply(553, "5.6.7", _words(failure))
    if "SIZE" in words:
        return reply(552, "5.3.4", _words(failure))
    return reply(554, "5.6.3", _words(failure))


def _words(failure: Failure) -> str:
    text = printable(failure.text).strip() or failure.cause.value
    return text.encode("utf-8")[:MAX_TEXT].decode("utf-8", "ignore")
