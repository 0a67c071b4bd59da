"""A folder of its own for each test, and short ways to load what it writes there."""

import socket
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from waypost.config.errors import ConfigurationError, Problem
from waypost.config.load import Loaded, read

Load = Callable[..., Loaded]
Mistakes = Callable[..., tuple[Problem, ...]]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, empty at first: relative names in messages stay short. The machine has a full name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(socket, "gethostname", lambda: "here.example.com")
    return tmp_path


@pytest.fixture
def load_text(folder: Path) -> Load:
    """Loads a text as `c.yaml`, with nothing but the given environment."""

    def load_text(text: str, environ: Mapping[str, str] | None = None, **overrides: str) -> Loaded:
        (folder / "c.yaml").write_text(text, "utf-8")
        by_name = {name.replace("__", "."): value for name, value in overrides.items()}
        return read("c.yaml", {"HOME": str(folder), **(environ or {})}, by_name)

    return load_text


@pytest.fixture
def mistakes(load_text: Load) -> Mistakes:
    """The problems in a text, which must have some."""

    def mistakes(text: str, environ: Mapping[str, str] | None = None) -> tuple[Problem, ...]:
        with pytest.raises(ConfigurationError) as caught:
            load_text(text, environ)
        return caught.value.problems

    return mistakes
