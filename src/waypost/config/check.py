"""Checks over the whole: what no single value can tell. Names, pools and routes are here.

Listeners, upstreams, rules and files have modules of their own (`check_listeners`, `check_rules`, `check_upstreams`).
"""

from collections.abc import Sequence

from waypost.config import (
    check_accounts,
    check_dkim,
    check_listeners,
    check_logins,
    check_plugins,
    check_quotas,
    check_replies,
    check_rewrite,
    check_rules,
    check_unused,
    check_upstreams,
)
from waypost.config.document import Tree
from waypost.config.errors import Path
from waypost.config.report import Report
from waypost.config.schema import REQUIRED, Configuration
from waypost.config.schema_sending import PoolSection, RouteSection
from waypost.config.validate import Validated
from waypost.smtp.sasl import Secret


def check(validated: Validated[Configuration], tree: Tree, hostname: str) -> tuple[Report, dict[Path, Secret]]:
    """Every mistake and every warning, and the passwords by the path of their account or upstream.

    `hostname` is our own name, when the configuration has none.
    """
    report = Report(validated, tree)
    model = validated.model
    secrets: dict[Path, Secret] = {}
    if model is None:
        return report, secrets
    for section in REQUIRED:
        if validated.is_misspelt((section,)):
            continue
        if not report.given(section):
            report.problem((section,), "is required")
        elif not tree.get((section,)):
            report.problem((section,), "must not be empty")
    _check_hostname(model, report, hostname)
    check_listeners.check(model, report)
    check_upstreams.check(model, report, model.hostname or hostname)
    secrets |= check_logins.check(model, report)
    secrets |= check_accounts.secrets(model, report)
    check_accounts.check(model, report)
    for name, pool in model.pools.items():
        _check_pool(name, pool, report)
    for name, route in model.routes.items():
        _check_route(name, route, report)
    for name, account in model.accounts.items():
        if account.route is not None:
            _refer(report, ("accounts", name, "route"), account.route, ("routes",), "route")
    if model.accounts_file is not None and model.accounts_file.route is not None:
        _refer(report, ("accounts_file", "route"), model.accounts_file.route, ("routes",), "route")
    for index, rule in enumerate(model.rules):
        _refer(report, ("rules", index, "route"), rule.route, ("routes",), "route")
    check_rules.check(model, report)
    _check_everything_has_a_route(model, report)
    check_rewrite.check(model, report)
    secrets |= check_dkim.check(model, report)
    check_unused.check(model, report)
    check_quotas.check(model, report)
    check_replies.check(model, report)
    check_plugins.check(model, report)
    return report, secrets


def _check_hostname(model: Configuration, report: Report, own_name: str) -> None:
    if report.is_lost("hostname") or "." in (model.hostname or own_name).strip(".") or "[" in (model.hostname or ""):
        return
    why = "has no dot, and many servers refuse such a name in EHLO"
    if model.hostname is None:
        text, advice = f"is not set, and {own_name}, the name of this machine, {why}", "set `hostname` to its full name"
    else:
        text, advice = f"{model.hostname!r} {why}", "write the full name"
    report.warn(("hostname",), text, f"{advice}, like mail.example.com")


def _refer(report: Report, path: Path, name: str, sections: Sequence[str], what: str) -> None:
    """Reports a name that none of the `sections` has."""
    known = tuple(name for section in sections for name in report.names(section))
    if name in known or report.is_lost(*path) or any(map(report.is_absent, sections)):
        return
    report.unknown(path, f"there is no {what} {name[:60]!r}", name, known)


def _check_pool(name: str, pool: PoolSection, report: Report) -> None:
    here: Path = ("pools", name)
    if name in report.names("upstreams"):
        report.problem(here, "is the name of an upstream too, and every upstream is a pool of its own name", key=True)
    for upstream, weight in pool.upstreams.items():
        _refer(report, (*here, "upstreams", upstream), upstream, ("upstreams",), "upstream")
        if weight != 1 and pool.strategy not in ("weighted", "sticky") and not report.is_lost(*here, "strategy"):
            report.problem(
                (*here, "upstreams", upstream),
                f"a weight means nothing to the strategy {pool.strategy}",
                "set `strategy: weighted`, or leave the weight out",
            )


def _check_route(name: str, route: RouteSection, report: Report) -> None:
    here: Path = ("routes", name)
    _refer(report, (*here, "primary"), route.primary, ("pools", "upstreams"), "pool or upstream")
    seen: set[str] = set()
    for index, copy in enumerate(route.copies):
        path: Path = (*here, "copies", index, "to")
        _refer(report, path, copy.to, ("pools", "upstreams"), "pool or upstream")
        if report.is_lost(*path):
            continue
        if copy.to in seen:
            report.problem(path, f"{copy.to!r} gets a copy already", "each target is listed once")
        elif copy.to == route.primary:
            report.warn(path, f"{copy.to} is the primary and gets a copy, so it gets every message twice")
        seen.add(copy.to)


def _check_everything_has_a_route(model: Configuration, report: Report) -> None:
    if model.rules or report.given("rules") or len(model.routes) < 2:
        return
    without = [f"the account {name}" for name, account in model.accounts.items() if account.route is None]
    if model.accounts_file is not None and model.accounts_file.route is None:
        without.append("accounts of the accounts file")
    open_to_networks = [
        check_listeners.called(index, model, report)
        for index, listener in enumerate(model.listeners)
        if listener.mode == "relay" or listener.trusted_networks or listener.address.is_unix
    ]
    if without:
        whose = without[0]
    elif open_to_networks:
        whose = f"clients of {open_to_networks[0]}"
    else:
        return
    report.problem(
        ("routes",),
        f"there are several, and nothing says which is for mail from {whose}",
        "add `rules`; one without conditions, as the last, is for all that is left",
        key=True,
    )
