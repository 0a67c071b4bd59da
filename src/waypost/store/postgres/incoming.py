"""How messages come in: stored, prepared or with their deliveries, and what becomes of the prepared."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from waypost.delivery.spool import Delivery, Planned, Prepared, SpoolError
from waypost.mail.message import Message
from waypost.store.postgres.batch import Commit, NewDelivery, NewMessage
from waypost.store.postgres.claiming import Claims
from waypost.store.postgres.connection import Pool, in_task
from waypost.store.postgres.content import INLINE, ContentStore
from waypost.store.postgres.rows import MESSAGE, decode_message, encode_message, plain
from waypost.store.postgres.writer import Writer
from waypost.store.rows import decode_planned, encode_planned

_ORPHANS = f"""
SELECT {MESSAGE}, m.content, p.planned FROM waypost.prepared p JOIN waypost.message m ON m.key = p.message
WHERE p.owner = $1 AND p.message = ANY($2::bigint[]) ORDER BY m.received_at, m.key
"""  # noqa: S608  # columns, named in this package


@dataclass(slots=True, eq=False)
class _Held:
    """A message that this process has prepared, or has taken over."""

    key: int
    owner: int
    received_at: float
    planned: tuple[Planned, ...]


class Incoming:
    """Stores messages, and remembers those that are prepared."""

    def __init__(self, pool: Pool, writer: Writer, contents: ContentStore, claims: Claims) -> None:
        self._pool = pool
        self._writer = writer
        self._contents = contents
        self._claims = claims
        self._prepared: dict[str, _Held] = {}
        self._ids: dict[int, str] = {}  # of the prepared, by key
        self._orphans: list[int] = []

    def knows(self, key: int) -> bool:
        """Whether a message is prepared, or will be returned as an orphan."""
        return key in self._ids or key in self._orphans

    async def prepare(self, message: Message, planned: Sequence[Planned]) -> None:
        """See `Spool.prepare`."""
        self._check(message, planned)
        new = await self._store(message, encode_planned(planned), ())
        self._hold(message.id, _Held(new.key, new.owner, message.received_at, tuple(planned)))

    def commit(self, message_id: str) -> set[str]:
        """See `Spool.commit`; the lanes in which there is something due. It is there before the next claim is made."""
        held = self._release(message_id)
        deliveries = _deliveries(held.planned, held.key, held.received_at, None)
        self._writer.pending.changes.commits.append(Commit(message_id, held.key, held.owner, deliveries))
        self._writer.changed()
        return {plan.lane for plan in held.planned}

    async def commit_as(self, message_id: str, planned: Sequence[Planned]) -> Sequence[Delivery]:
        """See `Spool.commit_as`. When it fails nothing stays stored."""
        held = self._release(message_id)
        deliveries = _deliveries(planned, held.key, held.received_at, self._writer.instance)
        await self._end(message_id, held, deliveries)
        return await self._adopt(held.key, deliveries)

    async def abort(self, message_id: str) -> None:
        """See `Spool.abort`. When it fails, it is done as soon as that is possible."""
        if message_id in self._prepared:
            await self._end(message_id, self._release(message_id), [])

    async def accept(self, message: Message, planned: Sequence[Planned]) -> Sequence[Delivery]:
        """See `Spool.accept`."""
        self._check(message, planned)
        deliveries = _deliveries(planned, 0, message.received_at, self._writer.instance)
        new = await self._store(message, None, deliveries)
        return await self._adopt(new.key, deliveries)

    async def orphans(self) -> Sequence[Prepared]:
        """See `Spool.orphans`."""
        keys, self._orphans = self._orphans, []
        if not keys:
            return ()
        found: list[tuple[_Held, Prepared]] = []
        owner = self._writer.instance
        try:
            async with self._pool.connection() as connection:
                rows = await connection.fetch(_ORPHANS, owner, keys)
            for row in rows:
                planned = decode_planned(row["planned"])
                message = decode_message(row, await self._contents.download(row))
                found.append((_Held(row["key"], owner, message.received_at, planned), Prepared(message, planned)))
        except BaseException:
            self._orphans[:0] = keys
            for _, prepared in found:
                prepared.message.content.close()
            raise
        for held, prepared in found:
            self._hold(prepared.message.id, held)
        return [prepared for _, prepared in found]

    def inherit(self, keys: Collection[int]) -> None:
        """These prepared messages belong to this instance now."""
        for key in keys:
            if key in self._ids:  # it was out of sight for too long, and nobody else was there
                self._prepared[self._ids[key]].owner = self._writer.instance
            elif key not in self._orphans:
                self._orphans.append(key)

    def _check(self, message: Message, planned: Sequence[Planned]) -> None:
        self._writer.raise_unless_writable()
        if not planned or message.id in self._prepared:
            raise ValueError(f"message {message.id} cannot be stored: it is prepared already, or nothing is planned")

    async def _store(self, message: Message, planned: str | None, deliveries: Sequence[NewDelivery]) -> NewMessage:
        content = message.content
        new = new_message(message, self._writer.instance, planned, deliveries)
        if new.content is None:
            new.key = await self._contents.upload(content, new.owner)
        await self._writer.store(new)
        return new

    async def _end(self, message_id: str, held: _Held, deliveries: list[NewDelivery]) -> None:
        commit = Commit(message_id, held.key, held.owner, deliveries)
        if not await self._writer.end_prepared(commit, aborted=not deliveries):
            raise SpoolError(f"message {message_id} was taken over by another instance")

    async def _adopt(self, key: int, deliveries: Sequence[NewDelivery]) -> Sequence[Delivery]:
        running = [delivery.id for delivery in deliveries if delivery.owner is not None]
        try:
            return await in_task(self._claims.adopt(running, self._writer.instance)) if running else ()
        except BaseException:
            self._writer.withdraw(key, self._writer.instance)
            raise

    def _hold(self, message_id: str, held: _Held) -> None:
        self._prepared[message_id] = held
        self._ids[held.key] = message_id

    def _release(self, message_id: str) -> _Held:
        held = self._prepared.pop(message_id, None)
        if held is None:
            raise ValueError(f"message {message_id} is not prepared")
        del self._ids[held.key]
        return held


def new_message(message: Message, owner: int, planned: str | None, deliveries: Sequence[NewDelivery]) -> NewMessage:
    """The row of a message. Its content is in it when it is small, otherwise it must be uploaded."""
    content = message.content
    return NewMessage(
        message.id,
        message.received_at,
        plain(str(message.envelope.reverse_path)),
        encode_message(message),
        content.size,
        content.is_ascii,
        content.head(INLINE) if content.size <= INLINE else None,
        planned,
        list(deliveries),
        owner,
    )


def _deliveries(planned: Sequence[Planned], key: int, received_at: float, runner: int | None) -> list[NewDelivery]:
    """Rows for what is planned; what runs already is run by `runner`."""
    alone = len(planned) == 1
    return [NewDelivery(plan, key, received_at, alone, runner if plan.running else None) for plan in planned]
