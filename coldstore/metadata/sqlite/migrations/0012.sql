-- What lifecycle rules do (coldstore.model.due). A range is one action of a rule: how far it was gone through, in the order of its times.
CREATE TABLE lifecycle_ranges (
    bucket_uid INTEGER NOT NULL,
    range_id TEXT NOT NULL,
    subject TEXT NOT NULL,
    through_at REAL NOT NULL,
    through_uid INTEGER NOT NULL,
    PRIMARY KEY (bucket_uid, range_id)
) STRICT, WITHOUT ROWID;

-- Versions that are to be looked at beside the ranges, and from when on. No foreign keys: what is gone by then is passed over.
CREATE TABLE lifecycle_reviews (
    review_id INTEGER PRIMARY KEY AUTOINCREMENT,
    bucket_uid INTEGER NOT NULL,
    version_uid INTEGER NOT NULL,
    look_at REAL NOT NULL,
    reason TEXT NOT NULL
) STRICT;
CREATE INDEX due_reviews ON lifecycle_reviews (look_at, review_id);
CREATE INDEX reviews_of_versions ON lifecycle_reviews (version_uid);

-- Up to which times ranges were gone through, of what is current and of what is not: what gets such a time later is to be looked at by
-- itself. Null where no range is: then nothing that happens to versions is of interest.
ALTER TABLE buckets ADD COLUMN current_through REAL;
ALTER TABLE buckets ADD COLUMN noncurrent_through REAL;

CREATE INDEX current_by_age ON versions (bucket_uid, created_at, version_uid) WHERE deleted_at IS NULL AND is_shown = 1;
CREATE INDEX noncurrent_by_age ON versions (bucket_uid, superseded_at, version_uid)
    WHERE deleted_at IS NULL AND is_shown = 0 AND superseded_at IS NOT NULL;
CREATE INDEX markers_by_age ON versions (bucket_uid, created_at, version_uid)
    WHERE deleted_at IS NULL AND is_shown = 0 AND superseded_at IS NULL;
CREATE INDEX uploads_by_age ON uploads (bucket_uid, created_at, upload_id);

-- The class that bundles have of a version, where it is not the one that it has now: what is on tape does not change.
ALTER TABLE versions ADD COLUMN archived_class TEXT;

-- The class to which a version goes that has no copies on tape, and gets them first: it is archived as that class asks for.
ALTER TABLE versions ADD COLUMN transition_class TEXT;
DROP INDEX pending_versions;
CREATE INDEX pending_versions ON versions (coalesce(transition_class, storage_class), sequence)
    WHERE archive_state = 'pending' AND deleted_at IS NULL;
DROP INDEX backlog_ages;
CREATE INDEX backlog_ages ON versions (coalesce(transition_class, storage_class), created_at)
    WHERE archive_state IN ('pending', 'claimed') AND deleted_at IS NULL;
