"""What is asked of a running server: whether it would take mail now, and the gauges of its metrics."""

from collections.abc import Mapping, Sequence

from waypost.app.stores import Stores
from waypost.app.watching import Watch
from waypost.clock import Clock
from waypost.config.settings import Settings
from waypost.delivery.candidates import Candidates
from waypost.delivery.spool import Spool, SpoolError
from waypost.net.listener import Listener
from waypost.net.pool import Upstreams
from waypost.observe.metrics import Facts, QuotaFacts, SpoolFacts
from waypost.routing.health import State


async def readiness(listeners: Sequence[Listener], spool: Spool | None, *, draining: bool) -> Mapping[str, str | None]:
    """What must be right for mail to be taken: by name, why it is not, or None."""
    checks: dict[str, str | None] = {"accepting": "the server is being stopped" if draining else None}
    for listener in listeners:
        checks[f"listener {listener.settings.name}"] = None if listener.is_bound else "not bound"
    if spool is not None:
        try:
            await spool.check()
            checks["spool"] = None
        except SpoolError as error:
            checks["spool"] = str(error)
    return checks


async def gather(
    settings: Settings,
    listeners: Sequence[Listener],
    stores: Stores,
    upstreams: Upstreams,
    candidates: Candidates,
    watch: Watch,
    clock: Clock,
) -> Facts:
    """The facts for one scrape. Does not raise: metrics are wanted most when something is broken."""
    now, monotonic = clock.time(), clock.monotonic()
    owed: list[SpoolFacts] = []
    instances: dict[str, float] = {}
    writable: bool | None = None
    spool = stores.spool
    if spool is not None:
        try:
            for count in await spool.lanes():
                age = None if count.oldest is None else now - count.oldest
                owed.append(SpoolFacts(count.lane, count.queued, count.dead, age, count.held))
            instances = {each.name: max(0.0, now - each.seen_at) for each in await spool.instances()}
            await spool.check()
            writable = True
        except SpoolError:
            writable = False
    connections: dict[tuple[str, str], int] = {}
    for name, (busy, idle) in upstreams.counts().items():
        connections[name, "busy"], connections[name, "idle"] = busy, idle
    health = {name: known.state(monotonic) is State.CLOSED for name, known in candidates.availability.health.items()}
    return Facts(
        sessions={listener.settings.name: listener.sessions for listener in listeners},
        upstream_healthy={name: health.get(name, True) for name in settings.upstreams},
        upstream_connections=connections,
        upstream_paused=watch.paused(),
        probes=watch.stages(),
        certificates={(shown.owner, shown.name): shown.certificate.not_after for shown in watch.certificates()},
        quotas=tuple(
            QuotaFacts(name, state.quota.label, state.used, state.limit)
            for name, upstream in settings.upstreams.items()
            for state in candidates.quotas.states(upstream)
        ),
        spool=tuple(owed),
        spool_writable=writable,
        instances=instances,
        spool_messages=None if spool is None else spool.stored,
        spool_commits=None if spool is None else spool.commits,
        journal_written=None if stores.journal is None else stores.journal.written,
        journal_dropped=None if stores.journal is None else stores.journal.dropped,
    )
