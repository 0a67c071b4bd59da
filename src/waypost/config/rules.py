"""From the sections of rules to the values that routing works on."""

from typing import Any

from waypost.config.schema_rules import ConditionSection, RuleSection
from waypost.routing.condition import Condition, FieldPatterns, TrafficShare
from waypost.routing.route import Rule


def rule_of(section: RuleSection, origin: str) -> Rule:
    """The rule that a section describes. `origin` is where it stands."""
    salt = section.name or section.route
    return Rule(section.route, section.name or "", origin, **_conditions(section, salt))


def _condition(section: ConditionSection, salt: str) -> Condition:
    return Condition(**_conditions(section, salt))


def _conditions(section: ConditionSection, salt: str) -> dict[str, Any]:
    percent = section.percent
    return {
        "listeners": frozenset(section.listener),
        "accounts": section.account,
        "client_networks": section.client_network,
        "helos": section.helo,
        "reverse_paths": section.reverse_path,
        "reverse_path_files": section.reverse_path_file,
        "recipients": section.recipient,
        "recipient_files": section.recipient_file,
        "hours": tuple(window.value for window in section.time),
        "share": None if percent is None else TrafficShare(percent.value, percent.by, percent.salt or salt),
        "size": section.size,
        "fields": tuple(FieldPatterns(name.lower(), patterns) for name, patterns in section.header.items()),
        "all_of": tuple(_condition(each, salt) for each in section.all),
        "any_of": tuple(_condition(each, salt) for each in section.any),
        "unless": None if section.not_ is None else _condition(section.not_, salt),
    }
