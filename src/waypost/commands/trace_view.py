"""The life of a message for people: its records, as the journal keeps them, as a timeline. Pure.

Head (what came, from where, which way it was sent), one paragraph for each event with the time since the first, and
a sentence on where the message is now (`waypost.commands.trace_fate`).
"""

import json
import textwrap
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any

from waypost.commands.trace_fate import fate
from waypost.observe.record import Record

_INDENT = 13
_NAMED = 5  # recipients that are written out; of more, their number


def render(events: Sequence[Record], *, width: int) -> str:
    """The whole story in lines of at most `width` columns, each with its line break; empty without events."""
    if not events:
        return ""
    first = _time(events[0])
    everybody = recipients_of(born_of(events))
    lines = [str(events[0].get("id", ""))]
    for name, text in _head(events):
        lines += _wrapped(f"  {name:<{_INDENT - 2}}", text, width)
    lines.append("")
    for event in events:
        story, *details = [_printable(text) for text in _told(event, everybody)]
        lines += _wrapped(f"  {_since(_time(event), first):<{_INDENT - 2}}", story, width)
        for detail in details:
            lines += _wrapped(" " * _INDENT, detail, width)
    lines += ["", *_wrapped("Now: ", fate(events), width, hang=5)]
    return "".join(f"{line}\n" for line in lines)


_BIRTHS = {"received", "composed"}


def born_of(events: Sequence[Record]) -> Record:
    """The record that says whose message it is: that of its arrival. One that was refused before has its refusals."""
    for is_it in (lambda event: event["event"] in _BIRTHS, lambda event: "reverse_path" in event):
        if found := next(filter(is_it, events), None):
            return found
    return events[0] if events else {}


def _head(events: Sequence[Record]) -> Iterator[tuple[str, str]]:
    born = born_of(events)
    yield "when", f"{_shown_time(born)} UTC"
    if "client" in born:
        yield (
            "from",
            _joined(
                f"{born['client']}{_in_brackets(born.get('client_name'))} on {born.get('listener', '?')}",
                _with("account", born.get("account")),
                born.get("client_tls"),
            ),
        )
    if "about" in born:
        yield "from", f"Waypost itself, about message {born['about']}"
    if "reverse_path" in born:
        yield "sender", born["reverse_path"] or "<>"
    if recipients := recipients_of(born):
        yield "recipients", _listed(recipients)
    if "size" in born:
        yield "content", _joined(f"{born['size']:,} octets", _with("SHA-256", born.get("digest")))
    if "message_id_field" in born:
        yield "Message-ID", born["message_id_field"]
    if "route" in born:
        yield "route", _joined(born["route"], _with("by rule", born.get("rule")), _with("mode", born.get("acceptance")))


def _told(event: Record, everybody: list[str]) -> Iterator[str]:
    """What happened, and details, each for a line of its own."""
    tell = _STORIES.get(event["event"])
    if tell is None:  # of a newer Waypost, or of a plugin
        facts = (f"{name}={value}" for name, value in event.items() if name not in ("time", "level", "event", "id"))
        yield _joined(event["event"], *facts)
        return
    yield tell(event)
    recipients = list(event.get("recipients", ()))
    if event["event"] not in _BIRTHS and recipients and recipients != everybody:
        yield f"for {_listed(recipients)}"
    if "next_attempt_at" in event:
        yield f"next attempt {_clock(event['next_attempt_at'])} UTC"
    if event.get("duration"):
        yield _joined(
            _with("its id", event.get("queue_id")),
            _durations(event),
            "connection reused" if event.get("reused") else "new connection",
            _with("rule", event.get("classification")),
        )
    if "tls" in event:
        yield event["tls"]


def _durations(event: Record) -> str:
    phases = event.get("phases") or {}
    each = ", ".join(f"{name} {_milliseconds(seconds)}" for name, seconds in phases.items())
    return f"{_milliseconds(event['duration'])}{_in_brackets(each)}"


def _rewritten(event: Record) -> str:
    by = f"for {event['upstream']}" if "upstream" in event else f"by route {event.get('route', '?')}"
    old = f", {event['original_reverse_path']} before" if "original_reverse_path" in event else ""
    return _joined(
        f"rewritten {by}: sender {event.get('reverse_path') or '<>'}{old}",
        _with("signed by", ", ".join(event.get("signed", ()))),
        "" if event.get("aligned", True) else "its From is of another domain",
    )


_STORIES: dict[str, Callable[[Record], str]] = {
    "received": lambda e: "came in whole",
    "composed": lambda e: f"composed, to report: {e['action']}",
    "rewritten": _rewritten,
    "signature_broken": lambda e: f"rewriting broke the DKIM signature of {_listed(e['domains'])}",
    "queued": lambda e: _joined(
        "taken into the spool: ours from here on", _with("because", e.get("reason")), mark=", "
    ),
    "answered_from_ledger": lambda e: f"came again, answered as the first time: {_answer(e)}",
    "refused": lambda e: f"{e.get('command', '')} refused{_whom(e)}: {_answer(e)}",
    "abandoned": lambda e: f"the client went away in mid-content: {e.get('reason', '')}",
    "advised": lambda e: f"plugin {e['plugin']} {_advice(e)}",
    "not_advised": lambda e: f"plugin {e['plugin']} had no usable answer for {e['target']}: {e['reason']}",
    "attempted": lambda e: f"{e['upstream']} did not take it{_as_copy(e)}, at {e['phase']}: {_reply(e) or e['text']}",
    "relayed": lambda e: f"{e['upstream']} took it: {_answer(e)}",
    "copied": lambda e: f"{e['upstream']} took the copy: {_answer(e)}",
    "deferred": lambda e: f"put off{_owed(e)}: {_answer(e)}",
    "failed": lambda e: f"failed for good{_owed(e)}: {_answer(e)}",
    "in_doubt": lambda e: f"in doubt whether {e['upstream']} has it{_as_copy(e)}: {_answer(e)}",
    "not_taken": lambda e: f"no copy{_owed(e)}: {e['reason']}",
    "dead": lambda e: f"dead letter{_owed(e)}: {e['reason']}",
    "notified": lambda e: f"sender notified ({e['action']}), by message {e['notice']}",
    "notice_suppressed": lambda e: f"sender not notified: {e['reason']}",
    "altered": lambda e: f"{e['action']} by hand{_owed(e)}: delivery {e['delivery']}, by {e['by']}",
}
"""The sentence for each event of a message."""


def _advice(event: Record) -> str:
    if "order" in event:
        return f"chose for {event['target']}: {', '.join(event['order'])}"
    return f"stopped it: {_reply(event)}"


def _answer(event: Record) -> str:
    """A reply; or why there was none, where and of what kind, but for faults of ours, which explain themselves."""
    if event.get("cause", "local") == "local":
        return _reply(event) or str(event.get("text", ""))
    return f"{event.get('text', '')} ({event['cause']} at {event.get('phase', '?')})"


def _reply(event: Record) -> str:
    if "code" not in event:
        return ""
    return " ".join(str(event[name]) for name in ("code", "enhanced", "text") if event.get(name))


def _as_copy(event: Record) -> str:
    return " as a copy" if event.get("role") == "copy" else ""


def _owed(event: Record) -> str:
    return f" (copy for {event['target']})" if event.get("role") == "copy" else f" ({event['target']})"


def _whom(event: Record) -> str:
    return f" for {event['recipient']}" if event.get("recipient") else ""


def recipients_of(event: Record) -> list[str]:
    """The recipients that a record names."""
    return list(event.get("recipients") or filter(None, [event.get("recipient")]))


def _listed(recipients: list[str]) -> str:
    if len(recipients) <= _NAMED:
        return ", ".join(recipients)
    return f"{', '.join(recipients[: _NAMED - 1])} and {len(recipients) - _NAMED + 1} others"


def _joined(*parts: Any, mark: str = ", ") -> str:
    return mark.join(str(part) for part in parts if part)


def _with(word: str, value: object) -> str:
    return f"{word} {value}" if value else ""


def _in_brackets(text: str | None) -> str:
    return f" ({text})" if text else ""


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


def _time(event: Record) -> datetime:
    return datetime.fromisoformat(event["time"])


def _shown_time(event: Record) -> str:
    return str(event["time"]).replace("T", " ").removesuffix("Z")


def _clock(time: str) -> str:
    return time[:19].replace("T", " ")


def _since(at: datetime, first: datetime) -> str:
    """How much later, in the two largest units; a clock that was set back makes it negative."""
    seconds = (at - first).total_seconds()
    sign, seconds = ("-" if seconds < 0 else "+"), abs(seconds)
    if seconds < 60:
        return f"{sign}{seconds:.3f}"
    minutes, hours, days = int(seconds) // 60, int(seconds) // 3600, int(seconds) // 86400
    if hours < 1:
        return f"{sign}{minutes}m {int(seconds) % 60:02}s"
    return f"{sign}{hours}h {minutes % 60:02}m" if days < 1 else f"{sign}{days}d {hours % 24:02}h"


def _printable(text: str) -> str:
    """A terminal gets no control characters, whoever wrote the text."""
    return text if text.isprintable() else json.dumps(text)[1:-1]


def _wrapped(start: str, text: str, width: int, *, hang: int = _INDENT) -> list[str]:
    return textwrap.wrap(
        start + _printable(text),
        max(width, hang + 20),
        subsequent_indent=" " * hang,
        break_on_hyphens=False,
        drop_whitespace=True,
        replace_whitespace=False,
    ) or [start.rstrip()]
