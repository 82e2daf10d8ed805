-- What a user may have on the staging disk, and what a bucket may: null for the default of the configuration.
ALTER TABLE users ADD COLUMN staging_quota_bytes INTEGER;
ALTER TABLE buckets ADD COLUMN staging_quota_bytes INTEGER;

-- What lies on the disk for an owner in a bucket with a class, kept in the steps that change it: used_bytes is the length
-- of the pieces of its layouts, promised_bytes the size of what ongoing restores will bring. A layout counts as long as it
-- has pieces, whether or not its version was deleted; one that a recall fills counts once the recall is complete. No
-- foreign keys: shares go with their bucket, and layouts without pieces may outlive both.
CREATE TABLE shares (
    share_uid INTEGER PRIMARY KEY,
    owner_id TEXT NOT NULL,
    bucket_uid INTEGER NOT NULL,
    storage_class TEXT NOT NULL,
    used_bytes INTEGER NOT NULL DEFAULT 0,
    promised_bytes INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE UNIQUE INDEX shares_of_owners ON shares (owner_id, bucket_uid, storage_class);
CREATE INDEX shares_of_buckets ON shares (bucket_uid);
ALTER TABLE layouts ADD COLUMN share_uid INTEGER;

INSERT INTO shares (owner_id, bucket_uid, storage_class)
    SELECT owner_id, bucket_uid, storage_class FROM versions
    UNION SELECT owner_id, bucket_uid, storage_class FROM uploads;
UPDATE layouts SET share_uid = shares.share_uid FROM versions JOIN shares USING (owner_id, bucket_uid, storage_class)
    WHERE layouts.layout_id = versions.layout_id;
UPDATE layouts SET share_uid = shares.share_uid FROM uploads JOIN shares USING (owner_id, bucket_uid, storage_class)
    WHERE layouts.layout_id = uploads.upload_id;
UPDATE shares SET used_bytes = counted.length_bytes FROM (
    SELECT share_uid, sum(length_bytes) AS length_bytes FROM layouts JOIN pieces USING (layout_id) GROUP BY share_uid
) AS counted WHERE counted.share_uid = shares.share_uid;
UPDATE shares SET promised_bytes = counted.size_bytes FROM (
    SELECT owner_id, bucket_uid, storage_class, sum(size_bytes) AS size_bytes FROM versions
    WHERE restore_phase = 'ongoing' AND on_disk = 0 GROUP BY owner_id, bucket_uid, storage_class
) AS counted WHERE counted.owner_id = shares.owner_id AND counted.bucket_uid = shares.bucket_uid
    AND counted.storage_class = shares.storage_class;
