"""`/api/upstreams`: how upstreams are, over HTTP.

GET  /api/upstreams           one JSON object a line
GET  /api/order?pool=NAME&from=ADDRESS&to=ADDRESS&account=NAME
                              a pool's upstreams as such a message would find them now, best first, one a line
POST /api/upstreams/actions   {"action": "pause", "upstreams": ["gmail"]}; or "resume"
"""

from collections.abc import AsyncIterator, Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from waypost.admin.answers import JsonLine, body_of, streamed
from waypost.admin.filters import BadRequestError
from waypost.admin.upstreams import Upstreams
from waypost.smtp.address import NULL, Address, AddressError, parse_forward_path

_ACTIONS = ("pause", "resume")


def upstream_routes(upstreams: Upstreams) -> Sequence[Route]:
    """The routes of upstreams."""

    async def listed(_: Request) -> Response:
        return await streamed(_page(upstreams.rows()))

    async def acted(request: Request) -> Response:
        body = await body_of(request)
        action, names = body.get("action"), body.get("upstreams")
        if set(body) != {"action", "upstreams"} or action not in _ACTIONS:
            raise BadRequestError("an action is {'action': 'pause' or 'resume', 'upstreams': [NAME, ...]}")
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            raise BadRequestError("upstreams must be a list of names, one at least")
        unknown = upstreams.unknown(action, names)
        if unknown:
            raise BadRequestError(f"there is no upstream {unknown[0]!r}; there are: {', '.join(upstreams.names)}")
        by = str(getattr(request.state, "user", "")) or "somebody"
        return await streamed(_page(upstreams.act(action, names, by)))

    async def ordered(request: Request) -> Response:
        query = request.query_params
        if set(query) - {"pool", "from", "to", "account"} or not {"pool", "from", "to"} <= set(query):
            raise BadRequestError("an order is asked for with pool, from and to, and account where there is one")
        reverse_path = _address("from", query["from"]) if query["from"] not in ("", "<>") else NULL
        rows = upstreams.order(query["pool"], reverse_path, _address("to", query["to"]), query.get("account"))
        if rows is None:
            raise BadRequestError(f"there is no pool {query['pool'][:100]!r}")
        return await streamed(_page(rows))

    return [
        Route("/api/upstreams", listed, methods=["GET"]),
        Route("/api/order", ordered, methods=["GET"]),
        Route("/api/upstreams/actions", acted, methods=["POST"]),
    ]


def _address(name: str, text: str) -> Address:
    try:
        return parse_forward_path(f"<{text}>")
    except AddressError as error:
        raise BadRequestError(f"{name} is not an address: {error}") from None


async def _page(rows: Sequence[JsonLine]) -> AsyncIterator[Sequence[JsonLine]]:
    yield rows
