"""From the checked model to the plain values that everybody else works with."""

import ipaddress
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import TypeVar

from waypost.config.errors import Origin, Path
from waypost.config.fields import Section
from waypost.config.logins import login_of
from waypost.config.preset import preset
from waypost.config.rules import rule_of
from waypost.config.schema import Configuration, ListenerSection
from waypost.config.schema_accounts import AccountLimits, AccountSection
from waypost.config.schema_rewrite import DkimSection, RewriteSection
from waypost.config.schema_sending import (
    BackgroundTimeouts,
    RouteSection,
    UpstreamSection,
    UpstreamTimeouts,
)
from waypost.config.schema_tls import ListenerTls, TlsSection
from waypost.config.settings import (
    AdminSettings,
    DkimSettings,
    JournalSettings,
    LogSettings,
    NoticeSettings,
    Settings,
    SpoolSettings,
)
from waypost.mail.added import added_field
from waypost.mail.address_map import AddressMap
from waypost.mail.rewrite import Rewrite
from waypost.net.settings import AccountsFile, Limits, ListenerSettings, LoginLimits, ServerTls, SessionTimeouts
from waypost.routing.address_list import AddressList
from waypost.routing.classify import BUILT_IN, ReplyRules
from waypost.routing.login import Login
from waypost.routing.quota import Quota
from waypost.routing.route import (
    Account,
    Allowance,
    Backoff,
    Copy,
    Member,
    Network,
    Pool,
    Route,
    Routes,
    Timeouts,
    Upstream,
    UpstreamTls,
)
from waypost.smtp.address import Address
from waypost.smtp.sasl import Secret

V = TypeVar("V", Limits, SessionTimeouts)

LOOPBACK: tuple[Network, ...] = (ipaddress.IPv4Network("127.0.0.0/8"), ipaddress.IPv6Network("::1/128"))
"""Whom a relay listener trusts that names nobody."""


def build(
    model: Configuration,
    secrets: Mapping[Path, Secret],
    *,
    hostname: str,
    spool: SpoolSettings | None,
    warnings: tuple[str, ...],
    origin: Callable[[Path], Origin],
    lists: Mapping[str, AddressList],
) -> Settings:
    """The settings. `model` has passed every check; `origin` tells where a rule stands, `lists` what is in files."""
    upstreams = {
        name: _upstream(
            name,
            section,
            None if section.auth is None else login_of(name, section.auth, secrets),
            _replies(name, section, model),
        )
        for name, section in model.upstreams.items()
    }
    pools = {name: Pool(name, (Member(upstream),)) for name, upstream in upstreams.items()}
    for name, pool in model.pools.items():
        members = tuple(Member(upstreams[member], weight) for member, weight in pool.upstreams.items())
        needs_content = pool.plugin is not None and model.plugins[pool.plugin].needs == "content"
        pools[name] = Pool(name, members, pool.strategy, pool.sticky_by, pool.plugin, needs_content)
    accounts = {name: _account(name, account, secrets) for name, account in model.accounts.items()}
    file = model.accounts_file
    routes = Routes(
        tuple(rule_of(rule, str(origin(("rules", index)))) for index, rule in enumerate(model.rules)),
        {name: _route(name, route, pools) for name, route in model.routes.items()},
        accounts,
        Account("", "", file.route, file.may_send_as, limits=_allowances(file.limits)) if file else None,
        dict(lists),
    )
    admin = AdminSettings(model.admin.address.host, model.admin.address.port) if model.admin else None
    return Settings(
        hostname=hostname,
        listeners=tuple(_listener(listener, model) for listener in model.listeners),
        routes=routes,
        upstreams=upstreams,
        pools=pools,
        spool=spool,
        admin=admin,
        log=LogSettings(model.log.format, model.log.level),
        journal=JournalSettings(model.journal.keep),
        dkim=tuple(_dkim(key, secrets["dkim", index, "key_file"]) for index, key in enumerate(model.dkim)),
        notices=NoticeSettings(str(model.notifications.sender or ""), model.notifications.per_hour),
        accounts_file=AccountsFile(file.path, file.format) if file else None,
        login=LoginLimits(model.limits.login.failures, model.limits.login.longest_delay, model.limits.login.forget),
        plugins={name: plugin.definition(name) for name, plugin in model.plugins.items()},
        spill_size=model.limits.spill_size,
        max_received=model.limits.max_received,
        shutdown_timeout=model.shutdown_timeout,
        warnings=warnings,
    )


def _account(name: str, section: AccountSection, secrets: Mapping[Path, Secret]) -> Account:
    secret = secrets.get(("accounts", name))
    return Account(
        name,
        "" if secret is None else secret.reveal(),
        section.route,
        section.may_send_as,
        section.certificate,
        _allowances(section.limits),
    )


def _allowances(section: AccountLimits) -> tuple[Allowance, ...]:
    return (
        *(Allowance("messages", count, period) for count, period in section.messages),
        *(Allowance("recipients", count, period) for count, period in section.recipients),
    )


def _listener(section: ListenerSection, model: Configuration) -> ListenerSettings:
    tls, own = None, section.tls
    if own.certificate is not None and own.key is not None:
        tls = ServerTls(own.certificate, own.key, minimum=own.minimum, by_name=_by_name(own))
    elif model.tls is not None and own.mode != "off":
        tls = ServerTls(model.tls.certificate, model.tls.key, minimum=own.minimum, by_name=_by_name(model.tls))
    if tls is not None and section.client_certificates is not None:
        tls = replace(
            tls, client_ca=section.client_certificates.ca_file, client_required=section.client_certificates.required
        )
    is_open = section.mode == "relay" and not section.address.is_unix
    trusted = section.trusted_networks or (LOOPBACK if is_open else ())
    return ListenerSettings(
        name=section.address.text,
        host=section.address.host,
        port=section.address.port,
        mode=section.mode,
        lmtp=section.protocol == "lmtp",
        socket_mode=section.socket_mode,
        tls=tls,
        implicit_tls=section.tls.mode == "implicit",
        trusted_networks=trusted,
        proxies=_peers(section.proxy_protocol, trusted),
        announcers=_peers(section.xclient, trusted),
        allow_plaintext_auth=section.allow_plaintext_auth,
        mechanisms=tuple(name.upper() for name in section.mechanisms),
        limits=_over(_same_named(Limits(), model.limits), section.limits),
        timeouts=_over(_same_named(SessionTimeouts(), model.timeouts), section.timeouts),
    )


def _by_name(section: TlsSection | ListenerTls) -> tuple[tuple[str, str], ...]:
    return tuple((further.certificate, further.key) for further in section.by_name)


def _peers(peers: Sequence[Network | str], trusted: Sequence[Network]) -> tuple[Network, ...]:
    """Networks, with the trusted ones where the word for them stands."""
    return tuple(network for peer in peers for network in (trusted if isinstance(peer, str) else (peer,)))


def _same_named(value: V, section: Section) -> V:
    """`value` with each of its fields taken from the section."""
    return replace(value, **{field.name: getattr(section, field.name) for field in fields(value)})


def _over(value: V, section: Section) -> V:
    """`value` with those fields replaced that the section sets."""
    own = {field.name: getattr(section, field.name) for field in fields(value)}
    return replace(value, **{name: setting for name, setting in own.items() if setting is not None})


def _replies(name: str, section: UpstreamSection, model: Configuration) -> ReplyRules:
    """The upstream's own rules, then the common ones, then those of its preset."""
    known = 0 if section.preset is None else len(preset(section.preset).replies)
    rules = [reply.rule(f"upstreams.{name}.replies[{index}]") for index, reply in enumerate(section.replies)]
    common = [reply.rule(f"replies[{index}]") for index, reply in enumerate(model.replies)]
    rules[len(rules) - known : len(rules) - known] = common
    return ReplyRules(rules) if rules else BUILT_IN


def _upstream(name: str, section: UpstreamSection, login: Login | None, replies: ReplyRules) -> Upstream:
    tls = section.tls
    return Upstream(
        name=name,
        host=section.address.host,
        port=section.address.port,
        tls=UpstreamTls(
            tls.mode,
            tls.verify,
            tls.ca_file,
            tls.fingerprint,
            tls.server_name,
            tls.minimum,
            tls.certificate,
            tls.key,
        ),
        credentials=login,
        allow_plaintext_auth=section.allow_plaintext_auth,
        max_connections=section.connections,
        idle_timeout=section.idle_timeout,
        max_messages=section.max_messages,
        max_age=section.max_age,
        timeouts=_timeouts(section.timeouts),
        background_timeouts=_timeouts(section.background_timeouts),
        rewrite=_rewrite(section.rewrite),
        rate=section.rate,
        client_address=section.client_address,
        quotas=_quotas(section),
        senders=section.senders,
        cost=section.cost,
        lmtp=section.protocol == "lmtp",
        replies=replies,
        probe=section.probe.value,
    )


def _quotas(section: UpstreamSection) -> tuple[Quota, ...]:
    quotas = [quota.value for quota in section.quota]
    return (*quotas, section.warm_up.value) if section.warm_up is not None else tuple(quotas)


def _timeouts(section: UpstreamTimeouts | BackgroundTimeouts) -> Timeouts:
    return Timeouts(
        connect=section.connect,
        greeting=section.greeting,
        command=section.command,
        data=section.data,
        block=section.block,
        dot=section.dot,
    )


def _route(name: str, section: RouteSection, pools: Mapping[str, Pool]) -> Route:
    return Route(
        name=name,
        primary=pools[section.primary],
        copies=tuple(Copy(pools[copy.to], copy.required, copy.sample) for copy in section.copies),
        acceptance=section.acceptance,
        in_doubt=section.in_doubt,
        in_doubt_hold=section.in_doubt_hold,
        backoff=Backoff(section.backoff.intervals, section.backoff.jitter, section.lifetime),
        silence=section.silence,
        sync_budget=section.sync_budget,
        delay_warning=section.delay_warning or None,
        rewrite=_rewrite(section.rewrite),
    )


def _rewrite(section: RewriteSection | None) -> Rewrite | None:
    if section is None:
        return None
    author = _addresses(section.from_)
    return Rewrite(
        envelope=author if section.envelope is None else _addresses(section.envelope),
        author=author,
        sender=None if section.sender is None else _addresses(section.sender),
        keep_reply_to=section.reply_to == "original",
        add=tuple(added_field(name, text) for name, text in section.add.items()),
        remove=tuple(name.lower() for name in section.remove),
    )


def _addresses(pairs: Mapping[str, Address]) -> AddressMap:
    return AddressMap(tuple((pattern.lower(), address) for pattern, address in pairs.items()))


def _dkim(section: DkimSection, key: Secret) -> DkimSettings:
    header, _, body = section.canonicalization.partition("/")
    return DkimSettings(
        section.domain,
        section.selector,
        key,
        section.headers,
        "relaxed" if header == "relaxed" else "simple",
        "relaxed" if body == "relaxed" else "simple",
        section.subdomains,
    )
