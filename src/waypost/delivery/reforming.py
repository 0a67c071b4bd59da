"""A transaction with an upstream that wants mail to be rewritten: its MAIL, and the content on its connection.

Whoever relays knows nothing of it: the connection is lent with this around it.
"""

from collections.abc import Sequence
from dataclasses import replace

from waypost.delivery.forming import Formed, Former
from waypost.delivery.sender import Fit, Lent
from waypost.mail.content import Content
from waypost.mail.message import Client
from waypost.mail.outcome import Answer, Cause, Failure, Phase
from waypost.mail.rewrite import Rewrite
from waypost.routing.route import Upstream
from waypost.smtp import commands as c
from waypost.smtp.address import Address
from waypost.smtp.client import Extensions


def with_reverse_path(fit: Fit, rewrite: Rewrite) -> Fit:
    """`fit`, with the reverse-path rewritten."""

    def worded(extensions: Extensions) -> tuple[c.Mail, Sequence[c.Rcpt]] | Failure:
        fitted = fit(extensions)
        if isinstance(fitted, Failure):
            return fitted
        mail, recipients = fitted
        return replace(mail, reverse_path=rewrite.reverse_path(mail.reverse_path)), recipients

    return worded


class Reformed:
    """One transaction with an upstream that rewrites: in it the content has one form, and is told of when it goes."""

    __slots__ = ("_client", "_formed", "_former", "_message_id", "_path", "_upstream")

    def __init__(self, former: Former, upstream: Upstream, message_id: str, client: Client, path: Address) -> None:
        self._former = former
        self._upstream = upstream
        self._message_id = message_id
        self._client = client
        self._path = path
        self._formed: Formed | None = None

    async def of(self, content: Content) -> Content:
        """The message's content as this upstream gets it. Raises OSError."""
        if self._formed is None:
            told = (self._upstream, self._message_id, self._client, self._path)
            self._formed = await self._former.sent(content, *told)
        return self._formed.content

    def tell(self) -> None:
        """The content has gone there, or begins to."""
        if self._formed is not None and self._formed.tell is not None:
            self._formed.tell()

    def lent(self, lent: Lent) -> Lent:
        """The connection, on which content is rewritten before it is sent."""
        return _Rewriting(lent, self)


class _Rewriting:
    """A `Lent` for one transaction."""

    __slots__ = ("_lent", "_reformed")

    def __init__(self, lent: Lent, reformed: Reformed) -> None:
        self._lent = lent
        self._reformed = reformed

    @property
    def extensions(self) -> Extensions:
        """See `Lent`, here and below."""
        return self._lent.extensions

    @property
    def reused(self) -> bool:
        return self._lent.reused

    @property
    def tls(self) -> str | None:
        return self._lent.tls

    @property
    def phases(self) -> tuple[tuple[Phase, float], ...]:
        return self._lent.phases

    @property
    def is_closed(self) -> bool:
        return self._lent.is_closed

    async def add(self, recipients: Sequence[c.Rcpt]) -> Sequence[Answer]:
        return await self._lent.add(recipients)

    async def send(self, content: Content) -> tuple[Phase, Answer]:
        try:
            content = await self._reformed.of(content)
        except OSError as error:
            return Phase.CONTENT, Failure(Phase.CONTENT, Cause.LOCAL, f"the content cannot be read: {error}")
        self._reformed.tell()
        return await self._lent.send(content)

    def verdicts(self, answer: Answer) -> Sequence[Answer]:
        return self._lent.verdicts(answer)

    def release(self) -> None:
        self._lent.release()
