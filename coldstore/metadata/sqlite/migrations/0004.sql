-- Messages about one key leave in the order in which they were written: is there an older one that waits?
CREATE INDEX messages_of_a_key ON outbox (bucket, key, message_id) WHERE dead_at IS NULL;
