"""Users and the appliance itself."""

import sqlite3

from coldstore.interfaces.metadata import Conflict, StoreTotals
from coldstore.metadata.sqlite.rows import USER_COLUMNS, user_of
from coldstore.model.bundles import BundleState
from coldstore.model.objects import User


def appliance_id(connection: sqlite3.Connection) -> str:
    """Return the id that the store was given when it was new."""
    (found,) = connection.execute("SELECT appliance_id FROM store").fetchone()
    return str(found)


def take_epoch(connection: sqlite3.Connection, at: float) -> int:
    """Begin an epoch."""
    (epoch,) = connection.execute(
        "INSERT INTO epochs (began_at) VALUES (?) RETURNING epoch", (at,)
    ).fetchone()
    return int(epoch)


def create(connection: sqlite3.Connection, user: User) -> None:
    """Record a user."""
    try:
        connection.execute(
            f"INSERT INTO users ({USER_COLUMNS}) VALUES (?, ?, ?, ?, ?)",
            (user.user_id, user.name, user.access_key, user.secret_key, user.created_at),
        )
    except sqlite3.IntegrityError:
        # The key and the secret stay out of the message.
        raise Conflict(f"a user with the id, the name or the access key of {user.name} exists") from None


def by_access_key(connection: sqlite3.Connection, access_key: str) -> User | None:
    """Return who signs with this key."""
    row = connection.execute(
        f"SELECT {USER_COLUMNS} FROM users WHERE access_key = ?", (access_key,)
    ).fetchone()
    return None if row is None else user_of(row)


def everybody(connection: sqlite3.Connection) -> list[User]:
    """Return all users by name."""
    return [user_of(row) for row in connection.execute(f"SELECT {USER_COLUMNS} FROM users ORDER BY name")]


def totals(connection: sqlite3.Connection) -> StoreTotals:
    """Count everything; reads whole indexes."""

    def number(statement: str, *arguments: object) -> int:
        return int(connection.execute(statement, arguments).fetchone()[0])

    object_count, object_bytes = connection.execute(
        "SELECT count(*), coalesce(sum(size_bytes), 0) FROM versions WHERE deleted_at IS NULL"
    ).fetchone()
    return StoreTotals(
        bucket_count=number("SELECT count(*) FROM buckets WHERE is_gone = 0"),
        object_count=object_count,
        object_bytes=object_bytes,
        on_disk_bytes=number(
            "SELECT (SELECT coalesce(sum(length_bytes), 0) FROM pieces)"
            " + (SELECT coalesce(sum(length_bytes), 0) FROM discards)"
        ),
        on_tape_bytes=number(
            "SELECT coalesce(sum(content_bytes), 0) FROM bundles WHERE state = ?", BundleState.ARCHIVED.value
        ),
        ongoing_restores=number("SELECT count(*) FROM versions WHERE restore_phase = 'ongoing'"),
        restored_objects=number("SELECT count(*) FROM versions WHERE restore_phase = 'restored'"),
        outbox_messages=number("SELECT count(*) FROM outbox WHERE dead_at IS NULL"),
        open_alerts=number("SELECT count(*) FROM alerts WHERE cleared_at IS NULL"),
    )
