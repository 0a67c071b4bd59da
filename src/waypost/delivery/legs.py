"""One route's share of a transaction, by acceptance mode: which recipients the client was told are accepted.

In `pass` it is a `LiveRelay` itself. In `hybrid` it is one that is given a budget of time, and whose temporary
refusals are ours to mend. In `spool` nobody is asked while the client waits.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

from waypost.clock import Clock
from waypost.delivery.linking import Fate
from waypost.delivery.relay import LiveRelay
from waypost.delivery.sending import Relayed
from waypost.mail.content import Content
from waypost.mail.message import Recipient
from waypost.mail.outcome import Answer, Attempt, Cause, Failure, Outcome, Phase, RecipientOutcome, Status
from waypost.routing.classify import classify
from waypost.routing.route import Route
from waypost.routing.verdict import Kind
from waypost.smtp.reply import Reply, reply

T = TypeVar("T")

_OURS = reply(250, "2.1.5", "Accepted; it will be delivered as soon as possible")


class Accepting(Protocol):
    """Whoever recipients are offered to."""

    async def recipients(self, recipients: Sequence[Recipient]) -> Sequence[Reply]:
        """The answer for each."""


class Leg(Accepting, Protocol):
    """One route's share of a transaction."""

    @property
    def route(self) -> Route:
        """The route."""

    @property
    def accepted(self) -> Sequence[Recipient]:
        """Recipients that the client was told are accepted."""

    @property
    def running(self) -> "asyncio.Future[Relayed] | None":
        """An attempt that goes on after the client was answered, and reads the content until it ends."""

    def release(self) -> None:
        """Gives the upstream's connection back, if there is one. Idempotent."""


class Haste:
    """Waypost is about to end: from `make` on no client's budget has anything left, and what it has sent is stored."""

    __slots__ = ("_waiting", "is_made")

    def __init__(self) -> None:
        self.is_made = False
        self._waiting: set[Callable[[], None]] = set()

    def make(self) -> None:
        """Ends all waiting for upstreams that is under way in budgets, and that which would come."""
        self.is_made = True
        for wake in tuple(self._waiting):
            wake()

    async def wait(self, running: "asyncio.Future[T]", seconds: float) -> None:
        """Waits until it has ended, or haste is made; so many seconds at most.

        `asyncio.wait` for one costs three times as much.
        """
        loop = asyncio.get_running_loop()
        turn = loop.create_future()

        def wake(_: object = None) -> None:
            if not turn.done():
                turn.set_result(None)

        running.add_done_callback(wake)
        self._waiting.add(wake)
        timer = loop.call_later(seconds, wake)
        try:
            await turn
        finally:
            timer.cancel()
            self._waiting.discard(wake)


class Budget:
    """The seconds that one client waits for upstreams, over all steps of a transaction."""

    def __init__(self, seconds: float, clock: Clock, haste: Haste) -> None:
        self.seconds = seconds
        self.left = 0.0 if haste.is_made else seconds
        self._clock = clock
        self._haste = haste

    async def wait(self, running: "asyncio.Future[T]") -> bool:
        """Waits as long as the budget lasts; whether it has ended. If not it is left running."""
        if self.left > 0 and not self._haste.is_made and not running.done():
            began = self._clock.monotonic()
            try:
                await self._haste.wait(running, self.left)
            except BaseException:
                running.cancel()  # whoever waits is being stopped
                raise
            self.left -= self._clock.monotonic() - began
        if not running.done():
            self.left = 0.0  # a timer may be early by the resolution of its clock
        return running.done()

    def spent(self) -> Failure:
        """Why a delivery was put off when nothing else was wrong."""
        if self._haste.is_made:
            return Failure(Phase.CONNECT, Cause.SHUTDOWN, "Waypost was stopped before there was a final answer")
        return Failure(Phase.CONNECT, Cause.TIMEOUT, f"no final answer within {self.seconds:g} s (sync_budget)")


class SpoolLeg:
    """Everything is accepted, and delivered afterwards."""

    def __init__(self, route: Route) -> None:
        self.route = route
        self.running: asyncio.Future[Relayed] | None = None
        self.accepted: list[Recipient] = []

    async def recipients(self, recipients: Sequence[Recipient]) -> Sequence[Reply]:
        self.accepted += recipients
        return [_OURS] * len(recipients)

    def release(self) -> None:
        pass


class HybridLeg:
    """What the upstreams answer at once is answered by them; what they put off becomes ours."""

    def __init__(self, relay: LiveRelay, budget: Budget) -> None:
        self.relay = relay
        self.budget = budget
        self.owed: list[RecipientOutcome] = []
        """Recipients that no upstream has accepted; refused for good only those that the client thinks accepted."""
        self.next: list[Recipient] = []
        """Recipients whose turn is at once: nobody was asked for them, or there was no room for them beside others."""
        self.unanswered: str | None = None
        """The upstream that was handed the content and has not answered."""
        self.running: asyncio.Future[Relayed] | None = None

    @property
    def route(self) -> Route:
        return self.relay.route

    @property
    def accepted(self) -> Sequence[Recipient]:
        if not self.owed and not self.next:
            return self.live
        return (*self.live, *(outcome.recipient for outcome in self.owed), *self.next)

    @property
    def is_partial(self) -> bool:
        """Whether some recipients have to be delivered afterwards, whatever becomes of the others."""
        return bool(self.owed or self.next)

    @property
    def live(self) -> Sequence[Recipient]:
        """Recipients that an upstream has accepted."""
        return self.relay.accepted

    async def recipients(self, recipients: Sequence[Recipient]) -> Sequence[Reply]:
        if self.budget.left <= 0:
            self.next += recipients
            return [_OURS] * len(recipients)
        answers: Sequence[Reply | Failure]
        asking = _start(self.relay.recipients(recipients))
        if await self.budget.wait(asking):
            answers = asking.result()
        else:
            await _cancelled(asking)
            self.relay.forget(recipients)
            answers = [self.budget.spent()] * len(recipients)
        return [self._told(*pair) for pair in zip(recipients, answers, strict=True)]

    def _told(self, recipient: Recipient, answer: Answer) -> Reply:
        if isinstance(answer, Reply) and answer.severity != 4:
            return answer
        if isinstance(answer, Reply) and classify(Phase.RCPT, answer).kind is Kind.TOO_MANY_RECIPIENTS:
            self.next.append(recipient)  # in another transaction
            return _OURS
        self.owed.append(RecipientOutcome(recipient, Status.DEFERRED, answer, ""))
        return _OURS

    def refuse_later(self, recipient: Recipient, answer: Reply) -> None:
        """An upstream has refused for good whom the client was told is accepted: its sender will be notified."""
        self.owed.append(RecipientOutcome(recipient, Status.FAILED, answer, ""))

    async def send(self, content: Content) -> Relayed | None:
        """Hands the content to the upstreams; None when the budget is spent and one has not answered for it yet.

        Then `late` has its answer, sooner or later. Nobody is asked when the budget was spent before.
        """
        if self.budget.left <= 0:
            self.next += self.live
            self.relay.forget(self.live)
            return _put_off(self.budget)
        running = _start(self.relay.send(content))
        if await self.budget.wait(running):
            relayed = running.result()
            self.unanswered = _in_doubt_at(relayed)
            return relayed
        if self.relay.sending_to is None:
            await _cancelled(running)
            self.relay.release()
            return self._put_off()
        self.unanswered = self.relay.sending_to
        self.relay.last_try = True
        self.running = running
        return None

    def _put_off(self) -> Relayed:
        """Nobody has answered in time; but for some recipients an upstream may have, before others were asked."""
        late = _put_off(self.budget)
        known = self.relay.fates
        if not known:
            return late
        fates = tuple(known.get(id(each)) or Fate(each, late.status, late.reply, None) for each in self.live)
        relayed = replace(late, fates=fates)
        self.unanswered = _in_doubt_at(relayed)
        return relayed

    def having(self, relayed: Relayed | None, status: Status) -> Sequence[Recipient]:
        """The recipients with this fate, of those whom an upstream had accepted.

        Without `relayed`, while the answer is still awaited: as far as it is known.
        """
        if relayed is None:
            known = self.relay.fates
            return [each for each in self.live if id(each) in known and known[id(each)].status is status]
        if relayed.fates:
            return [fate.recipient for fate in relayed.having(status)]
        return self.live if relayed.status is status else ()

    async def late(self) -> Outcome:
        """The outcome of an attempt that `send` has not waited for."""
        assert self.running is not None  # noqa: S101  # `send` returned None
        return self.outcome(await self.running)

    def outcome(self, relayed: Relayed) -> Outcome:
        """What became of the recipients that an upstream had accepted."""
        if relayed.fates:
            return _outcome_of(relayed.fates)
        answer: Answer = relayed.reply
        upstream = ""
        attempts: tuple[Attempt, ...] = ()
        if relayed.attempt is not None:
            upstream, attempts = relayed.attempt.upstream, (relayed.attempt,)
            if relayed.status is not Status.FAILED:
                answer = relayed.attempt.answer
        return Outcome(tuple(RecipientOutcome(r, relayed.status, answer, upstream) for r in self.live), attempts)

    def release(self) -> None:
        if self.running is None:
            self.relay.release()


def _in_doubt_at(relayed: Relayed) -> str | None:
    """The upstream that may have the message for somebody."""
    if relayed.status is Status.IN_DOUBT and relayed.attempt is not None:
        return relayed.attempt.upstream
    doubts = (fate.attempt for fate in relayed.having(Status.IN_DOUBT))
    return next((attempt.upstream for attempt in doubts if attempt is not None), None)


def _outcome_of(fates: Sequence[Fate]) -> Outcome:
    found: list[RecipientOutcome] = []
    for fate in fates:
        attempt = fate.attempt
        answer = fate.reply if attempt is None or fate.status is Status.FAILED else attempt.answer
        found.append(RecipientOutcome(fate.recipient, fate.status, answer, "" if attempt is None else attempt.upstream))
    attempts = dict.fromkeys(fate.attempt for fate in fates if fate.attempt is not None)
    return Outcome(tuple(found), tuple(attempts))


def close_after(content: Content, running: "Sequence[asyncio.Future[Relayed]]") -> None:
    """Closes content when the last attempt that reads it has ended."""
    waiting = set(running)

    def ended(attempt: "asyncio.Future[Relayed]") -> None:
        waiting.discard(attempt)
        if not waiting:
            content.close()

    for attempt in running:
        attempt.add_done_callback(ended)


def _put_off(budget: Budget) -> Relayed:
    return Relayed(Status.DEFERRED, reply(451, "4.4.1", budget.spent().text))


def _start(coroutine: "Awaitable[T]") -> "asyncio.Task[T]":
    return asyncio.get_running_loop().create_task(coroutine)  # type: ignore[arg-type]  # it is a coroutine


async def _cancelled(task: "asyncio.Task[T]") -> None:
    task.cancel()
    await asyncio.wait((task,))
