"""Rows to the model and back: the one place that knows in which order columns come."""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from coldstore.interfaces.metadata import DiscardedPiece
from coldstore.model.bundles import Bundle, BundleState, Copy, CopyState, Member
from coldstore.model.cartridges import Cartridge, CartridgeState, Drive, DriveState
from coldstore.model.configurations import ConfigurationKind
from coldstore.model.events import Alert, AuditEvent, OutboxMessage, Severity
from coldstore.model.keys import AccessKey
from coldstore.model.locks import UNLOCKED, BucketLock, DefaultRetention, Lock, LockMode, Retention
from coldstore.model.objects import (
    ArchiveState,
    Bucket,
    Checksum,
    ChecksumKind,
    Encryption,
    ObjectVersion,
    Pairs,
    Piece,
    Restore,
    RestorePhase,
    StorageClass,
    Tier,
    Upload,
    User,
    VersionFacts,
    Versioning,
    WrappedKey,
)
from coldstore.model.quotas import QuotaKind, Quotas

Row = Sequence[Any]

QUOTA_COLUMNS = "staging_quota_bytes, kept_quota_bytes, restore_quota_bytes, object_quota"
"""Of users and of buckets: the fields of ``Quotas``, in their order."""
QUOTAS_OF_U = ", ".join(f"u.{column}" for column in QUOTA_COLUMNS.split(", "))
USER_COLUMNS = f"user_id, name, created_at, disabled_at, {QUOTA_COLUMNS}"
ACCESS_KEY_COLUMNS = "access_key, user_id, sealed_secret, created_at, disabled_at, last_used_at"
BUCKET_COLUMNS = f"""
    bucket_uid, name, owner_id, region, created_at, default_class, versioning, tags, restore_days_max, configurations,
    object_lock, {QUOTA_COLUMNS}"""
VERSION_COLUMNS = """
    v.version_uid, v.sequence, b.name, v.key, v.version_id, v.size_bytes, v.etag, v.storage_class, v.headers,
    v.user_metadata, v.checksum_algorithm, v.checksum_value, v.checksum_kind, v.crc64nvme, v.part_sizes, v.created_at,
    v.owner_id, v.layout_id, v.on_disk, v.archive_state, v.archived_at, v.restore_phase, v.restore_tier, v.restore_days,
    v.restore_requested_at, v.restore_expires_at, v.restore_requested_by, v.last_read_at, v.read_count, v.deleted_at,
    v.revision, v.is_marker, v.superseded_at, v.tags, v.encryption, v.content_bytes, v.lock_mode, v.retain_until, v.legal_hold,
    v.acl, v.master_key, v.rewrapped_key, v.archived_class, v.transition_class"""
LISTED_COLUMNS = """
    v.key, v.created_at, v.etag, coalesce(v.content_bytes, v.size_bytes), v.storage_class, v.checksum_algorithm, v.checksum_kind, v.owner_id,
    v.restore_phase, v.restore_expires_at"""
"""The fields of a ``ListedObject``, in their order."""
OF_VERSION_COLUMNS = "v.version_id, v.sequence, v.is_marker, v.is_shown = 1 OR v.superseded_at IS NULL"
"""The fields of a ``ListedVersion`` behind those of what it shows, in their order."""
VERSION_WIDTH = 44
LOCK_COLUMNS = "lock_mode, retain_until, legal_hold"
PIECE_COLUMNS = "ordinal, address, length_bytes, crc64nvme, etag, checksum_algorithm, checksum_value, checksum_kind, created_at"
PIECE_COLUMNS_OF_P = ", ".join(f"p.{column}" for column in PIECE_COLUMNS.split(", "))
UPLOAD_COLUMNS = """
    u.upload_id, b.name, u.key, u.owner_id, u.storage_class, u.headers, u.user_metadata, u.checksum_algorithm,
    u.checksum_kind, u.created_at, u.revision, u.encryption, u.lock_mode, u.retain_until, u.legal_hold,
    u.initiator_id"""
BUNDLE_COLUMNS = (
    "bundle_id, state, pools, created_at, epoch, member_count, size_bytes, content_bytes, sha256, is_settled"
)
MEMBER_COLUMNS = "bundle_id, position, version_uid, extent, extent_count, object_offset_bytes, length_bytes, crc64nvme, bundle_offset_bytes"
MEMBER_COLUMNS_OF_M = ", ".join(f"m.{column}" for column in MEMBER_COLUMNS.split(", "))
MEMBER_WIDTH = 9
COPY_COLUMNS = """
    c.bundle_id, c.pool, c.state, c.barcode, c.partition, c.start_block, c.epoch, c.session_id, c.synced_at, c.verified_at,
    c.failures, c.reason"""
CARTRIDGE_COLUMNS = """
    barcode, state, pool, volume_uuid, home_slot, is_present, capacity_bytes, free_bytes, written_bytes, loads, failures,
    needs_check, format_nonce, admitted_at, admitted_by, reason, changed_at, changed_by, revision"""
DRIVE_COLUMNS = "element, serial, state, reason, failures, changed_at, changed_by, host"
MESSAGE_COLUMNS = "message_id, event, bucket, key, body, created_at, attempts, next_attempt_at, last_error"
ALERT_COLUMNS = "alert_id, kind, subject, severity, sentence, raised_at, last_seen_at, count, cleared_at"
AUDIT_COLUMNS = "event_id, at, who, what, subject, detail"


def signed(crc64nvme: int) -> int:
    """Return an unsigned 64-bit number as the signed one with the same bits, which SQLite can hold."""
    return crc64nvme - (1 << 64) if crc64nvme >= 1 << 63 else crc64nvme


def unsigned(stored: int) -> int:
    """Undo ``signed``."""
    return stored + (1 << 64) if stored < 0 else stored


@lru_cache(maxsize=256)
def pairs_text(pairs: Pairs) -> str:
    """Write names and values down as JSON; nothing at all when there are none."""
    return json.dumps(pairs, separators=(",", ":")) if pairs else ""


_OF_FEW = ("part_numbers", "master_key", "sealed_etag")
"""Of how an object is encrypted: what few have, and is not written down of others."""


def encryption_text(encryption: Encryption | None) -> str:
    """Write down how an object is encrypted, but for its size, which is a column of its own; nothing at all when it is not."""
    if encryption is None:
        return ""
    written = encryption._asdict()
    del written["size_bytes"]
    for name in _OF_FEW:
        if not written[name]:
            del written[name]
    return json.dumps(written, separators=(",", ":"))


def encryption_of(text: str, content_bytes: int | None) -> Encryption:
    """Undo ``encryption_text``."""
    return Encryption(**json.loads(text), size_bytes=content_bytes or 0)


def lock_row(lock: Lock) -> tuple[str | None, float | None, int | None]:
    """Return ``LOCK_COLUMNS``."""
    mode, until = (
        (None, None) if lock.retention is None else (lock.retention.mode.value, lock.retention.until)
    )
    return mode, until, None if lock.legal_hold is None else int(lock.legal_hold)


def lock_of(mode: str | None, until: float | None, legal_hold: int | None) -> Lock:
    """Undo ``lock_row``."""
    if mode is None and legal_hold is None:
        return UNLOCKED
    retention = None if mode is None or until is None else Retention(LockMode(mode), until)
    return Lock(retention, None if legal_hold is None else bool(legal_hold))


def lock_text(lock: Lock) -> str:
    """Write a lock down in one column; nothing at all when there is none."""
    return "" if lock == UNLOCKED else json.dumps(lock_row(lock), separators=(",", ":"))


@lru_cache(maxsize=256)
def lock_of_text(text: str) -> Lock:
    """Undo ``lock_text``."""
    return lock_of(*json.loads(text)) if text else UNLOCKED


def bucket_lock_text(lock: BucketLock | None) -> str:
    """Write down what versions of a bucket get; nothing at all when they cannot be locked."""
    if lock is None:
        return ""
    return json.dumps({"default": lock.default and lock.default._asdict()}, separators=(",", ":"))


@lru_cache(maxsize=256)
def bucket_lock_of(text: str) -> BucketLock | None:
    """Undo ``bucket_lock_text``."""
    if not text:
        return None
    default = json.loads(text)["default"]
    return BucketLock(
        default and DefaultRetention(LockMode(default["mode"]), default["days"], default["years"])
    )


@lru_cache(maxsize=256)
def pairs_of(text: str) -> Pairs:
    """Undo ``pairs_text``; most objects have the same few headers."""
    return tuple((name, value) for name, value in json.loads(text)) if text else ()


def checksum_row(checksum: Checksum | None) -> tuple[str | None, str | None, str | None]:
    """Return the three columns of a checksum."""
    return (
        (checksum.algorithm, checksum.value, checksum.kind.value)
        if checksum is not None
        else (None, None, None)
    )


_CLASSES = {each.value: each for each in StorageClass}
_ARCHIVE_STATES = {each.value: each for each in ArchiveState}
_CHECKSUM_KINDS = {each.value: each for each in ChecksumKind}
"""Read for every row: asking the class itself takes as long as the rest of a row."""


def checksum_of(algorithm: str | None, value: str | None, kind: str | None) -> Checksum | None:
    """Undo ``checksum_row``."""
    if algorithm is None or value is None or kind is None:
        return None
    return Checksum(algorithm=algorithm, value=value, kind=_CHECKSUM_KINDS[kind])


def marks(values: Sequence[object]) -> str:
    """Return as many placeholders as there are values: ``?,?,?``."""
    return ",".join("?" * len(values))


def total(column: str) -> str:
    """Return the sum of a column of whole numbers, 0 of no rows; a database may make its sums of another type."""
    return f"CAST(coalesce(sum({column}), 0) AS bigint)"


def user_of(row: Row) -> User:
    """Of ``USER_COLUMNS``."""
    user_id, name, created_at, disabled_at, *quotas = row
    return User(
        user_id=user_id,
        name=name,
        created_at=created_at,
        quotas=Quotas(*quotas),
        disabled_at=disabled_at,
    )


_QUOTA_COLUMN = dict(zip(Quotas._fields, QUOTA_COLUMNS.split(", "), strict=True))


def quota_assignments(quotas: Mapping[QuotaKind, int | None]) -> tuple[str, Sequence[int | None]]:
    """Return what follows SET to set quotas, at least one, of a user or a bucket; and the arguments."""
    return ", ".join(f"{_QUOTA_COLUMN[kind.value]} = ?" for kind in quotas), list(quotas.values())


def access_key_of(row: Row) -> AccessKey:
    """Of ``ACCESS_KEY_COLUMNS``."""
    access_key, user_id, sealed_secret, created_at, disabled_at, last_used_at = row
    return AccessKey(
        access_key=access_key,
        user_id=user_id,
        sealed_secret=sealed_secret,
        created_at=created_at,
        disabled_at=disabled_at,
        last_used_at=last_used_at,
    )


def bucket_of(row: Row) -> Bucket:
    """Of ``BUCKET_COLUMNS``."""
    (
        bucket_uid,
        name,
        owner_id,
        region,
        created_at,
        default_class,
        versioning,
        tags,
        restore_days_max,
        configurations,
        object_lock,
        *quotas,
    ) = row
    return Bucket(
        bucket_uid=bucket_uid,
        name=name,
        owner_id=owner_id,
        region=region,
        created_at=created_at,
        default_class=None if default_class is None else StorageClass(default_class),
        quotas=Quotas(*quotas),
        versioning=Versioning(versioning),
        restore_days_max=restore_days_max,
        tags=pairs_of(tags),
        configurations=_configurations_of(configurations),
        object_lock=bucket_lock_of(object_lock),
    )


def _configurations_of(text: str) -> Mapping[ConfigurationKind, int]:
    found = json.loads(text) if text else {}
    return MappingProxyType({ConfigurationKind(kind): revision for kind, revision in found.items()})


def version_of(row: Row) -> ObjectVersion:
    """Of ``VERSION_COLUMNS``."""
    (
        version_uid,
        sequence,
        bucket,
        key,
        version_id,
        size_bytes,
        etag,
        storage_class,
        headers,
        user_metadata,
        checksum_algorithm,
        checksum_value,
        checksum_kind,
        crc64nvme,
        part_sizes,
        created_at,
        owner_id,
        layout_id,
        on_disk,
        archive_state,
        archived_at,
        restore_phase,
        restore_tier,
        restore_days,
        restore_requested_at,
        restore_expires_at,
        restore_requested_by,
        last_read_at,
        read_count,
        deleted_at,
        revision,
        is_marker,
        superseded_at,
        tags,
        encryption,
        content_bytes,
        lock_mode,
        retain_until,
        legal_hold,
        acl,
        master_key,
        rewrapped_key,
        archived_class,
        transition_class,
    ) = row
    facts = VersionFacts(
        bucket=bucket,
        key=key,
        version_id=version_id,
        size_bytes=size_bytes,
        etag=etag,
        storage_class=_CLASSES[storage_class],
        headers=pairs_of(headers),
        user_metadata=pairs_of(user_metadata),
        checksum=checksum_of(checksum_algorithm, checksum_value, checksum_kind),
        crc64nvme=unsigned(crc64nvme),
        part_sizes=part_sizes,
        created_at=created_at,
        owner_id=owner_id,
        encryption=encryption_of(encryption, content_bytes) if encryption else None,
    )
    restore = None
    if restore_phase is not None:
        restore = Restore(
            phase=RestorePhase(restore_phase),
            tier=Tier(restore_tier),
            days=restore_days,
            requested_at=restore_requested_at,
            expires_at=restore_expires_at,
            requested_by=restore_requested_by,
        )
    return ObjectVersion(
        version_uid=version_uid,
        sequence=sequence,
        facts=facts,
        layout_id=layout_id,
        on_disk=bool(on_disk),
        archive_state=_ARCHIVE_STATES[archive_state],
        archived_at=archived_at,
        restore=restore,
        last_read_at=last_read_at,
        read_count=read_count,
        deleted_at=deleted_at,
        revision=revision,
        is_marker=bool(is_marker),
        superseded_at=superseded_at,
        tags=None if tags is None else pairs_of(tags),
        lock=lock_of(lock_mode, retain_until, legal_hold),
        acl=None if acl is None else pairs_of(acl),
        rewrapped=WrappedKey(master_key, rewrapped_key) if rewrapped_key else None,
        archived_class=None if archived_class is None else _CLASSES[archived_class],
        transition_class=None if transition_class is None else _CLASSES[transition_class],
    )


def restore_row(restore: Restore | None) -> tuple[Any, ...]:
    """Return the six columns of a restore, from ``restore_phase`` on."""
    if restore is None:
        return (None,) * 6
    return (
        restore.phase.value,
        restore.tier.value,
        restore.days,
        restore.requested_at,
        restore.expires_at,
        restore.requested_by,
    )


def piece_of(row: Row) -> Piece:
    """Of ``PIECE_COLUMNS``."""
    ordinal, address, length_bytes, crc64nvme, etag, algorithm, value, kind, created_at = row
    return Piece(
        ordinal=ordinal,
        address=address,
        length_bytes=length_bytes,
        crc64nvme=unsigned(crc64nvme),
        etag=etag,
        checksum=checksum_of(algorithm, value, kind),
        created_at=created_at,
    )


def piece_row(piece: Piece) -> tuple[Any, ...]:
    """Return ``PIECE_COLUMNS``."""
    return (
        piece.ordinal,
        piece.address,
        piece.length_bytes,
        signed(piece.crc64nvme),
        piece.etag,
        *checksum_row(piece.checksum),
        piece.created_at,
    )


def discarded_of(row: Row) -> DiscardedPiece:
    """Of ``discard_id, address, length_bytes``."""
    discard_id, address, length_bytes = row
    return DiscardedPiece(discard_id=discard_id, address=address, length_bytes=length_bytes)


def upload_of(row: Row) -> Upload:
    """Of ``UPLOAD_COLUMNS``."""
    (
        upload_id,
        bucket,
        key,
        owner_id,
        storage_class,
        headers,
        user_metadata,
        algorithm,
        kind,
        created_at,
        revision,
        encryption,
        lock_mode,
        retain_until,
        legal_hold,
        initiator_id,
    ) = row
    return Upload(
        upload_id=upload_id,
        bucket=bucket,
        key=key,
        owner_id=owner_id,
        storage_class=StorageClass(storage_class),
        headers=pairs_of(headers),
        user_metadata=pairs_of(user_metadata),
        checksum_algorithm=algorithm,
        checksum_kind=None if kind is None else ChecksumKind(kind),
        created_at=created_at,
        revision=revision,
        encryption=encryption_of(encryption, None) if encryption else None,
        lock=lock_of(lock_mode, retain_until, legal_hold),
        initiator_id=initiator_id,
    )


def bundle_of(row: Row) -> Bundle:
    """Of ``BUNDLE_COLUMNS``."""
    (
        bundle_id,
        state,
        pools,
        created_at,
        epoch,
        member_count,
        size_bytes,
        content_bytes,
        sha256,
        is_settled,
    ) = row
    return Bundle(
        bundle_id=bundle_id,
        state=BundleState(state),
        pools=tuple(json.loads(pools)),
        created_at=created_at,
        epoch=epoch,
        member_count=member_count,
        size_bytes=size_bytes,
        content_bytes=content_bytes,
        sha256=sha256,
        is_settled=bool(is_settled),
    )


def member_of(row: Row) -> Member:
    """Of ``MEMBER_COLUMNS``."""
    (
        bundle_id,
        position,
        version_uid,
        extent,
        extent_count,
        object_offset,
        length,
        crc64nvme,
        bundle_offset,
    ) = row
    return Member(
        bundle_id=bundle_id,
        position=position,
        version_uid=version_uid,
        extent=extent,
        extent_count=extent_count,
        object_offset_bytes=object_offset,
        length_bytes=length,
        crc64nvme=unsigned(crc64nvme),
        bundle_offset_bytes=bundle_offset,
    )


def member_row(member: Member) -> tuple[Any, ...]:
    """Return ``MEMBER_COLUMNS``."""
    return (
        member.bundle_id,
        member.position,
        member.version_uid,
        member.extent,
        member.extent_count,
        member.object_offset_bytes,
        member.length_bytes,
        signed(member.crc64nvme),
        member.bundle_offset_bytes,
    )


def copy_of(row: Row) -> Copy:
    """Of ``COPY_COLUMNS``."""
    (
        bundle_id,
        pool,
        state,
        barcode,
        partition,
        start_block,
        epoch,
        session_id,
        synced_at,
        verified_at,
        failures,
        reason,
    ) = row
    return Copy(
        bundle_id=bundle_id,
        pool=pool,
        state=CopyState(state),
        barcode=barcode,
        partition=partition,
        start_block=start_block,
        epoch=epoch,
        session_id=session_id,
        synced_at=synced_at,
        verified_at=verified_at,
        failures=failures,
        reason=reason,
    )


@lru_cache(maxsize=4096)
def cartridge_of(row: tuple[Any, ...]) -> Cartridge:
    """Of ``CARTRIDGE_COLUMNS``. All of them are read again and again, and few have changed."""
    (
        barcode,
        state,
        pool,
        volume_uuid,
        home_slot,
        is_present,
        capacity_bytes,
        free_bytes,
        written_bytes,
        loads,
        failures,
        needs_check,
        format_nonce,
        admitted_at,
        admitted_by,
        reason,
        changed_at,
        changed_by,
        revision,
    ) = row
    return Cartridge(
        barcode=barcode,
        state=CartridgeState(state),
        pool=pool,
        volume_uuid=volume_uuid,
        home_slot=home_slot,
        is_present=bool(is_present),
        capacity_bytes=capacity_bytes,
        free_bytes=free_bytes,
        written_bytes=written_bytes,
        loads=loads,
        failures=failures,
        needs_check=bool(needs_check),
        format_nonce=format_nonce,
        admitted_at=admitted_at,
        admitted_by=admitted_by,
        reason=reason,
        changed_at=changed_at,
        changed_by=changed_by,
        revision=revision,
    )


def cartridge_row(cartridge: Cartridge) -> tuple[Any, ...]:
    """Return ``CARTRIDGE_COLUMNS``."""
    return (
        cartridge.barcode,
        cartridge.state.value,
        cartridge.pool,
        cartridge.volume_uuid,
        cartridge.home_slot,
        int(cartridge.is_present),
        cartridge.capacity_bytes,
        cartridge.free_bytes,
        cartridge.written_bytes,
        cartridge.loads,
        cartridge.failures,
        int(cartridge.needs_check),
        cartridge.format_nonce,
        cartridge.admitted_at,
        cartridge.admitted_by,
        cartridge.reason,
        cartridge.changed_at,
        cartridge.changed_by,
        cartridge.revision,
    )


def drive_of(row: Row) -> Drive:
    """Of ``DRIVE_COLUMNS``."""
    index, serial, state, reason, failures, changed_at, changed_by, host = row
    return Drive(
        index=index,
        serial=serial,
        state=DriveState(state),
        reason=reason,
        failures=failures,
        changed_at=changed_at,
        changed_by=changed_by,
        host=host,
    )


def message_of(row: Row) -> OutboxMessage:
    """Of ``MESSAGE_COLUMNS``."""
    message_id, event, bucket, key, body, created_at, attempts, next_attempt_at, last_error = row
    return OutboxMessage(
        message_id=message_id,
        event=event,
        bucket=bucket,
        key=key,
        body=body,
        created_at=created_at,
        attempts=attempts,
        next_attempt_at=next_attempt_at,
        last_error=last_error,
    )


def alert_of(row: Row) -> Alert:
    """Of ``ALERT_COLUMNS``."""
    alert_id, kind, subject, severity, sentence, raised_at, last_seen_at, count, cleared_at = row
    return Alert(
        alert_id=alert_id,
        kind=kind,
        subject=subject,
        severity=Severity(severity),
        sentence=sentence,
        raised_at=raised_at,
        last_seen_at=last_seen_at,
        count=count,
        cleared_at=cleared_at,
    )


def audit_event_of(row: Row) -> AuditEvent:
    """Of ``AUDIT_COLUMNS``."""
    event_id, at, who, what, subject, detail = row
    return AuditEvent(event_id=event_id, at=at, who=who, what=what, subject=subject, detail=detail)
