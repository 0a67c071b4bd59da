"""Checks of rewriting: that it is for mail that is ours to change, has an effect, and makes mail that is taken."""

from collections.abc import Iterator

from waypost.config import check_listeners
from waypost.config.errors import Path
from waypost.config.report import Report
from waypost.config.schema import Configuration
from waypost.config.schema_rewrite import RewriteSection
from waypost.mail.address_map import SAME, agree


def check(model: Configuration, report: Report) -> None:
    """Reports what is wrong with the rewriting of routes and upstreams."""
    for path, section in _sections(model):
        _check_effect(path, section, report)
        _check_alignment(path, section, report)
        _check_added(path, section, report)
    for name, upstream in model.upstreams.items():
        if upstream.senders and upstream.rewrite is not None and _is_fixed(upstream.rewrite):
            text = "has no effect beside `rewrite`, which gives every message one and the same sender"
            report.problem(("upstreams", name, "senders"), text, "leave one of them out")
    _check_listeners(model, report)


def _sections(model: Configuration) -> Iterator[tuple[Path, RewriteSection]]:
    for name, upstream in model.upstreams.items():
        if upstream.rewrite is not None:
            yield ("upstreams", name, "rewrite"), upstream.rewrite
    for name, route in model.routes.items():
        if route.rewrite is not None:
            yield ("routes", name, "rewrite"), route.rewrite


def _is_fixed(section: RewriteSection) -> bool:
    addresses = section.from_ if section.envelope is None else section.envelope
    first = next(iter(addresses.items()), ("", None))
    return first[0] == "*" and first[1] is not None and first[1].local != SAME


def _check_effect(path: Path, section: RewriteSection, report: Report) -> None:
    if report.is_lost(*path):
        return
    if not (section.from_ or section.envelope or section.sender or section.add or section.remove):
        report.problem(path, "rewrites nothing", "set `from`, for example, or leave it out")
    if section.reply_to != "original" and not section.from_:
        report.problem((*path, "reply_to"), "means nothing without `from`", "leave it out")
    for key, addresses in (("from", section.from_), ("envelope", section.envelope), ("sender", section.sender)):
        patterns = list(addresses or ())
        if "*" in patterns[:-1]:
            behind = patterns[patterns.index("*") + 1]
            report.problem((*path, key, behind), "can never match: the pattern * stands above it", "move it up")


def _check_alignment(path: Path, section: RewriteSection, report: Report) -> None:
    """Receivers compare the domains of reverse-path and From: SPF counts for DMARC only where they agree."""
    if not section.from_ or not section.envelope or report.is_lost(*path):
        return
    authors = [address.domain for address in section.from_.values()]
    for pattern, address in section.envelope.items():
        if not any(agree(address.domain, author) for author in authors):
            where = (*path, "envelope", pattern) if report.given(*path, "envelope", pattern) else (*path, "envelope")
            report.problem(
                where,
                f"{address.domain} is another domain than {authors[0]} in `from`, and receivers want them to agree",
                "use one domain for both, or one below the other",
            )


def _check_added(path: Path, section: RewriteSection, report: Report) -> None:
    seen: set[str] = set()
    for name in section.add:
        if name.lower() in seen:
            report.problem((*path, "add", name), "is there already, in other letters", "write it once")
        seen.add(name.lower())


def _check_listeners(model: Configuration, report: Report) -> None:
    """Rewriting changes what other servers' users wrote, so it is for submission only (RFC 6409 section 8)."""
    routes = {name for name, route in model.routes.items() if route.rewrite is not None}
    upstreams = {name for name, upstream in model.upstreams.items() if upstream.rewrite is not None}
    said: set[Path] = set()
    for index, listener in enumerate(model.listeners) if routes or upstreams else ():
        if listener.mode != "relay":
            continue
        called = check_listeners.called(index, model, report)
        for route in _routes_from(listener.address.text, model):
            found: list[Path] = [("routes", route)] if route in routes else []
            found += [("upstreams", name) for name in _upstreams_of(route, model) if name in upstreams]
            for path in found:
                if path not in said:
                    said.add(path)
                    report.problem(
                        (*path, "rewrite"),
                        f"would change mail from a relay listener ({called}), which is not ours to change",
                        "give that listener a rule with another route",
                    )


def _upstreams_of(route: str, model: Configuration) -> list[str]:
    section = model.routes.get(route)
    pools = [section.primary, *(copy.to for copy in section.copies)] if section else []
    return sorted(
        {name for pool in pools for name in (model.pools[pool].upstreams if pool in model.pools else (pool,))}
    )


def _routes_from(listener: str, model: Configuration) -> list[str]:
    if not model.rules:
        return list(model.routes) if len(model.routes) == 1 else []
    return [rule.route for rule in model.rules if not rule.account and (not rule.listener or listener in rule.listener)]
