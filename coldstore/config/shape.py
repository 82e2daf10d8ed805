"""The shape of the schema: dataclasses and annotations turned into a small tree that readers can walk."""

import dataclasses
from collections.abc import Mapping
from functools import cache
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from coldstore.config.kinds import Duration, Keys, Kind, Size


@dataclasses.dataclass(frozen=True, slots=True)
class Leaf:
    """One value."""

    kind: Kind


@dataclasses.dataclass(frozen=True, slots=True)
class Nullable:
    """A value or null."""

    inner: "Shape"


@dataclasses.dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    item: "Shape"


@dataclasses.dataclass(frozen=True, slots=True)
class Named:
    """A mapping whose keys are names."""

    keys: Keys
    value: "Shape"


@dataclasses.dataclass(frozen=True, slots=True)
class Section:
    """A mapping whose keys are the fields of a dataclass, under the keys of the file."""

    cls: type[Any]
    entries: Mapping[str, "Entry"]


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """A setting of a section: the field that takes it, and its shape."""

    field: str
    shape: "Shape"


Shape = Leaf | Nullable | Items | Named | Section


@cache
def section(cls: type[Any]) -> Section:
    """Return the shape of a dataclass of the schema."""
    hints = get_type_hints(cls, include_extras=True)
    entries = {}
    for field in dataclasses.fields(cls):
        inner = _shape(hints[field.name])
        entries[_key(field.name, inner)] = Entry(field.name, inner)
    return Section(cls, entries)


def _key(field: str, shape: Shape) -> str:
    """The key in the file: units are in the value there, not in the name."""
    kind = shape.inner if isinstance(shape, Nullable) else shape
    if isinstance(kind, Leaf) and isinstance(kind.kind, Size):
        return field.removesuffix("_bytes")
    if isinstance(kind, Leaf) and isinstance(kind.kind, Duration):
        return field.removesuffix("_seconds")
    return field


def _shape(annotation: Any) -> Shape:
    if dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
        return section(annotation)
    arguments = get_args(annotation)
    if hasattr(annotation, "__metadata__"):
        note = annotation.__metadata__[0]
        if isinstance(note, Keys):
            return Named(note, _shape(get_args(annotation.__origin__)[1]))
        return Leaf(note)
    if get_origin(annotation) in (Union, UnionType):
        (inner,) = (argument for argument in arguments if argument is not NoneType)
        return Nullable(_shape(inner))
    if get_origin(annotation) is tuple:
        return Items(_shape(arguments[0]))
    raise TypeError(f"a setting cannot be a {annotation!r}")
