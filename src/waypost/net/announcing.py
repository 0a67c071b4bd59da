"""The octets in front of a session with which a proxy says whose connection it is."""

import asyncio

from waypost.net.accepted import Accepted
from waypost.net.proxy_protocol import Endpoint, ProxyError, read_header
from waypost.net.stream import StreamTimeoutError


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
