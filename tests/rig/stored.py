"""What an upstream of the tests has received."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """One message as it arrived. Paths are without their angle brackets, parameters as they were written.

    `content` is the octets that the author's program meant: dot-stuffing undone, nothing else touched.
    """

    reverse_path: str
    parameters: tuple[str, ...]
    recipients: tuple[str, ...]
    recipient_parameters: tuple[tuple[str, ...], ...]
    content: bytes
    session: int
    helo: str
    tls: bool
    username: str | None

    @property
    def trace(self) -> bytes:
        """The first `Received` field, with its continuation lines and the last line end."""
        assert self.content.startswith(b"Received: "), self.content[:200]
        end = self.content.index(b"\r\n") + 2
        while self.content[end : end + 1] in (b" ", b"\t"):
            end = self.content.index(b"\r\n", end) + 2
        return self.content[:end]

    @property
    def untraced(self) -> bytes:
        """What came after the first `Received` field: what the client sent, if all is well."""
        return self.content[len(self.trace) :]
