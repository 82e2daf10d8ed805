"""
Text with wildcards and policy variables: ``arn:aws:s3:::photos/${aws:username}/*.jpg``.

``*`` stands for any text, slashes included, ``?`` for one character, ``${key}`` for what the request has under a key, and ``${*}``, ``${?}``, ``${$}``
for these characters themselves. Source: IAM User Guide, "IAM policy elements: Variables and tags", "Resource".

Whoever may write a policy chooses the pattern, and whoever asks chooses the text: so matching takes no longer than the product of their lengths, where
a regular expression with many stars would not end in a lifetime.
"""

import re
from collections.abc import Callable, Sequence
from enum import Enum
from typing import NamedTuple

from coldstore.plan.policy.errors import MalformedPolicy

LookUp = Callable[[str], str | None]
"""From a condition key (``plain_key``) to the one value that a request has of it; None: it has none, or several."""


class Wild(Enum):
    """What a wildcard stands for."""

    ANY = "*"
    ONE = "?"


class Variable(NamedTuple):
    """``${key}`` or ``${key, 'default'}``; the key as ``plain_key`` has it."""

    key: str
    default: str | None


Part = str | Wild | Variable
_VARIABLE = re.compile(
    r"\$\{(?:(?P<mark>[*?$])|(?P<key>[A-Za-z0-9:/_.+=@-]+)(?:\s*,\s*'(?P<default>[^']*)')?)\}"
)
_WILD = {wild.value: wild for wild in Wild}
_SPECIAL = {
    (wildcards, variables): re.compile("|".join([r"[*?]"] * wildcards + [r"\$\{"] * variables) or "(?!)")
    for wildcards in (False, True)
    for variables in (False, True)
}
"""What begins something else than a character that stands for itself, by whether there are wildcards, and variables."""


def plain_key(key: str) -> str:
    """Return a condition key as requests are asked for it: in lower case, but for the name of a tag behind a slash."""
    name, slash, tag = key.partition("/")
    return name.lower() + slash + tag


class Pattern:
    """
    A pattern that was read.

    :ivar text: as it was written
    :ivar head: the characters that everything begins with that it matches
    :ivar is_fixed: there is nothing in it but characters
    :ivar keys: the condition keys of its variables
    """

    __slots__ = ("_parts", "_segments", "head", "is_fixed", "keys", "text")

    def __init__(self, text: str, parts: Sequence[Part]) -> None:
        self.text = text
        self.head = parts[0] if parts and isinstance(parts[0], str) else ""
        self.is_fixed = all(isinstance(part, str) for part in parts)
        self.keys = frozenset(part.key for part in parts if isinstance(part, Variable))
        self._parts = tuple(parts)
        self._segments = None if self.keys else _segments(parts)

    def __repr__(self) -> str:
        return f"Pattern({self.text!r})"

    @classmethod
    def read(cls, text: str, *, wildcards: bool = True, variables: bool = True) -> "Pattern":
        """
        Read a pattern.

        :param wildcards: whether ``*`` and ``?`` stand for others
        :param variables: whether there are variables, which is so from version 2012-10-17 of the language on
        :raise MalformedPolicy: for a variable that is none
        """
        special = _SPECIAL[wildcards, variables]
        parts: list[Part] = []
        position = 0
        while (mark := special.search(text, position)) is not None:
            parts.append(text[position : mark.start()])
            position = mark.end()
            if mark[0] in _WILD:
                parts.append(_WILD[mark[0]])
                continue
            found = _VARIABLE.match(text, mark.start())
            if found is None:
                raise MalformedPolicy(f"there is no policy variable that is written as in {text[:100]!r}")
            parts.append(found["mark"] or Variable(plain_key(found["key"]), found["default"]))
            position = found.end()
        parts.append(text[position:])
        return cls(text, _joined(parts))

    def lower(self) -> "Pattern":
        """Return it with all characters that stand for themselves in lower case; names of variables stay as they are."""
        return Pattern(self.text.lower(), [_lower(part) for part in self._parts])

    def matches(self, text: str, look_up: LookUp) -> bool:
        """Tell whether it is the pattern of a text; one with a variable that the request has no value for is that of none."""
        segments = self._segments
        if segments is None:
            known = [_valued(part, look_up) for part in self._parts]
            parts = [part for part in known if part is not None]
            if len(parts) < len(known):
                return False
            # Before so much is put together: of many variables with long values it would be megabytes.
            if sum(len(part) for part in parts if isinstance(part, str)) > len(text):
                return False
            segments = _segments(_joined(parts))
        return _match(segments, text)


def _valued(part: Part, look_up: LookUp) -> Part | None:
    """Return a part with the value in the place of a variable; what a value contains stands for itself."""
    if not isinstance(part, Variable):
        return part
    value = look_up(part.key)
    return part.default if value is None else value


def _lower(part: Part) -> Part:
    match part:
        case str():
            return part.lower()
        case Variable(key, default):
            return Variable(key, None if default is None else default.lower())
        case _:
            return part


def _joined(parts: Sequence[Part]) -> list[Part]:
    """Join characters that stand together, and stars."""
    joined: list[Part] = []
    characters: list[str] = []
    for part in (*parts, None):
        if isinstance(part, str):
            characters.append(part)
            continue
        if text := "".join(characters):
            joined.append(text)
        characters.clear()
        if part is not None and not (joined and part is Wild.ANY and joined[-1] is Wild.ANY):
            joined.append(part)
    return joined


class _Segment(NamedTuple):
    """
    What stands between two stars, of a fixed length, so that there is nothing to try out.

    :ivar pieces: its characters, each run of them with its place; whatever is in none of them may be any character
    """

    pieces: tuple[tuple[int, str], ...]
    length: int

    def starts(self, text: str, position: int = 0) -> bool:
        """Tell whether a text, which is long enough, has it at a position."""
        return all(text.startswith(characters, position + place) for place, characters in self.pieces)

    def end_in(self, text: str, position: int, end: int) -> int:
        """Return where it ends in a part of a text for the first time; -1: it is not there."""
        if self.length > end - position:
            return -1
        if not self.pieces:
            return position + self.length
        ((_, characters), *others) = self.pieces
        if others or len(characters) < self.length:
            return self._end_among_any(text, position, end)
        begin = text.find(characters, position, end)
        return begin if begin < 0 else begin + self.length

    def _end_among_any(self, text: str, position: int, end: int) -> int:
        """
        Do so where some characters may be any.

        Keeps in one number which beginnings of it the text ends with so far, a bit each (Shift-And: Baeza-Yates and Gonnet, "A new approach to
        text searching", 1992). A regular expression would have to be compiled, which of a long one takes seconds, and variables can make one long.
        """
        places: dict[str, int] = {}
        for place, characters in self.pieces:
            for index, character in enumerate(characters, place):
                places[character] = places.get(character, 0) | 1 << index
        may_be_any = (1 << self.length) - 1 - sum(places.values())
        fitting = {character: bits | may_be_any for character, bits in places.items()}
        beginnings, whole = 0, 1 << (self.length - 1)
        for index in range(position, end):
            beginnings = (beginnings << 1 | 1) & fitting.get(text[index], may_be_any)
            if beginnings & whole:
                return index + 1
        return -1


def _segments(parts: Sequence[Part]) -> tuple[_Segment, ...]:
    """Return what is between the stars, also before the first and behind the last one."""
    segments: list[_Segment] = []
    between: list[str | Wild] = []
    for part in (*parts, Wild.ANY):
        assert not isinstance(part, Variable), part
        if part is Wild.ANY:
            segments.append(_segment(between))
            between.clear()
        else:
            between.append(part)
    return tuple(segments)


def _segment(parts: Sequence[str | Wild]) -> _Segment:
    pieces: list[tuple[int, str]] = []
    length = 0
    for part in parts:
        if isinstance(part, str):
            pieces.append((length, part))
        length += len(part) if isinstance(part, str) else 1
    return _Segment(tuple(pieces), length)


def _match(segments: Sequence[_Segment], text: str) -> bool:
    first, last = segments[0], segments[-1]
    if len(segments) == 1:
        return len(text) == first.length and first.starts(text)
    end = len(text) - last.length
    if end < first.length or not first.starts(text) or not last.starts(text, end):
        return False
    position = first.length
    for segment in segments[1:-1]:
        position = segment.end_in(text, position, end)
        if position < 0:
            return False
    return True
