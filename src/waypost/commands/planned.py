"""The comparison that `waypost plan` makes, counted and worded."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from textwrap import wrap
from typing import Any

from waypost.commands.control import Row
from waypost.commands.queue_view import counted
from waypost.observe.replayed import facts_of
from waypost.routing.destination import Compass, Destination

EXAMPLES = 3
"""Messages that are named for each kind of change."""

_WIDTH = 80


@dataclass(slots=True)
class _Change:
    """All recipients that would go from one place to the same other."""

    recipients: int = 0
    because: str = ""
    examples: list[str] = field(default_factory=list)


class Plan:
    """What would change. `rules` are the labels of the new configuration's rules, in their order."""

    def __init__(self, compass: Compass, rules: Sequence[str]) -> None:
        self._compass = compass
        self._rules = rules
        self._used: set[str] = set()
        self._messages = 0
        self._same = 0
        self._youngest = self._oldest = ""  # when they came in, UTC, to the minute
        self._changes: dict[tuple[str, str], _Change] = {}
        self._unknown: dict[str, int] = {}

    @property
    def has_changes(self) -> bool:
        """Whether mail would fare otherwise."""
        return bool(self._changes)

    def compare(self, row: Row) -> Iterator[dict[str, Any]]:
        """Takes one message as `/api/replay` gives it; each of its recipients that would fare otherwise."""
        event = row["event"]
        self._messages += 1
        self._oldest = str(event["time"])[:16].replace("T", " ")
        self._youngest = self._youngest or self._oldest
        for facts, before in zip(facts_of(event), row["destinations"], strict=True):
            now = Destination(**(before | {"copies": tuple(before["copies"])}))
            then = self._compass.point(facts)
            self._used.add(then.because)
            if "open" in (now.kind, then.kind):
                why = then.reply if then.kind == "open" else f"{now.reply} as it is now"
                self._unknown[why] = self._unknown.get(why, 0) + 1
            elif now.is_as(then):
                self._same += 1
            else:
                self._count(
                    row["id"],
                    now,
                    then,
                    f"{'<>' if facts.reverse_path.is_null else facts.reverse_path} -> {facts.recipient}",
                )
                yield {
                    "id": row["id"],
                    "recipient": str(facts.recipient),
                    "reverse_path": str(facts.reverse_path),
                    "now": asdict(now),
                    "then": asdict(then),
                }

    def _count(self, id_: str, now: Destination, then: Destination, way: str) -> None:
        change = self._changes.setdefault((str(now), str(then)), _Change())
        change.recipients += 1
        change.because = change.because or f"now by {now.because or 'nothing'}, then by {then.because or 'nothing'}"
        if len(change.examples) < EXAMPLES:
            change.examples.append(f"{id_}  {way}")

    def lines(self, name: str, width: int | None) -> Iterator[str]:
        """The answer for people."""
        width = min(width or _WIDTH, 120)
        if not self._messages:
            yield "The journal has no message to replay."
        else:
            yield from self._summary(width)
        unreached = [rule for rule in self._rules if rule not in self._used]
        if self._messages and unreached:
            yield ""
            yield f"Rules of {name} that decided nothing here:"
            for rule in unreached:
                yield f"  {rule}"

    def _summary(self, width: int) -> Iterator[str]:
        messages = counted(self._messages, "message", "messages")
        yield f"{messages} replayed, {self._oldest} to {self._youngest} UTC"
        yield f"{counted(self._same, 'recipient', 'recipients')} as now"
        for why, count in sorted(self._unknown.items(), key=lambda item: -item[1]):
            yield from _wrapped(
                f"{counted(count, 'recipient', 'recipients')} that cannot be told of: {why}", width, "  "
            )
        for (now, then), change in sorted(self._changes.items(), key=lambda item: -item[1].recipients):
            yield ""
            yield f"{counted(change.recipients, 'recipient', 'recipients')} otherwise"
            yield from _wrapped(f"- {now}", width, "    ", "  ")
            yield from _wrapped(f"+ {then}", width, "    ", "  ")
            yield from _wrapped(f"{change.because}", width, "    ", "    ")
            for example in change.examples:
                yield from _wrapped(example, width, "      ", "    ")
        if not self._changes:
            yield "Nothing would change."


def _wrapped(text: str, width: int, hang: str, start: str = "") -> list[str]:
    return wrap(text, width - 1, initial_indent=start, subsequent_indent=hang, break_on_hyphens=False)
