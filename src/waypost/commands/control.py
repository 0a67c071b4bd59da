"""Asks the running Waypost, over its control socket. For the commands that do so.

HTTP by the standard library over a unix socket. Lists are read line by line as they arrive, so that a long one is
shown at once and never held in memory.
"""

import argparse
import http.client
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from waypost.commands import FAILED, TEMPORARY, UNREACHABLE, USAGE, add_config_option
from waypost.net.unix_socket import connect

PATIENCE = 120.0
"""Seconds without a word after which we give up: looking through a million deliveries takes its time."""

_PIECE = 65536
_CODES = {400: USAGE, 503: TEMPORARY}

_BROKEN_OFF = "the answer broke off: Waypost was stopped, or its log says why"

Row = Mapping[str, Any]
Query = Sequence[tuple[str, str]]


class ControlError(Exception):
    """The question could not be answered: a sentence for people, and the exit code."""

    def __init__(self, sentence: str, code: int) -> None:
        super().__init__(sentence)
        self.code = code


class _Connection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("waypost")  # the Host field, which says nothing here
        self._path = path

    def connect(self) -> None:
        self.sock = connect(self._path, PATIENCE)


class Daemon:
    """The running Waypost behind a control socket. Methods raise `ControlError`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection = _Connection(path)

    def lines(self, path: str, query: Query = ()) -> Iterator[Row]:
        """The JSON objects of a list, as they arrive."""
        return self._lines(self._ask("GET", path, query))

    def act(self, body: Mapping[str, Any], path: str = "/api/queue/actions") -> Iterator[Row]:
        """Does something, and gives what is said about it, as it is said."""
        return self._lines(self._ask("POST", path, (), json.dumps(body).encode()))

    def value(self, path: str) -> Row:
        """One JSON object."""
        return _object(self._whole(self._ask("GET", path)), self.path)

    def pieces(self, path: str) -> Iterator[bytes]:
        """Octets, in pieces of any size."""
        return self._pieces(self._ask("GET", path))

    def close(self) -> None:
        """Ends the connection."""
        self._connection.close()

    def _ask(self, method: str, path: str, query: Query = (), body: bytes | None = None) -> http.client.HTTPResponse:
        target = f"{path}?{urlencode(query)}" if query else path
        try:
            self._connection.request(method, target, body)
            response = self._connection.getresponse()
        except OSError as error:
            raise ControlError(_unreachable(self.path, error), UNREACHABLE) from None
        except http.client.HTTPException as error:
            raise ControlError(f"{self.path} does not speak as Waypost does: {error!r}", UNREACHABLE) from None
        if response.status == 200:
            return response
        said = _object(self._whole(response), self.path)
        raise ControlError(str(said.get("error", f"answered {response.status}")), _CODES.get(response.status, FAILED))

    def _whole(self, response: http.client.HTTPResponse) -> bytes:
        try:
            return response.read()
        except (OSError, http.client.HTTPException):
            raise ControlError(_BROKEN_OFF, TEMPORARY) from None

    def _pieces(self, response: http.client.HTTPResponse) -> Iterator[bytes]:
        """What comes, as soon as it comes. An answer that is not read to its end takes the connection with it."""
        try:
            while piece := response.read1(_PIECE):
                yield piece
        except (OSError, http.client.HTTPException):
            raise ControlError(_BROKEN_OFF, TEMPORARY) from None
        finally:
            if not response.isclosed():
                self._connection.close()

    def _lines(self, response: http.client.HTTPResponse) -> Iterator[Row]:
        rest = b""
        for piece in self._pieces(response):
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                found = _object(line, self.path)
                if set(found) == {"error"}:  # what went wrong after the answer had begun
                    raise ControlError(str(found["error"]), TEMPORARY)
                yield found


def _object(text: bytes, path: Path) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ControlError(f"{path} does not answer as Waypost does", UNREACHABLE)
    return found


def _unreachable(path: Path, error: OSError) -> str:
    why = "no answer in time" if isinstance(error, TimeoutError) else error.strerror or str(error)
    if isinstance(error, PermissionError):
        advice = "Only root, and the user that runs Waypost, may ask it"
    elif isinstance(error, (FileNotFoundError, ConnectionRefusedError, NotADirectoryError)):
        advice = "Is Waypost running, with this configuration? --socket names another socket"
    else:
        advice = "--socket names another socket"
    return f"the running Waypost cannot be reached at {path}: {why}. {advice}"


def add_daemon_options(parser: argparse.ArgumentParser) -> None:
    """Adds what says which Waypost is asked: `--config` and `--socket`."""
    add_config_option(parser)
    parser.add_argument(
        "--socket", metavar="PATH", help="the control socket, instead of the one that the configuration gives"
    )


def ask(name: str, arguments: argparse.Namespace, question: Callable[[Daemon], int]) -> int:
    """Puts a question to the Waypost of the options; the exit code. `name` is that of the command."""
    daemon = Daemon(_path(arguments))
    try:
        return question(daemon)
    except ControlError as error:
        sys.stdout.flush()  # what was printed came first
        print(f"waypost {name}: {error}", file=sys.stderr)
        return error.code
    finally:
        daemon.close()


def _path(arguments: argparse.Namespace) -> Path:
    if arguments.socket is not None:
        return Path(os.path.abspath(arguments.socket))
    from waypost.config.control import find_control
    from waypost.config.load import load

    return find_control(load(arguments.config, os.environ), os.environ)
