"""The installed program with a plugin: however it ends, no process of a plugin is left behind."""

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from rig.client import RawClient
from rig.ports import free_port
from rig.sink import StoringSink
from rig.waiting import wait_until
from rig.waypost import WaypostProcess, waypost

HANGING = f"""#!{sys.executable}
import os, signal, sys, time
open("started", "a").write(f"{{os.getpid()}}\\n")
signal.signal(signal.SIGTERM, signal.SIG_IGN)
time.sleep(600)
"""


def configuration(port: int, sink: StoringSink, **plugin: Any) -> dict[str, Any]:
    return {
        "hostname": "waypost.example",
        "listeners": [{"address": f"127.0.0.1:{port}", "mode": "relay"}],
        "upstreams": {
            "first": {"address": sink.address, "tls": "off"},
            "second": {"address": "127.0.0.1:1", "tls": "off"},
        },
        "plugins": {"mine": plugin},
        "pools": {"providers": {"plugin": "mine", "upstreams": ["first", "second"]}},
        "routes": {"all": {"primary": "providers", "acceptance": "pass"}},
        "log": {"format": "json"},
    }


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_no_process_outlives_the_server(how: str, sink: StoringSink, tmp_path: Path) -> None:
    """Not even one that hangs and ignores SIGTERM, after a SIGKILL of the server."""
    program = tmp_path / "hanging"
    program.write_text(HANGING)
    program.chmod(0o755)
    port = free_port()
    made = configuration(port, sink, exec=[str(program)], timeout="300ms")
    with WaypostProcess(tmp_path, made, ports=[port]) as process:
        with RawClient(port) as client:
            client.hello()
            assert client.answer_to_message("ann@example.com", "bob@example.org", b"Subject: x\r\n\r\n").code == 250
        process.wait_for_record("not_advised", plugin="mine", cause="timeout")
        wait_until(lambda: (tmp_path / "started").read_text().endswith("\n"), "the plugin's number")
        pids = [int(line) for line in (tmp_path / "started").read_text().split()]
        assert any(map(is_running, pids))
        if how == "kill":
            process.kill()
        else:
            assert process.stop() == 0
    wait_until(lambda: not any(map(is_running, pids)), "the end of the plugin")
    assert len(sink.messages) == 1


def test_the_plugin_s_order_by_the_installed_program(sink: StoringSink, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def choose(question):\n    return ['first']\n")
    port = free_port()
    made = configuration(port, sink, python="mine.py", timeout="5s")
    made["pools"]["providers"]["upstreams"] = ["second", "first"]
    with WaypostProcess(tmp_path, made, ports=[port]) as process:
        with RawClient(port) as client:
            client.hello()
            assert client.answer_to_message("ann@example.com", "bob@example.org", b"Subject: x\r\n\r\n").code == 250
        assert process.records("attempted") == []


def test_explain_asks_the_plugin(sink: StoringSink, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from waypost.plugins import refuse\n"
        "def choose(question):\n"
        "    print('this is not for the answer')\n"
        "    return refuse('Never') if 'eve' in question.reverse_path else ['second']\n"
    )
    port = free_port()
    with WaypostProcess(tmp_path, configuration(port, sink, python="./mine.py", timeout="5s"), ports=[port]):
        pass
    assert "(plugin mine, else ordered: first, second)" in waypost("check", folder=tmp_path).stdout
    asked = ("explain", "--config", "waypost.yaml", "--to", "bob@example.org", "--from")
    said = waypost(*asked, "ann@example.com", folder=tmp_path)
    assert said.returncode == 0
    assert "plugin mine: chooses second; whom it leaves out is not tried" in said.stdout
    assert "1. second at 127.0.0.1:1" in said.stdout
    assert "2. " not in said.stdout
    assert "this is not" not in said.stdout
    said = waypost(*asked, "eve@example.com", folder=tmp_path)
    assert said.returncode == 1
    assert "plugin mine: stops the message: 550 5.7.1 Never" in said.stdout
    (tmp_path / "mine.py").write_text("def choose(question):\n    return 1 / 0\n")
    said = waypost(*asked, "ann@example.com", folder=tmp_path)
    assert "ZeroDivisionError" in said.stdout.replace("\n", " ")
    assert "1. first" in said.stdout


def test_explain_of_a_plugin_that_names_one_that_is_not_for_this_sender(sink: StoringSink, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def choose(question):\n    return ['second']\n")
    made = configuration(free_port(), sink, python="./mine.py", timeout="5s")
    made["upstreams"]["second"]["senders"] = ["*@other.example"]
    (tmp_path / "waypost.yaml").write_text(yaml.safe_dump(made))
    said = waypost("explain", "--to", "bob@example.org", "--from", "ann@example.com", folder=tmp_path)
    assert "1. second at 127.0.0.1:1" in said.stdout
    assert "first at" not in said.stdout


def test_a_signal_at_the_terminal_does_not_reach_plugins(sink: StoringSink, tmp_path: Path) -> None:
    """They are a session of their own: Ctrl-C is for the server, which ends them when it has drained."""
    (tmp_path / "mine.py").write_text(
        "import os\nopen('sid', 'w').write(str(os.getsid(0) == os.getpid()))\n"
        "def choose(question):\n    return ['first']\n"
    )
    port = free_port()
    with WaypostProcess(tmp_path, configuration(port, sink, python="./mine.py"), ports=[port]):
        assert (tmp_path / "sid").read_text() == "True"
