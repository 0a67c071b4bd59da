"""The upstreams of a message while its client waits: at which one its transaction is open, and what went wrong."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from waypost.delivery.advice import Case
from waypost.delivery.candidates import Candidates, Judged, Link
from waypost.delivery.sender import fit
from waypost.mail.content import Content
from waypost.mail.message import Client, Envelope, Recipient
from waypost.mail.outcome import Answer, Attempt, Cause, Failure, Phase, Role, Status
from waypost.routing.classify import summarise
from waypost.routing.route import Member, Route, Upstream
from waypost.routing.verdict import Verdict
from waypost.smtp import commands as c
from waypost.smtp.address import Address
from waypost.smtp.client import Extensions
from waypost.smtp.reply import Reply


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
class Fate:
    """What became of one recipient, and what the client is told of it."""

    recipient: Recipient
    status: Status
    reply: Reply
    attempt: Attempt | None


class Linking:
    """The *link* is the transaction that is open at one upstream until the content has come."""

    def __init__(
        self,
        candidates: Candidates,
        route: Route,
        client: Client,
        mail: c.Mail,
        message_id: str,
        log: RelayLog,
        *,
        each: bool = False,
        content: Content | None = None,
    ) -> None:
        """`content` is None while it is not there; a plugin of the pool may see it."""
        self.route = route
        self.log = log
        self.message_id = message_id
        self.accepted: list[Recipient] = []
        """Recipients that the client was told are accepted."""
        self.sending_to: str | None = None
        """The upstream to which content is going now: from here on it may have the message."""
        self.last_try = False
        """Set while content is going to an upstream: there will be no further one."""
        self.failures: list[tuple[Answer, Verdict]] = []
        """Of upstreams as a whole."""
        self.spent: set[str] = set()
        """Upstreams that failed in a way that asking again would not mend."""
        self.link: Link | None = None
        self.fates: dict[int, Fate] = {}
        """Of those whom an upstream has answered one by one, by the identity of the recipient."""
        self._each = each  # whether upstreams are asked for that
        self._candidates = candidates
        self._client = client
        self._mail = mail
        self._content = content
        self._order: Sequence[Member] | None = None
        self._refusal: Reply | None = None  # of the message as a whole

    @property
    def reverse_path(self) -> Address:
        """The message's."""
        return self._mail.reverse_path

    def release(self) -> None:
        """Gives the upstream's connection back; a later call opens the transaction anew. Idempotent."""
        link, self.link = self.link, None
        if link is not None:
            link.lent.release()

    def usable_link(self) -> Link | None:
        """The link, unless the upstream has gone in the meantime, which counts as its failure."""
        link = self.link
        if link is None or not link.lent.is_closed:
            return link
        failure = Failure(Phase.DATA, Cause.CLOSED, "the upstream closed the connection")
        judged = self.judge(link, Phase.DATA, failure)
        self.failures.append((failure, judged.verdict))
        self.log.attempted(self.message_id, judged.attempt, Role.PRIMARY)
        self.spent.add(link.upstream.name)
        self.release()
        return None

    async def open(self, upstream: Upstream, recipients: Sequence[Recipient]) -> Link | Judged:
        """Opens the transaction at one more upstream. When that fails, it is counted and written down."""
        envelope = self.envelope(recipients)

        def worded(extensions: Extensions) -> tuple[c.Mail, Sequence[c.Rcpt]] | Failure:
            return fit(envelope, extensions, each=self._each)

        link = await self._candidates.begin(
            upstream, envelope, worded, client=self._client, message_id=self.message_id, background=False
        )
        if isinstance(link, Judged):
            self.spent.add(upstream.name)
            self.failures.append((link.attempt.answer, link.verdict))
            self.log.attempted(self.message_id, link.attempt, Role.PRIMARY)
            if not link.verdict.fail_over:
                self._refusal = summarise(self.failures[-1:])
        return link

    def judge(self, link: Link, phase: Phase, answer: Answer, *, each: bool = False) -> Judged:
        """What an answer on this link means. `each`: it is about one recipient, after the content."""
        return self._candidates.judge(link.upstream, phase, answer, link.began, link.lent, each=each)

    async def be_advised(self, recipients: Sequence[Recipient]) -> None:
        """Asks the pool's plugin for the order, once. It may stop the message as well."""
        if self._order is None:
            envelope = self.envelope(recipients)
            case = Case(self.message_id, self._client, envelope, self.route.name, False, self._content)
            answer = await self._candidates.advised(self.route.primary, case)
            if isinstance(answer, Reply):
                self._refusal = answer
            self._order = () if isinstance(answer, Reply) else answer

    def members(self, recipients: Sequence[Recipient]) -> Sequence[Member]:
        """The upstreams of the pool, best first: one order for the whole message."""
        if self._order is None:
            self._order = self._candidates.order(self.route.primary, self.envelope(recipients), self._client.account)
        return self._order

    def envelope(self, recipients: Sequence[Recipient]) -> Envelope:
        """The message's envelope for these recipients."""
        return Envelope(self._mail.reverse_path, tuple(recipients), self._mail.parameters)
