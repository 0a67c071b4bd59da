"""The schema of plugins: programs and functions that choose among upstreams. The descriptions are the manual."""

from typing import Annotated, get_args

from pydantic import Field

from waypost.config.fields import Count, Duration, Section, Size, Text, choice, listed
from waypost.plugins.kinds import KINDS
from waypost.plugins.port import Definition, Needs

NeedsField = Annotated[Needs, *choice(*get_args(Needs))]

_DEFAULTS = Definition("", "", ("",))
_MEMORY = _DEFAULTS.memory or 0


class PluginSection(Section):
    """One plugin. Exactly one of the settings that say what it is must be there."""

    python: Text | None = Field(
        None,
        description="A Python file with a function `choose`: `./by_subject.py`; or the name of an entry point in the "
        "group `waypost.strategies` of an installed package. It runs in a process of its own.",
    )
    exec: Annotated[tuple[Text, ...], listed("program")] | None = Field(
        None,
        min_length=1,
        description="A program that speaks JSON lines on standard input and output, with its arguments: "
        "`[/usr/local/bin/choose, --verbose]`. It is started once and kept running.",
    )
    starlark: Text | None = Field(
        None,
        description="A Starlark script with a function `choose(question)`, or `selector(downstreams)` as smtpmux once "
        "had it: `./by_recipient.star`. Needs the package's extra `starlark`.",
    )
    go: Text | None = Field(
        None,
        description="A program built for smtpmux, in Go with hashicorp/go-plugin: `./round-robin`. It is started once "
        "and kept running.",
    )
    timeout: Duration = Field(
        _DEFAULTS.timeout,
        description="How long an answer may take, waiting for its turn included; then the message goes by the pool's "
        "`strategy`.",
    )
    memory: Size = Field(
        _MEMORY,
        description="What its process may use of memory. On Linux, memory that is only reserved does not count.",
    )
    at_once: Count = Field(_DEFAULTS.at_once, description="Questions that it is asked at the same time, at most.")
    needs: NeedsField = Field(
        _DEFAULTS.needs,
        description="`envelope`: it is asked as soon as there is a recipient. `content`: it sees the header fields as "
        "well, and is asked when the message is there; until then its recipients are accepted, and in `pass` there is "
        "one in a transaction.",
    )

    @property
    def kinds(self) -> tuple[str, ...]:
        """The settings that say what it is; one, if all is well."""
        return tuple(kind for kind in KINDS if getattr(self, kind) is not None)

    def definition(self, name: str) -> Definition:
        """For everybody else; of a section that says what it is."""
        kind = self.kinds[0]
        said = getattr(self, kind)
        command = said if isinstance(said, tuple) else (said,)
        is_file = kind in ("starlark", "go") or (kind == "python" and command[0].endswith(".py"))
        if is_file and "/" not in command[0]:
            command = (f"./{command[0]}",)
        return Definition(name, kind, command, self.timeout, self.memory, self.at_once, self.needs)
