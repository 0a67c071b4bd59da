"""Pieces of a record as JSON text, from the values of a message: what `waypost.observe.maillog` joins to lines.

A record is written once, as text, for whoever reads the log and for the journal: half the price of a dictionary that
is filled and then encoded. Whatever is not a number passes `quote`, and each piece begins with a comma.
"""

import json
from collections.abc import Sequence
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


def addresses(texts: Sequence[str]) -> str:
    """A list, without a name and a comma."""
    return f"[{quote(texts[0])}]" if len(texts) == 1 else f"[{','.join(map(quote, texts))}]"


def recipient_texts(recipients: Sequence[Recipient]) -> list[str]:
    """The addresses as text."""
    if len(recipients) == 1:  # as nearly always
        return [str(recipients[0].address)]
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


def attempt(made: Attempt, *, taken: bool = False) -> str:
    """All that is known of one attempt but its role; of one that was `taken`, the upstream's own id too."""
    said = made.answer
    start = _circumstances(made.upstream, made.phase, made.rule, made.reused, made.tls)
    phases = _phases(made.phases) if made.phases else ""
    if not isinstance(said, Reply):
        return f'{start},"cause":"{said.cause}","text":{quote(said.text)},"duration":{made.duration:.4f}{phases}'
    theirs = queue_id(said.lines[0] if len(said.lines) == 1 else said.text) if taken else None
    known_as = f',"queue_id":"{theirs}"' if theirs is not None else ""
    return f'{start}{_reply(said)},"duration":{made.duration:.4f}{phases}{known_as}'


@lru_cache(maxsize=1024)
def _circumstances(upstream: str, phase: Phase, rule: str, reused: bool, tls: str | None) -> str:
    """What many attempts have in common."""
    return (
        f',"upstream":{quote(upstream)},"phase":"{phase}","classification":{quote(rule)}'
        f',"reused":{"true" if reused else "false"}{member("tls", tls)}'
    )


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
