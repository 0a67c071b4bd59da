"""`/api/replay`: the messages that came in last, and where each would go with the configuration that is running.

    GET /api/replay?last=N              at most 100,000; `since` is in seconds since the epoch

One JSON object a line for each message, the youngest first: its envelope as it is in the journal, and `destinations`,
one for each recipient (`waypost.routing.destination`). Header fields are not in the journal: what depends on them is
open.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from waypost.admin.answers import JsonLine, streamed
from waypost.admin.filters import BadRequestError, moment
from waypost.observe.journal import Journal, Search
from waypost.observe.replayed import facts_of
from waypost.routing.destination import Compass

MAX_LAST = 100_000
PAGE = 100
_NAMES = {"last", "since"}


def replay_routes(journal: Journal | None, compass: Compass) -> Sequence[Route]:
    """The route of replays."""

    async def replay(request: Request) -> Response:
        query = request.query_params
        unknown = sorted(set(query) - _NAMES)
        if unknown:
            raise BadRequestError(f"there is no parameter {unknown[0]!r}; there are {', '.join(sorted(_NAMES))}")
        if journal is None:
            raise BadRequestError("this Waypost keeps no journal (journal.keep is 0), so it has nothing to replay")
        since = moment("since", query["since"]) if "since" in query else None
        ids = await journal.find(Search(since=since), limit=_last(query.get("last", "")))
        return await streamed(_replayed(journal, compass, ids))

    return [Route("/api/replay", replay)]


async def _replayed(journal: Journal, compass: Compass, ids: Sequence[str]) -> AsyncIterator[list[JsonLine]]:
    page: list[JsonLine] = []
    for id_ in ids:
        for event in await journal.events(id_):
            if event.get("event") == "received":
                page.append(_line(id_, event, compass))
                break
        if len(page) >= PAGE:
            yield page
            page = []
    if page:
        yield page


def _line(id_: str, event: dict[str, Any], compass: Compass) -> JsonLine:
    facts = facts_of(event)
    return {
        "id": id_,
        "event": event,
        "destinations": [asdict(compass.point(each)) for each in facts],
    }


def _last(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and 0 < int(text) <= MAX_LAST):
        raise BadRequestError(f"last is a whole number from 1 to {MAX_LAST}, not {text[:40]!r}")
    return int(text)
