"""The effective configuration for people and programs: every value, with where it comes from. No secrets."""

from typing import Any

from waypost.config.document import Data
from waypost.config.errors import Path, key_text
from waypost.config.load import Loaded
from waypost.config.write import yaml_text


def show_yaml(loaded: Loaded, *, origins: bool = True) -> str:
    """The native form with all defaults; `origins` adds a comment to each value."""
    data = _effective(loaded)
    return yaml_text(data, (lambda path: str(loaded.origin(path))) if origins else lambda path: "")


def show_json(loaded: Loaded) -> dict[str, Any]:
    """The same as data: `settings`, and `origins` by dotted name."""
    data = _effective(loaded)
    origins: dict[str, str] = {}
    _collect(data, (), loaded, origins)
    return {"source": loaded.source, "format": loaded.format, "settings": data, "origins": origins}


def _effective(loaded: Loaded) -> dict[str, Data]:
    dumped = loaded.model.model_dump(mode="json", by_alias=True)
    return {key: value for key, value in ((key, _plain(value)) for key, value in dumped.items()) if _is_set(value)}


def _plain(value: Any) -> Data:
    """What the model has, with scalars as the text that the file would have, and without what is not set."""
    if isinstance(value, dict):
        return {key: below for key, below in ((key, _plain(below)) for key, below in value.items()) if _is_set(below)}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, bool):
        return "true" if value else "false"
    return None if value is None else str(value)


def _is_set(value: Data) -> bool:
    return value is not None and value != [] and value != {}


def _collect(node: Data, path: Path, loaded: Loaded, origins: dict[str, str]) -> None:
    if isinstance(node, dict):
        for key, below in node.items():
            _collect(below, (*path, key), loaded, origins)
    elif isinstance(node, list):
        for index, item in enumerate(node):
            _collect(item, (*path, index), loaded, origins)
    else:
        origins[key_text(path)] = str(loaded.origin(path))
