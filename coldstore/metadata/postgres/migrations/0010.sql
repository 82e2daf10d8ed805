-- What is configured of a bucket, a document of each kind (coldstore.model.configurations). configurations: which there are, as kinds
-- and revisions in JSON, empty for none, so that who reads the bucket's row need not ask for those that it has not.
ALTER TABLE buckets ADD COLUMN configurations text COLLATE "C" NOT NULL DEFAULT '';
CREATE TABLE bucket_configurations (
    bucket_uid bigint NOT NULL REFERENCES buckets (bucket_uid),
    kind text COLLATE "C" NOT NULL,
    revision bigint NOT NULL,
    document text COLLATE "C" NOT NULL,
    PRIMARY KEY (bucket_uid, kind)
);
CREATE INDEX configured_buckets ON bucket_configurations (kind, bucket_uid);
