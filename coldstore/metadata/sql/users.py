"""Users, and the runs of the appliance."""

from collections.abc import Mapping, Sequence

from coldstore.interfaces.metadata import Conflict, Epoch, StoreTotals
from coldstore.metadata.sql import keys, policies
from coldstore.metadata.sql.database import Database, Duplicate
from coldstore.metadata.sql.rows import (
    ACCESS_KEY_COLUMNS,
    USER_COLUMNS,
    marks,
    quota_assignments,
    total,
    user_of,
)
from coldstore.model.bundles import BundleState
from coldstore.model.keys import AccessKey
from coldstore.model.objects import User
from coldstore.model.quotas import QuotaKind

OWNED_SHOWN = 5


async def take_epoch(db: Database, *, at: float, host: str) -> Epoch:
    """Begin an epoch."""
    (number,) = await db.row("INSERT INTO epochs (began_at, host) VALUES (?, ?) RETURNING epoch", (at, host))
    before = await db.row("SELECT host FROM epochs WHERE epoch < ? ORDER BY epoch DESC LIMIT 1", (number,))
    return Epoch(number=int(number), began_at=at, host=host, host_before="" if before is None else before[0])


async def newest_epoch(db: Database) -> Epoch | None:
    """Return the epoch that was begun last."""
    found = await db.rows("SELECT epoch, began_at, host FROM epochs ORDER BY epoch DESC LIMIT 2")
    if not found:
        return None
    number, began_at, host = found[0]
    return Epoch(
        number=number, began_at=began_at, host=host, host_before=found[1][2] if len(found) > 1 else ""
    )


async def hosts(db: Database) -> list[str]:
    """Return the machines of all epochs, the latest first."""
    found = await db.rows("SELECT host FROM epochs ORDER BY epoch DESC")
    return list(dict.fromkeys(host for (host,) in found if host))


async def create(db: Database, user: User, key: AccessKey) -> None:
    """Record a user with a first key."""
    row = (user.user_id, user.name, user.created_at, user.disabled_at, *user.quotas)
    try:
        await db.insert("users", USER_COLUMNS, row)
        await db.insert("access_keys", ACCESS_KEY_COLUMNS, keys.row_of(key))
    except Duplicate:
        # The key and the secret stay out of the message.
        raise Conflict(f"a user with the id, the name or the access key of {user.name} exists") from None


async def everybody(db: Database) -> list[User]:
    """Return all users by name."""
    found = await db.rows(f"SELECT {USER_COLUMNS} FROM users ORDER BY name")
    return [user_of(row) for row in found]


async def names(db: Database, user_ids: Sequence[str]) -> dict[str, str]:
    """Return the names of those users that there are, by id."""
    if not user_ids:
        return {}
    found = await db.rows(
        f"SELECT user_id, name FROM users WHERE user_id IN ({marks(user_ids)})", tuple(user_ids)
    )
    return {str(user_id): str(name) for user_id, name in found}


async def of_id(db: Database, user_id: str) -> User | None:
    """Return a user."""
    row = await db.row(f"SELECT {USER_COLUMNS} FROM users WHERE user_id = ?", (user_id,))
    return None if row is None else user_of(row)


async def set_quotas(db: Database, *, name: str, quotas: Mapping[QuotaKind, int | None]) -> User:
    """Set quotas of a user."""
    assignments, values = quota_assignments(quotas)
    row = await db.row(
        f"UPDATE users SET {assignments} WHERE name = ? RETURNING {USER_COLUMNS}", (*values, name)
    )
    if row is None:
        raise Conflict(f"there is no user {name}")
    return user_of(row)


async def set_disabled(db: Database, *, name: str, disabled_at: float | None) -> User:
    """Have a user's keys accepted or not."""
    row = await db.row(
        f"UPDATE users SET disabled_at = ? WHERE name = ? RETURNING {USER_COLUMNS}", (disabled_at, name)
    )
    if row is None:
        raise Conflict(f"there is no user {name}")
    return user_of(row)


async def delete(db: Database, name: str) -> User:
    """Forget a user who owns nothing."""
    row = await db.row(f"SELECT {USER_COLUMNS} FROM users WHERE name = ?", (name,))
    if row is None:
        raise Conflict(f"there is no user {name}")
    user = user_of(row)
    owned = await db.rows(
        "SELECT name FROM buckets WHERE owner_id = ? AND is_gone = 0 ORDER BY name LIMIT ?",
        (user.user_id, OWNED_SHOWN + 1),
    )
    if owned:
        shown = ", ".join(bucket for (bucket,) in owned[:OWNED_SHOWN])
        more = ", ..." if len(owned) > OWNED_SHOWN else ""
        raise Conflict(f"{name} owns buckets ({shown}{more}): delete them first, or disable the user")
    await keys.delete_all(db, user.user_id)
    await policies.delete_all(db, user.user_id)
    await db.do("DELETE FROM users WHERE user_id = ?", (user.user_id,))
    return user


async def totals(db: Database) -> StoreTotals:
    """Count everything; reads whole indexes."""

    async def number(statement: str, *arguments: object) -> int:
        (found,) = await db.row(statement, arguments)
        return int(found)

    sums = [
        await db.row(
            f"SELECT count(*), {total('size_bytes')} FROM versions WHERE deleted_at IS NULL AND is_shown = {shown}"
        )
        for shown in (1, 0)
    ]
    markers = await number(
        "SELECT count(*) FROM versions WHERE deleted_at IS NULL AND is_shown = 0 AND is_marker = 1"
    )
    object_count, object_bytes = map(sum, zip(*sums, strict=True))
    return StoreTotals(
        bucket_count=await number("SELECT count(*) FROM buckets WHERE is_gone = 0"),
        object_count=object_count - markers,
        object_bytes=object_bytes,
        on_disk_bytes=await number(
            f"SELECT (SELECT {total('length_bytes')} FROM pieces) + (SELECT {total('length_bytes')} FROM discards)"
        ),
        on_tape_bytes=await number(
            f"SELECT {total('content_bytes')} FROM bundles WHERE state = ?", BundleState.ARCHIVED.value
        ),
        ongoing_restores=await number("SELECT count(*) FROM versions WHERE restore_phase = 'ongoing'"),
        restored_objects=await number("SELECT count(*) FROM versions WHERE restore_phase = 'restored'"),
        outbox_messages=await number("SELECT count(*) FROM outbox WHERE dead_at IS NULL"),
        open_alerts=await number("SELECT count(*) FROM alerts WHERE cleared_at IS NULL"),
    )
