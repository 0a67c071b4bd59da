"""Which connections carry whose mail, and what is said on them, when an upstream is told who the client is."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from rig.faults import close, say
from rig.running import upstream
from rig.sink import EXTENSIONS, StoringSink
from waypost.mail.content import MemoryContent
from waypost.mail.message import Client
from waypost.mail.outcome import Failure, Stopped
from waypost.net.pool import NOBODY, Begun, UpstreamPool
from waypost.routing.login import Login
from waypost.routing.route import Upstream
from waypost.smtp import commands as c
from waypost.smtp.address import Address
from waypost.smtp.client import Extensions
from waypost.smtp.reply import Reply
from waypost.smtp.sasl import Secret

ANN = Client("l", "192.0.2.1", 1001, "ann.example", "ESMTP")
BOB = Client("l", "2001:db8::2", 1002, "bob+.example", "ESMTPSA", "bob=1")
XCLIENT = (*EXTENSIONS, "XCLIENT NAME ADDR PORT PROTO HELO LOGIN")
XFORWARD = (*EXTENSIONS, "XFORWARD NAME ADDR PORT PROTO HELO SOURCE")
MakePool = Callable[..., UpstreamPool]


def worded(extensions: Extensions) -> tuple[c.Mail, Sequence[c.Rcpt]] | Failure:
    return c.Mail(Address("a", "example.com")), [c.Rcpt(Address("b", "example.org"))]


@pytest.fixture
async def pool_of() -> AsyncIterator[MakePool]:
    """Makes pools, and closes them at the end."""
    made: list[UpstreamPool] = []

    def make(one: Upstream) -> UpstreamPool:
        made.append(UpstreamPool(one, "waypost.example", asyncio.get_running_loop().time))
        return made[-1]

    yield make
    for pool in made:
        pool.close()
    for _ in range(10):  # turns of the loop in which transports close
        await asyncio.sleep(0)


async def send(pool: UpstreamPool, client: Client) -> None:
    begun = await pool.begin(worded, background=False, client=client)
    assert isinstance(begun, Begun), begun
    _, answer = await begun.lent.send(MemoryContent(b"x\r\n"))
    assert isinstance(answer, Reply)
    assert answer.code == 250
    begun.lent.release()


def said(sink: StoringSink, *verbs: bytes) -> list[bytes]:
    return [line for _, line in sink.commands if line.split(b" ")[0] in verbs]


async def test_xclient_says_what_is_offered_and_introduces_us_as_the_client(
    pool_of: MakePool, make_sink: Callable[[StoringSink], StoringSink]
) -> None:
    sink = make_sink(StoringSink(extensions=XCLIENT))
    pool = pool_of(upstream("first", sink.port, client_address="xclient"))
    for client in (ANN, ANN, BOB, ANN):
        await send(pool, client)
    assert sink.sessions == 1
    ann = b"XCLIENT NAME=[UNAVAILABLE] ADDR=192.0.2.1 PORT=1001 HELO=ann.example PROTO=ESMTP LOGIN=[UNAVAILABLE]"
    bob = b"XCLIENT NAME=[UNAVAILABLE] ADDR=IPV6:2001:db8::2 PORT=1002 HELO=bob+2B.example PROTO=ESMTP LOGIN=bob+3D1"
    assert said(sink, b"XCLIENT", b"EHLO") == [
        b"EHLO waypost.example",
        *(ann, b"EHLO ann.example"),
        *(bob, b"EHLO waypost.example"),  # what it calls itself is no name
        *(ann, b"EHLO ann.example"),
    ]
    assert [message.helo for message in sink.messages] == [
        "ann.example",
        "ann.example",
        "waypost.example",
        "ann.example",
    ]


async def test_mail_that_nobody_handed_in_is_not_said_to_be_somebodys(
    pool_of: MakePool, make_sink: Callable[[StoringSink], StoringSink]
) -> None:
    sink = make_sink(StoringSink(extensions=XCLIENT))
    pool = pool_of(upstream("first", sink.port, client_address="xclient"))
    for client in (ANN, NOBODY, NOBODY, ANN):
        await send(pool, client)
    assert [message.session for message in sink.messages] == [1, 2, 2, 1]
    assert len(said(sink, b"XCLIENT")) == 1


async def test_after_xclient_we_authenticate_again(
    pool_of: MakePool, make_sink: Callable[[StoringSink], StoringSink]
) -> None:
    sink = make_sink(StoringSink(extensions=XCLIENT, accounts={"me": "secret"}))
    more = {"credentials": Login("me", Secret("secret")), "allow_plaintext_auth": True}
    pool = pool_of(upstream("first", sink.port, client_address="xclient", **more))
    await send(pool, ANN)
    await send(pool, BOB)
    assert [message.username for message in sink.messages] == ["me", "me"]


async def test_a_client_that_is_refused_is_the_messages_fate_and_the_connection_is_given_up(
    pool_of: MakePool, make_sink: Callable[[StoringSink], StoringSink]
) -> None:
    sink = make_sink(StoringSink(extensions=XCLIENT))
    sink.on("xclient", say("554 5.7.1 not you"))
    pool = pool_of(upstream("first", sink.port, client_address="xclient"))
    stopped = await pool.begin(worded, background=False, client=ANN)
    assert isinstance(stopped, Stopped)
    assert (stopped.phase, str(stopped.answer)) == ("mail", "554 5.7.1 not you")
    assert pool.counts == (0, 0)
    await send(pool, BOB)


async def test_a_kept_connection_that_ends_at_xclient_is_replaced(
    pool_of: MakePool, make_sink: Callable[[StoringSink], StoringSink]
) -> None:
    sink = make_sink(StoringSink(extensions=XCLIENT))
    pool = pool_of(upstream("first", sink.port, client_address="xclient"))
    await send(pool, ANN)
    sink.on("xclient", close())
    await send(pool, BOB)
    assert [message.session for message in sink.messages] == [1, 2]


@pytest.mark.parametrize("extensions", [XFORWARD, tuple(word for word in XFORWARD if word != "PIPELINING")])
async def test_xforward_goes_with_each_transaction(
    pool_of: MakePool, make_sink: Callable[[StoringSink], StoringSink], extensions: tuple[str, ...]
) -> None:
    sink = make_sink(StoringSink(extensions=extensions))
    pool = pool_of(upstream("first", sink.port, client_address="xforward"))
    for client in (ANN, replace(BOB, name="n" * 300), NOBODY):
        await send(pool, client)
    assert sink.sessions == 1
    first, *second = said(sink, b"XFORWARD")
    assert first == b"XFORWARD NAME=[UNAVAILABLE] ADDR=192.0.2.1 PORT=1001 HELO=ann.example PROTO=ESMTP SOURCE=REMOTE"
    assert b" ".join(line.removeprefix(b"XFORWARD ") for line in second) == (
        b"NAME=[UNAVAILABLE] ADDR=IPV6:2001:db8::2 PORT=1002 HELO=" + b"n" * 80 + b" PROTO=ESMTP SOURCE=REMOTE"
    )


@pytest.mark.parametrize("way", ["xclient", "xforward"])
async def test_an_upstream_that_offers_neither_is_told_nothing(pool_of: MakePool, sink: StoringSink, way: Any) -> None:
    pool = pool_of(upstream("first", sink.port, client_address=way))
    await send(pool, ANN)
    assert said(sink, b"XCLIENT", b"XFORWARD") == []


async def test_with_a_full_pool_the_oldest_connection_of_another_client_gives_way(pool_of: MakePool) -> None:
    headers: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        headers.append(await reader.readuntil(b"\r\n"))
        writer.write(b"220 x\r\n")
        while line := await reader.readline():
            writer.write(b"354 x\r\n" if line == b"DATA\r\n" else b"250 x\r\n")
            if line == b"DATA\r\n":
                await reader.readuntil(b".\r\n")
                writer.write(b"250 x\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        pool = pool_of(upstream("first", port, client_address="proxy-v1", max_connections=2))
        for client in (ANN, BOB, replace(ANN, port=7), NOBODY, BOB, ANN):
            await send(pool, client)
            assert sum(pool.counts) <= 2
        ours = int(headers[2].split(b" ")[4])
        assert headers == [
            f"PROXY TCP4 192.0.2.1 127.0.0.1 1001 {port}\r\n".encode(),
            f"PROXY TCP6 2001:db8::2 :: 1002 {port}\r\n".encode(),
            # Nobody handed it in, so it is ours. It takes Bob's place, for Ann's was used since.
            f"PROXY TCP4 127.0.0.1 127.0.0.1 {ours} {port}\r\n".encode(),
            f"PROXY TCP6 2001:db8::2 :: 1002 {port}\r\n".encode(),
            f"PROXY TCP4 192.0.2.1 127.0.0.1 1001 {port}\r\n".encode(),
        ]
        pool.close()
