"""When a fault strikes: conditions, counting and chance."""

from waypost.sink.faults import Close, Delay, Faults, Phase, Say
from waypost.sink.grammar import parse_faults


def faults(*texts, seed=1):
    return Faults(parse_faults(texts), seed)


def strikes(struck, times, phase=Phase.MAIL, **facts):
    """1 for each time that something was done wrong, 0 for each that nothing was."""
    return [int(bool(struck.strike(phase, kept=0, **facts))) for _ in range(times)]


def test_only_at_its_phase():
    struck = faults("mail=close")

    assert struck.strike(Phase.MAIL, kept=0) == [Close()]
    assert struck.strike(Phase.RCPT, kept=0) == []


def test_first_and_every():
    assert strikes(faults("mail=close first:2"), 4) == [1, 1, 0, 0]
    assert strikes(faults("mail=close every:3"), 7) == [0, 0, 1, 0, 0, 1, 0]
    assert strikes(faults("mail=close every:2 first:4"), 8) == [0, 1, 0, 1, 0, 0, 0, 0]


def test_only_passages_that_the_other_conditions_allow_are_counted():
    struck = faults("rcpt=550 to:*@b.example first:1")

    assert strikes(struck, 2, Phase.RCPT, recipients=["x@a.example"]) == [0, 0]
    assert strikes(struck, 2, Phase.RCPT, recipients=["x@B.example"]) == [1, 0]


def test_after_messages():
    struck = faults("mail=close after:2")

    assert [bool(struck.strike(Phase.MAIL, kept=kept)) for kept in (0, 1, 2, 3)] == [False, False, True, True]


def test_one_recipient_of_several_is_enough_and_the_null_path_has_a_name():
    struck = faults("dot=close to:a@* from:<>")

    assert strikes(struck, 1, Phase.DOT, recipients=["b@x.example", "a@x.example"]) == [1]
    assert strikes(struck, 1, Phase.DOT, recipients=["a@x.example"], reverse_path="c@x.example") == [0]
    assert strikes(struck, 1, Phase.DOT, recipients=["b@x.example"]) == [0]


def test_delays_come_on_top_of_the_first_other_fault():
    struck = faults("mail=delay 1", "mail=451", "mail=delay 2", "mail=550")

    first, second = struck.strike(Phase.MAIL, kept=0)
    assert first == Delay(1)
    assert isinstance(second, Say)
    assert second.reply.code == 451


def test_chance_is_repeatable_and_about_right():
    one, two, other = (strikes(faults("mail=close chance:30%", seed=seed), 1000) for seed in (7, 7, 8))

    assert one == two != other
    assert 230 < sum(one) < 370


def test_other_rules_begin_to_count_anew():
    struck = faults("mail=close first:1")
    assert strikes(struck, 2) == [1, 0]

    struck.replace(struck.rules)
    assert strikes(struck, 2) == [1, 0]
