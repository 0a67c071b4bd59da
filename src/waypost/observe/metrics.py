"""Metrics for Prometheus: counters that mail events move, and facts of other parts, read when somebody asks.

Labels are names from the configuration and words from short lists; never an address or a message id, which
would make one time series each. Times are seconds.
"""

import asyncio
import platform
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from waypost import __version__

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0)
# From a neighbour's answer to the ten minutes that RFC 5321 section 4.5.3.2.6 gives the final dot.


@dataclass(frozen=True, slots=True)
class SpoolFacts:
    """What stands in one lane. `oldest` is the age of the oldest delivery that is owed, in seconds, or None."""

    lane: str
    queued: int
    dead: int
    oldest: float | None
    held: int = 0


@dataclass(frozen=True, slots=True)
class QuotaFacts:
    """How one quota of an upstream stands; what instances have leased and not used counts as used."""

    upstream: str
    window: str
    used: int
    limit: int | None


@dataclass(frozen=True, slots=True)
class StageFacts:
    """What the last probe of an upstream found at one stage, how long that took, and when it began."""

    upstream: str
    stage: str
    is_ok: bool
    seconds: float
    at: float


@dataclass(frozen=True, slots=True)
class Facts:
    """What other parts know at this moment."""

    sessions: Mapping[str, int] = field(default_factory=dict)  # by listener
    upstream_healthy: Mapping[str, bool] = field(default_factory=dict)
    upstream_connections: Mapping[tuple[str, str], int] = field(default_factory=dict)  # by upstream and state
    upstream_paused: Mapping[str, bool] = field(default_factory=dict)
    probes: tuple[StageFacts, ...] = ()
    certificates: Mapping[tuple[str, str], float] = field(default_factory=dict)  # ends, by owner and its name
    quotas: tuple[QuotaFacts, ...] = ()
    spool: tuple[SpoolFacts, ...] = ()  # by lane
    spool_writable: bool | None = None  # None: there is no spool
    instances: Mapping[str, float] = field(default_factory=dict)  # seconds since each was seen on the spool, by name
    spool_messages: int | None = None  # stored since the start; None: nobody counts
    spool_commits: int | None = None  # made durable since the start: group commit shows in the ratio of the two
    journal_written: int | None = None  # None: there is no journal
    journal_dropped: int | None = None


class Tally(dict[tuple[str, ...], int]):
    """A counter by label values: `tally["a", "b"] += 1`.

    Moved in the loop only, a quarter of what prometheus-client's counter with its lock costs.
    """

    def __init__(self, name: str, meaning: str, *labels: str) -> None:
        super().__init__()
        self._name, self._meaning, self._labels = f"waypost_{name}", meaning, labels

    def __missing__(self, values: tuple[str, ...]) -> int:
        return 0

    def collect(self) -> Metric:
        """What prometheus-client writes."""
        family = CounterMetricFamily(self._name, self._meaning, labels=self._labels)
        for values, count in list(self.items()):  # copied in one step: the loop goes on counting
            family.add_metric(values, count)
        return family


class Durations:
    """A histogram of seconds by label values, moved like a `Tally`."""

    def __init__(self, name: str, meaning: str, *labels: str) -> None:
        self._name, self._meaning, self._labels = f"waypost_{name}_seconds", meaning, labels
        self._counts: dict[tuple[str, ...], list[int]] = {}  # one per bound, and one for what is longer
        self._sums: dict[tuple[str, ...], float] = {}

    def observe(self, values: tuple[str, ...], seconds: float) -> None:
        """Counts one."""
        try:
            counts = self._counts[values]
        except KeyError:
            counts = self._counts[values] = [0] * (len(_BOUNDS) + 1)
            self._sums[values] = 0.0
        counts[bisect_left(_BOUNDS, seconds)] += 1
        self._sums[values] += seconds

    def collect(self) -> Metric:
        """What prometheus-client writes."""
        family = HistogramMetricFamily(self._name, self._meaning, labels=self._labels)
        for values, counts in list(self._counts.items()):
            buckets = zip((*map(str, _BOUNDS), "+Inf"), accumulate(counts), strict=True)
            family.add_metric(values, list(buckets), self._sums[values])
        return family


class Metrics:
    """Every metric of one Waypost, in a registry of its own.

    `facts` is set by whoever knows the other parts. It is called in the loop for each `scrape`, and must not raise:
    metrics are wanted most when something is broken.
    """

    def __init__(self, *, process: bool = True) -> None:
        self.facts: Callable[[], Awaitable[Facts]] | None = None
        self.session_events = Tally(
            "session_events", "What happened to sessions: the events of the log.", "listener", "event"
        )
        self.messages_received = Tally("messages_received", "Messages whose content came in whole.", "listener")
        self.messages_abandoned = Tally("messages_abandoned", "Clients that disappeared in mid-content.", "listener")
        self.messages_refused = Tally(
            "messages_refused",
            "Refusals of what a client asked: of a whole message where command is content, else of one command.",
            *("listener", "command", "class"),
        )
        self.messages_queued = Tally("messages_queued", "Messages that were stored and are ours, by route.", "route")
        self.messages_answered_from_ledger = Tally(
            "messages_answered_from_ledger", "Messages that came again, and were not sent again.", "listener"
        )
        self.deliveries = Tally(
            "deliveries",
            "What deliveries came to. Where no upstream decided, upstream is the name of the pool or route.",
            *("upstream", "role", "outcome"),
        )
        self.attempts_failed = Tally(
            "attempts_failed", "Attempts that ended badly, by where in the dialogue.", "upstream", "role", "phase"
        )
        self.attempt_duration = Durations(
            "attempt_duration", "From the choice of an upstream to its answer.", "upstream", "role"
        )
        self.upstream_logins = Tally(
            "upstream_logins", "Logins at upstreams, one for each connection.", "upstream", "mechanism", "outcome"
        )
        self.upstream_probes = Tally(
            "upstream_probes", "Probes of upstreams, at their interval.", "upstream", "outcome"
        )
        self.token_requests = Tally(
            "oauth_token_requests",
            "Access tokens of OAuth 2.0 that were asked for; revoked: somebody has to log in again.",
            *("upstream", "outcome"),
        )
        self.notices = Tally(
            "notices", "Notifications to senders, by what they report; suppressed: an address had enough.", "action"
        )
        self.allowances_spent = Tally(
            "allowances_spent",
            "Refusals because an account had sent what it may: messages, recipients.",
            "account",
            "what",
        )
        self.plugin_answers = Tally(
            "plugin_answers",
            "Questions to plugins, by what came of them: ok, or why the pool's own order was used.",
            *("plugin", "outcome"),
        )
        self.plugin_duration = Durations("plugin_duration", "From the question to the answer.", "plugin")
        self.messages_rewritten = Tally(
            "messages_rewritten",
            "Messages that were rewritten, by where; not_aligned: reverse-path and From are of different domains.",
            *("place", "name", "alignment"),
        )
        self.signatures_broken = Tally(
            "signatures_broken", "Messages whose DKIM signatures rewriting has broken, by where.", "place", "name"
        )
        self.signatures = Tally(
            "signatures",
            "Messages for whose author there is a DKIM key; all outcomes but signed went without a signature.",
            *("domain", "outcome"),
        )
        self.altered = Tally("altered", "Deliveries to which something was done by hand.", "action")
        self.event_loop_lag = 0.0
        self.registry = CollectorRegistry()
        self.registry.register(_Moved(self))
        if process:
            ProcessCollector(registry=self.registry)

    def report_lag(self, seconds: float) -> None:
        """Takes what `waypost.observe.lag` measures."""
        self.event_loop_lag = seconds

    def plugin_answered(self, plugin: str, outcome: str, seconds: float) -> None:
        """A question to a plugin has come to an end."""
        self.plugin_answers[plugin, outcome] += 1
        self.plugin_duration.observe((plugin,), seconds)

    async def scrape(self) -> bytes:
        """Everything in Prometheus' text format. The writing is done in a thread: it takes milliseconds."""
        facts = Facts() if self.facts is None else await self.facts()
        return await asyncio.to_thread(self.render, facts)

    def render(self, facts: Facts | None = None) -> bytes:
        """Everything in Prometheus' text format, with the given facts. May be called from any thread."""
        return generate_latest(_Snapshot(self.registry, facts or Facts()))


class _Snapshot(CollectorRegistry):
    """The registry's metrics and the gauges that are made from facts, for one rendering."""

    def __init__(self, registry: CollectorRegistry, facts: Facts) -> None:
        super().__init__()
        self.register(_Fixed([*registry.collect(), *_gauges(facts)]))


class _Fixed(Collector):
    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = list(metrics)

    def collect(self) -> Iterable[Metric]:
        return self._metrics


class _Moved(Collector):
    """What `Metrics` counts itself."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        for counted in vars(self._metrics).values():
            if isinstance(counted, (Tally, Durations)):
                yield counted.collect()
        yield GaugeMetricFamily(
            "waypost_event_loop_lag_seconds",
            "How late the event loop was at worst in the last 15 seconds.",
            self._metrics.event_loop_lag,
        )
        build = GaugeMetricFamily("waypost_build_info", "Always 1.", labels=("version", "python"))
        build.add_metric((__version__, platform.python_version()), 1)
        yield build


def _gauges(facts: Facts) -> Iterator[Metric]:
    sessions = GaugeMetricFamily("waypost_sessions", "Sessions open now.", labels=("listener",))
    for listener, count in facts.sessions.items():
        sessions.add_metric((listener,), count)
    healthy = GaugeMetricFamily(
        "waypost_upstream_healthy", "1 when the upstream is tried, 0 while it is left in peace.", labels=("upstream",)
    )
    for upstream, is_healthy in facts.upstream_healthy.items():
        healthy.add_metric((upstream,), is_healthy)
    connections = GaugeMetricFamily(
        "waypost_upstream_connections", "Connections to the upstream now.", labels=("upstream", "state")
    )
    for (upstream, state), count in facts.upstream_connections.items():
        connections.add_metric((upstream, state), count)
    yield from (sessions, healthy, connections)
    yield from _of_probes(facts)
    yield from _of_quotas(facts)
    yield from _of_the_spool(facts)
    seen = GaugeMetricFamily(
        "waypost_instance_seen_seconds",
        "How long ago an instance that shares the spool was seen.",
        labels=("instance",),
    )
    for instance, ago in facts.instances.items():
        seen.add_metric((instance,), ago)
    yield seen
    for name, meaning, total in (
        ("spool_messages", "Messages stored.", facts.spool_messages),
        ("spool_commits", "Transactions of the spool that were made durable.", facts.spool_commits),
        ("journal_records", "Records written to the journal.", facts.journal_written),
        ("journal_dropped", "Records that the journal could not keep.", facts.journal_dropped),
    ):
        if total is not None:
            yield CounterMetricFamily(f"waypost_{name}", meaning, total)


def _of_probes(facts: Facts) -> Iterator[Metric]:
    paused = GaugeMetricFamily(
        "waypost_upstream_paused", "1 when somebody has paused the upstream.", labels=("upstream",)
    )
    for upstream, is_paused in facts.upstream_paused.items():
        paused.add_metric((upstream,), is_paused)
    labels = ("upstream", "stage")
    state = GaugeMetricFamily(
        "waypost_upstream_probe_ok",
        "1 when the stage went well in the last probe; absent when that did not come so far.",
        labels=labels,
    )
    took = GaugeMetricFamily("waypost_upstream_probe_duration_seconds", "How long the stage took then.", labels=labels)
    begun = GaugeMetricFamily(
        "waypost_upstream_probe_timestamp_seconds", "When the last probe began, as Unix time.", labels=("upstream",)
    )
    for stage in facts.probes:
        state.add_metric((stage.upstream, stage.stage), stage.is_ok)
        took.add_metric((stage.upstream, stage.stage), stage.seconds)
    for upstream, at in {stage.upstream: stage.at for stage in facts.probes}.items():
        begun.add_metric((upstream,), at)
    ends = GaugeMetricFamily(
        "waypost_certificate_not_after_seconds",
        "When a certificate ends, as Unix time: that of a listener, or what an upstream showed last.",
        labels=("owner", "name"),
    )
    for owner_and_name, end in facts.certificates.items():
        ends.add_metric(owner_and_name, end)
    yield from (paused, state, took, begun, ends)


def _of_quotas(facts: Facts) -> Iterator[Metric]:
    labels = ("upstream", "window")
    used = GaugeMetricFamily("waypost_quota_used", "What the upstream was given in the present window.", labels=labels)
    limit = GaugeMetricFamily("waypost_quota_limit", "What it may be given in a window.", labels=labels)
    for quota in facts.quotas:
        used.add_metric((quota.upstream, quota.window), quota.used)
        if quota.limit is not None:
            limit.add_metric((quota.upstream, quota.window), quota.limit)
    yield from (used, limit)


def _of_the_spool(facts: Facts) -> Iterator[Metric]:
    deliveries = GaugeMetricFamily(
        "waypost_spool_deliveries", "Deliveries owed (queued, held) or given up (dead).", labels=("lane", "state")
    )
    oldest = GaugeMetricFamily(
        "waypost_spool_oldest_seconds", "Age of the oldest delivery that is owed.", labels=("lane",)
    )
    for lane in facts.spool:
        for state, count in (("queued", lane.queued), ("held", lane.held), ("dead", lane.dead)):
            deliveries.add_metric((lane.lane, state), count)
        oldest.add_metric((lane.lane,), lane.oldest or 0)
    yield from (deliveries, oldest)
    if facts.spool_writable is not None:
        yield GaugeMetricFamily(
            "waypost_spool_writable", "1 when the last write to the spool succeeded.", facts.spool_writable
        )
