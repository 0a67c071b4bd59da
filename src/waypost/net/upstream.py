"""One connection to an upstream: opened, greeted, secured, authenticated, and then used for transactions.

Everything here returns a `Reply`, or a `Failure` when there was none; nothing raises for what an upstream
does. Secrets are revealed only in the line that carries them.
"""

import asyncio
import ssl
from collections.abc import Sequence

from waypost.mail.content import Content
from waypost.mail.outcome import Answer, Cause, Failure, Phase, Stopped
from waypost.net.certificates import CertificateError, fingerprint, upstream_context
from waypost.net.connect import ResolveError, connect, resolve
from waypost.net.stream import InterruptedReadError, Stream, StreamTimeoutError
from waypost.routing.route import Timeouts, Upstream
from waypost.smtp import commands as c
from waypost.smtp import sasl
from waypost.smtp.client import ClientEngine, Extensions
from waypost.smtp.content import unstuffed
from waypost.smtp.errors import ProtocolError
from waypost.smtp.reply import Reply
from waypost.smtp.state import State

_GROUP = 100  # recipients in one write, so that neither side's buffers fill while it is still writing
_MIN_CHUNK = 64 * 1024  # for BDAT


class UpstreamConnection:
    """A session with one upstream, seen from its client."""

    def __init__(self, upstream: Upstream, hostname: str, now: float) -> None:
        self.upstream = upstream
        self.opened_at = now
        self.idle_since = now
        self.transactions = 0
        self._hostname = hostname
        self._engine = ClientEngine()
        self._stream: Stream | None = None

    def __repr__(self) -> str:
        state = "closed" if self.is_closed else self._engine.state.name.lower()
        return f"<{self.upstream.name} {state}, {self.transactions} transactions>"

    # -- facts

    @property
    def extensions(self) -> Extensions:
        """What the upstream offers."""
        return self._engine.extensions

    @property
    def reused(self) -> bool:
        """Whether this is not the connection's first transaction."""
        return self.transactions > 1

    @property
    def tls(self) -> str | None:
        """Version and cipher, or None."""
        return None if self._stream is None else self._stream.tls

    @property
    def is_closed(self) -> bool:
        """Whether nothing can be sent any more."""
        stream = self._stream
        return stream is None or stream.lost or stream.at_eof or self._engine.state is State.CLOSED

    @property
    def is_fresh(self) -> bool:
        """Whether an idle connection is as it was left: open, and nothing said by the upstream meanwhile.

        The answer to our own RSET may be waiting.
        """
        stream = self._stream
        return not self.is_closed and stream is not None and (not stream.has_data or not self._engine.is_idle)

    # -- opening

    async def open(self, timeouts: Timeouts) -> Stopped | None:
        """Connects, greets, starts TLS and authenticates as configured.

        Returns None when the connection is ready, else what went wrong, with the reply where there was one.
        """
        # A task of its own: asyncio.timeout wants one.
        problem = await asyncio.create_task(self._connect(timeouts))
        if problem is None and self.upstream.tls.mode == "implicit":
            problem = await self._start_tls(timeouts)
        if problem is not None:
            return Stopped(problem.phase, problem)
        (greeting,) = await self._answers((Phase.GREETING,), timeouts.greeting)
        if not _is_positive(greeting):
            return Stopped(Phase.GREETING, greeting)
        refused = await self._hello(timeouts)
        if refused is None and self.upstream.tls.mode in ("opportunistic", "starttls"):
            refused = await self._upgrade(timeouts)
        if refused is None and self.upstream.credentials is not None:
            refused = await self._authenticate(self.upstream.credentials, timeouts)
        return refused

    async def _connect(self, timeouts: Timeouts) -> Failure | None:
        upstream = self.upstream
        phase = Phase.RESOLVE
        try:
            async with asyncio.timeout(timeouts.connect):
                endpoints = await resolve(upstream.host, upstream.port)
                phase = Phase.CONNECT
                self._stream = await connect(endpoints)
        except TimeoutError:
            return Failure(phase, Cause.TIMEOUT, f"no connection within {timeouts.connect:g} s")
        except ResolveError as error:
            return Failure(Phase.RESOLVE, Cause.UNREACHABLE, str(error))
        except OSError as error:
            return Failure(Phase.CONNECT, Cause.UNREACHABLE, error.strerror or str(error))
        return None

    async def _hello(self, timeouts: Timeouts) -> Stopped | None:
        answer = await self._ask(c.Ehlo(self._hostname), Phase.EHLO, timeouts.command)
        if isinstance(answer, Reply) and answer.code in (500, 502, 504):  # RFC 5321 section 3.2
            answer = await self._ask(c.Helo(self._hostname), Phase.EHLO, timeouts.command)
        return None if _is_positive(answer) else Stopped(Phase.EHLO, answer)

    async def _upgrade(self, timeouts: Timeouts) -> Stopped | None:
        required = self.upstream.tls.mode == "starttls"
        if not self.extensions.starttls:
            return self._stop(Phase.STARTTLS, Cause.TLS, "STARTTLS is required and not offered") if required else None
        answer = await self._ask(c.StartTls(), Phase.STARTTLS, timeouts.command)
        if not _is_positive(answer):
            return Stopped(Phase.STARTTLS, answer) if required or isinstance(answer, Failure) else None
        try:
            self._engine.tls_started()
        except ProtocolError as error:
            return self._stop(Phase.STARTTLS, Cause.PROTOCOL, str(error))
        problem = await self._start_tls(timeouts)
        if problem is not None:
            return Stopped(problem.phase, problem)
        return await self._hello(timeouts)

    async def _start_tls(self, timeouts: Timeouts) -> Failure | None:
        tls, stream = self.upstream.tls, self._stream
        assert stream is not None  # noqa: S101 # only called when connected
        try:
            context = upstream_context(tls)
            name = tls.server_name or self.upstream.host
            await stream.start_tls(context, timeouts.greeting, server=False, server_name=name)
        except StreamTimeoutError:
            return self._broken(Phase.TLS, Cause.TIMEOUT, "the TLS handshake did not end")
        except (ssl.CertificateError, CertificateError) as error:
            return self._broken(Phase.TLS, Cause.CERTIFICATE, _ssl_text(error))
        except (ssl.SSLError, ConnectionError, ValueError) as error:
            return self._broken(Phase.TLS, Cause.TLS, _ssl_text(error))
        if tls.fingerprints:
            shown = fingerprint(stream.peer_certificate or b"")
            if shown not in tls.fingerprints:
                return self._broken(Phase.TLS, Cause.CERTIFICATE, f"the certificate's fingerprint is {shown}")
        return None

    async def _authenticate(self, credentials: sasl.Credentials, timeouts: Timeouts) -> Stopped | None:
        if self.tls is None and not self.upstream.allow_plaintext_auth:
            text = "credentials are not sent in the clear; allow_plaintext_auth would"
            return self._stop(Phase.AUTH, Cause.PLAINTEXT, text)
        offered = self.extensions.auth
        answer: Answer
        if "PLAIN" in offered or not offered:
            answer = await self._ask(c.Auth("PLAIN", sasl.plain_response(credentials)), Phase.AUTH, timeouts.command)
        elif "LOGIN" in offered:
            answer = await self._ask(c.Auth("LOGIN"), Phase.AUTH, timeouts.command)
            for secret in (credentials.username, credentials.password.reveal()):
                if isinstance(answer, Reply) and answer.code == 334:
                    answer = await self._ask(c.AuthResponse(sasl.encode(secret)), Phase.AUTH, timeouts.command)
        else:
            return self._stop(Phase.AUTH, Cause.TLS, f"AUTH is offered with {', '.join(offered)}, not PLAIN or LOGIN")
        return None if _is_positive(answer) else Stopped(Phase.AUTH, answer)

    # -- transactions

    async def begin(
        self, mail: c.Mail, recipients: Sequence[c.Rcpt], timeouts: Timeouts
    ) -> tuple[Answer, Sequence[Answer]]:
        """MAIL and RCPT, in one write where the upstream offers PIPELINING; the answer to each.

        The recipients' answers are missing when MAIL was not accepted.
        """
        self.transactions += 1
        if not self._engine.is_idle:  # the answer to RSET
            (answer,) = await self._answers((Phase.MAIL,), timeouts.command)
            if isinstance(answer, Failure):
                return answer, ()
        if not self.extensions.pipelining or len(recipients) > _GROUP:
            answer = await self._ask(mail, Phase.MAIL, timeouts.command)
            if not _is_positive(answer):
                return answer, ()
            return answer, await self.add(recipients, timeouts)
        phases = (Phase.MAIL, *(Phase.RCPT,) * len(recipients))
        answers = await self._exchange((mail, *recipients), phases, timeouts.command)
        first = answers[0]
        return first, answers[1:] if _is_positive(first) else ()

    async def add(self, recipients: Sequence[c.Rcpt], timeouts: Timeouts) -> Sequence[Answer]:
        """More recipients of the transaction under way; the answer to each."""
        answers: list[Answer] = []
        step = _GROUP if self.extensions.pipelining else 1
        for start in range(0, len(recipients), step):
            group = recipients[start : start + step]
            answers += await self._exchange(group, (Phase.RCPT,) * len(group), timeouts.command)
        return answers

    async def send(self, content: Content, timeouts: Timeouts) -> tuple[Phase, Answer]:
        """The content. Tells how far it came: at `Phase.DOT` the upstream may have accepted, answer or not."""
        if not content.ends_line and self.extensions.chunking:
            return await self._send_chunks(content, timeouts)
        answer = await self._ask(c.Data(), Phase.DATA, timeouts.data)
        if isinstance(answer, Failure) or answer.code != 354:
            return Phase.DATA, answer
        end = (b"" if content.ends_line else b"\r\n") + self._engine.send(c.EndOfContent())
        return await self._send_all(content, end, timeouts)

    async def _send_all(self, content: Content, end: bytes, timeouts: Timeouts) -> tuple[Phase, Answer]:
        stream = self._stream
        assert stream is not None  # noqa: S101 # a transaction is under way
        held = b""
        try:
            # One piece is held back, so that the last one and the dot leave in one write.
            for piece in content.chunks():
                if held:
                    stream.write(held)
                    if stream.must_drain:
                        await stream.drain(timeouts.block)
                    if stream.at_eof or stream.is_broken or stream.has_data:
                        return Phase.CONTENT, await self._early_answer(timeouts)
                held = piece
        except StreamTimeoutError:
            return Phase.CONTENT, self._broken(Phase.CONTENT, Cause.TIMEOUT, "the upstream takes no more content")
        except OSError as error:
            return Phase.CONTENT, self._broken(Phase.CONTENT, Cause.LOCAL, f"the content cannot be read: {error}")
        return await self._end(held + end, timeouts)

    async def _end(self, last: bytes, timeouts: Timeouts) -> tuple[Phase, Answer]:
        """The last octets of the content. Until they have left this process, nothing can have been accepted."""
        stream = self._stream
        if stream is None or stream.at_eof or stream.is_broken or stream.has_data:
            return Phase.CONTENT, await self._early_answer(timeouts)
        stream.write(last)
        try:
            if stream.must_drain:
                await stream.drain(timeouts.block)
        except StreamTimeoutError:
            return Phase.CONTENT, self._broken(Phase.CONTENT, Cause.TIMEOUT, "the upstream takes no more content")
        if stream.is_broken and stream.must_drain:
            return Phase.CONTENT, await self._early_answer(timeouts)
        (answer,) = await self._answers((Phase.DOT,), timeouts.dot)
        return Phase.DOT, answer

    async def _early_answer(self, timeouts: Timeouts) -> Answer:
        """Why the upstream does not want the rest of the content. The connection is of no more use."""
        (answer,) = await self._answers((Phase.CONTENT,), timeouts.command)
        if isinstance(answer, Reply) and answer.is_positive:
            return self._broken(Phase.CONTENT, Cause.PROTOCOL, f"an answer before the end of the content: {answer}")
        self.abort()
        return answer

    async def _send_chunks(self, content: Content, timeouts: Timeouts) -> tuple[Phase, Answer]:
        """By BDAT, for content whose last line has no end: DATA would have to add one."""
        pending = b""
        for piece in unstuffed(content.chunks()):
            if len(pending) >= _MIN_CHUNK:
                answer = await self._ask(c.Bdat(len(pending)), Phase.CONTENT, timeouts.block, behind=pending)
                if not _is_positive(answer):
                    return Phase.CONTENT, answer
                pending = b""
            pending += piece
        return await self._end(self._engine.send(c.Bdat(len(pending), last=True)) + pending, timeouts)

    def reset(self) -> None:
        """Ends a transaction that did not come to its content. The answer is read by whoever comes next."""
        if not self.is_closed and self._stream is not None and self._engine.is_idle:
            if self._engine.state in (State.MAIL, State.RCPT, State.CHUNKS):
                self._stream.write(self._engine.send(c.Rset()))
        else:
            self.abort()

    @property
    def in_transaction(self) -> bool:
        """Whether the connection cannot be given to somebody else as it is."""
        return self._engine.state not in (State.READY, State.CLOSED)

    def quit(self) -> None:
        """Says QUIT, whose answer interests nobody, and closes."""
        if self._stream is not None:
            if not self.is_closed and self._engine.is_idle and self._engine.state is State.READY:
                self._stream.write(self._engine.send(c.Quit()))
            self._stream.close()

    def abort(self) -> None:
        """Closes without a word."""
        if self._stream is not None:
            self._stream.abort()
            self._stream = None

    # -- one step

    async def _ask(self, command: c.Command, phase: Phase, timeout: float, behind: bytes = b"") -> Answer:
        (answer,) = await self._exchange((command,), (phase,), timeout, behind)
        return answer

    async def _exchange(
        self, commands: Sequence[c.Command], phases: Sequence[Phase], timeout: float, behind: bytes = b""
    ) -> list[Answer]:
        if self._stream is None or self._engine.state is State.CLOSED:
            return [Failure(phase, Cause.CLOSED, "the connection is closed") for phase in phases]
        try:
            self._stream.write(self._engine.send(*commands) + behind)
        except ProtocolError as error:
            return [self._broken(phase, Cause.PROTOCOL, str(error)) for phase in phases]
        return await self._answers(phases, timeout)

    async def _answers(self, phases: Sequence[Phase], timeout: float) -> list[Answer]:
        """The next answers, one for each phase; from a failure on, that failure for each."""
        answers: list[Answer] = []
        count = len(phases)
        cause, text = Cause.CLOSED, "the upstream closed the connection"
        try:
            while len(answers) < count and self._stream is not None:
                data = await self._stream.read(timeout)
                if not data:
                    break
                for _, answer in self._engine.receive(data):
                    answers.append(answer)
                if answers and self._engine.state is State.CLOSED:  # 421: nothing more will come
                    answers += [answers[-1]] * (count - len(answers))
            if len(answers) == count:
                return answers
        except StreamTimeoutError:
            cause, text = Cause.TIMEOUT, f"no answer within {timeout:g} s"
        except ProtocolError as error:
            cause, text = Cause.PROTOCOL, str(error)
            answers.clear()  # replies may have been paired with the wrong commands
        except InterruptedReadError:
            cause, text = Cause.SHUTDOWN, "Waypost is stopping"
        return answers + [self._broken(phase, cause, text) for phase in phases[len(answers) :]]

    def _stop(self, phase: Phase, cause: Cause, text: str) -> Stopped:
        return Stopped(phase, self._broken(phase, cause, text))

    def _broken(self, phase: Phase, cause: Cause, text: str) -> Failure:
        self.abort()
        return Failure(phase, cause, text)


def _is_positive(answer: Answer) -> bool:
    return isinstance(answer, Reply) and answer.is_positive


def _ssl_text(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    return getattr(error, "reason", None) or str(error) or type(error).__name__
