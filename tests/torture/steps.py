"""The steps at which the program can be killed: a name, the function of Waypost that it is, and the moment.

Nothing in the product knows of this. `arm` puts a function of the same signature in the place of the one that a step
names, for this process; a test asserts that each of them exists and is come to.
"""

import asyncio
import importlib
import inspect
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Mode = Literal["pass", "hybrid", "spool"]
Store = Literal["sqlite", "postgres"]

MODES: tuple[Mode, ...] = ("pass", "hybrid", "spool")
STORES: tuple[Store, ...] = ("sqlite", "postgres")

_SPOOLS = {"sqlite": "waypost.store.sqlite:SqliteSpool", "postgres": "waypost.store.postgres.spool:PostgresSpool"}


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the function of a step. `result` is None before it has returned."""

    arguments: tuple[Any, ...]
    result: Any = None


def _always(call: Call) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Step:
    """A moment in the life of a message.

    `when` is relative to the call: `before` it, `after` it has returned, or `during`: three turns of the loop later,
    when what it wrote has left and the answer has not come. Calls that `only` does not admit are not counted.
    """

    name: str
    target: str
    when: Literal["before", "after", "during"]
    only: Callable[[Call], bool] = _always
    modes: tuple[Mode, ...] = MODES
    stores: tuple[Store, ...] = STORES

    def place(self, store: Store) -> str:
        """`module:qualified.name` with this store."""
        return self.target.replace("{spool}", _SPOOLS[store])


def _lined(name: str, target: str, *whens: Literal["before", "after", "during"], **more: Any) -> tuple[Step, ...]:
    """One step for each moment: `before NAME`, `NAME` (its end), `in NAME`."""
    words = {"before": f"before {name}", "after": name, "during": f"in {name}"}
    return tuple(Step(words[when], target, when, **more) for when in whens)


# -- which calls


def _has_result(call: Call) -> bool:
    return bool(call.result)


def _is_dot(call: Call) -> bool:
    return call.arguments[1][-1] == "dot"


def _names_id(call: Call) -> bool:
    return b"(id " in call.arguments[1]


def _has_keys(call: Call) -> bool:
    return bool(call.arguments[1])


def _inserts_messages(call: Call) -> bool:
    return call.arguments[1] == "message" and bool(call.arguments[2])


def _commits_message(call: Call) -> bool:
    return any(each.message is not None for each in call.arguments[2])


def _commits_live(call: Call) -> bool:
    return any(row is not None and row[1] == 1 for row in call.arguments[1].whole.values())


def _commits_outcome(call: Call) -> bool:
    changes = call.arguments[1]
    return bool(changes.gone or changes.deliveries or changes.check)


def _commits_intent(call: Call) -> bool:
    return any(upstream is not None for upstream in call.arguments[1].intents.values())


def _commits_notice(call: Call) -> bool:
    return bool(call.arguments[1].messages)


def _has_dead(call: Call) -> bool:
    return bool(call.arguments[1].dead)


def _has_again(call: Call) -> bool:
    return bool(call.arguments[1].again)


def _has_copies(call: Call) -> bool:
    return bool(call.arguments[1].copies)


def _has_notices(call: Call) -> bool:
    return bool(call.arguments[1].notices)


def _batch_has(what: str) -> Callable[[Call], bool]:
    def only(call: Call) -> bool:
        batch = call.arguments[1]
        return bool(getattr(batch, what, None) or getattr(batch.changes, what, None))

    return only


_UPSTREAM = "waypost.net.upstream:UpstreamConnection"
_HANDING_OVER = "waypost.net.handing_over"
_DATABASE = "waypost.store.database:Database"
_RECEPTION = "waypost.delivery.intake:Reception"
_QUEUED: Any = {"modes": ("hybrid", "spool")}
_LIVE: Any = {"modes": ("pass", "hybrid")}
_SQLITE: Any = {"stores": ("sqlite",)}
_POSTGRES: Any = {"stores": ("postgres",)}

STEPS: tuple[Step, ...] = (
    # Content comes in.
    *_lined("the first content", f"{_RECEPTION}.write", "before", "after"),
    *_lined("content in a temporary file", "waypost.store.spill:_SpillFile.write", "before", "after"),
    *_lined("content complete", f"{_RECEPTION}._kept", "after"),
    # It is stored.
    *_lined("content file renamed", "waypost.store.files:FileContent.keep", "before", "after", **_SQLITE),
    *_lined("content file durable", "waypost.store.files:SpoolFolder.store", "after", **_SQLITE),
    *_lined("message inserted", f"{_DATABASE}.insert", "after", only=_inserts_messages, **_SQLITE),
    *_lined("message durable", f"{_DATABASE}._transaction", "after", only=_commits_message, **_SQLITE),
    *_lined("prepare", "{spool}.prepare", "before", "after", **_LIVE),
    *_lined("accept", "{spool}.accept", "before", "after", **_QUEUED),
    *_lined("content uploaded", "waypost.store.postgres.content:ContentStore.upload", "after", **_POSTGRES),
    *_lined(
        "new messages written",
        "waypost.store.postgres.writer:write",
        "before",
        "after",
        only=_batch_has("messages"),
        **_POSTGRES,
    ),
    # It goes to an upstream, at once or out of the spool.
    *_lined("connection open", f"{_UPSTREAM}.open", "after"),
    *_lined("MAIL and RCPT", f"{_UPSTREAM}.begin", "before", "during", "after"),
    *_lined("DATA", f"{_UPSTREAM}.send", "before"),
    *_lined("content under way", f"{_HANDING_OVER}:_send_all", "before"),
    *_lined("the dot", f"{_HANDING_OVER}:_end", "before"),
    Step("dot sent", "waypost.net.dialogue:Dialogue.answers", "during", _is_dot),
    Step("dot answered", "waypost.net.dialogue:Dialogue.answers", "after", _is_dot),
    *_lined("whole transaction of a copy", f"{_UPSTREAM}.begin_with", "before", "during", "after"),
    # The primary has said what it says.
    *_lined("live attempt", "waypost.delivery.relay:LiveRelay.send", "after", **_LIVE),
    *_lined("commit", "{spool}.commit", "before", "after", **_LIVE),
    *_lined("commit durable", f"{_DATABASE}._transaction", "after", only=_commits_live, **_SQLITE, **_LIVE),
    *_lined("commit as", "{spool}.commit_as", "before", "after", modes=("hybrid",)),
    *_lined("abort", "{spool}.abort", "before", "after", **_LIVE),
    *_lined("hold", "waypost.delivery.copies:Copies.hold", "before", "after", modes=("pass",)),
    *_lined("supersede", "waypost.delivery.copies:Copies.supersede", "after"),
    # The client is told.
    *_lined("reply made", f"{_RECEPTION}.finish", "after"),
    *_lined("reply written", "waypost.net.stream:Stream.write", "before", "during", only=_names_id),
    *_lined("client told", f"{_RECEPTION}.told", "before", "after"),
    # Later: what is owed.
    *_lined("claim", "{spool}.claim", "before"),
    *_lined("claim", "{spool}.claim", "after", only=_has_result),
    *_lined("intend", "{spool}.intend", "before", "during", "after"),
    *_lined("intent in its transaction", f"{_DATABASE}._transaction", "before", only=_commits_intent, **_SQLITE),
    *_lined("settle", "{spool}.settle", "before", "after"),
    *_lined("settle for another attempt", "{spool}.settle", "before", "after", only=_has_again),
    *_lined("settle as a dead letter", "{spool}.settle", "before", "after", only=_has_dead),
    *_lined("settle with copies", "{spool}.settle", "before", "after", only=_has_copies, **_QUEUED),
    *_lined("settle with a notice", "{spool}.settle", "before", "after", only=_has_notices, **_QUEUED),
    *_lined("outcome in its transaction", f"{_DATABASE}._transaction", "before", only=_commits_outcome, **_SQLITE),
    *_lined("outcome durable", f"{_DATABASE}._transaction", "after", only=_commits_outcome, **_SQLITE),
    *_lined("notice durable", f"{_DATABASE}._transaction", "after", only=_commits_notice, **_SQLITE, **_QUEUED),
    *_lined("late outcome", "waypost.delivery.lane:Lane._take_over", "before", "after", modes=("hybrid",)),
    *_lined("files removed", "waypost.store.files:SpoolFolder.remove", "before", "after", only=_has_keys, **_SQLITE),
    *_lined(
        "commits written",
        "waypost.store.postgres.writer:write",
        "before",
        "after",
        only=_batch_has("commits"),
        **_POSTGRES,
        **_LIVE,
    ),
    *_lined(
        "intents written",
        "waypost.store.postgres.writer:write",
        "before",
        "after",
        only=_batch_has("intents"),
        **_POSTGRES,
    ),
    *_lined(
        "outcomes written",
        "waypost.store.postgres.writer:write",
        "before",
        "after",
        only=_batch_has("settled"),
        **_POSTGRES,
    ),
    # The journal.
    *_lined("journal batch", "waypost.store.journal_file:JournalFile.write", "before", "after", **_SQLITE),
    # A start after a crash.
    *_lined("recovery", "waypost.store.sqlite:recover", "before", "after", **_SQLITE),
    *_lined("sweep", "waypost.store.files:SpoolFolder.sweep", "before", "after", **_SQLITE),
    *_lined("orphans", "{spool}.orphans", "after", only=_has_result, **_LIVE),
    *_lined("resume", "waypost.delivery.copies:Copies.resume", "before", "after", **_LIVE),
    *_lined("doubt told", "waypost.app.reports:DeliveryReports.in_doubt", "before", "after"),
    *_lined("take over", "waypost.store.postgres.instances:take_over", "before", "after", **_POSTGRES),
    # An end in good order, which the next start must not need.
    *_lined("close", "{spool}.close", "before", "after"),
)

BY_NAME = {step.name: step for step in STEPS}


def steps_of(mode: Mode, store: Store) -> list[Step]:
    """The steps that a message can come to in this mode, on this store."""
    return [step for step in STEPS if mode in step.modes and store in step.stores]


def find(place: str) -> tuple[Any, str, Any]:
    """What holds the function `module:qualified.name`, its name there, and the function. Raises when it is gone."""
    module, _, qualified = place.partition(":")
    owner: Any = importlib.import_module(module)
    *path, name = qualified.split(".")
    for each in path:
        owner = getattr(owner, each)
    return owner, name, getattr(owner, name)


def arm(step: Step, store: Store, nth: int, strike: Callable[[], None]) -> None:
    """Calls `strike` at the `nth` time that this process comes to the step."""
    owner, name, function = find(step.place(store))
    counter = itertools.count(1)

    def met(call: Call) -> bool:
        return step.only(call) and next(counter) == nth

    def soon() -> None:
        loop = asyncio.get_running_loop()
        loop.call_soon(loop.call_soon, loop.call_soon, strike)

    def first(arguments: tuple[Any, ...]) -> None:
        if step.when != "after" and met(Call(arguments)):
            (strike if step.when == "before" else soon)()

    def last(arguments: tuple[Any, ...], result: Any) -> None:
        if step.when == "after" and met(Call(arguments, result)):
            strike()

    if inspect.iscoroutinefunction(function):

        async def replaced(*arguments: Any, **named: Any) -> Any:
            first(arguments)
            result = await function(*arguments, **named)
            last(arguments, result)
            return result

        setattr(owner, name, replaced)
    else:

        def replaced_plain(*arguments: Any, **named: Any) -> Any:
            first(arguments)
            result = function(*arguments, **named)
            last(arguments, result)
            return result

        setattr(owner, name, replaced_plain)
