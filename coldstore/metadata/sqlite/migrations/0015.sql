-- Access control lists of versions, as the header fields of their grants in JSON: null as long as it is the one that the writer gave,
-- which is among the headers; empty for one that grants nobody anything. initiator_id: who began an upload, empty for the owner.
ALTER TABLE versions ADD COLUMN acl TEXT;
ALTER TABLE uploads ADD COLUMN initiator_id TEXT NOT NULL DEFAULT '';
