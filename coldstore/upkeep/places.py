"""Stores by the names that operators give them."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from coldstore.config.schema import Configuration
from coldstore.metadata.portable.stores import Portable, Snapshot
from coldstore.metadata.sql.migrations import Migration
from coldstore.metadata.sqlite.portable import PortableSqlite, SqliteSnapshot, needed_by, upgrade_file
from coldstore.metadata.sqlite.schema import shipped_migrations
from coldstore.upkeep.command import NAMES
from coldstore.upkeep.errors import Refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Sqlite:
    """A file."""

    path: str

    @property
    def name(self) -> str:
        """What it is called."""
        return f"sqlite:{self.path}"

    @property
    def backend(self) -> str:
        """What kind of store it is."""
        return "sqlite"

    @property
    def paths(self) -> tuple[str, ...]:
        """Its files."""
        return (self.path,)

    @property
    def newest_schema(self) -> int:
        """The schema that this program needs."""
        return max(migration.number for migration in shipped_migrations())

    def is_there(self) -> bool:
        """Whether somebody has made it."""
        return os.path.exists(self.path)

    def size_bytes(self) -> int | None:
        """Return what it takes on the disk; None when nobody can tell."""
        return sum(os.path.getsize(path) for path in (self.path, f"{self.path}-wal") if os.path.exists(path))

    async def portable(self, reactor: Any) -> Portable:
        """Return it as rows, to be written by this process alone; makes it when it is not there."""
        return PortableSqlite(self.path)

    async def snapshot(self, reactor: Any) -> Snapshot:
        """Return the rows as they are now."""
        return SqliteSnapshot(self.path)

    async def needed(self, reactor: Any) -> Sequence[Migration]:
        """Return the migrations that an upgrade applies."""
        return needed_by(self.path)

    async def upgrade(self, reactor: Any) -> None:
        """Apply them, in one transaction."""
        upgrade_file(self.path)


Place = Sqlite
"""A store that may or may not be there."""


def configured(settings: Configuration) -> Place:
    """Return the store that the appliance uses."""
    return place_of(settings.metadata.backend, settings)


def place_of(name: str, settings: Configuration) -> Place:
    """
    Return a store by its name.

    :raise Refused: there is no such name
    """
    kind, colon, rest = name.partition(":")
    match kind:
        case "sqlite" if not colon:
            return Sqlite(path=settings.sqlite_path)
        case "sqlite" if rest and not rest.startswith("//"):
            return Sqlite(path=os.path.abspath(rest))
    raise Refused(f"{name!r} names no store. {NAMES}")
