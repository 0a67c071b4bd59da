"""Calls as Go's net/rpc makes them, and the first line of a plugin. What Go itself says is in `test_go_plugins`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.plugins.goplugin.gob import Builtin, Encoder, GobError, Struct
from waypost.plugins.goplugin.handshake import HandshakeError, TcpAddress, UnixAddress, read_handshake
from waypost.plugins.goplugin.netrpc import MAX_PENDING, Calls, Reply, RpcError
from waypost.plugins.goplugin.ungob import Decoder

RESPONSE = Struct("Response", (("ServiceMethod", Builtin.STRING), ("Seq", Builtin.UINT), ("Error", Builtin.STRING)))


class Server:
    """The other side: replies with what it is told."""

    def __init__(self) -> None:
        self._encoder = Encoder()

    def reply(self, number: int, value: str, error: str = "") -> bytes:
        header = {"ServiceMethod": "Plugin.Select", "Seq": number, "Error": error}
        return self._encoder.encode(RESPONSE, header) + self._encoder.encode(Builtin.STRING, value)


def asked(count: int = 1) -> Calls:
    calls = Calls()
    for _ in range(count):
        calls.call("Plugin.Select", Builtin.STRING, "x")
    return calls


def test_a_call_is_a_header_and_an_argument() -> None:
    calls = Calls()
    made = [calls.call("Plugin.Select", Builtin.STRING, text) for text in ("one", "two")]
    assert [number for number, _ in made] == [0, 1]
    assert list(Decoder().receive(b"".join(octets for _, octets in made))) == [
        {"ServiceMethod": "Plugin.Select"},
        "one",
        {"ServiceMethod": "Plugin.Select", "Seq": 1},
        "two",
    ]


def test_an_argument_that_cannot_be_written_leaves_the_stream_whole() -> None:
    calls = Calls()
    kind = Struct("Text", (("Text", Builtin.STRING),))
    with pytest.raises(GobError):
        calls.call("Plugin.Select", kind, {"Text": "\ud800"})
    number, octets = calls.call("Plugin.Select", kind, {"Text": "good"})
    assert number == 0
    assert list(Decoder().receive(octets)) == [{"ServiceMethod": "Plugin.Select"}, {"Text": "good"}]


def test_replies_come_in_any_order_and_any_pieces() -> None:
    calls, server = asked(2), Server()
    octets = server.reply(1, "b") + server.reply(0, "", "no way")
    found = [reply for at in range(len(octets)) for reply in calls.receive(octets[at : at + 1])]
    assert found == [Reply(1, "b", ""), Reply(0, None, "no way")]


def test_a_reply_to_no_call_is_an_error() -> None:
    calls, server = asked(), Server()
    list(calls.receive(server.reply(0, "a")))
    with pytest.raises(RpcError, match="call 0"):
        list(calls.receive(server.reply(0, "a")))


def test_calls_without_replies_come_to_an_end() -> None:
    calls = asked(MAX_PENDING)
    with pytest.raises(RpcError, match="not replied"):
        calls.call("Plugin.Select", Builtin.STRING, "x")


@pytest.mark.parametrize("header", ["text", 5])
def test_a_reply_needs_a_header(header: str | int) -> None:
    kind = Builtin.STRING if isinstance(header, str) else Builtin.INT
    with pytest.raises(RpcError, match="without a header"):
        list(asked().receive(Encoder().encode(kind, header)))


def test_a_header_has_fields_of_the_right_types() -> None:
    encoder = Encoder()
    lie = encoder.encode(Struct("Response", (("Seq", Builtin.STRING),)), {"Seq": "x"})
    with pytest.raises(RpcError, match="header"):
        list(asked().receive(lie + encoder.encode(Builtin.STRING, "")))


@given(octets=st.lists(st.binary(max_size=200), max_size=4), at=st.integers(0), octet=st.integers(0, 255))
def test_any_octets_are_replies_or_an_rpc_error(octets: list[bytes], at: int, octet: int) -> None:
    damaged = bytearray(Server().reply(0, "value", "error"))
    damaged[at % len(damaged)] = octet
    for pieces in (octets, [bytes(damaged)]):
        calls = asked()
        try:
            for piece in pieces:
                list(calls.receive(piece))
        except RpcError:
            pass  # the one error there may be


# -- the first line

LINES = {
    b"1|1|unix|/tmp/plugin1|netrpc|": UnixAddress("/tmp/plugin1"),
    b"1|1|unix|/tmp/plugin1|netrpc||true|more": UnixAddress("/tmp/plugin1"),
    b"1|1|unix|/tmp/plugin1\r": UnixAddress("/tmp/plugin1"),
    b"1|1|tcp|127.0.0.1:10000|netrpc|": TcpAddress("127.0.0.1", 10000),
    b"1|1|tcp|[::1]:10000|netrpc": TcpAddress("::1", 10000),
}


@pytest.mark.parametrize("line", LINES)
def test_where_a_plugin_listens(line: bytes) -> None:
    assert read_handshake(line) == LINES[line]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"", "not a handshake"),
        (b"hello", "not a handshake"),
        (b"\xff|1|unix|/x", "not a handshake"),
        ("١|1|unix|/x".encode(), "not a handshake"),
        (b"1|1|unix", "not a handshake"),
        (b"2|1|unix|/x|netrpc|", "version 2 of go-plugin's protocol; only 1 is known"),
        (b"1|7|unix|/x|netrpc|", "version '7' of smtpmux's protocol"),
        (b"1|1|unix|/x|grpc|", "called by 'grpc'; build it without GRPCServer"),
        (b"1|1|unix|/x|netrpc|MIIB", "build it without TLSProvider"),
        (b"1|1|unix|x|netrpc|", "no socket of this machine"),
        (b"1|1|tcp|192.0.2.1:25|netrpc|", "no socket of this machine"),
        (b"1|1|tcp|127.0.0.1:99999|netrpc|", "no socket of this machine"),
        (b"1|1|pipe|/x|netrpc|", "no socket of this machine"),
    ],
)
def test_why_a_plugin_cannot_be_spoken_with(line: bytes, why: str) -> None:
    with pytest.raises(HandshakeError) as caught:
        read_handshake(line)
    assert why in str(caught.value)


@given(line=st.binary(max_size=80) | st.from_regex(rb"1\|1\|(unix|tcp)\|[^|]*(\|netrpc\|.*)?", fullmatch=True))
def test_any_line_is_an_address_or_a_handshake_error(line: bytes) -> None:
    fault = ""
    try:
        read_handshake(line)
    except HandshakeError as error:
        fault = str(error)
    assert fault.isprintable()
