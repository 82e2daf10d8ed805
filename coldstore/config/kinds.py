"""
The kinds of values that a setting can have: how one is read from text, and written again.

A kind is put on a field of the schema with ``typing.Annotated``. ``read`` raises ``ValueError`` with a sentence for
people; the caller adds the place.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from coldstore.util import units
from coldstore.util.listening import listener_of

STRING, INTEGER, FLOAT, BOOLEAN, NULL = (
    f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null")
)
"""YAML's names of the types that a plain scalar can resolve to (YAML 1.1 type repository)."""


class Kind(Protocol):
    """How the text of one setting becomes a value."""

    def read(self, text: str, tag: str, environment: Mapping[str, str]) -> object:
        """
        :param text: what is written, without quotes.
        :param tag: the YAML type that the text resolves to; quoted text is always ``STRING``.
        :param environment: variables that a path may name.
        :raise ValueError: says what is wrong.
        """

    def write(self, value: object) -> str:
        """Return a text that reads back as the value."""


def _in_bounds(value: float, at_least: float, at_most: float, text: str, bounds: str) -> None:
    if not at_least <= value <= at_most:
        raise ValueError(f"{text} is out of range: {bounds}")


def _bounds(at_least: str, at_most: str | None) -> str:
    return f"at least {at_least}" if at_most is None else f"{at_least} to {at_most}"


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number."""

    at_least: int = 0
    at_most: int | None = None

    def read(self, text: str, tag: str, environment: Mapping[str, str]) -> int:
        if tag != INTEGER or not re.fullmatch(r"-?[0-9]{1,18}", text):
            raise ValueError(f"{text!r} is not a whole number")
        bounds = _bounds(str(self.at_least), None if self.at_most is None else str(self.at_most))
        _in_bounds(int(text), self.at_least, math.inf if self.at_most is None else self.at_most, text, bounds)
        return int(text)

    def write(self, value: object) -> str:
        return str(value)


@dataclass(frozen=True, slots=True)
class Number:
    """A number that may have a fraction."""

    at_least: float = 0
    at_most: float | None = None

    def read(self, text: str, tag: str, environment: Mapping[str, str]) -> float:
        if tag not in (INTEGER, FLOAT) or not re.fullmatch(r"-?[0-9]{1,18}(\.[0-9]{0,18})?", text):
            raise ValueError(f"{text!r} is not a number")
        bounds = _bounds(f"{self.at_least:g}", None if self.at_most is None else f"{self.at_most:g}")
        _in_bounds(
            float(text), self.at_least, math.inf if self.at_most is None else self.at_most, text, bounds
        )
        return float(text)

    def write(self, value: object) -> str:
        return f"{value:g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True, slots=True)
class Size:
    """A size with its unit; bytes in the program."""

    at_least: int = 0
    at_most: int = 2**60

    def read(self, text: str, tag: str, environment: Mapping[str, str]) -> int:
        size_bytes = units.parse_size(text)
        bounds = _bounds(units.format_size(self.at_least), units.format_size(self.at_most))
        _in_bounds(size_bytes, self.at_least, self.at_most, text, bounds)
        return size_bytes

    def write(self, value: object) -> str:
        assert isinstance(value, int)
        return units.format_size(value)


@dataclass(frozen=True, slots=True)
class Duration:
    """A duration with its unit; seconds in the program."""

    at_least: float = 0
    at_most: float = 3650 * 86400

    def read(self, text: str, tag: str, environment: Mapping[str, str]) -> float:
        seconds = units.parse_duration(text)
        bounds = _bounds(units.format_duration(self.at_least), units.format_duration(self.at_most))
        _in_bounds(seconds, self.at_least, self.at_most, text, bounds)
        return seconds

    def write(self, value: object) -> str:
        assert isinstance(value, int | float)
        return units.format_duration(float(value))


@dataclass(frozen=True, slots=True)
class Switch:
    """True or false."""

    def read(self, text: str, tag: str, environment: Mapping[str, str]) -> bool:
        if tag != BOOLEAN:
            raise ValueError(f"{text!r} is neither true nor false")
        return text.lower() in ("true", "yes", "on")

    def write(self, value: object) -> str:
        return "true" if value else "false"


@dataclass(frozen=True, slots=True)
class Text:
    """
    A text of one line.

    :ivar pattern: a regular expression that all of it must match.
    :ivar meaning: what the pattern asks for, in words.
    """

    pattern: str = r"[^\x00-\x1f\x7f]+"
    meaning: str = "a text of one line"

    def read(self, text: str, tag: str, environment: Mapping[str, str]) -> str:
        if tag == BOOLEAN:
            raise ValueError(f"{text!r} is a truth value in YAML; put it in quotes if the text is meant")
        if not re.fullmatch(self.pattern, text):
            raise ValueError(f"{text!r} is not {self.meaning}")
        return text

    def write(self, value: object) -> str:
        return str(value)


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few words."""

    words: tuple[str, ...]

    def read(self, text: str, tag: str, environment: Mapping[str, str]) -> str:
        if text not in self.words:
            raise ValueError(f"{text!r} is not one of {', '.join(self.words)}")
        return text

    def write(self, value: object) -> str:
        return str(value)


@dataclass(frozen=True, slots=True)
class Path:
    """
    An absolute path; ``${NAME}`` in it stands for an environment variable, such as systemd's ``CREDENTIALS_DIRECTORY``.

    :ivar must_be_readable: whether the file has to exist and be readable now; ``reading`` looks at the disk.
    """

    must_be_readable: bool = False

    def read(self, text: str, tag: str, environment: Mapping[str, str]) -> str:
        names = re.findall(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}", text)
        for name in names:
            if name not in environment:
                raise ValueError(f"{text!r} names the environment variable {name}, which is not set")
            text = text.replace("${" + name + "}", environment[name])
        if not text.startswith("/") or re.search(r"[\x00-\x1f]", text):
            raise ValueError(f"{text!r} is not an absolute path")
        return text if text == "/" else text.rstrip("/")

    def write(self, value: object) -> str:
        return str(value)


@dataclass(frozen=True, slots=True)
class Listening:
    """Where a server listens: see ``util.listening``."""

    def read(self, text: str, tag: str, environment: Mapping[str, str]) -> str:
        listener_of(text)
        return text

    def write(self, value: object) -> str:
        return str(value)


@dataclass(frozen=True, slots=True)
class Program:
    """A program: an absolute path, or a name that is looked for on PATH."""

    def read(self, text: str, tag: str, environment: Mapping[str, str]) -> str:
        if not re.fullmatch(r"/[^\x00-\x1f]+|[A-Za-z0-9._+-]+", text):
            raise ValueError(f"{text!r} is neither an absolute path nor the name of a program")
        return text

    def write(self, value: object) -> str:
        return str(value)


@dataclass(frozen=True, slots=True)
class Keys:
    """
    Which keys a mapping may have.

    :ivar pattern: a regular expression for a key.
    :ivar meaning: what the pattern asks for, in words.
    :ivar replaces_defaults: whether a mapping in the file stands alone; otherwise it is laid over the default one.
    """

    pattern: str
    meaning: str
    replaces_defaults: bool

    def read(self, name: str) -> str:
        """Return the name; raise ``ValueError`` when it may not be one."""
        if not re.fullmatch(self.pattern, name):
            raise ValueError(f"{name!r} is not {self.meaning}")
        return name
