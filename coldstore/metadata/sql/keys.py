"""Access keys of users, and which master keys their secrets are encrypted under."""

from collections.abc import Mapping

from coldstore.interfaces.metadata import Conflict
from coldstore.metadata.sql.database import Database, Duplicate
from coldstore.metadata.sql.rows import ACCESS_KEY_COLUMNS, QUOTAS_OF_U, access_key_of
from coldstore.model.keys import ACCESS_KEYS_MAX, AccessKey, MasterKey, SealedSigner
from coldstore.model.policies import UserPolicy
from coldstore.model.quotas import Quotas


def row_of(key: AccessKey) -> tuple[object, ...]:
    """Return a key in the order of ``ACCESS_KEY_COLUMNS``."""
    return (
        key.access_key,
        key.user_id,
        key.sealed_secret,
        key.created_at,
        key.disabled_at,
        key.last_used_at,
    )


async def signer(db: Database, access_key: str) -> SealedSigner | None:
    """Return who signs with a key that is accepted."""
    found = await db.rows(
        f"SELECT u.user_id, u.name, k.sealed_secret, p.name, p.document, {QUOTAS_OF_U} FROM access_keys k"
        " JOIN users u ON u.user_id = k.user_id LEFT JOIN user_policies p ON p.user_id = u.user_id"
        " WHERE k.access_key = ? AND k.disabled_at IS NULL AND u.disabled_at IS NULL ORDER BY p.name",
        (access_key,),
    )
    if not found:
        return None
    user_id, name, sealed_secret, _, _, *quotas = found[0]
    return SealedSigner(
        user_id=user_id,
        name=name,
        access_key=access_key,
        sealed_secret=sealed_secret,
        quotas=Quotas(*quotas),
        policies=tuple(UserPolicy(row[3], row[4]) for row in found if row[3] is not None),
    )


async def of_user(db: Database, user_id: str) -> list[AccessKey]:
    """Return a user's keys, the oldest first."""
    found = await db.rows(
        f"SELECT {ACCESS_KEY_COLUMNS} FROM access_keys WHERE user_id = ? ORDER BY created_at, access_key",
        (user_id,),
    )
    return [access_key_of(row) for row in found]


async def listed(db: Database, *, after: str, limit: int) -> list[AccessKey]:
    """Return keys of everybody in the order of their ids."""
    found = await db.rows(
        f"SELECT {ACCESS_KEY_COLUMNS} FROM access_keys WHERE access_key > ? ORDER BY access_key LIMIT ?",
        (after, limit),
    )
    return [access_key_of(row) for row in found]


async def add(db: Database, key: AccessKey) -> None:
    """Give a user one more key."""
    (is_there,) = await db.row("SELECT count(*) FROM users WHERE user_id = ?", (key.user_id,))
    if not is_there:
        raise Conflict("there is no such user any more")
    (count,) = await db.row("SELECT count(*) FROM access_keys WHERE user_id = ?", (key.user_id,))
    if count >= ACCESS_KEYS_MAX:
        raise Conflict(f"a user may have {ACCESS_KEYS_MAX} access keys at once: delete one first")
    try:
        await db.insert("access_keys", ACCESS_KEY_COLUMNS, row_of(key))
    except Duplicate:
        raise Conflict("an access key with this id exists") from None


async def set_disabled(db: Database, *, access_key: str, disabled_at: float | None) -> AccessKey:
    """Have a key accepted or not."""
    row = await db.row(
        f"UPDATE access_keys SET disabled_at = ? WHERE access_key = ? RETURNING {ACCESS_KEY_COLUMNS}",
        (disabled_at, access_key),
    )
    if row is None:
        raise Conflict(f"there is no access key {access_key}")
    return access_key_of(row)


async def delete(db: Database, access_key: str) -> AccessKey:
    """Forget a key that is disabled."""
    row = await db.row(f"SELECT {ACCESS_KEY_COLUMNS} FROM access_keys WHERE access_key = ?", (access_key,))
    if row is None:
        raise Conflict(f"there is no access key {access_key}")
    key = access_key_of(row)
    if key.disabled_at is None:
        raise Conflict(f"{access_key} is in use: disable it first, and delete it when nobody misses it")
    await db.do("DELETE FROM access_keys WHERE access_key = ?", (access_key,))
    await db.do("DELETE FROM plain_secrets WHERE access_key = ?", (access_key,))
    return key


async def delete_all(db: Database, user_id: str) -> None:
    """Forget all keys of a user."""
    await db.do(
        "DELETE FROM plain_secrets WHERE access_key IN (SELECT access_key FROM access_keys WHERE user_id = ?)",
        (user_id,),
    )
    await db.do("DELETE FROM access_keys WHERE user_id = ?", (user_id,))


async def note_uses(db: Database, uses: Mapping[str, float]) -> None:
    """Record when keys were used last."""
    for access_key, used_at in sorted(uses.items()):
        await db.do(
            "UPDATE access_keys SET last_used_at = ? WHERE access_key = ?"
            " AND (last_used_at IS NULL OR last_used_at < ?)",
            (used_at, access_key, used_at),
        )


# ── encryption ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def plain_secrets(db: Database, *, after: str, limit: int) -> dict[str, str]:
    """Return secrets that are in the clear, by access key."""
    found = await db.rows(
        "SELECT access_key, secret_key FROM plain_secrets WHERE access_key > ? ORDER BY access_key LIMIT ?",
        (after, limit),
    )
    return dict(found)


async def seal(db: Database, sealed: Mapping[str, tuple[str, str]]) -> None:
    """Put other sealed secrets in the place of those that are there, by access key: what is expected there, and what is new."""
    for access_key, (before, after) in sorted(sealed.items()):
        await db.do(
            "UPDATE access_keys SET sealed_secret = ? WHERE access_key = ? AND sealed_secret = ?",
            (after, access_key, before),
        )


async def forget_plain(db: Database, limit: int) -> bool:
    """Erase secrets in the clear; return whether some are left."""
    found = await db.rows("SELECT access_key FROM plain_secrets ORDER BY access_key LIMIT ?", (limit,))
    sealed = await db.rows_of_each("SELECT sealed_secret FROM access_keys WHERE access_key = ?", found)
    if [("",)] in sealed:
        raise Conflict("the secrets of access keys are not all encrypted yet")
    overwriting = db.dialect.overwriting
    if overwriting:
        await db.do(overwriting.format("ON"))
    for row in found:
        await db.do("DELETE FROM plain_secrets WHERE access_key = ?", row)
    if overwriting:
        await db.do(overwriting.format("OFF"))
    return len(found) == limit


async def master_keys(db: Database) -> list[MasterKey]:
    """Return the master keys in use, the oldest first."""
    found = await db.rows("SELECT check_value, since FROM master_keys ORDER BY since, check_value")
    return [MasterKey(check_value=check_value, since=since) for check_value, since in found]


async def add_master_key(db: Database, key: MasterKey) -> None:
    """Record a master key, unless it is known."""
    if await db.row("SELECT 1 FROM master_keys WHERE check_value = ?", (key.check_value,)) is None:
        await db.insert("master_keys", "check_value, since", (key.check_value, key.since))


async def forget_master_key(db: Database, check_value: str) -> None:
    """Forget a master key."""
    await db.do("DELETE FROM master_keys WHERE check_value = ?", (check_value,))
