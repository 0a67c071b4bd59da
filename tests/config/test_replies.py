"""Rules on replies in the configuration: which comes first, what they match, and which make no sense."""

import pytest

from waypost.mail.outcome import Phase
from waypost.routing.classify import BUILT_IN, Kind, classify
from waypost.smtp.reply import from_wire

BASE = """\
listeners: [{address: "127.0.0.1:2525", mode: submission, trusted_networks: [127.0.0.0/8]}]
upstreams:
  it: {preset: gmail, replies: [OWN]}
  other: {address: "b.example.com:25", tls: starttls}
pools: {p: {upstreams: [it, other]}}
routes: {r: {primary: p}}
spool: spool
replies: [COMMON]
"""


def said(words):
    code, _, rest = words.partition(" ")
    return from_wire(int(code), [rest.encode()])


def judged(load_text, rule, words, phase=Phase.DOT):
    replies = load_text(BASE.replace("OWN", rule).replace("COMMON", "")).settings.upstreams["it"].replies
    return classify(phase, said(words), replies)


def test_the_upstreams_own_come_first_then_the_common_then_the_presets_then_those_built_in(load_text):
    text = BASE.replace("OWN", "{code: 550, text: one, means: transient}").replace(
        "COMMON", "{code: 550, text: [one, two], means: login, name: common}"
    )
    upstreams = load_text(text).settings.upstreams
    found = [
        classify(Phase.DOT, said(words), upstreams["it"].replies).rule
        for words in ("550 one", "550 5.4.5 two", "550 5.4.5 three", "550 four")
    ]
    assert found == ["upstreams.it.replies[0]", "common", "gmail-daily-limit", "permanent"]
    assert classify(Phase.DOT, said("550 one"), upstreams["other"].replies).rule == "common"


def test_without_rules_there_is_nothing_but_what_is_built_in(load_text):
    text = BASE.replace("OWN", "").replace("COMMON", "")
    assert load_text(text).settings.upstreams["other"].replies is BUILT_IN


@pytest.mark.parametrize(
    ("means", "kind"),
    [
        ("quota", Kind.QUOTA),
        ("transient", Kind.TRANSIENT),
        ("permanent", Kind.PERMANENT),
        ("sender", Kind.SENDER_REFUSED),
        ("login", Kind.AUTH),
        ("unavailable", Kind.SITE),
    ],
)
def test_meanings(load_text, means, kind):
    assert judged(load_text, f"{{text: go away, means: {means}}}", "550 Do GO away").kind is kind


@pytest.mark.parametrize(
    ("rule", "words", "phase", "matches"),
    [
        ("text: 'daily*limit'", "550 your DAILY sending Limit", Phase.DOT, True),
        ("text: 'daily*limit'", "550 the limit is a daily one", Phase.DOT, False),
        ("text: '*limit*'", "451 limit", Phase.DOT, True),
        ("text: [abc, limit]", "451 the limit", Phase.DOT, True),
        ("text: '(a+)+$'", "451 aaaaaaaaaaaaaaaaaaaaaaaaaaaa", Phase.DOT, False),
        ("text: '(a+)+$'", "451 (a+)+$", Phase.DOT, True),
        ("code: 451", "452 no", Phase.DOT, False),
        ("code: 4yz", "452 no", Phase.DOT, True),
        ("code: [451, 452]", "452 no", Phase.DOT, True),
        ("enhanced: x.4.5", "450 4.4.5 no", Phase.DOT, True),
        ("enhanced: 5.4.5", "450 4.4.5 no", Phase.DOT, False),
        ("code: 450, phase: rcpt", "450 no", Phase.RCPT, True),
        ("code: 450, phase: rcpt", "450 no", Phase.MAIL, False),
        ("code: 450", "450 no", Phase.GREETING, True),
    ],
)
def test_conditions(load_text, rule, words, phase, matches):
    verdict = judged(load_text, f"{{{rule}, means: login, name: mine}}", words, phase)
    assert (verdict.rule == "mine") is matches


def test_a_meaning_of_one_message_is_none_of_a_greeting(load_text):
    assert judged(load_text, "{code: 5yz, means: permanent}", "550 no", Phase.GREETING).kind is Kind.SITE


@pytest.mark.parametrize("words", ["250 go away", "354 go away", "199 go away"])
def test_no_rule_decides_what_acceptance_is(load_text, words):
    assert judged(load_text, "{text: go away, means: login}", words).rule in ("accepted", "in-doubt-nonsense")


def test_a_sleep_is_handed_on(load_text):
    assert judged(load_text, "{code: 550, means: quota, sleep: 24h}", "550 no").sleep == 86400


@pytest.mark.parametrize(
    ("rule", "key", "words", "advice"),
    [
        ("{means: quota}", "", "matches every refusal", "`code`, `enhanced` or `text`"),
        ("{code: 250, means: permanent}", ".code[0]", "250 is no refusal", "550 or 4yz"),
        ("{code: 2yz, means: quota}", ".code[0]", "2yz is no refusal", "550 or 4yz"),
        ("{code: 55, means: quota}", ".code[0]", "not a reply code", "5yz"),
        ("{code: 650, means: quota}", ".code[0]", "not a reply code", "5yz"),
        ("{code: ٥٥٠, means: quota}", ".code[0]", "not a reply code", "5yz"),
        ("{enhanced: 2.1.5, means: quota}", ".enhanced[0]", "not an enhanced status code", "5.4.5"),
        ("{code: 550, enhanced: 4.4.5, means: quota}", ".enhanced[0]", "does not come with a 5yz code", "first digit"),
        ("{enhanced: 4.4.5, means: permanent}", ".enhanced[0]", "does not come with a 5yz code", ""),
        ("{code: 450, means: permanent}", ".code", "cannot mean permanent", "means: transient"),
        ("{code: [550, 4yz], means: sender}", ".code", "4yz is a refusal for now", "means: transient"),
        ("{code: 550, phase: auth, means: permanent}", ".phase[0]", "before any message", "login"),
        ("{code: 550, phase: rctp, means: quota}", ".phase[0]", "is not one of", "rcpt?"),
        ("{code: 550, means: sent}", ".means", "is not one of quota", ""),
        ("{code: 550, means: accepted}", ".means", "is not one of quota", ""),
        ("{code: 550}", ".means", "is required", ""),
        ("{code: 550, means: login, sleep: 1h}", ".sleep", "means nothing to `means: login`", "`quota`"),
        ("{text: 'a*', means: quota}", ".text[0]", "is in nearly every reply", "3 letters"),
        ("{text: '***', means: quota}", ".text[0]", "is in nearly every reply", "3 letters"),
        ("{code: 550, means: quota, slep: 1h}", ".slep", "no such setting", "sleep?"),
    ],
)
@pytest.mark.parametrize("where", ["OWN", "COMMON"])
def test_mistakes(mistakes, where, rule, key, words, advice):
    text = BASE.replace(where, rule).replace("OWN", "").replace("COMMON", "")
    [problem] = mistakes(text)
    assert problem.key == ("upstreams.it.replies[0]" if where == "OWN" else "replies[0]") + key
    assert problem.place.startswith(f"c.yaml:{3 if where == 'OWN' else 8}:")
    assert words in problem.text
    assert advice in problem.suggestion


def test_a_rule_that_is_there_twice_is_warned_of(load_text):
    rule = "{code: 550, text: no way, means: quota}"
    text = BASE.replace("OWN", "").replace("COMMON", f"{rule}, {rule}")
    assert any("replies[1]: has no effect" in warning for warning in load_text(text).settings.warnings)
