"""Rules of every kind and nesting, compiled, against an evaluator that looks at one condition after the other."""

from datetime import UTC
from fnmatch import fnmatchcase
from ipaddress import ip_address, ip_network
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from waypost.mail.field_values import FieldValues
from waypost.mail.header import Header
from waypost.routing.address_list import AddressList, ListError
from waypost.routing.condition import Condition, FieldPatterns, SizeRange, TrafficShare
from waypost.routing.facts import Facts, share_key
from waypost.routing.hours import ALL_DAYS, Hours
from waypost.routing.reasons import explain
from waypost.routing.route import Account, Pool, Route, Routes, Rule
from waypost.routing.rules import Router
from waypost.smtp.address import NULL, Address

LISTS = {"odd": AddressList(("a.example", "bob@b.example")), "none": AddressList(())}
ROUTES = {name: Route(name, Pool(name, ())) for name in "xyz"}

GLOBS = st.lists(st.sampled_from(["*", "a", "a*", "?b", "one two"]), min_size=1, max_size=2).map(tuple)
ADDRESSES = st.sampled_from(
    [NULL, Address("bob", "a.example"), Address("bob", "b.example"), Address("ann", "c.b.example")]
)
ADDRESS_GLOBS = st.lists(
    st.sampled_from(["a.example", "*.b.example", "bob@b.example", "bob@*", "<>"]), min_size=1, max_size=2
).map(tuple)
FLAT = st.fixed_dictionaries(
    {},
    optional={
        "listeners": st.frozensets(st.sampled_from(["25", "465"]), min_size=1),
        "accounts": GLOBS,
        "client_networks": st.lists(st.sampled_from(["10.0.0.0/8", "::/0"]).map(ip_network), max_size=2).map(tuple),
        "helos": GLOBS,
        "reverse_paths": ADDRESS_GLOBS,
        "recipients": ADDRESS_GLOBS,
        "recipient_files": st.sampled_from([("odd",), ("none",), ("odd", "none")]),
        "reverse_path_files": st.sampled_from([("odd",), ("none",)]),
        "hours": st.lists(
            st.builds(
                Hours,
                st.just(UTC),
                st.frozensets(st.integers(0, 6), min_size=1),
                st.just(0),
                st.sampled_from([60, 720]),
            ),
            min_size=1,
            max_size=2,
        ).map(tuple),
        "share": st.builds(
            TrafficShare,
            st.sampled_from([0, 30, 50, 100]),
            st.sampled_from(["recipient", "sender", "account", "client", "message"]),
            st.sampled_from(["s", "t"]),
        ),
        "size": st.builds(SizeRange, st.sampled_from([None, 10]), st.sampled_from([20, 30])),
        "fields": st.lists(
            st.builds(FieldPatterns, st.sampled_from(["x-a", "x-b"]), GLOBS), min_size=1, max_size=2
        ).map(lambda found: tuple({each.name: each for each in found}.values())),
    },
)


def _nested(inner: st.SearchStrategy[Condition]) -> st.SearchStrategy[Condition]:
    several = st.lists(inner, max_size=3).map(tuple)
    return st.builds(
        lambda flat, all_of, any_of, unless: Condition(**flat, all_of=all_of, any_of=any_of, unless=unless),
        FLAT,
        several,
        several,
        st.none() | inner,
    )


CONDITIONS = st.recursive(FLAT.map(lambda flat: Condition(**flat)), _nested, max_leaves=6)
RULES = st.lists(
    st.builds(
        lambda route, condition: Rule(route, **{name: getattr(condition, name) for name in Condition.__slots__}),
        st.sampled_from("xyz"),
        CONDITIONS,
    ),
    max_size=6,
)
HEADERS = st.sampled_from(
    [b"", b"X-A: a\r\n", b"X-B: one\r\n two\r\nX-A: bb\r\nx-a: zz\r\n", b"X-B: =?utf-8?q?ab?=\r\n"]
)
FACTS = st.builds(
    Facts,
    st.sampled_from(["25", "465"]),
    st.sampled_from([None, "a", "ab"]),
    st.sampled_from(["10.0.0.1", "::1", ""]),
    ADDRESSES,
    ADDRESSES,
    st.sampled_from(["a", "ab", ""]),
    st.sampled_from(["id1", "id2", "id3"]),
    st.integers(0, 14 * 24).map(lambda hour: 1_700_000_000.0 + 3600 * hour),
    st.sampled_from([5, 15, 25, 35]),
    HEADERS.map(lambda head: FieldValues(Header(head + b"\r\n"))),
)


def matches(condition: Condition, facts: Facts) -> bool:
    """The meaning of a condition, in the plainest words."""
    asked = [
        not condition.listeners or facts.listener in condition.listeners,
        not condition.accounts or (facts.account is not None and _glob(facts.account, condition.accounts)),
        not condition.client_networks
        or (bool(facts.client) and any(ip_address(facts.client) in net for net in condition.client_networks)),
        not condition.helos or _glob(facts.helo or "", condition.helos),
        not condition.reverse_paths or any(_address(facts.reverse_path, p) for p in condition.reverse_paths),
        not condition.recipients or any(_address(facts.recipient, p) for p in condition.recipients),
        not condition.recipient_files or ("odd" in condition.recipient_files and _odd(facts.recipient)),
        not condition.reverse_path_files or ("odd" in condition.reverse_path_files and _odd(facts.reverse_path)),
        not condition.hours or any(hours.holds(facts.now or 0) for hours in condition.hours),
        condition.share is None or condition.share.takes(share_key(facts, condition.share.by) or ""),
        condition.size is None or condition.size.holds(facts.size or 0),
        *(any(_glob(value, f.patterns) for value in facts.header.of(f.name)) for f in condition.fields if facts.header),
        *(matches(each, facts) for each in condition.all_of),
        not condition.any_of or any(matches(each, facts) for each in condition.any_of),
        condition.unless is None or not matches(condition.unless, facts),
    ]
    return all(asked)


def _glob(text: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(text, pattern) for pattern in patterns)


def _address(address: Address, pattern: str) -> bool:
    if pattern == "<>" or address.is_null:
        return pattern == "<>" and address.is_null
    return fnmatchcase(f"{address.local}@{address.domain}", pattern if "@" in pattern else f"*@{pattern}")


def _odd(address: Address) -> bool:
    return address.domain == "a.example" or (address.local, address.domain) == ("bob", "b.example")


def router(rules: list[Rule]) -> Router:
    return Router(Routes(tuple(rules), ROUTES, {"a": Account("a", "", "z")}, lists=LISTS))


@settings(max_examples=300)
@given(RULES, st.lists(FACTS, min_size=1, max_size=4))
def test_the_first_rule_that_matches_decides(rules: list[Rule], many: list[Facts]) -> None:
    compiled = router(rules)
    for facts in many:
        first = next((rule for rule in rules if matches(rule, facts)), None)
        assert compiled.route(facts).rule is first
        judged = explain(compiled, facts)
        assert [each.matched for each in judged] == [matches(rule, facts) for rule in rules]
        assert all(bool(each.why) == (each.rule is not first) for each in judged)


@settings(max_examples=300)
@given(RULES, FACTS, st.sets(st.sampled_from(["helo", "message_id", "now", "size", "header"])))
def test_what_is_decided_without_a_fact_stays_decided_with_it(
    rules: list[Rule], facts: Facts, unknown: set[str]
) -> None:
    compiled = router(rules)
    known = {name: None if name in unknown else getattr(facts, name) for name in Facts.__slots__}
    early, late = compiled.route(Facts(**known)), compiled.route(facts)
    assert not late.is_open
    if early.is_open:
        assert unknown
        assert late.route in early.possible if late.route else early.may_refuse
        judged = [each for each in explain(compiled, Facts(**known)) if each.matched is None]
        assert judged
        assert all("waits for" in each.why for each in judged)
    else:
        assert (early.route, early.reply) == (late.route, late.reply)


def test_a_share_is_as_large_as_it_says_and_stays_where_it_is() -> None:
    keys = [f"user{number}@example.com" for number in range(20_000)]
    small, large = TrafficShare(10, "recipient", "x"), TrafficShare(25, "recipient", "x")
    other = TrafficShare(10, "recipient", "y")
    taken = {key for key in keys if small.takes(key)}
    assert abs(len(taken) / len(keys) - 0.1) < 0.01
    assert taken < {key for key in keys if large.takes(key)}
    both = sum(other.takes(key) for key in taken)
    assert abs(both / len(taken) - 0.1) < 0.03  # independent of each other
    assert not any(TrafficShare(0, "recipient", "x").takes(key) for key in keys)
    assert all(TrafficShare(100, "recipient", "x").takes(key) for key in keys)


def test_the_share_of_a_name_never_changes() -> None:
    """What was decided yesterday, on another machine, by another version."""
    share = TrafficShare(50, "sender", "migration")
    taken = "".join(letter for letter in "abcdefgh" if share.takes(f"{letter}@example.com"))
    assert taken == "bcegh"


def test_case_is_nothing_to_a_share() -> None:
    share = TrafficShare(50, "recipient", "x")
    for name in ("ann", "bob", "carol", "dave"):
        keys = {
            share_key(Facts("25", None, "", NULL, Address(local, domain)), share.by)
            for local, domain in ((name, "example.com"), (name.upper(), "Example.COM"))
        }
        assert len(keys) == 1


def test_a_domain_in_another_script_has_one_side_however_it_is_written() -> None:
    keys = {
        share_key(Facts("25", None, "", path, path), by)
        for path in (Address("ann", "münchen.example"), Address("ann", "XN--mnchen-3ya.example"))
        for by in ("recipient", "sender")
    }
    assert len(keys) == 1


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        (b"example.com\n", ["a@example.com", "a@EXAMPLE.com"], ["a@b.example.com", "<>"]),
        (b"\xef\xbb\xbf@example.com # ours\r\n\r\n# *.x\n", ["a@example.com"], ["a@b.x"]),
        (b"*.example.com\n*@x.org", ["a@b.example.com", "a@x.org"], ["a@example.com"]),
        (b"Bob@example.com\n<>", ["bob@example.com", "<>"], ["ann@example.com"]),
        ("münchen.example\n".encode(), ["a@xn--mnchen-3ya.example", "a@münchen.example"], []),
        (b"bob#1@example.com\nann@example.com\t#1\n", ["bob#1@example.com", "ann@example.com"], ["x@bob"]),
        (b"", [], ["a@b", "<>"]),
    ],
)
def test_lists(text: bytes, inside: list[str], outside: list[str]) -> None:
    found = AddressList.parse(text)
    every = {name: NULL if name == "<>" else Address(*name.split("@")) for name in inside + outside}
    assert [name for name, address in every.items() if address in found] == inside


def test_mistakes_in_a_list_have_their_lines() -> None:
    with pytest.raises(ListError) as caught:
        AddressList.parse(b"ok.example\ntwo words\nb*b@x\n\xff\n<a@b>\n@\nmail?.x\n.x\na\x00b\na.x\xc2\xa0\na.x#y\n")
    assert [line.number for line in caught.value.lines] == [2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
    with pytest.raises(ListError) as caught:
        AddressList.parse(b"two words\n" * 100)
    assert len(caught.value.lines) == 20


def test_a_list_is_replaced_under_the_rules() -> None:
    compiled = router([Rule("x", recipient_files=("odd",)), Rule("y")])
    facts = Facts("25", None, "", NULL, Address("new", "c.example"))
    assert compiled.route(facts).route is ROUTES["y"]
    compiled.replace_list("odd", AddressList(("c.example",)))
    assert compiled.route(facts).route is ROUTES["x"]


def test_an_open_decision_names_what_it_may_come_to() -> None:
    about = (FieldPatterns("x-a", ("a",)),)
    facts = Facts("25", None, "", NULL, Address("a", "a.example"))
    open_to_all = router([Rule("x", fields=about), Rule("y", size=SizeRange(over=9))]).route(facts)
    assert (open_to_all.possible, open_to_all.may_refuse) == ((ROUTES["x"], ROUTES["y"]), True)
    to_two = router([Rule("x", fields=about), Rule("y"), Rule("z")]).route(facts)
    assert (to_two.possible, to_two.may_refuse) == ((ROUTES["x"], ROUTES["y"]), False)
    same = router([Rule("y", fields=about), Rule("y", origin="here")]).route(facts)
    assert (same.route, same.because) == (ROUTES["y"], "here")
    before = router([Rule("x"), Rule("y", fields=about)]).route(facts)
    assert before.route is ROUTES["x"]
    elsewhere = router([Rule("x", fields=about, recipients=("b.example",)), Rule("y")]).route(facts)
    assert elsewhere.route is ROUTES["y"]


def test_the_time_is_asked_anew_every_minute() -> None:
    noon = Hours(ZoneInfo("Europe/Berlin"), ALL_DAYS, 720, 780)
    compiled = router([Rule("x", hours=(noon,)), Rule("y")])
    taken = [
        compiled.route(Facts("25", None, "", NULL, NULL, now=1_782_900_000 + minute * 60)).route
        for minute in range(DAY)
    ]
    assert taken.count(ROUTES["x"]) == 60


DAY = 24 * 60
