import re
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.routing.facts import Facts
from waypost.routing.patterns import AddressPatterns, NamePatterns
from waypost.routing.reasons import explain
from waypost.routing.route import Account, Pool, Route, Routes, Rule
from waypost.routing.rules import NOT_FOR_ACCOUNT, NOT_FOR_CLIENT, Router
from waypost.smtp.address import NULL, Address, parse_mailbox


def routes(*rules, names=("a", "b", "c"), accounts=()):
    return Routes(
        tuple(rules),
        {name: Route(name, Pool(name, ())) for name in names},
        {account.name: account for account in accounts},
    )


def address(text):
    if text == "<>":
        return NULL
    return Address(text, "") if "@" not in text else parse_mailbox(text)


def facts(listener="25", account=None, client="192.0.2.1", reverse_path="from@x.org", recipient="to@y.org"):
    return Facts(listener, account, client, address(reverse_path), address(recipient))


def taken(router, **about):
    route = router.route(facts(**about)).route
    return route and route.name


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("bob@example.com", ["bob@example.com", "Bob@Example.COM", "bob@example.com."], ["rob@example.com", "bob@x"]),
        ("example.com", ["a@example.com", "a@EXAMPLE.com"], ["a@b.example.com", "a@notexample.com", "<>"]),
        ("@example.com", ["a@example.com"], ["a@b.example.com"]),
        ("*@example.com", ["a@example.com", '"a b"@example.com'], ["a@example.com.org"]),
        ("*.example.com", ["a@b.example.com", "a@c.b.example.com"], ["a@example.com", "a@bexample.com"]),
        ("*@*.example.com", ["a@b.example.com"], ["a@example.com"]),
        ("a?c*@example.com", ["abc@example.com", "abcdef@example.com"], ["ac@example.com", "abc@example.org"]),
        ("*+news@mail?.*.org", ["x+news@mail1.a.b.org"], ["x+news@mail.a.org", "x@mail1.a.org"]),
        ("*", ["a@b", "<>", "postmaster", "a@[192.0.2.1]"], []),
        ("*@*", ["a@b"], ["<>"]),
        ("<>", ["<>"], ["a@b", "postmaster"]),
        ("postmaster", ["postmaster", "Postmaster"], ["postmaster@example.com", "<>"]),
        ("*@[192.0.2.1]", ["a@[192.0.2.1]"], ["a@[192.0.2.2]", "a@1"]),
        ("a[bc]@example.com", [], ["ab@example.com"]),  # no character classes
        (
            "*@münchen.example",
            ["a@münchen.example", "a@MÜNCHEN.example", "a@xn--mnchen-3ya.example"],
            ["a@munchen.example"],
        ),
        ("*@*.münchen.example", ["a@b.xn--mnchen-3ya.example"], ["a@münchen.example"]),
        ("*@evil.*", ["a@evil.org"], ['"x@evil.org"@good.org', '"x@evil."@good.org']),
        ("*@evil.org", [], ['"x@evil.org"@good.org']),
    ],
)
def test_address_patterns(pattern, matching, others):
    patterns = AddressPatterns([(pattern,)])
    assert [text for text in matching + others if patterns.mask(address(text))] == matching


def test_a_set_of_patterns_answers_for_every_rule():
    patterns = AddressPatterns([("a@x", "y"), (), ("*@x",), ("?@x", "<>"), ("*.x",)])
    assert patterns.mask(address("a@x")) == 0b01111
    assert patterns.mask(address("b@y")) == 0b00011
    assert patterns.mask(address("<>")) == 0b01010
    assert patterns.mask(address("b@c.x")) == 0b10010


def test_name_patterns():
    names = NamePatterns([("next*",), ("Gitea", "app?"), (), ("*",)])
    assert names.mask("NextCloud") == 0b1101
    assert names.mask("gitea") == 0b1110
    assert names.mask("app1") == 0b1110
    assert names.mask(None) == 0b0100


LETTERS = st.text("ab*?.", max_size=8)


@given(LETTERS, st.text("ab.", max_size=10))
def test_a_glob_is_what_the_slow_way_says(pattern, text):
    slow = re.compile("".join({"*": ".*", "?": "."}.get(c, re.escape(c)) for c in pattern))
    assert bool(NamePatterns([(pattern,)]).mask(text)) == bool(slow.fullmatch(text))


def test_many_stars_are_no_trap():
    assert NamePatterns([("*a" * 30 + "b",)]).mask("a" * 5000) == 0


def test_the_first_rule_whose_conditions_all_match_decides():
    router = Router(
        routes(
            Rule("a", listeners=frozenset({"465"}), recipients=("y.org",)),
            Rule("b", client_networks=(ip_network("10.0.0.0/8"), ip_network("2001:db8::/32"))),
            Rule("c", accounts=("next*",), reverse_paths=("x.org", "<>")),
        )
    )
    assert taken(router, listener="465") == "a"
    assert taken(router, listener="465", client="10.1.2.3") == "a"
    assert taken(router, client="10.1.2.3") == "b"
    assert taken(router, client="::ffff:10.1.2.3") == "b"
    assert taken(router, client="2001:db8::1") == "b"
    assert taken(router, account="nextcloud") == "c"
    assert taken(router, account="nextcloud", reverse_path="<>") == "c"
    assert taken(router, account="nextcloud", reverse_path="a@z") is None
    assert taken(router) is None
    assert taken(router, client="/run/socket") is None


def test_without_a_matching_rule_the_accounts_route_is_taken():
    app = Account("app", "secret", route="b")
    router = Router(routes(Rule("a", recipients=("special.org",)), accounts=[app]))
    assert taken(router, account="app") == "b"
    assert taken(router, account="app", recipient="x@special.org") == "a"
    assert router.route(facts(account="app")).because == "the route of account app"


def test_the_only_route_is_taken_when_there_are_no_rules():
    assert taken(Router(routes(names=("a",)))) == "a"
    assert taken(Router(routes(names=("a", "b")))) is None


def test_rules_that_do_not_match_leave_nobody_to_the_only_route():
    router = Router(routes(Rule("a", recipients=("y.org",)), names=("a",)))
    assert taken(router) == "a"
    assert taken(router, recipient="x@elsewhere.org") is None


def test_who_may_not_be_routed_is_refused_for_good():
    router = Router(routes(Rule("a", recipients=("y.org",)), accounts=[Account("app", "")]))
    assert router.route(facts(recipient="x@z")).reply == NOT_FOR_CLIENT
    assert router.route(facts(recipient="x@z", account="app")).reply == NOT_FOR_ACCOUNT
    assert str(NOT_FOR_CLIENT).startswith("550 5.7.1 ")
    assert router.route(facts()).reply is None


def test_a_route_that_is_not_there_is_found_at_once():
    with pytest.raises(ValueError, match=r"waypost\.yaml:3:5 leads to route 'z'"):
        Router(routes(Rule("z", origin="waypost.yaml:3:5")))
    with pytest.raises(ValueError, match="Account app leads to route 'z'"):
        Router(routes(accounts=[Account("app", "", route="z")]))


def test_explanations_name_the_condition_that_fails():
    router = Router(
        routes(
            Rule("a", listeners=frozenset({"465", "587"})),
            Rule("a", accounts=("app",)),
            Rule("a", client_networks=(ip_network("10.0.0.0/8"),)),
            Rule("a", reverse_paths=("<>", "z.org")),
            Rule("a", recipients=("z.org",)),
            Rule("b", recipients=("y.org",), origin="waypost.yaml:9:5"),
            Rule("c"),
        )
    )
    judged = explain(router, facts())
    assert [(j.matched, j.why) for j in judged] == [
        (False, "listener 25 is not 465 or 587"),
        (False, "a client without an account is not app"),
        (False, "client 192.0.2.1 is not in 10.0.0.0/8"),
        (False, "reverse-path <from@x.org> is not <> or z.org"),
        (False, "recipient <to@y.org> is not z.org"),
        (True, ""),
        (True, "it matches, but waypost.yaml:9:5 comes first"),
    ]


TEXTS = st.sampled_from(["a@x", "b@x", "a@y.x", "A@X", "<>", "postmaster"])
PATTERNS = st.lists(st.sampled_from(["a@x", "x", "*.x", "?@x", "*", "<>", "b@*"]), max_size=2).map(tuple)
RULES = st.lists(
    st.builds(
        Rule,
        st.just("a"),
        listeners=st.sets(st.sampled_from(["25", "465"])).map(frozenset),
        accounts=st.lists(st.sampled_from(["app", "a*", "other"]), max_size=2).map(tuple),
        client_networks=st.lists(st.sampled_from(["10.0.0.0/8", "0.0.0.0/0", "::/0"]).map(ip_network), max_size=2).map(
            tuple
        ),
        reverse_paths=PATTERNS,
        recipients=PATTERNS,
    ),
    max_size=8,
)
FACTS = st.builds(
    Facts,
    st.sampled_from(["25", "465"]),
    st.sampled_from([None, "app", "x"]),
    st.sampled_from(["10.0.0.1", "::1", ""]),
    TEXTS.map(address),
    TEXTS.map(address),
)


@given(RULES, st.lists(FACTS, min_size=1, max_size=4))
def test_the_decision_is_the_first_match_of_the_explanation(rules, many):
    router = Router(routes(*rules, names=("a", "b")))
    for about in many:
        matched = [judged.rule for judged in explain(router, about) if judged.matched]
        decision = router.route(about)
        assert decision.rule is (matched[0] if matched else None)
        assert (decision.reply is None) == (decision.route is not None)


def test_whom_an_account_may_send_as():
    router = Router(
        routes(accounts=[Account("app", "", may_send_as=("*@example.com", "boss@x.org")), Account("any", "")])
    )
    assert router.may_send_as("app", address("a@example.com"))
    assert router.may_send_as("app", address("BOSS@x.org"))
    assert not router.may_send_as("app", address("a@x.org"))
    assert not router.may_send_as("app", address('"a@example.com"@x.org'))
    assert router.may_send_as("app", NULL)
    assert router.may_send_as("any", address("a@x.org"))
    assert router.may_send_as(None, address("a@x.org"))
    assert not router.may_send_as("nobody", address("a@x.org"))
    assert router.may_send_as("nobody", NULL)
