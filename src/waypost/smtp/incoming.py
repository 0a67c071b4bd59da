"""Content that a client sends, by DATA or by BDAT, brought into one form and looked at."""

from waypost.smtp.buffer import Buffer
from waypost.smtp.content import DotReader, Inspector, Stuffer
from waypost.smtp.reply import Reply


class IncomingContent:
    """The content of one transaction while it arrives. It is over when `ended` is true."""

    __slots__ = ("_dots", "_inspector", "_stuffer", "ended")

    def __init__(self, inspector: Inspector) -> None:
        self._inspector = inspector
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
