"""What a sink answers over HTTP: the messages as a page and as JSON, their content, and its faults.

    GET    /                        a list for people
    GET    /count                   how many messages are kept
    GET    /messages                all of them, JSON
    DELETE /messages                forget them
    GET    /messages/ID             one, JSON
    GET    /messages/ID/content     its exact octets
    GET    /faults                  the rules in force, one on each line
    POST   /faults                  other rules: one on each line, or a JSON list of texts

Importing this costs a fifth of a second (starlette), so only who serves imports it.
"""

import json
import time
from html import escape

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from waypost.sink.grammar import FaultError
from waypost.sink.server import Sink
from waypost.sink.stored import StoredMessage
from waypost.sink.terminal import size

MAX_RULES = 64 * 1024
"""Octets that `POST /faults` takes."""

_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
}
_PAGE = """\
<!doctype html>
<html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="5"><title>({count}) Waypost sink</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem;
  color-scheme: light dark }}
table {{ border-collapse: collapse; width: 100% }}
th, td {{ text-align: left; vertical-align: top; padding: .3rem .6rem; border-bottom: 1px solid #8884 }}
td {{ overflow-wrap: anywhere }} td:first-child {{ white-space: nowrap }}
</style>
<h1>{count} kept</h1>
<p>The newest comes first. <a href="/messages">JSON</a> · <a href="/faults">faults</a></p>
<table><tr><th>Message<th>From<th>To<th>Subject<th>Size<th>Client</tr>
{rows}</table>
"""


def make_app(sink: Sink) -> Starlette:
    """The web application of one sink."""
    pages = _Pages(sink)
    return Starlette(
        routes=[
            Route("/", pages.index),
            Route("/count", pages.count),
            Route("/messages", pages.messages),
            Route("/messages", pages.clear, methods=["DELETE"]),
            Route("/messages/{id:int}", pages.message),
            Route("/messages/{id:int}/content", pages.content),
            Route("/faults", pages.faults),
            Route("/faults", pages.replace_faults, methods=["POST"]),
        ]
    )


class _Pages:
    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    async def index(self, _: Request) -> Response:
        messages = self._sink.messages
        count = f"{len(messages)} message{'' if len(messages) == 1 else 's'}"
        rows = "".join(_row(message) for message in reversed(messages))
        return HTMLResponse(_PAGE.format(count=count, rows=rows), headers=_HEADERS)

    async def count(self, _: Request) -> Response:
        return PlainTextResponse(f"{len(self._sink.messages)}\n", headers=_HEADERS)

    async def messages(self, _: Request) -> Response:
        return JSONResponse([message.as_json() for message in self._sink.messages], headers=_HEADERS)

    async def clear(self, _: Request) -> Response:
        self._sink.mailbox.clear()
        return Response(status_code=204, headers=_HEADERS)

    async def message(self, request: Request) -> Response:
        found = self._find(request)
        return found if isinstance(found, Response) else JSONResponse(found.as_json(), headers=_HEADERS)

    async def content(self, request: Request) -> Response:
        found = self._find(request)
        if isinstance(found, Response):
            return found
        # Shown as text: a browser that is sent message/rfc822 asks where to store it.
        return Response(found.content, headers=_HEADERS | {"Content-Type": "text/plain; charset=utf-8"})

    async def faults(self, _: Request) -> Response:
        return PlainTextResponse("".join(f"{rule.text}\n" for rule in self._sink.faults), headers=_HEADERS)

    async def replace_faults(self, request: Request) -> Response:
        body = b""
        async for piece in request.stream():
            body += piece
            if len(body) > MAX_RULES:
                return PlainTextResponse(f"More than {MAX_RULES} octets of rules\n", 413, headers=_HEADERS)
        try:
            self._sink.replace_faults(_rules(body))
        except FaultError as error:
            return PlainTextResponse(f"{error}\n", 400, headers=_HEADERS)
        return await self.faults(request)

    def _find(self, request: Request) -> StoredMessage | Response:
        number = request.path_params["id"]
        found = self._sink.mailbox.find(number)
        if found is not None:
            return found
        return PlainTextResponse(f"There is no message {number}, or not any more\n", 404, headers=_HEADERS)


def _rules(body: bytes) -> list[str]:
    """One rule on each line, or a JSON list. Raises `FaultError`."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise FaultError("rules are UTF-8") from None
    if not text.lstrip().startswith("["):
        return [line.strip() for line in text.split("\n") if line.strip()]
    try:
        rules = json.loads(text)
    except ValueError as error:
        raise FaultError(f"that is no JSON: {error}") from None
    if not all(isinstance(rule, str) for rule in rules):
        raise FaultError('a JSON list of rules is a list of texts: ["dot=close", "mail=451 4.3.0 first:2"]')
    return list(rules)


def _row(message: StoredMessage) -> str:
    cells = (
        message.reverse_path or "<>",
        ", ".join(message.recipients),
        message.header(b"subject"),
        size(len(message.content)),
        f"{message.client} {message.client_name}",
    )
    at = time.strftime("%H:%M:%S", time.localtime(message.received_at))
    link = f'<a href="/messages/{message.id}/content">#{message.id}</a> {at}'
    return f"<tr><td>{link}{''.join(f'<td>{escape(cell)}' for cell in cells)}</tr>\n"
