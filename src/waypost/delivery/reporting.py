"""The port to whoever writes down what becomes of deliveries: the mail log, the journal, metrics."""

from collections.abc import Sequence
from typing import Protocol

from waypost.delivery.linking import AttemptLog
from waypost.delivery.spool import Delivery
from waypost.mail.message import Recipient
from waypost.mail.outcome import Attempt, RecipientOutcome


class DeliveryLog(AttemptLog, Protocol):
    """What is told of deliveries out of the spool. `Delivery.role` says whether it is a primary or a copy."""

    def in_doubt(self, delivery: Delivery, attempt: Attempt) -> None:
        """The upstream of this attempt was handed the content and is not known to have answered."""

    async def recorded(self) -> None:
        """Waits until what was told so far is in the journal, or cannot be now. Raises nothing."""

    def relayed(self, delivery: Delivery, recipients: Sequence[Recipient], attempt: Attempt) -> None:
        """An upstream has taken the message for these recipients, or is assumed to have (`assume-sent`)."""

    def deferred(self, delivery: Delivery, waiting: Sequence[RecipientOutcome], at: float) -> None:
        """These recipients are tried again at `at`, in seconds since the epoch."""

    def failed(self, delivery: Delivery, failed: Sequence[RecipientOutcome]) -> None:
        """These recipients of a primary delivery will not be tried again.

        Any status but `FAILED` says that the time was over. Those that nobody is told of are dead letters besides.
        """

    def dead(self, delivery: Delivery, recipients: Sequence[Recipient], reason: str) -> None:
        """These recipients are now a dead letter."""
