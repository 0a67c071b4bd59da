"""The whole configuration as plain values: what `waypost.config` hands to the composition root."""

from dataclasses import dataclass, field
from typing import Literal

from waypost.mail.dkim import DEFAULT_HEADERS
from waypost.mail.dkim_canonical import Canonical
from waypost.net.settings import AccountsFile, ListenerSettings, LoginLimits
from waypost.plugins.port import Definition
from waypost.routing.route import Pool, Routes, Upstream
from waypost.smtp.sasl import Secret


@dataclass(frozen=True, slots=True)
class AdminSettings:
    """The HTTP address for health checks and metrics."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class SpoolSettings:
    """Where mail is kept that is ours: a folder, or a PostgreSQL database (`postgresql://...`)."""

    path: str | None = None
    url: str | None = field(default=None, repr=False)  # it may contain a password
    allow_temporary: bool = False
    """Whether the folder may be on a file system that is lost when the machine stops."""
    keep_dead: float = 30 * 86400
    """Seconds after which a dead letter is removed."""


@dataclass(frozen=True, slots=True)
class JournalSettings:
    """What is remembered of messages after they have gone. `keep` is in seconds; 0 is no journal."""

    keep: float = 30 * 86400


@dataclass(frozen=True, slots=True)
class NoticeSettings:
    """Delivery status notifications: who sends them, and how many an address gets in an hour at most."""

    sender: str = ""  # address of their From field; empty: MAILER-DAEMON at the hostname
    per_hour: int = 20


@dataclass(frozen=True, slots=True)
class LogSettings:
    """`auto` is JSON unless standard output is a terminal. `level` is for operational records, not for mail."""

    format: Literal["auto", "json", "console"] = "auto"
    level: Literal["debug", "info", "warning", "error"] = "info"


@dataclass(frozen=True, slots=True)
class DkimSettings:
    """One key and what it signs. `key` is a private key in PEM."""

    domain: str
    selector: str
    key: Secret
    headers: tuple[str, ...] = DEFAULT_HEADERS
    header_form: Canonical = "relaxed"
    body_form: Canonical = "relaxed"
    subdomains: bool = False


@dataclass(frozen=True, slots=True)
class Settings:
    """One configuration, checked as a whole."""

    hostname: str
    listeners: tuple[ListenerSettings, ...]
    routes: Routes
    upstreams: dict[str, Upstream]
    pools: dict[str, Pool]  # every upstream is also a pool of its own name
    spool: SpoolSettings | None  # None when no route needs one and none is configured
    admin: AdminSettings | None
    log: LogSettings = LogSettings()
    journal: JournalSettings = JournalSettings()
    notices: NoticeSettings = NoticeSettings()
    accounts_file: AccountsFile | None = None
    dkim: tuple[DkimSettings, ...] = ()
    login: LoginLimits = field(default_factory=LoginLimits)
    plugins: dict[str, Definition] = field(default_factory=dict)
    spill_size: int = 1024 * 1024
    max_received: int = 100
    shutdown_timeout: float = 8
    warnings: tuple[str, ...] = ()
    """What is said on every start: an old format, an open relay that was asked for."""
