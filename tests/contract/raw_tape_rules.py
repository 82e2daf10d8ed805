"""What ``RawFilesystem`` keeps beyond the contract of tape file systems, on every tape that a rig can have. ``RawTapeRules`` are what a drive can matter for."""

import errno
import hashlib
import os
import signal
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from coldstore.interfaces.filesystem import (
    AlreadyFormatted,
    DriveBusy,
    EndedMount,
    IMountedVolume,
    NeedsCheck,
    NotFormatted,
)
from coldstore.interfaces.mover import EndOfTape, Literal, MediumFault, MoverDied, VolumeGone
from coldstore.model.cartridges import VolumeForm
from coldstore.ontape import paths
from coldstore.ontape.tape import (
    TapeIndex,
    index_file,
    is_index,
    label_file,
    parse_index_file,
    parse_label_file,
)
from coldstore.tape.mountrecord import write_json
from coldstore.tape.raw.device import TapeDevice
from coldstore.tape.raw.mover import RawMover
from coldstore.tape.raw.workingcopy import WorkingCopy
from coldstore.util.asynchronous import returns_deferred
from tests.contract.filesystem_contract import MEBIBYTE, ignore, sample
from tests.contract.filesystem_rigs import BARCODE, OTHER_BARCODE, RawTapes
from tests.fixtures.make_cartridges import DIRECTORY

BLOCK = 256 * 1024

if TYPE_CHECKING:
    _Base = TestCase
else:
    _Base = object


def golden_bundle() -> tuple[str, bytes]:
    """A bundle as it lies on a tape: its path and its bytes."""
    path = sorted((DIRECTORY / "A00001L9" / "coldstore" / "bundles").iterdir())[0]
    return paths.bundle_path(path.stem), path.read_bytes()


class RawTapeRules(_Base):
    """What is said of raw tapes. ``rig`` is set up by the subclass; its cartridge is blank."""

    rig: RawTapes

    async def mounted(self) -> IMountedVolume:
        """Format and mount."""
        await self.rig.load(BARCODE)  # type: ignore[attr-defined]
        made = await self.rig.filesystem.format(barcode=BARCODE, volume_name="volume")
        return await self.rig.filesystem.mount(barcode=BARCODE, volume_uuid=made.volume_uuid)

    async def write(self, volume: IMountedVolume, path: str, content: bytes) -> None:
        """Write one file."""
        await volume.mover.write(
            path=path, pieces=[Literal(content=content)], attributes={}, on_progress=ignore
        )

    async def checked(self, volume_uuid: str) -> IMountedVolume:
        """Check, as the tape asks for it, and mount."""
        filesystem = self.rig.filesystem
        await self.assertFailure(filesystem.mount(barcode=BARCODE, volume_uuid=volume_uuid), NeedsCheck)
        verdict = await filesystem.check()
        self.assertTrue(verdict.is_consistent)
        self.assertTrue(verdict.was_repaired)
        return await filesystem.mount(barcode=BARCODE, volume_uuid=volume_uuid)

    def process_of(self, volume: IMountedVolume) -> int:
        """The mover's process."""
        assert isinstance(volume.mover, RawMover)
        process_id = volume.mover.process_id
        assert process_id is not None
        return process_id

    async def names(self, volume: IMountedVolume) -> list[str]:
        """The files in the root of a volume."""
        return [each.name for each in await volume.mover.list(path="")]

    def opened(self) -> TapeDevice:
        """The drive, past the file system; its movers must be closed."""
        return self.rig.open_tape()

    def tape_files(self) -> list[bytes]:
        """Everything on the tape."""
        tape, buffer = self.opened(), memoryview(bytearray(2 * BLOCK))
        try:
            tape.rewind()
            tape.to_end()
            end = tape.position()
            tape.rewind()
            files = [b""]
            for _ in range(end):
                count = tape.read(buffer)
                if count:
                    files[-1] += buffer[:count]
                else:
                    files.append(b"")
            return files
        finally:
            tape.close()

    def newest(self, files: Sequence[bytes]) -> TapeIndex:
        """The index that a tape is closed with."""
        self.assertEqual(files[-1], b"")
        return parse_index_file(files[-2])

    # --- What lies on tape

    @returns_deferred
    async def test_on_tape(self) -> None:
        """A tape is a label, files as they are, small files and indexes as tar files of one member, each between file marks."""
        volume = await self.mounted()
        self.assertIs(volume.form, VolumeForm.TAR)
        content = sample(3 * BLOCK + 777)
        await self.write(volume, "coldstore/bundles/one.tar", content)
        await volume.mover.put_file(path="README.txt", content=b"read me")
        synced = await volume.sync("a message", new_files=["coldstore/bundles/one.tar"])
        self.assertTrue((await volume.unmount()).is_clean)
        files = self.tape_files()
        self.assertEqual(len(files), 6)
        label = parse_label_file(files[0])
        self.assertEqual(
            (label.barcode, label.volume_uuid, label.volume_name), (BARCODE, volume.volume_uuid, "volume")
        )
        self.assertEqual([is_index(file) for file in files[:5]], [False, True, False, False, True])
        self.assertEqual(files[2], content)
        self.assertEqual(files[3][:10], b"README.txt")
        self.assertEqual(files[3][512:519], b"read me")
        index = self.newest(files)
        self.assertEqual((index.generation, index.message, index.tape_file), (2, "a message", 4))
        self.assertEqual(index.block, synced.location.block)
        one, readme = index.entries
        self.assertEqual(
            (one.path, one.tape_file, one.offset_bytes, one.size_bytes, one.sha256),
            ("coldstore/bundles/one.tar", 2, 0, len(content), hashlib.sha256(content).hexdigest()),
        )
        self.assertEqual(synced.start_blocks["coldstore/bundles/one.tar"].block, one.block)
        self.assertEqual((readme.tape_file, readme.offset_bytes, readme.size_bytes), (3, 512, 7))

    # --- What is not formatted

    async def refuses(self, *contents: bytes) -> None:
        """See that a tape with these blocks (file marks for empty ones) is neither formatted nor mounted, and stays as it is."""
        await self.rig.load(BARCODE)  # type: ignore[attr-defined]
        tape = self.opened()
        tape.rewind()
        for content in contents:
            if content:
                tape.write(memoryview(content))
            else:
                tape.write_filemarks(1)
        tape.close()
        filesystem = self.rig.filesystem
        await self.assertFailure(filesystem.format(barcode=BARCODE, volume_name="name"), AlreadyFormatted)
        await self.assertFailure(filesystem.mount(barcode=BARCODE, volume_uuid=None), NotFormatted)
        self.assertFalse((await filesystem.check()).is_consistent)
        self.assertEqual(b"".join(self.tape_files()), b"".join(contents))

    @returns_deferred
    async def test_foreign_data(self) -> None:
        """A tape that somebody else wrote is left alone."""
        await self.refuses(b"somebody's backup" * 100, b"", b"more of it", b"")

    @returns_deferred
    async def test_erased(self) -> None:
        """A tape that holds file marks alone is blank: so a used one is made blank by hand, with ``mt rewind`` and ``mt weof``."""
        await self.rig.load(BARCODE)  # type: ignore[attr-defined]
        tape = self.opened()
        tape.write(memoryview(b"old data"))
        tape.write_filemarks(1)
        tape.rewind()
        tape.write_filemarks(1)
        tape.close()
        made = await self.rig.filesystem.format(barcode=BARCODE, volume_name="name")
        volume = await self.rig.filesystem.mount(barcode=BARCODE, volume_uuid=made.volume_uuid)
        await volume.unmount()

    @returns_deferred
    async def test_guard(self) -> None:
        """While a volume is mounted no other program can open the drive; afterwards it can."""
        volume = await self.mounted()
        await volume.space()
        error = self.assertRaises(OSError, self.opened)
        self.assertEqual(error.errno, errno.EBUSY)
        await volume.unmount()
        self.opened().close()

    # --- Cut off

    async def _killed_while_writing(self) -> IMountedVolume:
        """Kill the mover in the middle of a bundle, with one file synced and one not."""
        volume = await self.mounted()
        await self.write(volume, "synced", b"synced" * 1000)
        await volume.sync("synced", new_files=["synced"])
        await self.write(volume, "unsynced", b"unsynced" * 1000)
        big = os.path.join(self.rig.directory, "big")
        with open(big, "wb") as file:
            file.write(sample(16 * MEBIBYTE))
        await self.rig.slow_down()
        begun: Deferred[None] = Deferred()
        writing = volume.mover.write(
            path="big",
            pieces=[self.piece(big, sample(16 * MEBIBYTE))] * 8,
            attributes={},
            on_progress=lambda done: begun.called or begun.callback(None),
        )
        await begun
        os.kill(self.process_of(volume), signal.SIGKILL)
        await self.assertFailure(writing, MoverDied)
        await self.rig.speed_up()
        return volume

    def piece(self, path: str, content: bytes):  # type: ignore[no-untyped-def]
        """A piece that is a whole file on disk."""
        from coldstore.interfaces.mover import FileRange
        from coldstore.util.checksums import crc64nvme

        return FileRange(path=path, offset_bytes=0, length_bytes=len(content), crc64nvme=crc64nvme(content))

    @returns_deferred
    async def test_killed_mover(self) -> None:
        """A mover that is killed in the middle of a bundle leaves a stump; the next one goes on behind it, and what was unsynced is synced."""
        volume = await self._killed_while_writing()
        self.assertEqual(
            await volume.mover.get_file(path="unsynced", limit_bytes=MEBIBYTE), b"unsynced" * 1000
        )
        await self.write(volume, "after", b"after" * 1000)
        await volume.sync("after", new_files=["unsynced", "after"])
        self.assertTrue((await volume.unmount()).is_clean)
        files = self.tape_files()
        index = self.newest(files)
        self.assertEqual([entry.path for entry in index.entries], ["synced", "unsynced", "after"])
        for entry in index.entries:
            assert entry.tape_file is not None
            self.assertEqual(files[entry.tape_file], entry.path.encode() * 1000)
        # label, index, synced, index, unsynced, stump, after, index, nothing: the stump is one tape file, closed once
        self.assertEqual(len(files), 9)
        self.assertTrue(sample(16 * MEBIBYTE).startswith(files[5][: 16 * MEBIBYTE]) and files[5])

    @returns_deferred
    async def test_killed_service(self) -> None:
        """A service that was killed with its mover takes the mount over, with what it had written."""
        volume = await self._killed_while_writing()
        adopted = await self.rig.restart().adopt()
        assert adopted is not None and not isinstance(adopted, EndedMount)
        self.assertEqual(adopted.volume_uuid, volume.volume_uuid)
        self.assertEqual(await self.names(adopted), ["synced", "unsynced"])
        await self.write(adopted, "after", b"after" * 1000)
        self.assertTrue((await adopted.unmount()).is_clean)
        self.assertEqual(
            [entry.path for entry in self.newest(self.tape_files()).entries], ["synced", "unsynced", "after"]
        )

    def _forget_boot(self) -> None:
        """Make the record one of an earlier boot of the machine."""
        import json

        path = os.path.join(self.rig.state, "mount.json")
        with open(path, encoding="utf-8") as file:
            record = json.load(file)
        write_json(path, {**record, "boot_id": "another"})

    @returns_deferred
    async def test_power_cut(self) -> None:
        """After a start of the machine the mount is over and unclean; the check keeps what was synced and never writes over anything."""
        volume = await self._killed_while_writing()
        self._forget_boot()
        found = await self.rig.restart().adopt()
        assert isinstance(found, EndedMount)
        self.assertEqual((found.barcode, found.volume_uuid), (BARCODE, volume.volume_uuid))
        self.assertFalse(found.verdict.is_clean)
        before = self.tape_files()
        again = await self.checked(volume.volume_uuid)
        self.assertEqual(await self.names(again), ["synced"])
        await self.write(again, "after", b"after" * 1000)
        self.assertTrue((await again.unmount()).is_clean)
        files = self.tape_files()
        kept = before[:-1] if not before[-1] else before
        self.assertEqual(files[: len(kept)], kept)
        self.assertEqual([entry.path for entry in self.newest(files).entries], ["synced", "after"])

    # --- Moved behind our back

    @returns_deferred
    async def test_moved_while_away(self) -> None:
        """A tape that was moved while no service ran is taken over, and written on at its end."""
        volume = await self.mounted()
        await self.write(volume, "before", b"before" * 1000)
        await volume.mover.close()
        tape = self.opened()
        tape.rewind()
        tape.close()
        adopted = await self.rig.restart().adopt()
        assert adopted is not None and not isinstance(adopted, EndedMount)
        await self.write(adopted, "after", b"after" * 1000)
        self.assertTrue((await adopted.unmount()).is_clean)
        files = self.tape_files()
        self.assertEqual([entry.path for entry in self.newest(files).entries], ["before", "after"])
        self.assertEqual(parse_label_file(files[0]).barcode, BARCODE)

    # --- The end of the tape

    @returns_deferred
    async def test_full(self) -> None:
        """What the end of the tape cut off gives its room to the index; later files find none, small ones do; so it is mounted again."""
        volume = await self.mounted()
        big = os.path.join(self.rig.directory, "big")
        content = sample(14 * MEBIBYTE, 3)
        with open(big, "wb") as file:
            file.write(content)
        piece = self.piece(big, content)
        number = 0
        with self.assertRaises(EndOfTape) as ended:
            while True:
                await volume.mover.write(
                    path=f"big-{number:02}", pieces=[piece], attributes={}, on_progress=ignore
                )
                number += 1
        self.assertLessEqual(ended.exception.written_bytes, len(content))
        self.assertGreaterEqual(number, 2)
        self.assertEqual((await volume.space()).free_bytes, 0)
        await self.assertFailure(Deferred.fromCoroutine(self.write(volume, "more", b"x")), EndOfTape)
        await volume.mover.put_file(path="manifest", content=sample(3 * BLOCK))
        await volume.sync("full", new_files=[f"big-{each:02}" for each in range(number)])
        self.assertTrue((await volume.unmount()).is_clean)
        again = await self.rig.filesystem.mount(barcode=BARCODE, volume_uuid=volume.volume_uuid)
        self.assertFalse(again.is_read_only)
        self.assertEqual(await self.names(again), [f"big-{each:02}" for each in range(number)] + ["manifest"])
        await self.assertFailure(Deferred.fromCoroutine(self.write(again, "more", b"x")), EndOfTape)
        compared = await again.mover.verify(
            path=f"big-{number - 1:02}",
            size_bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            on_progress=ignore,
        )
        self.assertTrue(compared.is_identical)
        self.assertEqual(
            await again.mover.get_file(path="manifest", limit_bytes=4 * BLOCK), sample(3 * BLOCK)
        )
        self.assertTrue((await again.unmount()).is_clean)

    @returns_deferred
    async def test_no_room_to_close(self) -> None:
        """A tape that is full to its last block with a stump is closed over the stump, which is worth nothing."""
        volume = await self.mounted()
        await self.write(volume, "synced", b"synced" * 1000)
        await volume.sync("synced", new_files=["synced"])
        await volume.mover.close()
        tape = self.opened()
        tape.to_end()
        refusals = 0
        content = memoryview(sample(BLOCK))
        while refusals < 2:
            try:
                tape.write(content)
                refusals = 0
            except OSError as error:
                self.assertEqual(error.errno, errno.ENOSPC)
                refusals += 1
        tape.close()
        self._forget_boot()
        self.assertIsInstance(await self.rig.restart().adopt(), EndedMount)
        again = await self.checked(volume.volume_uuid)
        self.assertEqual(await self.names(again), ["synced"])
        self.assertEqual(await again.mover.get_file(path="synced", limit_bytes=6000), b"synced" * 1000)
        await self.write(again, "after", b"after" * 1000)
        self.assertTrue((await again.unmount()).is_clean)


class RawTapeDetails(RawTapeRules):
    """More of the same, for tapes on which tests are quick."""

    @returns_deferred
    async def test_removed_and_replaced(self) -> None:
        """What is removed or replaced stays on tape and is listed no more."""
        volume = await self.mounted()
        await self.write(volume, "one", b"one" * 200)
        await self.write(volume, "two", b"two" * 200)
        await volume.mover.put_file(path="small", content=b"first")
        await volume.mover.put_file(path="small", content=b"second")
        await volume.sync("all", new_files=["one", "two"])
        await volume.mover.unlink(path="one")
        self.assertTrue((await volume.unmount()).is_clean)
        volume = await self.rig.filesystem.mount(barcode=BARCODE, volume_uuid=volume.volume_uuid)
        self.assertEqual(await self.names(volume), ["small", "two"])
        self.assertEqual(await volume.mover.get_file(path="small", limit_bytes=10), b"second")
        self.assertTrue((await volume.unmount()).is_clean)
        files = self.tape_files()
        self.assertIn(b"one" * 200, files)
        self.assertEqual([entry.path for entry in self.newest(files).entries], ["two", "small"])

    @returns_deferred
    async def test_unchanged(self) -> None:
        """A mount that changes nothing writes nothing."""
        volume = await self.mounted()
        await self.write(volume, "file", b"content")
        await volume.unmount()
        before = self.tape_files()
        volume = await self.rig.filesystem.mount(barcode=BARCODE, volume_uuid=volume.volume_uuid)
        self.assertEqual(await volume.mover.get_file(path="file", limit_bytes=10), b"content")
        generation = volume.generation
        self.assertEqual((await volume.sync("nothing new", new_files=["file"])).generation, generation)
        self.assertTrue((await volume.unmount()).is_clean)
        self.assertEqual(self.tape_files(), before)

    @returns_deferred
    async def test_foreign_data_behind_a_filemark(self) -> None:
        """Also when it begins with a file mark."""
        await self.refuses(b"", b"somebody's backup" * 100, b"")

    @returns_deferred
    async def test_busy(self) -> None:
        """A drive that another program has open is busy, and is not touched."""
        await self.rig.load(BARCODE)  # type: ignore[attr-defined]
        tape = self.opened()
        try:
            filesystem = self.rig.filesystem
            await self.assertFailure(filesystem.format(barcode=BARCODE, volume_name="name"), DriveBusy)
            await self.assertFailure(filesystem.mount(barcode=BARCODE, volume_uuid=None), DriveBusy)
            await self.assertFailure(filesystem.check(), DriveBusy)
        finally:
            tape.close()
        self.assertIsNone(await filesystem.adopt())

    @returns_deferred
    async def test_whole_bundles_are_found_again(self) -> None:
        """A bundle that was written whole and that no index lists is listed by a check: it tells itself what it is."""
        path, content = golden_bundle()
        volume = await self.mounted()
        await self.write(volume, path, content)
        await self.write(volume, "no bundle", content[:-512])
        await self.write(volume, "long", sample(2 * BLOCK + 512))
        await volume.mover.close()
        self._forget_boot()
        self.assertIsInstance(await self.rig.restart().adopt(), EndedMount)
        again = await self.checked(volume.volume_uuid)
        self.assertEqual(await self.names(again), ["coldstore"])
        compared = await again.mover.verify(
            path=path,
            size_bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            on_progress=ignore,
        )
        self.assertTrue(compared.is_identical)
        self.assertTrue((await again.unmount()).is_clean)

    @returns_deferred
    async def test_format_cut_off(self) -> None:
        """A format that was cut off behind the label is finished by a check."""
        volume = await self.mounted()
        await volume.unmount()
        tape = self.opened()
        tape.rewind()
        tape.space_files(1)
        tape.write_filemarks(0)
        tape.write(memoryview(b"x"))
        tape.close()
        again = await self.checked(volume.volume_uuid)
        self.assertEqual((again.volume_name, again.generation), ("volume", 1))
        self.assertTrue((await again.unmount()).is_clean)

    @returns_deferred
    async def test_check_of_a_protected_tape(self) -> None:
        """A tape that was not closed and cannot be written is mounted to be read, with what can be known of it."""
        volume = await self.mounted()
        await self.write(volume, "synced", b"synced")
        await volume.sync("synced", new_files=["synced"])
        await self.rig.foreign_write()
        await volume.unmount()
        await self.rig.unload()  # type: ignore[attr-defined]
        await self.rig.protect(BARCODE)  # type: ignore[attr-defined]
        await self.rig.load(BARCODE)  # type: ignore[attr-defined]
        self.assertTrue((await self.rig.filesystem.check()).is_consistent)
        again = await self.rig.filesystem.mount(barcode=BARCODE, volume_uuid=volume.volume_uuid)
        self.assertTrue(again.is_read_only)
        self.assertEqual(await again.mover.get_file(path="synced", limit_bytes=10), b"synced")
        await self.assertFailure(again.mover.put_file(path="a", content=b"x"), MediumFault)
        self.assertTrue((await again.unmount()).is_clean)

    @returns_deferred
    async def test_overwritten_while_mounted(self) -> None:
        """A tape that somebody wrote on ends the mount; nothing more is written on it."""
        volume = await self.mounted()
        await self.write(volume, "synced", b"synced")
        await volume.sync("synced", new_files=["synced"])
        await volume.mover.close()
        tape = self.opened()
        tape.rewind()
        tape.write(memoryview(b"somebody's backup"))
        tape.write_filemarks(1)
        tape.close()
        await self.assertFailure(Deferred.fromCoroutine(self.write(volume, "after", b"x")), VolumeGone)
        self.assertFalse(volume.is_alive())
        verdict = await volume.unmount()
        self.assertFalse(verdict.is_clean)
        self.assertEqual(self.tape_files(), [b"somebody's backup", b""])
        await self.assertFailure(
            self.rig.filesystem.mount(barcode=BARCODE, volume_uuid=volume.volume_uuid), NotFormatted
        )

    def exchange(self) -> list[bytes]:
        """Have another volume of ours in the drive, just formatted, as long as the one that is mounted; return what is on it."""
        files = self.tape_files()
        label = replace(
            parse_label_file(files[0]),
            volume_uuid="12345678-1234-4234-8234-123456789abc",
            barcode=OTHER_BARCODE,
        )
        others = [label_file(label), index_file(replace(parse_index_file(files[1]), label=label))]
        self.assertEqual([len(other) for other in others], [len(file) for file in files[:2]])
        tape = self.opened()
        tape.rewind()
        for other in others:
            tape.write(memoryview(other))
            tape.write_filemarks(1)
        tape.close()
        return [*others, b""]

    async def _refuses_exchanged(self, *, has_stump: bool) -> None:
        volume = await self.mounted()
        assert isinstance(volume.mover, RawMover)
        await volume.mover.close()
        others = self.exchange()
        WorkingCopy.load(volume.mover.working_copy).note(is_writing=has_stump)
        await self.assertFailure(Deferred.fromCoroutine(self.write(volume, "file", b"x")), VolumeGone)
        self.assertFalse(volume.is_alive())
        self.assertFalse((await volume.unmount()).is_clean)
        self.assertEqual(self.tape_files(), others)

    def test_exchanged_while_mounted(self) -> Deferred[None]:
        """A tape that ends where ours did, but is another, is not written on."""
        return Deferred.fromCoroutine(self._refuses_exchanged(has_stump=False))

    def test_exchanged_while_written(self) -> Deferred[None]:
        """Nor is one that ends further on, after a write that was cut off: that is no stump of ours."""
        return Deferred.fromCoroutine(self._refuses_exchanged(has_stump=True))

    @returns_deferred
    async def test_exchanged_before_a_read(self) -> None:
        """What another tape has where ours had a file does not count against our copy: the volume is gone."""
        volume = await self.mounted()
        await self.write(volume, "file", b"content")
        await volume.sync("file", new_files=["file"])
        await volume.mover.close()
        self.exchange()
        await self.assertFailure(
            volume.mover.verify(path="file", size_bytes=7, sha256="", on_progress=ignore), VolumeGone
        )
        self.assertFalse((await volume.unmount()).is_clean)

    @returns_deferred
    async def test_foreign_large_blocks(self) -> None:
        """Also when its blocks are larger than ours."""
        await self.refuses(bytes(2 * BLOCK), b"")
