"""`waypost healthcheck`: asks a running Waypost whether it can take mail. For containers, which have no curl."""

import argparse
import http.client
import json
import os
import socket
import ssl
import sys
from pathlib import Path
from urllib.parse import urlsplit

from waypost.commands import FAILED, FINE, USAGE, Subparsers, add_command, add_config_option
from waypost.config.settings import Settings
from waypost.net.settings import ListenerSettings
from waypost.net.unix_socket import connect

TIMEOUT = 3.0
"""Seconds for each step: connecting, and waiting for the answer."""

_EXAMPLES = """\
  waypost healthcheck                       asks the configured admin address
  waypost healthcheck --url http://10.0.0.5:8025/readyz

In a Dockerfile:
  HEALTHCHECK CMD ["waypost", "healthcheck"]

Without an admin address it connects to the first listener and wants to see 220.
Exit code 0 when mail would be accepted now, 1 when not.
"""


def register(subparsers: Subparsers) -> None:
    """Adds `healthcheck`."""
    parser = add_command(
        subparsers,
        "healthcheck",
        summary="Ask a running Waypost whether it can take mail now. Prints one line.",
        examples=_EXAMPLES,
    )
    add_config_option(parser)
    parser.add_argument("--url", help="what to ask, instead of the configured admin address")
    parser.set_defaults(run=_healthcheck)


def _healthcheck(arguments: argparse.Namespace) -> int:
    if arguments.url:
        return _ask_url(arguments.url)
    from waypost.config.load import load

    settings: Settings = load(arguments.config, os.environ)
    if settings.admin is not None:
        return _tell(*ask(_reachable(settings.admin.host), settings.admin.port, "/readyz"))
    return _tell(*greet(settings.listeners[0]))


def _ask_url(url: str) -> int:
    parts = urlsplit(url)
    try:
        host, port = parts.hostname, parts.port or 80
    except ValueError:
        host = None
    if parts.scheme != "http" or not host:
        print(f"waypost healthcheck: {url!r} is not an address like http://127.0.0.1:8025/readyz", file=sys.stderr)
        return USAGE
    return _tell(*ask(host, port, parts.path or "/readyz"))


def _tell(healthy: bool, line: str) -> int:
    print(line)
    return FINE if healthy else FAILED


def ask(host: str, port: int, path: str) -> tuple[bool, str]:
    """Whether the admin address says that Waypost is ready, and a line that says why."""
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT)
    where = f"http://{_bracketed(host)}:{port}{path}"
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read(65536)
    except (OSError, http.client.HTTPException) as error:
        return False, f"not ready: {where} does not answer: {str(error) or type(error).__name__}"
    finally:
        connection.close()
    if answer.status == 200:
        return True, f"ready: {where}"
    return False, f"not ready: {_failing(body) or f'{where} answered {answer.status} {answer.reason}'}"


def _failing(body: bytes) -> str:
    """What a `/readyz` answer names as wrong; nothing when the answer is not one."""
    try:
        failing = json.loads(body)["failing"]
        return "; ".join(f"{name}: {why}" for name, why in failing.items())
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""


def greet(listener: ListenerSettings) -> tuple[bool, str]:
    """Whether a listener greets with 220, and a line that says why."""
    host = _reachable(listener.host)
    where = listener.name if listener.is_unix else f"{_bracketed(host)}:{listener.port}"
    try:
        with _connected(listener, host) as plain:
            stream = _unverified().wrap_socket(plain) if listener.implicit_tls else plain
            with stream, stream.makefile("rb") as lines:
                greeting = lines.readline(1000).decode("ascii", "backslashreplace").strip()
                stream.sendall(b"QUIT\r\n")
    except OSError as error:
        return False, f"not ready: {where} does not answer: {error}"
    if greeting.startswith("220"):
        return True, f"ready: {where} greets with 220"
    return False, f"not ready: {where} says {greeting!r}" if greeting else f"not ready: {where} closes at once"


def _connected(listener: ListenerSettings, host: str) -> socket.socket:
    if listener.is_unix:
        return connect(Path(host), TIMEOUT)
    return socket.create_connection((host, listener.port), timeout=TIMEOUT)


def _unverified() -> ssl.SSLContext:
    # The question is whether it answers. Its certificate is made for its name, and here it is asked by address.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _reachable(host: str) -> str:
    """An address to connect to, for an address to bind to."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
