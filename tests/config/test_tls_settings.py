"""TLS in the configuration: certificates that cannot be used, versions that are old, settings that mean nothing."""

from datetime import UTC, datetime

import pytest
import trustme

BASE = """\
hostname: mail.example.com
listeners:
  - {address: "127.0.0.1:2525", mode: submission, trusted_networks: [127.0.0.0/8], tls: LISTENER}
tls: {certificate: mail.pem, key: mail.key, by_name: [FURTHER]}
upstreams:
  it: {address: "mail.example.org:587", tls: UPSTREAM}
routes: {r: {primary: it, acceptance: pass}}
"""
DEFAULTS = {"LISTENER": "auto", "FURTHER": "", "UPSTREAM": "starttls"}


def text(**parts):
    found = BASE
    for name, default in DEFAULTS.items():
        found = found.replace(name, parts.get(name, default))
    return found


@pytest.fixture(autouse=True)
def files(folder):
    """Certificates: two that are right, one that has expired, one without a name; and a file that is none."""
    authority = trustme.CA()
    past = datetime(2020, 1, 2, 3, 4, tzinfo=UTC)
    for name, issued in (
        ("mail", authority.issue_cert("mail.example.com")),
        ("other", authority.issue_cert("other.example.com")),
        ("old", authority.issue_cert("old.example.com", not_before=datetime(2019, 1, 1, tzinfo=UTC), not_after=past)),
        ("person", authority.issue_cert("me@example.com")),
    ):
        issued.cert_chain_pems[0].write_to_path(folder / f"{name}.pem")
        issued.private_key_pem.write_to_path(folder / f"{name}.key")
    (folder / "none.pem").write_text("nothing")


@pytest.mark.parametrize(
    ("part", "written", "key", "words", "advice"),
    [
        ("LISTENER", "{minimum: '1.4'}", "listeners[0].tls.minimum", "'1.4' is not one of 1.0, 1.1, 1.2, 1.3", ""),
        ("LISTENER", "{minimum: tls1.2}", "listeners[0].tls.minimum", "'tls1.2' is not one of", "1.2?"),
        ("LISTENER", "{mode: off, minimum: 1.0}", "listeners[0].tls.minimum", "where TLS is off", "`mode`"),
        (
            "LISTENER",
            "{by_name: [{certificate: other.pem, key: other.key}]}",
            "listeners[0].tls.by_name",
            "no effect without a `certificate`",
            "`tls`",
        ),
        ("FURTHER", "{certificate: other.pem}", "tls.by_name[0].key", "is required", ""),
        (
            "FURTHER",
            "{certificate: gone.pem, key: other.key}",
            "tls.by_name[0].certificate",
            "cannot read gone.pem",
            "",
        ),
        ("FURTHER", "{certificate: other.pem, key: mail.key}", "tls.by_name[0].key", "is not the key of other.pem", ""),
        ("FURTHER", "{certificate: none.pem, key: mail.key}", "tls.by_name[0]", "cannot use none.pem", "PEM files"),
        ("FURTHER", "{certificate: person.pem, key: person.key}", "tls.by_name[0].certificate", "no host name", "DNS"),
        ("UPSTREAM", "{mode: starttls, minimum: 1}", "upstreams.it.tls.minimum", "'1' is not one of", ""),
        ("UPSTREAM", "{mode: off, minimum: 1.2}", "upstreams.it.tls.minimum", "where TLS is off", ""),
        ("UPSTREAM", "{mode: off, server_name: a.example}", "upstreams.it.tls.server_name", "where TLS is off", ""),
        ("UPSTREAM", "{mode: starttls, certificate: mail.pem}", "upstreams.it.tls", "has no key", "together"),
        ("UPSTREAM", "{mode: starttls, key: mail.key}", "upstreams.it.tls", "has no certificate", "together"),
        (
            "UPSTREAM",
            "{mode: starttls, certificate: mail.pem, key: other.key}",
            "upstreams.it.tls.key",
            "other.key is not the key of mail.pem",
            "",
        ),
        (
            "UPSTREAM",
            "{mode: starttls, certificate: mail.pem, key: gone.key}",
            "upstreams.it.tls.key",
            "cannot read gone.key",
            "",
        ),
        (
            "UPSTREAM",
            "{mode: starttls, certificate: mail.pem, key: mail.pem}",
            "upstreams.it.tls",
            "cannot use mail.pem with mail.pem",
            "PEM files",
        ),
        (
            "UPSTREAM",
            "{mode: starttls, certficate: mail.pem}",
            "upstreams.it.tls.certficate",
            "no such",
            "certificate?",
        ),
    ],
)
def test_mistakes(mistakes, part, written, key, words, advice):
    [problem] = mistakes(text(**{part: written}))
    line = {"LISTENER": 3, "FURTHER": 4, "UPSTREAM": 6}[part]
    assert problem.place.startswith(f"c.yaml:{line}:")
    assert problem.key == key
    assert words in problem.text
    assert advice in problem.suggestion


@pytest.mark.parametrize(
    ("part", "written", "key", "words"),
    [
        ("LISTENER", "{minimum: 1.0}", "listeners[0].tls.minimum", "OLD TLS: 127.0.0.1:2525 takes TLS 1.0"),
        ("LISTENER", "{minimum: 1.1}", "listeners[0].tls.minimum", "OLD TLS: 127.0.0.1:2525 takes TLS 1.1"),
        ("UPSTREAM", "{mode: starttls, minimum: 1.0}", "upstreams.it.tls.minimum", "OLD TLS: 1.0 and its ciphers"),
        ("LISTENER", "{certificate: old.pem, key: old.key}", "listeners[0].tls.certificate", "old.pem has ended, "),
        ("FURTHER", "{certificate: old.pem, key: old.key}", "tls.by_name[0].certificate", "old.pem has ended, "),
        (
            "FURTHER",
            "{certificate: other.pem, key: other.key}, {certificate: other.pem, key: other.key}",
            "tls.by_name[1].certificate",
            "no effect: other.pem is for other.example.com, too",
        ),
        (
            "UPSTREAM",
            "{mode: starttls, certificate: old.pem, key: old.key}",
            "upstreams.it.tls.certificate",
            "old.pem has ended, ",
        ),
    ],
)
def test_warnings(load_text, part, written, key, words):
    [warning] = load_text(text(**{part: written})).settings.warnings
    assert f": {key}: " in warning
    assert words in warning


@pytest.mark.parametrize(
    ("part", "written"),
    [
        ("LISTENER", "{minimum: 1.3}"),
        ("FURTHER", "{certificate: other.pem, key: other.key}"),
        ("UPSTREAM", "{mode: starttls, minimum: 1.3, certificate: mail.pem, key: mail.key}"),
        ("UPSTREAM", "{certificate: mail.pem, key: mail.key}"),
    ],
)
def test_what_is_in_order(load_text, part, written):
    assert load_text(text(**{part: written})).settings.warnings == ()


EXTERNAL = "starttls, auth: AUTH"
SHOWN = "{mode: starttls, certificate: mail.pem, key: mail.key}, auth: AUTH"


def test_external_needs_nothing_but_the_certificate(load_text):
    loaded = load_text(text(UPSTREAM=SHOWN.replace("AUTH", "{mechanism: EXTERNAL}")))
    login = loaded.settings.upstreams["it"].credentials
    assert (login.mechanism, login.username, login.password) == ("EXTERNAL", "", None)


@pytest.mark.parametrize(
    ("upstream", "auth", "key", "words"),
    [
        (EXTERNAL, "{mechanism: EXTERNAL}", "mechanism", "takes the certificate that is shown, and there is none"),
        (SHOWN, "{mechanism: EXTERNAL, password: secret-word}", "password", "means nothing to EXTERNAL"),
        (SHOWN, "{mechanism: EXTERNAL, username: me}", "username", "means nothing to EXTERNAL"),
        (SHOWN, "{password: secret-word}", "username", "is required"),
    ],
)
def test_mistakes_with_external(mistakes, upstream, auth, key, words):
    [problem] = mistakes(text(UPSTREAM=upstream.replace("AUTH", auth)))
    assert problem.key == f"upstreams.it.auth.{key}"
    assert words in problem.text
    assert "secret-word" not in str(problem)
