"""
Settings from the environment: ``COLDSTORE_SERVER_PORT`` for ``server.port``, ``COLDSTORE_TAPE_DRIVES_0_DEVICE`` for
``tape.drives[0].device``.

A variable's name is the path of the setting in capitals with ``_`` between its parts; list elements by index, where the
index after the last one adds an element. The value is written as in the file without quotes. A variable that names a
whole list, mapping or section holds YAML: ``COLDSTORE_SERVER_DOMAINS='[s3.example.org]'``.
"""

import re
from collections.abc import Iterator
from collections.abc import Mapping as AbstractMapping
from dataclasses import replace

from coldstore.config.errors import Problem
from coldstore.config.shape import Items, Leaf, Named, Nullable, Section, Shape
from coldstore.config.tree import Mapping, Node, Sequence, is_null, laid_over, parsed, plain

PREFIX = "COLDSTORE_"
NOT_SETTINGS = ("COLDSTORE_TEST_", "COLDSTORE_TAPEVM_", "COLDSTORE_VTL_", "COLDSTORE_SETUP_")
"""Variables of the tests, of the virtual library's programs and of the set-up scripts; the appliance ignores them."""

Path = tuple[str | int, ...]


def variable(path: Path) -> str:
    """Return the name of the variable that overrides the setting at a path."""
    return PREFIX + "_".join(str(step).upper() for step in path)


def overlaid(
    root: Node, shape: Section, environment: AbstractMapping[str, str]
) -> tuple[Node, list[Problem]]:
    """
    Lay the environment's settings over a tree.

    Shorter names first, and list elements in order of their index, so that a part overrides its whole.

    :return: the new tree, and what is wrong with the variables.
    """
    problems: list[Problem] = []
    names = [name for name in environment if name.startswith(PREFIX) and not name.startswith(NOT_SETTINGS)]
    for name in sorted(
        names,
        key=lambda name: [(int(part), "") if part.isdecimal() else (-1, part) for part in name.split("_")],
    ):
        where = f"environment variable {name}"
        rest = name.removeprefix(PREFIX)
        found = [candidate for candidate in _paths(shape, root, rest) if candidate]
        if not found:
            problems.append(Problem(where=where, path="", text="names no setting"))
            continue
        path, inner = found[0], _shape_at(shape, found[0])
        if isinstance(inner, Leaf):
            node: Node | None = plain(environment[name], where)
        else:
            node, mistakes = parsed(environment[name], where)
            problems += [replace(mistake, where=where) for mistake in mistakes]
            node = None if node is None else _placed(node, where)
        if node is not None:
            root = _with(root, shape, path, node)
    return root, problems


def _bare(shape: Shape) -> Shape:
    return shape.inner if isinstance(shape, Nullable) else shape


def _paths(shape: Shape, node: Node | None, rest: str) -> Iterator[Path]:
    """Every path whose variable ends in ``rest``; names of open mappings are those that the tree has."""
    if not rest:
        yield ()
        return
    shape = _bare(shape)
    steps: list[tuple[str | int, Shape]] = []
    if isinstance(shape, Section):
        steps = [(key, entry.shape) for key, entry in shape.entries.items()]
    elif isinstance(shape, Named) and isinstance(node, Mapping):
        steps = [(key, shape.value) for key in node.entries]
    elif isinstance(shape, Items):
        index = re.match(r"(0|[1-9][0-9]{0,3})(?:_|$)", rest)
        count = len(node.items) if isinstance(node, Sequence) else 0
        if index is not None and int(index[1]) <= count:
            steps = [(int(index[1]), shape.item)]
    for step, inner in steps:
        word = str(step).upper()
        if rest == word or (rest.startswith(word + "_") and rest != word + "_"):
            for path in _paths(inner, _child(node, step), rest[len(word) + 1 :]):
                yield (step, *path)


def _child(node: Node | None, step: str | int) -> Node | None:
    if isinstance(node, Mapping) and isinstance(step, str):
        return node.entries.get(step)
    if isinstance(node, Sequence) and isinstance(step, int) and step < len(node.items):
        return node.items[step]
    return None


def _shape_at(shape: Shape, path: Path) -> Shape:
    for step in path:
        shape = _bare(shape)
        match shape:
            case Section(_, entries):
                shape = entries[str(step)].shape
            case Named(_, inner) | Items(inner):
                shape = inner
            case _:
                raise AssertionError(f"{path} leads beyond a value")
    return _bare(shape)


def _placed(node: Node, where: str) -> Node:
    """The same tree, written in a variable: it has no lines."""
    if isinstance(node, Mapping):
        entries = {key: _placed(inner, where) for key, inner in node.entries.items()}
        return Mapping(where, entries, dict.fromkeys(entries, where))
    if isinstance(node, Sequence):
        return Sequence(where, tuple(_placed(item, where) for item in node.items))
    return replace(node, where=where)


def _with(node: Node | None, shape: Shape, path: Path, value: Node) -> Node:
    """The tree with another value at a path; parts that are missing on the way are made."""
    if not path:
        return value if node is None else laid_over(node, value, shape)
    step, rest = path[0], path[1:]
    inner = _shape_at(shape, (step,))
    changed = _with(_child(node, step), inner, rest, value)
    if isinstance(step, int):
        items = node.items if isinstance(node, Sequence) else ()
        where = node.where if isinstance(node, Sequence) else value.where
        return Sequence(where, (*items[:step], changed, *items[step + 1 :]))
    if isinstance(node, Mapping):
        return Mapping(
            node.where,
            {**node.entries, step: changed},
            {**node.key_places, step: node.key_places.get(step, value.where)},
        )
    if node is not None and not is_null(node):
        return node
    return Mapping(value.where, {step: changed}, {step: value.where})
