"""Messages as files: one .eml with the exact content, and one .json with everything else."""

import json
import os
from pathlib import Path

from waypost.sink.answers import Watcher
from waypost.sink.stored import StoredMessage


class Directory(Watcher):
    """Writes every message to a folder, as `000001.eml` and `000001.json`. Numbers go on from what is there."""

    def __init__(self, folder: Path) -> None:
        """Makes the folder. Raises `OSError`."""
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(13, "Permission denied", str(folder))
        self._folder = folder
        numbers = (int(each.stem) for each in folder.glob("*.eml") if each.stem.isascii() and each.stem.isdecimal())
        self._last = max(numbers, default=0)

    def kept(self, message: StoredMessage) -> None:
        self._last += 1
        path = self._folder / f"{self._last:06}"
        path.with_suffix(".json").write_text(json.dumps(message.as_json(), indent=2) + "\n", "utf-8")
        path.with_suffix(".eml").write_bytes(message.content)  # last: who waits for it finds both
