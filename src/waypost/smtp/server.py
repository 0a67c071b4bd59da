"""The server's side: octets in, events out, replies back in.

The engine parses, checks order and syntax, counts errors, and answers by itself what needs no decision. What
does need one comes out of `next_event`, and the caller answers it with `answer`. Nothing that a client sends
raises an exception.

    engine.receive(data)
    while (event := engine.next_event()) is not None:
        ...                                  # decide
        engine.answer(reply)                 # unless the event only tells
    stream.write(engine.take_output())
"""

from collections.abc import Iterator

from waypost.smtp import commands as c
from waypost.smtp import events as e
from waypost.smtp import sasl, sasl_server
from waypost.smtp.buffer import Buffer, Fault, LineReader
from waypost.smtp.commands import Kind
from waypost.smtp.errors import LocalProtocolError
from waypost.smtp.incoming import Chunk, IncomingContent
from waypost.smtp.order import IN_TRANSACTION, NO_LMTP_RECIPIENT, ServerOptions, objection, own_answer
from waypost.smtp.parameters import NO_RCPT_PARAMETERS
from waypost.smtp.reply import Reply, reply
from waypost.smtp.scram_server import Sought, Verifier
from waypost.smtp.speaking import Speaking
from waypost.smtp.state import State
from waypost.smtp.wire import CommandError, parse

# Command lines may be 512 octets, MAIL and RCPT longer by what their parameters add (RFC 5321 section
# 4.5.3.1.4, RFC 3461 section 4), AUTH and its responses 12,288 (RFC 4954 section 4). Without the CRLF:
_MAX_LINE = 510
_MAX_LINES = {b"MAIL": 2046, b"RCPT": 2046, b"AUTH": 12286}
_MAX_RESPONSE = 12286
_LINE_STATES = frozenset({State.GREETED, State.READY, State.MAIL, State.RCPT, State.CHUNKS})
# Before Python 3.12 a member is looked up by the metaclass, which takes as long as what is done with it here.
_OPENING, _READY, _CONTENT, _CHUNKS = State.OPENING, State.READY, State.CONTENT, State.CHUNKS
_AUTH, _TLS, _CLOSED = State.AUTH, State.TLS, State.CLOSED
_MAX_PIPELINED = 100  # recipients that are handed out as one event

_FAULTS = {
    Fault.TOO_LONG: reply(500, "5.5.2", "The line is too long"),
    Fault.NO_CRLF: reply(500, "5.5.2", "A line ends with CRLF and has no other CR or LF in it"),
}
_END_OF_CONTENT = c.EndOfContent()
_CANCELLED = reply(501, "5.7.0", "Authentication was cancelled")
_EARLY = reply(554, "5.5.1", "The server speaks first")
_INJECTED = reply(554, "5.5.1", "Nothing may follow STARTTLS before the handshake")
_ERRORS = reply(421, "4.7.0", "Too many errors")
_LOST = reply(421, "4.5.4", "How many octets follow that BDAT is not known")
_NO_PROXY = reply(421, "4.7.0", "A PROXY header is taken from trusted proxies only")
_BLAMELESS = frozenset({452, 552, 554})  # limits reached, and DATA pipelined behind recipients that were refused


class ServerEngine(Speaking):
    """One session, seen from the server."""

    def __init__(self, options: ServerOptions, *, tls: bool = False) -> None:
        super().__init__(options)
        self.tls = tls
        self.authenticated = False
        self.client_name = ""
        self.esmtp = self.has_quit = False
        self._buffer = Buffer()
        self._lines = LineReader(self._buffer)
        self._queued: tuple[e.Event, Kind] | None = None  # the end of content, behind its last piece
        self.smtputf8 = False  # said with MAIL
        self._errors = 0
        self._exchange: sasl_server.Exchange | None = None
        self._content: IncomingContent | None = None
        self._chunk: Chunk | None = None
        self._ready: bytes | None = None  # a line that came alone, as most do: it need not pass the buffer
        self._early = self._told = False

    @property
    def in_content(self) -> bool:
        """Whether content is what comes next."""
        return self.state is _CONTENT or self.state is _CHUNKS or self._chunk is not None

    # -- out

    def greet(self, answer: Reply) -> None:
        """Opens the session with 220, or refuses it with 421 or 554."""
        self._pending, self._unanswered = Kind.CONNECT, 1
        self.answer(_EARLY if self._early else answer)

    def _settle(self, kind: Kind, last: Reply) -> None:
        """What an answer brings with it besides the state."""
        if kind is Kind.MAIL:
            self.recipients = 0
        elif kind is Kind.XCLIENT and last.code == 220:  # another client, that has said nothing yet
            self.authenticated = self.esmtp = False
        elif last.code == 235:
            self.authenticated = True
        elif kind is Kind.STARTTLS and self.state is State.TLS and (self._buffer or self._ready is not None):
            # Plain text behind STARTTLS would be carried out inside TLS (CVE-2011-0411).
            self._output[-1] = _INJECTED.encode()
            self.state = State.CLOSED

    def tls_started(self) -> None:
        """The handshake after STARTTLS is done: the session begins anew (RFC 3207 section 4.2)."""
        if self.state is not State.TLS:
            raise LocalProtocolError("STARTTLS was not accepted")
        self.state = State.GREETED
        self.tls = True
        self.client_name = ""

    def _refuse(self, answer: Reply, unparsed: bytes = b"") -> None:
        """Answers a command that cannot be carried out, and counts it unless the client could not know."""
        self._errors += answer.code not in _BLAMELESS and answer is not NO_LMTP_RECIPIENT
        self._output.append(answer.encode())
        if self._errors >= self.options.max_errors:
            self.close(_ERRORS)
        elif (farewell := _farewell(unparsed)) is not None:
            self.close(farewell)

    # -- in

    def receive(self, data: bytes) -> None:
        """Takes octets from the client."""
        state = self.state
        if state in _LINE_STATES and self._ready is None and self._chunk is None and not self._buffer:
            end = len(data) - 2
            if 0 <= end <= _MAX_LINE and data.find(b"\r\n") == end:
                self._ready = data[:end]
                return
        if state is _OPENING:
            self._early |= bool(data)
        elif state is not _CLOSED and state is not _TLS:
            if self._ready is not None:
                self._buffer.append(self._ready + b"\r\n")
                self._ready = None
            self._buffer.append(data)

    def next_event(self) -> e.Event | None:
        """The next thing to decide or to know; None when more octets are needed."""
        if self._pending is not None:
            raise LocalProtocolError("the last event was not answered")
        while (state := self.state) is not _CLOSED:
            if self._ready is not None:
                line, self._ready = self._ready, None
                found = self._command(line)
            elif self._queued is not None:
                (found, kind), self._queued = self._queued, None
                self._pending, self._unanswered = kind, 1
            elif self._chunk is not None:
                if not self._buffer and self._chunk.left:
                    return None
                found = self._read_chunk(self._chunk)
            elif not self._buffer or state is _TLS or state is _OPENING:
                return None
            elif state is _CONTENT:
                found = self._read_data()
            else:
                exchange = self._exchange if state is _AUTH else None
                cut = self._lines.next(_MAX_LINE if exchange is None else _MAX_RESPONSE, _MAX_LINES)
                if cut is None:
                    return None
                if isinstance(cut, Fault):
                    self.state = state if exchange is None else _READY  # the exchange is over
                    self._refuse(_FAULTS[cut], self._lines.faulty if exchange is None else b"")
                    continue
                if exchange is None:
                    found = self._command(cut)
                else:
                    self._pending, self._unanswered = Kind.RESPONSE, 1
                    found = self._advance(exchange, cut.decode("ascii", "backslashreplace"))
            if found is not None:
                return found
        told, self._told = self._told, True
        return None if told else e.Closed()

    def _command(self, line: bytes) -> e.Event | None:
        try:
            command = parse(line)
        except CommandError as error:
            self._refuse(error.reply, line)
            return None
        refusal = objection(command, self)
        if isinstance(command, c.Bdat):
            # Whatever is wrong with it, its octets follow and must be taken for what they are.
            self._chunk = Chunk(command, refusal)
            return None
        if refusal is not None:
            self._refuse(refusal)
            return None
        self._pending, self._unanswered = command.kind, 1
        if isinstance(command, c.Rcpt):
            return self._recipients_event(command) if self._buffer else e.Recipients((command,))
        if isinstance(command, c.Mail):
            self.smtputf8, self.prdr = command.parameters.smtputf8, command.parameters.prdr
            return command
        if isinstance(command, (c.Data, c.StartTls, c.Xclient)):
            return command
        if isinstance(command, c.Auth):
            self._exchange = sasl_server.serve(command.mechanism, command.initial)
            return self._advance(self._exchange, None)
        return self._answer_itself(command)

    def _answer_itself(self, command: c.Command) -> e.Event | None:
        """Carries out what needs nobody's decision."""
        in_transaction = self.state in IN_TRANSACTION
        self.answer(own_answer(command, self))
        if isinstance(command, (c.Ehlo, c.Helo, c.Lhlo)):
            self.client_name, self.esmtp = command.name, not isinstance(command, c.Helo)
        elif not isinstance(command, c.Rset):
            self.has_quit = isinstance(command, c.Quit) and not self._buffer
            return None
        self._content = None
        return e.Abandoned() if in_transaction else None

    def _recipients_event(self, first: c.Rcpt) -> e.Recipients:
        room = min(_MAX_PIPELINED, self.options.max_recipients - self.recipients)
        found = (first, *pipelined_recipients(self._buffer, room - 1, esmtp=self.esmtp, smtputf8=self.smtputf8))
        self._unanswered = len(found)
        return e.Recipients(found)

    # -- content

    def _read_data(self) -> e.Event | None:
        content = self._content = self._content or IncomingContent(self.options)
        piece = content.read_data(self._buffer)
        if content.ended:
            self._end(content, Kind.END)
        return e.Content(piece) if piece else None

    def _read_chunk(self, chunk: Chunk) -> e.Event | None:
        octets, command = chunk.take(self._buffer), chunk.command
        complete = chunk.left == 0
        if complete:
            self._chunk = None
        if chunk.refusal is not None:
            if complete:
                self._refuse(chunk.refusal)
            return None
        content = self._content = self._content or IncomingContent(self.options)
        piece = content.read_chunk(octets, last=command.last and complete)
        if complete and (command.last or content.finding is not None):
            self._end(content, command.kind)
        elif complete:
            self._pending, self._unanswered = Kind.CHUNK, 1
            self.answer(reply(250, "2.0.0", f"{command.size} octets received"))
        return e.Content(piece) if piece else None

    def _end(self, content: IncomingContent, kind: Kind) -> None:
        self._content = None
        self._queued = (_END_OF_CONTENT if content.finding is None else e.Refused(content.finding), kind)

    # -- authentication

    def _advance(self, exchange: sasl_server.Exchange, response: str | None) -> e.Event | None:
        """Goes on with the exchange: a challenge, a failure, or somebody to be looked up."""
        found = exchange.advance(response)
        if isinstance(found, str):
            self.answer(Reply(334, (found,)))
        elif isinstance(found, sasl.SaslError):
            self._pending, self.state = None, State.READY  # the exchange is over
            self._refuse(_CANCELLED if isinstance(found, sasl.CancelledError) else _invalid(found))
        else:
            return _question(exchange.mechanism, found)
        return None

    def supply(self, verifier: Verifier, nonce: str) -> None:
        """Answers `VerifierWanted` with what is stored, and a fresh random nonce. A refusal is an `answer` instead."""
        assert self._exchange is not None  # noqa: S101  # it has asked
        self.answer(Reply(334, (self._exchange.supply(verifier, nonce),)))


def _question(mechanism: str, found: sasl_server.Claim | Sought) -> e.Event:
    if isinstance(found, Sought):
        return e.VerifierWanted(mechanism, found.username)
    return e.Authenticate(mechanism, found)


def _farewell(unparsed: bytes) -> Reply | None:
    """What ends the session after a line that could not be carried out, if it says that no other can be."""
    if unparsed[:4].upper() == b"BDAT":
        return _LOST  # its octets would be taken for commands
    if unparsed[:6] == b"PROXY " or unparsed == b"\0":  # of version 2 that is the third line
        return _NO_PROXY  # whoever speaks here is not who is connected
    return None


def _invalid(error: sasl.SaslError) -> Reply:
    return reply(501, "5.5.2", f"That was no valid response: {error}")


def pipelined_recipients(buffer: Buffer, room: int, *, esmtp: bool, smtputf8: bool) -> Iterator[c.Rcpt]:
    """Takes the RCPT commands that stand next in the buffer, at most `room`, as long as nothing is wrong with them."""
    while room > 0 and buffer.peek(4).upper() == b"RCPT":
        line = buffer.peek_line()
        if line is None or len(line) > _MAX_LINES[b"RCPT"]:
            return
        try:
            command = parse(line)
        except CommandError:
            return
        if not isinstance(command, c.Rcpt) or not (esmtp or command.parameters is NO_RCPT_PARAMETERS):
            return
        if not smtputf8 and not command.is_ascii:
            return
        buffer.line()
        room -= 1
        yield command
