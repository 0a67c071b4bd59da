"""Checks of how Waypost authenticates with upstreams: that there is one secret, and that the rest goes with it."""

import os
import ssl

from waypost.config.environment import read_secret
from waypost.config.errors import Path, WrongValueError
from waypost.config.logins import auth_path
from waypost.config.report import Report
from waypost.config.schema import Configuration
from waypost.config.schema_login import Auth, OAuthSection
from waypost.config.schema_sending import UpstreamSection
from waypost.smtp.mechanisms import NO_DELEGATE, WITH_CERTIFICATE, WITH_PASSWORD, WITH_TOKEN
from waypost.smtp.sasl import Secret


def check(model: Configuration, report: Report) -> dict[Path, Secret]:
    """Reports what is wrong with the credentials of upstreams, and finds the secrets, by their paths."""
    found: dict[Path, Secret] = {}
    for name, upstream in model.upstreams.items():
        if upstream.auth is None:
            continue
        here = auth_path(name)
        if upstream.auth.mechanism == WITH_CERTIFICATE:
            _check_certificate(name, upstream, report)
            continue
        if upstream.auth.username is None and not report.is_lost(*here):
            report.problem((*here, "username"), "is required")
        if upstream.auth.oauth2 is not None:
            _check_oauth2(name, (*here, "oauth2"), upstream.auth.oauth2, report, found)
        _check_password(here, upstream.auth, report, found)
        _check_mechanism(here, upstream.auth, report)
        if upstream.auth.mechanism == "SCRAM-SHA-256-PLUS" and upstream.tls.mode == "off":
            text = "would never be used: it is bound to TLS, which is off"
            report.problem((*here, "mechanism"), text, "set `tls: starttls`")
    return found


def _check_certificate(name: str, upstream: UpstreamSection, report: Report) -> None:
    """The certificate says who we are: it must be there, and nothing else is needed."""
    here = auth_path(name)
    for key in ("username", "password", "password_file", "oauth2"):
        if report.given(*here, key):
            report.problem((*here, key), f"means nothing to {WITH_CERTIFICATE}", "leave it out")
    if upstream.tls.certificate is None and not report.is_lost("upstreams", name, "tls"):
        text = f"{WITH_CERTIFICATE} takes the certificate that is shown, and there is none"
        report.problem((*here, "mechanism"), text, "set `tls` with `certificate` and `key`")


def _check_password(here: Path, auth: Auth, report: Report, found: dict[Path, Secret]) -> None:
    if auth.oauth2 is not None or report.given(*here, "oauth2"):
        for key in ("password", "password_file"):
            if report.given(*here, key):
                report.problem((*here, key), "is set, and so is oauth2", "set one of them")
        return
    _resolve(here, "password", auth.password, auth.password_file, report, found)
    given = auth.password is not None or auth.password_file is not None
    if not given and not report.is_lost(*here):
        report.problem((*here, "password"), "is required", "set `password` or `password_file`, or `oauth2`")


def _resolve(
    here: Path, key: str, value: Secret | None, file: str | None, report: Report, found: dict[Path, Secret]
) -> None:
    """Finds the one of a secret and the content of its file that is set."""
    if value is not None and file is not None:
        report.problem((*here, f"{key}_file"), f"is set, and so is {key}", "set one of them")
    elif file is not None:
        try:
            found[*here, key] = Secret(read_secret(file))
        except WrongValueError as error:
            report.problem((*here, f"{key}_file"), error.text, error.suggestion)
    elif value is not None:
        found[*here, key] = value


def _check_mechanism(here: Path, auth: Auth, report: Report) -> None:
    name = auth.mechanism
    if auth.oauth2 is not None and name in WITH_PASSWORD:
        text = f"{name} takes a password, and there is `oauth2`"
        report.problem((*here, "mechanism"), text, f"write {' or '.join(WITH_TOKEN)}, or leave it out")
    elif auth.oauth2 is None and name in WITH_TOKEN and not report.given(*here, "oauth2"):
        report.problem((*here, "mechanism"), f"{name} takes an access token", "set `oauth2` in the place of a password")
    if auth.authorize_as is not None and name in NO_DELEGATE:
        report.problem((*here, "authorize_as"), f"means nothing to {name}, which cannot act for another identity")


def _check_oauth2(name: str, here: Path, section: OAuthSection, report: Report, found: dict[Path, Secret]) -> None:
    _resolve(here, "client_secret", section.client_secret, section.client_secret_file, report, found)
    lost = report.is_lost(*here)
    if section.provider is None and section.token_url is None and not lost:
        report.problem((*here, "token_url"), "is required", "set it, or `provider`")
    if section.tenant is not None and section.provider != "microsoft" and not lost:
        report.problem((*here, "tenant"), "means nothing without `provider: microsoft`")
    if section.grant == "client_credentials":
        _check_application(here, section, report, lost=lost)
    else:
        _check_refresh_token(name, here, section, report, lost=lost)
        if section.refresh_token is not None and section.refresh_token_file is None:
            found[*here, "refresh_token"] = section.refresh_token
    if section.ca_file is not None:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(section.ca_file)
        except ssl.SSLError:
            report.problem((*here, "ca_file"), f"cannot use {section.ca_file}: it has no certificate in PEM form")
        except OSError as error:
            report.problem((*here, "ca_file"), f"cannot read {section.ca_file}: {error.strerror}")


def _check_application(here: Path, section: OAuthSection, report: Report, *, lost: bool) -> None:
    for key in ("refresh_token", "refresh_token_file"):
        if report.given(*here, key):
            report.problem((*here, key), "means nothing to the grant client_credentials", "leave it out")
    if section.client_secret is None and section.client_secret_file is None and not lost:
        text = "is required for the grant client_credentials"
        report.problem((*here, "client_secret"), text, "set `client_secret` or `client_secret_file`")
    if section.provider == "google":
        text = "is not what Google has: it lets applications send mail for a person only"
        report.problem((*here, "grant"), text, "use `grant: refresh_token`")
    if section.provider == "microsoft" and section.tenant is None and not lost:
        report.problem((*here, "tenant"), "is required for the grant client_credentials", "an application has one")


def _check_refresh_token(name: str, here: Path, section: OAuthSection, report: Report, *, lost: bool) -> None:
    path = section.refresh_token_file
    if section.refresh_token is not None and path is not None:
        report.problem((*here, "refresh_token_file"), "is set, and so is refresh_token", "set one of them")
    elif path is None:
        if section.refresh_token is None and not lost:
            advice = f"`waypost oauth login {name}` writes one to the file that it names"
            report.problem((*here, "refresh_token_file"), "is required", advice)
    elif not os.path.exists(path) or (os.path.isfile(path) and not os.path.getsize(path)):
        text = f"{path} is not there yet, and without it no mail goes to {name}"
        report.warn((*here, "refresh_token_file"), text, f"run `waypost oauth login {name}`")
    else:
        try:
            read_secret(path)
        except WrongValueError as error:
            report.problem((*here, "refresh_token_file"), error.text, error.suggestion)
