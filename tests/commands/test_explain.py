"""`waypost explain`: the way of a message as people and scripts read it."""

import json

import pytest

from waypost.cli import main
from waypost.commands import CONFIGURATION, FAILED, FINE, USAGE

CONFIGURED = """\
listeners:
  - {address: 127.0.0.1:2525, mode: submission, allow_plaintext_auth: true}
  - {address: 127.0.0.1:2526, mode: relay, trusted_networks: [10.0.0.0/8]}
accounts:
  nextcloud: {password: a-long-password, route: apps, may_send_as: ["*@example.com"]}
upstreams:
  gmail: {address: smtp.example.org:587, tls: starttls}
  ses:   {address: "[2001:db8::26]:465", tls: implicit}
  old:   {address: old.example.com:25}
  new:   {address: new.example.com:25}
pools:
  providers: {strategy: weighted, upstreams: {gmail: 3, ses: 1}}
routes:
  apps:      {primary: providers}
  migration: {primary: old, copies: [{to: new}, {to: ses, sample: 10%, required: false}], acceptance: pass}
  batch:     {primary: old, acceptance: spool}
  default:   {primary: old}
rules:
  - {recipient: "*@example.com", route: migration}
  - {account: nextcloud, recipient: "*@example.net", route: apps}
  - {recipient: "*@batch.example", route: batch}
  - {recipient: "*@old.example", route: default}
spool: {path: SPOOL}
"""


@pytest.fixture
def explain(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.yaml").write_text(CONFIGURED.replace("SPOOL", str(tmp_path)))

    def run(*words):
        code = main(["explain", "--config", "w.yaml", *words])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


def test_the_rule_the_route_and_the_order(explain):
    code, shown, _ = explain("--from", "a@example.com", "--to", "b@example.net", "--account", "nextcloud")

    assert code == FINE
    assert shown.startswith(
        "<a@example.com>, from 127.0.0.1, account nextcloud\non listener 127.0.0.1:2525\n\nto <b@example.net>\n"
    )
    words = " ".join(shown.split())
    assert "w.yaml:19:5, route migration: recipient <b@example.net> is not *@example.com" in words
    assert "* w.yaml:20:5, route apps: matches: this is the one" in words
    assert "primary: pool providers, weighted 1. gmail at smtp.example.org:587: its turn" in words
    assert "2. ses at [2001:db8::26]:465:" in words


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--to", "b@example.net", "--account", "nextcloud"],
            "hybrid (the default for submission listeners): tried at",
        ),
        (["--to", "b@example.com", "--account", "nextcloud"], "pass (w.yaml:15:103): the client hears the primary's"),
        (["--to", "b@batch.example", "--account", "nextcloud"], "spool (w.yaml:16:41): kept, the client hears 250"),
        (
            ["--to", "b@old.example", "--client", "10.1.1.1", "--listener", "127.0.0.1:2526"],
            "pass (the default for relay listeners): the client hears the primary's answer",
        ),
    ],
)
def test_when_the_client_is_answered_and_where_that_was_said(explain, words, said):
    code, shown, _ = explain("--from", "a@example.com", *words)

    assert code == FINE
    assert f"acceptance: {said}" in " ".join(shown.split())


def test_copies(explain):
    code, shown, _ = explain(
        "--from", "<>", "--to", "b@example.com", "--client", "10.1.1.1", "--listener", "127.0.0.1:2526"
    )

    assert code == FINE
    words = " ".join(shown.split())
    assert "primary: pool old, ordered 1. old at old.example.com:25: the only one in the pool" in words
    assert "copy: pool new, ordered 1. new at new.example.com:25: the only one in the pool required:" in words
    assert "not required; 10% of the messages" in words


def test_it_fits_80_columns(explain):
    local = "long." * 12 + "x"
    _, shown, _ = explain(
        "--from", f"{local}@example.com", "--to", f"{local}@example.net", "--to", "b@example.com", "--client", "9.9.9.9"
    )

    assert [line for line in shown.split("\n") if len(line) > 80] == []


def test_json_says_the_same(explain):
    code, shown, _ = explain(
        "--json", "--from", "a@example.com", "--to", "b@example.net", "--to", "c@example.com", "--account", "nextcloud"
    )

    found = json.loads(shown)
    assert code == FINE
    assert found["accepted"] is True
    assert found["split"] is True
    first, second = found["recipients"]
    assert [rule["decided"] for rule in first["rules"]][:2] == [False, True]
    assert first["route"]["acceptance"] == {"mode": "hybrid", "because": "the default for submission listeners"}
    assert first["route"]["name"] == "apps"
    assert [upstream["name"] for upstream in first["route"]["primary"]["upstreams"]] == ["gmail", "ses"]
    assert [copy["pool"] for copy in second["route"]["copies"]] == ["new", "ses"]
    assert second["route"]["copies"][1]["sample"] == 0.1


def test_recipients_with_different_routes_are_told_of(explain):
    _, shown, _ = explain(
        "--from", "a@example.com", "--to", "b@example.net", "--to", "c@example.com", "--account", "nextcloud"
    )

    assert "452 4.5.3" in " ".join(shown.split())


def test_recipients_of_which_none_is_relayed_while_the_client_waits_share_a_message(explain):
    words = ("--from", "a@example.com", "--to", "b@example.net", "--to", "c@batch.example", "--account", "nextcloud")
    _, shown, _ = explain(*words)
    assert "452" not in shown
    assert json.loads(explain("--json", *words)[1])["split"] is False


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--to", "b@example.com"], "AUTH is required"),
        (["--to", "b@example.com", "--listener", "127.0.0.1:2526"], "a relay listener serves its trusted networks"),
        (["--to", "b@example.com", "--client", "10.0.0.1", "--listener", "127.0.0.1:2526"], ""),
        (["--to", "b@x.org", "--client", "10.0.0.1", "--listener", "127.0.0.1:2526"], "refused: 550 5.7.1"),
    ],
)
def test_who_is_refused_and_why(explain, words, said):
    code, shown, _ = explain("--from", "a@example.com", *words)

    assert code == (FAILED if said else FINE)
    assert said in " ".join(shown.split())
    assert ("REFUSED" in shown or "refused" in shown) is bool(said)


def test_an_account_that_may_not_send_as_this_address(explain):
    code, shown, _ = explain("--from", "a@elsewhere.org", "--to", "b@example.com", "--account", "nextcloud")

    assert code == FAILED
    assert "553 5.7.1" in shown


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--account", "nextclout"], "there is no account 'nextclout'; did you mean 'nextcloud'?"),
        (["--listener", "127.0.0.1:25"], "there is no listener '127.0.0.1:25'; there is 127.0.0.1:2525, 127.0"),
        (["--client", "localhost"], "'localhost' does not appear to be an IPv4 or IPv6 address"),
        (["--to", "nobody"], "'nobody' is not an address"),
    ],
)
def test_a_question_that_makes_no_sense(explain, words, said):
    code, shown, error = explain("--from", "a@example.com", "--to", "b@example.com", *words)

    assert code == USAGE
    assert shown == ""
    assert said in error


def test_a_configuration_that_is_wrong(tmp_path, capsys):
    path = tmp_path / "w.yaml"
    path.write_text("listenrs: []\n")

    assert main(["explain", "--config", str(path), "--from", "<>", "--to", "a@b"]) == CONFIGURATION
    assert "w.yaml:1:1" in capsys.readouterr().err


def test_quotas_senders_and_what_a_strategy_goes_by(explain, tmp_path):
    text = (tmp_path / "w.yaml").read_text()
    text = text.replace("starttls}", 'starttls, quota: [500/day], senders: "*@example.com"}', 1)
    text = text.replace("strategy: weighted,", "strategy: sticky, sticky_by: account,")
    (tmp_path / "w.yaml").write_text(text)

    code, shown, _ = explain("--from", "a@example.com", "--to", "b@example.net", "--account", "nextcloud", "--json")
    primary = json.loads(shown)["recipients"][0]["route"]["primary"]
    assert code == FINE
    quotas = {upstream["name"]: upstream["quotas"] for upstream in primary["upstreams"]}
    assert quotas == {"gmail": ["500 messages per day"], "ses": []}
    assert primary["upstreams"][0]["reason"] == "has this account, nextcloud"
    assert primary["not_for_sender"] == []

    _, shown, _ = explain("--from", "a@example.com", "--to", "b@example.net", "--account", "nextcloud")
    words = " ".join(shown.split())
    assert "quota: 500 messages per day; what is used of it only the running Waypost knows" in words

    _, shown, _ = explain("--from", "<>", "--to", "b@example.net", "--account", "nextcloud")
    assert "does not send" not in shown
    text = text.replace('may_send_as: ["*@example.com"]', 'may_send_as: ["*"]')
    (tmp_path / "w.yaml").write_text(text)
    _, shown, _ = explain("--from", "a@example.org", "--to", "b@example.net", "--account", "nextcloud")
    words = " ".join(shown.split())
    assert "1. ses at [2001:db8::26]:465: the only one that may be tried" in words
    assert "gmail does not send for this reverse-path, so it is not tried" in words


RULED = """\
listeners: [{address: 127.0.0.1:2526, mode: relay}]
upstreams: {old: {address: old.example.com:25}, new: {address: new.example.com:25}}
routes:
  old: {primary: old}
  new: {primary: new}
rules:
  - {name: at night, time: 22:00-06:00 Europe/Berlin, recipient_file: list, route: new}
  - {helo: "*.example.com", size: over 1KB, route: new}
  - any: [{header: {Subject: "*invoice*"}}, {header: {X-Kind: invoice}}]
    not: {header: {X-Test: "*"}}
    route: new
  - {percent: 50, recipient: "*.example.org", route: new}
  - {route: old}
"""


@pytest.fixture
def judged(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r.yaml").write_text(RULED)
    (tmp_path / "list").write_text("night.example\n")

    def run(*words):
        code = main(["explain", "--config", "r.yaml", "--from", "a@example.com", "--json", *words])
        shown = json.loads(capsys.readouterr().out)
        [answer] = shown["recipients"]
        return code, answer

    return run


NOTHING = ("--helo", "h", "--size", "10", "--header", "X-A: b", "--at", "2026-11-23T12:00+01:00")


def test_why_each_rule_does_not_match(judged):
    code, answer = judged("--to", "b@c", *NOTHING)
    assert code == FINE
    assert answer["route"]["name"] == "old"
    assert [rule["why"] for rule in answer["rules"]] == [
        "recipient <b@c> is not in list",
        "HELO h is not *.example.com",
        "none under `any` matches: there is no header field Subject; there is no header field X-Kind",
        "recipient <b@c> is not *.example.org",
        "",
    ]
    _, answer = judged("--to", "b@night.example", *NOTHING)
    assert answer["rules"][0]["why"] == "the time is not within 22:00-06:00 Europe/Berlin"
    assert answer["rules"][0]["name"] == "at night"


@pytest.mark.parametrize(
    ("words", "rule"),
    [
        (("--at", "2026-11-23T23:00+01:00", "--to", "b@night.example"), 0),
        (("--at", "2026-07-06T21:00+00:00", "--to", "b@night.example"), 0),
        (("--helo", "mx.example.com", "--size", "2KB", "--to", "b@c"), 1),
        (("--header", "Subject: =?utf-8?q?your_invoice?=", "--to", "b@c"), 2),
        (("--header", "x-kind: Invoice", "--header", "Subject: hello", "--to", "b@c"), 2),
        (("--header", "X-Kind: invoice", "--header", "X-Test: yes", "--to", "b@c"), 4),
    ],
)
def test_facts_can_be_given(judged, words, rule):
    _, answer = judged(*NOTHING, *words)
    assert [each["decided"] for each in answer["rules"]] == [number == rule for number in range(5)]


def test_a_stored_message_tells_header_and_size(judged, tmp_path):
    (tmp_path / "m.eml").write_bytes(b"Subject: The\n invoice\n\n.hello\n")
    _, answer = judged("--to", "b@c", "--helo", "mx.example.com", "--message", "m.eml")
    assert answer["rules"][1]["why"] == "a size of 35 octets is not over 1000"
    assert answer["rules"][2]["decided"]
    (tmp_path / "m.eml").write_bytes(b"X-Kind: no\r\n\r\nSubject: invoice\r\n" + b"x" * 1000)
    _, answer = judged("--to", "b@c", "--helo", "mx.example.com", "--message", "m.eml")
    assert answer["rules"][1]["decided"]


def test_what_is_not_given_leaves_the_decision_open(judged, capsys):
    code, answer = judged("--to", "b@night.example", "--at", "2026-11-23T12:00+01:00")
    assert code == FINE
    assert (answer["route"], answer["reply"]) == (None, None)
    assert answer["open"] == {"routes": ["new", "old"], "may_be_refused": False, "alone": True}
    assert [(rule["matched"], rule["why"]) for rule in answer["rules"][1:3]] == [
        (None, "it waits for the name in HELO and the size"),
        (None, "it waits for header field Subject or header field X-Kind and header field X-Test"),
    ]
    main(["explain", "--config", "r.yaml", "--from", "a@example.com", "--to", "b@c"])
    words = " ".join(capsys.readouterr().out.split())
    assert "? r.yaml:8:5, route new: it waits for the name in HELO and the size" in words
    assert "undecided: it may come to route new or route old." in words


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--size", "big"), "'big' is not a size"),
        (("--header", "Subject"), "'Subject' is not a header field"),
        (("--header", "Sub ject: x"), "is not a header field"),
        (("--at", "noon"), "'noon' is not a time; write it like 2026-12-24T23:00"),
        (("--message", "nowhere.eml"), "No such file or directory: 'nowhere.eml'"),
    ],
)
def test_facts_that_cannot_be(judged, capsys, words, said):
    assert main(["explain", "--config", "r.yaml", "--from", "a@b", "--to", "c@d", *words]) == USAGE
    assert said in capsys.readouterr().err
