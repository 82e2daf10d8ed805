"""A line that a directory keeps about itself, in a file of its own: wholly there or not at all, whatever fails meanwhile."""

import os
from pathlib import Path

from coldstore.util.folders import sync_folder


def noted(path: Path) -> str:
    """
    Return a note; empty when there is none, or one that a power failure made nothing of.

    :raise OSError: it cannot be read
    """
    return path.read_text("utf-8", "replace").strip("\0 \n") if path.exists() else ""


def note(path: Path, text: str) -> None:
    """
    Make a note, durably; nothing is written when it says so already.

    :raise OSError: it cannot be written; what it said before stays
    """
    if noted(path) == text:
        return
    beside = path.with_name(f".{path.name}.new")
    with beside.open("w", encoding="utf-8") as file:
        file.write(f"{text}\n")
        file.flush()
        os.fsync(file.fileno())
    os.rename(beside, path)
    sync_folder(path.parent)
