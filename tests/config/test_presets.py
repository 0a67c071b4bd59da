"""Presets: each is enough with credentials, gives way to whatever is written, and says where its facts are from."""

import re
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from waypost.config.preset import preset, preset_names
from waypost.config.preset_page import page
from waypost.config.show import show_json
from waypost.mail.outcome import Phase
from waypost.routing.classify import Kind, classify
from waypost.smtp.reply import from_wire

PAGE = Path(__file__).parent.parent.parent / "docs" / "presets.md"
NAMED_IN_THE_ISSUE = ["gmail", "microsoft365", "ses", "sendgrid", "mailgun", "postmark", "brevo", "zoho", "fastmail"]


def text(upstream):
    return f"""\
listeners: [{{address: "127.0.0.1:2525", mode: submission, trusted_networks: [127.0.0.0/8]}}]
upstreams:
  it: {upstream}
routes:
  r: {{primary: it}}
spool: spool
"""


def region_of(name):
    one = preset(name)
    return f", region: {one.region_example}" if one.host_pattern else ""


def said(words):
    code, _, rest = words.partition(" ")
    return from_wire(int(code), [rest.encode()])


def test_the_page_is_current():
    assert PAGE.read_text("utf-8") == page(), "run: python -m waypost.config.preset_page > docs/presets.md"


def test_those_that_were_asked_for_are_there():
    assert set(NAMED_IN_THE_ISSUE) <= set(preset_names())


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_and_credentials_are_enough(load_text, name):
    loaded = load_text(text(f"{{preset: {name}{region_of(name)}, auth: {{username: me, password: x}}}}"))
    one = loaded.settings.upstreams["it"]
    assert one.tls.mode in ("starttls", "implicit")
    assert one.tls.verify
    assert one.port == next(iter(preset(name).ports))
    assert not [warning for warning in loaded.settings.warnings if "upstreams" in warning]


@pytest.mark.parametrize("name", preset_names())
def test_each_fact_has_a_source_and_each_source_a_fact(name):
    one = preset(name)
    rules = {str(rule["name"]) for rule in one.replies}
    facts = {"address", "tls", *one.settings, *rules}
    assert facts <= {what for source in one.sources for what in source.of}
    for source in one.sources:
        assert set(source.of) <= facts | {"notes"}, source
        assert re.fullmatch(r"https://\S+", source.url)
        assert date.fromisoformat(source.seen) <= datetime.now(UTC).date()
    assert all(rule.startswith(name.removesuffix("365")) for rule in rules), "the log says whose rule it was"


@pytest.mark.parametrize("name", preset_names())
@pytest.mark.parametrize(
    ("written", "setting", "value"),
    [
        ("address: other.example.com:2600", "address", "other.example.com:2600"),
        ("tls: {mode: implicit}", "tls.mode", "implicit"),
        ("tls: opportunistic", "tls.mode", "opportunistic"),
        ("quota: 7/hour", "quota[0].limit", "7"),
        ("max_messages: 7", "max_messages", "7"),
    ],
)
def test_whatever_is_written_comes_before_the_preset(load_text, name, written, setting, value):
    region = "" if "address" in written else region_of(name)
    shown = show_json(load_text(text(f"{{preset: {name}{region}, auth: {{username: me, password: x}}, {written}}}")))
    assert shown["origins"][f"upstreams.it.{setting}"].startswith("c.yaml:3:")
    node = shown["settings"]["upstreams"]["it"]
    for part in re.findall(r"\w+", setting):
        node = node[int(part)] if part.isdigit() else node[part]
    assert node == value


@pytest.mark.parametrize("name", preset_names())
def test_every_port_brings_its_way_of_tls(load_text, name):
    one = preset(name)
    for port, mode in one.ports.items():
        loaded = load_text(
            text(f"{{preset: {name}, address: 'x.example:{port}', auth: {{username: me, password: x}}}}")
        )
        assert loaded.settings.upstreams["it"].tls.mode == mode


def test_one_setting_of_tls_leaves_the_others_to_the_preset(load_text):
    loaded = load_text(text("{preset: gmail, tls: {server_name: other.example.com, minimum: '1.3'}}"))
    tls = loaded.settings.upstreams["it"].tls
    assert (tls.mode, tls.server_name, tls.minimum) == ("starttls", "other.example.com", "1.3")


def test_show_says_where_each_value_is_from(load_text):
    shown = show_json(load_text(text("{preset: gmail, auth: {username: me, password: x}}")))
    origins = {key.removeprefix("upstreams.it."): origin for key, origin in shown["origins"].items()}
    for key in ("address", "tls.mode", "quota[0].limit", "replies[0].means"):
        assert re.fullmatch(r"preset gmail \(https://\S+, \d{4}-\d\d-\d\d\)", origins[key]), key
    assert "support.google.com" in origins["quota[1].limit"]
    assert origins["tls.verify"] == "default"
    assert origins["preset"] == "c.yaml:3:16"


def test_a_quota_can_be_turned_off(load_text):
    assert load_text(text("{preset: gmail}")).settings.upstreams["it"].quotas
    assert load_text(text("{preset: gmail, quota: []}")).settings.upstreams["it"].quotas == ()


def test_a_preset_never_brings_credentials(load_text):
    assert load_text(text("{preset: sendgrid}")).settings.upstreams["it"].credentials is None


def test_a_user_name_that_is_always_the_same_need_not_be_written(load_text):
    loaded = load_text(text("{preset: sendgrid, auth: {password: x}}"))
    assert loaded.settings.upstreams["it"].credentials.username == "apikey"
    from_outside = load_text(text("{preset: resend}"), {"WAYPOST_UPSTREAM_IT_PASSWORD": "x"})
    assert from_outside.settings.upstreams["it"].credentials.username == "resend"


def test_a_mechanism_for_passwords_is_not_for_tokens(load_text):
    assert (
        load_text(text("{preset: fastmail, auth: {username: me, password: x}}"))
        .settings.upstreams["it"]
        .credentials.mechanism
        == "PLAIN"
    )
    token = "oauth2: {client_id: a, refresh_token: b, token_url: 'https://t.example/'}"
    loaded = load_text(text(f"{{preset: fastmail, auth: {{username: me, {token}}}}}"))
    assert loaded.settings.upstreams["it"].credentials.mechanism is None


def test_the_provider_of_tokens_is_known(load_text):
    token = "oauth2: {client_id: a, refresh_token: b}"
    loaded = load_text(text(f"{{preset: microsoft365, auth: {{username: me, {token}}}}}"))
    assert "microsoftonline" in loaded.settings.upstreams["it"].credentials.oauth2.token_url


@pytest.mark.parametrize(
    ("upstream", "host"),
    [
        ("{preset: ses, region: eu-west-1}", "email-smtp.eu-west-1.amazonaws.com"),
        ("{preset: ses, region: us-gov-west-1}", "email-smtp.us-gov-west-1.amazonaws.com"),
        ("{preset: ses, address: 'vpce.example.com:587'}", "vpce.example.com"),
        ("{preset: mailgun}", "smtp.mailgun.org"),
        ("{preset: mailgun, region: eu}", "smtp.eu.mailgun.org"),
        ("{preset: zoho, region: in}", "smtp.zoho.in"),
        ("{preset: smtp2go}", "mail.smtp2go.com"),
    ],
)
def test_regions(load_text, upstream, host):
    assert load_text(text(upstream)).settings.upstreams["it"].host == host


@pytest.mark.parametrize(
    ("upstream", "place", "key", "words", "advice"),
    [
        ("{preset: gmial}", "3:16", "preset", "'gmial' is not one of gmail", "did you mean gmail?"),
        ("{preset: [gmail]}", "3:16", "preset", "must be one value", ""),
        ("{preset: ses}", "3:16", "preset", "ses needs a region", "region: eu-west-1"),
        ("{preset: ses, region: Ireland}", "3:29", "region", "'Ireland' is not a region of Amazon SES", "eu-west-1"),
        ("{preset: mailgun, region: eur}", "3:33", "region", "Mailgun has no region 'eur'", "mean eu?"),
        ("{preset: gmail, region: eu}", "3:31", "region", "which has no regions", "leave it out"),
        (
            "{preset: ses, region: eu-west-1, address: 'a:25'}",
            "3:29",
            "region",
            "nothing beside `address`",
            "leave one",
        ),
        ("{region: eu, address: 'a:25'}", "3:16", "region", "means nothing without a `preset`", ""),
        ("{preset: gmail, quota: x}", "3:30", "quota[0]", "is not a quota", "500/day"),
        ("{preset: gmail, tls: starttsl}", "3:28", "tls.mode", "is not one of", "starttls?"),
        ("{preset: gmail, replies: 550}", "3:32", "replies", "must be a list", ""),
        ("{preset: sendgrid, auth: {user: x}}", "3:33", "auth.user", "no such setting", "username?"),
    ],
)
def test_mistakes(mistakes, upstream, place, key, words, advice):
    found = mistakes(text(upstream))
    problem = found[0]
    assert (problem.place, problem.key) == (f"c.yaml:{place}", f"upstreams.it.{key}"), found
    assert words in problem.text, found
    assert advice in problem.suggestion, found
    assert all("address" not in other.key for other in found), "that it is missing is not what is wrong"


def test_an_upstream_without_preset_needs_an_address(mistakes):
    [problem] = mistakes(text("{tls: starttls}"))
    assert (problem.key, problem.text) == ("upstreams.it.address", "is required")


@pytest.mark.parametrize(
    ("name", "phase", "words", "kind", "rule", "sleep"),
    [
        ("gmail", Phase.DOT, "550 5.4.5 Daily user sending limit exceeded.", Kind.QUOTA, "gmail-daily-limit", 3600),
        (
            "gmail",
            Phase.RCPT,
            "452 4.2.2 The recipient's inbox is out of storage",
            Kind.TRANSIENT,
            "gmail-mailbox-full",
            None,
        ),
        ("gmail", Phase.MAIL, "450 4.2.1 Peak SMTP relay limit exceeded", Kind.QUOTA, "gmail-relay-peak", 600),
        ("ses", Phase.DOT, "454 Throttling failure: Maximum sending rate exceeded.", Kind.QUOTA, "ses-rate", 5),
        ("ses", Phase.DOT, "454 Throttling failure: Daily message quota exceeded.", Kind.QUOTA, "ses-daily-quota", 600),
        ("ses", Phase.DOT, "554 Email address is not verified.", Kind.SENDER_REFUSED, "sender-not-allowed", None),
        ("zoho", Phase.DOT, "550 5.4.6 Unusual sending activity detected.", Kind.QUOTA, "zoho-unusual-activity", 3600),
    ],
)
def test_what_providers_say(load_text, name, phase, words, kind, rule, sleep):
    replies = load_text(text(f"{{preset: {name}{region_of(name)}}}")).settings.upstreams["it"].replies
    verdict = classify(phase, said(words), replies)
    assert (verdict.kind, verdict.rule, verdict.sleep) == (kind, rule, sleep)


def test_editors_learn_that_a_preset_has_an_address():
    from waypost.config.schema import Configuration

    definition = Configuration.model_json_schema()["$defs"]["UpstreamSection"]
    assert "required" not in definition or "address" not in definition["required"]
    assert definition["anyOf"] == [{"required": ["address"]}, {"required": ["preset"]}]
