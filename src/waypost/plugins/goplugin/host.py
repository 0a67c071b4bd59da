"""Runs a plugin that was built for smtpmux, as it is, and asks it: the kind `go`.

smtpmux starts such a program for each message. Here it lives on, and is asked one thing at a time (the configuration's
`at_once` is 1), because whoever wrote it could rely on that.
"""

import asyncio
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from waypost.plugins.goplugin.contract import downstreams, order_of
from waypost.plugins.goplugin.handshake import COOKIE, MAX_LINE, HandshakeError, TcpAddress, read_handshake
from waypost.plugins.goplugin.link import Link
from waypost.plugins.port import Answer, CrashedError, Definition, Question
from waypost.plugins.process import Process, Said

MAX_SPILT = 256 * 1024
"""Octets on standard output after the handshake, which nobody reads, before that is taken for a flood."""

_LONGEST_FOLDER = 70
"""Octets of the folder for the socket; a socket's path has 107 at most, and the plugin appends a name."""

LEAST_MEMORY = 128 * 1024 * 1024
"""Octets. Go's runtime makes its heap in blocks of 64 MiB, and with less than about 96 MiB does not start."""


class GoPlugin:
    """A program made with hashicorp/go-plugin that has a selector of smtpmux."""

    def __init__(self, definition: Definition) -> None:
        self._process = Process(definition.name, (definition.target,), definition.memory, self._hear, self._ended)
        self._printed = Said(definition.name)
        self._folder: Path | None = None
        self._link: Link | None = None
        self._greeting: asyncio.Future[bytes] | None = None
        self._line = bytearray()
        self._spilt = 0
        self._fault: str | None = None
        self.on_end: Callable[[str], None] = _unheard

    @property
    def pid(self) -> int | None:
        """The number of its process."""
        return self._process.pid

    async def start(self) -> None:
        self._greeting = asyncio.get_running_loop().create_future()
        try:
            self._folder = _private_folder()
        except OSError as error:
            raise CrashedError(f"there is no folder for its socket: {error.strerror}") from None
        await self._process.start(_environment(self._folder))
        try:
            address = read_handshake(await self._greeting)
        except HandshakeError as error:
            raise CrashedError(str(error)) from None
        self._link = Link(self._printed.hear, self._broken)
        loop, link = asyncio.get_running_loop(), self._link
        try:
            if isinstance(address, TcpAddress):
                await loop.create_connection(lambda: link, address.host, address.port)
            else:
                await loop.create_unix_connection(lambda: link, address.path)
        except OSError as error:
            raise CrashedError(f"it does not listen where it says: {error}") from None
        await link.start()

    async def choose(self, question: Question) -> Answer:
        if self._link is None or self._fault is not None:
            raise CrashedError(self._fault or "it is not started")
        return order_of(await self._link.select(downstreams(question)), question)

    async def close(self) -> None:
        self._break("it was closed")
        await self._process.end()
        self._printed.close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)  # its own socket is in it, and whatever it left there

    def _hear(self, data: bytes) -> None:
        """Standard output: the handshake. go-plugin sends what is printed after it through the socket."""
        if self._greeting is None or self._fault is not None:
            return
        if self._greeting.done():
            self._spilt += len(data)
            if self._spilt > MAX_SPILT:
                self._broken("it writes to its first standard output after the handshake")
            return
        self._line += data
        line, newline, _ = self._line.partition(b"\n")
        if newline or len(line) > MAX_LINE:
            self._greeting.set_result(bytes(line))

    def _ended(self, why: str) -> None:
        if self._fault is None:
            self._break(why)
            self.on_end(why)

    def _broken(self, why: str) -> None:
        """It cannot be spoken with any more."""
        self._ended(why)
        self._process.kill()

    def _break(self, why: str) -> None:
        if self._fault is not None:
            return
        self._fault = why
        if self._greeting is not None and not self._greeting.done():
            self._greeting.set_exception(CrashedError(why))
            self._greeting.exception()  # perhaps nobody waits for it
        if self._link is not None:
            self._link.close(why)


def _unheard(why: str) -> None:
    pass


def _private_folder() -> Path:
    """A folder that only we may enter, for the socket: whoever reaches the socket can ask the plugin."""
    folder = tempfile.mkdtemp(prefix="waypost-plugin-")
    if len(os.fsencode(folder)) > _LONGEST_FOLDER:
        os.rmdir(folder)
        folder = tempfile.mkdtemp(prefix="waypost-plugin-", dir="/tmp")  # made anew, and for us alone
    return Path(folder)


def _environment(folder: Path) -> dict[str, str]:
    """What such a program has to be told. Older releases of go-plugin put their socket where temporary files go."""
    name, value = COOKIE
    return {
        name: value,
        "PLUGIN_PROTOCOL_VERSIONS": "1",
        "PLUGIN_UNIX_SOCKET_DIR": str(folder),
        "TMPDIR": str(folder),
        "PLUGIN_MIN_PORT": "10000",  # where there are no unix sockets
        "PLUGIN_MAX_PORT": "25000",
    }


def open_go(definition: Definition) -> GoPlugin:
    """A plugin of smtpmux."""
    return GoPlugin(definition)


def go_fault(definition: Definition) -> str | None:
    """Why the program, a path, could not be started."""
    program = definition.target
    if shutil.which(program) is not None:
        if definition.memory is not None and definition.memory < LEAST_MEMORY:
            return f"a program in Go needs more memory to start; set `memory` to {LEAST_MEMORY >> 20}MB or more"
        return None
    if not Path(program).exists():
        return f"there is no file {program}"
    return f"{program} is not an executable file; build it with `go build`, and `chmod +x` makes it one"
