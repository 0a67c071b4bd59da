"""From the sections of `auth` to the `Login` that the rest works with."""

from collections.abc import Mapping
from dataclasses import replace

from waypost.config.errors import Path
from waypost.config.oauth import DEFAULT_TENANT, PROVIDERS
from waypost.config.schema_login import Auth, OAuthSection
from waypost.routing.login import Login, OAuth2
from waypost.smtp.mechanisms import WITH_CERTIFICATE
from waypost.smtp.sasl import Secret


def auth_path(name: str, *more: str) -> Path:
    """Where the credentials of an upstream stand, or something in them."""
    return ("upstreams", name, "auth", *more)


def login_of(name: str, auth: Auth, secrets: Mapping[Path, Secret]) -> Login:
    """How to authenticate with the upstream `name`; `secrets` by their paths. The section has passed every check."""
    login = Login(auth.username or "", authorize_as=auth.authorize_as, mechanism=auth.mechanism)
    if auth.mechanism == WITH_CERTIFICATE:
        return login
    if auth.oauth2 is None:
        return replace(login, password=secrets[auth_path(name, "password")])
    here = auth_path(name, "oauth2")
    client_secret, refresh = secrets.get((*here, "client_secret")), secrets.get((*here, "refresh_token"))
    return replace(login, oauth2=_oauth2(auth.oauth2, client_secret, refresh))


def _oauth2(section: OAuthSection, client_secret: Secret | None, refresh_token: Secret | None) -> OAuth2:
    token_url, device_url, scope = section.token_url, section.device_authorization_url, section.scope
    if section.provider is not None:
        provider = PROVIDERS[section.provider]
        tenant = section.tenant or DEFAULT_TENANT
        token_url = token_url or provider.token_url.format(tenant=tenant)
        device_url = device_url or provider.device_authorization_url.format(tenant=tenant)
        scope = scope or (provider.app_scope if section.grant == "client_credentials" else provider.scope)
    return OAuth2(
        token_url=token_url or "",
        client_id=section.client_id,
        grant=section.grant,
        client_secret=client_secret,
        refresh_token=refresh_token,
        refresh_token_file=section.refresh_token_file,
        scope=scope,
        device_authorization_url=device_url,
        ca_file=section.ca_file,
        timeout=section.timeout,
    )
