-- The store itself. last_version numbers versions and publications; it never goes back.
CREATE TABLE store (
    singleton INTEGER PRIMARY KEY CHECK (singleton = 1),
    appliance_id TEXT NOT NULL,
    last_version INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE epochs (
    epoch INTEGER PRIMARY KEY AUTOINCREMENT,
    began_at REAL NOT NULL
) STRICT;

CREATE TABLE users (
    user_id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    access_key TEXT NOT NULL UNIQUE,
    secret_key TEXT NOT NULL,
    created_at REAL NOT NULL
) STRICT, WITHOUT ROWID;

-- A bucket that is gone stays as long as a version or an upload refers to it; its name is free at once.
CREATE TABLE buckets (
    bucket_uid INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    owner_id TEXT NOT NULL,
    region TEXT NOT NULL,
    created_at REAL NOT NULL,
    default_class TEXT,
    is_gone INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE UNIQUE INDEX bucket_names ON buckets (name) WHERE is_gone = 0;
CREATE INDEX gone_buckets ON buckets (bucket_uid) WHERE is_gone = 1;

-- A layout is a list of pieces. state: open (an upload's parts), live (a version's bytes), recalling (what a recall has
-- brought so far), doomed (nobody's). listed: run-length text of the ordinals that count, empty for all of them.
-- leftovers_after: the ordinal up to which unlisted pieces were discarded, null when none is left.
CREATE TABLE layouts (
    layout_id TEXT PRIMARY KEY,
    state TEXT NOT NULL CHECK (state IN ('open', 'live', 'recalling', 'doomed')),
    listed TEXT NOT NULL DEFAULT '',
    leftovers_after INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX doomed_layouts ON layouts (layout_id) WHERE state = 'doomed';
CREATE INDEX untidy_layouts ON layouts (layout_id) WHERE leftovers_after IS NOT NULL;

CREATE TABLE pieces (
    layout_id TEXT NOT NULL REFERENCES layouts (layout_id),
    ordinal INTEGER NOT NULL,
    address TEXT NOT NULL UNIQUE,
    length_bytes INTEGER NOT NULL,
    crc64nvme INTEGER NOT NULL,
    etag TEXT NOT NULL,
    checksum_algorithm TEXT,
    checksum_value TEXT,
    checksum_kind TEXT,
    created_at REAL NOT NULL,
    PRIMARY KEY (layout_id, ordinal)
) STRICT, WITHOUT ROWID;

CREATE TABLE discards (
    discard_id INTEGER PRIMARY KEY AUTOINCREMENT,
    address TEXT NOT NULL UNIQUE,
    length_bytes INTEGER NOT NULL
) STRICT;

-- disposal: null (living, or nothing left to dispose of), 'pinned' (deleted, an unsettled bundle needs the bytes),
-- 'due' (deleted, the bytes may go). No foreign key to buckets: a partial index cannot serve its check.
CREATE TABLE versions (
    version_uid INTEGER PRIMARY KEY,
    sequence INTEGER NOT NULL,
    bucket_uid INTEGER NOT NULL,
    key BLOB NOT NULL,
    version_id TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    etag TEXT NOT NULL,
    storage_class TEXT NOT NULL,
    headers TEXT NOT NULL,
    user_metadata TEXT NOT NULL,
    checksum_algorithm TEXT,
    checksum_value TEXT,
    checksum_kind TEXT,
    crc64nvme INTEGER NOT NULL,
    part_sizes TEXT NOT NULL,
    created_at REAL NOT NULL,
    owner_id TEXT NOT NULL,
    upload_id TEXT,
    layout_id TEXT NOT NULL,
    on_disk INTEGER NOT NULL DEFAULT 1,
    archive_state TEXT NOT NULL,
    archived_at REAL,
    restore_phase TEXT,
    restore_tier TEXT,
    restore_days INTEGER,
    restore_requested_at REAL,
    restore_expires_at REAL,
    restore_requested_by TEXT,
    recall_layout_id TEXT,
    last_read_at REAL NOT NULL DEFAULT 0,
    read_count INTEGER NOT NULL DEFAULT 0,
    deleted_at REAL,
    disposal TEXT CHECK (disposal IN ('pinned', 'due')),
    revision INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE UNIQUE INDEX current_versions ON versions (bucket_uid, key) WHERE deleted_at IS NULL;
CREATE INDEX deleted_versions ON versions (bucket_uid) WHERE deleted_at IS NOT NULL;
CREATE INDEX due_versions ON versions (version_uid) WHERE disposal = 'due';
CREATE INDEX pending_versions ON versions (storage_class, sequence)
    WHERE archive_state = 'pending' AND deleted_at IS NULL;
CREATE INDEX backlog_ages ON versions (storage_class, created_at)
    WHERE archive_state IN ('pending', 'claimed') AND deleted_at IS NULL;
CREATE INDEX evictable_versions ON versions (storage_class, max(archived_at, last_read_at), version_uid)
    WHERE archive_state = 'archived' AND on_disk = 1 AND restore_phase IS NULL AND deleted_at IS NULL AND size_bytes > 0;
CREATE INDEX ongoing_restores ON versions (on_disk, restore_requested_at, version_uid) WHERE restore_phase = 'ongoing';
CREATE INDEX recalled_versions ON versions (version_uid) WHERE restore_phase = 'ongoing' AND on_disk = 0;
CREATE INDEX expiring_restores ON versions (restore_expires_at, version_uid) WHERE restore_phase = 'restored';

CREATE TABLE backlogs (
    storage_class TEXT PRIMARY KEY,
    object_count INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- revision grows with every part, so that a completion can tell that what it read is still so.
CREATE TABLE uploads (
    upload_id TEXT PRIMARY KEY REFERENCES layouts (layout_id),
    bucket_uid INTEGER NOT NULL REFERENCES buckets (bucket_uid),
    key BLOB NOT NULL,
    owner_id TEXT NOT NULL,
    storage_class TEXT NOT NULL,
    headers TEXT NOT NULL,
    user_metadata TEXT NOT NULL,
    checksum_algorithm TEXT NOT NULL,
    checksum_kind TEXT,
    created_at REAL NOT NULL,
    revision INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX uploads_by_key ON uploads (bucket_uid, key, upload_id);

CREATE TABLE bundles (
    bundle_id TEXT PRIMARY KEY,
    state TEXT NOT NULL,
    pools TEXT NOT NULL,
    created_at REAL NOT NULL,
    epoch INTEGER NOT NULL,
    member_count INTEGER NOT NULL DEFAULT 0,
    size_bytes INTEGER NOT NULL DEFAULT 0,
    content_bytes INTEGER NOT NULL DEFAULT 0,
    sha256 TEXT NOT NULL DEFAULT '',
    is_settled INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE INDEX bundles_by_state ON bundles (state, is_settled, bundle_id);

CREATE TABLE members (
    bundle_id TEXT NOT NULL REFERENCES bundles (bundle_id),
    position INTEGER NOT NULL,
    version_uid INTEGER NOT NULL REFERENCES versions (version_uid),
    extent INTEGER NOT NULL,
    extent_count INTEGER NOT NULL,
    object_offset_bytes INTEGER NOT NULL,
    length_bytes INTEGER NOT NULL,
    crc64nvme INTEGER NOT NULL,
    bundle_offset_bytes INTEGER NOT NULL,
    PRIMARY KEY (bundle_id, position),
    UNIQUE (version_uid, extent)
) STRICT, WITHOUT ROWID;

CREATE TABLE copies (
    bundle_id TEXT NOT NULL REFERENCES bundles (bundle_id),
    pool TEXT NOT NULL,
    state TEXT NOT NULL,
    barcode TEXT,
    partition TEXT NOT NULL DEFAULT '',
    start_block INTEGER NOT NULL DEFAULT 0,
    epoch INTEGER NOT NULL,
    session_id TEXT NOT NULL DEFAULT '',
    synced_at REAL,
    verified_at REAL,
    failures INTEGER NOT NULL DEFAULT 0,
    reason TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (bundle_id, pool)
) STRICT, WITHOUT ROWID;
CREATE INDEX copies_by_barcode ON copies (barcode, bundle_id);
CREATE INDEX unmanifested_copies ON copies (barcode, bundle_id)
    WHERE session_id = '' AND state IN ('synced', 'verified');
CREATE INDEX unfinished_copies ON copies (bundle_id, pool) WHERE state IN ('planned', 'writing', 'synced');

CREATE TABLE cartridges (
    barcode TEXT PRIMARY KEY,
    state TEXT NOT NULL,
    pool TEXT NOT NULL,
    volume_uuid TEXT NOT NULL,
    home_slot INTEGER,
    is_present INTEGER NOT NULL,
    capacity_bytes INTEGER NOT NULL,
    free_bytes INTEGER NOT NULL,
    written_bytes INTEGER NOT NULL,
    loads INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    needs_check INTEGER NOT NULL,
    format_nonce TEXT NOT NULL,
    admitted_at REAL,
    admitted_by TEXT NOT NULL,
    reason TEXT NOT NULL,
    changed_at REAL NOT NULL,
    changed_by TEXT NOT NULL,
    revision INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- element: the drive's number in the library ("index" is a word of SQL).
CREATE TABLE drives (
    element INTEGER PRIMARY KEY,
    serial TEXT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT NOT NULL,
    failures INTEGER NOT NULL,
    changed_at REAL NOT NULL,
    changed_by TEXT NOT NULL
) STRICT;

CREATE TABLE outbox (
    message_id INTEGER PRIMARY KEY AUTOINCREMENT,
    event TEXT NOT NULL,
    bucket TEXT NOT NULL,
    key BLOB NOT NULL,
    body TEXT NOT NULL,
    created_at REAL NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    next_attempt_at REAL NOT NULL,
    last_error TEXT NOT NULL DEFAULT '',
    dead_at REAL
) STRICT;
CREATE INDEX due_messages ON outbox (next_attempt_at, message_id) WHERE dead_at IS NULL;

CREATE TABLE alerts (
    alert_id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    severity TEXT NOT NULL,
    sentence TEXT NOT NULL,
    raised_at REAL NOT NULL,
    last_seen_at REAL NOT NULL,
    count INTEGER NOT NULL,
    cleared_at REAL
) STRICT;
CREATE UNIQUE INDEX open_alerts ON alerts (kind, subject) WHERE cleared_at IS NULL;

CREATE TABLE audit_events (
    event_id INTEGER PRIMARY KEY AUTOINCREMENT,
    at REAL NOT NULL,
    who TEXT NOT NULL,
    what TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail TEXT NOT NULL
) STRICT;
