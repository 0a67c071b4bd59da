"""The TLS handshake with a client."""

import ssl

from waypost.net.certificates import ServerCertificate
from waypost.net.settings import ListenerSettings
from waypost.net.stream import Stream, StreamTimeoutError


async def secure(stream: Stream, certificate: ServerCertificate | None, settings: ListenerSettings) -> str | None:
    """Starts TLS; None when it worked, else why not."""
    if certificate is None:
        return "this listener has no certificate"
    context, timeout = certificate.context(), settings.timeouts.handshake
    try:
        await stream.start_tls(context, timeout, server=True, from_the_start=settings.implicit_tls)
    except (ssl.SSLError, ConnectionError, StreamTimeoutError) as error:
        return getattr(error, "reason", None) or str(error)
    return None
