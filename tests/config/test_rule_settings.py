"""The conditions of rules as they are written: what they mean, and what is said about mistakes in them."""

import os
from collections.abc import Callable
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from waypost.config.errors import Problem
from waypost.config.load import Loaded
from waypost.config.show import show_yaml
from waypost.routing.condition import Condition, FieldPatterns, SizeRange, TrafficShare
from waypost.routing.hours import Hours
from waypost.routing.rules import Router
from waypost.smtp.address import Address

Load = Callable[..., Loaded]
Mistakes = Callable[..., tuple[Problem, ...]]

BASE = """\
hostname: mail.example.com
listeners:
  - {address: 127.0.0.1:2525, mode: relay}
upstreams:
  a: {address: a.example.com:25}
routes:
  r: {primary: a}
rules:
"""


def rule(load_text: Load, text: str) -> Condition:
    [found] = load_text(f"{BASE}  - {{{text}, route: r}}\n").settings.routes.rules
    return found


BERLIN = ZoneInfo("Europe/Berlin")
WEEK = frozenset(range(5))


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("helo: '*.example.com'", "helos", ("*.example.com",)),
        ("size: over 5MB", "size", SizeRange(5_000_000, None)),
        ("size: Under 10 KiB", "size", SizeRange(None, 10_240)),
        ("size: over 1000 and under 5MB", "size", SizeRange(1000, 5_000_000)),
        ("size: over 1000 under 2000", "size", SizeRange(1000, 2000)),
        (
            'header: {Subject: ["*a*", b], X-Spam: "*"}',
            "fields",
            (FieldPatterns("subject", ("*a*", "b")), FieldPatterns("x-spam", ("*",))),
        ),
        ("time: mon-fri 08:00-18:00 Europe/Berlin", "hours", (Hours(BERLIN, WEEK, 480, 1080),)),
        ("time: 22:00-6:00 Europe/Berlin", "hours", (Hours(BERLIN, start=1320, end=360),)),
        ("time: ['sat,Sunday Europe/Berlin', {days: mon, time_zone: Europe/Berlin}]", "hours",
         (Hours(BERLIN, frozenset({5, 6})), Hours(BERLIN, frozenset({0})))),
        ("time: fri - mon 00:00 - 24:00 Europe/Berlin", "hours", (Hours(BERLIN, frozenset({4, 5, 6, 0})),)),
        ("percent: 10", "share", TrafficShare(10, "recipient", "r")),
        ("name: some, percent: 12.5%", "share", TrafficShare(12.5, "recipient", "some")),
        ("percent: {value: 1, by: sender, salt: x}", "share", TrafficShare(1, "sender", "x")),
        ("all: [{helo: a}, {helo: b}]", "all_of", (Condition(helos=("a",)), Condition(helos=("b",)))),
        ("any: [{recipient: a}, {percent: 5}]", "any_of",
         (Condition(recipients=("a",)), Condition(share=TrafficShare(5, "recipient", "r")))),
        ("not: {any: [{not: {account: a*}}]}", "unless",
         Condition(any_of=(Condition(unless=Condition(accounts=("a*",))),))),
    ],
)  # fmt: skip
def test_what_is_written(load_text: Load, text: str, name: str, value: object) -> None:
    assert getattr(rule(load_text, text), name) == value


@pytest.mark.parametrize(
    ("text", "place", "key", "words"),
    [
        ("size: big", 11, "size", "is no range of sizes; write over 5MB"),
        ("size: over 5 bananas", 11, "size", "is no range of sizes"),
        ("size: over 5MB and under 5MB", 11, "size", "is a range that no size is in"),
        ("helo: ''", 11, "helo[0]", "must not be empty"),
        ("header: [a]", 13, "header", "must be a mapping of names"),
        ("header: {'Subject:': x}", 14, "header.Subject:", "is no name of a header field; write it like Subject"),
        ("header: {subject: a, Subject: b}", 35, "header.Subject", "is there already, in other letters"),
        ("header: {subject: []}", 23, "header.subject", 'must not be empty; write "*"'),
        ("time: mon-fry 08:00-18:00", 11, "time[0].days", "'mon-fry' is no day of the week"),
        ("time: 08:00-25:00", 11, "time[0].hours", "has a time that no clock shows"),
        ("time: 08:00-08:00", 11, "time[0].hours", "ends when it begins"),
        ("time: 8-9", 11, "time[0].hours", "is no span of time"),
        ("time: mon tue", 11, "time[0]", "is no window of time"),
        ("time: mon Europe/Berlyn", 11, "time[0].time_zone", "did you mean Europe/Berlin?"),
        ("time: {days: mon}", 11, "time", "must be a list; begin each entry with `- `"),
        ("percent: 101", 14, "percent.value", "is no percentage"),
        ("percent: {by: sender}", 14, "percent.value", "is required"),
        ("percent: {value: 5, by: month}", 29, "percent.by", "is not one of recipient, sender"),
        ("any: []", 10, "any", "is empty, so it lets everything through; take it out"),
        ("client_network: []", 21, "client_network", "is empty, so it lets everything through"),
        ("not: {recipient_file: []}", 27, "not.recipient_file", "is empty, so it lets everything through"),
        ("header: {}", 13, "header", "is empty, so it lets everything through"),
        ("any: [{}]", 11, "any[0]", "lets everything through; take it out"),
        ("not: {}", 10, "not", "lets everything through; take it out"),
        ("not: {any: [{helo: a, recipent: b}]}", 27, "not.any[0].recipent", "did you mean recipient?"),
        ("all: [{listener: 127.0.0.1:25}]", 22, "all[0].listener[0]", "there is no listener '127.0.0.1:25'"),
        ("any: [{route: r}]", 12, "any[0].route", "there is no such setting"),
        ("recipient_file: nowhere", 21, "recipient_file[0]", "nowhere cannot be read: No such file"),
        ("recipient_file: pipe", 21, "recipient_file[0]", "pipe cannot be read: is no regular file"),
        ("not: {reverse_path_file: [bad]}", 31, "not.reverse_path_file[0]", "bad:2: 'x y' has a space"),
        ("nmae: x", 5, "nmae", "did you mean name?"),
    ],
)
def test_mistakes(mistakes: Mistakes, folder: Path, text: str, place: int, key: str, words: str) -> None:
    (folder / "bad").write_text("example.com\nx y\n")
    os.mkfifo(folder / "pipe")  # opening it would wait for a writer, forever
    found = mistakes(f"{BASE}  - {{{text}, route: r}}\n")
    assert [(problem.place, problem.key) for problem in found] == [(f"c.yaml:9:{place + 1}", f"rules[0].{key}")]
    assert words in str(found[0])


@pytest.mark.parametrize(
    ("rules", "reachable"),
    [
        (["recipient: a", "recipient: a, size: over 5MB"], False),
        (["recipient: a, size: over 5MB", "recipient: a"], True),
        (["size: over 5MB", "size: over 5MB, helo: x"], False),
        (["size: over 5MB", "size: over 6MB"], True),
        (["helo: [a, b]", "helo: a"], False),
        (["helo: '*'", "route: r"], False),
        (["time: mon", "time: mon"], False),
        (["percent: 100", "helo: a"], False),
        (["percent: 50", "percent: 50"], False),
        (["name: x, percent: 50", "name: y, percent: 50"], True),
        (["any: [{recipient: a}]", "any: [{recipient: a}]"], False),
        (["not: {recipient: a}", "recipient: a"], True),
        (["name: x, any: [{percent: 5}]", "name: y, any: [{percent: 5}]"], True),
    ],
)
def test_rules_that_nothing_reaches(load_text: Load, mistakes: Mistakes, rules: list[str], reachable: bool) -> None:
    text = BASE + "".join(f"  - {{{each}{'' if 'route' in each else ', route: r'}}}\n" for each in rules)
    if reachable:
        assert len(load_text(text).settings.routes.rules) == 2
        return
    (problem,) = mistakes(text)
    assert (
        str(problem)
        == "c.yaml:10:5: rules[1]: can never match: the rule at c.yaml:9:5 takes all that it would; move it up"
    )


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("percent: 0", "c.yaml:9:15: rules[0].percent: takes nothing"),
        ("size: over 60MB", "c.yaml:9:12: rules[0].size: never matches: no listener takes messages of more than"),
        ("recipient_file: empty", "c.yaml:9:22: rules[0].recipient_file[0]: empty has no entries"),
    ],
)
def test_warnings_of_what_never_matches(load_text: Load, folder: Path, text: str, warning: str) -> None:
    (folder / "empty").write_text("# nothing yet\n")
    found = [said for said in load_text(f"{BASE}  - {{{text}, route: r}}\n").settings.warnings if "rules" in said]
    assert len(found) == 1
    assert found[0].startswith(warning)


def test_what_is_shown_can_be_read_again(load_text: Load, folder: Path) -> None:
    (folder / "list").write_text("example.com\n")
    text = (
        f"{BASE}  - name: some\n    recipient_file: list\n    time: [mon-fri 22:00-06:00 Europe/Berlin, sat]\n"
        '    percent: {value: 12.5%, by: message}\n    size: over 5MB\n    header: {Subject: "*x*"}\n'
        "    any: [{helo: a}, {all: [{helo: b}], not: {recipient: c}}]\n    route: r\n"
    )
    loaded = load_text(text)
    shown = show_yaml(loaded, origins=False)
    again = load_text(shown).settings.routes
    assert [(r.name, r.hours, r.share, r.size, r.fields, r.any_of) for r in again.rules] == [
        (r.name, r.hours, r.share, r.size, r.fields, r.any_of) for r in loaded.settings.routes.rules
    ]
    assert Address("x", "example.com") in Router(again).lists["list"]
