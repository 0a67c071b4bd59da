"""The port to notifications: what the sender of a message of ours is told of its primary delivery (RFC 3461, 3464).

The scheduler asks, and records the notices in the same transaction as the outcome that they tell of.
"""

from collections.abc import Sequence
from typing import Protocol

from waypost.delivery.spool import Delivery, Planned
from waypost.mail.message import Message, Recipient
from waypost.mail.outcome import Attempt, RecipientOutcome

Notices = tuple[tuple[Message, Planned], ...]
"""New messages, each with its delivery."""


class Notifier(Protocol):
    """Writes notices for primary deliveries; copies have none. `now` is in seconds since the epoch.

    It must not block, nor raise for anything that is in a message. The content of `delivery.message` is open while
    it is asked and closed afterwards, and may be unreadable: reading it raises `OSError` then.
    """

    def failed(
        self, delivery: Delivery, outcomes: Sequence[RecipientOutcome], now: float
    ) -> tuple[Notices, tuple[Recipient, ...]]:
        """These recipients will not be tried again: the notices, and those for whom none goes out.

        The latter become dead letters. An outcome with `Status.FAILED` is a refusal, or a fault of the message.
        Any other status is that of the last attempt, and says that the time was over (4.4.7).
        """

    def delayed(self, delivery: Delivery, outcomes: Sequence[RecipientOutcome], now: float) -> Notices:
        """These recipients are still being tried, for longer than the route's `delay_warning`; asked once."""

    def relayed(
        self, delivery: Delivery, outcomes: Sequence[RecipientOutcome], attempt: Attempt, now: float
    ) -> Notices:
        """An upstream has taken these recipients at this attempt.

        Whether anybody asked to be told (NOTIFY=SUCCESS), and whether the upstream does so itself (`attempt.dsn`), is
        for the notifier to see.
        """


class NoNotices:
    """A notifier that writes none: what fails for good becomes a dead letter."""

    def failed(
        self, delivery: Delivery, outcomes: Sequence[RecipientOutcome], now: float
    ) -> tuple[Notices, tuple[Recipient, ...]]:
        return (), tuple(each.recipient for each in outcomes)

    def delayed(self, delivery: Delivery, outcomes: Sequence[RecipientOutcome], now: float) -> Notices:
        return ()

    def relayed(
        self, delivery: Delivery, outcomes: Sequence[RecipientOutcome], attempt: Attempt, now: float
    ) -> Notices:
        return ()
