"""Handing content to the upstreams of a message while its client waits, until its fate is known."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from waypost.delivery.authorship import foreign_author
from waypost.delivery.candidates import Judged, Link
from waypost.delivery.linking import Fate, Linking
from waypost.delivery.sender import by_answer, lacks_8bitmime
from waypost.mail.content import Content
from waypost.mail.message import Recipient
from waypost.mail.outcome import Answer, Attempt, Phase, Role, Status
from waypost.routing.classify import summarise
from waypost.routing.route import InDoubtPolicy, Upstream
from waypost.routing.verdict import Kind
from waypost.smtp.reply import Reply, reply

IN_DOUBT = reply(451, "4.4.2", "The upstream did not say whether it took the message; try again later")
_ASSUMED = reply(250, "2.0.0", "Sent, and taken for delivered: the upstream did not say")


@dataclass(frozen=True, slots=True)
class Relayed:
    """What became of the primary delivery, and what the client is told of it."""

    status: Status
    reply: Reply
    attempt: Attempt | None = None
    fates: tuple[Fate, ...] = ()
    """What became of each recipient, when upstreams have answered for each of several; in the order of acceptance."""

    def having(self, status: Status) -> Sequence[Fate]:
        """Of these, those with this fate."""
        return [fate for fate in self.fates if fate.status is status]


_Answered = tuple[Sequence[Recipient], Judged]
_WEIGHTS = (Status.RELAYED, Status.IN_DOUBT, Status.DEFERRED, Status.FAILED)
"""What is said of a message as a whole: never that it should come again when somebody has it."""

_BETTER: dict[Status, Sequence[Status]] = {
    Status.DEFERRED: (Status.RELAYED, Status.FAILED, Status.IN_DOUBT),
    Status.IN_DOUBT: (Status.RELAYED,),
    Status.FAILED: (),
    Status.RELAYED: (),
}
"""What another upstream can make of a fate. Where one may have taken the message, no other's no counts."""


class Sending:
    """The content of one message on its way to recipients whom the client was told are accepted."""

    __slots__ = ("_linking", "_policy", "_recipients")

    def __init__(self, linking: Linking, recipients: Sequence[Recipient], policy: InDoubtPolicy) -> None:
        self._linking = linking
        self._recipients = recipients
        self._policy = policy

    async def run(self, content: Content, again: Upstream | None = None) -> Relayed:
        """Hands the content over, failing over until it is accepted, refused, in doubt, or out of upstreams.

        `again` is the one that is asked once more, after it left the message in doubt.
        """
        doubt: Relayed | None = None
        while (link := await self._next_link(again)) is not None:
            judged = await self._send(link, content)
            if isinstance(judged, list):
                return await self._one_by_one(link.upstream, judged, content)
            attempt, verdict = judged.attempt, judged.verdict
            if verdict.kind is Kind.ACCEPTED and isinstance(attempt.answer, Reply):
                return Relayed(Status.RELAYED, attempt.answer, attempt)
            self._linking.spent.add(link.upstream.name)
            if verdict.kind is Kind.IN_DOUBT and doubt is None:
                doubt = Relayed(Status.IN_DOUBT, IN_DOUBT, attempt)
                match self._policy:
                    case "assume-sent":
                        return Relayed(Status.RELAYED, _ASSUMED, attempt)
                    case "tempfail":
                        return doubt
                    case "retry-same":
                        again = link.upstream
            elif again is not None or (verdict.kind is Kind.IN_DOUBT and self._policy != "failover"):
                break
            elif not verdict.fail_over and verdict.kind is not Kind.IN_DOUBT and doubt is None:
                return Relayed(Status.FAILED, summarise([(attempt.answer, verdict)]), attempt)
            if self._linking.last_try:
                break
        if doubt is not None:
            return doubt
        answer = summarise(self._linking.failures)
        return Relayed(Status.FAILED if answer.severity == 5 else Status.DEFERRED, answer)

    async def _next_link(self, again: Upstream | None) -> Link | None:
        """The link, or another one where everybody is accepted; None when there is none left."""
        if again is not None:
            return await self._open_for_all(again)
        link, self._linking.link = self._linking.usable_link(), None
        if link is not None:
            return link
        if self._linking.route.primary.plugin is not None:
            await self._linking.be_advised(self._recipients)
        for member in self._linking.members(self._recipients):
            if member.upstream.name not in self._linking.spent:
                link = await self._open_for_all(member.upstream)
                if link is not None:
                    return link
        return None

    async def _open_for_all(self, upstream: Upstream) -> Link | None:
        link = await self._linking.open(upstream, self._recipients)
        if isinstance(link, Judged):
            return None
        refusals = [answer for answer in link.recipients if not is_positive(answer)]
        if not refusals:
            return link
        # Whatever it says of one recipient, the message as a whole is not refused by that: others took them all.
        judged = self._linking.judge(link, Phase.RCPT, refusals[0])
        self._linking.failures.append((refusals[0], replace(judged.verdict, kind=Kind.TRANSIENT, transient=True)))
        self._linking.log.attempted(self._linking.message_id, judged.attempt, Role.PRIMARY)
        self._linking.spent.add(upstream.name)
        link.lent.release()
        return None

    async def _one_by_one(self, upstream: Upstream, answered: "list[_Answered]", content: Content) -> Relayed:
        """The upstream has answered for each. Those who have to try elsewhere go on like a message of their own."""
        linking = self._linking
        linking.spent.add(upstream.name)
        onward: list[Recipient] = []
        doubted: list[Recipient] = []
        for recipients, judged in answered:
            attempt, verdict = judged.attempt, judged.verdict
            told = summarise([(attempt.answer, verdict)])
            match verdict.kind:
                case Kind.ACCEPTED if isinstance(attempt.answer, Reply):
                    status, told = Status.RELAYED, attempt.answer
                case Kind.IN_DOUBT if self._policy == "assume-sent":
                    status, told = Status.RELAYED, _ASSUMED
                case Kind.IN_DOUBT:
                    status, told = Status.IN_DOUBT, IN_DOUBT
                    doubted += recipients
                case _ if verdict.fail_over:
                    status = Status.DEFERRED
                    onward += recipients
                case _:
                    status = Status.FAILED
            self._decide(recipients, status, told, attempt)
        await self._go_on(onward, content)
        if self._policy == "failover":
            await self._go_on(doubted, content)
        elif self._policy == "retry-same":
            await self._go_on(doubted, content, upstream)
        return self._fates()

    async def _go_on(self, recipients: Sequence[Recipient], content: Content, again: Upstream | None = None) -> None:
        """Tries further upstreams for these; as long as none says more of them, they have the fate that they have."""
        if not recipients or self._linking.last_try:
            return
        rest = await Sending(self._linking, recipients, self._policy).run(content, again)
        if not rest.fates and rest.attempt is not None:
            self._decide(recipients, rest.status, rest.reply, rest.attempt)

    def _decide(self, recipients: Sequence[Recipient], status: Status, told: Reply, attempt: Attempt) -> None:
        fates = self._linking.fates
        for each in recipients:
            known = fates.get(id(each))
            if known is None or status in _BETTER[known.status]:
                fates[id(each)] = Fate(each, status, told, attempt)

    def _fates(self) -> Relayed:
        fates = tuple(self._linking.fates[id(recipient)] for recipient in self._recipients)
        statuses = {fate.status for fate in fates}
        status = next(status for status in _WEIGHTS if status in statuses)
        decisive = next(fate for fate in fates if fate.status is status)
        return Relayed(status, decisive.reply, decisive.attempt, fates if len(fates) > 1 else ())

    async def _send(self, link: Link, content: Content) -> "Judged | list[_Answered]":
        linking, upstream, lent = self._linking, link.upstream, link.lent
        try:
            lacking = lacks_8bitmime(content, lent.extensions)
            if upstream.senders and lacking is None:
                lacking = foreign_author(upstream, linking.reverse_path, content)
            answer: Answer
            if lacking is not None:
                phase, answer = Phase.DATA, lacking
            else:
                linking.sending_to = upstream.name
                phase, answer = await lent.send(content)
            verdicts = lent.verdicts(answer)
            if verdicts:
                return await self._judge_each(link, verdicts)
            judged = linking.judge(link, phase, answer)
        finally:
            lent.release()
        if judged.verdict.kind is not Kind.ACCEPTED:
            linking.failures.append((answer, judged.verdict))
            if judged.verdict.kind is not Kind.IN_DOUBT:
                linking.log.attempted(linking.message_id, judged.attempt, Role.PRIMARY)
            else:
                envelope = linking.envelope(self._recipients)
                linking.log.unanswered(linking.message_id, envelope, judged.attempt, Role.PRIMARY)
                await linking.log.recorded()  # before it is sent again, by us or by the client
        linking.sending_to = None  # only now is it known, and what is known will be told
        return judged

    async def _judge_each(self, link: Link, verdicts: Sequence[Answer]) -> "list[_Answered]":
        linking, answered, is_doubtful = self._linking, [], False
        for answer, recipients in by_answer(self._recipients, verdicts):
            judged = linking.judge(link, Phase.DOT, answer, each=True)
            answered.append((recipients, judged))
            if judged.verdict.kind is Kind.IN_DOUBT:
                is_doubtful = True
                linking.log.unanswered(linking.message_id, linking.envelope(recipients), judged.attempt, Role.PRIMARY)
            elif judged.verdict.kind is not Kind.ACCEPTED:
                linking.log.attempted(linking.message_id, judged.attempt, Role.PRIMARY)
        if is_doubtful:
            await linking.log.recorded()
        linking.sending_to = None
        return answered


def is_positive(answer: Answer) -> bool:
    """Whether an answer is a reply that says yes (2yz)."""
    return isinstance(answer, Reply) and answer.is_positive
