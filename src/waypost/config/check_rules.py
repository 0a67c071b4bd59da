"""Checks of rules: what they name, the lists that they look into, and those that nothing can reach."""

from collections.abc import Iterator, Sequence
from typing import Any

from waypost.config.errors import Path
from waypost.config.lists import read_list
from waypost.config.report import Report
from waypost.config.schema import Configuration
from waypost.config.schema_rules import ConditionSection, RuleSection, conditions_of
from waypost.routing.address_list import AddressList, ListError


def check(model: Configuration, report: Report) -> None:
    """Says what is wrong with the rules' conditions; the lists that are right are in `report.lists` afterwards."""
    for index, rule in enumerate(model.rules):
        for path, condition in _parts(("rules", index), rule):
            _check_names(path, condition, model, report)
            _check_lists(path, condition, report)
            _check_condition(path, condition, model, report)
        if rule.name is not None and rule.name in [other.name for other in model.rules[:index]]:
            report.warn(("rules", index, "name"), f"{rule.name[:60]!r} is the name of an earlier rule, too")
    whole = [not report.is_lost("rules", index) for index in range(len(model.rules))]
    for index, earlier in _unreachable(model.rules, whole):
        # Where the other one stands is said in the words of the file.
        place = report.place(("rules", earlier))
        report.problem(("rules", index), f"can never match: the rule at {place} takes all that it would", "move it up")


def _parts(path: Path, condition: ConditionSection) -> Iterator[tuple[Path, ConditionSection]]:
    """A condition and all that is nested in it, with their paths in the model."""
    yield path, condition
    for key, nested in (("all", condition.all), ("any", condition.any)):
        for number, each in enumerate(nested):
            yield from _parts((*path, key, number), each)
    if condition.not_ is not None:
        yield from _parts((*path, "not"), condition.not_)


def _check_names(here: Path, condition: ConditionSection, model: Configuration, report: Report) -> None:
    listeners = [listener.address.text for listener in model.listeners]
    for number, address in enumerate(condition.listener):
        if not report.is_lost("listeners") and not report.is_absent("listeners") and address not in listeners:
            text = f"there is no listener {address[:60]!r}"
            report.unknown((*here, "listener", number), text, address, tuple(listeners))
    for number, account in enumerate(condition.account):
        known = report.names("accounts")
        if report.is_absent("accounts") or report.given("accounts_file"):  # whose names come and go
            continue
        if not any(mark in account for mark in "*?") and account.lower() not in map(str.lower, known):
            report.unknown((*here, "account", number), f"there is no account {account[:60]!r}", account, known)


def _check_lists(here: Path, condition: ConditionSection, report: Report) -> None:
    for key, files in (
        ("recipient_file", condition.recipient_file),
        ("reverse_path_file", condition.reverse_path_file),
    ):
        for number, file in enumerate(files):
            if file not in report.lists:
                report.lists[file] = _read(file, (*here, key, number), report)


def _read(file: str, path: Path, report: Report) -> AddressList:
    try:
        found = read_list(file)
    except ListError as error:
        for line in error.lines:
            report.problem(path, f"{file}:{line.number}: {line.why}")
        return AddressList()
    except OSError as error:
        report.problem(path, f"{file} cannot be read: {error.strerror}", "make it, one address or domain a line")
        return AddressList()
    except ValueError:
        report.problem(path, f"{file[:60]!r} cannot be the name of a file")
        return AddressList()
    if not found.count:
        report.warn(path, f"{file} has no entries, so nothing is in it")
    return found


def _check_condition(here: Path, condition: ConditionSection, model: Configuration, report: Report) -> None:
    is_nested = len(here) > 2
    empty = [key for key in _LISTS if not getattr(condition, key) and report.given(*here, key)]
    if is_nested and not conditions_of(condition) and not empty and not report.is_lost(*here):
        report.problem(here, "has no conditions in it, so it lets everything through", "take it out")
    for key in empty:
        if not report.is_lost(*here, key):
            report.problem(
                (*here, key), "is empty, so it lets everything through", "take it out, or say what it asks for"
            )
    lower = [name.lower() for name in condition.header]
    for number, name in enumerate(condition.header):
        if name.lower() in lower[:number]:
            report.problem((*here, "header", name), "is there already, in other letters", "write a list of patterns")
        elif not condition.header[name] and not report.is_lost(*here, "header", name):
            report.problem((*here, "header", name), "must not be empty", 'write "*" to ask whether it is there')
    if condition.percent is not None and not condition.percent.value and not report.is_lost(*here, "percent"):
        report.warn((*here, "percent"), "takes nothing")
    over = 0 if condition.size is None else condition.size.over or 0
    most = max((listener.limits.message_size or model.limits.message_size for listener in model.listeners), default=0)
    if over and over >= most > 0 and not report.is_lost("limits") and not report.is_lost("listeners"):
        text = f"never matches: no listener takes messages of more than {most} octets (`message_size`)"
        report.warn((*here, "size"), text)


_SETS = (
    "listener",
    "account",
    "client_network",
    "helo",
    "reverse_path",
    "reverse_path_file",
    "recipient",
    "recipient_file",
)
_LISTS = (*_SETS, "time", "header", "all", "any")
_Condition = frozenset[str]


def _unreachable(rules: Sequence[RuleSection], whole: Sequence[bool]) -> Iterator[tuple[int, int]]:
    """The rules that can never match, each with an earlier one that takes all that it would.

    Rules that are not `whole` have lost conditions, from which nothing follows.

    An earlier rule is looked for under the first condition that it has: comparing all with all would make the
    check of a thousand rules slow.
    """
    earlier: dict[tuple[int, str], list[int]] = {}
    seen: list[tuple[_Condition, ...]] = []
    for index, rule in enumerate(rules):
        if not whole[index]:
            seen.append(())
            continue
        conditions = (*(_condition(rule, name) for name in _SETS), *_others(rule))
        keys = [(-1, ""), *((number, word) for number, words in enumerate(conditions) for word in sorted(words)[:1])]
        for candidate in sorted(number for key in keys for number in earlier.get(key, ())):
            if all(
                not ours or (theirs and theirs <= ours)
                for ours, theirs in zip(seen[candidate], conditions, strict=True)
            ):
                yield index, candidate
                break
        first = next((number for number, words in enumerate(conditions) if words), -1)
        for word in conditions[first] if first >= 0 else ("",):
            earlier.setdefault((first, word), []).append(index)
        seen.append(conditions)


def _condition(rule: RuleSection, name: str) -> _Condition:
    """What one condition asks for, as text; nothing when it lets everything through."""
    words = frozenset(map(str, getattr(rule, name)))
    return frozenset() if "*" in words and name in ("reverse_path", "recipient", "helo") else words


def _others(rule: RuleSection) -> Iterator[_Condition]:
    """The conditions that are compared as a whole: one that is not the same may be anything."""
    given = conditions_of(rule)
    for name in ("time", "size", "header", "percent", "all", "any", "not"):
        value: Any = given.get(name)
        if name == "percent" and rule.percent is not None:
            salt = rule.percent.salt or rule.name or rule.route
            value = None if rule.percent.value == 100 else (rule.percent.value, rule.percent.by, salt)
        elif name in ("all", "any", "not") and value and any("percent" in str(part) for part in (value,)):
            value = (value, rule.name or rule.route)  # which salts the shares in it
        yield frozenset() if not value else frozenset((repr(value),))
