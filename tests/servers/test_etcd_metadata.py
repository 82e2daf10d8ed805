"""The store in etcd keeps the contract, on a real etcd."""

from typing import Any, cast

from twisted.internet import reactor as installed_reactor
from twisted.trial.unittest import TestCase

from coldstore.interfaces.metadata import IMetadataStore
from coldstore.metadata.etcd.gateway import Address
from coldstore.metadata.etcd.store import EtcdStore
from tests.contract.metadata_contract import GroupCommitContract, MetadataContract, MetadataSteps
from tests.contract.metadata_model import MetadataModel
from tests.servers import etcd

reactor = cast(Any, installed_reactor)


class OnEtcd(MetadataSteps):
    """On an empty etcd, with a new replica."""

    def make_store(self) -> IMetadataStore:
        """Return a store under a prefix of its own."""
        server = etcd.shared()
        server.clear()
        return EtcdStore(
            Address(endpoints=[server.url]),
            prefix="/coldstore",
            replica_path=self.mktemp(),
            reactor=reactor,
            network=reactor,
        )


class OnEtcdTests(OnEtcd, MetadataContract, TestCase):
    """The contract."""


class OnEtcdModelTests(OnEtcd, MetadataModel, TestCase):
    """The random life."""

    seeds = range(200, 201)
    steps = 150


class OnEtcdGroupCommitTests(OnEtcd, GroupCommitContract, TestCase):
    """Many steps at once."""
