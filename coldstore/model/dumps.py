"""Dumps of the metadata."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Dump:
    """A dump that is there: its file's name, when it was begun (unix seconds), its size."""

    name: str
    at: float
    size_bytes: int
