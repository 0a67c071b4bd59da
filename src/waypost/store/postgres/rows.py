"""Messages and deliveries as rows, and back."""

from collections.abc import Sequence
from typing import Any

from waypost.delivery.spool import Delivery, Entry, State
from waypost.mail.content import Content
from waypost.mail.message import Envelope, Message, Recipient
from waypost.store.rows import decode_recipients, decode_record, encode_recipients, encode_record

MESSAGE = "m.key, m.id AS message_id, m.received_at, m.record, m.size, m.is_ascii"
"""What `decode_message` needs, of `waypost.message m`."""

DELIVERY = "d.id, d.lane, d.route, d.attempts, d.expires_at, d.doubt, d.warned, d.recipients, d.reason"
"""What `decode_delivery` needs besides, of `waypost.delivery d`."""

ENTRY = f"{DELIVERY}, d.state, d.next_at, m.id AS message_id, m.received_at, m.reverse_path, m.record, m.size"
"""What `decode_entry` needs, of both."""


def plain(text: str) -> str:
    """`text` as PostgreSQL can store it: without NUL, and with no surrogates."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8").replace("\x00", "\N{REPLACEMENT CHARACTER}")


def encode_message(message: Message) -> str:
    """Client, envelope and digest as JSON."""
    return encode_record(message, ())


def decode_message(row: Any, content: Content, recipients: str | None = None) -> Message:
    """The message of a row, owed to `recipients` (all, when None)."""
    client, envelope, _, digest = decode_record(row["record"])
    if recipients is not None:
        envelope = Envelope(envelope.reverse_path, decode_recipients(recipients), envelope.parameters)
    return Message(row["message_id"], row["received_at"], client, envelope, content, digest)


def decode_delivery(row: Any, content: Content) -> Delivery:
    """The delivery of a row."""
    return Delivery(
        row["id"],
        decode_message(row, content, row["recipients"]),
        row["lane"],
        row["route"],
        row["attempts"],
        row["expires_at"],
        row["doubt"],
        row["warned"],
        row["reason"],
    )


def decode_entry(row: Any) -> Entry:
    """The delivery of a row, as people look at it."""
    text = row["recipients"]
    recipients = decode_record(row["record"]).envelope.recipients if text is None else decode_recipients(text)
    state = State(row["state"])
    return Entry(
        row["id"],
        row["message_id"],
        row["lane"],
        row["route"],
        state,
        row["attempts"],
        row["received_at"],
        row["next_at"] if state is State.QUEUED else None,
        row["expires_at"],
        row["reverse_path"],
        tuple(str(recipient.address) for recipient in recipients),
        row["size"],
        row["reason"],
        row["doubt"],
    )


def encode_some(recipients: Sequence[Recipient] | None) -> str | None:
    """Recipients as JSON; None, which is all of them, as it is."""
    return None if recipients is None else encode_recipients(recipients)
