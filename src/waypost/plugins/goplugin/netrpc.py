"""Calls as Go's net/rpc makes them: on each stream a row of requests and a row of replies, all in gob.

A request is a header (`rpc.Request`: method and number) and its argument, a reply a header (`rpc.Response`) and its
value; the reply to a call that failed has the error as text in its header, and a value without meaning.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from waypost.plugins.goplugin.gob import Builtin, Encoder, GobError, Struct, Type
from waypost.plugins.goplugin.ungob import Decoder

MAX_PENDING = 1000
"""Calls that may wait for their reply at once; those that nobody waits for any more are among them."""

_REQUEST = Struct("Request", (("ServiceMethod", Builtin.STRING), ("Seq", Builtin.UINT)))


class RpcError(Exception):
    """The other side breaks the rules of net/rpc: the stream is of no use any more."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of one call: a value, or an error's text."""

    number: int
    value: object
    error: str


@dataclass(slots=True)
class Calls:
    """The calls on one stream, from the side that makes them. No input and no output."""

    _encoder: Encoder = field(default_factory=Encoder)
    _decoder: Decoder = field(default_factory=Decoder)
    _pending: set[int] = field(default_factory=set)
    _next: int = 0
    _header: dict[str, object] | None = None

    def call(self, method: str, kind: Type, argument: object) -> tuple[int, bytes]:
        """The number of a call, and the octets that make it. Raises `RpcError`, and `GobError` for its argument."""
        if len(self._pending) >= MAX_PENDING:
            raise RpcError(f"{MAX_PENDING} calls were not replied to")
        number = self._next
        written = self._encoder.encode(kind, argument)  # first, since it may fail
        octets = self._encoder.encode(_REQUEST, {"ServiceMethod": method, "Seq": number}) + written
        self._next += 1
        self._pending.add(number)
        return number, octets

    def receive(self, data: bytes) -> Iterator[Reply]:
        """The replies that are complete with `data`. Raises `RpcError`."""
        try:
            for value in self._decoder.receive(data):
                if self._header is None:
                    self._header = _header(value)
                    continue
                header, self._header = self._header, None
                yield self._reply(header, value)
        except GobError as error:
            raise RpcError(str(error)) from None

    def _reply(self, header: dict[str, object], value: object) -> Reply:
        number, error = header.get("Seq", 0), header.get("Error", "")
        if not isinstance(number, int) or not isinstance(error, str):
            raise RpcError("a reply whose header is none")
        if number not in self._pending:
            raise RpcError(f"a reply to call {number}, which was not made or is replied to already")
        self._pending.remove(number)
        return Reply(number, None if error else value, error)


def _header(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise RpcError("a reply without a header")
    return value
