"""Everything that a Waypost needs to take responsibility for mail: the parts around its spool, and their life."""

import asyncio
import random
from collections.abc import Callable, Mapping
from datetime import timedelta

import structlog

from waypost.admin.control import Control
from waypost.admin.queue import Queue, lanes_of_upstream
from waypost.admin.upstreams import Upstreams
from waypost.app.controlling import open_control
from waypost.app.reports import DeliveryReports
from waypost.app.stores import Stores
from waypost.clock import Clock
from waypost.config.control import control_path
from waypost.config.settings import Settings
from waypost.delivery.candidates import Candidates
from waypost.delivery.copies import Copies
from waypost.delivery.custody import Custody
from waypost.delivery.indoubt import Ledger
from waypost.delivery.notifications import NoticePolicy, Notifications
from waypost.delivery.scheduler import Scheduler
from waypost.delivery.spool import Action, Entry, SpoolError
from waypost.delivery.transfer import Carrier
from waypost.mail.field_values import FieldValues
from waypost.mail.header import read_header
from waypost.mail.message import Message
from waypost.observe.journal import JournalError
from waypost.observe.maillog import MailLog
from waypost.routing.facts import Facts
from waypost.routing.route import Backoff
from waypost.routing.rules import Router

log = structlog.get_logger()

ORPHANS_EVERY = 5.0
"""Seconds between two looks for what an instance that has died was about to do."""

TIDY_EVERY = timedelta(hours=1).total_seconds()
"""Seconds between two removals of old dead letters and old records of the journal."""


class Responsibility:
    """The scheduler, copies, custody and the control socket, around the spool of `stores`."""

    def __init__(
        self,
        stores: Stores,
        settings: Settings,
        router: Router,
        candidates: Candidates,
        ledger: Ledger,
        maillog: MailLog,
        clock: Clock,
        upstreams: Upstreams,
        sign: Callable[[bytes], bytes] | None = None,
    ) -> None:
        assert stores.spool is not None  # noqa: S101  # else there is nothing to be responsible for
        self._spool = stores.spool
        self._journal = stores.journal
        self._settings = settings
        self._upstreams = upstreams
        self._router = router
        self._clock = clock
        routes = settings.routes.routes
        reports = self._reports = DeliveryReports(maillog)
        policy = NoticePolicy(
            settings.hostname,
            settings.notices.per_hour,
            self._lifetime,
            settings.notices.sender,
            {
                name: settings.hostname if upstream.is_unix else upstream.host
                for name, upstream in settings.upstreams.items()
            },
            self._route_of_notice,
            sign,
        )
        self.scheduler = Scheduler(
            self._spool,
            Carrier(candidates, self._spool.intend, reports, clock),
            pool=settings.pools.get,
            route=routes.get,
            notifier=Notifications(policy, reports, lambda: random.getrandbits(32)),
            log=reports,
            clock=clock,
            chance=random.random,
        )
        self.copies = Copies(self._spool, ledger, maillog, clock, random.random)
        self.custody = Custody(self._spool, self.copies, self.scheduler.adopt, maillog, random.random)
        self._control: Control | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def _lifetime(self, route: str) -> float:
        found = self._settings.routes.routes.get(route)
        return (Backoff() if found is None else found.backoff).lifetime

    def _route_of_notice(self, notice: Message) -> str | None:
        client, content = notice.client, notice.content
        facts = Facts(
            client.listener,
            client.account,
            client.address,
            notice.envelope.reverse_path,
            notice.envelope.recipients[0].address,
            client.name,
            notice.id,
            notice.received_at,
            content.size,
            FieldValues(read_header(content)),
        )
        decision = self._router.route(facts)
        return None if decision.route is None else decision.route.name

    async def start(self, environ: Mapping[str, str]) -> None:
        """Begins with what an earlier run left; the stores are open. Raises `SpoolError`."""
        await self._adopt_orphans()
        await self.scheduler.start()
        if self._settings.spool is not None:
            queue = Queue(self._spool, self._clock, self._lifetime, self._altered)
            where = control_path(self._settings, environ)
            self._control = open_control(
                *(where, queue, self._journal, self._settings, self._router, self._upstreams, self._clock)
            )
        self._tasks = [asyncio.create_task(self._watch_orphans()), asyncio.create_task(self._tidy())]

    async def stop(self, timeout: float) -> None:
        """Deliveries under way may end within `timeout` seconds; then nothing is begun any more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._control is not None:
            await self._control.stop()
        await self.scheduler.stop(timeout)

    def _altered(self, action: Action, entry: Entry, by: str) -> None:
        self._reports.altered(action, entry, by)
        if action == "retry":
            self.scheduler.hasten(entry.lane)

    def reconsider(self, upstream: str) -> None:
        """Somebody has paused or resumed an upstream."""
        lanes = lanes_of_upstream(self._settings.pools, self._settings.routes.routes, upstream)
        for lane in lanes or ():
            self.scheduler.hasten(lane)

    # -- from time to time

    async def _adopt_orphans(self) -> None:
        for prepared in await self._spool.orphans():
            await self.copies.resume(prepared, self._settings.routes.routes)

    async def _watch_orphans(self) -> None:
        while True:
            await asyncio.sleep(ORPHANS_EVERY)
            try:
                await self._adopt_orphans()
            except SpoolError as error:
                log.warning("orphans_not_read", reason=str(error))

    async def _tidy(self) -> None:
        keep = self._settings.spool.keep_dead if self._settings.spool is not None else 0
        while True:
            now = self._clock.time()
            try:
                removed = await self._spool.purge(now - keep) if keep else 0
                if removed:
                    log.info("dead_letters_removed", count=removed)
                if self._journal is not None:
                    await self._journal.prune(now - self._settings.journal.keep)
            except (SpoolError, JournalError) as error:
                log.warning("not_tidied", reason=str(error))
            await asyncio.sleep(TIDY_EVERY)
