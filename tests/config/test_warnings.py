"""What `check` warns of: each warning with its place, and nothing said about what is in order."""

import socket
from datetime import UTC, datetime, timedelta

import pytest
import trustme

BASE = """\
hostname: mail.example.com
listeners:
  - {address: 127.0.0.1:2525, mode: submission, allow_plaintext_auth: true}
accounts:
  app: {password: secret-word}
upstreams:
  a: {address: a.example.com:25}
  b: {address: b.example.com:25}
pools:
  p: {upstreams: [a, b]}
routes:
  r: {primary: p}
"""
CREDENTIALS = "auth: {username: u, password: secret-word}"

# What is replaced in BASE, by what; the warning, up to its advice; words of the advice.
WARNINGS = [
    (
        "mail.example.com",
        "mail",
        "1:11: hostname: 'mail' has no dot, and many servers refuse such a name in EHLO",
        "full",
    ),
    ("primary: p}", "primary: p, copies: [p]}", "12:28: routes.r.copies[0].to: p is the primary and gets a copy", ""),
    (
        "password: secret-word}",
        'password: "$apr1$abcdefgh$82JubPF2dQkt1tVfvLnXS."}',
        "5:19: accounts.app.password: looks like a hash (apr1), and is taken for the password itself",
        "hash-password",
    ),
    ("primary: p}", "primary: a}", "10:3: pools.p: is not used: no route names it", ""),
    ("[a, b]", "[a]", "8:3: upstreams.b: is not used: no pool and no route names it", ""),
    (
        "  r: {primary: p}",
        "  r: {primary: p}\n  s: {primary: p}\nrules: [{recipient: b.example, route: r}]",
        "13:3: routes.s: is not used: no rule and no account names it",
        "",
    ),
    (
        "mode: submission, allow_plaintext_auth: true",
        "mode: relay",
        "4:1: accounts: are not used: there is no listener with `mode: submission`, and nobody authenticates elsewhere",
        "",
    ),
    (
        "allow_plaintext_auth: true",
        "trusted_networks: 10.0.0.0/8",
        "4:1: accounts: are not used: no listener has TLS, and passwords are not taken without",
        "allow_plaintext_auth: true",
    ),
    (
        "a.example.com:25",
        f"a.example.com:25, {CREDENTIALS}",
        "7:6: upstreams.a.tls: unverified TLS: `opportunistic` takes every certificate",
        "tls: starttls",
    ),
    (
        "a.example.com:25",
        f"a.example.com:25, tls: opportunistic, {CREDENTIALS}",
        "7:39: upstreams.a.tls: unverified TLS: `opportunistic` takes every certificate",
        "tls: starttls",
    ),
    (
        "a.example.com:25",
        f"a.example.com:25, tls: starttls, {CREDENTIALS}, probe: 10s",
        "7:100: upstreams.a.probe.interval: logs in up to 360 times an hour",
        "login: false",
    ),
    (
        "accounts:",
        "  - {address: ':25', mode: relay}\naccounts:",
        "4:5: listeners[1]: trusts this machine only, so clients on other machines are refused",
        "trusted_networks",
    ),
    (
        "_auth: true",
        "_auth: true, trusted_networks: [4.0.0.0/6]",
        "3:95: listeners[0].trusted_networks: 4.0.0.0/6: these are more addresses than one organisation has",
        "your own clients",
    ),
    (
        "primary: p}",
        "primary: p, acceptance: pass, sync_budget: 20s}",
        "12:50: routes.r.sync_budget: has no effect with `acceptance: pass`",
        "it is for hybrid",
    ),
    (
        "primary: p}",
        "primary: p, acceptance: pass, delay_warning: 4h}",
        "12:52: routes.r.delay_warning: has no effect with `acceptance: pass`",
        "it is for hybrid and spool",
    ),
    (
        "primary: p}",
        "primary: p, acceptance: spool, silence: 10s}",
        "12:47: routes.r.silence: has no effect with `acceptance: spool`",
        "it is for hybrid and pass",
    ),
    (
        "primary: p}",
        "primary: p, acceptance: spool, in_doubt_hold: 10s}",
        "12:53: routes.r.in_doubt_hold: has no effect with `acceptance: spool`",
        "it is for hybrid and pass",
    ),
    (
        "  r: {primary: p}",
        "  r: {primary: p, acceptance: pass}\nnotifications: {per_hour: 7}",
        "13:16: notifications: has no effect: with `acceptance: pass` on every route nothing is kept",
        "",
    ),
    (
        "  r: {primary: p}",
        "  r: {primary: p, acceptance: pass}\njournal: 1h",
        "13:10: journal: has no effect: it is kept with the spool, and no route needs one",
        "set `spool`",
    ),
    (
        "primary: p}",
        "primary: p, delay_warning: 5d}",
        "12:34: routes.r.delay_warning: has no effect: it is not before the end of `lifetime`",
        "",
    ),
    (
        BASE[BASE.index("a.example.com:25}") :],
        BASE[BASE.index("a.example.com:25}") :]
        .replace("a.example.com:25}", "a.example.com:25, rate: 1/second}")
        .replace("primary: p", "primary: p, acceptance: pass"),
        "7:40: upstreams.a.rate: has no effect: only deliveries from the spool are paced",
        "",
    ),
    (
        BASE[BASE.index("a.example.com:25}") :],
        BASE[BASE.index("a.example.com:25}") :]
        .replace("a.example.com:25}", "a.example.com:25, quota: 5/day}")
        .replace("primary: p", "primary: p, acceptance: pass"),
        "7:41: upstreams.a.quota: is counted in memory only, and begins anew with every start: there is no spool",
        "set `spool`",
    ),
    (
        "a.example.com:25}",
        "a.example.com:25, quota: [14/second, 10/day]}",
        "7:42: upstreams.a.quota[0]: has no effect: 10 per day are spent before 14 per second",
        "",
    ),
    (
        "a.example.com:25}",
        "a.example.com:25, cost: 2}",
        "7:40: upstreams.a.cost: has no effect: no pool of this upstream has `strategy: cheapest`",
        "",
    ),
    (
        "{upstreams:",
        "{strategy: cheapest, upstreams:",
        "10:17: pools.p.strategy: all of its upstreams have the same",
        "",
    ),
    ("{upstreams:", "{strategy: least_loaded, upstreams:", "10:17: pools.p.strategy: none of its upstreams has", ""),
    (
        "routes:",
        "admin: {address: 0.0.0.0:8025}\nroutes:",
        "11:18: admin.address: 0.0.0.0:8025 has no password and is open to other machines",
        "127.0.0.1:8025",
    ),
]


@pytest.mark.parametrize(("old", "new", "said", "advice"), WARNINGS)
def test_one_warning(load_text, old, new, said, advice):
    assert old in BASE
    (warning,) = load_text(BASE.replace(old, new, 1)).settings.warnings
    assert warning.startswith(f"c.yaml:{said}")
    assert advice in warning.partition("; ")[2]
    assert "secret-word" not in warning


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("mail.example.com", "'[192.0.2.1]'"),
        ("routes:", "admin: {address: 127.0.0.1:8025}\nroutes:"),
        ("primary: p", "primary: p, acceptance: hybrid, sync_budget: 20s, delay_warning: 4h, silence: 10s"),
        ("primary: p", "primary: p, acceptance: spool, delay_warning: 4h"),
        ("primary: p", "primary: p, acceptance: pass, in_doubt_hold: 10s, silence: 10s"),
        ("primary: p", "primary: p, sync_budget: 20s, delay_warning: 4h"),
        ("a.example.com:25}", "a.example.com:25, rate: 1/second}"),
        ("  r: {primary: p}", "  r: {primary: p, acceptance: pass}\njournal: off"),
        ("  r: {primary: p}", "  r: {primary: p, acceptance: pass}\njournal: 1h\nspool: here"),
        ("routes:", "notifications: {per_hour: 7}\njournal: 1h\nroutes:"),
        ("a.example.com:25", f"a.example.com:25, tls: starttls, {CREDENTIALS}, probe: 5m"),
        ("a.example.com:25", "a.example.com:25, probe: 10s"),
        ("routes:", "admin: {address: '[::1]:8025'}\nroutes:"),
        ("routes:", "admin: {address: localhost:8025}\nroutes:"),
        ("a.example.com:25}", "a.example.com:25, quota: [14/second, 500/day, 400/day recipients], senders: x.example}"),
        ("{upstreams: [a, b]", "{strategy: sticky, sticky_by: account, upstreams: {a: 2, b: 1}"),
        ("{upstreams:", "{strategy: fastest, upstreams:"),
        ("a.example.com:25", f"a.example.com:25, tls: starttls, {CREDENTIALS}"),
        ("a.example.com:25", f"localhost:25, {CREDENTIALS}"),
        ("a.example.com:25", f"a.example.com:25, allow_plaintext_auth: true, {CREDENTIALS}"),
        ("accounts:", "  - {address: ':25', mode: relay, trusted_networks: 10.0.0.0/8}\naccounts:"),
        ("{primary: p}", "{primary: p}\n  s: {primary: p}\nrules: [{recipient: b.example, route: r}, {route: s}]"),
    ],
)
def test_nothing_is_said_of_what_is_in_order(load_text, old, new):
    assert old in BASE
    assert load_text(BASE.replace(old, new, 1)).settings.warnings == ()


def test_a_machine_without_a_full_name(load_text, monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "box")
    (warning,) = load_text(BASE.replace("hostname: mail.example.com\n", "")).settings.warnings
    assert warning.startswith("c.yaml: hostname: is not set, and box, the name of this machine, has no dot")


@pytest.mark.parametrize(
    ("days", "said"),
    [(-2.5, "has ended, 3 days ago; clients will refuse it"), (5.5, "ends in 5 days; renew it"), (20, None)],
)
def test_a_certificate_of_ours_that_ends(load_text, folder, days, said):
    ends = datetime.now(UTC) + timedelta(days=days)
    issued = trustme.CA().issue_cert("mail.example.com", not_before=ends - timedelta(days=90), not_after=ends)
    issued.private_key_pem.write_to_path(folder / "key.pem")
    issued.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    text = BASE.replace("accounts:", "tls: {certificate: cert.pem, key: key.pem}\naccounts:")
    warnings = load_text(text.replace(", allow_plaintext_auth: true", "")).settings.warnings
    assert list(warnings) == ([] if said is None else [warnings[0]])
    if said is not None:
        assert warnings[0].startswith("c.yaml:4:20: tls.certificate: ")
        assert said in warnings[0]


def test_a_route_that_only_an_account_has_is_used(load_text):
    text = BASE.replace("secret-word", "secret-word, route: s").replace("  r: {", "  s: {primary: a}\n  r: {")
    (warning,) = load_text(text).settings.warnings
    assert "routes.r: is not used" in warning
