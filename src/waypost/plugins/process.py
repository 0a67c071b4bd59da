"""A program that runs beside the server: started with a clean environment, limited, and ended with everything it has.

It is a session and process group of its own. What it writes to standard error goes to the log, within limits; what it
writes to standard output goes to whoever started it.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import structlog

from waypost.plugins.port import CrashedError
from waypost.smtp.reply import printable

GRACE = 1.0
"""Seconds that a program has to end by itself, after its input has ended and SIGTERM."""

MAX_UNREAD = 8 * 1024 * 1024
"""Octets that may wait for a program to read them; one that does not read at all is as good as dead."""

MAX_SAID = 500
"""Octets of one line of standard error that are logged."""

SAID_AT_ONCE = 20
SAID_PER_SECOND = 1.0
"""Lines of standard error that are logged: so many at once, and so many per second in the long run."""

HEARD_AT_ONCE = 256 * 1024
HEARD_PER_SECOND = 64 * 1024
"""Octets of standard error that are read at all: one that writes more has to wait."""

_LAUNCHER = str(Path(__file__).with_name("launch.py"))
_PASSED_ON = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "PYTHONPATH")

log = structlog.get_logger()


class Process(asyncio.SubprocessProtocol):
    """One running program. `on_output` is given what it writes, `on_end` is told once why it has ended."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        memory: int | None,
        on_output: Callable[[bytes], None],
        on_end: Callable[[str], None],
    ) -> None:
        self._name = name
        self._command = command
        self._memory = memory
        self._on_output = on_output
        self._on_end = on_end
        self._said = Said(name)
        self._transport: asyncio.SubprocessTransport | None = None
        self._input: asyncio.WriteTransport | None = None
        self._ended = asyncio.Event()
        self._is_ending = False

    @property
    def pid(self) -> int | None:
        """Its number; None before it was started."""
        return None if self._transport is None else self._transport.get_pid()

    async def start(self, environment: dict[str, str] | None = None) -> None:
        """Starts it, with `environment` beside the few variables that every program needs. Raises `CrashedError`.

        The server's environment is not handed on: there may be passwords in it.
        """
        launcher = (sys.executable, "-I", "-S", _LAUNCHER, str(os.getpid()), str(self._memory or 0), *self._command)
        given = {**_environment(), "WAYPOST_PLUGIN": self._name, **(environment or {})}
        loop = asyncio.get_running_loop()
        try:
            await loop.subprocess_exec(lambda: self, *launcher, env=given, start_new_session=True)
        except (OSError, ValueError) as error:
            raise CrashedError(f"it cannot be started: {error}") from error

    def write(self, data: bytes) -> None:
        """Gives it input. Raises `CrashedError` when it has ended, or does not read."""
        if self._input is None or self._ended.is_set() or self._is_ending:
            raise CrashedError("it has ended")
        if self._input.get_write_buffer_size() > MAX_UNREAD:
            raise CrashedError("it does not read what it is asked")
        self._input.write(data)

    async def end(self) -> None:
        """Ends it and its process group: its input ends, SIGTERM, and after `GRACE` SIGKILL. Idempotent."""
        transport, self._is_ending = self._transport, True
        if transport is None:
            return
        if not self._ended.is_set():
            if self._input is not None:
                self._input.close()
            self._signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(GRACE):
                    await self._ended.wait()
            except TimeoutError:
                pass
            finally:  # whoever ends it may be stopped itself
                if not self._ended.is_set():
                    self.kill()
            await self._ended.wait()
        transport.close()

    def kill(self) -> None:
        """Ends it and its process group at once."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        pid = self.pid
        if pid is None:
            return
        try:
            os.killpg(pid, number)
        except (ProcessLookupError, PermissionError):
            pass  # there is none left, or none yet: it leads a group from the moment in which it runs

    # -- what asyncio tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.SubprocessTransport, transport)
        self._input = cast(asyncio.WriteTransport, self._transport.get_pipe_transport(0))

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd == 2:
            if self._said.hear(data):
                self._hold_its_tongue()
        elif not self._is_ending:
            self._on_output(data)

    def _hold_its_tongue(self) -> None:
        """It says more than anybody can read: it has to wait, so that reading it costs next to nothing."""
        if self._transport is None or self._ended.is_set():
            return
        pipe = cast(asyncio.ReadTransport | None, self._transport.get_pipe_transport(2))
        if pipe is not None and not pipe.is_closing():
            pipe.pause_reading()
            asyncio.get_running_loop().call_later(1, self._listen_again, pipe)

    def _listen_again(self, pipe: asyncio.ReadTransport) -> None:
        if not pipe.is_closing():
            pipe.resume_reading()

    def process_exited(self) -> None:
        self._signal(signal.SIGKILL)  # whatever it has started must not outlive it
        self._ended.set()
        self._said.close()
        code = None if self._transport is None else self._transport.get_returncode()
        self._on_end(_described(code))


class Said:
    """Standard error of a program, on its way to the log: line by line, cut, and not more than the log can bear."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._rest = b""
        self._allowed = float(SAID_AT_ONCE)
        self._room = float(HEARD_AT_ONCE)
        self._since = 0.0
        self._dropped = 0

    def hear(self, data: bytes) -> bool:
        """Takes what it wrote; whether it is too much to go on like this."""
        *lines, rest = (self._rest + data).split(b"\n")
        self._rest = rest[: MAX_SAID + 1]
        now = asyncio.get_running_loop().time()
        past, self._since = now - self._since, now
        self._allowed = min(SAID_AT_ONCE, self._allowed + past * SAID_PER_SECOND)
        self._room = min(HEARD_AT_ONCE, self._room + past * HEARD_PER_SECOND) - len(data)
        for line in lines:
            if self._allowed >= 1:
                self._allowed -= 1
                self._tell(line)
            else:
                self._dropped += 1
        return self._room < 0

    def close(self) -> None:
        """It has ended: what is left is told."""
        if self._rest:
            self._tell(self._rest)
        if self._dropped:
            log.warning("plugin_said_more", plugin=self._name, lines=self._dropped)
        self._rest, self._dropped = b"", 0

    def _tell(self, line: bytes) -> None:
        text = printable(line[:MAX_SAID].decode("utf-8", "backslashreplace")).strip()
        if text:
            log.info("plugin_says", plugin=self._name, text=text)


def _environment() -> dict[str, str]:
    """What a program needs to run at all, and nothing that could be a secret."""
    passed_on = {name: value for name in _PASSED_ON if (value := os.environ.get(name)) is not None}
    return passed_on | {name: value for name, value in os.environ.items() if name.startswith("LC_")}


def _described(code: int | None) -> str:
    if code is None:
        return "it has ended"
    if code >= 0:
        return f"it ended with exit code {code}"
    try:
        return f"it was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"it was killed by signal {-code}"
