"""Who is told what became of a message of ours, and when: the `Notifier` that the scheduler asks.

A primary delivery that has failed, is late, or has gone where nobody confirms deliveries may be reported to the
reverse-path (RFC 3461, RFC 5321 section 6.1). Never reported: a copy, and anything with the null reverse-path, which
reports themselves have, so that none is ever answered by another.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from waypost.delivery.notices import Notices
from waypost.delivery.spool import Delivery, Planned, primary_lane
from waypost.mail.content import MemoryContent
from waypost.mail.dsn import Composed, compose
from waypost.mail.ids import make_id
from waypost.mail.message import Client, Envelope, Message, Recipient
from waypost.mail.notification import Action, Notification
from waypost.mail.outcome import Attempt, RecipientOutcome, Role
from waypost.smtp.address import NULL, Address
from waypost.smtp.parameters import NO_MAIL_PARAMETERS, MailParameters, RcptParameters
from waypost.smtp.reply import Reply

_QUIET = RcptParameters(notify=("NEVER",))
_MAX_ADDRESSES = 10_000
_HOUR = 3600


class NoticeLog(Protocol):
    """Whoever writes down what was reported, and what was not."""

    def notified(self, message: Message, notice: Message, action: Action, recipients: Sequence[Recipient]) -> None:
        """`notice` tells the reverse-path of `message` what became of it for these recipients."""

    def capped(self, message: Message, per_hour: int) -> None:
        """The reverse-path of this message has had all its notifications for this hour.

        Told once for each address and hour.
        """


class HourlyCap:
    """How many notifications an address may have in one hour of the clock. Remembered in memory, and bounded.

    With more than 10,000 addresses in an hour the earliest is forgotten, and may have its share again.
    """

    def __init__(self, per_hour: int) -> None:
        self._per_hour = per_hour
        self._hour = 0
        self._counts: dict[str, int] = {}

    def count(self, address: Address, now: float) -> int:
        """Counts one more, at `now` in seconds since the epoch; by how many the address is over the cap, or 0."""
        hour = int(now // _HOUR)
        if hour != self._hour:
            self._hour = hour
            self._counts.clear()
        key = address.key
        count = self._counts.get(key, 0) + 1
        if count == 1 and len(self._counts) >= _MAX_ADDRESSES:
            del self._counts[next(iter(self._counts))]
        self._counts[key] = count
        return max(0, count - self._per_hour)


@dataclass(frozen=True, slots=True)
class NoticePolicy:
    """What all notifications have in common.

    `hosts` are the upstreams' host names. `lifetime_of` gives the seconds for which a notification on a route is tried.
    """

    hostname: str
    per_hour: int
    lifetime_of: Callable[[str], float]
    sender: str = ""  # address of the From field; empty: MAILER-DAEMON at the hostname
    hosts: Mapping[str, str] = field(default_factory=dict)
    route_of: Callable[[Message], str | None] = lambda notice: None
    """The route for a notification; None: that of the message reported on."""
    sign: Callable[[bytes], bytes] | None = None
    """Makes the DKIM signatures of a notification, fields to be put in front."""


class Notifications:
    """The `Notifier`. `random_bits` gives 32 of them. Costs nothing but for mail that is reported on."""

    def __init__(self, policy: NoticePolicy, log: NoticeLog, random_bits: Callable[[], int]) -> None:
        self._policy = policy
        self._log = log
        self._random_bits = random_bits
        self._cap = HourlyCap(policy.per_hour)

    def failed(
        self, delivery: Delivery, outcomes: Sequence[RecipientOutcome], now: float
    ) -> tuple[Notices, tuple[Recipient, ...]]:
        notices, told = self._notify(delivery, Action.FAILED, _asking(outcomes, "FAILURE"), now)
        if not notices:
            return (), tuple(each.recipient for each in outcomes)
        return notices, tuple(each.recipient for each in outcomes if each not in told)

    def delayed(self, delivery: Delivery, outcomes: Sequence[RecipientOutcome], now: float) -> Notices:
        return self._notify(delivery, Action.DELAYED, _asking(outcomes, "DELAY"), now)[0]

    def relayed(
        self, delivery: Delivery, outcomes: Sequence[RecipientOutcome], attempt: Attempt, now: float
    ) -> Notices:
        if attempt.dsn:  # the upstream answers for it now (RFC 3461 section 5.2.2)
            return ()
        said = [each for each in outcomes if isinstance(each.answer, Reply)]  # not those assumed to be sent
        return self._notify(delivery, Action.RELAYED, _asking(said, "SUCCESS", default=False), now)[0]

    def _notify(
        self, delivery: Delivery, action: Action, outcomes: tuple[RecipientOutcome, ...], now: float
    ) -> tuple[Notices, tuple[RecipientOutcome, ...]]:
        """One notification about all of these recipients, if there may be one."""
        message = delivery.message
        reverse_path = message.envelope.reverse_path
        if not outcomes or reverse_path.is_null or delivery.role is Role.COPY or self._policy.per_hour <= 0:
            return (), ()
        over = self._cap.count(reverse_path, now)
        if over:
            if over == 1:
                self._log.capped(message, self._policy.per_hour)
            return (), ()
        policy = self._policy
        id_ = make_id(int(now * 1000), self._random_bits())
        notification = Notification(
            id_,
            now,
            action,
            message,
            outcomes,
            policy.hostname,
            policy.sender or f"MAILER-DAEMON@{policy.hostname}",
            policy.hosts,
            delivery.expires_at if action is Action.DELAYED else None,
        )
        client = Client(message.client.listener, "", 0, policy.hostname, "local", message.client.account)
        notice = Message(id_, now, client, *_wrapped(compose(notification), reverse_path, policy.sign))
        self._log.notified(message, notice, action, [each.recipient for each in outcomes])
        route = policy.route_of(notice) or delivery.route
        return ((notice, Planned(primary_lane(route), route, now + policy.lifetime_of(route))),), outcomes


def _wrapped(composed: Composed, to: Address, sign: Callable[[bytes], bytes] | None) -> tuple[Envelope, MemoryContent]:
    """Envelope and content. The null reverse-path and NOTIFY=NEVER keep reports from being reported on."""
    parameters = NO_MAIL_PARAMETERS
    if composed.eightbit:
        parameters = MailParameters(body="8BITMIME", smtputf8=composed.smtputf8)
    content = composed.content if sign is None else sign(composed.content) + composed.content
    return Envelope(NULL, (Recipient(to, _QUIET),), parameters), MemoryContent(content)


def _asking(
    outcomes: Sequence[RecipientOutcome], condition: str, *, default: bool = True
) -> tuple[RecipientOutcome, ...]:
    """Those for whom this is to be reported. `default` is for those without NOTIFY (RFC 3461 section 4.1)."""
    return tuple(each for each in outcomes if _asks(each.recipient.parameters.notify, condition, default))


def _asks(notify: tuple[str, ...] | None, condition: str, default: bool) -> bool:
    return default if notify is None else condition in notify
