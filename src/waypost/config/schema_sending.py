"""The schema of where mail goes: upstreams, pools, routes and rules. The descriptions are the manual."""

from typing import Annotated, Any, Literal, get_args

from pydantic import ConfigDict, Field

from waypost.config import values
from waypost.config.errors import WrongValueError
from waypost.config.fields import (
    AddressGlob,
    Cost,
    Count,
    Duration,
    DurationOrOff,
    Flag,
    Name,
    Rate,
    Reference,
    Section,
    Share,
    Short,
    Spread,
    StandIn,
    Text,
    UpstreamAddress,
    choice,
    listed,
    one_word,
)
from waypost.config.preset import preset_names
from waypost.config.schema_login import Auth
from waypost.config.schema_probe import ProbeSection
from waypost.config.schema_quota import QuotaSection, WarmUpSection, quota_parts
from waypost.config.schema_replies import ReplySection
from waypost.config.schema_rewrite import Rewriting
from waypost.config.schema_tls import UpstreamTls
from waypost.routing.route import (
    BACKGROUND,
    Acceptance,
    Backoff,
    ClientAddress,
    InDoubtPolicy,
    Pool,
    Route,
    StickyBy,
    StrategyName,
    Timeouts,
    Upstream,
)

_AT_ONCE = Timeouts()
_UPSTREAM = Upstream(name="", host="", port=25)
_BACKOFF = Backoff()
_ROUTE = Route(name="", primary=Pool(name="", members=()))


StrategyField = Annotated[StrategyName, *choice(*get_args(StrategyName))]
StickyField = Annotated[StickyBy, *choice(*get_args(StickyBy))]
InDoubtField = Annotated[InDoubtPolicy, *choice("tempfail", "retry-same", "failover", "assume-sent")]
AcceptanceField = Annotated[Acceptance, *choice("pass", "hybrid", "spool")]
ProtocolField = Annotated[Literal["smtp", "lmtp"], *choice("smtp", "lmtp")]
ClientAddressField = Annotated[ClientAddress, *choice("proxy-v1", "proxy-v2", "xclient", "xforward")]


PHASES = ("connect", "greeting", "command", "data", "block", "dot")


def _for_all_phases(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    values.duration(value)
    return dict.fromkeys(PHASES, value)


def _for_all_phases_in_the_background(value: Any) -> Any:
    """As above, but giving up on a final reply may mean sending again: the RFC's ten minutes stay."""
    if not isinstance(value, str):
        return value
    dot = max(values.duration(value), BACKGROUND.dot)
    return {**dict.fromkeys(PHASES, value), "dot": values.duration_text(dot)}


_DURATION_SCHEMA: dict[str, Any] = {"type": ["number", "string"]}


class UpstreamTimeouts(Section):
    """What an upstream may take for each phase while a client waits."""

    connect: Duration = Field(_AT_ONCE.connect, description="Resolving, connecting and the TLS handshake.")
    greeting: Duration = Field(_AT_ONCE.greeting, description="Until the greeting has come.")
    command: Duration = Field(_AT_ONCE.command, description="Each reply to EHLO, AUTH, MAIL, RCPT and RSET.")
    data: Duration = Field(_AT_ONCE.data, description="The reply to DATA.")
    block: Duration = Field(_AT_ONCE.block, description="Each block of content to be taken.")
    dot: Duration = Field(_AT_ONCE.dot, description="The reply to the end of content.")


class BackgroundTimeouts(Section):
    """The same phases where no client waits. The defaults are those of RFC 5321, section 4.5.3.2."""

    connect: Duration = Field(BACKGROUND.connect, description="Resolving, connecting and the TLS handshake.")
    greeting: Duration = Field(BACKGROUND.greeting, description="Until the greeting has come.")
    command: Duration = Field(BACKGROUND.command, description="Each reply to EHLO, AUTH, MAIL, RCPT and RSET.")
    data: Duration = Field(BACKGROUND.data, description="The reply to DATA.")
    block: Duration = Field(BACKGROUND.block, description="Each block of content to be taken.")
    dot: Duration = Field(BACKGROUND.dot, description="The reply to the end of content.")


PresetField = Annotated[str, *choice(*preset_names())]


def _address_or_preset(schema: dict[str, Any]) -> None:
    """Editors, too, should know that a preset has an address."""
    schema["required"] = [name for name in schema.get("required", ()) if name != "address"]
    schema["anyOf"] = [{"required": ["address"]}, {"required": ["preset"]}]


class UpstreamSection(Section):
    """One SMTP server to which mail is handed."""

    model_config = ConfigDict(json_schema_extra=_address_or_preset)

    preset: PresetField | None = Field(
        None,
        description="A provider whose settings are known, listed in docs/presets.md with their sources: they are the "
        "defaults of `address`, `tls`, `quota`, `replies` and, in part, `auth`. Whatever is set here comes before "
        "them; `quota: []` is none.",
    )
    region: Text | None = Field(
        None, description="For presets with servers in several regions: which one, like `eu-west-1` or `eu`."
    )
    address: Annotated[UpstreamAddress, StandIn("unknown.invalid:25")] = Field(
        description="`host:port`; an IPv6 address stands in brackets: `[2001:db8::25]:25`. Or `unix:/path` for a "
        "socket on this machine. Required without a `preset`."
    )
    protocol: ProtocolField = Field(
        "smtp",
        description="`smtp`; or `lmtp` (RFC 2033), which answers for each recipient once it has the content, as "
        "Dovecot and Cyrus do (port 24, or a unix socket). In `pass` a client that hears one reply for all, as in SMTP,"
        " may then name one recipient at a time; for others it hears 452 4.5.3, and sends to them by itself.",
    )
    tls: Annotated[
        UpstreamTls,
        one_word("mode", "the mode", "opportunistic", "starttls", "implicit", "off"),
    ] = Field(UpstreamTls(), description="The TLS mode as one word, or a mapping.")
    auth: Auth | None = Field(None, description="Credentials; without them there is no AUTH.")
    allow_plaintext_auth: Flag = Field(
        False, description="Whether to authenticate over a connection without TLS, by whatever mechanism."
    )
    connections: Count = Field(_UPSTREAM.max_connections, description="Connections at the same time, at most.")
    idle_timeout: Duration = Field(
        _UPSTREAM.idle_timeout, description="After this time without mail a connection is closed."
    )
    max_messages: Count = Field(_UPSTREAM.max_messages, description="Messages on one connection, at most.")
    max_age: Duration = Field(_UPSTREAM.max_age, description="After this time a connection takes no further message.")
    timeouts: Annotated[UpstreamTimeouts, Short(_for_all_phases, _DURATION_SCHEMA, "duration")] = Field(
        UpstreamTimeouts(), description="Time-outs while a client waits; one duration is for every phase."
    )
    background_timeouts: Annotated[
        BackgroundTimeouts, Short(_for_all_phases_in_the_background, _DURATION_SCHEMA, "duration")
    ] = Field(
        BackgroundTimeouts(),
        description="Time-outs where no client waits: what goes out from the spool. One duration is for every phase, "
        "but leaves `dot` at 10m or more: giving up there may mean sending the message again.",
    )
    rate: Rate | None = Field(
        None,
        description="Messages that it is given from the spool, at most: `10/second`, `300/minute`, `1000/hour`. They "
        "are spread over the time. What is relayed while a client waits is not slowed, and each instance counts for "
        "itself.",
    )
    client_address: ClientAddressField | None = Field(
        None,
        description="How this upstream is told who the client is, so that SPF, block lists and greylisting judge the "
        "client and not Waypost: `proxy-v1` or `proxy-v2`, a PROXY header in front of each connection, which then "
        "carries mail of one client address only; `xclient`, Postfix's command, with which the upstream takes the "
        "client for its own; `xforward`, the same for its log only. The last two are said where they are offered. The "
        "upstream must trust Waypost to say it.",
    )
    quota: Annotated[
        tuple[Annotated[QuotaSection, Short(quota_parts, {"type": "string"}, "quota")], ...],
        listed("quota"),
    ] = Field(
        (),
        description="How much it may be given in a span of time: `500/day`, `14/second`, `50000/day recipients`, or "
        "mappings; several hold together. When one is spent the next upstream of the pool takes over, and this one "
        "comes back by itself. When all are spent, a client hears 451 4.7.1 in `pass`, and mail waits in the spool in "
        "`hybrid` and `spool`.",
    )
    warm_up: WarmUpSection | None = Field(
        None, description="A limit that grows from day to day, for an upstream or address that is new."
    )
    senders: Annotated[tuple[AddressGlob, ...], listed("address pattern")] = Field(
        (),
        description="The reverse-paths that it sends for, when not all: mail with another is not tried here, and fails "
        "over to upstreams that take it. So does mail whose From field has an address in another domain than these. "
        "The null reverse-path may go everywhere.",
    )
    cost: Cost = Field(0.0, description="What one message costs here, in any currency, for the strategy `cheapest`.")
    replies: tuple[ReplySection, ...] = Field(
        (),
        description="What its refusals mean, before the common `replies`, those of the `preset`, and what is built in.",
    )
    probe: Annotated[
        ProbeSection,
        Short(
            lambda value: {"interval": value} if isinstance(value, str) else value,
            _DURATION_SCHEMA,
            "duration",
            keys=("interval",),
        ),
    ] = Field(
        ProbeSection(),
        description="How it is probed: the time between two probes, or a mapping. Off by default, since providers "
        "count logins; `waypost upstream test` and `waypost check --online` do the same on demand.",
    )
    rewrite: Rewriting | None = Field(
        None,
        description="What this upstream wants to be different in mail of submission listeners, changed at each attempt "
        "here and nowhere else. One address replaces the reverse-path (unless it is null) and the address in From.",
    )


def _weights(value: Any) -> Any:
    if isinstance(value, str):
        return {value: "1"}
    if not isinstance(value, list):
        return value
    weights = {}
    for item in value:
        if not isinstance(item, str):
            raise WrongValueError("must be a list of names, or a mapping of names to weights")
        if item in weights:
            raise WrongValueError(f"{item[:40]!r} is there twice", "a weight gives an upstream a larger share")
        weights[item] = "1"
    return weights


class PoolSection(Section):
    """Several upstreams, one of which takes each message."""

    strategy: StrategyField = Field(
        "ordered",
        description="Which upstream is tried first: `ordered`, the first in the list; `round_robin`, each in turn; "
        "`weighted`, in turn by weight; `random`; `least_used`, the one with the fewest connections at work; "
        "`least_loaded`, the one that has used the smallest share of its `quota`; `fastest`, the one where messages "
        "are through soonest; `cheapest`, by `cost`, then by share of quota; `sticky`, always the same for the same "
        "recipient, sender or account, by weight. The others follow when it fails.",
    )
    sticky_by: StickyField = Field(
        "recipient",
        description="What the strategy `sticky` goes by: the first recipient, the reverse-path, or the account.",
    )
    plugin: Reference | None = Field(
        None,
        description="The name of a plugin that is asked for the order instead, or to refuse or put off a message. "
        "Whenever it has no usable answer the order is that of `strategy`.",
    )
    upstreams: Annotated[
        dict[Name, Count],
        Short(
            _weights, {"type": "array", "items": {"type": "string"}}, "list of names, or mapping of names to weights"
        ),
    ] = Field(
        min_length=1,
        description="Names of upstreams: a list, or for `weighted` and `sticky` a mapping of names to weights "
        "(`{a: 3, b: 1}`).",
    )


class CopySection(Section):
    """A further delivery of every message that the primary accepted."""

    to: Annotated[Reference, StandIn("unknown")] = Field(description="The pool or upstream that gets the copy.")
    required: Flag = Field(
        True,
        description="Whether a message is refused for now (452) when its copy cannot be stored. "
        "If not, the message goes on and the copy is left out.",
    )
    sample: Share = Field(1.0, description="The share of the messages that is copied: `10%` or `0.1`.")


class BackoffSection(Section):
    """When a delivery from the spool that did not succeed is tried again."""

    intervals: Annotated[tuple[Duration, ...], listed("duration")] = Field(
        _BACKOFF.intervals, min_length=1, description="The time between attempts; the last one repeats."
    )
    jitter: Spread = Field(
        _BACKOFF.jitter, description="Each interval is made longer or shorter at random by up to this share."
    )


class RouteSection(Section):
    """What happens to a message."""

    primary: Annotated[Reference, StandIn("unknown")] = Field(
        description="The pool or upstream whose answer the client gets. An upstream is a pool of itself."
    )
    copies: Annotated[
        tuple[
            Annotated[
                CopySection,
                one_word("to", "name"),
            ],
            ...,
        ],
        listed("name"),
    ] = Field((), description="Further deliveries: names, or mappings.")
    acceptance: AcceptanceField | None = Field(
        None,
        description="When the client hears 250. `pass`: when the primary has said so; its reply is the client's, and "
        "nothing but copies is queued. `hybrid`: the primary is tried at once, and its yes or final no is passed on; "
        "what it cannot take now is kept in the spool, and the client hears 250. `spool`: as soon as the message is on "
        "disk; it is delivered afterwards. Not set: `hybrid` for clients of submission listeners, `pass` for those of "
        "relay listeners. In `hybrid` and `spool` the sender is notified when a message finally fails. One "
        "message may go to several such routes; recipients on a route with `pass` need a message of their own, and "
        "the client is told so (452 4.5.3).",
    )
    sync_budget: Duration = Field(
        _ROUTE.sync_budget,
        description="In `hybrid`: how long a client waits for upstreams before its message is kept and answered 250. "
        "Stay below the time-out of your applications.",
    )
    delay_warning: DurationOrOff = Field(
        0.0,
        description="After this time in the spool the sender is told, once, that the message is still on its way.",
    )
    in_doubt: InDoubtField | None = Field(
        None,
        description="What is done when an upstream leaves the end of content unanswered, so that it may have the "
        "message or not: `tempfail` tells the client 451; `retry-same` tries the same upstream again, and no other; "
        "`failover` tries the next, so the message may arrive twice; `assume-sent` counts it as accepted, so it may be "
        "lost. Not set: `tempfail` while a client waits in `pass`, `retry-same` for what is kept in the spool, which "
        "is also what `tempfail` means there. Copies are always sent again.",
    )
    in_doubt_hold: Duration = Field(
        _ROUTE.in_doubt_hold,
        description="How long the copies of such a message wait for the truth before they are sent, when it was the "
        "client that waited for the primary's answer.",
    )
    silence: Duration = Field(
        _ROUTE.silence,
        description="After this long without a command, a client in the middle of a transaction lends its upstream "
        "connection to others.",
    )
    backoff: Annotated[
        BackoffSection,
        Short(
            lambda value: {"intervals": value} if isinstance(value, str | list) else value,
            {"type": "array", "items": {}},
            "list of durations",
            keys=("intervals",),
        ),
    ] = Field(
        BackoffSection(),
        description="When a delivery from the spool, of a message or of a copy, is tried again: a list of durations, "
        "or a mapping.",
    )
    lifetime: Duration = Field(
        _BACKOFF.lifetime,
        description="After this time a delivery from the spool is given up: the sender of a message is notified, and a "
        "copy becomes a dead letter.",
    )
    rewrite: Rewriting | None = Field(
        None,
        description="What is changed in mail of submission listeners, once, when it comes in: primary and copies get "
        "the same. One address replaces the reverse-path (unless it is null) and the address in From. Recipients on "
        "routes that rewrite in different ways need a message for each.",
    )
