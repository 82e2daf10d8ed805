"""The contract of the metadata, on a real PostgreSQL."""

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from coldstore.interfaces.metadata import IMetadataStore
from coldstore.metadata.postgres.client import Address
from coldstore.metadata.postgres.store import PostgresStore
from tests.contract.metadata_contract import GroupCommitContract, MetadataContract, MetadataSteps
from tests.contract.metadata_model import MetadataModel
from tests.servers import postgres

LONG_SECONDS = 60.0


class OnPostgres(MetadataSteps):
    """On a database of its own."""

    def make_store(self) -> IMetadataStore:
        """Return a store on an empty database."""
        cluster = postgres.shared()
        where = cluster.database()
        self.addCleanup(cluster.drop, where)
        return PostgresStore(
            Address(
                host=where.host,
                port=where.port,
                database=where.database,
                user=postgres.OWNER,
                tls="disable",
            ),
            reactor=reactor,
            connect_seconds=LONG_SECONDS,
            answer_seconds=LONG_SECONDS,
            readers=2,
        )


class ContractTests(OnPostgres, MetadataContract, TestCase):
    """The contract."""


class GroupCommitTests(OnPostgres, GroupCommitContract, TestCase):
    """Many steps at once."""


class ModelTests(OnPostgres, MetadataModel, TestCase):
    """The random life."""

    seeds = range(200, 203)
