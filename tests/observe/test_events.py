"""The reference of events and fields: whole, and the same in the documentation."""

import os
from pathlib import Path

from waypost.observe.events import EVENTS, FIELDS, reference

PAGE = Path(__file__).parents[2] / "docs" / "logging.md"
MARK = "writes it anew -->\n"


def test_every_field_of_an_event_is_explained_and_every_explained_field_is_used():
    used = {field for event in EVENTS.values() for field in event.fields} | {"time", "level", "event"}

    assert used == set(FIELDS)


def test_the_page_has_the_reference_as_it_is():
    written, mark, tables = PAGE.read_text("utf-8").partition(MARK)
    if os.environ.get("UPDATE_DOCS"):
        PAGE.write_text(f"{written}{mark}\n{reference()}", "utf-8")
        return

    assert tables.strip() == reference().strip()
