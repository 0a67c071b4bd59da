"""A message, its envelope, and the client that handed it in (RFC 5321 section 2.3)."""

from dataclasses import dataclass

from waypost.mail.content import Content
from waypost.smtp.address import Address
from waypost.smtp.parameters import NO_MAIL_PARAMETERS, NO_RCPT_PARAMETERS, MailParameters, RcptParameters
from waypost.smtp.values import quick


@quick
@dataclass(frozen=True, slots=True)
class Recipient:
    """One RCPT: its address and what came with it."""

    address: Address
    parameters: RcptParameters = NO_RCPT_PARAMETERS


@quick
@dataclass(frozen=True, slots=True)
class Envelope:
    """Everything but the content."""

    reverse_path: Address
    recipients: tuple[Recipient, ...]
    parameters: MailParameters = NO_MAIL_PARAMETERS

    @property
    def needs_smtputf8(self) -> bool:
        """Whether only an SMTPUTF8 server can take it: the client said so, or an address is not ASCII."""
        return (
            self.parameters.smtputf8
            or not self.reverse_path.is_ascii
            or not all(r.address.is_ascii for r in self.recipients)
        )


@quick
@dataclass(frozen=True, slots=True)
class Client:
    """The SMTP client of one session, as far as it is known when a transaction begins.

    `protocol` is the word for `Received` (RFC 3848): SMTP, ESMTP, ESMTPS, ESMTPA, ESMTPSA, with UTF8 forms
    (RFC 6531 section 4.3), or the same with LMTP. `tls` is `TLSv1.3 TLS_AES_256_GCM_SHA384`, or None.
    """

    listener: str
    address: str
    port: int
    name: str = ""
    protocol: str = "SMTP"
    account: str | None = None
    tls: str | None = None
    submission: bool = False

    @property
    def hears_each(self) -> bool:
        """Whether it speaks LMTP, so that it is told what became of each recipient."""
        return "LMTP" in self.protocol

    def introduced(self, name: str, protocol: str, tls: str | None) -> "Client":
        """The same client after EHLO or HELO. Every session makes one, and `dataclasses.replace` takes its time."""
        return Client(self.listener, self.address, self.port, name, protocol, self.account, tls, self.submission)


@quick
@dataclass(frozen=True, slots=True)
class Message:
    """An accepted envelope with its content. `received_at` is in seconds since the epoch.

    `digest` is the SHA-256 of the content as the client sent it; empty when nobody needs it.
    """

    id: str
    received_at: float
    client: Client
    envelope: Envelope
    content: Content
    digest: bytes = b""
