"""The table of the tour: at most 80 columns, with colours on a terminal only."""

import re
from collections.abc import Sequence
from itertools import zip_longest
from textwrap import wrap

from waypost.demo.play import Result
from waypost.smtp.reply import printable

COLUMNS = (("message", 18), ("the client was told", 19), ("it went to", 10), ("why", 24))
"""Titles and widths. With the mark, the margins and the gaps between them that is 79."""

_BOLD, _DIM, _GREEN, _RED, _RESET = "\x1b[1m", "\x1b[2m", "\x1b[32m", "\x1b[31m", "\x1b[0m"
_MAX_LINES = 4
_ID = re.compile(r" \(id [0-9A-Z]+\)$", re.ASCII)


class Table:
    """Writes rows. `plain` characters are for output that knows ASCII only."""

    def __init__(self, *, colours: bool, plain: bool) -> None:
        self._colours = colours
        self._good, self._bad, self._line = ("ok", "!!", "-") if plain else ("✓ ", "✗ ", "─")
        self._ellipsis = "..." if plain else "…"

    def head(self) -> str:
        """The titles."""
        titles = "  ".join(f"{title:<{width}}" for title, width in COLUMNS).rstrip()
        rule = "  ".join(self._line * width for _, width in COLUMNS)
        return f"   {self.paint(_BOLD, titles)}\n   {self.paint(_DIM, rule)}\n"

    def row(self, result: Result) -> str:
        """One message: a few lines."""
        told = _ID.sub(f" (id {self._ellipsis})", printable(result.told))
        cells = (result.act.title, told, ", ".join(result.went) or "nobody", result.why)
        columns = [wrap(cell, width)[:_MAX_LINES] for cell, (_, width) in zip(cells, COLUMNS, strict=True)]
        mark = self.paint(_RED, self._bad) if result.differs else self.paint(_GREEN, self._good)
        lines: list[str] = []
        for texts in zip_longest(*columns, fillvalue=""):
            padded = [f"{text:<{width}}" for text, (_, width) in zip(texts, COLUMNS, strict=True)]
            lines.append(f"{mark if not lines else '  '} {'  '.join(padded)}".rstrip())
        return "\n".join(lines) + "\n"

    def verdict(self, results: Sequence[Result], leftovers: Sequence[str], seconds: float) -> str:
        """What it all comes to."""
        wrong = [f"{result.act.title}: {what}" for result in results for what in result.differs]
        wrong += [f"afterwards: {what}" for what in leftovers]
        if not wrong:
            text = f"All {len(results)} messages ended where they should, byte for byte plus one Received field."
            return f"{self.paint(_GREEN, text)}\n{self.paint(_DIM, f'It took {seconds:.1f} seconds.')}\n"
        lines = [self.paint(_RED, "Not every message ended where it should:")]
        for what in wrong:
            lines += wrap(printable(what), 76, initial_indent="  - ", subsequent_indent="    ")
        return "\n".join(lines) + "\n"

    def paint(self, colour: str, text: str) -> str:
        """`text` in a colour, where there are colours."""
        return f"{colour}{text}{_RESET}" if self._colours else text
