"""What the operator is shown: values of the model as plain data, the same for tables and for ``--json``."""

from collections.abc import Sequence
from datetime import UTC, datetime

from coldstore.admin.problems import problems
from coldstore.interfaces.control import Health, LifecycleStanding
from coldstore.interfaces.metadata import Backlog, StoreTotals
from coldstore.interfaces.staging import StagingUsage
from coldstore.model.activity import DriveActivity
from coldstore.model.bundles import Bundle, Copy
from coldstore.model.cartridges import Cartridge, Drive
from coldstore.model.events import Alert, AuditEvent
from coldstore.model.keys import AccessKey
from coldstore.model.locks import UNLOCKED
from coldstore.model.objects import Bucket, ObjectVersion, User
from coldstore.model.quotas import UNLIMITED, QuotaKind
from coldstore.plan.quota import Standing
from coldstore.util.tables import size

Row = dict[str, object]


DETAIL_MAX = 1000
"""Of the words behind an audited act."""


def moment(at: float | None) -> str | None:
    """Return unix seconds as ISO 8601 in UTC."""
    return (
        None
        if at is None
        else datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    )


def health_row(health: Health) -> Row:
    """How the process is."""
    return {
        "version": health.version,
        "epoch": health.epoch,
        "host": health.host,
        "started_at": moment(health.started_at),
        "is_serving": health.is_serving,
        "is_library_reconciled": health.is_library_reconciled,
        "problems": list(health.problems),
    }


def status_row(
    health: Health,
    totals: StoreTotals,
    backlog: Sequence[Backlog],
    usage: StagingUsage,
    drives: Sequence[Drive],
    lifecycle: LifecycleStanding,
    *,
    now: float,
) -> Row:
    """The state of everything on one page."""
    oldest = min((entry.oldest_at for entry in backlog if entry.oldest_at is not None), default=None)
    return {
        **health_row(health),
        "problems": problems(health, drives),
        "last_dump_at": None if health.last_dump is None else moment(health.last_dump.at),
        "last_dump_bytes": None if health.last_dump is None else health.last_dump.size_bytes,
        "buckets": totals.bucket_count,
        "objects": totals.object_count,
        "object_bytes": totals.object_bytes,
        "on_disk_bytes": totals.on_disk_bytes,
        "on_tape_bytes": totals.on_tape_bytes,
        "not_yet_on_every_tape_objects": sum(entry.object_count for entry in backlog),
        "not_yet_on_every_tape_bytes": sum(entry.size_bytes for entry in backlog),
        "not_yet_on_every_tape_oldest_seconds": None if oldest is None else max(0.0, now - oldest),
        "ongoing_restores": totals.ongoing_restores,
        "restored_objects": totals.restored_objects,
        "lifecycle_behind_seconds": None
        if lifecycle.behind_since is None
        else max(0.0, now - lifecycle.behind_since),
        "outbox_messages": totals.outbox_messages,
        "open_alerts": totals.open_alerts,
        "staging_capacity_bytes": usage.capacity_bytes,
        "staging_used_bytes": usage.used_bytes,
        "staging_reserved_bytes": usage.reserved_bytes,
    }


def object_row(version: ObjectVersion, copies: Sequence[Copy], *, wanted: int) -> Row:
    """One version of an object, or a delete marker, and where its copies lie."""
    facts = version.facts
    restore = version.restore
    return {
        "bucket": facts.bucket,
        "key": facts.key.decode(),
        "version_id": facts.version_id,
        "is_current": version.superseded_at is None,
        "is_delete_marker": version.is_marker,
        "size_bytes": facts.size_bytes,
        "storage_class": facts.storage_class.value,
        "state": version.archive_state.value,
        "on_disk": version.on_disk,
        "lock": None
        if version.lock == UNLOCKED
        else {
            "mode": None if version.lock.retention is None else version.lock.retention.mode.value,
            "retain_until": None if version.lock.retention is None else moment(version.lock.retention.until),
            "legal_hold": bool(version.lock.legal_hold),
        },
        "copies_wanted": wanted,
        "copies": [
            {
                "pool": copy.pool,
                "barcode": copy.barcode,
                "state": copy.state.value,
                "bundle": copy.bundle_id,
                "partition": copy.partition,
                "start_block": copy.start_block,
            }
            for copy in copies
        ],
        "restore": None
        if restore is None
        else {
            "phase": restore.phase.value,
            "tier": restore.tier.value,
            "requested_at": moment(restore.requested_at),
            "expires_at": moment(restore.expires_at),
        },
    }


def cartridge_row(cartridge: Cartridge) -> Row:
    """One cartridge."""
    return {
        "barcode": cartridge.barcode,
        "state": cartridge.state.value,
        "pool": cartridge.pool,
        "is_present": cartridge.is_present,
        "home_slot": cartridge.home_slot,
        "written_bytes": cartridge.written_bytes,
        "free_bytes": cartridge.free_bytes,
        "capacity_bytes": cartridge.capacity_bytes,
        "loads": cartridge.loads,
        "failures": cartridge.failures,
        "needs_check": cartridge.needs_check,
        "volume_uuid": cartridge.volume_uuid,
        "reason": cartridge.reason,
        "changed_at": moment(cartridge.changed_at),
        "changed_by": cartridge.changed_by,
    }


def drive_row(drive: Drive, activity: DriveActivity | None) -> Row:
    """One drive and what it does."""
    return {
        "drive": drive.index,
        "state": drive.state.value,
        "serial": drive.serial,
        "barcode": None if activity is None else activity.barcode,
        "is_mounted": False if activity is None else activity.is_mounted,
        "job": "look" if activity is None else activity.job,
        "step": "not looked at yet" if activity is None else activity.step,
        "detail": "" if activity is None else activity.detail,
        "done_bytes": 0 if activity is None else activity.done_bytes,
        "total_bytes": 0 if activity is None else activity.total_bytes,
        "reason": drive.reason,
    }


def bundle_row(bundle: Bundle, copies: Sequence[Copy]) -> Row:
    """One bundle and its copies."""
    return {
        "bundle": bundle.bundle_id,
        "state": bundle.state.value,
        "members": bundle.member_count,
        "size_bytes": bundle.size_bytes,
        "created_at": moment(bundle.created_at),
        "copies": [
            {
                "pool": copy.pool,
                "barcode": copy.barcode,
                "state": copy.state.value,
                "failures": copy.failures,
                "reason": copy.reason,
            }
            for copy in copies
        ],
    }


def restore_row(version: ObjectVersion) -> Row:
    """One restore that is under way."""
    restore = version.restore
    assert restore is not None, version.version_uid
    return {
        "bucket": version.facts.bucket,
        "key": version.facts.key.decode(),
        "size_bytes": version.facts.size_bytes,
        "tier": restore.tier.value,
        "days": restore.days,
        "requested_at": moment(restore.requested_at),
        "requested_by": restore.requested_by,
    }


def user_row(user: User, keys: Sequence[AccessKey]) -> Row:
    """One user, with the ids of the access keys."""
    return {
        "name": user.name,
        "user_id": user.user_id,
        "state": _state(user.disabled_at),
        "access_keys": [key.access_key for key in keys],
        "created_at": moment(user.created_at),
    }


def key_row(user: User, key: AccessKey) -> Row:
    """One access key."""
    return {
        "user": user.name,
        "access_key": key.access_key,
        "state": _state(key.disabled_at),
        "created_at": moment(key.created_at),
        "last_used_at": moment(key.last_used_at),
        "disabled_at": moment(key.disabled_at),
    }


def new_key_row(user: User, key: AccessKey, secret_key: str) -> Row:
    """An access key that was made just now, with its secret."""
    return {
        "name": user.name,
        "user_id": user.user_id,
        "access_key": key.access_key,
        "secret_key": secret_key,
        "created_at": moment(key.created_at),
    }


def _state(disabled_at: float | None) -> str:
    return "enabled" if disabled_at is None else "disabled"


def bucket_row(bucket: Bucket, owner: str) -> Row:
    """One bucket; ``owner`` is its owner's name."""
    return {
        "bucket": bucket.name,
        "owner": owner,
        "created_at": moment(bucket.created_at),
        "default_class": None if bucket.default_class is None else bucket.default_class.value,
        "restore_days_max": bucket.restore_days_max,
    }


def quota_row(standing: Standing) -> Row:
    """What a user or bucket has and may have, of each kind (null: no bound)."""
    row: Row = {}
    for kind in QuotaKind:
        unit = "_bytes" if kind.is_of_bytes else "_count"
        quota = standing.quotas.of(kind)
        if quota is None:
            quota = UNLIMITED
        row[f"{kind.value}_used{unit}"] = standing.use.of(kind)
        row[f"{kind.value}_quota{unit}"] = None if quota >= UNLIMITED else quota
        is_default = standing.own.of(kind) is None
        row[f"{kind.value}_quota"] = quota_text(kind, quota) + (" (default)" if is_default else "")
    return row


def quota_text(kind: QuotaKind, quota: int) -> str:
    """Return a quota for people."""
    if quota >= UNLIMITED:
        return "unlimited"
    return size(quota) if kind.is_of_bytes else str(quota)


def standing_row(standing: Standing) -> Row:
    """One user or bucket with its quotas; ``fullest`` is the part that is used of the quota of which most is (null: no quota)."""
    fullest = standing.fullest
    return {
        "of": standing.noun,
        "name": standing.name,
        "fullest": None if fullest is None else round(fullest, 4),
        **quota_row(standing),
    }


def alert_row(alert: Alert) -> Row:
    """One alert."""
    return {
        "id": alert.alert_id,
        "severity": alert.severity.value,
        "kind": alert.kind,
        "subject": alert.subject,
        "sentence": alert.sentence,
        "raised_at": moment(alert.raised_at),
        "last_seen_at": moment(alert.last_seen_at),
        "count": alert.count,
        "cleared_at": moment(alert.cleared_at),
    }


def audit_row(event: AuditEvent) -> Row:
    """One line of the audit trail."""
    return {
        "id": event.event_id,
        "at": moment(event.at),
        "who": event.who,
        "what": event.what,
        "subject": event.subject,
        "detail": event.detail,
    }
