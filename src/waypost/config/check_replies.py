"""Checks of rules on replies: that each can match something, and that what it makes of it is possible."""

from collections.abc import Sequence

from waypost.config.errors import Path
from waypost.config.report import Report
from waypost.config.schema import Configuration
from waypost.config.schema_replies import FINAL, OF_THE_MESSAGE, ReplySection
from waypost.mail.outcome import Phase
from waypost.routing.failover import TRANSACTION


def check(model: Configuration, report: Report) -> None:
    """Reports rules that make no sense."""
    _check_rules(("replies",), model.replies, report)
    for name, upstream in model.upstreams.items():
        _check_rules(("upstreams", name, "replies"), upstream.replies, report)


def _check_rules(here: Path, rules: Sequence[ReplySection], report: Report) -> None:
    for index, rule in enumerate(rules):
        path: Path = (*here, index)
        if report.is_lost(*path):
            continue
        _check_rule(path, rule, report)
        if any(_same(rule, earlier) for earlier in rules[:index]):
            report.warn(path, "has no effect: a rule above it matches the same")


def _check_rule(path: Path, rule: ReplySection, report: Report) -> None:
    if not (rule.code or rule.enhanced or rule.text):
        report.problem(path, "matches every refusal", "set `code`, `enhanced` or `text`")
    soft = [code for code in rule.code if code[0] == "4"]
    if rule.means in FINAL and soft:
        text = f"{soft[0]} is a refusal for now, which cannot mean {rule.means}"
        report.problem((*path, "code"), text, "write 5yz codes, or `means: transient`")
    classes = {code[0] for code in rule.code} or ({"5"} if rule.means in FINAL else {"4", "5"})
    for number, enhanced in enumerate(rule.enhanced):
        if enhanced[0] not in (*classes, "x"):
            text = f"{enhanced} does not come with a {'/'.join(sorted(classes))}yz code"
            report.problem((*path, "enhanced", number), text, "give both the same first digit")
    if rule.means in OF_THE_MESSAGE:
        for number, phase in enumerate(rule.phase):
            if Phase(phase) not in TRANSACTION:
                text = f"{phase} is before any message, so {rule.means} makes no sense there"
                report.problem((*path, "phase", number), text, "write `means: unavailable`, `login` or `quota`")
    if rule.sleep is not None and rule.means != "quota":
        report.problem((*path, "sleep"), f"means nothing to `means: {rule.means}`", "it is for `quota`")


def _same(one: ReplySection, other: ReplySection) -> bool:
    return (one.code, one.enhanced, one.text, one.phase) == (other.code, other.enhanced, other.text, other.phase)
