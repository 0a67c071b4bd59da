"""Upstreams that somebody has paused: nothing new goes there until somebody resumes them.

That is an order of a person's, so it outlives restarts and holds for all instances that share the spool: each is a
note. Unlike one that fails, an upstream that is paused is not tried for want of a better one.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import structlog

from waypost.delivery.spool import Note
from waypost.routing.route import Pool

log = structlog.get_logger()

PAUSE = "pause"
"""The kind of notes that tell of them: the key is the upstream's name, the value who paused it and when, as JSON."""

_FOR_EVER = 100 * 366 * 86400.0  # seconds: notes have an end

OnPause = Callable[[str, Note | None, bool], None]
"""Hears that an upstream is paused, by this note, or (None) that it is resumed; and whether it was done here."""


def _unheard(upstream: str, note: Note | None, here: bool) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Pause:
    """Since when, in seconds since the epoch, and by whom."""

    since: float
    by: str

    def __str__(self) -> str:
        return f"paused by {self.by}"


class Paused(Mapping[str, Pause]):
    """The upstreams that are paused, by name."""

    def __init__(self) -> None:
        self.on_change: OnPause = _unheard
        """Set by whoever keeps notes, and wakes what waits."""
        self._known: dict[str, Pause] = {}

    def __getitem__(self, name: str) -> Pause:
        return self._known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)

    def left_of(self, pool: Pool) -> Pool:
        """The pool without its members that are paused; all of it when all are: then each says so when it is asked."""
        left = tuple(member for member in pool.members if member.upstream.name not in self._known)
        return replace(pool, members=left) if left and len(left) < len(pool.members) else pool

    def holds(self, pool: Pool) -> bool:
        """Whether every member of a pool is paused."""
        return bool(self._known) and all(member.upstream.name in self._known for member in pool.members)

    def pause(self, name: str, by: str, now: float) -> bool:
        """Pauses an upstream; whether it was not paused before. `now` is in seconds since the epoch."""
        if name in self._known:
            return False
        self._known[name] = Pause(now, by)
        log.warning("upstream_paused", upstream=name, by=by)
        self.on_change(name, Note(PAUSE, name, json.dumps({"since": now, "by": by}), now + _FOR_EVER), True)
        return True

    def resume(self, name: str, by: str) -> bool:
        """Lets an upstream take mail again; whether it was paused."""
        if self._known.pop(name, None) is None:
            return False
        log.info("upstream_resumed", upstream=name, by=by)
        self.on_change(name, None, True)
        return True

    def learn(self, note: Note) -> None:
        """Takes up what was noted by an earlier run or another instance; `until` 0: it was resumed."""
        if note.kind != PAUSE:
            return
        if not note.until:
            if self._known.pop(note.key, None) is not None:
                log.info("upstream_resumed", upstream=note.key, by="another instance")
                self.on_change(note.key, None, False)
        elif note.key not in self._known:
            pause = self._known[note.key] = _read(note.value)
            log.warning("upstream_paused", upstream=note.key, by=pause.by)
            self.on_change(note.key, note, False)


def _read(value: str) -> Pause:
    try:
        said = json.loads(value)
        return Pause(float(said["since"]), str(said["by"]))
    except (ValueError, TypeError, KeyError):
        return Pause(0.0, "somebody")
