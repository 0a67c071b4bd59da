"""What `waypost explain` asks the running Waypost: a message that came in, and how upstreams are now."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from waypost.commands.control import ControlError, Daemon
from waypost.commands.explanation import Asked, Question
from waypost.config.settings import Settings
from waypost.mail.field_values import FieldValues
from waypost.mail.header import Header
from waypost.observe.replayed import facts_of
from waypost.smtp.address import Address


def order_of(daemon: Daemon) -> Asked:
    """Asks for the order of pools. One that the running Waypost does not have is told apart by None."""

    def asked(
        pool: str, reverse_path: Address, recipient: Address, account: str | None
    ) -> Sequence[Mapping[str, Any]] | None:
        query = [("pool", pool), ("from", str(reverse_path)), ("to", str(recipient))]
        query += [("account", account)] if account else []
        try:
            return list(daemon.lines("/api/order", query))
        except ControlError as error:
            if "there is no pool" in str(error):
                return None
            raise

    return asked


def stored_question(daemon: Daemon, id_: str, settings: Settings) -> Question:
    """A message that came in, out of the journal; its header section too, if it is in the spool.

    Raises ValueError when nothing is known of it, or it cannot be asked about.
    """
    life = next(daemon.lines("/api/trace", [("about", id_), ("limit", "1")]), None)
    received = next((event for event in (life or {"events": ()})["events"] if event.get("event") == "received"), None)
    if life is None or received is None:
        raise ValueError(
            f"the running Waypost knows of no message {id_} that came in; its journal goes back `journal.keep`"
        )
    listener = next((each for each in settings.listeners if each.name == received.get("listener")), None)
    if listener is None:
        raise ValueError(f"it came in at listener {received.get('listener')}, which this configuration does not have")
    facts = facts_of(received)
    if not facts:
        raise ValueError("none of its addresses can be read any more")
    first = facts[0]
    return Question(
        listener=listener,
        client=first.client,
        account=first.account,
        reverse_path=first.reverse_path,
        recipients=tuple(each.recipient for each in facts),
        helo=first.helo,
        at=first.now,
        size=first.size,
        header=_header(daemon, life["deliveries"]),
    )


def _header(daemon: Daemon, deliveries: Sequence[Mapping[str, Any]]) -> FieldValues | None:
    """The header section, as far as it is still here and was not too long to be told."""
    if not deliveries:
        return None
    found = daemon.value(f"/api/queue/{quote(str(deliveries[0]['number']))}")
    if found["header_cut"]:
        return None
    return FieldValues(Header(found["header"].encode("utf-8", "surrogateescape") + b"\r\n"))
