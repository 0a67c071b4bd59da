"""Content that a client sends, by DATA or by BDAT, brought into one form and looked at."""

from waypost.smtp.buffer import Buffer
from waypost.smtp.commands import Bdat
from waypost.smtp.content import DotReader, Inspector, Stuffer
from waypost.smtp.order import ServerOptions
from waypost.smtp.reply import Reply


class IncomingContent:
    """The content of one transaction while it arrives. It is over when `ended` is true."""

    __slots__ = ("_dots", "_inspector", "_stuffer", "ended")

    def __init__(self, options: ServerOptions) -> None:
        self._inspector = Inspector(options.max_size, options.max_line, options.repair_line_ends)
        self._dots: DotReader | None = None
        self._stuffer: Stuffer | None = None
        self.ended = False

    @property
    def finding(self) -> Reply | None:
        """Why the content may not be passed on, or None."""
        return self._inspector.finding

    def read_data(self, buffer: Buffer) -> bytes:
        """What came after DATA and is in the buffer, up to the final dot."""
        if self._dots is None:
            self._dots = DotReader()
        piece, behind = self._dots.read(buffer.take(len(buffer)))
        if behind >= 0:
            buffer.put_back(behind)
            self.ended = True
        return self._inspector.look(piece, self.ended)

    def read_chunk(self, octets: bytes, last: bool) -> bytes:
        """Octets of a chunk; `last` with those that end the content."""
        if self._stuffer is None:
            self._stuffer = Stuffer()
        self.ended = last
        return self._inspector.look(self._stuffer.stuff(octets), last)


class Chunk:
    """One BDAT whose octets are being read. With a `refusal` they are taken for what they are, and dropped."""

    __slots__ = ("command", "left", "refusal")

    def __init__(self, command: Bdat, refusal: Reply | None) -> None:
        self.command = command
        self.refusal = refusal
        self.left = command.size

    def take(self, buffer: Buffer) -> bytes:
        """What of the chunk is in the buffer."""
        octets = buffer.take(min(self.left, len(buffer)))
        self.left -= len(octets)
        return octets
