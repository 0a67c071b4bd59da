"""Relaying to the primary while the client waits: acceptance modes `pass` and `hybrid`.

RCPT is relayed live, so the client sees the primary's own answer for each recipient. Until the content has
come, the transaction stays open at one upstream, the *link*. Whatever goes wrong, another upstream takes its
place only if it accepts every recipient that the client was told is accepted.
"""

import asyncio
from collections.abc import Sequence

from waypost.delivery.candidates import Candidates, Judged, Link
from waypost.delivery.linking import Linking, RelayLog
from waypost.delivery.sender import fit_recipients
from waypost.delivery.sending import Relayed, Sending, is_positive
from waypost.mail.content import Content
from waypost.mail.message import Client, Recipient
from waypost.mail.outcome import Answer, Phase, Role
from waypost.routing.classify import summarise
from waypost.routing.route import InDoubtPolicy, Route, Upstream
from waypost.routing.verdict import Verdict
from waypost.smtp import commands as c
from waypost.smtp.reply import Reply, reply

_ALONE = reply(452, "4.5.3", "One recipient at a time here; send to the others in transactions of their own")


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


class LiveRelay(Linking):
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
        *,
        each: bool = False,
        content: Content | None = None,
    ) -> None:
        super().__init__(candidates, route, client, mail, message_id, log, each=each, content=content)
        self.running: asyncio.Future[Relayed] | None = None  # it never goes on without its client
        self._policy = policy

    # -- recipients

    async def recipients(self, recipients: Sequence[Recipient]) -> list[Reply]:
        """Offers recipients to the primary; the answer for each.

        One that is refused for now goes on to the next upstream, together with those accepted before.
        """
        asked = [_Asked(recipient, self.failures) for recipient in recipients]
        if self.route.primary.plugin is not None:
            await self.be_advised(recipients)
        link = self.usable_link()
        if link is not None:
            self._sort(link, asked, await link.lent.add(fit_recipients(recipients, link.lent.extensions)))
        here = None if link is None else link.upstream.name
        for member in self.members(recipients):
            undecided = [each for each in asked if each.reply is None]
            if not undecided or self._refusal is not None:
                break
            if member.upstream.name not in self.spent and member.upstream.name != here:
                await self._offer(undecided, member.upstream)
        return [each.reply or self._refusal or summarise(each.failures) for each in asked]

    async def _offer(self, asked: Sequence[_Asked], upstream: Upstream) -> None:
        """Offers what is undecided to one more upstream, and moves there if that is an improvement."""
        kept = len(self.accepted)
        link = await self.open(upstream, (*self.accepted, *(each.recipient for each in asked)))
        if isinstance(link, Judged):
            for each in asked:
                each.judged(link)
            return
        answers = link.recipients[kept:]
        # Whoever was told before that he is accepted must be so there, whether or not there is a link to lose.
        takes_all = all(map(is_positive, link.recipients[:kept]))
        if not takes_all or (self.link is not None and not any(map(is_positive, answers))):
            self._sort(link, asked, answers, only_failures=True)
            link.lent.release()
            return
        self.release()
        self.link = link
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
                judged = self.judge(link, Phase.RCPT, answer)
                each.judged(judged)
                if judged.verdict.fail_over:
                    self.log.attempted(self.message_id, judged.attempt, Role.PRIMARY)
        if link.lent.is_closed and link is self.link:
            self.spent.add(link.upstream.name)
            self.release()

    def forget(self, recipients: Sequence[Recipient]) -> None:
        """Takes back that these were accepted: whoever asked has stopped waiting for the answers."""
        gone = set(map(id, recipients))
        self.accepted = [recipient for recipient in self.accepted if id(recipient) not in gone]
        self.release()

    # -- content

    async def send(self, content: Content) -> Relayed:
        """Hands the content over, failing over until it is accepted, refused, in doubt, or out of upstreams."""
        return await Sending(self, self.accepted, self._policy).run(content)


class LoneRelay(LiveRelay):
    """In front of upstreams that answer for each recipient, for a client that hears one reply: one recipient only.

    So that reply is the upstream's, and nothing need be kept for anybody.
    """

    async def recipients(self, recipients: Sequence[Recipient]) -> list[Reply]:
        answers: list[Reply] = []
        for recipient in recipients:
            answers += [_ALONE] if self.accepted else await super().recipients((recipient,))
        return answers
