"""Programs and functions that behave, and that do not: whatever they do, it ends within the deadline, and in words."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from plugins.conftest import MakeProgram
from rig.plugin_questions import question
from waypost.clock import SystemClock
from waypost.commands.run import run_loop
from waypost.plugins.asking import Asker
from waypost.plugins.lines import LinesPlugin
from waypost.plugins.port import (
    BusyError,
    CrashedError,
    Definition,
    LateError,
    NonsenseError,
    Order,
    PluginError,
)

ECHO = """
for line in sys.stdin:
    asked = json.loads(line)
    names = [each["name"] for each in asked["question"]["upstreams"]]
    print(json.dumps({"id": asked["id"], "order": names[::-1]}), flush=True)
"""


@asynccontextmanager
async def asking(definition: Definition) -> AsyncIterator[Asker]:
    asker = Asker(definition, SystemClock())
    await asker.start(30)
    try:
        yield asker
    finally:
        await asker.close()


async def wait_until(condition: Callable[[], object], seconds: float = 15) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


async def answer_again(asker: Asker) -> object:
    """Its answer as soon as it has one: it may be resting."""
    async with asyncio.timeout(15):
        while True:
            try:
                return await asker.ask(question())
            except PluginError:
                await asyncio.sleep(0.02)


def pid_of(asker: Asker) -> int:
    plugin = asker._plugin
    assert isinstance(plugin, LinesPlugin)
    assert plugin.pid is not None
    return plugin.pid


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def test_s12_one_process_answers_all_questions(program: MakeProgram) -> None:
    async with asking(program(ECHO)) as asker:
        pid = pid_of(asker)
        assert [await asker.ask(question()) for _ in range(3)] == [Order(("c", "b", "a"))] * 3
        assert pid_of(asker) == pid


async def test_answers_may_come_in_any_order(program: MakeProgram) -> None:
    late = """
first = json.loads(sys.stdin.readline())
second = json.loads(sys.stdin.readline())
for asked, name in ((second, "b"), (first, "a")):
    print(json.dumps({"id": asked["id"], "order": [name]}), flush=True)
"""
    async with asking(program(late)) as asker:
        assert await asyncio.gather(asker.ask(question()), asker.ask(question())) == [Order(("a",)), Order(("b",))]


async def test_many_at_once(program: MakeProgram) -> None:
    async with asking(program(ECHO, at_once=4)) as asker:
        answers = await asyncio.gather(*(asker.ask(question(message_id=str(number))) for number in range(200)))
    assert answers == [Order(("c", "b", "a"))] * 200


async def test_no_more_at_once_than_it_may_be_asked(program: MakeProgram) -> None:
    """The program answers only when two wait, and nonsense when a third does."""
    pairs = """
import select
while True:
    asked = [json.loads(sys.stdin.readline()) for _ in range(2)]
    more = bool(select.select([sys.stdin], [], [], 0.05)[0])
    for each in asked:
        print(json.dumps({"id": each["id"], "order": [] if more else ["a"]}), flush=True)
"""
    async with asking(program(pairs, at_once=2)) as asker:
        assert await asyncio.gather(*(asker.ask(question()) for _ in range(6))) == [Order(("a",))] * 6


@pytest.mark.parametrize(
    ("body", "error", "why"),
    [
        ("time.sleep(60)", LateError, "no answer within 0.3 s"),
        ("sys.stdin.readline(); sys.exit(3)", CrashedError, "exit code 3"),
        ("sys.stdin.readline(); os.kill(os.getpid(), 9)", CrashedError, "killed by SIGKILL"),
        ("sys.stdin.readline(); print('hello', flush=True); time.sleep(60)", CrashedError, "no JSON"),
        ("sys.stdin.readline(); print('[]', flush=True); time.sleep(60)", CrashedError, "no JSON object"),
        ("""sys.stdin.readline(); print('{"id": 1}', flush=True); time.sleep(60)""", NonsenseError, "has one of"),
        (
            """sys.stdin.readline(); print('{"id": 1, "order": ["z"]}', flush=True); time.sleep(60)""",
            NonsenseError,
            "no upstream 'z'",
        ),
        ("""sys.stdin.readline(); print('{"id": true, "order": ["a"]}', flush=True); time.sleep(60)""", LateError, ""),
        ("sys.stdin.readline(); print('x' * 100_000, flush=True); time.sleep(60)", CrashedError, "65536 octets"),
        ("sys.stdin.readline(); sys.stdout.write('x' * 100_000); sys.stdout.flush()", CrashedError, "65536 octets"),
        ("while True: print('{\"id\": 99}', flush=True)", CrashedError, "nobody has asked"),
        ("while True: sys.stdout.write('x' * 65536)", CrashedError, "65536 octets"),
        ("while True: sys.stderr.write('x' * 65536)", LateError, "no answer"),
        ("while True: sys.stderr.write('x\\n' * 30000)", LateError, "no answer"),
    ],
)
async def test_what_goes_wrong_is_said_in_time(
    program: MakeProgram, body: str, error: type[PluginError], why: str
) -> None:
    """Floods are on their way before the question is asked: then it may be known already that it crashed."""
    async with asking(program(body, timeout=0.3 if error is LateError else 5.0)) as asker:
        began = asyncio.get_running_loop().time()
        with pytest.raises((error, BusyError) if body.startswith("while") else error) as raised:
            await asker.ask(question())
        assert why in str(raised.value) or isinstance(raised.value, BusyError)
        assert asyncio.get_running_loop().time() - began < 10


async def test_a_program_that_crashed_is_started_again(program: MakeProgram) -> None:
    once = f"""
if not os.path.exists(sys.argv[0] + ".crashed"):
    open(sys.argv[0] + ".crashed", "w").close()
    sys.stdin.readline()
    os.abort()
{ECHO}"""
    async with asking(program(once)) as asker:
        with pytest.raises(CrashedError, match="SIGABRT"):
            await asker.ask(question())
        with pytest.raises(BusyError, match="SIGABRT"):  # it rests
            await asker.ask(question())
        assert await answer_again(asker) == Order(("c", "b", "a"))


async def test_one_that_dies_between_questions_is_back_before_the_next(program: MakeProgram) -> None:
    async with asking(program(ECHO)) as asker:
        pid = pid_of(asker)
        os.kill(pid, signal.SIGKILL)
        await wait_until(lambda: asker._plugin is not None and pid_of(asker) != pid)
        assert await asker.ask(question()) == Order(("c", "b", "a"))


async def test_one_that_is_never_well_is_started_less_and_less(program: MakeProgram) -> None:
    with capture_logs() as logs:
        async with asking(program("sys.exit(1)", timeout=0.05)) as asker:
            async with asyncio.timeout(15):
                while sum(each["event"] == "plugin_down" for each in logs) < 3:
                    with pytest.raises(PluginError):
                        await asker.ask(question())
                    await asyncio.sleep(0.02)
    rests = [each["again_in"] for each in logs if each["event"] == "plugin_down"]
    assert rests[:3] == [0.25, 0.5, 1.0]


async def test_one_that_hangs_is_replaced(program: MakeProgram) -> None:
    hanging = f"""
if not os.path.exists(sys.argv[0] + ".hung"):
    open(sys.argv[0] + ".hung", "w").close()
    time.sleep(600)
{ECHO}"""
    async with asking(program(hanging, timeout=0.2)) as asker:
        pid = pid_of(asker)
        for _ in range(3):
            with pytest.raises(LateError):
                await asker.ask(question())
        with pytest.raises(BusyError, match="3 answers in a row came too late"):
            await asker.ask(question())
        assert await answer_again(asker) == Order(("c", "b", "a"))
        await wait_until(lambda: not is_running(pid))


async def test_who_waited_for_one_that_hangs_is_told_that_and_not_that_it_crashed(program: MakeProgram) -> None:
    async with asking(program("time.sleep(600)", timeout=0.2)) as asker:
        for _ in range(2):
            with pytest.raises(LateError):
                await asker.ask(question())
        answers = await asyncio.gather(*(ask_in(asker, number * 0.05) for number in range(3)), return_exceptions=True)
    assert isinstance(answers[0], LateError)
    assert [str(each) for each in answers[1:]] == ["it is not running: 3 answers in a row came too late"] * 2
    assert all(isinstance(each, BusyError) for each in answers[1:])


async def ask_in(asker: Asker, seconds: float) -> object:
    await asyncio.sleep(seconds)
    return await asker.ask(question())


async def test_an_answer_that_comes_too_late_is_not_for_the_next_question(program: MakeProgram) -> None:
    slow = """
for number, line in enumerate(sys.stdin):
    asked = json.loads(line)
    if not number:
        time.sleep(2)
    print(json.dumps({"id": asked["id"], "order": ["a" if not number else "b"]}), flush=True)
"""
    async with asking(program(slow, timeout=1.5)) as asker:
        with pytest.raises(LateError):
            await asker.ask(question())
        assert await asker.ask(question()) == Order(("b",))


async def test_waiting_for_a_turn_counts(program: MakeProgram) -> None:
    slow = ECHO.replace("asked =", "time.sleep(0.4); asked =")
    async with asking(program(slow, timeout=1.5, at_once=1)) as asker:
        answers = await asyncio.gather(*(asker.ask(question()) for _ in range(8)), return_exceptions=True)
    assert answers[0] == Order(("c", "b", "a"))
    assert isinstance(answers[-1], LateError)


async def test_a_program_that_does_not_read_is_not_written_to_for_ever(program: MakeProgram) -> None:
    header = question(recipients=tuple(f"{number}{'x' * 60}@example.com" for number in range(8000)))
    async with asking(program("time.sleep(600)", timeout=0.2, at_once=50)) as asker:
        answers = await asyncio.gather(*(asker.ask(header) for _ in range(20)), return_exceptions=True)
    assert any("does not read" in str(each) for each in answers)


async def test_memory_is_limited(program: MakeProgram) -> None:
    hungry = ECHO.replace("asked =", "hoard = bytearray(400 << 20); asked =")
    async with asking(program(hungry, memory=128 << 20)) as asker:
        with pytest.raises(CrashedError, match="exit code 1"):
            await asker.ask(question())


async def test_its_standard_error_is_in_the_log_within_limits(program: MakeProgram) -> None:
    talking = ECHO.replace("asked =", "[print(f'\\x1b{n}' + 'y' * 900, file=sys.stderr) for n in range(50)]; asked =")
    with capture_logs() as logs:
        async with asking(program(talking)) as asker:
            await asker.ask(question())
            await wait_until(lambda: any(each["event"] == "plugin_says" for each in logs))
    said = [each["text"] for each in logs if each["event"] == "plugin_says"]
    assert 1 <= len(said) <= 25
    assert all(len(text) <= 500 and text.isprintable() for text in said)
    assert all(each["plugin"] == "mine" for each in logs if each["event"] == "plugin_says")


@pytest.mark.parametrize("text", ["x" * 65536, "x\\n" * 30000])
def test_a_flood_of_it_costs_next_to_nothing(program: MakeProgram, text: str) -> None:
    """In the loop that the server has."""

    async def flooded() -> float:
        async with asking(program(f"while True: sys.stderr.write('{text}')", timeout=1.5)) as asker:
            before = time.process_time()
            with pytest.raises(LateError):
                await asker.ask(question())
            return time.process_time() - before

    assert run_loop(flooded) < 0.7


async def test_a_python_plugin_has_no_hand_in_the_conversation(function: MakeProgram) -> None:
    text = """
import os, sys
def choose(question):
    os.write(1, b'{"id": 1, "order": ["c"]}\\n')
    return ["a"] if sys.stdin.read() == "" else ["b"]
"""
    async with asking(function(text)) as asker:
        assert [await asker.ask(question()) for _ in range(2)] == [Order(("a",))] * 2


async def test_when_its_file_changes_another_takes_its_place(program: MakeProgram) -> None:
    definition = program(ECHO)
    async with asking(definition) as asker:
        old = pid_of(asker)
        assert await asker.ask(question()) == Order(("c", "b", "a"))
        program(ECHO.replace("names[::-1]", "names[:1]"))
        async with asyncio.timeout(15):
            while await asker.ask(question()) != Order(("a",)):  # never without an answer
                await asyncio.sleep(0.02)
        await wait_until(lambda: not is_running(old))


async def test_a_change_that_is_no_good_leaves_the_old_one(function: MakeProgram) -> None:
    definition = function("def choose(question):\n    return ['b']\n")
    with capture_logs() as logs:
        async with asking(definition) as asker:
            function("def choose(question):\n    return [\n")
            async with asyncio.timeout(15):
                while not any(each["event"] == "plugin_not_reloaded" for each in logs):
                    assert await asker.ask(question()) == Order(("b",))
                    await asyncio.sleep(0.02)
            assert await asker.ask(question()) == Order(("b",))
            function("def choose(question):\n    return ['c']\n")
            async with asyncio.timeout(15):
                while await asker.ask(question()) != Order(("c",)):
                    await asyncio.sleep(0.02)


async def test_a_program_that_ends_at_once_does_not_replace_one_that_works(
    program: MakeProgram,
) -> None:
    """It says nothing when it starts, so only its end shows that it is no good."""
    definition = program(ECHO)
    with capture_logs() as logs:
        async with asking(definition) as asker:
            assert await asker.ask(question()) == Order(("c", "b", "a"))  # it has read its file
            old = pid_of(asker)
            program("import no_such_module\n" + ECHO)
            async with asyncio.timeout(15):
                while not any(each["event"] == "plugin_not_reloaded" for each in logs):
                    assert await asker.ask(question()) == Order(("c", "b", "a"))  # never without an answer
                    await asyncio.sleep(0.02)
            assert pid_of(asker) == old
            program(ECHO.replace("names[::-1]", "names[:1]"))
            async with asyncio.timeout(15):
                while await asker.ask(question()) != Order(("a",)):
                    await asyncio.sleep(0.02)
    assert not any(each["event"] == "plugin_down" for each in logs)
    assert [each["reason"] for each in logs if each["event"] == "plugin_not_reloaded"] == ["it ended with exit code 1"]


async def test_one_that_is_slow_under_load_is_not_taken_for_hung(program: MakeProgram) -> None:
    """Some of many questions come too late, but it answers all the time."""
    slow = ECHO.replace("asked =", "time.sleep(0.05); asked =")
    async with asking(program(slow, timeout=0.5)) as asker:
        pid = pid_of(asker)
        answers = await asyncio.gather(*(asker.ask(question()) for _ in range(16)), return_exceptions=True)
        assert any(isinstance(each, Order) for each in answers)
        assert sum(isinstance(each, LateError) for each in answers) >= 3
        assert await answer_again(asker) == Order(("c", "b", "a"))
        assert pid_of(asker) == pid


async def test_what_was_given_up_keeps_its_place_until_it_is_answered(program: MakeProgram) -> None:
    """Else a program would be asked more at once than it may be, and work on what nobody waits for any more."""
    counting = """
import threading
def answer(asked):
    time.sleep(0.6)
    with lock:
        waiting[0] -= 1
        print(json.dumps({"id": asked["id"], "order": ["b" if most[0] > 1 else "a"]}), flush=True)
lock, waiting, most = threading.Lock(), [0], [0]
for line in sys.stdin:
    with lock:
        waiting[0] += 1
        most[0] = max(most[0], waiting[0])
    threading.Thread(target=answer, args=(json.loads(line),)).start()
"""
    async with asking(program(counting, timeout=0.4, at_once=1)) as asker:
        with pytest.raises(LateError):
            await asker.ask(question())
        plugin = asker._plugin
        assert plugin is not None
        with pytest.raises(LateError):
            await asker.ask(question())
        asker.definition = replace(asker.definition, timeout=5.0)
        assert await asker.ask(question()) == Order(("a",))
        assert asker._plugin is plugin


@pytest.mark.parametrize("stubborn", ["", "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"])
async def test_closing_ends_it_and_what_it_has_started(program: MakeProgram, tmp_path: Path, stubborn: str) -> None:
    family = f"""
import subprocess
{stubborn}child = subprocess.Popen(["sleep", "600"])
open({str(tmp_path / "child")!r}, "w").write(str(child.pid))
{ECHO}
time.sleep(600)"""
    async with asking(program(family)) as asker:
        await asker.ask(question())
        pid, child = pid_of(asker), int((tmp_path / "child").read_text())
        assert is_running(child)
    await wait_until(lambda: not is_running(pid) and not is_running(child))


async def test_what_a_program_is_not_shown(
    program: MakeProgram, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The server's environment may have passwords in it, and its open files are nobody's business."""
    monkeypatch.setenv("WAYPOST_UPSTREAMS_A_AUTH_PASSWORD", "Igelstachel-99")
    telling = ECHO.replace(
        "asked =",
        f"json.dump([dict(os.environ), os.listdir('/proc/self/fd')], open({str(tmp_path / 'seen')!r}, 'w')); asked =",
    )
    with open("/etc/hostname"):
        async with asking(program(telling)) as asker:
            await asker.ask(question())
    seen = (tmp_path / "seen").read_text()
    assert "Igelstachel" not in seen
    assert '"WAYPOST_PLUGIN": "mine"' in seen
    assert len(__import__("json").loads(seen)[1]) <= 5  # 0, 1, 2, and what it opens itself


async def test_a_program_that_cannot_be_started(tmp_path: Path) -> None:
    with capture_logs() as logs:
        async with asking(Definition("mine", "exec", (str(tmp_path / "none"),), timeout=0.5)) as asker:
            with pytest.raises(PluginError):
                await asker.ask(question())
            await wait_until(lambda: any(each["event"] == "plugin_down" for each in logs))
    assert any(each.get("text") == "cannot be started: No such file or directory" for each in logs)


# -- Python


@pytest.mark.parametrize(
    "text",
    [
        "def choose(question):\n    return ['b', 'a']\n",
        "def choose(question):\n    print('this goes to the log')\n    return ('b', 'a')\n",
        "import asyncio\nasync def choose(question):\n    await asyncio.sleep(0)\n    return ['b', 'a']\n",
        "from waypost.plugins import Order\ndef choose(question):\n    return Order(('b', 'a'))\n",
        "class choose:\n    def __init__(self): self.order = ['b', 'a']\n"
        "    def choose(self, question): return self.order\n",
        "class Mine:\n    async def choose(self, question): return ['b', 'a']\nchoose = Mine().choose\n",
    ],
)
async def test_ways_to_write_a_python_plugin(function: MakeProgram, text: str) -> None:
    async with asking(function(text)) as asker:
        assert await asker.ask(question()) == Order(("b", "a"))


async def test_a_python_plugin_sees_typed_facts(function: MakeProgram) -> None:
    text = """
from waypost.plugins import refuse, defer

def choose(question):
    assert question.upstreams[0].address == "a.example:25"
    assert question.recipients == ("bob@example.com",)
    if question.header is not None and question.header.get("x-stop"):
        return refuse("Stopped", 554, "5.7.9")
    return defer("Not now") if question.size == 7 else [each.name for each in question.upstreams if each.name != "b"]
"""
    from waypost.mail.content import MemoryContent
    from waypost.plugins.header_fields import HeaderFields

    async with asking(function(text)) as asker:
        assert await asker.ask(question()) == Order(("a", "c"))
        stop = HeaderFields.of(MemoryContent(b"X-Stop: yes\r\n\r\n"))
        answers = [await asker.ask(question(header=stop)), await asker.ask(question(size=7))]
    assert [str(answer.reply) for answer in answers] == ["554 5.7.9 Stopped", "451 4.7.1 Not now"]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("return None", "a list of names"),
        ("return 'a'", "a list of names"),
        ("return ['z']", "no upstream 'z'"),
        ("return 1 / 0", "ZeroDivisionError"),
        ("return refuse('yes', 250)", "between 500 and 559"),
        ("return 'x' * 10_000_000", "a list of names"),
        ("raise KeyError('\\ud800' * 100_000)", "KeyError"),
    ],
)
@pytest.mark.parametrize("kind", ["def", "async def"])
async def test_a_python_plugin_that_fails_at_a_question_goes_on(
    function: MakeProgram, body: str, why: str, kind: str
) -> None:
    text = f"{kind} choose(question):\n    if question.account:\n        {body}\n    return ['c']\n"
    async with asking(function(f"from waypost.plugins import refuse\n{text}")) as asker:
        pid = pid_of(asker)
        with pytest.raises(NonsenseError, match=why):
            await asker.ask(question())
        assert await asker.ask(question(account=None)) == Order(("c",))
        assert pid_of(asker) == pid


async def test_async_python_plugins_are_asked_many_things_at_once(function: MakeProgram) -> None:
    text = """
import asyncio
waiting = []
async def choose(question):
    waiting.append(asyncio.Event())
    if len(waiting) == 8:
        for each in waiting:
            each.set()
    await waiting[-1].wait() if len(waiting) < 8 else None
    return ["a"]
""".replace("await waiting[-1].wait() if len(waiting) < 8 else None", "await waiting[0].wait()")
    async with asking(function(text, at_once=8)) as asker:
        assert await asyncio.gather(*(asker.ask(question()) for _ in range(8))) == [Order(("a",))] * 8


@pytest.mark.parametrize("kind", ["def", "async def"])
async def test_a_python_plugin_that_wants_all_memory_or_ends_the_process(function: MakeProgram, kind: str) -> None:
    text = f"""
import os
{kind} choose(question):
    if question.account == "hungry":
        hoard = [bytearray(8 << 20) for _ in range(1000)]
    if question.account == "tired":
        os._exit(4)
    return ["b"]
"""
    async with asking(function(text, memory=128 << 20)) as asker:
        with pytest.raises(NonsenseError, match="MemoryError"):
            await asker.ask(question(account="hungry"))
        assert await asker.ask(question()) == Order(("b",))
        with pytest.raises(CrashedError, match="exit code 4"):
            await asker.ask(question(account="tired"))
        assert await answer_again(asker) == Order(("b",))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("x = 1\n", "there is no function `choose`"),
        ("def choose(:\n", "SyntaxError"),
        ("1 / 0\n", "ZeroDivisionError"),
        ("import sys\nsys.exit(0)\n", "SystemExit"),
        ("import nothing_of_that_name\n", "ModuleNotFoundError"),
        ("choose = 7\n", "there is no function `choose`"),
    ],
)
async def test_a_python_plugin_that_cannot_be_loaded(function: MakeProgram, text: str, why: str) -> None:
    with capture_logs() as logs:
        async with asking(function(text)) as asker:
            with pytest.raises(BusyError, match=why):
                await asker.ask(question())
    assert any(why in each["reason"] for each in logs if each["event"] == "plugin_down")


async def test_an_entry_point_is_a_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an installed package brings: its module, and the metadata that name it."""
    (tmp_path / "strategies_of_mine.py").write_text("def cheapest(question):\n    return ['c']\n")
    metadata = tmp_path / "strategies_of_mine-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: strategies-of-mine\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[waypost.strategies]\nmine = strategies_of_mine:cheapest\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(tmp_path), os.environ.get("PYTHONPATH", ""))))
    async with asking(Definition("mine", "python", ("mine",), timeout=5)) as asker:
        assert await asker.ask(question()) == Order(("c",))


async def test_a_client_that_goes_takes_its_question_back(program: MakeProgram) -> None:
    async with asking(program("time.sleep(600)")) as asker:
        asked = asyncio.create_task(asker.ask(question()))
        await asyncio.sleep(0)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked


async def test_it_is_gone_when_its_output_was_closed(program: MakeProgram) -> None:
    async with asking(program("os.close(1); time.sleep(600)", timeout=0.3)) as asker:
        pid = pid_of(asker)
        with pytest.raises(LateError):
            await asker.ask(question())
    assert not is_running(pid)
