"""Messages out of the journal as routing asks about them: one set of facts for each recipient."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from waypost.routing.facts import Facts
from waypost.smtp.address import NULL, Address, AddressError, parse_forward_path


def facts_of(received: Mapping[str, Any]) -> list[Facts]:
    """Of the record of a message that was received. Its header fields are not in the journal, so they are not known.

    Addresses that cannot be read any more are left out.
    """
    at = datetime.fromisoformat(str(received["time"])).timestamp()
    path = str(received.get("reverse_path", ""))
    found = []
    for text in received.get("recipients", ()):
        try:
            reverse_path, recipient = _address(path) if path else NULL, _address(str(text))
        except AddressError:
            continue
        found.append(
            Facts(
                listener=str(received.get("listener", "")),
                account=received.get("account"),
                client=str(received.get("client", "")),
                reverse_path=reverse_path,
                recipient=recipient,
                helo=received.get("client_name", ""),
                message_id=received.get("id"),
                now=at,
                size=received.get("size"),
            )
        )
    return found


def _address(text: str) -> Address:
    return parse_forward_path(f"<{text}>")
