"""What every transaction needs on its way in: the tools of one configuration, and the ports they are behind."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from waypost.clock import Clock
from waypost.delivery.allowances import Allowances
from waypost.delivery.candidates import Candidates
from waypost.delivery.copies import Copies
from waypost.delivery.custody import Custody, CustodyLog
from waypost.delivery.forming import Former
from waypost.delivery.indoubt import Ledger
from waypost.delivery.legs import Haste
from waypost.delivery.linking import RelayLog
from waypost.mail.content import Content
from waypost.mail.message import Client, Envelope, Message, Recipient
from waypost.mail.outcome import Answer, Role
from waypost.routing.rules import Router
from waypost.smtp.address import Address
from waypost.smtp.reply import Reply


class ContentSink(Protocol):
    """Collects content while it arrives."""

    def write(self, data: bytes) -> Awaitable[None] | None:
        """Takes a piece; what comes back must be awaited before the next. Raises `SpoolError`."""

    async def finish(self) -> Content:
        """All of it. Raises `SpoolError`."""

    def close(self) -> None:
        """Discards it."""


class IntakeLog(RelayLog, CustodyLog, Protocol):
    """Whoever writes down what happens to mail."""

    def received(self, message: Message, route: str, rule: str, acceptance: str, signed: Sequence[str] = ()) -> None:
        """Content has come in whole, for this route in this mode; or several, with commas between them.

        `signed` says with which keys: `example.com/s1`.
        """

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
        """Something that the client asked was refused. `rule` led to whoever did, when only the content told."""

    def deferred(
        self,
        message: Message,
        target: str,
        recipients: Sequence[Recipient],
        answer: Answer,
        at: float | None,
        role: Role,
    ) -> None:
        """The primary does not take it now; trying again is the client's affair."""

    def answered_from_ledger(self, client: Client, envelope: Envelope, message_id: str, answer: Reply) -> None:
        """The client sent a message again whose answer it had not heard, and was given that."""

    def abandoned(self, client: Client, reverse_path: Address, message_id: str | None, why: str) -> None:
        """The client disappeared in mid-content."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What every reception needs: the tools of one configuration."""

    former: Former
    router: Router
    candidates: Candidates
    copies: Copies | None
    custody: Custody | None
    ledger: Ledger
    log: IntakeLog
    clock: Clock
    chance: Callable[[], float]  # from 0 to 1
    new_sink: Callable[[bool], ContentSink]
    """Makes one; the argument says whether the content will be stored."""
    allowances: Allowances | None = None
    """None when no account has limits."""
    haste: Haste = field(default_factory=Haste)
