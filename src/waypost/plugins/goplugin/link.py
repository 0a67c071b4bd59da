"""The socket of a Go plugin: its streams, and the calls on two of them. What is read is bounded in every way."""

import asyncio
from collections.abc import Callable
from typing import cast

from waypost.plugins.goplugin.contract import DOWNSTREAMS, METHOD, PLUGIN
from waypost.plugins.goplugin.gob import Builtin, GobError, Type
from waypost.plugins.goplugin.netrpc import Calls, Reply, RpcError
from waypost.plugins.goplugin.yamux import Ended, GoneAway, Received, Session, YamuxError
from waypost.plugins.port import CrashedError, NonsenseError
from waypost.smtp.reply import printable

MAX_UNSENT = 1024 * 1024
"""Octets that may wait for the plugin to read them."""

MAX_PER_SECOND = 4 * 1024 * 1024
"""Octets that a plugin may send in a second; ten thousand answers have less."""

PRINTED_PER_SECOND = 16 * 1024
"""Octets that it may print (to what it thinks is standard output) before it has to wait for a second."""

_LAST_WORDS = 0.05
"""Seconds between the end of the connection and that of the link."""


class Link(asyncio.Protocol):
    """One connection to a plugin. `on_print` is given what it prints, `on_end` is told once why the link is broken.

    A connection begins with three streams: for calls of go-plugin itself, and for what the plugin prints to standard
    output and to standard error. The selector has a fourth, which is asked for on the first.
    """

    def __init__(self, on_print: Callable[[bytes], object], on_end: Callable[[str], None]) -> None:
        self._on_print = on_print
        self._on_end = on_end
        self._yamux = Session()
        self._control, self._prints = self._yamux.open(), (self._yamux.open(), self._yamux.open())
        self._calls: dict[int, Calls] = {self._control: Calls()}
        self._waiting: dict[tuple[int, int], asyncio.Future[Reply]] = {}
        self._selector = 0
        self._expected = b""  # what the plugin confirms the selector's stream with
        self._confirmed: asyncio.Future[None] | None = None
        self._transport: asyncio.Transport | None = None
        self._fault: str | None = None
        self._second, self._heard = 0, 0

    async def start(self) -> None:
        """Asks for the selector. Raises `CrashedError`."""
        reply = await self._call(self._control, "Dispenser.Dispense", Builtin.STRING, PLUGIN)
        if reply.error:
            raise CrashedError(f"it has no selector: {printable(reply.error[:200])}")
        if not isinstance(reply.value, int) or not 0 <= reply.value < 1 << 32:
            raise CrashedError("it answers the request for its selector with something that is no number")
        self._confirmed = asyncio.get_running_loop().create_future()
        self._expected = reply.value.to_bytes(4, "little")
        self._selector = self._yamux.open()
        self._send(self._selector, self._expected)
        await self._confirmed
        self._calls[self._selector] = Calls()

    async def select(self, downstreams: list[dict[str, str]]) -> object:
        """What the selector returns. Raises `CrashedError`, and `NonsenseError` when it returns an error."""
        reply = await self._call(self._selector, METHOD, DOWNSTREAMS, downstreams)
        if reply.error:
            raise NonsenseError(f"it failed: {printable(reply.error[:200])}")
        return reply.value

    def close(self, why: str) -> None:
        """Ends the connection; who still waits for an answer is told why. Idempotent."""
        self._break(why)

    async def _call(self, stream: int, method: str, kind: Type, argument: object) -> Reply:
        try:
            number, octets = self._calls[stream].call(method, kind, argument)
        except GobError as error:
            raise NonsenseError(f"it cannot be asked: {error}") from None
        except RpcError as error:
            self._break(str(error))
            raise CrashedError(str(error)) from None
        reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting[stream, number] = reply
        try:
            self._send(stream, octets)
            return await reply
        finally:
            self._waiting.pop((stream, number), None)

    def _send(self, stream: int, data: bytes) -> None:
        if self._fault is not None:
            raise CrashedError(self._fault)
        try:
            self._yamux.send(stream, data)
        except YamuxError as error:
            self._break(str(error))
            raise CrashedError(str(error)) from None
        self._flush()

    def _flush(self) -> None:
        data, transport = self._yamux.outgoing(), self._transport
        if transport is not None and data:
            transport.write(data)
            if transport.get_write_buffer_size() > MAX_UNSENT:
                self._break("it does not read what it is sent")

    # -- what asyncio tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._flush()

    def connection_lost(self, error: Exception | None) -> None:
        # When its process has ended, how it ended is the better reason, and will be known at once.
        if self._fault is None:
            asyncio.get_running_loop().call_later(_LAST_WORDS, self._break, "it has closed its connection")

    def data_received(self, data: bytes) -> None:
        if self._fault is not None or self._floods(len(data)):
            return
        try:
            for event in self._yamux.receive(data):
                match event:
                    case Received(stream, octets):
                        self._received(stream, octets)
                    case Ended(stream):
                        self._ended(stream)
                    case GoneAway():
                        self._break("it takes no more calls")
        except (YamuxError, RpcError) as error:
            self._break(str(error))
        if self._fault is None:
            self._flush()

    def _floods(self, octets: int) -> bool:
        second = int(asyncio.get_running_loop().time())
        if second != self._second:
            self._second, self._heard = second, 0
        self._heard += octets
        if self._heard > MAX_PER_SECOND:
            self._break(f"it sends more than {MAX_PER_SECOND} octets in a second")
        return self._fault is not None

    def _received(self, stream: int, data: bytes) -> None:
        if stream in self._prints:
            self._printed(stream, data)
            return
        self._yamux.consumed(stream, len(data))
        calls = self._calls.get(stream)
        if calls is None:
            self._confirm(data)
            return
        for reply in calls.receive(data):
            waiting = self._waiting.get((stream, reply.number))
            if waiting is not None and not waiting.done():
                waiting.set_result(reply)

    def _printed(self, stream: int, data: bytes) -> None:
        """What is printed is read as slowly as anybody can read it: the plugin has to wait."""
        self._on_print(data)
        asyncio.get_running_loop().call_later(len(data) / PRINTED_PER_SECOND, self._read_on, stream, len(data))

    def _read_on(self, stream: int, octets: int) -> None:
        if self._fault is None:
            self._yamux.consumed(stream, octets)
            self._flush()

    def _confirm(self, data: bytes) -> None:
        if not self._expected.startswith(data) or self._confirmed is None or self._confirmed.done():
            self._break("it does not confirm the stream of its selector")
            return
        self._expected = self._expected[len(data) :]
        if not self._expected:
            self._confirmed.set_result(None)

    def _ended(self, stream: int) -> None:
        if stream not in self._prints:
            self._break("it has ended the stream of its calls")

    def _break(self, why: str) -> None:
        if self._fault is not None:
            return
        self._fault = why
        if self._transport is not None:
            self._transport.abort()
        error = CrashedError(why)
        for waiting in (*self._waiting.values(), self._confirmed):
            if waiting is not None and not waiting.done():
                waiting.set_exception(error)
                waiting.exception()  # perhaps nobody waits any more
        self._waiting.clear()
        self._on_end(why)
