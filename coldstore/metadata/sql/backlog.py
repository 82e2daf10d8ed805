"""What is not yet on every tape: sums per class whose copies it gets, kept in the steps that change them (``tally``)."""

from coldstore.interfaces.metadata import Backlog
from coldstore.metadata.sql.database import Database
from coldstore.model.objects import StorageClass


async def backlog(db: Database) -> list[Backlog]:
    """Return the sums of every class of which something waits, with the time of its oldest version."""
    found = await db.rows(
        f"""
        SELECT storage_class, object_count, size_bytes, (
            SELECT min(created_at) FROM versions {db.dialect.by_index("backlog_ages")}
            WHERE coalesce(versions.transition_class, versions.storage_class) = backlogs.storage_class
                AND archive_state IN ('pending', 'claimed') AND deleted_at IS NULL)
        FROM backlogs WHERE object_count > 0 ORDER BY storage_class
        """
    )
    return [
        Backlog(storage_class=StorageClass(name), object_count=count, size_bytes=size, oldest_at=oldest)
        for name, count, size, oldest in found
    ]
