"""Asks every upstream whether it is there: resolves, connects, and reads the greeting. For `check --online`."""

import socket
import ssl
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from waypost.net.certificates import CertificateError, fingerprint, upstream_context
from waypost.net.unix_socket import connect
from waypost.routing.route import Upstream

_MAX_GREETING = 4096


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one upstream. `text` is its greeting, or why there is none."""

    upstream: str
    reached: bool
    text: str


def probe(upstreams: Iterable[Upstream]) -> list[Answer]:
    """One answer for each upstream, in order; all are asked at once, each within its own time-outs."""
    asked = list(upstreams)
    with ThreadPoolExecutor(max_workers=max(1, min(16, len(asked)))) as threads:
        return list(threads.map(_ask, asked))


def _ask(upstream: Upstream) -> Answer:
    try:
        with _connected(upstream) as connection:
            if upstream.tls.mode != "implicit":
                return _greeting(upstream, connection)
            context = upstream_context(upstream.tls)
            name = upstream.tls.server_name or upstream.host
            with context.wrap_socket(connection, server_hostname=name) as secured:
                shown = fingerprint(secured.getpeercert(binary_form=True) or b"")
                if upstream.tls.fingerprints and shown not in upstream.tls.fingerprints:
                    return Answer(upstream.name, False, f"the certificate's fingerprint is {shown}")
                return _greeting(upstream, secured)
    except socket.gaierror as error:
        return Answer(upstream.name, False, f"{upstream.host} has no address: {error.strerror}")
    except TimeoutError:
        return Answer(upstream.name, False, "does not answer in time")
    except ssl.SSLCertVerificationError as error:
        return Answer(upstream.name, False, f"the certificate is not valid: {error.verify_message}")
    except (OSError, CertificateError) as error:
        return Answer(upstream.name, False, getattr(error, "strerror", None) or str(error))


def _connected(upstream: Upstream) -> socket.socket:
    if upstream.is_unix:
        return connect(Path(upstream.host), upstream.timeouts.connect)
    return socket.create_connection((upstream.host, upstream.port), upstream.timeouts.connect)


def _greeting(upstream: Upstream, connection: socket.socket) -> Answer:
    connection.settimeout(upstream.timeouts.greeting)
    read = b""
    while b"\n" not in read and len(read) < _MAX_GREETING:
        block = connection.recv(_MAX_GREETING)
        if not block:
            break
        read += block
    # Others' words go to a terminal: nothing but printable ASCII may reach it.
    line = "".join(chr(octet) if 32 <= octet < 127 else "?" for octet in read.partition(b"\n")[0].rstrip(b"\r"))
    if read.startswith(b"220"):
        return Answer(upstream.name, True, line)
    return Answer(upstream.name, False, f"greets with {line!r}, not 220" if line else "closes without a greeting")
