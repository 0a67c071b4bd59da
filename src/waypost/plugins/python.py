"""Python plugins: a function in a file, or behind an entry point, in a process of its own.

In the server's own process a function could not be stopped when it hangs, nor limited when it wants all memory, nor
survived when it crashes.
"""

import ast
import sys
from importlib.metadata import entry_points
from pathlib import Path

from waypost.plugins.lines import LinesPlugin
from waypost.plugins.port import Definition
from waypost.plugins.runner import FUNCTION, GROUP


def open_python(definition: Definition) -> LinesPlugin:
    """A Python function, asked in lines of JSON."""
    command = (sys.executable, "-P", "-m", "waypost.plugins.runner", definition.target)
    return LinesPlugin(definition, command, greets=True)


def python_fault(definition: Definition) -> str | None:
    """Why the function could not be loaded. The file is parsed, not run."""
    if definition.files:
        return _file_fault(definition.files[0])
    names = sorted(entry.name for entry in entry_points(group=GROUP))
    if definition.target in names:
        return None
    known = f"there is {', '.join(names)}" if names else "none has any"
    return (
        f"no installed package has an entry point {definition.target!r} in the group {GROUP}; {known}. "
        "A file is written with a slash, or ends in .py"
    )


def _file_fault(file: Path) -> str | None:
    try:
        source = file.read_bytes()
    except OSError as error:
        return f"{file} cannot be read: {error.strerror}"
    try:
        tree = ast.parse(source, str(file))
    except SyntaxError as error:
        return f"{file}:{error.lineno or 1}:{error.offset or 1}: {error.msg}"
    except ValueError as error:
        return f"{file} is no Python: {error}"
    if any(FUNCTION in _bound(statement) for statement in tree.body):
        return None
    return f"there is no function `{FUNCTION}` in {file}; write `def {FUNCTION}(question):`"


def _bound(statement: ast.stmt) -> set[str]:
    """The names that one statement of a module gives a value, those in its branches included."""
    names: set[str] = set()
    for node in ast.walk(statement):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.alias(name=name, asname=other):
                names.add(other or name)
            case ast.Name(id=name, ctx=ast.Store()):
                names.add(name)
    return names
