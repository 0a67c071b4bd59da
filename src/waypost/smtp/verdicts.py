"""Content that is answered for each recipient: by LMTP (RFC 2033 section 4.2), and by PRDR (draft-hall-prdr-00).

In LMTP the end of content has one reply for each accepted recipient, in their order, and nothing besides. With PRDR a
server that has more than one thing to say says 353 first, then a reply for each recipient, and at last one for the
message, without whose yes no recipient's is worth anything.
"""

from collections.abc import Iterator, Sequence
from typing import TypeVar

from waypost.smtp.commands import Kind
from waypost.smtp.reply import Reply, reply
from waypost.smtp.state import State

T = TypeVar("T")

_EACH = reply(353, None, "A reply for each recipient follows, and one for the message")
_VERDICTS = State.VERDICTS


class Verdicts:
    """What an upstream has said so far to the content of one transaction, recipient by recipient."""

    __slots__ = ("lmtp", "recipients", "replies")

    def __init__(self, *, lmtp: bool) -> None:
        self.lmtp = lmtp
        self.recipients = 0  # accepted, each of whom is owed a reply
        self.replies: list[Reply] = []

    def next(self, end: Kind, state: State) -> Kind:
        """What the next reply answers; `end` is the kind of the command that ended the content."""
        said = len(self.replies)
        if self.lmtp:
            if not self.recipients:
                return end  # it was pipelined behind recipients that were all refused
            return Kind.VERDICT if said < self.recipients - 1 else Kind.LAST_VERDICT
        if state is not _VERDICTS:
            return end
        return Kind.VERDICT if said < self.recipients else Kind.LAST_VERDICT

    def heard(self, kind: Kind, answer: Reply) -> None:
        """Takes the next reply."""
        if kind is Kind.VERDICT or (self.lmtp and kind is Kind.LAST_VERDICT):
            self.replies.append(answer)

    def completed(self, answer: T) -> tuple[Reply | T, ...]:
        """What each accepted recipient was answered, nothing when there was one answer for all.

        `answer` is what the content came to as a whole: the last reply, or whatever stands for none. Those who were
        not answered share it; and with PRDR those who were told yes, when the message as a whole was not.
        """
        replies = self.replies
        if not replies:
            return ()
        rest = [answer] * (self.recipients - len(replies))
        if self.lmtp:
            return (*replies, *rest)
        severity = answer.severity if isinstance(answer, Reply) else 4
        # A yes counts with that of the message. Where that is refused for good, nobody need come again.
        held = (2, 4, 5) if severity == 2 else (4, 5) if severity == 4 else (5,)
        return (*(each if each.severity in held else answer for each in replies), *rest)


def overall(replies: Sequence[Reply]) -> Reply:
    """The one reply for a message that was answered for each recipient: yes if anybody has it, else come again."""
    if len(replies) == 1:
        return replies[0]
    for severity in (2, 4):
        for each in replies:
            if each.severity == severity:
                return each
    return replies[0]


def spoken(end: Kind, replies: Sequence[Reply], recipients: int, *, lmtp: bool) -> Iterator[tuple[Kind, Reply]]:
    """What is said at the end of content, each reply with what it answers.

    `replies` are one for all, or one for each of the `recipients`.
    """
    if lmtp:
        each = [replies[0]] * recipients if len(replies) == 1 else replies
        for answer in each[:-1]:
            yield Kind.VERDICT, answer
        yield Kind.LAST_VERDICT, each[-1]
    elif all(answer == replies[0] for answer in replies):
        yield end, replies[0]
    else:
        yield end, _EACH
        for answer in replies:
            yield Kind.VERDICT, answer
        yield Kind.LAST_VERDICT, overall(replies)
