-- Tags, as names and values in JSON. Of a version: null as long as it has those that its writer gave, which are among its headers.
ALTER TABLE versions ADD COLUMN tags text COLLATE "C";
ALTER TABLE buckets ADD COLUMN tags text COLLATE "C" NOT NULL DEFAULT '';
-- The most days that a restore may be asked for; null: the default of the configuration.
ALTER TABLE buckets ADD COLUMN restore_days_max bigint;
-- The digests of the parts of an object, one behind the other in the order of the parts, each as long as the algorithm of the object's
-- checksum makes it. They cannot be compressed; left as they are, a part of them is read without the rest.
CREATE TABLE part_digests (
    version_uid bigint PRIMARY KEY,
    content bytea NOT NULL
);
ALTER TABLE part_digests ALTER COLUMN content SET STORAGE EXTERNAL;
