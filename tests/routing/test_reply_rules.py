"""Rules of the user's own words, and what is remembered of them."""

from hypothesis import given
from hypothesis import strategies as st

from waypost.mail.outcome import Phase
from waypost.routing.classify import BUILT_IN, ReplyRules, classify
from waypost.routing.verdict import Kind, ReplyRule, verdict
from waypost.smtp.reply import Reply

TEXTS = st.text(alphabet="ab *.", max_size=30)


def rule_with(*phrases):
    return ReplyRule(verdict(Kind.AUTH, "mine"), frozenset(Phase), frozenset(), frozenset(), None, phrases)


@given(st.lists(st.text(alphabet="ab.", min_size=1, max_size=3), min_size=1, max_size=4), TEXTS)
def test_a_phrase_is_found_as_by_hand(pieces, text):
    def by_hand(pieces, text):
        if not pieces:
            return True
        first, *rest = pieces
        return any(text.startswith(first, at) and by_hand(rest, text[at + len(first) :]) for at in range(len(text)))

    assert rule_with(tuple(pieces)).matches(Phase.DOT, Reply(550, (text,))) is by_hand(pieces, text)


def test_case_does_not_matter():
    assert rule_with(("daily", "limit")).matches(Phase.DOT, Reply(550, ("Your DAILY", "sending Limit")))


@given(st.sampled_from(list(Phase)), st.integers(400, 599), st.lists(TEXTS, max_size=2).map(tuple))
def test_what_is_remembered_is_what_was_found(phase, code, lines):
    rules = ReplyRules([rule_with(("ab",))])
    first = classify(phase, Reply(code, lines), rules)
    assert classify(phase, Reply(code, lines), rules) == first
    assert classify(phase, Reply(code, lines), ReplyRules(rules.own)) == first


def test_a_reply_that_was_judged_is_not_judged_again_in_its_phase():
    looks = 0

    class Counting(ReplyRule):
        def matches(self, phase, answer):
            nonlocal looks
            looks += 1
            return super().matches(phase, answer)

    counting = Counting(verdict(Kind.AUTH, "mine"), frozenset(Phase), frozenset(), frozenset(), None, (("x",),))
    rules = ReplyRules([counting])
    for _ in range(3):
        classify(Phase.DOT, Reply(550, ("no",), (5, 7, 1)), rules)
    assert looks == 1
    classify(Phase.RCPT, Reply(550, ("no",), (5, 7, 1)), rules)
    classify(Phase.DOT, Reply(550, ("no",)), rules)
    assert looks == 3
    classify(Phase.DOT, Reply(250, ("yes",)), rules)
    assert looks == 3, "success is looked up without any rule"


def test_what_is_remembered_is_bounded():
    rules = ReplyRules([rule_with(("x",))])
    for number in range(2000):
        classify(Phase.DOT, Reply(550, (f"no, {number}",)), rules)
    assert rules.judge.cache_info().currsize <= 512


def test_rules_are_values():
    one, same, other = ReplyRules([rule_with(("a",))]), ReplyRules([rule_with(("a",))]), ReplyRules([rule_with(("b",))])
    assert one == same
    assert hash(one) == hash(same)
    assert one != other
    assert ReplyRules() == BUILT_IN
