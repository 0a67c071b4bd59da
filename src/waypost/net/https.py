"""One POST over HTTPS, on our own streams: for token endpoints, and nothing else.

No redirects (a token request that is sent elsewhere is a leak), no proxies, no connections that are kept. h11
speaks the protocol.
"""

import asyncio
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

import h11

from waypost.net.certificates import CertificateError, upstream_context
from waypost.net.connect import ResolveError, connect, resolve
from waypost.net.stream import Stream, StreamTimeoutError
from waypost.routing.route import UpstreamTls

_MAX_BODY = 256 * 1024


class HttpError(Exception):
    """There was no answer. The message says why, and has nothing of the request in it."""


@dataclass(frozen=True, slots=True)
class Response:
    """Status and body of an answer."""

    status: int
    body: bytes


async def post_form(url: str, fields: Mapping[str, str], *, timeout: float, ca_file: str | None = None) -> Response:
    """Sends `fields` as a form and reads the answer, all within `timeout` seconds. For tasks only.

    `http://` is for this machine. `ca_file` replaces the system's certificate authorities. Raises `HttpError`.
    """
    stream: Stream | None = None
    try:
        async with asyncio.timeout(timeout):
            parts = urlsplit(url)
            host, secure = parts.hostname or "", parts.scheme == "https"
            stream = await connect(await resolve(host, parts.port or (443 if secure else 80)))
            if secure:
                context = upstream_context(UpstreamTls("implicit", ca_file=ca_file))
                await stream.start_tls(context, timeout, server=False, server_name=host)
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            return await _exchange(stream, parts.netloc, path, urlencode(fields).encode("ascii"), timeout)
    except (TimeoutError, StreamTimeoutError):
        raise HttpError(f"no answer within {timeout:g} s") from None
    except ResolveError as error:
        raise HttpError(str(error)) from None
    except ssl.SSLCertVerificationError as error:
        raise HttpError(f"its certificate is not valid: {error.verify_message}") from None
    except (CertificateError, ssl.SSLError) as error:
        raise HttpError(f"TLS failed: {getattr(error, 'reason', None) or error}") from None
    except OSError as error:
        raise HttpError(f"cannot be reached: {os.strerror(error.errno) if error.errno else error}") from None
    except h11.ProtocolError as error:
        raise HttpError(f"its answer is not HTTP: {error}") from None
    finally:
        if stream is not None:
            stream.abort()


async def _exchange(stream: Stream, netloc: str, path: str, body: bytes, timeout: float) -> Response:
    speaker = h11.Connection(h11.CLIENT)
    headers = [
        ("Host", netloc),
        ("Accept", "application/json"),
        ("Content-Type", "application/x-www-form-urlencoded"),
        ("Content-Length", str(len(body))),
        ("Connection", "close"),
    ]
    request = speaker.send(h11.Request(method="POST", target=path, headers=headers)) or b""
    stream.write(request + (speaker.send(h11.Data(data=body)) or b"") + (speaker.send(h11.EndOfMessage()) or b""))
    status, received = 0, b""
    while True:
        event = speaker.next_event()
        if event is h11.NEED_DATA:
            speaker.receive_data(await stream.read(timeout))  # nothing at all is the end, which h11 judges
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            received += event.data
            if len(received) > _MAX_BODY:
                raise HttpError("its answer is endless")
        elif isinstance(event, h11.EndOfMessage):
            return Response(status, received)
        elif isinstance(event, h11.ConnectionClosed):
            raise HttpError("it closed the connection without an answer")
