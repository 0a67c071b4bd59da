from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.routing.health import Health
from waypost.routing.route import Member, Pool, Upstream
from waypost.routing.strategies import Turns, explain, order

NAMES = "abcdefgh"


def pool(strategy, *weights):
    members = (Member(Upstream(name, "127.0.0.1", 25), weight) for name, weight in zip(NAMES, weights, strict=False))
    return Pool("pool", tuple(members), strategy)


def asleep(until):
    health = Health()
    health.sleep(0, until, "550 5.4.5 daily limit")
    return health


def names(members):
    return "".join(member.upstream.name for member in members)


def orders(count, of, health=None, random=lambda: 0.5, turns=None):
    turns = turns or Turns()
    return [names(order(of, turns, health or {}, 0, random)) for _ in range(count)]


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
        ("ordered", ["number 1 in the pool", "number 3 in the pool"]),
        ("round_robin", ["its turn", "follows in turn"]),
        ("weighted", ["its turn, weight 2 of 4", "weight 1 of 4"]),
        ("random", ["by chance", "by chance"]),
    ],
)
def test_every_place_has_a_reason(strategy, reasons):
    ordering = explain(pool(strategy, 2, 1, 1), Turns(), {"b": asleep(9)}, 0, lambda: 0.9)
    assert names(ordering.members) == "acb"
    assert [place.reason for place in ordering.places[:2]] == reasons


def test_an_only_one_says_so():
    assert explain(pool("random", 1), Turns(), {}, 0, lambda: 0).places[0].reason == "the only one in the pool"
    awake = explain(pool("random", 1, 1), Turns(), {"a": asleep(9)}, 0, lambda: 0)
    assert awake.places[0].reason == "the only one that may be tried"


POOLS = st.builds(
    lambda strategy, weights: pool(strategy, *weights),
    st.sampled_from(["ordered", "round_robin", "weighted", "random"]),
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
