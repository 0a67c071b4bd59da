"""The form in which a message goes on: our `Received` in front, and what a route or an upstream changes in it.

    at acceptance:    loop? -> the route's rewriting -> Date, Message-ID where missing -> signatures -> Received
    at an upstream:   its rewriting -> our signatures that this broke are made anew

So primary and copies get the same octets, but for an upstream that asks for others. Only mail from submission
listeners is rewritten, completed or signed, and what Waypost writes itself: other mail is not ours to change.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Protocol

from waypost.delivery.signing import NOT_SIGNED, MaySign, Signed, Signer
from waypost.mail.content import Content, JoinedContent
from waypost.mail.dkim import Signature, broken_signatures
from waypost.mail.edit import Edit, edited
from waypost.mail.header import Header, read_header
from waypost.mail.message import Client, Envelope
from waypost.mail.rewrite import Rewrite, Rewritten, is_aligned, rewritten
from waypost.mail.trace import loops, missing_fields, received_field
from waypost.routing.route import Upstream
from waypost.smtp.address import Address
from waypost.smtp.reply import Reply
from waypost.smtp.values import quick

LOCAL = "local"
"""The protocol word of messages that Waypost itself writes: notifications."""

_REMEMBERED = 1024  # messages of whose broken signatures somebody was told


class RewritingLog(Protocol):
    """Whoever writes down what was rewritten. `place` is `route` or `upstream`, `where` the name of it."""

    def rewritten(
        self,
        message_id: str,
        place: str,
        where: str,
        old: Address,
        new: Address,
        *,
        aligned: bool,
        signed: Sequence[str] = (),
    ) -> None:
        """The reverse-path was `old` and is `new`, which may be the same; the content has changed or not.

        `aligned` says whether reverse-path and From agree on the domain, `signed` with which of our keys it went.
        """

    def signature_broken(self, message_id: str, place: str, where: str, domains: Sequence[str]) -> None:
        """Rewriting has broken the signatures of these domains, which are not ours to make anew."""


@dataclass(frozen=True, slots=True)
class FormSettings:
    """`instance` is what we know our own `Received` fields by."""

    hostname: str
    instance: str
    max_received: int = 100


@quick
@dataclass(frozen=True, slots=True)
class Formed:
    """The content as it goes on, and whose signatures it bears: `example.com/s1`.

    `tell` writes down what was rewritten, when the message itself has been told of, or goes to the upstream.
    """

    content: Content
    signed: tuple[str, ...] = ()
    tell: Callable[[], None] | None = None


class Given(NamedTuple):
    """What came in: who sent it, with which reverse-path, and who the route's rewriting is of, if it has any."""

    message_id: str
    client: Client
    reverse_path: Address
    envelope: Envelope
    content: Content
    route: str
    rewrite: Rewrite | None


def is_rewritten_for(client: Client) -> bool:
    """Whether mail of this client may be rewritten (RFC 6409 section 8)."""
    return client.submission or client.protocol == LOCAL


class Former:
    """Brings messages into form. `may_send_as` says whether an account may be an author; None is a client without."""

    def __init__(
        self,
        settings: FormSettings,
        log: RewritingLog,
        may_send_as: Callable[[str | None, Address], bool],
        signer: Signer | None = None,
    ) -> None:
        self._settings = settings
        self._log = log
        self._may_send_as = may_send_as
        self._signer = signer
        self._told: OrderedDict[str, None] = OrderedDict()

    # -- at acceptance

    async def accepted(self, given: Given, now: float) -> Formed | Reply:
        """The content to pass on, or the refusal of a message that goes in circles. Raises OSError."""
        settings, client, content = self._settings, given.client, given.content
        header = read_header(content)
        looping = loops(header.head, settings.instance, settings.max_received)
        if looping is not None:
            return looping
        recipients = given.envelope.recipients
        only = recipients[0].address if len(recipients) == 1 else None
        front = received_field(given.message_id, client, settings.hostname, now, only, settings.instance)
        if not client.submission:
            return Formed(JoinedContent(front, content))
        change = None if given.rewrite is None else rewritten(content, given.rewrite)
        if change is not None:
            content, header = change.content, change.after
        missing = missing_fields(header, settings.hostname, given.message_id, now)
        signed = NOT_SIGNED
        if self._signer is not None:
            complete = JoinedContent(missing, content) if missing else content
            signed = await self._signer.sign(complete, self._may_sign(client, change))
        tell = None
        if change is not None or given.envelope.reverse_path != given.reverse_path:
            tell = partial(self._tell, given, change, header, signed)
        return Formed(JoinedContent(front + signed.fields + missing, content), signed.by, tell)

    def _tell(self, given: Given, change: Rewritten | None, header: Header, signed: Signed) -> None:
        path = given.envelope.reverse_path
        told = (given.message_id, "route", given.route, given.reverse_path, path)
        self._log.rewritten(*told, aligned=is_aligned(path, header), signed=signed.by)
        if change is not None:
            self._warn(given.message_id, "route", given.route, broken_signatures(change.before, change.after))

    # -- at an upstream

    async def sent(
        self, content: Content, upstream: Upstream, message_id: str, client: Client, path: Address
    ) -> Formed:
        """The content for an upstream with a rewriting of its own. `path` is the message's. Raises OSError."""
        rewrite = upstream.rewrite
        if rewrite is None:
            return Formed(content)
        new = rewrite.reverse_path(path)
        told = (message_id, "upstream", upstream.name, path, new)
        change = rewritten(content, rewrite)
        if change is None:
            if new == path:
                return Formed(content)
            aligned = is_aligned(new, read_header(content))
            return Formed(content, tell=lambda: self._log.rewritten(*told, aligned=aligned))
        broken = broken_signatures(change.before, change.after)
        result, signed = await self._signed_anew(change, broken, client)

        def tell() -> None:
            self._log.rewritten(*told, aligned=is_aligned(new, change.after), signed=signed.by)
            self._warn(message_id, "upstream", upstream.name, broken)

        return Formed(result, signed.by, tell)

    async def _signed_anew(
        self, change: Rewritten, broken: Sequence[Signature], client: Client
    ) -> tuple[Content, Signed]:
        """Without those of our signatures that do not fit any more, and with new ones in their place."""
        signer = self._signer
        if signer is None:
            return change.content, NOT_SIGNED
        ours = [Edit(each.field.start, each.field.end, b"") for each in broken if signer.is_ours(each)]
        if not ours and not change.authors:
            return change.content, NOT_SIGNED
        content = edited(change.content, change.after, ours)
        signed = await signer.sign(content, self._may_sign(client, change))
        return (JoinedContent(signed.fields, content) if signed.fields else content), signed

    def _may_sign(self, client: Client, change: Rewritten | None) -> MaySign:
        """Whether the client may be an author: as what it said before rewriting, unless we have chosen for it."""
        chosen = {} if change is None else change.authors

        def may_sign(author: Address) -> bool:
            old = chosen.get(str(author).lower(), author)
            return old is None or client.protocol == LOCAL or self._may_send_as(client.account, old)

        return may_sign

    def _warn(self, message_id: str, place: str, where: str, broken: Sequence[Signature]) -> None:
        """Tells of other people's signatures that are broken, once for each message."""
        signer = self._signer
        theirs = [each.domain for each in broken if signer is None or not signer.is_ours(each)]
        if theirs and message_id not in self._told:
            self._told[message_id] = None
            if len(self._told) > _REMEMBERED:
                self._told.popitem(last=False)
            self._log.signature_broken(message_id, place, where, theirs)
