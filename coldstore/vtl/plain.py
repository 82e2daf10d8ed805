"""
The fallback where FUSE is not to be had: the volume is a plain directory, put in the mountpoint's place.

It announces itself (message 00001W), and it is weaker: a kill loses nothing, ``user.ltfs.sync`` does not block (the generation moves within
:data:`POLL_SECONDS` or so), nothing fails on demand, and there is no mount to be seen. What stays: messages, exit statuses, exclusion of the
drive, generations, ``user.ltfs.*`` values as real attributes, and that a killed ``ltfs`` leaves a volume that must be checked first.
"""

import errno
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import NoReturn

from coldstore.vtl.attributes import time_text
from coldstore.vtl.index import FORMAT_VERSION, SOFTWARE_VERSION
from coldstore.vtl.medium import BLOCK_BYTES, Cartridge, blocks_of
from coldstore.vtl.messages import Reporter
from coldstore.vtl.mounting import Station
from coldstore.vtl.volume import UNMOUNT_SECONDS

MARKER = "user.coldstore.vtl.directory"
"""Attribute of a mountpoint that this fallback serves; its value is the process id. It is set to ``end`` to unmount."""
POLL_SECONDS = 0.02
_SYNC = "user.ltfs.sync"


def make_empty(cartridge: Cartridge) -> None:
    """Give a freshly formatted cartridge an empty tree."""
    import shutil

    files = _files(cartridge)
    if os.path.exists(files):
        shutil.rmtree(files)
    os.mkdir(files)


def bring_back(cartridge: Cartridge) -> None:
    """Fetch the tree from where a killed ``ltfs`` left it."""
    where = cartridge.memory.mounted_at
    if where is not None and not os.path.exists(_files(cartridge)):
        os.rename(where, _files(cartridge))
        os.mkdir(where)
        os.removexattr(_files(cartridge), MARKER)
    cartridge.memory.mounted_at = None
    cartridge.remember()


def is_served(mountpoint: str) -> bool:
    """Tell whether this fallback serves a directory now."""
    try:
        return os.getxattr(mountpoint, MARKER) not in (b"", b"end")
    except OSError:
        return False


def end_serving(mountpoint: str) -> int:
    """Unmount: like umount(8), exit 32 when a process has files open there; else returns once the directory is given back."""
    if _is_busy(os.path.realpath(mountpoint)):
        sys.stderr.write(f"umount: {mountpoint}: target is busy.\n")
        return 32
    os.setxattr(mountpoint, MARKER, b"end")
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            os.getxattr(mountpoint, MARKER)
        except OSError:
            return 0
        time.sleep(POLL_SECONDS / 2)
    sys.stderr.write(f"umount: {mountpoint}: its ltfs does not answer.\n")
    return 32


def _is_busy(path: str) -> bool:
    inside = path + "/"
    for pid in os.listdir("/proc"):
        if pid.isdigit():
            try:
                links = [os.readlink(f"/proc/{pid}/fd/{one}") for one in os.listdir(f"/proc/{pid}/fd")]
                links.append(os.readlink(f"/proc/{pid}/cwd"))
            except OSError:
                continue
            if any(link == path or link.startswith(inside) for link in links):
                return True
    return False


def _files(cartridge: Cartridge) -> str:
    return os.path.join(cartridge.directory, "files")


class PlainVolume:
    """One volume served as a directory."""

    def __init__(self, station: Station, cartridge: Cartridge, reporter: Reporter, mountpoint: str) -> None:
        """Serve the cartridge at the mountpoint, which is an empty directory on the same file system."""
        self._station = station
        self._cartridge = cartridge
        self._reporter = reporter
        self._mountpoint = mountpoint
        self._label = cartridge.memory.volume or {}
        self._serial = str(self._label.get("serial", ""))
        self._told_to_end = False

    def serve(self, ready: Callable[[], None]) -> None:
        """Put the directory in place, answer syncs, and take it back when told to."""
        say, memory, drive = self._reporter.say, self._cartridge.memory, self._station.drive
        if memory.mounted_at is not None:
            for code in ("11026I", "11220E", "11027E", "14013E"):
                say(code)
            raise SystemExit(1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._told)
        generation, block = memory.coherency.get("b", [1, 5])
        say(
            "11031I", serial=self._serial, generation=generation, a_block=5, b_block=block, drive=drive.serial
        )
        for code in ("14111I", "14112I", "14113I"):
            say(code)
        self._describe(_files(self._cartridge))
        os.setxattr(_files(self._cartridge), MARKER, str(os.getpid()).encode())
        memory.mounted_at = self._mountpoint
        self._cartridge.remember()
        try:
            os.rename(_files(self._cartridge), self._mountpoint)
        except OSError as error:
            self._give_up(error)
        say("14029I")
        ready()
        self._watch()
        os.rename(self._mountpoint, _files(self._cartridge))
        os.mkdir(self._mountpoint)
        os.removexattr(_files(self._cartridge), MARKER)
        time.sleep(UNMOUNT_SECONDS)
        self._record(_files(self._cartridge), "Unmount")
        memory.mounted_at = None
        self._cartridge.remember()
        say("11034I")

    def _give_up(self, error: OSError) -> NoReturn:
        """End because the directory cannot go to the mountpoint: mostly because that is on another file system."""
        memory = self._cartridge.memory
        memory.mounted_at = None
        self._cartridge.remember()
        os.removexattr(_files(self._cartridge), MARKER)
        self._reporter.say(
            "00002E", files=_files(self._cartridge), mountpoint=self._mountpoint, why=error.strerror
        )
        self._reporter.say("14013E")
        raise SystemExit(1)

    def _told(self, *_: object) -> None:
        self._told_to_end = True

    def _watch(self) -> None:
        while not self._told_to_end:
            names = os.listxattr(self._mountpoint)
            if os.getxattr(self._mountpoint, MARKER) == b"end":
                return
            if _SYNC in names:
                os.removexattr(self._mountpoint, _SYNC)
                self._reporter.say(
                    "17068I", serial=self._serial, reason="Sync by EA", drive=self._station.drive.serial
                )
                self._record(self._mountpoint, "Sync by EA")
                self._reporter.say("17070I", serial=self._serial, code=0, drive=self._station.drive.serial)
            time.sleep(POLL_SECONDS)

    def _record(self, root: str, reason: str) -> None:
        """Give every new file its place on the tape, and count a generation."""
        memory, drive = self._cartridge.memory, self._station.drive
        generation, block = memory.coherency.get("b", [1, 5])
        end = max(memory.end, block + 2)
        files = 0
        for path, uid in self._paths(root):
            files += 1
            size = os.lstat(path).st_size
            if size and not self._has(path, "user.ltfs.startblock"):
                os.setxattr(path, "user.ltfs.startblock", str(end).encode())
                os.setxattr(path, "user.ltfs.partition", b"b")
                end += blocks_of(size)
            if not self._has(path, "user.ltfs.fileUID"):
                os.setxattr(path, "user.ltfs.fileUID", str(uid).encode())
        generation, block = generation + 1, end + 1
        memory.end = block + 2
        memory.coherency = {"a": [generation, 5], "b": [generation, block]}
        self._cartridge.remember()
        self._reporter.say(
            "17235I", serial=self._serial, partition="b", reason=reason, files=files, drive=drive.serial
        )
        self._describe(root)
        self._reporter.say(
            "17236I",
            serial=self._serial,
            generation=generation,
            partition="b",
            block=block,
            drive=drive.serial,
        )

    @staticmethod
    def _has(path: str, name: str) -> bool:
        try:
            os.getxattr(path, name)
        except OSError as error:
            if error.errno == errno.ENODATA:
                return False
            raise
        return True

    @staticmethod
    def _paths(root: str) -> Iterator[tuple[str, int]]:
        for folder, folders, names in os.walk(root):
            folders.sort()
            for name in sorted(names):
                path = os.path.join(folder, name)
                if not os.path.islink(path):
                    yield path, os.lstat(path).st_ino

    def _describe(self, root: str) -> None:
        """Set the volume's attributes on the root directory."""
        memory = self._cartridge.memory
        generation, block = memory.coherency.get("b", [1, 5])
        capacity = (self._cartridge.data_partition_bytes - self._cartridge.reserve_bytes) // 1024**2
        values = {
            "volumeUUID": self._label.get("uuid", ""),
            "volumeName": self._label.get("name", ""),
            "volumeSerial": self._serial,
            "volumeBlocksize": BLOCK_BYTES,
            "volumeLockState": f"0x{memory.lock_state:08x}",
            "volumeFormatTime": self._label.get("formatted_at", ""),
            "softwareVersion": SOFTWARE_VERSION,
            "softwareFormatSpec": FORMAT_VERSION,
            "indexGeneration": generation,
            "indexLocation": f"b:{block}",
            "indexTime": time_text(time.time_ns()),
            "fileUID": 1,
            "mediaStorageAlert": f"0x{memory.alerts:016x}",
            "mediaLoads": memory.loads,
            "mediaDataPartitionTotalCapacity": capacity,
            "mediaDataPartitionAvailableSpace": max(0, capacity - memory.end * BLOCK_BYTES // 1024**2),
        }
        for name, value in values.items():
            os.setxattr(root, f"user.ltfs.{name}", str(value).encode())
