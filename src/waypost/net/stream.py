"""A connection as a stream of octets: reading, writing, time-outs and TLS.

An `asyncio.Protocol` with an awaitable on top, so that a session that has data never waits, and TLS through
`ssl.MemoryBIO`. asyncio's own streams are not used: their `start_tls` hangs or runs plain text inside TLS in
ways that were reproduced (docs/decisions), and they cost a task switch per line.
"""

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from socket import SO_ERROR, SOL_SOCKET
from typing import Any, cast

from waypost.net.batch import batch_of
from waypost.net.deadline import Deadline
from waypost.net.driver import Driver, current, suspend
from waypost.net.tls import TlsLayer

_SMALL = 16 * 1024  # octets; what is larger is written at once
_HIGH_WATER = 1024 * 1024  # octets read ahead before the peer is made to wait


class StreamTimeoutError(Exception):
    """The peer was silent for longer than it may be."""


class InterruptedReadError(Exception):
    """Somebody else wanted the reader to wake up: `Stream.interrupt` was called."""


class Stream(asyncio.Protocol):
    """One connection. A single coroutine reads and writes it."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._loop = asyncio.get_running_loop()
        self._received: list[bytes] = []
        self._size = 0
        self._eof = self.lost = False
        self._reader: Driver | None = None  # who waits for data, when a driver runs it
        self._waiter: asyncio.Future[None] | None = None  # and when a task does
        self._drainer: asyncio.Future[None] | None = None
        self._batch = batch_of(self._loop)
        self._unwritten = b""  # small writes of this turn
        self.must_drain = False  # whether so much is queued that the writer should wait
        self._read_paused = False
        self._deadline = Deadline(self._loop, self._expired)
        self._tls: TlsLayer | None = None

    # -- what the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._tls is not None:
            data = self._tls.received(data)
            if self._tls.closed:
                self._eof = True
            elif not data:
                return
        if data:
            self._received.append(data)
            self._size += len(data)
            if self._size > _HIGH_WATER and not self._read_paused:
                self._read_paused = True
                self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        self._eof = True
        self._wake()
        return self._tls is None  # a peer that has said all may still listen

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = self._eof = True
        self._deadline.stop()
        if self._tls is not None:
            self._tls.lost()
        if self._drainer is not None and not self._drainer.done():
            self._drainer.set_result(None)
        self._wake()

    def pause_writing(self) -> None:
        self.must_drain = True

    def resume_writing(self) -> None:
        self.must_drain = False
        if self._drainer is not None and not self._drainer.done():
            self._drainer.set_result(None)

    def _wake(self, error: Exception | None = None) -> None:
        reader, waiter = self._reader, self._waiter
        if reader is not None:
            self._reader = None
            reader.resume(error)
        elif waiter is not None and not waiter.done():
            if error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(error)

    # -- what the owner calls

    @property
    def peer(self) -> tuple[str, int]:
        """Address and port of the other side; an IPv4 address in IPv6 clothing is shown as IPv4."""
        return _endpoint(self._transport.get_extra_info("peername"))

    @property
    def name(self) -> tuple[str, int]:
        """Address and port of our side."""
        return _endpoint(self._transport.get_extra_info("sockname"))

    @property
    def has_data(self) -> bool:
        """Whether something was received that has not been read."""
        return bool(self._received)

    @property
    def has_ended(self) -> bool:
        """Whether the other side sends nothing more; it may still listen."""
        return self._eof

    @property
    def at_eof(self) -> bool:
        """Whether the other side has ended, and all it sent was read."""
        return self._eof and not self._received

    async def read(self, timeout: float | None = None, limit: int | None = None) -> bytes:
        """What has been received, at least one octet and at most `limit`; nothing at the end. `timeout` in seconds.

        Raises `StreamTimeoutError` and `InterruptedReadError`.
        """
        if not self._received:
            if self._eof:
                return b""
            if timeout is not None:
                self._deadline.set(timeout)
            try:
                self._reader = current()
                if self._reader is None:
                    self._waiter = self._loop.create_future()
                await (suspend() if self._waiter is None else self._waiter)
            finally:
                self._reader = self._waiter = self._deadline.at = None
            if not self._received:
                return b""
        received = self._received
        data = received[0] if len(received) == 1 else b"".join(received)
        received.clear()
        if limit is not None and len(data) > limit:
            received.append(data[limit:])
            self._size = len(data) - limit
            return data[:limit]
        self._size = 0
        if self._read_paused and not self.lost:
            self._read_paused = False
            self._transport.resume_reading()
        return data

    @property
    def is_reset(self) -> bool:
        """Whether the other side has answered a write with a reset. Nobody closes one half of TLS."""
        socket = self._transport.get_extra_info("socket")
        return self.lost or self._tls is not None or bool(socket.getsockopt(SOL_SOCKET, SO_ERROR))

    def interrupt(self) -> None:
        """Makes a `read` that waits raise `InterruptedReadError`; does nothing when nobody waits."""
        self._wake(InterruptedReadError())

    def write(self, data: bytes) -> None:
        """Sends a few octets, or queues them; `drain` waits when too many are queued."""
        if not data or self.lost:
            return
        if self._tls is not None:
            self._tls.write(data)
        elif self._unwritten or self._batch.add(self):
            self._unwritten += data
        else:
            self._transport.write(data)

    def write_all(self, pieces: Sequence[bytes]) -> None:
        """The same for what may be large: then pieces are not joined, and leave at once in one call of the system."""
        if self._tls is not None or sum(map(len, pieces)) <= _SMALL:
            self.write(b"".join(pieces))
        elif not self.lost:
            before, self._unwritten = self._unwritten, b""
            self._transport.writelines((before, *pieces) if before else pieces)

    def flush(self) -> None:
        """Writes what was waiting for the end of the loop's turn."""
        data, self._unwritten = self._unwritten, b""
        if data and not self.lost:
            self._transport.write(data)

    @property
    def is_broken(self) -> bool:
        """Whether what is written now would be lost. The transport knows a little before the stream is told."""
        return self.lost or self._transport.is_closing()

    async def drain(self, timeout: float) -> None:
        """Waits until the queue is short again. Raises `StreamTimeoutError`."""
        if not self.must_drain or self.lost:
            return
        self._deadline.set(timeout)
        self._drainer = self._loop.create_future()
        try:
            await self._drainer
        finally:
            self._drainer = self._deadline.at = None

    def close(self) -> None:
        """Closes once everything written is sent."""
        self.flush()
        if self._tls is not None:
            self._tls.shutdown()
        self._transport.close()

    def abort(self) -> None:
        """Closes at once; what is queued is lost."""
        self._transport.abort()

    def end(self) -> None:
        """Says that nothing more will be written, where that can be said without closing."""
        self.flush()
        if self._tls is None and not self.lost and self._transport.can_write_eof():
            self._transport.write_eof()

    @property
    def tls(self) -> str | None:
        """Version and cipher, such as `TLSv1.3 TLS_AES_256_GCM_SHA384`, or None."""
        return None if self._tls is None else self._tls.description

    @property
    def peer_certificate(self) -> bytes | None:
        """The certificate that the other side showed, in DER form."""
        return None if self._tls is None else self._tls.session.getpeercert(True)

    async def start_tls(
        self,
        context: ssl.SSLContext,
        timeout: float,
        *,
        server: bool,
        server_name: str | None = None,
        from_the_start: bool = False,
    ) -> None:
        """Performs the handshake. Everything received after this call is TLS.

        What was received before it is plain text, which has no business there, unless the connection is TLS
        `from_the_start`. Raises `ssl.SSLError` (a certificate that is not accepted included),
        `StreamTimeoutError`, and `ConnectionError` when the other side goes.
        """
        early = b"".join(self._received)
        self._received.clear()
        self._size = 0
        if early and not from_the_start:
            raise ConnectionError("there is plain text where the handshake should be")
        if self._eof:
            raise ConnectionError("the connection ended before the handshake")
        self.flush()
        tls = self._tls = TlsLayer(self._transport, context, server, server_name, self._loop.create_future())
        tls.handshake()
        rest = tls.received(early) if early else b""
        self._deadline.set(timeout)
        try:
            await tls.done
        finally:
            self._deadline.at = None
        rest += tls.received(b"")
        if rest:
            self._received.append(rest)
            self._size += len(rest)

    def _expired(self) -> None:
        self._wake(StreamTimeoutError())
        for future in (self._drainer, None if self._tls is None else self._tls.done):
            if future is not None and not future.done():
                future.set_exception(StreamTimeoutError())


UNIX = "unix"
"""What stands for the address of whoever is at the other end of a unix socket."""


def _endpoint(name: tuple[str, int] | str | None) -> tuple[str, int]:
    if isinstance(name, str | bytes):
        return UNIX, 0
    address, port, *_ = name or ("", 0)
    return address.removeprefix("::ffff:") if "." in address else address, port


def names_of_peer(stream: Stream) -> Mapping[str, Any]:
    """The names in the other side's certificate, as `ssl` tells them; nothing when it was not verified."""
    return {} if stream._tls is None else stream._tls.names


def complaint_of_tls(stream: Stream) -> str | None:
    """Why TLS was broken off after the handshake, by either side, in OpenSSL's words."""
    return None if stream._tls is None else stream._tls.complaint
