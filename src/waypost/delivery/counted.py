"""A connection lent to a transaction that has reserved a part of a quota, so that it is counted for what it came to."""

from collections.abc import Sequence

from waypost.delivery.quotas import Reservation
from waypost.delivery.sender import Lent
from waypost.mail.content import Content
from waypost.mail.outcome import Answer, Phase
from waypost.routing.classify import Kind, classify
from waypost.smtp import commands as c
from waypost.smtp.client import Extensions
from waypost.smtp.reply import Reply, reply

_TAKEN = frozenset({Kind.ACCEPTED, Kind.IN_DOUBT})

CROWDED = reply(452, "4.5.3", "More recipients than a quota allows at once; send the rest in another transaction")
"""Said in the upstream's place of those who are too many for one transaction."""


class Counted:
    """A `Lent` that settles its reservation when it is given back.

    `answers` are those to the recipients so far; `dot` is that to the content, when it was sent along.
    """

    __slots__ = ("_accepted", "_lent", "_reservation", "_taken")

    def __init__(self, lent: Lent, reservation: Reservation, answers: Sequence[Answer], dot: Answer | None) -> None:
        self._lent = lent
        self._reservation = reservation
        self._taken = dot is not None and is_taken(Phase.DOT, dot)
        # Without an answer for one, though the content was sent along, it counts: it may have been taken.
        self._accepted = sum(map(_is_positive, answers)) if dot is None else _may_have(answers)

    @property
    def extensions(self) -> Extensions:
        """See `Lent`, here and below."""
        return self._lent.extensions

    @property
    def reused(self) -> bool:
        return self._lent.reused

    @property
    def tls(self) -> str | None:
        return self._lent.tls

    @property
    def phases(self) -> tuple[tuple[Phase, float], ...]:
        return self._lent.phases

    @property
    def is_closed(self) -> bool:
        return self._lent.is_closed

    async def add(self, recipients: Sequence[c.Rcpt]) -> Sequence[Answer]:
        room = self._reservation.room
        if room is not None and room < len(recipients):
            return [*(await self.add(recipients[:room]) if room else ()), *[CROWDED] * (len(recipients) - room)]
        lacking = await self._reservation.take(len(recipients))
        if lacking is not None:
            return [lacking] * len(recipients)
        answers = await self._lent.add(recipients)
        self._accepted += sum(map(_is_positive, answers))
        return answers

    def verdicts(self, answer: Answer) -> Sequence[Answer]:
        found = self._lent.verdicts(answer)
        if found:
            self._accepted = sum(is_taken(Phase.DOT, each) for each in found)
            self._taken = True
        return found

    async def send(self, content: Content) -> tuple[Phase, Answer]:
        self._taken = True  # whoever stops waiting now does not know
        phase, answer = await self._lent.send(content)
        self._taken = is_taken(phase, answer)
        return phase, answer

    def release(self) -> None:
        self._reservation.settle(self._accepted if self._taken else 0)
        self._lent.release()


def is_taken(phase: Phase, answer: Answer) -> bool:
    """Whether the upstream has taken the message, or may have: then it counts."""
    return classify(phase, answer).kind in _TAKEN


def _is_positive(answer: Answer) -> bool:
    return isinstance(answer, Reply) and answer.is_positive


def _may_have(answers: Sequence[Answer]) -> int:
    return sum(not isinstance(answer, Reply) or answer.is_positive for answer in answers)
