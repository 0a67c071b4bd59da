"""Relaying to the primary while the client waits: acceptance modes `pass` and `hybrid`.

RCPT is relayed live, so the client sees the primary's own answer for each recipient. Until the content has
come, the transaction stays open at one upstream, the *link*. Whatever goes wrong, another upstream takes its
place only if it accepts every recipient that the client was told is accepted.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from waypost.delivery.advice import Case
from waypost.delivery.authorship import foreign_author
from waypost.delivery.candidates import Candidates, Judged, Link
from waypost.delivery.sender import fit, fit_recipients, lacks_8bitmime
from waypost.mail.content import Content
from waypost.mail.message import Client, Envelope, Recipient
from waypost.mail.outcome import Answer, Attempt, Cause, Failure, Phase, Role, Status
from waypost.routing.classify import summarise
from waypost.routing.route import InDoubtPolicy, Member, Route, Upstream
from waypost.routing.verdict import Kind, Verdict
from waypost.smtp import commands as c
from waypost.smtp.client import Extensions
from waypost.smtp.reply import Reply, reply

IN_DOUBT = reply(451, "4.4.2", "The upstream did not say whether it took the message; try again later")
_ASSUMED = reply(250, "2.0.0", "Sent, and taken for delivered: the upstream did not say")


class AttemptLog(Protocol):
    """Whoever writes down tries that failed."""

    def attempted(self, message_id: str, attempt: Attempt, role: Role) -> None:
        """One attempt failed: another upstream is tried, or there is none left."""


class RelayLog(AttemptLog, Protocol):
    """Whoever writes down what is tried while a client waits."""

    def unanswered(self, message_id: str, envelope: Envelope, attempt: Attempt, role: Role) -> None:
        """The upstream of this attempt was handed the content and has not answered: it may have the message."""

    async def recorded(self) -> None:
        """Waits until what was told so far is in the journal, or cannot be now. Raises nothing."""


@dataclass(frozen=True, slots=True)
class Relayed:
    """What became of the primary delivery, and what the client is told of it."""

    status: Status
    reply: Reply
    attempt: Attempt | None = None


class _Asked:
    """One recipient that was asked for: the answer once there is one, and until then what went wrong."""

    __slots__ = ("failures", "recipient", "reply")

    def __init__(self, recipient: Recipient, failures: Sequence[tuple[Answer, Verdict]]) -> None:
        self.recipient = recipient
        self.failures = list(failures)
        self.reply: Reply | None = None

    def judged(self, judged: Judged) -> None:
        """An upstream did not accept it: final, or one more reason to ask the next."""
        self.failures.append((judged.attempt.answer, judged.verdict))
        if not judged.verdict.fail_over:
            self.reply = summarise(self.failures[-1:])


class LiveRelay:
    """One message on its way to the primary pool of a route."""

    def __init__(
        self,
        candidates: Candidates,
        route: Route,
        client: Client,
        mail: c.Mail,
        message_id: str,
        log: RelayLog,
        policy: InDoubtPolicy = "tempfail",
        content: Content | None = None,
    ) -> None:
        """`content` is None while it is not there; a plugin of the pool may see it."""
        self.route = route
        self.running: asyncio.Future[Relayed] | None = None  # it never goes on without its client
        self._candidates = candidates
        self._policy = policy
        self._client = client
        self._mail = mail
        self._message_id = message_id
        self._log = log
        self._content = content
        self._order: Sequence[Member] | None = None
        self._spent: set[str] = set()  # upstreams that failed in a way that asking again would not mend
        self._link: Link | None = None
        self._failures: list[tuple[Answer, Verdict]] = []  # of upstreams as a whole
        self._refusal: Reply | None = None  # of the message as a whole
        self.accepted: list[Recipient] = []
        """Recipients that the client was told are accepted."""
        self.sending_to: str | None = None
        """The upstream to which content is going now: from here on it may have the message."""
        self.last_try = False
        """Set while content is going to an upstream: there will be no further one."""

    # -- recipients

    async def recipients(self, recipients: Sequence[Recipient]) -> list[Reply]:
        """Offers recipients to the primary; the answer for each.

        One that is refused for now goes on to the next upstream, together with those accepted before.
        """
        asked = [_Asked(recipient, self._failures) for recipient in recipients]
        if self.route.primary.plugin is not None:
            await self._be_advised(recipients)
        link = self._usable_link()
        if link is not None:
            self._sort(link, asked, await link.lent.add(fit_recipients(recipients, link.lent.extensions)))
        here = None if link is None else link.upstream.name
        for member in self._members(recipients):
            undecided = [each for each in asked if each.reply is None]
            if not undecided or self._refusal is not None:
                break
            if member.upstream.name not in self._spent and member.upstream.name != here:
                await self._offer(undecided, member.upstream)
        return [each.reply or self._refusal or summarise(each.failures) for each in asked]

    async def _offer(self, asked: Sequence[_Asked], upstream: Upstream) -> None:
        """Offers what is undecided to one more upstream, and moves there if that is an improvement."""
        kept = len(self.accepted)
        link = await self._open(upstream, (*self.accepted, *(each.recipient for each in asked)))
        if isinstance(link, Judged):
            for each in asked:
                each.judged(link)
            return
        answers = link.recipients[kept:]
        # Whoever was told before that he is accepted must be so there, whether or not there is a link to lose.
        takes_all = all(map(_is_positive, link.recipients[:kept]))
        if not takes_all or (self._link is not None and not any(map(_is_positive, answers))):
            self._sort(link, asked, answers, only_failures=True)
            link.lent.release()
            return
        self.release()
        self._link = link
        self._sort(link, asked, answers)

    def _sort(
        self, link: Link, asked: Sequence[_Asked], answers: Sequence[Answer], *, only_failures: bool = False
    ) -> None:
        for each, answer in zip(asked, answers, strict=True):
            if isinstance(answer, Reply) and answer.is_positive:
                if not only_failures:
                    self.accepted.append(each.recipient)
                    each.reply = answer
            else:
                judged = self._judge(link, Phase.RCPT, answer)
                each.judged(judged)
                if judged.verdict.fail_over:
                    self._log.attempted(self._message_id, judged.attempt, Role.PRIMARY)
        if link.lent.is_closed and link is self._link:
            self._spent.add(link.upstream.name)
            self.release()

    def forget(self, recipients: Sequence[Recipient]) -> None:
        """Takes back that these were accepted: whoever asked has stopped waiting for the answers."""
        gone = set(map(id, recipients))
        self.accepted = [recipient for recipient in self.accepted if id(recipient) not in gone]
        self.release()

    # -- content

    async def send(self, content: Content) -> Relayed:
        """Hands the content over, failing over until it is accepted, refused, in doubt, or out of upstreams."""
        doubt: Relayed | None = None
        again: Upstream | None = None  # the one that is asked once more, after it left the message in doubt
        while (link := await self._next_link(again)) is not None:
            judged = await self._send(link, content)
            attempt, verdict = judged.attempt, judged.verdict
            if verdict.kind is Kind.ACCEPTED and isinstance(attempt.answer, Reply):
                return Relayed(Status.RELAYED, attempt.answer, attempt)
            self._spent.add(link.upstream.name)
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
            if self.last_try:
                break
        if doubt is not None:
            return doubt
        answer = summarise(self._failures)
        return Relayed(Status.FAILED if answer.severity == 5 else Status.DEFERRED, answer)

    async def _next_link(self, again: Upstream | None) -> Link | None:
        """The link, or another one where everybody is accepted; None when there is none left."""
        if again is not None:
            return await self._open_for_all(again)
        link, self._link = self._usable_link(), None
        if link is not None:
            return link
        if self.route.primary.plugin is not None:
            await self._be_advised(self.accepted)
        for member in self._members(self.accepted):
            if member.upstream.name not in self._spent:
                link = await self._open_for_all(member.upstream)
                if link is not None:
                    return link
        return None

    async def _open_for_all(self, upstream: Upstream) -> Link | None:
        link = await self._open(upstream, self.accepted)
        if isinstance(link, Judged):
            return None
        refusals = [answer for answer in link.recipients if not _is_positive(answer)]
        if not refusals:
            return link
        # Whatever it says of one recipient, the message as a whole is not refused by that: others took them all.
        judged = self._judge(link, Phase.RCPT, refusals[0])
        self._failures.append((refusals[0], replace(judged.verdict, kind=Kind.TRANSIENT, transient=True)))
        self._log.attempted(self._message_id, judged.attempt, Role.PRIMARY)
        self._spent.add(upstream.name)
        link.lent.release()
        return None

    async def _send(self, link: Link, content: Content) -> Judged:
        upstream, lent = link.upstream, link.lent
        try:
            lacking = lacks_8bitmime(content, lent.extensions)
            if upstream.senders and lacking is None:
                lacking = foreign_author(upstream, self._mail.reverse_path, content)
            answer: Answer
            if lacking is not None:
                phase, answer = Phase.DATA, lacking
            else:
                self.sending_to = upstream.name
                phase, answer = await lent.send(content)
            judged = self._judge(link, phase, answer)
        finally:
            lent.release()
        if judged.verdict.kind is not Kind.ACCEPTED:
            self._failures.append((answer, judged.verdict))
            if judged.verdict.kind is not Kind.IN_DOUBT:
                self._log.attempted(self._message_id, judged.attempt, Role.PRIMARY)
            else:
                envelope = Envelope(self._mail.reverse_path, tuple(self.accepted), self._mail.parameters)
                self._log.unanswered(self._message_id, envelope, judged.attempt, Role.PRIMARY)
                await self._log.recorded()  # before it is sent again, by us or by the client
        self.sending_to = None  # only now is it known, and what is known will be told
        return judged

    # -- the link

    def release(self) -> None:
        """Gives the upstream's connection back; a later call opens the transaction anew. Idempotent."""
        link, self._link = self._link, None
        if link is not None:
            link.lent.release()

    def _usable_link(self) -> Link | None:
        """The link, unless the upstream has gone in the meantime, which counts as its failure."""
        link = self._link
        if link is None or not link.lent.is_closed:
            return link
        failure = Failure(Phase.DATA, Cause.CLOSED, "the upstream closed the connection")
        judged = self._judge(link, Phase.DATA, failure)
        self._failures.append((failure, judged.verdict))
        self._log.attempted(self._message_id, judged.attempt, Role.PRIMARY)
        self._spent.add(link.upstream.name)
        self.release()
        return None

    async def _open(self, upstream: Upstream, recipients: Sequence[Recipient]) -> Link | Judged:
        envelope = Envelope(self._mail.reverse_path, tuple(recipients), self._mail.parameters)

        def worded(extensions: Extensions) -> tuple[c.Mail, Sequence[c.Rcpt]] | Failure:
            return fit(envelope, extensions)

        link = await self._candidates.begin(
            upstream, envelope, worded, client=self._client, message_id=self._message_id, background=False
        )
        if isinstance(link, Judged):
            self._spent.add(upstream.name)
            self._failures.append((link.attempt.answer, link.verdict))
            self._log.attempted(self._message_id, link.attempt, Role.PRIMARY)
            if not link.verdict.fail_over:
                self._refusal = summarise(self._failures[-1:])
        return link

    def _judge(self, link: Link, phase: Phase, answer: Answer) -> Judged:
        return self._candidates.judge(link.upstream, phase, answer, link.began, link.lent)

    async def _be_advised(self, recipients: Sequence[Recipient]) -> None:
        """Asks the pool's plugin for the order, once. It may stop the message as well."""
        if self._order is None:
            envelope = Envelope(self._mail.reverse_path, tuple(recipients), self._mail.parameters)
            case = Case(self._message_id, self._client, envelope, self.route.name, False, self._content)
            answer = await self._candidates.advised(self.route.primary, case)
            if isinstance(answer, Reply):
                self._refusal = answer
            self._order = () if isinstance(answer, Reply) else answer

    def _members(self, recipients: Sequence[Recipient]) -> Sequence[Member]:
        if self._order is None:
            envelope = Envelope(self._mail.reverse_path, tuple(recipients), self._mail.parameters)
            self._order = self._candidates.order(self.route.primary, envelope, self._client.account)
        return self._order


def _is_positive(answer: Answer) -> bool:
    return isinstance(answer, Reply) and answer.is_positive
