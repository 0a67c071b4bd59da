"""What is run: a cell is one size, one way to connect and one concurrency; all systems run it in turn."""

from dataclasses import dataclass
from typing import Literal

Connections = Literal["new", "reused"]

SIZES = {"1k": 1024, "10k": 10 * 1024, "100k": 100 * 1024, "5m": 5 * 1024 * 1024}
SIZE_TITLES = {"1k": "1 KB", "10k": "10 KB", "100k": "100 KB", "5m": "5 MB"}
CONCURRENCY = (1, 20, 200)
CONNECTIONS: tuple[Connections, ...] = ("new", "reused")

_MESSAGES = {"1k": 2000, "10k": 2000, "100k": 600, "5m": 40}
_MESSAGES_ALONE = {"1k": 300, "10k": 300, "100k": 200, "5m": 20}
_TIMED = {"1k": 300, "10k": 300, "100k": 200, "5m": 20}


@dataclass(frozen=True, slots=True)
class Cell:
    """One line of the plan."""

    size: str
    connections: Connections
    concurrency: int

    @property
    def octets(self) -> int:
        """Octets of a message's text, without header."""
        return SIZES[self.size]

    @property
    def title(self) -> str:
        """For headings."""
        connection = "new connection per message" if self.connections == "new" else "connection reused"
        plural = "" if self.concurrency == 1 else "s"
        return f"{SIZE_TITLES[self.size]}, {connection}, {self.concurrency} session{plural}"

    def messages(self, wanted: int | None, quick: bool) -> int:
        """How many `smtp-source` sends: `wanted`, or what gives a second or so of work; at least two per session."""
        if wanted is None:
            wanted = (_MESSAGES_ALONE if self.concurrency == 1 else _MESSAGES)[self.size]
            wanted = wanted // 2 if quick else wanted
        return max(wanted, self._least)

    def timed_messages(self, wanted: int | None, quick: bool) -> int:
        """How many messages the latency client sends."""
        least = min(wanted, _TIMED[self.size]) if wanted else _TIMED[self.size]
        return max(least // 4 if quick else least, self._least)

    @property
    def warming_messages(self) -> int:
        """How many messages go through before anything is measured."""
        return min(2 * self.concurrency, 20 if self.octets > 1024 * 1024 else 100)

    @property
    def profiled_messages(self) -> int:
        """How many messages a profile sees: enough to leave start-up, which is in it, far behind."""
        return 100 if self.octets > 1024 * 1024 else 10_000

    @property
    def _least(self) -> int:
        return self.concurrency if self.octets > 1024 * 1024 else 2 * self.concurrency


REQUIRED = (
    Cell("1k", "new", 20),
    Cell("1k", "reused", 20),
    Cell("100k", "new", 20),
    Cell("5m", "new", 20),
    Cell("1k", "reused", 1),
    Cell("1k", "new", 200),
    Cell("1k", "reused", 200),
)
"""The cells from which the required ratios are computed."""


def plan(
    sizes: tuple[str, ...], connections: tuple[Connections, ...], concurrency: tuple[int, ...], quick: bool
) -> list[Cell]:
    """The cells of the product; with `quick` only those that the required ratios need."""
    cells = [Cell(size, way, number) for size in sizes for way in connections for number in concurrency]
    return [cell for cell in cells if cell in REQUIRED] if quick else cells
