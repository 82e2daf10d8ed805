-- How the bytes of an object are encrypted with a key that its owner keeps (JSON; empty: they are not), and its size as S3 shows it
-- where that is not the size of what is stored.
ALTER TABLE versions ADD COLUMN encryption TEXT NOT NULL DEFAULT '';
ALTER TABLE versions ADD COLUMN content_bytes INTEGER;
ALTER TABLE uploads ADD COLUMN encryption TEXT NOT NULL DEFAULT '';
