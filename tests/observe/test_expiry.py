"""When certificates end: who is told, and how often."""

import pytest
from structlog.testing import capture_logs

from waypost.observe.expiry import Expiry, Shown
from waypost.routing.probing import DAY, Certificate

NOW = 1_700_000_000.0


def shown(days, owner="upstream", name="gmail"):
    return Shown(owner, name, Certificate(NOW + days * DAY, ("a.example",), "00"))


def heard(expiry, certificates, now=NOW):
    with capture_logs() as records:
        expiry.look(certificates, now)
    return [(record["log_level"], record["event"], record["days_left"]) for record in records]


@pytest.mark.parametrize("days", [31, 400])
def test_nothing_is_said_of_one_that_is_valid_for_long(days):
    assert heard(Expiry(), [shown(days)]) == []


def test_a_word_at_each_mark_and_one_a_day_from_the_end_on():
    expiry, said = Expiry(), []
    for hour in range(35 * 24):
        said += [(level, left) for level, _, left in heard(expiry, [shown(32)], NOW + hour * 3600)]
    assert said == [*(("warning", days) for days in (30, 14, 7, 3, 1)), *(("error", days) for days in (0, -1, -2))]


def test_one_that_is_seen_late_is_told_of_once():
    expiry = Expiry()
    assert heard(expiry, [shown(5)]) == [("warning", "certificate_expires_soon", 5)]
    assert heard(expiry, [shown(5)]) == []
    assert heard(expiry, [shown(-1.5)]) == [("error", "certificate_expired", -2)]


def test_a_renewal_is_another_certificate_and_owners_are_told_apart():
    expiry = Expiry()
    assert len(heard(expiry, [shown(2), shown(2, "listener", "gmail")])) == 2
    assert heard(expiry, [shown(90)]) == []
    assert heard(expiry, [shown(2.5)]) == [("warning", "certificate_expires_soon", 2)]


def test_the_name_is_that_of_the_listener_or_upstream():
    with capture_logs() as records:
        Expiry().look([shown(2, "listener", "0.0.0.0:25")], NOW)
    assert records[0]["listener"] == "0.0.0.0:25"
