"""The mail log: every mail event has one method here, which makes one record and moves the metrics.

Records are built field by field from named facts, so content and secrets cannot get into one. The events and
their fields are listed in `waypost.observe.events`, from which `docs/logging.md` is made. This is on the way
of every message: a call costs a few microseconds, output included.
"""

import re
import time
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Literal

from waypost.mail.content import Content
from waypost.mail.message import Client, Message, Recipient
from waypost.mail.outcome import Answer, Attempt, Role
from waypost.observe.metrics import Metrics
from waypost.observe.record import Record, timestamp
from waypost.smtp.address import Address
from waypost.smtp.reply import EnhancedCode, Reply

SessionEvent = Literal["connected", "closed", "auth_failed", "auth_succeeded", "tls_failed", "limited"]
Fact = str | int | float | bool | None

_COMMANDS = {
    "connect", "ehlo", "helo", "mail", "rcpt", "data", "content", "bdat",
    "rset", "noop", "help", "vrfy", "expn", "quit", "starttls", "auth",
}  # fmt: skip
_SEVERITIES = {4: "transient", 5: "permanent"}
_SESSION_LEVELS = {"auth_failed": "warning", "limited": "warning"}  # the others are for debugging

_HEAD = 4096  # octets in which the Message-ID field is looked for: it comes early or the search gets dear
_MESSAGE_ID = re.compile(rb"Message-I[Dd]:[ \t]*(?:\r\n[ \t]+)?(<[\x21-\x7e]{1,250}>)")  # in its usual spellings


class MailLog:
    """Tells what happens to mail.

    `emit` takes one record and must not raise. With `debug`, sessions are told of too. `clock` gives seconds
    since the epoch.
    """

    def __init__(
        self,
        emit: Callable[[Record], None],
        metrics: Metrics,
        *,
        debug: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._emit = emit
        self._metrics = metrics
        self._debug = debug
        self._clock = clock

    def received(self, message: Message, route: str, rule: str) -> None:
        """Content has come in whole, and `rule` has chosen `route`."""
        client, envelope = message.client, message.envelope
        recipients = _addresses(envelope.recipients)
        record = {
            "time": timestamp(self._clock()),
            "level": "info",
            "event": "received",
            "id": message.id,
            "reverse_path": str(envelope.reverse_path),
            "recipients": recipients,
            "recipient_count": len(recipients),
            "size": message.content.size,
            "route": route,
            "rule": rule,
        }
        header = message_id_field(message.content)
        if header is not None:
            record["message_id_field"] = header
        _add_client(record, client)
        self._emit(record)
        self._metrics.messages_received[client.listener,] += 1

    def refused(
        self,
        client: Client,
        command: str,
        reply: Reply,
        *,
        reverse_path: Address | None = None,
        recipient: Address | None = None,
        message_id: str | None = None,
    ) -> None:
        """We, or the primary, refused something the client asked. `command` is `content` for the final dot."""
        command = command.lower()
        if command not in _COMMANDS:
            command = "other"  # the client's own words are neither a label nor worth a record
        record = self._begin("info", "refused")
        if message_id is not None:
            record["id"] = message_id
        _add_client(record, client)
        record["command"] = command
        if reverse_path is not None:
            record["reverse_path"] = str(reverse_path)
        if recipient is not None:
            record["recipient"] = str(recipient)
        _add_answer(record, reply)
        self._emit(record)
        severity = _SEVERITIES.get(reply.severity, "other")
        self._metrics.messages_refused[client.listener, command, severity] += 1

    def abandoned(self, client: Client, reverse_path: Address, message_id: str | None, why: str) -> None:
        """The client disappeared in mid-content. Nothing of the message was kept."""
        record = self._begin("info", "abandoned")
        if message_id is not None:
            record["id"] = message_id
        _add_client(record, client)
        record["reverse_path"] = str(reverse_path)
        record["reason"] = why
        self._emit(record)
        self._metrics.messages_abandoned[client.listener,] += 1

    def attempted(self, message_id: str, attempt: Attempt, role: Role) -> None:
        """One attempt failed: the next upstream is tried, or there is none left.

        Attempts that relayed the message, or left it in doubt, are told of by those methods instead.
        """
        record = self._begin("warning", "attempted")
        record["id"] = message_id
        record["role"] = role
        self._add_attempt(record, attempt, role)
        record["phase"] = attempt.phase
        record["classification"] = attempt.rule
        self._emit(record)
        self._metrics.attempts_failed[attempt.upstream, role, attempt.phase] += 1

    def relayed(
        self, message: Message, attempt: Attempt, recipients: Sequence[Recipient], role: Role = Role.PRIMARY
    ) -> None:
        """An upstream has taken the message for these recipients, as the primary."""
        self._taken("relayed", message, attempt, recipients, role)

    def copied(self, message: Message, attempt: Attempt, recipients: Sequence[Recipient], role: Role = Role.COPY) -> None:
        """An upstream has taken a copy of the message for these recipients."""
        self._taken("copied", message, attempt, recipients, role)

    def deferred(
        self,
        message: Message,
        target: str,
        recipients: Sequence[Recipient],
        answer: Answer,
        at: float | None,
        role: Role,
    ) -> None:
        """The delivery failed for now. `at` is when it is tried again; None when that is the client's affair."""
        record = self._owed("warning", "deferred", message, target, recipients, role)
        _add_answer(record, answer)
        if at is not None:
            record["next_attempt_at"] = timestamp(at)
        self._emit(record)

    def failed(
        self, message: Message, target: str, recipients: Sequence[Recipient], answer: Answer, role: Role
    ) -> None:
        """An upstream has refused these recipients for good."""
        record = self._owed("warning", "failed", message, target, recipients, role)
        _add_answer(record, answer)
        self._emit(record)

    def in_doubt(self, message: Message, attempt: Attempt, role: Role) -> None:
        """The final dot was sent and no answer came: the upstream may have the message or not."""
        record = self._begin("warning", "in_doubt")
        record["id"] = message.id
        record["role"] = role
        self._add_attempt(record, attempt, role)
        record["phase"] = attempt.phase
        record["classification"] = attempt.rule
        record["reverse_path"] = str(message.envelope.reverse_path)
        record["recipients"] = _addresses(message.envelope.recipients)
        self._emit(record)
        self._metrics.deliveries[attempt.upstream, role, "in_doubt"] += 1

    def not_taken(self, message: Message, target: str, reason: str, role: Role = Role.COPY) -> None:
        """A copy could not be stored, so it will not be made."""
        record = self._owed("error", "not_taken", message, target, message.envelope.recipients, role)
        record["reason"] = reason
        self._emit(record)

    def dead(
        self, message: Message, target: str, recipients: Sequence[Recipient], reason: str, role: Role = Role.COPY
    ) -> None:
        """A copy has become a dead letter: kept, and not tried again by itself."""
        record = self._owed("error", "dead", message, target, recipients, role)
        record["reason"] = reason
        self._emit(record)

    def session(self, client: Client, event: SessionEvent, **facts: Fact) -> None:
        """Something happened to a session. Only refusals are written when not debugging; all are counted."""
        self._metrics.session_events[client.listener, event] += 1
        level = _SESSION_LEVELS.get(event, "debug")
        if level == "debug" and not self._debug:
            return
        record = self._begin(level, event)
        _add_client(record, client)
        record.update(facts)
        self._emit(record)

    def _begin(self, level: str, event: str) -> Record:
        return {"time": timestamp(self._clock()), "level": level, "event": event}

    def _taken(
        self, event: str, message: Message, attempt: Attempt, recipients: Sequence[Recipient], role: Role
    ) -> None:
        now = self._clock()
        record = {
            "time": timestamp(now),
            "level": "info",
            "event": event,
            "id": message.id,
            "role": role,
            "reverse_path": str(message.envelope.reverse_path),
            "recipients": _addresses(recipients),
            "delay": _short(now - message.received_at),
        }
        self._add_attempt(record, attempt, role)
        self._emit(record)
        self._metrics.deliveries[attempt.upstream, role, event] += 1

    def _owed(
        self, level: str, event: str, message: Message, target: str, recipients: Sequence[Recipient], role: Role
    ) -> Record:
        record = self._begin(level, event)
        record["id"] = message.id
        record["role"] = role
        record["target"] = target
        record["reverse_path"] = str(message.envelope.reverse_path)
        record["recipients"] = _addresses(recipients)
        self._metrics.deliveries[target, role, event] += 1
        return record

    def _add_attempt(self, record: Record, attempt: Attempt, role: Role) -> None:
        record["upstream"] = attempt.upstream
        _add_answer(record, attempt.answer)
        record["duration"] = _short(attempt.duration)
        record["reused"] = attempt.reused
        if attempt.tls is not None:
            record["tls"] = attempt.tls
        self._metrics.attempt_duration.observe((attempt.upstream, role), attempt.duration)


def message_id_field(content: Content) -> str | None:
    """The Message-ID of the header section, with its angle brackets; None when it is absent, odd or far down."""
    head = content.head(_HEAD)
    found = _MESSAGE_ID.search(head, 0, head.find(b"\r\n\r\n"))
    if found is None:
        return None
    at = found.start()
    # Another field may end in this name, and after an empty header section (one CRLF) comes the text.
    return None if at == 2 or (at and head[at - 1] != 10) else found[1].decode("ascii")


def _addresses(recipients: Iterable[Recipient]) -> list[str]:
    return [str(recipient.address) for recipient in recipients]


def _short(seconds: float) -> float:
    """Seconds, cut to a tenth of a millisecond. `round` costs three times this."""
    return int(seconds * 10_000) / 10_000


@lru_cache(maxsize=256)
def _enhanced(code: EnhancedCode) -> str:
    return "{}.{}.{}".format(*code)


def _add_client(record: Record, client: Client) -> None:
    record["listener"] = client.listener
    record["client"] = client.address
    if client.name:
        record["client_name"] = client.name
    if client.account is not None:
        record["account"] = client.account
    if client.tls is not None:
        record["client_tls"] = client.tls


def _add_answer(record: Record, answer: Answer) -> None:
    if isinstance(answer, Reply):
        record["code"] = answer.code
        if answer.enhanced is not None:
            record["enhanced"] = _enhanced(answer.enhanced)
        record["text"] = answer.text
    else:
        record["cause"] = answer.cause
        record["phase"] = answer.phase
        record["text"] = answer.text
