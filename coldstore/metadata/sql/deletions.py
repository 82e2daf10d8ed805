"""Deleting what is under keys, and single versions."""

from collections.abc import Mapping, Sequence

from coldstore.interfaces.metadata import DELETIONS_MAX, Conflict, StepTooLarge
from coldstore.metadata.sql import buckets, protection, reviews, standing
from coldstore.metadata.sql.database import Database
from coldstore.metadata.sql.standing import Under
from coldstore.metadata.sql.tally import Tally
from coldstore.metadata.sql.telling import write_messages
from coldstore.model.errors import PreconditionFailed
from coldstore.model.events import NewMessage
from coldstore.model.objects import (
    NULL_VERSION_ID,
    ArchiveState,
    ObjectVersion,
    StorageClass,
    VersionFacts,
    Versioning,
)

_MARKER_COLUMNS = """
    version_uid, sequence, bucket_uid, key, version_id, created_at, owner_id, storage_class, archive_state, size_bytes, etag, headers,
    user_metadata, crc64nvme, part_sizes, layout_id, on_disk, is_marker, is_shown"""
_OF_EVERY_MARKER = (0, "", "", "", 0, "", "", 0, 1, 0)
"""The columns from ``size_bytes`` on."""


async def delete_current(
    db: Database,
    bucket: str,
    keys: Sequence[bytes],
    *,
    at: float,
    messages: Mapping[bytes, NewMessage],
    if_match: str | None,
    owner_id: str,
    marker_ids: Sequence[str],
) -> list[ObjectVersion]:
    """Delete what is under the keys, or put markers there."""
    if if_match is not None and len(keys) != 1:
        raise ValueError("if_match is for one key")
    if not keys:
        await buckets.uid(db, bucket)
    ids = dict(zip(keys, marker_ids, strict=True)) if marker_ids else dict.fromkeys(keys, "")
    under_each = list(zip(await standing.under_each(db, bucket, list(ids)), ids, strict=True))
    wanted = [(under, key) for under, key in under_each if _is_wanted(under, if_match)]
    nulls = await standing.nulls_of(db, wanted)
    tally = Tally()
    told: list[ObjectVersion] = []
    for (under, key), null in zip(wanted, nulls, strict=True):
        if under.versioning is not Versioning.UNSET:
            if not ids[key]:
                raise Conflict(
                    f"bucket {bucket} keeps versions: {key!r} gets a delete marker, which needs an id"
                )
            if len(ids) > DELETIONS_MAX:
                raise StepTooLarge(f"{len(ids)} delete markers in one step, at most {DELETIONS_MAX}")
        await standing.give_way(db, under, null, at=at, tally=tally)
        if under.versioning is not Versioning.UNSET:
            version_id = ids[key] if under.versioning is Versioning.ENABLED else NULL_VERSION_ID
            facts = marker_facts(bucket, key, version_id, at=at, owner_id=owner_id)
            told.append(await mark(db, facts, under=under))
        elif under.version is not None:
            told.append(under.version)
    await tally.write(db)
    await write_messages(
        db, [messages[version.facts.key] for version in told if version.facts.key in messages]
    )
    return told


async def delete_these(
    db: Database,
    bucket: str,
    wanted: Sequence[tuple[bytes, str]],
    *,
    at: float,
    if_match: str | None,
    bypass: bool,
    who: str,
) -> list[ObjectVersion]:
    """Delete versions and markers of given ids."""
    if if_match is not None and len(wanted) != 1:
        raise ValueError("if_match is for one version")
    if len(wanted) > DELETIONS_MAX:
        raise StepTooLarge(f"{len(wanted)} versions in one step, at most {DELETIONS_MAX}")
    if not wanted:
        await buckets.uid(db, bucket)
    tally = Tally()
    found = await standing.these(db, bucket, list(dict.fromkeys(wanted)))
    leaving = [each for _, each in found if each is not None]
    for version, _ in leaving:
        _check(if_match, version)
    bypassed = (
        await standing.retire(db, leaving, bucket_uid=found[0][0], at=at, tally=tally, bypass=bypass)
        if leaving
        else []
    )
    await protection.note_bypass(db, bypassed, bucket=bucket, at=at, who=who)
    gone = [version for version, _ in leaving]
    # Only now: the next newest may have gone as well.
    for version in gone:
        if version.superseded_at is None:
            await standing.bring_back(db, found[0][0], version.facts.key)
            await reviews.note_shown(db, found[0][0], version.facts.key, at=at)
        await reviews.note_marker(db, found[0][0], version.facts.key, at=at)
    await tally.write(db)
    return gone


def _is_wanted(under: Under, if_match: str | None) -> bool:
    if if_match is not None and under.version is not None:
        _check(if_match, under.version)
    # What is not there matches nothing; without a condition it gets a marker all the same.
    return under.version is not None or (if_match is None and under.versioning is not Versioning.UNSET)


def _check(if_match: str | None, version: ObjectVersion) -> None:
    if if_match is not None and if_match not in ("*", version.facts.etag):
        raise PreconditionFailed("If-Match")


async def mark(db: Database, facts: VersionFacts, *, under: Under) -> ObjectVersion:
    """Put a delete marker under a key where nothing is current."""
    number = await db.number()
    marker = ObjectVersion(
        version_uid=number,
        sequence=number,
        facts=facts,
        layout_id="",
        on_disk=False,
        archive_state=ArchiveState.NOT_WANTED,
        archived_at=None,
        restore=None,
        last_read_at=0.0,
        read_count=0,
        deleted_at=None,
        revision=0,
        is_marker=True,
    )
    await db.insert(
        "versions",
        _MARKER_COLUMNS,
        (
            *(
                number,
                number,
                under.bucket_uid,
                facts.key,
                facts.version_id,
                facts.created_at,
                facts.owner_id,
            ),
            *(facts.storage_class.value, marker.archive_state.value, *_OF_EVERY_MARKER),
        ),
    )
    await standing.note_new(db, under, marker)
    return marker


def marker_facts(bucket: str, key: bytes, version_id: str, *, at: float, owner_id: str) -> VersionFacts:
    """Return the facts of a delete marker."""
    return VersionFacts(
        bucket=bucket,
        key=key,
        version_id=version_id,
        size_bytes=0,
        etag="",
        storage_class=StorageClass.STANDARD,
        headers=(),
        user_metadata=(),
        checksum=None,
        crc64nvme=0,
        part_sizes="",
        created_at=at,
        owner_id=owner_id,
    )
