-- Object lock. buckets.object_lock: JSON of what versions get that come into being there; empty: the bucket takes no locks, null as a
-- default: they get none. lock_mode, retain_until: both or neither; legal_hold: 0 or 1, null while nobody has set or ended one.
-- tape_lock: JSON of the lock that the tape says a version had; empty: none. It is fixed with the plan of the bundle.
ALTER TABLE buckets ADD COLUMN object_lock TEXT NOT NULL DEFAULT '';
ALTER TABLE versions ADD COLUMN lock_mode TEXT;
ALTER TABLE versions ADD COLUMN retain_until REAL;
ALTER TABLE versions ADD COLUMN legal_hold INTEGER;
ALTER TABLE versions ADD COLUMN tape_lock TEXT NOT NULL DEFAULT '';
ALTER TABLE uploads ADD COLUMN lock_mode TEXT;
ALTER TABLE uploads ADD COLUMN retain_until REAL;
ALTER TABLE uploads ADD COLUMN legal_hold INTEGER;
-- The time by which retentions end (coldstore.plan.lock); no row as long as no bucket ever took locks.
CREATE TABLE lock_clock (
    singleton INTEGER PRIMARY KEY CHECK (singleton = 1),
    reached_at REAL NOT NULL
) STRICT;
