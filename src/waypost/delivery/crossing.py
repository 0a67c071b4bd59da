"""Which ways a transaction takes: each recipient is routed, and every route that they lead to has one leg.

A recipient whose route only the content tells is *undecided*: it is accepted, and routed when the content is there.
So is one whose route is known, but whose upstream is chosen by a plugin that needs the content.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from waypost.delivery.desk import Desk
from waypost.delivery.legs import Accepting, Budget, HybridLeg, Leg, SpoolLeg
from waypost.delivery.relay import LiveRelay, LoneRelay
from waypost.delivery.told import Told, told_of
from waypost.mail.content import Content
from waypost.mail.field_values import FieldValues
from waypost.mail.header import read_header
from waypost.mail.message import Client, Recipient
from waypost.mail.rewrite import Rewrite
from waypost.routing.facts import Facts
from waypost.routing.route import Acceptance, InDoubtPolicy, Route
from waypost.routing.rules import NOT_FOR_CLIENT, Decision
from waypost.smtp import commands as c
from waypost.smtp.address import Address
from waypost.smtp.reply import Reply, reply

_OTHER_ROUTE = reply(452, "4.5.3", "This recipient goes another way; send to it in a transaction of its own")
_ALONE = reply(452, "4.5.3", "Where this goes depends on the content; one recipient in a transaction, please")
_NO_SPOOL = reply(451, "4.3.5", "This message would have to be stored, and no spool is configured")
_CHANGED = reply(451, "4.3.0", "The rules have changed while the message came; send it again")
_UNDECIDED = reply(250, "2.1.5", "Accepted; the content decides where it goes")


class Undecided:
    """The recipients of a transaction that are routed by its content. The client was told that they are accepted."""

    def __init__(self) -> None:
        self.waiting: list[Recipient] = []
        self.may_be_stored = False
        self.is_alone = False
        """Whether there may be no other recipient beside it: its answer will be the answer to the content."""
        self.rewrite: Rewrite | None = None
        """What all the routes rewrite that they may come to."""

    async def recipients(self, recipients: Sequence[Recipient]) -> Sequence[Reply]:
        """Accepts them."""
        self.waiting += recipients
        return [_UNDECIDED] * len(recipients)


class Legs:
    """The legs of one transaction, in the order in which recipients led to them. The first decides on the mode.

    In `pass` there is only one: the client has one reply for all of its recipients, and it is the primary's. In the
    other modes there may be several, but all rewrite alike: one message has one form. `began` is when the transaction
    did, in seconds since the epoch.
    """

    def __init__(self, desk: Desk, client: Client, mail: c.Mail, message_id: str, began: float, *, each: bool) -> None:
        self._desk = desk
        self._each = each  # whether the client hears what becomes of each recipient
        self._client = client
        self._mail = mail
        self._told = mail.reverse_path  # what the client said, by which it is routed
        self._message_id = message_id
        self._began = began
        self._legs: dict[str, Leg] = {}  # by route
        self._modes: dict[Acceptance, None] = {}
        self._passes = False
        self._because = ""
        self._budget: Budget | None = None
        self._undecided: Undecided | None = None
        self._content: Content | None = None
        self.refused: Address | None = None
        """Whom the answer to the content is about, when nobody is left who accepts it."""
        self.refused_by = ""
        """The rule that led to whoever refused it."""
        self.turned_away: list[tuple[Recipient, Reply]] = []
        """Whom an upstream has refused at the end of content, for a client that hears of each."""
        self.rewrite: Rewrite | None = None
        """What the routes rewrite; None while there is none, and for mail that is not ours to change."""

    def __iter__(self) -> Iterator[Leg]:
        return iter(self._legs.values())

    @property
    def reverse_path(self) -> Address:
        """The message's: that of the client, or what the routes make of it."""
        return self._mail.reverse_path

    @property
    def are_stored(self) -> bool:
        """Whether the message may come to be stored."""
        if self._undecided is not None and self._undecided.may_be_stored:
            return True
        return (not self._passes and bool(self._legs)) or any(leg.route.copies for leg in self)

    @property
    def undecided(self) -> Sequence[Recipient]:
        """Recipients that were accepted, and are routed by the content."""
        return () if self._undecided is None else self._undecided.waiting

    def words(self) -> tuple[str, str, str]:
        """For the log: the routes, the rule that led to the first, and the modes."""
        return ", ".join(self._legs), self._because, ", ".join(self._modes)

    def for_recipient(self, recipient: Address) -> Accepting | Reply:
        """Whom a recipient is to be offered to, or why it cannot be part of the transaction."""
        if self._undecided is not None and self._undecided.is_alone:
            return _ALONE
        decision = self._decision(recipient)
        if decision.is_open:
            return self._postponed(decision.possible, may_refuse=decision.may_refuse)
        if decision.route is not None and self._asks_late(decision.route):
            return self._postponed((decision.route,))
        return self._leg_for(decision)

    def _asks_late(self, route: Route) -> bool:
        """Whether it takes the content to know whom to ask for a recipient. In `spool` nobody is asked."""
        return route.primary.needs_content and route.acceptance_for(self._client.submission) != "spool"

    def _decision(self, recipient: Address, size: int | None = None, header: FieldValues | None = None) -> Decision:
        client = self._client
        facts = Facts(
            client.listener,
            client.account,
            client.address,
            self._told,
            recipient,
            client.name,
            self._message_id,
            self._began,
            size,
            header,
        )
        return self._desk.router.route(facts)

    def _leg_for(self, decision: Decision) -> Leg | Reply:
        route = decision.route
        if route is None:
            return decision.reply or NOT_FOR_CLIENT
        known = self._legs.get(route.name)
        if known is not None:
            return known
        mode = route.acceptance_for(self._client.submission)
        rewrite, undecided = self._rewrite_of(route), self._undecided
        if self._legs and (self._passes or mode == "pass" or rewrite != self.rewrite):
            return _OTHER_ROUTE
        if undecided is not None and (mode == "pass" or rewrite != undecided.rewrite):
            return _OTHER_ROUTE
        if mode != "pass" and self._desk.custody is None:
            return _NO_SPOOL
        if not self._legs:
            self._because = decision.because
            if rewrite is not None:
                self.rewrite = rewrite
                self._mail = replace(self._mail, reverse_path=rewrite.reverse_path(self._mail.reverse_path))
        leg = self._legs[route.name] = self._new_leg(route, mode)
        self._modes[mode] = None
        return leg

    def _rewrite_of(self, route: Route) -> Rewrite | None:
        return route.rewrite if self._client.submission else None

    def _new_leg(self, route: Route, mode: Acceptance) -> Leg:
        if mode == "pass":
            self._passes = True
            return self._relay(route, route.in_doubt or "tempfail")
        if mode == "spool":
            return SpoolLeg(route)
        if self._budget is None:
            self._budget = Budget(route.sync_budget, self._desk.clock, self._desk.haste)
        # An upstream that did not answer is asked again by the scheduler, when it has had some time.
        policy = route.in_doubt if route.in_doubt in ("failover", "assume-sent") else "tempfail"
        return HybridLeg(self._relay(route, policy), self._budget)

    def _relay(self, route: Route, policy: InDoubtPolicy) -> LiveRelay:
        desk = self._desk
        is_lone = self._passes and not self._each and route.primary.answers_each
        return (LoneRelay if is_lone else LiveRelay)(
            desk.candidates,
            route,
            self._client,
            self._mail,
            self._message_id,
            desk.log,
            policy,
            each=self._each,
            content=self._content,
        )

    # -- what the content decides

    def _postponed(self, possible: Sequence[Route], *, may_refuse: bool = False) -> Undecided | Reply:
        """Where a recipient waits for the content, when it may take any of these routes, or be refused after all.

        What would be the primary's own answer for it, or our refusal, will be the answer to the content, and that is
        for all recipients: in such a case there is only one. So it is when the routes do not rewrite alike.
        """
        modes = {route.acceptance_for(self._client.submission) for route in possible}
        rewrites = list(map(self._rewrite_of, possible))
        rewrite = rewrites[0]
        is_alone = may_refuse or "pass" in modes or any(each != rewrite for each in rewrites)
        undecided = self._undecided
        if self._legs and (self._passes or is_alone or rewrite != self.rewrite):
            return _ALONE
        if undecided is not None and (is_alone or rewrite != undecided.rewrite):
            return _ALONE
        if self._desk.custody is None and modes and "pass" not in modes:
            return _NO_SPOOL
        if undecided is None:
            undecided = self._undecided = Undecided()
        undecided.is_alone, undecided.rewrite = is_alone, rewrite
        if modes != {"pass"} or any(route.copies for route in possible):
            undecided.may_be_stored = True
        return undecided

    async def decide(self, content: Content) -> Told | None:
        """Routes the undecided recipients by `content`, and offers them to their legs.

        What is returned is the answer to the content when nobody is left who accepts it.
        """
        assert self._undecided is not None  # noqa: S101  # whoever calls has looked
        undecided, self._undecided, self._content = self._undecided, None, content
        refusal = await self._offered(undecided, content)
        if refusal is not None:
            self.refused, self.refused_by = undecided.waiting[0].address, self._because
        return refusal

    async def _offered(self, undecided: Undecided, content: Content) -> Told | None:
        header = FieldValues(read_header(content))
        asked: dict[Leg, list[Recipient]] = {}
        for recipient in undecided.waiting:
            leg = self._leg_for(self._decision(recipient.address, content.size, header))
            if isinstance(leg, Reply):
                return Told(leg if undecided.is_alone or leg.severity == 4 else _CHANGED)
            asked.setdefault(leg, []).append(recipient)
        if self._passes and len(undecided.waiting) > 1:
            return Told(_CHANGED)  # they cannot share its one answer
        refused: list[tuple[Leg, Recipient, Reply]] = []
        for leg, recipients in asked.items():
            answers = zip(recipients, await leg.recipients(recipients), strict=True)
            refused += [(leg, recipient, answer) for recipient, answer in answers if not answer.is_positive]
        if self._each:
            self.turned_away = [(recipient, answer) for _, recipient, answer in refused]
        if not any(leg.accepted for leg in self):
            return told_of(self.turned_away) if self._each else Told(refused[0][2])
        for leg, recipient, answer in refused:
            if not self._each and isinstance(leg, HybridLeg):
                leg.refuse_later(recipient, answer)
        return None
