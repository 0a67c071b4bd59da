"""How fast one may guess: by address, by account, and whom that does not touch. The clock is an argument."""

from hypothesis import given
from hypothesis import strategies as st

from waypost.net import throttle
from waypost.net.settings import LoginLimits
from waypost.net.throttle import Throttle, network_of

LIMITS = LoginLimits()


def guesses(it: Throttle, address: str, account: str, count: int, now: float = 0.0) -> list[float | None]:
    """The delay before each of some wrong guesses, made one after the other."""
    delays = []
    for _ in range(count):
        delay = it.delay(address, account, now)
        delays.append(delay)
        now += delay or 0.0
        it.failed(address, account, now)
    return delays


def test_delays_grow_and_have_an_end() -> None:
    assert guesses(Throttle(LIMITS), "192.0.2.1", "ann", 9) == [0, 0, 0.5, 1, 2, 4, 8, 16, 16]


def test_limits_are_configured() -> None:
    it = Throttle(LoginLimits(failures=3, longest_delay=1, forget=10))
    assert guesses(it, "192.0.2.1", "ann", 6) == [0, 0, 0, 0.5, 1, 1]
    assert it.delay("192.0.2.1", "ann", 11.6) == 1
    assert it.delay("192.0.2.1", "ann", 12.6) == 0


def test_an_address_that_tries_many_accounts_is_held_back() -> None:
    it = Throttle(LIMITS)
    for number in range(5):
        guesses(it, "192.0.2.1", f"account{number}", 1)
    assert it.delay("192.0.2.1", "ann", 100.0) == 4
    assert it.delay("192.0.2.2", "ann", 0.0) == 0


def test_an_account_that_is_tried_from_many_addresses_is_held_back() -> None:
    it = Throttle(LIMITS)
    for number in range(5):
        guesses(it, f"192.0.2.{number}", "ann", 1)
    assert it.delay("198.51.100.1", "ann", 100.0) == 4
    assert it.delay("198.51.100.1", "bob", 0.0) == 0


def test_strangers_do_not_shut_out_the_accounts_own_address() -> None:
    it = Throttle(LIMITS)
    it.succeeded("192.0.2.1", "ann", 0.0)
    for number in range(100):
        guesses(it, f"198.51.100.{number}", "ann", 1)
    assert it.delay("198.51.100.200", "ann", 100.0) == 16
    assert it.delay("192.0.2.1", "ann", 0.0) == 0


def test_neighbours_behind_one_address_do_not_shut_each_other_out() -> None:
    it = Throttle(LIMITS)
    it.succeeded("192.0.2.1", "ann", 0.0)
    guesses(it, "192.0.2.1", "printer", 20)
    assert it.delay("192.0.2.1", "ann", 0.0) == 0


def test_an_address_of_the_account_is_held_back_by_its_own_failures() -> None:
    it = Throttle(LIMITS)
    it.succeeded("192.0.2.1", "ann", 0.0)
    assert guesses(it, "192.0.2.1", "ann", 5) == [0, 0, 0.5, 1, 2]
    it.succeeded("192.0.2.1", "ann", 4.0)
    assert it.delay("192.0.2.1", "ann", 4.0) == 0


def test_a_success_with_ones_own_account_is_no_licence_to_guess_at_others() -> None:
    it = Throttle(LIMITS)
    for _ in range(10):
        guesses(it, "192.0.2.1", "ann", 1)
        it.succeeded("192.0.2.1", "mallory", 0.0)
    assert it.delay("192.0.2.1", "bob", 100.0) == 16


def test_those_who_come_together_wait_one_behind_the_other_or_are_turned_away() -> None:
    it = Throttle(LIMITS)
    guesses(it, "192.0.2.1", "ann", 5)
    assert [it.delay("192.0.2.1", "ann", 20.0) for _ in range(10)] == [4, 8, 12, 16, 20, 24, 28, 32, None, None]
    assert it.delay("192.0.2.1", "ann", 60.0) == 4, "who comes later is not held back by them"


def test_an_ipv6_network_is_one_client() -> None:
    it = Throttle(LIMITS)
    for number in range(5):
        guesses(it, f"2001:db8:0:1::{number:x}", f"account{number}", 1)
    assert it.delay("2001:db8:0:1:ffff::1", "ann", 100.0) == 4
    assert it.delay("2001:db8:0:2::1", "ann", 0.0) == 0


def test_networks() -> None:
    assert network_of("2001:db8::1%eth0") == network_of("2001:db8::2")
    assert network_of("::ffff:192.0.2.1") == network_of("192.0.2.1") == "192.0.2.1"
    assert network_of("unix") == "unix"


def test_memory_is_bounded(monkeypatch) -> None:
    monkeypatch.setattr(throttle, "_MAX_TRACKED", 10)
    monkeypatch.setattr(throttle, "_MAX_FAMILIAR", 10)
    it = Throttle(LIMITS)
    for number in range(100):
        guesses(it, f"192.0.2.{number}", f"account{number}", 1)
        it.succeeded(f"198.51.100.{number}", f"other{number}", 0.0)
    assert repr(it) == "Throttle(10 with failures, 10 familiar)"


addresses = st.sampled_from(["192.0.2.1", "192.0.2.2", "2001:db8::1"])
accounts = st.sampled_from(["ann", "bob"])
steps = st.lists(st.tuples(st.sampled_from(["try", "fail", "succeed"]), addresses, accounts, st.floats(0, 700)))


@given(steps)
def test_a_delay_is_never_too_long_and_always_ends(made: list[tuple[str, str, str, float]]) -> None:
    it, now = Throttle(LIMITS), 0.0
    for what, address, account, later in made:
        now += later
        if what == "try":
            delay = it.delay(address, account, now)
            assert delay is None or 0 <= delay <= 2 * LIMITS.longest_delay
        elif what == "fail":
            it.failed(address, account, now)
        else:
            it.succeeded(address, account, now)
    for address, account in (("192.0.2.1", "ann"), ("2001:db8::1", "bob")):
        assert it.delay(address, account, now + LIMITS.forget + 1) == 0
