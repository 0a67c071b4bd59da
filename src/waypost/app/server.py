"""One Waypost: its parts, joined, and its life from start to stop."""

import asyncio
import hashlib
import os
import random
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path

import structlog

from waypost.admin.control import Control
from waypost.app.admin import Admin, listening
from waypost.app.authentication import new_authenticator
from waypost.app.controlling import open_control
from waypost.app.custody import Responsibility
from waypost.app.facts import gather, readiness
from waypost.app.lists import ListKeeper
from waypost.app.signing import new_signer
from waypost.app.stores import Stores, stores_of
from waypost.app.watching import Watch
from waypost.clock import Clock, SystemClock
from waypost.config.settings import Settings
from waypost.delivery.advice import Advice
from waypost.delivery.allowances import KIND as ALLOWANCE
from waypost.delivery.allowances import Allowances
from waypost.delivery.availability import SLEEP, Availability
from waypost.delivery.candidates import Candidates
from waypost.delivery.desk import Desk
from waypost.delivery.forming import Former, FormSettings
from waypost.delivery.indoubt import KIND, Ledger
from waypost.delivery.intake import Intake
from waypost.delivery.legs import Haste
from waypost.delivery.paused import PAUSE
from waypost.delivery.quota_store import OwnCount
from waypost.delivery.quotas import Quotas
from waypost.delivery.spool import Note, Spool, SpoolError
from waypost.net.listener import Listener
from waypost.net.login import Logins
from waypost.net.pool import Upstreams
from waypost.observe.journal import JournalError
from waypost.observe.lag import LoopLag
from waypost.observe.maillog import MailLog
from waypost.observe.metrics import Facts, Metrics
from waypost.observe.output import Output
from waypost.plugins.asking import Plugins
from waypost.routing.health import Health
from waypost.routing.rules import Router
from waypost.store.spill import Spill
from waypost.store.sqlite import INLINE

log = structlog.get_logger()

_TO_STORE = 2.0  # seconds of the time for stopping in which what clients still wait for is stored


class Server:
    """One Waypost: listeners, routing, spool, journal, scheduler, control socket, admin address.

    `spool` replaces the one that the settings name; the demonstration uses one in memory. `clock` is the
    machine's unless tests bring their own. `control` is where the control socket is when there is no spool.
    Raises `SpoolError` when the settings name a store that cannot be had.
    """

    def __init__(
        self,
        settings: Settings,
        output: Output,
        *,
        spool: Spool | None = None,
        clock: Clock | None = None,
        control: Path | None = None,
    ) -> None:
        self._settings = settings
        self._clock = clock or SystemClock()
        self._stores = Stores(spool) if spool else stores_of(settings, self._clock, self.wake, self._noted)
        self.metrics = Metrics()
        self.metrics.facts = self._facts
        self._lag = LoopLag(self.metrics.report_lag)
        debug = settings.log.level == "debug"
        self._maillog = MailLog(output.emit, self.metrics, journal=self._stores.journal, debug=debug)
        logins = Logins(self.metrics, self._clock.monotonic)
        self._upstreams = Upstreams(settings.hostname, logins)
        self._own_count = OwnCount(self._clock.time, self.spool)
        self._router = Router(settings.routes)
        signer = new_signer(settings, self._clock.time, self.metrics)
        self._former = Former(
            FormSettings(settings.hostname, instance_of(settings), settings.max_received),
            self._maillog,
            self._router.may_send_as,
            signer,
        )
        quotas = Quotas(self._stores.quotas or self._own_count, self._clock)
        self._plugins = Plugins(settings.plugins, self._clock, self.metrics.plugin_answered)
        self._availability = Availability(self._clock, self._slept)
        self._availability.paused.on_change = self._paused
        self._candidates = Candidates(
            *(self._upstreams, self._clock, random.random),
            availability=self._availability,
            quotas=quotas,
            in_flight=self._upstreams.busy,
            advice=Advice(self._plugins, self._maillog),
            former=self._former,
        )
        self._watch = Watch(settings, self._candidates, self._upstreams, logins, self.metrics, self._clock)
        self._ledger = Ledger(self._clock, self.spool)
        self._lists = ListKeeper(self._router, self._clock)
        self._haste = Haste()
        self._allowances = Allowances(
            settings.routes.accounts,
            settings.routes.others,
            self._clock,
            None if self.spool is None else self.spool.put,
            secrets.token_hex(4),
            self._allowance_spent,
        )
        self._ours: Responsibility | None = None
        if self.spool is not None:
            self._ours = Responsibility(
                *(self._stores, settings, self._router, self._candidates, self._ledger, self._maillog, self._clock),
                self._watch.desk,
                sign=None if signer is None else signer.sign_at_once,
            )
        self._listeners = self._new_listeners()
        self._admin: Admin | None = None
        self._control_path = control
        self._control: Control | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self._draining = False
        self.addresses: dict[str, tuple[str, int]] = {}
        """Host and port of each bound listener, by its name: the port may have been 0."""

    @property
    def spool(self) -> Spool | None:
        """What is owed, when there is somewhere to remember it."""
        return self._stores.spool

    # -- parts

    def _new_listeners(self) -> Sequence[Listener]:
        settings, ours = self._settings, self._ours
        desk = Desk(
            self._former,
            self._router,
            self._candidates,
            None if ours is None else ours.copies,
            None if ours is None else ours.custody,
            self._ledger,
            self._maillog,
            self._clock,
            random.random,
            self._new_sink,
            self._allowances if self._allowances else None,
            self._haste,
        )
        intake = Intake(desk)
        authenticator = new_authenticator(settings, self._clock)
        return [
            Listener(
                each,
                settings.hostname,
                intake,
                authenticator,
                self._maillog,
                has_accounts=bool(settings.routes.accounts) or settings.accounts_file is not None,
                fault=_report_fault,
            )
            for each in settings.listeners
        ]

    def _new_sink(self, stored: bool) -> Spill:
        # What will be stored is written where the spool can keep it without copying.
        incoming = self._stores.incoming if stored else None
        return Spill(incoming, self._settings.spill_size, INLINE if incoming is not None else None)

    # -- what the spool and the upstreams tell

    def wake(self, lane: str) -> None:
        """Something may be due in `lane`: what a spool that comes from outside calls (its `on_due`)."""
        if self._ours is not None:
            self._ours.scheduler.wake(lane)

    def _slept(self, upstream: str, until: float, reason: str) -> None:
        """An upstream sleeps, or is awake again: worth knowing after a restart, and elsewhere."""
        if self.spool is None:
            return
        if until:
            self.spool.put(Note(SLEEP, upstream, reason, until))
        else:
            self.spool.drop(SLEEP, upstream)

    def _paused(self, upstream: str, note: Note | None, here: bool) -> None:
        """An upstream is paused, or resumed."""
        if self.spool is not None and here:
            if note is not None:
                self.spool.put(note)
            else:
                self.spool.drop(PAUSE, upstream)
        if self._ours is not None:
            self._ours.reconsider(upstream)

    def _allowance_spent(self, account: str, what: str) -> None:
        self.metrics.allowances_spent[account, what] += 1

    def _noted(self, *notes: Note) -> None:
        """Another instance has noted something, or an earlier run has."""
        self._allowances.learn([note for note in notes if note.kind == ALLOWANCE])
        self._ledger.learn([note for note in notes if note.kind == KIND])
        self._availability.restore(notes)
        self._own_count.learn(notes)

    # -- life

    async def start(self) -> None:
        """Opens the stores, binds, and begins. Raises `SpoolError` and `OSError`, with nothing left open."""
        try:
            await self._start()
        except BaseException:
            await self.stop(0)
            raise

    async def _start(self) -> None:
        settings = self._settings
        await self._plugins.start()
        if self.spool is not None and self._ours is not None:
            await self.spool.open()
            if self._stores.journal is not None:
                try:
                    await self._stores.journal.open()
                except JournalError as error:
                    raise SpoolError(str(error)) from error
            self._noted(*await self.spool.notes())
            await self._ours.start(os.environ)
        for listener in self._listeners:
            for host, port in await listener.bind():
                self.addresses[listener.settings.name] = (host, port)
                where = listening(host, port)
                mode, protocol = listener.settings.mode, "lmtp" if listener.settings.lmtp else "smtp"
                log.info("listening", listener=listener.settings.name, address=where, mode=mode, protocol=protocol)
        if settings.admin is not None:
            self._admin = Admin(self.readiness, self.metrics.scrape)
            self._admin.start(settings.admin.host, settings.admin.port)
        if self._ours is None and self._control_path is not None:
            self._control = open_control(
                *(self._control_path, None, None, settings, self._router, self._watch.desk, self._clock)
            )
        self._watch.start()
        self._sweeper = asyncio.create_task(self._upstreams.keep())
        self._lag.start()
        self._lists.start()

    async def stop(self, timeout: float | None = None) -> None:
        """Drains: no new sessions, transactions under way may end within `timeout` seconds, then all closes."""
        self._draining = True
        patience = self._settings.shutdown_timeout if timeout is None else timeout
        until = asyncio.get_running_loop().time() + patience
        # Who waits for upstreams in `hybrid` is answered in time to hear it: what is not delivered by then is stored.
        hurried = asyncio.get_running_loop().call_later(patience - min(_TO_STORE, patience / 2), self._haste.make)
        await asyncio.gather(
            *(listener.stop(patience) for listener in self._listeners),
            *(() if self._ours is None else (self._ours.stop(patience),)),
        )
        if self._ours is not None:  # the last transactions may have left attempts behind that go on
            await self._ours.scheduler.stop(max(0.0, until - asyncio.get_running_loop().time()))
        if self._control is not None:
            await self._control.stop()
        await self._watch.stop()
        hurried.cancel()
        self._upstreams.close()
        await self._plugins.close()
        await self._candidates.quotas.close()
        self._lag.stop()
        self._lists.stop()
        if self._sweeper is not None:
            self._sweeper.cancel()
        if self._admin is not None:
            await self._admin.stop()
        if self.spool is not None:
            self._allowances.note_now()
            try:
                await self.spool.close()
            except SpoolError as error:
                log.error("spool_not_closed", reason=str(error))
        if self._stores.journal is not None:
            await self._stores.journal.close()

    # -- facts

    @property
    def health(self) -> Mapping[str, Health]:
        """What is known of each upstream that was ever tried."""
        return self._availability.health

    async def readiness(self) -> Mapping[str, str | None]:
        """What must be right for mail to be taken: by name, why it is not, or None."""
        return await readiness(self._listeners, self.spool, draining=self._draining)

    async def _facts(self) -> Facts:
        return await gather(
            self._settings, self._listeners, self._stores, self._upstreams, self._candidates, self._watch, self._clock
        )


def instance_of(settings: Settings) -> str:
    """What this Waypost knows its own `Received` fields by: the same after a restart, another for its neighbour."""
    names = "\0".join((settings.hostname, *(listener.name for listener in settings.listeners)))
    return hashlib.blake2s(names.encode(), digest_size=4).hexdigest()


def _report_fault(error: BaseException) -> None:
    log.error("fault", exc_info=error)
