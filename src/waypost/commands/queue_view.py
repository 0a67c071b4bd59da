"""Deliveries, lanes and ages as people read them, as wide as their terminal."""

import shutil
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime
from textwrap import wrap

from waypost.commands.control import Row
from waypost.commands.foreground import showable

_MIN_WIDTH = 72
_HEADINGS = "STATE      AGE  TRIES   NEXT   SIZE  SENDER -> RECIPIENTS"


def terminal_width() -> int | None:
    """Columns of the terminal that standard output is; None when it is none, so that nothing is cut."""
    return max(_MIN_WIDTH, shutil.get_terminal_size().columns) if sys.stdout.isatty() else None


def say(text: str) -> None:
    """Prints one line in which nothing can steer a terminal."""
    print(showable(plain(text)))


def plain(text: str) -> str:
    """The text with what is not printable written as escapes: addresses, replies and headers are other people's."""
    return text if text.isprintable() else "".join(c if c.isprintable() else _escape(c) for c in text)


def _escape(character: str) -> str:
    return "\t" if character == "\t" else character.encode("unicode_escape", "backslashreplace").decode("ascii")


class Listing:
    """Deliveries as a table, in `width` columns (None: whole). `now` is in seconds since the epoch."""

    def __init__(self, width: int | None, now: float) -> None:
        self._width = width
        self._now = now
        self._digits = 0  # of numbers, which grow with the list

    def lines(self, row: Row) -> Iterator[str]:
        """A delivery in one line, and its last answer in another; above the first of all, what the columns are."""
        if not self._digits:
            self._digits = max(len("NUMBER"), len(str(row["number"])))
            yield cut(f"{'NUMBER':>{self._digits}}  {_HEADINGS}", self._width)
        start = (
            f"{row['number']:>{self._digits}}  {row['state']:7}  {age(self._now - seconds(row['received_at'])):>5}"
            f"  {row['attempts']:>5}  {_next(row, self._now):>5}  {short_size(row['size']):>5}  "
        )
        yield start + _way(row, None if self._width is None else self._width - len(start))
        about = [f"in doubt: {row['in_doubt']} may have it"] if row["in_doubt"] else []
        about += [row["reason"]] if row["reason"] else []
        if about:
            yield cut(" " * (self._digits + 2) + "; ".join(about), self._width)


def _next(row: Row, now: float) -> str:
    if row["next_attempt_at"] is None:
        return "-"
    wait = seconds(row["next_attempt_at"]) - now
    return "now" if wait <= 0 else age(wait)


def _way(row: Row, space: int | None) -> str:
    sender = row["reverse_path"] or "<>"
    first, *others = row["recipients"] or ["nobody"]
    more = f" +{len(others)}" if others and space is not None else "".join(f" {other}" for other in others)
    return join_cut(sender, first, more, space)


def join_cut(left: str, right: str, more: str, space: int | None) -> str:
    """`left -> right more` in so many columns: the longer of both is cut first, `more` never."""
    if space is not None:
        free = space - len(" -> ") - len(more)
        half = free // 2
        if len(left) + len(right) > free:
            for_left = max(half, free - len(right))
            left = cut(left, min(len(left), for_left))
            right = cut(right, free - len(left))
    return f"{left} -> {right}{more}"


def cut(text: str, width: int | None) -> str:
    """The text in so many columns, with three dots where something is missing."""
    return text if width is None or len(text) <= width else f"{text[: max(0, width - 3)]}..."[:width]


def summary_lines(lanes: Sequence[Row], width: int | None, now: float) -> Iterator[str]:
    """A table of lanes, the commonest last answers under each."""
    if not lanes:
        yield "nothing is queued"
        return
    longest = max(len("LANE"), *(len(row["lane"]) for row in lanes))
    yield f"{'LANE':{longest}}  {'QUEUED':>8}  {'HELD':>6}  {'DEAD':>6}  {'OLDEST':>6}"
    for row in lanes:
        oldest = "-" if row["oldest_received_at"] is None else age(now - seconds(row["oldest_received_at"]))
        yield f"{row['lane']:{longest}}  {row['queued']:>8}  {row['held']:>6}  {row['dead']:>6}  {oldest:>6}"
        for reason in row["reasons"]:
            share = f"{100 * reason['count'] / row['sampled']:.0f}%"
            yield cut(f"    {share:>4}  {reason['text']}", width)
    if len(lanes) > 1:
        queued, held, dead = (sum(row[key] for row in lanes) for key in ("queued", "held", "dead"))
        yield f"{'all':{longest}}  {queued:>8}  {held:>6}  {dead:>6}"


def instance_lines(instances: Sequence[Row], now: float) -> Iterator[str]:
    """A table of the Wayposts that share a spool."""
    longest = max(len("INSTANCE"), *(len(row["instance"]) for row in instances), 0)
    yield f"{'INSTANCE':{longest}}  {'UP':>6}  {'SEEN':>6}"
    for row in instances:
        up, seen = (age(now - seconds(row[key])) for key in ("started_at", "seen_at"))
        yield f"{row['instance']:{longest}}  {up:>6}  {seen:>6}"


def delivery_lines(found: Row, width: int | None, now: float) -> Iterator[str]:
    """All facts about one delivery, then its header section."""
    for label, value in _facts(found, now):
        first, *rest = (width and wrap(value, width - 14, break_on_hyphens=False)) or [value]
        yield f"{label:13} {first}"
        yield from (f"{'':14}{line}" for line in rest)
    yield ""
    yield from found["header"].removesuffix("\r\n").split("\r\n")
    if found["header_cut"]:
        yield "... (--content prints all of it)"


def _facts(found: Row, now: float) -> Iterator[tuple[str, str]]:
    envelope, client = found["envelope"], found["client"]
    yield "delivery", f"{found['number']}, {found['state']}"
    yield "message", found["id"]
    yield "lane", f"{found['lane']}, by route {found['route']}"
    yield "received", f"{found['received_at']} ({age(now - seconds(found['received_at']))} ago)"
    yield "from client", _client(client)
    yield "sender", _with_parameters(envelope["reverse_path"] or "<>", envelope["parameters"])
    for recipient in envelope["recipients"]:
        yield "recipient", _with_parameters(recipient["address"], recipient["parameters"])
    yield "size", f"{found['size']} octets"
    if found["digest"]:
        yield "SHA-256", found["digest"]
    yield "attempts", str(found["attempts"])
    if found["next_attempt_at"] is not None:
        yield "next attempt", f"{found['next_attempt_at']} ({_next(found, now)})"
    yield "expires", found["expires_at"]
    if found["in_doubt"]:
        yield "in doubt", f"{found['in_doubt']} was handed the content, and is not known to have answered"
    if found["warned"]:
        yield "warned", "the sender was told of the delay"
    if found["reason"]:
        yield "last answer", found["reason"]


def _client(client: Row) -> str:
    words = [f"{client['name'] or 'unnamed'} [{client['address']}]", client["protocol"], f"at {client['listener']}"]
    words += [f"account {client['account']}"] if client["account"] else []
    words += [client["tls"]] if client["tls"] else []
    return ", ".join(words)


def _with_parameters(address: str, parameters: Sequence[str]) -> str:
    return " ".join([address, *parameters])


def seconds(text: str) -> float:
    """Seconds since the epoch, of a time in RFC 3339."""
    return datetime.fromisoformat(text).timestamp()


def age(duration: float) -> str:
    """A duration in at most five characters: `45s`, `12m`, `2h05m`, `3d04h`, `120d`."""
    total = max(0, int(duration))
    minutes, hours, days = total // 60, total // 3600, total // 86400
    if total < 60:
        return f"{total}s"
    if hours < 1:
        return f"{minutes}m"
    if days < 1:
        return f"{hours}h{minutes % 60:02}m" if hours < 10 else f"{hours}h"
    return f"{days}d{hours % 24:02}h" if days < 10 else f"{days}d"


def short_size(octets: int) -> str:
    """Octets in at most five characters: `999`, `3.4K`, `12M`."""
    size, units = float(octets), iter("KMGT")
    if octets < 1000:
        return str(octets)
    unit = ""
    while size >= 999.5 and (larger := next(units, "")):
        size, unit = size / 1024, larger
    return f"{size:.1f}{unit}" if size < 9.95 else f"{size:.0f}{unit}"


def counted(number: int, word: str = "delivery", plural: str = "deliveries") -> str:
    """A number and what it counts."""
    return f"{number} {word if number == 1 else plural}"
