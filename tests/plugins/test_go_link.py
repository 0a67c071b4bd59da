"""The socket of a Go plugin, against another end that says anything: every fault ends the waiting, once."""

import asyncio
import struct
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from waypost.plugins.goplugin.gob import Builtin, Encoder, Struct
from waypost.plugins.goplugin.link import MAX_PER_SECOND, Link
from waypost.plugins.port import CrashedError, NonsenseError

RESPONSE = Struct("Response", (("ServiceMethod", Builtin.STRING), ("Seq", Builtin.UINT), ("Error", Builtin.STRING)))


class Transport(asyncio.Transport):
    """Takes what is written, as a socket that is never full."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.is_aborted = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def get_write_buffer_size(self) -> int:
        return 0

    def abort(self) -> None:
        self.is_aborted = True


class End:
    """A link, and what its other end says."""

    def __init__(self) -> None:
        self.printed: list[bytes] = []
        self.ends: list[str] = []
        self.transport = Transport()
        self.link = Link(self.printed.append, self.ends.append)
        self.link.connection_made(self.transport)
        self._encoders: dict[int, Encoder] = {}

    def say(self, stream: int, data: bytes) -> None:
        self.link.data_received(struct.pack(">BBHII", 0, 0, 0, stream, len(data)) + data)

    def reply(self, stream: int, number: int, kind: Builtin, value: object, error: str = "") -> None:
        encoder = self._encoders.setdefault(stream, Encoder())
        header = encoder.encode(RESPONSE, {"ServiceMethod": "x", "Seq": number, "Error": error})
        self.say(stream, header + encoder.encode(kind, value))

    async def started(self) -> "End":
        """With a selector: the stream 7, after those for calls (1) and for what is printed (3 and 5)."""
        starting = asyncio.ensure_future(self.link.start())
        await asyncio.sleep(0)
        self.reply(1, 0, Builtin.UINT, 9)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        self.say(7, b"\x09\x00")
        self.say(7, b"\x00\x00")
        await starting
        return self


async def test_a_selector_is_asked_for_and_asked() -> None:
    end = await End().started()
    asking = asyncio.ensure_future(end.link.select([{"Addr": "a:25", "User": "u", "Pass": ""}]))
    await asyncio.sleep(0)
    assert b"Plugin.Select" in end.transport.written
    end.reply(7, 0, Builtin.STRING, "a:25")
    assert await asking == "a:25"
    end.say(3, b"printed\n")
    assert end.printed == [b"printed\n"]
    assert end.ends == []


async def test_an_error_costs_one_answer() -> None:
    end = await End().started()
    asking = asyncio.ensure_future(end.link.select([]))
    await asyncio.sleep(0)
    end.reply(7, 0, Builtin.STRING, "", "no\r\nway")
    with pytest.raises(NonsenseError, match="it failed: no way"):
        await asking
    assert end.ends == []


async def test_an_answer_that_comes_too_late_is_passed_over() -> None:
    end = await End().started()
    late = asyncio.ensure_future(end.link.select([]))
    await asyncio.sleep(0)
    late.cancel()
    await asyncio.wait((late,))
    asking = asyncio.ensure_future(end.link.select([]))
    await asyncio.sleep(0)
    end.reply(7, 0, Builtin.STRING, "late")
    end.reply(7, 1, Builtin.STRING, "in time")
    assert await asking == "in time"


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (lambda end: end.reply(7, 5, Builtin.STRING, "x"), "a reply to call 5, which was not made"),
        (lambda end: end.say(7, b"\x03\x10\x00\x00"), "which nobody has described"),
        (lambda end: end.say(9, b"x"), "nobody has opened"),
        (lambda end: end.link.data_received(struct.pack(">BBHII", 0, 3, 0, 0, 0)), "it takes no more calls"),
        (lambda end: end.link.data_received(struct.pack(">BBHII", 0, 1, 4, 7, 0)), "it has ended the stream"),
        (lambda end: end.link.data_received(bytes(MAX_PER_SECOND + 1)), "octets in a second"),
        (lambda end: end.link.close("it was closed"), "it was closed"),
    ],
    ids=["call", "gob", "stream", "go away", "end", "flood", "closed"],
)
async def test_a_fault_ends_all_waiting_once(fault: Callable[[End], None], why: str) -> None:
    end = await End().started()
    asking = [asyncio.ensure_future(end.link.select([])) for _ in range(3)]
    await asyncio.sleep(0)
    fault(end)
    fault(end)
    for each in asking:
        with pytest.raises(CrashedError) as caught:
            await each
        assert why in str(caught.value)
    assert len(end.ends) == 1
    assert end.transport.is_aborted
    with pytest.raises(CrashedError):
        await end.link.select([])


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ((Builtin.UINT, 0, "unknown plugin type: selector"), "it has no selector: unknown plugin type"),
        ((Builtin.STRING, "x", ""), "something that is no number"),
        ((Builtin.UINT, 1 << 32, ""), "something that is no number"),
    ],
)
async def test_a_plugin_without_a_selector(answer: tuple[Builtin, object, str], why: str) -> None:
    end = End()
    starting = asyncio.ensure_future(end.link.start())
    await asyncio.sleep(0)
    kind, value, error = answer
    end.reply(1, 0, kind, value, error)
    with pytest.raises(CrashedError, match=why):
        await starting


async def test_the_wrong_confirmation_is_a_fault() -> None:
    end = End()
    starting = asyncio.ensure_future(end.link.start())
    await asyncio.sleep(0)
    end.reply(1, 0, Builtin.UINT, 9)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    end.say(7, b"\x08")
    with pytest.raises(CrashedError, match="does not confirm"):
        await starting


@settings(deadline=None)
@given(pieces=st.lists(st.binary(max_size=60) | st.tuples(st.sampled_from([1, 3, 5, 7]), st.binary(max_size=60))))
def test_any_octets_break_the_link_or_nothing(pieces: list[bytes | tuple[int, bytes]]) -> None:
    async def hear() -> None:
        end = await End().started()
        asking = asyncio.ensure_future(end.link.select([]))
        await asyncio.sleep(0)
        for piece in pieces:
            if isinstance(piece, tuple):
                end.say(*piece)
            else:
                end.link.data_received(piece)
        end.link.close("the end")
        assert len(end.ends) == 1
        with pytest.raises((CrashedError, NonsenseError)):
            await asking

    asyncio.run(hear())
