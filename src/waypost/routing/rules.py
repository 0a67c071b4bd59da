"""Which route a message takes: the first rule whose conditions all match.

The order of decisions for one recipient:

1. the first rule that matches;
2. else the route of the client's account;
3. else, when there are no rules at all, the only route there is;
4. else none: the recipient is refused.

Rules that exist but do not match are a decision too: the third step must not turn a relay for a few domains into
one for everybody.

A rule may ask for what only the content tells. Before that is there, the decision may be open: then it names the
routes that are still possible. A decision depends on nothing but the facts and the lists.

For each kind of condition one integer says which rules match, bit by bit (see `clauses`); the lowest bit that all
agree on is the rule. That keeps a thousand rules at a few microseconds, because most conditions are answered by one
look into a dict.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from waypost.routing.address_list import AddressList
from waypost.routing.clauses import Layer
from waypost.routing.condition import Condition
from waypost.routing.facts import Facts
from waypost.routing.patterns import AddressPatterns
from waypost.routing.route import Route, Routes, Rule
from waypost.smtp.address import Address
from waypost.smtp.reply import Reply, reply

NOT_FOR_CLIENT = reply(550, "5.7.1", "Relaying denied: no rule takes mail from this client to this recipient")
"""For a client without an account, at RCPT, or at the end of content."""

NOT_FOR_ACCOUNT = reply(550, "5.7.1", "No rule takes mail of this account to this recipient")
"""For an account, at RCPT, or at the end of content."""

NOT_OWNED = reply(553, "5.7.1", "This account may not send as this address")
"""For a reverse-path that `Router.may_send_as` denies, at MAIL."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The route, and the rule that led to it unless `because` names something else. `reply` refuses.

    An open decision has neither: more facts are needed.
    """

    route: Route | None
    rule: Rule | None
    because: str
    reply: Reply | None = None
    possible: tuple[Route, ...] = ()
    """When it is open: the routes that it may still come to."""
    may_refuse: bool = False
    """When it is open: whether it may still come to a refusal."""

    @property
    def is_open(self) -> bool:
        """Whether facts are missing: ask again when they are known."""
        return self.route is None and self.reply is None


class Router:
    """Routes compiled for deciding. Raises `ValueError` when a rule or account names a route that is not there."""

    def __init__(self, routes: Routes) -> None:
        rules = routes.rules
        for rule in rules:
            _check(rule.route, routes, f"The rule at {rule.origin or 'an unknown place'}")
        for account in (*routes.accounts.values(), *([routes.others] if routes.others else ())):
            if account.route is not None:
                _check(account.route, routes, f"Account {account.name}" if account.name else "The accounts file")
        self._routes = routes
        self._lists = {name: AddressList() for rule in rules for name in list_names(rule)} | routes.lists
        self._decisions = [
            Decision(routes.routes[rule.route], rule, rule.label or f"rule {number}")
            for number, rule in enumerate(rules, 1)
        ]
        self._all = (1 << len(rules)) - 1
        self._rules_of: dict[str, int] = {}  # by route
        for number, rule in enumerate(rules):
            self._rules_of[rule.route] = self._rules_of.get(rule.route, 0) | 1 << number
        self._layer = Layer(rules, self._lists)
        self._waiting = _Waiting(rules)
        self._default_for_all = None
        if not rules and len(routes.routes) == 1:
            self._default_for_all = Decision(next(iter(routes.routes.values())), None, "the only route")
        self._defaults = {
            account.name: Decision(routes.routes[account.route], None, f"the route of account {account.name}")
            for account in routes.accounts.values()
            if account.route is not None
        }
        self._senders = {account.name: AddressPatterns([account.may_send_as]) for account in routes.accounts.values()}
        self._default_of_others: Decision | None = None
        self._senders_of_others: AddressPatterns | None = None
        if routes.others is not None:
            self._senders_of_others = AddressPatterns([routes.others.may_send_as])
            if routes.others.route is not None:
                route = routes.routes[routes.others.route]
                self._default_of_others = Decision(route, None, "the route of the accounts file")

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules, in their order."""
        return self._routes.rules

    @property
    def lists(self) -> Mapping[str, AddressList]:
        """The lists that rules look into, by name."""
        return self._lists

    def replace_list(self, name: str, content: AddressList) -> None:
        """Takes another content for one of `lists`: decisions from now on are made on it."""
        self._lists[name] = content

    def route(self, facts: Facts) -> Decision:
        """The decision for one recipient."""
        possible = self._layer.mask(facts, self._all, True)
        first = possible & -possible
        if first & self._waiting.rules and first & self._waiting.mask(facts):
            return self._open(facts, possible)
        if first:
            return self._decisions[first.bit_length() - 1]
        return self._without_rule(facts.account)

    def _open(self, facts: Facts, possible: int) -> Decision:
        """The decision when the first rule that may match waits for facts."""
        certain = self._layer.mask(facts, possible, False)
        first = certain & -certain
        last = self._decisions[first.bit_length() - 1] if first else self._without_rule(facts.account)
        if first == possible & -possible:
            return last
        before = possible & (first - 1) if first else possible
        routes = [self._routes.routes[name] for name, mask in self._rules_of.items() if mask & before]
        if last.route is not None and last.route not in routes:
            routes.append(last.route)
        if len(routes) == 1 and last.route is not None:
            return last  # whichever rule it will be
        return Decision(None, None, "facts are missing", None, tuple(routes), last.route is None)

    def _without_rule(self, account: str | None) -> Decision:
        default = None
        if account is not None:
            listed = account in self._routes.accounts
            default = self._defaults.get(account) if listed else self._default_of_others
        if default is not None:
            return default
        if self._default_for_all is not None:
            return self._default_for_all
        because = "there are no rules" if not self._decisions else "no rule matches"
        return Decision(None, None, because, NOT_FOR_CLIENT if account is None else NOT_FOR_ACCOUNT)

    def may_send_as(self, account: str | None, reverse_path: Address) -> bool:
        """Whether the account may use this reverse-path. The null path is everybody's.

        A client without an account is restrained by rules alone; an account that does not exist may nothing.
        """
        if account is None or reverse_path.is_null:
            return True
        allowed = self._senders.get(account, self._senders_of_others)
        return allowed is not None and allowed.mask(reverse_path) != 0


class _Waiting:
    """Which rules ask for facts that are not known at once."""

    def __init__(self, rules: tuple[Rule, ...]) -> None:
        self._masks = [0, 0, 0, 0, 0]
        for number, rule in enumerate(rules):
            for part in parts_of(rule):
                asks = (part.helos, part.hours, part.share and part.share.by == "message", part.size, part.fields)
                for place, asked in enumerate(asks):
                    self._masks[place] |= bool(asked) << number
        self.rules = 0
        for mask in self._masks:
            self.rules |= mask

    def mask(self, facts: Facts) -> int:
        """Those that wait for what these facts do not have."""
        known = (facts.helo, facts.now, facts.message_id, facts.size, facts.header)
        waiting = 0
        for mask, fact in zip(self._masks, known, strict=True):
            if fact is None:
                waiting |= mask
        return waiting


def parts_of(condition: Condition) -> Iterator[Condition]:
    """A condition and all that is nested in it."""
    yield condition
    for each in (*condition.all_of, *condition.any_of, *((condition.unless,) if condition.unless else ())):
        yield from parts_of(each)


def list_names(condition: Condition) -> Iterator[str]:
    """The lists that a condition looks into."""
    for part in parts_of(condition):
        yield from part.recipient_files
        yield from part.reverse_path_files


def _check(route: str, routes: Routes, who: str) -> None:
    if route not in routes.routes:
        raise ValueError(f"{who} leads to route {route!r}, which is not configured")
