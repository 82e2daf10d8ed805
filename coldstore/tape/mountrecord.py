"""
The files of one mount, on disk: what the service wants, what the shim did, how it ended.

Each mount has a folder of its own, numbered upwards below the drive's state folder, so that nothing of an earlier mount can be taken for news::

    mounts/000012/launch.json   what is to be mounted
    mounts/000012/claimed.json  the shim that took the wish, or nobody: it was withdrawn; whoever makes this file first decides
    mounts/000012/mount.json    process id and start time of ltfs, written before it is executed
    mounts/000012/volume.json   what was found on the volume once it was ready
    mounts/000012/shim.log      what the shim said: nothing, unless it failed
    mounts/000012/ltfs.log      what ltfs said, standard output and standard error
    mounts/000012/exit.json     how ltfs ended, with the lines that a verdict depends on
    mounts/000012/settled       the end was dealt with: nothing to report any more

Every JSON file appears whole or not at all (temporary file, fsync, rename, fsync of the folder). Room for all of them, and for what ``ltfs`` says
until it is ready, is taken before the wish is left: a disk that runs full later hides neither a mount nor its end. Shared by the service and the
shim; it knows no reactor.
"""

import json
import os
import shutil
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from coldstore.util.fallocate import allocate_ahead

MOUNTS = "mounts"
LAUNCH = "launch.json"
CLAIMED = "claimed.json"
MOUNT = "mount.json"
VOLUME = "volume.json"
LOG = "ltfs.log"
SHIM_LOG = "shim.log"
EXIT = "exit.json"
SETTLED = "settled"

HEAD_BYTES = 64 * 1024
TAIL_BYTES = 256 * 1024
KEPT_MOUNTS = 8

ROOM_BYTES = {CLAIMED: 4096, MOUNT: 4096, VOLUME: 4096, EXIT: 64 * 1024, SETTLED: 4096}
"""What is taken in advance for each file of a mount; a longer one finds the rest of its room when it is written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """
    What the shim is to do.

    ``guard`` is the tape device that it holds open so that no other program moves the tape (None: there is none); ``lock_path`` is the file
    that it locks, and that ``ltfs`` keeps locked as long as it lives.
    """

    barcode: str
    volume_uuid: str | None
    device: str
    guard: str | None
    mountpoint: str
    read_only: bool
    argv: tuple[str, ...]
    lock_path: str
    log_limit_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessMark:
    """A process that cannot be mistaken: its id, its start in clock ticks since boot, and which boot."""

    process_id: int
    start_ticks: int
    boot_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeFound:
    """What a volume said of itself when it became ready."""

    volume_uuid: str
    volume_name: str
    is_plain: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """
    How ``ltfs`` ended.

    ``failure`` is set when the shim could not start it; ``notable`` are all lines that a verdict can depend on.
    """

    exit_status: int | None
    signal: int | None
    failure: str | None
    is_busy: bool
    notable: tuple[str, ...]


def _temporary(path: str) -> str:
    """Where a file is written before it gets its name."""
    return f"{path}.new"


def _room(path: str) -> str:
    """The room that was taken for a file that several may write; the first one takes it over."""
    return f"{path}.room"


def _take_room(path: str, length_bytes: int) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        allocate_ahead(descriptor, length_bytes)
    finally:
        os.close(descriptor)


def write_json(path: str, content: dict[str, Any]) -> None:
    """Write a file so that it appears whole or not at all, and stays."""
    folder = os.path.dirname(path)
    temporary = _temporary(path)
    # Not emptied before it is written: its room may have been taken in advance.
    with open(os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666), "wb") as file:
        file.write(json.dumps(content).encode())
        file.truncate()
        file.flush()
        os.fsync(file.fileno())
    os.rename(temporary, path)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _create_json(path: str, content: dict[str, Any]) -> bool:
    """Write a file like ``write_json`` unless there is one of that name; tell whether it was written."""
    temporary = f"{path}.{os.getpid()}"
    with suppress(FileNotFoundError):
        os.rename(_room(path), _temporary(temporary))
    write_json(temporary, content)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        os.unlink(temporary)
    return True


def _read_json(path: str) -> dict[str, Any] | None:
    try:
        with open(path, encoding="utf-8") as file:
            content: dict[str, Any] = json.load(file)
            return content
    except FileNotFoundError:
        return None


class MountFolder:
    """One mount's folder. All methods block on the local disk."""

    def __init__(self, path: str) -> None:
        self.path = path

    def _file(self, name: str) -> str:
        return os.path.join(self.path, name)

    @property
    def log_path(self) -> str:
        """Where ``ltfs`` writes what it says."""
        return self._file(LOG)

    def request(self, launch: Launch) -> None:
        """
        Leave the wish for a shim, after room was taken for what is written later.

        :raise OSError: the disk takes no more; there is no wish
        """
        _take_room(self.log_path, HEAD_BYTES)
        _take_room(self._file(SHIM_LOG), 4096)
        for name, length_bytes in ROOM_BYTES.items():
            path = self._file(name)
            _take_room(_room(path) if name == CLAIMED else _temporary(path), length_bytes)
        write_json(self._file(LAUNCH), asdict(launch))

    def remove(self) -> None:
        """Leave nothing of a mount that was not even begun."""
        shutil.rmtree(self.path, ignore_errors=True)

    def claim(self, shim: ProcessMark) -> Launch | None:
        """Take the wish; None when there is none, or it was withdrawn or taken."""
        launch = self.launch()
        return launch if launch is not None and self._decide(shim) else None

    def withdraw(self) -> bool:
        """Take the wish back; True when no shim has it and none will."""
        return self._decide(None) or self.shim() is None

    def _decide(self, shim: ProcessMark | None) -> bool:
        path = self._file(CLAIMED)
        return not os.path.exists(path) and _create_json(
            path, {"shim": None if shim is None else asdict(shim)}
        )

    def launch(self) -> Launch | None:
        """What was wished."""
        content = _read_json(self._file(LAUNCH))
        return None if content is None else Launch(**{**content, "argv": tuple(content["argv"])})

    def shim(self) -> ProcessMark | None:
        """The shim that took the wish; None when none did."""
        content = _read_json(self._file(CLAIMED))
        return None if content is None or content["shim"] is None else ProcessMark(**content["shim"])

    def ltfs(self) -> ProcessMark | None:
        """The ``ltfs`` that runs or ran; None when none was ever executed."""
        content = _read_json(self._file(MOUNT))
        return None if content is None else ProcessMark(**content)

    def write_ltfs(self, ltfs: ProcessMark) -> None:
        """Record the process that is about to become ``ltfs``."""
        write_json(self._file(MOUNT), asdict(ltfs))

    def volume(self) -> VolumeFound | None:
        """What the volume said when it was ready; None when it never was."""
        content = _read_json(self._file(VOLUME))
        return None if content is None else VolumeFound(**content)

    def write_volume(self, found: VolumeFound) -> None:
        """Record what the volume said."""
        write_json(self._file(VOLUME), asdict(found))

    def ended(self) -> Ended | None:
        """How ``ltfs`` ended; None when it has not, or nobody saw it."""
        content = _read_json(self._file(EXIT))
        return None if content is None else Ended(**{**content, "notable": tuple(content["notable"])})

    def write_ended(self, ended: Ended) -> None:
        """Record the end."""
        write_json(self._file(EXIT), asdict(ended))

    def is_settled(self) -> bool:
        """Whether the end was dealt with."""
        return os.path.exists(self._file(SETTLED))

    def settle(self) -> None:
        """Say that the end was dealt with. Repeatable."""
        if self.is_settled():
            return
        with suppress(FileNotFoundError):
            write_json(self._file(SETTLED), {})

    def log(self) -> bytes:
        """The log; of a long one only its beginning and its end (the shim drops the middle)."""
        try:
            with open(self.log_path, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size <= HEAD_BYTES + TAIL_BYTES:
                    return file.read()
                head = file.read(HEAD_BYTES)
                file.seek(size - TAIL_BYTES)
                return head + b"\n" + file.read(TAIL_BYTES)
        except FileNotFoundError:
            return b""


class MountFolders:
    """All mounts of one drive. All methods block on the local disk."""

    def __init__(self, state_directory: str) -> None:
        self._root = os.path.join(state_directory, MOUNTS)

    def _numbers(self) -> list[int]:
        try:
            return sorted(int(name) for name in os.listdir(self._root) if name.isdecimal())
        except FileNotFoundError:
            return []

    def _folder(self, number: int) -> MountFolder:
        return MountFolder(os.path.join(self._root, f"{number:06}"))

    def newest(self) -> MountFolder | None:
        """The last mount, whatever became of it."""
        numbers = self._numbers()
        return self._folder(numbers[-1]) if numbers else None

    def new(self) -> MountFolder:
        """Make the folder of the next mount; the oldest ones are removed."""
        numbers = self._numbers()
        for number in numbers[: -KEPT_MOUNTS + 1]:
            shutil.rmtree(self._folder(number).path, ignore_errors=True)
        folder = self._folder(numbers[-1] + 1 if numbers else 1)
        os.makedirs(folder.path, mode=0o700)
        return folder
