"""How Waypost authenticates with an upstream, as it is configured. Secrets have no printable form."""

from dataclasses import dataclass
from typing import Literal

from waypost.smtp.sasl import Secret

Grant = Literal["refresh_token", "client_credentials"]


@dataclass(frozen=True, slots=True)
class OAuth2:
    """Where access tokens come from (RFC 6749). `timeout` is in seconds, for one request as a whole.

    The file of the refresh token is read for each request, and written when the endpoint hands out another one.
    """

    token_url: str
    client_id: str
    grant: Grant = "refresh_token"
    client_secret: Secret | None = None
    refresh_token: Secret | None = None
    refresh_token_file: str | None = None
    scope: str | None = None
    device_authorization_url: str | None = None
    ca_file: str | None = None
    timeout: float = 10


@dataclass(frozen=True, slots=True)
class Login:
    """A user name with a password or a source of access tokens; for the mechanism EXTERNAL neither.

    `authorize_as` is the identity to act for, when it is another: a shared mailbox, whose delegate logs in.
    `mechanism` is the only one to use; None takes the strongest that is offered.
    """

    username: str
    password: Secret | None = None
    oauth2: OAuth2 | None = None
    authorize_as: str | None = None
    mechanism: str | None = None
