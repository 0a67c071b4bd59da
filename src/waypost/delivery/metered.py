"""A transaction of an account that has limits: what it asks for is reserved, and counts when it was accepted."""

from collections.abc import Awaitable, Sequence
from typing import Protocol

from waypost.delivery.allowances import Share
from waypost.delivery.desk import IntakeLog
from waypost.mail.message import Client
from waypost.smtp import commands as c
from waypost.smtp.reply import Reply


class Metering(Protocol):
    """A transaction, as `waypost.net` knows it."""

    async def recipients(self, commands: Sequence[c.Rcpt]) -> Sequence[Reply]:
        """The answer to each RCPT."""

    def write(self, data: bytes) -> Awaitable[None] | None:
        """Takes a piece of content."""

    async def finish(self) -> Sequence[Reply]:
        """The content is whole."""

    def left(self) -> None:
        """The client has ended its side meanwhile."""

    def told(self, answers: Sequence[Reply], *, lost: bool) -> None:
        """The client was told, or lost."""

    def refuse(self, answer: Reply) -> None:
        """The content is not fit to be passed on."""

    def abandon(self, why: str) -> None:
        """The transaction ends without content."""


class Metered:
    """A transaction within the `share` of its account."""

    def __init__(self, inner: Metering, share: Share, client: Client, mail: c.Mail, log: IntakeLog) -> None:
        self._inner = inner
        self._share = share
        self._client = client
        self._mail = mail
        self._log = log

    async def recipients(self, commands: Sequence[c.Rcpt]) -> Sequence[Reply]:
        """The answer to each RCPT: 452 beyond the limit, and nobody is asked."""
        spent: dict[int, Reply] = {}
        asked: list[c.Rcpt] = []
        for index, command in enumerate(commands):
            refusal = self._share.reserve("recipients")
            if refusal is None:
                asked.append(command)
                continue
            spent[index] = refusal
            path = self._mail.reverse_path
            self._log.refused(self._client, "rcpt", refusal, reverse_path=path, recipient=command.forward_path)
        told = list(await self._inner.recipients(asked)) if asked else []
        self._share.give_back(sum(not answer.is_positive for answer in told))
        answers = iter(told)
        return [spent[index] if index in spent else next(answers) for index in range(len(commands))]

    async def finish(self) -> Sequence[Reply]:
        """Sees the message through; it counts when that ends well, for those for whom it does."""
        try:
            answers = await self._inner.finish()
            refused = sum(not answer.is_positive for answer in answers)
            if refused < len(answers):
                self._share.give_back(refused)
                self._share.accepted()
        finally:
            self._share.released()
        return answers

    def write(self, data: bytes) -> Awaitable[None] | None:
        """Takes a piece of content."""
        return self._inner.write(data)

    def left(self) -> None:
        """The client has ended its side meanwhile."""
        self._inner.left()

    def told(self, answers: Sequence[Reply], *, lost: bool) -> None:
        """The client was told, or lost."""
        self._inner.told(answers, lost=lost)

    def refuse(self, answer: Reply) -> None:
        """The content is not fit to be passed on, so nothing counts."""
        self._share.released()
        self._inner.refuse(answer)

    def abandon(self, why: str) -> None:
        """The transaction ends without content, so nothing counts."""
        self._share.released()
        self._inner.abandon(why)
