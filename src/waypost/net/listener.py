"""Bound addresses: accepting connections, turning away what is too much, and stopping."""

import asyncio
import ipaddress
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from waypost.mail.message import Client
from waypost.net.accepted import Accepted
from waypost.net.announcing import announced_client
from waypost.net.certificates import ServerCertificate
from waypost.net.driver import Driver
from waypost.net.handler import MailHandler
from waypost.net.proxy_protocol import ProxyError
from waypost.net.session import Checker, Session, SessionLog
from waypost.net.settings import ListenerSettings
from waypost.net.stream import StreamTimeoutError
from waypost.net.unix_socket import listen, remove
from waypost.routing.route import Network
from waypost.smtp.order import ServerOptions
from waypost.smtp.reply import Reply, reply
from waypost.smtp.sasl_server import EXTERNAL

_BACKLOG = 1024
_TOO_MANY = reply(421, "4.7.0", "Too many connections; try again later")
_TOO_MANY_OF_YOURS = reply(421, "4.7.0", "Too many connections from your address; try again later")
_NOT_ALLOWED = reply(554, "5.7.1", "Your address may not use this server")


class Listener:
    """One bound address and its sessions."""

    def __init__(
        self,
        settings: ListenerSettings,
        hostname: str,
        handler: MailHandler,
        checker: Checker,
        log: SessionLog,
        *,
        has_accounts: bool,
        fault: Callable[[BaseException], None],
    ) -> None:
        self.settings = settings
        self._handler = handler
        self._checker = checker
        self._log = log
        self._fault = fault
        self._certificate = None if settings.tls is None else ServerCertificate(settings.tls)
        self._server: asyncio.Server | None = None
        self._sessions: dict[Driver, Session] = {}
        self._announcing: set[Driver] = set()  # while a proxy says whose connection it is
        self._emptied: asyncio.Future[None] | None = None
        self._turned_away: set[Driver] = set()  # while they are being told so
        self._addresses: Counter[str] = Counter()  # of the sessions that are served
        self._stopping = False
        submission = settings.mode == "submission"
        self._untrusted = ServerOptions(
            hostname=hostname,
            max_size=settings.limits.message_size,
            max_line=settings.limits.line_length,
            max_recipients=settings.limits.recipients,
            max_errors=settings.limits.errors,
            starttls=settings.tls is not None and not settings.implicit_tls,
            auth=submission and has_accounts,
            auth_required=submission,
            tls_required=settings.tls is not None and settings.tls.client_required,
            allow_plaintext_auth=settings.allow_plaintext_auth,
            repair_line_ends=submission,
            lmtp=settings.lmtp,
        )
        self._trusted = replace(self._untrusted, auth_required=False)
        self._trusts = _trust(settings.trusted_networks)
        self._may_announce = _trust(settings.announcers) if settings.announcers else None
        self._is_proxy = _trust(settings.proxies) if settings.proxies else None

    @property
    def sessions(self) -> int:
        """Sessions under way."""
        return len(self._sessions)

    @property
    def is_bound(self) -> bool:
        """Whether connections are being accepted."""
        return self._server is not None and self._server.is_serving()

    async def bind(self) -> Sequence[tuple[str, int]]:
        """Binds and listens; the addresses that are bound. Raises `OSError`."""
        settings = self.settings
        loop = asyncio.get_running_loop()
        try:
            if settings.is_unix:
                listening = listen(Path(settings.host), settings.socket_mode, own_folder=False)
                self._server = await loop.create_unix_server(self._accept, sock=listening, backlog=_BACKLOG)
                return [(settings.host, 0)]
            self._server = await loop.create_server(
                self._accept, settings.host or None, settings.port, backlog=_BACKLOG, reuse_address=True
            )
        except OSError as error:
            raise OSError(f"listener {settings.name} cannot be bound: {_why(error)}") from error
        return [s.getsockname()[:2] for s in self._server.sockets]

    async def stop(self, timeout: float) -> None:
        """Accepts nothing more, lets transactions end, and after `timeout` seconds ends them."""
        self._stopping = True
        if self._server is not None:
            if self.settings.is_unix:  # before it is closed, while nobody can take the file for a stale one
                remove(Path(self.settings.host))
            self._server.close()
        for session in tuple(self._sessions.values()):
            session.stop()
        for driver in tuple(self._announcing):
            driver.cancel()
        await self._wait_empty(timeout)
        for driver in tuple(self._sessions):
            driver.cancel()
        await self._wait_empty(1)

    async def _wait_empty(self, timeout: float) -> None:
        if self._sessions:
            self._emptied = asyncio.get_running_loop().create_future()
            await asyncio.wait((self._emptied,), timeout=timeout)
            self._emptied = None

    def _accept(self) -> Accepted:
        return Accepted(self._connected)

    def _connected(self, stream: Accepted) -> None:
        if self._is_proxy is None or not self._is_proxy(stream.peer[0]):
            self._begin(stream)
        elif len(self._announcing) >= self.settings.limits.connections:
            stream.abort()
        else:
            driver = Driver(self._announce(stream), self._announced)
            self._announcing.add(driver)
            driver.resume()

    async def _announce(self, stream: Accepted) -> None:
        """Lets a proxy say whose connection it is; then the session begins, or there is none."""
        begun = False
        try:
            stream.announced = await announced_client(stream, self.settings.timeouts.handshake)
            begun = True
            self._begin(stream)
        except ConnectionError:
            pass  # nothing was said: somebody looked whether we are there
        except (ProxyError, StreamTimeoutError) as error:
            why = str(error) or "it did not come in time"
            client = Client(self.settings.name, *stream.peer, submission=self.settings.mode == "submission")
            self._log.session(client, "proxy_failed", error=why)
        finally:
            if not begun:
                stream.abort()

    def _announced(self, driver: Driver, error: BaseException | None) -> None:
        self._announcing.discard(driver)
        if error is not None and not isinstance(error, asyncio.CancelledError):
            self._fault(error)

    def _begin(self, stream: Accepted) -> None:
        address = stream.peer[0]
        is_unix = self.settings.is_unix  # then whoever may open the file may send
        trusted = is_unix or self._trusts(address)
        options = self._trusted if trusted else self._untrusted
        announces = self._may_announce is not None and self._may_announce(address)
        if announces:
            options = replace(options, xclient=True)
        session = Session(
            stream, self.settings, options, self._handler, self._checker, self._log, self._certificate, self._move
        )
        refusal = self._refusal(address, trusted, many=announces or is_unix)
        driver = Driver(session.run(refusal), self._ended)
        self._sessions[driver] = session
        if refusal is None:
            self._addresses[address] += 1
        else:
            self._log.session(session.client, "limited", reply=str(refusal))
            self._turned_away.add(driver)
        driver.resume()

    def _move(self, session: Session, client: Client, offered: ServerOptions) -> ServerOptions | Reply:
        """A session turns out to be that of another client: what it is offered, or why it is not served."""
        before, address = session.client.address, client.address
        trusted, limit = self._trusts(address), self.settings.limits.connections_per_address
        refusal = _NOT_ALLOWED if self.settings.mode == "relay" and not trusted else None
        if refusal is None and address != before and self._addresses[address] >= limit:
            refusal = _TOO_MANY_OF_YOURS
        if refusal is not None:
            self._log.session(client, "limited", reply=str(refusal))
            return refusal
        self._addresses[address] += 1
        self._leave(before)
        mechanisms = tuple(name for name in offered.mechanisms if name != EXTERNAL)  # the certificate is the proxy's
        return replace(self._trusted if trusted else self._untrusted, xclient=True, mechanisms=mechanisms)

    def _leave(self, address: str) -> None:
        self._addresses[address] -= 1
        if not self._addresses[address]:
            del self._addresses[address]

    def _refusal(self, address: str, trusted: bool, *, many: bool) -> Reply | None:
        """Why a client is turned away, or None. `many` may come from its address: it speaks for others."""
        limits = self.settings.limits
        if self.settings.mode == "relay" and not trusted:
            return _NOT_ALLOWED
        # Whoever is being turned away takes nobody's place: one address must not be able to shut out the others.
        if len(self._sessions) - len(self._turned_away) >= limits.connections:
            return _TOO_MANY
        if self._addresses[address] >= limits.connections_per_address and not many:
            return _TOO_MANY_OF_YOURS
        return None

    def _ended(self, driver: Driver, error: BaseException | None) -> None:
        session = self._sessions.pop(driver)
        address = session.client.address
        if driver in self._turned_away:
            self._turned_away.remove(driver)
        else:
            self._leave(address)
        if error is not None and not isinstance(error, asyncio.CancelledError):
            self._fault(error)
        if not self._sessions and self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)


def _trust(networks: Sequence[Network]) -> Callable[[str], bool]:
    """Whether an address is in one of the networks; remembered, for clients come again."""

    @lru_cache(maxsize=4096)
    def trusts(address: str) -> bool:
        try:
            parsed = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        return any(parsed in network for network in networks)

    return trusts


def _why(error: OSError) -> str:
    """The system's own words: event loops put theirs in front."""
    return os.strerror(error.errno) if error.errno else str(error)
