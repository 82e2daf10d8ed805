"""What LtfsFilesystem and its helpers do when something is killed, hangs or fails, on the virtual library with FUSE."""

import fcntl
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from coldstore.interfaces.filesystem import (
    CutOff,
    DriveBusy,
    EndedMount,
    FormatFailed,
    IMountedVolume,
    MountBusy,
    MountFailed,
    SyncFailed,
)
from coldstore.interfaces.mover import EndOfTape, Literal, MediumFault, MoverDied, MoverTimeout
from coldstore.tape.ltfs_mover import LtfsMover
from coldstore.tape.mountrecord import Launch, MountFolders
from coldstore.tape.mover import MoverLimits, MoverProcess
from coldstore.tape.processtable import mark_of
from coldstore.tape.shim import locked, own_mark
from coldstore.util.asynchronous import returns_deferred
from coldstore.util.checksums import crc64nvme
from tests.contract.filesystem_contract import MEBIBYTE, ignore, sample
from tests.contract.filesystem_rigs import BARCODE, CHECKOUT, VirtualLibraryRig, living
from tests.endtoend.killing import matching
from tests.incidents import survives

reactor: Any = global_reactor


class Case(TestCase):
    """A drive of the virtual library."""

    timeout = 480
    if not os.path.exists("/dev/fuse"):
        skip = "no /dev/fuse: the virtual library cannot mount"

    def setUp(self) -> None:
        """Make a library."""
        self.rig = VirtualLibraryRig()

    def tearDown(self) -> Deferred[None]:
        """Remove it."""
        return self.rig.close()

    async def mounted(self) -> IMountedVolume:
        """Format and mount."""
        await self.rig.load(BARCODE)
        made = await self.rig.filesystem.format(barcode=BARCODE, volume_name="volume")
        return await self.rig.filesystem.mount(barcode=BARCODE, volume_uuid=made.volume_uuid)

    async def write(self, volume: IMountedVolume, path: str, content: bytes) -> None:
        """Write one file."""
        await volume.mover.write(
            path=path, pieces=[Literal(content=content)], attributes={}, on_progress=ignore
        )

    async def until_ended(self, process_id: int) -> None:
        """Wait for the end of a process."""
        for _ in range(500):
            if not living(process_id):
                return
            await deferLater(reactor, 0.02)
        self.fail(f"process {process_id} does not end")


class KilledTests(Case):
    """kill -9 of everything that runs."""

    def mover_of(self, volume: IMountedVolume) -> MoverProcess:
        """The mover as the class that it is."""
        assert isinstance(volume.mover, MoverProcess)
        return volume.mover

    @returns_deferred
    async def test_mover(self) -> None:
        """A killed mover fails the operation under way; the next one gets a new mover, and the volume is fine."""
        volume = await self.mounted()
        mover = self.mover_of(volume)
        await mover.space()
        process_id = mover.process_id
        assert process_id is not None
        await self.rig.fault("--program", "ltfs", "--at", "write", "--kind", "hang", "--seconds", "2")
        waiting = Deferred.fromCoroutine(self.write(volume, "big", sample(MEBIBYTE)))
        await deferLater(reactor, 0.7)
        os.kill(process_id, signal.SIGKILL)
        await self.assertFailure(waiting, MoverDied)
        await mover.write(
            path="big",
            pieces=[Literal(content=b"whole")],
            attributes={},
            on_progress=ignore,
            replace_stump=True,
        )
        self.assertNotEqual(mover.process_id, process_id)
        await volume.sync("after", new_files=["big"])
        self.assertTrue((await volume.unmount()).is_clean)

    @returns_deferred
    async def test_mover_of_a_dead_service(self) -> None:
        """When the service is killed in the middle of a copy its mover ends, lets go of the drive's lock, and the mount goes on."""
        volume = await self.mounted()
        await volume.mover.close()
        lock = os.path.join(self.rig.directory, "other.lock")
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        await self.rig.fault(
            *("--program", "ltfs", "--at", "write", "--kind", "slow", "--seconds", "0.05", "--count", "0")
        )
        plan = os.path.join(self.rig.run, "plan")
        big = os.path.join(self.rig.directory, "big")
        content = sample(64 * MEBIBYTE)
        with open(big, "wb") as file:
            file.write(content)
        with open(plan, "w", encoding="ascii") as file:
            file.write(f'["{big}", 0, {len(content)}, {crc64nvme(content)}]\n' * 2)
        mover = subprocess.Popen(
            [sys.executable, "-m", "coldstore.tape.mover_child", self.rig.mountpoint],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[descriptor],
            env={"PYTHONPATH": str(CHECKOUT)},
        )
        os.close(descriptor)
        assert mover.stdin is not None and mover.stdout is not None
        command = f'{{"id": 1, "op": "write", "path": "f", "plan": "{plan}", "attributes": {{}}, "replace": false}}\n'
        mover.stdin.write(command.encode())
        mover.stdin.flush()
        self.assertIn(b"progress", mover.stdout.readline())
        mover.stdin.close()
        await self.until_ended(mover.pid)
        mover.stdout.close()
        mover.wait()
        again = os.open(lock, os.O_RDWR)
        fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(again)
        adopted = await self.rig.restart().adopt()
        assert not isinstance(adopted, EndedMount) and adopted is not None
        self.assertTrue((await adopted.unmount()).is_clean)

    @returns_deferred
    async def test_shim(self) -> None:
        """When the shim is killed the mount goes on and guards its drive; how it ended cannot be proven, so a check is due."""
        volume = await self.mounted()
        shim, ltfs = self.rig.newest_processes()
        os.kill(shim, signal.SIGKILL)
        await self.until_ended(shim)
        self.assertTrue(volume.is_alive())
        await self.write(volume, "file", b"content")
        await volume.sync("file", new_files=["file"])
        adopted = await self.rig.restart().adopt()
        assert not isinstance(adopted, EndedMount) and adopted is not None
        self.assertEqual(await adopted.mover.get_file(path="file", limit_bytes=100), b"content")
        # ltfs inherited the mount lock: a second one is kept out although nobody watches the first.
        folders = MountFolders(self.rig.state)
        newest = folders.newest()
        assert newest is not None
        launch = newest.launch()
        assert launch is not None
        with open(launch.lock_path, "r+b") as file, self.assertRaises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        await volume.mover.close()
        verdict = await adopted.unmount()
        self.assertFalse(living(ltfs))
        self.assertFalse(verdict.is_clean)
        self.assertEqual(verdict.findings, ("nobody saw how ltfs ended",))
        self.assertTrue((await self.rig.filesystem.check()).is_consistent)

    @survives("broken-stderr", "locked-while-mounted")
    @returns_deferred
    async def test_service(self) -> None:
        """Shim and ltfs live in sessions of their own, with no pipe to the service, and ltfs writes to a regular file."""
        volume = await self.mounted()
        shim, ltfs = self.rig.newest_processes()
        sessions = {os.getsid(0), os.getsid(shim), os.getsid(ltfs)}
        self.assertEqual(len(sessions), 3)
        for process in (shim, ltfs):
            for stream in (0, 1, 2):
                self.assertNotIn("pipe", os.readlink(f"/proc/{process}/fd/{stream}"))
        self.assertTrue(os.readlink(f"/proc/{ltfs}/fd/2").endswith("ltfs.log"))
        # Both hold the tape device open, so that no program can move the tape under ltfs.
        for process in (shim, ltfs):
            opened = [os.readlink(f"/proc/{process}/fd/{name}") for name in os.listdir(f"/proc/{process}/fd")]
            self.assertIn(self.rig.device("nst0"), opened)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(shim, number)
        self.assertTrue(living(shim))
        self.assertTrue((await volume.unmount()).is_clean)

    @survives("dead-mountpoint")
    @returns_deferred
    async def test_stale_mount(self) -> None:
        """When shim and ltfs were killed, the dead mount is cleared, and the volume can be checked and mounted."""
        volume = await self.mounted()
        await self.write(volume, "file", b"content")
        await volume.sync("file", new_files=["file"])
        await volume.mover.close()
        for process in self.rig.newest_processes():
            os.kill(process, signal.SIGKILL)
            await self.until_ended(process)
        found = await self.rig.restart().adopt()
        assert isinstance(found, EndedMount)
        self.assertIn("nobody saw how ltfs ended", found.verdict.findings)
        self.assertTrue((await self.rig.filesystem.check()).is_consistent)
        again = await self.rig.filesystem.mount(barcode=BARCODE, volume_uuid=volume.volume_uuid)
        self.assertEqual(await again.mover.get_file(path="file", limit_bytes=100), b"content")
        await again.unmount()

    @returns_deferred
    async def test_launch_withdrawn(self) -> None:
        """A wish that no shim took before the crash is withdrawn by the next service."""
        volume = await self.mounted()
        await volume.unmount()
        folders = MountFolders(self.rig.state)
        newest = folders.newest()
        assert newest is not None
        launch = newest.launch()
        assert launch is not None
        wish = folders.new()
        wish.request(launch)
        self.assertIsNone(await self.rig.restart().adopt())
        self.assertIsNone(wish.claim(own_mark()))

    async def ready_to_mount(self) -> Launch:
        """A formatted cartridge in the drive, and the wish of a mount of it."""
        volume = await self.mounted()
        await volume.unmount()
        newest = MountFolders(self.rig.state).newest()
        launch = None if newest is None else newest.launch()
        assert launch is not None
        return launch

    @returns_deferred
    async def test_shim_killed_at_once(self) -> None:
        """A shim that was killed before it started anything leaves an ended mount, and nobody waits for it."""
        launch = await self.ready_to_mount()
        folder = MountFolders(self.rig.state).new()
        folder.request(launch)
        gone = subprocess.Popen(["sleep", "60"])
        shim = mark_of(gone.pid)
        assert shim is not None
        folder.claim(shim)
        adopting = self.rig.restart().adopt()
        self.assertFalse(adopting.called)
        gone.kill()
        gone.wait()
        found = await adopting
        assert isinstance(found, EndedMount)
        self.assertFalse(found.verdict.is_clean)
        self.assertTrue((await self.rig.filesystem.check()).is_consistent)
        self.assertIsNone(await self.rig.filesystem.adopt())

    @returns_deferred
    async def test_shim_killed_before_ltfs_is_recorded(self) -> None:
        """What a killed shim has forked goes on to become ltfs, and is waited for and taken over."""
        launch = await self.ready_to_mount()
        folder = MountFolders(self.rig.state).new()
        folder.request(launch)
        gone = subprocess.Popen(["sleep", "60"])
        shim = mark_of(gone.pid)
        assert shim is not None
        folder.claim(shim)
        lock = locked(launch.lock_path)
        gone.kill()
        gone.wait()
        adopting = self.rig.restart().adopt()
        await deferLater(reactor, 0.5)
        self.assertFalse(adopting.called, "somebody holds the mount lock")
        with open(folder.log_path, "ab") as log:
            heir = subprocess.Popen(
                launch.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=[lock],
                env={**self.rig.environment(), "LANG": "C.UTF-8"},
                preexec_fn=lambda: folder.write_ltfs(own_mark()),
            )
        os.close(lock)
        volume = await adopting
        assert volume is not None and not isinstance(volume, EndedMount)
        self.assertEqual(volume.barcode, BARCODE)
        verdict = await volume.unmount()
        self.assertIn("nobody saw how ltfs ended", verdict.findings)
        self.assertEqual(heir.wait(), 0)


class FaultTests(Case):
    """Faults of the world, as the virtual library plays them."""

    @survives("unmount-busy")
    @returns_deferred
    async def test_busy(self) -> None:
        """A mount with an open file stays mounted and usable, and is unmounted when the file is closed."""
        volume = await self.mounted()
        await self.write(volume, "file", b"content")
        holder = os.open(os.path.join(self.rig.mountpoint, "file"), os.O_RDONLY)
        try:
            await self.assertFailure(volume.unmount(), MountBusy)
        finally:
            os.close(holder)
        self.assertTrue(volume.is_alive())
        self.assertEqual(await volume.mover.get_file(path="file", limit_bytes=100), b"content")
        self.assertTrue((await volume.unmount()).is_clean)

    @survives("write-hangs")
    @returns_deferred
    async def test_hanging_write(self) -> None:
        """A write that hangs ends after the limit with the mover killed; when the drive goes on, so does the mover."""
        volume = await self.mounted()
        mover = LtfsMover(
            reactor=reactor,
            threads=self.rig.threads,
            mountpoint=self.rig.mountpoint,
            is_plain=False,
            run_directory=self.rig.run,
            tenure=self.rig.tenure,
            limits=MoverLimits(silence_seconds=1.5, reap_seconds=10, farewell_seconds=1),
            environment=self.rig.environment(),
        )
        self.rig.movers.append(mover)
        await self.rig.fault("--program", "ltfs", "--at", "write", "--kind", "hang", "--seconds", "4")
        stuck = mover.write(
            path="file", pieces=[Literal(content=b"x" * 100)], attributes={}, on_progress=ignore
        )
        await self.assertFailure(stuck, MoverTimeout)
        await deferLater(reactor, 4)
        await mover.put_file(path="file", content=b"y")
        self.assertEqual(await mover.get_file(path="file", limit_bytes=10), b"y")
        await mover.close()
        await volume.unmount()

    @returns_deferred
    async def test_failed_sync(self) -> None:
        """A sync that gives an error proves nothing and says so."""
        volume = await self.mounted()
        await self.write(volume, "file", b"content")
        await self.rig.fault("--program", "ltfs", "--at", "sync", "--kind", "eio-lost")
        await self.assertFailure(volume.sync("file", new_files=["file"]), SyncFailed)
        self.assertFalse((await volume.unmount()).is_clean)

    @returns_deferred
    async def test_permanent_write_error(self) -> None:
        """After a permanent write error the writing fails, the sync fails, and the next mount is read-only."""
        volume = await self.mounted()
        await self.write(volume, "first", sample(MEBIBYTE))
        await volume.sync("first", new_files=["first"])
        await self.rig.fault("--program", "ltfs", "--at", "write", "--kind", "erofs")
        await self.assertFailure(
            Deferred.fromCoroutine(self.write(volume, "second", sample(8 * MEBIBYTE))), MediumFault
        )
        with self.assertRaises((SyncFailed, MediumFault)):
            await volume.sync("second")
        await volume.unmount()
        self.assertTrue((await self.rig.filesystem.check()).is_consistent)
        again = await self.rig.filesystem.mount(barcode=BARCODE, volume_uuid=volume.volume_uuid)
        self.assertTrue(again.is_read_only)
        self.assertEqual(await again.mover.get_file(path="first", limit_bytes=MEBIBYTE), sample(MEBIBYTE))
        await again.unmount()

    @returns_deferred
    async def test_lying_unmount(self) -> None:
        """An ltfs that exits 0 and says "unmounted successfully" after it lost its index does not deceive us."""
        volume = await self.mounted()
        await self.write(volume, "file", sample(MEBIBYTE))
        await self.rig.fault("--program", "ltfs", "--at", "unmount", "--kind", "double-write-error")
        verdict = await volume.unmount()
        self.assertEqual(verdict.exit_status, 0)
        self.assertTrue(any("11034I" in line for line in verdict.log_tail))
        self.assertFalse(verdict.is_clean)

    @returns_deferred
    async def test_lost_index(self) -> None:
        """An unmount whose index write failed exits 0 and is not clean."""
        volume = await self.mounted()
        await self.write(volume, "file", sample(MEBIBYTE))
        await self.rig.fault("--program", "ltfs", "--at", "unmount", "--kind", "index-write-lost")
        verdict = await volume.unmount()
        self.assertEqual(verdict.exit_status, 0)
        self.assertFalse(verdict.is_clean)

    @returns_deferred
    async def test_full_in_the_middle(self) -> None:
        """The end of the tape in the middle of a file is told as such, with what had been accepted."""
        volume = await self.mounted()
        await self.rig.fault("--program", "ltfs", "--at", "write", "--kind", "enospc")
        await self.assertFailure(
            Deferred.fromCoroutine(self.write(volume, "file", sample(8 * MEBIBYTE))), EndOfTape
        )
        await volume.unmount()

    @returns_deferred
    async def test_unreadable(self) -> None:
        """Bytes that the drive cannot read are unreadable, and a verification fails with the medium."""
        volume = await self.mounted()
        content = sample(2 * MEBIBYTE)
        await self.write(volume, "file", content)
        await volume.sync("file", new_files=["file"])
        await self.rig.fault("--program", "ltfs", "--at", "read", "--kind", "eio", "--count", "0")
        await self.assertFailure(
            volume.mover.verify(path="file", size_bytes=len(content), sha256="", on_progress=ignore),
            MediumFault,
        )
        await volume.unmount()

    @survives("format-fails", "mount-fails")
    @returns_deferred
    async def test_format_fails(self) -> None:
        """A failed format and a failed mount tell what the program said."""
        await self.rig.load(BARCODE)
        await self.rig.fault("--program", "mkltfs", "--at", "format", "--kind", "fail")
        fault = await self.assertFailure(
            self.rig.filesystem.format(barcode=BARCODE, volume_name="volume"), FormatFailed
        )
        self.assertTrue(fault.log_tail)
        made = await self.rig.filesystem.format(barcode=BARCODE, volume_name="volume")
        await self.rig.fault("--program", "ltfs", "--at", "mount", "--kind", "fail")
        fault = await self.assertFailure(
            self.rig.filesystem.mount(barcode=BARCODE, volume_uuid=made.volume_uuid), MountFailed
        )
        self.assertTrue(fault.log_tail)

    @returns_deferred
    async def test_killed_tools(self) -> None:
        """A format or a check that somebody kills says nothing about drive and cartridge."""
        await self.rig.load(BARCODE)
        filesystem = self.rig.filesystem
        await self.rig.fault("--program", "mkltfs", "--at", "format", "--kind", "hang", "--seconds", "60")
        formatting = filesystem.format(barcode=BARCODE, volume_name="volume")
        await self.kill_program("mkltfs")
        await self.assertFailure(formatting, CutOff)
        await filesystem.format(barcode=BARCODE, volume_name="volume")
        await self.rig.fault("--program", "ltfsck", "--at", "check", "--kind", "hang", "--seconds", "60")
        checking = filesystem.check()
        await self.kill_program("ltfsck")
        await self.assertFailure(checking, CutOff)
        self.assertTrue((await filesystem.check()).is_consistent)

    async def kill_program(self, name: str) -> None:
        """Kill a program of the library as soon as it has met the fault that is armed for it."""
        log = Path(self.rig.library, "faults", "taken.log")
        for _ in range(1000):
            if log.exists() and name in log.read_text():
                (process_id,) = matching(Path(self.rig.library), re.compile(f"/{name} "))
                os.kill(process_id, signal.SIGKILL)
                return
            await deferLater(reactor, 0.02)
        self.fail(f"no {name} met its fault")

    @survives("mount-ended-silently")
    @returns_deferred
    async def test_silent_failure(self) -> None:
        """An ltfs that exits 0 without ever being ready has not mounted."""
        await self.rig.load(BARCODE)
        await self.rig.filesystem.format(barcode=BARCODE, volume_name="volume")
        await self.rig.fault(
            *("--program", "ltfs", "--at", "start", "--kind", "exit", "--exit", "0"),
            *("--text", "fuse: unknown option `nothing'"),
        )
        await self.assertFailure(self.rig.filesystem.mount(barcode=BARCODE, volume_uuid=None), MountFailed)

    @returns_deferred
    async def test_occupied_mountpoint(self) -> None:
        """A mountpoint that another file system covers is left alone."""
        if os.geteuid():
            self.skipTest("mounting needs root")
        os.mkdir(self.rig.mountpoint)
        subprocess.run(["mount", "-t", "tmpfs", "none", self.rig.mountpoint], check=True)
        try:
            await self.rig.load(BARCODE)
            await self.assertFailure(
                self.rig.filesystem.mount(barcode=BARCODE, volume_uuid=None), MountFailed
            )
        finally:
            subprocess.run(["umount", self.rig.mountpoint], check=True)

    @returns_deferred
    async def test_empty_mountpoint(self) -> None:
        """A mover refuses a mountpoint where nothing is mounted, so nothing lands on the local disk."""
        from coldstore.interfaces.mover import VolumeGone

        os.mkdir(self.rig.mountpoint)
        mover = self.rig.mover(self.rig.mountpoint, False)
        await self.assertFailure(mover.put_file(path="file", content=b"x"), VolumeGone)
        self.assertEqual(os.listdir(self.rig.mountpoint), [])

    @returns_deferred
    async def test_foreign_use(self) -> None:
        """A drive that another ltfs has is busy."""
        volume = await self.mounted()
        other_state = os.path.join(self.rig.directory, "other-state")
        os.mkdir(other_state)
        self.rig.state = other_state
        self.rig.mountpoint = os.path.join(self.rig.directory, "mnt", "other")
        await self.assertFailure(self.rig.restart().mount(barcode=BARCODE, volume_uuid=None), DriveBusy)
        await volume.unmount()
