"""AUTH= of MAIL: who is said to have submitted a message first (RFC 4954 section 5).

A server in a trusted network is believed. An account is believed about addresses that it may send as; what it says of
others becomes `<>`, as the RFC has it for clients that are not trusted to say so.
"""

from dataclasses import replace

from waypost.mail.dsn_status import from_xtext
from waypost.routing.rules import Router
from waypost.smtp import commands as c
from waypost.smtp.address import AddressError, parse_mailbox


def vouched(mail: c.Mail, account: str | None, router: Router) -> c.Mail:
    """The command as it may be passed on. What has no AUTH= comes back as it is."""
    said = mail.parameters.auth
    if said is None or said == "<>" or account is None or _is_allowed(said, account, router):
        return mail
    return replace(mail, parameters=replace(mail.parameters, auth="<>"))


def _is_allowed(said: str, account: str, router: Router) -> bool:
    try:
        return router.may_send_as(account, parse_mailbox(from_xtext(said)))
    except (AddressError, ValueError):
        return False
