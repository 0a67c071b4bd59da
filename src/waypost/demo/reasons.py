"""Why a message went where it went, said in a few words from the mail log."""

from collections.abc import Sequence
from typing import Any

from waypost.observe.record import Record

_REFUSED_AT = {"rcpt": "the recipient", "mail": "the sender", "content": "the content", "data": "the content"}


def reason(records: Sequence[Record], down: str | None) -> str:
    """Why, from the records of one message. `down` is the server that was down meanwhile."""
    by_event: dict[str, list[Record]] = {}
    for record in records:
        by_event.setdefault(record["event"], []).append(record)
    failed = [_failure(record, down) for record in by_event.get("attempted", ())]
    relayed = [record["upstream"] for record in by_event.get("relayed", ())]
    copied = by_event.get("copied", [])
    refused = by_event.get("refused", [])
    if refused and not relayed:
        return _refusal(refused[-1], failed)
    if copied:
        return f"{relayed[-1]} answered; {_copy(copied[-1], down)}" if relayed else _copy(copied[-1], down)
    if relayed and failed:
        return f"{'; '.join(failed)}: so {relayed[-1]}"
    if relayed:
        return "first in its pool"
    return "; ".join(failed) or "nothing was logged"


def _failure(record: Record, down: str | None) -> str:
    upstream = record["upstream"]
    if upstream == down:
        return f"{upstream} is down"
    return f"{upstream} said {_reply(record)}" if "code" in record else f"{upstream}: {record.get('text', '')}"


def _refusal(record: Record, failed: Sequence[str]) -> str:
    code: Any = record["code"]
    if code >= 500:
        return f"{_REFUSED_AT.get(record['command'], 'the command')} was refused for good: no failover"
    return "; ".join(failed) or f"refused for now: {_reply(record)}"


def _copy(record: Record, down: str | None) -> str:
    delay = record["delay"]
    later = f"{delay:.1f} s" if delay >= 0.1 else f"{max(1, round(delay * 1000))} ms"
    upstream = record["upstream"]
    return f"{upstream} got it when back, {later} later" if upstream == down else f"{upstream} got a copy {later} later"


def _reply(record: Record) -> str:
    return f"{record['code']} {record['text']}".strip()
