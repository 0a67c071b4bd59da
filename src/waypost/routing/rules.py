"""Which route a message takes: the first rule whose conditions all match.

The order of decisions for one recipient:

1. the first rule that matches;
2. else the route of the client's account;
3. else, when there are no rules at all, the only route there is;
4. else none: the recipient is refused.

Rules that exist but do not match are a decision too: the third step must not turn a relay for a few domains into
one for everybody.

For each kind of condition one integer says which rules match, bit by bit; the lowest bit that all agree on is the
rule. That keeps a thousand rules at a few microseconds, because most conditions are answered by one look into a dict.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

from waypost.routing.patterns import AddressPatterns, NamePatterns
from waypost.routing.route import Network, Route, Routes, Rule
from waypost.smtp.address import Address
from waypost.smtp.reply import Reply, reply
from waypost.smtp.values import quick

NOT_FOR_CLIENT = reply(550, "5.7.1", "Relaying denied: no rule takes mail from this client to this recipient")
"""For a client without an account, at RCPT."""

NOT_FOR_ACCOUNT = reply(550, "5.7.1", "No rule takes mail of this account to this recipient")
"""For an account, at RCPT."""

NOT_OWNED = reply(553, "5.7.1", "This account may not send as this address")
"""For a reverse-path that `Router.may_send_as` denies, at MAIL."""

_REMEMBERED = 4096  # clients whose rules are known without asking again


@quick
@dataclass(frozen=True, slots=True)
class Facts:
    """What a route is decided on. `client` is the address as text, `account` None without AUTH."""

    listener: str
    account: str | None
    client: str
    reverse_path: Address
    recipient: Address


@dataclass(frozen=True, slots=True)
class Decision:
    """The route, and the rule that led to it unless `because` names something else. `reply` refuses."""

    route: Route | None
    rule: Rule | None
    because: str
    reply: Reply | None = None


@dataclass(frozen=True, slots=True)
class RuleJudgement:
    """One rule for `explain`: whether its conditions match, and a sentence on why it does not decide."""

    rule: Rule
    matched: bool
    why: str


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
        self._decisions = [
            Decision(routes.routes[rule.route], rule, rule.origin or f"rule {number}")
            for number, rule in enumerate(rules, 1)
        ]
        self._all = (1 << len(rules)) - 1
        self._accounts = NamePatterns(rule.accounts for rule in rules)
        self._reverse_paths = AddressPatterns(rule.reverse_paths for rule in rules)
        self._recipients = AddressPatterns(rule.recipients for rule in rules)
        self._networks = _networks(rules)
        self._clients: dict[tuple[str, str | None, str], int] = {}
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

    def route(self, facts: Facts) -> Decision:
        """The decision for one recipient."""
        matching = self._client_mask(facts.listener, facts.account, facts.client)
        if matching:
            matching &= self._recipients.mask(facts.recipient)
            if matching:
                matching &= self._reverse_paths.mask(facts.reverse_path)
                if matching:
                    return self._decisions[(matching & -matching).bit_length() - 1]
        return self._without_rule(facts.account)

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

    def explain(self, facts: Facts) -> list[RuleJudgement]:
        """Every rule in order: whether it matches, and why it is not the one."""
        decided: Rule | None = None
        judged = []
        for number, rule in enumerate(self._routes.rules):
            why = self._why_not(rule, 1 << number, facts)
            matched = not why
            if matched and decided is not None:
                why = f"it matches, but {decided.origin or 'an earlier rule'} comes first"
            elif matched:
                decided = rule
            judged.append(RuleJudgement(rule, matched, why))
        return judged

    def _why_not(self, rule: Rule, bit: int, facts: Facts) -> str:
        if rule.listeners and facts.listener not in rule.listeners:
            return f"listener {facts.listener} is not {_one_of(sorted(rule.listeners))}"
        if not self._accounts.mask(facts.account) & bit:
            who = f"account {facts.account}" if facts.account is not None else "a client without an account"
            return f"{who} is not {_one_of(rule.accounts)}"
        if rule.client_networks and not self._network_mask(facts.client) & bit:
            return f"client {facts.client or 'of unknown address'} is not in {_one_of(map(str, rule.client_networks))}"
        if not self._reverse_paths.mask(facts.reverse_path) & bit:
            return f"reverse-path <{facts.reverse_path}> is not {_one_of(rule.reverse_paths)}"
        if not self._recipients.mask(facts.recipient) & bit:
            return f"recipient <{facts.recipient}> is not {_one_of(rule.recipients)}"
        return ""

    def _client_mask(self, listener: str, account: str | None, client: str) -> int:
        """The rules that what is known before MAIL leaves; remembered, for it stays the same in a session."""
        key = (listener, account, client)
        mask = self._clients.get(key)
        if mask is None:
            mask = self._all & self._accounts.mask(account) & self._network_mask(client)
            for number, rule in enumerate(self._routes.rules):
                if rule.listeners and listener not in rule.listeners:
                    mask &= ~(1 << number)
            if len(self._clients) >= _REMEMBERED:
                self._clients.clear()
            self._clients[key] = mask
        return mask

    def _network_mask(self, client: str) -> int:
        mask = self._networks[None]
        try:
            address = ip_address(client)
        except ValueError:  # a unix socket, or a proxy that does not know
            return mask
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        for network, bits in self._networks.items():
            if network is not None and address in network:
                mask |= bits
        return mask


def _networks(rules: Sequence[Rule]) -> dict[Network | None, int]:
    """The rules of each network, and under None those that take every client."""
    masks: dict[Network | None, int] = {None: 0}
    for number, rule in enumerate(rules):
        for network in rule.client_networks or (None,):
            masks[network] = masks.get(network, 0) | 1 << number
    return masks


def _check(route: str, routes: Routes, who: str) -> None:
    if route not in routes.routes:
        raise ValueError(f"{who} leads to route {route!r}, which is not configured")


def _one_of(names: Iterable[str]) -> str:
    return " or ".join(names)
