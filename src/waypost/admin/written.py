"""Deliveries and their summaries as the control API writes them: plain values for JSON.

Names are those of the mail log where it has one for the same thing: `id` is the message's, `number` the delivery's.
"""

from typing import Any

from waypost.admin.queue import REASONS, LaneSummary, Touched
from waypost.delivery.spool import Delivery, Entry, Instance, read_lane
from waypost.mail.content import Content
from waypost.mail.message import Message
from waypost.observe.record import timestamp
from waypost.smtp.content import unstuffed

MAX_HEADER = 64 * 1024
"""Octets of the header section that are shown."""


def written_entry(entry: Entry) -> dict[str, Any]:
    """One delivery, as a list shows it."""
    return {
        "number": entry.id,
        "id": entry.message_id,
        "lane": entry.lane,
        "role": read_lane(entry.lane)[0].value,
        "route": entry.route,
        "state": entry.state.value,
        "attempts": entry.attempts,
        "received_at": timestamp(entry.received_at),
        "next_attempt_at": None if entry.next_at is None else timestamp(entry.next_at),
        "expires_at": timestamp(entry.expires_at),
        "reverse_path": entry.reverse_path,
        "recipients": list(entry.recipients),
        "size": entry.size,
        "reason": entry.reason,
        "in_doubt": entry.doubt,
    }


def written_delivery(entry: Entry, delivery: Delivery) -> dict[str, Any]:
    """One delivery with all that is known of its message, and the header section of its content."""
    message = delivery.message
    header, cut = header_section(message.content)
    return {
        **written_entry(entry),
        "warned": delivery.warned,
        "envelope": _envelope(message),
        "client": _client(message),
        "digest": message.digest.hex() or None,
        "header": header.decode("utf-8", "backslashreplace"),
        "header_cut": cut,
    }


def written_touched(touched: Touched, *, dry_run: bool) -> dict[str, Any]:
    """What became of one delivery when something was done to many; all about it when that is only considered."""
    entry = touched.entry
    if dry_run:
        return {**written_entry(entry), "done": touched.done}
    return {
        "number": entry.id,
        "id": entry.message_id,
        "lane": entry.lane,
        "state": entry.state.value,
        "done": touched.done,
    }


def written_instance(instance: Instance) -> dict[str, Any]:
    """One Waypost that works on the spool."""
    return {
        "instance": instance.name,
        "started_at": timestamp(instance.started_at),
        "seen_at": timestamp(instance.seen_at),
    }


def written_lane(summary: LaneSummary) -> dict[str, Any]:
    """What stands in one lane."""
    return {
        "lane": summary.lane,
        "queued": summary.queued,
        "held": summary.held,
        "dead": summary.dead,
        "oldest_received_at": None if summary.oldest is None else timestamp(summary.oldest),
        "sampled": summary.sampled,
        "reasons": [{"text": text, "count": count} for text, count in summary.reasons.most_common(REASONS)],
    }


def header_section(content: Content) -> tuple[bytes, bool]:
    """The header section without the empty line, dots as in the message itself, and whether it was cut."""
    head = b"".join(unstuffed([content.head(MAX_HEADER)]))
    if head.startswith(b"\r\n"):
        return b"", False
    end = head.find(b"\r\n\r\n")
    return (head[: end + 2], False) if end >= 0 else (head, content.size > MAX_HEADER)


def _envelope(message: Message) -> dict[str, Any]:
    envelope = message.envelope
    return {
        "reverse_path": str(envelope.reverse_path),
        "parameters": envelope.parameters.encode().split(),
        "recipients": [
            {"address": str(each.address), "parameters": each.parameters.encode().split()}
            for each in envelope.recipients
        ],
    }


def _client(message: Message) -> dict[str, Any]:
    client = message.client
    return {
        "listener": client.listener,
        "address": client.address,
        "name": client.name,
        "protocol": client.protocol,
        "account": client.account,
        "tls": client.tls,
    }
