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


KINDS: Mapping[str, Kind] = {}
"""By key: `python`, `exec`, `starlark`, `go`."""
