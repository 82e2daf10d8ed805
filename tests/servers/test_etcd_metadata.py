"""The store in etcd keeps the contract, on a real etcd; and etcd has exactly what the store shows."""

from pathlib import Path
from random import Random

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.trial.unittest import TestCase

from coldstore.interfaces.metadata import IMetadataStore
from tests.contract.metadata_contract import GroupCommitContract, MetadataContract, MetadataSteps
from tests.contract.metadata_lifecycle import LifecycleContract
from tests.contract.metadata_locks import LockContract, LockedModel
from tests.contract.metadata_model import MetadataModel
from tests.contract.metadata_versions import VersionsContract
from tests.servers import etcd
from tests.servers.etcd_rows import copy_of, numbers_in_file, reactor, rows_in_etcd, rows_in_file, store_on
from tests.servers.proxy import Fault, Proxy, Way


class OnEtcd(MetadataSteps):
    """On an empty etcd, with a new replica."""

    def make_store(self) -> IMetadataStore:
        """Return a store, which is compared with etcd once it is closed."""
        server = etcd.shared()
        server.clear()
        self.replica = Path(self.mktemp())
        replica = self.replica
        # Cleaning up goes backwards: the store was closed before.
        self.addCleanup(lambda: replica is self.replica and self.compare_rows())
        return store_on(server.url, self.replica)

    def compare_rows(self) -> None:
        """Every row is in etcd, and no other."""
        self.assertEqual(rows_in_etcd(etcd.shared()), rows_in_file(self.replica))


class OnEtcdTests(OnEtcd, MetadataContract, VersionsContract, LockContract, LifecycleContract, TestCase):
    """The contract."""


class OnEtcdModelTests(OnEtcd, MetadataModel, TestCase):
    """The random life."""

    seeds = range(200, 201)
    steps = 150

    async def live(self, chance: Random) -> None:
        """Live; a replica of half of that life catches up with the rest of it, and one that is new comes to the same."""
        half = Path(self.mktemp())
        self.copied_at = chance.randrange(30, 120)
        self.half = half
        await super().live(chance)
        await self.store.close()
        expected, numbers = rows_in_file(self.replica), numbers_in_file(self.replica)
        self.assertNotEqual(rows_in_file(half), expected)
        inode = half.stat().st_ino
        for replica in (half, Path(self.mktemp())):
            self.store = store_on(etcd.shared().url, replica)
            await self.store.open()
            await self.store.close()
            self.assertEqual(rows_in_file(replica), expected)
            self.assertEqual(numbers_in_file(replica), numbers)
        self.assertEqual(half.stat().st_ino, inode)

    async def compare(self) -> None:
        """Compare; and once on the way, copy the replica."""
        await super().compare()
        if not self.half.exists() and self.copied_at < len(self.given):
            copy_of(self.replica, self.half)


class OnEtcdLockedModelTests(OnEtcd, LockedModel, TestCase):
    """The random life of what is under lock."""

    seeds = range(500, 501)
    steps = 150


class OverBadConnectionsTests(OnEtcd, MetadataModel, TestCase):
    """The random life, while connections are cut all the time: nobody is told of it, and nothing is done twice."""

    seeds = range(300, 301)
    steps = 120

    def make_store(self) -> IMetadataStore:
        """Return a store behind a relay."""
        super().make_store()
        self.proxy = Proxy(reactor, etcd.shared().port)
        self.proxy.start()
        proxy = self.proxy
        self.addCleanup(lambda: Deferred.fromCoroutine(proxy.stop()))
        return store_on(f"http://127.0.0.1:{proxy.port}", self.replica)

    async def live(self, chance: Random) -> None:
        """Live, while connections go wrong."""
        faults = 0
        dice = Random(chance.random())

        def go_wrong() -> None:
            nonlocal faults
            faults += len(self.proxy.links)
            self.proxy.now(dice.choice([Fault.CUT, Fault.CUT, Fault.HALF_CLOSE]), dice.choice(list(Way)))

        going = LoopingCall(go_wrong)
        going.start(0.07, now=False)
        try:
            await super().live(chance)
        finally:
            going.stop()
        self.assertGreater(faults, 5)


class OnEtcdGroupCommitTests(OnEtcd, GroupCommitContract, TestCase):
    """Many steps at once."""
