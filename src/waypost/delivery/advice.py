"""Asks the plugin of a pool which upstreams are tried for a message, and makes members of the pool of its answer.

Without a usable answer the order of the pool's strategy holds. Health comes before the plugin's wishes as it does
before a strategy's: of the upstreams that it names those that may be tried come first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from waypost.delivery.quotas import QuotaState
from waypost.mail.content import Content
from waypost.mail.message import Client, Envelope
from waypost.plugins.header_fields import HeaderFields
from waypost.plugins.port import (
    Answer,
    Order,
    PluginError,
    Question,
    UpstreamFacts,
)
from waypost.plugins.port import Health as Word
from waypost.routing.health import Health, State
from waypost.routing.route import Member, Pool, Upstream
from waypost.routing.standing import UNKNOWN, Standing
from waypost.smtp.reply import Reply

Chosen = Sequence[Member] | Reply
"""Whom to try, best first; or what is said of the message instead."""

_WORDS: Mapping[State, Word] = {
    State.CLOSED: "healthy",
    State.HALF_OPEN: "healthy",
    State.OPEN: "failing",
    State.ASLEEP: "asleep",
}


class Advisers(Protocol):
    """Whoever asks plugins: `waypost.plugins.asking`."""

    async def ask(self, name: str, question: Question) -> Answer:
        """Its answer. Raises `PluginError`, which has been counted."""


class AdviceLog(Protocol):
    """Whoever writes down what plugins said."""

    def advised(self, message_id: str, plugin: str, pool: str, answer: Sequence[str] | Reply) -> None:
        """A plugin chose the order in which upstreams are tried, or the reply that stops the message."""

    def not_advised(self, message_id: str, plugin: str, pool: str, cause: str, reason: str) -> None:
        """A plugin had no usable answer, so the order is that of the pool's strategy."""


@dataclass(frozen=True, slots=True)
class Case:
    """What a plugin is told of one message. `route` is empty when it has none; `content` is None before it is there."""

    message_id: str
    client: Client
    envelope: Envelope
    route: str
    background: bool
    content: Content | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a pool's upstreams: each by its name."""

    standings: Mapping[str, Standing]
    health: Mapping[str, Health]
    quotas: Mapping[str, Sequence[QuotaState]]
    now: float


class Advice:
    """Asks plugins, and writes down what they said."""

    def __init__(self, advisers: Advisers, log: AdviceLog) -> None:
        self._advisers = advisers
        self._log = log

    async def order(self, name: str, pool: Pool, default: Sequence[Member], case: Case, known: Known) -> Chosen:
        """The members to try, or the reply that stops the message, as the plugin `name` wants it.

        `default` is the order of the pool's strategy, which holds when the plugin has no answer.
        """
        question = question_of(pool, default, case, known)
        try:
            answer = await self._advisers.ask(name, question)
        except PluginError as error:
            self._log.not_advised(case.message_id, name, pool.name, error.reason, str(error))
            return default
        if not isinstance(answer, Order):
            self._log.advised(case.message_id, name, pool.name, answer.reply)
            return answer.reply
        by_name = {member.upstream.name: member for member in default}
        unwell = {facts.name for facts in question.upstreams if facts.health != "healthy"}
        order = in_order(answer, by_name, unwell)
        self._log.advised(case.message_id, name, pool.name, [member.upstream.name for member in order])
        return order


def in_order(order: Order, members: Mapping[str, Member], unwell: set[str]) -> Sequence[Member]:
    """The members of an order: those first that may be tried."""
    well = [members[name] for name in order.upstreams if name not in unwell]
    return [*well, *(members[name] for name in order.upstreams if name in unwell)]


def question_of(pool: Pool, members: Sequence[Member], case: Case, known: Known) -> Question:
    """The question for one message. Header fields are shown to a plugin that needs the content."""
    envelope, client, content = case.envelope, case.client, case.content
    return Question(
        message_id=case.message_id,
        listener=client.listener,
        account=client.account,
        client_address=client.address,
        helo=client.name,
        reverse_path=str(envelope.reverse_path),
        recipients=tuple(str(recipient.address) for recipient in envelope.recipients),
        declared_size=envelope.parameters.size,
        route=case.route,
        pool=pool.name,
        background=case.background,
        upstreams=tuple(_facts(member, known) for member in members),
        size=None if content is None else content.size,
        header=HeaderFields.of(content) if pool.needs_content and content is not None else None,
    )


def _facts(member: Member, known: Known) -> UpstreamFacts:
    upstream = member.upstream
    standing = known.standings.get(upstream.name, UNKNOWN)
    left = [state.limit - state.used for state in known.quotas.get(upstream.name, ()) if state.limit is not None]
    word, reason = _health(upstream, known)
    return UpstreamFacts(
        name=upstream.name,
        address=upstream.address,
        login="" if upstream.credentials is None else upstream.credentials.username,
        weight=member.weight,
        health=word,
        reason=reason,
        in_flight=standing.in_flight,
        latency=standing.latency,
        errors=standing.errors,
        quota_used=standing.load,
        quota_left=max(0, min(left)) if left else None,
        cost=upstream.cost,
    )


def _health(upstream: Upstream, known: Known) -> tuple[Word, str]:
    for state in known.quotas.get(upstream.name, ()):
        if state.back_in > 0:
            return "spent", str(state.quota)
    health = known.health.get(upstream.name)
    if health is None or health.is_closed:
        return "healthy", ""
    word = _WORDS[health.state(known.now)]
    if word == "healthy" and not health.may_try(known.now):  # its trial is under way
        word = "failing"
    return word, "" if word == "healthy" else health.describe(known.now)
