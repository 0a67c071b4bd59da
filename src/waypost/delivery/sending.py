"""Handing content to the upstreams of a message while its client waits, until its fate is known."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from waypost.delivery.candidates import Judged, Link
from waypost.delivery.linking import Linking
from waypost.delivery.sender import lacks_8bitmime
from waypost.mail.content import Content
from waypost.mail.message import Recipient
from waypost.mail.outcome import Answer, Attempt, Phase, Role, Status
from waypost.mail.rewrite import rewritten_content
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


class Sending:
    """The content of one message on its way to recipients whom the client was told are accepted."""

    __slots__ = ("_linking", "_policy", "_recipients")

    def __init__(self, linking: Linking, recipients: Sequence[Recipient], policy: InDoubtPolicy) -> None:
        self._linking = linking
        self._recipients = recipients
        self._policy = policy

    async def run(self, content: Content) -> Relayed:
        """Hands the content over, failing over until it is accepted, refused, in doubt, or out of upstreams."""
        doubt: Relayed | None = None
        again: Upstream | None = None  # the one that is asked once more, after it left the message in doubt
        while (link := await self._next_link(again)) is not None:
            judged = await self._send(link, content)
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

    async def _send(self, link: Link, content: Content) -> Judged:
        linking, upstream, lent = self._linking, link.upstream, link.lent
        try:
            lacking = lacks_8bitmime(content, lent.extensions)
            answer: Answer
            if lacking is not None:
                phase, answer = Phase.DATA, lacking
            else:
                if upstream.rewrite_from is not None:
                    content = rewritten_content(content, upstream.rewrite_from)
                linking.sending_to = upstream.name
                phase, answer = await lent.send(content)
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


def is_positive(answer: Answer) -> bool:
    """Whether an answer is a reply that says yes (2yz)."""
    return isinstance(answer, Reply) and answer.is_positive
