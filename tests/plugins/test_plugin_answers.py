"""What a plugin may answer, and what is made of an answer that makes no sense."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.conftest import question
from waypost.mail.content import MemoryContent
from waypost.plugins import defer, refuse
from waypost.plugins.header_fields import HeaderFields
from waypost.plugins.port import (
    Deferral,
    NonsenseError,
    Order,
    PluginError,
    Refusal,
    UpstreamFacts,
    checked_order,
)
from waypost.plugins.wire import answer_object, question_line, read_answer, read_line, read_question

HEADER = (
    b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nX-Tenant: blue\r\nx-tenant: red,\r\n green\r\nX-Raw: \xfc\r\n\r\nbody\r\n"
)


def test_an_order_names_upstreams_of_the_pool_once() -> None:
    assert checked_order(["c", "a"], question()) == Order(("c", "a"))


@pytest.mark.parametrize(
    ("names", "why"),
    [
        ([], "the order is empty"),
        (["a", "a"], "comes twice"),
        (["a", "z"], "there is no upstream 'z' in the pool providers"),
        ([None], "a text, not None"),
        (["x" * 500], "..."),
    ],
)
def test_an_order_that_makes_no_sense(names: list[object], why: str) -> None:
    with pytest.raises(NonsenseError) as raised:
        checked_order(names, question())
    assert why in str(raised.value)
    assert len(str(raised.value)) < 150


def test_a_refusal_is_a_reply_and_nothing_else() -> None:
    assert refuse("Not from there", 554, "5.7.0").reply.encode() == b"554 5.7.0 Not from there\r\n"
    assert refuse().reply.code == 550
    assert defer("Later").reply.encode() == b"451 4.7.1 Later\r\n"


@pytest.mark.parametrize("code", [250, 354, 451, 560, 600, -1, "550", 550.0, True, None])
def test_a_refusal_is_permanent(code: object) -> None:
    with pytest.raises(NonsenseError):
        refuse("no", code)


@pytest.mark.parametrize("code", [250, 354, 500, 460, "451", True])
def test_a_deferral_is_temporary(code: object) -> None:
    with pytest.raises(NonsenseError):
        defer("no", code)


@pytest.mark.parametrize("text", ["a\r\n250 OK", "a\nb", "a\x00b", "a\u2028b", "x" * 401, "\ud800", 7, ["no"]])
def test_the_text_of_a_reply_is_one_line(text: object) -> None:
    with pytest.raises(NonsenseError):
        refuse(text)


@pytest.mark.parametrize("enhanced", ["4.7.1", "5.7", "5.7.1.1", "5.7.1234", "٥.7.1", 5, "5.7.1\r\n"])
def test_the_enhanced_code_fits_the_code(enhanced: object) -> None:
    with pytest.raises(NonsenseError):
        refuse("no", 550, enhanced)


@given(st.text(), st.one_of(st.integers(), st.text(), st.none()), st.one_of(st.text(), st.none()))
def test_no_refusal_can_say_yes_or_break_a_line(text: str, code: object, enhanced: object) -> None:
    try:
        said = refuse(text, code, enhanced).reply.encode()
    except NonsenseError:
        return
    assert said.startswith(b"5")
    assert said.count(b"\n") == 1


def test_a_question_survives_the_way_to_a_program() -> None:
    asked = question(recipients=("bob@example.org", "jürg@例.example"), header=HeaderFields.of(MemoryContent(HEADER)))
    line = question_line(7, asked)
    assert line.isascii()
    assert line.count(b"\n") == 1
    made = json.loads(line)
    read = read_question(made["question"])
    assert made["id"] == 7
    assert read.upstreams == asked.upstreams
    assert read.recipients == asked.recipients
    assert read.header is not None
    assert read.header.all("X-Tenant") == ["blue", "red, green"]


def test_header_fields_are_text() -> None:
    header = HeaderFields.of(MemoryContent(HEADER))
    assert header.get("SUBJECT") == "=?utf-8?q?Gr=C3=BC=C3=9Fe?="
    assert header.decoded("subject") == "Grüße"
    assert header.get("x-raw") == "ü"
    assert header.get("x-none") is None
    assert header.decoded("x-none") is None


@pytest.mark.parametrize("word", ["=?nonsense?q?x?=", "=?utf-8?b?a?=", "=?utf-8?q?=FF?="])
def test_an_encoded_word_that_makes_no_sense_stays_as_it_is(word: str) -> None:
    header = HeaderFields.of(MemoryContent(f"Subject: {word}\r\n\r\n".encode()))
    assert header.decoded("subject") is not None


def test_no_codec_is_looked_for_that_a_stranger_names() -> None:
    header = HeaderFields.of(MemoryContent(b"Subject: =?punycode?q?bcher-kva?=\r\n\r\n"))
    assert header.decoded("subject") == "=?punycode?q?bcher-kva?="


def test_no_more_than_a_thousand_fields_are_looked_at() -> None:
    asked = question(header=HeaderFields.of(MemoryContent(b"a:\r\n" * 260_000 + b"\r\n")))
    assert len(json.loads(question_line(1, asked))["question"]["header"]) == 1000


def test_a_header_section_that_is_huge_is_cut() -> None:
    content = b"X-A: %b\r\nX-B: %b\r\nX-C: c\r\n\r\n" % (b"a" * 60_000, b"b" * 200_000)
    line = question_line(1, question(header=HeaderFields.of(MemoryContent(content))))
    assert len(line) < 70_000
    assert [name for name, _ in json.loads(line)["question"]["header"]] == ["X-A", "X-C"]


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        (b'{"order": ["b"]}', Order(("b",))),
        (b'{"refuse": "no", "id": 3}', refuse("no")),
        (b'{"refuse": {"text": "no", "code": 554, "enhanced": "5.7.0"}}', refuse("no", 554, "5.7.0")),
        (b'{"defer": {"text": "later", "code": null}}', defer("later")),
    ],
)
def test_answers_are_read(line: bytes, answer: Order | Refusal | Deferral) -> None:
    assert read_answer(read_line(line), question()) == answer
    assert read_answer(answer_object(answer), question()) == answer


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"hello",
        b"[]",
        b"{}",
        b'{"order": "b"}',
        b'{"order": ["b"], "refuse": "no"}',
        b'{"order": {"b": 1}}',
        b'{"order": [["b"]]}',
        b'{"refuse": ["no"]}',
        b'{"refuse": {"text": "no", "colour": "red"}}',
        b'{"refuse": {"code": 250}}',
        b'{"defer": {"code": 550}}',
        b'{"error": "division by zero"}',
        b'{"order": ["\xff"]}',
        b"[" * 60_000,
        b"9" * 60_000,
    ],
)
def test_what_is_no_answer_is_nonsense(line: bytes) -> None:
    with pytest.raises(NonsenseError):
        read_answer(read_line(line), question())


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10) | st.sampled_from(["a", "b"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["text", "code", "id"]), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["order", "refuse", "defer", "error", "id"]), _JSON))
def test_any_object_is_an_answer_or_nonsense(made: dict[str, object]) -> None:
    try:
        answer = read_answer(read_line(json.dumps(made).encode()), question())
    except PluginError:
        return
    if isinstance(answer, Order):
        assert set(answer.upstreams) <= {"a", "b", "c"}
    else:
        assert answer.reply.severity == (5 if isinstance(answer, Refusal) else 4)


def test_s13_the_facts_of_an_upstream_have_no_place_for_a_password() -> None:
    assert set(UpstreamFacts.__slots__) == {
        *("name", "address", "login", "weight", "health", "reason", "in_flight", "latency", "errors"),
        *("quota_used", "quota_left", "cost"),
    }
