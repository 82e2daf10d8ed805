-- Several living versions of a key. versioning: '', 'Enabled' or 'Suspended'. is_marker: a delete marker, which has no bytes.
-- superseded_at: since when a newer version is current, null for the current one. is_shown: 1 for what is under its key, the
-- current version unless that is a marker; 0 for markers and for what is superseded.
ALTER TABLE buckets ADD COLUMN versioning TEXT NOT NULL DEFAULT '';
ALTER TABLE versions ADD COLUMN is_marker INTEGER NOT NULL DEFAULT 0;
ALTER TABLE versions ADD COLUMN superseded_at REAL;
ALTER TABLE versions ADD COLUMN is_shown INTEGER NOT NULL DEFAULT 1;
-- What is not shown is in indexes of its own: it costs nobody anything who asks for what is under the keys, nor do they cost anything
-- where nothing is versioned.
DROP INDEX current_versions;
CREATE UNIQUE INDEX current_versions ON versions (bucket_uid, key) WHERE deleted_at IS NULL AND is_shown = 1;
CREATE UNIQUE INDEX other_versions ON versions (bucket_uid, key, sequence DESC) WHERE deleted_at IS NULL AND is_shown = 0;
CREATE UNIQUE INDEX other_version_ids ON versions (bucket_uid, key, version_id) WHERE deleted_at IS NULL AND is_shown = 0;
