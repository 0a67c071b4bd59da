"""One mistake in every kind of line: its place, its key, what is said and advised. And all of them at once."""

import pytest

from waypost.cli import main

BASE = """\
listeners:
  - {address: 127.0.0.1:2525, mode: submission, allow_plaintext_auth: true}
accounts:
  app: {password: secret-word}
upstreams:
  a: {address: a.example.com:25}
  b: {address: b.example.com:25}
pools:
  p: {strategy: weighted, upstreams: {a: 3, b: 1}}
routes:
  r: {primary: p, copies: [b]}
rules:
  - {recipient: "*@example.com", route: r}
spool: {path: spool}
"""

# What is replaced in BASE, by what; place and key; words of the text; words of the advice.
LINES = [
    ("127.0.0.1:2525", "127.0.0.1", "2:15", "listeners[0].address", "has no port", "127.0.0.1:25"),
    ("127.0.0.1:2525", "127.0.0.1:66000", "2:15", "listeners[0].address", "'66000' is not a port", "65535"),
    ("127.0.0.1:2525", "127.0.0.256:25", "2:15", "listeners[0].address", "is not an IPv4 address", ""),
    ("127.0.0.1:2525", '"::1:25"', "2:15", "listeners[0].address", "without brackets", "[::1:25]:25"),
    ("127.0.0.1:2525", '"[::1]"', "2:15", "listeners[0].address", "has no port", "[::1]:25"),
    ("mode: submission", "mode: submision", "2:37", "listeners[0].mode", "is not one of", "mean submission?"),
    ("mode: submission, ", "", "2:5", "listeners[0].mode", "is required", ""),
    ("_auth: true", "_auth: maybe", "2:71", "listeners[0].allow_plaintext_auth", "must be true or false", ""),
    (
        "allow_plaintext_auth",
        "allow_plain_auth",
        "2:49",
        "listeners[0].allow_plain_auth",
        "no such setting",
        "plaintext",
    ),
    ("_auth: true", "_auth: true, limits: {errors: 0}", "2:94", "listeners[0].limits.errors", "at least 1", ""),
    (
        "_auth: true",
        "_auth: true, limits: {line_length: 1M}",
        "2:99",
        "listeners[0].limits.line_length",
        "size",
        "50MiB",
    ),
    ("_auth: true", "_auth: true, timeouts: {command: 5x}", "2:97", "listeners[0].timeouts.command", "duration", "5m"),
    ("_auth: true", "_auth: true, timeouts: 5m", "2:87", "listeners[0].timeouts", "must be a mapping", ""),
    (
        "_auth: true",
        "_auth: true, proxy_protocol: [10.0.0.0/8, proxy]",
        "2:106",
        "listeners[0].proxy_protocol[1]",
        "'proxy' is not a network",
        "10.0.0.0/8",
    ),
    ("_auth: true", "_auth: true, proxy_protocol: true", "2:93", "listeners[0].proxy_protocol", "has none", "name"),
    ("_auth: true", "_auth: true, proxy_protocol: '::/0'", "2:93", "listeners[0].proxy_protocol", "internet", "own"),
    ("_auth: true", "_auth: true, tls: implict", "2:82", "listeners[0].tls.mode", "is not one of", "implicit?"),
    ("_auth: true", "_auth: true, tls: implicit", "2:82", "listeners[0].tls", "needs a certificate", "set `tls`"),
    ("_auth: true", "_auth: true, tls: starttls", "2:82", "listeners[0].tls", "needs a certificate", "set `tls`"),
    (
        ", allow_plaintext_auth: true",
        "",
        "2:5",
        "listeners[0]",
        "nobody can authenticate",
        "allow_plaintext_auth: true",
    ),
    (", allow_plaintext_auth: true", ", tls: off", "2:5", "listeners[0]", "nobody can authenticate", "set `tls`"),
    (
        "_auth: true",
        "_auth: true, trusted_networks: [10.0.0.1/8]",
        "2:96",
        "listeners[0].trusted_networks[0]",
        "bits set",
        "10.0.0.0/8",
    ),
    (
        "_auth: true",
        "_auth: true, trusted_networks: x",
        "2:95",
        "listeners[0].trusted_networks[0]",
        "not a network",
        "10.0",
    ),
    ("submission", "relay", "2:66", "listeners[0].allow_plaintext_auth", "nobody authenticates", ""),
    ("accounts:\n  app: {password: secret-word}", "accounts: {}", "2:5", "listeners[0]", "nobody can send", "accounts"),
    ("{password: secret-word}", "", "4:7", "accounts.app", "has no settings in it", ""),
    ("{password: secret-word}", "{}", "4:8", "accounts.app.password", "is required", "password_file"),
    (
        "password: secret-word",
        "pasword: secret-word",
        "4:9",
        "accounts.app.pasword",
        "no such setting",
        "mean password?",
    ),
    ("secret-word", "$argon2id$v=19$m=6", "4:19", "accounts.app.password", "none", "cut off"),
    ("secret-word", "[secret-word]", "4:19", "accounts.app.password", "must be one value", ""),
    ("secret-word", "x, password_file: y", "4:37", "accounts.app.password_file", "so is password", "one"),
    (
        "password: secret-word",
        "password_file: nowhere",
        "4:24",
        "accounts.app.password_file",
        "cannot read nowhere",
        "",
    ),
    ("secret-word", "x, route: rr", "4:29", "accounts.app.route", "there is no route 'rr'", "mean r?"),
    ("secret-word", "x, may_send_as: <a@b>", "4:35", "accounts.app.may_send_as[0]", "matches no", "a@b"),
    (
        "a.example.com:25",
        "me:pw@a.example.com:25",
        "6:16",
        "upstreams.a.address",
        "just a host and a port",
        "mail.example.com:25",
    ),
    ("a.example.com:25", "smtp://a.example.com", "6:16", "upstreams.a.address", "just a host and a port", ""),
    ("a.example.com:25", "':25'", "6:16", "upstreams.a.address", "has no host", ""),
    ("a.example.com:25", "a.example.com:0", "6:16", "upstreams.a.address", "port 0", ""),
    ("a.example.com:25", "bücher.example:25", "6:16", "upstreams.a.address", "is not ASCII", "xn--bcher-kva.example"),
    ("a.example.com:25", "a_b..example:25", "6:16", "upstreams.a.address", "is not a host name", ""),
    ("a: {address: a.example.com:25}", "a: {tls: off}", "6:6", "upstreams.a.address", "is required", ""),
    ("a.example.com:25}", "a:25, tls: startls}", "6:27", "upstreams.a.tls.mode", "is not one of", "starttls?"),
    ("a.example.com:25}", "a:25, tls: {verify: no}}", "6:36", "upstreams.a.tls.verify", "means nothing", "starttls"),
    (
        "a.example.com:25}",
        "a:25, tls: {fingerprint: 0a}}",
        "6:41",
        "upstreams.a.tls.fingerprint[0]",
        "SHA-256",
        "openssl",
    ),
    (
        "a.example.com:25}",
        "a:25, tls: {mode: starttls, ca_file: no.pem}}",
        "6:53",
        "upstreams.a.tls.ca_file",
        "cannot read no.pem",
        "",
    ),
    ("a.example.com:25}", "a:25, auth: {username: u}}", "6:28", "upstreams.a.auth.password", "is required", ""),
    ("a.example.com:25}", "a:25, auth: user:pw-word}", "6:28", "upstreams.a.auth", "must be a mapping", ""),
    (
        "a.example.com:25}",
        "a:25, tls: off, auth: {username: u, password: w}}",
        "6:38",
        "upstreams.a.auth",
        "would never be used",
        "allow_plaintext_auth: true",
    ),
    ("a.example.com:25}", "a:25, timeouts: {dot: 0}}", "6:38", "upstreams.a.timeouts.dot", "more than nothing", ""),
    ("a.example.com:25}", "a:25, timeouts: 5x}", "6:32", "upstreams.a.timeouts", "is not a duration", "5m"),
    (
        "a.example.com:25}",
        "a:25, background_timeouts: [5m]}",
        "6:43",
        "upstreams.a.background_timeouts",
        "must be one value (duration) or a mapping of settings",
        "",
    ),
    ("a.example.com:25}", "a:25, rewrite: me}", "6:31", "upstreams.a.rewrite.from.*", "not a mail address", "@"),
    ("a.example.com:25}", "a:25, probe: often}", "6:29", "upstreams.a.probe.interval", "is not a duration", ""),
    ("a.example.com:25}", "a:25, probe: 1s}", "6:29", "upstreams.a.probe.interval", "is too short: 1 s", "5s"),
    ("a.example.com:25}", "a:25, probe: {canary: bob}}", "6:38", "upstreams.a.probe.canary", "is not", ""),
    (
        "a.example.com:25}",
        "a:25, probe: {sender: a@b.example}}",
        "6:38",
        "upstreams.a.probe.sender",
        "no effect",
        "canary",
    ),
    ("a.example.com:25}", "a:25, probe: {login: no}}", "6:37", "upstreams.a.probe.login", "has no effect", "remove"),
    (
        "a.example.com:25}",
        "a:25, tls: starttls, auth: {username: u, password: p}, probe: {login: no, canary: a@b.example}}",
        "6:98",
        "upstreams.a.probe.canary",
        "will be refused",
        "one of both",
    ),
    ("a.example.com:25}", "a:25, quota: 500}", "6:29", "upstreams.a.quota[0]", "is not a quota", "500/day"),
    ("a.example.com:25}", "a:25, quota: 5/dey}", "6:29", "upstreams.a.quota[0].per", "is not one of", "mean day?"),
    ("a.example.com:25}", "a:25, quota: 5/day mesages}", "6:29", "upstreams.a.quota[0].of", "not one of", "messages?"),
    ("a.example.com:25}", "a:25, quota: 0/day}", "6:29", "upstreams.a.quota[0].limit", "at least 1", ""),
    ("a.example.com:25}", "a:25, quota: {limit: 5, per: day}}", "6:29", "upstreams.a.quota", "must be a list", "- "),
    ("a.example.com:25}", "a:25, quota: [5/day, 7/day]}", "6:37", "upstreams.a.quota[1]", "already", "smaller"),
    (
        "a.example.com:25}",
        "a:25, quota: [{limit: 5, per: day, time_zone: Europe/Berln}]}",
        "6:62",
        "upstreams.a.quota[0].time_zone",
        "there is no time zone 'Europe/Berln'",
        "Europe/Berlin",
    ),
    (
        "a.example.com:25}",
        "a:25, quota: [{limit: 5, per: day, window: rolling, time_zone: UTC}]}",
        "6:79",
        "upstreams.a.quota[0].time_zone",
        "means nothing to a rolling window",
        "calendar",
    ),
    (
        "a.example.com:25}",
        "a:25, warm_up: {start: 2026-02-30, limits: 5}}",
        "6:39",
        "upstreams.a.warm_up.start",
        "not a day",
        "2026-12-01",
    ),
    ("a.example.com:25}", "a:25, warm_up: {limits: 5}}", "6:31", "upstreams.a.warm_up.start", "is required", ""),
    ("a.example.com:25}", "a:25, cost: -1}", "6:28", "upstreams.a.cost", "is not a number", "0.0001"),
    (
        "a.example.com:25}",
        'a:25, senders: "*@x.example", rewrite: me@x.example}',
        "6:31",
        "upstreams.a.senders",
        "no effect beside",
        "one of them",
    ),
    ("weighted,", "weighted, sticky_by: sender,", "9:38", "pools.p.sticky_by", "means nothing", "sticky"),
    ("a.example.com:25}", "a:25, colour: [500/day]}", "6:22", "upstreams.a.colour", "no such setting", "known here"),
    ("a.example.com:25", "localhost:2525", "6:16", "upstreams.a.address", "our own listener", "mail is to go"),
    ("  b: {", "  b c: {", "7:3", "upstreams.b c+", "cannot be a name", "letters"),
    ("weighted", "weigthed", "9:17", "pools.p.strategy", "is not one of", "weighted?"),
    ("weighted", "random", "9:40", "pools.p.upstreams.a", "means nothing to the strategy random", "weighted"),
    ("a: 3", "a: -1", "9:42", "pools.p.upstreams.a", "whole number", ""),
    ("{a: 3, b: 1}", "[a, aa]", "9:42", "pools.p.upstreams.aa", "there is no upstream 'aa'", "mean a?"),
    ("{a: 3, b: 1}", "[a, a]", "9:38", "pools.p.upstreams", "twice", ""),
    ("{a: 3, b: 1}", "[]", "9:38", "pools.p.upstreams", "must not be empty", ""),
    ("  p: {", "  a: {", "9:3", "pools.a+", "is the name of an upstream too", ""),
    ("primary: p,", "primary: pp,", "11:16", "routes.r.primary", "there is no pool or upstream 'pp'", "mean p?"),
    ("copies: [b]", "copies: [c]", "11:28", "routes.r.copies[0].to", "there is no pool or upstream 'c'", "known"),
    ("copies: [b]", "copies: [b, {to: b}]", "11:36", "routes.r.copies[1].to", "a copy already", "once"),
    ("copies: [b]", "copies: {to: b}", "11:27", "routes.r.copies", "must be a list", ""),
    ("copies: [b]", "copies: [{to: b, sample: 200%}]", "11:44", "routes.r.copies[0].sample", "not a share", "10%"),
    ("copies: [b]", "acceptance: hybird", "11:31", "routes.r.acceptance", "one of pass, hybrid, spool", "hybrid?"),
    ("copies: [b]", "sync_budget: off", "11:32", "routes.r.sync_budget", "is not a duration", "30s"),
    ("copies: [b]", "delay_warning: never", "11:34", "routes.r.delay_warning", "is not a duration", "or off"),
    ("copies: [b]", "in_doubt: fail-over", "11:29", "routes.r.in_doubt", "is not one of", "failover?"),
    ("copies: [b]", "lifetime: 5 weeks", "11:29", "routes.r.lifetime", "is not a duration", "5m"),
    ("copies: [b]", "backoff: [1m, x]", "11:28", "routes.r.backoff.intervals[1]", "is not a duration", ""),
    ("route: r", "route: s", "13:41", "rules[0].route", "there is no route 's'", "r"),
    ("recipient: ", "recipent: ", "13:6", "rules[0].recipent", "no such setting", "recipient?"),
    ("route: r", "account: ap, route: r", "13:43", "rules[0].account[0]", "there is no account 'ap'", "app?"),
    ("route: r", "listener: 127.0.0.1:25, route: r", "13:44", "rules[0].listener[0]", "no listener", "127.0.0.1:2525?"),
    ("route: r", "client_network: [x], route: r", "13:51", "rules[0].client_network[0]", "not a network", "10.0"),
    ("*@example.com", "b@", "13:17", "rules[0].recipient[0]", "matches no mail address", "*@example.com"),
    ("*@example.com", " ", "13:17", "rules[0].recipient[0]", "must not be empty", ""),
    ("a.example.com:25}", "a:25, rate: 10}", "6:28", "upstreams.a.rate", "is not a rate", "10/second"),
    ("a.example.com:25}", "a:25, rate: 500/day}", "6:28", "upstreams.a.rate", "is not a rate", "minute or hour"),
    ("a.example.com:25}", "a:25, rate: 0/hour}", "6:28", "upstreams.a.rate", "more than nothing", ""),
    ("path: spool", "path: postgresql://u:pw-word@x/y", "14:15", "spool.path", "is not a folder", "`url`"),
    ("path: spool", "path: spool, url: postgresql://x/y", "14:27", "spool.url", "so is spool.path", "set one"),
    ("path: spool", "url: mysql://u:pw-word@x/y", "14:14", "spool.url", "of a PostgreSQL database", "postgresql://"),
    ("path: spool", "url: postgresql://u:pw-word@x", "14:14", "spool.url", "names no database", "postgresql://"),
    ("path: spool", "url_file: nowhere", "14:19", "spool.url_file", "cannot read nowhere", ""),
    ("{path: spool}", "postgres://u:pw-word/@x/y", "14:8", "spool.url", "not a valid address", "%2F"),
    ("{path: spool}", "redis://u:pw-word@x/0", "14:8", "spool.url", "PostgreSQL", "postgresql://"),
    ("{path: spool}", "[spool]", "14:8", "spool", "must be one value (folder or `postgresql://...`)", ""),
    ("path: spool", "path: spool, allow_temporary: x", "14:39", "spool.allow_temporary", "true or false", ""),
    ("path: spool", "path: spool, keep_dead: off", "14:33", "spool.keep_dead", "is not a duration", "5m"),
    ("spool: {path: spool}", "journal: forever", "14:10", "journal.keep", "is not a duration", "or off"),
    ("spool: {path: spool}", "journal: {keep: x}", "14:17", "journal.keep", "is not a duration", "or off"),
    ("spool: {path: spool}", "notifications: off", "14:16", "notifications", "must be a mapping", ""),
    (
        "spool: {path: spool}",
        "notifications: {sender: me}",
        "14:25",
        "notifications.sender",
        "is not a mail address",
        "me@example.com",
    ),
    ("spool: {path: spool}", "notifications: {per_hour: 0}", "14:27", "notifications.per_hour", "at least 1", ""),
    ("spool: {path: spool}", "admin: {address: 127.0.0.1:2525}", "14:18", "admin.address", "taken by the listener", ""),
    ("spool: {path: spool}", "admin: {}", "14:8", "admin.address", "is required", ""),
    ("spool: {path: spool}", "log: {format: xml}", "14:15", "log.format", "is not one of", ""),
    ("spool: {path: spool}", "log: {level: warn}", "14:14", "log.level", "is not one of", "warning?"),
    ("spool: {path: spool}", "hostname: a b", "14:11", "hostname", "is not a host name", "mail.example.com"),
    ("spool: {path: spool}", "hostname: '[1.2.3]'", "14:11", "hostname", "address literal", "[192.0.2.1]"),
    ("spool: {path: spool}", "limits: {message_size: 0}", "14:24", "limits.message_size", "one octet", ""),
    ("spool: {path: spool}", "timeouts: {content: -5}", "14:21", "timeouts.content", "is not a duration", ""),
    ("spool: {path: spool}", "shutdown_timeout: x", "14:19", "shutdown_timeout", "is not a duration", ""),
    (
        "spool: {path: spool}",
        "tls: {certificate: no.pem, key: k}",
        "14:20",
        "tls.certificate+",
        "cannot read no.pem",
        "",
    ),
    ("spool: {path: spool}", "tls: {certificate: no.pem}", "14:6", "tls.key+", "is required", ""),
    ("spool: {path: spool}", "sppol: {path: x}", "14:1", "sppol", "no such setting", "mean spool?"),
    ("spool: {path: spool}", "accounts: {}", "14:1", "accounts", "is there twice", "line 3"),
    ("{address: b.", "{address: x:1, address: b.", "7:21", "upstreams.b.address", "is there twice", "line 7"),
]


@pytest.mark.parametrize(
    ("old", "new", "place", "key", "text", "advice"), LINES, ids=[f"{n}: {k}" for _, n, _, k, *_ in LINES]
)
def test_one_mistake(mistakes, old, new, place, key, text, advice):
    assert old in BASE
    problems = mistakes(BASE.replace(old, new, 1))
    follows = key.endswith("+")  # what refers to it, or is missing without it, is a mistake of its own
    key = key.removesuffix("+")
    (problem,) = (problem for problem in problems if problem.key == key)
    assert problem.place == f"c.yaml:{place}"
    assert follows or problems == (problem,)
    assert text in problem.text
    assert advice in problem.suggestion
    assert str(problem).startswith(f"c.yaml:{place}: {key}: {problem.text}")
    for secret in ("secret-word", "pw-word", "me:pw"):
        assert secret not in str(problems)


def test_the_base_is_fine(load_text):
    assert load_text(BASE).settings.warnings == ()


def test_all_mistakes_at_once_in_the_order_of_the_file(mistakes):
    text = BASE
    for old, new in (
        ("mode: submission", "mode: submision"),
        ("a.example.com:25}", "a.example.com:25, tls: startls, color: 5}"),
        ("{a: 3, b: 1}", "{a: 3, c: 1}"),
        ("copies: [b]", "copies: [d], acceptance: hybird"),
        ("route: r", "route: s"),
        ("path: spool", "pth: spool"),
    ):
        text = text.replace(old, new, 1)
    assert [(problem.place, problem.key) for problem in mistakes(text)] == [
        ("c.yaml:2:37", "listeners[0].mode"),
        ("c.yaml:6:39", "upstreams.a.tls.mode"),
        ("c.yaml:6:48", "upstreams.a.color"),
        ("c.yaml:9:48", "pools.p.upstreams.c"),
        ("c.yaml:11:28", "routes.r.copies[0].to"),
        ("c.yaml:11:44", "routes.r.acceptance"),
        ("c.yaml:13:41", "rules[0].route"),
        ("c.yaml:14:9", "spool.pth"),
    ]


def test_the_error_says_all_of_it(mistakes, load_text):
    problems = mistakes(BASE.replace("route: r", "route: s").replace("path: spool", "pth: spool"))
    assert str(problems[1]) == "c.yaml:14:9: spool.pth: there is no such setting; did you mean path?"


def test_mistakes_before_an_entry_do_not_move_those_behind_it(mistakes):
    text = BASE.replace(
        "rules:\n",
        "rules:\n  - nonsense\n  - {recipient: a@b, rout: r}\n  - {recipient: c@d, account: nobody, route: r}\n",
    )
    assert [(problem.place, problem.key) for problem in mistakes(text)] == [
        ("c.yaml:13:5", "rules[0]"),
        ("c.yaml:14:22", "rules[1].rout"),
        ("c.yaml:15:31", "rules[2].account[0]"),
    ]


RULES = """\
rules:
  - {account: app, route: r}
  - {recipient: [a@b, c@d], route: r}
  - %s
  - {reverse_path: "<>", route: r}
"""


@pytest.mark.parametrize(
    ("rule", "unreachable"),
    [
        ("{route: r}", ["rules[3]"]),
        ('{recipient: "*", route: r}', ["rules[3]"]),
        ("{reverse_path: ['<>', a@b], route: r}", ["rules[3]"]),
        ("{recipient: c@d, route: r}", ["rules[2]"]),
        ("{recipient: c@d, account: app, route: r}", ["rules[2]"]),
        ("{recipient: [c@d, e@f], route: r}", []),
        ("{client_network: 10.0.0.0/8, route: r}", []),
    ],
)
def test_a_rule_that_can_never_match(load_text, mistakes, rule, unreachable):
    text = BASE.partition("rules:")[0] + RULES % rule
    if not unreachable:
        assert len(load_text(text).settings.routes.rules) == 4
        return
    problems = mistakes(text)
    assert [problem.key for problem in problems] == unreachable
    assert "can never match" in problems[0].text
    assert "the rule at c.yaml:1" in problems[0].text


def test_several_routes_and_nothing_to_choose_by(mistakes, load_text):
    text = BASE.partition("rules:")[0].replace("routes:\n", "routes:\n  s: {primary: a}\n")
    (problem,) = mistakes(text)
    assert (problem.place, problem.key) == ("c.yaml:10:1", "routes")
    assert "the account app" in problem.text
    assert load_text(text.replace("secret-word", "secret-word, route: s")).settings.routes.rules == ()


def test_rewriting_is_for_submission_only(mistakes, load_text):
    text = BASE.replace("a.example.com:25", "a.example.com:25, rewrite: me@example.com")
    assert load_text(text).settings.upstreams["a"].rewrite is not None
    relay = text.replace("accounts:", "  - {address: 10.0.0.5:25, mode: relay}\naccounts:")
    (problem,) = mistakes(relay)
    assert (problem.place, problem.key) == ("c.yaml:7:43", "upstreams.a.rewrite")
    kept_apart = relay.replace('recipient: "*@example.com"', "listener: 127.0.0.1:2525")
    assert len(load_text(kept_apart).settings.listeners) == 2


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("127.0.0.1:2525", "127.0.0.1:2525"),
        ("':2525'", "127.0.0.1:2525"),
        ("0.0.0.0:2525", "127.0.0.1:2525"),
        ("'[::]:2525'", "'[::1]:2525'"),
        ("'*:2525'", "'[::1]:2525'"),
        ("localhost:2525", "LOCALHOST:2525"),
        ("'[::1]:2525'", "'[0:0::1]:2525'"),
    ],
)
def test_two_listeners_on_one_address(mistakes, first, second):
    text = BASE.replace("127.0.0.1:2525", first).replace(
        "accounts:", f"  - {{address: {second}, mode: relay}}\naccounts:"
    )
    (problem,) = mistakes(text)
    assert (problem.place, problem.key) == ("c.yaml:3:15", "listeners[1].address")
    assert "taken by another listener" in problem.text


def test_listeners_that_only_look_alike(load_text):
    text = BASE.replace("accounts:", "  - {address: '[::]:2525', mode: relay}\naccounts:")
    assert [listener.host for listener in load_text(text).settings.listeners] == ["127.0.0.1", "::"]


@pytest.mark.parametrize(
    ("bound", "target"),
    [
        ("127.0.0.1:2525", "127.0.0.1:2525"),
        ("127.0.0.1:2525", "localhost:2525"),
        ("127.0.0.1:2525", "0.0.0.0:2525"),
        ("127.0.0.1:2525", "'[::ffff:127.0.0.1]:2525'"),
        ("':2525'", "'[::1]:2525'"),
        ("0.0.0.0:2525", "127.0.0.1:2525"),
        ("'[::]:2525'", "LOCALHOST.:2525"),
        ("':2525'", "me.example.com:2525"),
        ("192.0.2.1:2525", "192.0.2.1:2525"),
    ],
)
def test_an_upstream_that_is_ourselves(mistakes, bound, target):
    text = BASE.replace("127.0.0.1:2525", bound).replace("a.example.com:25", target) + "hostname: me.example.com\n"
    (problem,) = mistakes(text)
    assert (problem.place, problem.key) == ("c.yaml:6:16", "upstreams.a.address")
    assert "our own listener" in problem.text


@pytest.mark.parametrize(
    ("bound", "target"),
    [("127.0.0.1:2525", "127.0.0.1:2526"), ("192.0.2.1:2525", "192.0.2.2:2525"), ("':2525'", "192.0.2.1:2525")],
)
def test_an_upstream_that_is_a_neighbour(load_text, bound, target):
    text = BASE.replace("127.0.0.1:2525", bound).replace("a.example.com:25", target)
    assert load_text(text).settings.upstreams["a"].host == target.partition(":")[0]


@pytest.mark.parametrize(
    ("old", "new", "keys"),
    [
        (
            "127.0.0.1:2525, mode: submission",
            "127.0.0.1:x, mode: submission, tls: implicit",
            ["listeners[0].address", "listeners[0].tls"],
        ),
        (
            "127.0.0.1:2525, mode: submission",
            "127.0.0.1:x, mode: submision, tls: {certificate: no.pem}",
            ["listeners[0].address", "listeners[0].mode", "listeners[0].tls"],
        ),
        (
            "127.0.0.1:2525, mode: submission, allow_plaintext_auth: true",
            "127.0.0.1:x, mode: submission",
            ["listeners[0]", "listeners[0].address"],
        ),
        (
            "127.0.0.1:2525, mode: submission",
            "127.0.0.1:x, mode: submission, trusted_networks: 0.0.0.0/0",
            ["listeners[0].address", "listeners[0].trusted_networks"],
        ),
        (
            "address: a.example.com:25",
            "address: a, tls: off, auth: {username: u, password_file: no}",
            ["upstreams.a.address", "upstreams.a.auth", "upstreams.a.auth.password_file"],
        ),
        (
            "address: a.example.com:25",
            "address: a:25, auth: {password_file: no}",
            ["upstreams.a.auth.username", "upstreams.a.auth.password_file"],
        ),
        ("primary: p, copies: [b]", "copies: [b, c]", ["routes.r.primary", "routes.r.copies[1].to"]),
        ("route: r}", "account: ap}", ["rules[0].route", "rules[0].account[0]"]),
        ("spool: {path: spool}", "tls: {key: no.pem}", ["tls.certificate", "tls.key"]),
        (
            "spool: {path: spool}",
            "tls: {certificate: no.pem, key: no.pem}",
            ["tls.certificate", "tls.key"],
        ),
        (
            "primary: p, copies: [b]",
            "primary: p, primary: q, copies: [c]",
            ["routes.r.primary", "routes.r.copies[0].to"],
        ),
        ("a.example.com:25}", "!x a.example.com:25, tls: nothing}", ["upstreams.a.address", "upstreams.a.tls.mode"]),
    ],
)
def test_a_mistake_does_not_hide_others(mistakes, old, new, keys):
    assert old in BASE
    found = [problem.key for problem in mistakes(BASE.replace(old, new, 1))]
    assert [key for key in keys if key not in found] == []
    assert not {"rules[0]", "upstreams.b.address"} & set(found)
    assert len(found) == len(set(found))


def test_a_wrong_address_is_not_compared_with_others(mistakes):
    text = BASE.replace("127.0.0.1:2525", "127.0.0.1:x").replace(
        "accounts:", "  - {address: y, mode: relay}\naccounts:"
    )
    text = text.replace("a.example.com:25", "localhost:x").replace("spool: {path: spool}", "admin: {address: z}")
    assert [problem.key for problem in mistakes(text)] == [
        "listeners[0].address",
        "listeners[1].address",
        "upstreams.a.address",
        "admin.address",
    ]


@pytest.mark.parametrize(
    ("old", "new", "key", "meant"),
    [
        ("upstreams:\n", "upstreas:\n", "upstreas", "upstreams"),
        ("pools:", "poos:", "poos", "pools"),
        ("accounts:", "accouts:", "accouts", "accounts"),
        ("listeners:", "listners:", "listners", "listeners"),
        ("routes:", "route:", "route", "routes"),
        ("primary:", "primry:", "routes.r.primry", "primary"),
        ("mode: ", "mod: ", "listeners[0].mod", "mode"),
    ],
)
def test_a_misspelt_name_is_one_mistake(mistakes, old, new, key, meant):
    (problem,) = mistakes(BASE.replace(old, new, 1))
    assert problem.key == key
    assert problem.suggestion == f"did you mean {meant}?"


@pytest.mark.parametrize(
    ("old", "new", "text", "advice"),
    [
        ("  p: {strategy: weighted, ", "  strategy: weighted\n  p: {", "must be a mapping", "a name of your choice"),
        ("  app: {password: secret-word}", "  app:\n    password secret-word", "must be a mapping", "after the colon"),
        ("  - {address", "    {address", "must be a list", "`- `"),
        ("address: a.example.com:25", "address: '???'", "has no port", "write it like mail.example.com:25"),
        ("{address: a.example.com:25}", "{address: a.example.com:25, tls: [x]}", "one value (the mode) or a mapp", ""),
    ],
)
def test_advice_for_what_is_easily_done(mistakes, old, new, text, advice):
    assert old in BASE
    problem = next(problem for problem in mistakes(BASE.replace(old, new, 1)) if text in problem.text)
    assert advice in problem.suggestion


def test_nothing_is_said_of_one_mistake_but_the_mistake(folder, capsys):
    (folder / "c.yaml").write_text(BASE.replace("path: spool", "pth: spool"))
    assert main(["check", "--config", "c.yaml"]) == 78
    assert capsys.readouterr().err == "c.yaml:14:9: spool.pth: there is no such setting; did you mean path?\n"
