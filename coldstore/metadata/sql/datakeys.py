"""Keys of data, and the versions whose keys are under them."""

from collections.abc import Mapping, Sequence

from coldstore.metadata.sql import versions
from coldstore.metadata.sql.database import Database
from coldstore.model.datakeys import DataKeyRecord
from coldstore.model.objects import ObjectVersion, WrappedKey

_UNDER = "master_key = ? AND master_key <> ''"
"""The index has no others."""


async def known(db: Database) -> list[DataKeyRecord]:
    """Return all keys that ever were, the oldest first."""
    found = await db.rows(
        "SELECT key_id, since, retired_at, exported_at FROM data_keys ORDER BY retired_at IS NULL, since, key_id"
    )
    return [
        DataKeyRecord(key_id=key_id, since=since, retired_at=retired_at, exported_at=exported_at)
        for key_id, since, retired_at, exported_at in found
    ]


async def note(db: Database, since: Mapping[str, float], *, in_use: str, at: float) -> None:
    """Record keys that are there, and which is in use; the others are retired."""
    for key_id, when in since.items():
        if await db.row("SELECT 1 FROM data_keys WHERE key_id = ?", (key_id,)) is None:
            await db.insert("data_keys", "key_id, since", (key_id, when))
    await db.do("UPDATE data_keys SET retired_at = ? WHERE key_id <> ? AND retired_at IS NULL", (at, in_use))
    await db.do(
        "UPDATE data_keys SET retired_at = NULL WHERE key_id = ? AND retired_at IS NOT NULL", (in_use,)
    )


async def note_exported(db: Database, key_ids: Sequence[str], *, at: float) -> None:
    """Record that keys were written out."""
    for key_id in key_ids:
        await db.do("UPDATE data_keys SET exported_at = ? WHERE key_id = ?", (at, key_id))


async def count_under(db: Database, key_id: str, *, limit: int) -> int:
    """Return how many versions are under a key, at most ``limit``."""
    row = await db.row(
        f"SELECT count(*) FROM (SELECT 1 FROM versions WHERE {_UNDER} LIMIT ?) AS under", (key_id, limit)
    )
    assert row is not None
    return int(row[0])


async def under(db: Database, key_id: str, *, after_uid: int, limit: int) -> list[ObjectVersion]:
    """Return versions under a key by uid."""
    return await versions.selected(
        db,
        f"WHERE v.{_UNDER.replace('AND ', 'AND v.')} AND v.version_uid > ? ORDER BY v.version_uid LIMIT ?",
        (key_id, after_uid, limit),
    )


async def rewrap(db: Database, wrapped: Mapping[int, tuple[WrappedKey, WrappedKey]]) -> int:
    """Have versions be under other keys, by uid: what is expected there, and what is new. Return how many changed."""
    count = 0
    for version_uid, (before, after) in wrapped.items():
        row = await db.row(
            "UPDATE versions SET master_key = ?, rewrapped_key = ?, revision = revision + 1"
            " WHERE version_uid = ? AND master_key = ? AND rewrapped_key IN ('', ?) RETURNING version_uid",
            (after.master_key, after.text, version_uid, before.master_key, before.text),
        )
        count += row is not None
    return count
