"""Checks of quotas, and of what strategies go by: that what is set can have an effect."""

from waypost.config.errors import Path
from waypost.config.report import Report
from waypost.config.schema import Configuration
from waypost.config.schema_sending import PoolSection, UpstreamSection
from waypost.routing.quota import SECONDS


def check(model: Configuration, report: Report) -> None:
    """Reports quotas that contradict each other, and settings that no strategy looks at."""
    for name, upstream in model.upstreams.items():
        _check_quotas(name, upstream, report)
    for name, pool in model.pools.items():
        _check_pool(name, pool, model, report)
    _check_costs(model, report)


def _check_quotas(name: str, upstream: UpstreamSection, report: Report) -> None:
    here: Path = ("upstreams", name, "quota")
    if report.is_lost(*here):
        return
    seen: dict[str, int] = {}
    for index, section in enumerate(upstream.quota):
        if section.window == "rolling" and section.time_zone is not None:
            text = "means nothing to a rolling window, which has no midnight"
            report.problem((*here, index, "time_zone"), text, "set `window: calendar`, or leave it out")
        quota = section.value
        if quota.key in seen:
            report.problem(
                (*here, index),
                f"there is a quota of {quota.of} per {quota.per} already",
                "the smaller of the two is enough",
            )
        seen[quota.key] = quota.limit
        for other in upstream.quota[:index]:
            less = min(section, other, key=lambda each: SECONDS[each.per])
            more = other if less is section else section
            if less.of == more.of and SECONDS[less.per] < SECONDS[more.per] and less.limit >= more.limit:
                text = f"has no effect: {more.limit} per {more.per} are spent before {less.limit} per {less.per}"
                report.warn((*here, upstream.quota.index(less)), text)


def _check_pool(name: str, pool: PoolSection, model: Configuration, report: Report) -> None:
    here: Path = ("pools", name)
    if report.is_lost(*here, "strategy"):
        return
    if pool.sticky_by != "recipient" and pool.strategy != "sticky":
        report.problem((*here, "sticky_by"), f"means nothing to the strategy {pool.strategy}", "set `strategy: sticky`")
    members = [model.upstreams[member] for member in pool.upstreams if member in model.upstreams]
    if pool.strategy == "least_loaded" and not any(member.quota or member.warm_up for member in members):
        report.warn((*here, "strategy"), "none of its upstreams has a `quota`, so each is tried in turn")
    if pool.strategy == "cheapest" and len({member.cost for member in members}) == 1 and len(members) > 1:
        report.warn((*here, "strategy"), "all of its upstreams have the same `cost`")


def _check_costs(model: Configuration, report: Report) -> None:
    compared = {member for pool in model.pools.values() if pool.strategy == "cheapest" for member in pool.upstreams}
    for name, upstream in model.upstreams.items():
        if upstream.cost and name not in compared:
            text = "has no effect: no pool of this upstream has `strategy: cheapest`"
            report.warn(("upstreams", name, "cost"), text)


def warn_of_memory(model: Configuration, report: Report) -> None:
    """There is no spool, and so nowhere to remember what was sent."""
    for name, upstream in model.upstreams.items():
        for key, is_set in (("quota", upstream.quota), ("warm_up", upstream.warm_up)):
            if is_set:
                text = "is counted in memory only, and begins anew with every start: there is no spool"
                report.warn(("upstreams", name, key), text, "set `spool`")
                return
