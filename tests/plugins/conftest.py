"""Plugins for tests: programs and functions in a temporary folder. Questions for them are in `rig`."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from waypost.plugins.port import Definition

MakeProgram = Callable[[str], Definition]


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
