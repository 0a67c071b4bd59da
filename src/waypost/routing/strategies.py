"""In which order the upstreams of a pool are tried for one message.

The first one gets the message, the others are for failover. Upstreams that are open or asleep come last whatever
the strategy says, the one that is expected back first at their head: when all are, the best is tried anyway by itself.

Strategies only ever choose among the upstreams that may be tried, so a turn is never spent on a dead one, and its
neighbour does not get twice its share.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from waypost.routing.health import Health
from waypost.routing.route import Member, Pool, StrategyName

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

    def __call__(self, pool: Pool, members: Sequence[Member], turns: Turns, random: Random) -> Sequence[Member]:
        """The members in order, each once."""


def order(pool: Pool, turns: Turns, health: Mapping[str, Health], now: float, random: Random) -> Sequence[Member]:
    """The order for one message, and a turn taken. Upstreams without an entry in `health` are healthy."""
    awake, rest = _divided(pool, health, now)
    if len(awake) > 1:
        awake = _STRATEGIES[pool.strategy](pool, awake, turns, random)
    return (*awake, *rest) if rest else awake


def explain(pool: Pool, turns: Turns, health: Mapping[str, Health], now: float, random: Random) -> Ordering:
    """What `order` would return now, with reasons. Takes no turn; `random` is chance and will fall otherwise."""
    awake, rest = _divided(pool, health, now)
    if len(awake) > 1:
        awake = _STRATEGIES[pool.strategy](pool, awake, turns.copy(), random)
    places = [Place(member, _reason(pool, member, place, len(awake))) for place, member in enumerate(awake)]
    for place, member in enumerate(rest):
        anyway = "tried anyway, because no other is better" if not awake and place == 0 else "only after all others"
        places.append(Place(member, f"{anyway}: {health[member.upstream.name].describe(now)}"))
    return Ordering(tuple(places))


def _divided(pool: Pool, health: Mapping[str, Health], now: float) -> tuple[Sequence[Member], Sequence[Member]]:
    """The members that may be tried, in the pool's order, and the others, those back first at their head."""
    awake: list[Member] = []
    rest: list[Member] = []
    for member in pool.members:
        known = health.get(member.upstream.name)
        (awake if known is None or known.may_try(now) else rest).append(member)
    rest.sort(key=lambda member: health[member.upstream.name].back_at(now))
    return awake, rest


def _ordered(pool: Pool, members: Sequence[Member], turns: Turns, random: Random) -> Sequence[Member]:
    return members


def _round_robin(pool: Pool, members: Sequence[Member], turns: Turns, random: Random) -> Sequence[Member]:
    """The one after the last first one, in the pool's order, and the others as they follow."""
    names = [member.upstream.name for member in pool.members]
    after = names.index(turns.last) + 1 if turns.last in names else 0
    awake = {member.upstream.name for member in members}
    turned = [m for m in (*pool.members[after:], *pool.members[:after]) if m.upstream.name in awake]
    turns.last = turned[0].upstream.name
    return turned


def _weighted(pool: Pool, members: Sequence[Member], turns: Turns, random: Random) -> Sequence[Member]:
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


def _random(pool: Pool, members: Sequence[Member], turns: Turns, random: Random) -> Sequence[Member]:
    """Every order equally likely (Fisher and Yates)."""
    shuffled = list(members)
    for last in range(len(shuffled) - 1, 0, -1):
        other = int(random() * (last + 1))
        shuffled[last], shuffled[other] = shuffled[other], shuffled[last]
    return shuffled


_STRATEGIES: dict[StrategyName, Strategy] = {
    "ordered": _ordered,
    "round_robin": _round_robin,
    "weighted": _weighted,
    "random": _random,
}


def _reason(pool: Pool, member: Member, place: int, awake: int) -> str:
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
