"""How a transaction is worded for an upstream: DSN parameters go exactly where DSN is offered (RFC 3461)."""

import pytest

from waypost.delivery.sender import fit
from waypost.mail.message import Envelope, Recipient
from waypost.mail.outcome import Cause, Failure
from waypost.routing.route import Upstream
from waypost.smtp import commands as c
from waypost.smtp.address import NULL, Address
from waypost.smtp.client import Extensions
from waypost.smtp.parameters import NO_MAIL_PARAMETERS, NO_RCPT_PARAMETERS, MailParameters, RcptParameters
from waypost.smtp.wire import encode

ANN = Address("ann", "example.com")
UPSTREAM = Upstream("provider", "mx.example.org", 25)
ASKED = RcptParameters(("SUCCESS", "FAILURE"), "rfc822;bob+2Bx@example.net")
BOB = Recipient(Address("bob", "example.org"), ASKED)
CY = Recipient(Address("cy", "example.org"))


def lines(envelope: Envelope, extensions: Extensions, *, quiet: bool = False) -> list[str]:
    """What would be said, without line ends."""
    worded = fit(envelope, extensions, quiet=quiet)
    assert not isinstance(worded, Failure)
    mail, recipients = worded
    return [encode(command).decode().removesuffix("\r\n") for command in (mail, *recipients)]


def test_dsn_parameters_go_where_they_are_understood() -> None:
    envelope = Envelope(ANN, (BOB, CY), MailParameters(ret="HDRS", envid="QQ+2B1"))
    assert lines(envelope, Extensions(dsn=True)) == [
        "MAIL FROM:<ann@example.com> RET=HDRS ENVID=QQ+2B1",
        "RCPT TO:<bob@example.org> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;bob+2Bx@example.net",
        "RCPT TO:<cy@example.org>",
    ]
    assert lines(envelope, Extensions()) == [
        "MAIL FROM:<ann@example.com>",
        "RCPT TO:<bob@example.org>",
        "RCPT TO:<cy@example.org>",
    ]


def test_a_copy_asks_for_silence() -> None:
    envelope = Envelope(ANN, (BOB, CY))
    assert lines(envelope, Extensions(dsn=True), quiet=True) == [
        "MAIL FROM:<ann@example.com>",
        "RCPT TO:<bob@example.org> NOTIFY=NEVER",
        "RCPT TO:<cy@example.org> NOTIFY=NEVER",
    ]
    assert lines(envelope, Extensions(), quiet=True)[1:] == ["RCPT TO:<bob@example.org>", "RCPT TO:<cy@example.org>"]


def test_nothing_is_added_that_the_client_did_not_say() -> None:
    everything = Extensions(True, 0, True, True, True, True, True, True, ("PLAIN",))
    worded = fit(Envelope(NULL, (CY,)), everything)
    assert worded == (c.Mail(NULL, NO_MAIL_PARAMETERS), [c.Rcpt(CY.address, NO_RCPT_PARAMETERS)])


@pytest.mark.parametrize("dsn", [True, False])
def test_an_orcpt_beyond_ascii_goes_only_where_smtputf8_is_offered(dsn: bool) -> None:
    """A client may say one only in a transaction with SMTPUTF8 (RFC 6533 section 3), which binds the upstream too."""
    bob = Recipient(BOB.address, RcptParameters(None, "utf-8;bøb@example.net"))
    envelope = Envelope(ANN, (bob,), MailParameters(smtputf8=True))
    refused = fit(envelope, Extensions(dsn=dsn))
    assert isinstance(refused, Failure)
    assert refused.cause is Cause.CAPABILITY
    said = lines(envelope, Extensions(dsn=dsn, smtputf8=True, eightbitmime=True))
    assert said[1] == "RCPT TO:<bob@example.org>" + (" ORCPT=utf-8;bøb@example.net" if dsn else "")
