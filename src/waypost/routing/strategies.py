"""In which order the upstreams of a pool are tried for one message.

The first one gets the message, the others are for failover. Upstreams that are open or asleep come last whatever
the strategy says, the one that is expected back first at their head: when all are, the best is tried anyway by itself.

Strategies only ever choose among the upstreams that may be tried, so a turn is never spent on a dead one, and its
neighbour does not get twice its share. One whose quota is spent comes behind those that may be tried, and one that
does not send for this reverse-path not at all, unless that is so with every one.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import log
from typing import Protocol

from waypost.routing.health import Health
from waypost.routing.route import Member, Pool, StrategyName
from waypost.routing.standing import NOTHING, UNKNOWN, Facts, Standing
from waypost.smtp.address import Address

Random = Callable[[], float]
"""Yields numbers from 0 up to, but not including, 1."""


@dataclass(slots=True)
class Turns:
    """What a strategy remembers of one pool between messages. By name, so it stays true over a reload."""

    last: str = ""
    credit: dict[str, int] = field(default_factory=dict)

    def copy(self) -> "Turns":
        """The same, to look ahead without taking a turn."""
        return Turns(self.last, dict(self.credit))


@dataclass(frozen=True, slots=True)
class Place:
    """An upstream's place in the order, and why it has it."""

    member: Member
    reason: str


@dataclass(frozen=True, slots=True)
class Ordering:
    """An order that explains itself."""

    places: tuple[Place, ...]

    @property
    def members(self) -> tuple[Member, ...]:
        """The order without its reasons."""
        return tuple(place.member for place in self.places)


class Strategy(Protocol):
    """Puts some members of a pool, at least two, into an order and records in `turns` whose turn it was."""

    def __call__(
        self, pool: Pool, members: Sequence[Member], turns: Turns, random: Random, facts: Facts
    ) -> Sequence[Member]:
        """The members in order, each once."""


def order(
    pool: Pool,
    turns: Turns,
    health: Mapping[str, Health],
    now: float,
    random: Random,
    facts: Facts = NOTHING,
) -> Sequence[Member]:
    """The order for one message, and a turn taken. Upstreams without an entry in `health` are healthy."""
    awake, rest = _divided(pool, health, now, facts)
    if len(awake) > 1:
        awake = _STRATEGIES[pool.strategy](pool, awake, turns, random, facts)
    return (*awake, *rest) if rest else awake


def explain(
    pool: Pool,
    turns: Turns,
    health: Mapping[str, Health],
    now: float,
    random: Random,
    facts: Facts = NOTHING,
) -> Ordering:
    """What `order` would return now, with reasons. Takes no turn; `random` is chance and will fall otherwise."""
    awake, rest = _divided(pool, health, now, facts)
    if len(awake) > 1:
        awake = _STRATEGIES[pool.strategy](pool, awake, turns.copy(), random, facts)
    places = [Place(member, _reason(pool, member, place, len(awake), facts)) for place, member in enumerate(awake)]
    for place, member in enumerate(rest):
        name = member.upstream.name
        if name in facts.spent:
            places.append(Place(member, f"only when there is room again: {facts.spent[name][1]}"))
            continue
        anyway = "tried anyway, because no other is better" if not awake and place == 0 else "only after all others"
        places.append(Place(member, f"{anyway}: {health[name].describe(now)}"))
    return Ordering(tuple(places))


def _divided(
    pool: Pool, health: Mapping[str, Health], now: float, facts: Facts
) -> tuple[Sequence[Member], Sequence[Member]]:
    """The members that may be tried, in the pool's order, and the others, those back first at their head.

    Behind them all, for they would only say no, are those whose quota is spent.
    """
    awake: list[Member] = []
    rest: list[Member] = []
    spent: list[Member] = []
    members: Sequence[Member] = pool.members
    if facts.strange:
        members = [member for member in members if member.upstream.name not in facts.strange] or members
    for member in members:
        name = member.upstream.name
        known = health.get(name)
        if name in facts.spent:
            spent.append(member)
        else:
            (awake if known is None or known.may_try(now) else rest).append(member)
    rest.sort(key=lambda member: health[member.upstream.name].back_at(now))
    if spent:
        rest += sorted(spent, key=lambda member: facts.spent[member.upstream.name][0])
    return awake, rest


def _ordered(pool: Pool, members: Sequence[Member], turns: Turns, random: Random, facts: Facts) -> Sequence[Member]:
    return members


def _round_robin(pool: Pool, members: Sequence[Member], turns: Turns, random: Random, facts: Facts) -> Sequence[Member]:
    """The one after the last first one, in the pool's order, and the others as they follow."""
    names = [member.upstream.name for member in pool.members]
    after = names.index(turns.last) + 1 if turns.last in names else 0
    awake = {member.upstream.name for member in members}
    turned = [m for m in (*pool.members[after:], *pool.members[:after]) if m.upstream.name in awake]
    turns.last = turned[0].upstream.name
    return turned


def _weighted(pool: Pool, members: Sequence[Member], turns: Turns, random: Random, facts: Facts) -> Sequence[Member]:
    """Smooth weighted round robin: everyone gains its weight, the richest goes first and pays for all.

    Not by chance: shares are exact over every round, the heavy ones do not come in bursts, and `explain` can say
    who is next. The others follow by weight. A weight of 0 is for failover only.
    """
    total = sum(member.weight for member in members)
    credit = {m.upstream.name: turns.credit.get(m.upstream.name, 0) + m.weight for m in members}
    first = max(members, key=lambda member: (member.weight > 0, credit[member.upstream.name]))
    credit[first.upstream.name] -= total
    turns.credit.update(credit)
    others = sorted((m for m in members if m is not first), key=lambda member: -member.weight)
    return (first, *others)


def _random(pool: Pool, members: Sequence[Member], turns: Turns, random: Random, facts: Facts) -> Sequence[Member]:
    """Every order equally likely (Fisher and Yates)."""
    shuffled = list(members)
    for last in range(len(shuffled) - 1, 0, -1):
        other = int(random() * (last + 1))
        shuffled[last], shuffled[other] = shuffled[other], shuffled[last]
    return shuffled


def _least_used(pool: Pool, members: Sequence[Member], turns: Turns, random: Random, facts: Facts) -> Sequence[Member]:
    """The one with the fewest connections at work; among equals each in turn, so that nobody is always first."""
    return sorted(_round_robin(pool, members, turns, random, facts), key=lambda m: _standing(m, facts).in_flight)


def _least_loaded(
    pool: Pool, members: Sequence[Member], turns: Turns, random: Random, facts: Facts
) -> Sequence[Member]:
    """The one that has used the smallest share of its quota."""
    return sorted(_round_robin(pool, members, turns, random, facts), key=lambda m: _standing(m, facts).load)


def _fastest(pool: Pool, members: Sequence[Member], turns: Turns, random: Random, facts: Facts) -> Sequence[Member]:
    """The one where a message is through soonest; one that was never measured is, to be measured."""
    return sorted(_round_robin(pool, members, turns, random, facts), key=lambda m: _standing(m, facts).expected)


def _cheapest(pool: Pool, members: Sequence[Member], turns: Turns, random: Random, facts: Facts) -> Sequence[Member]:
    """By cost, and where that is the same by the share of quota used, and then by the pool's order."""
    return sorted(members, key=lambda member: (member.upstream.cost, _standing(member, facts).load))


def _sticky(pool: Pool, members: Sequence[Member], turns: Turns, random: Random, facts: Facts) -> Sequence[Member]:
    """The same upstream for the same key, by weight (rendezvous hashing).

    Every upstream draws a number for the key, and the highest wins: so when one leaves only its own keys move, to
    whoever was second for them, and when it is back they return.
    """
    return sorted(members, key=lambda member: -_draw(facts.key, member))


def sticky_key(pool: Pool, reverse_path: Address, recipient: Address, account: str | None) -> str:
    """What keeps a message with its upstream; what has no account or sender has a place as well."""
    if pool.strategy != "sticky":
        return ""
    match pool.sticky_by:
        case "account":
            return account or ""
        case "sender":
            return reverse_path.key.lower()
        case _:
            return recipient.key.lower()


def _draw(key: str, member: Member) -> float:
    text = f"{member.upstream.name}\0{key}".encode("utf-8", "surrogateescape")
    number = int.from_bytes(hashlib.blake2b(text, digest_size=7).digest(), "big")
    return member.weight / -log((number + 1) / (2**56 + 2))


def _standing(member: Member, facts: Facts) -> Standing:
    return facts.standings.get(member.upstream.name, UNKNOWN)


_STRATEGIES: dict[StrategyName, Strategy] = {
    "ordered": _ordered,
    "round_robin": _round_robin,
    "weighted": _weighted,
    "random": _random,
    "least_used": _least_used,
    "least_loaded": _least_loaded,
    "fastest": _fastest,
    "cheapest": _cheapest,
    "sticky": _sticky,
}


def _reason(pool: Pool, member: Member, place: int, awake: int, facts: Facts) -> str:
    if awake == 1:
        return "the only one in the pool" if len(pool.members) == 1 else "the only one that may be tried"
    match pool.strategy:
        case "ordered":
            return f"number {pool.members.index(member) + 1} in the pool"
        case "round_robin":
            return "its turn" if place == 0 else "follows in turn"
        case "weighted":
            share = f"weight {member.weight} of {sum(m.weight for m in pool.members)}"
            return f"its turn, {share}" if place == 0 else share
        case "random":
            return "by chance"
        case "sticky":
            return f"{'has' if place == 0 else 'is next for'} this {pool.sticky_by}, {facts.key or 'none'}"
        case "cheapest":
            return f"{member.upstream.cost:g} a message" + _of_facts("load", member, facts)
        case name:
            return _BY_FACTS[name] + (_of_facts(name, member, facts) or ", which only the running Waypost knows")


_BY_FACTS: dict[str, str] = {
    "least_used": "by connections at work",
    "least_loaded": "by the share of quota used",
    "fastest": "by the time that a message takes",
}


def _of_facts(what: str, member: Member, facts: Facts) -> str:
    """What is known of it; nothing when nothing is."""
    known = facts.standings.get(member.upstream.name)
    if known is None:
        return ""
    match what:
        case "least_used":
            return f": {known.in_flight}"
        case "fastest":
            failing = f", {known.errors:.0%} of attempts fail" if known.errors >= 0.005 else ""
            return ": not measured yet" if known.latency is None else f": {known.latency * 1000:.0f} ms{failing}"
        case _:
            return f", {known.load:.0%} of its quota used"
