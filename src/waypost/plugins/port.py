"""What a plugin is asked, what it may answer, and what a kind of plugin has to be able to do.

A plugin orders the upstreams of one pool for one message, or refuses the message, or puts it off. It is asked by
`waypost.plugins.asking`, which knows deadlines, limits and restarts; a kind only knows how to put a question and to
read an answer. Nothing in a question is secret: upstreams are shown as facts, which have no place for a password.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, Protocol, runtime_checkable

from waypost.plugins.header_fields import HeaderFields
from waypost.smtp.reply import MAX_TEXT, EnhancedCode, Reply, printable

Needs = Literal["envelope", "content"]
Health = Literal["healthy", "failing", "asleep", "spent"]

_ENHANCED = re.compile(r"([45])\.(\d{1,3})\.(\d{1,3})", re.ASCII)


@dataclass(frozen=True, slots=True)
class UpstreamFacts:
    """One member of the pool, as it stands now."""

    name: str
    address: str
    """`host:port`; an IPv6 literal in brackets."""
    login: str
    """The user name that we log in with; empty without a login."""
    weight: int
    health: Health
    """`failing`: left alone after failures; `asleep`: it said that a quota is spent, or refused the login; `spent`: a
    quota is, by our own count."""
    reason: str
    """Why it is not healthy; empty when it is."""
    in_flight: int
    """Connections that carry mail."""
    latency: float | None
    """Seconds that a message takes there, a moving average; None when it was not measured yet."""
    errors: float
    """The share of attempts that fail, 0 to 1, a moving average."""
    quota_used: float
    """The share that is used of the quota that is fullest, 0 to 1."""
    quota_left: int | None
    """How much the tightest of its quotas has left, in what that quota counts; None without a quota."""
    cost: float


@dataclass(frozen=True, slots=True)
class Question:
    """One message that looks for an upstream. Addresses are as in the envelope, without angle brackets."""

    message_id: str
    listener: str
    account: str | None
    client_address: str
    helo: str
    reverse_path: str
    """Empty for the null reverse-path."""
    recipients: tuple[str, ...]
    declared_size: int | None
    """Octets, as the client has announced (SIZE)."""
    route: str
    """Empty for a copy, which belongs to no route when it is delivered."""
    pool: str
    background: bool
    """Whether no client waits: the message comes from the spool."""
    upstreams: tuple[UpstreamFacts, ...]
    """The members that may be chosen, in the order that is used without a plugin."""
    unavailable: tuple[str, ...] = ()
    """The other members, by name: paused, or not for this sender. They may be named, and are passed over."""
    size: int | None = None
    """Octets of the content; None before it is there."""
    header: HeaderFields | None = None
    """The header section; None before the content is there."""


@dataclass(frozen=True, slots=True)
class Order:
    """The upstreams to try, by name, best first. Those that are left out are not tried."""

    upstreams: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """The message is refused for good, with a 5yz reply."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class Deferral:
    """The message is put off, with a 4yz reply."""

    reply: Reply


Answer = Order | Refusal | Deferral


class PluginError(Exception):
    """There is no answer that could be used. The text says why; `reason` is what it is counted under."""

    reason: ClassVar[str] = "error"


class CrashedError(PluginError):
    """The plugin has ended, or cannot be loaded or started: it has to be made anew before it can be asked again."""

    reason = "crash"


class NonsenseError(PluginError):
    """The plugin answered what makes no sense, or failed at this question; it may be asked another."""

    reason = "nonsense"


class LateError(PluginError):
    """The plugin did not answer in time."""

    reason = "timeout"


class BusyError(PluginError):
    """The plugin is not asked: too much waits for it, or it rests after failures."""

    reason = "busy"


class Plugin(Protocol):
    """One loaded plugin. It is started once, asked many things at once, and closed; never started again.

    When its file changes, or after it has crashed or hung, another one is made and this one is closed: so a kind
    needs no restart and no reload of its own.
    """

    async def start(self) -> None:
        """Gets ready to be asked. Raises `CrashedError`; `close` is called all the same. May be cancelled."""

    async def choose(self, question: Question) -> Answer:
        """Asks it. Raises `PluginError`.

        The caller has the deadline, and does not cancel: what comes after it is an answer still, to a question that
        has kept its place among the `at_once` so long. Whatever is blocked by it must not be the event loop.
        """

    async def close(self) -> None:
        """Ends it, and every process that it has started. Idempotent, raises nothing, takes two seconds at most."""


@runtime_checkable
class Mortal(Protocol):
    """A plugin that notices by itself that it has ended, so that another one is ready before the next question."""

    on_end: Callable[[str], None]
    """Set by whoever keeps it, once it has started; called with the reason, but not after `close`."""


@dataclass(frozen=True, slots=True)
class Definition:
    """One plugin as it is configured: the same values for every kind."""

    name: str
    kind: str
    """The configuration key: `python`, `exec`, `starlark`, `go`."""
    command: tuple[str, ...]
    """What the key says: one path or name, and for `exec` its arguments. A path has a slash in it, a name has none."""
    timeout: float = 0.25
    """Seconds that an answer may take, waiting for a turn included."""
    memory: int | None = 256 * 1024 * 1024
    """Octets that its process may have, where it has one of its own; None is no limit."""
    at_once: int = 16
    """Questions that it is asked at the same time, at most."""
    needs: Needs = "envelope"

    @property
    def target(self) -> str:
        """The path or name itself."""
        return self.command[0]

    @property
    def files(self) -> tuple[Path, ...]:
        """The files to watch for changes. A part without a slash is a name, or a word for the program."""
        return tuple(Path(part) for part in self.command if "/" in part)


def checked_order(names: Iterable[object], question: Question) -> Order:
    """The order, when every name is one of the pool's upstreams and comes once. Raises `NonsenseError`."""
    known = {facts.name for facts in question.upstreams}.union(question.unavailable)
    chosen: list[str] = []
    for name in names:
        if not isinstance(name, str):
            raise NonsenseError(f"an upstream's name is a text, not {_shown(name)}")
        if name not in known:
            raise NonsenseError(f"there is no upstream {_shown(name)} in the pool {question.pool}")
        if name in chosen:
            raise NonsenseError(f"the upstream {name} comes twice")
        chosen.append(name)
    if not chosen:
        raise NonsenseError("the order is empty; to stop a message, refuse it or defer it")
    return Order(tuple(chosen))


def checked_refusal(text: object = "", code: object = 550, enhanced: object = None) -> Refusal:
    """A refusal with this reply. Raises `NonsenseError`: what is no 5yz cannot be said, nor what fits no line."""
    return Refusal(_reply(5, text or "Refused by a rule of this server", code, enhanced or "5.7.1"))


def checked_deferral(text: object = "", code: object = 451, enhanced: object = None) -> Deferral:
    """A deferral with this reply. Raises `NonsenseError`, as `checked_refusal` does."""
    return Deferral(_reply(4, text or "Not now; try again later", code, enhanced or "4.7.1"))


def _reply(severity: int, text: object, code: object, enhanced: object) -> Reply:
    if isinstance(code, bool) or not isinstance(code, int) or not severity * 100 <= code < severity * 100 + 60:
        raise NonsenseError(f"the reply code is between {severity}00 and {severity}59, not {_shown(code)}")
    if not isinstance(text, str):
        raise NonsenseError(f"the text of a reply is a text, not {_shown(text)}")
    try:
        octets = text.encode("utf-8")
    except UnicodeEncodeError:
        raise NonsenseError("the text of a reply has half a character in it") from None
    if len(octets) > MAX_TEXT or printable(text) != text:
        raise NonsenseError(f"the text of a reply is one line of at most {MAX_TEXT} octets")
    return Reply(code, (text,), _enhanced(severity, enhanced))


def _enhanced(severity: int, written: object) -> EnhancedCode:
    found = _ENHANCED.fullmatch(written) if isinstance(written, str) else None
    if found is None or int(found[1]) != severity:
        raise NonsenseError(f'the enhanced status code is written like "{severity}.7.1", not {_shown(written)}')
    return int(found[1]), int(found[2]), int(found[3])


def _shown(value: object) -> str:
    """A value from outside, for a sentence: short, and in one line."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
