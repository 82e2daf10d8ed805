"""What every metadata store does with users, their access keys, and the master keys that secrets are encrypted under."""

from collections.abc import Awaitable
from dataclasses import replace
from typing import TYPE_CHECKING

from twisted.trial.unittest import TestCase

from coldstore.interfaces.metadata import BATCH_MAX, Conflict, IMetadataStore
from coldstore.model.keys import ACCESS_KEYS_MAX, AccessKey, MasterKey, SealedSigner
from coldstore.model.objects import Bucket, User
from coldstore.model.policies import POLICIES_MAX, UserPolicy

_Base = TestCase if TYPE_CHECKING else object


def user_of(user_id: str, name: str, access_key: str) -> tuple[User, AccessKey]:
    """Return a user with one key."""
    user = User(user_id=user_id, name=name, created_at=5.0)
    return user, key_of(access_key, user_id)


def key_of(access_key: str, user_id: str, *, created_at: float = 6.0) -> AccessKey:
    """Return a key with a sealed secret of its own."""
    return AccessKey(
        access_key=access_key, user_id=user_id, sealed_secret=f"sealed {access_key}", created_at=created_at
    )


class KeySteps(_Base):
    """Mixed into the contract of a store."""

    store: IMetadataStore

    async def refused(self, kind: type[Exception], step: Awaitable[object]) -> Exception:
        """See ``MetadataSteps``."""
        raise NotImplementedError

    async def create_bucket(self, name: str, owner_id: str = "owner") -> Bucket:
        """See ``MetadataSteps``."""
        raise NotImplementedError

    async def made(self, user_id: str, name: str, access_key: str) -> tuple[User, AccessKey]:
        """Create a user with one key."""
        user, key = user_of(user_id, name, access_key)
        await self.store.create_user(user, key)
        return user, key

    async def signs(self, *access_keys: str) -> list[str | None]:
        """Return the names of those who sign with some keys."""
        found = [await self.store.signer(access_key) for access_key in access_keys]
        return [None if signer is None else signer.name for signer in found]

    async def test_users(self) -> None:
        """Users are found by access key and listed by name; ids, names and keys are taken once, and nothing is left of a refused one."""
        user, key = await self.made("1", "zoe", "AK1")
        other, _ = await self.made("2", "adam", "AK2")
        self.assertEqual(
            await self.store.signer("AK1"),
            SealedSigner(user_id="1", name="zoe", access_key="AK1", sealed_secret="sealed AK1"),
        )
        self.assertIsNone(await self.store.signer("AK3"))
        self.assertEqual(await self.store.users(), [other, user])
        fresh, fresh_key = user_of("3", "eve", "AK3")
        for refused in (
            (replace(fresh, user_id="1"), replace(fresh_key, user_id="1")),
            (replace(fresh, name="zoe"), fresh_key),
            (fresh, replace(fresh_key, access_key="AK1")),
        ):
            refusal = await self.refused(Conflict, self.store.create_user(*refused))
            self.assertNotIn("sealed", str(refusal))
        self.assertEqual(await self.store.users(), [other, user])
        self.assertEqual(await self.store.access_keys_of("3"), [])
        self.assertEqual(await self.store.access_keys_of("1"), [key])

    async def test_policies(self) -> None:
        """Whoever signs comes with what is said of what he may do, from the moment that it is said; it goes with the user."""
        user, _ = await self.made("1", "zoe", "AK1")
        await self.made("2", "adam", "AK2")
        self.assertEqual(await self.store.user("1"), user)
        self.assertIsNone(await self.store.user("3"))

        async def said(access_key: str) -> tuple[UserPolicy, ...]:
            signer = await self.store.signer(access_key)
            assert signer is not None
            self.assertEqual(list(signer.policies), await self.store.user_policies(signer.user_id))
            return signer.policies

        self.assertEqual(await said("AK1"), ())
        reading, sweeping = UserPolicy("reading", '{"a": "ü"}'), UserPolicy("Sweeping", "{}")
        for policy in (reading, sweeping):
            await self.store.set_user_policy(user_name="zoe", policy=policy)
        self.assertEqual(await said("AK1"), (sweeping, reading))
        self.assertEqual(await said("AK2"), ())
        other = UserPolicy("reading", '{"b": 1}')
        await self.store.set_user_policy(user_name="zoe", policy=other)
        self.assertEqual(await said("AK1"), (sweeping, other))
        await self.store.remove_user_policy(user_name="zoe", policy_name="Sweeping")
        self.assertEqual(await said("AK1"), (other,))
        for refused, named in (
            (self.store.set_user_policy(user_name="eve", policy=other), "no user eve"),
            (self.store.remove_user_policy(user_name="eve", policy_name="reading"), "no user eve"),
            (self.store.remove_user_policy(user_name="adam", policy_name="reading"), "no policy reading"),
        ):
            self.assertIn(named, str(await self.refused(Conflict, refused)))
        for number in range(POLICIES_MAX - 1):
            await self.store.set_user_policy(user_name="zoe", policy=UserPolicy(f"p{number}", "{}"))
        refusal = await self.refused(Conflict, self.store.set_user_policy(user_name="zoe", policy=sweeping))
        self.assertIn(f"{POLICIES_MAX} policies", str(refusal))
        await self.store.set_user_policy(user_name="zoe", policy=reading)
        await self.store.delete_user("zoe")
        self.assertEqual(await self.store.user_policies("1"), [])

    async def test_several_keys(self) -> None:
        """A user signs with any of his keys, up to so many; one is deleted only when it is disabled, and another may take its place."""
        _, first = await self.made("1", "zoe", "AK0")
        more = [key_of(f"AK{n}", "1", created_at=10.0 - n) for n in range(1, ACCESS_KEYS_MAX)]
        for key in more:
            await self.store.add_access_key(key)
        self.assertEqual(await self.signs("AK0", "AK1", "AK9", "AK10"), ["zoe", "zoe", "zoe", None])
        # The oldest first.
        self.assertEqual(
            await self.store.access_keys_of("1"),
            sorted([first, *more], key=lambda key: (key.created_at, key.access_key)),
        )
        refusal = await self.refused(Conflict, self.store.add_access_key(key_of("AK10", "1")))
        self.assertIn(f"{ACCESS_KEYS_MAX} access keys", str(refusal))
        self.assertIn(
            "disable it first", str(await self.refused(Conflict, self.store.delete_access_key("AK1")))
        )
        await self.store.set_access_key_disabled(access_key="AK1", disabled_at=7.0)
        gone = await self.store.delete_access_key("AK1")
        self.assertEqual((gone.access_key, gone.disabled_at), ("AK1", 7.0))
        await self.refused(Conflict, self.store.delete_access_key("AK1"))
        await self.store.add_access_key(key_of("AK10", "1"))
        await self.made("2", "adam", "AK20")
        await self.refused(Conflict, self.store.add_access_key(key_of("AK10", "2")))
        await self.refused(Conflict, self.store.add_access_key(key_of("AK30", "nobody")))
        self.assertEqual(await self.signs("AK1", "AK10", "AK20"), [None, "zoe", "adam"])

    async def test_disabling(self) -> None:
        """A key that is disabled is nobody's from that moment on, and every key of a user who is; what was disabled apart stays so."""
        await self.made("1", "zoe", "A")
        await self.store.add_access_key(key_of("B", "1"))
        await self.made("2", "adam", "C")
        self.assertEqual(await self.signs("A", "B", "C"), ["zoe", "zoe", "adam"])
        changed = await self.store.set_access_key_disabled(access_key="A", disabled_at=9.0)
        self.assertEqual(changed, replace(key_of("A", "1"), disabled_at=9.0))
        self.assertEqual(await self.signs("A", "B", "C"), [None, "zoe", "adam"])
        user = await self.store.set_user_disabled(name="zoe", disabled_at=10.0)
        self.assertEqual((user.name, user.disabled_at), ("zoe", 10.0))
        self.assertEqual(await self.signs("A", "B", "C"), [None, None, "adam"])
        self.assertEqual([one.disabled_at for one in await self.store.users()], [None, 10.0])
        await self.store.set_access_key_disabled(access_key="A", disabled_at=None)
        self.assertEqual(await self.signs("A", "B", "C"), [None, None, "adam"])
        await self.store.set_user_disabled(name="zoe", disabled_at=None)
        self.assertEqual(await self.signs("A", "B", "C"), ["zoe", "zoe", "adam"])
        await self.refused(Conflict, self.store.set_access_key_disabled(access_key="D", disabled_at=1.0))
        await self.refused(Conflict, self.store.set_user_disabled(name="eve", disabled_at=1.0))

    async def test_same_signer(self) -> None:
        """Whoever asks again gets the same object, until something about keys changes."""
        await self.made("1", "zoe", "A")
        first = await self.store.signer("A")
        self.assertIs(await self.store.signer("A"), first)
        await self.store.seal_secrets({"A": ("sealed A", "anew")})
        changed = await self.store.signer("A")
        assert changed is not None
        self.assertEqual(changed.sealed_secret, "anew")

    async def test_delete_user(self) -> None:
        """A user goes with all keys once no bucket is his; name and keys are free then."""
        await self.made("1", "zoe", "A")
        await self.store.add_access_key(key_of("B", "1"))
        await self.made("2", "adam", "C")
        for name in ("one", "two"):
            await self.create_bucket(name, owner_id="1")
        refusal = await self.refused(Conflict, self.store.delete_user("zoe"))
        self.assertIn("one, two", str(refusal))
        self.assertEqual(await self.signs("A", "B"), ["zoe", "zoe"])
        for name in ("one", "two"):
            await self.store.delete_bucket(name)
        self.assertEqual((await self.store.delete_user("zoe")).user_id, "1")
        self.assertEqual(await self.signs("A", "B", "C"), [None, None, "adam"])
        self.assertEqual([key.access_key for key in await self.store.access_keys(after="", limit=9)], ["C"])
        await self.refused(Conflict, self.store.delete_user("zoe"))
        await self.made("3", "zoe", "A")
        self.assertEqual(await self.signs("A"), ["zoe"])

    async def test_uses(self) -> None:
        """The last use of a key is the latest that was noted; keys that are gone are left out."""
        await self.made("1", "zoe", "A")
        await self.made("2", "adam", "B")
        await self.store.note_key_uses({"A": 100.0, "gone": 100.0})
        await self.store.note_key_uses({"A": 90.0, "B": 95.5})
        found = await self.store.access_keys(after="", limit=9)
        self.assertEqual([(key.access_key, key.last_used_at) for key in found], [("A", 100.0), ("B", 95.5)])
        await self.store.note_key_uses({f"gone {n}": 1.0 for n in range(BATCH_MAX)})

    async def test_pages_of_keys(self) -> None:
        """Keys of everybody come in the order of their ids, page by page."""
        for n in range(5):
            await self.made(f"{n}", f"user {n}", f"K{4 - n}")

        async def page(after: str, limit: int) -> list[str]:
            return [key.access_key for key in await self.store.access_keys(after=after, limit=limit)]

        self.assertEqual(await page("", 3), ["K0", "K1", "K2"])
        self.assertEqual(await page("K2", 3), ["K3", "K4"])
        self.assertEqual(await page("K4", 3), [])

    async def test_sealing_compares(self) -> None:
        """A sealed secret is changed only if it is what was expected: what was changed or deleted meanwhile is left alone."""
        await self.made("1", "zoe", "A")
        await self.made("2", "adam", "B")
        await self.store.seal_secrets(
            {"A": ("sealed A", "new"), "B": ("something else", "new"), "gone": ("sealed A", "new")}
        )
        found = await self.store.access_keys(after="", limit=9)
        self.assertEqual([key.sealed_secret for key in found], ["new", "sealed B"])
        # Nothing is in the clear in a store that never was older.
        self.assertEqual(await self.store.plain_secrets(after="", limit=9), {})
        await self.store.forget_plain_secrets()

    async def test_master_keys(self) -> None:
        """Master keys are known by their check values, from the oldest on."""
        self.assertEqual(await self.store.master_keys(), [])
        first, second = MasterKey(check_value="ff", since=1.0), MasterKey(check_value="aa", since=2.0)
        for key in (second, first, second, replace(first, since=3.0)):
            await self.store.add_master_key(key)
        self.assertEqual(await self.store.master_keys(), [first, second])
        for _ in range(2):
            await self.store.forget_master_key("ff")
        self.assertEqual(await self.store.master_keys(), [second])
