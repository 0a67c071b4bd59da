"""Where Google and Microsoft hand out access tokens, and how the address of an endpoint is written."""

from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from waypost.config.endpoints import is_loopback
from waypost.config.errors import WrongValueError
from waypost.config.values import line

ProviderName = Literal["google", "microsoft"]

DEFAULT_TENANT = "common"
"""Microsoft's word for everybody's account, whatever the organization."""


@dataclass(frozen=True, slots=True)
class Provider:
    """What a provider's name stands for. `{tenant}` is the organization; `app_scope` is for `client_credentials`."""

    token_url: str
    device_authorization_url: str
    scope: str
    app_scope: str | None = None


PROVIDERS: dict[ProviderName, Provider] = {
    # https://developers.google.com/identity/protocols/oauth2 and .../gmail/imap/xoauth2-protocol, November 2026.
    "google": Provider(
        "https://oauth2.googleapis.com/token",
        "https://oauth2.googleapis.com/device/code",
        "https://mail.google.com/",
    ),
    # https://learn.microsoft.com/exchange/client-developer/legacy-protocols/
    # how-to-authenticate-an-imap-pop-smtp-application-by-using-oauth, November 2026.
    "microsoft": Provider(
        "https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token",
        "https://login.microsoftonline.com/{tenant}/oauth2/v2.0/devicecode",
        "offline_access https://outlook.office.com/SMTP.Send",
        "https://outlook.office365.com/.default",
    ),
}


def endpoint_url(text: str) -> str:
    """The address of an endpoint: https, or http on this machine. Raises `WrongValueError`."""
    line(text)
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = parts = None
    if parts is None or not host or port == 0 or not text.isascii() or " " in text or parts.fragment:
        raise WrongValueError("is not the address of an endpoint", "write it like https://login.example.com/token")
    if parts.username is not None or parts.password is not None:  # not repeated: it may be a secret
        raise WrongValueError("has a user or password in it", "set `client_id` and `client_secret`")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(host)):
        raise WrongValueError("must begin with https://", "secrets are sent there")
    return text
