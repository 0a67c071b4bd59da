"""The plain forwarder of the comparison: aiosmtpd in front, aiosmtplib behind, no more than a reply passed back.

python -m bench.forwarder PORT UPSTREAM_PORT
"""

import asyncio
import sys

import aiosmtplib
import uvloop
from aiosmtpd.smtp import SMTP, Envelope, Session


class Forwarder:
    """Relays each message while the client waits."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        """The name is aiosmtpd's."""
        try:
            await aiosmtplib.send(
                envelope.original_content or b"",
                sender=envelope.mail_from or "",
                recipients=envelope.rcpt_tos,
                hostname="127.0.0.1",
                port=self._port,
                start_tls=False,
            )
        except aiosmtplib.SMTPException as error:
            return f"451 4.4.0 {type(error).__name__}"
        return "250 2.0.0 Ok"


async def serve(port: int, upstream: int) -> None:
    """Listens on loopback for ever."""
    handler = Forwarder(upstream)
    loop = asyncio.get_running_loop()
    await loop.create_server(
        lambda: SMTP(handler, hostname="forwarder.bench.test", data_size_limit=104857600, loop=loop),
        "127.0.0.1",
        port,
        backlog=1024,
    )
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), int(sys.argv[2])))
