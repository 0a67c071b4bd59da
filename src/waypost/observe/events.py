"""The events of the mail log and their fields: the reference that `docs/logging.md` prints and the tests hold."""

from typing import NamedTuple

FIELDS = {
    "time": "when, RFC 3339 in UTC with milliseconds",
    "level": "`debug`, `info`, `warning` or `error`",
    "event": "what happened: the first column of the table above",
    "id": "the message's id, from its first record to its last; also in our 250 reply and in `Received`",
    "listener": "the listener's name, its address as configured",
    "client": "IP address of the SMTP client",
    "client_name": "the name in its EHLO or HELO, as it gave it",
    "client_tls": "TLS version and cipher between the client and us",
    "account": "the account it authenticated as",
    "reverse_path": "the address of MAIL; empty for the null reverse-path",
    "recipient": "the one address of RCPT that was refused",
    "recipients": "the addresses that the record is about, a list",
    "recipient_count": "how many recipients the message has",
    "size": "octets of content in wire form",
    "digest": "SHA-256 of the content as the client sent it, hexadecimal; absent where nothing is stored",
    "route": "the route chosen; several, joined by `, `, when its recipients go different ways",
    "routes": "the routes whose deliveries are ours now, a list",
    "rule": "the rule that chose the route: its name and place in the configuration",
    "message_id_field": "the Message-ID field, when it is near the start of the content",
    "acceptance": "when the client is told 250: `pass`, `hybrid` or `spool`",
    "role": "`primary` or `copy`",
    "target": "whom the delivery is owed to: the pool of a copy, the pool or the route of a primary delivery; the "
    "pool that a plugin was asked for",
    "upstream": "the upstream that was tried",
    "plugin": "the plugin that was asked",
    "order": "the upstreams to try, best first, a list",
    "command": "what was refused: a command in lower case, `content` for a whole message, or `other`",
    "phase": "where in the dialogue it ended: `resolve`, `connect`, `tls`, `greeting` ... `content`, `dot`",
    "cause": "why there was no reply: `timeout`, `closed`, `unreachable`, `tls` ...; no answer of a plugin: "
    "`timeout`, `crash`, `nonsense`, `busy`",
    "code": "the reply code",
    "enhanced": "the enhanced status code, when there was one",
    "text": "the text of the reply, or of what went wrong; control characters removed",
    "classification": "the rule by which the answer was judged transient, permanent or about the upstream",
    "queue_id": "the upstream's own id for the message, when the words of its reply name one",
    "duration": "seconds that the attempt took",
    "phases": 'seconds that each phase of the attempt took, an object: `{"mail": 0.0012, "dot": 0.0345}`',
    "delay": "seconds since the content came in",
    "reused": "whether the connection had been used before",
    "tls": "TLS version and cipher between us and the upstream",
    "next_attempt_at": "when the delivery is tried again; absent when that is the client's affair",
    "original_reverse_path": "the reverse-path before it was rewritten, where it was another",
    "aligned": "whether reverse-path and From are of the same domain, or one of a domain below the other's",
    "signed": "the DKIM keys that signed it, a list of domain and selector: `example.com/s1`",
    "domains": "the domains whose signatures do not fit any more, a list",
    "about": "the id of the message that the notification is about",
    "notice": "the id of the notification, which is a message of its own",
    "action": "what a notification reports: `failed`, `delayed`, `relayed`; what was done by hand: `retry`, `hold` ...",
    "delivery": "the number of the delivery in the spool, as `waypost queue` shows it",
    "by": "who did it",
    "reason": "what decided, in words",
}
"""Every field, and what it means."""

_CLIENT = ("listener", "client", "client_name", "account", "client_tls")
_REPLY = ("code", "enhanced", "text")
_ANSWER = (*_REPLY, "cause", "phase")
_ATTEMPT = ("role", "upstream", *_ANSWER, "classification", "duration", "reused", "tls", "phases")
_TAKEN = ("id", "reverse_path", "recipients", "delay", *_ATTEMPT, "queue_id")
_OWED = ("id", "role", "target", "reverse_path", "recipients")


class Event(NamedTuple):
    """One event: its level, its meaning, and the fields it may have besides time, level and event."""

    level: str
    meaning: str
    fields: tuple[str, ...]


EVENTS = {
    "received": Event(
        "info",
        "the content has come in whole and a route is chosen",
        (
            *("id", "reverse_path", "recipients", "recipient_count", "size", "digest", "message_id_field"),
            *("route", "rule", "acceptance", "signed"),
            *_CLIENT,
        ),
    ),
    "rewritten": Event(
        "info",
        "what a route (once, at acceptance) or an upstream (at each attempt there) wants to be different was changed",
        ("id", "route", "upstream", "reverse_path", "original_reverse_path", "aligned", "signed"),
    ),
    "signature_broken": Event(
        "warning",
        "rewriting has broken DKIM signatures of others; told once for each message",
        ("id", "route", "upstream", "domains"),
    ),
    "composed": Event(
        "info",
        "a notification begins its life, as a message of its own",
        ("id", "about", "action", "reverse_path", "recipients", "recipient_count", "size"),
    ),
    "queued": Event(
        "info",
        "the message, or what is left of it, is in the spool and ours; why, says `reason`",
        ("id", "reverse_path", "recipients", "routes", "reason"),
    ),
    "answered_from_ledger": Event(
        "info",
        "the client sent a message again whose answer it had not heard, and was given that; nothing was sent",
        ("id", "reverse_path", "recipients", *_CLIENT, *_REPLY),
    ),
    "refused": Event(
        "info",
        "we, or the primary, refused something the client asked",
        ("id", *_CLIENT, "command", "reverse_path", "recipient", "rule", *_REPLY),
    ),
    "abandoned": Event(
        "info",
        "the client disappeared in mid-content; nothing was kept",
        ("id", *_CLIENT, "reverse_path", "reason"),
    ),
    "advised": Event(
        "info",
        "a plugin chose the order in which upstreams are tried, or the reply that stops the message",
        ("id", "plugin", "target", "order", *_REPLY),
    ),
    "not_advised": Event(
        "warning",
        "a plugin had no usable answer, so the order is that of the pool's strategy",
        ("id", "plugin", "target", "cause", "reason"),
    ),
    "attempted": Event(
        "warning",
        "one attempt failed; the next upstream is tried, or there is none left",
        ("id", *_ATTEMPT),
    ),
    "relayed": Event("info", "an upstream took the message, as the primary: at once, or out of the spool", _TAKEN),
    "copied": Event("info", "an upstream took a copy of the message", (*_TAKEN, "target")),
    "deferred": Event(
        "warning", "the delivery failed for now and is tried again", (*_OWED, *_ANSWER, "next_attempt_at")
    ),
    "failed": Event("warning", "these recipients were refused for good, or their time is over", (*_OWED, *_ANSWER)),
    "in_doubt": Event(
        "warning",
        "the final dot was sent and no answer is known: the upstream has the message or not",
        ("id", "reverse_path", "recipients", "target", *_ATTEMPT),
    ),
    "not_taken": Event("error", "a copy could not be stored, so it will not be made", (*_OWED, "reason")),
    "dead": Event(
        "error",
        "a delivery became a dead letter, refused or expired as `reason` says: kept, not tried again by itself",
        (*_OWED, "reason"),
    ),
    "notified": Event(
        "info",
        "a notification to the reverse-path was made: what became of these recipients",
        ("id", "notice", "action", "reverse_path", "recipients"),
    ),
    "notice_suppressed": Event(
        "warning",
        "the reverse-path has had all its notifications for this hour; told once for each address and hour",
        ("id", "reverse_path", "reason"),
    ),
    "altered": Event(
        "info",
        "somebody retried, held, released or deleted a delivery by hand",
        ("id", "role", "target", "recipients", "delivery", "action", "by"),
    ),
    "connected": Event("debug", "a session began", _CLIENT),
    "closed": Event("debug", "a session ended", _CLIENT),
    "auth_succeeded": Event("debug", "a client is known: AUTH succeeded, or its certificate is an account's", _CLIENT),
    "auth_failed": Event("warning", "AUTH failed", _CLIENT),
    "tls_failed": Event("debug", "the TLS handshake with a client failed", _CLIENT),
    "proxy_failed": Event("warning", "a proxy in front sent no valid PROXY header", _CLIENT),
    "told": Event("debug", "a trusted proxy said by XCLIENT who the client is", _CLIENT),
    "limited": Event(
        "warning", "a client was turned away by a limit: of connections, or of attempts to guess a password", _CLIENT
    ),
}
"""Every event. Those of sessions, the last eight, may have facts of their own besides."""


def reference() -> str:
    """Both tables in Markdown."""
    lines = ["| Event | Level | When | Fields, besides time, level and event |", "|---|---|---|---|"]
    for name, event in EVENTS.items():
        fields = ", ".join(f"`{field}`" for field in event.fields)
        lines.append(f"| `{name}` | {event.level} | {event.meaning} | {fields} |")
    lines += ["", "| Field | Meaning |", "|---|---|"]
    lines += [f"| `{name}` | {meaning} |" for name, meaning in FIELDS.items()]
    return "\n".join(lines) + "\n"
