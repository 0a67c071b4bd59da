"""Pieces of a record as JSON text, from the values of a message: what `waypost.observe.maillog` joins to lines.

A record is written once, as text, for whoever reads the log and for the journal: half the price of a dictionary that
is filled and then encoded. Whatever is not a number passes `quote`, and each piece begins with a comma.
"""

import json
from collections.abc import Iterable, Sequence
from functools import lru_cache

from waypost.mail.message import Client, Recipient
from waypost.mail.outcome import Answer, Attempt, Phase
from waypost.mail.queue_id import queue_id
from waypost.observe.events import EVENTS
from waypost.smtp.reply import EnhancedCode, Reply

quote = json.encoder.encode_basestring_ascii
"""A text as JSON, in ASCII; the compiled one where there is one."""

STARTS = {name: f'","level":"{event.level}","event":"{name}"' for name, event in EVENTS.items()}
"""What follows the time in a record of each event."""

_KEPT = 1024  # clients whose piece is kept: a client stays the same for as long as its session


def member(name: str, value: str | None) -> str:
    """One text; nothing when it is not known."""
    return f',"{name}":{quote(value)}' if value else ""


def addresses(texts: Iterable[str]) -> str:
    """A list, without a name and a comma."""
    return f"[{','.join(map(quote, texts))}]"


def recipient_texts(recipients: Sequence[Recipient]) -> list[str]:
    """The addresses as text."""
    return [str(recipient.address) for recipient in recipients]


class Clients:
    """Who a session is with, kept by the object: it is asked for with each message, and costs more than the rest."""

    def __init__(self) -> None:
        self._kept: dict[int, tuple[Client, str]] = {}

    def piece(self, client: Client) -> str:
        """Listener, address, name, account and TLS."""
        known = self._kept.get(id(client))
        if known is not None and known[0] is client:
            return known[1]
        if len(self._kept) >= _KEPT:
            self._kept.clear()
        made = (
            f',"listener":{quote(client.listener)},"client":{quote(client.address)}'
            f"{member('client_name', client.name)}{member('account', client.account)}{member('client_tls', client.tls)}"
        )
        self._kept[id(client)] = client, made  # which keeps the object, so that no other gets its number
        return made


def answer(said: Answer) -> str:
    """A reply, or why there was none."""
    if isinstance(said, Reply):
        return _reply(said)
    return f',"cause":"{said.cause}","phase":"{said.phase}","text":{quote(said.text)}'


def attempt(made: Attempt) -> str:
    """All that is known of one attempt but its role."""
    said = made.answer
    words = _reply(said) if isinstance(said, Reply) else f',"cause":"{said.cause}","text":{quote(said.text)}'
    return (
        f',"upstream":{quote(made.upstream)}{words},"phase":"{made.phase}","classification":{quote(made.rule)}'
        f',"duration":{short(made.duration)},"reused":{"true" if made.reused else "false"}'
        f"{member('tls', made.tls)}{_phases(made.phases) if made.phases else ''}"
    )


def upstream_id(made: Attempt) -> str:
    """The upstream's own id of a message that it took."""
    return member("queue_id", queue_id(made.answer.text)) if isinstance(made.answer, Reply) else ""


def short(seconds: float) -> float:
    """Seconds, cut to a tenth of a millisecond. `round` costs three times this."""
    return int(seconds * 10_000) / 10_000


def _reply(said: Reply) -> str:
    lines = said.lines
    text = quote(lines[0] if len(lines) == 1 else said.text)
    if said.enhanced is None:
        return f',"code":{said.code},"text":{text}'
    return f',"code":{said.code},"enhanced":"{_enhanced(said.enhanced)}","text":{text}'


@lru_cache(maxsize=256)
def _enhanced(code: EnhancedCode) -> str:
    return "{}.{}.{}".format(*code)


def _phases(durations: Sequence[tuple[Phase, float]]) -> str:
    names, seconds = zip(*durations, strict=True)
    return _phases_form(names) % seconds


@lru_cache(maxsize=256)
def _phases_form(names: tuple[Phase, ...]) -> str:
    pairs = ",".join(f'"{name}":%.4f' for name in names)
    return f',"phases":{{{pairs}}}'
