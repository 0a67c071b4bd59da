"""Every key of the schema has an effect: for each one, another value makes other settings."""

import copy
from dataclasses import replace
from functools import cache

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from waypost.config.load import read
from waypost.config.schema import Configuration
from waypost.config.walk import settings_of
from waypost.config.write import yaml_text

BASE = {
    "listeners": [{"address": "127.0.0.1:2525", "mode": "submission", "trusted_networks": ["10.0.0.0/8"]}],
    "accounts": {"NAME": {"password": "secret"}},
    "upstreams": {
        "NAME": {
            "address": "a.example.com:25",
            "tls": {"mode": "starttls"},
            "auth": {"username": "u", "password": "secret"},
            "quota": [{"limit": "500", "per": "day"}],
            "replies": [{"code": ["550"], "means": "quota"}],
        },
        "b": {"address": "b.example.com:25"},
    },
    "pools": {"NAME": {"strategy": "weighted", "upstreams": {"b": "1"}}},
    "routes": {
        "NAME": {"primary": "NAME", "copies": [{"to": "b"}]},
        "second": {"primary": "b"},
    },
    "rules": [{"recipient": "*@example.com", "route": "NAME"}],
    "replies": [{"code": ["450"], "means": "quota"}],
    "spool": {"path": "spool"},
}
BASE["pools"] = {"pool": BASE["pools"]["NAME"]}

HOURS = {"rules.0.time": [{"hours": "08:00-18:00"}]}
PERCENT = {"rules.0.percent": {"value": "10"}}


@cache
def dkim_keys(name):
    """A key of its own for each name."""
    key = ed25519.Ed25519PrivateKey.generate()
    clear = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, clear)


WARM_UP = {"upstreams.NAME.warm_up": {"start": "2026-12-01", "limits": ["50", "100"]}}
SIGNING = {"dkim": [{"domain": "example.com", "selector": "s1", "key_file": "rsa.pem"}]}
FILE = {"accounts_file": {"path": "users", "format": "htpasswd"}}
ASKING = {
    "tls": {"certificate": "cert.pem", "key": "key.pem"},
    "listeners.0.client_certificates": {"ca_file": "ca.pem"},
}
PAIR = {"certificate": "cert.pem", "key": "key.pem"}
FURTHER = {"tls": PAIR | {"by_name": [PAIR]}}
FURTHER_HERE = {"listeners.0.tls": PAIR | {"by_name": [PAIR]}}


def oauth2(**more):
    """What has to be there beside a setting of `oauth2`."""
    section = {"provider": "microsoft", "client_id": "waypost", "refresh_token": "secret"} | more
    section = {key: value for key, value in section.items() if value is not None}
    return {"upstreams.NAME.auth.password": None, "upstreams.NAME.auth.oauth2": section}


def plugin(**more):
    """A plugin, for what is said of one or names it."""
    section = {"python": "./mine.py"} | more
    return {"plugins": {"NAME": {key: value for key, value in section.items() if value is not None}}}


# Another value for each key, where it stands in BASE. A third part says what has to be there beside it.
OTHER = {
    "hostname": "other.example.com",
    "listeners.0.address": "127.0.0.1:2526",
    "listeners.0.mode": "relay",
    "listeners.0.protocol": "lmtp",
    "listeners.0.socket_mode": ("0600", {"listeners.0.address": "unix:/run/s", "listeners.0.trusted_networks": []}),
    "listeners.0.tls.mode": ("implicit", {"tls": {"certificate": "cert.pem", "key": "key.pem"}}),
    "listeners.0.tls.certificate": ("cert2.pem", {"listeners.0.tls.key": "key.pem"}),
    "listeners.0.tls.key": ("key2.pem", {"listeners.0.tls.certificate": "cert.pem"}),
    "listeners.0.tls.by_name.0.certificate": ("cert2.pem", FURTHER_HERE),
    "listeners.0.tls.by_name.0.key": ("key2.pem", FURTHER_HERE),
    "listeners.0.tls.minimum": ("1.3", {"tls": PAIR}),
    "listeners.0.trusted_networks": ["10.0.0.0/9"],
    "listeners.0.proxy_protocol": ["10.0.0.5"],
    "listeners.0.xclient": ["10.0.0.5"],
    "listeners.0.allow_plaintext_auth": "true",
    "listeners.0.mechanisms": ["plain"],
    "listeners.0.client_certificates.ca_file": ("ca2.pem", ASKING),
    "listeners.0.client_certificates.required": ("true", ASKING),
    # Without it these networks are refused; with it they are a warning on every start.
    "listeners.0.allow_open_relay": ("true", {"listeners.0.trusted_networks": ["0.0.0.0/0"]}),
    "listeners.0.limits.connections": "7",
    "listeners.0.limits.connections_per_address": "7",
    "listeners.0.limits.recipients": "7",
    "listeners.0.limits.message_size": "7",
    "listeners.0.limits.line_length": "7",
    "listeners.0.limits.errors": "7",
    "listeners.0.timeouts.command": "7",
    "listeners.0.timeouts.content": "7",
    "listeners.0.timeouts.handshake": "7",
    "tls.certificate": ("cert2.pem", {"tls.key": "key.pem"}),
    "tls.key": ("key2.pem", {"tls.certificate": "cert.pem"}),
    "tls.by_name.0.certificate": ("cert2.pem", FURTHER),
    "tls.by_name.0.key": ("key2.pem", FURTHER),
    **{
        f"{place}.0.{key}": value
        for place in ("replies", "upstreams.NAME.replies")
        for key, value in (
            ("means", "login"),
            ("code", ["554"]),
            ("enhanced", ["x.4.5"]),
            ("text", ["daily*limit"]),
            ("phase", ["rcpt"]),
            ("sleep", "7h"),
            ("name", "other"),
        )
    },
    "accounts.NAME.password": "other",
    "accounts.NAME.password_file": ("password.txt", {"accounts.NAME.password": None}),
    "accounts.NAME.certificate": ["me@example.com"],
    "accounts.NAME.limits.messages": ["100/hour", "1000/day"],
    "accounts.NAME.limits.recipients": ["7/minute"],
    "accounts.NAME.route": "second",
    "accounts.NAME.may_send_as": ["*@example.com"],
    "accounts_file.path": ("users2", FILE),
    "accounts_file.format": ("dovecot", FILE),
    "accounts_file.route": ("second", FILE),
    "accounts_file.may_send_as": (["*@example.com"], FILE),
    "accounts_file.limits.messages": (["7/second"], FILE),
    "accounts_file.limits.recipients": (["7/hour"], FILE),
    "upstreams.NAME.address": "c.example.com:25",
    "upstreams.NAME.protocol": "lmtp",
    "upstreams.NAME.preset": "gmail",
    "upstreams.NAME.region": ("eu", {"upstreams.NAME.preset": "mailgun", "upstreams.NAME.address": None}),
    "upstreams.NAME.tls.mode": "implicit",
    "upstreams.NAME.tls.verify": "false",
    "upstreams.NAME.tls.ca_file": "ca.pem",
    "upstreams.NAME.tls.fingerprint": ["ab" * 32],
    "upstreams.NAME.tls.server_name": "other.example.com",
    "upstreams.NAME.tls.minimum": "1.3",
    "upstreams.NAME.tls.certificate": ("cert2.pem", {"upstreams.NAME.tls.key": "key.pem"}),
    "upstreams.NAME.tls.key": ("key2.pem", {"upstreams.NAME.tls.certificate": "cert.pem"}),
    "upstreams.NAME.auth.username": "other",
    "upstreams.NAME.auth.password": "other",
    "upstreams.NAME.auth.password_file": ("password.txt", {"upstreams.NAME.auth.password": None}),
    "upstreams.NAME.auth.authorize_as": "shared@example.com",
    "upstreams.NAME.auth.mechanism": "PLAIN",
    "upstreams.NAME.auth.oauth2.provider": ("google", oauth2()),
    "upstreams.NAME.auth.oauth2.tenant": ("example.com", oauth2()),
    # Each grant needs what is a mistake beside the other.
    "upstreams.NAME.auth.oauth2.grant": (
        "client_credentials",
        oauth2(refresh_token=None, client_secret="secret", tenant="example.com"),
    ),
    "upstreams.NAME.auth.oauth2.client_id": ("other", oauth2()),
    "upstreams.NAME.auth.oauth2.client_secret": ("other", oauth2()),
    "upstreams.NAME.auth.oauth2.client_secret_file": ("password.txt", oauth2()),
    "upstreams.NAME.auth.oauth2.refresh_token": ("other", oauth2()),
    "upstreams.NAME.auth.oauth2.refresh_token_file": (
        "password.txt",
        oauth2(refresh_token=None, refresh_token_file="url.txt"),
    ),
    "upstreams.NAME.auth.oauth2.scope": ("mail", oauth2()),
    "upstreams.NAME.auth.oauth2.token_url": ("https://a.example/token", oauth2()),
    "upstreams.NAME.auth.oauth2.device_authorization_url": ("https://a.example/device", oauth2()),
    "upstreams.NAME.auth.oauth2.ca_file": ("ca.pem", oauth2()),
    "upstreams.NAME.auth.oauth2.timeout": ("7", oauth2()),
    "upstreams.NAME.allow_plaintext_auth": "true",
    "upstreams.NAME.connections": "7",
    "upstreams.NAME.idle_timeout": "7",
    "upstreams.NAME.max_messages": "7",
    "upstreams.NAME.max_age": "7",
    **{
        f"upstreams.NAME.{section}.{phase}": "7"
        for section in ("timeouts", "background_timeouts")
        for phase in ("connect", "greeting", "command", "data", "block", "dot")
    },
    **{
        f"{there}.{key}": value
        for there in ("upstreams.NAME.rewrite", "routes.NAME.rewrite")
        for key, value in {
            "from": ({"*@a.example": "*@b.example"}, {f"{there}.remove": ["X"]}),
            "envelope": ({"*": "me@example.com"}, {f"{there}.remove": ["X"]}),
            "sender": ({"*": "me@example.com"}, {f"{there}.remove": ["X"]}),
            "reply_to": ("none", {f"{there}.from": {"*": "me@example.com"}}),
            "add": ({"X-App": "shop"}, {f"{there}.remove": ["X"]}),
            "remove": (["X-Y"], {f"{there}.from": {"*": "me@example.com"}}),
        }.items()
    },
    "dkim.0.domain": ("other.example", SIGNING),
    "dkim.0.selector": ("s2", SIGNING),
    "dkim.0.key_file": ("rsa2.pem", SIGNING),
    "dkim.0.subdomains": ("true", SIGNING),
    "dkim.0.headers": (["From", "To"], SIGNING),
    "dkim.0.canonicalization": ("simple/relaxed", SIGNING),
    "upstreams.NAME.rate": "7/minute",
    "upstreams.NAME.client_address": "xclient",
    "upstreams.NAME.quota.0.limit": "7",
    "upstreams.NAME.quota.0.per": "week",
    "upstreams.NAME.quota.0.of": "recipients",
    "upstreams.NAME.quota.0.window": "calendar",
    "upstreams.NAME.quota.0.time_zone": "Europe/Berlin",
    "upstreams.NAME.warm_up.start": ("2026-12-02", WARM_UP),
    "upstreams.NAME.warm_up.limits": (["50", "200"], WARM_UP),
    "upstreams.NAME.warm_up.days": ("7", WARM_UP),
    "upstreams.NAME.warm_up.of": ("recipients", WARM_UP),
    "upstreams.NAME.warm_up.time_zone": ("Europe/Berlin", WARM_UP),
    "upstreams.NAME.senders": ["*@example.com"],
    "upstreams.NAME.cost": "7",
    "upstreams.NAME.probe.interval": "7m",
    "upstreams.NAME.probe.login": "false",
    "upstreams.NAME.probe.canary": "canary@example.com",
    "upstreams.NAME.probe.sender": ("probe@example.com", {"upstreams.NAME.probe.canary": "canary@example.com"}),
    "plugins.NAME.python": ("./other.py", plugin()),
    "plugins.NAME.exec": (["cat", "-u"], plugin(python=None, exec=["cat"])),
    "plugins.NAME.starlark": ("./other.star", plugin(python=None, starlark="./mine.star")),
    "plugins.NAME.go": ("./other", plugin(python=None, go="./mine")),
    "plugins.NAME.timeout": ("7", plugin()),
    "plugins.NAME.memory": ("64MB", plugin()),
    "plugins.NAME.at_once": ("7", plugin()),
    "plugins.NAME.needs": ("content", plugin() | {"routes.NAME.acceptance": "spool"}),
    "pools.pool.plugin": ("NAME", plugin()),
    "pools.pool.sticky_by": ("account", {"pools.pool.strategy": "sticky"}),
    "pools.pool.strategy": "random",
    "pools.pool.upstreams": {"b": "2"},
    "routes.NAME.primary": "pool",
    "routes.NAME.copies.0.to": "pool",
    "routes.NAME.copies.0.required": "false",
    "routes.NAME.copies.0.sample": "10%",
    "routes.NAME.acceptance": "spool",
    "routes.NAME.sync_budget": "7",
    "routes.NAME.delay_warning": "7",
    "routes.NAME.in_doubt": "failover",
    "routes.NAME.in_doubt_hold": "7",
    "routes.NAME.silence": "7",
    "routes.NAME.backoff.intervals": ["7"],
    "routes.NAME.backoff.jitter": "0",
    "routes.NAME.lifetime": "7",
    "rules.0.listener": ["127.0.0.1:2525"],
    "rules.0.account": ["NAME"],
    "rules.0.client_network": ["10.0.0.0/8"],
    "rules.0.reverse_path": ["<>"],
    "rules.0.recipient": ["bob@example.com"],
    "rules.0.helo": ["*.example.com"],
    "rules.0.reverse_path_file": ["list"],
    "rules.0.recipient_file": ["list"],
    "rules.0.time.0.days": ("mon-fri", HOURS),
    "rules.0.time.0.hours": ("10:00-18:00", HOURS),
    "rules.0.time.0.time_zone": ("Europe/Berlin", HOURS),
    "rules.0.percent.value": ("20", PERCENT),
    "rules.0.percent.by": ("sender", PERCENT),
    "rules.0.percent.salt": ("s", PERCENT),
    "rules.0.size": "over 5MB",
    "rules.0.header": {"Subject": ["*x*"]},
    "rules.0.name": "some",
    "rules.0.route": "second",
    "spool.path": "other",
    "spool.url": ("postgresql://u@host/db", {"spool.path": None}),
    "spool.url_file": ("url.txt", {"spool.path": None}),
    "spool.allow_temporary": "true",
    "spool.keep_dead": "7",
    "journal.keep": "7",
    "notifications.sender": "me@example.com",
    "notifications.per_hour": "7",
    "admin.address": ":8025",
    "log.format": "json",
    "log.level": "debug",
    "limits.connections": "7",
    "limits.connections_per_address": "7",
    "limits.recipients": "7",
    "limits.message_size": "7",
    "limits.line_length": "7",
    "limits.errors": "7",
    "limits.login.failures": "7",
    "limits.login.longest_delay": "7",
    "limits.login.forget": "7",
    "limits.spill_size": "7",
    "limits.max_received": "7",
    "timeouts.command": "7",
    "timeouts.content": "7",
    "timeouts.handshake": "7",
    "shutdown_timeout": "7",
}


def test_every_key_of_the_schema_is_here():
    keys = {".".join(map(str, setting.path)) for setting in settings_of(Configuration)}
    ours = {key.replace("pools.pool.", "pools.NAME.") for key in OTHER}
    assert ours == keys


def put(data, key, value):
    *parents, last = [int(part) if part.isdigit() else part for part in key.split(".")]
    for part in parents:
        data = data[part] if isinstance(data, list) else data.setdefault(part, {})
    data[last] = value


@pytest.fixture
def files(folder, certificates):
    """Two names for one certificate and one key, and a password."""
    for name in ("cert.pem", "cert2.pem"):
        (folder / name).write_bytes(certificates.certificate.read_bytes())
    for name in ("key.pem", "key2.pem"):
        (folder / name).write_bytes(certificates.key.read_bytes())
    (folder / "ca.pem").write_bytes(certificates.ca_file.read_bytes())
    (folder / "ca2.pem").write_bytes(certificates.ca_file.read_bytes())
    for name in ("rsa.pem", "rsa2.pem"):
        (folder / name).write_bytes(dkim_keys(name))
    for name in ("users", "users2"):
        (folder / name).write_text("x:$5$abc$sCOGUciM.GdmYMCUvmUcgu03oRH87O0clF96.9mwWGB\n")
    (folder / "list").write_text("example.org\n")
    for name in ("mine.py", "other.py", "mine.star", "other.star"):
        (folder / name).write_text("def choose(question):\n    return ['b']\n")
    for name in ("mine", "other"):
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    (folder / "password.txt").write_text("from a file\n")
    (folder / "url.txt").write_text("postgresql://u:secret@host/db\n")


def settings_from(folder, data):
    (folder / "c.yaml").write_text(yaml_text(data))
    settings = read("c.yaml", {}).settings
    # Where a rule stands, or what is warned of, changes with every line before it, which is no effect of a key.
    rules = tuple(replace(rule, origin="") for rule in settings.routes.rules)
    warnings = tuple(warning for warning in settings.warnings if "OPEN RELAY" in warning)
    settings = replace(settings, routes=replace(settings.routes, rules=rules), warnings=warnings)
    return settings, repr(settings)


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("key", OTHER)
def test_another_value_makes_other_settings(folder, key):
    other = OTHER[key]
    value, beside = other if isinstance(other, tuple) else (other, {})
    data = copy.deepcopy(BASE)
    for name, needed in beside.items():
        put(data, name, copy.deepcopy(needed))
    if key.endswith("tls.certificate"):
        put(data, key, "cert.pem")
    elif key.endswith("tls.key"):
        put(data, key, "key.pem")
    elif key.endswith("password_file"):
        put(data, key.removesuffix("_file"), "secret")
    if key.endswith(("allow_open_relay", "oauth2.grant")):
        before, _ = settings_from(folder, BASE)
    else:
        before, _ = settings_from(folder, data)
    if key.endswith("password_file"):
        put(data, key.removesuffix("_file"), None)
    put(data, key, value)
    after, shown = settings_from(folder, data)
    assert after != before
    assert "secret" not in shown.replace("client_secret", "")
    if key.endswith("allow_open_relay"):
        assert any("OPEN RELAY" in warning for warning in after.warnings)


BACKGROUND_20 = dict.fromkeys(("connect", "greeting", "command", "data", "block", "dot"), "1200")


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("short", "long"),
    [
        ({"upstreams.NAME.tls": "implicit"}, {"upstreams.NAME.tls": {"mode": "implicit"}}),
        ({"pools.pool.upstreams": ["b", "NAME"]}, {"pools.pool.upstreams": {"b": "1", "NAME": "1"}}),
        ({"pools.pool.upstreams": "b"}, {"pools.pool.upstreams": {"b": "1"}}),
        ({"routes.NAME.copies": "b"}, {"routes.NAME.copies": [{"to": "b"}]}),
        ({"routes.NAME.copies": ["b", "pool"]}, {"routes.NAME.copies": [{"to": "b"}, {"to": "pool"}]}),
        (
            {"upstreams.NAME.timeouts": "20s"},
            {
                f"upstreams.NAME.timeouts.{phase}": "20"
                for phase in ("connect", "greeting", "command", "data", "block", "dot")
            },
        ),
        (
            {"upstreams.NAME.background_timeouts": "20s"},
            {
                f"upstreams.NAME.background_timeouts.{phase}": "20"
                for phase in ("connect", "greeting", "command", "data", "block")
            },
        ),
        ({"upstreams.NAME.background_timeouts": "20m"}, {"upstreams.NAME.background_timeouts": BACKGROUND_20}),
        ({"routes.NAME.backoff": ["1m", "1h"]}, {"routes.NAME.backoff": {"intervals": ["60", "3600"]}}),
        ({"routes.NAME.backoff": "1m"}, {"routes.NAME.backoff": {"intervals": ["60"]}}),
        ({"spool": "other"}, {"spool": {"path": "other"}}),
        ({"spool": "postgres://u@h/d"}, {"spool": {"url": "postgres://u@h/d"}}),
        ({"upstreams.NAME.probe": "5m"}, {"upstreams.NAME.probe": {"interval": "300"}}),
        ({"upstreams.NAME.quota": "5/day"}, {"upstreams.NAME.quota": [{"limit": "5", "per": "day"}]}),
        (
            {"upstreams.NAME.quota": ["5/day", "9 / hour recipients"]},
            {
                "upstreams.NAME.quota": [
                    {"limit": "5", "per": "day", "of": "messages", "window": "rolling"},
                    {"limit": "9", "per": "hour", "of": "recipients"},
                ]
            },
        ),
        (
            {"upstreams.NAME.quota": [{"limit": "5", "per": "day", "time_zone": "Europe/Berlin"}]},
            {
                "upstreams.NAME.quota": [
                    {"limit": "5", "per": "day", "window": "calendar", "time_zone": "Europe/Berlin"}
                ]
            },
        ),
        ({"journal": "off"}, {"journal": {"keep": "off"}}),
        ({"journal": "1h"}, {"journal": {"keep": "3600"}}),
        ({"rules.0.recipient": "a@b"}, {"rules.0.recipient": ["a@b"]}),
        ({"listeners.0.trusted_networks": "10.0.0.1"}, {"listeners.0.trusted_networks": ["10.0.0.1/32"]}),
        ({"listeners.0.proxy_protocol": "true"}, {"listeners.0.proxy_protocol": ["trusted"]}),
        ({"listeners.0.proxy_protocol": "10.0.0.5"}, {"listeners.0.proxy_protocol": ["10.0.0.5/32"]}),
        ({"listeners.0.proxy_protocol": "trusted"}, {"listeners.0.proxy_protocol": ["10.0.0.0/8"]}),
        ({"listeners.0.proxy_protocol": "false"}, {}),
        (
            {"listeners.0.tls": "off", "tls": {"certificate": "cert.pem", "key": "key.pem"}},
            {"listeners.0.tls": {"mode": "off"}},
        ),
        ({"log": None, "accounts.NAME.route": None}, {}),
    ],
)
def test_short_forms(folder, short, long):
    both = []
    for form in (short, long):
        data = copy.deepcopy(BASE)
        for key, value in form.items():
            put(data, key, value)
        both.append(settings_from(folder, data)[0])
    assert both[0] == both[1]


def test_a_listeners_limits_come_before_the_common_ones(folder):
    data = copy.deepcopy(BASE)
    put(data, "limits.errors", "7")
    put(data, "limits.recipients", "8")
    put(data, "listeners.0.limits.errors", "9")
    limits = settings_from(folder, data)[0].listeners[0].limits
    assert (limits.errors, limits.recipients, limits.connections) == (9, 8, 1000)
