"""
Addresses of pieces: what the metadata store keeps and only the disk understands.

``f-<name>`` is a file of its own; ``s-<name>-<offset>-<length>`` a record in a segment, ``r-<name>-<offset>-<length>`` a slot
in a recalled container, numbers in fixed-width hexadecimal so that addresses sort as the bytes lie. A name is 16
hexadecimal digits of chance, a dash, and the tag of the run that made it.
"""

import re
from dataclasses import dataclass
from random import Random

RUN = re.compile(r"[0-9a-z]{1,32}")
_NAME = r"([0-9a-f]{16})-([0-9a-z]{1,32})"
_FILE = re.compile(rf"f-({_NAME})")
_SLICE = re.compile(rf"([rs])-({_NAME})-([0-9a-f]{{12}})-([0-9a-f]{{12}})")
_CONTAINER = re.compile(rf"([rs])-({_NAME})")

SEGMENT = "s"
RECALLED = "r"


@dataclass(frozen=True, slots=True, order=True)
class FileAddress:
    """A piece that has a file of its own."""

    name: str

    @property
    def run(self) -> str:
        """The tag of the run that published it."""
        return self.name[17:]

    @property
    def fan_out(self) -> str:
        """The directory below ``files`` that it lies in."""
        return self.name[:2]

    def __str__(self) -> str:
        return f"f-{self.name}"


@dataclass(frozen=True, slots=True, order=True)
class SliceAddress:
    """A piece inside a container (``s-<name>`` or ``r-<name>``): ``offset_bytes`` is where its record or slot begins."""

    container: str
    offset_bytes: int
    length_bytes: int

    @property
    def is_record(self) -> bool:
        """Whether the container is a segment, so that a record header comes before the bytes."""
        return self.container.startswith(SEGMENT)

    def __str__(self) -> str:
        return f"{self.container}-{self.offset_bytes:012x}-{self.length_bytes:012x}"


Address = FileAddress | SliceAddress


def parsed(text: str) -> Address | None:
    """Return the address that ``text`` spells, or None when it is none of ours."""
    if found := _FILE.fullmatch(text):
        return FileAddress(found[1])
    if found := _SLICE.fullmatch(text):
        return SliceAddress(f"{found[1]}-{found[2]}", int(found[5], 16), int(found[6], 16))
    return None


def is_file_name(text: str) -> bool:
    """Tell whether a directory entry is the name of a file piece."""
    return _FILE.fullmatch(f"f-{text}") is not None


def is_container_name(text: str) -> bool:
    """Tell whether a directory entry is the name of a container."""
    return _CONTAINER.fullmatch(text) is not None


def run_of(container: str) -> str:
    """Return the tag of the run that made this container."""
    return container[19:]


class Names:
    """Makes names that were never used: 64 bits of chance and the tag of this run."""

    def __init__(self, random: Random, run: str) -> None:
        """:raise ValueError: when ``run`` is not 1 to 32 characters of a-z and 0-9."""
        if RUN.fullmatch(run) is None:
            raise ValueError(f"the tag of a run is 1 to 32 of a-z and 0-9, not {run!r}")
        self._random = random
        self.run = run

    def file(self) -> FileAddress:
        """Name a new file piece."""
        return FileAddress(self._fresh())

    def segment(self) -> str:
        """Name a new segment."""
        return f"{SEGMENT}-{self._fresh()}"

    def recalled(self) -> str:
        """Name a new container for recalled extents."""
        return f"{RECALLED}-{self._fresh()}"

    def _fresh(self) -> str:
        return f"{self._random.getrandbits(64):016x}-{self.run}"
