"""
What one step changes of sums, added up so that it writes each row once, however many versions it moves: what waits for tape by
class (``backlog``), and what owners have by bucket and class (``shares``).
"""

from collections import Counter
from typing import NamedTuple

from coldstore.metadata.sql.database import Database
from coldstore.model.objects import ArchiveState, ObjectVersion, RestorePhase, StorageClass

_WAITING = frozenset({ArchiveState.PENDING, ArchiveState.CLAIMED})
_KEY = "owner_id, bucket_uid, storage_class"
_SUMS = "used_bytes, kept_bytes, object_count"
_ALL_SUMS = f"{_SUMS}, promised_bytes, restore_bytes"
_NOTHING = [0, 0, 0, 0, 0]


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
    What is counted of a version, but for its pieces, which are counted by layout (``used_bytes``).

    :ivar kept_bytes: its size as S3 shows it, on disk or tape, as long as it lives
    :ivar object_count: 1 as long as it lives and is no delete marker
    :ivar promised_bytes: what an ongoing restore will bring to the disk
    :ivar restore_bytes: its size as it is stored, as long as it has a restore, ongoing or not yet expired
    """

    kept_bytes: int
    object_count: int
    promised_bytes: int
    restore_bytes: int


def counted(version: ObjectVersion) -> Counted:
    """Return what is counted of a version."""
    if version.deleted_at is not None or version.is_marker:
        return Counted(0, 0, 0, 0)
    facts, restore = version.facts, version.restore
    if restore is None:
        return Counted(facts.content_bytes, 1, 0, 0)
    comes_back = restore.phase is RestorePhase.ONGOING and not version.on_disk
    return Counted(facts.content_bytes, 1, facts.size_bytes if comes_back else 0, facts.size_bytes)


class Tally:
    """Adds up what one step changes."""

    def __init__(self) -> None:
        self._objects: Counter[StorageClass] = Counter()
        self._bytes: Counter[StorageClass] = Counter()
        self._shares: dict[Share, list[int]] = {}
        """In the order of ``_ALL_SUMS``."""

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
        self._sums_of(share)[0] += change_bytes

    async def write(self, db: Database) -> None:
        """Write the sums down, those that are others than before."""
        for storage_class, count in self._objects.items():
            size_bytes = self._bytes[storage_class]
            if count or size_bytes:
                row = (storage_class.value, count, size_bytes)
                await db.add("backlogs", "storage_class", "object_count, size_bytes", row)
        for (owner_id, bucket_uid, storage_class), sums in self._shares.items():
            if sums == _NOTHING:
                continue
            # Most steps know nothing of restores.
            width = 5 if sums[3] or sums[4] else 3
            whose = (owner_id, bucket_uid, storage_class.value)
            await db.add("shares", _KEY, _SUMS if width == 3 else _ALL_SUMS, (*whose, *sums[:width]))

    def _wait(self, version: ObjectVersion, by: int) -> None:
        if version.archive_state in _WAITING:
            self._objects[version.packing_class] += by
            self._bytes[version.packing_class] += by * version.facts.size_bytes

    def _count(self, version: ObjectVersion, bucket_uid: int, by: int) -> None:
        if version.is_marker:
            return
        kept_bytes, object_count, promised_bytes, restore_bytes = counted(version)
        sums = self._sums_of(Share.of(version, bucket_uid))
        sums[1] += by * kept_bytes
        sums[2] += by * object_count
        if restore_bytes:
            sums[3] += by * promised_bytes
            sums[4] += by * restore_bytes

    def _sums_of(self, share: Share) -> list[int]:
        sums = self._shares.get(share)
        if sums is None:
            sums = self._shares[share] = [0, 0, 0, 0, 0]
        return sums
