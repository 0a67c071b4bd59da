"""The judge of the rehearsal sees each way in which a promise can be broken, and makes what broke it small."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from rig.stored import StoredMessage
from torture.client import Told, Try, content_of
from torture.promises import Found, broken
from torture.report import command
from torture.scenario import Crash, Letter, Scenario, Trouble, derive, read
from torture.shrink import candidates, shrink

ANN, BOB = "ann@example.net", "bob@example.net"
LETTERS = (Letter(0, 0, 0, (ANN, BOB), 300), Letter(1, 0, 0, (ANN,), 300))
SCENARIO = Scenario(7, "hybrid", "sqlite", 1, LETTERS)
ID, OTHER = "06H03MQEKYY0VBT4", "06H03MQEMC1F2WY8"
DOUBT = {"event": "in_doubt", "upstream": "primary"}


def arrived(number: int = 0, id_: str = ID, recipients: tuple[str, ...] = (ANN, BOB), **more: Any) -> StoredMessage:
    trace = f"Received: from x by waypost.example (Waypost) with ESMTP id {id_};\r\n today\r\n".encode()
    fields: dict[str, Any] = {
        "reverse_path": LETTERS[number].sender,
        "parameters": (),
        "recipients": recipients,
        "recipient_parameters": (),
        "content": trace + content_of(LETTERS[number], 7),
        "session": 1,
        "helo": "waypost.example",
        "tls": False,
        "username": None,
    }
    return StoredMessage(**(fields | more))


def notice(*recipients: str, to: str = LETTERS[0].sender) -> StoredMessage:
    lines = "".join(f"Final-Recipient: rfc822;{recipient}\r\n" for recipient in recipients)
    text = f"Message-ID: <{OTHER}@waypost.example>\r\n\r\n{lines}\r\n".encode() + content_of(LETTERS[0], 7)
    return replace(arrived(), reverse_path="", recipients=(to,), content=text)


def told(code: int | None = 250, accepted: tuple[str, ...] = (ANN, BOB), id_: str = ID, number: int = 0) -> Try:
    return Try(number, accepted, code, "" if code is None else f"said (id {id_})", dotted=True)


def found(*tries: Try, **more: Any) -> Found:
    stored: dict[Any, Any] = {name: more.pop(name, []) for name in ("primary", "second", "copy1", "copy2", "home")}
    return Found(Told(list(tries)), stored, **({"dead": (), "journal": {}, "records": ()} | more))


def dead(lane: str, *recipients: str) -> dict[str, Any]:
    return {"lane": lane, "id": ID, "recipients": list(recipients)}


@pytest.mark.parametrize(
    "what",
    [
        found(told(), primary=[arrived()], copy1=[arrived()]),
        found(told(), home=[notice(ANN, BOB)]),
        found(told(), dead=[dead("primary:all", ANN, BOB)]),
        found(told(), primary=[arrived()], dead=[dead("copy:copy1", ANN, BOB)]),
        found(told(451)),
        found(told(None)),
        found(told(None), primary=[arrived()], copy1=[arrived()]),
        found(told(None), copy1=[arrived()]),
        found(told(None), told(id_=OTHER), primary=[arrived(), arrived(id_=OTHER)], copy1=[arrived(id_=OTHER)]),
        found(told(), primary=[arrived(), arrived()], copy1=[arrived()], journal={ID: [DOUBT]}),
        found(told(451), primary=[arrived()], copy1=[arrived()], journal={ID: [DOUBT]}),
        found(told(), primary=[arrived()], home=[notice(ANN, BOB)], journal={ID: [DOUBT]}),
    ],
)
def test_promises_that_were_kept(what: Found) -> None:
    assert broken(SCENARIO, what) == []


@pytest.mark.parametrize(
    ("what", "said"),
    [
        (found(told()), "is nowhere"),
        (found(told(), primary=[arrived(recipients=(ANN,))], copy1=[arrived(recipients=(ANN,))]), "is nowhere"),
        (found(told(), primary=[arrived()]), "not at copy1"),
        (found(told(), primary=[arrived()], copy1=[arrived(recipients=(BOB,))]), "not at copy1"),
        (found(told(None), primary=[arrived()]), "is at primary and not at copy1"),
        (found(told(), home=[notice(ANN, BOB)], copy1=[arrived()]), "at copy1 only"),
        (found(told(), primary=[arrived(), arrived()], copy1=[arrived()]), "2 times"),
        (found(told(), primary=[arrived()], copy1=[arrived(), arrived()]), "2 times"),
        (found(told(), primary=[arrived()], second=[arrived()], copy1=[arrived()]), "both primaries"),
        (
            found(told(), primary=[arrived()], copy1=[arrived(), arrived()], journal={ID: [DOUBT]}),
            "the journal knows of no doubt",
        ),
        (found(told(451), primary=[arrived()], copy1=[arrived()]), "answered 451 and is at primary"),
        (found(told(554), copy1=[arrived()]), "answered 554 and is at copy1"),
        (
            found(told(), primary=[arrived(), arrived(id_=OTHER)], copy1=[arrived(), arrived(id_=OTHER)]),
            "only 0 tries had no answer",
        ),
        (found(told(), primary=[arrived(content=arrived().content + b"x")], copy1=[arrived()]), "nobody sent"),
        (found(told(), primary=[arrived(reverse_path="eve@example.net")], copy1=[arrived()]), "another envelope"),
        (found(told(), home=[notice(ANN, BOB, to="eve@example.net")]), "not the author"),
        (found(told(), primary=[arrived()], copy1=[arrived()], home=[notice(ANN)]), "told that it failed"),
        (found(told(), home=[notice(ANN, BOB), notice(ANN, BOB)]), "was delivered 2 times"),
        (found(told(), primary=[arrived()], copy1=[arrived()], left=["file 7"]), "left behind: file 7"),
        (
            found(told(), primary=[arrived()], copy1=[arrived()], records=[{"event": "fault", "exception": "oh"}]),
            "something broke inside",
        ),
    ],
)
def test_promises_that_were_broken(what: Found, said: str) -> None:
    assert any(said in each for each in broken(SCENARIO, what)), broken(SCENARIO, what)


@pytest.mark.parametrize("seed", range(20))
def test_a_scenario_is_the_same_again(seed: int) -> None:
    scenario = derive(seed)
    assert derive(seed) == scenario
    assert read(scenario.text()) == scenario
    assert scenario.text() in command(scenario).replace("'\"'\"'", "'")


def large() -> Scenario:
    scenario = next(each for each in map(derive, range(1000)) if len(each.crashes) == 3 and each.troubles)
    assert len(scenario.letters) > 1
    return scenario


@pytest.mark.parametrize(
    ("breaks", "left"),
    [
        (lambda each: True, (0, 1, 0)),
        (lambda each: len(each.crashes) > 1, (2, 1, 0)),
        (lambda each: bool(each.troubles), (0, 1, 1)),
        (lambda each: len(each.letters) > 1, (0, 2, 0)),
    ],
)
def test_what_breaks_is_made_small(breaks: Callable[[Scenario], bool], left: tuple[int, int, int]) -> None:
    small = shrink(large(), breaks)
    assert (len(small.crashes), len(small.letters), len(small.troubles)) == left


def test_without_a_crash_its_wave_goes_on_in_the_next() -> None:
    letters = tuple(replace(LETTERS[0], number=wave, wave=wave) for wave in range(3))
    troubles = (Trouble("primary", "dot", "4yz", wave=2),)
    scenario = replace(SCENARIO, letters=letters, crashes=(Crash("claim"), Crash("settle")), troubles=troubles)
    first, second, *_ = candidates(scenario)
    assert [crash.step for crash in first.crashes] == ["settle"]
    assert [letter.wave for letter in first.letters] == [0, 0, 1]
    assert first.troubles[0].wave == 1
    assert [crash.step for crash in second.crashes] == ["claim"]
    assert [letter.wave for letter in second.letters] == [0, 1, 1]
