"""What is remembered so that no message is sent twice without a reason.

Two things can be unknown when a client comes again with the same message. Either the client never heard our
reply: then it is given the recorded one, and nothing is sent. Or we never heard the primary's: then the copies
of the first try wait, and are dropped when the repetition is accepted, whose copies stand.

A client that has gone may come again before anything is known of its first try. Then the repetition waits for that.

The same message means the same account, envelope and content. Content is only read when an envelope matches.
Replies that were not heard are also noted in the spool, where there is one, and so outlive a restart.
"""

import asyncio
import hashlib
import json
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Protocol

from waypost.clock import Clock
from waypost.delivery.spool import Note
from waypost.delivery.told import Told
from waypost.mail.content import Content
from waypost.mail.message import Envelope
from waypost.smtp.reply import Reply

WINDOW = 24 * 3600.0
"""Seconds in which a repetition is recognised."""

KIND = "unheard"
"""The kind of the notes that are kept here."""

_MAX_ENTRIES = 20_000
_AT_ONCE = 256 * 1024  # octets that are digested without asking a thread


def key_of(account: str | None, envelope: Envelope) -> str:
    """The envelope as it is compared: the order of recipients does not matter."""
    recipients = sorted({r.address.key for r in envelope.recipients})
    words = [account or "", "\0" if account is None else "", envelope.reverse_path.key, *recipients]
    return hashlib.blake2b("\n".join(words).encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


async def digest_of(content: Content) -> bytes:
    """The SHA-256 of the content. Reads all of it, large content in a thread. Raises OSError."""
    if content.size <= _AT_ONCE:
        return digest_at_once(content)
    return await asyncio.get_running_loop().run_in_executor(None, digest_at_once, content)


def digest_at_once(content: Content) -> bytes:
    """The same, without asking a thread."""
    digest = hashlib.sha256()
    for chunk in content.chunks():
        digest.update(chunk)
    return digest.digest()


class Notes(Protocol):
    """Where small facts outlive a restart: a part of `Spool`."""

    def put(self, note: Note) -> None:
        """Remembers it."""

    def drop(self, kind: str, key: str) -> None:
        """Forgets it."""


@dataclass(frozen=True, slots=True, eq=False)
class Unanswered:
    """A message that is being seen through though its client has ended its side; `done` when it was told, or lost."""

    key: str
    digest: bytes
    number: int
    done: asyncio.Future[None]


@dataclass(frozen=True, slots=True)
class _Entry:
    digest: bytes
    until: float  # seconds since the epoch
    told: Told | None = None  # what the client did not hear
    waiting: str | None = None  # the message whose copies wait


class Ledger:
    """Replies that were not heard, and copies that wait for a primary's outcome. Bounded."""

    def __init__(self, clock: Clock, notes: Notes | None = None) -> None:
        self._clock = clock
        self._notes = notes
        self._entries: OrderedDict[str, list[_Entry]] = OrderedDict()
        self._unanswered: dict[str, list[Unanswered]] = {}
        self._numbers = count()

    def __len__(self) -> int:
        return len(self._entries) + len(self._unanswered)

    def knows(self, key: str) -> bool:
        """Whether a look at the content could tell anything."""
        return key in self._entries or key in self._unanswered

    def number(self) -> int:
        """The next number of a message that is seen through: a repetition has a higher one."""
        return next(self._numbers)

    def left(self, key: str, digest: bytes, number: int) -> Unanswered:
        """The client has ended its side before it could be answered; `answered` has to follow."""
        unanswered = Unanswered(key, digest, number, asyncio.get_running_loop().create_future())
        self._unanswered.setdefault(key, []).append(unanswered)
        return unanswered

    def answered(self, unanswered: Unanswered) -> None:
        """The answer was heard, or is recorded as unheard, or there is none."""
        others = [other for other in self._unanswered[unanswered.key] if other is not unanswered]
        if others:
            self._unanswered[unanswered.key] = others
        else:
            del self._unanswered[unanswered.key]
        unanswered.done.set_result(None)

    def earlier(self, key: str, digest: bytes, number: int) -> list[asyncio.Future[None]]:
        """What this message has to wait for: earlier tries whose client has gone and whose answer is not known yet."""
        tries = self._unanswered.get(key, ())
        return [each.done for each in tries if each.digest == digest and each.number < number]

    def unheard(self, key: str, digest: bytes, told: Told) -> None:
        """The client had gone before it could be `told`."""
        entry = _Entry(digest, self._clock.time() + WINDOW, told=told)
        self._add(key, entry)
        if self._notes is not None:
            self._notes.put(Note(KIND, _note_key(key, entry), _written(told), entry.until))

    def waits(self, key: str, digest: bytes, message_id: str, seconds: float) -> None:
        """The copies of this message wait for an outcome, or for the client to come again."""
        self._add(key, _Entry(digest, self._clock.time() + seconds, waiting=message_id))

    def recorded(self, key: str, digest: bytes, *, each: bool = False) -> Told | None:
        """What this client should have heard, once: after that a repetition is a new message.

        What it should have heard of each recipient is for a client that hears `each`.
        """
        for entry in self._live(key):
            if entry.digest == digest and entry.told is not None and (each or not entry.told.each):
                self._remove(key, entry)
                if self._notes is not None:
                    self._notes.drop(KIND, _note_key(key, entry))
                return entry.told
        return None

    def superseded(self, key: str, digest: bytes) -> list[str]:
        """The messages of earlier tries whose copies need wait no longer, now that a repetition was accepted."""
        found = [entry for entry in self._live(key) if entry.digest == digest and entry.waiting is not None]
        for entry in found:
            self._remove(key, entry)
        return [entry.waiting for entry in found if entry.waiting is not None]

    def learn(self, notes: Sequence[Note]) -> None:
        """Takes over what was noted before a restart, or by another instance; `until` 0 takes it away."""
        for note in notes:
            key, _, digest = note.key.partition(":")
            if note.kind != KIND:
                continue
            for entry in list(self._entries.get(key, ())):
                if entry.told is not None and entry.digest.hex() == digest:
                    self._remove(key, entry)
            if note.until > self._clock.time():
                self._add(key, _Entry(bytes.fromhex(digest), note.until, told=_read(note.value)))

    def _live(self, key: str) -> list[_Entry]:
        now = self._clock.time()
        return [entry for entry in self._entries.get(key, ()) if entry.until > now]

    def _add(self, key: str, entry: _Entry) -> None:
        self._entries.setdefault(key, []).append(entry)
        self._entries.move_to_end(key)
        if len(self._entries) > _MAX_ENTRIES:
            self._entries.popitem(last=False)

    def _remove(self, key: str, entry: _Entry) -> None:
        entries = [other for other in self._entries[key] if other is not entry]
        if entries:
            self._entries[key] = entries
        else:
            del self._entries[key]


def _note_key(key: str, entry: _Entry) -> str:
    return f"{key}:{entry.digest.hex()}"


def _written(told: Told) -> str:
    one = _fields(told.reply)
    return json.dumps([*one, {key: _fields(each) for key, each in told.each.items()}] if told.each else one)


def _fields(answer: Reply) -> list[Any]:
    return [answer.code, answer.lines, answer.enhanced]


def _read(text: str) -> Told:
    code, lines, enhanced, *each = json.loads(text)
    one = _reply(code, lines, enhanced)
    return Told(one, {key: _reply(*fields) for key, fields in each[0].items()}) if each else Told(one)


def _reply(code: int, lines: Sequence[str], enhanced: Sequence[int] | None) -> Reply:
    return Reply(code, tuple(lines), None if enhanced is None else (enhanced[0], enhanced[1], enhanced[2]))
