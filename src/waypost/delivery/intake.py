"""The way of a message in, from MAIL to the reply.

    recipients: route each, and offer it to the primary
    write:      keep the content
    finish:     trace -> known already? -> prepare the copies -> relay to the primary -> commit or abort -> reply

`Intake` serves all sessions; a `Reception` is one transaction. Relaying is in `relay`, what is owed in `spool`,
what is remembered of unknown outcomes in `indoubt`.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import structlog

from waypost.clock import Clock
from waypost.delivery.candidates import Candidates
from waypost.delivery.copies import Copies
from waypost.delivery.indoubt import Ledger, digest_of, key_of
from waypost.delivery.relay import AttemptLog, LiveRelay, Relayed
from waypost.delivery.spool import SpoolError
from waypost.mail.content import Content, JoinedContent, MemoryContent
from waypost.mail.header import read_header
from waypost.mail.ids import make_id
from waypost.mail.message import Client, Envelope, Message, Recipient
from waypost.mail.outcome import Answer, Attempt, Status
from waypost.mail.trace import loops, missing_fields, received_field
from waypost.routing.route import Route
from waypost.routing.rules import NOT_OWNED, Facts, Router
from waypost.smtp import commands as c
from waypost.smtp.address import Address
from waypost.smtp.reply import Reply, reply

log = structlog.get_logger()

Role = Literal["primary", "copy"]

_OTHER_ROUTE = reply(452, "4.5.3", "This recipient goes another way; send to it in a transaction of its own")
_NO_ROOM = reply(452, "4.3.1", "The copies of this message cannot be stored now; try again later")
_NO_SPACE = reply(452, "4.3.1", "The message cannot be stored now; try again later")


class ContentSink(Protocol):
    """Collects content while it arrives."""

    def write(self, data: bytes) -> Awaitable[None] | None:
        """Takes a piece; what comes back must be awaited before the next. Raises `SpoolError`."""

    async def finish(self) -> Content:
        """All of it. Raises `SpoolError`."""

    def close(self) -> None:
        """Discards it."""


class IntakeLog(AttemptLog, Protocol):
    """Whoever writes down what happens to mail."""

    def received(self, message: Message, route: str, rule: str) -> None:
        """Content has come in whole."""

    def refused(
        self,
        client: Client,
        command: str,
        reply: Reply,
        *,
        reverse_path: Address | None = None,
        recipient: Address | None = None,
        message_id: str | None = None,
    ) -> None:
        """Something that the client asked was refused."""

    def relayed(self, message: Message, attempt: Attempt, recipients: Sequence[Recipient]) -> None:
        """The primary has the message."""

    def deferred(
        self,
        message: Message,
        target: str,
        recipients: Sequence[Recipient],
        answer: Answer,
        at: float | None,
        role: Role,
    ) -> None:
        """The primary does not take it now; trying again is the client's affair."""

    def failed(
        self, message: Message, target: str, recipients: Sequence[Recipient], answer: Answer, role: Role
    ) -> None:
        """The primary refuses it for good."""

    def in_doubt(self, message: Message, attempt: Attempt, role: Role) -> None:
        """The primary did not say."""

    def abandoned(self, client: Client, reverse_path: Address, message_id: str | None, why: str) -> None:
        """The client disappeared in mid-content."""


@dataclass(frozen=True, slots=True)
class IntakeSettings:
    """`instance` is what we know our own `Received` fields by."""

    hostname: str
    instance: str
    max_received: int = 100


@dataclass(frozen=True, slots=True)
class Desk:
    """What every reception needs: the tools of one configuration."""

    settings: IntakeSettings
    router: Router
    candidates: Candidates
    copies: Copies | None
    ledger: Ledger
    log: IntakeLog
    clock: Clock
    chance: Callable[[], float]  # from 0 to 1
    new_sink: Callable[[Route], ContentSink]


class Intake:
    """Takes mail in: the `MailHandler` of `waypost.net`."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._waiting: set[Reception] = set()
        self._watching = False

    def begin(self, client: Client, mail: c.Mail) -> "Reception | Reply":
        """Opens a transaction, or says why this client may not send as this address."""
        desk = self._desk
        if not desk.router.may_send_as(client.account, mail.reverse_path):
            desk.log.refused(client, "mail", NOT_OWNED, reverse_path=mail.reverse_path)
            return NOT_OWNED
        now = desk.clock.time()
        message_id = make_id(int(now * 1000), int(desk.chance() * 0x1_0000_0000))
        reception = Reception(desk, client, mail, message_id, self._waiting)
        if not self._watching:
            self._watching = True
            desk.clock.call_later(1, self._watch)
        return reception

    def _watch(self) -> None:
        """Once a second, while there is anything to see: silent clients give their upstream connection back."""
        now = self._desk.clock.monotonic()
        for reception in self._waiting:
            reception.give_back_if_silent(now)
        self._watching = bool(self._waiting)
        if self._watching:
            self._desk.clock.call_later(1, self._watch)


class Reception:
    """One transaction: the `Transaction` of `waypost.net`."""

    def __init__(self, desk: Desk, client: Client, mail: c.Mail, message_id: str, waiting: "set[Reception]") -> None:
        self._desk = desk
        self._client = client
        self._mail = mail
        self._id = message_id
        self._waiting = waiting
        self._route: Route | None = None
        self._because = ""
        self._relay: LiveRelay | None = None
        self._sink: ContentSink | None = None
        self._content: Content | None = None
        self._fault: Reply | None = None
        self._busy = False
        self._silent_since = 0.0
        waiting.add(self)

    # -- RCPT

    async def recipients(self, commands: Sequence[c.Rcpt]) -> Sequence[Reply]:
        """Routes each recipient, and offers those of the transaction's route to the primary in one go."""
        answers = [self._misrouted(command.forward_path) for command in commands]
        offered = [
            Recipient(command.forward_path, command.parameters)
            for command, answer in zip(commands, answers, strict=True)
            if answer is None
        ]
        if offered and self._relay is not None:
            self._busy = True
            from_primary = iter(await self._relay.recipients(offered))
            self._busy = False
            self._silent_since = self._desk.clock.monotonic()
            answers = [next(from_primary) if answer is None else answer for answer in answers]
        replies = [answer for answer in answers if answer is not None]
        for command, answer in zip(commands, replies, strict=True):
            if not answer.is_positive:
                self._log_refusal("rcpt", answer, command.forward_path)
        return replies

    def _misrouted(self, recipient: Address) -> Reply | None:
        """Why this recipient cannot be part of the transaction. The first one decides on the route."""
        client, desk = self._client, self._desk
        facts = Facts(client.listener, client.account, client.address, self._mail.reverse_path, recipient)
        decision = desk.router.route(facts)
        route = decision.route
        if route is None:
            return decision.reply
        if self._route is None:
            self._route, self._because = route, decision.because
            self._relay = LiveRelay(desk.candidates, route, self._mail, self._id, desk.log)
        return None if route is self._route else _OTHER_ROUTE

    def give_back_if_silent(self, now: float) -> None:
        """After a long silence behind RCPT the upstream's connection serves somebody else."""
        relay, route = self._relay, self._route
        if relay is None or route is None or self._busy or self._sink is not None:
            return
        if now - self._silent_since >= route.silence:
            relay.release()

    # -- content

    def write(self, data: bytes) -> Awaitable[None] | None:
        """Keeps a piece of content."""
        if self._fault is not None or self._route is None:
            return None
        sink = self._sink
        if sink is None:
            sink = self._sink = self._desk.new_sink(self._route)
        waiting = sink.write(data)
        return None if waiting is None else self._written(waiting)

    async def _written(self, waiting: Awaitable[None]) -> None:
        try:
            await waiting
        except SpoolError as error:
            self._fault = _NO_SPACE  # the rest is drained, and refused at its end
            log.error("content_not_stored", id=self._id, reason=str(error))

    async def finish(self) -> Reply:
        """Sees the message through and says what the client is told."""
        self._waiting.discard(self)
        route, relay = self._route, self._relay
        if route is None or relay is None:  # the engine lets no content in without a recipient
            return _NO_SPACE
        try:
            answer = await self._see_through(route, relay)
        finally:
            relay.release()
        if not answer.is_positive:
            self._log_refusal("content", answer)
        return answer

    async def _see_through(self, route: Route, relay: LiveRelay) -> Reply:
        log = self._desk.log
        content = await self._kept()
        if content is None:
            return _NO_SPACE
        envelope = Envelope(self._mail.reverse_path, tuple(relay.accepted), self._mail.parameters)
        known = self._recorded(envelope, content)
        if known is not None:
            return known
        traced = self._traced(envelope, content)
        if isinstance(traced, Reply):
            return traced
        message = Message(self._id, self._desk.clock.time(), self._client, envelope, traced)
        log.received(message, route.name, self._because)
        copies = self._desk.copies if route.copies else None
        prepared = await copies.prepare(message, route) if copies is not None else False
        if prepared is None:
            return _NO_ROOM
        if copies is None or not prepared:
            relayed = await relay.send(traced)
        else:
            try:
                relayed = await relay.send(traced)
            except BaseException:
                copies.hold(message, content, route)
                raise
            await copies.conclude(message, content, route, relayed.status)
        return self._told_of(message, route, relayed)

    async def _kept(self) -> Content | None:
        if self._sink is None:
            self._content = MemoryContent(b"") if self._fault is None else None
        elif self._fault is None:
            try:
                self._content = await self._sink.finish()
            except SpoolError as error:
                log.error("content_not_stored", id=self._id, reason=str(error))
                return None
        return self._content

    def _recorded(self, envelope: Envelope, content: Content) -> Reply | None:
        """The reply that this client did not hear when it sent the very same message before."""
        ledger = self._desk.ledger
        if not ledger:
            return None
        key = key_of(self._client.account, envelope)
        return ledger.recorded(key, digest_of(content)) if ledger.knows(key) else None

    def _traced(self, envelope: Envelope, content: Content) -> Content | Reply:
        """The content with our fields in front, or the refusal of a message that goes in circles."""
        settings, client = self._desk.settings, self._client
        header = read_header(content)
        looping = loops(header.head, settings.instance, settings.max_received)
        if looping is not None:
            return looping
        now = self._desk.clock.time()
        only = envelope.recipients[0].address if len(envelope.recipients) == 1 else None
        front = received_field(self._id, client, settings.hostname, now, only, settings.instance)
        if client.submission:
            front += missing_fields(header, settings.hostname, self._id, now)
        return JoinedContent(front, content)

    # -- the end

    def _told_of(self, message: Message, route: Route, relayed: Relayed) -> Reply:
        """Writes down what became of the primary delivery, and words it for the client, our id included."""
        log, recipients, answer = self._desk.log, message.envelope.recipients, relayed.reply
        match relayed.status:
            case Status.RELAYED if relayed.attempt is not None:
                log.relayed(message, relayed.attempt, recipients)
            case Status.IN_DOUBT if relayed.attempt is not None:
                log.in_doubt(message, relayed.attempt, "primary")
            case Status.FAILED:
                log.failed(message, route.primary.name, recipients, answer, "primary")
            case _:
                log.deferred(message, route.primary.name, recipients, answer, None, "primary")
        return Reply(answer.code, (*answer.lines[:-1], f"{answer.lines[-1]} (id {self._id})".lstrip()), answer.enhanced)

    def told(self, answer: Reply, *, lost: bool) -> None:
        """The client was told what `finish` said; or was `lost` before it could be."""
        relay, content = self._relay, self._content
        # Of what is temporary nothing has to be remembered: the client comes again, and it is tried again.
        if lost and answer.severity != 4 and relay is not None and content is not None:
            envelope = Envelope(self._mail.reverse_path, tuple(relay.accepted), self._mail.parameters)
            self._desk.ledger.unheard(key_of(self._client.account, envelope), digest_of(content), answer)
        self._drop()

    def refuse(self, answer: Reply) -> None:
        """The content was not fit to be passed on."""
        self._log_refusal("content", answer)
        self._drop()

    def abandon(self, why: str) -> None:
        """The transaction ends without its content."""
        if self._sink is not None:
            self._desk.log.abandoned(self._client, self._mail.reverse_path, self._id, why)
        self._drop()

    def _drop(self) -> None:
        self._waiting.discard(self)
        if self._relay is not None:
            self._relay.release()
        if self._sink is not None:
            self._sink.close()
        if self._content is not None:
            self._content.close()

    def _log_refusal(self, command: str, answer: Reply, recipient: Address | None = None) -> None:
        self._desk.log.refused(
            self._client,
            command,
            answer,
            reverse_path=self._mail.reverse_path,
            recipient=recipient,
            message_id=self._id,
        )
