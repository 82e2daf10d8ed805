"""Whose bytes a state directory holds: a note in it says the appliance's id."""

from pathlib import Path

from coldstore.util import notes

NOTE = "appliance"


def noted(state_directory: Path) -> str:
    """
    Return the id that is noted; empty when none is: the directory is new, or of a release that made no note.

    :raise OSError: it cannot be read
    """
    return notes.noted(state_directory / NOTE)


def note(state_directory: Path, appliance_id: str) -> None:
    """
    Note an id.

    :raise OSError: it cannot be written
    """
    notes.note(state_directory / NOTE, appliance_id)
