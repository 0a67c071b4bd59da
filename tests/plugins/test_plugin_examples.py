"""The examples that come with Waypost are run as their users run them, and what the manual says of them holds."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from rig.client import RawClient
from rig.ports import free_port
from rig.sink import StoringSink
from rig.waypost import WaypostProcess, waypost
from waypost.plugins import Question, UpstreamFacts
from waypost.plugins.kinds import KINDS

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = ROOT / "examples" / "plugins"
PAGE = (ROOT / "docs" / "plugins.md").read_text("utf-8")
NEWSLETTER = b"Subject: news\r\nList-Unsubscribe: <https://example.com/u>\r\n\r\n"

MakeSink = Callable[[StoringSink], StoringSink]


def configuration(port: int, folder: Path, first: StoringSink, second: StoringSink, **plugin: Any) -> dict[str, Any]:
    names = plugin.pop("names")
    return {
        "hostname": "waypost.example",
        "listeners": [{"address": f"127.0.0.1:{port}", "mode": "relay"}],
        "upstreams": {
            names[0]: {"address": first.address, "tls": "off", "cost": 3},
            names[1]: {"address": second.address, "tls": "off", "cost": 1},
        },
        "plugins": {"mine": {"timeout": "5s", **plugin}},
        "pools": {"providers": {"plugin": "mine", "upstreams": names}},
        "routes": {"all": {"primary": "providers", "acceptance": "spool"}},
        "spool": {"path": str(folder / "spool"), "allow_temporary": True},
        "log": {"format": "json"},
    }


def send(port: int, content: bytes) -> None:
    with RawClient(port) as client:
        client.hello()
        assert client.answer_to_message("ann@example.com", "bob@example.org", content).code == 250


def test_by_header(sink: StoringSink, make_sink: MakeSink, tmp_path: Path) -> None:
    bulk, port = make_sink(StoringSink()), free_port()
    made = configuration(
        port, tmp_path, sink, bulk, names=["office", "bulk"], python=str(EXAMPLES / "by_header.py"), needs="content"
    )
    with WaypostProcess(tmp_path, made, ports=[port]) as process:
        send(port, b"Subject: hello\r\n\r\nHow are you?\r\n")
        process.wait_for_record("relayed", upstream="office")
        send(port, NEWSLETTER)
        process.wait_for_record("relayed", upstream="bulk")
        send(port, NEWSLETTER + b"0123456789\r\n" * 20_000)
        process.wait_for_record("failed", code=552)
    assert [len(sink.messages), len(bulk.messages)] == [2, 1]  # the author is told of the refusal by `office`


def test_by_header_while_the_client_waits(sink: StoringSink, make_sink: MakeSink, tmp_path: Path) -> None:
    bulk, port = make_sink(StoringSink()), free_port()
    made = configuration(
        port, tmp_path, sink, bulk, names=["office", "bulk"], python=str(EXAMPLES / "by_header.py"), needs="content"
    )
    made["routes"]["all"]["acceptance"] = "pass"
    with WaypostProcess(tmp_path, made, ports=[port]):
        send(port, NEWSLETTER)
        with RawClient(port) as client:
            client.hello()
            large = NEWSLETTER + b"0123456789\r\n" * 20_000
            answer = client.answer_to_message("ann@example.com", "bob@example.org", large)
    assert (answer.code, answer.text[:28]) == (552, "5.3.4 A newsletter has at mo")
    assert (len(sink.messages), len(bulk.messages)) == (0, 1)
    file = tmp_path / "stored.eml"
    file.write_bytes(NEWSLETTER)
    words = ("--config", str(tmp_path / "waypost.yaml"), "--from", "a@example.com", "--to", "b@example.org")
    explained = " ".join(waypost("explain", *words, "--to", "c@example.org", "--message", str(file)).stdout.split())
    assert "plugin mine: chooses bulk, office" in explained
    assert "the recipient is accepted, as the only one of its transaction, and the upstream is asked at" in explained
    assert "answered 452 4.5.3" in explained
    assert "name a file with --message" in " ".join(waypost("explain", *words).stdout.split())


@pytest.mark.parametrize(("hours", "chosen"), [(("0", "24"), "cheap"), (("24", "0"), "fast")])
def test_by_time(hours: tuple[str, str], chosen: str, sink: StoringSink, make_sink: MakeSink, tmp_path: Path) -> None:
    cheap, port = make_sink(StoringSink()), free_port()
    made = configuration(port, tmp_path, sink, cheap, names=["fast", "cheap"], exec=[str(EXAMPLES / "by_time"), *hours])
    with WaypostProcess(tmp_path, made, ports=[port]) as process:
        send(port, b"Subject: hello\r\n\r\nHow are you?\r\n")
        process.wait_for_record("relayed", upstream=chosen)


@pytest.mark.parametrize("text", re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.M | re.S))
def test_what_the_page_shows_of_configuration_is_right(text: str, tmp_path: Path) -> None:
    shown = yaml.safe_load(text.replace("examples/plugins", str(EXAMPLES)))
    names = [name for pool in shown["pools"].values() for name in pool["upstreams"]]
    made = {
        "hostname": "waypost.example",
        "listeners": [{"address": "127.0.0.1:2525", "mode": "relay"}],
        "upstreams": {name: {"address": f"{name}.example.com:25"} for name in names},
        "routes": {"all": {"primary": next(iter(shown["pools"])), "acceptance": "spool"}},
        "spool": {"path": str(tmp_path / "spool"), "allow_temporary": True},
        **shown,
    }
    (tmp_path / "waypost.yaml").write_text(yaml.safe_dump(made))
    checked = waypost("check", folder=tmp_path)
    assert checked.returncode == 0, checked.stderr


def test_every_fact_of_a_question_is_on_the_page() -> None:
    named = set(re.findall(r"^\| `([a-z_]+)` \|", PAGE, re.M))
    assert set(Question.__slots__) | set(UpstreamFacts.__slots__) == named - KINDS.keys()


@pytest.mark.parametrize("text", re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S))
def test_what_the_page_shows_of_python_is_right(text: str, tmp_path: Path) -> None:
    (tmp_path / "shown.py").write_text(text)
    port = free_port()
    made = {
        "hostname": "waypost.example",
        "listeners": [{"address": f"127.0.0.1:{port}", "mode": "relay"}],
        "upstreams": {name: {"address": f"{name}.example.com:25"} for name in ("a", "b")},
        "plugins": {"shown": {"python": "./shown.py", "timeout": "5s"}},
        "pools": {"providers": {"plugin": "shown", "upstreams": ["a", "b"]}},
        "routes": {"all": {"primary": "providers"}},
    }
    (tmp_path / "waypost.yaml").write_text(yaml.safe_dump(made))
    said = waypost("explain", "--from", "ann@example.com", "--to", "bob@example.org", folder=tmp_path)
    assert said.returncode == 0, said.stderr
    assert "plugin shown: chooses" in said.stdout
