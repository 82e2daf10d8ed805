"""Rigs for the contract of tape file systems: a drive, two cartridges, and what a test may do to them."""

import fcntl
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol, cast

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.threads import deferToThread
from twisted.python.threadpool import ThreadPool
from twisted.trial.unittest import SkipTest

from coldstore.interfaces.filesystem import ITapeFilesystem
from coldstore.tape.filesystem import LtfsDrive, LtfsFilesystem, LtfsLimits
from coldstore.tape.launcher import ChildLauncher
from coldstore.tape.ltfs import LtfsOptions, LtfsTools
from coldstore.tape.ltfs_mover import LtfsMover
from coldstore.tape.mountrecord import MountFolders
from coldstore.tape.mover import MoverLimits, MoverProcess
from coldstore.tape.process import ReactorCommandRunner
from coldstore.tape.processtable import is_alive
from coldstore.tape.raw.device import TapeDevice
from coldstore.tape.raw.filesystem import RawFilesystem, RawLimits
from coldstore.tape.raw.mover import RawMover
from coldstore.testing.filesystem import SimulatedTapeFilesystem, SimulatedTapes
from coldstore.testing.tenure import SimulatedTenure
from coldstore.vtl.library import LibrarySpec, create_library
from coldstore.vtl.tape import VirtualTape

reactor: Any = global_reactor

CHECKOUT = Path(__file__).resolve().parent.parent.parent
BARCODE = "A00001L8"
OTHER_BARCODE = "A00002L8"

HURRIED = LtfsLimits(
    format_seconds=60,
    check_seconds=60,
    mount_seconds=60,
    unmount_seconds=60,
    umount_command_seconds=60,
    shim_start_seconds=20,
    busy_attempts=3,
    busy_pause_seconds=0.2,
    look_first_seconds=0.02,
    look_most_seconds=0.2,
)


class Rig(Protocol):
    """A drive with a file system, and the world around it."""

    lacks: frozenset[str]
    filesystem: ITapeFilesystem
    directory: str
    tenure: SimulatedTenure

    def load(self, barcode: str) -> "Deferred[None]":
        """Put a cartridge into the drive; the one that is in it goes out."""

    def unload(self) -> "Deferred[None]":
        """Take the cartridge out."""

    def restart(self) -> ITapeFilesystem:
        """Return a file system as a service has it that was started anew; the old one is not to be used any more."""

    def break_mount(self) -> "Deferred[None]":
        """Do to the mount what ends it without an index: kill -9 of the process that serves it, a foreign write on the tape."""

    def protect(self, barcode: str) -> "Deferred[None]":
        """Move the write protection tab of a cartridge that is not loaded."""

    def damage(self, barcode: str, marker: bytes) -> "Deferred[None]":
        """Change one byte of the medium where these bytes are."""

    def full_disk(self) -> AbstractContextManager[None]:
        """Have the disk of the appliance, where mounts are recorded, take nothing for a while."""

    def close(self) -> "Deferred[None]":
        """Leave nothing behind."""


def call(argv: Sequence[str], environment: Mapping[str, str] | None = None) -> "Deferred[None]":
    """Run a program of the rig; its failure fails the test with its words."""

    def run() -> None:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False, env=environment)
        if done.returncode:
            raise AssertionError(f"{argv}: {done.stdout}{done.stderr}")

    return deferToThread(run)


def living_processes(words: str) -> list[int]:
    """The processes whose command line has these words."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdecimal() and int(name) != os.getpid():
            try:
                with open(f"/proc/{name}/cmdline", "rb") as file:
                    command = file.read().replace(b"\0", b" ").decode(errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if words in command:
                found.append(int(name))
    return found


class ProgramRig:
    """What all rigs with real programs share."""

    limits = HURRIED
    silence_seconds = 60.0

    def __init__(self) -> None:
        self.directory = os.path.realpath(tempfile.mkdtemp(prefix="coldstore-filesystem-"))
        self.state = os.path.join(self.directory, "state")
        self.run = os.path.join(self.directory, "run")
        self.mountpoint = os.path.join(self.directory, "mnt", "drive0")
        for path in (self.state, self.run, os.path.dirname(self.mountpoint)):
            os.mkdir(path)
        self.threads = ThreadPool(1, 4)
        self.threads.start()
        self.lock = os.open(os.path.join(self.directory, "drive.lock"), os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        self.movers: list[MoverProcess] = []
        self.tenure = SimulatedTenure()

    def environment(self) -> dict[str, str]:
        """What the programs find."""
        return {"PATH": os.environ["PATH"]}

    def mover(self, mountpoint: str, is_plain: bool) -> LtfsMover:
        """Make a mover."""
        mover = LtfsMover(
            reactor=reactor,
            threads=self.threads,
            mountpoint=mountpoint,
            is_plain=is_plain,
            run_directory=self.run,
            tenure=self.tenure,
            descriptors=lambda: (self.lock,),
            limits=MoverLimits(silence_seconds=self.silence_seconds, reap_seconds=10, farewell_seconds=5),
            environment=self.environment(),
        )
        self.movers.append(mover)
        return mover

    def make(
        self,
        *,
        device: str,
        guard: str | None,
        tools: LtfsTools,
        options: LtfsOptions,
        accept_plain_directory: bool = False,
    ) -> LtfsFilesystem:
        """Make a file system over programs."""
        return LtfsFilesystem(
            reactor=reactor,
            threads=self.threads,
            runner=ReactorCommandRunner(reactor, self.environment()),
            tenure=self.tenure,
            launcher=ChildLauncher(reactor=reactor, environment=self.environment()),
            movers=self.mover,
            drive=LtfsDrive(
                device=device, guard=guard, mountpoint=self.mountpoint, state_directory=self.state
            ),
            descriptors=lambda: (self.lock,),
            tools=tools,
            options=options,
            limits=self.limits,
            accept_plain_directory=accept_plain_directory,
        )

    @contextmanager
    def full_disk(self) -> Iterator[None]:
        """See ``Rig``."""
        small = ["mount", "-t", "tmpfs", "-o", "size=64k", "coldstore-test", self.state]
        if subprocess.run(small, capture_output=True, check=False).returncode:
            raise SkipTest("mounting a small file system needs root")
        try:
            with suppress(OSError), open(os.path.join(self.state, "stranger"), "wb", buffering=0) as file:
                while file.write(bytes(4096)):
                    pass
            yield
        finally:
            subprocess.run(["umount", "-l", self.state], capture_output=True, check=True)

    def newest_processes(self) -> tuple[int, int]:
        """Shim and ltfs of the last mount."""
        folder = MountFolders(self.state).newest()
        assert folder is not None
        shim, ltfs = folder.shim(), folder.ltfs()
        assert shim is not None and ltfs is not None
        return shim.process_id, ltfs.process_id

    async def _until_ended(self, process_id: int) -> None:
        from twisted.internet.task import deferLater

        for _ in range(500):
            if not living(process_id):
                return
            await deferLater(reactor, 0.02)
        raise AssertionError(f"process {process_id} does not end")

    def break_mount(self) -> "Deferred[None]":
        """See ``Rig``."""
        _, ltfs = self.newest_processes()
        os.kill(ltfs, signal.SIGKILL)
        return Deferred.fromCoroutine(self._until_ended(ltfs))

    async def _close(self) -> None:
        for mover in self.movers:
            await mover.close()
        folder = MountFolders(self.state).newest()
        ltfs = folder.ltfs() if folder else None
        if ltfs is not None and is_alive(ltfs):
            shim, _ = self.newest_processes()
            await self.break_mount()
            await self._until_ended(shim)
        with open("/proc/self/mountinfo", encoding="utf-8") as table:
            if f" {self.mountpoint} " in table.read():
                await call(["umount", "-l", self.mountpoint])
        os.close(self.lock)
        await deferToThread(self.threads.stop)
        shutil.rmtree(self.directory, ignore_errors=True)

    def close(self) -> "Deferred[None]":
        """See ``Rig``."""
        return Deferred.fromCoroutine(self._close())


def living(process_id: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        with open(f"/proc/{process_id}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except (FileNotFoundError, ProcessLookupError):
        return False


def flip(path: str, offset: int) -> None:
    """Change one byte of a file."""
    os.chmod(path, 0o600)
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 0xFF]))


class VirtualLibraryRig(ProgramRig):
    """The programs of the virtual library."""

    lacks: frozenset[str] = frozenset()
    generic = "sg0"

    def __init__(self, *, directory_only: bool = False) -> None:
        super().__init__()
        self.library = os.path.join(self.directory, "library")
        self.loaded: int | None = None
        self.is_plain = directory_only
        if directory_only:
            self.lacks = frozenset({"loss", "full", "read-only", "damage", "mount", "needs check"})
        spec = LibrarySpec(
            drives=1,
            slots=4,
            mail_slots=1,
            cartridges=2,
            cleaning=0,
            capacity_bytes=200 * 1024**2,
            directory_only=directory_only,
        )
        create_library(self.library, spec)
        self.filesystem: ITapeFilesystem = self.restart()

    def _bin(self, name: str) -> str:
        return os.path.join(self.library, "bin", name)

    def device(self, name: str) -> str:
        """One of the library's devices."""
        return os.path.join(self.library, "dev", name)

    def restart(self, *, options: LtfsOptions | None = None) -> ITapeFilesystem:
        """See ``Rig``; ``options`` are what a site sets."""
        self.filesystem = self.make(
            device=self.device(self.generic),
            guard=self.device("nst0"),
            tools=LtfsTools(
                ltfs=self._bin("ltfs"),
                mkltfs=self._bin("mkltfs"),
                ltfsck=self._bin("ltfsck"),
                umount=(self._bin("umount"),),
            ),
            options=options or LtfsOptions(),
            accept_plain_directory=self.is_plain,
        )
        return self.filesystem

    async def _load(self, barcode: str) -> None:
        await self._unload()
        slot = int(barcode[1:6])
        await call([self._bin("mtx"), "-f", self.device("changer"), "load", str(slot), "0"])
        await call([self._bin("mt"), "-f", self.device("nst0"), "status"])
        self.loaded = slot

    def load(self, barcode: str) -> "Deferred[None]":
        """See ``Rig``."""
        return Deferred.fromCoroutine(self._load(barcode))

    async def _unload(self) -> None:
        if self.loaded is not None:
            await call([self._bin("mt"), "-f", self.device("nst0"), "offline"])
            await call([self._bin("mtx"), "-f", self.device("changer"), "unload", str(self.loaded), "0"])
            self.loaded = None

    def unload(self) -> "Deferred[None]":
        """See ``Rig``."""
        return Deferred.fromCoroutine(self._unload())

    def operate(self, *words: str) -> "Deferred[None]":
        """Use the library's operator command."""
        return call(
            [sys.executable, "-m", "coldstore.vtl", *words],
            {**self.environment(), "PYTHONPATH": str(CHECKOUT)},
        )

    def protect(self, barcode: str) -> "Deferred[None]":
        """See ``Rig``."""
        return self.operate("protect", self.library, barcode, "on")

    def damage(self, barcode: str, marker: bytes) -> "Deferred[None]":
        """See ``Rig``."""
        with open(os.path.join(self.library, "cartridges", barcode, "b.data"), "rb") as file:
            offset = file.read().index(marker)
        return self.operate("flip", self.library, barcode, "--partition", "b", "--offset", str(offset))

    def fault(self, *words: str) -> "Deferred[None]":
        """Arm a fault of the virtual library."""
        return self.operate("fault", "add", self.library, *words)


class RawTapes(ProgramRig):
    """What all rigs with raw tapes share."""

    program = ""
    raw_limits = RawLimits(format_seconds=60, check_seconds=60, mount_seconds=60, unmount_seconds=60)

    def raw_device(self) -> str:
        """The node of drive 0."""
        raise NotImplementedError

    def open_tape(self) -> TapeDevice:
        """Open drive 0, past the file system."""
        raise NotImplementedError

    def raw_mover(self) -> RawMover:
        """Make a mover."""
        mover = RawMover(
            program=self.program,
            device=self.raw_device(),
            reactor=reactor,
            threads=self.threads,
            run_directory=self.run,
            tenure=self.tenure,
            descriptors=lambda: (self.lock,),
            limits=MoverLimits(silence_seconds=self.silence_seconds, reap_seconds=10, farewell_seconds=5),
            environment=self.environment(),
        )
        self.movers.append(mover)
        return mover

    def restart(self) -> ITapeFilesystem:
        """See ``Rig``."""
        self.filesystem = RawFilesystem(
            reactor=reactor,
            threads=self.threads,
            movers=self.raw_mover,
            capacity_of=lambda barcode: 200 * 1024**2,
            state_directory=self.state,
            new_bits=lambda: random.getrandbits(128),
            limits=self.raw_limits,
        )
        return self.filesystem

    async def close_movers(self) -> None:
        """Let go of the drive, as the end of the service does."""
        for mover in self.movers:
            await mover.close()

    async def foreign_write(self) -> None:
        """Write something behind the end of the tape, as another program does that was given the drive."""
        await self.close_movers()
        tape = self.open_tape()
        tape.to_end()
        tape.write(memoryview(b"not ours"))
        tape.write_filemarks(1)
        tape.close()

    def break_mount(self) -> "Deferred[None]":
        """See ``Rig``."""
        return Deferred.fromCoroutine(self.foreign_write())

    async def slow_down(self) -> None:
        """Have writes take so long that something can happen meanwhile."""

    async def speed_up(self) -> None:
        """End that."""


class VirtualTapeRig(RawTapes, VirtualLibraryRig):
    """Raw tapes in the drives of the virtual library."""

    lacks: frozenset[str] = frozenset()
    program = "coldstore.appliance.virtual_mover"

    def raw_device(self) -> str:
        """See ``RawTapes``."""
        return self.device("nst0")

    def open_tape(self) -> TapeDevice:
        """See ``RawTapes``."""
        return VirtualTape(self.raw_device())

    async def slow_down(self) -> None:
        """See ``RawTapes``."""
        await self.fault(
            *("--program", "st", "--at", "write", "--kind", "slow"), *("--seconds", "0.02", "--count", "0")
        )

    async def speed_up(self) -> None:
        """See ``RawTapes``."""
        await self.operate("fault", "clear", self.library)

    async def _unload(self) -> None:
        await self.close_movers()
        await super()._unload()

    def damage(self, barcode: str, marker: bytes) -> "Deferred[None]":
        """See ``Rig``."""
        path = os.path.join(self.library, "cartridges", barcode, "tape.data")
        with open(path, "rb") as file:
            flip(path, file.read().index(marker))
        return succeed(None)

    async def _close(self) -> None:
        await self.close_movers()
        await super()._close()


class SimulatedRig:
    """Everything in memory, but for the staged files."""

    lacks: frozenset[str] = frozenset({"full disk"})

    def __init__(self) -> None:
        self.directory = tempfile.mkdtemp(prefix="coldstore-simulated-")
        numbers = itertools.count(1)
        self.tapes = SimulatedTapes(
            new_uuid=lambda: f"00000000-0000-4000-8000-{next(numbers):012}", capacity_bytes=200 * 1024**2
        )
        self.loaded: str | None = None
        self.tenure = SimulatedTenure()
        self.filesystem: ITapeFilesystem = self.restart()

    def restart(self) -> ITapeFilesystem:
        """See ``Rig``."""
        self.filesystem = SimulatedTapeFilesystem(
            tapes=self.tapes,
            drive=0,
            clock=reactor,
            loaded=lambda: self.loaded,
            seconds={"mount": 0.01, "unmount": 0.01, "sync": 0.01},
            bytes_per_second=1e9,
            tenure=self.tenure,
        )
        return self.filesystem

    def load(self, barcode: str) -> "Deferred[None]":
        """See ``Rig``."""
        self.loaded = barcode
        return succeed(None)

    def unload(self) -> "Deferred[None]":
        """See ``Rig``."""
        self.loaded = None
        return succeed(None)

    def break_mount(self) -> "Deferred[None]":
        """See ``Rig``."""
        self.tapes.kill(0)
        return succeed(None)

    def protect(self, barcode: str) -> "Deferred[None]":
        """See ``Rig``."""
        self.tapes.medium(barcode).is_protected = True
        return succeed(None)

    def damage(self, barcode: str, marker: bytes) -> "Deferred[None]":
        """See ``Rig``."""
        self.tapes.medium(barcode).damage(marker)
        return succeed(None)

    def full_disk(self) -> AbstractContextManager[None]:
        """See ``Rig``."""
        raise AssertionError("this rig records nothing on a disk, as it says in what it lacks")

    def close(self) -> "Deferred[None]":
        """See ``Rig``."""
        shutil.rmtree(self.directory)
        return succeed(None)


class ReferenceRig(ProgramRig):
    """
    The reference implementation with its ``file`` back end: a folder is the cartridge, a link to it is the drive.

    :param tools: the installed programs.
    """

    # Without a link ltfs finds no drive at all; the back end knows no write protection tab; and after a kill with data behind the
    # last index, ltfs 2.4.8.4 repairs the volume at the mount here (11022I) and wants ltfsck on SCSI drives (11220E).
    lacks = frozenset({"no medium", "write protection", "needs check"})

    def __init__(self, tools: LtfsTools) -> None:
        super().__init__()
        self._tools = tools
        self.drive = os.path.join(self.directory, "drive")
        for barcode in (BARCODE, OTHER_BARCODE):
            cartridge = os.path.join(self.directory, barcode)
            os.mkdir(cartridge)
            with open(os.path.join(cartridge, "filedebug_tc_conf.xml"), "w", encoding="ascii") as file:
                file.write(CARTRIDGE_SETTINGS)
        self.filesystem: ITapeFilesystem = self.restart()

    def environment(self) -> dict[str, str]:
        """See ``ProgramRig``."""
        return {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}

    def restart(self) -> ITapeFilesystem:
        """See ``Rig``."""
        self.filesystem = self.make(
            device=self.drive,
            guard=None,
            tools=self._tools,
            options=LtfsOptions(
                ltfs=("-o", "tape_backend=file"), mkltfs=("-e", "file"), ltfsck=("-e", "file")
            ),
        )
        return self.filesystem

    async def _load(self, barcode: str) -> None:
        await self._unload()
        os.symlink(os.path.join(self.directory, barcode), self.drive)

    def load(self, barcode: str) -> "Deferred[None]":
        """See ``Rig``."""
        return Deferred.fromCoroutine(self._load(barcode))

    async def _unload(self) -> None:
        if os.path.islink(self.drive):
            os.unlink(self.drive)

    def unload(self) -> "Deferred[None]":
        """See ``Rig``."""
        return Deferred.fromCoroutine(self._unload())

    def protect(self, barcode: str) -> "Deferred[None]":
        """See ``Rig``."""
        raise NotImplementedError

    async def _damage(self, barcode: str, marker: bytes) -> None:
        folder = os.path.join(self.directory, barcode)
        for name in sorted(os.listdir(folder)):
            if name.startswith("1_") and name.endswith("_R"):
                path = os.path.join(folder, name)
                os.chmod(path, 0o600)
                with open(path, "rb") as file:
                    offset = file.read().find(marker)
                if offset >= 0:
                    flip(path, offset)
                    return
        raise AssertionError("the marker is not on the data partition")

    def damage(self, barcode: str, marker: bytes) -> "Deferred[None]":
        """See ``Rig``."""
        return Deferred.fromCoroutine(self._damage(barcode, marker))


CARTRIDGE_SETTINGS = """<?xml version="1.0" encoding="UTF-8"?>
<filedebug_cartridge_config>
    <dummy_io>false</dummy_io>
    <emulate_readonly>false</emulate_readonly>
    <capacity_mb>200</capacity_mb>
    <cart_type>L5</cart_type>
    <density_code>58</density_code>
    <delay_mode>None</delay_mode>
    <wraps>40</wraps>
    <eot_to_bot_sec>12</eot_to_bot_sec>
    <change_direction_us>2000000</change_direction_us>
    <change_track_us>10000</change_track_us>
    <threading_sec>0</threading_sec>
</filedebug_cartridge_config>
"""


def installed_tools() -> LtfsTools | None:
    """The reference implementation on PATH, if it is installed whole."""
    paths = {name: shutil.which(name) for name in ("ltfs", "mkltfs", "ltfsck")}
    umount = shutil.which("umount")
    if umount is None or not all(paths.values()):
        return None
    return LtfsTools(umount=(umount,), **cast(dict[str, str], paths))  # type: ignore[arg-type]
