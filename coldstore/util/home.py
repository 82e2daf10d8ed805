"""Whose bytes a state directory holds: a note in it says the appliance's id."""

from pathlib import Path

NOTE = "appliance"


def noted(state_directory: Path) -> str:
    """
    Return the id that is noted; empty when none is: the directory is new, or of a release that made no note.

    :raise OSError: it cannot be read
    """
    note = state_directory / NOTE
    return note.read_text().strip() if note.exists() else ""


def note(state_directory: Path, appliance_id: str) -> None:
    """
    Note an id.

    :raise OSError: it cannot be written
    """
    (state_directory / NOTE).write_text(f"{appliance_id}\n")
