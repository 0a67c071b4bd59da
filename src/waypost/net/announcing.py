"""How a proxy says whose connection it is: by a PROXY header in front of a session, or by XCLIENT in it."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

from waypost.mail.message import Client
from waypost.net.accepted import Accepted
from waypost.net.proxy_protocol import Endpoint, ProxyError, read_header
from waypost.net.stream import StreamTimeoutError
from waypost.routing.route import Account
from waypost.smtp.reply import Reply, reply
from waypost.smtp.xattributes import Attributes, AttributeSyntaxError, known, parse_address, parse_port

_NO_LOGIN = reply(501, "5.5.4", "There is no such account")


async def announced_client(stream: Accepted, timeout: float) -> Endpoint | None:
    """Reads a PROXY header and nothing behind it; the client it announces, or None. `timeout` is for all of it.

    Raises `ProxyError`, `StreamTimeoutError`, and `ConnectionError` when the peer goes without a word.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + timeout
    data = b""
    while True:
        left = end - loop.time()
        if left <= 0:
            raise StreamTimeoutError
        more = await stream.read(left)
        if not more:
            raise ProxyError("the connection ended in it") if data else ConnectionError("nothing was said")
        data += more
        header = read_header(data)
        if header is not None:
            stream.unread(data[header.size :])
            return header.client


def told_client(client: Client, attributes: Attributes, find: Callable[[str], Account | None]) -> Client | Reply:
    """The client that XCLIENT tells of, which has not introduced itself, or what is wrong. `find` knows accounts."""
    told = dict(attributes)
    address, port, login = known(told.get("ADDR")), known(told.get("PORT")), known(told.get("LOGIN"))
    try:
        client = replace(
            client,
            address=client.address if address is None else parse_address(address),
            port=client.port if port is None else parse_port(port),
        )
    except AttributeSyntaxError as error:
        return reply(501, "5.5.4", str(error))
    if login is not None and find(login) is None:
        return _NO_LOGIN
    return replace(client, name="", protocol="SMTP", account=login, tls=None)
