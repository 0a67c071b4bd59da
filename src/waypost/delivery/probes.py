"""Probes at an interval: when an upstream is probed, and what its health learns from that.

Mail that gets through is a better probe, and costs nobody a login. So an upstream is probed only when none did for
as long as the interval, or when the last probe failed; not while it is paused, since nothing is to go there; and
not while it is asleep, which it said itself: each login that is refused brings an account nearer to being locked.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, Protocol

import structlog

from waypost.clock import Clock, Timer
from waypost.delivery.availability import Availability
from waypost.mail.outcome import Phase
from waypost.observe.metrics import Metrics
from waypost.routing.advice import advice
from waypost.routing.health import State
from waypost.routing.probing import Finding, StageState
from waypost.routing.route import Upstream

log = structlog.get_logger()

_SOON = 30.0  # seconds after the start within which each is probed for the first time
_SPREAD = 0.2  # of the interval, so that neither upstreams nor instances are probed in step


class Prober(Protocol):
    """Probes an upstream."""

    def probe(self, upstream: Upstream) -> Coroutine[Any, Any, Finding | None]:
        """What it says at each stage; None when there is no connection to be had for that."""


class Probes:
    """Probes the upstreams that want it, from `start` to `stop`, and remembers what was found last."""

    def __init__(
        self,
        upstreams: Iterable[Upstream],
        prober: Prober,
        availability: Availability,
        metrics: Metrics,
        clock: Clock,
        chance: Callable[[], float],
    ) -> None:
        self._upstreams = [upstream for upstream in upstreams if upstream.probe.interval]
        self._prober = prober
        self._availability = availability
        self._metrics = metrics
        self._clock = clock
        self._chance = chance
        self._timers: dict[str, Timer] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._found: dict[str, Finding] = {}
        self._stages: dict[tuple[str, Phase], StageState] = {}

    @property
    def found(self) -> Mapping[str, Finding]:
        """What was found last, by the name of the upstream."""
        return self._found

    def start(self) -> None:
        """Begins, with all within half a minute."""
        for upstream in self._upstreams:
            self._set(upstream, self._chance() * min(_SOON, upstream.probe.interval))

    async def stop(self) -> None:
        """Ends; a probe under way is broken off."""
        for timer in self._timers.values():
            timer.cancel()
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def is_wanted(self, upstream: Upstream) -> bool:
        """Whether a probe would tell more than is known."""
        name = upstream.name
        if name in self._availability.paused:
            return False
        last, health = self._found.get(name), self._availability.health.get(name)
        if health is None:
            return True
        now = self._clock.monotonic()
        if health.state(now) is State.ASLEEP:
            return False
        heard = health.heard_at
        return heard is None or now - heard >= upstream.probe.interval or (last is not None and last.failed is not None)

    def _set(self, upstream: Upstream, delay: float) -> None:
        self._timers[upstream.name] = self._clock.call_later(delay, lambda: self._due(upstream))

    def _due(self, upstream: Upstream) -> None:
        name = upstream.name
        self._set(upstream, upstream.probe.interval * (1 + _SPREAD * (self._chance() - 0.5)))
        if name not in self._running and self.is_wanted(upstream):
            task = self._running[name] = asyncio.get_running_loop().create_task(self._probe(upstream))
            task.add_done_callback(lambda _: self._running.pop(name, None))

    async def _probe(self, upstream: Upstream) -> None:
        try:
            began = self._clock.monotonic()
            finding = await self._prober.probe(upstream)
            if finding is None:
                log.debug("upstream_not_probed", upstream=upstream.name, reason="mail has all its connections")
                return
            self._availability.probed(upstream, finding.stopped, began)
            self._take(upstream, finding)
        except Exception as error:  # a defect of ours must not end the probes, and nobody waits for this task
            log.error("a probe broke", upstream=upstream.name, exc_info=error)

    def _take(self, upstream: Upstream, finding: Finding) -> None:
        self._found[upstream.name] = finding
        outcome = "ok" if finding.failed is None else "failed"
        self._metrics.upstream_probes[upstream.name, outcome] += 1
        for stage in finding.stages:
            if stage.state is StageState.SKIPPED:
                continue
            key = upstream.name, stage.phase
            before, self._stages[key] = self._stages.get(key), stage.state
            if stage.state is StageState.FAILED and before is not StageState.FAILED:
                what = {"upstream": upstream.name, "stage": stage.phase, "reason": stage.text}
                log.warning("upstream_stage_failed", **what, advice=advice(upstream, finding))
            elif stage.state is StageState.OK and before is StageState.FAILED:
                log.info("upstream_stage_recovered", upstream=upstream.name, stage=stage.phase)
