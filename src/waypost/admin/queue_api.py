"""`/api/queue`: what is owed, over HTTP.

    GET  /api/queue                     deliveries, one JSON object a line; all parameters of `filters` apply
    GET  /api/queue/summary             lanes, one a line
    GET  /api/queue/instances           who works on the spool, one a line
    GET  /api/queue/NUMBER              one delivery, its envelope and header section
    GET  /api/queue/NUMBER/content      its content as a message, CRLF line ends
    POST /api/queue/actions             {"action": "retry", "filter": {"state": "dead"}, "dry_run": false, "all": false}

A list goes on behind the last `number` with `after`. An action answers with a line for each delivery it came to, and
last of all with `{"finished": true, "matched": ..., "done": ...}`: without that line it was not carried through.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from itertools import chain
from typing import Any, cast

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from waypost.admin.answers import ClosingResponse, JsonLine, answer, body_of, refuse, streamed
from waypost.admin.filters import ACTIONS, BadRequestError, LanesOf, read_request
from waypost.admin.filters import Request as Wanted
from waypost.admin.queue import Queue
from waypost.admin.written import written_delivery, written_entry, written_instance, written_lane, written_touched
from waypost.delivery.spool import Action, Delivery, Entry
from waypost.smtp.content import unstuffed

_MAX_DIGITS = 18


def queue_routes(queue: Queue, lanes_of: LanesOf, now: Callable[[], float]) -> Sequence[Route]:
    """The routes of the queue. `now` is in seconds since the epoch."""

    def wanted(request: Request) -> Wanted:
        query = request.query_params
        return read_request({name: query.getlist(name) for name in query}, now(), lanes_of)

    async def listed(request: Request) -> Response:
        pages = queue.pages(wanted(request))
        return await streamed(map(written_entry, page) async for page in pages)

    async def summary(request: Request) -> Response:
        asked = wanted(request)
        if asked.after or asked.limit is not None:
            raise BadRequestError("a summary has neither after nor limit")

        async def lanes() -> AsyncIterator[list[JsonLine]]:
            yield [written_lane(lane) for lane in await queue.summary(asked.where)]

        return await streamed(lanes())

    async def instances(_: Request) -> Response:
        async def lines() -> AsyncIterator[list[JsonLine]]:
            yield [written_instance(each) for each in await queue.instances()]

        return await streamed(lines())

    async def shown(request: Request) -> Response:
        found = await _found(queue, request)
        if isinstance(found, Response):
            return found
        entry, delivery = found
        try:
            return answer(written_delivery(entry, delivery))
        finally:
            delivery.message.content.close()

    async def content(request: Request) -> Response:
        found = await _found(queue, request)
        if isinstance(found, Response):
            return found
        stored = found[1].message.content
        pieces = unstuffed(stored.chunks())
        try:
            first = await asyncio.to_thread(next, pieces, b"")  # so that content that is gone is still an error
        except BaseException:
            stored.close()
            raise
        return ClosingResponse(chain([first], pieces), stored.close, "message/rfc822")

    async def actions(request: Request) -> Response:
        body = await body_of(request)
        action, dry_run = _action(body), _truth(body, "dry_run")
        asked = read_request(_parameters(body.get("filter", {})), now(), lanes_of)
        if asked.is_everything and not _truth(body, "all"):
            raise BadRequestError('there is no filter, so every delivery is meant: say so with "all": true')
        unknown = sorted(set(body) - {"action", "filter", "dry_run", "all"})
        if unknown:
            raise BadRequestError(f"there is no {unknown[0]!r} in an action")
        return await streamed(_progress(queue, action, asked, _user(request), dry_run))

    return [
        Route("/api/queue", listed),
        Route("/api/queue/summary", summary),
        Route("/api/queue/instances", instances),
        Route("/api/queue/actions", actions, methods=["POST"]),
        Route("/api/queue/{number}", shown),
        Route("/api/queue/{number}/content", content),
    ]


async def _found(queue: Queue, request: Request) -> tuple[Entry, Delivery] | Response:
    text: str = request.path_params["number"]
    if not (text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS):
        raise BadRequestError(f"{text[:40]!r} is not the number of a delivery")
    found = await queue.read(int(text))
    return found or refuse(404, f"there is no delivery {int(text)}: it was delivered or deleted, or never existed")


async def _progress(
    queue: Queue, action: Action, asked: Wanted, by: str, dry_run: bool
) -> AsyncIterator[Sequence[JsonLine]]:
    matched = done = 0
    async for page in queue.act(action, asked, by, dry_run=dry_run):
        matched += len(page)
        done += sum(touched.done for touched in page)
        yield [written_touched(touched, dry_run=dry_run) for touched in page]
    yield [{"finished": True, "action": action, "dry_run": dry_run, "matched": matched, "done": done}]


def _user(request: Request) -> str:
    return str(getattr(request.state, "user", ""))


def _action(body: Mapping[str, Any]) -> Action:
    action = body.get("action")
    if action not in ACTIONS:
        raise BadRequestError(f"action is one of {', '.join(ACTIONS)}, not {action!r}"[:200])
    return cast(Action, action)


def _truth(body: Mapping[str, Any], name: str) -> bool:
    value = body.get(name, False)
    if not isinstance(value, bool):
        raise BadRequestError(f"{name} is true or false")
    return value


def _parameters(given: object) -> dict[str, list[str]]:
    """A filter in JSON as a query string would have it: texts and numbers, or lists of them."""
    if not isinstance(given, dict):
        raise BadRequestError("filter is a JSON object")
    return {name: [_text(name, value) for value in _list(values)] for name, values in given.items()}


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def _text(name: str, value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    raise BadRequestError(f"{name} is a text, a number, or a list of these")
