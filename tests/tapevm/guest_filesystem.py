"""The contract of tape file systems on kernel devices, with real ``mtx``, ``mt`` and ``ltfs``, and what only devices can show."""

import os
import subprocess

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from coldstore.interfaces.filesystem import ITapeFilesystem
from coldstore.tape.filesystem import LtfsLimits
from coldstore.tape.ltfs import LtfsOptions
from coldstore.util.asynchronous import returns_deferred
from tests.contract.filesystem_contract import TapeFilesystemContract
from tests.contract.filesystem_rigs import BARCODE, OTHER_BARCODE, ProgramRig, call, installed_tools
from tests.tapevm.guest import CHANGER, SKIP

PATIENT = LtfsLimits(
    format_seconds=300,
    check_seconds=300,
    mount_seconds=300,
    unmount_seconds=300,
    umount_command_seconds=120,
    shim_start_seconds=120,
    busy_attempts=3,
    busy_pause_seconds=1,
)


def run(*argv: str, statuses: tuple[int, ...] = (0,)) -> None:
    """Run a program of the guest; another exit status fails the test with its words."""
    done = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode not in statuses:
        raise AssertionError(f"{argv}: {done.returncode}: {done.stdout}{done.stderr}")


class KernelRig(ProgramRig):
    """Drive 0 of the virtual machine; its cartridges are blank again for every test."""

    lacks = frozenset({"damage"})
    limits = PATIENT
    silence_seconds = 300.0

    def __init__(self) -> None:
        super().__init__()
        self.loaded: int | None = None
        self.blanked: set[str] = set()
        self.protected: set[str] = set()
        self.nst = os.environ["TAPEVM_DRIVE0"]
        self.sg = os.environ["TAPEVM_DRIVE0_SG"]
        self.filesystem: ITapeFilesystem = self.restart()

    def environment(self) -> dict[str, str]:
        """See ``ProgramRig``."""
        return {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}

    def restart(self) -> ITapeFilesystem:
        """See ``Rig``."""
        tools = installed_tools()
        assert tools is not None, "no ltfs on PATH in the guest"
        self.filesystem = self.make(
            device=self.sg,
            guard=self.nst,
            tools=tools,
            options=LtfsOptions(ltfs=("-o", "noautodump")),
        )
        return self.filesystem

    def _insert(self, slot: int) -> None:
        run("mtx", "-f", CHANGER, "load", str(slot), "0")
        run("mt", "-f", self.nst, "status")
        self.loaded = slot

    def _eject(self) -> None:
        if self.loaded is not None:
            run("mt", "-f", self.nst, "offline")
            run("mtx", "-f", CHANGER, "unload", str(self.loaded), "0")
            self.loaded = None

    async def _load(self, barcode: str) -> None:
        self._eject()
        self._insert(int(barcode[1:6]))
        if barcode not in self.blanked and barcode not in self.protected:
            self.blanked.add(barcode)
            # Exit status 1: unformatted. A tape that was blank stays so with 8.
            run("mkltfs", "-d", self.sg, "-w", statuses=(0, 1, 8))

    def load(self, barcode: str) -> "Deferred[None]":
        """See ``Rig``."""
        return Deferred.fromCoroutine(self._load(barcode))

    async def _unload(self) -> None:
        self._eject()

    def unload(self) -> "Deferred[None]":
        """See ``Rig``."""
        return Deferred.fromCoroutine(self._unload())

    def protect(self, barcode: str) -> "Deferred[None]":
        """See ``Rig``."""
        self.protected.add(barcode)
        return call(["tapevm-library", "request", "protect", barcode, "on"])

    def damage(self, barcode: str, marker: bytes) -> "Deferred[None]":
        """See ``Rig``."""
        raise NotImplementedError

    async def _close(self) -> None:
        await super()._close()
        if self.loaded is not None:
            # Unlocks the drive after a kill.
            run("ltfsck", self.sg, statuses=tuple(range(256)))
            self._eject()
        for barcode in self.protected:
            await call(["tapevm-library", "request", "protect", barcode, "off"])


class KernelFilesystemTests(TapeFilesystemContract, TestCase):
    """``LtfsFilesystem`` on kernel devices."""

    timeout = 400
    skip = SKIP or (None if installed_tools() else "no ltfs on PATH: tests/tapevm/run --ltfs FOLDER:PREFIX")

    def setUp(self) -> None:
        """Take the drive."""
        self.rig = KernelRig()

    def tearDown(self) -> Deferred[None]:
        """Give it back, empty."""
        return self.rig.close()

    @returns_deferred
    async def test_guard(self) -> None:
        """While a volume is mounted, no program can open the tape device and move the tape; afterwards it can."""
        volume = await self.mounted()
        for argv in (["mt", "-f", self.rig.nst, "rewind"], ["dd", f"if={self.rig.nst}", "count=1"]):
            done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn("busy", done.stderr)
        await self.write(volume, "file", b"content")
        await volume.sync("file", new_files=["file"])
        self.assertTrue((await volume.unmount()).is_clean)
        run("mt", "-f", self.rig.nst, "status")

    @returns_deferred
    async def test_other_cartridge(self) -> None:
        """The volume of another cartridge is not taken for the expected one."""
        volume_uuid = await self.formatted()
        await self.formatted(OTHER_BARCODE)
        await self.rig.load(BARCODE)
        volume = await self.rig.filesystem.mount(barcode=BARCODE, volume_uuid=volume_uuid)
        self.assertTrue((await volume.unmount()).is_clean)
