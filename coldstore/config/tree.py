"""
A document as a tree whose parts know where they were written.

Trees are made from YAML text, from built-in defaults, and from environment variables; ``laid_over`` joins them.
"""

from collections.abc import Mapping as AbstractMapping
from dataclasses import dataclass
from typing import Any

import yaml

from coldstore.config.errors import Problem
from coldstore.config.kinds import NULL, STRING
from coldstore.config.shape import Items, Leaf, Named, Nullable, Section, Shape

DEFAULT = "built-in default"
"""The place of what nobody wrote."""

_DEPTH_MAX = 32
"""Deeper documents are refused; the schema needs 6 levels. It also ends aliases that lead into themselves."""


@dataclass(frozen=True, slots=True)
class Scalar:
    """One value: its text, and the YAML type that the text resolves to."""

    where: str
    text: str
    tag: str


@dataclass(frozen=True, slots=True)
class Sequence:
    """A list."""

    where: str
    items: "tuple[Node, ...]"


@dataclass(frozen=True, slots=True)
class Mapping:
    """A mapping; ``key_places`` says where each key stands."""

    where: str
    entries: "AbstractMapping[str, Node]"
    key_places: AbstractMapping[str, str]


Node = Scalar | Sequence | Mapping


def parsed(text: str, name: str) -> tuple[Node | None, list[Problem]]:
    """
    Parse one YAML document.

    :param name: the file's name in problems.
    :return: the tree (None for an empty document, or when it is no YAML) and what is wrong with it.
    """
    problems: list[Problem] = []
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        tree = None if root is None else _converted(root, name, "", 0, problems)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = name if mark is None else f"{name}:{mark.line + 1}"
        said = " ".join(part for part in (error.problem, error.context) if part)
        return None, [*problems, Problem(where=where, path="", text=f"not valid YAML: {said}")]
    except yaml.YAMLError as error:
        return None, [
            *problems,
            Problem(where=name, path="", text=f"not valid YAML: {' '.join(str(error).split())}"),
        ]
    return tree, problems


def _converted(node: yaml.Node, name: str, path: str, depth: int, problems: list[Problem]) -> Node:
    where = f"{name}:{node.start_mark.line + 1}"
    if depth > _DEPTH_MAX:
        raise yaml.MarkedYAMLError(problem="nested too deeply", problem_mark=node.start_mark)
    if isinstance(node, yaml.SequenceNode):
        items = enumerate(node.value)
        return Sequence(
            where,
            tuple(_converted(item, name, f"{path}[{index}]", depth + 1, problems) for index, item in items),
        )
    if not isinstance(node, yaml.MappingNode):
        return Scalar(where, node.value, node.tag)
    entries: dict[str, Node] = {}
    places: dict[str, str] = {}
    for key_node, value_node in node.value:
        key_place = f"{name}:{key_node.start_mark.line + 1}"
        if not isinstance(key_node, yaml.ScalarNode):
            problems.append(Problem(where=key_place, path=path, text="a key must be a word"))
            continue
        key = key_node.value
        inner_path = joined(path, key)
        converted = _converted(value_node, name, inner_path, depth + 1, problems)
        if key in entries:
            problems.append(
                Problem(where=key_place, path=inner_path, text=f"set twice; first at {places[key]}")
            )
            continue
        entries[key], places[key] = converted, key_place
    return Mapping(where, entries, places)


def plain(text: str, where: str) -> Scalar:
    """Return a scalar as if the text stood in a file without quotes."""
    resolver: Any = yaml.resolver.Resolver()
    return Scalar(where, text, resolver.resolve(yaml.ScalarNode, text, (True, False)))


def rendered(value: object, shape: Shape) -> Node:
    """Return a value of the schema as the tree that reads back as it."""
    match shape:
        case Nullable(inner):
            return Scalar(DEFAULT, "null", NULL) if value is None else rendered(value, inner)
        case Leaf(kind):
            text = kind.write(value)
            return Scalar(DEFAULT, text, STRING) if isinstance(value, str) else plain(text, DEFAULT)
        case Items(item):
            assert isinstance(value, tuple)
            return Sequence(DEFAULT, tuple(rendered(each, item) for each in value))
        case Named(_, inner):
            assert isinstance(value, AbstractMapping)
            entries = {name: rendered(each, inner) for name, each in value.items()}
        case Section(_, fields):
            entries = {
                key: rendered(getattr(value, entry.field), entry.shape) for key, entry in fields.items()
            }
    return Mapping(DEFAULT, entries, dict.fromkeys(entries, DEFAULT))


def is_null(node: Node) -> bool:
    """Whether nothing is written there, or null."""
    return isinstance(node, Scalar) and node.tag == NULL


def laid_over(below: Node, above: Node, shape: Shape) -> Node:
    """
    Join two trees: what the upper one says counts, key by key where the shape is a mapping with default entries.

    A section that is written without any entry (``server:``) leaves the lower one as it is.
    """
    inner = shape.inner if isinstance(shape, Nullable) else shape
    is_section = isinstance(inner, Section) or (isinstance(inner, Named) and not inner.keys.replaces_defaults)
    if not is_section or not isinstance(below, Mapping):
        return above
    if is_null(above) and not isinstance(shape, Nullable):
        return below
    if not isinstance(above, Mapping):
        return above
    entries = dict(below.entries)
    for key, node in above.entries.items():
        inner_shape = _entry_shape(inner, key)
        known = key in entries and inner_shape is not None
        entries[key] = (
            laid_over(entries[key], node, inner_shape) if known and inner_shape is not None else node
        )
    return Mapping(above.where, entries, {**below.key_places, **above.key_places})


def _entry_shape(shape: Shape, key: str) -> Shape | None:
    if isinstance(shape, Section):
        return shape.entries[key].shape if key in shape.entries else None
    return shape.value if isinstance(shape, Named) else None


def joined(path: str, key: str) -> str:
    """Return the path of a key inside the mapping at ``path``."""
    return f"{path}.{key}" if path else key


def place(root: Node, path: tuple[str | int, ...]) -> str:
    """Say where a setting was written, or the nearest part around it that was."""
    where, node = root.where, root
    for step in path:
        if isinstance(node, Mapping) and step in node.entries:
            assert isinstance(step, str)
            written, node = node.key_places[step], node.entries[step]
            written = node.where if written == DEFAULT or isinstance(node, Scalar) else written
        elif isinstance(node, Sequence) and isinstance(step, int) and step < len(node.items):
            node = node.items[step]
            written = node.where
        else:
            break
        where = where if written == DEFAULT else written
    return where
