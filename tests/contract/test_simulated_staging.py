"""``IStaging`` as the simulated world has it: the real one, on a disk in memory, with threads that are none."""

import gc
import sys
from pathlib import Path
from random import Random

import yaml
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from coldstore.disk.staging import DiskStaging
from coldstore.interfaces.staging import IStaging, RecallSlot
from coldstore.model.objects import Piece
from coldstore.model.precedence import Shares
from coldstore.util.asynchronous import returns_deferred
from tests.contract.staging_contract import CAPACITY_BYTES, MIB, StagingContract
from tests.contract.test_staging import path_of
from tests.contract.virtual import InVirtualTime
from tests.simulation.chance import Chance
from tests.simulation.database import Database
from tests.simulation.disk import Disk, SimulatedFileSystem
from tests.simulation.library import Floor
from tests.simulation.life import Life
from tests.simulation.machine import SimulatedMachine, Target
from tests.simulation.settings import configuration

NO_SHARES = Shares(begun=0.0, recall=0.0, urgent=0.0)


class StagingInMemory(InVirtualTime, StagingContract):
    """What the simulated machine gives to each life of the appliance."""

    staging: DiskStaging
    disk: Disk
    life: Life

    def setUp(self) -> "Deferred[object]":  # type: ignore[override]
        """The dead protest in vain when they are buried."""
        self.patch(sys, "unraisablehook", lambda _: None)
        self.graves: list[object] = []
        self.addCleanup(self._bury)
        return super().setUp()

    def _bury(self) -> None:
        if self.graves:
            self.graves.clear()
            gc.collect()
            self.flushLoggedErrors()

    def make_staging(self, shares: Shares | None = None) -> DiskStaging:
        """A new disk."""
        self.disk = Disk(2 * CAPACITY_BYTES)
        self.shares = shares or NO_SHARES
        self.number = 0
        return self.next_staging()

    def next_staging(self) -> DiskStaging:
        """Another life on the same disk."""
        self.number += 1
        self.life = Life(self.virtual)
        staging = {
            "capacity": f"{CAPACITY_BYTES}B",
            "min_free": "0B",
            "small_object": "256KiB",
            "segment": "64MiB",
            "multipart_share": self.shares.begun,
            "restore_share": self.shares.recall,
            "expedited_share": self.shares.urgent,
        }
        # What the marks of the cache would else forbid the shares.
        cache = {"low_mark": 0.5, "high_mark": 0.6}
        settings = configuration(yaml.safe_dump({"staging": staging, "cache": cache}))
        chance = Chance(self.number)
        floor = Floor(self.virtual, chance, drives=1, cartridges={}, slots=1, capacity_bytes=MIB)
        self.machine = SimulatedMachine(
            settings,
            self.life,
            chance=chance,
            database=Database(),
            disk=self.disk,
            floor=floor,
            target=Target(),
            number=self.number,
        )
        self.directory = Path(settings.staging_directory)
        self.outside = SimulatedFileSystem(self.disk, Life(self.virtual))
        return self.machine.staging(self.number)

    @returns_deferred
    async def reopened(self) -> IStaging:
        """The process dies, the next one starts."""
        self.graves.append(self.staging)
        self.life.end()
        self.die()
        following = self.next_staging()
        await following.start()
        return following

    def die(self) -> None:
        """What becomes of the disk when the process has died."""
        raise NotImplementedError

    def damage(self, piece: Piece, offset_bytes: int) -> None:
        """In the file."""
        path, base = path_of(self.directory, piece.address)
        self.disk.names[str(path)].content[base + offset_bytes] ^= 0x40

    def lose(self, piece: Piece) -> None:
        """Remove the file; the account learns of it at once, as no real disk would tell it."""
        path, _ = path_of(self.directory, piece.address)
        self.staging.account.used -= self.outside.occupied(path)
        self.outside.unlink(path)

    def range_content(self, path: str, offset_bytes: int, length_bytes: int) -> bytes:
        """As the simulated tape's file system does."""
        return self.disk.read(path, offset_bytes, length_bytes)

    def descriptor_content(self, descriptor: int, offset_bytes: int, length_bytes: int) -> bytes:
        """From the process whose descriptor it is."""
        return self.staging._system.read(descriptor, length_bytes, offset_bytes)

    def fill(self, slot: RecallSlot, content: bytes) -> None:
        """As the simulated tape's file system does."""
        self.assertEqual(len(content), slot.length_bytes)
        self.disk.write(slot.path, slot.offset_bytes, content)

    def check_account(self) -> None:
        """Bytes accounted equal bytes allocated."""
        below = [path for path in map(Path, self.disk.names) if path.parent != self.directory]
        self.assertEqual(self.staging.account.present, sum(map(self.outside.occupied, below)))


class AfterKillTests(StagingInMemory, TestCase):
    """Every life but the last is killed."""

    def die(self) -> None:
        """The disk is as it was; what nobody can reach any more is gone."""
        self.disk.release_unnamed()


class AfterPowerCutTests(StagingInMemory, TestCase):
    """Every life but the last ends with a power cut."""

    def die(self) -> None:
        """Of what was not synced there is what chance leaves."""
        self.disk.cut_power(Random(self.number))
