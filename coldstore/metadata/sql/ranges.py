"""Ranges of lifecycle rules: how far each was gone through, and what of it is due."""

from collections.abc import Collection, Mapping, Sequence

from coldstore.metadata.sql.database import Database
from coldstore.metadata.sql.rows import (
    UPLOAD_COLUMNS,
    VERSION_COLUMNS,
    VERSION_WIDTH,
    Row,
    marks,
    upload_of,
    version_of,
)
from coldstore.model.due import (
    BEGINNING,
    LAST_UID,
    Candidate,
    DuePage,
    Position,
    RangeProgress,
    Scope,
    Subject,
)
from coldstore.model.objects import Upload

SCANNED_MAX = 4_000
"""Versions that are looked at for one page: of a range that is about few of them."""
ALWAYS = 1e18
"""Behind every time: whatever happens is to be looked at."""
_SUBJECTS = {
    Subject.CURRENT: ("current_by_age", "created_at", "v.is_shown = 1"),
    Subject.NONCURRENT: (
        "noncurrent_by_age",
        "superseded_at",
        "v.is_shown = 0 AND v.superseded_at IS NOT NULL",
    ),
    Subject.MARKERS: ("markers_by_age", "created_at", "v.is_shown = 0 AND v.superseded_at IS NULL"),
}
"""The index of each, its time, and its condition as the index has it."""
OF_CURRENT = "('current', 'markers')"
"""The subjects whose times ``buckets.current_through`` is about; the other column is about ``noncurrent``."""


def candidate_columns(newer_max: int) -> str:
    """Return the columns of a ``Candidate`` of ``v``; newer versions are counted up to a bound."""
    newer = (
        "(SELECT count(*) FROM (SELECT 1 FROM versions AS n WHERE n.bucket_uid = v.bucket_uid AND n.key = v.key"
        " AND n.deleted_at IS NULL AND n.is_shown = 0 AND n.superseded_at IS NOT NULL AND n.is_marker = 0"
        f" AND n.sequence > v.sequence LIMIT {int(newer_max)}) AS newer)"
        if newer_max
        else "0"
    )
    alone = (
        "CASE WHEN v.is_marker = 1 AND v.superseded_at IS NULL THEN NOT EXISTS (SELECT 1 FROM versions AS o"
        " WHERE o.bucket_uid = v.bucket_uid AND o.key = v.key AND o.deleted_at IS NULL AND o.is_shown = 0"
        " AND o.version_uid <> v.version_uid) END"
    )
    return f"{VERSION_COLUMNS}, {newer}, {alone}"


def candidate_of(row: Row) -> Candidate:
    """Of ``candidate_columns``."""
    newer, is_alone = row[VERSION_WIDTH:]
    return Candidate(version_of(row[:VERSION_WIDTH]), int(newer), bool(is_alone))


async def progress(db: Database, *, after: tuple[int, str], limit: int) -> list[RangeProgress]:
    """Return ranges by bucket and id, behind one."""
    found = await db.rows(
        "SELECT bucket_uid, range_id, subject, through_at, through_uid FROM lifecycle_ranges"
        " WHERE bucket_uid >= ? AND (bucket_uid > ? OR range_id > ?) ORDER BY bucket_uid, range_id LIMIT ?",
        (after[0], *after, limit),
    )
    return [
        RangeProgress(bucket, name, Subject(subject), Position(*through))
        for bucket, name, subject, *through in found
    ]


async def change(
    db: Database,
    bucket_uid: int,
    *,
    begun: Mapping[str, Subject],
    ended: Collection[str],
    counts_newer: bool,
) -> None:
    """Begin ranges that are not there, end others; tell the bucket what of it is of interest."""
    for range_id, subject in begun.items():
        await db.do(
            "INSERT INTO lifecycle_ranges (bucket_uid, range_id, subject, through_at, through_uid) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (bucket_uid, range_id) DO NOTHING",
            (bucket_uid, range_id, subject.value, *BEGINNING),
        )
    if ended:
        await db.do(
            f"DELETE FROM lifecycle_ranges WHERE bucket_uid = ? AND range_id IN ({marks(list(ended))})",
            (bucket_uid, *ended),
        )
    # Of no range at all it is null.
    noncurrent = "CASE WHEN count(*) > 0 THEN ? END" if counts_newer else "max(through_at)"
    await db.do(
        "UPDATE buckets SET current_through ="
        f" (SELECT max(through_at) FROM lifecycle_ranges WHERE bucket_uid = ? AND subject IN {OF_CURRENT}),"
        f" noncurrent_through = (SELECT {noncurrent} FROM lifecycle_ranges WHERE bucket_uid = ? AND subject = 'noncurrent')"
        " WHERE bucket_uid = ?",
        (bucket_uid, *((ALWAYS,) if counts_newer else ()), bucket_uid, bucket_uid),
    )


async def advance(db: Database, bucket_uid: int, range_id: str, *, through: Position) -> None:
    """A range was gone through up to a place."""
    await db.do(
        "UPDATE lifecycle_ranges SET through_at = ?, through_uid = ? WHERE bucket_uid = ? AND range_id = ?",
        (*through, bucket_uid, range_id),
    )
    await watch(db, bucket_uid, range_id, until=through.at)


async def watch(db: Database, bucket_uid: int, range_id: str, *, until: float) -> None:
    """Have what comes in from now on with a time up to this be looked at by itself."""
    for column, subjects in (("current_through", OF_CURRENT), ("noncurrent_through", "('noncurrent')")):
        await db.do(
            f"UPDATE buckets SET {column} = ? WHERE bucket_uid = ? AND {column} < ? AND EXISTS (SELECT 1 FROM lifecycle_ranges"
            f" WHERE lifecycle_ranges.bucket_uid = buckets.bucket_uid AND range_id = ? AND subject IN {subjects})",
            (until, bucket_uid, until, range_id),
        )


async def due(
    db: Database,
    bucket_uid: int,
    subject: Subject,
    scope: Scope,
    *,
    after: Position,
    until: float,
    newer_max: int,
    limit: int,
) -> DuePage:
    """Return a page of what is due: it looks at a bounded number of versions, whatever is found among them."""
    index, at, condition = _SUBJECTS[subject]
    within = f"v.bucket_uid = ? AND v.deleted_at IS NULL AND {condition} AND v.{at} >= ? AND (v.{at} > ? OR v.version_uid > ?)"
    behind = (bucket_uid, after.at, *after)
    source = f"versions AS v {db.dialect.by_index(index)}"
    row = await db.row(
        f"SELECT v.{at}, v.version_uid FROM {source} WHERE {within} AND v.{at} <= ?"
        f" ORDER BY v.{at}, v.version_uid LIMIT 1 OFFSET ?",
        (*behind, until, SCANNED_MAX - 1),
    )
    end = Position(until, LAST_UID) if row is None else Position(*row)
    wanted, arguments = _conditions(scope)
    found = await db.rows(
        f"SELECT {candidate_columns(newer_max)} FROM {source} {db.dialect.nested_join} buckets AS b ON b.bucket_uid = v.bucket_uid"
        f" WHERE {within} AND v.{at} <= ? AND (v.{at} < ? OR v.version_uid <= ?){wanted}"
        f" ORDER BY v.{at}, v.version_uid LIMIT ?",
        (*behind, end.at, *end, *arguments, limit),
    )
    candidates = [candidate_of(each) for each in found]
    if len(candidates) < limit:
        return DuePage(candidates, end, is_last=row is None)
    last = candidates[-1].version
    last_at = last.facts.created_at if at == "created_at" else last.superseded_at
    assert last_at is not None, last.version_uid
    return DuePage(candidates, Position(last_at, last.version_uid), is_last=False)


def _conditions(scope: Scope) -> tuple[str, tuple[object, ...]]:
    """Return what a scope asks for of ``v``, with its arguments."""
    wanted: list[str] = []
    arguments: list[object] = []

    def add(condition: str, *its: object) -> None:
        wanted.append(f" AND {condition}")
        arguments.extend(its)

    if scope.prefix:
        add("v.key >= ?", scope.prefix)
        end = after_prefix(scope.prefix)
        if end is not None:
            add("v.key < ?", end)
    if scope.larger_than_bytes is not None:
        add("coalesce(v.content_bytes, v.size_bytes) > ?", scope.larger_than_bytes)
    if scope.smaller_than_bytes is not None:
        add("coalesce(v.content_bytes, v.size_bytes) < ?", scope.smaller_than_bytes)
    if scope.classes:
        add(f"v.storage_class IN ({marks(scope.classes)})", *(name.value for name in scope.classes))
    return "".join(wanted), tuple(arguments)


def after_prefix(prefix: bytes) -> bytes | None:
    """Return the least key that is greater than every key with this prefix, None when there is none."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1]) if stem else None


async def due_uploads(
    db: Database, bucket_uid: int, scope: Scope, *, until: float, limit: int
) -> Sequence[Upload]:
    """Return uploads that were begun by a time, the oldest first."""
    end = after_prefix(scope.prefix) if scope.prefix else None
    below, arguments = ("", ()) if end is None else (" AND u.key < ?", (end,))
    found = await db.rows(
        f"SELECT {UPLOAD_COLUMNS} FROM uploads AS u JOIN buckets AS b ON b.bucket_uid = u.bucket_uid"
        f" WHERE u.bucket_uid = ? AND u.created_at <= ? AND u.key >= ?{below} ORDER BY u.created_at, u.upload_id LIMIT ?",
        (bucket_uid, until, scope.prefix, *arguments, limit),
    )
    return [upload_of(row) for row in found]


async def pull_back(db: Database, bucket_uid: int, *, begun_at: float) -> None:
    """An upload is begun: ranges that were gone through beyond its time, because a clock went back, look there again."""
    await db.do(
        "UPDATE lifecycle_ranges SET through_at = ?, through_uid = 0"
        " WHERE bucket_uid = ? AND subject = 'uploads' AND through_at >= ?",
        (begun_at, bucket_uid, begun_at),
    )
