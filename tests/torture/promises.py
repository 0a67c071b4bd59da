"""What must be true afterwards, whatever has happened: the promises of Waypost, held against what clients were told.

A message of a client may have several ids of Waypost's: one for each time that it was sent.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rig.stored import StoredMessage
from torture.client import Told, Try, content_of, message_id
from torture.scenario import Scenario, Where

_ID = re.compile(rb"\bid ([0-9A-Za-z]+)")
_NUMBER = re.compile(rb"^Message-ID: <([0-9]+)\.[0-9]+@torture\.example>\r?$", re.MULTILINE)
_FINAL = re.compile(rb"^Final-Recipient: rfc822; ?([^\r\n]+)\r?$", re.MULTILINE)
_OWN = re.compile(rb"^Message-ID: <([0-9A-Za-z]+)@", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Found:
    """What is found when everything has come to rest."""

    told: Told
    stored: Mapping[Where, Sequence[StoredMessage]]
    dead: Sequence[Mapping[str, Any]]
    """Dead letters, as the control API lists them."""
    journal: Mapping[str, Sequence[Mapping[str, Any]]]
    """The records of each id."""
    records: Sequence[Mapping[str, Any]]
    """The log."""
    left: Sequence[str] = ()
    """What is in the store or in its folder that nothing needs."""


@dataclass(frozen=True, slots=True)
class _Arrival:
    where: Where
    id: str
    number: int
    recipient: str


@dataclass(frozen=True, slots=True)
class _Notice:
    id: str
    to: str
    number: int
    recipients: frozenset[str]


def ids_of(stored: Mapping[Where, Sequence[StoredMessage]]) -> set[str]:
    """The ids of everything that has arrived, notifications included."""
    ids = {_id_of(message) for where, some in stored.items() if where != "home" for message in some}
    return ids | {notice.id for notice in map(_notice, stored["home"])}


def broken(scenario: Scenario, found: Found) -> list[str]:
    """Every promise that was broken, in a sentence; none when all is well."""
    return list(_Check(scenario, found).all())


class _Check:
    def __init__(self, scenario: Scenario, found: Found) -> None:
        self.scenario = scenario
        self.found = found
        self.letters = {letter.number: letter for letter in scenario.letters}
        self.arrivals = [
            _Arrival(where, _id_of(message), _number_of(message.content), recipient)
            for where, messages in found.stored.items()
            if where != "home"
            for message in messages
            for recipient in message.recipients
        ]
        self.notices = [_notice(message) for message in found.stored["home"]]
        self.at_primary = {(a.id, a.recipient) for a in self.arrivals if a.where in ("primary", "second")}
        self.doubts = {
            (id_, str(record["upstream"]))
            for id_, records in found.journal.items()
            for record in records
            if record["event"] == "in_doubt"
        }
        self.in_doubt = {id_ for id_, _ in self.doubts}
        numbers = {arrival.id: arrival.number for arrival in self.arrivals}
        numbers |= {each.id: each.letter for each in found.told.tries if each.id is not None}
        self.dead = {
            (str(row["lane"]), numbers.get(str(row["id"])), str(recipient))
            for row in found.dead
            for recipient in row["recipients"]
        }
        """Dead letters of messages, under whichever id."""
        self.tries: dict[int, list[Try]] = {}
        for each in found.told.tries:
            self.tries.setdefault(each.letter, []).append(each)

    def all(self) -> Iterator[str]:
        yield from self.contents()
        for each in self.found.told.tries:
            if each.code == 250:
                yield from self.kept(each)
            elif each.code is not None:
                yield from self.nowhere(each)
        yield from self.copies_follow()
        yield from self.no_more_than_sent()
        yield from self.once()
        yield from self.notices_are_true()
        yield from (f"left behind: {each}" for each in self.found.left)
        faults = Counter(
            f"{record['event']}: {str(record['exception']).strip()[-300:]}"
            for record in self.found.records
            if "exception" in record
        )
        yield from (f"something broke inside, {count} times: {fault}" for fault, count in faults.items())

    def contents(self) -> Iterator[str]:
        """Everybody has got the octets that the author sent, and an envelope that somebody sent."""
        for where, messages in self.found.stored.items():
            for message in messages if where != "home" else ():
                letter = self.letters.get(_number_of(message.content))
                if letter is None or message.untraced != content_of(letter, self.scenario.seed):
                    yield f"{where} has octets that nobody sent: {message.content[:300]!r}"
                elif message.reverse_path != letter.sender or not set(message.recipients) <= set(letter.recipients):
                    yield f"{where} has message {letter.number} with another envelope: {message}"

    def kept(self, told: Try) -> Iterator[str]:
        """What was answered 250 is at its primary and at every copy, or its author knows, or a dead letter says so."""
        id_ = told.id
        if id_ is None:
            yield f"message {told.letter} was answered 250 without an id: {told.text}"
            return
        assumed = self.scenario.in_doubt == "assume-sent" and id_ in self.in_doubt
        for recipient in told.accepted:
            is_there = (id_, recipient) in self.at_primary
            if is_there and self.is_given_up(id_, told.letter, recipient):
                continue
            if is_there or assumed:
                for copy in self.scenario.targets:
                    if not self.is_at(copy, id_, recipient) and not self.is_dead(f"copy:{copy}", id_, recipient):
                        yield f"message {told.letter} ({id_}, 250) for {recipient} is not at {copy}"
            elif not self.is_dead("primary:all", id_, recipient) and not self.is_notified(told.letter, recipient):
                yield f"message {told.letter} ({id_}, 250) for {recipient} is nowhere"
            if not is_there and not assumed and id_ not in self.in_doubt:
                for copy in self.scenario.targets:
                    if self.is_at(copy, id_, recipient):
                        yield f"message {told.letter} ({id_}, 250) for {recipient} is at {copy} only"

    def nowhere(self, told: Try) -> Iterator[str]:
        """What was refused is nowhere, unless the primary did not say."""
        if told.id is None or told.id in self.in_doubt:
            return
        for arrival in self.arrivals:
            if arrival.id == told.id:
                yield f"message {told.letter} ({told.id}) was answered {told.code} and is at {arrival.where}"

    def copies_follow(self) -> Iterator[str]:
        """Whatever the primary has, the copies have, under this id or that of a repetition."""
        at_copies = {(a.where, a.number, a.recipient) for a in self.arrivals}
        for arrival in self.arrivals:
            if arrival.where not in ("primary", "second"):
                continue
            if self.is_given_up(arrival.id, arrival.number, arrival.recipient):
                continue
            for copy in self.scenario.targets:
                is_dead = (f"copy:{copy}", arrival.number, arrival.recipient) in self.dead
                if (copy, arrival.number, arrival.recipient) not in at_copies and not is_dead:
                    yield f"message {arrival.number} for {arrival.recipient} is at {arrival.where} and not at {copy}"

    def no_more_than_sent(self) -> Iterator[str]:
        """No more messages exist than were sent and not refused."""
        for number in self.letters:
            ids = {arrival.id for arrival in self.arrivals if arrival.number == number}
            tries = self.tries.get(number, ())
            named = {each.id for each in tries if each.id is not None}
            unnamed = ids - named - self.in_doubt
            possible = sum(each.code is None and each.dotted for each in tries)
            if len(unnamed) > possible:
                yield f"message {number} exists as {sorted(unnamed)}, and only {possible} tries had no answer"

    def once(self) -> Iterator[str]:
        """Nothing is delivered twice under one id, unless the journal says that it was in doubt."""
        for (where, id_, recipient), count in Counter((a.where, a.id, a.recipient) for a in self.arrivals).items():
            if count > 1 and (id_, where) not in self.doubts:
                yield f"{where} has {id_} for {recipient} {count} times, and the journal knows of no doubt"
        both = {(a.id, a.recipient) for a in self.arrivals if a.where == "primary"}
        both &= {(a.id, a.recipient) for a in self.arrivals if a.where == "second"}
        for id_, recipient in sorted(both):
            if id_ not in self.in_doubt:
                yield f"both primaries have {id_} for {recipient}, and the journal knows of no doubt"
        for notice, count in Counter(self.notices).items():
            if count > 1 and (notice.id, "home") not in self.doubts:
                yield f"notification {notice.id} was delivered {count} times, and the journal knows of no doubt"

    def notices_are_true(self) -> Iterator[str]:
        """Who is notified of a failure has failed at the primary, once, and is the author."""
        told: Counter[tuple[int, str]] = Counter()
        for notice in set(self.notices):
            letter = self.letters.get(notice.number)
            if letter is None or notice.to != letter.sender:
                yield f"notification {notice.id} went to {notice.to}, who is not the author of {notice.number}"
                continue
            for recipient in notice.recipients:
                told[notice.number, recipient] += 1
        for (number, recipient), count in told.items():
            tries = self.tries.get(number, ())
            if count > len(tries):
                yield f"{count} notifications about message {number} for {recipient}, which was sent {len(tries)} times"
            ids = {a.id for a in self.arrivals if a.number == number and a.recipient == recipient}
            if len(tries) == 1 and ids and not ids & self.in_doubt:
                yield f"message {number} for {recipient} is delivered, and its author was told that it failed"

    # -- questions

    def is_at(self, where: Where, id_: str, recipient: str) -> bool:
        return any(a.where == where and a.id == id_ and a.recipient == recipient for a in self.arrivals)

    def is_dead(self, lane: str, id_: str, recipient: str) -> bool:
        return any(
            row["lane"] == lane and row["id"] == id_ and recipient in row["recipients"] for row in self.found.dead
        )

    def is_given_up(self, id_: str, number: int, recipient: str) -> bool:
        """Whether the primary took it, did not say so, and refused it when it was asked again: it counts as failed."""
        said = self.is_notified(number, recipient) or self.is_dead("primary:all", id_, recipient)
        return said and id_ in self.in_doubt

    def is_notified(self, number: int, recipient: str) -> bool:
        return any(notice.number == number and recipient in notice.recipients for notice in self.notices)


def _id_of(message: StoredMessage) -> str:
    found = _ID.search(message.trace)
    assert found is not None, message.trace
    return found[1].decode()


def _number_of(content: bytes) -> int:
    found = _NUMBER.search(content)
    return -1 if found is None else int(found[1])


def _notice(message: StoredMessage) -> _Notice:
    own = _OWN.search(message.content)
    return _Notice(
        "" if own is None else own[1].decode(),
        message.recipients[0],
        _number_of(message.content),
        frozenset(found.decode() for found in _FINAL.findall(message.content)),
    )


def known_as(scenario: Scenario, number: int) -> str:
    """The Message-ID of a message, for people."""
    return message_id(number, scenario.seed)
