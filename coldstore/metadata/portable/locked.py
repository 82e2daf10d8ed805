"""
What is under lock in a store that is to be emptied: its record would go with the others, and then its bytes.

Nobody is asked whether he means it: a retention of mode COMPLIANCE binds operators as well. Who has lost a store, or gives it up, fills another one.
"""

from coldstore.metadata.portable.stores import Key, Snapshot
from coldstore.metadata.sql.rows import lock_of
from coldstore.metadata.sql.tables import BY_NAME
from coldstore.model.locks import UNLOCKED
from coldstore.plan.lock import is_protected, lock_time

PAGE_ROWS = 2_000


async def protected_count(snapshot: Snapshot, *, now: float) -> int:
    """Return how many versions are under lock. Quick where nothing was ever locked; else every version is looked at."""
    clock, versions = BY_NAME["lock_clock"], BY_NAME["versions"]
    tables = {table.name for table in snapshot.tables}
    clocks = await snapshot.page(clock, None, 1) if clock.name in tables else []
    if not clocks:
        return 0
    (reached_at,) = (row[clock.column_names.index("reached_at")] for row in clocks)
    at = lock_time(now, reached_at)
    names = versions.column_names
    *places, deleted_at = (
        names.index(name) for name in ("lock_mode", "retain_until", "legal_hold", "deleted_at")
    )
    count = 0
    after: Key | None = None
    while page := await snapshot.page(versions, after, PAGE_ROWS):
        for row in page:
            lock = lock_of(*(row[place] for place in places))
            count += lock is not UNLOCKED and row[deleted_at] is None and is_protected(lock, at)
        after = tuple(page[-1][place] for place in versions.key_places)
    return count
