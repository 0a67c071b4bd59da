"""What `waypost explain` says of a message, and where a running server sends it: the same, whatever the rules are."""

import random
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from rig.client import RawClient
from rig.ports import free_port
from rig.running import RunningServer
from rig.sink import StoringSink
from waypost.commands.explanation import Question, explain
from waypost.config.errors import ConfigurationError
from waypost.config.load import Loaded, read
from waypost.mail.content import MemoryContent
from waypost.mail.field_values import FieldValues
from waypost.mail.header import read_header
from waypost.smtp.address import parse_forward_path

DOMAINS = ("a.example", "b.example", "sub.a.example", "xn--mnchen-3ya.example")
NAMES = ("ann", "Bob", "bob#1", "carol")
VALUES = ("urgent", "=?utf-8?b?dXJnZW50?=", "not urgent at all", "=?latin-1?q?gr=FC=DFe?=", "")
ROUTES = ("x", "y", "z")


def some(chance: random.Random, *values: str) -> list[str]:
    return chance.sample(values, chance.randint(1, 2))


def condition(chance: random.Random, depth: int, folder: Path) -> dict[str, Any]:
    """Some conditions of a rule, as they are written."""
    kinds: dict[str, Any] = {
        "recipient": lambda: some(chance, "a.example", "*.a.example", "bob@*", "*#*@b.example", "münchen.example"),
        "reverse_path": lambda: some(chance, "a.example", "c*@*", "<>", "BOB@b.example"),
        "recipient_file": lambda: str(folder / "list"),
        "reverse_path_file": lambda: str(folder / "list"),
        "helo": lambda: some(chance, "one.*", "*.example", "two.example"),
        "client_network": lambda: some(chance, "127.0.0.0/8", "10.0.0.0/8"),
        "percent": lambda: {"value": "50", "by": chance.choice(["recipient", "sender", "client", "account"])},
        "size": lambda: chance.choice(["over 100", "under 200", "over 60 and under 150"]),
        "header": lambda: chance.choice(
            [{"Subject": "*urgent*"}, {"x-a": "*"}, {"Subject": ["urgent", "grüße"]}, {"X-A": "*", "subject": "*"}]
        ),
    }
    names = chance.sample(sorted(kinds), chance.choice([0, 1, 1, 2] if depth else [1, 1, 2, 3]))
    made = {name: kinds[name]() for name in names}
    if depth:
        nested = chance.choice(["all", "any", "not", *([None] if made else [])])
        if nested == "not":
            made["not"] = condition(chance, depth - 1, folder)
        elif nested is not None:
            made[nested] = [condition(chance, 0, folder) for _ in range(chance.randint(1, 3))]
    return made


def configuration(chance: random.Random, folder: Path, port: int, sinks: dict[str, StoringSink]) -> Loaded:
    """A configuration with rules of all kinds, but without those that nothing reaches; the last takes what is left."""
    (folder / "list").write_text("b.example\nann@a.example\n*.nowhere.example\nbob#1@a.example\n<>\n")
    rules: list[dict[str, Any]] = []
    more = [{**condition(chance, chance.choice([0, 1, 2]), folder), "route": chance.choice(ROUTES)} for _ in range(8)]
    loaded: Loaded | None = None
    for rule in (*more, {"route": "z"}):
        made = {
            "hostname": "waypost.example",
            "listeners": [{"address": f"127.0.0.1:{port}", "mode": "relay"}],
            "upstreams": {name: {"address": sink.address, "tls": "off"} for name, sink in sinks.items()},
            "routes": {name: {"primary": name, "acceptance": "pass"} for name in ROUTES},
            "rules": [*rules, rule],
        }
        (folder / "w.yaml").write_text(yaml.safe_dump(made, sort_keys=False, allow_unicode=True), "utf-8")
        try:
            loaded = read(str(folder / "w.yaml"), {"HOME": str(folder)})
        except ConfigurationError as error:
            if any("can never match" not in str(problem) for problem in error.problems):
                raise
        else:
            rules.append(rule)
    assert loaded is not None
    return loaded


@pytest.mark.parametrize("seed", range(6))
def test_explain_tells_the_truth(seed: int, tmp_path: Path) -> None:
    chance, port = random.Random(seed), free_port()
    with ExitStack() as stack:
        sinks = {name: stack.enter_context(StoringSink()) for name in ROUTES}
        loaded = configuration(chance, tmp_path, port, sinks)
        stack.enter_context(RunningServer(loaded.settings))
        for _ in range(12):
            sender, recipient = (f"{chance.choice(NAMES)}@{chance.choice(DOMAINS)}" for _ in range(2))
            helo = chance.choice(["one.example", "two.example", "elsewhere"])
            fields = "".join(f"{name}: {chance.choice(VALUES)}\r\n" for name in chance.sample(["Subject", "X-A"], 1))
            content = MemoryContent(f"{fields}\r\n{'x' * chance.choice([1, 60, 150])}\r\n".encode())
            asked = Question(
                loaded.settings.listeners[0],
                "127.0.0.1",
                None,
                parse_forward_path(f"<{sender}>"),
                (parse_forward_path(f"<{recipient}>"),),
                helo,
                time.time(),
                content.size,
                FieldValues(read_header(content)),
            )
            [said] = explain(loaded, asked)["recipients"]
            before = {name: len(sink.messages) for name, sink in sinks.items()}
            [early] = explain(loaded, replace(asked, size=None, header=None))["recipients"]
            with RawClient(port) as client:
                client.hello(helo)
                client.command(f"MAIL FROM:<{sender}>", 250)
                accepted = client.command(f"RCPT TO:<{recipient}>", 250)
                assert ("the content decides" in accepted.text) is bool(early["open"]), (asked, early)
                if early["open"]:
                    assert said["route"]["name"] in early["open"]["routes"]
                    client.command("RCPT TO:<second@a.example>", 452)
                client.command("DATA", 354)
                client.send(content.head(content.size) + b".\r\n")
                client.expect(250)
            [went] = [name for name, sink in sinks.items() if len(sink.messages) > before[name]]
            decided = [number for number, rule in enumerate(said["rules"]) if rule["decided"]]
            matched = [number for number, rule in enumerate(said["rules"]) if rule["matched"]]
            assert (went, decided) == (said["route"]["name"], matched[:1]), (asked, said)
