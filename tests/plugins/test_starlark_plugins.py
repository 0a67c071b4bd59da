"""Starlark scripts: what they are shown, what they may answer, smtpmux's old form, and scripts that misbehave."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import structlog

from rig.plugin_questions import facts, question
from waypost.clock import SystemClock
from waypost.plugins.asking import Plugins
from waypost.plugins.port import CrashedError, Deferral, Definition, LateError, NonsenseError, Order, Refusal
from waypost.plugins.starlark import open_starlark, starlark_fault
from waypost.plugins.starlark_script import Script, ScriptError

EXAMPLES = Path(__file__).parent.parent.parent / "examples" / "plugins"

Served = Callable[..., Awaitable[Plugins]]


def asked(source: str, *upstreams: object, seconds: float = 5, **more: object) -> object:
    """What a script answers, in this process."""
    return Script("p.star", source).answer(question(*upstreams, **more), seconds)  # type: ignore[arg-type]


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Served]:
    """Starts scripts as the server does, each as the plugin `p`; they are ended after the test."""
    started: list[Plugins] = []

    async def one(source: str, **more: object) -> Plugins:
        file = tmp_path / "p.star"
        file.write_text(source)
        definition = Definition("p", "starlark", (str(file),), **{"timeout": 10.0, **more})  # type: ignore[arg-type]
        plugins = Plugins({"p": definition}, SystemClock())
        started.append(plugins)
        await plugins.start()
        return plugins

    yield one
    for plugins in started:
        await plugins.close()


# -- what it is shown, and what it may answer


def test_an_order_of_names() -> None:
    source = "def choose(question):\n    return [u.name for u in reversed(question.upstreams)]"
    assert asked(source) == Order(("c", "b", "a"))


@pytest.mark.parametrize(
    "fact",
    [
        'question.reverse_path == "sam@example.org"',
        'question.recipients == ["bob@example.com"]',
        'question.account == "app"',
        "question.declared_size == None",
        "question.size == 5000",
        'question.upstreams[0].address == "a.example:25"',
        'question.upstreams[0].health == "healthy" and question.upstreams[0].weight == 1',
        'question.header.get("subject") == "Hello" and question.header.get("none") == None',
        'question.header.all("SUBJECT") == ["Hello"]',
        '[name for name, _ in question.header.fields] == ["Subject", "To"]',
        '"{}".format(question.pool) == "providers"',
        'json.encode([1]) == "[1]"',
    ],
)
def test_it_sees_the_facts(fact: str) -> None:
    source = f'def choose(question):\n    return ["b"] if {fact} else ["a"]'
    assert asked(source, size=5000, header={"Subject": "Hello", "To": "bob"}) == Order(("b",))


def test_there_is_no_header_before_the_content() -> None:
    assert asked('def choose(q):\n    return ["a"] if q.header == None else ["b"]') == Order(("a",))


def test_it_sees_no_password() -> None:
    source = 'def choose(q):\n    return ["b"] if [n for n in dir(q.upstreams[0]) if "pass" in n] else ["a"]'
    assert asked(source) == Order(("a",))


def test_a_refusal_and_a_deferral() -> None:
    refused = asked('def choose(q):\n    return refuse("Not today", code=554, enhanced="5.7.0")')
    assert isinstance(refused, Refusal)
    assert (refused.reply.code, refused.reply.text, refused.reply.enhanced) == (554, "Not today", (5, 7, 0))
    deferred = asked('def choose(q):\n    return defer("Later")')
    assert isinstance(deferred, Deferral)
    assert (deferred.reply.code, deferred.reply.text, deferred.reply.enhanced) == (451, "Later", (4, 7, 1))


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ('["elsewhere"]', "there is no upstream 'elsewhere' in the pool providers"),
        ('["a", "a"]', "the upstream a comes twice"),
        ("[]", "the order is empty"),
        ("[1]", "an upstream's name is a text, not 1"),
        ("None", "`choose` returns a list of names, refuse(...) or defer(...), not None"),
        ('"a"', "not 'a'"),
        ('{"refuse": "x"}', "`choose` returns a list of names"),
        ('refuse("x", code=250)', "the reply code is between 500 and 559, not 250"),
        ('refuse("x\\r\\n250 y")', "the text of a reply is one line"),
        ("1 // 0", "p.star:2:12"),
        ("nothing.here", "p.star:2:12"),
    ],
)
def test_nonsense(answer: str, why: str) -> None:
    with pytest.raises((NonsenseError, ScriptError)) as caught:
        asked(f"def choose(question):\n    return {answer}")
    assert why in str(caught.value)


def test_a_script_may_not_change_what_the_next_message_sees() -> None:
    with pytest.raises(NonsenseError, match=r"p\.star:3:\d+: Immutable"):
        asked('seen = []\ndef choose(q):\n    seen.append(q.account)\n    return ["a"]')


# -- smtpmux's form

TRIES_EACH = """
def selector(downstreams):
    for ds in downstreams:
        err = send(ds=ds)
        if err == None:
            return None
    return "all failed"
"""


def test_the_form_of_smtpmux_is_run_to_learn_its_order() -> None:
    assert asked(TRIES_EACH) == Order(("a", "b", "c"))
    assert asked(TRIES_EACH.replace("in downstreams", "in reversed(downstreams)")) == Order(("c", "b", "a"))


@pytest.mark.parametrize(
    ("body", "order"),
    [
        ("send(downstreams[1])", "b"),
        ("[send(ds) for ds in downstreams[1:]]", "bc"),
        ("[send(ds=downstreams[0]) for _ in range(3)] + [send(ds=downstreams[2])]", "ac"),
        ('[send(ds) for ds in downstreams if "c." in ds["addr"] or not ds["pass"]]', "abc"),
        ('send({"addr": "b.example:25", "user": "", "pass": "x"})', "b"),
    ],
)
def test_what_the_selector_sends_is_the_order(body: str, order: str) -> None:
    assert asked(f"def selector(downstreams):\n    {body}\n    return None") == Order(tuple(order))


def test_upstreams_at_one_address_are_told_apart_by_their_user() -> None:
    same = (facts("x", "mail:25", "one"), facts("y", "mail:25", "two"))
    assert asked(TRIES_EACH.replace("in downstreams", "in reversed(downstreams)"), *same) == Order(("y", "x"))


def test_a_selector_that_sends_nothing_and_says_why_puts_the_message_off() -> None:
    answer = asked('def selector(downstreams):\n    return "closed on Sundays"')
    assert isinstance(answer, Deferral)
    assert (answer.reply.code, answer.reply.text) == (451, "closed on Sundays")


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("return None", "send() for no downstream"),
        ('send({"addr": "elsewhere:25"})', "no upstream at 'elsewhere:25'"),
        ("send({})", "no upstream at None"),
        ("send(5)", "send() is given one of the downstreams"),
    ],
)
def test_a_selector_that_makes_no_sense(body: str, why: str) -> None:
    with pytest.raises((NonsenseError, ValueError)) as caught:
        asked(f"def selector(downstreams):\n    {body}")
    assert why in str(caught.value)


# -- scripts that misbehave

SLOW = "def choose(q):\n    n = 0\n    for i in range(1000000000):\n        n += i\n    return [str(n)]"
# Its last line is one operation that takes nine seconds.
STUCK = "def choose(q):\n    x = 3\n    for i in range(22):\n        x *= x\n    return [str(x)]"
HUNGRY = (
    "def choose(q):\n    kept = []\n    for i in range(1000000):\n        kept.append([i] * 10000000)\n    return kept"
)
DEEP = "f = lambda x: g(x)\ng = lambda x: f(x)\ndef choose(q):\n    return f(q)"
TALKS = 'def choose(q):\n    [print("flood " * 100) for _ in range(3000)]\n    return ["b"]'
REVERSED = "def choose(q):\n    return [u.name for u in reversed(q.upstreams)]"


def test_a_slow_script_is_interrupted() -> None:
    with pytest.raises(NonsenseError, match="cancelled"):
        asked(SLOW, seconds=0.02)


def test_functions_inside_functions_come_to_an_end() -> None:
    with pytest.raises(NonsenseError, match="stack"):
        asked(DEEP)


async def test_a_script_that_takes_too_long_costs_its_deadline(serve: Served) -> None:
    plugins = await serve(SLOW, timeout=0.1)
    with pytest.raises((LateError, NonsenseError)):
        await plugins.ask("p", question())


async def test_a_script_that_wants_all_memory_ends_and_mail_goes_on(serve: Served) -> None:
    plugins = await serve(HUNGRY, memory=200 * 1024 * 1024)
    began = asyncio.get_running_loop().time()
    with pytest.raises(CrashedError):
        await plugins.ask("p", question())
    assert asyncio.get_running_loop().time() - began < 9


async def test_one_operation_that_cannot_be_interrupted_stops_nobody_else(serve: Served) -> None:
    plugins = await serve(STUCK, timeout=0.1)
    loop = asyncio.get_running_loop()
    began = loop.time()
    asking = asyncio.ensure_future(plugins.ask("p", question()))
    turns = 0
    while not asking.done():
        await asyncio.sleep(0.005)
        turns += 1
    assert turns > 5  # the loop went on meanwhile
    assert loop.time() - began < 1
    assert isinstance(asking.exception(), LateError)


async def test_a_flood_of_words_does_not_reach_the_log(serve: Served) -> None:
    plugins = await serve(TALKS, timeout=0.5)
    with structlog.testing.capture_logs() as logs:
        with pytest.raises(LateError):  # it has to wait until somebody has read what it says
            await plugins.ask("p", question())
        await plugins.close()
    assert 0 < len([line for line in logs if line["event"] == "plugin_says"]) < 100


async def test_a_script_that_is_mended_is_used(serve: Served, tmp_path: Path) -> None:
    plugins = await serve("def choose(q):\n    return q.nothing")
    with pytest.raises(NonsenseError):
        await plugins.ask("p", question())
    new = tmp_path / "new"
    new.write_text(REVERSED)
    new.replace(tmp_path / "p.star")
    async with asyncio.timeout(20):
        while True:
            try:
                assert await plugins.ask("p", question()) == Order(("c", "b", "a"))
                break
            except NonsenseError:
                await asyncio.sleep(0.02)


async def test_a_script_that_cannot_be_loaded_says_where(tmp_path: Path) -> None:
    file = tmp_path / "p.star"
    file.write_text("x = 1\ny = x +\n")
    plugin = open_starlark(Definition("p", "starlark", (str(file),)))
    try:
        with pytest.raises(CrashedError, match=r"p\.star:2:"):
            await plugin.start()
    finally:
        await plugin.close()


# -- the examples


@pytest.mark.parametrize(
    ("recipient", "order"), [("bob@gmail.com", "gmail ses own"), ("bob@EXAMPLE.com", "own gmail ses"), ("x@y", "")]
)
async def test_the_example_by_recipient(recipient: str, order: str) -> None:
    upstreams = (facts("gmail"), facts("ses"), facts("own"))
    script = (EXAMPLES / "by_recipient.star").read_text()
    answer = asked(script, *upstreams, recipients=(recipient,), size=1000, header={"Subject": "Hello"})
    assert answer == Order(tuple((order or "gmail ses own").split()))
    refused = asked(script, *upstreams, size=1000, header={"Subject": "a [test]"})
    assert isinstance(refused, Refusal)
    deferred = asked(script, *upstreams, size=30_000_000, reverse_path="", header={})
    assert isinstance(deferred, Deferral)


async def test_the_example_in_the_form_of_smtpmux() -> None:
    assert asked((EXAMPLES / "old_selector.star").read_text()) == Order(("c", "b", "a"))


# -- what `waypost check` says


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (b"def choose(q):\n    return []", None),
        (b"def selector(d):\n    return None", None),
        (
            b"def choose(q):\n    while True:\n        pass",
            "FILE:2:5: Parse error: cannot use reserved keyword `while`",
        ),
        (b"load('x', 'y')", "FILE:1:1: "),
        (b"x = 1", "there is no function `choose` in FILE; write `def choose(question):`"),
        (b"\xff", "FILE is no text in UTF-8: octet 0"),
        (None, "FILE cannot be read: No such file or directory"),
    ],
)
def test_faults_of_a_script(text: bytes | None, fault: str | None, tmp_path: Path) -> None:
    file = tmp_path / "p.star"
    if text is not None:
        file.write_bytes(text)
    found = starlark_fault(Definition("p", "starlark", (str(file),)))
    assert (found is None) == (fault is None)
    if fault is not None and found is not None:
        assert found.replace(str(file), "FILE").startswith(fault)


def test_without_the_package_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("waypost.plugins.starlark.find_spec", lambda name: None)
    fault = starlark_fault(Definition("p", "starlark", (str(tmp_path / "p.star"),)))
    assert fault == "needs the package starlark-pyo3: `pip install 'waypost[starlark]'`"
