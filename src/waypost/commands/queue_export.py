"""Writes deliveries to files: the message as `.eml`, its envelope and what is known of it beside it as `.json`."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from waypost.commands import FAILED
from waypost.commands.control import ControlError, Daemon
from waypost.commands.queue_options import Wanted, deliveries

_NOT_FOR_FILES = ("header", "header_cut")  # they are in the message


class Export:
    """One export into a folder, which is made when it is missing. Raises `OSError`."""

    def __init__(self, daemon: Daemon, folder: str) -> None:
        self._daemon = daemon
        self._folder = Path(folder)
        self.written = 0
        self.problems: list[str] = []
        """Why deliveries were not written, in sentences."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def run(self, chosen: Wanted) -> None:
        """Writes all that are chosen. Raises `ControlError` and `OSError`, with no half message left behind."""
        content = Daemon(self._daemon.path)  # a connection carries one answer at a time, and the list is one
        try:
            self._write_all(chosen, content)
        finally:
            content.close()

    def _write_all(self, chosen: Wanted, content: Daemon) -> None:
        for row in deliveries(self._daemon, chosen):
            try:
                self._write(content, row["number"], f"{row['id']}-{row['number']}")
            except FileExistsError as error:
                self.problems.append(f"{error.filename} is there already, and was left alone")
            except ControlError as error:
                if error.code != FAILED:
                    raise
                self.problems.append(str(error))  # it was delivered in the meantime
            else:
                self.written += 1

    def _write(self, content: Daemon, number: int, name: str) -> None:
        facts = content.value(f"/api/queue/{number}")
        kept: dict[str, Any] = {key: value for key, value in facts.items() if key not in _NOT_FOR_FILES}
        _create(self._folder / f"{name}.eml", content.pieces(f"/api/queue/{number}/content"))
        _create(self._folder / f"{name}.json", [f"{json.dumps(kept)}\n".encode()])


def _create(path: Path, pieces: Iterable[bytes]) -> None:
    """A new file for nobody else's eyes; none at all when it cannot be written whole."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.writelines(pieces)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
