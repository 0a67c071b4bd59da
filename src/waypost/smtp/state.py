"""The protocol as one table that does not know which side it is on.

In SMTP the state changes on the *reply*, and both sides see it. So one table,

    (state, command) -> {first digit of the reply: next state},

serves the server, which asks whether a command is allowed, and the client, which asks the same before it
sends and checks the answer afterwards. What is not in the table is illegal. A reply 421 closes from anywhere.

`python -m waypost.smtp.diagram` draws it.
"""

from enum import Enum, auto

from waypost.smtp.commands import Kind


class State(Enum):
    """Where a session stands, as both sides know it from the replies so far."""

    OPENING = auto()  # connected, the greeting has not come
    GREETED = auto()  # greeted, or TLS has just begun: EHLO is due
    READY = auto()  # no transaction
    MAIL = auto()  # a transaction without an accepted recipient
    RCPT = auto()  # a transaction with one at least
    CONTENT = auto()  # between 354 and the final dot
    CHUNKS = auto()  # between the first BDAT and the last
    VERDICTS = auto()  # the content has ended, and its recipients are answered one by one (LMTP, PRDR)
    AUTH = auto()  # a challenge waits for its response
    TLS = auto()  # STARTTLS was accepted, the handshake is due
    CLOSED = auto()

    __hash__ = object.__hash__  # by identity, as for `Kind`


def _always(state: State, *severities: int) -> dict[int, State]:
    return dict.fromkeys(severities, state)


def _in_session(here: State, after_hello: State, after_reset: State) -> dict[Kind, dict[int, State]]:
    """What is allowed in every state between the greeting and the content."""
    return {
        Kind.HELLO: {2: after_hello, 4: here, 5: here},
        Kind.RSET: {2: after_reset, 4: here, 5: here},
        Kind.NOOP: _always(here, 2, 4, 5),
        Kind.QUIT: _always(State.CLOSED, 2, 4, 5),
    }


# What one recipient is told ends nothing: the next is to be told. In LMTP the last reply is the last recipient's, with
# PRDR it is the message's.
_VERDICTS: dict[Kind, dict[int, State]] = {
    Kind.VERDICT: _always(State.VERDICTS, 2, 4, 5),
    Kind.LAST_VERDICT: _always(State.READY, 2, 4, 5),
}


def _at_the_end(end: Kind) -> dict[Kind, dict[int, State]]:
    """The end of content: one reply for all, or 353 for PRDR, or at once one for each recipient, as in LMTP."""
    return {end: {2: State.READY, 3: State.VERDICTS, 4: State.READY, 5: State.READY}, **_VERDICTS}


_S = State
TABLE: dict[State, dict[Kind, dict[int, State]]] = {
    _S.OPENING: {Kind.CONNECT: {2: _S.GREETED, 4: _S.CLOSED, 5: _S.CLOSED}},
    _S.GREETED: {
        **_in_session(_S.GREETED, after_hello=_S.READY, after_reset=_S.GREETED),
        Kind.XCLIENT: _always(_S.GREETED, 2, 4, 5),
    },
    _S.READY: {
        **_in_session(_S.READY, after_hello=_S.READY, after_reset=_S.READY),
        Kind.MAIL: {2: _S.MAIL, 4: _S.READY, 5: _S.READY},
        Kind.STARTTLS: {2: _S.TLS, 4: _S.READY, 5: _S.READY},
        Kind.AUTH: {2: _S.READY, 3: _S.AUTH, 4: _S.READY, 5: _S.READY},
        Kind.XCLIENT: {2: _S.GREETED, 4: _S.READY, 5: _S.READY},  # its answer is a new greeting
        Kind.XFORWARD: _always(_S.READY, 2, 4, 5),
    },
    _S.MAIL: {
        **_in_session(_S.MAIL, after_hello=_S.READY, after_reset=_S.READY),
        Kind.RCPT: {2: _S.RCPT, 4: _S.MAIL, 5: _S.MAIL},
        # A client that pipelines sends DATA before it knows that no recipient was accepted (RFC 2920
        # section 3.1). A server refuses it, but one that does not must still be understood.
        Kind.DATA: {3: _S.CONTENT, 4: _S.MAIL, 5: _S.MAIL},
    },
    _S.RCPT: {
        **_in_session(_S.RCPT, after_hello=_S.READY, after_reset=_S.READY),
        Kind.RCPT: _always(_S.RCPT, 2, 4, 5),
        Kind.DATA: {3: _S.CONTENT, 4: _S.RCPT, 5: _S.RCPT},
        Kind.CHUNK: {2: _S.CHUNKS, 4: _S.READY, 5: _S.READY},
        **_at_the_end(Kind.LAST_CHUNK),
    },
    _S.CONTENT: _at_the_end(Kind.END),
    _S.CHUNKS: {
        **_in_session(_S.CHUNKS, after_hello=_S.READY, after_reset=_S.READY),
        Kind.CHUNK: {2: _S.CHUNKS, 4: _S.READY, 5: _S.READY},
        **_at_the_end(Kind.LAST_CHUNK),
    },
    _S.VERDICTS: _VERDICTS,
    _S.AUTH: {Kind.RESPONSE: {2: _S.READY, 3: _S.AUTH, 4: _S.READY, 5: _S.READY}},
    _S.TLS: {Kind.HANDSHAKE: {2: _S.GREETED}},
    _S.CLOSED: {},
}

_THREE_HUNDREDS = {Kind.DATA: 354, Kind.END: 353, Kind.LAST_CHUNK: 353, Kind.AUTH: 334, Kind.RESPONSE: 334}


def is_allowed(state: State, kind: Kind) -> bool:
    """Whether a client may send this now."""
    return kind in TABLE[state]


def after(state: State, kind: Kind, code: int) -> State | None:
    """The state that a reply leads to, or None when that command or that reply makes no sense here."""
    if code == 421:
        return State.CLOSED
    severity = code // 100
    if severity == 3 and _THREE_HUNDREDS.get(kind) != code:
        return None
    answers = TABLE[state].get(kind)
    return None if answers is None else answers.get(severity)
