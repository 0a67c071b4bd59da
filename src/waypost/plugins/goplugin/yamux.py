"""Several streams over one connection, as hashicorp/yamux does it: the side that opens them.

Follows the specification of yamux (`spec.md` in its repository). No input and no output here: octets in, events out,
and octets to send. Each side may send 256 KiB on a stream before the other has to ask for more, which is how a
stream that nobody wants to read is held back.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag

WINDOW = 256 * 1024
"""Octets that may be sent on a stream before the other side has asked for more."""

MAX_WAITING = 1024 * 1024
"""Octets that may wait for the other side's window; one that takes nothing is as good as dead."""

_HEADER = struct.Struct(">BBHII")  # version, type, flags, stream, length
_MAX_WINDOW = (1 << 32) - 1


class YamuxError(Exception):
    """The other side does not speak yamux, or breaks its rules: the connection is of no use any more."""


class _Frame(IntEnum):
    DATA = 0
    WINDOW_UPDATE = 1
    PING = 2
    GO_AWAY = 3


class _Flag(IntFlag):
    SYN = 1
    ACK = 2
    FIN = 4
    RST = 8


@dataclass(frozen=True, slots=True)
class Received:
    """Octets on a stream. Who has used them says so with `Session.consumed`."""

    stream: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Ended:
    """The other side sends no more on a stream."""

    stream: int
    reset: bool = False
    """Whether it takes no more either."""


@dataclass(frozen=True, slots=True)
class GoneAway:
    """The other side takes no new streams."""

    code: int
    """0 for an orderly end, 1 for an error of ours in the protocol, 2 for one of its own."""


Event = Received | Ended | GoneAway


@dataclass(slots=True)
class _Stream:
    """What is known of one stream."""

    may_send: int = WINDOW
    may_receive: int = WINDOW
    consumed: int = 0
    waiting: bytearray = field(default_factory=bytearray)
    is_closed: bool = False
    """We send no more, as soon as nothing waits."""
    has_said_so: bool = False
    is_ended: bool = False
    """The other side sends no more."""


class Session:
    """One connection, seen from the side that opens streams (the client)."""

    def __init__(self) -> None:
        self._streams: dict[int, _Stream] = {}
        self._next = 1
        self._incoming = bytearray()
        self._outgoing = bytearray()
        self._skip = 0

    def outgoing(self) -> bytes:
        """What is to be sent now; each octet is handed out once."""
        data = bytes(self._outgoing)
        self._outgoing.clear()
        return data

    # -- what we do

    def open(self) -> int:
        """Opens a stream, and returns its number. The other side need not answer before it is used."""
        number, self._next = self._next, self._next + 2
        self._streams[number] = _Stream()
        self._frame(_Frame.WINDOW_UPDATE, _Flag.SYN, number, 0)
        return number

    def send(self, number: int, data: bytes) -> None:
        """Sends as much as the other side takes now, and the rest when it takes more. Raises `YamuxError`."""
        stream = self._streams.get(number)
        if stream is None or stream.is_closed:
            raise YamuxError(f"stream {number} is closed")
        stream.waiting += data
        if len(stream.waiting) > stream.may_send + MAX_WAITING:
            raise YamuxError("it does not read what it is sent")
        self._flush(number, stream)

    def consumed(self, number: int, octets: int) -> None:
        """So many octets that came on a stream are used: the other side may send as many again."""
        stream = self._streams.get(number)
        if stream is None or stream.is_ended:
            return
        stream.consumed += octets
        if stream.consumed >= WINDOW // 2:
            self._frame(_Frame.WINDOW_UPDATE, _Flag(0), number, stream.consumed)
            stream.may_receive += stream.consumed
            stream.consumed = 0

    def close(self, number: int) -> None:
        """Sends no more on a stream, once what waits is sent; the other side may go on."""
        stream = self._streams.get(number)
        if stream is not None:
            stream.is_closed = True
            self._flush(number, stream)

    def reset(self, number: int) -> None:
        """Ends a stream in both directions at once."""
        if self._streams.pop(number, None) is not None:
            self._frame(_Frame.WINDOW_UPDATE, _Flag.RST, number, 0)

    def go_away(self) -> None:
        """Says that there will be no new streams."""
        self._frame(_Frame.GO_AWAY, _Flag(0), 0, 0)

    # -- what comes

    def receive(self, data: bytes) -> Iterator[Event]:
        """The events that are complete with `data`. Raises `YamuxError`."""
        self._incoming += data
        while len(self._incoming) >= _HEADER.size:
            version, kind, flags, number, length = _HEADER.unpack_from(self._incoming)
            if version != 0:
                raise YamuxError(f"a frame of version {version}")
            if kind == _Frame.DATA:
                if length > WINDOW:
                    raise YamuxError("more data than it was asked for")
                if len(self._incoming) < _HEADER.size + length:
                    return
            content = bytes(self._incoming[_HEADER.size : _HEADER.size + length]) if kind == _Frame.DATA else b""
            del self._incoming[: _HEADER.size + len(content)]
            match kind:
                case _Frame.DATA | _Frame.WINDOW_UPDATE:
                    yield from self._on_stream(kind, _Flag(flags & 15), number, length, content)
                case _Frame.PING:
                    if flags & _Flag.SYN:
                        self._frame(_Frame.PING, _Flag.ACK, 0, length)
                case _Frame.GO_AWAY:
                    yield GoneAway(length)
                case _:
                    raise YamuxError(f"a frame of type {kind}")

    def _on_stream(self, kind: int, flags: _Flag, number: int, length: int, content: bytes) -> Iterator[Event]:
        if flags & _Flag.SYN:
            # A plugin has no reason to open a stream: this server offers none of its own to plugins.
            if number % 2 or number == 0:
                raise YamuxError(f"it opens stream {number}, whose number is not its own")
            self._frame(_Frame.WINDOW_UPDATE, _Flag.RST, number, 0)
            return
        stream = self._streams.get(number)
        if stream is None:
            if number % 2 and number >= self._next:
                raise YamuxError(f"it speaks on stream {number}, which nobody has opened")
            return  # one that was ended; what was under way is dropped
        if kind == _Frame.WINDOW_UPDATE:
            stream.may_send += length
            if stream.may_send > _MAX_WINDOW:
                raise YamuxError("a window of more than 4 GiB")
            self._flush(number, stream)
        elif content:
            if stream.is_ended:
                raise YamuxError("data on a stream that it has ended")
            stream.may_receive -= length
            if stream.may_receive < 0:
                raise YamuxError("more data than it was asked for")
            yield Received(number, content)
        yield from self._ends(flags, number, stream)

    def _ends(self, flags: _Flag, number: int, stream: _Stream) -> Iterator[Event]:
        if flags & _Flag.RST:
            self._streams.pop(number, None)
            yield Ended(number, reset=True)
        elif flags & _Flag.FIN:
            if stream.is_ended:
                raise YamuxError("a stream that ends twice")
            stream.is_ended = True
            if stream.has_said_so:
                self._streams.pop(number, None)
            yield Ended(number)

    # -- what is sent

    def _flush(self, number: int, stream: _Stream) -> None:
        part = bytes(stream.waiting[: stream.may_send])
        if part:
            del stream.waiting[: len(part)]
            stream.may_send -= len(part)
            for start in range(0, len(part), WINDOW):
                piece = part[start : start + WINDOW]
                self._frame(_Frame.DATA, _Flag(0), number, len(piece))
                self._outgoing += piece
        if stream.is_closed and not stream.waiting and not stream.has_said_so:
            stream.has_said_so = True
            self._frame(_Frame.WINDOW_UPDATE, _Flag.FIN, number, 0)
            if stream.is_ended:
                self._streams.pop(number, None)

    def _frame(self, kind: _Frame, flags: _Flag, number: int, length: int) -> None:
        self._outgoing += _HEADER.pack(0, kind, flags, number, length)
