"""The whole configuration as plain values: what `waypost.config` hands to the composition root."""

from dataclasses import dataclass
from typing import Literal

from waypost.net.settings import ListenerSettings
from waypost.routing.route import Pool, Routes, Upstream


@dataclass(frozen=True, slots=True)
class AdminSettings:
    """The HTTP address for health checks and metrics."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class LogSettings:
    """`auto` is JSON unless standard output is a terminal. `level` is for operational records, not for mail."""

    format: Literal["auto", "json", "console"] = "auto"
    level: Literal["debug", "info", "warning", "error"] = "info"


@dataclass(frozen=True, slots=True)
class Settings:
    """One configuration, checked as a whole."""

    hostname: str
    listeners: tuple[ListenerSettings, ...]
    routes: Routes
    upstreams: dict[str, Upstream]
    pools: dict[str, Pool]  # every upstream is also a pool of its own name
    spool_path: str | None  # None when no route has copies and no spool is configured
    admin: AdminSettings | None
    log: LogSettings = LogSettings()
    spill_size: int = 1024 * 1024
    max_received: int = 100
    shutdown_timeout: float = 8
    warnings: tuple[str, ...] = ()
    """What is said on every start: an old format, an open relay that was asked for."""
