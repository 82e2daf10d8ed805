"""Stores of every earlier schema, with a life behind them, are brought up to the newest one and lose nothing."""

import contextlib
import itertools
import re
import shutil
import sqlite3
from pathlib import Path
from random import Random
from typing import Any, cast

from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import maybeDeferred
from twisted.trial.unittest import SynchronousTestCase, TestCase

from coldstore.interfaces.metadata import BATCH_MAX, Conflict, IMetadataStore, SchemaTooOld
from coldstore.keys.keyfile import KeyFile
from coldstore.keys.keyring import Keyring
from coldstore.metadata.etcd.schema import ACCESS_KEYS
from coldstore.metadata.sql.tables import ARRIVING_FROM, MOVED_TO, TABLES
from coldstore.metadata.sqlite.schema import migrate, shipped_migrations
from coldstore.metadata.sqlite.store import SqliteStore
from coldstore.model.bundles import BundleState, CopyState
from coldstore.model.errors import MetadataUnavailable
from coldstore.model.objects import RestorePhase, StorageClass, Versioning
from coldstore.testing.metadata import FaultyStore
from tests.contract.metadata_contract import EVERY_CLASS, MetadataSteps, facts_of, piece_of
from tests.contract.old_stores import SCHEMAS, counted, make_old_store

Rows = dict[str, list[dict[str, Any]]]


def upgrade(path: str) -> None:
    """Bring a file up to date."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        migrate(connection, shipped_migrations(), new_appliance_id=lambda: "another", is_upgrade=True)


def rows_of(path: str) -> Rows:
    """Return every row of every portable table that a file has."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.row_factory = sqlite3.Row
        there = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema").fetchall()}
        return {
            table.name: [
                dict(row)
                for row in connection.execute(f"SELECT * FROM {table.name} ORDER BY {', '.join(table.key)}")
            ]
            for table in TABLES
            if table.name in there
        }


CAME_LATER = {
    "part_digests",
    "master_keys",
    "bucket_configurations",
    "user_policies",
    "lock_clock",
    "data_keys",
    "lifecycle_ranges",
    "lifecycle_reviews",
}
"""Tables that no earlier schema had."""


class RowsTests(SynchronousTestCase):
    """The rows themselves."""

    def old_and_new(self, schema: int) -> tuple[Rows, Rows]:
        """Return the rows of an old store before and after it was upgraded."""
        path = self.mktemp()
        make_old_store(path, schema)
        before = rows_of(path)
        upgrade(path)
        return before, rows_of(path)

    def test_nothing_is_lost(self) -> None:
        """Every value that was there is there, every table that was there has rows, and nothing is marked."""
        for schema in SCHEMAS:
            before, after = self.old_and_new(schema)
            self.assertEqual(set(after), {table.name for table in TABLES})
            if schema < ACCESS_KEYS:
                self.move_access_keys(before, after)
            for name, rows in before.items():
                kept = [
                    {column: row[column] for column in old}
                    for row, old in zip(after[name], rows, strict=True)
                ]
                self.assertEqual(kept, rows, (schema, name))
            self.assertEqual({name for name, rows in after.items() if not rows}, CAME_LATER)
            (store,) = after["store"]
            self.assertEqual((store[ARRIVING_FROM], store[MOVED_TO]), ("", ""))

    def move_access_keys(self, before: Rows, after: Rows) -> None:
        """Find what stood with users, when each had one key, in tables of its own; forget that it stood there."""
        keys = {row["user_id"]: row for row in after["access_keys"]}
        secrets = {row["access_key"]: row["secret_key"] for row in after["plain_secrets"]}
        for user in before["users"]:
            key = keys[user["user_id"]]
            access_key, secret_key = user.pop("access_key"), user.pop("secret_key")
            self.assertEqual((key["access_key"], key["sealed_secret"]), (access_key, ""))
            self.assertEqual((key["created_at"], key["disabled_at"]), (user["created_at"], None))
            self.assertEqual(secrets[access_key], secret_key)
        self.assertEqual(len(secrets), len(keys))

    def test_all_come_to_the_same(self) -> None:
        """Whichever schema a store of this life began with: what is derived by a migration is what the steps keep themselves."""
        _, newest = self.old_and_new(SCHEMAS[-1])
        for schema in SCHEMAS[:-1]:
            _, found = self.old_and_new(schema)
            self.assertEqual(self.by_share(found), self.by_share(newest), schema)

    def test_what_is_kept_is_counted(self) -> None:
        """Shares of every old store count what a recount finds; some of it is restored."""
        for schema in SCHEMAS:
            _, after = self.old_and_new(schema)
            found = {
                (row["owner_id"], row["bucket_uid"], row["storage_class"]): (
                    row["kept_bytes"],
                    row["object_count"],
                    row["restore_bytes"],
                )
                for row in after["shares"]
                if row["kept_bytes"] or row["object_count"] or row["restore_bytes"]
            }
            self.assertEqual(found, counted(after["versions"]))
            self.assertTrue(any(restored for _, _, restored in found.values()), schema)

    def by_share(self, rows: Rows) -> Rows:
        """
        Return rows with shares named by what they are of, because their numbers are a matter of order.

        What awaits only its removal, because its version is gone, counts for nobody here: an old store has forgotten whose it was.
        """
        shares = {
            row["share_uid"]: (row["owner_id"], row["bucket_uid"], row["storage_class"])
            for row in rows["shares"]
        }
        named = {
            name: [
                {**row, "share_uid": shares.get(row["share_uid"])} if "share_uid" in row else row
                for row in table
            ]
            for name, table in rows.items()
        }
        doomed = {row["layout_id"]: row for row in named["layouts"] if row["state"] == "doomed"}
        for piece in rows["pieces"]:
            if piece["layout_id"] in doomed:
                for share in named["shares"]:
                    if share["share_uid"] == doomed[piece["layout_id"]]["share_uid"]:
                        share["used_bytes"] -= piece["length_bytes"]
        for row in doomed.values():
            del row["share_uid"]
        named["shares"].sort(key=lambda row: row["share_uid"])
        return named

    def test_failure_leaves_it(self) -> None:
        """When the upgrade is broken off, by an error or with the process, the old store is as it was."""
        path = self.mktemp()
        make_old_store(path, 1)
        before = rows_of(path)
        connection = sqlite3.connect(path, isolation_level=None)
        self.addCleanup(connection.close)
        left = 60

        def for_a_while(action: int, *_: object) -> int:
            nonlocal left
            left -= 1
            is_allowed = left > 0 or action == sqlite3.SQLITE_TRANSACTION
            return sqlite3.SQLITE_OK if is_allowed else sqlite3.SQLITE_DENY

        connection.set_authorizer(for_a_while)
        with self.assertRaises(sqlite3.DatabaseError):
            migrate(connection, shipped_migrations(), new_appliance_id=lambda: "another", is_upgrade=True)
        self.assertLessEqual(left, 0)
        self.assertEqual(rows_of(path), before)
        # What a process that was killed leaves behind are its files as they are.
        connection.set_authorizer(None)
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("PRAGMA cache_size = 1")
        connection.execute("CREATE TABLE half AS SELECT * FROM versions")
        copy = self.mktemp()
        for suffix in ("", "-wal"):
            if Path(path + suffix).exists():
                shutil.copy(path + suffix, copy + suffix)
        self.assertEqual(rows_of(copy), before)
        upgrade(copy)


class UpgradedStoreTests(MetadataSteps, TestCase):
    """An upgraded store answers and goes on."""

    schemas = SCHEMAS

    def make_store(self) -> IMetadataStore:
        """Return a store that the tests do not use."""
        return SqliteStore(":memory:")

    async def opened(self, schema: int) -> IMetadataStore:
        """Refuse an old store, upgrade it, open it."""
        path = self.mktemp()
        make_old_store(path, schema)
        refused = SqliteStore(path)
        error = await self.refused(SchemaTooOld, refused.open())
        self.assertIn(f"schema {schema}", str(error))
        self.assertIn("coldstore db upgrade", str(error))
        upgrade(path)
        store = SqliteStore(path)
        self.addCleanup(store.close)
        await store.open()
        return store

    async def test_questions(self) -> None:
        """Everything that the life has left is found, and all sums are right."""
        for schema in self.schemas:
            self.store = await self.opened(schema)
            store = self.store
            self.assertEqual(store.appliance_id, "0f9a2f1e-6f0e-4d5c-9d0a-2b1c3d4e5f60")
            self.assertEqual([user.name for user in await store.users()], ["Owner", "Reader"])
            signer = await store.signer(f"CS{0:018}")
            assert signer is not None
            self.assertIsNone(signer.quotas.staging)
            found = await store.list_current("b", from_key=b"", before_key=None, limit=999)
            keys = [version.facts.key for version in found]
            self.assertEqual(len(keys), 14)
            self.assertEqual(keys, sorted(keys))
            self.assertEqual(await self.living(), found)
            self.assertEqual({version.facts.version_id for version in found}, {"null"})
            self.assertIs((await store.bucket("b")).versioning, Versioning.UNSET)
            await self.check_backlog()
            for version in found:
                if version.on_disk:
                    self.assertTrue(await self.addresses(version), version)
            totals = await store.totals()
            self.assertEqual((totals.bucket_count, totals.object_count), (2, len(found)))
            # What lies on the disk: the pieces of what is there, and of what nobody has tidied up yet.
            used = sum(one.used_bytes for one in await store.staging_use(owner_id="owner"))
            parts = await store.uploads("b", prefix=b"", after_key=b"", after_upload_id="", limit=99)
            self.assertEqual(len(parts), 5)
            self.assertGreaterEqual(used, sum(one.facts.size_bytes for one in found if one.on_disk))
            states = {
                bundle.state
                for bundle in await store.bundles(states=list(BundleState), settled=None, after="", limit=99)
            }
            self.assertGreaterEqual(states, {BundleState.VOID, BundleState.FROZEN, BundleState.ARCHIVED})
            self.assertTrue(await store.unfinished_copies(9))
            ongoing = await store.ongoing_restores(on_disk=False, limit=9)
            self.assertEqual(len(ongoing), 1)
            self.assertEqual(
                len([one for one in found if one.restore and one.restore.phase is RestorePhase.RESTORED]), 7
            )
            copies = await store.copies(version_uid=ongoing[0].version_uid)
            self.assertTrue(any(copy.state is CopyState.VERIFIED for copy in copies))
            self.assertEqual(
                [alert.kind for alert in await store.alerts(include_cleared=False, limit=9)], ["two"]
            )
            self.assertEqual([one.barcode for one in await store.cartridges()], ["A00001L9", "A00002L9"])
            self.assertEqual(len(await store.due_messages(now=1e12, limit=9)), 1)

    async def keep_versions(self) -> None:
        """What was there becomes a version among others, once versions are kept; leave all as it was."""
        store = self.store
        before = await store.set_versioning(name="b", versioning=Versioning.ENABLED)
        found = await store.list_current("b", from_key=b"", before_key=None, limit=1)
        key = found[0].facts.key
        (marker,) = await store.delete_current(
            "b", [key], at=1.8e9, messages={}, owner_id="owner", marker_ids=["marker"]
        )
        self.assertEqual([one.facts.version_id for one in (await self.living())[:2]], ["marker", "null"])
        self.assertEqual(await store.delete_versions("b", [(key, "marker")], at=1.8e9), [marker])
        (again,) = await store.list_current("b", from_key=b"", before_key=None, limit=1)
        self.assertEqual(again.version_uid, found[0].version_uid)
        self.assertEqual(await store.bucket("b"), before)

    async def test_work(self) -> None:
        """What was under way is brought to its end, and new things begin with numbers of their own."""
        for schema in self.schemas:
            self.store = await self.opened(schema)
            store = self.store
            self.serial = 500_000
            self.assertEqual((await store.take_epoch(at=1.8e9, host="")).number, 3)
            newest = max(
                one.version_uid
                for one in await store.list_current("b", from_key=b"", before_key=None, limit=999)
            )
            await self.drain()
            version = await store.publish_version(
                facts_of(b"new", storage_class=StorageClass.DEEP_ARCHIVE),
                layout_id="new",
                pieces=[piece_of("new")],
                wants_tape=True,
                condition=None,
                messages=(),
            )
            self.assertGreater(version.version_uid, newest)
            before = {one.storage_class: one.used_bytes for one in await store.staging_use(bucket="b")}
            await self.delete(b"new")
            await self.drain()
            after = {one.storage_class: one.used_bytes for one in await store.staging_use(bucket="b")}
            self.assertEqual(
                after.pop(StorageClass.DEEP_ARCHIVE, 0) + 10, before.pop(StorageClass.DEEP_ARCHIVE)
            )
            self.assertEqual(after, before)
            (version,) = await store.ongoing_restores(on_disk=False, limit=9)
            for wanted in await store.wanted_extents(after=(0, -1), limit=99):
                member = wanted.member
                piece = piece_of(f"back{member.extent}", member.extent + 1, crc64nvme=member.crc64nvme)
                self.assertTrue(
                    await store.add_recalled(
                        version.version_uid, extent=member.extent, layout_id="back", piece=piece
                    )
                )
            await self.complete(version, expires_at=2e9)
            self.assertEqual(await store.ongoing_restores(on_disk=False, limit=9), [])
            self.assertEqual(sum(one.promised_bytes for one in await store.staging_use(bucket="b")), 0)
            for bundle in await store.bundles(
                states=[BundleState.ARCHIVED], settled=False, after="", limit=99
            ):
                await self.settle(bundle.bundle_id)
            await self.archive(*await store.pending(classes=EVERY_CLASS, after_sequence=0, limit=9))
            await self.keep_versions()
            await self.check_backlog()
            await self.drain()


PLAIN = tuple(schema for schema in SCHEMAS if schema < ACCESS_KEYS)
"""Those with secrets in the clear."""


class PlainSecretsTests(TestCase):
    """Secrets that an older release kept in the clear."""

    def secrets_in_files(self, path: str) -> int:
        """Return how many secrets can be read in the bytes of a store's files."""
        found: set[bytes] = set()
        for file in Path(path).parent.glob(f"{Path(path).name}*"):
            found.update(re.findall(rb"secret-[0-9]{4}-[0-9a-f]{28}", file.read_bytes()))
        return len(found)

    def old_store(self, schema: int) -> str:
        """Make an old store with some hundred users, of whom some were written twice."""
        path = self.mktemp()
        make_old_store(path, schema)
        random = Random(schema)
        with contextlib.closing(sqlite3.connect(path)) as connection:
            users = [
                (
                    f"{random.getrandbits(256):064x}",
                    f"user {n}",
                    f"CS{n:018}",
                    f"secret-{n:04}-{random.getrandbits(112):028x}",
                    1.5,
                )
                for n in range(10, 310)
            ]
            random.shuffle(users)
            connection.executemany(
                "INSERT INTO users (user_id, name, access_key, secret_key, created_at) VALUES (?, ?, ?, ?, ?)",
                users,
            )
            connection.commit()
            connection.execute(
                "UPDATE users SET name = name || ' who has a longer name than at first' WHERE name LIKE '%7%'"
            )
            connection.commit()
        self.secrets = {access_key: secret for _, _, access_key, secret, _ in users}
        self.assertEqual(self.secrets_in_files(path), len(users))
        return path

    async def served(self, store: SqliteStore, folder: str) -> Keyring:
        """Have the first start after an upgrade."""
        self.addCleanup(store.close)
        await store.open()
        keyring = Keyring(
            store=store,
            file=KeyFile(f"{folder}/master.key"),
            seconds=lambda: 5.0,
            random_bytes=Random(1).randbytes,
            in_thread=maybeDeferred,
        )
        await keyring.open()
        return keyring

    async def test_nothing_stays(self) -> None:
        """Once a store was served, no secret is in any byte of its files, also while it is open; every key signs as before."""
        for schema, reactor in [(schema, None) for schema in PLAIN] + [(PLAIN[-1], installed_reactor)]:
            path = self.old_store(schema)
            upgrade(path)
            folder = self.mktemp()
            Path(folder).mkdir()
            store = SqliteStore(path, reactor=cast(Any, reactor))
            keyring = await self.served(store, folder)
            self.assertEqual(self.secrets_in_files(path), 0, schema)
            self.assertFalse(bool(await store.plain_secrets(after="", limit=1)))
            for access_key, secret_key in self.secrets.items():
                signer = await keyring.look_up(access_key)
                assert signer is not None
                self.assertEqual(signer.secret_key, secret_key)
            self.assertEqual(self.secrets_in_files(path), 0, schema)
            await store.close()
            self.assertEqual(self.secrets_in_files(path), 0, schema)

    async def test_cut_off(self) -> None:
        """A first start that is broken off anywhere is made up for by the next one."""
        for step, took_effect in itertools.product(
            ("seal_secrets", "forget_plain_secrets", "add_master_key"), (False, True)
        ):
            path = self.old_store(PLAIN[-1])
            upgrade(path)
            folder = self.mktemp()
            Path(folder).mkdir()
            store = SqliteStore(path)
            faulty = FaultyStore(store)
            faulty.fail_next(step, took_effect=took_effect)
            with self.assertRaises(MetadataUnavailable):
                await self.served(cast(SqliteStore, faulty), folder)
            await store.close()
            keyring = await self.served(SqliteStore(path), folder)
            self.assertEqual(self.secrets_in_files(path), 0, step)
            signer = await keyring.look_up(f"CS{100:018}")
            assert signer is not None
            self.assertEqual(signer.secret_key, self.secrets[f"CS{100:018}"])

    async def test_not_forgotten_too_early(self) -> None:
        """No secret in the clear is erased as long as one is not recorded as a sealed one."""
        path = self.old_store(PLAIN[-1])
        upgrade(path)
        store = SqliteStore(path)
        self.addCleanup(store.close)
        await store.open()
        plain = await store.plain_secrets(after="", limit=BATCH_MAX)
        await store.seal_secrets(dict.fromkeys(plain, ("", "sealed")))
        with self.assertRaises(Conflict):
            await store.forget_plain_secrets()
        self.assertTrue(bool(await store.plain_secrets(after="", limit=1)))
        self.assertEqual(self.secrets_in_files(path), len(self.secrets))
        left = await store.plain_secrets(after="", limit=1000)
        self.assertEqual(len(left), len(self.secrets) + 2)
