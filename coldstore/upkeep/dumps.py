"""The folder of dumps."""

import os
from contextlib import suppress
from pathlib import Path

from coldstore.metadata.portable.packing import PARTIAL
from coldstore.model.dumps import Dump
from coldstore.plan.dumps import name_of, time_of


def dumps_in(folder: Path) -> list[Dump]:
    """
    Return the dumps that were made on schedule, oldest first; none when there is no such folder.

    :raise OSError: it cannot be read
    """
    found = []
    with suppress(FileNotFoundError):
        for entry in os.scandir(folder):
            at = time_of(entry.name)
            # A link to nothing hides none of the others, and a directory is no dump.
            if at is not None and entry.is_file():
                found.append(Dump(name=entry.name, at=at, size_bytes=entry.stat().st_size))
    return sorted(found, key=lambda dump: dump.at)


def clear_leftovers(folder: Path) -> None:
    """
    Remove what processes that were killed have left of dumps on schedule. There is one appliance, and it makes one at a time.

    :raise OSError: it cannot be removed
    """
    for entry in os.scandir(folder):
        name = entry.name.removeprefix(".").removesuffix(PARTIAL)
        if entry.name == f".{name}{PARTIAL}" and time_of(name) is not None:
            os.unlink(entry.path)


def path_for(folder: Path, at: float, *, before_upgrade_of: int | None = None) -> Path:
    """
    Return where a dump is to go, in a folder that is made for us alone if it is missing.

    :param at: unix seconds
    :param before_upgrade_of: the schema that is about to be upgraded: such a dump is kept until somebody removes it
    :raise OSError: the folder cannot be made
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    name = name_of(at)
    return folder / (
        name if before_upgrade_of is None else f"before-upgrade-of-schema-{before_upgrade_of}-{name}"
    )
