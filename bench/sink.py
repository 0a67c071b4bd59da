"""A counting sink: an SMTP server that takes everything, keeps nothing, and counts what it took.

`smtp-sink` reads content octet by octet and is the bottleneck from 100 KB on. This one never looks at a line of
content: it reads into one large buffer, looks for CRLF.CRLF, and counts. It offers what a real server offers, so that
a system under test can use it. It is no part of Waypost, and its CPU time is counted to nobody.

    python -m bench.sink --control /tmp/sink.sock --listen primary=20001 --listen copy1=20002

Over the Unix socket, one line each way: `count` is answered with a JSON object, `reset` with `ok`. The sink ends when
whoever asked hangs up, so none is left over.
"""

import argparse
import asyncio
import json
import ssl
import time
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

TERMINATOR = b"\r\n.\r\n"
BUFFER = bytearray(1024 * 1024)
VIEW = memoryview(BUFFER)
LONGEST_LINE = 65536

EHLO = (
    b"250-sink.bench.test\r\n250-PIPELINING\r\n250-SIZE 104857600\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n"
    b"250-CHUNKING\r\n250-DSN\r\n250 ENHANCEDSTATUSCODES\r\n"
)
REPLIES = {
    b"EHLO": EHLO,
    b"HELO": b"250 sink.bench.test\r\n",
    b"MAIL": b"250 2.1.0 Ok\r\n",
    b"RCPT": b"250 2.1.5 Ok\r\n",
    b"DATA": b"354 Go on\r\n",
    b"RSET": b"250 2.0.0 Ok\r\n",
    b"NOOP": b"250 2.0.0 Ok\r\n",
    b"QUIT": b"221 2.0.0 Bye\r\n",
}
TAKEN = b"250 2.0.0 Ok: taken\r\n"
PUT_OFF = b"451 4.7.1 Come again\r\n"
NOBODY = b"503 5.5.1 For nobody\r\n"
CHUNK_TAKEN = b"250 2.0.0 Ok: chunk taken\r\n"
UNKNOWN = b"500 5.5.2 Unknown command\r\n"
BAD_CHUNK = b"501 5.5.4 BDAT needs a number of octets\r\n"


class EndOfContent:
    """Finds CRLF.CRLF in content that comes in pieces, wherever the pieces are cut."""

    __slots__ = ("_tail",)

    def __init__(self) -> None:
        self._tail = b"\r\n"  # the line end of DATA itself: content may be empty

    def find(self, data: bytes | bytearray, start: int, end: int) -> int:
        """The index in `data[start:end]` after the terminator, or -1 when it is not there yet."""
        seam = self._tail + data[start : min(start + 4, end)]
        at = seam.find(TERMINATOR)
        if at >= 0:
            return start + at + len(TERMINATOR) - len(self._tail)
        at = data.find(TERMINATOR, start, end)
        if at >= 0:
            return at + len(TERMINATOR)
        self._tail = seam[-4:] if end - start < 4 else bytes(data[end - 4 : end])
        return -1


@dataclass(slots=True)
class Tally:
    """What came in at one port. `octets` is content on the wire, dot-stuffed, without the final dot.

    With `puts_off` each recipient is told 451 when it comes first, and taken when it comes again.
    """

    puts_off: bool = False
    messages: int = 0
    octets: int = 0
    recipients: Counter[bytes] = field(default_factory=Counter)
    first: float = 0.0  # time.monotonic(), the same for all processes of one machine
    last: float = 0.0
    known: set[bytes] = field(default_factory=set)

    def wants(self, recipient: bytes) -> bool:
        """Whether the recipient is taken now."""
        if not self.puts_off or recipient in self.known:
            return True
        self.known.add(recipient)
        return False

    def take(self, octets: int, recipients: list[bytes]) -> None:
        """Counts one message."""
        self.messages += 1
        self.octets += octets
        self.recipients.update(recipients)
        self.last = time.monotonic()
        self.first = self.first or self.last

    def reset(self) -> None:
        """Forgets all; sessions go on with the same object."""
        self.messages = self.octets = 0
        self.recipients.clear()
        self.known.clear()
        self.first = self.last = 0.0

    def summary(self) -> dict[str, float]:
        """The figures, as the control channel gives them."""
        return {
            "messages": self.messages,
            "octets": self.octets,
            "recipients": len(self.recipients),
            "repeated": self.recipients.total() - len(self.recipients),
            "first": self.first,
            "last": self.last,
        }


class SinkSession(asyncio.BufferedProtocol):
    """One connection. All share one buffer, since a loop fills and hands over one read at a time."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._line = b""
        self._end: EndOfContent | None = None  # set while content comes
        self._chunk = 0  # octets of BDAT still to come
        self._chunk_is_last = False
        self._octets = 0
        self._recipients: list[bytes] = []
        self._replies: list[bytes] = []
        self._open = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's own is not derived from it
        self._transport.write(b"220 sink.bench.test ESMTP\r\n")

    def get_buffer(self, sizehint: int) -> memoryview:
        return VIEW

    def buffer_updated(self, nbytes: int) -> None:
        self.feed(BUFFER, nbytes)
        if self._replies:
            self._transport.write(b"".join(self._replies))
            self._replies.clear()
        if not self._open:
            self._transport.close()

    def feed(self, data: bytearray, end: int) -> None:
        """Takes `data[:end]`; replies are collected, to go out in one write."""
        at = 0
        while at < end and self._open:
            if self._end is not None:
                at = self._feed_content(self._end, data, at, end)
            elif self._chunk:
                at = self._feed_chunk(at, end)
            else:
                at = self._feed_line(data, at, end)

    def _feed_content(self, terminator: EndOfContent, data: bytearray, at: int, end: int) -> int:
        after = terminator.find(data, at, end)
        if after < 0:
            self._octets += end - at
            return end
        self._octets += after - at - len(b".\r\n")
        self._end = None
        self._replies.append(self._finish())
        return after

    def _feed_chunk(self, at: int, end: int) -> int:
        taken = min(self._chunk, end - at)
        self._chunk -= taken
        self._octets += taken
        if not self._chunk:
            self._end_chunk()
        return at + taken

    def _feed_line(self, data: bytearray, at: int, end: int) -> int:
        feed = data.find(b"\n", at, end)
        if feed < 0:
            self._line += data[at:end]
            self._open = len(self._line) <= LONGEST_LINE
            return end
        line, self._line = self._line + data[at : feed + 1], b""
        self._command(line)
        return feed + 1

    def _command(self, line: bytes) -> None:
        verb = line[:4].upper()
        if verb == b"BDAT":
            self._begin_chunk(line)
            return
        reply = REPLIES.get(verb, UNKNOWN)
        if verb == b"RCPT":
            recipient = line[line.find(b"<") + 1 : line.find(b">")]
            if self._tally.wants(recipient):
                self._recipients.append(recipient)
            else:
                reply = PUT_OFF
        elif verb == b"DATA":
            if self._recipients:
                self._end = EndOfContent()
            else:
                reply = NOBODY
        elif verb in (b"MAIL", b"RSET", b"EHLO", b"HELO"):
            self._forget()
        elif verb == b"QUIT":
            self._open = False
        self._replies.append(reply)

    def _begin_chunk(self, line: bytes) -> None:
        words = line.split()
        if len(words) < 2 or not words[1].isdigit():
            self._replies.append(BAD_CHUNK)
            self._open = False  # nobody can say where the next command begins
            return
        self._chunk = int(words[1])
        self._chunk_is_last = len(words) > 2 and words[2].upper() == b"LAST"
        if not self._chunk:
            self._end_chunk()

    def _end_chunk(self) -> None:
        self._replies.append(self._finish() if self._chunk_is_last else CHUNK_TAKEN)

    def _finish(self) -> bytes:
        taken = bool(self._recipients)
        if taken:
            self._tally.take(self._octets, self._recipients)
        self._forget()
        return TAKEN if taken else NOBODY

    def _forget(self) -> None:
        self._octets = 0
        self._recipients = []


async def serve(
    listeners: dict[str, int], control: str, put_off: Collection[str] = (), certificate: str | None = None
) -> None:
    """Listens on loopback at the ports of `listeners` (name to port) until the Unix socket `control` is hung up.

    With a `certificate` (a PEM file that also has the key) all ports speak TLS from the first octet.
    """
    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
    tallies = {name: Tally(name in put_off) for name in listeners}
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while order := await reader.readline():
            if order == b"reset\n":
                for tally in tallies.values():
                    tally.reset()
                writer.write(b"ok\n")
            else:
                summary = {name: tally.summary() for name, tally in tallies.items()}
                writer.write(json.dumps(summary).encode() + b"\n")
        writer.close()
        ended.set()

    for name, port in listeners.items():
        await loop.create_server(partial(SinkSession, tallies[name]), "127.0.0.1", port, backlog=1024, ssl=context)
    await asyncio.start_unix_server(answer, control)  # last: who can connect here may start
    await ended.wait()


def run(main: Any) -> None:
    """Runs a coroutine on uvloop where it is installed."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(main)
    else:
        uvloop.run(main)


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(prog="python -m bench.sink", description="A counting SMTP sink.")
    parser.add_argument("--control", required=True, help="path of the Unix socket that answers count and reset")
    parser.add_argument("--listen", action="append", required=True, metavar="NAME=PORT")
    parser.add_argument(
        "--put-off", action="append", default=[], metavar="NAME", help="say 451 first to each recipient"
    )
    parser.add_argument("--certificate", metavar="FILE", help="speak TLS, with this certificate and key (PEM)")
    options = parser.parse_args()
    pairs = (item.partition("=") for item in options.listen)
    listeners = {name: int(port) for name, _, port in pairs}
    run(serve(listeners, options.control, options.put_off, options.certificate))


if __name__ == "__main__":
    main()
