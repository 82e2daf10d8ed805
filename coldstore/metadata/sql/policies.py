"""Policies of users."""

from coldstore.interfaces.metadata import Conflict
from coldstore.metadata.sql.database import Database
from coldstore.model.policies import POLICIES_MAX, UserPolicy


async def of_user(db: Database, user_id: str) -> list[UserPolicy]:
    """Return a user's policies by name."""
    found = await db.rows(
        "SELECT name, document FROM user_policies WHERE user_id = ? ORDER BY name", (user_id,)
    )
    return [UserPolicy(name=name, document=document) for name, document in found]


async def put(db: Database, *, user_name: str, policy: UserPolicy) -> None:
    """Give a user a policy."""
    user_id = await _id_of(db, user_name)
    await db.do("DELETE FROM user_policies WHERE user_id = ? AND name = ?", (user_id, policy.name))
    (count,) = await db.row("SELECT count(*) FROM user_policies WHERE user_id = ?", (user_id,))
    if count >= POLICIES_MAX:
        raise Conflict(f"a user may have {POLICIES_MAX} policies at once: remove one first")
    await db.insert("user_policies", "user_id, name, document", (user_id, policy.name, policy.document))


async def remove(db: Database, *, user_name: str, policy_name: str) -> None:
    """Take a policy from a user."""
    user_id = await _id_of(db, user_name)
    gone = await db.change("DELETE FROM user_policies WHERE user_id = ? AND name = ?", (user_id, policy_name))
    if gone == 0:
        raise Conflict(f"user {user_name} has no policy {policy_name}")


async def delete_all(db: Database, user_id: str) -> None:
    """Forget all policies of a user."""
    await db.do("DELETE FROM user_policies WHERE user_id = ?", (user_id,))


async def _id_of(db: Database, name: str) -> str:
    row = await db.row("SELECT user_id FROM users WHERE name = ?", (name,))
    if row is None:
        raise Conflict(f"there is no user {name}")
    return str(row[0])
