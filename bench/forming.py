"""Measures what rewriting and signing cost: microseconds of CPU per message, without any sockets.

    .venv/bin/python -m bench.forming [--seconds 0.5]

Each line is one message brought into the form in which it goes on (`delivery.forming`), threads included: a plain one
gets its `Received` field, the others what their names say besides, log records included. Large content is in a file.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from waypost.delivery.forming import Formed, Former, FormSettings, Given
from waypost.delivery.signing import Signer
from waypost.mail.address_map import AddressMap
from waypost.mail.content import Content
from waypost.mail.dkim import Key
from waypost.mail.dkim_key import read_key
from waypost.mail.message import Client, Envelope, Recipient
from waypost.mail.rewrite import Rewrite
from waypost.observe.maillog import MailLog
from waypost.observe.metrics import Metrics
from waypost.smtp.address import Address
from waypost.store.spill import Spill

SIZES = {"1 KB": 1000, "100 KB": 100_000, "50 MB": 50_000_000}
HEADER = (
    b"From: Ann <ann@old.example>\r\nTo: Bob <bob@example.net>\r\nSubject: hello\r\n"
    b"Date: Tue, 14 Nov 2023 22:13:20 +0000\r\nMessage-ID: <1@old.example>\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\n\r\n"
)
LINE = b"The quick brown fox jumps over the lazy dog, and does so until the line is\r\n"
EVERYBODY = AddressMap((("*", Address("me", "example.com")),))
REWRITE = Rewrite(EVERYBODY, EVERYBODY)


def _keys() -> dict[str, Key]:
    made = {"rsa": rsa.generate_private_key(65537, 2048), "ed25519": ed25519.Ed25519PrivateKey.generate()}
    keys = {}
    for name, private in made.items():
        pem = private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        key = read_key(pem)
        keys[name] = Key("example.com", "s1", key.algorithm, key.sign)
    return keys


def _former(key: Key | None) -> Former:
    log = MailLog(lambda line: None, Metrics(process=False))
    signer = None if key is None else Signer([key], time.time, lambda domain, outcome: None)
    return Former(FormSettings("mx.example.com", "0123abcd"), log, lambda account, author: True, signer)


async def _content(size: int, folder: Path) -> Content:
    spill = Spill(folder, 1024 * 1024)
    lines = HEADER + LINE * max(1, (size - len(HEADER)) // len(LINE))
    for at in range(0, len(lines), 65536):
        waiting = spill.write(lines[at : at + 65536])
        if waiting is not None:
            await waiting
    return await spill.finish()


async def _form(former: Former, given: Given) -> None:
    formed = await former.accepted(given, 1_700_000_000.0)
    if isinstance(formed, Formed) and formed.tell is not None:
        formed.tell()


async def _measure(step: Callable[[], object], seconds: float) -> float:
    """Microseconds of CPU for one step."""
    await step()  # type: ignore[misc]  # it is a coroutine function
    count, began = 0, time.monotonic()
    cpu = time.process_time()
    while time.monotonic() - began < seconds or not count:
        await step()  # type: ignore[misc]
        count += 1
    return (time.process_time() - cpu) / count * 1e6


async def main(seconds: float) -> None:
    """Prints the table."""
    client = Client("127.0.0.1:2525", "127.0.0.1", 4711, "app.example.com", "ESMTPA", "app", submission=True)
    keys = _keys()
    ways = {
        "plain": (_former(None), None),
        "rewritten": (_former(None), REWRITE),
        "rewritten, signed with Ed25519": (_former(keys["ed25519"]), REWRITE),
        "rewritten, signed with RSA, 2048 bits": (_former(keys["rsa"]), REWRITE),
    }
    with tempfile.TemporaryDirectory() as folder:
        contents = {name: await _content(size, Path(folder)) for name, size in SIZES.items()}
        print("| Message | " + " | ".join(contents) + " |\n|---|" + "---|" * len(contents))
        for name, (former, rewrite) in ways.items():
            cells = []
            for content in contents.values():
                old = Address("ann", "old.example")
                envelope = Envelope(
                    old if rewrite is None else rewrite.reverse_path(old),
                    (Recipient(Address("bob", "example.net")),),
                )
                given = Given("06F2K8QW3M0A7XZB", client, old, envelope, content, "all", rewrite)
                cells.append(await _measure(partial(_form, former, given), seconds))
            print(f"| {name} | " + " | ".join(_shown(cell) for cell in cells) + " |")
        for content in contents.values():
            content.close()


def _shown(microseconds: float) -> str:
    return f"{microseconds:.0f} µs" if microseconds < 10_000 else f"{microseconds / 1000:.0f} ms"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=0.5, help="for each cell (default: 0.5)")
    asyncio.run(main(parser.parse_args().seconds))
