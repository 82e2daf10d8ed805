"""``IMetadataStore`` as the simulated world has it: the steps of the real one on a database that survives the process."""

from random import Random

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from coldstore.interfaces.metadata import IMetadataStore
from coldstore.model.errors import MetadataUnavailable, NoSuchKey
from tests.contract.metadata_contract import GroupCommitContract, MetadataContract, MetadataSteps
from tests.contract.metadata_locks import LockContract, LockedModel
from tests.contract.metadata_model import MetadataModel
from tests.contract.metadata_versions import VersionsContract
from tests.contract.virtual import InVirtualTime
from tests.simulation.database import Database, Loss
from tests.simulation.life import Life


class OnOneDatabase(InVirtualTime, MetadataSteps):
    """One life of the appliance on a database of its own, or on one that is there."""

    database: Database
    life: Life

    def make_store(self) -> IMetadataStore:
        """On a new database."""
        self.database = Database()
        self.addCleanup(self.database.connection.close)
        return self.next_store()

    def next_store(self) -> IMetadataStore:
        """In the next life, on the same database."""
        self.life = Life(self.virtual)
        chance = Random(1)
        return self.database.store(self.life, lambda: chance.uniform(0.001, 0.01))


class SimulatedTests(OnOneDatabase, MetadataContract, VersionsContract, LockContract, TestCase):
    """The contract."""


class SimulatedModelTests(OnOneDatabase, MetadataModel, TestCase):
    """The random life."""

    seeds = range(200, 203)


class SimulatedLockedModelTests(OnOneDatabase, LockedModel, TestCase):
    """The random life of what is under lock."""

    seeds = range(400, 402)


class SimulatedGroupCommitTests(OnOneDatabase, GroupCommitContract, TestCase):
    """Many steps at once."""


class LossTests(OnOneDatabase, TestCase):
    """What only the simulation can do."""

    async def keys(self) -> list[bytes]:
        """Return what there is."""
        found = await self.store.list_current("b", from_key=b"", before_key=None, limit=99)
        return [version.facts.key for version in found]

    async def test_lost_connection(self) -> None:
        """Of the steps of a transaction that is lost all fail alike; whether they happened depends on when it was lost."""
        losses = iter((Loss.BEFORE, Loss.AFTER, None))
        self.database.loss = lambda: next(losses)
        expected: list[bytes] = []
        for name in (b"before", b"after"):
            keys = [name + b"%d" % number for number in range(3)]
            given = [Deferred.fromCoroutine(self.publish(key)) for key in keys]
            for each in given:
                await self.refused(MetadataUnavailable, each)
            if name == b"after":
                expected += keys
        await self.publish(b"well")
        self.assertEqual(await self.keys(), [*expected, b"well"])

    async def test_away(self) -> None:
        """A database that is away answers nothing, takes nothing, and cannot be opened; when it is back nothing has changed."""
        await self.publish(b"k")
        self.database.is_away = True
        await self.refused(MetadataUnavailable, self.publish(b"l"))
        await self.refused(MetadataUnavailable, self.keys())
        await self.refused(MetadataUnavailable, self.store.current_version("b", b"k"))
        await self.refused(MetadataUnavailable, self.next_store().open())
        self.database.is_away = False
        self.assertEqual(await self.keys(), [b"k"])

    async def test_killed(self) -> None:
        """The next life finds what was acknowledged, not what had not been committed, and the dead hear nothing any more."""
        await self.publish(b"kept")
        doubtful = Deferred.fromCoroutine(self.publish(b"doubtful"))
        dead, appliance_id = self.life, self.store.appliance_id
        dead.end()
        epochs = []
        for _ in range(2):
            self.store = self.next_store()
            await self.store.open()
            epochs.append((await self.store.take_epoch(at=1.0, host="")).number)
        self.assertEqual(await self.keys(), [b"kept"])
        await self.refused(NoSuchKey, self.store.current_version("b", b"doubtful"))
        self.assertNoResult(doubtful)
        self.assertEqual(self.store.appliance_id, appliance_id)
        self.assertLess(*epochs)
