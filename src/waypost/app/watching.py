"""Watches over upstreams: probes, and the days that certificates have left, theirs and our own."""

import random
from collections.abc import Mapping

from waypost.admin.upstreams import Upstreams as Desk
from waypost.clock import Clock, Timer
from waypost.config.settings import Settings
from waypost.delivery.candidates import Candidates
from waypost.delivery.probes import Probes
from waypost.net.login import Logins
from waypost.net.pool import Upstreams
from waypost.net.probe import Prober
from waypost.net.x509 import certificate_in, read_certificate
from waypost.observe.expiry import Expiry, Shown
from waypost.observe.metrics import Metrics, StageFacts
from waypost.routing.probing import Certificate, StageState

LOOK_EVERY = 3600.0
"""Seconds between looks at how long certificates are valid."""

_FIRST_LOOK = 60.0  # when some upstreams have been spoken to


class Watch:
    """Probes of upstreams and the ends of certificates, from `start` to `stop`."""

    def __init__(
        self,
        settings: Settings,
        candidates: Candidates,
        upstreams: Upstreams,
        logins: Logins,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._paused = candidates.availability.paused
        self._upstreams = upstreams
        self._clock = clock
        prober = Prober(settings.hostname, logins, clock.time, upstreams)
        self._probes = Probes(
            settings.upstreams.values(), prober, candidates.availability, metrics, clock, random.random
        )
        self._expiry = Expiry()
        self._timer: Timer | None = None
        self._read: dict[str, tuple[bytes, Certificate | None]] = {}
        self.desk = Desk(
            *(settings.upstreams, candidates, clock),
            pools=settings.pools,
            connections=upstreams.counts,
            found=lambda: self._probes.found,
            certificates=self.of_upstreams,
            remembers=settings.spool is not None,
        )
        """What the control API shows, and does."""

    def start(self) -> None:
        """Begins."""
        self._expiry.look(self._of_listeners(), self._clock.time())
        self._timer = self._clock.call_later(_FIRST_LOOK, self._look)
        self._probes.start()

    async def stop(self) -> None:
        """Ends; a probe under way is broken off."""
        if self._timer is not None:
            self._timer.cancel()
        await self._probes.stop()

    def certificates(self) -> list[Shown]:
        """Every certificate that is known: what upstreams showed last, and our own."""
        theirs = [Shown("upstream", name, certificate) for name, certificate in self.of_upstreams().items()]
        return theirs + self._of_listeners()

    def of_upstreams(self) -> Mapping[str, Certificate]:
        """What each upstream showed last, to mail or to a probe, by its name."""
        known: dict[str, Certificate] = {}
        for name, der in self._upstreams.certificates().items():
            seen = self._read.get(name)
            if seen is None or seen[0] != der:
                seen = self._read[name] = der, read_certificate(der)
            if seen[1] is not None:
                known[name] = seen[1]
        return known

    def stages(self) -> tuple[StageFacts, ...]:
        """What the last probes found, for metrics."""
        return tuple(
            StageFacts(name, stage.phase, stage.state is StageState.OK, stage.seconds, finding.at)
            for name, finding in self._probes.found.items()
            for stage in finding.stages
            if stage.state is not StageState.SKIPPED
        )

    def paused(self) -> Mapping[str, bool]:
        """Whether each upstream is paused."""
        return {name: name in self._paused for name in self._settings.upstreams}

    def _of_listeners(self) -> list[Shown]:
        shown = []
        for listener in self._settings.listeners:
            if listener.tls is not None:
                certificate = certificate_in(listener.tls.certificate)
                if certificate is not None:
                    shown.append(Shown("listener", listener.name, certificate))
        return shown

    def _look(self) -> None:
        self._expiry.look(self.certificates(), self._clock.time())
        self._timer = self._clock.call_later(LOOK_EVERY, self._look)
