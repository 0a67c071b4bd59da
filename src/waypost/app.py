"""The composition root of the mail server: makes the parts, joins them, starts and stops them.

The only module, with the commands, that knows every class. What it does not do is decide about mail.
"""

import asyncio
import hashlib
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import structlog

from waypost.clock import Clock, SystemClock
from waypost.config.settings import Settings
from waypost.delivery.candidates import Candidates
from waypost.delivery.copies import Copies
from waypost.delivery.indoubt import Ledger
from waypost.delivery.intake import Desk, Intake, IntakeSettings
from waypost.delivery.scheduler import Scheduler
from waypost.delivery.spool import Delivery, Spool, SpoolError
from waypost.delivery.transfer import deliver
from waypost.mail.message import Recipient
from waypost.mail.outcome import Outcome, Status
from waypost.net.authentication import Authenticator
from waypost.net.listener import Listener
from waypost.net.pool import Upstreams
from waypost.observe.lag import LoopLag
from waypost.observe.maillog import MailLog
from waypost.observe.metrics import Facts, Metrics, SpoolFacts
from waypost.observe.output import Output
from waypost.routing.health import Health, State
from waypost.routing.route import Backoff, Route
from waypost.routing.rules import Router
from waypost.store.spill import Spill
from waypost.store.sqlite import INLINE, SqliteSpool

log = structlog.get_logger()


class Server:
    """One Waypost: listeners, routing, spool, scheduler, admin address.

    `spool` replaces the one that the settings name; the demonstration uses one in memory. `clock` is the
    machine's unless tests bring their own.
    """

    def __init__(
        self, settings: Settings, output: Output, *, spool: Spool | None = None, clock: Clock | None = None
    ) -> None:
        self._settings = settings
        self._clock = clock or SystemClock()
        self.metrics = Metrics()
        self.metrics.facts = self._facts
        self._lag = LoopLag(self.metrics.report_lag)
        self._maillog = MailLog(output.emit, self.metrics, debug=settings.log.level == "debug")
        self._incoming: Path | None = None
        self._upstreams = Upstreams(settings.hostname)
        self._candidates = Candidates(self._upstreams, self._clock, random.random)
        self._spool = spool or self._own_spool()
        self._scheduler = None if self._spool is None else self._new_scheduler(self._spool)
        self._listeners = self._new_listeners()
        self._admin: _Admin | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._draining = False
        self.addresses: dict[str, tuple[str, int]] = {}
        """Host and port of each bound listener, by its name: the port may have been 0."""

    # -- parts

    def _own_spool(self) -> Spool | None:
        settings = self._settings.spool
        if settings is None or settings.path is None:
            return None
        spool = SqliteSpool(Path(settings.path), on_due=self.wake)
        self._incoming = spool.incoming
        return spool

    def wake(self, target: str) -> None:
        """Something may be due for `target`: what a spool that comes from outside calls (its `on_due`)."""
        if self._scheduler is not None:
            self._scheduler.wake(target)

    def _new_scheduler(self, spool: Spool) -> Scheduler:
        async def deliver_copy(delivery: Delivery) -> Outcome:
            pool = self._settings.pools[delivery.target]
            return await deliver(self._candidates, delivery.message, pool, self._maillog)

        return Scheduler(
            spool,
            deliver_copy,
            target_limit=self._target_limit,
            backoff=self._backoff,
            log=_CopyLog(self._maillog),
            clock=self._clock,
            chance=random.random,
        )

    def _target_limit(self, target: str) -> int | None:
        pool = self._settings.pools.get(target)
        return None if pool is None else max(member.upstream.max_connections for member in pool.members)

    def _backoff(self, route: str) -> Backoff | None:
        found = self._settings.routes.routes.get(route)
        return None if found is None else found.backoff

    def _new_listeners(self) -> Sequence[Listener]:
        settings = self._settings
        ledger = Ledger(self._clock)
        copies = None
        if self._spool is not None:
            copies = Copies(self._spool, ledger, self._maillog, self._clock, random.random)
        desk = Desk(
            IntakeSettings(settings.hostname, instance_of(settings), settings.max_received),
            Router(settings.routes),
            self._candidates,
            copies,
            ledger,
            self._maillog,
            self._clock,
            random.random,
            self._new_sink,
        )
        intake = Intake(desk)
        authenticator = Authenticator(settings.routes.accounts, self._clock.monotonic)
        return [
            Listener(
                each,
                settings.hostname,
                intake,
                authenticator,
                self._maillog,
                has_accounts=bool(settings.routes.accounts),
                fault=_report_fault,
            )
            for each in settings.listeners
        ]

    def _new_sink(self, route: Route) -> Spill:
        # What will be copied is written where the spool can keep it without copying.
        keep_above = INLINE if route.copies and self._incoming is not None else None
        return Spill(self._incoming if keep_above else None, self._settings.spill_size, keep_above)

    # -- life

    async def start(self) -> None:
        """Opens the spool, binds, and begins. Raises `SpoolError` and `OSError`, with nothing left open."""
        try:
            await self._start()
        except BaseException:
            await self.stop(0)
            raise

    async def _start(self) -> None:
        if self._spool is not None:
            # Nobody can say any more whether the primary took these: a copy too many beats a copy too few.
            for prepared in await self._spool.open():
                self._spool.commit(prepared.message.id)
                log.warning("copies_resumed", id=prepared.message.id, reason="the primary's outcome was not recorded")
        if self._scheduler is not None:
            await self._scheduler.start()
        for listener in self._listeners:
            for host, port in await listener.bind():
                settings = listener.settings
                self.addresses[settings.name] = (host, port)
                log.info("listening", listener=settings.name, address=_shown(host, port), mode=settings.mode)
        if self._settings.admin is not None:
            self._admin = _Admin(self)
            self._admin.start(self._settings.admin.host, self._settings.admin.port)
        self._keeper = asyncio.create_task(self._upstreams.keep())
        self._lag.start()

    async def stop(self, timeout: float | None = None) -> None:
        """Drains: no new sessions, transactions under way may end within `timeout` seconds, then all closes."""
        self._draining = True
        patience = self._settings.shutdown_timeout if timeout is None else timeout
        await asyncio.gather(
            *(listener.stop(patience) for listener in self._listeners),
            *(() if self._scheduler is None else (self._scheduler.stop(patience),)),
        )
        self._upstreams.close()
        self._lag.stop()
        if self._keeper is not None:
            self._keeper.cancel()
        if self._admin is not None:
            await self._admin.stop()
        if self._spool is not None:
            try:
                await self._spool.close()
            except SpoolError as error:
                log.error("spool_not_closed", reason=str(error))

    # -- facts

    @property
    def health(self) -> Mapping[str, Health]:
        """What is known of each upstream that was ever tried."""
        return self._candidates.health

    async def readiness(self) -> Mapping[str, str | None]:
        """What must be right for mail to be taken: by name, why it is not, or None."""
        checks: dict[str, str | None] = {"accepting": "the server is being stopped" if self._draining else None}
        for listener in self._listeners:
            checks[f"listener {listener.settings.name}"] = None if listener.is_bound else "not bound"
        if self._spool is not None:
            try:
                await self._spool.check()
                checks["spool"] = None
            except SpoolError as error:
                checks["spool"] = str(error)
        return checks

    async def _facts(self) -> Facts:
        now, monotonic = self._clock.time(), self._clock.monotonic()
        owed: list[SpoolFacts] = []
        writable: bool | None = None
        if self._spool is not None:
            try:
                for count in await self._spool.targets():
                    age = None if count.oldest is None else now - count.oldest
                    owed.append(SpoolFacts(count.target, count.queued, count.dead, age))
                await self._spool.check()
                writable = True
            except SpoolError:
                writable = False
        connections: dict[tuple[str, str], int] = {}
        for name, (busy, idle) in self._upstreams.counts().items():
            connections[name, "busy"], connections[name, "idle"] = busy, idle
        health = {name: known.state(monotonic) is State.CLOSED for name, known in self._candidates.health.items()}
        return Facts(
            sessions={listener.settings.name: listener.sessions for listener in self._listeners},
            upstream_healthy={name: health.get(name, True) for name in self._settings.upstreams},
            upstream_connections=connections,
            spool=tuple(owed),
            spool_writable=writable,
        )


class _Admin:
    """The admin address of one server."""

    def __init__(self, server: Server) -> None:
        from waypost.admin.api import make_app
        from waypost.admin.server import AdminServer

        self._server = AdminServer(make_app(server.readiness, server.metrics.scrape))
        self._task: asyncio.Task[None] | None = None

    def start(self, host: str, port: int) -> None:
        """Binds and answers. Raises `OSError`."""
        from waypost.admin.server import bind

        listening = bind(host, port)
        log.info("admin_listening", address=_shown(*listening.getsockname()[:2]))
        self._task = asyncio.create_task(self._server.serve(listening))

    async def stop(self) -> None:
        """Ends; what is being answered is answered."""
        self._server.stop()
        if self._task is not None:
            await self._task


class _CopyLog:
    """Tells the mail log what the scheduler reports."""

    def __init__(self, maillog: MailLog) -> None:
        self._maillog = maillog

    def copied(self, delivery: Delivery, outcome: Outcome) -> None:
        done = [r.recipient for r in outcome.having(Status.RELAYED)]
        if done:
            self._maillog.copied(delivery.message, outcome.attempts[-1], done)

    def deferred(self, delivery: Delivery, outcome: Outcome, at: float) -> None:
        waiting = (*outcome.having(Status.DEFERRED), *outcome.having(Status.IN_DOUBT))
        recipients = [each.recipient for each in waiting]
        if recipients:
            self._maillog.deferred(delivery.message, delivery.target, recipients, waiting[0].answer, at, "copy")

    def dead(self, delivery: Delivery, recipients: tuple[Recipient, ...], reason: str) -> None:
        self._maillog.dead(delivery.message, delivery.target, recipients, reason)


def instance_of(settings: Settings) -> str:
    """What this Waypost knows its own `Received` fields by: the same after a restart, another for its neighbour."""
    names = "\0".join((settings.hostname, *(listener.name for listener in settings.listeners)))
    return hashlib.blake2s(names.encode(), digest_size=4).hexdigest()


def _shown(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _report_fault(error: BaseException) -> None:
    log.error("fault", exc_info=error)
