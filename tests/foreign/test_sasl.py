"""Logins at real servers: Postfix with Cyrus SASL, and with Dovecot's, inside verified TLS."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from rig.certificates import Certificates
from rig.client import RawClient
from rig.postfix import PostfixInstance
from rig.sasl_servers import REALM, dovecot_token, postfix_with_cyrus, postfix_with_dovecot
from rig.sink import StoringSink
from rig.token_endpoint import TokenEndpoint
from rig.waypost import WaypostProcess, waypost

Start = Callable[[dict[str, Any]], WaypostProcess]
CONTENT = b"From: ann@example.com\r\nSubject: x\r\n\r\nHello\r\n"
PASSWORD = "p,ss=wörd 5"
PASSWORD_MECHANISMS = ("PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-256")


@pytest.fixture(scope="module")
def cyrus(certificates: Certificates) -> Iterator[PostfixInstance]:
    with postfix_with_cyrus({"me": PASSWORD}, " ".join(PASSWORD_MECHANISMS), certificates) as postfix:
        yield postfix


@pytest.fixture(scope="module")
def dovecot(certificates: Certificates) -> Iterator[PostfixInstance]:
    mechanisms = "plain login cram-md5 scram-sha-256 xoauth2 oauthbearer"
    with postfix_with_dovecot({"me@example.com": PASSWORD}, mechanisms, certificates) as postfix:
        yield postfix


def in_front_of(
    postfix: PostfixInstance, port: int, certificates: Certificates, fallback: str, auth: dict[str, Any]
) -> dict[str, Any]:
    return {
        "hostname": "waypost.example",
        "listeners": [{"address": f"127.0.0.1:{port}", "mode": "relay"}],
        "upstreams": {
            "postfix": {
                "address": f"localhost:{postfix.port}",
                "tls": {"mode": "starttls", "ca_file": str(certificates.ca_file)},
                "auth": auth,
            },
            "fallback": {"address": fallback},
        },
        "pools": {"both": {"upstreams": ["postfix", "fallback"]}},
        "routes": {"all": {"primary": "both", "acceptance": "pass"}},
        "log": {"format": "json", "level": "debug"},
    }


def send(port: int) -> int:
    with RawClient(port) as client:
        client.hello()
        return client.answer_to_message("ann@example.com", "bob@example.org", CONTENT).code


@pytest.mark.parametrize("mechanism", [*PASSWORD_MECHANISMS, None])
@pytest.mark.parametrize("server", ["cyrus", "dovecot"])
def test_each_mechanism_with_a_password(
    server: str,
    mechanism: str | None,
    request: pytest.FixtureRequest,
    start: Start,
    port: int,
    certificates: Certificates,
    sink: StoringSink,
) -> None:
    postfix: PostfixInstance = request.getfixturevalue(server)
    name = "me" if server == "cyrus" else "me@example.com"
    auth = {"username": name, "password": PASSWORD, **({} if mechanism is None else {"mechanism": mechanism})}
    process = start(in_front_of(postfix, port, certificates, sink.address, auth))
    assert send(port) == 250
    used = mechanism or "SCRAM-SHA-256"
    process.wait_for_record("upstream_login", upstream="postfix", mechanism=used, outcome="succeeded")
    [told] = process.wait_for_record("relayed")
    assert told["upstream"] == "postfix"
    whole = f"me@{REALM}" if server == "cyrus" else name
    assert postfix.wait_for_log(f"sasl_method={used}", f"sasl_username={whole.removesuffix('@' + REALM)}")


@pytest.mark.parametrize("mechanism", PASSWORD_MECHANISMS)
@pytest.mark.parametrize("server", ["cyrus", "dovecot"])
def test_a_wrong_password_fails_over(
    server: str,
    mechanism: str,
    request: pytest.FixtureRequest,
    start: Start,
    port: int,
    certificates: Certificates,
    sink: StoringSink,
) -> None:
    postfix: PostfixInstance = request.getfixturevalue(server)
    auth = {"username": "me", "password": "wrong-password", "mechanism": mechanism}
    process = start(in_front_of(postfix, port, certificates, sink.address, auth))
    assert send(port) == 250
    assert len(sink.messages) == 1
    [attempt] = process.wait_for_record("attempted")
    assert (attempt["classification"], attempt["code"]) == ("login-refused", 535)
    process.wait_for_record("upstream_down", upstream="postfix", state="asleep")


@pytest.mark.parametrize("mechanism", ["XOAUTH2", "OAUTHBEARER"])
def test_tokens_at_dovecot(
    mechanism: str, start: Start, port: int, certificates: Certificates, sink: StoringSink, dovecot: PostfixInstance
) -> None:
    with ExitStack() as stack:
        endpoint = stack.enter_context(TokenEndpoint(certificates))
        endpoint.plan(
            {"access_token": "not.a.token", "token_type": "Bearer", "expires_in": 3600},
            {"access_token": dovecot_token("me@example.com"), "token_type": "Bearer", "expires_in": 3600},
        )
        oauth2 = {
            "token_url": f"{endpoint.url}/token",
            "client_id": "waypost",
            "refresh_token": "refresh",
            "ca_file": str(certificates.ca_file),
        }
        auth = {"username": "me@example.com", "mechanism": mechanism, "oauth2": oauth2}
        process = start(in_front_of(dovecot, port, certificates, sink.address, auth))
        assert send(port) == 250  # the first token is refused, with a challenge; the second is taken
        assert not sink.messages
        assert len(endpoint.asked) == 2
        outcomes = [record["outcome"] for record in process.wait_for_record("upstream_login", 2)]
        assert outcomes == ["refused", "succeeded"]
    assert dovecot.wait_for_log(f"sasl_method={mechanism}", "sasl_username=me@example.com")


@pytest.mark.parametrize("mechanism", PASSWORD_MECHANISMS)
def test_send_speaks_each_mechanism(mechanism: str, certificates: Certificates, cyrus: PostfixInstance) -> None:
    words = ["send", "--server", f"localhost:{cyrus.port}", "--tls", "starttls", "--ca-file", str(certificates.ca_file)]
    words += ["--to", "bob@example.org", "--auth", "me", "--mechanism", mechanism.lower()]
    done = waypost(*words, env={"SMTP_PASSWORD": PASSWORD})
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"AUTH {mechanism}" in done.stdout
    assert PASSWORD not in done.stdout
    wrong = waypost(*words, "--quit-after", "auth", env={"SMTP_PASSWORD": "wrong-password"})
    assert wrong.returncode == 1, wrong.stdout
    assert "535" in wrong.stdout


@pytest.mark.parametrize("server", ["cyrus", "dovecot"])
def test_upstream_test_says_which_stage_fails(
    server: str, request: pytest.FixtureRequest, tmp_path: Path, port: int, certificates: Certificates
) -> None:
    postfix: PostfixInstance = request.getfixturevalue(server)
    user = {"cyrus": f"me@{REALM}", "dovecot": "me@example.com"}[server]
    auth = {"username": user, "password": PASSWORD}
    made = in_front_of(postfix, port, certificates, "127.0.0.1:1", auth)
    made["upstreams"]["wrong"] = {**made["upstreams"]["postfix"], "auth": {**auth, "password": "wrong"}}
    made["pools"]["both"]["upstreams"].append("wrong")
    file = tmp_path / "waypost.yaml"
    file.write_text(json.dumps(made), "utf-8")
    to = ("--to", "bob@example.org", "--from", "ann@example.com", "--config", str(file))
    done = waypost("upstream", "test", "postfix", *to)
    assert done.returncode == 0, done.stdout
    stages = [line.split()[:2] for line in done.stdout.split("\n")[1:9]]
    order = ["resolve", "connect", "greeting", "ehlo", "tls", "auth", "mail", "rcpt"]
    assert stages == [[stage, "ok"] for stage in order], done.stdout
    done = waypost("upstream", "test", "wrong", *to)
    assert done.returncode == 1
    assert "auth      FAILED" in done.stdout
    assert "535 5.7.8" in done.stdout
