"""The port behind sessions: what happens to mail is decided there."""

from collections.abc import Awaitable, Sequence
from typing import Protocol

from waypost.mail.message import Client
from waypost.smtp import commands as c
from waypost.smtp.reply import Reply


class Transaction(Protocol):
    """One transaction, from an accepted MAIL on."""

    async def recipients(self, commands: Sequence[c.Rcpt]) -> Sequence[Reply]:
        """The answer to each RCPT."""

    def write(self, data: bytes) -> Awaitable[None] | None:
        """Takes a piece of content in wire form; what comes back must be awaited before the next."""

    async def finish(self) -> Sequence[Reply]:
        """The content is whole: sees it through and says what the client is told.

        That is one reply, for all; or, when the client hears what became of each accepted recipient (LMTP, PRDR), one
        for each of them, in their order.
        """

    def left(self) -> None:
        """While `finish` is at work the client has ended its side: it may not be there to be told."""

    def told(self, answers: Sequence[Reply], *, lost: bool) -> None:
        """The client was told what `finish` said; or was `lost` before it could be."""

    def refuse(self, answer: Reply) -> None:
        """The content has come to its end and is not fit to be passed on; the client is told `answer`."""

    def abandon(self, why: str) -> None:
        """The transaction ends without content: RSET, or the client has gone."""


class MailHandler(Protocol):
    """What a session needs to know about mail. One handler serves all sessions."""

    def begin(self, client: Client, mail: c.Mail) -> Transaction | Reply:
        """Opens a transaction, or says why not."""
