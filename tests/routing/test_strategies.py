from collections import Counter
from random import Random
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.routing.health import Health
from waypost.routing.identity import sends_for
from waypost.routing.route import Member, Pool, StrategyName, Upstream
from waypost.routing.standing import NOTHING, Average, Facts, Standing
from waypost.routing.strategies import Turns, explain, order, sticky_key
from waypost.smtp.address import NULL, Address

NAMES = "abcdefgh"
LOADED = ["by the share of quota used, 50% of its quota used"]
SLOW = ["by the time that a message takes: 250 ms, 10% of attempts fail"]


def pool(strategy, *weights):
    members = (Member(Upstream(name, "127.0.0.1", 25), weight) for name, weight in zip(NAMES, weights, strict=False))
    return Pool("pool", tuple(members), strategy)


def asleep(until):
    health = Health()
    health.sleep(0, until, "550 5.4.5 daily limit")
    return health


def names(members):
    return "".join(member.upstream.name for member in members)


def orders(count, of, health=None, random=lambda: 0.5, turns=None, facts=NOTHING):
    turns = turns or Turns()
    return [names(order(of, turns, health or {}, 0, random, facts)) for _ in range(count)]


def test_ordered_is_the_pools_order():
    assert orders(2, pool("ordered", 1, 1, 1)) == ["abc", "abc"]


def test_round_robin_gives_everyone_a_turn_and_the_rest_follows():
    assert orders(5, pool("round_robin", 1, 1, 1)) == ["abc", "bca", "cab", "abc", "bca"]


def test_round_robin_wastes_no_turn_on_a_sleeper_and_gives_its_neighbour_no_second():
    assert orders(4, pool("round_robin", 1, 1, 1), {"b": asleep(9)}) == ["acb", "cab", "acb", "cab"]


def test_round_robin_goes_on_after_a_reload():
    turns = Turns()
    orders(2, pool("round_robin", 1, 1, 1), turns=turns)
    assert orders(2, pool("round_robin", 1, 1, 1, 1), turns=turns) == ["cdab", "dabc"]


def test_weighted_is_smooth_and_exact():
    assert "".join(o[0] for o in orders(7, pool("weighted", 5, 1, 1))) == "aabacaa"
    assert orders(1, pool("weighted", 1, 3, 2)) == ["bca"]


def test_weight_zero_is_for_failover_only():
    assert set(orders(6, pool("weighted", 0, 2, 1))) == {"bca", "cba"}
    assert orders(1, pool("weighted", 0, 0)) == ["ab"]


def test_random_is_every_order_alike():
    chance = Random(1)  # any seed will do, a fixed one keeps the test from failing once a year
    counts = Counter(orders(6000, pool("random", 1, 1, 1), random=chance.random))
    assert len(counts) == 6
    assert all(850 < count < 1150 for count in counts.values())


def test_sleepers_come_last_and_the_one_back_first_leads_them():
    health = {"a": asleep(100), "b": asleep(50), "d": Health()}
    assert orders(1, pool("ordered", 1, 1, 1, 1), health) == ["cdba"]


def test_when_all_sleep_the_best_is_tried_anyway():
    health = {"a": asleep(100), "b": asleep(50)}
    assert orders(1, pool("ordered", 1, 1), health) == ["ba"]
    assert [place.reason for place in explain(pool("ordered", 1, 1), Turns(), health, 0, Random(1).random).places] == [
        "tried anyway, because no other is better: asleep for 50 s: 550 5.4.5 daily limit",
        "only after all others: asleep for 2 min: 550 5.4.5 daily limit",
    ]


@pytest.mark.parametrize(
    ("strategy", "reasons"),
    [
        ("least_used", ["by connections at work: 0", "by connections at work: 5"]),
        ("least_loaded", ["by the share of quota used, 0% of its quota used", *LOADED]),
        ("fastest", ["by the time that a message takes: not measured yet", *SLOW]),
        ("cheapest", ["0 a message, 0% of its quota used", "0 a message, 50% of its quota used"]),
        ("sticky", ["has this recipient, ann@example.org", "is next for this recipient, ann@example.org"]),
        ("ordered", ["number 1 in the pool", "number 3 in the pool"]),
        ("round_robin", ["its turn", "follows in turn"]),
        ("weighted", ["its turn, weight 2 of 4", "weight 1 of 4"]),
        ("random", ["by chance", "by chance"]),
    ],
)
def test_every_place_has_a_reason(strategy, reasons):
    worse = Standing(in_flight=5, load=0.5, latency=0.25, errors=0.1)
    facts = Facts({"a": Standing(), "b": Standing(), "c": worse}, key="ann@example.org")
    ordering = explain(pool(strategy, 2, 1, 1), Turns(), {"b": asleep(9)}, 0, lambda: 0.9, facts)
    assert names(ordering.members) == "acb"
    assert [place.reason for place in ordering.places[:2]] == reasons


def test_an_only_one_says_so():
    assert explain(pool("random", 1), Turns(), {}, 0, lambda: 0).places[0].reason == "the only one in the pool"
    awake = explain(pool("random", 1, 1), Turns(), {"a": asleep(9)}, 0, lambda: 0)
    assert awake.places[0].reason == "the only one that may be tried"


POOLS = st.builds(
    lambda strategy, weights: pool(strategy, *weights),
    st.sampled_from(get_args(StrategyName)),
    st.lists(st.integers(0, 5), min_size=1, max_size=6),
)
SLEEPERS = st.dictionaries(st.sampled_from(NAMES), st.floats(1, 100).map(asleep))


@given(POOLS, SLEEPERS, st.floats(0, 1, exclude_max=True), st.integers(0, 5))
def test_any_order_has_everyone_once_and_an_explanation_takes_no_turn(of, sleepers, chance, before):
    turns = Turns()
    orders(before, of, sleepers, lambda: chance, turns)
    foreseen = explain(of, turns, sleepers, 0, lambda: chance).members
    assert explain(of, turns, sleepers, 0, lambda: chance).members == foreseen
    actual = order(of, turns, sleepers, 0, lambda: chance)
    assert tuple(actual) == foreseen
    assert sorted(names(actual)) == sorted(names(of.members))
    awake = [m.upstream.name not in sleepers for m in actual]
    assert awake == sorted(awake, reverse=True)


@given(st.lists(st.integers(0, 5), min_size=2, max_size=6).filter(any))
def test_weighted_shares_are_exact_in_every_round(weights):
    firsts = Counter(o[0] for o in orders(3 * sum(weights), pool("weighted", *weights)))
    assert [firsts[name] for name in NAMES[: len(weights)]] == [3 * weight for weight in weights]


@given(st.integers(2, 6), st.integers(0, 20))
def test_round_robin_serves_everyone_once_in_any_round(size, before):
    turns, of = Turns(), pool("round_robin", *[1] * size)
    orders(before, of, turns=turns)
    assert sorted(o[0] for o in orders(size, of, turns=turns)) == sorted(NAMES[:size])


def standing(**of):
    """`standing(load="a5 b1")`: the load of a is 5, of b 1."""
    ((what, text),) = of.items()
    return Facts({word[0]: Standing(**{what: float(word[1:])}) for word in text.split()})


@pytest.mark.parametrize(
    ("strategy", "what"), [("least_used", "in_flight"), ("least_loaded", "load"), ("fastest", "latency")]
)
def test_the_least_comes_first_and_equals_take_turns(strategy, what):
    three = pool(strategy, 1, 1, 1)
    assert orders(3, three, facts=standing(**{what: "a3 b1 c2"})) == ["bca"] * 3
    assert {each[0] for each in orders(6, three, facts=standing(**{what: "a1 b1 c2"}))} == {"a", "b"}
    firsts = Counter(each[0] for each in orders(30, three, facts=standing(**{what: "a1 b1 c1"})))
    assert firsts == {"a": 10, "b": 10, "c": 10}


def test_one_that_was_never_measured_is_tried():
    assert orders(1, pool("fastest", 1, 1), facts=Facts({"a": Standing(latency=0.01), "b": Standing()})) == ["ba"]


def test_fastest_leaves_one_alone_that_has_only_ever_failed() -> None:
    once, often = Standing(errors=0.2), Standing(errors=0.36)
    assert orders(1, pool("fastest", 1, 1), facts=Facts({"a": once, "b": Standing(latency=9)})) == ["ab"]
    assert orders(1, pool("fastest", 1, 1), facts=Facts({"a": often, "b": Standing(latency=9)})) == ["ba"]


def test_what_fails_often_is_slow():
    facts = Facts({"a": Standing(latency=0.1, errors=0.8), "b": Standing(latency=0.3)})
    assert orders(1, pool("fastest", 1, 1), facts=facts) == ["ba"]


def test_cheapest_is_by_cost_then_by_load_then_by_place():
    members = [Member(Upstream(n, "x", 25, cost=cost)) for n, cost in zip("abcd", (2, 1, 1, 1), strict=True)]
    of = Pool("pool", tuple(members), "cheapest")
    assert orders(2, of, facts=standing(load="b0.5 c0.1 d0.1")) == ["cdba"] * 2


def test_spent_upstreams_come_last_and_say_why():
    facts = Facts(spent={"a": (60.0, "the quota of a is spent"), "c": (5.0, "the quota of c is spent")})
    of = pool("round_robin", 1, 1, 1, 1)
    assert orders(3, of, {"d": asleep(9)}, facts=facts) == ["bdca"] * 3
    reasons = [place.reason for place in explain(of, Turns(), {}, 0, lambda: 0, facts).places]
    assert reasons[2:] == [f"only when there is room again: the quota of {name} is spent" for name in "ca"]


def test_upstreams_that_do_not_send_for_it_are_left_out_unless_all_are():
    of = pool("round_robin", 1, 1, 1)
    assert orders(2, of, facts=Facts(strange=frozenset("b"))) == ["ac", "ca"]
    assert orders(1, of, facts=Facts(strange=frozenset("abc"))) == ["abc"]


@given(st.integers(2, 8), st.integers(0, 7))
def test_sticky_is_stable_when_an_upstream_leaves(size, leaving):
    leaving %= size
    of = pool("sticky", *[1] * size)
    less = Pool("pool", of.members[:leaving] + of.members[leaving + 1 :], "sticky")
    for key in range(60):
        before = orders(1, of, facts=Facts(key=f"u{key}@example.org"))[0]
        after = orders(1, less, facts=Facts(key=f"u{key}@example.org"))[0]
        assert after == before.replace(NAMES[leaving], "")
        asleep_now = orders(1, of, {NAMES[leaving]: asleep(9)}, facts=Facts(key=f"u{key}@example.org"))[0]
        assert asleep_now == after + NAMES[leaving]


def test_sticky_shares_keys_by_weight():
    of = pool("sticky", 3, 1)
    firsts = Counter(orders(1, of, facts=Facts(key=f"u{key}"))[0][0] for key in range(2000))
    assert firsts["a"] == pytest.approx(1500, abs=80)


def test_what_sticky_goes_by():
    ann, bob = Address("Ann", "Example.com"), Address("bob", "example.org")
    keys = [
        sticky_key(Pool("p", (), "sticky", by), ann, bob, account)
        for by in ("recipient", "sender", "account")
        for account in ("app", None)
    ]
    assert keys == ["bob@example.org"] * 2 + ["ann@example.com"] * 2 + ["app", ""]
    assert sticky_key(Pool("p", (), "ordered"), ann, bob, "app") == ""


def test_an_average_moves_and_fades():
    average = Average()
    assert (average.latency(0), average.errors(0)) == (None, 0)
    average.took(1.0, 0)
    assert average.latency(0) == 1
    for _ in range(30):
        average.took(0.1, 10)
    assert average.latency(10) == pytest.approx(0.1, abs=0.01)
    assert average.latency(10) > average.latency(60) > average.latency(3000)
    for _ in range(30):
        average.failed(60)
    assert average.errors(60) > 0.95
    assert average.errors(3600) < 0.01
    assert Standing(latency=1, errors=1).expected == pytest.approx(20)


def test_for_whom_an_upstream_sends():
    limited = Upstream("a", "x", 25, senders=("*@example.com", "me@example.org"))
    allowed = [("x", "EXAMPLE.com"), ("me", "example.org")]
    assert all(sends_for(limited, Address(*each)) for each in allowed)
    assert not any(sends_for(limited, Address(*each)) for each in (("you", "example.org"), ("x", "sub.example.com")))
    assert sends_for(limited, NULL)
    assert sends_for(Upstream("a", "x", 25), Address("any", "body"))
