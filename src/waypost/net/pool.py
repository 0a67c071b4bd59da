"""Connections to upstreams, kept and lent: a value that explains itself.

Choosing is synchronous, so nothing needs a lock: an idle connection is taken, or one more is opened while the
cap allows, or the caller waits in line.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from waypost.mail.content import Content
from waypost.mail.message import Client
from waypost.mail.outcome import Answer, Cause, Failure, Phase, Stopped
from waypost.net.introducing import PROXY_HEADERS, is_known, is_same, may_carry, xforward
from waypost.net.login import Logins
from waypost.net.upstream import UpstreamConnection
from waypost.routing.route import ClientAddress, Timeouts, Upstream
from waypost.smtp import commands as c
from waypost.smtp.client import Extensions
from waypost.smtp.reply import Reply
from waypost.smtp.values import quick

NOBODY = Client("", "", 0)
"""The client of mail that nobody handed in."""

Fit = Callable[[Extensions], tuple[c.Mail, Sequence[c.Rcpt]] | Failure]
"""Words a transaction for what an upstream offers, or says that it cannot carry it."""


@quick
@dataclass(frozen=True, slots=True)
class Begun:
    """A transaction whose MAIL was accepted, with the answers to RCPT, on a connection that is lent."""

    lent: "LentConnection"
    recipients: Sequence[Answer]
    dot: Answer | None = None  # the answer to the content, when it was sent along


class LentConnection:
    """A connection for the time of one transaction. It must be given back, by `release`, once."""

    __slots__ = ("_connection", "_pool", "_timeouts")

    def __init__(self, pool: "UpstreamPool", connection: UpstreamConnection, timeouts: Timeouts) -> None:
        self._pool = pool
        self._connection = connection
        self._timeouts = timeouts

    @property
    def extensions(self) -> Extensions:
        """What the upstream offers."""
        return self._connection.extensions

    @property
    def reused(self) -> bool:
        """Whether the connection had carried a transaction before."""
        return self._connection.reused

    @property
    def tls(self) -> str | None:
        """Version and cipher, or None."""
        return self._connection.tls

    @property
    def phases(self) -> tuple[tuple[Phase, float], ...]:
        """How many seconds each phase of the attempt took so far, in their order."""
        return self._connection.phases

    @property
    def is_closed(self) -> bool:
        """Whether the upstream has gone meanwhile."""
        return self._connection.is_closed

    def add(self, recipients: Sequence[c.Rcpt]) -> Coroutine[Any, Any, Sequence[Answer]]:
        """More recipients; the answer to each."""
        return self._connection.add(recipients, self._timeouts)

    def send(self, content: Content) -> Coroutine[Any, Any, tuple[Phase, Answer]]:
        """The content; how far it came, and the answer."""
        return self._connection.send(content, self._timeouts)

    def verdicts(self, answer: Answer) -> Sequence[Answer]:
        """What the content came to for each recipient that was accepted; nothing when `answer` is everybody's."""
        return self._connection.verdicts(answer)

    def release(self) -> None:
        """Gives the connection back. A transaction that is still open is reset."""
        self._pool.give_back(self._connection)


class UpstreamPool:
    """The connections of one upstream. `now` is the loop's clock, in seconds."""

    def __init__(
        self, upstream: Upstream, hostname: str, now: Callable[[], float], logins: Logins | None = None
    ) -> None:
        self.upstream = upstream
        self._logins = logins or Logins(now=now)
        self._hostname = hostname
        self._now = now
        self._idle: list[UpstreamConnection] = []  # the one used last at the end: it is the likeliest to be open
        self._open = 0  # idle, lent, or being opened
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._closed = False
        self.certificate: bytes | None = None
        """What the upstream showed last, in DER form."""
        self.guest: Callable[[], object] | None = None
        """Sends away who has a place by `enter`, when mail wants it."""

    def __repr__(self) -> str:
        busy = self._open - len(self._idle)
        return f"<pool {self.upstream.name}: {busy} busy, {len(self._idle)} idle, {len(self._waiting)} waiting>"

    @property
    def counts(self) -> tuple[int, int]:
        """Connections that are busy, and that are idle."""
        return self._open - len(self._idle), len(self._idle)

    async def begin(
        self, fit: Fit, *, background: bool, content: Content | None = None, client: Client = NOBODY
    ) -> Begun | Stopped:
        """Opens a transaction, on a connection that is idle if there is one, for mail of this client.

        A connection that has gone stale in the meantime is silently replaced, once, by a new one. `content`
        may be sent along where the upstream allows it.
        """
        timeouts = self.upstream.background_timeouts if background else self.upstream.timeouts
        connection = self._idle_connection(client) or await self._new_connection(timeouts, client)
        if isinstance(connection, Stopped):
            return connection
        was_kept = connection.transactions > 0
        try:
            begun = await self._begin(connection, fit, timeouts, content, client)
            if was_kept and isinstance(begun, Stopped) and _is_stale(begun.answer):
                connection.abort()
                connection = self._connection(client)
                begun = await connection.open(timeouts) or await self._begin(connection, fit, timeouts, content, client)
        except BaseException:
            self._discard(connection)
            raise
        if isinstance(begun, Stopped):
            self.give_back(connection)
        return begun

    async def _begin(
        self, connection: UpstreamConnection, fit: Fit, timeouts: Timeouts, content: Content | None, client: Client
    ) -> Begun | Stopped:
        forward: Sequence[c.Xforward] = ()
        told = self.upstream.client_address
        if told == "xforward":
            forward = xforward(client, connection.extensions.xforward)
        elif told == "xclient" and is_known(client):
            problem = await connection.introduce(client, timeouts)
            if problem is not None:
                return problem
        offer = fit(connection.extensions)
        if isinstance(offer, Failure):
            return Stopped(Phase.MAIL, offer)
        mail, recipients = offer
        dot: Answer | None = None
        if content is not None and connection.takes_all_at_once(recipients, content):
            answer, answers, dot = await connection.begin_with(mail, recipients, content, timeouts, forward)
        else:
            answer, answers = await connection.begin(mail, recipients, timeouts, forward)
        if isinstance(answer, Reply) and answer.is_positive:
            return Begun(LentConnection(self, connection, timeouts), answers, dot)
        if dot is not None and isinstance(answer, Failure):
            return Stopped(Phase.DOT, answer, connection.phases)  # all was sent, and nothing of it answered
        return Stopped(Phase.MAIL, answer, connection.phases)

    def give_back(self, connection: UpstreamConnection) -> None:
        """Keeps a connection for the next transaction, or closes it when it has served its time."""
        connection.reset()
        upstream, now = self.upstream, self._now()
        if connection.is_closed:
            self._discard(connection)
        elif (
            self._closed
            or connection.transactions >= upstream.max_messages
            or now - connection.opened_at >= upstream.max_age
            or upstream.idle_timeout <= 0
        ):
            connection.quit()
            self._discard(None)
        else:
            connection.idle_since = now
            self._idle.append(connection)
            self._call_next()

    def enter(self) -> bool:
        """Takes the place of one connection, for who opens it himself; whether there was one. `leave` gives it back."""
        is_free = self._open < self.upstream.max_connections and not self._closed
        self._open += is_free
        return is_free

    def leave(self) -> None:
        """The place that `enter` took is free again."""
        self.guest = None
        self._discard(None)

    def sweep(self) -> None:
        """Closes connections that were idle for too long, or that the upstream has closed."""
        now = self._now()
        for connection in list(self._idle):
            expired = now - connection.idle_since >= self.upstream.idle_timeout
            if expired or not connection.is_fresh or now - connection.opened_at >= self.upstream.max_age:
                self._idle.remove(connection)
                connection.quit()
                self._discard(None)

    def close(self) -> None:
        """Closes what is idle, and what is given back from now on."""
        self._closed = True
        for connection in self._idle:
            connection.quit()
        self._open -= len(self._idle)
        self._idle.clear()

    def _connection(self, client: Client) -> UpstreamConnection:
        announced = client if self.upstream.client_address in PROXY_HEADERS else None
        return UpstreamConnection(self.upstream, self._hostname, self._now(), self._logins, announced)

    def _idle_connection(self, client: Client) -> UpstreamConnection | None:
        """An idle connection that is as it was left; those that are not are closed on the way."""
        told = self.upstream.client_address
        while self._idle:
            index = -1 if told is None else self._index_for(client, told)
            if index is None:
                return None
            connection = self._idle.pop(index)
            if connection.is_fresh and self._now() - connection.idle_since < self.upstream.idle_timeout:
                return connection
            connection.quit()
            self._open -= 1
        return None

    def _index_for(self, client: Client, told: ClientAddress) -> int | None:
        """Which idle connection may carry mail of this client; one that has carried its mail before, if there is."""
        found = None
        for index in reversed(range(len(self._idle))):
            known, may_tell = self._idle[index].client, bool(self._idle[index].extensions.xclient)
            if may_carry(told, known, client, may_tell=may_tell):
                if known is not None and is_same(known, client):
                    return index
                found = index if found is None else found
        return found

    async def _new_connection(self, timeouts: Timeouts, client: Client) -> UpstreamConnection | Stopped:
        """One more connection, or the next that becomes idle when there may not be more."""
        while self._open >= self.upstream.max_connections:
            if self._idle:  # it is another client's, and was used the longest ago
                self._idle.pop(0).quit()
                self._open -= 1
                break
            if self.guest is not None:
                self.guest()
            if not await asyncio.create_task(self._wait(timeouts.connect)):
                busy = Failure(Phase.CONNECT, Cause.BUSY, f"all {self._open} connections are in use")
                return Stopped(Phase.CONNECT, busy)
            connection = self._idle_connection(client)
            if connection is not None:
                return connection
        self._open += 1
        connection = self._connection(client)
        try:
            problem = await connection.open(timeouts)
        except BaseException:
            self._discard(connection)
            raise
        if problem is None:
            self.certificate = connection.certificate
            return connection
        self._discard(connection)
        return problem

    async def _wait(self, timeout: float) -> bool:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            async with asyncio.timeout(timeout):
                await turn
            return True
        except TimeoutError:
            return False
        finally:
            if turn in self._waiting:
                self._waiting.remove(turn)

    def _discard(self, connection: UpstreamConnection | None) -> None:
        if connection is not None:
            connection.abort()
        self._open -= 1
        self._call_next()

    def _call_next(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return


def _is_stale(answer: Answer) -> bool:
    """Whether a kept connection turned out to be closed, which is nobody's fault."""
    if isinstance(answer, Reply):
        return answer.code == 421
    return answer.cause is Cause.CLOSED


class Upstreams:
    """The pools of all upstreams, made when they are first needed: the `Sender` of `waypost.delivery`."""

    def __init__(self, hostname: str, logins: Logins | None = None) -> None:
        self._hostname = hostname
        self._logins = logins or Logins()
        self._pools: dict[str, UpstreamPool] = {}

    def begin(
        self, upstream: Upstream, fit: Fit, *, client: Client, background: bool, content: Content | None = None
    ) -> Coroutine[Any, Any, Begun | Stopped]:
        """Opens a transaction with an upstream; see `UpstreamPool.begin`."""
        return self._pool(upstream).begin(fit, background=background, content=content, client=client)

    def counts(self) -> dict[str, tuple[int, int]]:
        """For each upstream that was ever used: connections that are busy, and idle."""
        return {name: pool.counts for name, pool in self._pools.items()}

    def certificates(self) -> dict[str, bytes]:
        """The certificate that each upstream showed last, in DER form, by name."""
        return {name: pool.certificate for name, pool in self._pools.items() if pool.certificate is not None}

    def busy(self, name: str) -> int:
        """How many connections to the upstream of this name carry mail, or are being opened."""
        pool = self._pools.get(name)
        return 0 if pool is None else pool.counts[0]

    def place(self, upstream: Upstream) -> UpstreamPool | None:
        """A place for one connection that is no mail's, to be given back by `leave`; None when mail has them all."""
        pool = self._pool(upstream)
        return pool if pool.enter() else None

    async def keep(self, interval: float = 5) -> None:
        """Closes what is idle for too long, for ever."""
        while True:
            await asyncio.sleep(interval)
            for pool in self._pools.values():
                pool.sweep()

    def close(self) -> None:
        """Closes what is idle, and what is given back from now on."""
        for pool in self._pools.values():
            pool.close()
        self._logins.close()

    def _pool(self, upstream: Upstream) -> UpstreamPool:
        pool = self._pools.get(upstream.name)
        if pool is None or pool.upstream is not upstream:  # another configuration's upstream of that name
            if pool is not None:
                pool.close()
            now = asyncio.get_running_loop().time
            pool = self._pools[upstream.name] = UpstreamPool(upstream, self._hostname, now, self._logins)
        return pool
