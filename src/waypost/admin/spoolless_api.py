"""What is said to whoever asks for the queue, or for what happened, where there is no spool."""

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from waypost.admin.answers import refuse

_WHY = "this Waypost has no spool (`spool.path`): nothing is queued, and no journal is kept"


def spoolless_routes() -> Sequence[Route]:
    """The routes of queue, traces and replays, which all refuse."""

    async def refused(_: Request) -> Response:
        return refuse(404, _WHY)

    paths = ("/api/queue", "/api/queue/{rest:path}", "/api/trace", "/api/replay")
    return [Route(path, refused, methods=["GET", "POST"]) for path in paths]
