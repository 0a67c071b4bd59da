"""A chunk that an upstream refuses leaves no connection that others could be given."""

import asyncio

from waypost.mail.content import MemoryContent
from waypost.mail.outcome import Phase
from waypost.net.login import Logins
from waypost.net.upstream import UpstreamConnection
from waypost.routing.route import Timeouts, Upstream, UpstreamTls
from waypost.smtp import commands as c
from waypost.smtp.address import Address
from waypost.smtp.reply import Reply

_CONTENT = b"x" * 600_000  # without a line end, so it goes by BDAT, in more than one chunk
_ANSWERS = {b"EHLO": b"250-mx\r\n250 CHUNKING\r\n", b"MAIL": b"250 OK\r\n", b"RCPT": b"250 OK\r\n"}


async def _refuses_chunks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A server for which a refused chunk does not end the transaction, which RFC 3030 leaves open."""
    writer.write(b"220 mx\r\n")
    try:
        while line := await reader.readline():
            verb, *arguments = line.split()
            if verb == b"BDAT":
                await reader.readexactly(int(arguments[0]))
            writer.write(_ANSWERS.get(verb, b"552 5.3.4 too large\r\n"))
            await writer.drain()
    except ConnectionError:
        pass  # the client has aborted, as it should
    finally:
        writer.close()


async def test_a_connection_on_which_a_chunk_was_refused_is_not_used_again() -> None:
    server = await asyncio.start_server(_refuses_chunks, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        upstream = Upstream("new", "127.0.0.1", port, tls=UpstreamTls(mode="off"))
        connection = UpstreamConnection(upstream, "client.example", 0.0, Logins())
        timeouts = Timeouts()
        assert await connection.open(timeouts) is None
        a = Address("a", "example.com")
        await connection.begin(c.Mail(a), [c.Rcpt(a)], timeouts)
        phase, answer = await connection.send(MemoryContent(_CONTENT), timeouts)
        assert phase is Phase.CONTENT
        assert isinstance(answer, Reply)
        assert answer.code == 552
        # Whether the transaction is over there is not known: the next MAIL might be a nested one.
        assert connection.is_closed
