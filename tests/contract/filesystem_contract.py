"""The contract of ``ITapeFilesystem``, ``IMountedVolume`` and ``IMover``: one suite for every implementation."""

import hashlib
import os
import random
from array import array
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from twisted.internet.defer import CancelledError
from twisted.trial.unittest import SkipTest, TestCase
from zope.interface.verify import verifyObject

from coldstore.interfaces.filesystem import (
    AlreadyFormatted,
    DriveBusy,
    EndedMount,
    IMountedVolume,
    ITapeFilesystem,
    NeedsCheck,
    NoMedium,
    NotFormatted,
    NotRecorded,
    WriteProtected,
    WrongVolume,
)
from coldstore.interfaces.mover import (
    SHA256_ATTRIBUTE,
    DestinationFault,
    EndOfTape,
    FileExistsOnVolume,
    FileRange,
    FileTooLarge,
    IMover,
    Listed,
    Literal,
    MediumFault,
    MoverFault,
    NoSuchFileOnVolume,
    RangeRead,
    RangeState,
    ReadRange,
    StagedBytesDamaged,
    Woven,
    Written,
)
from coldstore.model.cartridges import VolumeForm
from coldstore.model.errors import TakenOver
from coldstore.util.asynchronous import returns_deferred
from coldstore.util.checksums import crc64nvme
from tests.contract.filesystem_rigs import BARCODE, OTHER_BARCODE, Rig
from tests.incidents import survives

if TYPE_CHECKING:
    _Base = TestCase
else:
    _Base = object

MEBIBYTE = 1024 * 1024


def sample(size_bytes: int, seed: int = 0) -> bytes:
    """Bytes that do not repeat, the same ones for the same seed."""
    return random.Random(seed).randbytes(size_bytes)


def ignore(_: object) -> None:
    """Take a report and do nothing."""


class TapeFilesystemContract(_Base):
    """What every tape file system keeps. ``rig`` is set up by the subclass; tests of what a rig lacks are skipped by name."""

    rig: Rig

    def need(self, ability: str) -> None:
        """Skip a test whose conditions this rig cannot make."""
        if ability in self.rig.lacks:
            raise SkipTest(f"this rig has no way to make: {ability}")

    async def formatted(self, barcode: str = BARCODE) -> str:
        """Load and format a cartridge; return the volume's UUID."""
        await self.rig.load(barcode)
        made = await self.rig.filesystem.format(barcode=barcode, volume_name=f"coldstore {barcode}")
        return made.volume_uuid

    async def mounted(self) -> IMountedVolume:
        """Format and mount."""
        volume_uuid = await self.formatted()
        return await self.rig.filesystem.mount(barcode=BARCODE, volume_uuid=volume_uuid)

    def staged(self, name: str, content: bytes) -> str:
        """Put a file on disk."""
        path = os.path.join(self.rig.directory, name)
        with open(path, "wb") as file:
            file.write(content)
        return path

    def whole(self, name: str, content: bytes) -> FileRange:
        """A piece that is a whole staged file."""
        return FileRange(
            path=self.staged(name, content),
            offset_bytes=0,
            length_bytes=len(content),
            crc64nvme=crc64nvme(content),
        )

    async def write(self, volume: IMountedVolume, path: str, content: bytes) -> Written:
        """Write a file from one literal."""
        return await volume.mover.write(
            path=path, pieces=[Literal(content=content)], attributes={}, on_progress=ignore
        )

    async def read(
        self,
        volume: IMountedVolume,
        path: str,
        wanted: Sequence[tuple[int, bytes]],
        block_bytes: int = MEBIBYTE,
    ) -> tuple[list[RangeRead], list[bytes]]:
        """Read ranges that should hold the given bytes; return the outcomes and what arrived."""
        ranges = [
            ReadRange(
                offset_bytes=offset,
                length_bytes=len(content),
                crc64nvme=crc64nvme(content),
                destination=os.path.join(self.rig.directory, f"read-{number}"),
                destination_offset_bytes=0,
            )
            for number, (offset, content) in enumerate(wanted)
        ]
        told: list[RangeRead] = []
        outcomes = await volume.mover.read(
            path=path, ranges=ranges, on_range_done=told.append, block_bytes=block_bytes
        )
        self.assertEqual(sorted(told, key=lambda outcome: outcome.ordinal), list(outcomes))
        arrived = []
        for each in ranges:
            with open(each.destination, "rb") as file:
                arrived.append(file.read())
        return list(outcomes), arrived

    @returns_deferred
    async def test_taken_over(self) -> None:
        """Once another appliance has taken over the tape is not moved, for whatever reason, and everything is as it was."""
        await self.rig.load(BARCODE)
        filesystem, tenure = self.rig.filesystem, self.rig.tenure
        taken = TakenOver("by machine two")

        tenure.fault = taken
        await self.assertFailure(filesystem.format(barcode=BARCODE, volume_name="ours"), TakenOver)
        tenure.fault = None
        made = await filesystem.format(barcode=BARCODE, volume_name="ours")
        tenure.fault = taken
        await self.assertFailure(filesystem.check(), TakenOver)
        await self.assertFailure(filesystem.mount(barcode=BARCODE, volume_uuid=made.volume_uuid), TakenOver)
        tenure.fault = None
        self.assertIsNone(await filesystem.adopt())
        volume = await filesystem.mount(barcode=BARCODE, volume_uuid=made.volume_uuid)
        await self.write(volume, "old", b"old")
        await volume.sync("old", new_files=["old"])

        tenure.fault = taken
        for act in (
            lambda: self.write(volume, "new", b"new"),
            lambda: volume.mover.put_file(path="new", content=b"new"),
            lambda: volume.mover.unlink(path="old"),
            lambda: volume.sync("new"),
            volume.unmount,
        ):
            with self.assertRaises(TakenOver):
                await act()
        self.assertTrue(volume.is_alive())
        tenure.fault = None
        self.assertEqual([each.name for each in await volume.mover.list(path="")], ["old"])
        self.assertTrue((await volume.unmount()).is_clean)

    # --- Format, mount, unmount

    def test_interfaces(self) -> None:
        """The file system has what its interface lists."""
        verifyObject(ITapeFilesystem, self.rig.filesystem)

    @returns_deferred
    async def test_format_and_mount(self) -> None:
        """A formatted cartridge mounts as the volume that the format named."""
        volume_uuid = await self.formatted()
        volume = await self.rig.filesystem.mount(barcode=BARCODE, volume_uuid=volume_uuid)
        verifyObject(IMountedVolume, volume)
        verifyObject(IMover, volume.mover)
        self.assertEqual(
            (volume.barcode, volume.volume_uuid, volume.volume_name),
            (BARCODE, volume_uuid, f"coldstore {BARCODE}"),
        )
        self.assertFalse(volume.is_read_only)
        self.assertTrue(volume.is_alive())
        self.assertGreaterEqual(volume.generation, 1)
        self.assertIn(volume.form, VolumeForm)
        verdict = await volume.unmount()
        self.assertTrue(verdict.is_clean, verdict)
        self.assertFalse(volume.is_alive())
        self.assertEqual(await volume.unmount(), verdict)

    @survives("format-refused")
    @returns_deferred
    async def test_format_twice(self) -> None:
        """A volume is never formatted over, and stays as it was."""
        volume_uuid = await self.formatted()
        again = self.rig.filesystem.format(barcode=BARCODE, volume_name="another")
        await self.assertFailure(again, AlreadyFormatted)
        volume = await self.rig.filesystem.mount(barcode=BARCODE, volume_uuid=volume_uuid)
        self.assertEqual(volume.volume_name, f"coldstore {BARCODE}")
        await volume.unmount()

    @survives("format-bad-serial", "format-bad-name")
    @returns_deferred
    async def test_bad_names(self) -> None:
        """A barcode or a name that LTFS cannot keep is refused before anything is touched."""
        await self.rig.load(BARCODE)
        for barcode, name in (
            ("short", "name"),
            ("lower0L8", "name"),
            (BARCODE, "with/slash"),
            (BARCODE, ""),
        ):
            await self.assertFailure(
                self.rig.filesystem.format(barcode=barcode, volume_name=name), ValueError
            )
        await self.assertFailure(self.rig.filesystem.mount(barcode=BARCODE, volume_uuid=None), NotFormatted)

    @survives("mount-blank")
    @returns_deferred
    async def test_not_formatted(self) -> None:
        """A blank cartridge does not mount, and leaves nothing to report after a restart."""
        await self.rig.load(BARCODE)
        await self.assertFailure(self.rig.filesystem.mount(barcode=BARCODE, volume_uuid=None), NotFormatted)
        self.assertIsNone(await self.rig.restart().adopt())

    @survives("mount-no-medium", "check-no-medium")
    @returns_deferred
    async def test_no_medium(self) -> None:
        """An empty drive is told as such by every operation."""
        self.need("no medium")
        filesystem = self.rig.filesystem
        await self.assertFailure(filesystem.format(barcode=BARCODE, volume_name="name"), NoMedium)
        await self.assertFailure(filesystem.mount(barcode=BARCODE, volume_uuid=None), NoMedium)
        await self.assertFailure(filesystem.check(), NoMedium)

    @returns_deferred
    async def test_wrong_volume(self) -> None:
        """Another volume than the expected one is refused and unmounted again."""
        volume_uuid = await self.formatted()
        filesystem = self.rig.filesystem
        stranger = "00000000-0000-0000-0000-000000000000"
        fault = await self.assertFailure(filesystem.mount(barcode=BARCODE, volume_uuid=stranger), WrongVolume)
        self.assertTrue(fault.found_label and BARCODE.startswith(fault.found_label), fault.found_label)
        self.assertEqual(fault.found_uuid, volume_uuid)
        await self.assertFailure(filesystem.mount(barcode=OTHER_BARCODE, volume_uuid=None), WrongVolume)
        volume = await filesystem.mount(barcode=BARCODE, volume_uuid=volume_uuid)
        await volume.unmount()

    @returns_deferred
    async def test_one_at_a_time(self) -> None:
        """While a volume is mounted, its drive neither formats nor checks nor mounts."""
        volume = await self.mounted()
        filesystem = self.rig.filesystem
        await self.assertFailure(filesystem.format(barcode=BARCODE, volume_name="name"), DriveBusy)
        await self.assertFailure(filesystem.check(), DriveBusy)
        await self.assertFailure(filesystem.mount(barcode=BARCODE, volume_uuid=None), DriveBusy)
        self.assertTrue((await volume.unmount()).is_clean)

    @returns_deferred
    async def test_not_recorded(self) -> None:
        """A mount of which the appliance's own disk takes no record is not begun; with room it is made."""
        self.need("full disk")
        volume_uuid = await self.formatted()
        filesystem = self.rig.filesystem
        with self.rig.full_disk():
            for _ in range(2):
                await self.assertFailure(
                    filesystem.mount(barcode=BARCODE, volume_uuid=volume_uuid), NotRecorded
                )
        volume = await filesystem.mount(barcode=BARCODE, volume_uuid=volume_uuid)
        self.assertTrue((await volume.unmount()).is_clean)

    @survives("format-write-protected")
    @returns_deferred
    async def test_write_protected(self) -> None:
        """A protected cartridge is not formatted."""
        self.need("write protection")
        await self.rig.protect(BARCODE)
        await self.rig.load(BARCODE)
        await self.assertFailure(
            self.rig.filesystem.format(barcode=BARCODE, volume_name="name"), WriteProtected
        )

    @returns_deferred
    async def test_read_only(self) -> None:
        """A volume that was mounted read-only says so and takes nothing."""
        self.need("read-only")
        volume_uuid = await self.formatted()
        volume = await self.rig.filesystem.mount(barcode=BARCODE, volume_uuid=volume_uuid, read_only=True)
        self.assertTrue(volume.is_read_only)
        await self.assertFailure(volume.mover.put_file(path="a", content=b"x"), MediumFault)
        self.assertTrue((await volume.unmount()).is_clean)

    # --- Moving bytes

    @returns_deferred
    async def test_round_trip(self) -> None:
        """Pieces become a file that keeps its bytes, hash and attributes over an unmount, and reads back by ranges."""
        volume = await self.mounted()
        big, small = sample(5 * MEBIBYTE + 123, 1), sample(300, 2)
        pieces = [
            Literal(content=b"header"),
            self.whole("big", big),
            Literal(content=b""),
            self.whole("small", small),
            FileRange(
                path=os.path.join(self.rig.directory, "big"),
                offset_bytes=MEBIBYTE + 1,
                length_bytes=777,
                crc64nvme=crc64nvme(big[MEBIBYTE + 1 : MEBIBYTE + 778]),
            ),
        ]
        content = b"header" + big + small + big[MEBIBYTE + 1 : MEBIBYTE + 778]
        progress: list[int] = []
        written = await volume.mover.write(
            path="coldstore/bundles/one.tar",
            pieces=iter(pieces),
            attributes={"coldstore.bundle": b"\x00one"},
            on_progress=progress.append,
        )
        digest = hashlib.sha256(content).hexdigest()
        self.assertEqual((written.size_bytes, written.sha256), (len(content), digest))
        self.assertEqual(progress, sorted(progress))
        synced = await volume.sync("bundle one", new_files=["coldstore/bundles/one.tar"])
        self.assertRegex(synced.location.partition, "^[a-z]$")
        self.assertEqual(
            synced.start_blocks["coldstore/bundles/one.tar"].partition, synced.location.partition
        )
        compared = await volume.mover.verify(
            path="coldstore/bundles/one.tar", size_bytes=len(content), sha256=digest, on_progress=ignore
        )
        self.assertTrue(compared.is_identical)
        self.assertTrue((await volume.unmount()).is_clean)

        volume = await self.rig.filesystem.mount(barcode=BARCODE, volume_uuid=volume.volume_uuid)
        told = await volume.mover.get_attributes(
            path="coldstore/bundles/one.tar", names=["coldstore.bundle", SHA256_ATTRIBUTE, "none"]
        )
        self.assertEqual(told, {"coldstore.bundle": b"\x00one", SHA256_ATTRIBUTE: digest.encode()})
        wanted = [(6 + len(big), small), (6, big), (0, b"header")]
        outcomes, arrived = await self.read(volume, "coldstore/bundles/one.tar", wanted)
        self.assertEqual({outcome.state for outcome in outcomes}, {RangeState.DELIVERED})
        self.assertEqual(arrived, [small, big, b"header"])
        blocks = tuple(crc64nvme(big[start : start + MEBIBYTE]) for start in range(0, len(big), MEBIBYTE))
        self.assertEqual(outcomes[1].block_crcs, blocks)
        await volume.unmount()

    def woven(self, own: bytes, own_lengths: Sequence[int], ranges: Sequence[FileRange]) -> Woven:
        """Put bytes of our own on the disk, to go between ranges."""
        mine = self.whole("own", own)
        sources = tuple(dict.fromkeys(each.path for each in ranges))
        return Woven(
            path=mine.path,
            size_bytes=len(own),
            crc64nvme=mine.crc64nvme,
            sources=sources,
            own_lengths=array("Q", own_lengths),
            source_numbers=array("Q", [sources.index(each.path) for each in ranges]),
            offsets=array("Q", [each.offset_bytes for each in ranges]),
            lengths=array("Q", [each.length_bytes for each in ranges]),
            checksums=array("Q", [each.crc64nvme for each in ranges]),
        )

    def part(self, whole: FileRange, content: bytes, offset_bytes: int, length_bytes: int) -> FileRange:
        """Return a range of a file on disk."""
        part = content[offset_bytes : offset_bytes + length_bytes]
        return FileRange(
            path=whole.path, offset_bytes=offset_bytes, length_bytes=length_bytes, crc64nvme=crc64nvme(part)
        )

    @returns_deferred
    async def test_woven(self) -> None:
        """Many ranges, in whatever order and of whatever size they lie on disk, come between bytes of our own."""
        volume = await self.mounted()
        first, second = sample(5 * MEBIBYTE + 123, 1), sample(MEBIBYTE, 2)
        one, two = self.whole("first", first), self.whole("second", second)
        places = [(one, first, at, 700) for at in range(0, 600_000, 1000)]
        places += [(two, second, at, 100) for at in range(900_000, 0, -90_000)]
        places += [(one, first, 0, len(first)), (two, second, 0, len(second)), (one, first, 77, 1)]
        places += [(two, second, len(second) - 5, 5), (one, first, 2 * MEBIBYTE, MEBIBYTE + 1)]
        ranges = [self.part(*place) for place in places]
        own_lengths = [number % 3 * 512 for number in range(len(ranges))]
        own = sample(sum(own_lengths) + 1024, 3)
        content, at = b"head", 0
        for (_, source, begin, length), mine in zip(places, own_lengths, strict=True):
            content += own[at : at + mine] + source[begin : begin + length]
            at += mine
        content += own[at:]
        woven = self.woven(own, own_lengths, ranges)
        written = await volume.mover.write(
            path="woven", pieces=[Literal(content=b"head"), woven], attributes={}, on_progress=ignore
        )
        self.assertEqual((written.size_bytes, woven.total_bytes), (len(content), len(content) - 4))
        self.assertEqual(written.sha256, hashlib.sha256(content).hexdigest())
        empty = await volume.mover.write(
            path="empty", pieces=[self.woven(b"own", [], [])], attributes={}, on_progress=ignore
        )
        self.assertEqual(empty.sha256, hashlib.sha256(b"own").hexdigest())
        await volume.unmount()

    @returns_deferred
    async def test_woven_damaged(self) -> None:
        """Each range is checked, and so are our own bytes; which of the two was wrong is told apart."""
        volume = await self.mounted()
        content = sample(MEBIBYTE)
        good = self.whole("good", content)
        part = self.part(good, content, 100, 100)
        bad = replace(part, crc64nvme=part.crc64nvme ^ 1)
        short = FileRange(path=good.path, offset_bytes=MEBIBYTE - 1, length_bytes=100, crc64nvme=0)
        missing = replace(part, path=good.path + ".none")
        for wrong in (bad, short, missing):
            fault = await self.assertFailure(
                volume.mover.write(
                    path="stump",
                    pieces=[good, self.woven(b"own", [1, 1, 1], [part, wrong, part])],
                    attributes={},
                    on_progress=ignore,
                    replace_stump=True,
                ),
                StagedBytesDamaged,
            )
            self.assertEqual((fault.ordinal, fault.path), (1, wrong.path))
        right = self.woven(b"own bytes", [1], [part])
        for wrong_own in (
            replace(right, crc64nvme=right.crc64nvme ^ 1),
            replace(right, size_bytes=10),
            replace(right, path=right.path + ".none"),
        ):
            await self.assertFailure(
                volume.mover.write(
                    path="stump",
                    pieces=[wrong_own],
                    attributes={},
                    on_progress=ignore,
                    replace_stump=True,
                ),
                DestinationFault,
            )
        await volume.unmount()

    @returns_deferred
    async def test_sync(self) -> None:
        """Each sync is a later generation, and later files start later on tape."""
        volume = await self.mounted()
        await self.write(volume, "one", sample(2 * MEBIBYTE, 1))
        first = await volume.sync("one", new_files=["one"])
        await self.write(volume, "two", sample(2 * MEBIBYTE, 2))
        second = await volume.sync("two", new_files=["two"])
        self.assertGreater(second.generation, first.generation)
        self.assertGreater(second.start_blocks["two"].block, first.start_blocks["one"].block)
        self.assertEqual(volume.generation, second.generation)
        again = await volume.sync("again", new_files=["one", "two"])
        self.assertGreaterEqual(again.generation, second.generation)
        await volume.unmount()

    @returns_deferred
    async def test_staged_bytes_damaged(self) -> None:
        """A staged range with another checksum, too short or missing is told by its place in the plan."""
        volume = await self.mounted()
        content = sample(MEBIBYTE)
        good = self.whole("good", content)
        bad = FileRange(path=good.path, offset_bytes=1, length_bytes=100, crc64nvme=good.crc64nvme)
        short = FileRange(path=good.path, offset_bytes=MEBIBYTE - 1, length_bytes=100, crc64nvme=0)
        missing = FileRange(path=good.path + ".none", offset_bytes=0, length_bytes=1, crc64nvme=0)
        for piece in (bad, short, missing):
            fault = await self.assertFailure(
                volume.mover.write(
                    path="stump",
                    pieces=[good, piece],
                    attributes={},
                    on_progress=ignore,
                    replace_stump=True,
                ),
                StagedBytesDamaged,
            )
            self.assertEqual((fault.ordinal, fault.path), (1, piece.path))
        await volume.unmount()

    @returns_deferred
    async def test_existing_file(self) -> None:
        """A file is never overwritten unless it is said to be a stump."""
        volume = await self.mounted()
        await self.write(volume, "folder/file", b"first")
        await self.assertFailure(
            volume.mover.write(
                path="folder/file", pieces=[Literal(content=b"second")], attributes={}, on_progress=ignore
            ),
            FileExistsOnVolume,
        )
        self.assertEqual(await volume.mover.get_file(path="folder/file", limit_bytes=100), b"first")
        await volume.mover.write(
            path="folder/file",
            pieces=[Literal(content=b"third")],
            attributes={},
            on_progress=ignore,
            replace_stump=True,
        )
        self.assertEqual(await volume.mover.get_file(path="folder/file", limit_bytes=100), b"third")
        await volume.unmount()

    @returns_deferred
    async def test_small_files(self) -> None:
        """Small files are put in place of earlier ones, read within a limit, listed and removed."""
        volume = await self.mounted()
        mover = volume.mover
        await mover.put_file(path="coldstore/volume.json", content=b"{}")
        await mover.put_file(path="coldstore/volume.json", content=b"{1}")
        await mover.put_file(path="coldstore/other.json", content=sample(5000))
        await mover.put_file(path="README.txt", content=b"")
        self.assertEqual(await mover.get_file(path="coldstore/volume.json", limit_bytes=3), b"{1}")
        await self.assertFailure(mover.get_file(path="coldstore/volume.json", limit_bytes=2), FileTooLarge)
        self.assertEqual(
            [*await mover.list(path="")],
            [
                Listed(name="README.txt", is_directory=False, size_bytes=0),
                *[
                    each
                    for each in await mover.list(path="")
                    if each.name == "coldstore" and each.is_directory
                ],
            ],
        )
        self.assertEqual(
            [*await mover.list(path="coldstore")],
            [
                Listed(name="other.json", is_directory=False, size_bytes=5000),
                Listed(name="volume.json", is_directory=False, size_bytes=3),
            ],
        )
        await mover.unlink(path="coldstore/volume.json")
        await mover.unlink(path="coldstore/volume.json")
        self.assertEqual([each.name for each in await mover.list(path="coldstore")], ["other.json"])
        self.assertEqual(await mover.get_file(path="coldstore/other.json", limit_bytes=5000), sample(5000))
        self.assertEqual(await mover.get_file(path="README.txt", limit_bytes=0), b"")
        self.assertEqual(await mover.get_attributes(path="README.txt", names=["coldstore.bundle"]), {})
        for asked in (
            mover.get_file(path="none", limit_bytes=9),
            mover.list(path="none"),
            mover.get_attributes(path="none", names=["a"]),
            mover.verify(path="none", size_bytes=0, sha256="", on_progress=ignore),
        ):
            await self.assertFailure(asked, NoSuchFileOnVolume)
        await volume.unmount()

    @returns_deferred
    async def test_paths_stay_inside(self) -> None:
        """A path that leaves the volume is refused."""
        volume = await self.mounted()
        for path in ("/absolute", "../outside", "a//b", "a/./b", ""):
            await self.assertFailure(volume.mover.put_file(path=path, content=b"x"), ValueError)
        await volume.mover.put_file(path="file", content=b"x")
        for path, name in (("", "a"), ("file", ""), ("file", "ltfs.driveCaptureDump")):
            await self.assertFailure(volume.mover.get_attributes(path=path, names=[name]), ValueError)
            await self.assertFailure(
                volume.mover.write(path=path, pieces=[], attributes={name: b""}, on_progress=ignore),
                ValueError,
            )
        await volume.unmount()

    @returns_deferred
    async def test_many_small_ranges(self) -> None:
        """Hundreds of ranges, asked for in any order, arrive each at its own file."""
        volume = await self.mounted()
        content = sample(3 * MEBIBYTE)
        await self.write(volume, "bundle", content)
        size = 5000
        wanted = [(start, content[start : start + size]) for start in range(0, len(content), 9973)]
        outcomes, arrived = await self.read(volume, "bundle", wanted[::-1])
        self.assertEqual({outcome.state for outcome in outcomes}, {RangeState.DELIVERED})
        self.assertEqual(arrived, [each for _, each in wanted[::-1]])
        await volume.unmount()

    @returns_deferred
    async def test_damaged_range(self) -> None:
        """A range with another checksum is reported as damaged; the others arrive."""
        volume = await self.mounted()
        content = sample(2 * MEBIBYTE)
        await self.write(volume, "bundle", content)
        wanted = [
            (0, content[:1000]),
            (1000, b"\0" * 1000),
            (2000, content[2000:]),
            (len(content) - 10, bytes(20)),
        ]
        outcomes, arrived = await self.read(volume, "bundle", wanted)
        self.assertEqual(
            [outcome.state for outcome in outcomes],
            [RangeState.DELIVERED, RangeState.DAMAGED, RangeState.DELIVERED, RangeState.DAMAGED],
        )
        self.assertEqual((arrived[0], arrived[2]), (content[:1000], content[2000:]))
        self.assertTrue(outcomes[1].detail)
        self.assertEqual(outcomes[1].block_crcs, ())
        await volume.unmount()

    @returns_deferred
    async def test_damage_on_the_medium_is_seen(self) -> None:
        """A byte that changed on the cartridge behind the file system is seen by the verification, not hidden by the page cache."""
        self.need("damage")
        volume = await self.mounted()
        content = sample(4 * MEBIBYTE)
        written = await self.write(volume, "bundle", content)
        await volume.sync("bundle", new_files=["bundle"])
        same = await volume.mover.verify(
            path="bundle", size_bytes=written.size_bytes, sha256=written.sha256, on_progress=ignore
        )
        self.assertTrue(same.is_identical)
        await volume.unmount()
        await self.rig.unload()
        await self.rig.damage(BARCODE, content[3 * MEBIBYTE : 3 * MEBIBYTE + 64])
        await self.rig.load(BARCODE)
        volume = await self.rig.filesystem.mount(barcode=BARCODE, volume_uuid=volume.volume_uuid)
        try:
            other = await volume.mover.verify(
                path="bundle", size_bytes=written.size_bytes, sha256=written.sha256, on_progress=ignore
            )
            self.assertFalse(other.is_identical)
        except MediumFault:
            pass  # a drive with checksums of its own gives an error instead
        outcomes, arrived = await self.read(
            volume, "bundle", [(0, content[:MEBIBYTE]), (3 * MEBIBYTE, content[3 * MEBIBYTE :])]
        )
        self.assertEqual(outcomes[0].state, RangeState.DELIVERED)
        self.assertIn(outcomes[1].state, (RangeState.DAMAGED, RangeState.UNREADABLE))
        self.assertEqual(arrived[0], content[:MEBIBYTE])
        await volume.unmount()

    @survives("end-of-tape")
    @returns_deferred
    async def test_end_of_tape(self) -> None:
        """A file that does not fit fails as the end of the tape; what was synced before is whole, and so is the volume."""
        self.need("full")
        volume = await self.mounted()
        first = sample(2 * MEBIBYTE)
        await self.write(volume, "first", first)
        await volume.sync("first", new_files=["first"])
        filler = self.whole("filler", sample(16 * MEBIBYTE, 9))
        with self.assertRaises(EndOfTape):
            for number in range(40):
                await volume.mover.write(
                    path=f"filler-{number}", pieces=[filler] * 2, attributes={}, on_progress=ignore
                )
        self.assertLess((await volume.space()).free_bytes, 32 * MEBIBYTE)
        await volume.mover.unlink(path=f"filler-{number}")
        await volume.sync("full")
        self.assertEqual(await volume.mover.get_file(path="first", limit_bytes=len(first)), first)
        self.assertTrue((await volume.unmount()).is_clean)

    @returns_deferred
    async def test_space(self) -> None:
        """Space shrinks with what is written."""
        volume = await self.mounted()
        before = await volume.space()
        self.assertGreater(before.total_bytes, 0)
        self.assertLessEqual(before.free_bytes, before.total_bytes)
        await self.write(volume, "file", sample(8 * MEBIBYTE))
        await volume.sync("file", new_files=["file"])
        after = await volume.space()
        if "mount" not in self.rig.lacks:
            self.assertLessEqual(after.free_bytes, before.free_bytes - 8 * MEBIBYTE)
        await volume.unmount()

    @returns_deferred
    async def test_cancelled_write(self) -> None:
        """A cancelled write ends at once, and the mover goes on with the next one."""
        volume = await self.mounted()
        big = self.whole("big", sample(16 * MEBIBYTE))
        writing = volume.mover.write(path="big", pieces=[big] * 4, attributes={}, on_progress=ignore)
        writing.cancel()
        await self.assertFailure(writing, CancelledError)
        await volume.mover.write(
            path="big", pieces=[big], attributes={}, on_progress=ignore, replace_stump=True
        )
        await volume.sync("big", new_files=["big"])
        self.assertTrue((await volume.unmount()).is_clean)

    # --- What outlives the service, and what does not

    @returns_deferred
    async def test_nothing_to_adopt(self) -> None:
        """A drive that never had a mount has nothing to adopt."""
        self.assertIsNone(await self.rig.filesystem.adopt())

    @returns_deferred
    async def test_adopt(self) -> None:
        """A service that was started anew goes on with the mount of the earlier one."""
        volume = await self.mounted()
        await self.write(volume, "before", b"before")
        await volume.mover.close()
        adopted = await self.rig.restart().adopt()
        assert not isinstance(adopted, EndedMount) and adopted is not None
        self.assertEqual((adopted.barcode, adopted.volume_uuid), (BARCODE, volume.volume_uuid))
        self.assertEqual(await adopted.mover.get_file(path="before", limit_bytes=100), b"before")
        await self.write(adopted, "after", b"after")
        await adopted.sync("after", new_files=["before", "after"])
        self.assertTrue((await adopted.unmount()).is_clean)

    @returns_deferred
    async def test_ended_while_away(self) -> None:
        """An unmount whose verdict nobody heard is told to the next service, again and again until the drive is used."""
        volume = await self.mounted()
        verdict = await volume.unmount()
        for _ in range(2):
            found = await self.rig.restart().adopt()
            assert isinstance(found, EndedMount)
            self.assertEqual((found.barcode, found.volume_uuid), (BARCODE, volume.volume_uuid))
            self.assertEqual(found.verdict.is_clean, verdict.is_clean)
        await self.rig.filesystem.check()
        self.assertIsNone(await self.rig.restart().adopt())

    @returns_deferred
    async def test_settled_end(self) -> None:
        """An end that was recorded is told no more; the end of a later mount is."""
        volume = await self.mounted()
        await self.rig.filesystem.settle()
        self.assertTrue(volume.is_alive())
        await volume.unmount()
        for _ in range(2):
            await self.rig.filesystem.settle()
            self.assertIsNone(await self.rig.filesystem.adopt())
        self.assertIsNone(await self.rig.restart().adopt())
        again = await self.rig.filesystem.mount(barcode=BARCODE, volume_uuid=volume.volume_uuid)
        await again.unmount()
        assert isinstance(await self.rig.restart().adopt(), EndedMount)

    async def _killed(self) -> IMountedVolume:
        volume = await self.mounted()
        await self.write(volume, "synced", sample(MEBIBYTE))
        await volume.sync("synced", new_files=["synced"])
        await self.write(volume, "lost", sample(MEBIBYTE, 1))
        await volume.mover.close()
        await self.rig.break_mount()
        return volume

    async def _assert_check_restores(self, volume: IMountedVolume) -> None:
        """The volume needs a check (some drives repair it at the mount); then all that was synced is there, and nothing else."""
        filesystem = self.rig.filesystem
        if "needs check" not in self.rig.lacks:
            await self.assertFailure(
                filesystem.mount(barcode=BARCODE, volume_uuid=volume.volume_uuid), NeedsCheck
            )
        self.assertTrue((await filesystem.check()).is_consistent)
        again = await filesystem.mount(barcode=BARCODE, volume_uuid=volume.volume_uuid)
        names = [each.name for each in await again.mover.list(path="") if not each.is_directory]
        self.assertEqual(names, ["synced"] if "loss" not in self.rig.lacks else ["lost", "synced"])
        self.assertEqual(await again.mover.get_file(path="synced", limit_bytes=MEBIBYTE), sample(MEBIBYTE))
        self.assertTrue((await again.unmount()).is_clean)

    @survives("killed-after-sync", "killed-with-data", "mount-not-closed", "check-after-crash")
    @returns_deferred
    async def test_killed(self) -> None:
        """When a mount breaks, operations fail, the unmount's verdict says so, and a check brings back what was synced."""
        volume = await self._killed()
        if "mount" not in self.rig.lacks:
            with self.assertRaises(MoverFault):
                await volume.mover.put_file(path="later", content=b"x")
        self.assertFalse(volume.is_alive())
        verdict = await volume.unmount()
        self.assertFalse(verdict.is_clean)
        self.assertTrue(verdict.findings)
        await self._assert_check_restores(volume)

    @returns_deferred
    async def test_killed_while_away(self) -> None:
        """A mount that broke while no service ran is found, cleared and told as not clean."""
        volume = await self._killed()
        found = await self.rig.restart().adopt()
        assert isinstance(found, EndedMount)
        self.assertEqual((found.barcode, found.volume_uuid), (BARCODE, volume.volume_uuid))
        self.assertFalse(found.verdict.is_clean)
        await self._assert_check_restores(volume)

    @survives("check-exits-1", "check-not-correctable")
    @returns_deferred
    async def test_check(self) -> None:
        """A clean volume is consistent, however often it is checked; a blank cartridge is not."""
        await self.rig.load(BARCODE)
        self.assertFalse((await self.rig.filesystem.check()).is_consistent)
        await self.formatted()
        for _ in range(2):
            self.assertTrue((await self.rig.filesystem.check()).is_consistent)
