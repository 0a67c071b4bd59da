"""An upstream's own name for a message that it took, from the words of its 250: what its operator can search for.

There is no standard for it (RFC 5321 section 4.2 leaves the text to the server), so this knows the words of servers
that are often met.
"""

import re

_ID = r"(?=[^ ]*[0-9])([A-Za-z0-9][A-Za-z0-9._+/=:@\-]{2,126}[A-Za-z0-9=_\-])"  # a word without a digit is a word

_FORMS = tuple(
    (sign, re.compile(form, re.ASCII))
    for sign, form in (
        # Waypost comes first: it passes the words of its own upstream on, and puts its id behind them.
        ("(id ", rf"\(id {_ID}\)$"),
        ("ueued as ", rf"ueued as <?{_ID}(?=$|[ >.,;)\]])"),  # Postfix, SendGrid, many providers
        ("InternalId=", rf"\[InternalId={_ID}[,\]]"),  # Exchange: <Message-ID> [InternalId=..., Hostname=...]
        ("id=", rf"\bid=<?{_ID}(?=$|[ >,;)\]])"),  # Exim
        ("ids=", rf"\bids={_ID}(?=$|[ ,])"),  # KumoMTA
        ("gsmtp", rf"\b[0-9]{{9,11}} +{_ID} +- +gsmtp"),  # Gmail: the time, then the id
        ("accepted for", rf"^{_ID} Message accepted for delivery"),  # sendmail, OpenSMTPD, Proofpoint
        ("queued with id", rf"queued with id {_ID}(?=$|[ .])"),  # Stalwart
        ("Queued (", rf"Message Queued \({_ID}\)"),  # Haraka
        (" qp ", r" qp ([0-9]+)(?=$| )"),  # qmail: ok, the time, then the process
        ("Ok ", rf"^Ok {_ID}$"),  # Amazon SES
    )
)
"""A part of the text without which the form need not be tried, and the form."""


def queue_id(text: str) -> str | None:
    """The id under which the upstream has the message, from a reply's text without codes; None when it names none."""
    for sign, form in _FORMS:
        if sign in text:
            found = form.search(text)
            if found is not None:
                return found[1]
    return None
