"""Starlark scripts, in processes of their own: the kind `starlark`. What they are called with is `starlark_script`."""

import re
import sys
from importlib.util import find_spec

from waypost.plugins.lines import LinesPlugin
from waypost.plugins.port import Definition

_FUNCTION = re.compile(r"^(?:def +(?:choose|selector) *\(|(?:choose|selector) *=)", re.MULTILINE)


def open_starlark(definition: Definition) -> LinesPlugin:
    """A script, asked in lines of JSON."""
    module = "waypost.plugins.starlark_runner"
    command = (sys.executable, "-P", "-m", module, definition.target, str(definition.timeout))
    return LinesPlugin(definition, command, greets=True)


def starlark_fault(definition: Definition) -> str | None:
    """Why the script could not be loaded. It is parsed, not run."""
    if find_spec("starlark") is None:
        return "needs the package starlark-pyo3: `pip install 'waypost[starlark]'`"
    from starlark import StarlarkError

    from waypost.plugins.starlark_script import in_one_line, lacking, parsed

    file = definition.files[0]
    try:
        source = file.read_text("utf-8")
    except OSError as error:
        return f"{file} cannot be read: {error.strerror}"
    except UnicodeDecodeError as error:
        return f"{file} is no text in UTF-8: octet {error.start}"
    try:
        parsed(str(file), source)
    except StarlarkError as error:
        return in_one_line(error)
    return None if _FUNCTION.search(source) else lacking(str(file))
