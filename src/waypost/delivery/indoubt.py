"""What is remembered so that no message is sent twice without a reason.

Two things can be unknown when a client comes again with the same message. Either the client never heard our
reply: then it is given the recorded one, and nothing is sent. Or we never heard the primary's: then the copies
of the first try wait, and are dropped when the repetition is accepted, whose copies stand.

The same message means the same account, envelope and content. Content is only read when an envelope matches.
"""

import hashlib
from collections import OrderedDict
from dataclasses import dataclass

from waypost.clock import Clock
from waypost.mail.content import Content
from waypost.mail.message import Envelope
from waypost.smtp.reply import Reply

WINDOW = 24 * 3600.0
"""Seconds in which a repetition is recognised."""

_MAX_ENTRIES = 20_000

Key = tuple[str | None, str, frozenset[str]]


def key_of(account: str | None, envelope: Envelope) -> Key:
    """The envelope as it is compared: the order of recipients does not matter."""
    return account, envelope.reverse_path.key, frozenset(r.address.key for r in envelope.recipients)


def digest_of(content: Content) -> bytes:
    """The content as it is compared. Reads all of it."""
    digest = hashlib.blake2b(digest_size=16)
    for chunk in content.chunks():
        digest.update(chunk)
    return digest.digest()


@dataclass(frozen=True, slots=True)
class _Entry:
    digest: bytes
    until: float
    reply: Reply | None = None  # that the client did not hear
    waiting: str | None = None  # the message whose copies wait


class Ledger:
    """Replies that were not heard, and copies that wait for a primary's outcome. In memory, bounded."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._entries: OrderedDict[Key, list[_Entry]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def knows(self, key: Key) -> bool:
        """Whether a look at the content could tell anything."""
        return key in self._entries

    def unheard(self, key: Key, digest: bytes, answer: Reply) -> None:
        """The client had gone before it could be told `answer`."""
        self._add(key, _Entry(digest, self._clock.monotonic() + WINDOW, reply=answer))

    def waits(self, key: Key, digest: bytes, message_id: str, seconds: float) -> None:
        """The copies of this message wait for an outcome, or for the client to come again."""
        self._add(key, _Entry(digest, self._clock.monotonic() + seconds, waiting=message_id))

    def recorded(self, key: Key, digest: bytes) -> Reply | None:
        """What this client should have heard, once: after that a repetition is a new message."""
        for entry in self._live(key):
            if entry.digest == digest and entry.reply is not None:
                self._remove(key, entry)
                return entry.reply
        return None

    def superseded(self, key: Key, digest: bytes) -> list[str]:
        """The messages of earlier tries whose copies need wait no longer, now that a repetition was accepted."""
        found = [entry for entry in self._live(key) if entry.digest == digest and entry.waiting is not None]
        for entry in found:
            self._remove(key, entry)
        return [entry.waiting for entry in found if entry.waiting is not None]

    def _live(self, key: Key) -> list[_Entry]:
        now = self._clock.monotonic()
        return [entry for entry in self._entries.get(key, ()) if entry.until > now]

    def _add(self, key: Key, entry: _Entry) -> None:
        self._entries.setdefault(key, []).append(entry)
        self._entries.move_to_end(key)
        if len(self._entries) > _MAX_ENTRIES:
            self._entries.popitem(last=False)

    def _remove(self, key: Key, entry: _Entry) -> None:
        entries = [other for other in self._entries[key] if other is not entry]
        if entries:
            self._entries[key] = entries
        else:
            del self._entries[key]
