-- What a user and a bucket may have besides (coldstore.model.quotas): null for the default of the configuration.
ALTER TABLE users ADD COLUMN kept_quota_bytes bigint;
ALTER TABLE users ADD COLUMN restore_quota_bytes bigint;
ALTER TABLE users ADD COLUMN object_quota bigint;
ALTER TABLE buckets ADD COLUMN kept_quota_bytes bigint;
ALTER TABLE buckets ADD COLUMN restore_quota_bytes bigint;
ALTER TABLE buckets ADD COLUMN object_quota bigint;

-- And what it has, counted in the steps that change it, of versions that are not deleted and no markers: their sizes as S3 shows them,
-- their number, and the sizes as they are stored of those with a restore, ongoing or not yet ended.
ALTER TABLE shares ADD COLUMN kept_bytes bigint NOT NULL DEFAULT 0;
ALTER TABLE shares ADD COLUMN object_count bigint NOT NULL DEFAULT 0;
ALTER TABLE shares ADD COLUMN restore_bytes bigint NOT NULL DEFAULT 0;
UPDATE shares SET kept_bytes = counted.kept_bytes, object_count = counted.object_count, restore_bytes = counted.restore_bytes FROM (
    SELECT owner_id, bucket_uid, storage_class, sum(coalesce(content_bytes, size_bytes)) AS kept_bytes, count(*) AS object_count,
        sum(CASE WHEN restore_phase IS NULL THEN 0 ELSE size_bytes END) AS restore_bytes
    FROM versions WHERE deleted_at IS NULL AND is_marker = 0 GROUP BY owner_id, bucket_uid, storage_class
) AS counted WHERE counted.owner_id = shares.owner_id AND counted.bucket_uid = shares.bucket_uid
    AND counted.storage_class = shares.storage_class;
