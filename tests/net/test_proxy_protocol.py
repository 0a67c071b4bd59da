"""The PROXY header as octets: what is read, what is refused, and that what is written is read again."""

from ipaddress import ip_address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from waypost.net.proxy_protocol import SIGNATURE, ProxyError, ProxyHeader, crc32c, encode_v1, encode_v2, read_header

CLIENT, SERVER = ("192.0.2.7", 4711), ("198.51.100.1", 25)


def v2(command: int, family: int, block: bytes) -> bytes:
    return SIGNATURE + bytes((command, family)) + len(block).to_bytes(2, "big") + block


FOUR = bytes((192, 0, 2, 7, 198, 51, 100, 1)) + (4711).to_bytes(2, "big") + (25).to_bytes(2, "big")
SIX = ip_address("2001:db8::7").packed + ip_address("2001:db8::1").packed + b"\x12\x67\0\x19"


@pytest.mark.parametrize(
    ("header", "client"),
    [
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 25\r\n", CLIENT),
        (b"PROXY TCP6 2001:db8::7 2001:DB8::1 4711 25\r\n", ("2001:db8::7", 4711)),
        (b"PROXY TCP6 ::ffff:192.0.2.7 ::1 4711 25\r\n", CLIENT),
        (b"PROXY UNKNOWN\r\n", None),
        (b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", None),
        (v2(0x21, 0x11, FOUR), CLIENT),
        (v2(0x21, 0x21, SIX), ("2001:db8::7", 4711)),
        (v2(0x21, 0x11, FOUR + b"\x05\0\3abc\x04\0\0"), CLIENT),  # UNIQUE_ID, NOOP
        (v2(0x20, 0x00, b""), None),
        (v2(0x20, 0x00, b"\xff\xff"), None),  # behind LOCAL there may be anything
        (v2(0x20, 0x11, FOUR), None),
        (v2(0x20, 0x11, b"health"), None),  # whatever its family says
        (v2(0x20, 0xF2, FOUR + b"\xff"), None),
        (v2(0x21, 0x00, b""), None),
        (v2(0x21, 0x31, bytes(216)), None),
    ],
)
def test_what_a_header_announces(header: bytes, client: tuple[str, int] | None):
    assert read_header(header + b"EHLO x\r\n") == ProxyHeader(len(header), client)
    for cut in range(len(header)):
        assert read_header(header[:cut]) is None


@pytest.mark.parametrize(
    "octets",
    [
        b"EHLO client\r\n",
        b"\x16\x03\x01",
        b"PROXZ",
        b"proxy TCP4 192.0.2.7 198.51.100.1 4711 25\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 25\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 4711\r\n",
        b"PROXY  TCP4 192.0.2.7 198.51.100.1 4711 25\r\n",
        b"PROXY TCP4 192.0.2.07 198.51.100.1 4711 25\r\n",
        b"PROXY TCP4 192.0.2.256 198.51.100.1 4711 25\r\n",
        b"PROXY TCP4 2001:db8::7 2001:db8::1 4711 25\r\n",
        b"PROXY TCP6 192.0.2.7 198.51.100.1 4711 25\r\n",
        b"PROXY TCP4 192.0.2.7 example 4711 25\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 65536 25\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 025\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 25 \r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 ٤٧١١ 25\r\n".encode(),
        b"PROXY UNKNOWNX\r\n",
        b"PROXY UDP4 192.0.2.7 198.51.100.1 4711 25\r\n",
        b"PROXY UNKNOWN " + b"x" * 100,
        v2(0x11, 0x11, FOUR),  # version 1 in the clothes of version 2
        v2(0x22, 0x11, FOUR),
        v2(0x21, 0x11, FOUR[:-1]),
        v2(0x21, 0x21, FOUR),
        v2(0x21, 0x31, bytes(215)),
        v2(0x21, 0x12, FOUR),  # UDP
        v2(0x21, 0x41, FOUR),
        v2(0x21, 0x11, FOUR + b"\x05\0"),
        v2(0x21, 0x11, FOUR + b"\x05\0\4abc"),
        v2(0x21, 0x11, FOUR + b"\x03\0\4\0\0\0\0"),
        v2(0x21, 0x11, FOUR + b"\x03\0\3\0\0\0"),
        SIGNATURE + b"\x21\x11\xff\xff",
    ],
)
def test_what_is_no_header(octets: bytes):
    with pytest.raises(ProxyError):
        read_header(octets)


def test_the_checksum_is_that_of_its_rfc():
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720 appendix B.4


@pytest.mark.parametrize("at", range(len(encode_v2(CLIENT, SERVER))))
def test_a_header_with_a_checksum_that_was_altered_announces_nobody_else(at: int):
    header = bytearray(encode_v2(CLIENT, SERVER))
    header[at] ^= 0x04
    try:
        read = read_header(bytes(header))
    except ProxyError:
        return
    assert read is None or read.client in (None, CLIENT)


ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)
ENDPOINTS = st.none() | st.tuples(ADDRESSES, st.integers(0, 65535))


@given(client=ENDPOINTS, server=ENDPOINTS, behind=st.binary(max_size=40))
@example(client=("::ffff:192.0.2.7", 1), server=("2001:db8::1", 25), behind=b"")
@example(client=("fe80::1%eth0", 1), server=("192.0.2.7", 25), behind=b"")
@example(client=("", 0), server=None, behind=b"")
def test_what_is_written_is_read(client, server, behind):
    expected = None
    if client is not None and client[0]:
        address = ip_address(client[0].partition("%")[0])
        expected = (str(getattr(address, "ipv4_mapped", None) or address), client[1])
    for encode in (encode_v1, encode_v2):
        header = encode(client, server)
        assert read_header(header + behind) == ProxyHeader(len(header), expected)


PIECES = st.sampled_from(
    [
        SIGNATURE,
        b"PROXY ",
        b"TCP4 ",
        b"TCP6 ",
        b"UNKNOWN",
        b"192.0.2.7 ",
        b"::1 ",
        b"25",
        b"\r\n",
        b"\x21\x11\0\x0c",
        FOUR,
    ]
)


@given(st.lists(PIECES | st.binary(max_size=20), max_size=8).map(b"".join))
def test_no_octets_raise_anything_else_and_more_octets_never_change_a_header(octets: bytes):
    try:
        found = read_header(octets)
    except ProxyError:
        return
    if found is None:
        assert len(octets) < 16 * 1024 + 16
    else:
        assert found.size <= len(octets)
        assert read_header(octets[: found.size]) == found
