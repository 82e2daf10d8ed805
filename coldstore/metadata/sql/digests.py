"""What is known of the parts of an object longer than its pieces are there: their digests, one behind the other."""

from coldstore.metadata.sql.database import Database


async def keep(db: Database, version_uid: int, content: bytes) -> None:
    """Remember the digests of a version's parts, if there are any."""
    if content:
        await db.insert("part_digests", "version_uid, content", (version_uid, content))


async def run(db: Database, version_uid: int, *, offset_bytes: int, length_bytes: int) -> bytes:
    """Return a run of the digests of a version's parts."""
    row = await db.row(
        # Numbers are of 64 bits where they come in a list, and functions of bytes take those of 32.
        "SELECT substr(content, CAST(? AS integer), CAST(? AS integer)) FROM part_digests WHERE version_uid = ?",
        (offset_bytes + 1, length_bytes, version_uid),
    )
    return b"" if row is None else bytes(row[0])


async def forget(db: Database, version_uid: int) -> None:
    """Forget the digests of a version's parts."""
    await db.do("DELETE FROM part_digests WHERE version_uid = ?", (version_uid,))
