"""The schema of TLS, on both sides. The descriptions are the manual."""

from typing import Annotated, Literal, get_args

from pydantic import Field, WithJsonSchema

from waypost.config.fields import File, Fingerprint, Flag, HostName, Section, StandIn, Words, choice, listed, one_of
from waypost.routing.route import TlsMode, TlsVersion

TlsModeField = Annotated[TlsMode, *choice("opportunistic", "starttls", "implicit", "off")]
TlsVersionField = Annotated[TlsVersion, *choice(*get_args(TlsVersion))]


class UpstreamTls(Section):
    """How to speak TLS to an upstream. One word, the mode, is enough in most cases."""

    mode: TlsModeField = Field(
        "opportunistic",
        description="`opportunistic` takes STARTTLS when it is offered and verifies nothing; `starttls` insists on it, "
        "`implicit` begins with TLS (port 465), and both verify the certificate; `off` never uses TLS.",
    )
    verify: Flag = Field(True, description="Whether `starttls` and `implicit` verify the certificate's chain and name.")
    ca_file: File | None = Field(
        None, description="PEM file with the certificate authorities to trust, instead of the system's."
    )
    fingerprint: Annotated[tuple[Fingerprint, ...], listed("SHA-256 fingerprint")] = Field(
        (),
        description="SHA-256 of the certificate in hexadecimal, or several. It takes the place of chain and name.",
    )
    server_name: HostName | None = Field(
        None, description="The name to ask for (SNI) and to verify, when it is not the host of `address`."
    )
    minimum: TlsVersionField = Field(
        "1.2",
        description="The oldest version of TLS to speak. `1.0` and `1.1` are for servers that know nothing newer, and "
        "are easy to break into.",
    )
    certificate: File | None = Field(
        None,
        description="PEM file with a certificate, followed by its chain, to show to an upstream that asks for one. It "
        "is read again when it changes, and `key` with it.",
    )
    key: File | None = Field(None, description="PEM file with its private key, without a password.")


class CertificateSection(Section):
    """A further certificate."""

    certificate: Annotated[File, StandIn("unknown")] = Field(
        description="PEM file with the certificate, followed by its chain."
    )
    key: Annotated[File, StandIn("unknown")] = Field(description="PEM file with the private key, without a password.")


class TlsSection(Section):
    """The certificate that listeners show. Both files are read again when they change."""

    certificate: Annotated[File, StandIn("unknown")] = Field(
        description="PEM file with the certificate, followed by its chain."
    )
    key: Annotated[File, StandIn("unknown")] = Field(description="PEM file with the private key, without a password.")
    by_name: tuple[CertificateSection, ...] = Field(
        (),
        description="Further certificates: a client that asks for one of their names (SNI) is shown that one. Which "
        "names those are, the certificates say.",
    )


class ListenerTls(Section):
    """How one listener speaks TLS."""

    mode: Annotated[
        Literal["auto", "starttls", "implicit", "off"],
        one_of("auto", "starttls", "implicit", "off"),
        WithJsonSchema({"type": "string", "enum": ["auto", "starttls", "implicit", "off"]}),
        Words("`auto` or `starttls` or `implicit` or `off`"),
    ] = Field(
        "auto",
        description="`starttls` offers it and needs a certificate; `auto` offers it where there is one; `implicit` "
        "begins with TLS; `off` has none.",
    )
    certificate: File | None = Field(None, description="As `tls.certificate`, for this listener only.")
    key: File | None = Field(None, description="As `tls.key`, for this listener only.")
    by_name: tuple[CertificateSection, ...] = Field((), description="As `tls.by_name`, for this listener only.")
    minimum: TlsVersionField = Field(
        "1.2",
        description="The oldest version of TLS to speak here. `1.0` and `1.1` are for old printers and scanners, with "
        "the old ciphers that they know: both are easy to break into, so give such devices a listener of their own, "
        "and name their network.",
    )
