"""Moving scattered pieces together on a real disk with a real record, cut off at every change of the one and step of the other."""

import errno
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from threading import Lock
from typing import Any, cast

from twisted.internet import reactor as the_reactor
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from coldstore.disk.filesystem import FileSystem
from coldstore.disk.staging import DiskStaging
from coldstore.metadata.sqlite.store import SqliteStore
from coldstore.model.objects import ObjectVersion, Piece
from coldstore.testing.tenure import SimulatedTenure
from coldstore.util.asynchronous import returns_deferred
from coldstore.util.checksums import crc64nvme
from coldstore.work.bells import ReactorBell
from coldstore.work.compactor import Compactor
from coldstore.work.janitor import Janitor
from coldstore.work.leftovers import Leftovers
from coldstore.work.sweeper import Sweeper
from tests.contract.metadata_contract import facts_of
from tests.contract.staging_contract import KIB, MIB, content_of, put, whole
from tests.contract.test_staging import copy_with_holes, occupied_below
from tests.contract.test_staging_faults import CHANGES

reactor: Any = the_reactor
OBJECTS = 60
LIVING = range(0, OBJECTS, 12)
SIZE_BYTES = 30 * KIB
RECORD = "record.sqlite"


class Fate:
    """Counts what a run changes on disk and asks of its record, and ends the run at a given one of these."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._dies_after = 0
        self.is_dead = False
        self.died: Deferred[None] = Deferred()

    def die_before(self, point: int) -> None:
        """End the run before the given one of those to come, which is after the one before."""
        self._dies_after = point

    def happens(self) -> bool:
        """Whether what is about to be done still happens."""
        with self._lock:
            if self.is_dead:
                return False
            self._dies_after -= 1
            if self._dies_after:
                return True
            self.is_dead = True
        reactor.callFromThread(self.died.callback, None)
        return False


class MortalFileSystem(FileSystem):
    """A file system that nobody changes after the run has ended."""

    def __init__(self, fate: Fate) -> None:
        for name in CHANGES:
            setattr(self, name, self._watched(fate, getattr(super(), name)))

    def _watched(self, fate: Fate, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if not fate.happens():
                raise OSError(errno.EIO, "the process is no more")
            return real(*arguments, **options)

        return call


class MortalStore:
    """A record that answers nobody after the run has ended."""

    def __init__(self, store: SqliteStore, fate: Fate) -> None:
        self._store = store
        self._fate = fate

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._store, name)

        def step(*arguments: Any, **options: Any) -> Any:
            return value(*arguments, **options) if self._fate.happens() else Deferred()

        return step


class Run:
    """One run on a directory with a disk and a record."""

    def __init__(self, directory: Path, number: int, fate: Fate | None = None) -> None:
        self.fate = fate or Fate()
        self._is_on = False
        self.directory = directory / "staging"
        self.staging = DiskStaging(
            reactor=reactor,
            random=Random(number),
            run=str(number),
            directory=self.directory,
            capacity_bytes=64 * MIB,
            # Every container is cut off after a few pieces.
            segment_bytes=600 * KIB,
            quiet_seconds=0.0,
            system=MortalFileSystem(self.fate),
        )
        self.plain_store = SqliteStore(str(directory / RECORD))
        self.store = store = cast(Any, MortalStore(self.plain_store, self.fate))
        # Nothing here needs time to pass, and nothing of a run that was cut off may happen later.
        clock = cast(Any, Clock())
        bell = ReactorBell(clock)
        self.leftovers = Leftovers(store=store, clock=clock, bell=bell, janitor_bell=bell, grace_seconds=0.0)
        self.sweeper = Sweeper(
            store=store, staging=self.staging, janitor_bell=bell, is_spared=self.leftovers.holds
        )
        self.janitor = Janitor(
            store=store,
            staging=self.staging,
            tenure=SimulatedTenure(),
            clock=clock,
            on_settled=lambda: None,
        )
        self.compactor = Compactor(store=store, staging=self.staging, clock=clock, leftovers=self.leftovers)

    async def start(self) -> None:
        """Begin."""
        await self.plain_store.open()
        await self.staging.start()
        self._is_on = True

    async def stop(self) -> None:
        """End, in order or not; harmless to repeat."""
        if self._is_on:
            self._is_on = False
            await self.staging.stop()
            await self.plain_store.close()

    async def tidy(self) -> None:
        """Do everything that a run does by and by."""
        await self.sweeper.one_round()
        await self.janitor.one_round()
        await self.compactor.one_round()
        await self.leftovers.one_round()
        await self.janitor.one_round()


class CompactionTests(TestCase):
    """Of sixty small objects every twelfth is still there."""

    timeout = 600

    @returns_deferred
    async def setUp(self) -> None:  # type: ignore[override]
        """Have objects on a disk, and most of them deleted."""
        memory = Path("/dev/shm")
        is_memory = memory.is_dir() and os.access(memory, os.W_OK)
        self.directory = Path(tempfile.mkdtemp(dir=memory if is_memory else None))
        self.addCleanup(shutil.rmtree, self.directory)
        before = self.directory / "before"
        before.mkdir()
        run = Run(before, 1)
        await run.start()
        await run.store.create_bucket(
            name="b", owner_id="owner", region="r", created_at=1.0, default_class=None
        )
        versions = [await self.put(run, number) for number in range(OBJECTS)]
        self.living = [versions[number] for number in LIVING]
        for number in range(OBJECTS):
            if number not in LIVING:
                await run.store.delete_current("b", [b"%02d" % number], at=2.0, messages={})
        await run.janitor.one_round()
        self.used_bytes = run.staging.usage().used_bytes
        await run.stop()
        self.run_number = 1

    async def put(self, run: Run, number: int) -> ObjectVersion:
        """Have an object."""
        content = content_of(SIZE_BYTES, number)
        received = await put(run.staging, content)
        piece = Piece(
            ordinal=1, address=received.address, length_bytes=SIZE_BYTES, crc64nvme=crc64nvme(content)
        )
        version: ObjectVersion = await run.store.publish_version(
            facts_of(b"%02d" % number, size_bytes=SIZE_BYTES, crc64nvme=piece.crc64nvme),
            layout_id=f"l{number}",
            pieces=[piece],
            wants_tape=False,
            condition=None,
            messages=(),
        )
        return version

    def next_run(self, directory: Path, fate: Fate | None = None) -> Run:
        """The next run on a directory."""
        self.run_number += 1
        run = Run(directory, self.run_number, fate)
        self.addCleanup(lambda: Deferred.fromCoroutine(run.stop()))
        return run

    async def check(self, run: Run, what: object) -> None:
        """What lives reads back, nothing else is there, the room is back, and the account is right."""
        addresses = set()
        for number, version in zip(LIVING, self.living, strict=True):
            (piece,) = await run.store.pieces(version.layout_id, after_ordinal=0, limit=9)
            addresses.add(piece.address)
            reader = await run.staging.open(piece)
            self.assertEqual(await whole(reader), content_of(SIZE_BYTES, number), what)
            reader.close()
        self.assertEqual(await run.store.discards(9), [], what)
        self.assertEqual(run.staging.account.present, occupied_below(run.directory), what)
        await run.stop()
        following = self.next_run(run.directory.parent)
        await following.start()
        self.assertEqual(set(await following.staging.stored(after="", limit=100)), addresses, what)
        self.assertEqual(following.staging.account.present, occupied_below(following.directory), what)
        usage = following.staging.usage()
        self.assertEqual(usage.reserved_bytes, 0, what)
        self.assertLessEqual(usage.used_bytes, 2 * SIZE_BYTES * len(LIVING), what)
        await following.stop()

    @returns_deferred
    async def test_moved(self) -> None:
        """What lives moves together, and the room of the dead comes back."""
        self.assertGreater(self.used_bytes, 3 * SIZE_BYTES * len(LIVING))
        run = self.next_run(self.directory / "before")
        await run.start()
        await run.tidy()
        await self.check(run, "")

    @returns_deferred
    async def test_damaged_since_it_was_checked(self) -> None:
        """Bytes that changed after they were checked stay where they are; the operator is told, and the others move."""
        run = self.next_run(self.directory / "before")
        await run.start()
        (piece,) = await run.store.pieces(self.living[0].layout_id, after_ordinal=0, limit=9)
        reader = await run.staging.open(piece)
        self.assertEqual(await whole(reader), content_of(SIZE_BYTES, LIVING[0]))
        reader.close()
        (place,) = await run.staging.places([piece])
        with open(place.path, "r+b") as file:
            file.seek(place.offset_bytes + 5)
            file.write(b"rot")
        await run.tidy()
        (alert,) = await run.store.alerts(include_cleared=True, limit=9)
        self.assertEqual(alert.subject, f"piece {piece.address}")
        moved = []
        for version in self.living:
            (now,) = await run.store.pieces(version.layout_id, after_ordinal=0, limit=9)
            moved.append(now.address)
            self.assertEqual(await run.store.referenced([now.address]), {now.address})
        self.assertEqual(moved[0], piece.address)
        await run.stop()
        following = self.next_run(self.directory / "before")
        await following.start()
        self.assertEqual(sorted(await following.staging.stored(after="", limit=100)), sorted(moved))
        self.assertEqual(len({address.rpartition("-")[0].rpartition("-")[0] for address in moved}), 2)
        self.assertEqual(len(self.flushLoggedErrors()), 0)
        await following.stop()

    @returns_deferred
    async def test_cut_off(self) -> None:
        """
        Cut off before any change of the disk or step of the record, and after the last: the next run has every object, nothing
        else, and moves what has not moved.
        """
        point = 1
        while await self.cut_off(point):
            point += 1
        self.assertGreater(point, 30)

    async def cut_off(self, point: int) -> bool:
        """Cut a run off; tell whether it came to that."""
        directory = self.directory / str(point)
        copy_with_holes(self.directory / "before", directory)
        fate = Fate()
        run = self.next_run(directory, fate)
        await run.start()
        fate.die_before(point)
        tidying = Deferred.fromCoroutine(run.tidy())
        tidying.addErrback(lambda _: None)
        await DeferredList([tidying, fate.died], fireOnOneCallback=True)
        await run.stop()
        self.flushLoggedErrors()
        following = self.next_run(directory)
        await following.start()
        await following.tidy()
        await self.check(following, point)
        shutil.rmtree(directory)
        return fate.is_dead
