"""``IStaging`` on a real directory and in memory, and what only a real directory can show."""

import errno
import os
from pathlib import Path
from random import Random
from typing import cast

from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from coldstore.disk.filesystem import FileSystem
from coldstore.disk.staging import DiskStaging
from coldstore.disk.threads import Reactor
from coldstore.interfaces.staging import DiskFault, IStaging, RecallSlot
from coldstore.model.objects import Piece
from coldstore.testing.staging import SimulatedStaging
from coldstore.util.asynchronous import returns_deferred
from tests.contract.staging_contract import CAPACITY_BYTES, MIB, StagingContract


class SimulatedStagingTests(StagingContract, TestCase):
    """In memory."""

    staging: SimulatedStaging

    def make_staging(self) -> SimulatedStaging:
        """An empty medium."""
        return SimulatedStaging(capacity_bytes=CAPACITY_BYTES)

    def reopened(self) -> Deferred[IStaging]:
        """Crash and start again."""
        self.staging.crash(Random(1))
        following = self.staging.restarted()
        following.start()
        return succeed(following)

    def damage(self, piece: Piece, offset_bytes: int) -> None:
        """On the medium."""
        self.staging.damage(piece.address, offset_bytes)

    def lose(self, piece: Piece) -> None:
        """On the medium."""
        self.staging.lose(piece.address)

    def range_content(self, path: str, offset_bytes: int, length_bytes: int) -> bytes:
        """By the made-up path."""
        return self.staging.content(path, offset_bytes, length_bytes)

    def fill(self, slot: RecallSlot, content: bytes) -> None:
        """By the made-up path."""
        self.staging.fill(slot, content)

    def check_account(self) -> None:
        """Used is the sum of the contents by construction; nothing may stay reserved below zero."""
        self.assertGreaterEqual(self.staging.usage().reserved_bytes, 0)


class SimulatedCrashTests(TestCase):
    """What only the simulation can do."""

    def test_crash_before_the_sync(self) -> None:
        """What was not synced when the power went is kept or lost by chance, and never acknowledged; what was synced stays."""
        outcomes: set[bool] = set()
        for seed in range(20):
            clock = Clock()
            staging = SimulatedStaging(clock=clock, sync_seconds=0.5)
            staging.start()
            first, second = (staging.receive(size_bytes=3, algorithms=frozenset()) for _ in range(2))
            first.write(b"abc")
            second.write(b"def")
            done = first.finish()
            self.assertNoResult(done)
            clock.advance(0.6)
            kept = self.successResultOf(done)
            doubtful = second.finish()
            staging.crash(Random(seed))
            clock.advance(1)
            self.assertNoResult(doubtful)
            following = staging.restarted()
            following.start()
            found = self.successResultOf(following.stored(after="", limit=10))
            self.assertIn(kept.address, found)
            outcomes.add(len(found) == 2)
            self.assertEqual(following.usage().reserved_bytes, 0)
        self.assertEqual(outcomes, {True, False})

    def test_told_to_fail(self) -> None:
        """A failure is given once, to the operation it was meant for."""
        staging = SimulatedStaging()
        staging.start()
        staging.fail_next("finish", DiskFault("told to"))
        for fails in (True, False):
            incoming = staging.receive(size_bytes=1, algorithms=frozenset())
            incoming.write(b"x")
            if fails:
                self.failureResultOf(incoming.finish(), DiskFault)
            else:
                self.successResultOf(incoming.finish())
        self.assertEqual(staging.usage().used_bytes, 1)


def occupied_below(directory: Path) -> int:
    """What the file system has allocated below a directory, without the note of the account."""
    paths = (path for path in directory.rglob("*") if path.is_file() and path.parent != directory)
    return sum(path.stat().st_blocks * 512 for path in paths)


def path_of(directory: Path, address: str) -> tuple[Path, int]:
    """Where a piece lies, read off its address."""
    kind, chance, run, *place = address.split("-")
    if kind == "f":
        return directory / "files" / chance[:2] / f"{chance}-{run}", 0
    return directory / "containers" / f"{kind}-{chance}-{run}", int(place[0], 16) + (40 if kind == "s" else 0)


class DiskHarness:
    """Makes disks in temporary directories and looks at them from outside."""

    directory: Path
    run_number = 0

    def make_disk(
        self, case: TestCase, system: FileSystem | None = None, segment_bytes: int = 64 * MIB
    ) -> DiskStaging:
        """The next run on the directory of this test."""
        if not self.run_number:
            self.directory = Path(case.mktemp()).absolute() / "staging"
        self.run_number += 1
        return DiskStaging(
            reactor=cast(Reactor, reactor),
            random=Random(self.run_number),
            run=f"{self.run_number}",
            directory=self.directory,
            capacity_bytes=CAPACITY_BYTES,
            segment_bytes=segment_bytes,
            system=system,
        )


class DiskStagingTests(StagingContract, TestCase, DiskHarness):
    """On the file system of the temporary directory."""

    staging: DiskStaging

    def make_staging(self) -> DiskStaging:
        """A new directory."""
        return self.make_disk(self)

    @returns_deferred
    async def reopened(self) -> IStaging:
        """Copy what a kill would leave, end this run, and start the next one on the copy."""
        left = self.directory.with_name(f"left-{self.run_number}")
        copy_with_holes(self.directory, left)
        await self.staging.stop()
        self.directory = left
        following = self.make_disk(self)
        await following.start()
        return following

    def damage(self, piece: Piece, offset_bytes: int) -> None:
        """In the file."""
        path, base = path_of(self.directory, piece.address)
        with path.open("r+b") as file:
            file.seek(base + offset_bytes)
            byte = file.read(1)[0]
            file.seek(base + offset_bytes)
            file.write(bytes([byte ^ 0x40]))

    def lose(self, piece: Piece) -> None:
        """Remove the file; the account learns of it at once, as no real disk would tell it."""
        path, _ = path_of(self.directory, piece.address)
        self.staging.account.used -= path.stat().st_blocks * 512
        path.unlink()

    def range_content(self, path: str, offset_bytes: int, length_bytes: int) -> bytes:
        """From the file."""
        with open(path, "rb") as file:
            file.seek(offset_bytes)
            return file.read(length_bytes)

    def fill(self, slot: RecallSlot, content: bytes) -> None:
        """Into the file."""
        self.assertEqual(len(content), slot.length_bytes)
        with open(slot.path, "r+b") as file:
            file.seek(slot.offset_bytes)
            file.write(content)

    def check_account(self) -> None:
        """Bytes accounted equal bytes allocated."""
        self.assertEqual(self.staging.account.present, occupied_below(self.directory))


def copy_with_holes(source: Path, target: Path) -> None:
    """Copy a directory tree as it stands, allocation included, so that it can stand for what a kill leaves."""
    for path in sorted(source.rglob("*")):
        copy = target / path.relative_to(source)
        if path.is_dir():
            copy.mkdir(parents=True, exist_ok=True)
            continue
        system = FileSystem()
        copy.parent.mkdir(parents=True, exist_ok=True)
        size = path.stat().st_size
        old, new = os.open(path, os.O_RDONLY), os.open(copy, os.O_RDWR | os.O_CREAT, 0o640)
        if size:
            system.allocate(new, 0, size)
        at = 0
        while at < size:
            try:
                data = os.lseek(old, at, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                data = size
            if data > at and path.stat().st_blocks * 512 < size:
                system.punch(new, at, data - at)
            if data == size:
                break
            hole = os.lseek(old, data, os.SEEK_HOLE)
            system.write(new, [os.pread(old, hole - data, data)], data)
            at = hole
        os.close(old)
        os.close(new)
