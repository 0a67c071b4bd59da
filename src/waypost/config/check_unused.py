"""What is configured and never used: mostly a rule or a pool that somebody forgot. Warnings, for it does no harm."""

from waypost.config.errors import Path
from waypost.config.report import Report
from waypost.config.schema import Configuration, NotificationsSection
from waypost.config.schema_sending import RouteSection
from waypost.routing.route import Acceptance


def check(model: Configuration, report: Report) -> None:
    """Warns of upstreams, pools, routes and accounts that no message can come to."""
    wanted = {route.primary for route in model.routes.values()}
    wanted |= {copy.to for route in model.routes.values() for copy in route.copies}
    pooled = {upstream for pool in model.pools.values() for upstream in pool.upstreams}
    for name in model.upstreams:
        if name not in wanted and name not in pooled:
            report.warn(("upstreams", name), "is not used: no pool and no route names it", key=True)
    for name in model.pools:
        if name not in wanted:
            report.warn(("pools", name), "is not used: no route names it", key=True)
    _check_routes(model, report)
    _check_accounts(model, report)
    _check_acceptance(model, report)


def _check_routes(model: Configuration, report: Report) -> None:
    chosen = {rule.route for rule in model.rules} | {account.route for account in model.accounts.values()}
    chosen |= {model.accounts_file.route} if model.accounts_file else set()
    if not model.rules and len(model.routes) == 1:
        return  # the only route is for all mail
    for name in model.routes:
        if name not in chosen:
            report.warn(("routes", name), "is not used: no rule and no account names it", key=True)


def _check_accounts(model: Configuration, report: Report) -> None:
    if not model.accounts and model.accounts_file is None:
        return
    key = "accounts" if model.accounts else "accounts_file"
    submission = [listener for listener in model.listeners if listener.mode == "submission"]
    if not submission:
        text = "are not used: there is no listener with `mode: submission`, and nobody authenticates elsewhere"
        report.warn((key,), text, key=True)
        return
    for listener in submission:
        own = listener.tls.certificate or (model.tls if listener.tls.mode != "off" else None)
        if own or listener.allow_plaintext_auth:
            return
    report.warn(
        (key,),
        "are not used: no listener has TLS, and passwords are not taken without",
        "set `tls`, or `allow_plaintext_auth: true` on a listener",
        key=True,
    )


def _check_acceptance(model: Configuration, report: Report) -> None:
    """Warns of settings that no acceptance mode of their route looks at, and of rates that nothing is held to."""
    paced: set[str] = set()
    notifying = False
    for name, route in model.routes.items():
        modes = _modes(name, route, model, report)
        notifying = notifying or modes != {"pass"}
        paced |= {copy.to for copy in route.copies} | ({route.primary} if modes != {"pass"} else set())
        for key, needed in _LOOKED_AT.items():
            path: Path = ("routes", name, key)
            is_set = getattr(route, key) != RouteSection.model_fields[key].default
            if is_set and modes.isdisjoint(needed):
                default = "" if route.acceptance else f", the default for {_LISTENERS[min(modes)]} listeners"
                text = f"has no effect with `acceptance: {min(modes)}`{default}"
                report.warn(path, text, f"it is for {' and '.join(sorted(needed))}")
        if route.delay_warning >= route.lifetime:
            report.warn(("routes", name, "delay_warning"), "has no effect: it is not before the end of `lifetime`")
    if model.notifications != NotificationsSection() and not notifying:
        text = "has no effect: with `acceptance: pass` on every route nothing is kept that could fail later"
        report.warn(("notifications",), text)
    for pool, section in model.pools.items():
        paced |= set(section.upstreams) if pool in paced else set()
    for name, upstream in model.upstreams.items():
        if upstream.rate is not None and name not in paced:
            text = "has no effect: only deliveries from the spool are paced, and none go to this upstream"
            report.warn(("upstreams", name, "rate"), text)


_LOOKED_AT: dict[str, frozenset[Acceptance]] = {
    "sync_budget": frozenset(("hybrid",)),
    "delay_warning": frozenset(("hybrid", "spool")),
    "in_doubt_hold": frozenset(("pass", "hybrid")),
    "silence": frozenset(("pass", "hybrid")),
}
"""The settings of a route that have a meaning in some acceptance modes only."""
_LISTENERS: dict[Acceptance, str] = {"pass": "relay", "hybrid": "submission"}


def _modes(name: str, route: RouteSection, model: Configuration, report: Report) -> set[Acceptance]:
    """The modes that a route may have: all of them when that has a mistake."""
    if not model.listeners or report.is_lost("listeners") or report.is_lost("routes", name, "acceptance"):
        return {"pass", "hybrid", "spool"}
    if route.acceptance is not None:
        return {route.acceptance}
    return {"hybrid" if listener.mode == "submission" else "pass" for listener in model.listeners}
