"""What the lifecycle does to versions and uploads, each act with what tells of it, in the step that carries it out."""

from collections.abc import Collection, Sequence

from coldstore.interfaces.metadata import Conflict, StepTooLarge
from coldstore.metadata.sql import (
    deletions,
    protection,
    reviews,
    shares,
    standing,
    telling,
    uploads,
    versions,
)
from coldstore.metadata.sql.database import Database
from coldstore.metadata.sql.rows import marks
from coldstore.metadata.sql.standing import Leaving
from coldstore.metadata.sql.tally import Tally
from coldstore.model.bundles import CopyState
from coldstore.model.configurations import ConfigurationKind
from coldstore.model.due import ACTS_MAX, Act, ActKind, Outcome
from coldstore.model.errors import ObjectLocked
from coldstore.model.objects import (
    NAMES_VERSION,
    NULL_VERSION_ID,
    ArchiveState,
    ObjectVersion,
    Upload,
    Versioning,
)
from coldstore.plan import messages

WHO = "lifecycle"
COPIES_WANTED_MAX = 5
"""Copies that one act may ask for; the next look at the version asks for more."""


class _Telling:
    """Writes down what was done."""

    def __init__(self, db: Database, *, at: float, region: str, events: Collection[str]) -> None:
        self._db = db
        self._at = at
        self._region = region
        self._events = events

    async def tell(self, what: str, version: ObjectVersion, rule_id: str, event: str) -> None:
        """Say what was done to a version (as it was before, or the delete marker) by which rule."""
        facts = version.facts
        named = "" if facts.version_id == NULL_VERSION_ID else f"{NAMES_VERSION}{facts.version_id}"
        subject = f"{facts.bucket}/{facts.key.decode('utf-8', 'replace')}{named}"
        await telling.audit(
            self._db, at=self._at, who=WHO, what=what, subject=subject, detail=f"rule {rule_id}"
        )
        if event in self._events:
            message = messages.lifecycle_acted(version, event, at=self._at, region=self._region)
            await telling.write_messages(self._db, [message])


async def carry_out(
    db: Database,
    bucket: str,
    acts: Sequence[Act],
    *,
    revision: int,
    at: float,
    owner_id: str,
    region: str,
    events: Collection[str],
) -> list[Outcome]:
    """Carry out acts on different versions, as far as those are as they were read."""
    if len(acts) > ACTS_MAX:
        raise StepTooLarge(f"{len(acts)} acts in one step, at most {ACTS_MAX}")
    await _check_rules(db, bucket, revision)
    teller = _Telling(db, at=at, region=region, events=events)
    tally = Tally()
    expiring = [act for act in acts if act.kind is ActKind.EXPIRE]
    others = [act for act in acts if act.kind is not ActKind.EXPIRE]
    outcomes: dict[int, Outcome] = {}
    await _expire(db, bucket, expiring, outcomes, owner_id=owner_id, at=at, tally=tally, teller=teller)
    found = await standing.these(db, bucket, [(_key(act), act.version.facts.version_id) for act in others])
    for act, (bucket_uid, leaving) in zip(others, found, strict=True):
        done = Outcome.MOVED
        if leaving is not None and _is_as_read(leaving.version, act):
            if act.kind is ActKind.DELETE:
                done = await _delete(db, bucket_uid, leaving, act, at=at, tally=tally, teller=teller)
            else:
                done = await _move(db, bucket_uid, leaving, act, at=at, tally=tally, teller=teller)
        outcomes[act.version.version_uid] = done
    await tally.write(db)
    return [outcomes[act.version.version_uid] for act in acts]


async def abort_upload(
    db: Database, bucket: str, upload: Upload, *, revision: int, rule_id: str, at: float
) -> None:
    """End an upload for good."""
    await _check_rules(db, bucket, revision)
    await uploads.abort(db, bucket, upload.key, upload.upload_id)
    subject = f"{bucket}/{upload.key.decode('utf-8', 'replace')}?uploadId={upload.upload_id}"
    await telling.audit(db, at=at, who=WHO, what="abort upload", subject=subject, detail=f"rule {rule_id}")


async def _check_rules(db: Database, bucket: str, revision: int) -> None:
    """Refuse to act by rules that a bucket does not have any more."""
    row = await db.row(
        "SELECT c.revision FROM buckets AS b JOIN bucket_configurations AS c ON c.bucket_uid = b.bucket_uid AND c.kind = ?"
        " WHERE b.name = ? AND b.is_gone = 0",
        (ConfigurationKind.LIFECYCLE.value, bucket),
    )
    if row is None or row[0] != revision:
        raise Conflict(f"the lifecycle rules of bucket {bucket} have changed")


def _key(act: Act) -> bytes:
    return act.version.facts.key


def _is_as_read(found: ObjectVersion, act: Act) -> bool:
    return (found.version_uid, found.revision) == (act.version.version_uid, act.version.revision)


async def _expire(
    db: Database,
    bucket: str,
    acts: Sequence[Act],
    outcomes: dict[int, Outcome],
    *,
    owner_id: str,
    at: float,
    tally: Tally,
    teller: _Telling,
) -> None:
    """What is current goes, or gets a delete marker in front of it."""
    under_each = await standing.under_each(db, bucket, [_key(act) for act in acts])
    nulls = await standing.nulls_of(
        db, [(under, _key(act)) for under, act in zip(under_each, acts, strict=True)]
    )
    for act, under, null in zip(acts, under_each, nulls, strict=True):
        version = under.version
        if version is None or not _is_as_read(version, act):
            outcomes[act.version.version_uid] = Outcome.MOVED
            continue
        keeps_versions = under.versioning is not Versioning.UNSET
        if keeps_versions and not act.marker_id:
            # Versioning was set since.
            outcomes[act.version.version_uid] = Outcome.MOVED
            continue
        await standing.give_way(db, under, null, at=at, tally=tally)
        if keeps_versions:
            version_id = act.marker_id if under.versioning is Versioning.ENABLED else NULL_VERSION_ID
            facts = deletions.marker_facts(bucket, _key(act), version_id, at=at, owner_id=owner_id)
            marker = await deletions.mark(db, facts, under=under)
            await teller.tell("put delete marker", marker, act.rule_id, messages.LIFECYCLE_MARKED)
        else:
            await teller.tell("expire object", version, act.rule_id, messages.LIFECYCLE_DELETED)
        outcomes[act.version.version_uid] = Outcome.DONE


async def _delete(
    db: Database, bucket_uid: int, leaving: Leaving, act: Act, *, at: float, tally: Tally, teller: _Telling
) -> Outcome:
    version = leaving.version
    if version.superseded_at is None:
        # While a delete marker is current nothing of its key is shown.
        others = await db.row(
            "SELECT 1 FROM versions WHERE bucket_uid = ? AND key = ? AND deleted_at IS NULL AND is_shown = 0"
            " AND version_uid <> ? LIMIT 1",
            (bucket_uid, _key(act), version.version_uid),
        )
        if others is not None or not version.is_marker:
            return Outcome.MOVED
    elif act.newer:
        (newer,) = await db.row(
            "SELECT count(*) FROM (SELECT 1 FROM versions WHERE bucket_uid = ? AND key = ? AND deleted_at IS NULL"
            " AND is_shown = 0 AND superseded_at IS NOT NULL AND is_marker = 0 AND sequence > ? LIMIT ?) AS newer",
            (bucket_uid, _key(act), version.sequence, act.newer),
        )
        if newer < act.newer:
            return Outcome.MOVED
    try:
        await protection.demand_free(db, [version], at=at, bypass=False)
    except ObjectLocked:
        return Outcome.LOCKED
    await standing.retire(db, [leaving], bucket_uid=bucket_uid, at=at, tally=tally)
    if version.superseded_at is not None:
        await reviews.note_marker(db, bucket_uid, _key(act), at=at)
    what = "delete marker" if version.is_marker else "delete version"
    await teller.tell(what, version, act.rule_id, messages.LIFECYCLE_DELETED)
    return Outcome.DONE


async def _move(
    db: Database, bucket_uid: int, leaving: Leaving, act: Act, *, at: float, tally: Tally, teller: _Telling
) -> Outcome:
    """
    Change a class, if the new one's promises are kept already.

    Not while a bundle holds the version that is not archived: its copies are not all written, and must come out the same.
    """
    version = leaving.version
    assert act.storage_class is not None, act
    if version.restore is not None or version.is_marker:
        return Outcome.MOVED
    if leaving.is_claimed or not await _is_archived(db, version, act.pools):
        await _want_archived(db, bucket_uid, version, act, tally)
        return Outcome.NOT_ARCHIVED
    if act.needs_disk and not version.on_disk:
        return Outcome.NOT_ON_DISK
    moved = version._replace(
        facts=version.facts._replace(storage_class=act.storage_class), transition_class=None
    )
    if version.archive_state is ArchiveState.PENDING:
        # Nothing waits for tape whose class asks for none.
        moved = moved._replace(archive_state=ArchiveState.NOT_WANTED)
    elif version.archive_state is ArchiveState.ARCHIVED:
        moved = moved._replace(archived_class=version.archived_facts.storage_class)
    await shares.move(db, tally, version, moved, bucket_uid=bucket_uid)
    await versions.move(
        db,
        version.version_uid,
        {
            "storage_class": act.storage_class.value,
            "transition_class": None,
            "archive_state": moved.archive_state.value,
            "archived_class": None if moved.archived_class is None else moved.archived_class.value,
        },
    )
    await teller.tell(
        f"move from {version.facts.storage_class.value} to {act.storage_class.value}",
        moved,
        act.rule_id,
        messages.LIFECYCLE_MOVED,
    )
    return Outcome.DONE


async def _is_archived(db: Database, version: ObjectVersion, pools: Sequence[str]) -> bool:
    """Whether every extent of a version has a verified copy in each of some pools."""
    if not pools:
        return True
    if version.archive_state is not ArchiveState.ARCHIVED:
        return False
    extents, extent_count, least = await db.row(
        "SELECT count(*), max(extent_count), min((SELECT count(*) FROM copies AS c WHERE c.bundle_id = m.bundle_id"
        f" AND c.state = 'verified' AND c.pool IN ({marks(pools)}))) FROM members AS m WHERE m.version_uid = ?",
        (*pools, version.version_uid),
    )
    return bool(extents) and extents == extent_count and least == len(set(pools))


async def _want_archived(
    db: Database, bucket_uid: int, version: ObjectVersion, act: Act, tally: Tally
) -> None:
    """
    Have a version get the copies on tape that its next class asks for.

    One that was to have none becomes PENDING. Of the bundles of one that is archived, but not in all pools, the missing copies count as lost:
    they are made anew from the others, of the whole bundle, without anything coming back to the disk.
    """
    assert act.storage_class is not None, act
    if version.archive_state is ArchiveState.NOT_WANTED:
        waiting = version._replace(archive_state=ArchiveState.PENDING, transition_class=act.storage_class)
        tally.changes(version, waiting, bucket_uid)
        changes = {
            "archive_state": ArchiveState.PENDING.value,
            "transition_class": act.storage_class.value,
        }
        await versions.move(db, version.version_uid, changes)
    elif version.archive_state is ArchiveState.ARCHIVED:
        left = COPIES_WANTED_MAX
        for pool in act.pools:
            missing = await db.rows(
                "SELECT b.bundle_id, b.epoch FROM members AS m JOIN bundles AS b ON b.bundle_id = m.bundle_id"
                " WHERE m.version_uid = ? AND b.state = 'archived' AND NOT EXISTS"
                " (SELECT 1 FROM copies AS c WHERE c.bundle_id = b.bundle_id AND c.pool = ?) ORDER BY m.extent LIMIT ?",
                (version.version_uid, pool, left),
            )
            for bundle_id, epoch in missing:
                await db.do(
                    "INSERT INTO copies (bundle_id, pool, state, epoch, reason) VALUES (?, ?, ?, ?, ?)"
                    " ON CONFLICT (bundle_id, pool) DO NOTHING",
                    (bundle_id, pool, CopyState.LOST.value, epoch, f"wanted for {act.storage_class.value}"),
                )
            left -= len(missing)
