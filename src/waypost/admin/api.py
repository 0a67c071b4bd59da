"""What the admin address answers: `/livez`, `/readyz`, `/metrics`.

Live means that the program runs; ready, that it would take mail now: not draining, listeners bound, spool
writable. Whether upstreams are up is no part of it: a relay is needed most when they are not.

Importing this costs a fifth of a second (starlette), so it is imported by whoever serves, and nobody else.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from waypost.observe.metrics import CONTENT_TYPE

Readiness = Callable[[], Awaitable[Mapping[str, str | None]]]
"""Says of each thing that must be right, by name, why it is not; None when it is."""

Scrape = Callable[[], Awaitable[bytes]]
"""Gives the metrics in Prometheus' text format."""

PATIENCE = 2.0
"""Seconds that readiness may take. A store that does not answer in this time is not ready for mail either."""

_FRESH = {"Cache-Control": "no-store"}


def make_app(readiness: Readiness, scrape: Scrape, *, patience: float = PATIENCE) -> Starlette:
    """The web application. Paths and methods that it does not know are answered in plain text."""

    async def livez(_: Request) -> Response:
        return PlainTextResponse("alive\n", headers=_FRESH)

    async def readyz(_: Request) -> Response:
        try:
            async with asyncio.timeout(patience):
                checks = await readiness()
        except TimeoutError:
            checks = {"readiness": f"no answer within {patience:g} s"}
        failing = {name: why for name, why in checks.items() if why is not None}
        fine = [name for name, why in checks.items() if why is None]
        answer = {"ready": not failing, "failing": failing, "fine": fine}
        return JSONResponse(answer, 503 if failing else 200, headers=_FRESH)

    async def metrics(_: Request) -> Response:
        return Response(await scrape(), headers=_FRESH | {"Content-Type": CONTENT_TYPE})

    return Starlette(
        routes=[
            Route("/livez", livez),
            Route("/healthz", livez),
            Route("/readyz", readyz),
            Route("/metrics", metrics),
        ]
    )
