"""The end of a session: last words that arrive, and knowing whether somebody was there to hear them."""

import asyncio

from waypost.net.stream import InterruptedReadError, Stream, StreamTimeoutError

_PACE = 0.02  # seconds between two looks for a reset, of which the transport would tell at the next write only


async def linger(stream: Stream, timeout: float) -> None:
    """Ends our side, and reads what the peer still sends until it ends too or `timeout` seconds pass.

    Closing while the peer is still sending would destroy our last words on their way (a TCP reset).
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + timeout
    try:
        stream.end()
        while not stream.lost and await stream.read(max(0.0, end - loop.time())):
            pass
    except (StreamTimeoutError, InterruptedReadError, OSError):
        pass
    stream.close()


async def has_gone(stream: Stream, timeout: float) -> bool:
    """Whether a peer that sends nothing more does not listen either, so that what was just written is lost.

    Whoever listens stays silent; a host whose program has closed the connection answers with a reset, sooner
    than in `timeout` seconds.
    """
    stream.flush()
    loop = asyncio.get_running_loop()
    end = loop.time() + timeout
    while not stream.is_reset:
        if loop.time() > end:
            return False
        await asyncio.sleep(_PACE)
    return True
