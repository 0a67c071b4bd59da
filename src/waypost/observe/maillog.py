"""The mail log: every mail event has one method here, which makes one record and moves the metrics.

A record is made as the line of JSON that it will be, from named facts (`waypost.observe.pieces`), so content and
secrets cannot get into one; the log and the journal get the same line. The events and their fields are listed in
`waypost.observe.events`, from which `docs/logging.md` is made. This is on the way of every message: a call costs
two to three microseconds.
"""

import re
from collections.abc import Sequence
from typing import Literal

from waypost.mail.content import Content
from waypost.mail.message import Client, Envelope, Message, Recipient
from waypost.mail.outcome import Answer, Attempt, Role
from waypost.observe import pieces
from waypost.observe.pieces import addresses, member, quote, recipient_texts
from waypost.observe.record import json_text, timestamp
from waypost.observe.rewriting import RewritingLines
from waypost.smtp.address import Address
from waypost.smtp.reply import Reply

SessionEvent = Literal[
    "connected", "closed", "auth_failed", "auth_succeeded", "tls_failed", "proxy_failed", "told", "limited"
]
Fact = str | int | float | bool | None

_COMMANDS = {
    "connect", "ehlo", "helo", "mail", "rcpt", "data", "content", "bdat",
    "rset", "noop", "help", "vrfy", "expn", "quit", "starttls", "auth",
}  # fmt: skip
_SEVERITIES = {4: "transient", 5: "permanent"}
_ALWAYS_TOLD = {"auth_failed", "proxy_failed", "limited"}  # of sessions; the others are for debugging

_HEAD = 4096  # octets in which the Message-ID field is looked for: it comes early or the search gets dear
_MESSAGE_ID = re.compile(rb"Message-I[Dd]:[ \t]*(?:\r\n[ \t]+)?(<[\x21-\x7e]{1,250}>)")  # in its usual spellings


class MailLog(RewritingLines):
    """Tells what happens to mail.

    `emit` takes one record, JSON without a line break, and must not raise; `journal` gets those that have an id.
    With `debug`, sessions are told of too. `clock` gives seconds since the epoch.
    """

    # -- in

    def received(
        self, message: Message, route: str, rule: str, acceptance: str = "", signed: Sequence[str] = ()
    ) -> None:
        """Content has come in whole, and `rule` has chosen `route`. `signed` says with which DKIM keys."""
        client, envelope, content = message.client, message.envelope, message.content
        path, recipients = str(envelope.reverse_path), recipient_texts(envelope.recipients)
        header = message_id_field(content)
        by = f',"signed":{addresses(signed)}' if signed else ""
        line = (
            f'{self._start("received", message.id)},"reverse_path":{quote(path)},"recipients":{addresses(recipients)}'
            f',"recipient_count":{len(recipients)},"size":{content.size}'
            f"{member('digest', message.digest.hex())}{member('message_id_field', header)}"
            f',"route":{quote(route)},"rule":{quote(rule)}'
            f"{member('acceptance', acceptance)}{by}{self._clients.piece(client)}}}"
        )
        self._tell(message.id, line, _keys(path, recipients, header))
        self._metrics.messages_received[client.listener,] += 1

    def queued(self, message: Message, routes: Sequence[str], recipients: Sequence[Recipient], reason: str) -> None:
        """The message is ours, for these recipients: stored, and delivered out of the spool by these routes."""
        line = f'{self._about("queued", message, recipients)},"routes":{addresses(routes)},"reason":{quote(reason)}}}'
        self._tell(message.id, line)
        for route in routes:
            self._metrics.messages_queued[route,] += 1

    def answered_from_ledger(self, client: Client, envelope: Envelope, message_id: str, answer: Reply) -> None:
        """The client sent a message again whose answer it had not heard, and was given that. Nothing was sent."""
        path, recipients = str(envelope.reverse_path), recipient_texts(envelope.recipients)
        line = (
            f'{self._start("answered_from_ledger", message_id)},"reverse_path":{quote(path)}'
            f',"recipients":{addresses(recipients)}{self._clients.piece(client)}{pieces.answer(answer)}}}'
        )
        self._tell(message_id, line, _keys(path, recipients))
        self._metrics.messages_answered_from_ledger[client.listener,] += 1

    def refused(
        self,
        client: Client,
        command: str,
        reply: Reply,
        *,
        reverse_path: Address | None = None,
        recipient: Address | None = None,
        message_id: str | None = None,
        rule: str = "",
    ) -> None:
        """We, or the primary, refused something the client asked. `command` is `content` for the final dot."""
        command = command.lower()
        if command not in _COMMANDS:
            command = "other"  # the client's own words are neither a label nor worth a record
        path = None if reverse_path is None else str(reverse_path)
        whom = None if recipient is None else str(recipient)
        line = f'{self._start("refused", message_id)}{self._clients.piece(client)},"command":"{command}"'
        if path is not None:
            line += f',"reverse_path":{quote(path)}'
        if whom is not None:
            line += f',"recipient":{quote(whom)}'
        line += f"{member('rule', rule)}{pieces.answer(reply)}}}"
        self._tell(message_id, line, _keys(path or "", () if whom is None else (whom,)))
        severity = _SEVERITIES.get(reply.severity, "other")
        self._metrics.messages_refused[client.listener, command, severity] += 1

    def abandoned(self, client: Client, reverse_path: Address, message_id: str | None, why: str) -> None:
        """The client disappeared in mid-content. Nothing of the message was kept."""
        path = str(reverse_path)
        line = (
            f'{self._start("abandoned", message_id)}{self._clients.piece(client)},"reverse_path":{quote(path)}'
            f',"reason":{quote(why)}}}'
        )
        self._tell(message_id, line, _keys(path, ()))
        self._metrics.messages_abandoned[client.listener,] += 1

    # -- out

    def attempted(self, message_id: str, attempt: Attempt, role: Role) -> None:
        """One attempt failed: the next upstream is tried, or there is none left.

        Attempts that relayed the message, or left it in doubt, are told of by those methods instead.
        """
        self._tell(message_id, f'{self._start("attempted", message_id)},"role":"{role}"{pieces.attempt(attempt)}}}')
        self._measure(attempt, role)
        self._metrics.attempts_failed[attempt.upstream, role, attempt.phase] += 1

    def relayed(
        self, message: Message, attempt: Attempt, recipients: Sequence[Recipient], role: Role = Role.PRIMARY
    ) -> None:
        """An upstream has taken the message for these recipients, as the primary."""
        self._taken("relayed", message, attempt, recipients, role)

    def copied(
        self,
        message: Message,
        attempt: Attempt,
        recipients: Sequence[Recipient],
        role: Role = Role.COPY,
        *,
        target: str = "",
    ) -> None:
        """An upstream has taken a copy of the message for these recipients; `target` is the pool it was owed to."""
        self._taken("copied", message, attempt, recipients, role, target)

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
        when = "" if at is None else f',"next_attempt_at":"{timestamp(at)}"'
        self._owed("deferred", message, target, recipients, role, pieces.answer(answer) + when)

    def failed(
        self, message: Message, target: str, recipients: Sequence[Recipient], answer: Answer, role: Role
    ) -> None:
        """These recipients were refused for good, or their time is over."""
        self._owed("failed", message, target, recipients, role, pieces.answer(answer))

    def in_doubt(self, message: Message, attempt: Attempt, role: Role, *, target: str = "") -> None:
        """The final dot was sent and no answer came, or is remembered: the upstream may have the message or not."""
        self.unanswered(message.id, message.envelope, attempt, role, target=target)

    def unanswered(
        self, message_id: str, envelope: Envelope, attempt: Attempt, role: Role, *, target: str = ""
    ) -> None:
        """The same, of a message that is known by its id and envelope."""
        path, recipients = str(envelope.reverse_path), recipient_texts(envelope.recipients)
        line = (
            f'{self._start("in_doubt", message_id)},"reverse_path":{quote(path)},"recipients":{addresses(recipients)}'
            f',"role":"{role}"{member("target", target)}{pieces.attempt(attempt)}}}'
        )
        self._tell(message_id, line)
        self._measure(attempt, role)
        self._metrics.deliveries[attempt.upstream, role, "in_doubt"] += 1

    def not_taken(self, message: Message, target: str, reason: str, role: Role = Role.COPY) -> None:
        """A copy could not be stored, so it will not be made."""
        self._owed("not_taken", message, target, message.envelope.recipients, role, f',"reason":{quote(reason)}')

    def dead(
        self, message: Message, target: str, recipients: Sequence[Recipient], reason: str, role: Role = Role.COPY
    ) -> None:
        """A delivery has become a dead letter: kept, and not tried again by itself."""
        self._owed("dead", message, target, recipients, role, f',"reason":{quote(reason)}')

    # -- besides

    def notified(self, message: Message, notice: Message, action: str, recipients: Sequence[Recipient]) -> None:
        """`notice` tells the reverse-path of `message` what became of it for these recipients."""
        about = self._about("notified", message, recipients)
        self._tell(message.id, f'{about},"notice":{quote(notice.id)},"action":{quote(action)}}}')
        told = recipient_texts(notice.envelope.recipients)
        line = (
            f'{self._start("composed", notice.id)},"about":{quote(message.id)},"action":{quote(action)}'
            f',"reverse_path":{quote(str(notice.envelope.reverse_path))},"recipients":{addresses(told)}'
            f',"recipient_count":{len(told)},"size":{notice.content.size}}}'
        )
        self._tell(notice.id, line, _keys("", told))
        self._metrics.notices[action,] += 1

    def notice_suppressed(self, message: Message, per_hour: int) -> None:
        """The reverse-path has had all its notifications for this hour."""
        path = quote(str(message.envelope.reverse_path))
        reason = f"it has had {per_hour} notifications in this hour, which is all that an address gets"
        start = self._start("notice_suppressed", message.id)
        self._tell(message.id, f'{start},"reverse_path":{path},"reason":{quote(reason)}}}')
        self._metrics.notices["suppressed",] += 1

    def altered(
        self, message_id: str, action: str, delivery: int, role: Role, target: str, recipients: Sequence[str], by: str
    ) -> None:
        """Somebody retried, held, released or deleted a delivery by hand."""
        line = (
            f'{self._start("altered", message_id)},"role":"{role}","target":{quote(target)}'
            f',"recipients":{addresses(recipients)},"delivery":{delivery},"action":{quote(action)},"by":{quote(by)}}}'
        )
        self._tell(message_id, line)
        self._metrics.altered[action,] += 1

    def session(self, client: Client, event: SessionEvent, **facts: Fact) -> None:
        """Something happened to a session. Only refusals are written when not debugging; all are counted."""
        self._metrics.session_events[client.listener, event] += 1
        if event in _ALWAYS_TOLD or self._debug:
            more = f",{json_text(facts)[1:-1]}" if facts else ""
            self._emit(f"{self._start(event, None)}{self._clients.piece(client)}{more}}}")

    # -- plugins

    def advised(self, message_id: str, plugin: str, pool: str, answer: Sequence[str] | Reply) -> None:
        """A plugin chose the order in which upstreams are tried, or the reply that stops the message."""
        said = pieces.answer(answer) if isinstance(answer, Reply) else f',"order":{addresses(answer)}'
        about = f'{self._start("advised", message_id)},"plugin":{quote(plugin)},"target":{quote(pool)}'
        self._tell(message_id, f"{about}{said}}}")

    def not_advised(self, message_id: str, plugin: str, pool: str, cause: str, reason: str) -> None:
        """A plugin had no usable answer, so the order is that of the pool's strategy."""
        about = f'{self._start("not_advised", message_id)},"plugin":{quote(plugin)},"target":{quote(pool)}'
        self._tell(message_id, f'{about},"cause":"{cause}","reason":{quote(reason)}}}')

    # -- what they share

    def _taken(
        self,
        event: str,
        message: Message,
        attempt: Attempt,
        recipients: Sequence[Recipient],
        role: Role,
        target: str = "",
    ) -> None:
        delay = self._clock() - message.received_at
        line = (
            f'{self._about(event, message, recipients)},"delay":{delay:.4f},"role":"{role}"'
            f"{member('target', target)}{pieces.attempt(attempt, taken=True)}}}"
        )
        self._tell(message.id, line)
        self._measure(attempt, role)
        self._metrics.deliveries[attempt.upstream, role, event] += 1

    def _measure(self, attempt: Attempt, role: Role) -> None:
        if attempt.duration:  # else nobody saw it: it was made by a process that died
            self._metrics.attempt_duration.observe((attempt.upstream, role), attempt.duration)

    def _owed(
        self, event: str, message: Message, target: str, recipients: Sequence[Recipient], role: Role, more: str
    ) -> None:
        about = self._about(event, message, recipients)
        self._tell(message.id, f'{about},"role":"{role}","target":{quote(target)}{more}}}')
        self._metrics.deliveries[target, role, event] += 1


def message_id_field(content: Content) -> str | None:
    """The Message-ID of the header section, with its angle brackets; None when it is absent, odd or far down."""
    head = content.head(_HEAD)
    found = _MESSAGE_ID.search(head, 0, head.find(b"\r\n\r\n"))
    if found is None:
        return None
    at = found.start()
    # Another field may end in this name, and after an empty header section (one CRLF) comes the text.
    return None if at == 2 or (at and head[at - 1] != 10) else found[1].decode("ascii")


def _keys(path: str, recipients: Sequence[str], header: str | None = None) -> list[str]:
    """What the journal finds the message by."""
    keys = [recipient.lower() for recipient in recipients]
    if path:
        keys.append(path.lower())
    if header is not None:
        keys.append(header)
    return keys
