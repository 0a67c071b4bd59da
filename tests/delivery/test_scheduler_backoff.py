"""When a delivery is tried again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.delivery.backoff import next_attempt_at
from waypost.routing.route import Backoff

NOW = 1_000_000_000.0
STEADY = Backoff(jitter=0)


@pytest.mark.parametrize(
    ("attempts", "interval"),
    [(1, 60), (2, 120), (3, 300), (4, 600), (5, 1200), (6, 1800), (7, 3600), (8, 3600), (1000, 3600)],
)
def test_intervals_grow_and_the_last_is_repeated(attempts: int, interval: float) -> None:
    assert next_attempt_at(STEADY, attempts, NOW, 0.5) == NOW + interval


@given(st.integers(1, 100), st.floats(0, 1), st.floats(0, 1))
def test_chance_spreads_within_the_jitter(attempts: int, jitter: float, chance: float) -> None:
    interval = next_attempt_at(STEADY, attempts, NOW, 0.5) - NOW
    at = next_attempt_at(Backoff(jitter=jitter), attempts, NOW, chance)
    assert interval * (1 - jitter) - 0.001 <= at - NOW <= interval * (1 + jitter) + 0.001
