"""A client that logs in and speaks TLS: `smtp-source` does neither. What it costs itself counts to nobody.

Each session sends its share of the messages, each with a recipient of its own, over one connection or a new one for
each. With `--accounts N` the messages' logins go round `user0` to `userN-1`, whose password is `--password`.

    python -m bench.submit --port 2525 --sessions 20 --messages 500 --size 1024 --tls --accounts 1 --password secret
"""

import argparse
import asyncio
import base64
import ssl
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from bench.latency import RefusedError, content
from bench.sink import run

PROXY_HEADER = b"PROXY TCP4 192.0.2.7 127.0.0.1 40000 25\r\n"
WITHIN = 60.0  # seconds for one answer


@dataclass(frozen=True, slots=True)
class Submission:
    """What is sent, and how."""

    port: int
    size: int
    reuse: bool
    tls: bool = False
    accounts: int = 0
    password: str = ""
    proxy: bool = False


class Dialogue:
    """One connection, command by command."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def expect(self, code: bytes) -> None:
        """Reads one reply. Raises `RefusedError` when it has another code."""
        async with asyncio.timeout(WITHIN):
            line = await self._reader.readline()
            while line[3:4] == b"-":
                line = await self._reader.readline()
        if line[:3] != code:
            raise RefusedError(f"expected {code.decode()}, got {line!r}")

    async def say(self, octets: bytes, code: bytes) -> None:
        """Sends and waits for the reply."""
        self._writer.write(octets)
        await self.expect(code)

    async def end(self) -> None:
        """QUIT, and the end of the connection."""
        await self.say(b"QUIT\r\n", b"221")
        self._writer.close()


async def submit(what: Submission, sessions: int, messages: int) -> None:
    """Sends `messages` over `sessions` connections at a time."""
    context = None
    if what.tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    numbers, body = iter(range(messages)), content(what.size)
    async with asyncio.TaskGroup() as group:
        for _ in range(sessions):
            group.create_task(_session(what, numbers, body, context))


async def _session(what: Submission, numbers: Iterator[int], body: bytes, context: ssl.SSLContext | None) -> None:
    dialogue: Dialogue | None = None
    for number in numbers:
        if dialogue is None:
            dialogue = await _open(what, number, context)
        await dialogue.say(b"MAIL FROM:<foo@client.bench.test>\r\n", b"250")
        await dialogue.say(b"RCPT TO:<%dbar@bench.test>\r\n" % number, b"250")
        await dialogue.say(b"DATA\r\n", b"354")
        await dialogue.say(body, b"250")
        if not what.reuse:
            await dialogue.end()
            dialogue = None
    if dialogue is not None:
        await dialogue.end()


async def _open(what: Submission, number: int, context: ssl.SSLContext | None) -> Dialogue:
    reader, writer = await asyncio.open_connection("127.0.0.1", what.port, ssl=context)
    dialogue = Dialogue(reader, writer)
    if what.proxy:
        writer.write(PROXY_HEADER)
    await dialogue.expect(b"220")
    await dialogue.say(b"EHLO client.bench.test\r\n", b"250")
    if what.accounts:
        login = f"\0user{number % what.accounts}\0{what.password}"
        await dialogue.say(b"AUTH PLAIN %s\r\n" % base64.b64encode(login.encode()), b"235")
    return dialogue


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(prog="python -m bench.submit", description="Sends mail with AUTH and TLS.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument("--messages", type=int, default=500)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--reuse", action="store_true")
    parser.add_argument("--tls", action="store_true", help="TLS from the first octet")
    parser.add_argument("--accounts", type=int, default=0, metavar="N", help="log in as user0 to userN-1")
    parser.add_argument("--password", default="")
    parser.add_argument("--proxy", action="store_true", help="begin with a PROXY header")
    options = parser.parse_args()
    what = Submission(
        options.port, options.size, options.reuse, options.tls, options.accounts, options.password, options.proxy
    )
    try:
        run(submit(what, options.sessions, options.messages))
    except* (OSError, RefusedError, TimeoutError) as problems:
        sys.exit(f"submission client: {problems.exceptions[0]}")


if __name__ == "__main__":
    main()
