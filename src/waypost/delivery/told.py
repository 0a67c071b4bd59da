"""What a client is told of its message: one reply for all, or one for each recipient, where it hears those."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from waypost.delivery.linking import Fate
from waypost.mail.message import Recipient
from waypost.mail.outcome import Status
from waypost.smtp.reply import Reply
from waypost.smtp.verdicts import overall


@dataclass(frozen=True, slots=True)
class Told:
    """`reply` is about the message as a whole, `each` about single recipients, by the key of their address."""

    reply: Reply
    each: Mapping[str, Reply] = field(default_factory=dict)

    def answers(self, recipients: Sequence[Recipient]) -> Sequence[Reply]:
        """What is said to a client that hears of each of these recipients."""
        if not self.each:
            return (self.reply,)
        return [self.each.get(recipient.address.key, self.reply) for recipient in recipients]

    def beside(self, accepted: Iterable[Recipient], refused: Sequence[tuple[Recipient, Reply]]) -> "Told":
        """This for those who were accepted, beside others who were not."""
        if not refused:
            return self
        told = [(recipient, self.each.get(recipient.address.key, self.reply)) for recipient in accepted]
        return told_of((*told, *refused))

    def mapped(self, change: Callable[[Reply], Reply]) -> "Told":
        """The same in other words."""
        return Told(change(self.reply), {key: change(answer) for key, answer in self.each.items()})

    @property
    def is_final(self) -> bool:
        """Whether not all of it is 4yz, so that it has to be remembered."""
        return self.reply.severity != 4


def told_of(replies: Iterable[tuple[Recipient, Reply]]) -> Told:
    """What is told when each recipient has a reply of its own."""
    each = {recipient.address.key: answer for recipient, answer in replies}
    return Told(overall(list(each.values())), each)


def grouped(fates: Iterable[Fate]) -> Iterable[tuple[Fate, Sequence[Recipient]]]:
    """Those who share a fate, with the first of them."""
    groups: dict[tuple[Status, Reply], tuple[Fate, list[Recipient]]] = {}
    for fate in fates:
        groups.setdefault((fate.status, fate.reply), (fate, []))[1].append(fate.recipient)
    return groups.values()
