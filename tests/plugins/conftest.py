"""Plugins for tests: programs and functions in a temporary folder, and questions for them."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from waypost.plugins.port import Definition, Question, UpstreamFacts

MakeProgram = Callable[[str], Definition]


def question(message_id: str = "06H0", **more: object) -> Question:
    """A message for one of three upstreams."""
    upstreams = tuple(
        UpstreamFacts(name, f"{name}.example:25", "me", 1, "healthy", "", 0, None, 0.0, 0.0, None, 0.0)
        for name in ("a", "b", "c")
    )
    facts = {
        "listener": "127.0.0.1:25",
        "account": None,
        "client_address": "192.0.2.7",
        "helo": "client.example",
        "reverse_path": "ann@example.com",
        "recipients": ("bob@example.org",),
        "declared_size": None,
        "route": "all",
        "pool": "providers",
        "background": False,
        "upstreams": upstreams,
    }
    return Question(message_id, **(facts | more))  # type: ignore[arg-type]


@pytest.fixture
def program(tmp_path: Path) -> MakeProgram:
    """Makes a program of the kind `exec`, from the Python text of its body."""

    def make(body: str, name: str = "mine", **more: object) -> Definition:
        file = tmp_path / f"{name}.program"
        file.write_text(f"#!{sys.executable}\nimport json, os, sys, time\n{body}")
        file.chmod(0o755)
        return Definition(name, "exec", (str(file),), **({"timeout": 5.0} | more))  # type: ignore[arg-type]

    return make


@pytest.fixture
def function(tmp_path: Path) -> MakeProgram:
    """Makes a plugin of the kind `python`, from the text of its file."""

    def make(text: str, name: str = "mine", **more: object) -> Definition:
        file = tmp_path / f"{name}.py"
        file.write_text(text)
        return Definition(name, "python", (str(file),), **({"timeout": 5.0} | more))  # type: ignore[arg-type]

    return make
