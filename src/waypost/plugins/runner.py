"""The process of one Python plugin: `python -m waypost.plugins.runner PATH-OR-NAME`.

Loads the file, or the entry point of the group `waypost.strategies`, and answers questions with its function. A plain
function is asked one thing after the other; an `async` one many at once, in an event loop of its own. What the plugin
prints goes to the log.
"""

import asyncio
import importlib.util
import inspect
import json
import os
import sys
import threading
import traceback
from collections.abc import Callable, Coroutine
from importlib.metadata import entry_points
from typing import Any, BinaryIO

from waypost.plugins.port import Deferral, NonsenseError, Order, Question, Refusal, checked_order
from waypost.plugins.wire import answer_object, read_question

GROUP = "waypost.strategies"
FUNCTION = "choose"

MAX_TRACE = 4000
"""Characters of a traceback that are written to standard error."""


class LoadError(Exception):
    """The plugin cannot be loaded. The text is for people."""


def load(target: str) -> Callable[[Question], Any]:
    """The function: of a file when there is a slash in `target`, else of the entry point. Raises `LoadError`.

    It may be a method: of the class, made without arguments, that is called `choose` or that the entry point names.
    """
    found = _from_file(target) if "/" in target else _from_entry_point(target)
    if inspect.isclass(found):
        found = found()
    function: Callable[[Question], Any] | None = getattr(found, FUNCTION, None) or found
    if not callable(function):
        raise LoadError(f"there is no function `{FUNCTION}` in {target}")
    return function


def _from_file(path: str) -> Any:
    spec = importlib.util.spec_from_file_location("waypost_plugin", path)
    if spec is None or spec.loader is None:
        raise LoadError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules["waypost_plugin"] = module
    sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
    spec.loader.exec_module(module)
    return getattr(module, FUNCTION, None)


def _from_entry_point(name: str) -> Any:
    found = entry_points(group=GROUP, name=name)
    if not found:
        raise LoadError(f"no installed package has an entry point {name!r} in the group {GROUP}")
    return next(iter(found)).load()


def answered(answer: Any, question: Question) -> dict[str, Any]:
    """What a function returned, for JSON: an answer of `waypost.plugins`, or just names in order."""
    if isinstance(answer, Order):
        answer = answer.upstreams
    if isinstance(answer, Refusal | Deferral):
        return answer_object(answer)
    if isinstance(answer, str) or not isinstance(answer, list | tuple):
        raise NonsenseError(f"the function returns a list of names, a refusal or a deferral, not {answer!r:.80}")
    return answer_object(checked_order(answer, question))


def serve(target: str, load: Callable[[str], Callable[[Question], Any]]) -> None:
    """Loads a function, and answers with it until standard input ends."""
    asked, output = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # what the plugin reads is no question
    os.dup2(2, 1)  # and what it prints no answer
    sys.stdout = os.fdopen(1, "w", buffering=1)
    try:
        function = load(target)
    except BaseException as error:
        if not isinstance(error, LoadError):
            _explain()
        fault = (
            f"{error!s:.300}" if isinstance(error, LoadError) else f"{target}: {type(error).__name__}: {error!s:.300}"
        )
        _say(output, {"fault": fault})
        sys.exit(1)
    _say(output, {"ready": True})
    if inspect.iscoroutinefunction(function):
        asyncio.run(_answer_many(function, asked, output))
    else:
        for line in asked:
            _say(output, _answer_one(function, line))


def _answer_one(function: Callable[[Question], Any], line: bytes) -> dict[str, Any]:
    made = json.loads(line)
    try:
        question = read_question(made["question"])
        return {"id": made["id"], **answered(function(question), question)}
    except Exception as error:  # whatever it raises, it has no answer to this question
        return _failed(made["id"], error)


async def _answer_many(
    function: Callable[[Question], Coroutine[Any, Any, Any]], asked: BinaryIO, output: BinaryIO
) -> None:
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[bytes] = asyncio.Queue()

    def read() -> None:
        for line in asked:
            loop.call_soon_threadsafe(lines.put_nowait, line)
        os._exit(0)  # whoever asked has gone, and nobody waits for an answer

    async def answer(line: bytes) -> None:
        made = json.loads(line)
        try:
            question = read_question(made["question"])
            said = {"id": made["id"], **answered(await function(question), question)}
        except Exception as error:  # as above
            said = _failed(made["id"], error)
        _say(output, said)

    threading.Thread(target=read, daemon=True).start()
    running: set[asyncio.Task[None]] = set()
    while True:
        task = asyncio.create_task(answer(await lines.get()))
        running.add(task)
        task.add_done_callback(running.discard)


def _failed(number: int, error: Exception) -> dict[str, Any]:
    if not isinstance(error, NonsenseError):
        _explain()
    return {"id": number, "error": f"{type(error).__name__}: {error!s:.200}"}


def _explain() -> None:
    """Where it went wrong, for the log; cut, for an exception can be of any size."""
    print(traceback.format_exc()[-MAX_TRACE:], file=sys.stderr)


def _say(output: BinaryIO, made: dict[str, Any]) -> None:
    output.write(json.dumps(made).encode("ascii") + b"\n")


if __name__ == "__main__":
    serve(sys.argv[1], load)
