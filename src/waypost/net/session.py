"""One session with a client: octets into the engine, events to the handler, replies back.

The session knows nothing of routing or upstreams: what happens to mail is behind `MailHandler`. It knows the
connection: time-outs, TLS, who the client is, and how a session ends.
"""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import product
from typing import Literal, Protocol

from waypost.mail.message import Client
from waypost.net.accepted import Accepted
from waypost.net.announcing import told_client
from waypost.net.authentication import Limited
from waypost.net.certificates import ServerCertificate
from waypost.net.client_certificates import ShownCertificate, shown
from waypost.net.concluding import conclude
from waypost.net.handler import MailHandler, Transaction
from waypost.net.handshake import secure
from waypost.net.parting import linger
from waypost.net.settings import ListenerSettings
from waypost.net.stream import InterruptedReadError, StreamTimeoutError, names_of_peer
from waypost.routing.route import Account
from waypost.smtp import commands as c
from waypost.smtp import events as e
from waypost.smtp.order import ServerOptions
from waypost.smtp.reply import Reply, reply
from waypost.smtp.sasl_server import EXTERNAL, Asserted, Claim
from waypost.smtp.scram_server import Verifier
from waypost.smtp.server import ServerEngine
from waypost.smtp.state import State
from waypost.smtp.xattributes import Attributes

SessionEvent = Literal[
    "connected", "closed", "auth_failed", "auth_succeeded", "tls_failed", "proxy_failed", "told", "limited"
]

_CLOSED, _TLS = State.CLOSED, State.TLS  # at hand: before Python 3.12 members are looked up by the metaclass
_AT_ONCE = 16 * 1024  # octets of commands that are carried out before other sessions have their turn
_LINGER = 2.0  # seconds for a client to read why it is being turned away
_MAX_FAILED_AUTH = 3
_MAX_TOLD = 256  # characters of a user name in the log

_GO_ON = reply(354, None, "Go on, and end with <CRLF>.<CRLF>")
_SENDER_OK = reply(250, "2.1.0", "Sender OK")
_START_TLS = reply(220, "2.0.0", "Start TLS")
_WELCOME = reply(235, "2.7.0", "Welcome")
_WRONG = reply(535, "5.7.8", "User name or password is wrong")
_LIMITED = reply(454, "4.7.0", "Too many attempts to authenticate have failed; try again later")
_TOO_MANY_GUESSES = reply(421, "4.7.0", "Too many failed attempts to authenticate")
_SILENT = reply(421, "4.4.2", "You were silent for too long")
_STOPPING = reply(421, "4.3.2", "Waypost is being stopped; come back in a moment")
_FAULT = reply(421, "4.3.0", "A fault of ours; try again later")


def _protocol(esmtp: bool, secure: bool, known: bool, utf8: bool) -> str:
    """The word for `Received` (RFC 3848, RFC 6531 section 4.3)."""
    ending = f"SMTP{'S' if secure else ''}{'A' if known else ''}"
    return f"UTF8{ending}" if utf8 else f"E{ending}" if esmtp else "SMTP"


def _lmtp_protocol(secure: bool, known: bool, utf8: bool) -> str:
    return f"{'UTF8' if utf8 else ''}LMTP{'S' if secure else ''}{'A' if known else ''}"


@lru_cache(maxsize=8)
def _greeting(hostname: str, lmtp: bool) -> Reply:
    return reply(220, None, f"{hostname} {'LMTP' if lmtp else 'ESMTP'} Waypost")


_PROTOCOLS = {facts: _protocol(*facts) for facts in product((False, True), repeat=4)}
_LMTP_PROTOCOLS = {facts: _lmtp_protocol(*facts[1:]) for facts in _PROTOCOLS}


class SessionLog(Protocol):
    """What a session reports besides mail."""

    def session(self, client: Client, event: SessionEvent, **facts: str) -> None:
        """Something about the connection."""


class Checker(Protocol):
    """Who may log in."""

    def mechanisms(self, wanted: Sequence[str]) -> tuple[str, ...]:
        """What a listener that wants these mechanisms offers; without any, what every account can use."""

    def certified(self, shown: ShownCertificate) -> Account | None:
        """Whose certificate this is; it has been verified."""

    async def verifier(self, username: str, address: str) -> Verifier | Limited:
        """What SCRAM needs of an account, or something like it for a name that has none."""

    async def check(self, claim: Claim, address: str, certified: Account | None = None) -> Account | Limited | None:
        """The account, or None. `certified` is whose certificate the client has shown."""

    def account(self, username: str) -> Account | None:
        """The account that a trusted proxy has checked already, or None."""


Move = Callable[["Session", Client, ServerOptions], ServerOptions | Reply]
"""Asks the listener whether a session may be another client's: what it is offered, instead of these, or why not."""


class Session:
    """One client's session on one listener."""

    def __init__(
        self,
        stream: Accepted,
        settings: ListenerSettings,
        options: ServerOptions,
        handler: MailHandler,
        checker: Checker,
        log: SessionLog,
        certificate: ServerCertificate | None,
        move: Move,
    ) -> None:
        self._stream = stream
        self._settings = settings
        self._handler = handler
        self._checker = checker
        self._log = log
        self._certificate = certificate
        self._move = move
        if options.auth and (offered := checker.mechanisms(settings.mechanisms)) != options.mechanisms:
            options = replace(options, mechanisms=offered)
        self._engine = ServerEngine(options)
        address, port = stream.peer
        self._client = Client(settings.name, address, port, submission=settings.mode == "submission")
        self._transaction: Transaction | None = None
        self._certified: Account | None = None
        self._failed_auth = 0
        self._stopping = self._was_told = False

    @property
    def client(self) -> Client:
        """Who is connected, as far as it is known."""
        return self._client

    async def run(self, refusal: Reply | None = None) -> None:
        """Serves the client until the session ends. `refusal` turns it away with its greeting."""
        self._log.session(self._client, "connected", **self._stream.facts)
        why = "fault"
        try:
            why = await self._serve(refusal)
        except StreamTimeoutError:
            why = "silent"
            self._give_up(f"the session ended: {why}")  # before the farewell, which may take its time
            await self._part(_SILENT)
        except ConnectionError:
            why = "lost"
        except Exception:  # a defect of ours: the client is told to come again, the listener reports it
            self._give_up(f"the session ended: {why}")
            await self._part(_FAULT)
            raise
        finally:
            self._give_up(f"the session ended: {why}")
            self._log.session(self._client, "closed", why=why)
            self._stream.close()

    def stop(self) -> None:
        """Ends the session as soon as no transaction is under way: with 421, and at once when it is idle."""
        self._stopping = True
        if self._transaction is None:
            self._stream.interrupt()

    async def _serve(self, refusal: Reply | None) -> str:
        engine, stream, timeouts = self._engine, self._stream, self._settings.timeouts
        if self._settings.implicit_tls:
            if not await self._handshake():
                return "tls"
            engine.tls = True
        # Two turns of the loop, so that a client that speaks before the server is caught doing it: in the first
        # the socket is polled for the first time, in the second what it had is read.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        if stream.has_data:
            engine.receive(await stream.read())
        engine.greet(refusal or _greeting(engine.options.hostname, engine.options.lmtp))
        while True:
            while (event := engine.next_event()) is not None:
                # What comes with every message is handled here, the rest by `_handle`.
                transaction = self._transaction
                if isinstance(event, c.Mail):
                    engine.answer(self._begin(event))
                elif isinstance(event, c.Data):
                    engine.answer(_GO_ON)
                elif transaction is None:
                    await self._handle(event)
                elif isinstance(event, e.Recipients):
                    engine.answer(*await transaction.recipients(event.commands))
                elif isinstance(event, e.Content):
                    if (waiting := transaction.write(event.data)) is not None:
                        await waiting
                elif isinstance(event, c.EndOfContent):
                    self._transaction = None
                    await conclude(engine, stream, transaction)
                else:
                    await self._handle(event)
            if self._stopping and self._transaction is None:
                engine.close(_STOPPING)
            stream.write(engine.take_output())
            if engine.state is _CLOSED:
                if engine.has_quit:  # the client is not sending any more
                    return "quit"
                self._give_up("the session ended: closed")
                await linger(stream, _LINGER)
                return "closed"
            if engine.state is _TLS:
                if not await self._handshake():
                    return "tls"
                engine.tls_started()
            if stream.must_drain:
                await stream.drain(timeouts.content)
            try:
                if engine.in_content:
                    data = await stream.read(timeouts.content)
                else:
                    data = await stream.read(timeouts.command, _AT_ONCE)
            except InterruptedReadError:
                continue
            if not data:
                return "lost"
            engine.receive(data)
            if len(data) >= _AT_ONCE:
                await asyncio.sleep(0)  # whoever sends much lets the others have their turn

    # -- events

    async def _handle(self, event: e.Event) -> None:
        engine, transaction = self._engine, self._transaction
        match event:
            case e.Refused(answer) if transaction is not None:
                self._transaction = None
                transaction.refuse(answer)
                engine.conclude((answer,))
            case e.Abandoned():
                self._give_up("the client reset the transaction")
            case e.Authenticate(mechanism, claim):
                await self._authenticate(mechanism, claim)
            case e.VerifierWanted(mechanism, username):
                await self._supply(mechanism, username)
            case c.StartTls():
                engine.answer(_START_TLS)
            case c.Xclient(attributes):
                self._be_told(attributes)

    def _begin(self, mail: c.Mail) -> Reply:
        engine, client = self._engine, self._client
        protocols = _LMTP_PROTOCOLS if engine.options.lmtp else _PROTOCOLS
        protocol = protocols[engine.esmtp, engine.tls, engine.authenticated, mail.parameters.smtputf8]
        if client.name != engine.client_name or client.protocol != protocol:
            tls = self._stream.tls if engine.tls else None
            self._client = client = client.introduced(engine.client_name, protocol, tls)
        begun = self._handler.begin(client, mail)
        if isinstance(begun, Reply):
            return begun
        self._transaction = begun
        return _SENDER_OK

    def _be_told(self, attributes: Attributes) -> None:
        """A trusted proxy says by XCLIENT who the client is: the session starts over, without its certificate."""
        engine = self._engine
        client = told_client(self._client, attributes, self._checker.account)
        if isinstance(client, Reply):
            engine.answer(client)
        elif isinstance(options := self._move(self, client, engine.options), Reply):
            engine.close(options)
        else:
            engine.options = options
            engine.answer(_greeting(options.hostname, options.lmtp))
            engine.authenticated = client.account is not None
            self._client, self._certified, self._was_told, self._failed_auth = client, None, True, 0  # nothing is left
            self._log.session(client, "told", proxy=self._stream.proxy or self._stream.peer[0])

    async def _supply(self, mechanism: str, username: str) -> None:
        """Goes on with an exchange that needs what is stored of a password."""
        verifier = await self._checker.verifier(username, self._client.address)
        if isinstance(verifier, Limited):
            self._failed(mechanism, username, _LIMITED)
        else:
            self._engine.supply(verifier, secrets.token_urlsafe(18))

    async def _authenticate(self, mechanism: str, claim: Claim) -> None:
        found = await self._checker.check(claim, self._client.address, self._certified)
        if isinstance(found, Account):
            self._client = replace(self._client, account=found.name)
            self._log.session(self._client, "auth_succeeded", mechanism=mechanism)
            self._engine.answer(_WELCOME)
        else:
            username = claim.authzid if isinstance(claim, Asserted) else claim.username
            self._failed(mechanism, username, _WRONG if found is None else _LIMITED)

    def _failed(self, mechanism: str, username: str, answer: Reply) -> None:
        self._failed_auth += 1
        event: SessionEvent = "auth_failed" if answer is _WRONG else "limited"
        self._log.session(self._client, event, mechanism=mechanism, username=username[:_MAX_TOLD], reply=str(answer))
        self._engine.answer(answer)
        if self._failed_auth >= _MAX_FAILED_AUTH:
            self._engine.close(_TOO_MANY_GUESSES)

    def _identify(self) -> None:
        """Looks whose certificate the client has shown: on a submission listener it need not say AUTH."""
        certificate = self._stream.peer_certificate
        if certificate is None or not self._client.submission or self._was_told:
            return
        account = self._checker.certified(shown(certificate, names_of_peer(self._stream)))
        if account is None:
            return
        options, wanted = self._engine.options, self._settings.mechanisms
        external = (EXTERNAL,) if not wanted or EXTERNAL in wanted else ()
        self._engine.options = replace(options, auth_required=False, mechanisms=options.mechanisms + external)
        self._certified = account
        self._client = replace(self._client, account=account.name)
        self._log.session(self._client, "auth_succeeded", mechanism="certificate")

    # -- the connection

    async def _handshake(self) -> bool:
        """Starts TLS; says whether it worked."""
        problem = await secure(self._stream, self._certificate, self._settings)
        if problem is not None:
            self._log.session(self._client, "tls_failed", error=problem)
        else:
            self._identify()
        return problem is None

    async def _part(self, answer: Reply) -> None:
        """Says why the session ends, and ends it."""
        self._engine.close(answer)
        self._stream.write(self._engine.take_output())
        await linger(self._stream, _LINGER)

    def _give_up(self, why: str) -> None:
        transaction, self._transaction = self._transaction, None
        if transaction is not None:
            transaction.abandon(why)
