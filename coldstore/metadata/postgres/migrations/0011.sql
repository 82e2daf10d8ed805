-- Object lock. buckets.object_lock: JSON of what versions get that come into being there; empty: the bucket takes no locks, null as a
-- default: they get none. lock_mode, retain_until: both or neither; legal_hold: 0 or 1, null while nobody has set or ended one.
-- tape_lock: JSON of the lock that the tape says a version had; empty: none. It is fixed with the plan of the bundle.
ALTER TABLE buckets ADD COLUMN object_lock text COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE versions ADD COLUMN lock_mode text COLLATE "C";
ALTER TABLE versions ADD COLUMN retain_until double precision;
ALTER TABLE versions ADD COLUMN legal_hold bigint;
ALTER TABLE versions ADD COLUMN tape_lock text COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE uploads ADD COLUMN lock_mode text COLLATE "C";
ALTER TABLE uploads ADD COLUMN retain_until double precision;
ALTER TABLE uploads ADD COLUMN legal_hold bigint;
-- The time by which retentions end (coldstore.plan.lock); no row as long as no bucket ever took locks.
CREATE TABLE lock_clock (
    singleton bigint PRIMARY KEY CHECK (singleton = 1),
    reached_at double precision NOT NULL
);
