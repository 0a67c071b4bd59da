"""What a rule may ask about one message to one recipient, as far as it is known."""

from dataclasses import dataclass

from waypost.mail.field_values import FieldValues
from waypost.routing.condition import ShareBy
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
            return facts.recipient.key.lower()
        case "sender":
            return facts.reverse_path.key.lower()
        case "account":
            return facts.account or ""
        case "client":
            return facts.client
        case "message":
            return facts.message_id
