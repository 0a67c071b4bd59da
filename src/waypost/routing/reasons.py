"""Why a rule matches or not, in sentences, for `explain`. One rule at a time: nothing here is fast."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from waypost.routing.address_list import AddressList
from waypost.routing.clauses import Layer
from waypost.routing.condition import Condition, FieldPatterns
from waypost.routing.facts import Facts, share_key
from waypost.routing.patterns import NamePatterns
from waypost.routing.route import Rule
from waypost.routing.rules import Router

_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Finding:
    """Whether a condition matches; if it does not, why; and if facts are missing for that (None), which."""

    matched: bool | None
    why: str = ""


_YES = Finding(True)


@dataclass(frozen=True, slots=True)
class RuleJudgement:
    """One rule: whether its conditions match (None: it waits for facts), and why it does not decide."""

    rule: Rule
    matched: bool | None
    why: str


def explain(router: Router, facts: Facts) -> list[RuleJudgement]:
    """Every rule in order: whether it matches, and why it is not the one."""
    decided: Rule | None = None
    judged: list[RuleJudgement] = []
    for rule in router.rules:
        found = judge(rule, facts, router.lists)
        why = found.why if found.matched is not None else f"it waits for {found.why}"
        if found.matched is not False and decided is not None:
            matches = "it matches" if found.matched else f"it might match ({why})"
            why = f"{matches}, but {decided.label or 'an earlier rule'} comes first"
        elif found.matched:
            decided = rule
            why = "it matches, unless one before it does" if any(each.matched is None for each in judged) else ""
        judged.append(RuleJudgement(rule, found.matched, why))
    return judged


def judge(condition: Condition, facts: Facts, lists: Mapping[str, AddressList]) -> Finding:
    """Whether one condition matches. What is certain comes before what is missing."""
    waits: list[str] = []
    for found in _findings(condition, facts, lists):
        if found.matched is False:
            return found
        if found.matched is None:
            waits.append(found.why)
    return Finding(None, " and ".join(dict.fromkeys(waits))) if waits else _YES


def _findings(condition: Condition, facts: Facts, lists: Mapping[str, AddressList]) -> Iterator[Finding]:
    yield from _of_session(condition, facts)
    yield from _of_envelope(condition, facts, lists)
    if condition.hours:
        if facts.now is None:
            yield _missing("the time")
        else:
            held = any(hours.holds(facts.now) for hours in condition.hours)
            yield _if(held, f"the time is not within {_one_of(map(str, condition.hours))}")
    if condition.share is not None:
        key = share_key(facts, condition.share.by)
        if key is None:
            yield _missing("the message's id")
        else:
            yield _if(condition.share.takes(key), f"it is not among the {condition.share}")
    if condition.size is not None:
        if facts.size is None:
            yield _missing("the size")
        else:
            yield _if(condition.size.holds(facts.size), f"a size of {facts.size} octets is not {condition.size}")
    for field in condition.fields:
        yield _of_field(field, facts)
    yield from _nested(condition, facts, lists)


def _of_session(condition: Condition, facts: Facts) -> Iterator[Finding]:
    if condition.listeners:
        right = facts.listener in condition.listeners
        yield _if(right, f"listener {facts.listener} is not {_one_of(sorted(condition.listeners))}")
    if condition.accounts:
        who = f"account {facts.account}" if facts.account is not None else "a client without an account"
        matches = _matches(Condition(accounts=condition.accounts), facts)
        yield _if(matches, f"{who} is not {_one_of(condition.accounts)}")
    if condition.client_networks:
        networks = Condition(client_networks=condition.client_networks)
        where = f"client {facts.client or 'of unknown address'}"
        yield _if(_matches(networks, facts), f"{where} is not in {_one_of(map(str, condition.client_networks))}")
    if condition.helos:
        if facts.helo is None:
            yield _missing("the name in HELO")
        else:
            matches = _matches(Condition(helos=condition.helos), facts)
            yield _if(matches, f"HELO {facts.helo or 'without a name'} is not {_one_of(condition.helos)}")


def _of_envelope(condition: Condition, facts: Facts, lists: Mapping[str, AddressList]) -> Iterator[Finding]:
    if condition.reverse_paths:
        matches = _matches(Condition(reverse_paths=condition.reverse_paths), facts)
        yield _if(matches, f"reverse-path <{facts.reverse_path}> is not {_one_of(condition.reverse_paths)}")
    if condition.reverse_path_files:
        matches = any(facts.reverse_path in lists[name] for name in condition.reverse_path_files)
        yield _if(matches, f"reverse-path <{facts.reverse_path}> is not in {_one_of(condition.reverse_path_files)}")
    if condition.recipients:
        matches = _matches(Condition(recipients=condition.recipients), facts)
        yield _if(matches, f"recipient <{facts.recipient}> is not {_one_of(condition.recipients)}")
    if condition.recipient_files:
        matches = any(facts.recipient in lists[name] for name in condition.recipient_files)
        yield _if(matches, f"recipient <{facts.recipient}> is not in {_one_of(condition.recipient_files)}")


def _of_field(field: FieldPatterns, facts: Facts) -> Finding:
    name = "-".join(word.capitalize() for word in field.name.split("-"))
    if facts.header is None:
        return _missing(f"header field {name}")
    values = facts.header.of(field.name)
    patterns = NamePatterns([field.patterns])
    if not values:
        return Finding(False, f"there is no header field {name}")
    if any(patterns.mask(value) for value in values):
        return _YES
    shown = values[0] if len(values[0]) <= _SHOWN else values[0][:_SHOWN] + "..."
    more = f" (and {len(values) - 1} more)" if len(values) > 1 else ""
    return Finding(False, f"header field {name}, {printable(shown)!r}{more}, is not {_one_of(field.patterns)}")


def _nested(condition: Condition, facts: Facts, lists: Mapping[str, AddressList]) -> Iterator[Finding]:
    for each in condition.all_of:
        yield judge(each, facts, lists)
    if condition.any_of:
        yield _any_of([judge(each, facts, lists) for each in condition.any_of])
    if condition.unless is not None:
        found = judge(condition.unless, facts, lists)
        if found.matched:
            yield Finding(False, "what is under `not` matches")
        else:
            yield _YES if found.matched is False else found


def _any_of(findings: Sequence[Finding]) -> Finding:
    if any(found.matched for found in findings):
        return _YES
    waits = [found.why for found in findings if found.matched is None]
    if waits:
        return Finding(None, " or ".join(dict.fromkeys(waits)))
    return Finding(False, f"none under `any` matches: {'; '.join(found.why for found in findings)}")


def _matches(condition: Condition, facts: Facts) -> bool:
    return Layer([condition], {}).mask(facts, 1, False) != 0


def _if(matches: bool, why: str) -> Finding:
    return _YES if matches else Finding(False, why)


def _missing(what: str) -> Finding:
    return Finding(None, what)


def printable(text: str) -> str:
    """A value from a message with nothing in it that a terminal would act on."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _one_of(names: Iterable[str]) -> str:
    return " or ".join(names)
