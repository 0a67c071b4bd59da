"""What is configured and never used: mostly a rule or a pool that somebody forgot. Warnings, for it does no harm."""

from waypost.config.report import Report
from waypost.config.schema import Configuration


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


def _check_routes(model: Configuration, report: Report) -> None:
    chosen = {rule.route for rule in model.rules} | {account.route for account in model.accounts.values()}
    if not model.rules and len(model.routes) == 1:
        return  # the only route is for all mail
    for name in model.routes:
        if name not in chosen:
            report.warn(("routes", name), "is not used: no rule and no account names it", key=True)


def _check_accounts(model: Configuration, report: Report) -> None:
    if not model.accounts:
        return
    submission = [listener for listener in model.listeners if listener.mode == "submission"]
    if not submission:
        text = "are not used: there is no listener with `mode: submission`, and nobody authenticates elsewhere"
        report.warn(("accounts",), text, key=True)
        return
    for listener in submission:
        own = listener.tls.certificate or (model.tls if listener.tls.mode != "off" else None)
        if own or listener.allow_plaintext_auth:
            return
    report.warn(
        ("accounts",),
        "are not used: no listener has TLS, and passwords are not taken without",
        "set `tls`, or `allow_plaintext_auth: true` on a listener",
        key=True,
    )
