"""One connection to an upstream: opened, greeted, secured, authenticated, and then used for transactions.

Everything here returns a `Reply`, or a `Failure` when there was none; nothing raises for what an upstream
does.
"""

from collections.abc import Coroutine, Sequence
from dataclasses import replace
from typing import Any

from waypost.mail.content import Content
from waypost.mail.message import Client
from waypost.mail.outcome import Answer, Phase, Stopped
from waypost.net.dialogue import Dialogue, is_positive
from waypost.net.handing_over import hand_over
from waypost.net.introducing import is_same
from waypost.net.login import Logins
from waypost.net.opening import introduce, open_session
from waypost.routing.route import Timeouts, Upstream
from waypost.smtp import commands as c
from waypost.smtp.client import Extensions
from waypost.smtp.content import unstuffed
from waypost.smtp.state import State

_OPEN_TRANSACTION = (State.MAIL, State.RCPT, State.CHUNKS)
_GROUP = 100  # recipients in one write, so that neither side's buffers fill while it is still writing
_MAX_AT_ONCE = 64 * 1024  # octets of content that are sent with MAIL and RCPT


class UpstreamConnection:
    """A session with one upstream, seen from its client."""

    def __init__(
        self, upstream: Upstream, hostname: str, now: float, logins: Logins, client: Client | None = None
    ) -> None:
        self.upstream = upstream
        self._logins = logins
        self.opened_at = now
        self.idle_since = now
        self.transactions = 0
        self.client = client  # whom the upstream takes for its client, by a PROXY header or by XCLIENT since
        self._hostname = hostname
        self._dialogue = Dialogue()

    def __repr__(self) -> str:
        state = "closed" if self.is_closed else self._dialogue.engine.state.name.lower()
        return f"<{self.upstream.name} {state}, {self.transactions} transactions>"

    # -- facts

    @property
    def phases(self) -> tuple[tuple[Phase, float], ...]:
        """How many seconds each phase of the latest attempt took; opening the connection belongs to the first."""
        return self._dialogue.watch.laps

    @property
    def extensions(self) -> Extensions:
        """What the upstream offers."""
        return self._dialogue.engine.extensions

    @property
    def reused(self) -> bool:
        """Whether this is not the connection's first transaction."""
        return self.transactions > 1

    @property
    def tls(self) -> str | None:
        """Version and cipher, or None."""
        return None if self._dialogue.stream is None else self._dialogue.stream.tls

    def verdicts(self, answer: Answer) -> Sequence[Answer]:
        """What content came to for each recipient that was accepted; nothing when `answer` is everybody's."""
        verdicts = self._dialogue.engine.verdicts
        return () if verdicts is None else verdicts.completed(answer)

    @property
    def certificate(self) -> bytes | None:
        """What the upstream showed, in DER form."""
        return None if self._dialogue.stream is None else self._dialogue.stream.peer_certificate

    @property
    def is_closed(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._dialogue.is_closed

    @property
    def is_fresh(self) -> bool:
        """Whether an idle connection is as it was left: open, and nothing said by the upstream meanwhile.

        The answer to our own RSET may be waiting.
        """
        stream = self._dialogue.stream
        return not self.is_closed and stream is not None and (not stream.has_data or not self._dialogue.engine.is_idle)

    async def open(self, timeouts: Timeouts) -> Stopped | None:
        """Connects, secures and authenticates; None when the connection is ready, else what went wrong."""
        problem = await open_session(self._dialogue, self.upstream, self._hostname, timeouts, self._logins, self.client)
        return None if problem is None else replace(problem, phases=self.phases)

    async def introduce(self, client: Client, timeouts: Timeouts) -> Stopped | None:
        """Says by XCLIENT, where that is offered, who the client of what follows is; None, or what went wrong."""
        if not self.extensions.xclient or (self.client is not None and is_same(self.client, client)):
            return None
        await self._be_idle(timeouts)
        self.client = client
        problem = await introduce(self._dialogue, self.upstream, client, self._hostname, timeouts, self._logins)
        if problem is None:
            return None
        self.abort()  # who the upstream takes for its client is not certain any more
        return replace(problem, phases=self.phases)

    # -- transactions

    async def begin(
        self, mail: c.Mail, recipients: Sequence[c.Rcpt], timeouts: Timeouts, forward: Sequence[c.Xforward] = ()
    ) -> tuple[Answer, Sequence[Answer]]:
        """MAIL and RCPT, in one write where the upstream offers PIPELINING; the answer to each.

        The recipients' answers are missing when MAIL was not accepted; what is answered to `forward` is ignored.
        """
        await self._start_transaction(timeouts)
        if not self.extensions.pipelining or len(recipients) > _GROUP:
            for line in forward:
                await self._dialogue.ask(line, Phase.MAIL, timeouts.command)
            answer = await self._dialogue.ask(mail, Phase.MAIL, timeouts.command)
            if not is_positive(answer):
                return answer, ()
            return answer, await self.add(recipients, timeouts)
        phases = (*(Phase.MAIL,) * (len(forward) + 1), *(Phase.RCPT,) * len(recipients))
        answers = await self._dialogue.exchange((*forward, mail, *recipients), phases, timeouts.command)
        if forward:
            answers = answers[len(forward) :]
        first = answers[0]
        return first, answers[1:] if is_positive(first) else ()

    def takes_all_at_once(self, recipients: Sequence[c.Rcpt], content: Content) -> bool:
        """Whether `begin_with` may be used: PIPELINING, CHUNKING, and nothing too large to be sent in vain."""
        offered = self.extensions
        return (
            offered.pipelining
            and offered.chunking
            and content.size <= _MAX_AT_ONCE
            and len(recipients) <= _GROUP
            and (offered.eightbitmime or content.is_ascii)
        )

    async def begin_with(
        self,
        mail: c.Mail,
        recipients: Sequence[c.Rcpt],
        content: Content,
        timeouts: Timeouts,
        forward: Sequence[c.Xforward] = (),
    ) -> tuple[Answer, Sequence[Answer], Answer]:
        """MAIL, RCPT and the content in one write (RFC 3030 section 4.2); the last answer is the one to the content.

        Only for deliveries that are owed: content is under way before anything is known about the recipients,
        so a connection that ends in between leaves them in doubt.
        """
        await self._start_transaction(timeouts)
        octets = b"".join(unstuffed(content.chunks()))
        commands: Sequence[c.Command] = (*forward, mail, *recipients, c.Bdat(len(octets), last=True))
        phases = (*(Phase.MAIL,) * (len(forward) + 1), *(Phase.RCPT,) * len(recipients), Phase.DOT)
        answers = await self._dialogue.exchange(commands, phases, timeouts.dot, octets)
        first, *others, last = answers[len(forward) :]
        return first, others, last

    async def _start_transaction(self, timeouts: Timeouts) -> None:
        self.transactions += 1
        dialogue = self._dialogue
        if self.transactions > 1:
            dialogue.watch.reset()
        if not dialogue.engine.is_idle:
            await self._be_idle(timeouts)

    async def _be_idle(self, timeouts: Timeouts) -> None:
        """Reads the answer to the RSET that ended the last transaction; when it does not come, the next step fails."""
        if not self._dialogue.engine.is_idle:
            self._dialogue.watch.start()
            await self._dialogue.answers((Phase.MAIL,), timeouts.command)

    async def add(self, recipients: Sequence[c.Rcpt], timeouts: Timeouts) -> Sequence[Answer]:
        """More recipients of the transaction under way; the answer to each."""
        answers: list[Answer] = []
        step = _GROUP if self.extensions.pipelining else 1
        for start in range(0, len(recipients), step):
            group = recipients[start : start + step]
            answers += await self._dialogue.exchange(group, (Phase.RCPT,) * len(group), timeouts.command)
        return answers

    def send(self, content: Content, timeouts: Timeouts) -> Coroutine[Any, Any, tuple[Phase, Answer]]:
        """The content. Tells how far it came: at `Phase.DOT` the upstream may have accepted, answer or not."""
        return hand_over(self._dialogue, content, timeouts)

    def reset(self) -> None:
        """Ends a transaction that did not come to its content. The answer is read by whoever comes next."""
        stream, engine = self._dialogue.stream, self._dialogue.engine
        if stream is not None and engine.is_idle and not self._dialogue.is_closed:
            if engine.state in _OPEN_TRANSACTION:
                stream.write(engine.send(c.Rset()))
        else:
            self.abort()

    def quit(self) -> None:
        """Says QUIT, whose answer interests nobody, and closes."""
        if self._dialogue.stream is not None:
            if not self.is_closed and self._dialogue.engine.is_idle and self._dialogue.engine.state is State.READY:
                self._dialogue.stream.write(self._dialogue.engine.send(c.Quit()))
            self._dialogue.stream.close()

    def abort(self) -> None:
        """Closes without a word."""
        self._dialogue.abort()
