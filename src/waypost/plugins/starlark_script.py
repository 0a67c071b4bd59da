"""A Starlark script: loaded, and called with a question and a deadline.

It has a function `choose(question)`, as a Python plugin has, or smtpmux's old `selector(downstreams)`.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import starlark

from waypost.plugins.downstreams import upstream_at
from waypost.plugins.port import (
    Answer,
    Deferral,
    NonsenseError,
    Order,
    Question,
    Refusal,
    checked_deferral,
    checked_order,
    checked_refusal,
)
from waypost.plugins.wire import question_object

CHOOSE, SELECTOR = "choose", "selector"

MAX_CALLS = 200
"""Functions that may be called inside one another."""

LOAD_SECONDS = 5.0
"""How long the statements outside of functions may take."""

_NOT_TRIED = "not tried yet"
"""What `send` of smtpmux's form answers: that this downstream did not take the message."""

_PRELUDE = """
def refuse(text="", code=550, enhanced=None):
    return {"waypost": "refuse", "text": text, "code": code, "enhanced": enhanced}

def defer(text="", code=451, enhanced=None):
    return {"waypost": "defer", "text": text, "code": code, "enhanced": enhanced}

def waypost_header(fields):
    def all_of(name):
        return [value for field, value in fields if field.lower() == name.lower()]

    def first_of(name):
        found = all_of(name)
        return found[0] if found else None

    return struct(get=first_of, all=all_of, fields=fields)

def waypost_question(made):
    upstreams = [struct(**facts) for facts in made.pop("upstreams")]
    fields = made.pop("header")
    return struct(upstreams=upstreams, header=None if fields == None else waypost_header(fields), **made)
"""

_CALLS = {
    CHOOSE: "def waypost_call(made):\n    return choose(waypost_question(made))\n",
    SELECTOR: "def waypost_call(made):\n    return selector(made)\n",
}
"""What is called, by the function that the script has."""


class ScriptError(Exception):
    """The script cannot be loaded. The text is for people."""


class Script:
    """A script that is loaded. It is called by one question at a time."""

    def __init__(self, path: str, source: str) -> None:
        """Runs what is outside of functions. Raises `ScriptError`."""
        self._sends: list[tuple[object, object]] = []
        self._ends_at = time.monotonic() + LOAD_SECONDS
        self._options = starlark.EvalOptions(check_cancelled=self._is_late, max_callstack_size=MAX_CALLS)
        module = starlark.Module()
        module.add_callable("send", self._send)
        try:
            self._run(module, "waypost", _PRELUDE)
            self._run(module, path, source)
            self._form = next((form for form in _CALLS if self._has(module, form)), "")
            if not self._form:
                raise ScriptError(lacking(path))
            self._module = module.freeze()
        except starlark.StarlarkError as error:
            raise ScriptError(in_one_line(error)) from error

    def answer(self, question: Question, seconds: float) -> Answer:
        """What the script answers within so many seconds. Raises `NonsenseError`."""
        self._ends_at = time.monotonic() + seconds
        if self._form == CHOOSE:
            return _answer(self._call(question_object(question)), question)
        self._sends = []
        said = self._call([{"addr": facts.address, "user": facts.login, "pass": ""} for facts in question.upstreams])
        return _order(self._sends, said, question)

    def _call(self, argument: object) -> object:
        try:
            return self._module.call_with(self._options, "waypost_call", argument).value
        except starlark.StarlarkError as error:
            raise NonsenseError(in_one_line(error)) from error

    def _run(self, module: starlark.Module, name: str, source: str) -> None:
        starlark.eval_with(self._options, module, parsed(name, source), _globals())

    def _has(self, module: starlark.Module, form: str) -> bool:
        """Whether the script has this function, and gets ready to call it: naming it fails when it is not there."""
        try:
            self._run(module, "waypost", _CALLS[form])
        except starlark.StarlarkError:
            return False
        return True

    def _is_late(self) -> bool:
        return time.monotonic() > self._ends_at

    def _send(self, ds: object) -> str:
        """smtpmux's `send`, as far as it says which downstream is wanted next."""
        if not isinstance(ds, dict):
            raise ValueError("send() is given one of the downstreams")
        self._sends.append((ds.get("addr"), ds.get("user")))
        return _NOT_TRIED


def parsed(name: str, source: str) -> starlark.AstModule:
    """The script's syntax. Raises `starlark.StarlarkError`."""
    dialect = starlark.Dialect.extended()
    dialect.enable_f_strings = True
    dialect.enable_load = False  # there is nothing to load from
    return starlark.parse(name, source, dialect)


def load_script(path: str) -> Script:
    """The script in a file. Raises `ScriptError`."""
    try:
        source = Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ScriptError(f"{path} cannot be read: {error}") from None
    return Script(path, source)


def lacking(path: str) -> str:
    """What to tell about a script without a function that could be called."""
    return f"there is no function `{CHOOSE}` in {path}; write `def {CHOOSE}(question):`"


def in_one_line(error: starlark.StarlarkError) -> str:
    """The part of an error that says what and where; the whole has lines of the script around it."""
    lines = [line.strip() for line in str(error).split("\n")]
    what = next((line for line in lines if line.startswith("error:")), lines[0])
    where = next((line.removeprefix("-->").strip() for line in lines if line.startswith("-->")), "")
    return f"{where}: {what.removeprefix('error:').strip()}".removeprefix(": ")


def _globals() -> starlark.Globals:
    extensions = (
        starlark.LibraryExtension.StructType,
        starlark.LibraryExtension.Map,
        starlark.LibraryExtension.Filter,
        starlark.LibraryExtension.Json,
        starlark.LibraryExtension.Print,
    )
    return starlark.Globals.extended_by(list(extensions))


def _answer(said: object, question: Question) -> Answer:
    """What `choose` returned: names in order, or a refusal or deferral. Raises `NonsenseError`."""
    makers: dict[object, Callable[[object, object, object], Refusal | Deferral]] = {
        "refuse": checked_refusal,
        "defer": checked_deferral,
    }
    match said:
        case list() | tuple():
            return checked_order(said, question)
        case {"waypost": kind, "text": text, "code": code, "enhanced": enhanced} if kind in makers:
            return makers[kind](text, code, enhanced)
    raise NonsenseError(f"`{CHOOSE}` returns a list of names, refuse(...) or defer(...), not {said!r:.80}")


def _order(sends: Sequence[tuple[object, object]], said: object, question: Question) -> Order | Deferral:
    """What `selector` did and returned: the order in which it wanted to send. Raises `NonsenseError`.

    One that tries none and says why puts the message off; it cannot refuse it, since nobody has.
    """
    if sends:
        names = [upstream_at(address, user, question).name for address, user in sends]
        return checked_order(dict.fromkeys(names), question)
    if isinstance(said, str) and said:
        return checked_deferral(said)
    raise NonsenseError(f"`{SELECTOR}` has called send() for no downstream, and does not say why")
