"""Reads the schema itself: which settings there are, and of what shape. For names of variables, advice and manual."""

import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from waypost.config.errors import Path
from waypost.config.fields import Section, Words


@dataclass(frozen=True, slots=True)
class Shape:
    """One value, a mapping of the user's names, or a list; of sections or of scalars."""

    container: Literal["one", "names", "items"]
    section: type[Section] | None
    metadata: tuple[Any, ...]

    @property
    def words(self) -> str:
        """What one scalar of it is, for people."""
        return next((mark.text for mark in self.metadata if isinstance(mark, Words)), "")


def shape_of(annotation: Any, metadata: tuple[Any, ...] = ()) -> Shape:
    """The shape of an annotated type."""
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *marks = get_args(annotation)
        return shape_of(inner, (*metadata, *marks))
    if origin in (Union, types.UnionType):
        return shape_of(next(part for part in get_args(annotation) if part is not type(None)), metadata)
    if origin is dict:
        inner = shape_of(get_args(annotation)[1])
        return Shape("names", inner.section, metadata + inner.metadata)
    if origin is tuple:
        inner = shape_of(get_args(annotation)[0])
        return Shape("items", inner.section, metadata + inner.metadata)
    section = annotation if isinstance(annotation, type) and issubclass(annotation, Section) else None
    return Shape("one", section, metadata)


def shape_of_field(field: FieldInfo) -> Shape:
    """The shape of one field of a section."""
    return shape_of(field.annotation, tuple(field.metadata))


@dataclass(frozen=True, slots=True)
class Setting:
    """One scalar, or list of scalars, of the schema. A user's name in its path is `NAME`, a place in a list `0`."""

    path: Path
    field: FieldInfo
    shape: Shape


def settings_of(section: type[Section], path: Path = (), within: tuple[type[Section], ...] = ()) -> Iterator[Setting]:
    """Every setting below `section`, in the order of the schema. What a section has of its own kind is not entered."""
    for name, field in section.model_fields.items():
        shape = shape_of_field(field)
        here = (*path, field.alias or name)
        if shape.section is None:
            yield Setting(here, field, shape)
        elif not recurs(shape.section, (*within, section)):
            below = {"one": here, "names": (*here, "NAME"), "items": (*here, 0)}[shape.container]
            yield from settings_of(shape.section, below, (*within, section))


def recurs(section: type[Section], within: tuple[type[Section], ...]) -> bool:
    """Whether `section` is one of those that it stands in, or what one of them is made from."""
    return any(issubclass(outer, section) for outer in within)


def shape_at(section: type[Section], path: Path) -> Shape | None:
    """The shape of what stands at `path`; None when the schema has nothing there."""
    return _descend(section, path)[0]


def keys_at(section: type[Section], path: Path) -> tuple[str, ...]:
    """The settings that a mapping at `path` may have; none where there are none, or the user makes the names."""
    shape, is_whole = _descend(section, path)
    if shape is None or shape.section is None or is_whole:
        return ()
    return tuple(field.alias or name for name, field in shape.section.model_fields.items())


def _descend(section: type[Section], path: Path) -> tuple[Shape | None, bool]:
    """The shape at `path`, and whether `path` is a whole mapping of names or list, not an entry of one."""
    shape: Shape | None = Shape("one", section, ())
    is_whole = False
    for part in path:
        if is_whole:
            is_whole = False
            continue
        field = _field(shape.section, str(part)) if shape and shape.section else None
        if field is None:
            return None, False
        shape = shape_of_field(field)
        is_whole = shape.container != "one"
    return shape, is_whole


def _field(section: type[Section], key: str) -> FieldInfo | None:
    fields = section.model_fields
    return fields.get(key) or next((field for field in fields.values() if field.alias == key), None)
