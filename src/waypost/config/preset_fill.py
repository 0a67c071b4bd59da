"""Puts what a preset knows into the configuration, wherever the user has written nothing, with its source as origin."""

import re

from waypost.config.document import Data, Tree
from waypost.config.errors import Origin, Path, Problem, did_you_mean
from waypost.config.preset import Preset, preset, preset_names

_UNKNOWN = "unknown.invalid:25"  # stands in for an address, whose absence is the least that is wrong
_ONLY_BESIDE = frozenset(("auth", "oauth2"))  # for who has written some of it: nobody has credentials by preset


def fill(tree: Tree) -> list[Problem]:
    """Fills the upstreams of `tree` that name a preset; what is wrong with their presets and regions."""
    problems: list[Problem] = []
    upstreams = tree.get(("upstreams",))
    for name, section in upstreams.items() if isinstance(upstreams, dict) else ():
        if not isinstance(section, dict):
            continue
        here: Path = ("upstreams", name)
        chosen = section.get("preset")
        if isinstance(chosen, str) and chosen in preset_names():
            problems += _fill(tree, here, section, preset(chosen))
        elif chosen is not None:
            _put(tree, (*here, "address"), _UNKNOWN, tree.place((*here, "preset")))
        elif section.get("region") is not None:
            problems.append(tree.problem((*here, "region"), "means nothing without a `preset`", "leave it out"))
    return problems


def _fill(tree: Tree, here: Path, section: dict[str, Data], chosen: Preset) -> list[Problem]:
    problems = []
    host = _host(tree, here, section, chosen)
    if isinstance(host, Problem):
        problems.append(host)
        host = None
    port, mode = next(iter(chosen.ports.items()))
    _put(tree, (*here, "address"), f"{host}:{port}" if host else _UNKNOWN, chosen.origin("address"))
    written = re.fullmatch(r".*:([0-9]{1,5})", str(section["address"]), re.ASCII)
    if written is not None:
        mode = chosen.ports.get(int(written[1]), mode)
    _put(tree, (*here, "tls"), {"mode": mode}, chosen.origin("tls"))
    for key, value in chosen.settings.items():
        _put(tree, (*here, key), value, chosen.origin(key))
    _add_replies(tree, (*here, "replies"), chosen)
    return problems


def _host(tree: Tree, here: Path, section: dict[str, Data], chosen: Preset) -> str | Problem | None:
    """The provider's host in the region that was asked for, or what is wrong with that."""
    region = section.get("region")
    path = (*here, "region")
    if region is not None and not isinstance(region, str):
        return None  # which the schema says
    if region is not None and section.get("address") is not None:
        return tree.problem(path, "means nothing beside `address`", "leave one of them out")
    if chosen.host_pattern is not None:
        if region is None:
            advice = f"write `region: {chosen.region_example}`, or whichever is yours, or `address`"
            return (
                tree.problem((*here, "preset"), f"{chosen.name} needs a region", advice) if _is_asked(section) else None
            )
        if re.fullmatch(chosen.region_pattern, region, re.ASCII) is None:
            advice = f"write it like {chosen.region_example}"
            return tree.problem(path, f"{region[:40]!r} is not a region of {chosen.title}", advice)
        return chosen.host_pattern.format(region=region)
    if region is None:
        return next(iter(chosen.hosts.values()))
    if not chosen.regions:
        return tree.problem(path, f"means nothing to the preset {chosen.name}, which has no regions", "leave it out")
    if region not in chosen.hosts:
        advice = did_you_mean(region, chosen.regions)
        return tree.problem(path, f"{chosen.title} has no region {region[:40]!r}", advice)
    return chosen.hosts[region]


def _is_asked(section: dict[str, Data]) -> bool:
    return section.get("address") is None


def _put(tree: Tree, path: Path, value: Data, origin: Origin) -> None:
    """Sets what is not there yet; into a mapping that is there, what it lacks."""
    present = tree.get(path)
    if isinstance(value, dict):
        if (present is None and path[-1] in _ONLY_BESIDE) or not (present is None or isinstance(present, dict)):
            return
        for key, below in value.items():
            if key == "mechanism" and isinstance(present, dict) and present.get("oauth2") is not None:
                continue  # it is one for passwords
            _put(tree, (*path, key), below, origin)
    elif present is None:
        tree.put(path, value, origin)
        for index in range(len(value)) if isinstance(value, list) else ():
            tree.mark((*path, index), origin)


def _add_replies(tree: Tree, path: Path, chosen: Preset) -> None:
    """The preset's rules go behind the user's; `build` puts the common ones in between."""
    rules = tree.get(path)
    if rules is None:
        rules = []
        if chosen.replies:
            tree.put(path, rules, chosen.origin("replies"))
    if not isinstance(rules, list):
        return
    for rule in chosen.replies:
        here = (*path, len(rules))
        rules.append(dict(rule))
        origin = chosen.origin(str(rule["name"]))
        tree.mark(here, origin)
        for key in rule:
            tree.mark((*here, key), origin)
