"""What is not yet on every tape: sums per class, kept in the steps that change them."""

from collections import Counter

from coldstore.interfaces.metadata import Backlog
from coldstore.metadata.sql.database import Database
from coldstore.model.objects import ArchiveState, ObjectVersion, StorageClass

_WAITING = frozenset({ArchiveState.PENDING, ArchiveState.CLAIMED})


class Tally:
    """Adds up what one step changes, so that it writes one row per class however many versions it moves."""

    def __init__(self) -> None:
        self._objects: Counter[StorageClass] = Counter()
        self._bytes: Counter[StorageClass] = Counter()

    def enters(self, version: ObjectVersion) -> None:
        """A version begins to exist."""
        self._count(version, 1)

    def leaves(self, version: ObjectVersion) -> None:
        """A version, as it was before, is deleted or archived."""
        self._count(version, -1)

    async def write(self, db: Database) -> None:
        """Write the sums down."""
        for storage_class, count in self._objects.items():
            row = (storage_class.value, count, self._bytes[storage_class])
            await db.add("backlogs", "storage_class", "object_count, size_bytes", row)

    def _count(self, version: ObjectVersion, by: int) -> None:
        if version.archive_state in _WAITING:
            self._objects[version.facts.storage_class] += by
            self._bytes[version.facts.storage_class] += by * version.facts.size_bytes


async def backlog(db: Database) -> list[Backlog]:
    """Return the sums of every class of which something waits, with the time of its oldest version."""
    found = await db.rows(
        f"""
        SELECT storage_class, object_count, size_bytes, (
            SELECT min(created_at) FROM versions {db.dialect.by_index("backlog_ages")}
            WHERE versions.storage_class = backlogs.storage_class
                AND archive_state IN ('pending', 'claimed') AND deleted_at IS NULL)
        FROM backlogs WHERE object_count > 0 ORDER BY storage_class
        """
    )
    return [
        Backlog(storage_class=StorageClass(name), object_count=count, size_bytes=size, oldest_at=oldest)
        for name, count, size, oldest in found
    ]
