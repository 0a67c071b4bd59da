"""Imports point down only, the pure packages stay pure, and nothing grows too large: read from the source.

The layers are those of docs/architecture.md. A new package has to be given a place here before it can be used.
"""

import ast
from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "waypost"

LAYERS = (
    {"smtp"},
    {"mail"},
    {"routing"},
    {"clock"},
    {"plugins", "observe"},
    {"net", "delivery", "store"},
    {"admin", "config"},
    {"app", "cli", "commands", "sink", "demo", "__main__"},
)
"""From the bottom up. Members of one layer are siblings, which never import each other, except at the top."""

PORTS = {"waypost.delivery.spool"}
"""Modules that declare a port, which the sibling that stands behind it has to know. They import no sibling."""

TOP = len(LAYERS) - 1
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}

PURE = {"smtp", "mail", "routing"}
IMPURE_MODULES = {"asyncio", "socket", "ssl", "time", "random", "os", "logging", "subprocess", "threading", "secrets"}

MAX_MODULE_LINES = 400
MAX_CLASS_LINES = 250


@dataclass(frozen=True, slots=True)
class Import:
    """One imported module, by its full name, and the line that imports it."""

    module: str
    line: int


def imports_of(source: str, module: str) -> list[Import]:
    """Everything that `source`, the text of `module`, imports: inside functions and for type checkers too."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [Import(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(module.split(".")[: -node.level]) if node.level else ""
            origin = ".".join(filter(None, (base, node.module or "")))
            # `from waypost import config` names a package in its alias.
            names = [f"{origin}.{alias.name}" for alias in node.names] if origin == "waypost" else [origin]
            found += [Import(name, node.lineno) for name in names]
    return found


def package_of(module: str) -> str | None:
    """The package or module directly under `waypost` that `module` belongs to; None for anything else."""
    head, _, rest = module.partition(".")
    return rest.partition(".")[0] if head == "waypost" and rest else None


def layer_faults(source: str, module: str) -> list[str]:
    """What `module` imports although its layer forbids it, in sentences."""
    own = package_of(module)
    if own is None:  # waypost/__init__.py is below everything
        return [f"line {found.line}: the root package imports {found.module}" for found in imports_of(source, module)]
    if own not in LEVEL:
        return [f"{own} has no place among the layers"]
    faults = []
    for found in imports_of(source, module):
        other = package_of(found.module)
        if other is None or other == own or other.startswith("__version"):
            continue
        if other not in LEVEL:
            faults.append(f"line {found.line}: {found.module} has no place among the layers")
        elif LEVEL[other] > LEVEL[own]:
            faults.append(f"line {found.line}: {own} imports {other}, which is above it")
        elif LEVEL[other] == LEVEL[own] < TOP and found.module not in PORTS:
            faults.append(f"line {found.line}: {own} imports its sibling {other}")
    return faults


def purity_faults(source: str, module: str) -> list[str]:
    """What a module of a pure package imports although it needs input, output, a clock or chance."""
    if package_of(module) not in PURE:
        return []
    return [
        f"line {found.line}: {module} imports {found.module}"
        for found in imports_of(source, module)
        if found.module.partition(".")[0] in IMPURE_MODULES
    ]


def size_faults(source: str) -> list[str]:
    """What has become too large to be read in one go."""
    lines = source.count("\n")
    faults = [f"{lines} lines, at most {MAX_MODULE_LINES}"] if lines > MAX_MODULE_LINES else []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > MAX_CLASS_LINES:
                faults.append(f"class {node.name} has {length} lines, at most {MAX_CLASS_LINES}")
    return faults


def module_name(path: Path) -> str:
    """The name under which the file is imported; `waypost.smtp.` and `__init__` for a package's own file."""
    return ".".join(("waypost", *path.relative_to(SOURCE).with_suffix("").parts))


MODULES = sorted(SOURCE.rglob("*.py"))
each_module = pytest.mark.parametrize("path", MODULES, ids=[str(path.relative_to(SOURCE)) for path in MODULES])


@each_module
def test_imports_point_down(path: Path) -> None:
    name = "waypost" if path == SOURCE / "__init__.py" else module_name(path)
    assert layer_faults(path.read_text("utf-8"), name) == []


@each_module
def test_pure_packages_do_no_io_and_read_no_clock(path: Path) -> None:
    assert purity_faults(path.read_text("utf-8"), module_name(path)) == []


@each_module
def test_nothing_is_too_large(path: Path) -> None:
    assert size_faults(path.read_text("utf-8")) == []


def test_every_package_of_the_lower_layers_exists() -> None:
    """A renamed package would otherwise leave the rule without an object."""
    names = [name for names in LAYERS[:TOP] for name in names]
    missing = [name for name in names if not any((SOURCE / file).exists() for file in (f"{name}.py", name))]
    assert missing == []
    assert [port for port in PORTS if not (SOURCE.parent / f"{port.replace('.', '/')}.py").exists()] == []


@pytest.mark.parametrize(
    ("source", "module"),
    [
        ("import waypost.net.session", "waypost.smtp.server"),
        ("from waypost.mail.message import Message", "waypost.smtp.server"),
        ("from waypost.clock import Clock", "waypost.routing.health"),
        ("from waypost import config", "waypost.routing.rules"),
        ("from ..store import sqlite", "waypost.delivery.intake"),
        ("from waypost.delivery.intake import Intake", "waypost.store.sqlite"),
        ("from waypost.net.pool import Pool", "waypost.delivery.relay"),
        ("def late():\n    from waypost.app import App", "waypost.config.load"),
        ("import waypost.misc", "waypost.cli"),
        ("", "waypost.misc.text"),
    ],
)
def test_a_forbidden_import_is_found(source: str, module: str) -> None:
    assert len(layer_faults(source, module)) == 1


@pytest.mark.parametrize(
    ("source", "module"),
    [
        ("from waypost.smtp.reply import Reply", "waypost.net.session"),
        ("from waypost import __version__", "waypost.observe.maillog"),
        ("from .address import Address", "waypost.smtp.wire"),
        ("from waypost.delivery.spool import Spool", "waypost.store.sqlite"),
        ("from waypost.app import App", "waypost.cli"),
    ],
)
def test_an_allowed_import_is_left_alone(source: str, module: str) -> None:
    assert layer_faults(source, module) == []


@pytest.mark.parametrize(
    "source", ["import time", "from os import environ", "import asyncio.streams", "import ssl as s"]
)
def test_impurity_is_found(source: str) -> None:
    assert len(purity_faults(source, "waypost.smtp.server")) == 1
    assert purity_faults(source, "waypost.net.session") == []


def test_size_is_measured() -> None:
    assert size_faults("x = 1\n" * 400) == []
    assert len(size_faults("x = 1\n" * 401)) == 1
    assert len(size_faults("class Large:\n" + "    x = 1\n" * 250)) == 1
