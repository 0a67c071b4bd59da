"""The PROXY protocol, versions 1 and 2: a proxy in front says whose connection this is. Pure: octets and values.

As published by HAProxy (doc/proxy-protocol.txt, section 2). What is not exactly as written there raises
`ProxyError`, for a header that is misread gives a client somebody else's address.
"""

import ipaddress
import re
from dataclasses import dataclass
from functools import cache

Endpoint = tuple[str, int]
"""IP address and port."""

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"  # of version 2: nothing that any protocol begins with
MAX_V1 = 107  # octets of a line of version 1, CRLF included
MAX_V2 = 16 * 1024  # octets behind the fixed part of version 2: addresses take 36, the rest is TLVs

_V1 = re.compile(
    rb"PROXY (?:UNKNOWN(?: [^\r\n]*)?|(TCP[46]) ([0-9.]+|[0-9A-Fa-f:.]+) ([0-9A-Fa-f:.]+) (\d+) (\d+))\r\n"
)
_PORT = re.compile(rb"0|[1-9][0-9]{0,4}")
_FIXED = 16
_CRC32C = 0x03
_ADDRESSES = {1: 4, 2: 16}  # family of version 2, octets of one IP address
_UNIX = 3
_UNIX_SIZE = 216
_STREAM = 1
_LOCAL = 0


class ProxyError(ValueError):
    """What came is no PROXY header."""


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """A header: how many octets it has, and the client that it announces.

    `client` is None when there is nobody to announce (UNKNOWN, LOCAL, a Unix socket): the connection is the proxy's.
    """

    size: int
    client: Endpoint | None


def read_header(data: bytes) -> ProxyHeader | None:
    """The header that `data` begins with; None when it is not complete. Raises `ProxyError`."""
    if data[:1] == b"P":
        return _read_v1(data)
    if data[: len(SIGNATURE)] == SIGNATURE[: len(data)]:
        return _read_v2(data)
    raise ProxyError("it begins like no PROXY header")


def _read_v1(data: bytes) -> ProxyHeader | None:
    if data[:6] != b"PROXY "[: len(data)]:
        raise ProxyError("it begins like no PROXY header")
    end = data.find(b"\n", 0, MAX_V1)
    if end < 0:
        if len(data) >= MAX_V1:
            raise ProxyError("its line is too long")
        return None
    found = _V1.fullmatch(data[: end + 1])
    if found is None:
        raise ProxyError("its line is not as it must be")
    if found[1] is None:
        return ProxyHeader(end + 1, None)
    version = int(found[1][3:])
    _address(found[3], version)
    _port(found[5])
    return ProxyHeader(end + 1, (_address(found[2], version), _port(found[4])))


def _address(text: bytes, version: int) -> str:
    try:
        address = ipaddress.ip_address(text.decode("ascii"))
    except ValueError:
        raise ProxyError("an address in it is none") from None
    if address.version != version:
        raise ProxyError("an address in it is of the wrong family")
    return _shown(address)


def _port(text: bytes) -> int:
    if _PORT.fullmatch(text) is None or int(text) > 65535:
        raise ProxyError("a port in it is none")
    return int(text)


def _shown(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """As everywhere: an IPv4 address in IPv6 clothing is IPv4."""
    return str(getattr(address, "ipv4_mapped", None) or address)


def _read_v2(data: bytes) -> ProxyHeader | None:
    if len(data) < _FIXED:
        return None
    version, command = data[12] >> 4, data[12] & 0xF
    family, transport = data[13] >> 4, data[13] & 0xF
    if version != 2 or command > 1:
        raise ProxyError("its version or its command is not known")
    length = int.from_bytes(data[14:16], "big")
    if length > MAX_V2:
        raise ProxyError("it is too long")
    size = _FIXED + length
    if len(data) < size:
        return None
    if command == _LOCAL:  # the proxy's own connection: whatever follows is to be skipped, the family too
        return ProxyHeader(size, None)
    header, taken = data[:size], 0
    client = None
    if family in _ADDRESSES:
        taken = 2 * _ADDRESSES[family] + 4
        if length < taken:
            raise ProxyError("it is too short for its addresses")
        if transport != _STREAM:
            raise ProxyError("it announces something else than a TCP connection")
        client = _client_v2(header[_FIXED : _FIXED + taken], _ADDRESSES[family])
    elif family == _UNIX:
        taken = _UNIX_SIZE
        if length < taken:
            raise ProxyError("it is too short for its addresses")
    elif family != 0:
        raise ProxyError("its address family is not known")
    _check_tlvs(header, _FIXED + taken)
    return ProxyHeader(size, client)


def _client_v2(block: bytes, size: int) -> Endpoint:
    return _shown(ipaddress.ip_address(block[:size])), int.from_bytes(block[2 * size : 2 * size + 2], "big")


def _check_tlvs(header: bytes, at: int) -> None:
    """Walks through the TLVs, and compares the checksum when one of them is that."""
    while at < len(header):
        end = at + 3 + int.from_bytes(header[at + 1 : at + 3], "big")
        if at + 3 > len(header) or end > len(header):
            raise ProxyError("a TLV goes beyond its end")
        if header[at] == _CRC32C:
            if end - at != 7:
                raise ProxyError("its checksum has not four octets")
            without = header[: at + 3] + bytes(4) + header[end:]
            if int.from_bytes(header[at + 3 : end], "big") != crc32c(without):
                raise ProxyError("its checksum is wrong")
        at = end


def encode_v1(client: Endpoint | None, server: Endpoint | None) -> bytes:
    """The line that announces a client and the address it was meant for; UNKNOWN without a client."""
    pair = _pair(client, server)
    if pair is None:
        return b"PROXY UNKNOWN\r\n"
    source, destination, ports = pair
    return f"PROXY TCP{source.version} {source} {destination} {ports[0]} {ports[1]}\r\n".encode("ascii")


def encode_v2(client: Endpoint | None, server: Endpoint | None) -> bytes:
    """The same in version 2, with a checksum; LOCAL without a client."""
    pair = _pair(client, server)
    if pair is None:
        command, family, block = 0x20, 0x00, b""
    else:
        source, destination, ports = pair
        command, family = 0x21, 0x11 if source.version == 4 else 0x21
        block = source.packed + destination.packed + b"".join(port.to_bytes(2, "big") for port in ports)
    head = SIGNATURE + bytes((command, family)) + (len(block) + 7).to_bytes(2, "big") + block
    head += bytes((_CRC32C, 0, 4))
    return head + crc32c(head + bytes(4)).to_bytes(4, "big")


_Ip = ipaddress.IPv4Address | ipaddress.IPv6Address


def _pair(client: Endpoint | None, server: Endpoint | None) -> tuple[_Ip, _Ip, tuple[int, int]] | None:
    """Both addresses in the client's family: what has no form in it is written as unspecified."""
    source = None if client is None else _parsed(client[0])
    if client is None or source is None:
        return None
    destination = None if server is None else _parsed(server[0])
    if destination is None or destination.version != source.version:
        destination = ipaddress.IPv4Address(0) if source.version == 4 else ipaddress.IPv6Address(0)
    return source, destination, (client[1], 0 if server is None else server[1])


def _parsed(text: str) -> _Ip | None:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


@cache
def _crc_table() -> tuple[int, ...]:
    table = []
    for octet in range(256):
        value = octet
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return tuple(table)


def crc32c(data: bytes) -> int:
    """The checksum of RFC 3720 section 12.1 (Castagnoli's), which zlib does not have."""
    table, value = _crc_table(), 0xFFFFFFFF
    for octet in data:
        value = table[(value ^ octet) & 0xFF] ^ value >> 8
    return value ^ 0xFFFFFFFF
