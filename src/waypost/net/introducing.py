"""Telling an upstream who the client is: a PROXY header, XCLIENT or XFORWARD."""

import re

from waypost.mail.message import Client
from waypost.net.proxy_protocol import encode_v1, encode_v2
from waypost.net.stream import Stream
from waypost.routing.route import ClientAddress
from waypost.smtp import commands as c
from waypost.smtp.xattributes import UNAVAILABLE, address_text

PROXY_HEADERS = {"proxy-v1": encode_v1, "proxy-v2": encode_v2}
"""What is said in front of everything else, once for a connection, which is then this client's."""

_MAX_ATTRIBUTES = 480  # octets of a line of XFORWARD behind its verb: a line may have 512
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._\-]{0,253}[A-Za-z0-9])?|\[[A-Za-z0-9.:\-]{1,80}\]", re.ASCII)


def is_known(client: Client | None) -> bool:
    """Whether there is a client with an address. Notifications, which are ours, have none."""
    return client is not None and bool(address_text(client.address))


def is_same(one: Client, other: Client) -> bool:
    """Whether upstreams may take two clients for one. Ports differ with each session, and are told as they were."""
    return one is other or (one.address, one.name, one.account, one.protocol) == (
        other.address, other.name, other.account, other.protocol,
    )  # fmt: skip


def may_carry(mode: ClientAddress, told: Client | None, client: Client, *, may_tell: bool) -> bool:
    """Whether a connection may carry mail of `client` when its upstream has been `told` of another, or of nobody.

    `may_tell`: XCLIENT is offered. Postfix offers it to those it trusts, and whom we have said we are it may not.
    """
    if mode in PROXY_HEADERS:
        return told is not None and told.address == client.address
    if mode != "xclient" or told is None or is_same(told, client):
        return True
    return may_tell and is_known(client)  # and there is no XCLIENT that says it is nobody


def proxy_header(mode: ClientAddress | None, client: Client | None, stream: Stream) -> bytes:
    """The PROXY header, or nothing. Mail that nobody handed in is announced as ours: not every server knows UNKNOWN."""
    encode = PROXY_HEADERS.get(mode or "")
    if encode is None:
        return b""
    source = (client.address, client.port) if client is not None and is_known(client) else stream.name
    return encode(source, stream.peer)


def hello_name(client: Client, hostname: str) -> str:
    """What EHLO says behind XCLIENT: the client's own name, if a server can be told it."""
    return client.name if _NAME.fullmatch(client.name) else hostname


def xclient(client: Client, offered: tuple[str, ...]) -> c.Xclient:
    """XCLIENT with those attributes that the upstream offers."""
    return c.Xclient(_of(client, offered))


def xforward(client: Client | None, offered: tuple[str, ...]) -> tuple[c.Xforward, ...]:
    """XFORWARD with those attributes that the upstream offers, in one line or several; nothing when there are none."""
    if client is None or not is_known(client):
        return ()
    lines: list[list[tuple[str, str]]] = [[]]
    room = _MAX_ATTRIBUTES
    for attribute in _of(client, offered):
        length = 3 * len(attribute[1].encode()) + len(attribute[0]) + 2
        if length > room and lines[-1]:
            lines.append([])
            room = _MAX_ATTRIBUTES
        room -= length
        lines[-1].append(attribute)
    return tuple(c.Xforward(tuple(line)) for line in lines if line)


def _of(client: Client, offered: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    facts = {
        "NAME": UNAVAILABLE,  # the name that DNS has for it is not looked up
        "ADDR": address_text(client.address),
        "PORT": str(client.port),
        "HELO": client.name[:80],
        "PROTO": "SMTP" if client.protocol == "SMTP" else "ESMTP",
        "LOGIN": client.account or "",
        "SOURCE": "REMOTE",
    }
    return tuple((name, value) for name, value in facts.items() if name in offered)
