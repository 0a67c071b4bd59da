"""Commands that stay until they are told to stop: `sink` and `demo`."""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from typing import TextIO

from waypost.commands import FAILED


async def until_stopped() -> None:
    """Returns at SIGINT (Ctrl-C) or SIGTERM; a second one ends the process at once."""
    stopped = asyncio.Event()

    def stop() -> None:
        if stopped.is_set():
            os._exit(FAILED)
        stopped.set()

    if sys.platform == "win32":
        await stopped.wait()  # Ctrl-C arrives as KeyboardInterrupt there
        return
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    try:
        await stopped.wait()
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def showable(text: str) -> str:
    """`text` with what standard output cannot encode written as escapes: nobody's subject may end a program."""
    encoding = sys.stdout.encoding or "ascii"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def say(text: str) -> None:
    """Writes to standard output at once. When nobody reads any more, there is no point in staying either."""
    try:
        sys.stdout.write(showable(text))
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        signal.raise_signal(signal.SIGTERM)


def has_colours(stream: TextIO, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether colours are wanted there: a terminal, and neither NO_COLOR nor TERM=dumb (no-color.org)."""
    return stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"


def shown_address(host: str, port: int) -> str:
    """Host and port as they are typed: `127.0.0.1:25`, `[::1]:25`, `unix:/path`."""
    if host.startswith("/"):
        return f"unix:{host}"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
