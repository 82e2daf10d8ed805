"""What ``DiskStaging`` does when the disk fails, is full, or the process is killed."""

import errno
import gc
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList, gatherResults, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.trial.unittest import SkipTest, TestCase

from coldstore.disk import staging as disk_staging
from coldstore.disk.filesystem import FileSystem
from coldstore.disk.framing import record_bytes
from coldstore.disk.staging import DiskStaging
from coldstore.interfaces.staging import BLOCK_BYTES, DiskFault, IStaging, Received
from coldstore.model.errors import StagingFull
from coldstore.model.objects import Piece
from coldstore.util.asynchronous import returns_deferred
from coldstore.util.checksums import crc64nvme
from tests.contract.staging_contract import KIB, MIB, NONE, content_of, piece_of, put, recalled, whole
from tests.contract.test_staging import DiskHarness, copy_with_holes, occupied_below, path_of

ROOT = Path(__file__).resolve().parent.parent.parent
CHANGES = (
    "create",
    "write",
    "sync",
    "sync_directory",
    "allocate",
    "punch",
    "truncate",
    "rename",
    "unlink",
    "put",
    "append",
)


TAKING_ROOM = ("create", "write", "allocate", "rename", "put", "append")


class FailingFileSystem(FileSystem):
    """Fails the n-th change of the disk, or every change of a kind, with a given error number; counts the changes."""

    def __init__(self, error_number: int = errno.EIO) -> None:
        self.error_number = error_number
        self.fail_at = 0
        self.full_from = 0
        """From this change on whatever takes room fails, as on a disk that others have filled; 0: never."""
        self.seen = 0
        self.failing: set[str] = set()
        self.failed: list[str] = []
        self.changes: list[str] = []
        self.counts: dict[str, int] = {}
        for name in CHANGES:
            setattr(self, name, self._watched(name, getattr(super(), name)))

    def _watched(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self.seen += 1
            self.changes.append(name)
            self.counts[name] = self.counts.get(name, 0) + 1
            is_full = 0 < self.full_from <= self.seen and name in TAKING_ROOM
            if self.seen == self.fail_at or name in self.failing or is_full:
                self.failed.append(name)
                raise OSError(self.error_number, os.strerror(self.error_number))
            return real(*arguments, **options)

        return call


class CountingReads(FileSystem):
    """Counts bytes that are read to be checked."""

    def __init__(self) -> None:
        self.read_bytes = 0

    def read_into(self, descriptor: int, buffer: bytearray | memoryview, offset_bytes: int) -> int:
        """Count, then read."""
        self.read_bytes += len(buffer)
        return super().read_into(descriptor, buffer, offset_bytes)


class FaultTests(TestCase, DiskHarness):
    """A disk that fails."""

    timeout = 900

    @returns_deferred
    async def scenario(self, staging: IStaging) -> tuple[dict[str, bytes], set[str], bool]:
        """Receive, recall, make a file of our own and discard; return what was acknowledged, what was acknowledged as discarded, whether all went well."""
        held: dict[str, bytes] = {}
        gone: set[str] = set()
        is_well = True
        for number, size in enumerate((3000, 200 * KIB, 4 * MIB + 1, 300 * KIB, 4000)):
            content = content_of(size, number)
            try:
                held[(await put(staging, content, frozenset({"md5"}))).address] = content
            except (StagingFull, DiskFault):
                is_well = False
        try:
            contents = [content_of(size, size) for size in (4 * MIB + 5, 1000, 90_000)]
            space = await staging.reserve_recall([len(each) for each in contents])
            for slot, content in zip(space.slots, contents, strict=True):
                with open(slot.path, "r+b") as file:
                    file.seek(slot.offset_bytes)
                    file.write(content)
            arrived = [recalled(slot, contents[slot]) for slot in (0, 2)]
            addresses = await staging.adopt_recalled(space, arrived)
            held.update(zip(addresses, (contents[0], contents[2]), strict=True))
        except (StagingFull, DiskFault):
            is_well = False
        try:
            made, _ = await staging.scratch(lambda put: put(content_of(5000)))
            await staging.drop_scratch(made)
        except (StagingFull, DiskFault):
            is_well = False
        for address in list(held)[::2]:
            content = held.pop(address)
            try:
                await staging.discard([address])
                gone.add(address)
            except DiskFault:
                is_well = False
        return held, gone, is_well

    @returns_deferred
    async def check(self, staging: IStaging, held: dict[str, bytes], gone: set[str]) -> None:
        """What was acknowledged reads back; what was discarded does not."""
        for address, content in held.items():
            piece = Piece(ordinal=1, address=address, length_bytes=len(content), crc64nvme=crc64nvme(content))
            reader = await staging.open(piece)
            self.assertEqual(await whole(reader), content)
            reader.close()
        self.assertEqual(gone.intersection(await staging.stored(after="", limit=100)), set())

    @returns_deferred
    async def fail_everywhere(self, error_number: int) -> None:
        """Let each change of the disk fail once; look at the account, then at what the next run finds."""
        memory = Path("/dev/shm")
        if memory.is_dir() and os.access(memory, os.W_OK):
            # Hundreds of runs with all their fsyncs: a file system in memory has the same calls and no waiting.
            self.directory, self.run_number = Path(tempfile.mkdtemp(dir=memory)) / "staging", 1
            self.addCleanup(shutil.rmtree, self.directory.parent)
        changes = await self.fail_at(error_number, 0)
        self.assertGreater(len(changes), 50)
        for number, change in enumerate(changes, start=1):
            if error_number == errno.EIO or change in TAKING_ROOM:
                await self.fail_at(error_number, number)

    @returns_deferred
    async def fail_at(self, error_number: int, fail_at: int, *, stays_full: bool = False) -> list[str]:
        """
        Let one change fail (none for 0), or all that take room from then on; return the changes of the scenario, in order.
        """
        system = FailingFileSystem(error_number)
        staging = self.make_disk(self, system, segment_bytes=300 * KIB)
        await staging.start()
        before, left = self.directory, self.directory.with_name("left")
        try:
            system.seen, system.changes = 0, []
            system.full_from, system.fail_at = (fail_at, 0) if stays_full else (0, fail_at)
            held, gone, is_well = await self.scenario(staging)
            self.assertTrue(is_well or system.failed)
            changes = list(system.changes)
            if stays_full:
                system.full_from = 0
                more = content_of(3 * MIB, fail_at)
                held[(await put(staging, more)).address] = more
            what = f"{system.failed} failed as change {fail_at}"
            await self.check(staging, held, gone)
            self.assertEqual(staging.account.present, occupied_below(self.directory), what)
            copy_with_holes(self.directory, left)
        finally:
            await staging.stop()
            self.flushLoggedErrors()
        for directory in (left, before):
            self.directory = directory
            following = self.make_disk(self)
            await following.start()
            try:
                await self.check(following, held, gone)
                self.assertEqual(following.account.present, occupied_below(self.directory), what)
                self.assertEqual(following.usage().reserved_bytes, 0, what)
                found = await following.stored(after="", limit=100)
                self.assertEqual(set(held).difference(found), set(), what)
                await following.discard(found)
                self.assertEqual(following.usage().used_bytes, 0, what)
            finally:
                await following.stop()
        return changes

    def test_each_change_fails(self) -> Deferred[None]:
        """Whichever change of the disk fails with EIO: nothing acknowledged is lost, nothing leaks, the account is right."""
        return self.fail_everywhere(errno.EIO)

    def test_each_change_finds_no_room(self) -> Deferred[None]:
        """The same when each change in turn finds the disk full."""
        return self.fail_everywhere(errno.ENOSPC)

    @returns_deferred
    async def test_full_from_each_change_on(self) -> None:
        """
        From whichever change on the disk stays full: what was acknowledged is there, nothing half-done is, and as soon as there is
        room again the same run takes bytes again.
        """
        memory = Path("/dev/shm")
        if memory.is_dir() and os.access(memory, os.W_OK):
            self.directory, self.run_number = Path(tempfile.mkdtemp(dir=memory)) / "staging", 1
            self.addCleanup(shutil.rmtree, self.directory.parent)
        changes = await self.fail_at(errno.ENOSPC, 0)
        for number, change in enumerate(changes, start=1):
            if change in TAKING_ROOM:
                await self.fail_at(errno.ENOSPC, number, stays_full=True)

    @returns_deferred
    async def test_full_after_all(self) -> None:
        """A disk that runs full while bytes arrive makes finish fail with StagingFull; a failed fsync with DiskFault."""
        for kind, number, expected in (
            ("write", errno.ENOSPC, StagingFull),
            ("allocate", errno.EDQUOT, StagingFull),
            ("sync", errno.EIO, DiskFault),
            ("write", errno.EROFS, DiskFault),
        ):
            for size in (1000, 3 * MIB):
                self.run_number = 0
                system = FailingFileSystem(number)
                staging = self.make_disk(self, system)
                await staging.start()
                good = await put(staging, content_of(500))
                system.failing = {kind}
                if (kind, size) != ("allocate", 1000):
                    await self.assertFailure(put(staging, content_of(size)), expected)
                system.failing = set()
                self.assertEqual(staging.account.present, occupied_below(self.directory))
                self.assertEqual(staging.account.held, 0)
                after = await put(staging, content_of(600))
                self.assertEqual(
                    len({path_of(self.directory, each.address)[0] for each in (good, after)}),
                    1 + (size == 1000 and kind != "allocate"),
                )
                for received, length in ((good, 500), (after, 600)):
                    reader = await staging.open(piece_of(received))
                    self.assertEqual(await whole(reader), content_of(length))
                    reader.close()
                await staging.stop()

    @returns_deferred
    async def test_freeing_fails_for_all(self) -> None:
        """When some pieces cannot be freed, those that somebody read are no failure that nobody hears of."""
        system = FailingFileSystem()
        staging = self.make_disk(self, system)
        await staging.start()
        pieces = [
            piece_of(await put(staging, content_of(size))) for size in (300 * KIB, 301 * KIB, 302 * KIB)
        ]
        for read in pieces[1:]:
            staging.pin(read)
        system.failing = {"unlink"}
        freed = staging.discard([each.address for each in pieces])
        for read in pieces[1:]:
            staging.unpin(read)
        await self.assertFailure(freed, DiskFault)
        # Behind those that were read: one after the other is freed.
        await self.assertFailure(staging.discard([pieces[0].address]), DiskFault)
        gc.collect()
        self.assertEqual(self.flushLoggedErrors(), [])
        system.failing = set()
        await staging.discard([each.address for each in pieces])
        self.assertEqual(staging.account.present, occupied_below(self.directory))
        await staging.stop()

    @returns_deferred
    async def test_refused_by_a_read_only_disk(self) -> None:
        """A large piece that could not even be begun takes no room, though the disk lets nothing be removed."""
        system = FailingFileSystem(errno.EROFS)
        staging = self.make_disk(self, system)
        await staging.start()
        system.failing = {"create", "unlink"}
        await self.assertFailure(put(staging, content_of(3 * MIB)), DiskFault)
        self.assertEqual(staging.account.held, 0)
        system.failing = set()
        await staging.stop()

    @returns_deferred
    async def test_a_segment_cannot_be_sealed(self) -> None:
        """What a segment had allocated ahead and cannot be given back counts as used, not as room that others were promised."""
        system = FailingFileSystem()
        staging = self.make_disk(self, system, segment_bytes=300 * KIB)
        await staging.start()
        for seed in range(4):
            await put(staging, content_of(60 * KIB, seed))
        self.assertGreater(staging.account.prepared, 0)
        system.failing = {"truncate"}
        await put(staging, content_of(100 * KIB, 9))
        system.failing = set()
        self.assertEqual(staging.account.present, occupied_below(self.directory))
        for seed in range(4):
            await put(staging, content_of(60 * KIB, seed))
        await staging.stop()
        self.assertEqual(staging.account.prepared, 0)
        self.assertEqual(staging.usage().used_bytes, occupied_below(self.directory))

    @returns_deferred
    async def test_the_disk_takes_nothing_at_the_start(self) -> None:
        """
        After a kill on a disk that is full or read-only by now: everything is read, nothing is taken, and why is said; when the disk
        takes something again the same run does.
        """
        self.patch(disk_staging, "ATTEMPT_SECONDS", 0.0)
        for number in (errno.ENOSPC, errno.EROFS):
            self.run_number = 0
            await self._start_on_a_disk_that_takes_nothing(number)

    @returns_deferred
    async def _start_on_a_disk_that_takes_nothing(self, number: int) -> None:
        staging = self.make_disk(self)
        await staging.start()
        kept = [await put(staging, content_of(size, size)) for size in (9000, 700, 3 * MIB, 5000)]
        await staging.discard([kept.pop().address])
        arriving = staging.receive(size_bytes=4 * MIB, algorithms=NONE)
        arriving.write(content_of(2 * MIB))
        left = self.directory.with_name("left")
        copy_with_holes(self.directory, left)
        await staging.stop()
        self.directory = left
        system = FailingFileSystem(number)
        system.failing = set(TAKING_ROOM if number == errno.ENOSPC else CHANGES)
        following = self.make_disk(self, system)
        await following.start()
        self.addCleanup(following.stop)

        async def all_is_there(following: IStaging, kept: list[Received]) -> None:
            for each in kept:
                reader = await following.open(piece_of(each))
                self.assertEqual(await whole(reader), content_of(each.length_bytes, each.length_bytes))
                reader.close()

        await all_is_there(following, kept)
        for refused in (
            lambda: following.receive(size_bytes=9, algorithms=NONE),
            lambda: following.reserve_recall([9]),
            lambda: following.scratch(lambda put: put(b"x")),
        ):
            fault = await self.assertFailure(maybeDeferred(refused), DiskFault)
            self.assertIn(f"takes nothing since the start: {os.strerror(number)}", str(fault))
        system.failing = set()
        while following.trouble:
            await deferLater(cast(IReactorTime, reactor), 0.05)
        await all_is_there(following, kept)
        kept.append(await put(following, content_of(800, 800)))
        await all_is_there(following, kept)
        self.assertEqual(await following.stored(after="", limit=9), sorted(each.address for each in kept[:3]))
        self.assertEqual(following.account.present, occupied_below(self.directory))
        self.assertEqual(following.usage().reserved_bytes, following.account.prepared)

    @returns_deferred
    async def test_looking_for_what_is_scattered_fails(self) -> None:
        """A container that cannot be tidied while somebody looks what lives in it is the disk's fault, and says so."""
        system = FailingFileSystem(errno.EROFS)
        staging = self.make_disk(self, system, segment_bytes=MIB)
        await staging.start()
        received = await gatherResults([put(staging, content_of(30_000, number)) for number in range(60)])
        sealed, _ = path_of(self.directory, received[0].address)
        dying = [each.address for each in received if path_of(self.directory, each.address)[0] == sealed]
        await staging.discard(dying[3:])
        system.failing = {"unlink"}
        await self.assertFailure(staging.discard(dying[:3]), DiskFault)
        await self.assertFailure(staging.scattered(after="", limit=50), DiskFault)
        system.failing = set()
        await staging.discard(dying)
        self.assertEqual(await staging.scattered(after="", limit=50), [])
        self.assertEqual(staging.account.present, occupied_below(self.directory))
        await staging.stop()

    @returns_deferred
    async def test_full_for_recalls(self) -> None:
        """Recalls that find the disk full again and again say the same each time: an alert follows the sentence."""
        system = FailingFileSystem(errno.ENOSPC)
        staging = self.make_disk(self, system)
        await staging.start()
        system.failing = {"create"}
        told = set()
        for _ in range(2):
            full = await self.assertFailure(staging.reserve_recall([1000]), StagingFull)
            told.add(str(full))
        self.assertEqual(len(told), 1, told)
        self.assertIn(str(self.directory), told.pop())
        await staging.stop()

    @returns_deferred
    async def test_without_holes_and_preallocation(self) -> None:
        """Where the file system offers neither, space comes back when nothing in a container lives, and the account is right."""

        class Plain(FileSystem):
            def _fallocate(self, descriptor: int, mode: int, offset_bytes: int, length_bytes: int) -> None:
                raise OSError(errno.EOPNOTSUPP, "not offered")

        staging = self.make_disk(self, Plain(), segment_bytes=400 * KIB)
        await staging.start()
        received = [await put(staging, content_of(100 * KIB, seed)) for seed in range(6)]
        large = await put(staging, content_of(2 * MIB))
        self.assertEqual(staging.account.present, occupied_below(self.directory))
        before = staging.usage().used_bytes
        await staging.discard([received[0].address])
        self.assertGreaterEqual(staging.usage().used_bytes, before)
        await staging.discard([each.address for each in received[1:3]])
        self.assertLess(staging.usage().used_bytes, before - 250 * KIB)
        await staging.discard([large.address])
        self.assertEqual(staging.account.present, occupied_below(self.directory))
        await staging.stop()

    @returns_deferred
    async def test_real_full_file_system(self) -> None:
        """On a small file system that others fill, promises shrink, what breaks is refused, and nothing is left."""
        mount = Path(tempfile.mkdtemp(prefix="coldstore-full-"))
        if (
            os.geteuid() != 0
            or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "none", mount]).returncode
        ):
            mount.rmdir()
            raise SkipTest("mounting a small tmpfs needs root")
        try:
            self.run_number, self.directory = 1, mount / "staging"
            staging = self.make_disk(self)
            await staging.start()
            self.assertLessEqual(staging.usage().capacity_bytes, 24 * MIB)
            self.assertRaises(StagingFull, staging.receive, size_bytes=30 * MIB, algorithms=NONE)
            small = await put(staging, content_of(1000))
            (mount / "stranger").write_bytes(bytes(14 * MIB))
            await self.assertFailure(put(staging, content_of(12 * MIB)), StagingFull)
            self.assertEqual(staging.account.present, occupied_below(self.directory))
            await deferLater(cast(IReactorTime, reactor), 1.2)
            self.assertLess(staging.usage().capacity_bytes, 11 * MIB)
            reader = await staging.open(piece_of(small))
            self.assertEqual(await whole(reader), content_of(1000))
            reader.close()
            await staging.stop()
        finally:
            subprocess.run(["umount", mount], check=True)
            mount.rmdir()

    @returns_deferred
    async def test_unusable_directory(self) -> None:
        """A directory that cannot be used makes start fail and name it."""
        self.run_number, self.directory = 1, Path(self.mktemp()).absolute()
        self.directory.write_text("a file")
        failure: Any = await self.assertFailure(
            cast("Deferred[object]", self.make_disk(self).start()), DiskFault
        )
        self.assertIn(str(self.directory), str(failure))


class DiskBehaviourTests(TestCase, DiskHarness):
    """What can be seen on the directory, or counted."""

    @returns_deferred
    async def disk(self, system: FileSystem | None = None, segment_bytes: int = 64 * MIB) -> DiskStaging:
        """A started disk that is stopped at the end of the test."""
        staging = self.make_disk(self, system, segment_bytes)
        await staging.start()
        self.addCleanup(staging.stop)
        return staging

    @returns_deferred
    async def test_group_commit(self) -> None:
        """64 small pieces that come together share a few syncs, and each reads back."""
        system = FailingFileSystem()
        staging = await self.disk(system)
        await put(staging, b"makes the segment")
        before = system.counts["sync"]
        contents = [content_of(4 * KIB, seed) for seed in range(256)]
        received = await gatherResults([put(staging, each) for each in contents])
        self.assertLess(system.counts["sync"] - before, 64)
        self.assertEqual(len({each.address for each in received}), 256)
        for content, each in zip(contents, received, strict=True):
            reader = await staging.open(piece_of(each))
            self.assertEqual(await whole(reader), content)
            reader.close()

    @returns_deferred
    async def test_segments_are_sealed(self) -> None:
        """A segment that is full is cut to its records and given a list; the next run finds all of it."""
        staging = await self.disk(segment_bytes=400 * KIB)
        received = [await put(staging, content_of(90 * KIB, seed)) for seed in range(10)]
        containers = sorted((self.directory / "containers").glob("s-*"))
        self.assertEqual(len([each for each in containers if "." not in each.name]), 3)
        self.assertEqual(len([each for each in containers if each.suffix == ".records"]), 2)
        await staging.stop()
        following = await self.disk()
        self.assertEqual(
            await following.stored(after="", limit=100), sorted(each.address for each in received)
        )
        self.assertEqual(following.account.present, occupied_below(self.directory))

    @returns_deferred
    async def test_long_stretches_are_punched(self) -> None:
        """A long stretch of the dead comes back while others in the segment live; the last one takes the file along."""
        staging = await self.disk(segment_bytes=4 * MIB)
        received = [await put(staging, content_of(20 * KIB, seed)) for seed in range(200)]
        addresses = [each.address for each in received]
        path, _ = path_of(self.directory, addresses[0])
        self.assertTrue(path.with_name(path.name + ".records").exists())
        full = staging.usage().used_bytes
        for address in addresses[:40]:
            await staging.discard([address])
        self.assertGreaterEqual(staging.usage().used_bytes, full)
        for address in addresses[40:100]:
            await staging.discard([address])
        self.assertLess(staging.usage().used_bytes, full - 2 * MIB + 100 * KIB)
        self.assertEqual(await staging.scattered(after="", limit=10), [])
        for each, seed in zip(received[100:], range(100, 200), strict=True):
            reader = await staging.open(piece_of(each))
            self.assertEqual(await whole(reader), content_of(20 * KIB, seed))
            reader.close()
        self.assertEqual(staging.account.present, occupied_below(self.directory))
        await staging.stop()
        following = await self.disk()
        self.assertEqual(following.account.present, occupied_below(self.directory))
        self.assertEqual(await following.stored(after="", limit=1000), addresses[100:])
        await following.discard(addresses[100:])
        self.assertFalse(path.exists())
        self.assertEqual(occupied_below(self.directory), 0)
        self.assertEqual(following.usage().used_bytes, 0)

    @returns_deferred
    async def test_a_segment_that_dies_at_once_is_unlinked_without_a_note(self) -> None:
        """Discarding everything in a sealed segment costs one unlink, in however many calls it comes."""
        system = FailingFileSystem()
        staging = await self.disk(system, segment_bytes=2 * MIB)
        received = [await put(staging, content_of(4 * KIB, 1)) for _ in range(600)]
        containers = {path_of(self.directory, each.address)[0] for each in received}
        sealed = sorted(path for path in containers if path.with_name(path.name + ".records").exists())
        gone = [each.address for each in received if path_of(self.directory, each.address)[0] in sealed]
        self.assertGreater(len(gone), 400)
        before = dict(system.counts)
        await gatherResults([staging.discard(gone[start : start + 40]) for start in range(0, len(gone), 40)])
        spent = {name: count - before.get(name, 0) for name, count in system.counts.items()}
        # The first call goes alone, and notes its dead; what comes while it is under way goes together.
        self.assertLessEqual(spent.get("append", 0), 1)
        self.assertEqual(spent.get("punch", 0), 0)
        self.assertLessEqual(spent["sync_directory"], 2 + len(sealed))
        self.assertEqual([path for path in sealed if path.exists()], [])
        self.assertEqual(staging.account.present, occupied_below(self.directory))

    @returns_deferred
    async def test_kept_pieces_have_segments_of_their_own(self) -> None:
        """What stays on the disk and what goes once it is on tape do not share a segment."""
        staging = await self.disk()
        containers: dict[bool, set[Path]] = {False: set(), True: set()}
        for number in range(20):
            is_kept = bool(number % 2)
            incoming = staging.receive(size_bytes=1000, algorithms=NONE, is_kept=is_kept)
            incoming.write(content_of(1000))
            containers[is_kept].add(path_of(self.directory, (await incoming.finish()).address)[0])
        self.assertEqual((len(containers[False]), len(containers[True])), (1, 1))
        self.assertEqual(containers[False] & containers[True], set())
        left = self.directory.with_name("left")
        copy_with_holes(self.directory, left)
        self.directory = left
        following = await self.disk()
        self.assertEqual(len(await following.stored(after="", limit=100)), 20)
        self.assertEqual(following.account.present, occupied_below(self.directory))

    @returns_deferred
    async def test_waste_is_bounded(self) -> None:
        """
        Whatever dies in whatever order: once what is scattered was moved, every sealed container takes up at most twice what
        lives in it, lists included; and an open segment that is mostly dead gets sealed.
        """
        dice = random.Random(5)
        staging = await self.disk(segment_bytes=MIB)
        living: dict[str, Any] = {}
        for _ in range(3):
            received = await gatherResults(
                [put(staging, content_of(dice.choice((60, 700, 4096, 30_000)), 1)) for _ in range(700)]
            )
            living.update((each.address, each) for each in received)
            gone = dice.sample(sorted(living), len(living) * 8 // 10)
            for start in range(0, len(gone), 60):
                await staging.discard(gone[start : start + 60])
            for address in gone:
                del living[address]
            while found := await staging.scattered(after="", limit=50):
                for address in found:
                    received_anew = await put(staging, content_of(living.pop(address).length_bytes, 1))
                    living[received_anew.address] = received_anew
                await staging.discard(found)
            for path in (self.directory / "containers").glob("*.records"):
                name = path.name.removesuffix(".records")
                lists = [path, path.with_name(f"{name}.dead"), path.with_name(name)]
                occupied = sum(each.stat().st_blocks * 512 for each in lists if each.exists())
                taken = sum(record_bytes(living[each].length_bytes) for each in living if name in each)
                self.assertLessEqual(occupied, 2 * taken, name)
        self.assertEqual(staging.account.present, occupied_below(self.directory))
        for each in living.values():
            reader = await staging.open(piece_of(each))
            self.assertEqual(await whole(reader), content_of(each.length_bytes, 1))
            reader.close()

    @returns_deferred
    async def test_open_segment_with_dead_records_survives_a_kill(self) -> None:
        """Records behind discarded ones are found again when the segment was never sealed."""
        staging = await self.disk()
        received = [await put(staging, content_of(9000, seed)) for seed in range(30)]
        await staging.discard([each.address for each in received[5:20]])
        for number in (0, 4, 20, 29):
            reader = await staging.open(piece_of(received[number]))
            self.assertEqual(await whole(reader), content_of(9000, number))
            reader.close()
        left = self.directory.with_name("left")
        copy_with_holes(self.directory, left)
        self.directory = left
        following = await self.disk()
        expected = [each.address for each in received[:5] + received[20:]]
        self.assertEqual(await following.stored(after="", limit=100), expected)
        self.assertEqual(following.account.present, occupied_below(self.directory))
        reader = await following.open(piece_of(received[29]))
        self.assertEqual(await whole(reader), content_of(9000, 29))
        reader.close()

    @returns_deferred
    async def test_rot_in_an_open_segment(self) -> None:
        """A record whose header rotted does not take those behind it along; a torn tail is cut off."""
        staging = await self.disk()
        received = [await put(staging, content_of(9000, seed)) for seed in range(6)]
        left = self.directory.with_name("left")
        copy_with_holes(self.directory, left)
        self.directory = left
        path, rotten = path_of(left, received[2].address)
        _, torn = path_of(left, received[5].address)
        with path.open("r+b") as file:
            file.seek(rotten - 38)
            file.write(b"\xff\xff")
            file.seek(torn + 5000)
            file.write(bytes(4000))
        following = await self.disk()
        expected = [received[number].address for number in (0, 1, 3, 4)]
        self.assertEqual(await following.stored(after="", limit=100), expected)
        self.assertEqual(path.stat().st_size, torn - 40)

    @returns_deferred
    async def test_damaged_lists(self) -> None:
        """Damaged block checksums and lists of pieces are faults that name their file; nothing is served on their word."""
        staging = await self.disk(segment_bytes=400 * KIB)
        large = await put(staging, content_of(9 * MIB))
        small = [await put(staging, content_of(200 * KIB)) for _ in range(2)]
        await staging.stop()
        path, _ = path_of(self.directory, large.address)
        segment, _ = path_of(self.directory, small[0].address)
        for lists in (path.with_name(path.name + ".blocks"), segment.with_name(segment.name + ".records")):
            content = bytearray(lists.read_bytes())
            content[30] ^= 1
            lists.write_bytes(content)
        following = await self.disk()
        for received, name in ((large, ".blocks"), (small[0], ".records")):
            failure = await self.assertFailure(following.open(piece_of(received)), DiskFault)
            self.assertIn(name, str(failure))

    @returns_deferred
    async def test_shorter_than_recorded(self) -> None:
        """A file that was cut is a fault that names it."""
        staging = await self.disk()
        received = await put(staging, content_of(5 * MIB))
        path, _ = path_of(self.directory, received.address)
        os.truncate(path, MIB)
        failure = await self.assertFailure(staging.open(piece_of(received)), DiskFault)
        self.assertIn(str(path), str(failure))

    @returns_deferred
    async def test_checked_once(self) -> None:
        """Readers of one block check it once between them, and later reads do not check it again."""
        system = CountingReads()
        staging = await self.disk(system)
        content = content_of(2 * BLOCK_BYTES)
        piece = piece_of(await put(staging, content))
        readers = [await staging.open(piece) for _ in range(10)]
        results = await gatherResults([reader.read(1000, 5000) for reader in readers])
        self.assertEqual(set(results), {content[1000:6000]})
        self.assertEqual(system.read_bytes, BLOCK_BYTES)
        for reader in readers:
            await reader.read(0, 100)
            await reader.verified_range(0, BLOCK_BYTES)
            reader.close()
        self.assertEqual(system.read_bytes, BLOCK_BYTES)

    @returns_deferred
    async def test_pressure(self) -> None:
        """A sender that is too fast is paused at eight batches and resumed; one that heeds it never has more outstanding."""
        staging = await self.disk()
        content = content_of(MIB)
        incoming = staging.receive(size_bytes=40 * MIB, algorithms=frozenset({"md5", "sha256"}))
        calls: list[str] = []
        resumed: list[Deferred[None]] = [Deferred()]

        def resume() -> None:
            calls.append("resume")
            waiting, resumed[0] = resumed[0], Deferred()
            waiting.callback(None)

        incoming.on_pressure(lambda: calls.append("pause"), resume)
        for number in range(40):
            incoming.write(content)
            if calls and calls[-1] == "pause":
                self.assertGreaterEqual(number, 7)
                await resumed[0]
        received = await incoming.finish()
        self.assertIn("pause", calls)
        self.assertEqual(calls[::2], ["pause"] * (len(calls) // 2))
        self.assertEqual(calls[1::2], ["resume"] * (len(calls) // 2))
        self.assertEqual(received.digests["md5"], hashlib.md5(content * 40).digest())

    @returns_deferred
    async def test_cancelled_reads(self) -> None:
        """Reads that nobody waits for any more do not disturb others, and the descriptor is closed after them."""
        staging = await self.disk()
        content = content_of(9 * MIB)
        received = await put(staging, content)
        before = len(os.listdir("/proc/self/fd"))
        reader = await staging.open(piece_of(received))
        reads = [reader.read(at, 3 * MIB) for at in (0, 3 * MIB, 6 * MIB)]
        for each in reads[:2]:
            each.addErrback(lambda _: None)
            each.cancel()
        self.assertEqual(await reads[2], content[6 * MIB :])
        self.assertEqual(await whole(reader), content)
        last = reader.read(0, 1000)
        last.addErrback(lambda _: None)
        last.cancel()
        reader.close()
        await staging.discard([received.address])
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)

    @returns_deferred
    async def test_count_beside_the_service(self) -> None:
        """While an earlier run's files are still being counted the noted account stands in, and the end result is exact."""
        from coldstore.disk import staging as module

        staging = await self.disk()
        received = [await put(staging, content_of(300 * KIB, seed)) for seed in range(40)]
        await staging.stop()
        self.patch(module, "COUNTED_AT_START", 1)
        following = await self.disk()
        self.assertGreaterEqual(following.usage().used_bytes, 40 * 300 * KIB)
        fresh = put(following, content_of(400 * KIB))
        await DeferredList([following.discard([each.address]) for each in received[::2]])
        await fresh
        while following.account.estimate:
            await deferLater(cast(IReactorTime, reactor), 0.01)
        await following.discard([received[1].address])
        self.assertEqual(following.account.present, occupied_below(self.directory))
        self.assertEqual(len(await following.stored(after="", limit=100)), 19)


class KillTests(TestCase, DiskHarness):
    """kill -9 of a process that writes and discards."""

    timeout = 480

    @returns_deferred
    async def test_kill(self) -> None:
        """At 12 random moments: what was acknowledged reads back, what was discarded stays away, nothing leaks."""
        dice = random.Random(7)
        self.run_number, self.directory = 1, Path(self.mktemp()).absolute() / "staging"
        held: dict[str, tuple[int, int]] = {}
        for round_number in range(12):
            self.run_number += 1
            seed = dice.randrange(1 << 30)
            writer = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "tests.contract.staging_writer",
                    str(self.directory),
                    str(self.run_number),
                    str(seed),
                ],
                stdout=subprocess.PIPE,
                cwd=ROOT,
            )
            assert writer.stdout is not None
            self.assertEqual(writer.stdout.readline(), b"started\n")
            time.sleep(dice.uniform(0.02, 0.5))
            writer.send_signal(signal.SIGKILL)
            lines = writer.stdout.read().decode().splitlines(keepends=True)
            writer.wait()
            writer.stdout.close()
            doubtful: set[str] = set()
            for line in lines:
                if not line.endswith("\n"):
                    continue
                word, address, *rest = line.split()
                if word == "put":
                    held[address] = (int(rest[0]), int(rest[1]))
                elif word == "discarding":
                    doubtful.add(address)
                    held.pop(address)
                else:
                    doubtful.discard(address)
                    self.assertEqual(word, "discarded")
            staging = self.make_disk(self)
            await staging.start()
            self.assertEqual(staging.account.present, occupied_below(self.directory))
            self.assertEqual(list((self.directory / "incoming").iterdir()), [])
            found = await staging.stored(after="", limit=100_000)
            self.assertEqual(set(held).difference(found), set(), f"round {round_number}, seed {seed}")
            for address, (size, content_seed) in held.items():
                content = content_of(size, content_seed)
                piece = Piece(ordinal=1, address=address, length_bytes=size, crc64nvme=crc64nvme(content))
                reader = await staging.open(piece)
                self.assertEqual(await whole(reader), content)
                reader.close()
            await staging.discard([each for each in found if each not in held])
            self.assertEqual(await staging.stored(after="", limit=100_000), sorted(held))
            if len(held) > 150:
                await staging.discard(list(held))
                held.clear()
                self.assertEqual(occupied_below(self.directory), 0)
            self.assertEqual(staging.account.present, occupied_below(self.directory))
            await staging.stop()
