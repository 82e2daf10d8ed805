"""Tags of versions and buckets, as texts (``rows.pairs_text``)."""

from coldstore.metadata.sql import reviews, versions
from coldstore.metadata.sql.database import Database
from coldstore.model.errors import NoSuchBucket
from coldstore.model.objects import ObjectVersion


async def set_of_version(db: Database, version_uid: int, *, tags: str) -> ObjectVersion:
    """Give a version tags in place of those it has."""
    changed = await versions.change_living(db, version_uid, {"tags": tags})
    await reviews.note_changed(db, version_uid)
    return changed


async def set_of_bucket(db: Database, *, name: str, tags: str) -> None:
    """Give a bucket tags in place of those it has."""
    changed = await db.change("UPDATE buckets SET tags = ? WHERE name = ? AND is_gone = 0", (tags, name))
    if changed == 0:
        raise NoSuchBucket(name)
