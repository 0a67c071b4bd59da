"""How much each account may still send: messages and recipients in each hour, day, or what else is configured.

Periods are those of UTC: an hour begins at its first minute, a day at midnight. A message is reserved at MAIL and a
recipient at RCPT, and both count when the message was accepted; else they are given back. Within one process an account
is never above its limit.

Counts are noted in the spool at most a second after they change, when there is one: a process that is killed forgets
that second, and instances that share a spool know of each other's messages that much later.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from waypost.clock import Clock
from waypost.delivery.spool import Note
from waypost.routing.route import Account, Allowance
from waypost.smtp.reply import Reply, reply

KIND = "allowance"
"""The kind of the notes: `ACCOUNT what/period INSTANCE` to `WINDOW COUNT`."""

_NOTED_AFTER = 1.0  # seconds
_PERIODS = {1: "second", 60: "minute", 3600: "hour", 86400: "day"}


class _Count:
    """What is used of one allowance. `now` is in seconds since the epoch."""

    __slots__ = ("_reply", "allowance", "changed", "others", "reserved", "used", "window")

    def __init__(self, allowance: Allowance) -> None:
        self.allowance = allowance
        self.window = 0  # the number of the period since the epoch
        self.used = 0  # in this period, by messages that this process accepted
        self.reserved = 0  # by transactions under way
        self.others: dict[str, int] = {}  # in this period, by other instances, and by those before this one
        self.changed = False
        period = _PERIODS.get(allowance.period, f"{allowance.period} seconds")
        text = f"This account may send {allowance.count} {allowance.what} per {period}; try again later"
        self._reply = reply(450 if allowance.what == "messages" else 452, "4.7.1", text)

    def __repr__(self) -> str:
        return f"_Count({self.allowance}, used={self.used}, reserved={self.reserved}, others={self.others})"

    def turn(self, now: float) -> None:
        """Begins the period of `now` when it has come.

        A clock that goes back into the period before changes nothing. One that goes back further was wrong, and the
        account must not wait until it is right.
        """
        window = int(now // self.allowance.period)
        if not self.window - 1 <= window <= self.window:
            self.window, self.used = window, 0
            self.others.clear()

    def refusal(self, now: float) -> Reply | None:
        """Why there is no room for one more."""
        self.turn(now)
        taken = self.used + self.reserved + sum(self.others.values())
        return self._reply if taken >= self.allowance.count else None


@dataclass(slots=True)
class Share:
    """What one transaction has reserved. It ends with `accepted` or `released`; a second end changes nothing."""

    _owner: "Allowances"
    _account: str
    _counts: list[_Count]
    _messages: int = 0
    _recipients: int = 0

    def reserve(self, what: str) -> Reply | None:
        """Takes room for one more message or recipient, or says why there is none."""
        counts = [count for count in self._counts if count.allowance.what == what]
        now = self._owner.now()
        for count in counts:
            refusal = count.refusal(now)
            if refusal is not None:
                self._owner.spent(self._account, what)
                return refusal
        for count in counts:
            count.reserved += 1
        if what == "messages":
            self._messages += 1
        else:
            self._recipients += 1
        return None

    def give_back(self, recipients: int) -> None:
        """So many of the recipients were refused."""
        self._recipients -= recipients
        for count in self._counts:
            if count.allowance.what == "recipients":
                count.reserved -= recipients

    def released(self) -> None:
        """The message was not accepted."""
        self._end(counts=False)

    def accepted(self) -> None:
        """The message was accepted: what was reserved is used."""
        self._end(counts=True)

    def _end(self, *, counts: bool) -> None:
        now = self._owner.now()
        for count in self._counts:
            number = self._messages if count.allowance.what == "messages" else self._recipients
            count.reserved -= number
            if counts and number:
                count.turn(now)
                count.used += number
                count.changed = True
        if counts and (self._messages or self._recipients):
            self._owner.note_soon(self._account)
        self._messages = self._recipients = 0


class Allowances:
    """The counts of all accounts that have limits. `instance` is this process, and no other before or beside it.

    `put` keeps a note, or is None when there is nowhere to keep it; `spent` is told who met which limit.
    """

    def __init__(
        self,
        accounts: Mapping[str, Account],
        others: Account | None,
        clock: Clock,
        put: Callable[[Note], None] | None,
        instance: str,
        spent: Callable[[str, str], None],
    ) -> None:
        self._accounts = accounts
        self._others = others
        self._clock = clock
        self._put = put
        self._instance = instance
        self.spent = spent
        self.now = clock.time
        self._counts: dict[str, list[_Count]] = {}
        self._changed: set[str] = set()

    def __bool__(self) -> bool:
        """Whether any account has a limit."""
        accounts: Iterable[Account] = (*self._accounts.values(), *((self._others,) if self._others else ()))
        return any(account.limits for account in accounts)

    def share(self, account: str | None) -> Share | Reply | None:
        """Room for one message: nothing when the account has no limits; why not, when it has met one."""
        counts = self._of(account) if account is not None else []
        if not counts or account is None:
            return None
        share = Share(self, account, counts)
        refusal = share.reserve("messages")
        return share if refusal is None else refusal

    def _of(self, account: str) -> list[_Count]:
        counts = self._counts.get(account)
        if counts is None:
            found = self._accounts.get(account, self._others)
            counts = [_Count(allowance) for allowance in (found.limits if found is not None else ())]
            self._counts[account] = counts
        return counts

    # -- notes

    def note_soon(self, account: str) -> None:
        """The counts of an account have changed."""
        if self._put is None:
            return
        if not self._changed:
            self._clock.call_later(_NOTED_AFTER, self.note_now)
        self._changed.add(account)

    def note_now(self) -> None:
        """Notes what has changed: before the end, and by itself every second."""
        changed, self._changed = self._changed, set()
        for account in changed if self._put is not None else ():
            for count in self._counts[account]:
                if self._put is not None and count.changed:
                    count.changed = False
                    allowance = count.allowance
                    key = f"{account} {allowance.what}/{allowance.period} {self._instance}"
                    until = (count.window + 1) * allowance.period
                    self._put(Note(KIND, key, f"{count.window} {count.used}", until))

    def learn(self, notes: Iterable[Note]) -> None:
        """Takes what other instances have noted, or an earlier run has."""
        now = self._clock.time()
        for note in notes:
            account, limit, instance = _parts(note.key)
            window, used = _numbers(note.value)
            if note.kind != KIND or instance == self._instance or not instance:
                continue
            for count in self._of(account):
                count.turn(now)
                if f"{count.allowance.what}/{count.allowance.period}" == limit and window == count.window:
                    count.others[instance] = used


def _parts(key: str) -> tuple[str, str, str]:
    parts = key.rsplit(" ", 2)  # an account may have a space in its name
    return (parts[0], parts[1], parts[2]) if len(parts) == 3 else ("", "", "")


def _numbers(value: str) -> tuple[int, int]:
    parts = value.split(" ")
    if len(parts) == 2 and all(part.isascii() and part.isdigit() for part in parts):
        return int(parts[0]), int(parts[1])
    return 0, 0
