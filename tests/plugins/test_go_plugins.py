"""Plugins that were built for smtpmux, in Go and with go-plugin itself: honest ones, and all kinds of others."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import structlog

from rig.go_programs import build
from rig.plugin_questions import facts, question
from waypost.clock import SystemClock
from waypost.config.schema_plugins import PluginSection
from waypost.plugins.asking import Asker, Plugins
from waypost.plugins.goplugin.host import LEAST_MEMORY, GoPlugin, go_fault
from waypost.plugins.port import CrashedError, Definition, NonsenseError, Order, PluginError

pytestmark = pytest.mark.foreign

HERE = Path(__file__).parent
EXAMPLE = HERE.parent.parent / "examples" / "plugins" / "rotate" / "main.go"

Start = Callable[[str], Awaitable[GoPlugin]]


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plugin that behaves as it is called."""
    return build(HERE / "go" / "main.go", tmp_path_factory.mktemp("go") / "honest")


@pytest.fixture
def called(program: Path, tmp_path: Path) -> Callable[[str], Path]:
    """The program under the name of a mode."""

    def named(mode: str) -> Path:
        other = tmp_path / mode
        if not other.exists():
            os.link(program, other)
        return other

    return named


@pytest.fixture
async def start(called: Callable[[str], Path]) -> AsyncIterator[Start]:
    """Starts the program in a mode; it is ended after the test."""
    started: list[GoPlugin] = []

    async def one(mode: str) -> GoPlugin:
        plugin = GoPlugin(Definition(mode, "go", (str(called(mode)),)))
        started.append(plugin)
        async with asyncio.timeout(10):
            await plugin.start()
        return plugin

    yield one
    for plugin in started:
        await plugin.close()


def is_running(pid: int | None) -> bool:
    """Whether there is still a process of this number, a dead one that nobody has asked about aside."""
    try:
        return pid is not None and b") Z" not in Path(f"/proc/{pid}/stat").read_bytes()
    except FileNotFoundError:
        return False


# -- honest ones


@pytest.mark.parametrize(
    ("mode", "order"), [("honest", "cba"), ("first", "a"), ("twice", "abc"), ("single", "c"), ("turn", "bca")]
)
async def test_the_order_is_the_selectors(start: Start, mode: str, order: str) -> None:
    plugin = await start(mode)
    assert await plugin.choose(question()) == Order(tuple(order))


async def test_it_lives_on_between_messages(start: Start) -> None:
    plugin = await start("turn")
    firsts = [(await plugin.choose(question())) for _ in range(4)]
    assert [order.upstreams[0] for order in firsts if isinstance(order, Order)] == ["b", "c", "a", "b"]


async def test_it_sees_no_password_and_its_answer_is_found_by_address_and_user(start: Start) -> None:
    plugin = await start("honest")
    same = question(facts("x", "mail:25", "one"), facts("y", "mail:25", "two"), facts("z", "[::1]:25", "ü" * 1000))
    assert await plugin.choose(same) == Order(("z", "y", "x"))


async def test_an_answer_larger_than_a_piece_of_the_socket(start: Start) -> None:
    plugin = await start("honest")
    many = [facts(f"u{number}") for number in range(500)]
    answer = await plugin.choose(question(*many))
    assert answer == Order(tuple(upstream.name for upstream in reversed(many)))


async def test_a_prompt_end_leaves_nothing_behind(start: Start) -> None:
    plugin = await start("honest")
    (folder,) = (Path(line) for line in sockets_of(plugin.pid))
    assert folder.parent.stat().st_mode & 0o777 == 0o700
    await plugin.close()
    assert not is_running(plugin.pid)
    assert not folder.parent.exists()
    with pytest.raises(CrashedError):
        await plugin.choose(question())


def sockets_of(pid: int | None) -> list[str]:
    """The unix sockets at which a process listens, by path; of all those that plugins of the tests have."""
    inodes = set()
    for opened in Path(f"/proc/{pid}/fd").iterdir():
        link = os.readlink(opened)
        if link.startswith("socket:["):
            inodes.add(link[8:-1])
    rows = (line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:])
    return sorted({row[7] for row in rows if len(row) > 7 and row[6] in inodes})


# -- others


@pytest.mark.parametrize(
    ("mode", "error", "why"),
    [
        ("fail", NonsenseError, "it failed: no downstreams today \\xff"),
        ("lie", NonsenseError, "there is no upstream at 'elsewhere.example:25' in the pool providers"),
        ("empty", NonsenseError, "the order is empty"),
        ("die", CrashedError, "it ended with exit code 3"),
        ("panic", CrashedError, "it ended with exit code 2"),
        ("hungry", CrashedError, "it ended with exit code 2"),
        ("huge", CrashedError, "a message of more than 32768 octets"),
    ],
)
async def test_a_selector_that_misbehaves(start: Start, mode: str, error: type[PluginError], why: str) -> None:
    plugin = await start(mode)
    with pytest.raises(error) as caught:
        async with asyncio.timeout(20):
            await plugin.choose(question())
    assert why in str(caught.value)


@pytest.mark.parametrize(
    ("mode", "why"),
    [
        ("chatty", "its first line is b'hello, I am no plugin', not a handshake"),
        ("endless", "not a handshake"),
        ("newer", "version 2 of go-plugin's protocol"),
        ("grpc", "it wants to be called by 'grpc'"),
        ("nowhere", "it does not listen where it says"),
        ("garbage", "a frame of version 103"),
        ("drown", "it "),  # sends too much, or does not read, whichever comes first
    ],
)
async def test_a_program_that_is_no_plugin(start: Start, mode: str, why: str) -> None:
    with pytest.raises(CrashedError) as caught:
        await start(mode)
    assert str(caught.value).startswith(why) or why in str(caught.value)


@pytest.mark.parametrize("mode", ["mute", "deaf"])
async def test_a_program_that_never_gets_ready_can_be_given_up(called: Callable[[str], Path], mode: str) -> None:
    plugin = GoPlugin(Definition(mode, "go", (str(called(mode)),)))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await plugin.start()
    began = time.monotonic()
    await plugin.close()
    assert time.monotonic() - began < 2
    assert not is_running(plugin.pid)


@pytest.mark.parametrize("mode", ["print", "shout"])
async def test_a_flood_of_words_is_held_back_and_the_answers_come(start: Start, mode: str) -> None:
    with structlog.testing.capture_logs() as logs:
        plugin = await start(mode)
        for _ in range(100):
            assert await plugin.choose(question()) == Order(("c", "b", "a"))
        async with asyncio.timeout(10):
            while not any("flood" in str(line.get("text")) for line in logs):
                await asyncio.sleep(0.01)
        await plugin.close()
    said = [line for line in logs if line["event"] == "plugin_says"]
    assert 0 < len(said) < 100


async def test_a_flood_past_go_plugin_ends_it(start: Start) -> None:
    plugin = await start("spill")

    async def ask_on() -> None:
        while True:
            await plugin.choose(question())

    with pytest.raises(CrashedError) as caught:
        await asyncio.wait_for(ask_on(), 20)
    assert "first standard output" in str(caught.value)


# -- looked after, as the server does it


async def test_one_that_hangs_or_dies_costs_the_deadline_and_is_replaced(called: Callable[[str], Path]) -> None:
    definitions = {
        mode: Definition(mode, "go", (str(called(mode)),), timeout=0.2 if mode == "hang" else 10.0)
        for mode in ("hang", "die")
    }
    plugins = Plugins(definitions, SystemClock())
    await plugins.start()
    try:
        for mode in definitions:
            reasons = set()
            for _ in range(8):
                with pytest.raises(PluginError) as caught:
                    await plugins.ask(mode, question())
                reasons.add(caught.value.reason)
            assert reasons <= {"timeout", "crash", "busy"}
            assert ("timeout" if mode == "hang" else "crash") in reasons
    finally:
        await plugins.close()


async def test_one_that_is_too_slow_is_asked_one_thing_at_a_time_all_the_same(called: Callable[[str], Path]) -> None:
    """Whoever has stopped waiting for an answer has not stopped the plugin."""
    definition = definition_of(called("slow"), "250ms")
    plugins = Plugins({"p": definition}, SystemClock())
    await plugins.start()
    try:
        outcomes = []
        for _ in range(2):
            with pytest.raises(PluginError) as caught:
                await plugins.ask("p", question())
            outcomes.append(caught.value.reason)
    finally:
        await plugins.close()
    assert outcomes == ["timeout", "timeout"]


async def test_one_that_dies_between_questions_is_back_before_the_next(called: Callable[[str], Path]) -> None:
    asker = Asker(Definition("p", "go", (str(called("honest")),), timeout=10.0), SystemClock())
    await asker.start(30)
    try:
        old = asker._plugin
        assert isinstance(old, GoPlugin)
        assert old.pid is not None
        os.kill(old.pid, signal.SIGKILL)
        async with asyncio.timeout(20):
            while asker._plugin is None or asker._plugin is old:
                await asyncio.sleep(0.01)
        assert await asker.ask(question()) == Order(("c", "b", "a"))
    finally:
        await asker.close()


async def test_many_questions_at_once_are_asked_one_after_the_other(called: Callable[[str], Path]) -> None:
    plugins = Plugins({"p": definition_of(called("turn"), "10s")}, SystemClock())
    await plugins.start()
    try:
        answers = await asyncio.gather(*(plugins.ask("p", question()) for _ in range(50)))
    finally:
        await plugins.close()
    firsts = [answer.upstreams[0] for answer in answers if isinstance(answer, Order)]
    assert firsts == list("bca" * 16 + "bc")


def definition_of(program: Path, timeout: str) -> Definition:
    """As the configuration makes it."""
    return PluginSection.model_validate({"go": str(program), "timeout": timeout}).definition("p")


async def test_without_a_place_for_its_socket_it_is_not_running_and_says_why(
    called: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    with pytest.raises(CrashedError, match="there is no folder for its socket: No such file or directory"):
        await GoPlugin(Definition("p", "go", (str(called("honest")),))).start()


async def test_another_program_in_its_place_is_used(called: Callable[[str], Path], tmp_path: Path) -> None:
    # The mode is the file's name, so the file is a script that becomes one program, and then the other.
    script = tmp_path / "selector"
    write_program(script, called("honest"))
    plugins = Plugins({"p": Definition("p", "go", (str(script),), timeout=10.0)}, SystemClock())
    await plugins.start()
    try:
        assert await plugins.ask("p", question()) == Order(("c", "b", "a"))
        write_program(script, called("first"))
        async with asyncio.timeout(20):
            while await plugins.ask("p", question()) != Order(("a",)):
                await asyncio.sleep(0.02)
    finally:
        await plugins.close()


def write_program(script: Path, program: Path) -> None:
    new = script.with_suffix(".new")
    new.write_text(f'#!/bin/sh\nexec "{program}"\n')
    new.chmod(0o755)
    new.replace(script)


async def test_the_example_turns_around(tmp_path: Path) -> None:
    plugin = GoPlugin(Definition("rotate", "go", (str(build(EXAMPLE, tmp_path / "rotate")),)))
    try:
        await plugin.start()
        answers = [await plugin.choose(question()) for _ in range(4)]
    finally:
        await plugin.close()
    assert answers == [Order(tuple(order)) for order in ("abc", "bca", "cab", "abc")]


# -- what `waypost check` says


def test_a_path_that_is_no_program(tmp_path: Path) -> None:
    file = tmp_path / "selector"
    assert go_fault(Definition("p", "go", (str(file),))) == f"there is no file {file}"
    file.write_text("text")
    fault = go_fault(Definition("p", "go", (str(file),)))
    assert fault is not None
    assert "is not an executable file" in fault
    file.chmod(0o755)
    assert go_fault(Definition("p", "go", (str(file),))) is None
    fault = go_fault(Definition("p", "go", (str(file),), memory=LEAST_MEMORY - 1))
    assert fault is not None
    assert "set `memory` to 128MB or more" in fault


async def test_the_least_memory_is_enough(called: Callable[[str], Path]) -> None:
    plugin = GoPlugin(Definition("honest", "go", (str(called("honest")),), memory=LEAST_MEMORY))
    try:
        await plugin.start()
        assert await plugin.choose(question()) == Order(("c", "b", "a"))
    finally:
        await plugin.close()


async def test_a_long_path_of_temporary_files_is_no_obstacle(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    plugin = await start("honest")
    assert await plugin.choose(question()) == Order(("c", "b", "a"))
    assert list(long.iterdir()) == []
