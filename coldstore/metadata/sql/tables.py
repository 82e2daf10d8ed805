"""
What a store consists of: the tables that hold the truth, as every database has them.

What is dumped, restored and moved from one database to another are the rows of these tables. What a database keeps for itself (its
ledger of migrations, its fence against a second writer) is none of them, and neither is an index.
"""

from dataclasses import dataclass, field
from enum import StrEnum

ARRIVING_FROM, MOVED_TO = "arriving_from", "moved_to"
"""Columns of ``store`` that say of a database where the truth is: they stay with it, and do not travel with its rows."""


class Kind(StrEnum):
    """What a column holds: whole numbers of 64 bits with a sign, floating point numbers, text, or any bytes."""

    INTEGER = "integer"
    REAL = "real"
    TEXT = "text"
    BYTES = "bytes"


@dataclass(frozen=True, slots=True)
class Column:
    """One column."""

    name: str
    kind: Kind
    nullable: bool = False


ROWS_MAX = 10_000
"""How many rows of a table may be held in memory at once, if nothing else is said: most weigh some hundred bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """
    One table.

    :ivar key: the columns of its primary key, in the order in which rows are read page by page
    :ivar identity: the column that the database numbers by itself when a row is inserted without it. Whoever inserts rows that
        have their numbers sees to it that the database goes on behind the greatest.
    :ivar rows_max: how many rows may be held in memory at once
    """

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    identity: str | None = None
    rows_max: int = field(default=ROWS_MAX, compare=False)

    @property
    def column_names(self) -> tuple[str, ...]:
        """The names of the columns, in order."""
        return tuple(column.name for column in self.columns)

    @property
    def key_places(self) -> tuple[int, ...]:
        """Where in a row the columns of the key are."""
        names = self.column_names
        return tuple(names.index(name) for name in self.key)


def _table(
    name: str, columns: str, *, key: str, identity: str | None = None, rows_max: int = ROWS_MAX
) -> Table:
    """Make a table; a column is written as its name and its kind, with ``?`` behind it when it may be null."""
    return Table(
        name=name,
        columns=tuple(_column(*text.split()) for text in columns.split(",")),
        key=tuple(key.split(", ")),
        identity=identity,
        rows_max=rows_max,
    )


def _column(name: str, kind: str) -> Column:
    return Column(name, Kind(kind.removesuffix("?")), kind.endswith("?"))


TABLES = (
    _table(
        "store",
        "singleton integer, appliance_id text, last_version integer, arriving_from text, moved_to text",
        key="singleton",
    ),
    _table("epochs", "epoch integer, began_at real, host text", key="epoch", identity="epoch"),
    _table(
        "users",
        "user_id text, name text, created_at real, staging_quota_bytes integer?, disabled_at real?, kept_quota_bytes integer?,"
        "restore_quota_bytes integer?, object_quota integer?",
        key="user_id",
    ),
    _table(
        "access_keys",
        "access_key text, user_id text, sealed_secret text, created_at real, disabled_at real?, last_used_at real?",
        key="access_key",
    ),
    _table("user_policies", "user_id text, name text, document text", key="user_id, name", rows_max=1_000),
    _table("plain_secrets", "access_key text, secret_key text", key="access_key"),
    _table("master_keys", "check_value text, since real", key="check_value"),
    _table("data_keys", "key_id text, since real, retired_at real?, exported_at real?", key="key_id"),
    _table(
        "buckets",
        "bucket_uid integer, name text, owner_id text, region text, created_at real, default_class text?, is_gone integer,"
        "staging_quota_bytes integer?, versioning text, tags text, restore_days_max integer?,"
        "configurations text, object_lock text, current_through real?, noncurrent_through real?,"
        "kept_quota_bytes integer?, restore_quota_bytes integer?, object_quota integer?",
        key="bucket_uid",
        identity="bucket_uid",
    ),
    # Of up to a megabyte each.
    _table(
        "bucket_configurations",
        "bucket_uid integer, kind text, revision integer, document text",
        key="bucket_uid, kind",
        rows_max=50,
    ),
    _table(
        "shares",
        "share_uid integer, owner_id text, bucket_uid integer, storage_class text, used_bytes integer, promised_bytes integer,"
        "kept_bytes integer, object_count integer, restore_bytes integer",
        key="share_uid",
        identity="share_uid",
    ),
    _table(
        "layouts",
        "layout_id text, state text, listed text, leftovers_after integer?, share_uid integer?",
        key="layout_id",
    ),
    _table(
        "pieces",
        "layout_id text, ordinal integer, address text, length_bytes integer, crc64nvme integer, etag text,"
        "checksum_algorithm text?, checksum_value text?, checksum_kind text?, created_at real",
        key="layout_id, ordinal",
    ),
    _table(
        "discards",
        "discard_id integer, address text, length_bytes integer",
        key="discard_id",
        identity="discard_id",
    ),
    _table(
        "versions",
        "version_uid integer, sequence integer, bucket_uid integer, key bytes, version_id text, size_bytes integer, etag text,"
        "storage_class text, headers text, user_metadata text, checksum_algorithm text?, checksum_value text?,"
        "checksum_kind text?, crc64nvme integer, part_sizes text, created_at real, owner_id text, upload_id text?,"
        "layout_id text, on_disk integer, archive_state text, archived_at real?, restore_phase text?, restore_tier text?,"
        "restore_days integer?, restore_requested_at real?, restore_expires_at real?, restore_requested_by text?,"
        "recall_layout_id text?, last_read_at real, read_count integer, deleted_at real?, disposal text?, revision integer,"
        "is_marker integer, superseded_at real?, is_shown integer, tags text?, encryption text, content_bytes integer?,"
        "lock_mode text?, retain_until real?, legal_hold integer?, tape_lock text, archived_class text?, transition_class text?,"
        "acl text?, master_key text, rewrapped_key text",
        key="version_uid",
    ),
    # Of ten thousand parts each: up to a megabyte.
    _table("part_digests", "version_uid integer, content bytes", key="version_uid", rows_max=50),
    _table("backlogs", "storage_class text, object_count integer, size_bytes integer", key="storage_class"),
    _table(
        "uploads",
        "upload_id text, bucket_uid integer, key bytes, owner_id text, storage_class text, headers text, user_metadata text,"
        "checksum_algorithm text, checksum_kind text?, created_at real, revision integer, encryption text,"
        "lock_mode text?, retain_until real?, legal_hold integer?, initiator_id text",
        key="upload_id",
    ),
    _table(
        "lifecycle_ranges",
        "bucket_uid integer, range_id text, subject text, through_at real, through_uid integer",
        key="bucket_uid, range_id",
    ),
    _table(
        "lifecycle_reviews",
        "review_id integer, bucket_uid integer, version_uid integer, look_at real, reason text",
        key="review_id",
        identity="review_id",
    ),
    _table(
        "bundles",
        "bundle_id text, state text, pools text, created_at real, epoch integer, member_count integer, size_bytes integer,"
        "content_bytes integer, sha256 text, is_settled integer",
        key="bundle_id",
    ),
    _table(
        "members",
        "bundle_id text, position integer, version_uid integer, extent integer, extent_count integer,"
        "object_offset_bytes integer, length_bytes integer, crc64nvme integer, bundle_offset_bytes integer",
        key="bundle_id, position",
    ),
    _table(
        "copies",
        "bundle_id text, pool text, state text, barcode text?, partition text, start_block integer, epoch integer,"
        "session_id text, synced_at real?, verified_at real?, failures integer, reason text",
        key="bundle_id, pool",
    ),
    _table(
        "cartridges",
        "barcode text, state text, pool text, volume_uuid text, home_slot integer?, is_present integer, capacity_bytes integer,"
        "free_bytes integer, written_bytes integer, loads integer, failures integer, needs_check integer, format_nonce text,"
        "admitted_at real?, admitted_by text, reason text, changed_at real, changed_by text, revision integer",
        key="barcode",
    ),
    _table(
        "drives",
        "element integer, serial text, state text, reason text, failures integer, changed_at real, changed_by text, host text",
        key="element",
    ),
    _table("lock_clock", "singleton integer, reached_at real", key="singleton"),
    _table(
        "outbox",
        "message_id integer, event text, bucket text, key bytes, body text, created_at real, attempts integer,"
        "next_attempt_at real, last_error text, dead_at real?",
        key="message_id",
        identity="message_id",
    ),
    _table(
        "alerts",
        "alert_id integer, kind text, subject text, severity text, sentence text, raised_at real, last_seen_at real,"
        "count integer, cleared_at real?",
        key="alert_id",
        identity="alert_id",
    ),
    _table(
        "audit_events",
        "event_id integer, at real, who text, what text, subject text, detail text",
        key="event_id",
        identity="event_id",
    ),
)
"""All of them, each behind those that its rows refer to: rows are loaded in this order, and deleted in the opposite one."""

BY_NAME = {table.name: table for table in TABLES}
