"""
All versions of what is in a bucket, page by page.

What is shown and what is not are in two indexes, each in the order of the listing; of a key the shown one is the newest.
"""

from collections.abc import Sequence
from heapq import merge
from itertools import islice

from coldstore.metadata.sql import buckets, standing
from coldstore.metadata.sql.database import Database, Row
from coldstore.metadata.sql.rows import LISTED_COLUMNS, OF_VERSION_COLUMNS
from coldstore.metadata.sql.versions import bounds_of, entry_keys
from coldstore.model.objects import ListedVersion, VersionsPage
from coldstore.plan.listing import BEHIND_ALL, ListingPlan, rolled_up

_COLUMNS = f"{LISTED_COLUMNS}, {OF_VERSION_COLUMNS}"
_SHOWN_WIDTH = 10
_OF_KEY = {
    standing.IS_SHOWN: f"SELECT {_COLUMNS} FROM versions AS v WHERE v.bucket_uid = ? AND v.key = ? AND {standing.IS_SHOWN}"
    " AND v.sequence < ? LIMIT ?",
    standing.IS_OTHER: f"SELECT {_COLUMNS} FROM versions AS v WHERE v.bucket_uid = ? AND v.key = ? AND {standing.IS_OTHER}"
    " AND v.sequence < ? ORDER BY v.key, v.sequence DESC LIMIT ?",
}
_BY_KEY = {
    standing.IS_SHOWN: f"SELECT {_COLUMNS} FROM versions AS v WHERE v.bucket_uid = ? AND v.key >= ?{{}} AND {standing.IS_SHOWN}"
    " ORDER BY v.key LIMIT ?",
    standing.IS_OTHER: f"SELECT {_COLUMNS} FROM versions AS v WHERE v.bucket_uid = ? AND v.key >= ?{{}} AND {standing.IS_OTHER}"
    " ORDER BY v.key, v.sequence DESC LIMIT ?",
}
"""What is shown, and what is not; ``{}`` may bound the keys."""
_SEQUENCE = f"SELECT v.sequence{standing.OF_ID}{standing.NAMED}"
_NOTHING = (0.0, "", 0, "", None, None, "", None, None)
"""Of what is shown as a common prefix only the key is looked at."""
_ALL = 2**63 - 1
"""Greater than every sequence."""


async def page(
    db: Database,
    bucket: str,
    *,
    prefix: bytes,
    delimiter: bytes,
    after_key: bytes,
    after_version_id: str,
    max_entries: int,
) -> VersionsPage:
    """Return a page of a listing."""
    bucket_uid = await buckets.uid(db, bucket)
    plan: ListingPlan[ListedVersion] = ListingPlan(
        prefix=prefix,
        delimiter=delimiter,
        after=after_key,
        max_entries=max_entries,
        key_of=lambda row: row.shown[0],
        can_ask_by_entry=True,
    )
    before = 0
    if after_version_id and rolled_up(after_key, prefix, delimiter) is None:
        row = await db.row(_SEQUENCE, (after_key, after_version_id, after_key, after_version_id, bucket))
        before = _ALL if row is None or row[0] is None else row[0]
    while (fetch := plan.next_fetch()) is not None:
        found: list[ListedVersion] = []
        from_key = fetch.from_key
        if fetch.after_key:
            if before and fetch.after_key.startswith(prefix):
                found = await _of_key(db, bucket_uid, fetch.after_key, before, fetch.limit)
            from_key = max(fetch.after_key + b"\x00", from_key)
        bounds = bounds_of(bucket_uid, from_key, fetch.before_key)
        if fetch.is_by_entry:
            found += await _entries(db, bounds, prefix, delimiter, fetch.limit - len(found))
        elif len(found) < fetch.limit:
            found += await _by_key(db, bounds, fetch.limit - len(found))
        plan.take(fetch, found)
        before = 0 if plan.after_row is None else plan.after_row.sequence
    return VersionsPage(
        rows=plan.rows,
        prefixes=plan.prefixes,
        last_key=plan.last,
        last_version_id="" if plan.last_row is None else plan.last_row.version_id,
        is_truncated=plan.is_truncated,
    )


async def _of_key(
    db: Database, bucket_uid: object, key: bytes, before: int, limit: int
) -> list[ListedVersion]:
    """Return the versions of a key that are older than one, the newest first."""
    found: list[Row] = []
    for question in _OF_KEY.values():
        found += await db.rows(question, (bucket_uid, key, before, limit))
    return [_listed(row) for row in found[:limit]]


async def _by_key(db: Database, bounds: Sequence[object], limit: int) -> list[ListedVersion]:
    """Return versions by key, of each the newest first."""
    below = " AND v.key < ?" if len(bounds) == 3 else ""
    both = [
        map(_listed, await db.rows(question.format(below), (*bounds, limit))) for question in _BY_KEY.values()
    ]
    return list(islice(merge(*both, key=lambda row: (row.shown[0], -row.sequence)), limit))


async def _entries(
    db: Database, bounds: tuple[object, ...], prefix: bytes, delimiter: bytes, limit: int
) -> list[ListedVersion]:
    """As ``_by_key``, but of what shares all up to the delimiter only the first: a look into each index for each."""
    bucket_uid, _, *before_key = bounds
    below = "AND v.key < ? " if before_key else ""
    keys = entry_keys(
        db.dialect,
        *(
            f"SELECT v.key FROM versions AS v WHERE v.bucket_uid = ? AND {which} AND v.key >= {{}} {below}"
            for which in (standing.IS_SHOWN, standing.IS_OTHER)
        ),
    )
    then = (bucket_uid, b"\x00", BEHIND_ALL, *before_key)
    rows = await db.rows(
        f"{keys} SELECT key FROM entry WHERE key IS NOT NULL LIMIT ?",
        (len(prefix), delimiter, len(delimiter), *bounds, *bounds, *then, *then, limit),
    )
    found: list[ListedVersion] = []
    for (key,) in rows:
        if len(found) >= limit:
            break
        if rolled_up(key, prefix, delimiter) is None:
            found += await _of_key(db, bucket_uid, key, _ALL, limit - len(found))
        else:
            found.append(ListedVersion((key, *_NOTHING), "", 0, is_marker=False, is_latest=False))
    return found


def _listed(row: Row) -> ListedVersion:
    version_id, sequence, is_marker, is_latest = row[_SHOWN_WIDTH:]
    return ListedVersion(tuple(row[:_SHOWN_WIDTH]), version_id, sequence, bool(is_marker), bool(is_latest))
