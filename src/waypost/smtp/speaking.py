"""The half of the server that speaks: replies in, octets out, and the state that they lead to."""

from collections.abc import Sequence

from waypost.smtp.commands import Kind
from waypost.smtp.errors import LocalProtocolError
from waypost.smtp.order import ServerOptions
from waypost.smtp.reply import Reply
from waypost.smtp.state import State, after
from waypost.smtp.verdicts import overall, spoken

# Before Python 3.12 a member is looked up by the metaclass, which takes as long as what is done with it here.
_CLOSED = State.CLOSED
_RCPT = Kind.RCPT
_ENDS = (Kind.END, Kind.LAST_CHUNK)
_WITH_CONSEQUENCES = frozenset({Kind.MAIL, Kind.AUTH, Kind.RESPONSE, Kind.STARTTLS, Kind.XCLIENT})


class Speaking:
    """What a server has said and has yet to answer. The half that listens is `ServerEngine`."""

    def __init__(self, options: ServerOptions) -> None:
        self.options = options
        self.state = State.OPENING
        self.recipients = 0  # accepted in this transaction
        self.prdr = False  # said with MAIL
        self._output: list[bytes] = []
        self._pending: Kind | None = None  # what `answer` answers
        self._unanswered = 0

    def answer(self, *replies: Reply) -> None:
        """Answers the last event, with one reply for each thing it asked."""
        kind = self._pending
        if kind is None or len(replies) > self._unanswered:
            raise LocalProtocolError("there is nothing to answer")
        for each in replies:
            state = after(self.state, kind, each.code)
            if state is None:
                raise LocalProtocolError(f"{each.code} makes no sense for {kind.name} in {self.state.name}")
            self.state = state
            self._output.append(each.encode())
            if kind is _RCPT and each.code < 300:
                self.recipients += 1
        self._unanswered -= len(replies)
        if self._unanswered == 0 or self.state is _CLOSED:
            self._pending = None
            if kind in _WITH_CONSEQUENCES:
                self._settle(kind, replies[-1])

    @property
    def is_concluding(self) -> bool:
        """Whether it is the end of content that has to be answered."""
        return self._pending in _ENDS

    def conclude(self, replies: Sequence[Reply]) -> None:
        """Answers the end of content: with one reply for all, or one for each accepted recipient, in their order."""
        lmtp = self.options.lmtp
        if not (lmtp or self.prdr):
            self.answer(replies[0] if len(replies) == 1 else overall(replies))
            return
        end = self._pending
        if end is None:
            raise LocalProtocolError("there is nothing to answer")
        if len(replies) not in (1, self.recipients):
            raise LocalProtocolError(f"{len(replies)} replies for {self.recipients} recipients")
        for kind, each in spoken(end, replies, self.recipients, lmtp=lmtp):
            self._pending, self._unanswered = kind, 1
            self.answer(each)
            if self.state is _CLOSED:
                return

    def _settle(self, kind: Kind, last: Reply) -> None:
        """What an answer brings with it besides the state."""

    def close(self, answer: Reply) -> None:
        """Says 421 on our own account, and ends the session."""
        if self.state not in (State.CLOSED, State.TLS):
            self._output.append(answer.encode())
        self.state = State.CLOSED
        self._pending = None

    def take_output(self) -> bytes:
        """What is to be written now."""
        output = self._output
        data = output[0] if len(output) == 1 else b"".join(output)
        output.clear()
        return data
