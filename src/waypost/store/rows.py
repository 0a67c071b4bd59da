"""Messages as rows: how an envelope is written down, and read again.

One JSON text holds all that is never searched for. It is written once and not changed: what changes during
the life of a message has tables of its own, so that a status never rewrites content.
"""

import json
from collections.abc import Iterable, Sequence
from functools import lru_cache
from json.encoder import encode_basestring_ascii
from pathlib import Path
from typing import Any, NamedTuple

from waypost.delivery.spool import Planned
from waypost.mail.content import Content, JoinedContent
from waypost.mail.message import Client, Envelope, Message, Recipient
from waypost.smtp.address import Address
from waypost.smtp.parameters import NO_MAIL_PARAMETERS, NO_RCPT_PARAMETERS, MailParameters, RcptParameters
from waypost.store.files import FileContent, SharedContent

MessageRow = tuple[int, str, float, str | bytes, bytes, int | None, int, bool]
"""key, id, received_at, record, content in the row, size of the file or None, offset in the file, is_ascii."""

WholeRow = tuple[int, int, str | None]
"""message, live, planned deliveries as JSON (None: those of the message's record)."""

QUEUED, HELD, DEAD = 0, 1, 2
"""States of a row. That a delivery runs is known in memory only."""


class DeliveryRow(NamedTuple):
    """One delivery, column by column."""

    id: int
    lane: str
    route: str
    state: int
    attempts: int
    next_at: float | None  # None unless queued, and while it is held in memory
    received_at: float
    expires_at: float
    message_id: str
    recipients: str | None  # JSON; None: all
    reason: str
    doubt: str | None
    warned: bool
    died_at: float | None


class Record(NamedTuple):
    """What the JSON text of a message says."""

    client: Client
    envelope: Envelope
    planned: tuple[Planned, ...]
    digest: bytes


_FANOUT = 16
"""Bits of a delivery's id that number the deliveries of one message; the rest is the message's key."""

MAX_DELIVERIES = 1 << _FANOUT

_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode
_quote = encode_basestring_ascii


def delivery_id(key: int, number: int) -> int:
    """The id of one delivery of a message: so no index is needed to find the deliveries of a message."""
    return key << _FANOUT | number


def message_key(delivery: int) -> int:
    """The key of the message that a delivery belongs to."""
    return delivery >> _FANOUT


def number_of(delivery: int) -> int:
    """Which delivery of its message it is."""
    return delivery & (MAX_DELIVERIES - 1)


def encode_record(message: Message, planned: Sequence[Planned]) -> str:
    """Client, envelope, planned deliveries and digest as JSON."""
    envelope = message.envelope
    path = envelope.reverse_path
    parameters = "null" if envelope.parameters is NO_MAIL_PARAMETERS else _mail_parameters(envelope.parameters)
    # Every message comes by here: put together by hand it takes half the time.
    return (
        f"[{_client(message.client)},[{_quote(path.local)},{_quote(path.domain)}],{parameters},"
        f'{_recipients(envelope.recipients)},{_plans(planned)},"{message.digest.hex()}"]'
    )


def decode_record(record: str | bytes) -> Record:
    """What `encode_record` wrote."""
    client, path, parameters, recipients, planned, digest = json.loads(record)
    envelope = Envelope(
        Address(*path),
        _decoded_recipients(recipients),
        NO_MAIL_PARAMETERS if parameters is None else MailParameters(*parameters),
    )
    return Record(Client(*client), envelope, _decoded_plans(planned), bytes.fromhex(digest))


def planned_of(record: str | bytes) -> tuple[Planned, ...]:
    """The planned deliveries of what `encode_record` wrote, without the rest: after a crash there are many."""
    return _decoded_plans(json.loads(record)[4])


def encode_planned(planned: Sequence[Planned]) -> str:
    """Planned deliveries as JSON. That one of them runs is not written down: after a crash none does."""
    return _plans(planned)


def decode_planned(text: str) -> tuple[Planned, ...]:
    """What `encode_planned` wrote."""
    return _decoded_plans(json.loads(text))


def encode_recipients(recipients: Sequence[Recipient]) -> str:
    """Recipients as JSON."""
    return _recipients(recipients)


def decode_recipients(text: str) -> tuple[Recipient, ...]:
    """What `encode_recipients` wrote."""
    return _decoded_recipients(json.loads(text))


def planned_row(id_: int, message_id: str, received_at: float, plan: Planned, next_at: float | None) -> DeliveryRow:
    """The row of a delivery that was not tried yet."""
    recipients = None if plan.recipients is None else encode_recipients(plan.recipients)
    return DeliveryRow(
        id_,
        plan.lane,
        plan.route,
        QUEUED,
        0,
        next_at,
        received_at,
        plan.expires_at,
        message_id,
        recipients,
        "",
        plan.doubt,
        False,
        None,
    )


def decode_message(row: MessageRow, content_path: Path, recipients: str | None = None) -> Message:
    """The message of a row, owed to `recipients` (all, when None). Its content is opened when it is read."""
    _, id_, received_at, text, data, size, start, is_ascii = row
    record = decode_record(text)
    envelope = record.envelope
    if recipients is not None:
        envelope = Envelope(envelope.reverse_path, decode_recipients(recipients), envelope.parameters)
    content: Content
    if size is None:
        content = SharedContent(data)
    else:
        content = stored_content(data, FileContent(content_path, size, is_ascii), start)
    return Message(id_, received_at, record.client, envelope, content, record.digest)


def stored_content(front: bytes, file: FileContent, start: int) -> Content:
    """What is in the row, followed by what is in the file."""
    return JoinedContent(front, file, start) if front or start else file


@lru_cache(maxsize=1024)
def _client(client: Client) -> str:
    return _encode(
        (
            client.listener,
            client.address,
            client.port,
            client.name,
            client.protocol,
            client.account,
            client.tls,
            client.submission,
        )
    )


def _mail_parameters(parameters: MailParameters) -> str:
    return _encode(
        (parameters.size, parameters.body, parameters.smtputf8, parameters.ret, parameters.envid, parameters.auth)
    )


def _recipients(recipients: Sequence[Recipient]) -> str:
    texts = []
    for recipient in recipients:
        address, parameters = recipient.address, recipient.parameters
        more = "" if parameters is NO_RCPT_PARAMETERS else f",{_encode(parameters.notify)},{_encode(parameters.orcpt)}"
        texts.append(f"[{_quote(address.local)},{_quote(address.domain)}{more}]")
    return f"[{','.join(texts)}]"


def _decoded_recipients(rows: Iterable[list[Any]]) -> tuple[Recipient, ...]:
    recipients = []
    for local, domain, *parameters in rows:
        if parameters:
            notify, orcpt = parameters
            known = RcptParameters(None if notify is None else tuple(notify), orcpt)
            recipients.append(Recipient(Address(local, domain), known))
        else:
            recipients.append(Recipient(Address(local, domain)))
    return tuple(recipients)


def _plans(planned: Sequence[Planned]) -> str:
    texts = []
    for plan in planned:
        more = ""
        if plan.recipients is not None or plan.doubt is not None:
            recipients = "null" if plan.recipients is None else _recipients(plan.recipients)
            more = f",{recipients},{_encode(plan.doubt)}"
        texts.append(f"[{_quote(plan.lane)},{_quote(plan.route)},{_encode(plan.expires_at)}{more}]")
    return f"[{','.join(texts)}]"


def _decoded_plans(rows: Iterable[list[Any]]) -> tuple[Planned, ...]:
    planned = []
    for lane, route, expires_at, *more in rows:
        recipients, doubt = more or (None, None)
        known = None if recipients is None else _decoded_recipients(recipients)
        planned.append(Planned(lane, route, expires_at, known, doubt=doubt))
    return tuple(planned)
