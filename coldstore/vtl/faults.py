"""
Faults: one table of kinds, armed by files ``faults/*.json``, used up as programs meet them.

A file holds the fields of :class:`Fault`; what it leaves out is not asked for. It may be written by hand, by ``coldstore-vtl fault add``,
or by a test. A program asks :func:`take` at each point where something can go wrong; the first armed fault that fits is counted and
returned, and what was taken is noted in ``faults/taken.log``. More rows: add a name to :data:`FAULT_KINDS` and act on it at its points.
"""

import errno
import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any

from coldstore.vtl.records import locked, read_json, write_json

PROGRAMS = ("mtx", "mt", "ltfs", "mkltfs", "ltfsck", "st")

POINTS = MappingProxyType(
    {
        "mtx": ("status", "load", "unload", "transfer", "inventory", "start"),
        "mt": ("status", "offline", "rewind", "load", "start"),
        "mkltfs": ("open", "format", "start"),
        "ltfsck": ("open", "check", "start"),
        "ltfs": ("open", "mount", "read", "write", "fsync", "sync", "unmount", "signal", "start"),
        "st": ("read", "write", "sync", "locate"),
    }
)
"""
The points at which each program asks.

``start`` is the first moment of any run; ``open`` is the drive's, ``signal`` that of a SIGCONT to a mounted ``ltfs``. ``st`` is the tape driver,
for those who use a tape without LTFS: its ``sync`` is the writing of file marks, ``locate`` every movement of the tape.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultKind:
    """One way to fail: where it may happen, and what then is true."""

    points: tuple[str, ...]
    meaning: str


_ROBOT = ("load", "unload", "transfer")
_LTFS = ("mount", "format", "check")
_ANYWHERE = ("*",)
_STANDING = frozenset({"hang", "hang-after", "hang-lost", "flood"})
"""These last until they are cleared: their file stays when their count is used up."""

FAULT_KINDS = MappingProxyType(
    {
        "exit": FaultKind(
            points=_ANYWHERE,
            meaning="Ends at once with exit status `exit` and `text` on stderr; nothing was done.",
        ),
        "hang": FaultKind(
            points=_ANYWHERE,
            meaning="Stands still before acting, for `seconds`, or until the fault is cleared.",
        ),
        "slow": FaultKind(points=_ANYWHERE, meaning="Takes `seconds` longer, then goes on as always."),
        "garbage": FaultKind(
            points=_ANYWHERE,
            meaning="Prints `text` (or a line of noise) on stdout and exits with `exit` (0 by default).",
        ),
        "sense": FaultKind(
            points=(*_ROBOT, "status", "inventory", "write"),
            meaning="Fails with sense key/ASC/ASCQ of `sense`; nothing moved. As a write error: 3/0C/00 like `erofs`, 4/44/00 like `eio`.",
        ),
        "sense-after": FaultKind(
            points=_ROBOT, meaning="The cartridge arrived, yet the move fails with `sense`."
        ),
        "hang-after": FaultKind(
            points=_ROBOT, meaning="The cartridge arrived, then mtx stands still as with `hang`."
        ),
        "hang-lost": FaultKind(
            points=_ROBOT,
            meaning="The cartridge stays in the gripper, where no sensor sees it, and mtx stands still as with `hang`.",
        ),
        "wrong-slot": FaultKind(
            points=_ROBOT,
            meaning="Takes the next full slot instead (load), or the next empty one (unload), and says done.",
        ),
        "lost": FaultKind(
            points=_ROBOT,
            meaning="The cartridge is in no element afterwards; the move fails with `sense` (4/15/01 if none).",
        ),
        "vanish-barcodes": FaultKind(
            points=("status",),
            meaning="Storage lines carry no volume tags, exit 0: a unit attention met READ ELEMENT STATUS.",
        ),
        "vanish-barcode": FaultKind(
            points=("status",),
            meaning="The label of `barcode` alone cannot be read: its element is full without a tag.",
        ),
        "never-ready": FaultKind(
            points=("status",), meaning="mt status shows a drive that is still loading, whatever it holds."
        ),
        "errno": FaultKind(
            points=("start", "status", "offline", "rewind", "load"),
            meaning="The node answers with an error: `errno:EACCES`. mt exits 1 at its start and 2 later, or with `exit`; mtx exits 1.",
        ),
        "busy": FaultKind(
            points=("open",), meaning="Somebody else has the drive's generic node: 30210I (16)."
        ),
        "reserved": FaultKind(
            points=("open",),
            meaning="Another host has reserved the drive: 30266W 30267W 30268I, three tries of `seconds` in all (3), 12014E.",
        ),
        "unit-attention": FaultKind(
            points=("mount", "write"),
            meaning="The drive reports a change. mount: 30205I 30263I 39802W. write: 12029E 11312I 11340I. The work goes on.",
        ),
        "worm": FaultKind(points=("mount", "format"), meaning="The medium is write-once: 14116E."),
        "read-only": FaultKind(
            points=("mount",),
            meaning="Mounts read-only and says why: `read-only:14073I` (index partition full), 14074I, 14078I, 14019I.",
        ),
        "flood": FaultKind(
            points=_LTFS,
            meaning="Says the same line a million times a second and does nothing else, for `seconds` or until cleared.",
        ),
        "deadlock": FaultKind(
            points=("signal",),
            meaning="SIGCONT comes while ltfs ends: its last line is cut off, and it stands still until SIGKILL.",
        ),
        "power-lost": FaultKind(
            points=("write", "sync", "unmount"),
            meaning="The power fails: ltfs is gone at once, and partition b has no end of data until `ltfsck -z`.",
        ),
        "eio": FaultKind(
            points=("offline", "rewind", "load", "read", "write", "fsync", "sync", "locate"),
            meaning="Input/output error. write: as sense 4/44/00, later writes EROFS, the unmount fails with 11033E. sync: the call fails,"
            " the index was saved on partition a, the volume is frozen.",
        ),
        "eio-lost": FaultKind(
            points=("sync",),
            meaning="sync fails with EIO and no partition took the index: what was not synced before is lost.",
        ),
        "erofs": FaultKind(
            points=("write",),
            meaning="A permanent write error (3/0C/00): short write, EROFS, fsync EIO once, size 0, index saved on partition a.",
        ),
        "double-write-error": FaultKind(
            points=("write", "unmount"),
            meaning="Writes fail on both partitions: the unmount skips the index (17265I), says 11034I and exits 0; unsynced files are gone.",
        ),
        "enospc": FaultKind(
            points=("write",), meaning="The tape is full here: early warning, short write, ENOSPC."
        ),
        "silently-short": FaultKind(
            points=("write",),
            meaning="The tape is full, and every call succeeds all the same: the size of the file alone tells.",
        ),
        "position-lost": FaultKind(
            points=("write", "sync"),
            meaning="The tape was moved by somebody else: sync EPERM (17293E), the volume is destroyed.",
        ),
        "index-write-lost": FaultKind(
            points=("unmount",),
            meaning="The index is not written: 11083E, 11033E, exit 0; the next mount is read-only.",
        ),
        "index-on-a": FaultKind(
            points=("unmount",),
            meaning="11083E, but the index is saved on partition a, 11034I, exit 0; then read-only.",
        ),
        "index-does-not-fit": FaultKind(
            points=("unmount",),
            meaning="The early warning came too late: 11072E 12045E 11083E 11033E, exit 0; ltfsck brings the last synced index back.",
        ),
        "fail": FaultKind(
            points=_LTFS,
            meaning="Cannot: ltfs 12045E 14013E exit 1, mkltfs 15012E 15023I exit 8, ltfsck 16080E exit 8.",
        ),
    }
)
"""Every kind of fault, by the name that files and ``--kind`` use."""


@dataclass(slots=True, kw_only=True)
class Fault:
    """
    One armed fault.

    ``kind`` may carry a sense code, an error or a message (``sense:4/15/01``, ``errno:EACCES``, ``read-only:14073I``). ``barcode``, ``drive`` and ``path`` (a glob over the path inside the volume)
    narrow it; ``after`` lets so many fitting moments pass; ``after_bytes`` so many bytes written in a mount; ``count`` bounds how often it
    strikes (0: always); ``probability`` is decided by a generator seeded with ``seed``.
    """

    id: str
    program: str
    at: str
    kind: str
    barcode: str | None = None
    drive: int | None = None
    path: str | None = None
    count: int = 1
    after: int = 0
    after_bytes: int = 0
    probability: float = 1.0
    seed: int = 0
    tries: int = 0
    seconds: float | None = None
    exit: int | None = None
    text: str | None = None
    sense: str | None = None

    @property
    def name(self) -> str:
        """Kind without what it carries."""
        return self.kind.partition(":")[0]

    @property
    def detail(self) -> str:
        """What the kind carries."""
        return self.kind.partition(":")[2]

    @property
    def sense_code(self) -> tuple[int, int, int]:
        """Sense key, additional sense code and qualifier."""
        written = self.detail or self.sense or "4/15/01"
        key, code, qualifier = (int(part, 16) for part in written.split("/"))
        return key, code, qualifier

    @property
    def error_number(self) -> int:
        """The number of the error that the kind names."""
        return int(getattr(errno, self.detail))

    def check(self) -> None:
        """Raise ``ValueError`` when the fault names what does not exist."""
        if self.program not in PROGRAMS or self.at not in POINTS[self.program]:
            raise ValueError(f"{self.program} at {self.at}: points are {POINTS.get(self.program, PROGRAMS)}")
        kind = FAULT_KINDS.get(self.name)
        if kind is None:
            raise ValueError(f"kind {self.name!r} is unknown: {', '.join(FAULT_KINDS)}")
        if kind.points != _ANYWHERE and self.at not in kind.points:
            raise ValueError(f"kind {self.name} happens at {', '.join(kind.points)}, not at {self.at}")
        if self.name == "errno" and not hasattr(errno, self.detail):
            raise ValueError(f"there is no error {self.detail!r}: write errno:EACCES")
        if self.name == "read-only" and not re.fullmatch(r"\d{5}I", self.detail):
            raise ValueError(f"{self.detail!r} is no message: write read-only:14073I")
        if self.name in ("sense", "sense-after", "lost"):
            _ = self.sense_code


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Where a program stands when it asks for faults."""

    program: str
    at: str
    barcode: str | None = None
    drive: int | None = None
    path: str | None = None
    bytes_written: int = 0

    def fits(self, fault: Fault) -> bool:
        """Tell whether the fault is meant for this moment, its counts left aside."""
        return (
            (fault.program, fault.at) == (self.program, self.at)
            and fault.barcode in (None, self.barcode)
            and fault.drive in (None, self.drive)
            and (fault.path is None or (self.path is not None and fnmatchcase(self.path, fault.path)))
            and self.bytes_written >= fault.after_bytes
        )


_FIELDS = frozenset(f.name for f in fields(Fault))


def _files(directory: str) -> list[str]:
    try:
        return sorted(name for name in os.listdir(directory) if name.endswith(".json"))
    except FileNotFoundError:
        return []


def load_fault(path: str) -> Fault:
    """Read one file. Raises ``ValueError`` with the file's name for what is not a fault."""
    try:
        record: dict[str, Any] = read_json(path)
        record.setdefault("id", os.path.basename(path).removesuffix(".json"))
        unknown = set(record) - _FIELDS
        if unknown:
            raise ValueError(f"unknown fields {sorted(unknown)}")
        fault = Fault(**record)
        fault.check()
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error
    return fault


def _chance(fault: Fault) -> float:
    """Return the number between 0 and 1 that decides this try; equal seeds decide alike."""
    import random

    return random.Random(f"{fault.seed}:{fault.tries}").random()


class Faults:
    """The armed faults of one library."""

    def __init__(self, library_directory: str) -> None:
        """Name the library; nothing is read yet."""
        self._directory = os.path.join(library_directory, "faults")

    def add(self, fault: Fault) -> None:
        """Arm a fault. Raises ``ValueError`` when it makes no sense."""
        fault.check()
        with self._locked():
            write_json(
                self._path(fault.id),
                {key: value for key, value in asdict(fault).items() if value is not None},
            )

    def armed(self) -> list[Fault]:
        """Return all armed faults, by id."""
        return [load_fault(os.path.join(self._directory, name)) for name in _files(self._directory)]

    def clear(self, fault_id: str | None = None) -> int:
        """Disarm one fault, or all; returns how many. Whoever hangs on one goes on."""
        with self._locked():
            names = [
                name for name in _files(self._directory) if fault_id in (None, name.removesuffix(".json"))
            ]
            for name in names:
                os.unlink(os.path.join(self._directory, name))
        return len(names)

    def take(self, moment: Moment) -> Fault | None:
        """Return the fault that strikes now, if any, and count it."""
        if not _files(self._directory):
            return None
        with self._locked():
            for name in _files(self._directory):
                path = os.path.join(self._directory, name)
                fault = load_fault(path)
                if moment.fits(fault) and self._strikes(fault, path):
                    self._note(fault, moment)
                    return fault
        return None

    def endure(self, fault: Fault) -> bool:
        """Wait out a hang or a slow step. Returns whether the fault was of these kinds, so that the work then goes on."""
        if fault.name == "slow":
            time.sleep(1.0 if fault.seconds is None else fault.seconds)
        elif fault.name in ("hang", "hang-after", "hang-lost"):
            for _ in self.while_standing(fault):
                time.sleep(0.02)
        else:
            return False
        return True

    def while_standing(self, fault: Fault) -> Iterator[None]:
        """Go round for the fault's ``seconds``, or until it is cleared."""
        end = None if fault.seconds is None else time.monotonic() + fault.seconds
        while time.monotonic() < end if end is not None else os.path.exists(self._path(fault.id)):
            yield

    def _strikes(self, fault: Fault, path: str) -> bool:
        if fault.count < 0:  # spent, kept so that clearing it ends a hang
            return False
        fault.tries += 1
        strikes = fault.after == 0 and (fault.probability >= 1 or _chance(fault) < fault.probability)
        fault.after = max(0, fault.after - 1)
        if strikes and fault.count:
            fault.count = fault.count - 1 or -1
        if fault.count < 0 and fault.name not in _STANDING:
            os.unlink(path)
        else:
            write_json(path, {key: value for key, value in asdict(fault).items() if value is not None})
        return strikes

    def _note(self, fault: Fault, moment: Moment) -> None:
        with open(os.path.join(self._directory, "taken.log"), "a", encoding="utf-8") as log:
            log.write(
                json.dumps(
                    {"at": time.time(), "fault": fault.id, "kind": fault.kind} | {"moment": asdict(moment)}
                )
                + "\n"
            )

    def _path(self, fault_id: str) -> str:
        return os.path.join(self._directory, f"{fault_id}.json")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        os.makedirs(self._directory, exist_ok=True)
        with locked(os.path.join(self._directory, ".lock")):
            yield
