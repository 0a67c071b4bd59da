"""The schema of how Waypost authenticates with an upstream. The descriptions are the manual."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field, PlainValidator, WithJsonSchema

from waypost.config.fields import Duration, File, Password, Section, StandIn, Text, Words, choice, one_of, scalar_text
from waypost.config.oauth import ProviderName, endpoint_url
from waypost.routing.login import Grant, OAuth2
from waypost.smtp.mechanisms import CLIENT_MECHANISMS, WITH_CERTIFICATE, WITH_PASSWORD, WITH_TOKEN

_OAUTH2 = OAuth2("", "")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


EndpointUrl = Annotated[
    str,
    PlainValidator(lambda value: endpoint_url(scalar_text(value))),
    WithJsonSchema({"type": "string", "pattern": "^https?://"}),
    Words("https address"),
]
ProviderField = Annotated[ProviderName, *choice("google", "microsoft")]
GrantField = Annotated[Grant, *choice("refresh_token", "client_credentials")]
_MECHANISMS = (*CLIENT_MECHANISMS, WITH_CERTIFICATE)
MechanismField = Annotated[
    str, one_of(*_MECHANISMS), WithJsonSchema({"type": "string", "enum": list(_MECHANISMS)}), Words("name")
]


class OAuthSection(Section):
    """Access tokens of OAuth 2.0 in the place of a password; docs/upstream-logins.md takes you there step by step."""

    provider: ProviderField | None = Field(
        None, description="Sets `token_url`, `device_authorization_url` and `scope`, where they are not set here."
    )
    tenant: Text | None = Field(
        None, description="For `microsoft`: the organization, by its id or domain. Not set: `common`, any account."
    )
    grant: GrantField = Field(
        _OAUTH2.grant,
        description="`refresh_token` acts for the person who has agreed to it; `client_credentials` for the "
        "application itself.",
    )
    client_id: Annotated[Text, StandIn("unknown")] = Field(description="What the provider calls your application.")
    client_secret: Password | None = Field(None, description="The application's secret, if it has one.")
    client_secret_file: File | None = Field(None, description="A file with it; one line end at its end is left out.")
    refresh_token: Password | None = Field(
        None, description="The refresh token. When the provider replaces it, that is lost at the next restart."
    )
    refresh_token_file: File | None = Field(
        None,
        description="A file with it, which `waypost oauth login NAME` writes, and Waypost too when the provider "
        "replaces it. It is read again for every access token.",
    )
    scope: Text | None = Field(None, description="What the token is to be good for, in the provider's words.")
    token_url: EndpointUrl | None = Field(None, description="The token endpoint.")
    device_authorization_url: EndpointUrl | None = Field(
        None, description="Where `waypost oauth login NAME` begins (RFC 8628)."
    )
    ca_file: File | None = Field(
        None, description="PEM file with the certificate authorities of the endpoints, instead of the system's."
    )
    timeout: Duration = Field(_OAUTH2.timeout, description="Within which an endpoint has to answer.")


class Auth(Section):
    """Credentials for an upstream: one of `password`, `password_file` and `oauth2`, or a certificate."""

    username: Text | None = Field(
        None,
        description="The user name. For a shared mailbox: that of the delegate. Required, except for `EXTERNAL` and "
        "where a `preset` knows it.",
    )
    password: Password | None = Field(None, description="The password.")
    password_file: File | None = Field(
        None, description="A file with the password; one line end at its end is left out."
    )
    oauth2: OAuthSection | None = Field(None, description="Access tokens in the place of a password.")
    authorize_as: Text | None = Field(
        None,
        description="The identity to act for, such as a shared mailbox, when it is not `username` itself. Not with "
        "`LOGIN` and `CRAM-MD5`, which cannot say so.",
    )
    mechanism: MechanismField | None = Field(
        None,
        description=f"The only mechanism to use. Not set: the best that is offered. With a password that is "
        f"{_listed(WITH_PASSWORD)}; `CRAM-MD5` comes before `PLAIN` where TLS is not verified, or not used. With "
        f"`oauth2`: {_listed(WITH_TOKEN)}. `{WITH_CERTIFICATE}` is used only when it is set here: who we are is what "
        "`tls.certificate` says.",
    )
