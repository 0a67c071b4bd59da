"""Signing by domain: which keys are for a message, and its signatures."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from waypost.mail.content import Content, MemoryContent
from waypost.mail.dkim import Key, Signature, body_start, signature_field
from waypost.mail.dkim_canonical import body_hashes
from waypost.mail.header import Header, read_header
from waypost.mail.rewrite import authors_of
from waypost.smtp.address import Address

SigningOutcome = Literal["signed", "not_allowed", "ambiguous", "malformed"]
Counted = Callable[[str, SigningOutcome], None]
"""Hears what became of a message that a domain has a key for."""

MaySign = Callable[[Address], bool]
"""Whether whoever sent the message may be this author."""

_AT_ONCE = 64 * 1024  # octets that are hashed without asking a thread
_MOST_LINES = 5000  # of a header that is signed: each of its fields may get a place in the signature


class Signed(NamedTuple):
    """The signatures, as fields to be put in front, and what made them: `example.com/s1`."""

    fields: bytes = b""
    by: tuple[str, ...] = ()


NOT_SIGNED = Signed()


def everybody(author: Address) -> bool:
    """For mail whose author we have chosen ourselves."""
    return True


class Signer:
    """Signs with `keys`. `time` gives seconds since the epoch. Several keys for one domain all sign."""

    def __init__(self, keys: Sequence[Key], time: Callable[[], float], counted: Counted) -> None:
        self._keys = tuple(keys)
        self._time = time
        self._counted = counted
        self._known: dict[str, tuple[Key, ...]] = {}

    def keys_for(self, domain: str) -> tuple[Key, ...]:
        """The keys that sign for authors in a domain: those of the longest domain that has any."""
        domain = domain.lower().removesuffix(".")
        known = self._known.get(domain)
        if known is None:
            fitting = [key for key in self._keys if key.signs_for(domain)]
            longest = max((len(key.domain) for key in fitting), default=0)
            known = tuple(key for key in fitting if len(key.domain) == longest)
            if len(self._known) >= 1024:
                self._known.clear()
            self._known[domain] = known
        return known

    def is_ours(self, signature: Signature) -> bool:
        """Whether a signature was made with one of the keys, to judge by what it says."""
        return any((key.domain, key.selector) == (signature.domain, signature.selector) for key in self._keys)

    async def sign(self, content: Content, may_sign: MaySign = everybody) -> Signed:
        """The signatures for `content`, none when there is no key for it. Raises OSError.

        Large content is read in a thread.
        """
        header = read_header(content)
        keys = self._fitting(header, may_sign)
        if not keys:
            return NOT_SIGNED
        if content.size <= _AT_ONCE:
            return self._signed(content, header, keys)
        return await asyncio.get_running_loop().run_in_executor(None, self._signed, content, header, keys)

    def sign_at_once(self, data: bytes) -> bytes:
        """The signatures for a small message that is our own."""
        content = MemoryContent(data)
        header = read_header(content)
        keys = self._fitting(header, everybody)
        return self._signed(content, header, keys).fields if keys else b""

    def _fitting(self, header: Header, may_sign: MaySign) -> tuple[Key, ...]:
        """The keys for a message, by its author; none when it is not clear who that is, or he may not be."""
        authors = authors_of(header)
        keys = self.keys_for(authors[0].domain) if authors and authors[0] is not None else ()
        if not keys:
            return ()
        outcome: SigningOutcome = "signed"
        if header.count(b"from") != 1:
            outcome = "ambiguous"
        elif body_start(header) is None or header.head.count(b"\r\n", 0, header.end) > _MOST_LINES:
            outcome = "malformed"
        elif not all(author is not None and may_sign(author) for author in authors):
            outcome = "not_allowed"
        self._counted(keys[0].domain, outcome)
        return keys if outcome == "signed" else ()

    def _signed(self, content: Content, header: Header, keys: Sequence[Key]) -> Signed:
        start = body_start(header)
        assert start is not None  # noqa: S101  # else there were no keys
        hashes = body_hashes(content, start, tuple({key.body_form for key in keys}))
        now = int(self._time())
        fields = b"".join(signature_field(header, key, hashes[key.body_form], now) for key in keys)
        return Signed(fields, tuple(f"{key.domain}/{key.selector}" for key in keys))
