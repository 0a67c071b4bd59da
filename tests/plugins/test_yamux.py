"""Streams over one connection: against a peer that does the other half, and against octets of all kinds."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.plugins.goplugin.yamux import MAX_WAITING, WINDOW, Ended, Event, GoneAway, Received, Session, YamuxError

DATA, UPDATE, PING, AWAY = range(4)
SYN, ACK, FIN, RST = 1, 2, 4, 8


def frame(kind: int, flags: int, stream: int, length: int, data: bytes = b"") -> bytes:
    return struct.pack(">BBHII", 0, kind, flags, stream, length) + data


def data_frame(stream: int, data: bytes, flags: int = 0) -> bytes:
    return frame(DATA, flags, stream, len(data), data)


def frames(octets: bytes) -> list[tuple[int, int, int, int, bytes]]:
    """What the session has sent, frame by frame."""
    found, at = [], 0
    while at < len(octets):
        version, kind, flags, stream, length = struct.unpack_from(">BBHII", octets, at)
        assert version == 0
        end = at + 12 + (length if kind == DATA else 0)
        found.append((kind, flags, stream, length, octets[at + 12 : end]))
        at = end
    assert at == len(octets)
    return found


def opened(count: int = 1) -> Session:
    session = Session()
    for _ in range(count):
        session.open()
    session.outgoing()
    return session


def events(session: Session, octets: bytes) -> list[Event]:
    return list(session.receive(octets))


def test_streams_have_odd_numbers_and_announce_themselves() -> None:
    session = Session()
    assert [session.open(), session.open()] == [1, 3]
    assert frames(session.outgoing()) == [(UPDATE, SYN, 1, 0, b""), (UPDATE, SYN, 3, 0, b"")]
    assert session.outgoing() == b""


def test_more_than_the_window_waits_for_the_other_side() -> None:
    session = opened()
    session.send(1, b"x" * (WINDOW + 10))
    assert [(found[0], found[3]) for found in frames(session.outgoing())] == [(DATA, WINDOW)]
    assert events(session, frame(UPDATE, ACK, 1, 4)) == []
    assert frames(session.outgoing()) == [(DATA, 0, 1, 4, b"xxxx")]
    events(session, frame(UPDATE, 0, 1, 100))
    assert frames(session.outgoing()) == [(DATA, 0, 1, 6, b"x" * 6)]


def test_who_takes_nothing_is_given_up() -> None:
    session = opened()
    session.send(1, b"x" * WINDOW)
    session.send(1, b"x" * MAX_WAITING)
    with pytest.raises(YamuxError, match="does not read"):
        session.send(1, b"x")


def test_the_other_side_may_send_more_only_when_it_was_used() -> None:
    session = opened()
    events(session, data_frame(1, b"x" * WINDOW))
    session.consumed(1, WINDOW // 2 - 1)
    assert session.outgoing() == b""
    session.consumed(1, 1)
    assert frames(session.outgoing()) == [(UPDATE, 0, 1, WINDOW // 2, b"")]
    events(session, data_frame(1, b"x" * (WINDOW // 2)))
    with pytest.raises(YamuxError, match="more data"):
        events(session, data_frame(1, b"x"))


def test_a_ping_is_answered_with_its_number() -> None:
    session = opened()
    assert events(session, frame(PING, SYN, 0, 77) + frame(PING, ACK, 0, 5)) == []
    assert frames(session.outgoing()) == [(PING, ACK, 0, 77, b"")]


def test_going_away_is_told_both_ways() -> None:
    session = opened()
    assert events(session, frame(AWAY, 0, 0, 2)) == [GoneAway(2)]
    session.go_away()
    assert frames(session.outgoing()) == [(AWAY, 0, 0, 0, b"")]


def test_a_stream_ends_in_each_direction_by_itself() -> None:
    session = opened()
    assert events(session, data_frame(1, b"last", FIN)) == [Received(1, b"last"), Ended(1)]
    session.send(1, b"still")
    session.close(1)
    assert frames(session.outgoing()) == [(DATA, 0, 1, 5, b"still"), (UPDATE, FIN, 1, 0, b"")]
    with pytest.raises(YamuxError, match="closed"):
        session.send(1, b"more")
    assert events(session, data_frame(1, b"late")) == []  # it is forgotten


def test_the_end_comes_after_what_waits() -> None:
    session = opened()
    session.send(1, b"x" * (WINDOW + 1))
    session.close(1)
    assert [found[:2] for found in frames(session.outgoing())] == [(DATA, 0)]
    events(session, frame(UPDATE, 0, 1, 1))
    assert [found[:2] for found in frames(session.outgoing())] == [(DATA, 0), (UPDATE, FIN)]


def test_a_reset_ends_both_directions() -> None:
    session = opened(2)
    assert events(session, frame(UPDATE, RST, 1, 0)) == [Ended(1, reset=True)]
    with pytest.raises(YamuxError, match="closed"):
        session.send(1, b"x")
    session.reset(3)
    assert frames(session.outgoing()) == [(UPDATE, RST, 3, 0, b"")]
    assert events(session, data_frame(3, b"under way")) == []


def test_a_stream_that_the_plugin_opens_is_reset() -> None:
    session = opened()
    assert events(session, frame(UPDATE, SYN, 2, 0)) == []
    assert frames(session.outgoing()) == [(UPDATE, RST, 2, 0, b"")]


@pytest.mark.parametrize(
    "octets",
    [
        b"\x01" + bytes(11),
        frame(9, 0, 0, 0),
        frame(DATA, 0, 1, WINDOW + 1),
        data_frame(5, b"nobody opened it"),
        frame(UPDATE, SYN, 3, 0),
        frame(UPDATE, FIN, 1, 0) * 2,
        frame(UPDATE, FIN, 1, 0) + data_frame(1, b"x"),
        frame(UPDATE, 0, 1, 0xFFFFFFFF) * 2,
    ],
    ids=["version", "type", "too much", "no stream", "our number", "two ends", "after the end", "window"],
)
def test_what_breaks_the_rules_is_an_error(octets: bytes) -> None:
    with pytest.raises(YamuxError):
        events(opened(), octets)


# -- properties

ONE = st.builds(frame, st.integers(0, 4), st.integers(0, 15), st.integers(0, 6), st.integers(0, 300)) | st.builds(
    data_frame, st.sampled_from([1, 3]), st.binary(max_size=50), st.sampled_from([0, ACK, FIN, RST])
)


def told(octets: list[bytes]) -> tuple[list[tuple[int, bytes]], str, bytes]:
    """What each stream received, the error at the end, and what was sent, whatever the pieces."""
    session, received, error = opened(2), [], ""
    try:
        for piece in octets:
            for event in session.receive(piece):
                if isinstance(event, Received):
                    received.append((event.stream, event.data))
                    session.consumed(event.stream, len(event.data))
    except YamuxError as fault:
        error = str(fault)
    return received, error, session.outgoing()


@given(parts=st.lists(ONE, max_size=20), size=st.integers(1, 30))
def test_frames_come_in_any_pieces(parts: list[bytes], size: int) -> None:
    whole = b"".join(parts)
    assert told([whole]) == told([whole[at : at + size] for at in range(0, len(whole), size)])


@given(pieces=st.lists(st.binary(max_size=100) | ONE, max_size=10))
def test_any_octets_are_events_or_a_yamux_error(pieces: list[bytes]) -> None:
    told(pieces)  # raises nothing else


@given(
    sends=st.lists(st.integers(1, WINDOW), min_size=1, max_size=6),
    grants=st.lists(st.integers(1, WINDOW), max_size=12),
)
def test_never_more_than_the_window_and_everything_in_order(sends: list[int], grants: list[int]) -> None:
    session, window, arrived = opened(), WINDOW, bytearray()
    wanted = b"".join(bytes([number]) * octets for number, octets in enumerate(sends))
    for number, octets in enumerate(sends):
        try:
            session.send(1, bytes([number]) * octets)
        except YamuxError:
            return  # more waits than may
    for grant in [0, *grants, len(wanted)]:
        if grant:
            events(session, frame(UPDATE, 0, 1, grant))
            window += grant
        for _, _, _, length, data in frames(session.outgoing()):
            window -= length
            arrived += data
        assert window >= 0
    assert arrived == wanted
