"""The messages in memory: which of them are delivered from there, and when they get rows instead."""

from waypost.delivery.spool import Delivery
from waypost.store.held import FRESH, HELD_OCTETS, HeldMessage, LaneAccount
from waypost.store.writer import Writer


class FreshMessages:
    """Messages with deliveries in memory, and the account of every lane.

    What has to be recorded goes to the pending changes of `writer`; the caller tells it that there are some.
    """

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._octets = 0
        self._messages: dict[int, HeldMessage] = {}  # in the order of their commit
        # Messages some of whose deliveries are done: mostly the others follow at once, and no row is needed.
        self._halves: dict[int, HeldMessage] = {}
        self._old_halves: dict[int, HeldMessage] = {}
        self.accounts: dict[str, LaneAccount] = {}

    def account(self, lane: str) -> LaneAccount:
        """The account of a lane, from its first delivery on."""
        account = self.accounts.get(lane)
        if account is None:
            account = self.accounts[lane] = LaneAccount(lane)
        return account

    def reserve(self, weight: int) -> bool:
        """Whether a message of this weight can be held, which is then counted; pushes others out for it, once."""
        if self._octets + weight > HELD_OCTETS:
            if self.accounts:
                self._push_out()
            if self._octets + weight > HELD_OCTETS:
                return False
        self._octets += weight
        return True

    def release(self, held: HeldMessage) -> None:
        """Gives back what `reserve` counted."""
        self._octets -= held.weight

    def commit(self, held: HeldMessage) -> None:
        """All deliveries of the message are due: in memory as far as there is room."""
        everything_fits = True
        for number, plan in enumerate(held.planned):
            account = self.account(plan.lane)
            account.queued += 1
            if held.message is not None and len(account.fresh) < FRESH:
                account.fresh.append((held, number))
                held.held |= 1 << number
            else:
                everything_fits = False
        self._messages[held.key] = held
        if not everything_fits:
            self.split(held)
            self._drop_unless_held(held)

    def take(self, account: LaneAccount, limit: int) -> list[tuple[Delivery, HeldMessage]]:
        """Claims the oldest deliveries of a lane."""
        taken: list[tuple[Delivery, HeldMessage]] = []
        fresh = account.fresh
        while fresh and len(taken) < limit:
            held, number = fresh.popleft()
            taken.append((held.delivery(number), held))
        return taken

    def settled(self, held: HeldMessage, number: int, *, owed: bool) -> None:
        """A claim on the message has ended; `owed` says whether the delivery is tried again."""
        bit = 1 << number
        held.held &= ~bit
        if not owed:
            held.owed &= ~bit
        if not held.split:
            if held.owed:
                self._halves[held.key] = held
            else:
                self._halves.pop(held.key, None)
                self._old_halves.pop(held.key, None)
                self._writer.pending.changes.forget(held.key, held.file is not None)
        if not held.held:
            self._drop_unless_held(held)

    def split(self, held: HeldMessage) -> None:
        """Gives every delivery that is owed a row."""
        held.split = True
        changes = self._writer.pending.changes
        changes.live[held.key] = 1
        for number, plan in enumerate(held.planned):
            if held.owed >> number & 1:
                row = held.row(number)
                changes.deliveries[row[0]] = row
                account = self.accounts[plan.lane]
                account.row_added(held.received_at)
                if row[4] is not None:
                    account.row_waits(row[4])

    def split_halves(self) -> None:
        """Records what is done of messages that are not done as a whole. Called every few milliseconds."""
        for held in self._old_halves.values():
            if not held.split:
                self.split(held)
        self._old_halves, self._halves = self._halves, {}
        if self._old_halves:
            self._writer.changed()

    def oldest(self, lanes: set[str]) -> dict[str, float]:
        """When the oldest message in memory for each of these lanes was received."""
        found: dict[str, float] = {}
        for held in self._messages.values():
            if held.split:
                continue  # its rows are known
            for number, plan in enumerate(held.planned):
                if held.owed >> number & 1 and plan.lane in lanes:
                    found.setdefault(plan.lane, held.received_at)
            if len(found) == len(lanes):
                break
        return found

    def _push_out(self) -> None:
        """Gives rows to half of what the slowest lane has in memory."""
        slowest = max(self.accounts.values(), key=lambda account: len(account.fresh))
        for _ in range((len(slowest.fresh) + 1) // 2):
            held, number = slowest.fresh.pop()  # the youngest: their turn is furthest away
            held.held &= ~(1 << number)
            if held.split:
                row = held.row(number)
                self._writer.pending.changes.deliveries[row[0]] = row
                slowest.row_waits(held.received_at)
            else:
                self.split(held)
            self._drop_unless_held(held)
        self._writer.changed()

    def _drop_unless_held(self, held: HeldMessage) -> None:
        if not held.held:
            self._octets -= held.weight
            self._messages.pop(held.key, None)
