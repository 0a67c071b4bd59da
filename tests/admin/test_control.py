"""The control socket: who can open it, what it costs while nobody does, and what it stands up to."""

import asyncio
import contextlib
import getpass
import json
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from rig.control import Asker, Parts
from waypost.admin import answers
from waypost.admin.server import MAX_HEAD
from waypost.commands.run import run_loop
from waypost.config.control import control_path, find_control
from waypost.config.settings import Settings, SpoolSettings
from waypost.net.unix_socket import MAX_NAME, connect, listen
from waypost.routing.route import Routes

RUNNING_UNUSED = """
import asyncio, sys
from pathlib import Path
from rig.control import Parts

async def main():
    control = Parts(Path(sys.argv[1])).control()
    control.start()
    await asyncio.sleep(0)
    heavy = {"starlette", "uvicorn", "h11", "anyio"} & set(sys.modules)
    await control.stop()
    print(sorted(heavy))

asyncio.run(main())
"""


def test_nothing_is_loaded_before_somebody_connects(tmp_path):
    path = os.pathsep.join(filter(None, [str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH")]))
    environ = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, "-c", RUNNING_UNUSED, tmp_path], capture_output=True, check=True, timeout=60, env=environ
    )

    assert done.stdout == b"[]\n"


async def test_only_our_user_can_open_it_and_it_is_gone_at_the_end(parts):
    parts.path = parts.path.parent / "missing" / "folder" / "control.sock"
    control = parts.control()
    control.start()

    assert stat.S_IMODE(parts.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(parts.path.parent.stat().st_mode) == 0o700
    assert await Asker(parts.path).numbers() == []

    await control.stop()
    assert not parts.path.exists()
    await control.stop()


async def test_stopping_without_having_been_asked_or_started(parts):
    control = parts.control()
    await control.stop()
    control = parts.control()
    control.start()
    await control.stop()

    assert not parts.path.exists()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_stopping_right_after_somebody_connected(parts):
    control = parts.control()
    control.start()
    with connect(parts.path, 5) as connection:
        await asyncio.sleep(0)
        await control.stop()

        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(100) == b""
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_what_a_dead_process_left_is_replaced(parts):
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(parts.path))
    control = parts.control()
    control.start()

    assert await Asker(parts.path).numbers() == []
    await control.stop()


async def test_a_socket_on_which_somebody_answers_is_left_alone(parts, control, ask):
    with pytest.raises(OSError, match=r"somebody answers there already: '.*control\.sock'"):
        parts.control().start()

    assert await ask.numbers() == []


def test_what_is_no_socket_is_left_alone(tmp_path):
    path = tmp_path / "control.sock"
    path.write_text("mine")

    with pytest.raises(FileExistsError, match="is there already and is no socket"):
        listen(path)
    assert path.read_text() == "mine"


@pytest.mark.parametrize("length", [MAX_NAME, MAX_NAME + 1, 1000])
async def test_a_path_of_any_length(tmp_path, length):
    folder = tmp_path
    while (missing := length - len(f"{folder}/control.sock")) > 1:
        folder = folder / ("x" * min(missing - 1, 200))
    parts = Parts(folder)
    assert len(str(parts.path)) >= length
    control = parts.control()
    control.start()
    await asyncio.to_thread(lambda: connect(parts.path, 5).close())
    await control.stop()

    assert not parts.path.exists()
    with pytest.raises(FileNotFoundError, match=r"xxxx/control\.sock"):
        connect(parts.path, 5)


async def test_a_folder_that_cannot_be_made(parts):
    parts.path.parent.joinpath("file").write_text("")
    parts.path = parts.path.parent / "file" / "control.sock"

    with pytest.raises(OSError, match="file"):
        parts.control().start()


@pytest.mark.parametrize(
    "said",
    [
        b"\x00\xff\x16\x03\x01garbage\r\n\r\n",
        b"EHLO waypost\r\n\r\n",
        b"GET /api/queue HTTP/1.1\r\n\r\n",
        b"GET /api/queue HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
        b"GET /api/queue HTTP/1.1\r\nHost: x\r\nX: " + b"x" * (MAX_HEAD + 65536),
        b"GET /" + b"x" * (MAX_HEAD + 65536),
        b"POST /api/queue/actions HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
async def test_garbage_is_refused_and_does_no_harm(parts, control, ask, said):
    reader, writer = await asyncio.open_unix_connection(parts.path)
    writer.write(said)

    answered = await asyncio.wait_for(reader.read(), 10)
    assert answered.startswith(b"HTTP/1.1 400 ")
    writer.close()
    assert await ask.numbers() == []


async def test_a_path_in_the_query_is_only_text(ask):
    status, [answer] = await ask("/api/queue/..%2F..%2Fetc%2Fpasswd")

    assert status == 404 or "is not the number" in answer["error"]


async def test_a_body_that_does_not_come_is_not_waited_for(parts, control, ask, monkeypatch):
    original = answers.body_of
    monkeypatch.setattr("waypost.admin.queue_api.body_of", lambda request: original(request, within=0.05))
    reader, writer = await asyncio.open_unix_connection(parts.path)
    writer.write(b"POST /api/queue/actions HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{")

    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    body = await asyncio.wait_for(reader.read(1000), 10)
    assert head.startswith(b"HTTP/1.1 400 ")
    assert "has not arrived within 0.05 s" in json.loads(body)["error"]
    writer.close()


async def test_many_at_once(parts, control, ask):
    for _ in range(50):
        await parts.put()

    assert await asyncio.gather(*(ask.numbers() for _ in range(20))) == [list(range(1, 51))] * 20


async def test_who_reads_no_further_keeps_nobody(parts, ask):
    """A list is made as it is read; stopping does not wait for a reader who has stopped reading."""
    control = parts.control()
    parts.path.unlink()  # that of the fixture, which goes on under no name
    control.start()
    for _ in range(3000):
        await parts.put(to=tuple(f"recipient{number}@example.com" for number in range(20)))
    with connect(parts.path, 5) as connection:
        connection.sendall(b"GET /api/queue HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await asyncio.to_thread(connection.recv, 15)).startswith(b"HTTP/1.1 200 OK")
        await asyncio.wait_for(control.stop(), 10)


def test_it_works_in_the_loop_that_is_used(tmp_path):
    """uvloop, where it is installed."""
    found = []

    async def main():
        parts = Parts(tmp_path)
        control = parts.control()
        control.start()
        await parts.put()
        ask = Asker(parts.path)
        found.extend([await ask.numbers(), await ask.act("hold", number=1), parts.altered])
        await control.stop()
        return 0

    run_loop(main)

    assert found[0] == [1]
    assert found[1][1]["done"] == 1
    assert found[2][0][3] == getpass.getuser()


def settings(spool):
    return Settings("host", (), Routes((), {}, {}), {}, {}, spool, None)


@pytest.mark.parametrize(
    ("spool", "environ", "path"),
    [
        (SpoolSettings(path="/var/lib/waypost"), {"RUNTIME_DIRECTORY": "/run/x"}, "/var/lib/waypost/control.sock"),
        (SpoolSettings(path="spool"), {}, f"{os.getcwd()}/spool/control.sock"),
        (SpoolSettings(url="postgresql://db/x"), {"RUNTIME_DIRECTORY": "/run/a:/run/b"}, "/run/a/control.sock"),
        (SpoolSettings(url="x"), {"XDG_RUNTIME_DIR": "/run/user/1000"}, "/run/user/1000/waypost/control.sock"),
        (None, {"XDG_RUNTIME_DIR": "relative"}, "/run/waypost/control.sock"),
        (None, {}, "/run/waypost/control.sock"),
    ],
)
def test_where_it_is(spool, environ, path):
    assert str(control_path(settings(spool), environ)) == path


def test_a_service_is_found_by_those_who_have_a_runtime_folder_of_their_own(tmp_path, monkeypatch):
    environ = {"XDG_RUNTIME_DIR": str(tmp_path)}
    own, usual = tmp_path / "waypost" / "control.sock", tmp_path / "usual.sock"
    monkeypatch.setattr("waypost.config.control.USUAL", usual)
    assert find_control(settings(None), environ) == own
    usual.touch()

    assert find_control(settings(None), environ) == usual
    own.parent.mkdir()
    own.touch()
    assert find_control(settings(None), environ) == own
    assert find_control(settings(SpoolSettings(path="/nowhere")), environ) == Path("/nowhere/control.sock")
