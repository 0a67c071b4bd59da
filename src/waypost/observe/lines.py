"""What all records of the mail log have in common: how a line begins, and where it goes."""

import asyncio
import time
from collections.abc import Callable, Sequence

from waypost.mail.message import Message, Recipient
from waypost.observe import pieces
from waypost.observe.journal import Journal
from waypost.observe.metrics import Metrics
from waypost.observe.pieces import STARTS, addresses, quote, recipient_texts
from waypost.observe.record import timestamp_at

_PATIENCE = 1.0  # seconds


class Lines:
    """Writes lines of JSON: to the output, and to the journal those that have the id of a message."""

    def __init__(
        self,
        emit: Callable[[str], None],
        metrics: Metrics,
        *,
        journal: Journal | None = None,
        debug: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._emit = emit
        self._metrics = metrics
        self._journal = journal
        self._debug = debug
        self._clock = clock
        self._flushing: asyncio.Future[None] | None = None
        self._clients = pieces.Clients()
        self._at = -1  # milliseconds since the epoch
        self._time = ""  # how a record of that moment begins

    def _start(self, event: str, message_id: str | None) -> str:
        now = int(self._clock() * 1000)
        if now != self._at:  # on a busy machine several records fall into one millisecond
            self._at, self._time = now, f'{{"time":"{timestamp_at(now)}'
        if message_id is None:
            return self._time + STARTS[event]
        return f'{self._time}{STARTS[event]},"id":{quote(message_id)}'

    def _about(self, event: str, message: Message, recipients: Sequence[Recipient]) -> str:
        path, texts = str(message.envelope.reverse_path), recipient_texts(recipients)
        return f'{self._start(event, message.id)},"reverse_path":{quote(path)},"recipients":{addresses(texts)}'

    def _tell(self, message_id: str | None, line: str, keys: Sequence[str] = ()) -> None:
        self._emit(line)
        if self._journal is not None and message_id is not None:
            self._journal.write(message_id, line, keys)

    async def recorded(self) -> None:
        """Waits until what was told so far is in the journal: before a message that is in doubt may be sent again.

        For a second at most: a journal that cannot be written keeps no mail waiting.
        """
        if self._journal is not None:
            # A task of its own: it goes on when nobody waits any more, and sessions have none.
            self._flushing = asyncio.ensure_future(self._journal.flush())
            await asyncio.wait((self._flushing,), timeout=_PATIENCE)
