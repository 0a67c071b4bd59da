"""Providers whose settings are known: the files in `presets/`, written like an upstream, each fact with its source."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import cast

from waypost.config.document import Data, parse
from waypost.config.errors import Origin


@dataclass(frozen=True, slots=True)
class Source:
    """A page, when it was read, and what was taken from it: settings, names of rules on replies, `notes`.

    `read_at` is where a copy of the page was read, when it was not read itself.
    """

    url: str
    seen: str
    of: tuple[str, ...]
    read_at: str | None = None


@dataclass(frozen=True, slots=True)
class Preset:
    """What is known of one provider. `settings` and `replies` are as in the configuration of an upstream."""

    name: str
    title: str
    hosts: Mapping[str, str]  # by region, the default first; one without a name where there are no regions
    host_pattern: str | None  # for `{region}`, where regions are too many to list
    region_pattern: str
    region_example: str
    ports: Mapping[int, str]  # TLS modes, the default first
    settings: Mapping[str, Data]
    replies: tuple[Mapping[str, Data], ...]
    notes: tuple[str, ...]
    sources: tuple[Source, ...]

    @property
    def regions(self) -> tuple[str, ...]:
        """The regions that may be named; none where there are none, or any may be."""
        return tuple(self.hosts) if len(self.hosts) > 1 else ()

    def sources_of(self, what: str) -> Iterator[Source]:
        """Where a setting, or a rule on replies, comes from."""
        return (source for source in self.sources if what in source.of)

    def origin(self, what: str) -> Origin:
        """The same, for `config show`."""
        source = next(self.sources_of(what), None)
        return Origin(f"preset {self.name}" if source is None else f"preset {self.name} ({source.url}, {source.seen})")


@cache
def preset_names() -> tuple[str, ...]:
    """All presets, the nine commonest first."""
    known = sorted(entry.name.removesuffix(".yaml") for entry in _folder().iterdir() if entry.name.endswith(".yaml"))
    return (*_FIRST, *(name for name in known if name not in _FIRST))


@cache
def preset(name: str) -> Preset:
    """The preset of this name, one of `preset_names`."""
    file = _folder() / f"{name}.yaml"
    tree, problems = parse(f"presets/{name}.yaml", file.read_bytes())
    if problems:
        raise ValueError(str(problems[0]))
    data = tree.data
    region = _mapping(data.get("region"))
    host = cast("str | None", data.get("host"))
    pattern = host if region else None
    hosts = _texts(data.get("hosts")) if host is None else {} if pattern else {"": host}
    return Preset(
        name=name,
        title=str(data["title"]),
        hosts=hosts,
        host_pattern=pattern,
        region_pattern=str(region.get("pattern", "")),
        region_example=str(region.get("example", "")),
        ports={int(port): mode for port, mode in _texts(data["ports"]).items()},
        settings=_mapping(data.get("settings")),
        replies=tuple(map(_mapping, _list(data.get("replies")))),
        notes=tuple(map(str, _list(data.get("notes")))),
        sources=tuple(_source(_mapping(source)) for source in _list(data["sources"])),
    )


_FIRST = ("gmail", "microsoft365", "ses", "sendgrid", "mailgun", "postmark", "brevo", "zoho", "fastmail")


def _folder() -> Traversable:
    return files("waypost.config") / "presets"


def _source(data: Mapping[str, Data]) -> Source:
    return Source(
        str(data["url"]),
        str(data["seen"]),
        tuple(map(str, _list(data["for"]))),
        cast("str | None", data.get("read_at")),
    )


def _mapping(data: Data) -> dict[str, Data]:
    return data if isinstance(data, dict) else {}


def _texts(data: Data) -> dict[str, str]:
    return {key: str(value) for key, value in _mapping(data).items()}


def _list(data: Data) -> list[Data]:
    return data if isinstance(data, list) else []
