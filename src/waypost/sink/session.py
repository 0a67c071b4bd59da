"""One session of a sink: the engine, one step at a time, with a fault before every answer if so ordered."""

import asyncio
import time
from ssl import SSLError

from waypost.net.parting import linger
from waypost.net.stream import Stream, StreamTimeoutError
from waypost.sink.answers import Answers, HangUp, House, Transaction, is_positive, verdict
from waypost.sink.faults import CloseAfter, Phase
from waypost.sink.pieces import Pieces
from waypost.sink.stored import StoredMessage
from waypost.smtp import commands as c
from waypost.smtp import events as e
from waypost.smtp.content import unstuffed
from waypost.smtp.reply import Reply, reply
from waypost.smtp.sasl import Credentials
from waypost.smtp.server import ServerEngine
from waypost.smtp.state import State

_LINGER = 2.0  # seconds for a client to read our last words

_SENDER_OK = reply(250, "2.1.0", "Sender OK")
_RECIPIENT_OK = reply(250, "2.1.5", "Recipient OK")
_GO_ON = reply(354, None, "Go on, and end with <CRLF>.<CRLF>")
_START_TLS = reply(220, "2.0.0", "Start TLS")
_WELCOME = reply(235, "2.7.0", "Welcome")
_WRONG = reply(535, "5.7.8", "User name or password is wrong")

_ANSWERED_BY_ENGINE = {
    b"EHLO": Phase.EHLO,
    b"HELO": Phase.EHLO,
    b"LHLO": Phase.EHLO,
    b"RSET": Phase.RSET,
    b"QUIT": Phase.QUIT,
}
"""Commands that the engine does not ask about, and the phase of a fault that comes before its answer."""


def _kept_as(message: StoredMessage) -> Reply:
    return reply(250, "2.0.0", f"Kept as message {message.id}")


class SinkSession:
    """One client's session."""

    def __init__(self, house: House, stream: Stream, number: int) -> None:
        self._house = house
        self._stream = stream
        self._number = number
        self._engine = ServerEngine(house.options)
        self._answers = Answers(house, stream, self._engine, number)
        self._pieces = Pieces()
        self._transaction: Transaction | None = None
        self._in_content = False
        self._username: str | None = None

    async def run(self) -> None:
        """Serves the client to the end, whatever that is."""
        watcher = self._house.watcher
        watcher.connected(self._number, self._stream.peer[0])
        why = "stopped"
        try:
            await self._serve()
            why = "closed"
        except HangUp as end:
            why = str(end)
        except StreamTimeoutError:
            why = "the client was silent for too long"
        except (ConnectionError, SSLError) as error:
            why = f"lost: {error}"
        finally:
            self._stream.close()
            watcher.ended(self._number, why)

    async def _serve(self) -> None:
        engine, stream, answers = self._engine, self._stream, self._answers
        await answers.ordered(Phase.CONNECT, None)
        if self._house.implicit_tls:
            await self._handshake(from_the_start=True)
            engine.tls = True
        await self._greet()
        while engine.state is not State.CLOSED:
            step = self._next_step()
            if step is None:
                data = await stream.read(self._house.timeout)
                if not data:
                    raise HangUp("the client has gone")
                self._pieces.append(data)
                continue
            await self._take(step)
            if engine.state is State.TLS:
                await self._handshake()
                engine.tls_started()
        await linger(stream, _LINGER)

    async def _greet(self) -> None:
        # The engine asks nothing here: it is told to greet. So what is no proper greeting goes past it.
        protocol = "LMTP" if self._engine.options.lmtp else "ESMTP"
        proper = reply(220, None, f"{self._engine.options.hostname} {protocol} Waypost sink")
        ordered = await self._answers.ordered(Phase.GREETING, None)
        await asyncio.sleep(0)  # one turn of the loop, so that a client that speaks first is caught doing it
        if self._stream.has_data:
            self._engine.receive(await self._stream.read())
        self._engine.greet(proper)
        await self._answers.confirm(ordered)
        if not is_positive(ordered):
            self._engine.close(proper)
            self._engine.take_output()

    def _next_step(self) -> bytes | None:
        if self._engine.state is State.CONTENT:
            return self._pieces.content()
        return self._pieces.chunk() if self._pieces.in_chunk else self._pieces.line()

    async def _take(self, step: bytes) -> None:
        """Hands the engine one step and sees to the answer."""
        engine, answers = self._engine, self._answers
        if engine.state is State.CONTENT or (engine.in_content and engine.state is not State.CHUNKS):
            await self._strike_content()
            await self._hand_over(step)
            answers.flush()
            return
        self._show(step)
        verb = step.split(b" ", 1)[0].strip().upper()
        if verb == b"STARTTLS":  # what came with it must be seen, so that the engine can object
            step += self._pieces.take_all()
        phase = _ANSWERED_BY_ENGINE.get(verb) if engine.state is not State.AUTH else None
        ordered = None if phase is None else await answers.ordered(phase, self._transaction)
        if is_positive(ordered):
            await self._hand_over(step)
        await answers.confirm(ordered)

    async def _hand_over(self, step: bytes) -> None:
        self._engine.receive(step)
        while (event := self._engine.next_event()) is not None:
            await self._handle(event)

    # -- events

    async def _handle(self, event: e.Event) -> None:
        answers, transaction = self._answers, self._transaction
        match event:
            case e.Content(data) if transaction is not None:
                transaction.pieces.append(data)
            case c.Mail():
                begun = Transaction(event)
                answer = await answers.give(await answers.ordered(Phase.MAIL, begun), _SENDER_OK)
                self._transaction = begun if answer.is_positive else None
                self._in_content = False
            case e.Recipients(commands) if transaction is not None:
                for command in commands:
                    ordered = await answers.ordered(Phase.RCPT, transaction, [str(command.forward_path)])
                    answer = await answers.give(ordered, _RECIPIENT_OK)
                    if answer.is_positive:
                        transaction.recipients.append(command)
            case c.Data():
                await answers.give(await answers.ordered(Phase.DATA, transaction), _GO_ON)
                self._pieces.begin_content()
            case c.EndOfContent() if transaction is not None:
                await self._end(transaction)
            case e.Refused(answer):
                self._transaction = None
                answers.tell(answer)
            case e.Abandoned():
                self._transaction = None
            case e.Authenticate(_, Credentials() as credentials):
                await self._authenticate(credentials)
            case c.StartTls():
                await answers.give(await answers.ordered(Phase.STARTTLS, None), _START_TLS)

    async def _authenticate(self, credentials: Credentials) -> None:
        known = self._house.accounts.get(credentials.username) == credentials.password.reveal()
        ordered = await self._answers.ordered(Phase.AUTH, None)
        answer = await self._answers.give(ordered, _WELCOME if known else _WRONG)
        if answer.code == 235:
            self._username = credentials.username

    async def _strike_content(self) -> None:
        """The fault in mid-content, once for each message."""
        if self._in_content or self._transaction is None:
            return
        self._in_content = True
        ordered = await self._answers.ordered(Phase.CONTENT, self._transaction)
        if isinstance(ordered, CloseAfter) and ordered.reply is not None:
            self._answers.interject(ordered.reply)
            raise HangUp("hung up in mid-content, as ordered")

    async def _end(self, transaction: Transaction) -> None:
        """The content is whole: keeps it, unless ordered otherwise, and answers."""
        answers = self._answers
        ordered = await answers.ordered(Phase.DOT, transaction)
        self._transaction = None
        if ordered is None and (self._engine.options.lmtp or self._engine.prdr):
            await self._answer_each(transaction)
            return
        message = self._message(transaction)
        if is_positive(ordered):
            problem = self._kept(message)
            if problem is not None:
                answers.tell(problem)
                return
            ordered = await answers.ordered(Phase.AFTER_DOT, transaction) or ordered
        await answers.give(ordered, _kept_as(message))

    async def _answer_each(self, transaction: Transaction) -> None:
        """Keeps the message for those of whom nothing else was ordered, and answers for each."""
        engine, answers, lmtp = self._engine, self._answers, self._engine.options.lmtp
        replies: list[Reply] = []
        has: list[c.Rcpt] = []
        try:
            for command in transaction.recipients:
                ordered = await answers.ordered(Phase.VERDICT, transaction, [str(command.forward_path)])
                answer = verdict(ordered, reply(250, "2.0.0", f"Kept for {command.forward_path}"))
                replies.append(answer)
                if answer.is_positive:
                    has.append(command)
                if lmtp and len(replies) == len(transaction.recipients):
                    self._keep_for(transaction, has)  # before the last is told, as in SMTP
                if lmtp:
                    await answers.say_one(ordered, answer)
        except HangUp:
            self._keep_for(transaction, has)  # who was told yes has it
            raise
        if not lmtp:
            self._keep_for(transaction, has)
        engine.conclude(replies)
        if lmtp:
            engine.take_output()  # it was said one by one
        answers.flush()

    def _keep_for(self, transaction: Transaction, has: list[c.Rcpt]) -> None:
        """Keeps the message for these, once. Raises `HangUp` when it cannot be kept."""
        if not has or transaction.kept:
            return
        transaction.kept = True
        transaction.recipients = has
        problem = self._kept(self._message(transaction))
        if problem is not None:
            raise HangUp(problem.text)

    def _kept(self, message: StoredMessage) -> Reply | None:
        """Keeps a message; why that is not possible, or None."""
        try:
            self._house.watcher.kept(message)
        except OSError as error:
            return reply(452, "4.3.1", f"The message cannot be kept: {error.strerror or error}")
        self._house.mailbox.keep(message)
        return None

    def _message(self, transaction: Transaction) -> StoredMessage:
        engine, mail = self._engine, transaction.mail
        return StoredMessage(
            id=self._house.mailbox.next_id(),
            received_at=time.time(),
            session=self._number,
            client=self._stream.peer[0],
            client_name=engine.client_name,
            esmtp=engine.esmtp,
            tls=self._stream.tls,
            username=self._username,
            reverse_path=str(mail.reverse_path),
            parameters=tuple(mail.parameters.encode().split()),
            recipients=transaction.addresses,
            recipient_parameters=tuple(tuple(each.parameters.encode().split()) for each in transaction.recipients),
            content=b"".join(unstuffed(transaction.pieces)),
        )

    # -- the connection

    async def _handshake(self, *, from_the_start: bool = False) -> None:
        context = self._house.context
        if context is None:
            raise HangUp("there is no certificate")
        await self._stream.start_tls(context, self._house.timeout, server=True, from_the_start=from_the_start)

    def _show(self, line: bytes) -> None:
        line = line.rstrip(b"\r\n")
        if self._engine.state is State.AUTH:
            line = b"(a response)"
        elif line[:5].upper() == b"AUTH ":
            words = line.split(b" ")
            line = b" ".join(words[:2]) + (b" (a response)" if len(words) > 2 else b"")
        self._house.watcher.said(self._number, "client", line)
