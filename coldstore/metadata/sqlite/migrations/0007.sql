-- Tags, as names and values in JSON. Of a version: null as long as it has those that its writer gave, which are among its headers.
ALTER TABLE versions ADD COLUMN tags TEXT;
ALTER TABLE buckets ADD COLUMN tags TEXT NOT NULL DEFAULT '';
-- The most days that a restore may be asked for; null: the default of the configuration.
ALTER TABLE buckets ADD COLUMN restore_days_max INTEGER;
-- The digests of the parts of an object, one behind the other in the order of the parts, each as long as the algorithm of the object's
-- checksum makes it. Not in versions: ten thousand SHA-512 take 640,000 bytes, which would be read and written with every change of a row.
CREATE TABLE part_digests (
    version_uid INTEGER PRIMARY KEY,
    content BLOB NOT NULL
) STRICT;
