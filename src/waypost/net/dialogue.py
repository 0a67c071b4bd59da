"""The dialogue with an upstream, step by step: commands out, replies in, each within its time.

Every step returns the `Reply`, or a `Failure` when there was none that makes sense; nothing raises for what an
upstream does.
"""

from collections.abc import Sequence
from time import monotonic

from waypost.mail.outcome import Answer, Cause, Failure, Phase, Stopped
from waypost.net.stopwatch import Stopwatch
from waypost.net.stream import InterruptedReadError, Stream, StreamTimeoutError, complaint_of_tls
from waypost.smtp import commands as c
from waypost.smtp.client import ClientEngine
from waypost.smtp.errors import ProtocolError
from waypost.smtp.reply import Reply
from waypost.smtp.state import State

_CLOSED = State.CLOSED  # at hand: before Python 3.12 members are looked up by the metaclass


class Dialogue:
    """A client engine and the stream it speaks over. `stream` is None before it is connected and after the end."""

    __slots__ = ("engine", "stream", "watch")

    def __init__(self) -> None:
        self.engine = ClientEngine()
        self.stream: Stream | None = None
        self.watch = Stopwatch()
        """Each step is measured under its phase; a group under that of its first command."""

    @property
    def is_closed(self) -> bool:
        """Whether nothing can be sent any more."""
        stream = self.stream
        return stream is None or stream.lost or stream.at_eof or self.engine.state is _CLOSED

    def abort(self) -> None:
        """Closes without a word."""
        if self.stream is not None:
            self.stream.abort()
            self.stream = None

    def restart(self) -> None:
        """Closes without a word, and is ready for another connection."""
        self.abort()
        self.engine = ClientEngine()

    async def ask(self, command: c.Command, phase: Phase, timeout: float, behind: bytes = b"") -> Answer:
        """One command, with what follows it, and its answer."""
        (answer,) = await self.exchange((command,), (phase,), timeout, behind)
        return answer

    async def exchange(
        self, commands: Sequence[c.Command], phases: Sequence[Phase], timeout: float, behind: bytes = b""
    ) -> list[Answer]:
        """Several commands in one write; an answer for each, with its phase should it fail."""
        if self.stream is None or self.engine.state is _CLOSED:
            return [Failure(phase, Cause.CLOSED, "the connection is closed") for phase in phases]
        self.watch.start()
        try:
            octets = self.engine.send(*commands)
            if behind:
                self.stream.write_all((octets, behind))
            else:
                self.stream.write(octets)
        except ProtocolError as error:
            return [self.broken(phase, Cause.PROTOCOL, str(error)) for phase in phases]
        return await self.answers(phases, timeout)

    async def answers(self, phases: Sequence[Phase], timeout: float) -> list[Answer]:
        """The next answers, one for each phase; from a failure on, that failure for each.

        Each has `timeout` seconds; one that comes in drops has as much again for all of them.
        """
        answers: list[Answer] = []
        count, left, until = len(phases), timeout, 0.0
        try:
            while len(answers) < count and self.stream is not None:
                data = await self.stream.read(left)
                if not data:
                    break
                if new := [answer for _, answer in self.engine.receive(data)]:
                    answers += new
                    left, until = timeout, 0.0
                else:
                    now = monotonic()
                    until = until or now + timeout
                    left = until - now
                    if left <= 0:
                        raise StreamTimeoutError
                if answers and self.engine.state is _CLOSED:  # 421: nothing more will come
                    answers += [answers[-1]] * (count - len(answers))
            if len(answers) == count:
                self.watch.lap(phases[0])
                return answers
            cause, text = Cause.CLOSED, "the upstream closed the connection"
            if self.stream is not None and (complaint := complaint_of_tls(self.stream)):
                text += f": {complaint}"
        except StreamTimeoutError:
            cause, text = Cause.TIMEOUT, f"no answer within {timeout:g} s"
        except ProtocolError as error:
            cause, text = Cause.PROTOCOL, str(error)
            answers.clear()  # replies may have been paired with the wrong commands
        except InterruptedReadError:
            cause, text = Cause.SHUTDOWN, "Waypost is stopping"
        self.watch.lap(phases[0])
        return answers + [self.broken(phase, cause, text) for phase in phases[len(answers) :]]

    def stop(self, phase: Phase, cause: Cause, text: str) -> Stopped:
        """Gives up before there was a transaction."""
        return Stopped(phase, self.broken(phase, cause, text))

    def broken(self, phase: Phase, cause: Cause, text: str) -> Failure:
        """Gives up: the two sides may no longer agree on anything."""
        self.abort()
        return Failure(phase, cause, text)


def is_positive(answer: Answer) -> bool:
    """Whether an answer is a reply that says yes (2yz)."""
    return isinstance(answer, Reply) and answer.is_positive
