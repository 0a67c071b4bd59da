"""What a sink has got: messages, kept within bounds, and waited for."""

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from waypost.mail.header import Header
from waypost.observe.record import timestamp


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """One message as it arrived.

    Paths are without angle brackets, the null reverse-path is empty. Parameters are as SMTP writes them.
    `content` is exact, dot-stuffing undone. `received_at` is in seconds since the epoch.
    """

    id: int  # counts from 1
    received_at: float
    session: int
    client: str  # its address
    client_name: str  # as EHLO or HELO gave it
    esmtp: bool
    tls: str | None
    username: str | None
    reverse_path: str
    parameters: tuple[str, ...]
    recipients: tuple[str, ...]
    recipient_parameters: tuple[tuple[str, ...], ...]
    content: bytes = field(repr=False)

    def header(self, name: bytes) -> str:
        """The first field with this name (lower case), as text for people; empty without it."""
        value = Header(self.content[:65536]).first(name) or b""
        return value.decode("utf-8", "backslashreplace")

    def as_json(self) -> dict[str, Any]:
        """Everything but the content, for JSON."""
        recipients = zip(self.recipients, self.recipient_parameters, strict=True)
        return {
            "id": self.id,
            "received_at": timestamp(self.received_at),
            "session": self.session,
            "client": self.client,
            "client_name": self.client_name,
            "esmtp": self.esmtp,
            "tls": self.tls,
            "username": self.username,
            "reverse_path": self.reverse_path,
            "parameters": list(self.parameters),
            "recipients": [{"address": address, "parameters": list(parameters)} for address, parameters in recipients],
            "size": len(self.content),
            "subject": self.header(b"subject"),
        }


class Mailbox:
    """Messages in memory: at most `keep`, with at most `max_memory` octets of content. The oldest go first.

    The newest is kept even when it is larger than `max_memory` by itself.
    """

    def __init__(self, keep: int, max_memory: int) -> None:
        self._keep = keep
        self._max_memory = max_memory
        self._messages: deque[StoredMessage] = deque()
        self._octets = 0
        self._changed = asyncio.Event()
        self.total = 0
        """Messages ever kept, those included that had to go."""

    def __len__(self) -> int:
        return len(self._messages)

    def __iter__(self) -> Iterator[StoredMessage]:
        return iter(self._messages)

    def find(self, id_: int) -> StoredMessage | None:
        """The message with this number, if it is still here."""
        return next((message for message in self._messages if message.id == id_), None)

    def next_id(self) -> int:
        """The number of the message that comes next."""
        return self.total + 1

    def keep(self, message: StoredMessage) -> None:
        """Stores a message, makes room, and wakes who waits."""
        self._messages.append(message)
        self._octets += len(message.content)
        self.total += 1
        while len(self._messages) > 1 and (len(self._messages) > self._keep or self._octets > self._max_memory):
            self._octets -= len(self._messages.popleft().content)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def clear(self) -> None:
        """Forgets all messages; numbers go on."""
        self._messages.clear()
        self._octets = 0

    async def wait_for(self, total: int, timeout: float) -> Sequence[StoredMessage]:
        """The messages that are here as soon as `total` were ever kept. Raises `TimeoutError`.

        `timeout` is in seconds.
        """
        try:
            async with asyncio.timeout(timeout):
                while self.total < total:
                    await self._changed.wait()
        except TimeoutError:
            raise TimeoutError(f"{self.total} of {total} messages came within {timeout:g} s") from None
        return tuple(self._messages)
