"""The installed program with Go plugins and Starlark scripts: their order is used, and whatever they do mail flows."""

import base64
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from rig.client import RawClient
from rig.go_programs import build
from rig.ports import free_port
from rig.sink import StoringSink
from rig.waypost import WaypostProcess, waypost

pytestmark = pytest.mark.foreign

HERE = Path(__file__).parent

MAIL = b"From: sam@example.org\r\nSubject: x\r\n\r\nHello\r\n"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plugin that behaves as it is called."""
    return build(HERE / "go" / "main.go", tmp_path_factory.mktemp("go") / "honest")


def configuration(port: int, first: StoringSink, second: StoringSink, **plugin: Any) -> dict[str, Any]:
    return {
        "hostname": "waypost.example",
        "listeners": [{"address": f"127.0.0.1:{port}", "mode": "relay"}],
        "upstreams": {
            "first": {"address": first.address, "tls": "off"},
            "second": {"address": second.address, "tls": "off"},
        },
        "plugins": {"mine": plugin},
        "pools": {"providers": {"plugin": "mine", "upstreams": ["first", "second"]}},
        "routes": {"all": {"primary": "providers", "acceptance": "pass"}},
        "log": {"format": "json"},
    }


def send(port: int) -> int:
    with RawClient(port) as client:
        client.hello()
        return client.answer_to_message("sam@example.org", "bob@example.com", MAIL).code


SCRIPTS = {
    "slow": "def choose(q):\n    for x in range(1 << 30):\n        pass\n    return ['second']\n",
    "panic": "def choose(q):\n    return [x for x in range(1 << 30)]\n",  # the interpreter gives up on memory
    "stuck": "def choose(q):\n    x = 3\n    for i in range(22):\n        x *= x\n    return [str(x)]\n",
    "hungry": "def choose(q):\n    return [[i] * 10000000 for i in range(10000)]\n",
    "lie": "def choose(q):\n    return ['elsewhere']\n",
    "fail": "def choose(q):\n    fail('on purpose')\n",
}


@pytest.mark.parametrize(
    ("mode", "reasons"),
    [
        ("hang", {"timeout"}),
        ("die", {"crash"}),
        ("lie", {"nonsense"}),
        ("hungry", {"crash", "timeout"}),
        ("huge", {"crash"}),
        ("drown", {"busy", "timeout"}),
        ("grpc", {"busy"}),
    ],
)
def test_mail_flows_whatever_a_go_plugin_does(
    mode: str, reasons: set[str], program: Path, sink: StoringSink, tmp_path: Path
) -> None:
    named = tmp_path / mode
    shutil.copy(program, named)
    _flows(reasons, sink, tmp_path, go=str(named), timeout="700ms")


@pytest.mark.parametrize(
    ("script", "reasons"),
    [
        ("slow", {"timeout", "nonsense"}),
        ("stuck", {"timeout"}),
        ("panic", {"crash", "timeout"}),
        ("hungry", {"crash", "timeout"}),
        ("lie", {"nonsense"}),
        ("fail", {"nonsense"}),
    ],
)
def test_mail_flows_whatever_a_starlark_script_does(
    script: str, reasons: set[str], sink: StoringSink, tmp_path: Path
) -> None:
    (tmp_path / "mine.star").write_text(SCRIPTS[script])
    _flows(reasons, sink, tmp_path, starlark=str(tmp_path / "mine.star"), timeout="700ms")


def _flows(reasons: set[str], sink: StoringSink, folder: Path, **plugin: Any) -> None:
    port = free_port()
    made = configuration(port, sink, sink, **plugin)
    made["upstreams"]["second"]["address"] = "127.0.0.1:1"  # who goes there has not the default order
    with WaypostProcess(folder, made, ports=[port]) as process:
        assert send(port) == 250
        failed = process.wait_for_record("not_advised", plugin="mine")
        assert {record["cause"] for record in failed} <= reasons
        assert process.records("attempted") == []
        assert process.stop() == 0
    assert len(sink.messages) == 1


def test_the_order_of_a_script(tmp_path: Path) -> None:
    (tmp_path / "mine.star").write_text("def choose(q):\n    return ['second']\n")
    with StoringSink() as first, StoringSink() as second:
        port = free_port()
        made = configuration(port, first, second, starlark="mine.star", timeout="10s")
        with WaypostProcess(tmp_path, made, ports=[port]):
            assert send(port) == 250
        assert (len(first.messages), len(second.messages)) == (0, 1)


@pytest.mark.parametrize("kind", ["go", "starlark"])
def test_smtpmux_s_own_file_with_a_selector(kind: str, program: Path, tmp_path: Path) -> None:
    if kind == "go":
        shutil.copy(program, tmp_path / "honest")  # it turns the order around, as the script does
    else:
        (tmp_path / "turn.star").write_text(
            "def selector(downstreams):\n    for ds in reversed(downstreams):\n        if send(ds=ds) == None:\n"
            "            return None\n    return 'all failed'\n"
        )
    with StoringSink() as first, StoringSink() as second:
        downstreams = [{"addr": one.address} for one in (first, second)]
        user = {
            "email": "test@user.com",
            "password": "password123",
            "selector_algo_path": "./honest" if kind == "go" else "turn.star",
            "downstreams": downstreams,
        }
        (tmp_path / "old.yaml").write_text(yaml.safe_dump({"users": [user]}))
        imported = waypost("config", "import", "old.yaml", folder=tmp_path)
        assert imported.returncode == 0, imported.stderr
        port = free_port()
        native = yaml.safe_load(imported.stdout)
        native["listeners"][0]["address"] = f"127.0.0.1:{port}"
        for plugin in native["plugins"].values():
            plugin["timeout"] = "10s"
        native["spool"] = {"path": str(tmp_path / "spool")}
        login = base64.b64encode(b"\0test@user.com\0password123").decode()
        with WaypostProcess(tmp_path, native, ports=[port]), RawClient(port) as client:
            client.hello()
            client.command(f"AUTH PLAIN {login}", 235)
            assert client.answer_to_message("sam@example.org", "bob@example.com", MAIL).code == 250
        assert (len(first.messages), len(second.messages)) == (0, 1)


@pytest.mark.parametrize(
    ("plugin", "key", "text"),
    [
        ({"go": "./nothing"}, "plugins.mine.go", "there is no file ./nothing"),
        ({"go": "waypost.yaml"}, "plugins.mine.go", "is not an executable file"),
        ({"go": "/bin/true", "memory": "64MB"}, "plugins.mine.go", "set `memory` to 128MB or more"),
        ({"go": "/bin/true", "starlark": "x.star"}, "plugins.mine", "cannot be starlark and go at once"),
        ({"starlark": "nothing.star"}, "plugins.mine.starlark", "cannot be read: No such file"),
        ({"starlark": "waypost.yaml"}, "plugins.mine.starlark", "waypost.yaml:"),
    ],
)
def test_check_finds_what_cannot_run(plugin: dict[str, str], key: str, text: str, tmp_path: Path) -> None:
    with StoringSink() as sink:
        made = configuration(2525, sink, sink, **plugin)
    (tmp_path / "waypost.yaml").write_text(yaml.safe_dump(made))
    checked = waypost("check", "--config", "waypost.yaml", folder=tmp_path)
    assert checked.returncode == 78
    said = checked.stdout + checked.stderr
    assert f" {key}: " in said or f" {key} " in said
    assert text in said
