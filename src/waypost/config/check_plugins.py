"""Checks of plugins: that each can be loaded, as far as that can be told without running it, and is asked."""

from waypost.config.errors import Path
from waypost.config.report import Report
from waypost.config.schema import Configuration
from waypost.config.schema_plugins import PluginSection
from waypost.plugins.kinds import KINDS

LEAST_MEMORY = 32 * 1024 * 1024
"""Octets below which hardly a program starts."""


def check(model: Configuration, report: Report) -> None:
    """Reports plugins that cannot be loaded, or that nobody asks."""
    for name, plugin in model.plugins.items():
        _check_plugin(name, plugin, report)
    asked: set[str] = set()
    for name, pool in model.pools.items():
        if pool.plugin is None or report.is_lost("pools", name, "plugin"):
            continue
        asked.add(pool.plugin)
        known = report.names("plugins")
        if pool.plugin not in known:
            report.unknown(("pools", name, "plugin"), f"there is no plugin {pool.plugin[:60]!r}", pool.plugin, known)
    for name in model.plugins:
        if name not in asked:
            report.warn(("plugins", name), "is not used: no pool names it", "set `plugin` of a pool", key=True)


def _check_plugin(name: str, plugin: PluginSection, report: Report) -> None:
    here: Path = ("plugins", name)
    if any(report.is_lost(*here, kind) for kind in KINDS):
        return
    if len(plugin.kinds) != 1:
        said = f"cannot be {' and '.join(plugin.kinds)} at once" if plugin.kinds else "does not say what it is"
        report.problem(here, said, f"set one of {', '.join(KINDS)}", key=True)
        return
    kind = plugin.kinds[0]
    fault = KINDS[kind].fault(plugin.definition(name))
    if fault is not None:
        report.problem((*here, kind), fault)
    if plugin.memory < LEAST_MEMORY and not report.is_lost(*here, "memory"):
        report.problem((*here, "memory"), "is less than a program needs to start", "give it 32MB or more")
