"""`/api/trace`: the life of messages, from the journal, and what the spool still owes of them.

    GET /api/trace?about=WHAT           a Waypost id, a Message-ID, or an address; since and limit apply

One JSON object a line for each message, the youngest first: `id`, `events`, the records of the mail log, and
`deliveries`, what is still in the spool.
"""

from collections.abc import AsyncIterator, Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from waypost.admin.answers import JsonLine, streamed
from waypost.admin.filters import MAX_TEXT, BadRequestError, moment
from waypost.admin.filters import Request as Wanted
from waypost.admin.queue import Queue
from waypost.admin.written import written_entry
from waypost.delivery.spool import Filter
from waypost.mail.ids import LENGTH, make_id, read_id
from waypost.observe.journal import Journal, Search

DEFAULT_LIMIT = 20
MAX_LIMIT = 1000

_NAMES = {"about", "since", "limit"}


def trace_routes(journal: Journal | None, queue: Queue) -> Sequence[Route]:
    """The route of traces. Without a journal only what is still owed is known."""

    async def trace(request: Request) -> Response:
        query = request.query_params
        unknown = sorted(set(query) - _NAMES)
        if unknown:
            raise BadRequestError(f"there is no parameter {unknown[0]!r}; there are {', '.join(sorted(_NAMES))}")
        about = query.get("about", "")
        if not about or len(about) > MAX_TEXT or not about.isprintable():
            raise BadRequestError("about is a Waypost id, a Message-ID, or an address")
        since = moment("since", query["since"]) if "since" in query else None
        ids = await _find(journal, about, since, _limit(query.get("limit")))
        return await streamed(_lives(journal, queue, ids))

    return [Route("/api/trace", trace)]


async def _find(journal: Journal | None, about: str, since: float | None, limit: int) -> Sequence[str]:
    id_ = waypost_id(about)
    if id_ is not None:
        return [id_]
    if journal is None:
        raise BadRequestError("this Waypost keeps no journal (journal.keep is 0), so it can look for its own ids only")
    bare = about.removeprefix("<").removesuffix(">")
    searches = [Search(address=bare, since=since), Search(message_id_field=f"<{bare}>", since=since)]
    # Without its angle brackets a Message-ID looks like an address, and people write addresses with brackets.
    for search in searches[::-1] if about.startswith("<") else searches:
        found = await journal.find(search, limit=limit)
        if found:
            return found
    return []


async def _lives(journal: Journal | None, queue: Queue, ids: Sequence[str]) -> AsyncIterator[list[JsonLine]]:
    for id_ in ids:
        events = [] if journal is None else list(await journal.events(id_))
        deliveries: list[JsonLine] = []
        async for page in queue.pages(Wanted(Filter(message_ids=frozenset({id_})))):
            deliveries += map(written_entry, page)
        if events or deliveries:
            yield [{"id": id_, "events": events, "deliveries": deliveries}]


def waypost_id(text: str) -> str | None:
    """The text as a Waypost id, as it is stored; None when it is none."""
    if len(text) != LENGTH:
        return None
    try:
        return make_id(*read_id(text))
    except ValueError:
        return None


def _limit(text: str | None) -> int:
    if text is None:
        return DEFAULT_LIMIT
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and 0 < int(text) <= MAX_LIMIT):
        raise BadRequestError(f"limit is a whole number from 1 to {MAX_LIMIT}, not {text[:40]!r}")
    return int(text)
