"""The contract of the metadata, on a real PostgreSQL."""

import re

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from coldstore.interfaces.metadata import IMetadataStore
from coldstore.metadata.postgres.client import Address
from coldstore.metadata.postgres.store import PostgresStore
from tests.contract.metadata_contract import GroupCommitContract, MetadataContract, MetadataSteps
from tests.contract.metadata_lifecycle import LifecycleContract
from tests.contract.metadata_locks import LockContract, LockedModel
from tests.contract.metadata_model import MetadataModel
from tests.contract.metadata_versions import VersionsContract
from tests.servers import postgres

LONG_SECONDS = 60.0
SMALL = {"store", "writer", "migrations", "master_keys", "data_keys", "plain_secrets", "lock_clock"}
"""Tables of a row or a few, or of none but after an upgrade."""
COUNTED = {"pieces", "discards", "lifecycle_reviews"}
"""What is added up for an operator, from end to end."""
SORTED = {"alert_id", "bucket_uid"}
"""First columns of what is sorted before the rest is cut off: the open alerts, the uploads of buckets that are gone."""


class OnPostgres(MetadataSteps):
    """On a database of its own."""

    where: postgres.Address

    def make_store(self) -> IMetadataStore:
        """Return a store on an empty database."""
        cluster = postgres.shared()
        self.where = cluster.database()
        self.addCleanup(cluster.drop, self.where)
        return PostgresStore(
            Address(
                host=self.where.host,
                port=self.where.port,
                database=self.where.database,
                user=postgres.OWNER,
                tls="disable",
            ),
            reactor=reactor,
            connect_seconds=LONG_SECONDS,
            answer_seconds=LONG_SECONDS,
            readers=2,
        )


class ContractTests(
    OnPostgres, MetadataContract, VersionsContract, LockContract, LifecycleContract, TestCase
):
    """The contract; and the cost of each question follows its answer, not the size of the store: the server's own plans say so."""

    def make_store(self) -> IMetadataStore:
        """Return a store on a database that writes the plan of every statement to the server's log."""
        store = super().make_store()
        cluster = postgres.shared()
        for setting in ("session_preload_libraries = auto_explain", "auto_explain.log_min_duration = 0"):
            cluster.sql(f"ALTER DATABASE {self.where.database} SET {setting}")
        self.logged_before = cluster.log_path.stat().st_size
        return store

    def tearDown(self) -> None:
        """No statement read a table from end to end, or sorted what it then cut off."""
        with postgres.shared().log_path.open(errors="replace") as log:
            log.seek(self.logged_before)
            plans = log.read().split("plan:\n")
        self.assertGreater(len(plans), 10)
        for plan in plans:
            if "CREATE TABLE" in plan or "ALTER TABLE" in plan:
                # A migration.
                continue
            for table in re.findall(r"Seq Scan on (\w+)", plan):
                self.assertIn(table, SMALL | COUNTED, plan)
            for key in re.findall(r"Limit  .*\n\s*->  Sort  .*\n\s*Sort Key: (?:\w+\.)?(\w+)", plan):
                self.assertIn(key, SORTED, plan)
            self.assertNotRegex(plan, "(Hash|Merge) Join|Bitmap Heap Scan")


class GroupCommitTests(OnPostgres, GroupCommitContract, TestCase):
    """Many steps at once."""


class LockedModelTests(OnPostgres, LockedModel, TestCase):
    """The random life of what is under lock."""

    seeds = range(500, 501)
    steps = 150


class ModelTests(OnPostgres, MetadataModel, TestCase):
    """The random life."""

    seeds = range(200, 203)
