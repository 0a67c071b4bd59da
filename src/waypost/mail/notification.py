"""What a delivery status notification has to say: the values that `waypost.mail.dsn` composes a message from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from waypost.mail.message import Message
from waypost.mail.outcome import Failure, RecipientOutcome, Status


class Action(StrEnum):
    """What is reported of all recipients of one notification (RFC 3464 section 2.3.3)."""

    FAILED = "failed"
    DELAYED = "delayed"
    RELAYED = "relayed"


@dataclass(frozen=True, slots=True)
class Notification:
    """One notification to the reverse-path of `message`. Times are seconds since the epoch.

    When something has failed, an outcome with any status but FAILED says that its time was over.
    """

    id: str
    at: float
    action: Action
    message: Message
    outcomes: tuple[RecipientOutcome, ...]
    hostname: str  # ours
    sender: str  # address of the From field
    hosts: Mapping[str, str] = field(default_factory=dict)
    """Host names of upstreams, by the upstream's name."""
    until: float | None = None
    """When the last attempt will be made at what is delayed."""

    @property
    def is_international(self) -> bool:
        """Whether it is written in UTF-8 and needs SMTPUTF8: only to those whose own address does (RFC 6533).

        Everybody else gets ASCII, since nobody knows whether their mailbox takes anything else.
        """
        return not (self.message.envelope.reverse_path.is_ascii and self.sender.isascii())

    def expired(self, outcome: RecipientOutcome) -> bool:
        """Whether this recipient was given up because its time was over."""
        return self.action is Action.FAILED and outcome.status is not Status.FAILED


class Lacking(StrEnum):
    """What no upstream could carry of a message."""

    SMTPUTF8 = "smtputf8"
    SIZE = "size"
    EIGHTBIT = "8bitmime"


def lacking(failure: Failure) -> Lacking:
    """What the upstream lacked, for a failure whose cause is CAPABILITY."""
    words = failure.text.upper()
    return Lacking.SMTPUTF8 if "SMTPUTF8" in words else Lacking.SIZE if "SIZE" in words else Lacking.EIGHTBIT
