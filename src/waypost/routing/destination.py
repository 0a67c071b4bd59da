"""Where a message would go, in words by which two configurations can be compared."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from ipaddress import ip_address
from typing import Literal

from waypost.routing.facts import Facts
from waypost.routing.route import Account, Network, Pool, Route, Routes
from waypost.routing.rules import NOT_OWNED, Router

Kind = Literal["route", "refused", "open", "unheard"]


@dataclass(frozen=True, slots=True)
class Door:
    """A listener, as far as it decides who may send through it."""

    submission: bool
    trusted_networks: tuple[Network, ...] = ()
    is_unix: bool = False
    """Whether it is a unix socket: whoever may open its file may send."""

    def admits(self, client: str, account: str | None) -> bool:
        """Whether it lets a client send, whatever the rules say."""
        if self.is_unix or (self.submission and account is not None):
            return True
        try:
            address = ip_address(client)
        except ValueError:  # it came over a unix socket, which this listener was then and is not now
            return False
        return any(address in network for network in self.trusted_networks)


@dataclass(frozen=True, slots=True)
class Destination:
    """What one recipient of one message comes to. What `because` says is no part of it: rules may move."""

    kind: Kind
    route: str = ""
    acceptance: str = ""
    primary: str = ""
    copies: tuple[str, ...] = ()
    reply: str = ""
    """Of what is refused; of what is `unheard` or `open`, why it cannot be said."""
    because: str = ""
    """The rule, or what decided instead."""

    def __str__(self) -> str:
        if self.kind == "refused":
            return f"refused: {self.reply}"
        if self.kind != "route":
            return self.reply
        copies = f", copies to {', '.join(self.copies)}" if self.copies else ""
        return f"route {self.route} ({self.acceptance}) to {self.primary}{copies}"

    def is_as(self, other: "Destination") -> bool:
        """Whether mail would fare the same."""
        mine, theirs = asdict(self), asdict(other)
        return all(mine[name] == theirs[name] for name in mine if name != "because")


class Compass:
    """Says of messages where they would go with one configuration. `doors` are its listeners, by name."""

    def __init__(self, router: Router, routes: Routes, doors: Mapping[str, Door]) -> None:
        self._router = router
        self._routes = routes
        self._doors = doors

    def point(self, facts: Facts) -> Destination:
        """Where this would go."""
        door = self._doors.get(facts.listener)
        if door is None:
            return Destination("unheard", reply=f"there is no listener {facts.listener}")
        if facts.account is not None and self._account(facts.account) is None:
            return Destination("refused", reply=f"there is no account {facts.account}")
        if not door.admits(facts.client, facts.account):
            return Destination("refused", reply="the listener does not serve this client")
        if not self._router.may_send_as(facts.account, facts.reverse_path):
            return Destination("refused", reply=str(NOT_OWNED))
        decision = self._router.route(facts)
        if decision.is_open:
            names = ", ".join(route.name for route in decision.possible)
            return Destination("open", reply=f"it depends on the content ({names})", because=decision.because)
        if decision.route is None:
            return Destination("refused", reply=str(decision.reply), because=decision.because)
        return _way(decision.route, door, decision.because)

    def _account(self, name: str) -> Account | None:
        return self._routes.accounts.get(name, self._routes.others)


def _way(route: Route, door: Door, because: str) -> Destination:
    return Destination(
        "route",
        route.name,
        route.acceptance_for(door.submission),
        _named(route.primary),
        tuple(_named(copy.to) + ("" if copy.sample == 1 else f" ({copy.sample:.4g} of them)") for copy in route.copies),
        because=because,
    )


def _named(pool: Pool) -> str:
    names = [member.upstream.name for member in pool.members]
    return names[0] if names == [pool.name] else f"{pool.name} ({pool.strategy}: {', '.join(names)})"
