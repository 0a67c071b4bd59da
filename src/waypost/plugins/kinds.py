"""The kinds of plugins, by their configuration key: the one place where a kind is registered.

A kind is imported when a configuration names it, so what nobody uses costs no start-up time and needs no package.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from waypost.plugins.port import Definition, Plugin


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind: how to open a plugin, and how to find fault with its definition without running anything of it."""

    open: Callable[[Definition], Plugin]
    """Makes one that is not started yet. Raises nothing: what is wrong is said by `start`."""
    fault: Callable[[Definition], str | None]
    """What is wrong with it and what to do, in a sentence for `waypost check`; None when nothing is."""


def _open_python(definition: Definition) -> Plugin:
    from waypost.plugins.python import open_python

    return open_python(definition)


def _python_fault(definition: Definition) -> str | None:
    from waypost.plugins.python import python_fault

    return python_fault(definition)


def _open_exec(definition: Definition) -> Plugin:
    from waypost.plugins.lines import open_exec

    return open_exec(definition)


def _exec_fault(definition: Definition) -> str | None:
    from waypost.plugins.lines import exec_fault

    return exec_fault(definition)


def _open_starlark(definition: Definition) -> Plugin:
    from waypost.plugins.starlark import open_starlark

    return open_starlark(definition)


def _starlark_fault(definition: Definition) -> str | None:
    from waypost.plugins.starlark import starlark_fault

    return starlark_fault(definition)


def _open_go(definition: Definition) -> Plugin:
    from waypost.plugins.goplugin.host import open_go

    return open_go(definition)


def _go_fault(definition: Definition) -> str | None:
    from waypost.plugins.goplugin.host import go_fault

    return go_fault(definition)


KINDS: Mapping[str, Kind] = {
    "python": Kind(_open_python, _python_fault),
    "exec": Kind(_open_exec, _exec_fault),
    "starlark": Kind(_open_starlark, _starlark_fault),
    "go": Kind(_open_go, _go_fault),
}
"""By key: `python`, `exec`, `starlark`, `go`."""


def opened(definition: Definition) -> Plugin:
    """The plugin of a definition, not started yet."""
    return KINDS[definition.kind].open(definition)
