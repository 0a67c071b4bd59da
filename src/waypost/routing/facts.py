"""What a rule may ask about one message to one recipient, as far as it is known."""

from dataclasses import dataclass

from waypost.mail.field_values import FieldValues
from waypost.routing.condition import ShareBy
from waypost.routing.patterns import domain_key
from waypost.smtp.address import Address
from waypost.smtp.values import quick


@quick
@dataclass(frozen=True, slots=True)
class Facts:
    """What a route is decided on. `client` is the address as text, `account` None without AUTH.

    The others are None as long as they are not known: before the content is there, `size` and `header` are not.
    """

    listener: str
    account: str | None
    client: str
    reverse_path: Address
    recipient: Address
    helo: str | None = None
    message_id: str | None = None
    """Our own id of the message."""
    now: float | None = None
    """When the message was begun, in seconds since the epoch: one moment for all of its decisions."""
    size: int | None = None
    """Octets of the content in wire form."""
    header: FieldValues | None = None


def share_key(facts: Facts, by: ShareBy) -> str | None:
    """What a share of the traffic goes by; None when it is not known."""
    match by:
        case "recipient":
            return _mailbox(facts.recipient)
        case "sender":
            return _mailbox(facts.reverse_path)
        case "account":
            return facts.account or ""
        case "client":
            return facts.client
        case "message":
            return facts.message_id


def _mailbox(address: Address) -> str:
    """The same for every way to write an address; other than `Address.key`, it does not look at case at all."""
    return f"{address.local.lower()}@{domain_key(address.domain)}"
