"""Credentials for upstreams: what is a mistake, what is warned of, what comes of it."""

import re
from pathlib import Path

import pytest

from config.conftest import Load, Mistakes
from waypost.config.show import show_json, show_yaml
from waypost.routing.login import Login, OAuth2
from waypost.smtp.sasl import Secret

BASE = """\
listeners: [{address: "127.0.0.1:2525", mode: relay}]
upstreams:
  office:
    address: smtp.example.com:587
    tls: starttls
    auth:
      AUTH
routes: {all: {primary: office}}
"""
PAGE = Path(__file__).parents[2] / "docs" / "upstream-logins.md"
MICROSOFT = "provider: microsoft, client_id: app"
APPLICATION = f"{MICROSOFT}, tenant: t, grant: client_credentials, client_secret: c"


def text(auth: str) -> str:
    return BASE.replace("AUTH", auth.replace("\n", "\n      "))


def login(load_text: Load, auth: str, **more: str) -> Login:
    found = load_text(text(auth), more).settings.upstreams["office"].credentials
    assert found is not None
    return found


SHOWN = re.findall(r"^```yaml\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("shown", SHOWN)
def test_what_the_page_shows_passes_the_check(load_text: Load, folder: Path, shown: str) -> None:
    (folder / "secret").write_text("s")
    for name in ("/run/secrets/provider", "/run/secrets/gmail-client"):
        shown = shown.replace(name, "secret")
    [name] = re.findall(r"^  (\w+):$", shown, re.MULTILINE)
    rest = f'listeners: [{{address: "127.0.0.1:2525", mode: relay}}]\nroutes: {{all: {{primary: {name}}}}}\n'
    assert load_text(shown + rest).settings.upstreams[name].credentials is not None


def test_microsoft(load_text: Load) -> None:
    made = login(load_text, f"username: me@example.com\noauth2: {{{MICROSOFT}, refresh_token: r-token}}")
    assert made == Login(
        "me@example.com",
        oauth2=OAuth2(
            "https://login.microsoftonline.com/common/oauth2/v2.0/token",
            "app",
            refresh_token=Secret("r-token"),
            scope="offline_access https://outlook.office.com/SMTP.Send",
            device_authorization_url="https://login.microsoftonline.com/common/oauth2/v2.0/devicecode",
        ),
    )


def test_microsoft_for_an_application(load_text: Load, folder: Path) -> None:
    (folder / "secret").write_text("c-secret\n")
    section = f"{MICROSOFT}, tenant: example.com, grant: client_credentials, client_secret_file: secret"
    oauth2 = login(load_text, f"username: me\noauth2: {{{section}}}").oauth2
    assert oauth2 == OAuth2(
        "https://login.microsoftonline.com/example.com/oauth2/v2.0/token",
        "app",
        grant="client_credentials",
        client_secret=Secret("c-secret"),
        scope="https://outlook.office365.com/.default",
        device_authorization_url="https://login.microsoftonline.com/example.com/oauth2/v2.0/devicecode",
    )


def test_google_and_what_is_set_comes_before_what_it_sets(load_text: Load) -> None:
    section = "provider: google, client_id: app, refresh_token: r, scope: mine, token_url: http://127.0.0.1:9/t"
    oauth2 = login(load_text, f"username: me\noauth2: {{{section}}}").oauth2
    assert oauth2 is not None
    assert (oauth2.scope, oauth2.token_url) == ("mine", "http://127.0.0.1:9/t")
    assert oauth2.device_authorization_url == "https://oauth2.googleapis.com/device/code"


def test_any_endpoint(load_text: Load) -> None:
    section = "token_url: https://login.example/token, client_id: app, refresh_token: r"
    oauth2 = login(load_text, f"username: me\noauth2: {{{section}}}").oauth2
    assert oauth2 == OAuth2("https://login.example/token", "app", refresh_token=Secret("r"))


def test_a_delegate_and_a_mechanism(load_text: Load) -> None:
    made = login(load_text, "username: me\npassword: p\nauthorize_as: shared\nmechanism: SCRAM-SHA-256")
    assert made == Login("me", Secret("p"), authorize_as="shared", mechanism="SCRAM-SHA-256")


@pytest.mark.parametrize(
    ("auth", "key", "words", "advice"),
    [
        ("username: me", "password", "is required", "`password` or `password_file`, or `oauth2`"),
        ("username: me\npassword: p\nmechanism: SCRAM-SHA256", "mechanism", "is not one of", "SCRAM-SHA-256"),
        ("username: me\npassword: p\nmechanism: XOAUTH2", "mechanism", "takes an access token", "set `oauth2`"),
        (
            f"username: me\nmechanism: PLAIN\noauth2: {{{MICROSOFT}, refresh_token: r}}",
            "mechanism",
            "PLAIN takes a password",
            "OAUTHBEARER or XOAUTH2",
        ),
        ("username: me\npassword: p\nauthorize_as: s\nmechanism: LOGIN", "authorize_as", "means nothing to LOGIN", ""),
        (f"username: me\npassword: p\noauth2: {{{MICROSOFT}, refresh_token: r}}", "password", "so is oauth2", "one of"),
        ("username: me\npassword: p\npassword_file: f", "password_file", "so is password", "one of"),
        ("username: me\noauth2: {client_id: a, refresh_token: r}", "oauth2.token_url", "is required", "`provider`"),
        ("username: me\noauth2: {provider: google, refresh_token: r}", "oauth2.client_id", "is required", ""),
        (
            f"username: me\noauth2: {{{MICROSOFT}}}",
            "oauth2.refresh_token_file",
            "is required",
            "waypost oauth login office",
        ),
        (
            f"username: me\noauth2: {{{MICROSOFT}, refresh_token: r, refresh_token_file: f}}",
            "oauth2.refresh_token_file",
            "so is refresh_token",
            "one of",
        ),
        (
            f"username: me\noauth2: {{{MICROSOFT}, refresh_token: r, client_secret: c, client_secret_file: f}}",
            "oauth2.client_secret_file",
            "so is client_secret",
            "one of",
        ),
        (
            f"username: me\noauth2: {{{MICROSOFT}, refresh_token: r, client_secret_file: gone}}",
            "oauth2.client_secret_file",
            "cannot read gone: No such file",
            "",
        ),
        (
            f"username: me\noauth2: {{{MICROSOFT}, refresh_token_file: .}}",
            "oauth2.refresh_token_file",
            "cannot read .",
            "",
        ),
        (
            f"username: me\noauth2: {{{MICROSOFT}, grant: client_credentials, client_secret: c}}",
            "oauth2.tenant",
            "is required for the grant client_credentials",
            "",
        ),
        (
            f"username: me\noauth2: {{{MICROSOFT}, tenant: t, grant: client_credentials}}",
            "oauth2.client_secret",
            "is required for the grant client_credentials",
            "client_secret_file",
        ),
        (
            f"username: me\noauth2: {{{APPLICATION}, refresh_token: r}}",
            "oauth2.refresh_token",
            "means nothing to the grant client_credentials",
            "leave it out",
        ),
        (
            "username: me\noauth2: {provider: google, client_id: a, client_secret: c, grant: client_credentials}",
            "oauth2.grant",
            "is not what Google has",
            "refresh_token",
        ),
        (
            "username: me\noauth2: {provider: google, client_id: a, refresh_token: r, tenant: t}",
            "oauth2.tenant",
            "means nothing without `provider: microsoft`",
            "",
        ),
        (
            "username: me\noauth2: {token_url: http://login.example/t, client_id: a, refresh_token: r}",
            "oauth2.token_url",
            "must begin with https://",
            "secrets",
        ),
        (
            "username: me\noauth2: {token_url: https://me:hidden@login.example/t, client_id: a, refresh_token: r}",
            "oauth2.token_url",
            "has a user or password in it",
            "client_id",
        ),
        (
            "username: me\noauth2: {token_url: nonsense, client_id: a, refresh_token: r}",
            "oauth2.token_url",
            "is not the",
            "https",
        ),
        (
            f"username: me\noauth2: {{{MICROSOFT}, refresh_token: r, ca_file: gone}}",
            "oauth2.ca_file",
            "cannot read gone",
            "",
        ),
        (
            f"username: me\noauth2: {{{MICROSOFT}, refresh_token: r, scop: x}}",
            "oauth2.scop",
            "no such setting",
            "scope",
        ),
    ],
)
def test_one_mistake_is_told_once(mistakes: Mistakes, auth: str, key: str, words: str, advice: str) -> None:
    [problem] = mistakes(text(auth))
    assert problem.key == f"upstreams.office.auth.{key}"
    assert words in problem.text
    assert advice in problem.suggestion
    assert problem.place.startswith("c.yaml:")
    assert "hidden" not in str(problem)


def test_plus_without_tls(mistakes: Mistakes) -> None:
    written = text("username: me\npassword: p\nmechanism: SCRAM-SHA-256-PLUS").replace("starttls", "'off'")
    problems = mistakes(written.replace("    auth:", "    allow_plaintext_auth: true\n    auth:"))
    assert [problem.key for problem in problems] == ["upstreams.office.auth.mechanism"]


@pytest.mark.parametrize("content", [None, ""])
def test_a_refresh_token_that_is_not_there_yet_is_a_warning(load_text: Load, folder: Path, content: str | None) -> None:
    if content is not None:
        (folder / "token").write_text(content)
    loaded = load_text(text(f"username: me\noauth2: {{{MICROSOFT}, refresh_token_file: token}}"))
    [warning] = [said for said in loaded.settings.warnings if "token" in said]
    assert "is not there yet" in warning
    assert "waypost oauth login office" in warning
    (folder / "token").write_text("r-token\n")
    again = load_text(text(f"username: me\noauth2: {{{MICROSOFT}, refresh_token_file: token}}"))
    assert not any("token" in said for said in again.settings.warnings)


def test_secrets_from_variables_and_their_files(load_text: Load, folder: Path) -> None:
    (folder / "secret").write_text("from-file\n")
    made = login(
        load_text,
        f"username: me\noauth2: {{{MICROSOFT}, refresh_token_file: token, client_secret: c}}",
        WAYPOST_UPSTREAM_OFFICE_CLIENT_SECRET_FILE="secret",
        WAYPOST_UPSTREAM_OFFICE_REFRESH_TOKEN="from-variable",
    )
    assert made.oauth2 is not None
    assert made.oauth2.client_secret == Secret("from-file")
    assert made.oauth2.refresh_token == Secret("from-variable")
    assert made.oauth2.refresh_token_file is None


def test_secrets_are_shown_by_nothing(load_text: Load) -> None:
    section = f"{MICROSOFT}, refresh_token: hidden-1, client_secret: hidden-2"
    loaded = load_text(text(f"username: me\noauth2: {{{section}}}"))
    for shown in (show_yaml(loaded), str(show_json(loaded)), repr(loaded.settings), repr(loaded.model)):
        assert "hidden" not in shown
    assert "refresh_token: '********'" in show_yaml(loaded).replace('"', "'")
