"""Whose turn it is with a delivery from the spool: the upstreams to try, best first."""

from collections.abc import Sequence

from waypost.delivery.advice import Case
from waypost.delivery.candidates import Candidates
from waypost.delivery.pace import Pace
from waypost.delivery.spool import Delivery
from waypost.mail.outcome import Outcome, RecipientOutcome, Status
from waypost.routing.route import InDoubtPolicy, Member, Pool
from waypost.smtp.reply import Reply


class Choice:
    """Chooses by what `candidates` know, and by each upstream's pace."""

    def __init__(self, candidates: Candidates, pace: Pace) -> None:
        self._candidates = candidates
        self._pace = pace

    def members(self, delivery: Delivery, pool: Pool, policy: InDoubtPolicy) -> Sequence[Member]:
        """The members of a pool without a plugin."""
        if len(pool.members) == 1:
            return pool.members
        same = _same(delivery, pool, policy)
        if same:
            return same
        message = delivery.message
        return self._in_pace(self._candidates.order(pool, message.envelope, message.client.account))

    async def advised(self, delivery: Delivery, pool: Pool, policy: InDoubtPolicy) -> Sequence[Member] | Outcome:
        """The members of a pool with a plugin; or what the attempt came to, when it wants nobody to be asked."""
        same = _same(delivery, pool, policy)
        if same:
            return same
        message = delivery.message
        case = Case(message.id, message.client, message.envelope, delivery.route, True, message.content)
        answer = await self._candidates.advised(pool, case)
        if not isinstance(answer, Reply):
            return self._in_pace(answer)
        status = Status.FAILED if answer.severity == 5 else Status.DEFERRED
        if delivery.doubt is not None:  # it may have arrived: that nobody is asked now says nothing of that
            status = Status.IN_DOUBT
        outcomes = (RecipientOutcome(r, status, answer, delivery.doubt or "") for r in message.envelope.recipients)
        return Outcome(tuple(outcomes), ())

    def _in_pace(self, order: Sequence[Member]) -> Sequence[Member]:
        """One that has spent its pace is passed over, unless that leaves nobody."""
        pace = self._pace
        return [member for member in order if not pace.wait(member.upstream)] or order


def _same(delivery: Delivery, pool: Pool, policy: InDoubtPolicy) -> Sequence[Member]:
    """The upstream that may have the message, when it is asked again and no other; nobody when it may be any."""
    if delivery.doubt is None or policy == "failover":
        return ()
    return [member for member in pool.members if member.upstream.name == delivery.doubt]
