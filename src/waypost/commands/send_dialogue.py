"""The session of `waypost send`: one message to one server, one command at a time, and every line that was said."""

import asyncio
import ipaddress
import os
import secrets
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field

from waypost.commands import FAILED, FINE, TEMPORARY, UNREACHABLE
from waypost.commands.foreground import shown_address
from waypost.commands.send_transcript import Conversation, Line, Report
from waypost.net.certificates import CertificateError, upstream_context
from waypost.net.channel_binding import server_end_point
from waypost.net.connect import ResolveError, connect, connect_unix, resolve
from waypost.net.stream import StreamTimeoutError
from waypost.routing.route import UpstreamTls
from waypost.smtp import commands as c
from waypost.smtp import sasl
from waypost.smtp.address import Address
from waypost.smtp.errors import ProtocolError
from waypost.smtp.mechanisms import ClientExchange, Proof, mechanism, order
from waypost.smtp.parameters import MailParameters
from waypost.smtp.reply import Reply
from waypost.smtp.state import State
from waypost.smtp.verdicts import overall

PHASES = ("greeting", "ehlo", "starttls", "auth", "mail", "rcpt")
"""After which the session may be ended early, in their order."""


@dataclass(frozen=True, slots=True)
class Request:
    """What to send where. `content` is in wire form and ends with CRLF; times are in seconds."""

    host: str
    port: int
    tls: UpstreamTls
    ehlo: str
    reverse_path: Address
    recipients: tuple[Address, ...]
    content: bytes = field(repr=False)
    credentials: sasl.Credentials | None = None
    mechanism: str | None = None
    timeout: float = 30
    quit_after: str | None = None
    lmtp: bool = False

    @property
    def is_unix(self) -> bool:
        """Whether `host` is the path of a socket."""
        return self.host.startswith("/")


class _Ended(Exception):  # noqa: N818 # it is how a session ends, not always an error
    """The session is over, with an exit code and a sentence that says why."""

    def __init__(self, exit_code: int, summary: str) -> None:
        super().__init__(summary)
        self.exit_code = exit_code


class Sending:
    """One session. `show` is given each line of the transcript as it is said."""

    def __init__(self, request: Request, show: Callable[[Line], None]) -> None:
        self._request = request
        self._talk = Conversation(show, request.timeout)

    async def run(self) -> Report:
        """Sends the message. Whatever the server does, it ends in the report."""
        report = self._talk.report
        try:
            await self._run()
        except _Ended as end:
            report.exit_code, report.summary = end.exit_code, str(end)
        if self._talk.stream is not None:
            self._talk.stream.close()
        return report

    async def _run(self) -> None:
        request = self._request
        try:
            await self._open()
            await self._transaction()
        except StreamTimeoutError:
            self._talk.say("problem", f"no answer within {request.timeout:g} s")
            raise _Ended(TEMPORARY, f"the server gave no answer within {request.timeout:g} s") from None
        except ConnectionError as error:
            self._talk.say("problem", str(error))
            raise _Ended(TEMPORARY, str(error)) from None
        except ProtocolError as error:
            self._talk.say("problem", f"this is not SMTP: {error}")
            raise _Ended(FAILED, f"the server broke the protocol: {error}") from None

    # -- steps

    async def _open(self) -> None:
        tls = self._request.tls
        await self._connect()
        if tls.mode == "implicit":
            await self._start_tls()
        await self._must(await self._talk.answer("greeting"), "greeting")
        await self._quit_after("greeting")
        await self._hello()
        await self._quit_after("ehlo")
        if tls.mode in ("starttls", "opportunistic"):
            await self._upgrade(required=tls.mode == "starttls")
        await self._quit_after("starttls")
        if self._request.credentials is not None:
            await self._authenticate(self._request.credentials)
        await self._quit_after("auth")

    async def _connect(self) -> None:
        request = self._request
        where = shown_address(request.host, request.port)
        self._talk.say("note", f"connecting to {where}")
        try:
            async with asyncio.timeout(request.timeout):
                if request.is_unix:
                    self._talk.stream = await connect_unix(request.host)
                else:
                    self._talk.stream = await connect(await resolve(request.host, request.port))
        except TimeoutError:
            why = f"no connection within {request.timeout:g} s"
        except ResolveError as error:
            why = str(error)
        except OSError as error:
            why = os.strerror(error.errno) if error.errno else str(error)
        else:
            there = (request.host, 0) if request.is_unix else self._talk.stream.peer
            self._talk.say("note", f"connected to {shown_address(*there)}")
            return
        self._talk.say("problem", why)
        raise _Ended(UNREACHABLE, f"{where} cannot be reached: {why}")

    async def _hello(self) -> None:
        name = self._request.ehlo
        if self._request.lmtp:
            await self._must(await self._talk.ask(c.Lhlo(name), "ehlo"), "lhlo")
            return
        answer = await self._talk.ask(c.Ehlo(name), "ehlo")
        if answer.code in (500, 502, 504):  # RFC 5321 section 3.2
            answer = await self._talk.ask(c.Helo(name), "ehlo")
        await self._must(answer, "ehlo")

    async def _upgrade(self, *, required: bool) -> None:
        if not self._talk.engine.extensions.starttls:
            if required:
                self._talk.say("problem", "STARTTLS is required and not offered")
                await self._quit()
                raise _Ended(FAILED, "the server does not offer STARTTLS, which --tls starttls requires")
            return
        answer = await self._talk.ask(c.StartTls(), "starttls")
        if not answer.is_positive:
            if required or answer.code == 421:
                await self._must(answer, "starttls")
            return
        self._talk.engine.tls_started()
        await self._start_tls()
        await self._hello()

    async def _start_tls(self) -> None:
        request, stream = self._request, self._talk.connected
        name = request.tls.server_name or (None if request.is_unix else request.host)
        try:
            context = upstream_context(request.tls)
            await stream.start_tls(context, request.timeout, server=False, server_name=name)
        except (ssl.SSLError, CertificateError, ValueError) as error:
            why = getattr(error, "verify_message", None) or getattr(error, "reason", None) or str(error)
            self._talk.say("problem", f"TLS failed: {why}")
            raise _Ended(FAILED, f"TLS failed: {why}") from None
        self._talk.report.tls = stream.tls
        trusted = "verified" if context.verify_mode is ssl.CERT_REQUIRED else "not verified"
        self._talk.say("note", f"TLS: {stream.tls}, certificate {trusted}")

    async def _authenticate(self, credentials: sasl.Credentials) -> None:
        if self._talk.connected.tls is None and self._request.tls.mode != "off" and not self._is_loopback():
            self._talk.say("problem", "the password is not sent in the clear")
            await self._quit()
            raise _Ended(FAILED, "there is no TLS, and the password is not sent in the clear unless --tls off says so")
        exchange = self._exchange(credentials)
        answer = await self._talk.ask(exchange.begin(), "auth")
        try:
            while answer.code == 334:
                answer = await self._talk.ask(exchange.advance(answer.text), "auth")
            if answer.is_positive:
                exchange.finish()
        except sasl.SaslError as error:
            self._talk.say("problem", f"{exchange.name}: {error}")
            if answer.code == 334:
                await self._talk.ask(c.AuthResponse("*"), "auth")
            await self._quit()
            raise _Ended(FAILED, f"AUTH {exchange.name} failed: {error}") from None
        if exchange.complaint:
            self._talk.say("note", f"the server's reason: {exchange.complaint}")
        await self._must(answer, "auth")

    def _exchange(self, credentials: sasl.Credentials) -> ClientExchange:
        """By the mechanism that was asked for, or the best that is offered."""
        request, wanted = self._request, self._request.mechanism
        offered = self._talk.engine.extensions.auth
        binding = server_end_point(self._talk.connected.peer_certificate)
        tls = request.tls
        names = order(
            offered if wanted is None else (),  # what is asked for is tried, offered or not: this is for testing
            wanted=wanted,
            token=False,
            private=tls.mode in ("starttls", "implicit") and tls.verify,
            binding=binding is not None,
            delegate=False,
        )
        if not names:
            raise _Ended(FAILED, f"AUTH is offered with {', '.join(offered)}, none of which takes a password")
        proof = Proof(credentials.username, credentials.password, None, request.host, request.port)
        try:
            return ClientExchange(names[0], mechanism(names[0], proof, secrets.token_urlsafe(24), binding))
        except sasl.SaslError as error:
            raise _Ended(FAILED, f"AUTH {names[0]} cannot be used: {error}") from None

    def _is_loopback(self) -> bool:
        return self._request.is_unix or ipaddress.ip_address(self._talk.connected.peer[0].partition("%")[0]).is_loopback

    async def _transaction(self) -> None:
        request, offered = self._request, self._talk.engine.extensions
        ascii_only = request.content.isascii()
        utf8 = not all(address.is_ascii for address in (request.reverse_path, *request.recipients))
        parameters = MailParameters(
            size=None if offered.size is None else len(request.content),
            body="8BITMIME" if offered.eightbitmime and not ascii_only else None,
            smtputf8=utf8 and offered.smtputf8,
        )
        await self._must(await self._talk.ask(c.Mail(request.reverse_path, parameters), "mail"), "mail")
        await self._quit_after("mail")
        answers = []
        for recipient in request.recipients:
            answers.append(await self._talk.ask(c.Rcpt(recipient), "rcpt"))
            if answers[-1].code == 421:  # the session is over
                await self._must(answers[-1], "rcpt")
        accepted = [r for r, answer in zip(request.recipients, answers, strict=True) if answer.is_positive]
        refused = [answer for answer in answers if not answer.is_positive]
        await self._quit_after("rcpt", refused)
        if not accepted:
            await self._quit()
            raise _Ended(_code(refused), f"refused at rcpt: {refused[0]}")
        answer = await self._talk.ask(c.Data(), "data")
        if answer.code != 354:
            await self._must(answer, "data")
        answer = await self._talk.send_content(request.content)
        verdicts = self._talk.engine.verdicts
        told = () if verdicts is None else verdicts.completed(answer)
        if told:
            refused += [each for each in told if not each.is_positive]
            accepted = [r for r, each in zip(accepted, told, strict=True) if each.is_positive]
            answer = overall(told)
        await self._must(answer, "content")
        self._talk.report.accepted = accepted
        await self._quit()
        if refused:
            of = f"{len(accepted)} of {len(answers)} recipients"
            raise _Ended(_code(refused), f"accepted for {of}: {answer}; but refused: {refused[0]}")
        raise _Ended(FINE, f"accepted: {answer}")

    async def _must(self, answer: Reply, phase: str) -> None:
        """Goes on if the answer is yes."""
        if not answer.is_positive:
            await self._quit()
            raise _Ended(_code([answer]), f"refused at {phase}: {answer}")

    async def _quit_after(self, phase: str, refused: list[Reply] | None = None) -> None:
        if self._request.quit_after == phase:
            await self._quit()
            if refused:
                raise _Ended(_code(refused), f"refused at {phase}: {refused[0]}")
            raise _Ended(FINE, f"ended after {phase}, as asked")

    async def _quit(self) -> None:
        """Says QUIT. What is answered is shown, and changes nothing."""
        if self._talk.engine.state in (State.CLOSED, State.TLS):
            return
        try:
            await self._talk.ask(c.Quit(), "quit")
        except (ProtocolError, ConnectionError, StreamTimeoutError) as error:
            why = str(error) or "silence"
            self._talk.say("problem", f"no proper answer to QUIT, which does not matter: {why}")


def _code(refused: list[Reply]) -> int:
    """The exit code for refusals: temporary only when all of them are."""
    return TEMPORARY if all(answer.severity == 4 for answer in refused) else FAILED
