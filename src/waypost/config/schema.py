"""The schema of the native form: listeners, accounts, and all the rest. The descriptions are the manual."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, WithJsonSchema

from waypost.config.database import is_address
from waypost.config.fields import (
    AccountName,
    BoundAddress,
    Count,
    DatabaseUrl,
    Duration,
    DurationOrOff,
    File,
    Flag,
    Folder,
    HostName,
    Mailbox,
    Name,
    Network,
    Peers,
    Permissions,
    Section,
    Short,
    Size,
    StandIn,
    TcpAddress,
    Words,
    listed,
    one_of,
    one_word,
    peers,
)
from waypost.config.schema_accounts import AccountSection, AccountsFileSection, ClientCertificates, MechanismField
from waypost.config.schema_plugins import PluginSection
from waypost.config.schema_replies import ReplySection
from waypost.config.schema_rewrite import DkimSection
from waypost.config.schema_rules import RuleSection
from waypost.config.schema_sending import PoolSection, ProtocolField, RouteSection, UpstreamSection
from waypost.config.schema_tls import ListenerTls, TlsSection
from waypost.config.settings import JournalSettings, LogSettings, NoticeSettings, Settings, SpoolSettings
from waypost.net.settings import Limits, ListenerSettings, LoginLimits, SessionTimeouts
from waypost.routing.route import Routes

_LIMITS = Limits()
_LISTENER = ListenerSettings("", "", 0, "relay")
_LOGIN = LoginLimits()
_TIMEOUTS = SessionTimeouts()
_LOG = LogSettings()
_SPOOL = SpoolSettings()
_JOURNAL = JournalSettings()
_NOTICES = NoticeSettings()
_SETTINGS = Settings("", (), Routes((), {}, {}), {}, {}, spool=None, admin=None)


class ListenerLimits(Section):
    """Limits of one listener, where they differ from `limits`."""

    connections: Count | None = Field(None, description="As `limits.connections`.")
    connections_per_address: Count | None = Field(None, description="As `limits.connections_per_address`.")
    recipients: Count | None = Field(None, description="As `limits.recipients`.")
    message_size: Size | None = Field(None, description="As `limits.message_size`.")
    line_length: Size | None = Field(None, description="As `limits.line_length`.")
    errors: Count | None = Field(None, description="As `limits.errors`.")


class ListenerTimeouts(Section):
    """Time-outs of one listener, where they differ from `timeouts`."""

    command: Duration | None = Field(None, description="As `timeouts.command`.")
    content: Duration | None = Field(None, description="As `timeouts.content`.")
    handshake: Duration | None = Field(None, description="As `timeouts.handshake`.")


class ListenerSection(Section):
    """An address where clients connect."""

    address: Annotated[BoundAddress, StandIn(":0")] = Field(
        description="`host:port`. Without a host (`:2525`) it is every interface; IPv6 stands in brackets, "
        "`[::1]:2525`, and `[::]:2525` is IPv6 only. Or `unix:/path` for a socket on this machine: whoever may open "
        "its file (`socket_mode`) may send, like a client in a trusted network. It is also the listener's name."
    )
    protocol: ProtocolField = Field(
        "smtp",
        description="`smtp`; or `lmtp` (RFC 2033), in which the client is answered for each recipient once it has sent "
        "the content. Not on port 25.",
    )
    socket_mode: Permissions = Field(
        _LISTENER.socket_mode,
        description="Permissions of the socket's file, for `unix:/path`. The folder must be there, and its permissions "
        "count too.",
    )
    mode: Annotated[
        Literal["submission", "relay"],
        one_of("submission", "relay"),
        WithJsonSchema({"type": "string", "enum": ["submission", "relay"]}),
        Words("`submission` or `relay`"),
        StandIn("submission"),
    ] = Field(
        description="`submission` is for applications: clients authenticate as one of the `accounts`, unless they "
        "are in a trusted network. `relay` is for mail servers: clients must be in a trusted network."
    )
    tls: Annotated[
        ListenerTls,
        one_word("mode", "the mode", "auto", "starttls", "implicit", "off"),
    ] = Field(ListenerTls(), description="`implicit`, `starttls` or `off`, or a mapping with a certificate of its own.")
    trusted_networks: Annotated[tuple[Network, ...], listed("network")] = Field(
        (),
        description="Clients that may send without authenticating. A relay listener without any trusts this machine "
        "only (`127.0.0.0/8` and `::1/128`).",
    )
    proxy_protocol: Annotated[tuple[Peers, ...], peers()] = Field(
        (),
        description="Peers, such as HAProxy or a load balancer, whose connections begin with a PROXY header of version "
        "1 or 2 that says who the client is. Everything else, `trusted_networks` included, is then about that client. "
        "A peer in these networks that sends no header is not served, and neither is any other that sends one. `true`, "
        "or `trusted` in the list, is for the `trusted_networks`.",
    )
    xclient: Annotated[tuple[Peers, ...], peers()] = Field(
        (),
        description="Clients, such as another mail server or nginx in front, that may say by Postfix's command XCLIENT "
        "who the client is, account (LOGIN) included: they are believed. Written like `proxy_protocol`.",
    )
    allow_plaintext_auth: Flag = Field(
        False, description="Whether clients may authenticate without TLS, their password readable on the way."
    )
    allow_open_relay: Flag = Field(
        False,
        description="Whether `trusted_networks` may be the whole internet, so that anybody can send mail to anybody.",
    )
    mechanisms: Annotated[tuple[MechanismField, ...], listed("mechanism")] = Field(
        (),
        description="What AUTH offers: `plain`, `login`, `scram-sha-256`, `external`. Without any: `plain`, `login`, "
        "`scram-sha-256` where every account can use it, and `external` to clients whose certificate is an account's.",
    )
    client_certificates: ClientCertificates | None = Field(
        None, description="Whether clients are asked for a TLS certificate, and which are taken."
    )
    limits: ListenerLimits = Field(ListenerLimits(), description="Limits that differ from the common ones.")
    timeouts: ListenerTimeouts = Field(ListenerTimeouts(), description="Time-outs that differ from the common ones.")


class SpoolSection(Section):
    """Where mail is kept that Waypost has answered for. At most one of `path`, `url` and `url_file` is set."""

    path: Folder | None = Field(
        None,
        description="A folder on a disk of this machine. When a spool is needed and none is set: `$STATE_DIRECTORY` "
        "(systemd sets it), else `/var/lib/waypost` if it can be written, else `$XDG_STATE_HOME/waypost`, else "
        "`~/.local/state/waypost`. It is needed for copies, and for every route that is not `pass`.",
    )
    url: DatabaseUrl | None = Field(
        None,
        description="A PostgreSQL database, version 15 or later, which several Waypost instances may share: "
        "`postgresql://user@host/database`. It needs the Python package asyncpg. It may have a password in it, but "
        "`url_file` is safer.",
    )
    url_file: File | None = Field(None, description="A file with `url`; one line end at its end is left out.")
    allow_temporary: Flag = Field(
        _SPOOL.allow_temporary,
        description="Whether the folder may be on a file system that is lost when the machine or container stops.",
    )
    keep_dead: Duration = Field(
        _SPOOL.keep_dead, description="How long dead letters are kept, before they are removed for good."
    )


def _folder_or_database(value: Any) -> Any:
    return {"url" if is_address(value) else "path": value} if isinstance(value, str) else value


class JournalSection(Section):
    """What is remembered of each message and of each attempt to deliver it, for `waypost trace`."""

    keep: DurationOrOff = Field(
        _JOURNAL.keep,
        description="How long; `off` is no journal. It is with the spool, in its folder or database.",
    )


class NotificationsSection(Section):
    """What senders are told of messages that were accepted and could not be delivered (DSNs, RFC 3464)."""

    sender: Mailbox | None = Field(
        None, description="The address in their From field. Default: `MAILER-DAEMON` at the `hostname`."
    )
    per_hour: Count = Field(
        _NOTICES.per_hour,
        description="Notifications to one address in an hour, at most; the messages beyond become dead letters.",
    )


class AdminSection(Section):
    """The HTTP address for `/livez`, `/readyz` and `/metrics`."""

    address: TcpAddress = Field(description="`host:port` to listen on, for example `127.0.0.1:8025`.")


class LogSection(Section):
    """What is written to standard output."""

    format: Annotated[
        Literal["auto", "json", "console"],
        one_of("auto", "json", "console"),
        WithJsonSchema({"type": "string", "enum": ["auto", "json", "console"]}),
        Words("`auto` or `json` or `console`"),
    ] = Field(_LOG.format, description="`json`, `console` (for people), or `auto`: JSON unless on a terminal.")
    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        one_of("debug", "info", "warning", "error"),
        WithJsonSchema({"type": "string", "enum": ["debug", "info", "warning", "error"]}),
        Words("`debug` or `info` or `warning` or `error`"),
    ] = Field(_LOG.level, description="The least level of operational records. Mail events are always written.")


class LoginSection(Section):
    """How fast passwords may be guessed. An IPv6 network of 64 bits is one client address."""

    failures: Count = Field(
        _LOGIN.failures,
        description="Failed attempts of one client address, or for one account, before more are answered later: "
        "after half a second, then twice as long each time.",
    )
    longest_delay: Duration = Field(
        _LOGIN.longest_delay,
        description="The longest of these delays. Who would have to wait for more than two of them, behind others, "
        "is told 454 at once.",
    )
    forget: Duration = Field(_LOGIN.forget, description="How long after the last failure all are forgotten.")


class LimitsSection(Section):
    """What listeners bear. A listener can have limits of its own."""

    connections: Count = Field(_LIMITS.connections, description="Connections of one listener at the same time.")
    connections_per_address: Count = Field(
        _LIMITS.connections_per_address, description="Connections from one client address at the same time."
    )
    recipients: Count = Field(_LIMITS.recipients, description="Recipients of one message.")
    message_size: Size = Field(_LIMITS.message_size, description="Octets of one message.")
    line_length: Size = Field(_LIMITS.line_length, description="Octets of one line of content.")
    errors: Count = Field(_LIMITS.errors, description="Wrong commands in one session; then it is closed.")
    login: LoginSection = Field(LoginSection(), description="How fast passwords may be guessed.")
    spill_size: Size = Field(
        _SETTINGS.spill_size,
        description="A message larger than this is kept in a temporary file, not in memory.",
    )
    max_received: Count = Field(
        _SETTINGS.max_received, description="A message with more Received fields than this is in a loop."
    )


class TimeoutsSection(Section):
    """How long clients may be silent. A listener can have time-outs of its own."""

    command: Duration = Field(_TIMEOUTS.command, description="Until the next command.")
    content: Duration = Field(_TIMEOUTS.content, description="Until the next octets of content.")
    handshake: Duration = Field(_TIMEOUTS.handshake, description="For the TLS handshake.")


REQUIRED = ("listeners", "upstreams", "routes")
"""What must be there. `check` asks for it, so that a mistake in the only listener does not hide all others."""


class Configuration(Section):
    """The whole configuration."""

    model_config = ConfigDict(json_schema_extra={"required": list(REQUIRED)})

    hostname: HostName | None = Field(
        None, description="The name in the greeting, in EHLO and in Received. Default: the name of this machine."
    )
    listeners: tuple[ListenerSection, ...] = Field((), description="Where clients connect.")
    tls: TlsSection | None = Field(None, description="The certificate of all listeners that have none of their own.")
    accounts: dict[AccountName, AccountSection] = Field({}, description="Who may submit, by user name.")
    accounts_file: AccountsFileSection | None = Field(
        None, description="More accounts, in a file that other programs write. It is read again when it changes."
    )
    upstreams: dict[Name, UpstreamSection] = Field({}, description="The SMTP servers to which mail is handed, by name.")
    replies: tuple[ReplySection, ...] = Field(
        (),
        description="What refusals of upstreams mean, where the rules that are built in, or those of a `preset`, do "
        "not know or are wrong. An upstream can have `replies` of its own, which come before these.",
    )
    pools: dict[Name, PoolSection] = Field({}, description="Several upstreams under one name.")
    plugins: dict[Name, PluginSection] = Field(
        {}, description="Programs and functions that choose among the upstreams of a pool, by name."
    )
    routes: dict[Name, RouteSection] = Field(
        {},
        description="What happens to mail, by name. One route without any rules is for all mail.",
    )
    rules: tuple[RuleSection, ...] = Field(
        (),
        description="Which route a message takes. The first rule that matches decides; when none does, the account's "
        "`route`; mail that has neither is refused.",
    )
    spool: Annotated[
        SpoolSection,
        Short(_folder_or_database, {"type": "string"}, "folder or `postgresql://...`", ("path", "url")),
    ] = Field(
        SpoolSection(),
        description="Where mail is kept that Waypost has answered for and not delivered yet: a folder, or a PostgreSQL "
        "database.",
    )
    journal: Annotated[
        JournalSection,
        Short(
            lambda value: {"keep": value} if isinstance(value, str) else value,
            {"anyOf": [{"type": ["string", "number"]}, {"const": False}]},
            "duration or `off`",
            ("keep",),
        ),
    ] = Field(JournalSection(), description="What is remembered of messages that have gone.")
    notifications: NotificationsSection = Field(
        NotificationsSection(), description="What senders are told of messages that could not be delivered (DSNs)."
    )
    dkim: tuple[DkimSection, ...] = Field(
        (),
        description="The keys with which mail of submission listeners is signed (DKIM), by the domain of its author, "
        "if the account may send as that author; and what Waypost itself writes. It needs the Python package "
        "cryptography.",
    )
    admin: AdminSection | None = Field(
        None, description="HTTP for health checks and metrics; without it there is none."
    )
    log: LogSection = Field(LogSection(), description="What is written to standard output.")
    limits: LimitsSection = Field(LimitsSection(), description="What listeners bear.")
    timeouts: TimeoutsSection = Field(TimeoutsSection(), description="How long clients may be silent.")
    shutdown_timeout: Duration = Field(
        _SETTINGS.shutdown_timeout,
        description="After SIGTERM, how long transactions that have begun may take to end.",
    )
