"""Which ways a transaction takes: each recipient is routed, and every route that they lead to has one leg."""

from collections.abc import Iterator
from dataclasses import replace

from waypost.delivery.desk import Desk
from waypost.delivery.legs import Budget, HybridLeg, Leg, SpoolLeg
from waypost.delivery.relay import LiveRelay, LoneRelay
from waypost.mail.message import Client
from waypost.mail.rewrite import Rewrite
from waypost.routing.route import Acceptance, InDoubtPolicy, Route
from waypost.routing.rules import NOT_FOR_CLIENT, Facts
from waypost.smtp import commands as c
from waypost.smtp.address import Address
from waypost.smtp.reply import Reply, reply

_OTHER_ROUTE = reply(452, "4.5.3", "This recipient goes another way; send to it in a transaction of its own")
_NO_SPOOL = reply(451, "4.3.5", "This message would have to be stored, and no spool is configured")


class Legs:
    """The legs of one transaction, in the order in which recipients led to them. The first decides on the mode.

    In `pass` there is only one: the client has one reply for all of its recipients, and it is the primary's. In the
    other modes there may be several, but all rewrite alike: one message has one form.
    """

    __slots__ = (
        *("_because", "_budget", "_client", "_desk", "_each", "_legs", "_mail", "_message_id", "_modes", "_passes"),
        "_told",
        "rewrite",
    )

    def __init__(self, desk: Desk, client: Client, mail: c.Mail, message_id: str, *, each: bool) -> None:
        self._desk = desk
        self._each = each  # whether the client hears what becomes of each recipient
        self._client = client
        self._mail = mail
        self._told = mail.reverse_path  # what the client said, by which it is routed
        self._message_id = message_id
        self._legs: dict[str, Leg] = {}  # by route
        self._modes: dict[Acceptance, None] = {}
        self._passes = False
        self._because = ""
        self._budget: Budget | None = None
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
        return not self._passes or any(leg.route.copies for leg in self)

    def words(self) -> tuple[str, str, str]:
        """For the log: the routes, the rule that led to the first, and the modes."""
        return ", ".join(self._legs), self._because, ", ".join(self._modes)

    def for_recipient(self, recipient: Address) -> Leg | Reply:
        """The leg that a recipient belongs to, or why it cannot be part of the transaction."""
        client, desk = self._client, self._desk
        facts = Facts(client.listener, client.account, client.address, self._told, recipient)
        decision = desk.router.route(facts)
        route = decision.route
        if route is None:
            return decision.reply or NOT_FOR_CLIENT
        known = self._legs.get(route.name)
        if known is not None:
            return known
        mode = route.acceptance_for(client.submission)
        rewrite = route.rewrite if client.submission else None
        if self._legs and (self._passes or mode == "pass" or rewrite != self.rewrite):
            return _OTHER_ROUTE
        if mode != "pass" and desk.custody is None:
            return _NO_SPOOL
        if not self._legs:
            self._because = decision.because
            if rewrite is not None:
                self.rewrite = rewrite
                self._mail = replace(self._mail, reverse_path=rewrite.reverse_path(self._mail.reverse_path))
        leg = self._legs[route.name] = self._new_leg(route, mode)
        self._modes[mode] = None
        return leg

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
        desk, each = self._desk, self._each
        lone = self._passes and not each and route.primary.answers_each
        kind = LoneRelay if lone else LiveRelay
        return kind(desk.candidates, route, self._client, self._mail, self._message_id, desk.log, policy, each=each)
