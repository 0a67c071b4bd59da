"""Mistakes in how clients say who they are: each is told with its place."""

import pytest

from waypost.config.errors import ConfigurationError

TEXT = """\
listeners: [{{address: "127.0.0.1:2525", mode: {mode}, allow_plaintext_auth: {plain}{listener}}}]
upstreams: {{a: {{address: "a.example.com:25"}}}}
routes: {{all: {{primary: a, acceptance: pass}}}}
{more}
"""


def text(more, listener="", mode="submission", plain="true"):
    return TEXT.format(more=more, listener=listener, mode=mode, plain=plain)


ANN = "accounts: {ann: {password: x}}"


@pytest.mark.parametrize(
    ("written", "place", "said"),
    [
        (text("accounts: {ann: {password: $2b$12$cut}}"), "c.yaml:4:28", "begins like a bcrypt hash but is none"),
        (text("accounts: {ann: {password: $6$cut}}"), "c.yaml:4:28", "a hash of crypt is"),
        (text("accounts: {ann: {password: $scram-sha-256$1}}"), "c.yaml:4:28", "a SCRAM verifier is"),
        (text("accounts: {ann: {}}"), "c.yaml:4:17", "is required"),
        (text("accounts: {ann: {certificate: printer}}"), "c.yaml:4:31", "is neither a SHA-256 fingerprint"),
        (
            text("accounts: {ann: {certificate: a@example.com}, bob: {certificate: a@EXAMPLE.com}}"),
            "c.yaml:4:66",
            "stands for the account ann already",
        ),
        (text("accounts: {ann: {password: x, limits: {messages: 10}}}"), "c.yaml:4:50", "is no limit"),
        (text("accounts: {ann: {password: x, limits: {messages: 0/day}}}"), "c.yaml:4:50", "must be at least 1"),
        (text("accounts: {ann: {password: x, limits: {messages: 1.5/day}}}"), "c.yaml:4:50", "is no limit"),
        (text("accounts_file: {path: nowhere, format: htpasswd}"), "c.yaml:4:23", "cannot read nowhere: No such file"),
        (text("accounts_file: {path: users, format: passwd}"), "c.yaml:4:38", "not one of htpasswd, dovecot"),
        (text("accounts_file: {path: users, format: htpasswd, route: al}"), "c.yaml:4:55", "all"),
        (text(ANN, ", mechanisms: external"), "c.yaml:1:99", "this listener asks for none"),
        (text(ANN, ", mechanisms: cram-md5"), "c.yaml:1:99", "not one of plain, login"),
        (text(ANN, ", mechanisms: plain", "relay", "false"), "c.yaml:1:", "means nothing to a relay listener"),
        (text(ANN, ", client_certificates: {ca_file: ca.pem}"), "c.yaml:1:", "which has no TLS"),
    ],
)
def test_mistakes(load_text, folder, written, place, said):
    (folder / "users").write_text("ann:$5$abc$sCOGUciM.GdmYMCUvmUcgu03oRH87O0clF96.9mwWGB\n")
    with pytest.raises(ConfigurationError) as caught:
        load_text(written)
    assert place in str(caught.value)
    assert said in str(caught.value)
    assert "$2b$12$cut" not in str(caught.value)


def warnings(load_text, written):
    return load_text(written).settings.warnings


def test_lines_that_cannot_be_used_are_warned_of_with_their_number(load_text, folder):
    (folder / "users").write_text("ann:{SHA}EfatjsUqKYSrqv18O1FlA3hcIHI=\nbob:secret\n\nnonsense\n")
    told = "\n".join(warnings(load_text, text("accounts_file: {path: users, format: htpasswd}")))
    assert "users:2: account 'bob' is refused: is a hash of no scheme that is known here" in told
    assert "users:4: a line is NAME:PASSWORD" in told
    assert "weak schemes ({SHA})" in told
    assert "secret" not in told


def test_of_many_lines_the_first_are_named(load_text, folder):
    (folder / "users").write_text("nonsense\n" * 100)
    told = "\n".join(warnings(load_text, text("accounts_file: {path: users, format: htpasswd}")))
    assert "users:20: " in told
    assert "users:21: " not in told
    assert "80 further lines cannot be used" in told
    assert "users has no account that can be used" in told


def test_a_rule_may_name_accounts_of_the_file(load_text, folder):
    (folder / "users").write_text("ann:$5$abc$sCOGUciM.GdmYMCUvmUcgu03oRH87O0clF96.9mwWGB\n")
    more = "accounts_file: {path: users, format: htpasswd}\nrules: [{account: whoever, route: all}]"
    assert load_text(text(more)).settings.routes.rules[0].accounts == ("whoever",)


def test_a_certificate_that_nobody_asks_for_is_warned_of(load_text):
    told = warnings(load_text, text("accounts: {ann: {certificate: a@example.com}}"))
    assert any("no submission listener asks for certificates" in line for line in told)


def test_what_is_shown_again_is_what_was_written(load_text):
    from waypost.config.show import show_yaml

    loaded = load_text(text("accounts: {ann: {password: x, limits: {messages: [10/hour, 100/day]}}}"))
    shown = show_yaml(loaded)
    assert "10/hour" in shown
    assert "100/day" in shown
