"""How a sink misbehaves: where, and in which way."""

import threading
from dataclasses import dataclass
from typing import Literal

Phase = Literal[
    "connect", "ehlo", "starttls", "auth", "mail", "rcpt", "data", "content", "dot", "stored", "rset", "quit", "xclient"
]
"""Where a fault strikes. `content`: after 354, when the first octets come. `dot`: the content has arrived; it is
not kept, unless a 2yz is said. `stored`: the message has been kept, and the fault comes in place of the 250."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens in place of the ordinary answer: octets are said (none for silence), then the end, or not.

    A `hold` delays: when `until` is set the octets are said, or the ordinary answer when there are none.
    """

    said: bytes = b""
    then: Literal["go on", "close", "hang", "hold"] = "go on"
    until: threading.Event | None = None


def say(*lines: str) -> Fault:
    """A reply such as "450 4.2.1 busy", and the session goes on."""
    return Fault("".join(f"{line}\r\n" for line in lines).encode())


def garbage(octets: bytes) -> Fault:
    """These octets, exactly, and the session goes on."""
    return Fault(octets)


def close(after: bytes = b"") -> Fault:
    """The connection is closed: without a word, or in the middle of one."""
    return Fault(after, "close")


def hang(after: bytes = b"") -> Fault:
    """Silence, until the client goes away or the sink is stopped."""
    return Fault(after, "hang")


def hold(until: threading.Event, said: bytes = b"") -> Fault:
    """Nothing is said until the test says so, and then `said`, or what would have been said anyway."""
    return Fault(said, "hold", until)
