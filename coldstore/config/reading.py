"""Read a configuration: the defaults, the file and the environment, or every mistake in them."""

import dataclasses
from collections.abc import Callable
from collections.abc import Mapping as AbstractMapping
from types import MappingProxyType
from typing import Any

from coldstore.config import tree
from coldstore.config.checks import contradictions
from coldstore.config.environment import overlaid
from coldstore.config.errors import ConfigurationError, Problem
from coldstore.config.kinds import Path
from coldstore.config.schema import Configuration
from coldstore.config.shape import Items, Leaf, Named, Nullable, Section, Shape, section

MISSING = object()
"""What a setting with a mistake reads as; it never leaves this module."""


def load(path: str | None, environment: AbstractMapping[str, str]) -> Configuration:
    """
    Read the configuration.

    :param path: the YAML file; None for the built-in defaults alone.
    :param environment: variables that override settings; those of ``environment.NOT_SETTINGS`` are left alone.
    :raise ConfigurationError: with every mistake, each with its place. Nothing but the named files was looked at.
    """
    if path is None:
        return read(None, "", environment)
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except OSError as error:
        raise ConfigurationError(
            [Problem(where=path, path="", text=f"cannot be read: {error.strerror}")]
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            [Problem(where=path, path="", text=f"is not UTF-8 text: {error.reason}")]
        ) from None
    return read(text, path, environment)


def _whats_wrong_with_file(path: str) -> str | None:
    """Say why a file cannot be used, or None."""
    try:
        with open(path, "rb") as file:
            file.read(1)
    except OSError as error:
        return f"{path!r} cannot be read: {error.strerror}"
    return None


def read(
    text: str | None,
    name: str,
    environment: AbstractMapping[str, str],
    fault_of_file: Callable[[str], str | None] = _whats_wrong_with_file,
) -> Configuration:
    """
    Read the configuration from text: ``load`` without the file.

    :param name: the file's name in problems.
    :param fault_of_file: says why a file that a setting names cannot be used.
    """
    shape = section(Configuration)
    root: tree.Node = tree.rendered(Configuration(), shape)
    problems: list[Problem] = []
    if text is not None:
        written, problems = tree.parsed(text, name)
        if written is not None:
            root = tree.laid_over(root, written, shape)
    root, mistakes = overlaid(root, shape, environment)
    problems += mistakes
    reader = _Reader(environment, fault_of_file, problems)
    configuration = reader.value(root, shape, "")
    if isinstance(configuration, Configuration):
        for path, said in contradictions(configuration):
            problems.append(Problem(where=tree.place(root, path), path=_spelled(path), text=said))
    if problems:
        raise ConfigurationError(problems)
    assert isinstance(configuration, Configuration)
    return configuration


def _spelled(path: tuple[str | int, ...]) -> str:
    spelled = ""
    for step in path:
        spelled = f"{spelled}[{step}]" if isinstance(step, int) else tree.joined(spelled, step)
    return spelled


class _Reader:
    """Walks a tree along the shape of the schema; collects problems and goes on."""

    def __init__(
        self,
        environment: AbstractMapping[str, str],
        fault_of_file: Callable[[str], str | None],
        problems: list[Problem],
    ) -> None:
        self._environment = environment
        self._fault_of_file = fault_of_file
        self._problems = problems

    def _refused(self, where: str, path: str, text: str) -> object:
        self._problems.append(Problem(where=where, path=path, text=text))
        return MISSING

    def value(self, node: tree.Node, shape: Shape, path: str) -> object:
        """Return the value of a part of the tree, or ``MISSING`` when it holds a mistake."""
        match shape:
            case Nullable(inner):
                return None if tree.is_null(node) else self.value(node, inner, path)
            case Leaf():
                return self._leaf(node, shape, path)
            case Items(item):
                return self._items(node, item, path)
            case Named():
                return self._named(node, shape, path)
            case Section():
                return self._section(node, shape, path)

    def _leaf(self, node: tree.Node, shape: Leaf, path: str) -> object:
        if not isinstance(node, tree.Scalar):
            found = "list" if isinstance(node, tree.Sequence) else "mapping"
            return self._refused(node.where, path, f"a single value is needed here, not a {found}")
        if tree.is_null(node):
            return self._refused(node.where, path, "a value is needed here")
        try:
            value = shape.kind.read(node.text, node.tag, self._environment)
        except ValueError as error:
            return self._refused(node.where, path, str(error))
        if isinstance(shape.kind, Path) and shape.kind.must_be_readable:
            fault = self._fault_of_file(str(value))
            if fault is not None:
                return self._refused(node.where, path, fault)
        return value

    def _items(self, node: tree.Node, item: Shape, path: str) -> object:
        if tree.is_null(node):
            return ()
        if not isinstance(node, tree.Sequence):
            return self._refused(node.where, path, "a list is needed here")
        values = tuple(self.value(each, item, f"{path}[{index}]") for index, each in enumerate(node.items))
        return MISSING if MISSING in values else values

    def _named(self, node: tree.Node, shape: Named, path: str) -> object:
        if not isinstance(node, tree.Mapping):
            return self._refused(node.where, path, "a mapping from names to settings is needed here")
        values = {}
        for name, inner in node.entries.items():
            inner_path = tree.joined(path, name)
            try:
                key = shape.keys.read(name)
            except ValueError as error:
                self._refused(node.key_places[name], inner_path, str(error))
                continue
            values[key] = self.value(inner, shape.value, inner_path)
        is_whole = len(values) == len(node.entries) and MISSING not in values.values()
        return MappingProxyType(values) if is_whole else MISSING

    def _section(self, node: tree.Node, shape: Section, path: str) -> object:
        if tree.is_null(node):
            node = tree.Mapping(node.where, {}, {})
        if not isinstance(node, tree.Mapping):
            return self._refused(node.where, path, "a mapping from settings to values is needed here")
        is_whole = True
        for key in node.entries:
            if key not in shape.entries:
                known = ", ".join(shape.entries)
                self._refused(
                    node.key_places[key],
                    tree.joined(path, key),
                    f"there is no such setting (there are: {known})",
                )
                is_whole = False
        defaults = _optional_fields(shape.cls)
        values: dict[str, Any] = {}
        for key, entry in shape.entries.items():
            if key in node.entries:
                values[entry.field] = self.value(node.entries[key], entry.shape, tree.joined(path, key))
            elif entry.field not in defaults:
                values[entry.field] = self._refused(node.where, tree.joined(path, key), "is missing")
        if not is_whole or MISSING in values.values():
            return MISSING
        return shape.cls(**values)


def _optional_fields(cls: type[Any]) -> frozenset[str]:
    """The fields of a dataclass that have a default."""
    missing = dataclasses.MISSING
    return frozenset(
        field.name
        for field in dataclasses.fields(cls)
        if field.default is not missing or field.default_factory is not missing
    )
