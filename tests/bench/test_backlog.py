"""The benchmark of a backlog: it measures everything that its table shows, and leaves nothing behind."""

from pathlib import Path

import pytest
from bench.backlog import COLUMNS, measure


@pytest.mark.parametrize("store", ["memory", "sqlite"])
async def test_every_column_is_measured(store: str, tmp_path: Path) -> None:
    named = f"sqlite:{tmp_path / 'spool'}" if store == "sqlite" else store
    figures = await measure(named, count=200, senders=5, workers=2)
    of_files = {"ready", "disk"} if store == "memory" else set()
    assert figures.keys() == COLUMNS.keys() - of_files
    assert all(figures[name] > 0 for name in ("enqueued_first", "enqueued_last", "settled_first", "settled_last"))
