"""The way of a message in, from MAIL to the reply.

    recipients: route each to a leg, and ask that: the primary in `pass` and `hybrid`, nobody in `spool`
    write:      keep the content
    finish:     who was undecided is routed now, and asked for -> known already? -> form: rewriting, trace, signatures
                -> by acceptance mode:
        pass:   prepare the copies -> relay to the primary -> commit or abort -> reply
        else:   take it into custody, which relays what it can and stores the rest -> reply

`Intake` serves all sessions; a `Reception` is one transaction. Legs are in `legs`, relaying is in `relay`, custody in
`custody`, what is owed in `spool`, what is remembered of unknown outcomes in `indoubt`.
"""

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import replace
from functools import partial

import structlog

from waypost.delivery.copies import NO_ROOM
from waypost.delivery.crossing import Legs
from waypost.delivery.desk import ContentSink, Desk
from waypost.delivery.forming import Given
from waypost.delivery.indoubt import Unanswered, digest_at_once, digest_of, key_of
from waypost.delivery.legs import Accepting, close_after
from waypost.delivery.metered import Metered
from waypost.delivery.relay import LiveRelay
from waypost.delivery.spool import SpoolError
from waypost.delivery.telling import tell
from waypost.delivery.told import Told
from waypost.delivery.vouching import vouched
from waypost.mail.content import Content, MemoryContent
from waypost.mail.ids import make_id
from waypost.mail.message import Client, Envelope, Message, Recipient
from waypost.routing.rules import NOT_OWNED
from waypost.smtp import commands as c
from waypost.smtp.address import Address
from waypost.smtp.parameters import NO_MAIL_PARAMETERS
from waypost.smtp.reply import Reply

log = structlog.get_logger()


class Intake:
    """Takes mail in: the `MailHandler` of `waypost.net`."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._waiting: set[Reception] = set()
        self._watching = False

    def begin(self, client: Client, mail: c.Mail) -> "Reception | Metered | Reply":
        """Opens a transaction, or says why this client may not send as this address, or now."""
        desk = self._desk
        if not desk.router.may_send_as(client.account, mail.reverse_path):
            desk.log.refused(client, "mail", NOT_OWNED, reverse_path=mail.reverse_path)
            return NOT_OWNED
        share = None if desk.allowances is None else desk.allowances.share(client.account)
        if isinstance(share, Reply):
            desk.log.refused(client, "mail", share, reverse_path=mail.reverse_path)
            return share
        each = client.hears_each or mail.parameters.prdr
        if mail.parameters.prdr:  # that is between the client and us
            parameters = replace(mail.parameters, prdr=False)
            mail = c.Mail(mail.reverse_path, NO_MAIL_PARAMETERS if parameters == NO_MAIL_PARAMETERS else parameters)
        if mail.parameters.auth is not None:
            mail = vouched(mail, client.account, desk.router)
        now = desk.clock.time()
        message_id = make_id(int(now * 1000), int(desk.chance() * 0x1_0000_0000))
        reception = Reception(desk, client, mail, message_id, now, self._waiting, each=each)
        if not self._watching:
            self._watching = True
            desk.clock.call_later(1, self._watch)
        return reception if share is None else Metered(reception, share, client, mail, desk.log)

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

    def __init__(
        self,
        desk: Desk,
        client: Client,
        mail: c.Mail,
        message_id: str,
        began: float,
        waiting: "set[Reception]",
        *,
        each: bool,
    ) -> None:
        self._desk = desk
        self._heard: list[Recipient] | None = [] if each else None  # accepted, each of whom the client hears of
        self._told: Told | None = None
        self._client = client
        self._mail = mail
        self._id = message_id
        self._waiting = waiting
        self._legs = Legs(desk, client, mail, message_id, began, each=each)
        self._sink: ContentSink | None = None
        self._content: Content | None = None
        self._digest = b""
        self._number: int | None = None  # among those that are seen through
        self._has_left = False
        self._unanswered: Unanswered | None = None
        self._fault: Reply | None = None
        self._busy = False
        self._silent_since = 0.0
        waiting.add(self)

    # -- RCPT

    async def recipients(self, commands: Sequence[c.Rcpt]) -> Sequence[Reply]:
        """Routes each recipient, and asks its leg; those of one leg in one go."""
        answers: dict[int, Reply] = {}
        asked: dict[Accepting, list[int]] = {}
        order: dict[int, Recipient] = {}
        for index, command in enumerate(commands):
            leg = self._legs.for_recipient(command.forward_path)  # or those who wait for the content
            if isinstance(leg, Reply):
                answers[index] = leg
            else:
                asked.setdefault(leg, []).append(index)
        self._busy = True
        for leg, indexes in asked.items():
            recipients = [Recipient(commands[index].forward_path, commands[index].parameters) for index in indexes]
            told = await leg.recipients(recipients)
            answers.update(zip(indexes, told, strict=True))
            if self._heard is not None:
                order.update(zip(indexes, recipients, strict=True))
        if self._heard is not None:
            self._heard += [order[index] for index in sorted(order) if answers[index].is_positive]
        self._busy = False
        self._silent_since = self._desk.clock.monotonic()
        for index, answer in answers.items():
            if not answer.is_positive:
                self._log_refusal("rcpt", answer, commands[index].forward_path)
        return [answers[index] for index in range(len(commands))]

    def give_back_if_silent(self, now: float) -> None:
        """After a long silence behind RCPT the upstreams' connections serve somebody else."""
        if self._busy or self._sink is not None:
            return
        for leg in self._legs:
            if now - self._silent_since >= leg.route.silence:
                leg.release()

    # -- content

    def write(self, data: bytes) -> Awaitable[None] | None:
        """Keeps a piece of content."""
        if self._fault is not None:
            return None
        sink = self._sink
        if sink is None:
            sink = self._sink = self._desk.new_sink(self._legs.are_stored)
        waiting = sink.write(data)
        return None if waiting is None else self._written(waiting)

    async def _written(self, waiting: Awaitable[None]) -> None:
        try:
            await waiting
        except SpoolError as error:
            self._fault = NO_ROOM  # the rest is drained, and refused at its end
            log.error("content_not_stored", id=self._id, reason=str(error))

    async def finish(self) -> Sequence[Reply]:
        """Sees the message through and says what the client is told."""
        self._waiting.discard(self)
        try:
            told = self._told = await self._see_through()
        except BaseException:
            self._drop()  # nobody will be told
            raise
        for leg in self._legs:
            leg.release()
        if not told.reply.is_positive:
            self._log_refusal("content", told.reply, self._legs.refused)
        return (told.reply,) if self._heard is None else told.answers(self._heard)

    async def _see_through(self) -> Told:
        desk = self._desk
        content = await self._kept()
        if content is None:
            return Told(NO_ROOM)
        if self._legs.undecided:
            refusal = await self._legs.decide(content)
            if refusal is not None:
                return self._with_id(refusal)
            for recipient, answer in self._legs.turned_away:
                self._log_refusal("content", answer, recipient.address)
        envelope = self._envelope()
        known = await self._recorded(envelope, content)
        if known is not None:
            return known
        [leg, *_] = self._legs
        rewrite = self._legs.rewrite
        given = Given(self._id, self._client, self._mail.reverse_path, envelope, content, leg.route.name, rewrite)
        formed = await desk.former.accepted(given, desk.clock.time())
        if isinstance(formed, Reply):
            return Told(formed)
        message = Message(self._id, desk.clock.time(), self._client, envelope, formed.content, self._digest)
        desk.log.received(message, *self._legs.words(), formed.signed)
        if formed.tell is not None:
            formed.tell()
        if isinstance(leg, LiveRelay):
            return await self._pass_on(message, leg)
        assert desk.custody is not None  # noqa: S101  # else there would be no such leg
        told = await desk.custody.take(message, list(self._legs), each=self._heard is not None)
        return self._with_id(told.beside(envelope.recipients, self._legs.turned_away))

    async def _pass_on(self, message: Message, relay: LiveRelay) -> Told:
        """The primary's answer is the client's; the copies follow it."""
        route, copies = relay.route, self._desk.copies
        if copies is None or not route.copies:
            return self._with_id(tell(self._desk.log, message, route, await relay.send(message.content)))
        prepared = await copies.prepare(message, route)
        if isinstance(prepared, Reply):
            return Told(prepared)
        try:
            relayed = await relay.send(message.content)
        except BaseException:
            if prepared:
                copies.hold(message, route.in_doubt_hold)
            raise
        if prepared:
            await copies.conclude(message, route, relayed, prepared)
        return self._with_id(tell(self._desk.log, message, route, relayed))

    def _envelope(self) -> Envelope:
        recipients = [recipient for leg in self._legs for recipient in leg.accepted]
        return Envelope(self._legs.reverse_path, tuple(recipients), self._mail.parameters)

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

    async def _recorded(self, envelope: Envelope, content: Content) -> Told | None:
        """The reply that this client did not hear when it sent the very same message before."""
        ledger = self._desk.ledger
        if self._desk.copies is not None:  # whoever stores messages knows them again
            self._digest = await digest_of(content)
        number = self._number = ledger.number()
        if self._has_left:
            self.left()
        if not ledger:
            return None
        key = key_of(self._client.account, envelope)
        if not ledger.knows(key):
            return None
        self._digest = self._digest or await digest_of(content)
        while earlier := ledger.earlier(key, self._digest, number):
            for leg in self._legs:  # it may take minutes
                leg.release()
            await asyncio.wait(earlier)
        told = ledger.recorded(key, self._digest, each=self._heard is not None)
        if told is not None:
            self._desk.log.answered_from_ledger(self._client, envelope, self._id, told.reply)
        return told

    # -- the end

    def _with_id(self, told: Told) -> Told:
        return told.mapped(partial(_signed, self._id))

    def left(self) -> None:
        """The client has ended its side. If it comes again before this is over, that is the same message."""
        self._has_left = True
        content, number = self._content, self._number
        if content is not None and number is not None and self._unanswered is None:
            digest = self._digest or digest_at_once(content)
            self._unanswered = self._desk.ledger.left(key_of(self._client.account, self._envelope()), digest, number)

    def told(self, answers: Sequence[Reply], *, lost: bool) -> None:
        """The client was told what `finish` said; or was `lost` before it could be."""
        content, told = self._content, self._told
        # Of what is temporary nothing has to be remembered: the client comes again, and it is tried again. Nor of
        # what was refused before it was looked up: that is asked for again.
        if lost and told is not None and self._number is not None and content is not None and told.is_final:
            digest = self._digest or digest_at_once(content)
            self._desk.ledger.unheard(key_of(self._client.account, self._envelope()), digest, told)
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
        unanswered, self._unanswered = self._unanswered, None
        if unanswered is not None:
            self._desk.ledger.answered(unanswered)
        for leg in self._legs:
            leg.release()
        if self._sink is not None:
            self._sink.close()
        if self._content is not None:
            running = [leg.running for leg in self._legs if leg.running is not None]
            if running:  # what still goes to an upstream is read until then
                close_after(self._content, running)
            else:
                self._content.close()

    def _log_refusal(self, command: str, answer: Reply, recipient: Address | None = None) -> None:
        self._desk.log.refused(
            self._client,
            command,
            answer,
            reverse_path=self._mail.reverse_path,
            recipient=recipient,
            message_id=self._id,
            rule=self._legs.refused_by,
        )


def _signed(message_id: str, answer: Reply) -> Reply:
    return Reply(answer.code, (*answer.lines[:-1], f"{answer.lines[-1]} (id {message_id})".lstrip()), answer.enhanced)
