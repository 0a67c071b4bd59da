"""`waypost oauth login`: as a process against an endpoint on loopback, and its patience without waiting."""

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rig.certificates import Certificates
from rig.token_endpoint import DEVICE, TokenEndpoint
from rig.waypost import waypost
from waypost.commands import CONFIGURATION, FAILED, FINE, TEMPORARY, USAGE
from waypost.commands.oauth_login import LoginError, log_in
from waypost.routing.login import OAuth2
from waypost.smtp.sasl import Secret

PENDING = {"error": "authorization_pending"}
CODE = {
    "device_code": "the-device-code",
    "user_code": "WDJB-MJHT",
    "verification_uri": "https://login.example/device",
    "expires_in": 600,
    "interval": 5,
}


@pytest.fixture
def endpoint(certificates: Certificates) -> Iterator[TokenEndpoint]:
    with TokenEndpoint(certificates) as started:
        yield started


def configured(folder: Path, endpoint: TokenEndpoint | None, **more: Any) -> None:
    section: dict[str, Any] = {"client_id": "waypost", "refresh_token_file": "token"}
    if endpoint is not None:
        section["token_url"] = f"{endpoint.url}/token"
        section["device_authorization_url"] = f"{endpoint.url}/device"
        section["ca_file"] = str(endpoint.certificates.ca_file)
    section = {key: value for key, value in (section | more).items() if value is not None}
    lines = "".join(f"        {key}: {value}\n" for key, value in section.items())
    (folder / "waypost.yaml").write_text(
        'hostname: here.example.com\nlisteners: [{address: "127.0.0.1:2525", mode: relay}]\n'
        "routes: {all: {primary: office}}\nupstreams:\n  plain: {address: a.example.com:25}\n"
        "  office:\n    address: smtp.example.com:587\n    tls: starttls\n"
        f"    auth:\n      username: me@example.com\n      oauth2:\n{lines}"
    )


def login(folder: Path, name: str = "office") -> Any:
    return waypost("oauth", "login", name, folder=folder)


def test_a_login(endpoint: TokenEndpoint, tmp_path: Path) -> None:
    configured(tmp_path, endpoint, client_secret="c-secret", scope="mail")
    endpoint.plan({**CODE, "interval": 0.01}, PENDING, PENDING)
    done = login(tmp_path)
    assert (done.returncode, done.stderr) == (FINE, "")
    assert "https://login.example/device" in done.stdout
    assert "WDJB-MJHT" in done.stdout
    assert "The refresh token is in token." in done.stdout
    file = tmp_path / "token"
    assert file.read_text() == "refresh-2\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    for secret in ("the-device-code", "refresh-2", "access-1", "c-secret"):
        assert secret not in done.stdout
    first, *asked = endpoint.asked
    assert first == {"client_id": "waypost", "scope": "mail", "client_secret": "c-secret"}
    assert (
        asked
        == [
            {
                "grant_type": DEVICE,
                "client_id": "waypost",
                "device_code": "the-device-code",
                "client_secret": "c-secret",
            }
        ]
        * 3
    )


@pytest.mark.parametrize(
    ("answers", "code", "words"),
    [
        (
            ({"error": "invalid_client", "error_description": "No such client."},),
            FAILED,
            "invalid_client: No such client.",
        ),
        ((b"<html>",), TEMPORARY, "nothing that makes sense"),
        (({"user_code": "x"},), TEMPORARY, "no device code"),
        (({**CODE, "interval": 0.01}, {"error": "access_denied"}), FAILED, "access_denied"),
        (({**CODE, "interval": 0.01}, {"error": "expired_token"}), FAILED, "begin again"),
        (({**CODE, "interval": 5, "expires_in": 1},), FAILED, "nobody entered the code in time"),
        (
            ({**CODE, "interval": 0.01}, {"access_token": "a", "token_type": "Bearer"}),
            FAILED,
            "gave no refresh token",
        ),
    ],
)
def test_a_login_that_fails(endpoint: TokenEndpoint, tmp_path: Path, answers: Any, code: int, words: str) -> None:
    configured(tmp_path, endpoint)
    endpoint.plan(*answers)
    done = login(tmp_path)
    assert (done.returncode, words in done.stderr) == (code, True), done.stderr
    assert done.stderr.startswith("waypost oauth login: ")
    assert not (tmp_path / "token").exists()


def test_an_endpoint_that_is_down(tmp_path: Path) -> None:
    configured(tmp_path, None, token_url="https://127.0.0.1:9/t", device_authorization_url="https://127.0.0.1:9/d")
    done = login(tmp_path)
    assert (done.returncode, "cannot be reached" in done.stderr) == (TEMPORARY, True), done.stderr


@pytest.mark.parametrize(
    ("more", "name", "code", "words"),
    [
        ({}, "ofice", USAGE, "there is no upstream 'ofice'; did you mean 'office'?"),
        ({}, "plain", CONFIGURATION, "upstreams.plain.auth has no `oauth2`"),
        ({"refresh_token_file": None, "refresh_token": "r"}, "office", CONFIGURATION, "has no `refresh_token_file`"),
        ({"device_authorization_url": None}, "office", CONFIGURATION, "has no `device_authorization_url`"),
        ({"refresh_token_file": "gone/token"}, "office", FAILED, "gone/token could not be written"),
        ({"token_url": None}, "office", CONFIGURATION, "token_url: is required"),
    ],
)
def test_what_cannot_be_begun(
    endpoint: TokenEndpoint, tmp_path: Path, more: dict[str, Any], name: str, code: int, words: str
) -> None:
    configured(tmp_path, endpoint, **more)
    done = login(tmp_path, name)
    assert (done.returncode, words in done.stderr) == (code, True), done.stderr
    assert not endpoint.asked, "a person was bothered for nothing"


def test_the_help_explains_itself() -> None:
    shown = waypost("oauth", "login", "--help").stdout
    for words in ("refresh_token_file", "provider: microsoft", "exit codes", "example", "no restart"):
        assert words in shown
    assert [line for line in shown.split("\n") if len(line) > 80] == []


class Patience:
    """Time that passes only where somebody waits."""

    def __init__(self) -> None:
        self.time = 0.0
        self.waits: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.time += seconds

    def now(self) -> float:
        return self.time


def oauth2(endpoint: TokenEndpoint, **more: Any) -> OAuth2:
    fields: dict[str, Any] = {
        "token_url": f"{endpoint.url}/token",
        "client_id": "waypost",
        "device_authorization_url": f"{endpoint.url}/device",
        "ca_file": str(endpoint.certificates.ca_file),
    }
    return OAuth2(**(fields | more))


async def test_the_interval_is_kept_and_slow_down_is_heeded(endpoint: TokenEndpoint) -> None:
    """RFC 8628 section 3.5: five seconds more, from then on. Without an answer: twice as long."""
    patience = Patience()
    endpoint.plan(CODE, PENDING, {"error": "slow_down"}, PENDING, b"<html>", PENDING)
    token = await log_in(oauth2(endpoint), lambda _: None, sleep=patience.sleep, now=patience.now)
    assert token == Secret("refresh-2")
    assert patience.waits == [5, 5, 10, 10, 20, 20]


async def test_it_ends_when_the_code_does(endpoint: TokenEndpoint) -> None:
    patience = Patience()
    endpoint.plan({**CODE, "expires_in": 30}, *[PENDING] * 20)
    with pytest.raises(LoginError, match="in time"):
        await log_in(oauth2(endpoint), lambda _: None, sleep=patience.sleep, now=patience.now)
    assert patience.time < 30


async def test_what_the_provider_shows_stays_on_its_line(endpoint: TokenEndpoint) -> None:
    shown: list[str] = []
    endpoint.plan({**CODE, "user_code": "A\x1b[2J\r\nB", "verification_uri_complete": "https://login.example/x\n"})
    await log_in(oauth2(endpoint), shown.append, sleep=Patience().sleep)
    assert all(line.isprintable() for line in shown)
    assert any("https://login.example/x" in line for line in shown)


async def test_google_gives_its_mail_scope_to_no_device(endpoint: TokenEndpoint) -> None:
    endpoint.plan({"error": "invalid_scope", "error_description": "Invalid device flow scope"})
    google = oauth2(endpoint, token_url="https://oauth2.googleapis.com/token")
    with pytest.raises(LoginError, match="docs/upstream-logins"):
        await log_in(google, lambda _: None)
