"""Where a message is now, in one sentence, from the records of its life. Pure.

Each recipient of the primary delivery, and each copy, has one fate: what the last record about it says.
"""

from collections.abc import Sequence

from waypost.observe.record import Record

_NAMED = 3  # recipients of one fate that are written out


def fate(events: Sequence[Record]) -> str:
    """The sentence, without a full stop when it ends in somebody else's words."""
    primary: dict[str, str] = {}
    copies: dict[str, dict[str, str]] = {}
    whole = "nothing more is known of it."
    for event in events:
        whole = _WHOLE.get(event["event"], whole)
        said = _fate_of(event)
        if said is None:
            continue
        if event.get("role") == "copy":
            known = copies.setdefault(event.get("target") or event["upstream"], {})
        else:
            known = primary
            if event["event"] == "refused" and event.get("command") == "content":
                known.update(dict.fromkeys(known, said))
                whole = said
        known.update(dict.fromkeys(_recipients(event), said))
    parts = [_grouped(primary) if primary else whole.rstrip(".")]
    parts += [f"copy for {target}: {_grouped(known)}" for target, known in copies.items()]
    return f"{'; '.join(parts)}."


_WHOLE = {
    "abandoned": "the client went away in mid-content, and nothing was kept",
    "answered_from_ledger": "not sent, for it had been sent before",
}


def _fate_of(event: Record) -> str | None:
    """What the record says of its recipients; None when it decides nothing."""
    match event["event"]:
        case "received" | "composed":
            return "on its way"
        case "queued":
            return "in the spool, to be delivered"
        case "relayed" | "copied":
            return f"delivered, {event['upstream']} has it"
        case "deferred" if "next_attempt_at" in event:
            return f"waiting until {_clock(event['next_attempt_at'])} UTC"
        case "deferred":
            return "put off: it is the client that tries again"
        case "failed":
            return f"failed for good: {_words(event)}"
        case "refused":
            again = ": it is the client that tries again" if event.get("code", 0) < 500 else ""
            return f"refused with {_words(event)}{again}"
        case "in_doubt":
            return f"in doubt whether {event['upstream']} has it"
        case "not_taken":
            return f"not made: {event['reason']}"
        case "dead":
            return f"dead letter: {event['reason']}"
        case "altered":
            return _BY_HAND.get(event["action"])
    return None


_BY_HAND = {
    "retry": "to be tried again now",
    "release": "to be tried again now",
    "hold": "held until somebody releases it",
    "delete": "deleted by hand",
}


def _recipients(event: Record) -> list[str]:
    recipients = event.get("recipients")
    if recipients is None:
        recipients = [event["recipient"]] if event.get("recipient") else []
    return list(recipients)


def _grouped(known: dict[str, str]) -> str:
    by_fate: dict[str, list[str]] = {}
    for recipient, said in known.items():
        by_fate.setdefault(said, []).append(recipient)
    if len(by_fate) == 1:
        return next(iter(by_fate))
    return "; ".join(f"for {_listed(recipients)} {said}" for said, recipients in by_fate.items())


def _listed(recipients: list[str]) -> str:
    if len(recipients) <= _NAMED:
        return ", ".join(recipients)
    return f"{recipients[0]} and {len(recipients) - 1} others"


def _words(event: Record) -> str:
    if "code" in event:
        return " ".join(str(event[name]) for name in ("code", "enhanced", "text") if event.get(name))
    return f"{event.get('cause', '')} at {event.get('phase', '')}"


def _clock(time: str) -> str:
    return time[:19].replace("T", " ")
