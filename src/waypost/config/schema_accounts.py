"""The schema of who may submit: accounts, files of them, certificates. The descriptions are the manual."""

from typing import Annotated, Literal

from pydantic import Field, WithJsonSchema

from waypost.config.fields import (
    AddressGlob,
    Allowed,
    CertificateName,
    File,
    Flag,
    Password,
    Reference,
    Section,
    Words,
    listed,
    one_of,
)

_MECHANISMS = ("plain", "login", "scram-sha-256", "external")
_FORMATS = ("htpasswd", "dovecot")

MechanismField = Annotated[
    str,
    one_of(*_MECHANISMS),
    WithJsonSchema({"type": "string", "enum": list(_MECHANISMS)}),
    Words(" or ".join(f"`{word}`" for word in _MECHANISMS)),
]


class AccountLimits(Section):
    """How much an account may send. Periods are those of UTC: an hour begins at its first minute, a day at midnight."""

    messages: Annotated[tuple[Allowed, ...], listed("limit")] = Field(
        (),
        description="Accepted messages, like `100/hour`, or several: `[100/hour, 1000/day]`. Beyond, MAIL hears 450.",
    )
    recipients: Annotated[tuple[Allowed, ...], listed("limit")] = Field(
        (), description="Recipients of accepted messages. Beyond, RCPT hears 452."
    )


class AccountSection(Section):
    """Credentials of an application that submits: one of `password` and `password_file`, a `certificate`, or both."""

    password: Password | None = Field(
        None,
        description="A hash, as `waypost hash-password` prints it: argon2 (`$argon2id$...`), bcrypt (`$2b$...`), "
        "sha512-crypt (`$6$...`), sha256-crypt (`$5$...`) or SCRAM-SHA-256 (`$scram-sha-256$...`). Or the password "
        "itself.",
    )
    password_file: File | None = Field(
        None, description="A file with the hash or the password; one line end at its end is left out."
    )
    certificate: Annotated[tuple[CertificateName, ...], listed("certificate")] = Field(
        (),
        description="TLS certificates that stand for the account on listeners with `client_certificates`: a SHA-256 "
        "fingerprint, a mail address that is in it, or attributes that its subject has, like `CN=printer,O=Example`.",
    )
    route: Reference | None = Field(
        None, description="The route of this account's mail when no rule matches. Rules come first."
    )
    may_send_as: Annotated[tuple[AddressGlob, ...], listed("address pattern")] = Field(
        (), description="Addresses that it may use in MAIL FROM. Without any it may use every address."
    )
    limits: AccountLimits = Field(AccountLimits(), description="How much it may send.")


class AccountsFileSection(Section):
    """A file of accounts. Those of `accounts` come first where a name is in both."""

    path: File = Field(
        description="The file. A line that cannot be used is told of with its number, and only its account is refused."
    )
    format: Annotated[
        Literal["htpasswd", "dovecot"],
        one_of(*_FORMATS),
        WithJsonSchema({"type": "string", "enum": list(_FORMATS)}),
        Words("`htpasswd` or `dovecot`"),
    ] = Field(
        description="`htpasswd`: bcrypt, `$apr1$`, `{SHA}`, crypt. `dovecot`: a passwd-file, `user:{SCHEME}hash:...`."
    )
    route: Reference | None = Field(None, description="As `accounts.NAME.route`, for all of them.")
    may_send_as: Annotated[tuple[AddressGlob, ...], listed("address pattern")] = Field(
        (), description="As `accounts.NAME.may_send_as`, for all of them."
    )
    limits: AccountLimits = Field(AccountLimits(), description="How much each of them may send.")


class ClientCertificates(Section):
    """Which certificates clients may show in the TLS handshake."""

    ca_file: File = Field(
        description="PEM file with the authorities that have signed them, or with the certificates themselves."
    )
    required: Flag = Field(False, description="Whether nothing can be sent without one.")
