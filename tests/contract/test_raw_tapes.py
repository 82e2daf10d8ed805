"""What raw tapes keep, on those of the virtual library, and under faults that only these have."""

import contextlib
import os

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from coldstore.interfaces.filesystem import CheckFailed, EndedMount, FormatFailed, MountFailed, SyncFailed
from coldstore.interfaces.mover import MediumFault, MoverTimeout
from coldstore.tape.mover import MoverLimits
from coldstore.tape.raw.mover import RawMover
from coldstore.util.asynchronous import returns_deferred
from tests.contract.filesystem_contract import MEBIBYTE, ignore, sample
from tests.contract.filesystem_rigs import BARCODE, VirtualTapeRig, flip
from tests.contract.raw_tape_rules import RawTapeDetails, golden_bundle


class VirtualRawTapeTests(RawTapeDetails, TestCase):
    """``RawFilesystem`` on the virtual library's tapes."""

    timeout = 480

    def setUp(self) -> None:
        """Make a library."""
        self.rig = VirtualTapeRig()

    def tearDown(self) -> Deferred[None]:
        """Remove it."""
        return self.rig.close()

    @returns_deferred
    async def test_write_error(self) -> None:
        """An error of the drive fails the write; the next one goes on behind the stump."""
        volume = await self.mounted()
        await self.write(volume, "before", b"before" * 1000)
        await self.rig.fault("--program", "st", "--at", "write", "--kind", "eio", "--after", "3")
        await self.assertFailure(
            Deferred.fromCoroutine(self.write(volume, "failed", sample(2 * MEBIBYTE))), MediumFault
        )
        self.assertTrue(volume.is_alive())
        await self.write(volume, "after", b"after" * 1000)
        await volume.sync("all", new_files=["before", "after"])
        self.assertTrue((await volume.unmount()).is_clean)
        index = self.newest(self.tape_files())
        self.assertEqual([entry.path for entry in index.entries], ["before", "after"])

    @returns_deferred
    async def test_filemark_error(self) -> None:
        """Bytes that the drive cannot bring from its buffer to the medium fail the write, and the sync, at the file mark."""
        volume = await self.mounted()
        await self.rig.fault("--program", "st", "--at", "sync", "--kind", "eio")
        await self.assertFailure(
            Deferred.fromCoroutine(self.write(volume, "failed", b"x" * 1000)), MediumFault
        )
        await self.write(volume, "file", b"content")
        await self.rig.fault("--program", "st", "--at", "sync", "--kind", "eio")
        await self.assertFailure(volume.sync("file", new_files=["file"]), SyncFailed)
        generation = volume.generation
        self.assertGreater((await volume.sync("again", new_files=["file"])).generation, generation)
        self.assertTrue((await volume.unmount()).is_clean)

    @returns_deferred
    async def test_unmount_fails(self) -> None:
        """An unmount whose index cannot be written is not clean; a check finds what was synced."""
        volume = await self.mounted()
        await self.write(volume, "synced", b"content")
        await volume.sync("synced", new_files=["synced"])
        await self.write(volume, "lost", b"content")
        await self.rig.fault("--program", "st", "--at", "sync", "--kind", "eio", "--count", "0")
        verdict = await volume.unmount()
        self.assertFalse(verdict.is_clean)
        self.assertTrue(verdict.findings)
        await self.rig.operate("fault", "clear", self.rig.library)
        again = await self.checked(volume.volume_uuid)
        self.assertEqual(await self.names(again), ["synced"])
        await again.unmount()

    @returns_deferred
    async def test_format_fails(self) -> None:
        """A drive that cannot be read is not known to hold a blank tape."""
        await self.rig.load(BARCODE)
        await self.rig.fault("--program", "st", "--at", "locate", "--kind", "eio", "--count", "0")
        await self.assertFailure(
            self.rig.filesystem.format(barcode=BARCODE, volume_name="volume"), FormatFailed
        )

    @returns_deferred
    async def test_hanging_write(self) -> None:
        """A write that hangs ends after the limit with the mover killed; when the drive goes on, so does the mover."""
        volume = await self.mounted()
        assert isinstance(volume.mover, RawMover)
        volume.mover._limits = MoverLimits(silence_seconds=2, reap_seconds=10, farewell_seconds=1)
        await self.rig.fault("--program", "st", "--at", "write", "--kind", "hang", "--seconds", "600")
        await self.assertFailure(
            Deferred.fromCoroutine(self.write(volume, "stuck", b"x" * 100)), MoverTimeout
        )
        await self.rig.operate("fault", "clear", self.rig.library)
        volume.mover._limits = MoverLimits(silence_seconds=60)
        await volume.mover.put_file(path="file", content=b"y")
        self.assertEqual(await volume.mover.get_file(path="file", limit_bytes=10), b"y")
        self.assertTrue((await volume.unmount()).is_clean)

    @returns_deferred
    async def test_unreadable_block(self) -> None:
        """A block that cannot be read at once is asked for again; one that never can be fails the verification."""
        volume = await self.mounted()
        content = sample(2 * MEBIBYTE)
        await self.write(volume, "file", content)
        await self.rig.fault("--program", "st", "--at", "read", "--kind", "eio", "--after", "4")
        compared = await volume.mover.verify(
            path="file", size_bytes=len(content), sha256="", on_progress=ignore
        )
        self.assertEqual(compared.size_bytes, len(content))
        await self.rig.fault("--program", "st", "--at", "read", "--kind", "eio", "--count", "0")
        await self.assertFailure(
            volume.mover.verify(path="file", size_bytes=len(content), sha256="", on_progress=ignore),
            MediumFault,
        )
        await self.rig.operate("fault", "clear", self.rig.library)
        await volume.unmount()

    @returns_deferred
    async def test_damaged_index(self) -> None:
        """When the newest index is damaged, a check goes back to the one before, and finds the bundles that only the damaged one listed."""
        path, content = golden_bundle()
        volume = await self.mounted()
        await self.write(volume, "old", b"old" * 1000)
        await volume.sync("old", new_files=["old"])
        await self.write(volume, path, content)
        await self.write(volume, "new", b"new" * 1000)
        await volume.sync("the damaged one", new_files=[path, "new"])
        await volume.unmount()
        medium = os.path.join(self.rig.library, "cartridges", BARCODE, "tape.data")
        with open(medium, "rb") as file:
            flip(medium, file.read().index(b"the damaged one"))
        before = self.tape_files()
        again = await self.checked(volume.volume_uuid)
        self.assertEqual(await self.names(again), ["coldstore", "old"])
        self.assertEqual(await again.mover.get_file(path=path, limit_bytes=len(content)), content)
        self.assertTrue((await again.unmount()).is_clean)
        self.assertEqual(self.tape_files()[: len(before) - 1], before[:-1])

    @returns_deferred
    async def test_unreadable_index(self) -> None:
        """A newest index that this drive cannot read fails the mount: another drive may read it, so nothing is made of an older one."""
        volume = await self.mounted()
        await self.write(volume, "file", b"content")
        await volume.unmount()
        # The first blocks of label (twice) and index can be read.
        await self.rig.fault(
            *("--program", "st", "--at", "read", "--kind", "eio"), *("--after", "4", "--count", "0")
        )
        await self.assertFailure(
            self.rig.filesystem.mount(barcode=BARCODE, volume_uuid=volume.volume_uuid), MountFailed
        )
        await self.rig.operate("fault", "clear", self.rig.library)
        again = await self.rig.filesystem.mount(barcode=BARCODE, volume_uuid=volume.volume_uuid)
        self.assertEqual(await self.names(again), ["file"])
        await again.unmount()

    @returns_deferred
    async def test_unreadable_index_at_a_check(self) -> None:
        """Nor does a check: it would list less than what is on tape, and what another drive can read would count as lost."""
        volume = await self.mounted()
        await self.write(volume, "old", b"old")
        await volume.sync("old", new_files=["old"])
        await self.write(volume, "new", b"new")
        await volume.unmount()
        before = self.tape_files()
        # The label (twice), or with it the first block of the index, can be read.
        for after in ("3", "4"):
            await self.rig.fault(
                *("--program", "st", "--at", "read", "--kind", "eio"), *("--after", after, "--count", "0")
            )
            await self.assertFailure(self.rig.filesystem.check(), CheckFailed)
            await self.assertFailure(
                self.rig.filesystem.mount(barcode=BARCODE, volume_uuid=volume.volume_uuid), MountFailed
            )
            await self.rig.operate("fault", "clear", self.rig.library)
        self.assertTrue((await self.rig.filesystem.check()).is_consistent)
        self.assertEqual(self.tape_files(), before)

    @returns_deferred
    async def test_unreadable_at_a_check_after_a_crash(self) -> None:
        """Whatever a drive cannot read while it checks a tape that was not closed: what the newest index lists stays listed."""
        volume = await self.mounted()
        await self.write(volume, "old", b"old")
        await volume.sync("old", new_files=["old"])
        await self.write(volume, "new", b"new")
        await volume.sync("new", new_files=["new"])
        await self.write(volume, "unlisted", b"unlisted")
        await self.rig.close_movers()
        self._forget_boot()
        await self.rig.restart().adopt()
        await self.rig.close_movers()
        self._forget_boot()
        await self.rig.restart().adopt()
        for after in range(3, 9):
            await self.rig.fault(
                *("--program", "st", "--at", "read", "--kind", "eio"),
                *("--after", str(after), "--count", "0"),
            )
            with contextlib.suppress(CheckFailed):
                await self.rig.filesystem.check()
            await self.rig.operate("fault", "clear", self.rig.library)
        self.assertTrue((await self.rig.filesystem.check()).is_consistent)
        again = await self.rig.filesystem.mount(barcode=BARCODE, volume_uuid=volume.volume_uuid)
        self.assertEqual(await self.names(again), ["new", "old"])
        await again.unmount()

    @returns_deferred
    async def test_lost_end_of_data(self) -> None:
        """A tape whose end the drive does not find is mounted to be read, by all of its file marks."""
        volume = await self.mounted()
        await self.write(volume, "synced", b"content")
        await volume.sync("synced", new_files=["synced"])
        await volume.unmount()
        # Rewind and label; then, twice, rewind and end of data.
        for after in ("3", "4"):
            await self.rig.fault("--program", "st", "--at", "locate", "--kind", "eio", "--after", after)
        again = await self.rig.filesystem.mount(barcode=BARCODE, volume_uuid=volume.volume_uuid)
        self.assertTrue(again.is_read_only)
        self.assertEqual(await again.mover.get_file(path="synced", limit_bytes=10), b"content")
        await again.unmount()

    @returns_deferred
    async def test_overwritten_while_away(self) -> None:
        """A tape on which something of the same length took the place of the last index is not taken over."""
        volume = await self.mounted()
        await self.write(volume, "before", b"before" * 1000)
        await volume.sync("before", new_files=["before"])
        await volume.mover.close()
        tape = self.rig.open_tape()
        tape.to_end()
        tape.space_files(-2)
        tape.space_files(1)
        tape.write(memoryview(b"x" * 100))
        tape.write_filemarks(1)
        tape.close()
        found = await self.rig.restart().adopt()
        assert isinstance(found, EndedMount)
        self.assertIn("index", found.verdict.findings[0])
