"""TLS as a pure layer over memory (`ssl.MemoryBIO`): octets of TLS in, octets inside out, and the other way."""

import asyncio
import ssl
from collections.abc import Mapping
from typing import Any

_RECORD = 256 * 1024


class TlsLayer:
    """TLS between a transport and its stream. `done` is when the handshake ends, one way or the other.

    `complaint` is why TLS broke off afterwards: with TLS 1.3 a client learns only then that its certificate is not
    wanted.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        context: ssl.SSLContext,
        server: bool,
        server_name: str | None,
        done: "asyncio.Future[None]",
    ) -> None:
        self._transport = transport
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self.session = context.wrap_bio(self._incoming, self._outgoing, server_side=server, server_hostname=server_name)
        self.done = done
        self.closed = False
        self.complaint: str | None = None

    @property
    def description(self) -> str:
        cipher = self.session.cipher()
        return f"{self.session.version()} {cipher[0] if cipher else ''}".rstrip()

    @property
    def names(self) -> Mapping[str, Any]:
        """The names in the other side's certificate, as `ssl` tells them; nothing when it was not verified."""
        return self.session.getpeercert() or {}

    def handshake(self) -> None:
        """Goes on with the handshake as far as the octets received allow."""
        try:
            self.session.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
        except (ssl.SSLError, ssl.CertificateError, ValueError) as error:
            self._flush()  # the alert
            if not self.done.done():
                self.done.set_exception(error)
        else:
            self._flush()
            if not self.done.done():
                self.done.set_result(None)

    def received(self, data: bytes) -> bytes:
        """Takes octets of TLS, gives the octets inside."""
        self._incoming.write(data)
        if not self.done.done():
            self.handshake()
        if not self.done.done() or self.done.cancelled() or self.done.exception() is not None or self.closed:
            return b""
        plain: list[bytes] = []
        try:
            while piece := self.session.read(_RECORD):
                plain.append(piece)
            self.closed = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            self.closed = True
            self.complaint = (error.reason or "").lower().replace("_", " ") or None
        self._flush()
        return plain[0] if len(plain) == 1 else b"".join(plain)

    def write(self, data: bytes) -> None:
        """Sends octets inside TLS."""
        view: Any = memoryview(data)
        while view and not self.closed:
            try:
                view = view[self.session.write(view) :]
            except ssl.SSLError:
                self.closed = True
        self._flush()

    def shutdown(self) -> None:
        """Says close_notify."""
        if self.done.done() and not self.closed:
            try:
                self.session.unwrap()
            except (ssl.SSLError, ValueError):
                pass
            self._flush()

    def lost(self) -> None:
        if not self.done.done():
            self.done.set_exception(ConnectionError("the connection was lost in the TLS handshake"))

    def _flush(self) -> None:
        if self._outgoing.pending and not self._transport.is_closing():
            self._transport.write(self._outgoing.read())
