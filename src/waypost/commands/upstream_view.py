"""Upstreams and probes as people read them, as wide as their terminal."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from textwrap import wrap

from waypost.commands.control import Row
from waypost.commands.queue_view import age, cut, seconds
from waypost.routing.probing import NOT_REACHED, Certificate, Stage, StageState

_LABEL = 12
_STATES = {StageState.OK: "ok", StageState.FAILED: "FAILED", StageState.SKIPPED: "-"}
_SOON = 30  # days
_REST = 67  # columns that all but the name take, with some words on the probe
_HEADINGS = "STATE      SINCE  TRIAL  BUSY    TAKES  FAILS  PROBE"


def list_lines(rows: Sequence[Row], width: int | None, now: float) -> Iterator[str]:
    """A table of upstreams; under each what there is to say of it besides."""
    longest = max(len("UPSTREAM"), *(len(row["upstream"]) for row in rows), 0)
    if width is not None:
        longest = min(longest, max(len("UPSTREAM"), width - _REST))
    yield cut(f"{'UPSTREAM':{longest}}  {_HEADINGS}", width)
    for row in rows:
        name = row["upstream"]
        if len(name) > longest:  # on a line of its own, so that it can be copied and the columns stand
            yield name
            name = ""
        since = "-" if row["since"] is None else age(now - seconds(row["since"]))
        trial = "-" if row["next_trial_at"] is None else _ahead(row["next_trial_at"], now)
        takes = "-" if row["latency_seconds"] is None else duration(row["latency_seconds"])
        yield cut(
            f"{name:{longest}}  {row['state']:9}  {since:>5}  {trial:>5}  {row['busy']:>4}  {takes:>7}"
            f"  {row['error_share']:>5.0%}  {_probe(row['probe'], now)}",
            width,
        )
        for line in _details(row, now):
            yield cut(f"    {line}", width)


def _details(row: Row, now: float) -> Iterator[str]:
    if row["reason"]:
        yield row["reason"]
    for quota in row["quotas"]:
        limit = "no limit now" if quota["limit"] is None else f"{max(0, quota['limit'] - quota['used'])} left"
        again = "" if quota["next_at"] is None else f", again in {_ahead(quota['next_at'], now)}"
        yield f"{quota['window']}: {quota['used']} used, {limit}{again}"
    for stage in (row["probe"] or {"stages": ()})["stages"]:
        if stage["state"] == "failed":
            yield f"probe, {stage['stage']}: {stage['text']}"
    certificate = row["certificate"]
    if certificate is not None and certificate["days_left"] <= _SOON:
        yield f"certificate: {_days(certificate['days_left'])}"


def _probe(probe: Row | None, now: float) -> str:
    if probe is None:
        return "-"
    failed = next((stage["stage"] for stage in probe["stages"] if stage["state"] == "failed"), None)
    return f"{'ok' if failed is None else f'{failed} failed'}, {age(now - seconds(probe['at']))} ago"


def _ahead(at: str, now: float) -> str:
    wait = seconds(at) - now
    return "now" if wait <= 0 else age(wait)


def stage_lines(stage: Stage, width: int | None) -> Iterator[str]:
    """One stage of a probe: its name, what became of it, how long it took, what there is to say of it."""
    if stage == Stage(stage.phase, StageState.SKIPPED, NOT_REACHED):
        return
    took = "" if stage.state is StageState.SKIPPED else duration(stage.seconds)
    start = f"  {stage.phase:9} {_STATES[stage.state]:6} {took:>7}  "
    yield from _wrapped(start, stage.text, width)


def indented(label: str, text: str, width: int | None) -> Iterator[str]:
    """A label and a text behind it, broken between words."""
    yield from _wrapped(f"  {label + ':':{_LABEL}} ", text, width)


def _wrapped(start: str, text: str, width: int | None) -> Iterator[str]:
    if width is None:
        yield (start + text).rstrip()
        return
    lines = wrap(text, width - len(start), break_on_hyphens=False) or [""]
    yield (start + lines[0]).rstrip()
    yield from (" " * len(start) + line for line in lines[1:])


def certificate_text(certificate: Certificate, now: float) -> str:
    """A certificate in a few words."""
    try:
        until = f" ({datetime.fromtimestamp(certificate.not_after, UTC).date().isoformat()})"
    except (OverflowError, ValueError, OSError):  # further away than calendars go
        until = ""
    return f"for {certificate.some_names}; {_days(certificate.days_left(now))}{until}"


def _days(left: int) -> str:
    if left < 0:
        return f"expired {-left} day{'' if left == -1 else 's'} ago"
    return f"{left} day{'' if left == 1 else 's'} left"


def duration(span: float) -> str:
    """Seconds in at most seven characters: `0.4 ms`, `250 ms`, `12.3 s`."""
    if span < 0.01:
        return f"{span * 1000:.1f} ms"
    return f"{span * 1000:.0f} ms" if span < 1 else f"{span:.1f} s"
