"""
What one step changes of sums, added up so that it writes each row once, however many versions it moves: what waits for tape by
class (``backlog``), and what owners have by bucket and class (``shares``).
"""

from collections import Counter
from operator import add
from typing import NamedTuple

from coldstore.metadata.sql.database import Database
from coldstore.model.objects import ArchiveState, ObjectVersion, RestorePhase, StorageClass

_WAITING = frozenset({ArchiveState.PENDING, ArchiveState.CLAIMED})
_KEY = "owner_id, bucket_uid, storage_class"
_SUMS = "used_bytes, promised_bytes, kept_bytes, object_count, restore_bytes"


class Share(NamedTuple):
    """Whose versions of a class these are, in which bucket."""

    owner_id: str
    bucket_uid: int
    storage_class: StorageClass

    @classmethod
    def of(cls, version: ObjectVersion, bucket_uid: int) -> "Share":
        """That which a version belongs to."""
        return cls(version.facts.owner_id, bucket_uid, version.facts.storage_class)


class Counted(NamedTuple):
    """
    What is counted of a share, in the order of the sums.

    :ivar used_bytes: pieces on the disk
    :ivar promised_bytes: what ongoing restores will bring to the disk
    :ivar kept_bytes: living versions, on disk or tape, as S3 shows their size
    :ivar object_count: living versions; a delete marker is none
    :ivar restore_bytes: living versions with a restore, ongoing or not yet expired, as they are stored
    """

    used_bytes: int = 0
    promised_bytes: int = 0
    kept_bytes: int = 0
    object_count: int = 0
    restore_bytes: int = 0


NOTHING = Counted()


def counted(version: ObjectVersion) -> Counted:
    """Return what is counted of a version, but for its pieces, which are counted by layout."""
    if version.deleted_at is not None or version.is_marker:
        return NOTHING
    facts, restore = version.facts, version.restore
    restored_bytes = 0 if restore is None else facts.size_bytes
    comes_back = restore is not None and restore.phase is RestorePhase.ONGOING and not version.on_disk
    return Counted(
        promised_bytes=restored_bytes if comes_back else 0,
        kept_bytes=facts.content_bytes,
        object_count=1,
        restore_bytes=restored_bytes,
    )


class Tally:
    """Adds up what one step changes."""

    def __init__(self) -> None:
        self._objects: Counter[StorageClass] = Counter()
        self._bytes: Counter[StorageClass] = Counter()
        self._shares: dict[Share, Counted] = {}

    def enters(self, version: ObjectVersion, bucket_uid: int) -> None:
        """A version begins to exist."""
        self._wait(version, 1)
        self._count(version, bucket_uid, 1)

    def leaves(self, version: ObjectVersion, bucket_uid: int) -> None:
        """A version, as it was before, is deleted."""
        self._wait(version, -1)
        self._count(version, bucket_uid, -1)

    def changes(self, before: ObjectVersion, after: ObjectVersion, bucket_uid: int) -> None:
        """Something about a version is another now."""
        self.leaves(before, bucket_uid)
        self.enters(after, bucket_uid)

    def is_archived(self, version: ObjectVersion) -> None:
        """A version, as it was before, waits for tape no longer."""
        self._wait(version, -1)

    def stages(self, share: Share, change_bytes: int) -> None:
        """Pieces of a share come to the disk, or (negative) are another's from now on."""
        self._add(share, Counted(used_bytes=change_bytes))

    async def write(self, db: Database) -> None:
        """Write the sums down, those that are others than before."""
        for storage_class, count in self._objects.items():
            size_bytes = self._bytes[storage_class]
            if count or size_bytes:
                row = (storage_class.value, count, size_bytes)
                await db.add("backlogs", "storage_class", "object_count, size_bytes", row)
        for share, change in self._shares.items():
            if change != NOTHING:
                owner_id, bucket_uid, storage_class = share
                await db.add("shares", _KEY, _SUMS, (owner_id, bucket_uid, storage_class.value, *change))

    def _wait(self, version: ObjectVersion, by: int) -> None:
        if version.archive_state in _WAITING:
            self._objects[version.facts.storage_class] += by
            self._bytes[version.facts.storage_class] += by * version.facts.size_bytes

    def _count(self, version: ObjectVersion, bucket_uid: int, by: int) -> None:
        self._add(Share.of(version, bucket_uid), Counted(*(by * amount for amount in counted(version))))

    def _add(self, share: Share, change: Counted) -> None:
        self._shares[share] = Counted(*map(add, self._shares.get(share, NOTHING), change))
