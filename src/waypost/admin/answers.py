"""How the control API answers: JSON, lists as JSON lines while they are being read, and errors as a sentence.

Importing this costs a fifth of a second (starlette), so it is imported by whoever serves, and nobody else.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from waypost.admin.filters import BadRequestError
from waypost.delivery.spool import SpoolError
from waypost.observe.journal import JournalError

MAX_BODY = 1024 * 1024
"""Octets of a request's body."""

LINES = "application/x-ndjson"

_BODY_WITHIN = 10.0  # seconds
_FRESH = {"Cache-Control": "no-store"}

_encode = json.JSONEncoder(separators=(",", ":")).encode  # made once: `json.dumps` makes one for each call

JsonLine = Mapping[str, Any]


async def streamed(pages: AsyncIterator[Iterable[JsonLine]]) -> Response:
    """An answer of JSON lines, made page by page as they are read.

    An error before the first page is an ordinary error; one that comes later is the last line, `{"error": ...}`.
    """
    first = await anext(pages, None)
    return StreamingResponse(_lines(first, pages), media_type=LINES, headers=_FRESH)


async def _lines(first: Iterable[JsonLine] | None, pages: AsyncIterator[Iterable[JsonLine]]) -> AsyncIterator[bytes]:
    if first is None:
        return
    yield _encoded(first)
    try:
        async for page in pages:
            yield _encoded(page)
    except (SpoolError, JournalError) as error:
        yield _encoded([{"error": str(error)}])


def _encoded(page: Iterable[JsonLine]) -> bytes:
    return "".join(f"{_encode(line)}\n" for line in page).encode()


class ClosingResponse(StreamingResponse):
    """Octets from an iterator that may block, after which, however it ends, something is closed."""

    def __init__(self, pieces: Iterable[bytes], close: Callable[[], None], media_type: str) -> None:
        super().__init__(pieces, media_type=media_type, headers=_FRESH)
        self._close = close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._close()


def answer(content: object) -> Response:
    """One JSON value."""
    return JSONResponse(content, headers=_FRESH)


def refuse(status: int, sentence: str) -> Response:
    """An error, with a sentence for the person who asked."""
    return JSONResponse({"error": sentence}, status, headers=_FRESH)


async def body_of(request: Request, *, within: float = _BODY_WITHIN) -> dict[str, Any]:
    """The JSON object in the body. Raises `BadRequestError`."""
    pieces, size = [], 0
    try:
        async with asyncio.timeout(within):
            async for piece in request.stream():
                size += len(piece)
                if size > MAX_BODY:
                    raise BadRequestError(f"the body is larger than {MAX_BODY} octets")
                pieces.append(piece)
    except TimeoutError:
        raise BadRequestError(f"the body has not arrived within {within:g} s") from None
    try:
        body = json.loads(b"".join(pieces))
    except (ValueError, RecursionError):  # what is nested too deeply is a RecursionError
        raise BadRequestError("the body is not JSON") from None
    if not isinstance(body, dict):
        raise BadRequestError("the body is not a JSON object")
    return body


async def _bad_request(_: Request, error: Exception) -> Response:
    return refuse(400, str(error))


async def _unavailable(_: Request, error: Exception) -> Response:
    return refuse(503, str(error))


async def _unreadable(_: Request, error: Exception) -> Response:
    return refuse(503, f"the content cannot be read: {error}")


async def _fault(_: Request, error: Exception) -> Response:
    return refuse(500, f"a fault of Waypost's own, which its log tells more about: {type(error).__name__}")


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 # what it is registered for
    response = refuse(
        error.status_code, f"{error.detail}: the control API has /api/queue, /api/trace and /api/upstreams"
    )
    response.headers.update(error.headers or {})
    return response


ERRORS: Mapping[Any, Any] = {
    BadRequestError: _bad_request,
    SpoolError: _unavailable,
    JournalError: _unavailable,
    OSError: _unreadable,
    HTTPException: _http_error,
    Exception: _fault,
}
"""Which error becomes which answer, for starlette."""
