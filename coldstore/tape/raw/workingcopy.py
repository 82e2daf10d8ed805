"""
What the child knows of the volume that it serves, and the file in which it keeps that for a child that is started again.

The file is a cache: the tape alone tells as much, but for files that were written since the last index. It is replaced whole at every change
and need not survive a crash of the machine, after which such files do not count.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace

from coldstore.ontape.errors import TapeFileDamaged
from coldstore.ontape.tape import TapeEntry, TapeIndex, index_text, parse_index_text
from coldstore.tape.raw.reel import Place

PARTITION = "a"
"""The letter of the only partition, where places are told with one."""


class NoWorkingCopy(Exception):
    """There is none: nothing is mounted."""


class NameTaken(Exception):
    """A file or a folder of this name exists."""


class NoSuchName(Exception):
    """Neither file nor folder of this name exists, or a part of the path is a file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """
    What is known besides the index.

    ``index_block``: where the last index on tape lies. ``is_changed``: it does not tell all. ``is_writing``: what lies behind the end of the data may
    be a stump of ours. ``gone``: why the tape is not ours any more.
    """

    read_only: bool
    index_block: int
    is_changed: bool = False
    is_writing: bool = False
    gone: str = ""


class WorkingCopy:
    """
    The volume of one mount. ``index`` is what would be written to tape now, at the end of data.

    :param path: the file.
    """

    def __init__(self, path: str, index: TapeIndex, progress: Progress) -> None:
        self._path = path
        self._entries = {entry.path: entry for entry in index.entries}
        self._bare = replace(index, entries=())
        self.progress = progress

    @classmethod
    def load(cls, path: str) -> "WorkingCopy":
        """
        Read what an earlier child left.

        :raise NoWorkingCopy: nothing is mounted.
        """
        try:
            with open(path, "rb") as file:
                head, _, text = file.read().partition(b"\n")
            return cls(path, parse_index_text(text), Progress(**json.loads(head)))
        except FileNotFoundError as error:
            raise NoWorkingCopy(path) from error
        except (ValueError, TypeError, TapeFileDamaged) as error:
            raise NoWorkingCopy(f"{path}: {error}") from error

    def save(self) -> None:
        """Replace the file."""
        fields = {name: getattr(self.progress, name) for name in Progress.__dataclass_fields__}
        temporary = f"{self._path}.new"
        with open(temporary, "wb") as file:
            file.write(json.dumps(fields).encode() + b"\n" + index_text(self.index))
        os.rename(temporary, self._path)

    def discard(self) -> None:
        """Remove the file: nothing is mounted any more."""
        os.unlink(self._path)

    def note(self, **changes: object) -> None:
        """Change what is known besides the index, and save."""
        self.progress = replace(self.progress, **changes)  # type: ignore[arg-type]
        self.save()

    # --- The index

    @property
    def index(self) -> TapeIndex:
        """Everything as one value."""
        return replace(self._bare, entries=tuple(self._entries.values()))

    @property
    def end(self) -> Place:
        """Where the data end."""
        return Place(tape_file=self._bare.tape_file, block=self._bare.block)

    def move_end(self, end: Place, used_bytes: int, **changes: object) -> None:
        """The data end further on now, with so many more bytes. Not saved yet."""
        self._bare = replace(
            self._bare,
            tape_file=end.tape_file,
            block=end.block,
            used_bytes=self._bare.used_bytes + used_bytes,
            **changes,  # type: ignore[arg-type]
        )

    # --- Files and folders

    @property
    def entries(self) -> Mapping[str, TapeEntry]:
        """All files by path, in the order of writing."""
        return self._entries

    def entry(self, path: str) -> TapeEntry:
        """
        The file of this name.

        :raise NoSuchName: there is none.
        """
        if path not in self._entries:
            raise NoSuchName(path)
        return self._entries[path]

    def demand_free(self, path: str, *, replaces: bool) -> None:
        """
        See that a file can get this name.

        :raise NameTaken: a folder has it, or a file that is not to be replaced.
        :raise NoSuchName: what should be a folder above it is a file.
        """
        if (path in self._entries and not replaces) or self._is_folder(path):
            raise NameTaken(path)
        parts = path.split("/")
        if any("/".join(parts[:depth]) in self._entries for depth in range(1, len(parts))):
            raise NoSuchName(path)

    def put(self, entry: TapeEntry) -> None:
        """List a file, in place of an earlier one. Not saved yet."""
        self._entries.pop(entry.path, None)
        self._entries[entry.path] = entry

    def remove(self, path: str) -> bool:
        """List a file no longer; whether it was listed. Not saved yet."""
        return self._entries.pop(path, None) is not None

    def _is_folder(self, path: str) -> bool:
        return any(name.startswith(f"{path}/") for name in self._entries)

    def listed(self, path: str) -> list[tuple[str, bool, int]]:
        """
        What is in a folder ("" is the root), sorted: name, whether it is a folder, size.

        :raise NoSuchName: there is no such folder.
        """
        if path and not self._is_folder(path):
            raise NoSuchName(path)
        prefix = f"{path}/" if path else ""
        found: dict[str, tuple[str, bool, int]] = {}
        for name, entry in self._entries.items():
            if name.startswith(prefix):
                here, slash, _ = name[len(prefix) :].partition("/")
                found[here] = (here, bool(slash), 0 if slash else entry.size_bytes)
        return sorted(found.values())
