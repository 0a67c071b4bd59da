"""Upstreams that answer slowly, for ever, or with what they were told: a probe ends in time, and gives nothing away."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from rig.running import HASTY, upstream
from waypost.net.login import Logins
from waypost.net.probe import Prober
from waypost.routing.login import Login
from waypost.routing.probing import Finding
from waypost.routing.route import UpstreamTls
from waypost.smtp.sasl import Secret

PASSWORD = "correct horse battery"
Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def probed(script: Script, mechanism: str | None = None, *, starttls: bool = False) -> Finding:
    """What a probe finds at an upstream that speaks like that."""

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await script(reader, writer)
            await reader.read()
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(speak, "127.0.0.1", 0)
    async with server:
        one = upstream(
            "a",
            server.sockets[0].getsockname()[1],
            credentials=Login("me", Secret(PASSWORD), mechanism=mechanism),
            allow_plaintext_auth=True,
            timeouts=HASTY,
            tls=UpstreamTls("starttls" if starttls else "off"),
        )
        async with asyncio.timeout(10 * HASTY.greeting):
            finding = await Prober("waypost.example", Logins(), time.time).probe(one)
    assert finding is not None
    return finding


async def offer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, extension: str) -> None:
    """Greets, and offers this one."""
    writer.write(b"220 x\r\n")
    await reader.readline()
    writer.write(f"250-x\r\n250 {extension}\r\n".encode())


@pytest.mark.parametrize("piece", [b"-", b"220-patience\r\n"])
@pytest.mark.parametrize("stage", ["greeting", "ehlo"])
async def test_an_answer_in_drops_has_no_more_time_than_one_that_does_not_come(piece: bytes, stage: str) -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if stage == "ehlo":
            writer.write(b"220 x\r\n")
            await reader.readline()
        writer.write(b"220-x" if stage == "greeting" else b"250-x")
        while not (reader.at_eof() or writer.is_closing()):
            writer.write(piece if stage == "greeting" else piece.replace(b"220", b"250"))
            await asyncio.sleep(HASTY.greeting / 8)

    finding = await probed(drip)
    assert finding.failed is not None
    assert (finding.failed.phase, finding.failed.text) == (stage, "no answer within 0.4 s")


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
async def test_a_refusal_that_repeats_what_was_said_does_not_show_the_password(mechanism: str) -> None:
    async def repeat(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await offer(reader, writer, f"AUTH {mechanism}")
        said = [await reader.readline()]
        for prompt in (b"VXNlcm5hbWU6", b"UGFzc3dvcmQ6") if mechanism == "LOGIN" else ():
            writer.write(b"334 " + prompt + b"\r\n")
            said.append(await reader.readline())
        writer.write(b"535-5.7.8 Unrecognized: " + b" / ".join(said).replace(b"\r\n", b"") + b"\r\n")
        writer.write(f"535 5.7.8 wrong password {PASSWORD}\r\n".encode())

    finding = await probed(repeat, mechanism)
    assert finding.failed is not None
    text = finding.failed.text
    assert text.startswith("535 5.7.8 Unrecognized: AUTH")
    assert PASSWORD not in text
    assert "Y29ycmVjdCBob3JzZS" not in text  # in base64
    assert "AG1lAGNvcnJlY3Q" not in text  # the response of PLAIN
