-- Keys of data that objects are encrypted under without a customer's (SSE-S3): not themselves, but their ids, every one that ever was.
CREATE TABLE data_keys (
    key_id TEXT PRIMARY KEY,
    since REAL NOT NULL,
    retired_at REAL,
    exported_at REAL
) STRICT, WITHOUT ROWID;
-- master_key: the id of the one that the key of a version is under (empty: of none); rewrapped_key: the version's key under it (base64; empty:
-- it is still the one in encryption, which never changes, since it is so on tape).
ALTER TABLE versions ADD COLUMN master_key TEXT NOT NULL DEFAULT '';
ALTER TABLE versions ADD COLUMN rewrapped_key TEXT NOT NULL DEFAULT '';
CREATE INDEX versions_under_data_keys ON versions (master_key, version_uid) WHERE master_key <> '';
