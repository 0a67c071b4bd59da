"""Tells the mail log what the scheduler reports: the records of a delivery are those of its message."""

from collections.abc import Sequence

from waypost.delivery.spool import Action, Delivery, Entry, read_lane
from waypost.mail.message import Message, Recipient
from waypost.mail.outcome import Attempt, RecipientOutcome, Role
from waypost.observe.maillog import MailLog


class DeliveryReports:
    """The `DeliveryLog` of the scheduler, the `NoticeLog` of the notifications, and what the control API did."""

    def __init__(self, maillog: MailLog) -> None:
        self._maillog = maillog

    def attempted(self, message_id: str, attempt: Attempt, role: Role) -> None:
        self._maillog.attempted(message_id, attempt, role)

    def in_doubt(self, delivery: Delivery, attempt: Attempt) -> None:
        self._maillog.in_doubt(delivery.message, attempt, delivery.role, target=read_lane(delivery.lane)[1])

    async def recorded(self) -> None:
        await self._maillog.recorded()

    def relayed(self, delivery: Delivery, recipients: Sequence[Recipient], attempt: Attempt) -> None:
        if delivery.role is Role.COPY:
            self._maillog.copied(delivery.message, attempt, recipients, target=read_lane(delivery.lane)[1])
        else:
            self._maillog.relayed(delivery.message, attempt, recipients)

    def deferred(self, delivery: Delivery, waiting: Sequence[RecipientOutcome], at: float) -> None:
        recipients = [each.recipient for each in waiting]
        name = read_lane(delivery.lane)[1]
        self._maillog.deferred(delivery.message, name, recipients, waiting[0].answer, at, delivery.role)

    def failed(self, delivery: Delivery, failed: Sequence[RecipientOutcome]) -> None:
        recipients = [each.recipient for each in failed]
        name = read_lane(delivery.lane)[1]
        self._maillog.failed(delivery.message, name, recipients, failed[0].answer, delivery.role)

    def dead(self, delivery: Delivery, recipients: Sequence[Recipient], reason: str) -> None:
        name = read_lane(delivery.lane)[1]
        self._maillog.dead(delivery.message, name, recipients, reason, delivery.role)

    def altered(self, action: Action, entry: Entry, by: str) -> None:
        """Something was done to a delivery by hand."""
        role, name = read_lane(entry.lane)
        self._maillog.altered(entry.message_id, action, entry.id, role, name, entry.recipients, by)

    def notified(self, message: Message, notice: Message, action: str, recipients: Sequence[Recipient]) -> None:
        self._maillog.notified(message, notice, action, recipients)

    def capped(self, message: Message, per_hour: int) -> None:
        self._maillog.notice_suppressed(message, per_hour)
