"""Messages as rows: how an envelope is written down, and read again.

One JSON text holds all that is never searched for. It is written once and not changed: what changes during
the life of a message has tables of its own, so that a status never rewrites content.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from waypost.delivery.spool import Planned
from waypost.mail.content import Content, JoinedContent
from waypost.mail.message import Client, Envelope, Message, Recipient
from waypost.smtp.address import Address
from waypost.smtp.parameters import NO_MAIL_PARAMETERS, NO_RCPT_PARAMETERS, MailParameters, RcptParameters
from waypost.store.files import FileContent, SharedContent

MessageRow = tuple[int, str, float, str, bytes, int | None, int, bool]
"""key, id, received_at, record, content in the row, size of the file or None, offset in the file, is_ascii."""

DeliveryRow = tuple[int, str, str, int, float | None, float, str | None]
"""id, lane, route, attempts, next_at (None: held in memory), expires_at, recipients (None: all)."""

_FANOUT = 16
"""Bits of a delivery's id that number the deliveries of one message; the rest is the message's key."""

MAX_COPIES = 1 << _FANOUT

_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


def delivery_id(key: int, number: int) -> int:
    """The id of one delivery of a message: so no index is needed to find the deliveries of a message."""
    return key << _FANOUT | number


def message_key(delivery: int) -> int:
    """The key of the message that a delivery belongs to."""
    return delivery >> _FANOUT


def encode_record(message: Message, planned: Sequence[Planned]) -> str:
    """Client, envelope and planned deliveries as JSON."""
    client = message.client
    envelope = message.envelope
    path = envelope.reverse_path
    parameters = envelope.parameters
    return _encode(
        (
            (
                client.listener,
                client.address,
                client.port,
                client.name,
                client.protocol,
                client.account,
                client.tls,
                client.submission,
            ),
            (path.local, path.domain),
            None
            if parameters is NO_MAIL_PARAMETERS
            else (
                parameters.size,
                parameters.body,
                parameters.smtputf8,
                parameters.ret,
                parameters.envid,
                parameters.auth,
            ),
            _recipients(envelope.recipients),
            [(plan.lane, plan.route, plan.expires_at) for plan in planned],
        )
    )


def decode_record(record: str) -> tuple[Client, Envelope, tuple[Planned, ...]]:
    """What `encode_record` wrote."""
    client, path, parameters, recipients, planned = json.loads(record)
    envelope = Envelope(
        Address(*path),
        _decoded_recipients(recipients),
        NO_MAIL_PARAMETERS if parameters is None else MailParameters(*parameters),
    )
    return Client(*client), envelope, tuple(Planned(*plan) for plan in planned)


def encode_recipients(recipients: Sequence[Recipient]) -> str:
    """Recipients as JSON."""
    return _encode(_recipients(recipients))


def decode_recipients(text: str) -> tuple[Recipient, ...]:
    """What `encode_recipients` wrote."""
    return _decoded_recipients(json.loads(text))


def decode_message(row: MessageRow, content_path: Path, recipients: str | None = None) -> Message:
    """The message of a row, owed to `recipients` (all, when None). Its content is opened when it is read."""
    _, id_, received_at, record, data, size, start, is_ascii = row
    client, envelope, _ = decode_record(record)
    if recipients is not None:
        envelope = Envelope(envelope.reverse_path, decode_recipients(recipients), envelope.parameters)
    content: Content
    if size is None:
        content = SharedContent(data)
    else:
        content = stored_content(data, FileContent(content_path, size, is_ascii), start)
    return Message(id_, received_at, client, envelope, content)


def stored_content(front: bytes, file: FileContent, start: int) -> Content:
    """What is in the row, followed by what is in the file."""
    return JoinedContent(front, file, start) if front or start else file


def _recipients(recipients: Sequence[Recipient]) -> list[tuple[object, ...]]:
    return [
        (r.address.local, r.address.domain)
        if r.parameters is NO_RCPT_PARAMETERS
        else (r.address.local, r.address.domain, r.parameters.notify, r.parameters.orcpt)
        for r in recipients
    ]


def _decoded_recipients(rows: list[list[Any]]) -> tuple[Recipient, ...]:
    recipients = []
    for local, domain, *parameters in rows:
        if parameters:
            notify, orcpt = parameters
            known = RcptParameters(None if notify is None else tuple(notify), orcpt)
            recipients.append(Recipient(Address(local, domain), known))
        else:
            recipients.append(Recipient(Address(local, domain)))
    return tuple(recipients)
