"""The conditions of all rules, compiled so that a thousand cost microseconds.

Bit *n* of a mask stands for rule *n*. Each kind of condition answers for all rules at once, mostly with one look into
a dict, and a kind that no rule has is not there. What nests is cut into layers: the first alternative of every rule's
`any` is one layer, the second another, and so on; a layer answers like the rules themselves, and masks of layers are
joined by `&`, `|` and `~`. So rules of the same form cost as much as one of them, whatever their number.

What is not known yet counts as matching when the answer is to be `generous`, else as not matching; `unless` turns
that round. Rules that match even so, or do not match even so, are certain (Kleene's three-valued logic).
"""

from collections.abc import Callable, Mapping, Sequence
from ipaddress import IPv6Address, ip_address

from waypost.routing.address_list import AddressList
from waypost.routing.condition import Condition, Network, SizeRange, TrafficShare
from waypost.routing.facts import Facts, share_key
from waypost.routing.hours import Hours
from waypost.routing.patterns import AddressPatterns, NamePatterns
from waypost.smtp.address import Address

Test = Callable[[Facts, int, bool], int]
"""The rules that match, among others perhaps: facts, the rules that matter, whether to be generous."""

Conditions = Sequence[Condition | None]
"""One for each rule; None where a rule has none at this place."""

_ANY = Condition()
_REMEMBERED = 4096  # clients whose rules are known without asking again


class Layer:
    """One place in the conditions of many rules. `lists` may change under it."""

    __slots__ = ("_all_of", "_any_of", "_asks_any", "_tests", "_unless")

    def __init__(self, conditions: Conditions, lists: Mapping[str, AddressList]) -> None:
        given = [condition or _ANY for condition in conditions]
        self._tests = _tests(given, lists)
        self._all_of = [Layer(column, lists) for column in _columns([each.all_of for each in given])]
        self._any_of = [(_present(c), Layer(c, lists)) for c in _columns([each.any_of for each in given])]
        self._asks_any = _present([each.any_of or None for each in given])
        denied = [each.unless for each in given]
        self._unless = (_present(denied), Layer(denied, lists)) if any(denied) else None

    def mask(self, facts: Facts, mask: int, generous: bool) -> int:
        """Which rules of `mask` match here."""
        for test in self._tests:
            mask &= test(facts, mask, generous)
            if not mask:
                return 0
        for layer in self._all_of:
            mask = layer.mask(facts, mask, generous)
        if mask & self._asks_any:
            found = mask & ~self._asks_any
            for present, layer in self._any_of:
                found |= layer.mask(facts, mask & present & ~found, generous)
            mask = found
        if self._unless is not None:
            present, layer = self._unless
            mask &= ~layer.mask(facts, mask & present, not generous)
        return mask


def _columns(rows: Sequence[Sequence[Condition]]) -> list[Conditions]:
    """The first of every rule, the second of every rule, and so on."""
    width = max(map(len, rows), default=0)
    return [[row[place] if place < len(row) else None for row in rows] for place in range(width)]


def _present(conditions: Sequence[object]) -> int:
    return sum(1 << number for number, each in enumerate(conditions) if each is not None)


def _tests(conditions: Sequence[Condition], lists: Mapping[str, AddressList]) -> list[Test]:
    """One test for each kind of condition that there is, cheap and selective ones first."""
    tests: list[Test] = []
    if any(each.listeners or each.accounts or each.client_networks for each in conditions):
        tests.append(_Clients(conditions))
    if any(each.recipients for each in conditions):
        recipients = AddressPatterns(each.recipients for each in conditions)
        tests.append(lambda facts, wanted, generous: recipients.mask(facts.recipient, wanted))
    if any(each.reverse_paths for each in conditions):
        paths = AddressPatterns(each.reverse_paths for each in conditions)
        tests.append(lambda facts, wanted, generous: paths.mask(facts.reverse_path, wanted))
    if any(each.helos for each in conditions):
        helos = NamePatterns(each.helos for each in conditions)
        tests.append(
            lambda facts, wanted, generous: (
                wanted if generous and facts.helo is None else helos.mask(facts.helo, wanted)
            )
        )
    if any(each.recipient_files for each in conditions):
        known = _Lists([each.recipient_files for each in conditions], lists)
        tests.append(lambda facts, wanted, generous: known.mask(facts.recipient, wanted))
    if any(each.reverse_path_files for each in conditions):
        senders = _Lists([each.reverse_path_files for each in conditions], lists)
        tests.append(lambda facts, wanted, generous: senders.mask(facts.reverse_path, wanted))
    if any(each.hours for each in conditions):
        tests.append(_Times(conditions))
    if any(each.size for each in conditions):
        tests.append(_Sizes(conditions))
    if any(each.share for each in conditions):
        tests.append(_Shares(conditions))
    for name in dict.fromkeys(field.name for each in conditions for field in each.fields):
        tests.append(_Values(name, conditions))
    return tests


class _Clients:
    """Listener, account and network: remembered, for they stay the same in a session, and clients come again."""

    def __init__(self, conditions: Sequence[Condition]) -> None:
        self._accounts = NamePatterns(each.accounts for each in conditions)
        self._networks: dict[Network | None, int] = {None: 0}
        self._listeners: dict[str, int] = {}
        self._any_listener = 0
        for number, each in enumerate(conditions):
            for network in each.client_networks or (None,):
                self._networks[network] = self._networks.get(network, 0) | 1 << number
            for listener in each.listeners:
                self._listeners[listener] = self._listeners.get(listener, 0) | 1 << number
            if not each.listeners:
                self._any_listener |= 1 << number
        self._known: dict[tuple[str, str | None, str], int] = {}

    def __call__(self, facts: Facts, wanted: int, generous: bool) -> int:
        key = (facts.listener, facts.account, facts.client)
        mask = self._known.get(key)
        if mask is None:
            mask = self._accounts.mask(facts.account) & self._of_network(facts.client)
            mask &= self._any_listener | self._listeners.get(facts.listener, 0)
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[key] = mask
        return mask

    def _of_network(self, client: str) -> int:
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


class _Lists:
    def __init__(self, names: Sequence[tuple[str, ...]], lists: Mapping[str, AddressList]) -> None:
        self._lists = lists
        self._free = 0
        self._bits: dict[str, int] = {}
        for number, wanted in enumerate(names):
            if not wanted:
                self._free |= 1 << number
            for name in wanted:
                self._bits[name] = self._bits.get(name, 0) | 1 << number

    def mask(self, address: Address, wanted: int) -> int:
        mask = self._free
        for name, bits in self._bits.items():
            if bits & wanted and address in self._lists[name]:
                mask |= bits
        return mask


class _Times:
    """Asked anew once a minute: no offset of a time zone has had seconds since 1972."""

    def __init__(self, conditions: Sequence[Condition]) -> None:
        self._free = 0
        self._bits: dict[Hours, int] = {}
        for number, each in enumerate(conditions):
            if not each.hours:
                self._free |= 1 << number
            for hours in each.hours:
                self._bits[hours] = self._bits.get(hours, 0) | 1 << number
        self._last = (-1, 0)

    def __call__(self, facts: Facts, wanted: int, generous: bool) -> int:
        if facts.now is None:
            return wanted if generous else self._free
        minute = int(facts.now // 60)
        last, mask = self._last
        if minute != last:
            mask = self._free
            for hours, bits in self._bits.items():
                if hours.holds(facts.now):
                    mask |= bits
            self._last = (minute, mask)
        return mask


class _Sizes:
    def __init__(self, conditions: Sequence[Condition]) -> None:
        self._free = _present([None if each.size else each for each in conditions])
        self._bits: dict[SizeRange, int] = {}
        for number, each in enumerate(conditions):
            if each.size:
                self._bits[each.size] = self._bits.get(each.size, 0) | 1 << number

    def __call__(self, facts: Facts, wanted: int, generous: bool) -> int:
        if facts.size is None:
            return wanted if generous else self._free
        mask = self._free
        for size, bits in self._bits.items():
            if bits & wanted and size.holds(facts.size):
                mask |= bits
        return mask


class _Shares:
    """Hashing is dear: only rules that everything else has left are asked, and each share once."""

    def __init__(self, conditions: Sequence[Condition]) -> None:
        self._free = _present([None if each.share else each for each in conditions])
        self._shares = [each.share for each in conditions]
        self._bits: dict[TrafficShare, int] = {}
        for number, share in enumerate(self._shares):
            if share is not None:
                self._bits[share] = self._bits.get(share, 0) | 1 << number

    def __call__(self, facts: Facts, wanted: int, generous: bool) -> int:
        mask = self._free
        left = wanted & ~mask
        while left:
            share = self._shares[(left & -left).bit_length() - 1]
            assert share is not None  # noqa: S101  # the others are free
            bits = self._bits[share]
            left &= ~bits
            key = share_key(facts, share.by)
            if generous if key is None else share.takes(key):
                mask |= bits
        return mask


class _Values:
    """The header fields of one name."""

    def __init__(self, name: str, conditions: Sequence[Condition]) -> None:
        self._name = name
        wanted = [tuple(p for f in each.fields if f.name == name for p in f.patterns) for each in conditions]
        self._free = _present([None if patterns else each for patterns, each in zip(wanted, conditions, strict=True)])
        self._patterns = NamePatterns(wanted)

    def __call__(self, facts: Facts, wanted: int, generous: bool) -> int:
        if facts.header is None:
            return wanted if generous else self._free
        mask = self._free
        if wanted & ~mask:
            for value in facts.header.of(self._name):
                mask |= self._patterns.mask(value, wanted & ~mask)
        return mask
