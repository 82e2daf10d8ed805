"""
What can go wrong with a tape library, row by row: every failure, refusal and trap that was measured on the real programs.

An incident either is armed (``coldstore-vtl fault stage DIR NAME`` arms the faults of :attr:`Incident.faults`), or comes about by itself as
:attr:`Incident.comes_by` says, because the virtual library behaves that way. What the programs then do is in :attr:`Incident.says`. The tests walk this
table: a row needs a test that shows the programs do so, and one that shows the appliance survives it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from coldstore.vtl.faults import Fault


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """
    One row.

    ``about`` is the program and what it was doing; ``says`` its exit status, messages, and what is true afterwards. ``faults`` are the fields of the
    faults that bring it about, ``comes_by`` what does without one.
    """

    about: str
    says: str
    faults: tuple[Mapping[str, str | int | float], ...] = ()
    comes_by: str = ""

    def armed(self, prefix: str, **narrowed: str | int | float) -> list[Fault]:
        """Return the faults to arm, with ids that begin with ``prefix``; ``narrowed`` are further fields of each."""
        return [
            Fault(id=f"{prefix}-{number}", **{**fields, **narrowed})  # type: ignore[arg-type]
            for number, fields in enumerate(self.faults, start=1)
        ]


def _at(program: str, at: str, kind: str, **more: str | int | float) -> dict[str, str | int | float]:
    return {"program": program, "at": at, "kind": kind, **more}


def _armed(about: str, says: str, *faults: Mapping[str, str | int | float]) -> Incident:
    return Incident(about=about, says=says, faults=faults)


def _natural(about: str, says: str, comes_by: str) -> Incident:
    return Incident(about=about, says=says, comes_by=comes_by)


_RESERVED = (
    _at("ltfs", "open", "reserved", count=0),
    _at("mkltfs", "open", "reserved", count=0),
    _at("ltfsck", "open", "reserved", count=0),
    _at("mt", "status", "errno:EIO", exit=1, count=0),
)

_MKLTFS = {
    "format-refused": _natural(
        "mkltfs: the medium has an LTFS volume", "exit 16, 15047E 15048I 15023I; nothing changed", "formatting twice"
    ),
    "format-over-foreign-data": _natural(
        "mkltfs: the medium has other data", "exit 0: formatted without a question", "coldstore-vtl foreign"
    ),
    "format-bad-serial": _natural(
        "mkltfs -s: not six characters of 0-9 A-Z", "exit 16, 15029E or 15030E, before any device access", "the option"
    ),
    "format-bad-name": _natural("mkltfs -n with a slash", "exit 16, 15031E 15002E", "the option"),
    "format-bad-block-size": _natural(
        "mkltfs -b 1000, -b 8388608", "exit 8, 15028E, or 11096E 15012E; 15023I", "the option"
    ),
    "format-bad-rules": _natural(
        "mkltfs -r nonsense", "exit 8, 11146E 11152E 15015E, after loading the tape", "the option"
    ),
    "format-usage": _natural("mkltfs: no device, or an unknown option", "exit 16, 15026E 15002E", "the option"),
    "format-device-missing": _natural("mkltfs: no such device", "exit 8, 12012E 15009E (-21700)", "a wrong node"),
    "format-unknown-backend": _natural("mkltfs -e none", "exit 8, 11267E 11260E 15008E", "the option"),
    "format-write-protected": _natural(
        "mkltfs: the medium is write protected", "exit 16, 11095E 15012E", "coldstore-vtl protect"
    ),
    "format-fails": _armed(
        "mkltfs: the drive fails", "exit 8, 15012E 15023I", _at("mkltfs", "format", "fail")
    ),
    "unformat-exits-1": _natural("mkltfs -w", "exit 1 for success, 15040I; needs no -f", "the option"),
}  # fmt: skip

_LTFS_START = {
    "mount-device-missing": _natural(
        "ltfs: no such device, or no drive", "exit 1, 12012E 10004E", "a wrong or removed node"
    ),
    "drive-busy": _armed(
        "ltfs, mkltfs, ltfsck: somebody has the generic node open; can pass by itself",
        "exit 1, 8, 8; 30210I (16) 12012E; nothing changed",
        _at("ltfs", "open", "busy"),
        _at("mkltfs", "open", "busy"),
    ),
    "drive-reserved": _armed(
        "ltfs, mkltfs, ltfsck, mt: another host has reserved the drive",
        "30266W 30267W 30268I, three tries in 3 s, 12014E; exit 1, 8, 8; mt status: Input/output error, exit 1",
        *_RESERVED,
    ),
    "mount-no-medium": _natural(
        "ltfs: the drive is empty", "exit 1, 12016E 11331E 17188I (-20209) 14075E", "an empty drive"
    ),
    "mount-blank": _natural("ltfs: a blank medium", "exit 1, 17168E 14013E", "coldstore-vtl blank"),
    "mount-foreign": _natural(
        "ltfs: two partitions of other data", "exit 1, 11175E 11170E 11009E 14013E", "coldstore-vtl foreign --partitioned"
    ),
    "mount-not-closed": _natural(
        "ltfs: data behind the last index", "exit 1, 11220E 11027E 14013E, until ltfsck ran", "kill -9 of ltfs"
    ),
    "mount-index-unreadable": _natural(
        "ltfs: the index on partition a is damaged", "exit 1, 17037E 17016E 11194W 11024E 14013E", "coldstore-vtl flip --partition a"
    ),
    "end-of-data-missing": _armed(
        "ltfs: the power failed while the tape was written",
        "ltfs is gone; then exit 1, 17146E 17148E; ltfsck exit 4; ltfsck -z exit 1, the last index is back",
        _at("ltfs", "write", "power-lost", path="*.tar"),
    ),
    "worm": _armed(
        "ltfs, mkltfs: a write-once medium", "ltfs exit 1, mkltfs exit 8; 14116E",
        _at("ltfs", "mount", "worm"), _at("mkltfs", "format", "worm"),
    ),
    "mountpoint-missing": _natural(
        "ltfs: no such mountpoint, or none given", "exit 1, fuse: bad mount point, 14094E", "the argument"
    ),
    "mountpoint-not-empty": _natural(
        "ltfs: something lies in the mountpoint", "exit 0, fuse: mountpoint is not empty, 14123W", "a file in it"
    ),
    "mount-unknown-option": _natural("ltfs -o nonsense", "exit 0, fuse: unknown option, 14123W", "the option"),
    "mount-bad-sync-type": _natural("ltfs -o sync_type=foo", "exit 1, 14061E", "the option"),
    "mount-no-such-generation": _natural(
        "ltfs -o rollback_mount=999", "exit 1, 17079E 14013E", "the option"
    ),
    "mount-fails": _armed("ltfs: the drive fails", "exit 1, 12045E 14013E", _at("ltfs", "mount", "fail")),
    "mount-ended-silently": _armed(
        "ltfs: ends before it is ready", "exit 0, nothing mounted",
        _at("ltfs", "start", "exit", exit=0, text="fuse: failed to exec fusermount\n"),
    ),
    "read-only-protected": _natural(
        "ltfs: the medium is write protected", "mounts ro, 14019I; writes and sync EROFS", "coldstore-vtl protect"
    ),
    "read-only-after-error": _natural(
        "ltfs: the medium had a write error", "mounts with 11333I 14019I; writes EROFS", "permanent-write-error, then the next mount"
    ),
    "read-only-index-full": _armed(
        "ltfs: the index partition is full", "mounts ro, 14073I", _at("ltfs", "mount", "read-only:14073I")
    ),
    "read-only-data-full": _armed(
        "ltfs: the data partition is full", "mounts ro, 14074I", _at("ltfs", "mount", "read-only:14074I")
    ),
    "read-only-older": _armed(
        "ltfs: an older generation is mounted", "mounts ro, 14078I", _at("ltfs", "mount", "read-only:14078I")
    ),
    "rollback-mount": _natural("ltfs -o rollback_mount=N", "mounts ro, 14072I", "the option"),
    "full-mounts-writable": _natural(
        "ltfs: no space for data", "says read-only (14071I), is mounted rw; data ENOSPC", "end-of-tape, then the next mount"
    ),
    "log-flood": _armed(
        "ltfs: the same message a million times a second", "never ready, never ends", _at("ltfs", "mount", "flood")
    ),
    "tool-flood": _armed(
        "mkltfs, ltfsck: the same message a million times a second", "never ends",
        _at("mkltfs", "format", "flood"), _at("ltfsck", "check", "flood"),
    ),
    "mount-hangs": _armed("ltfs: stands still while it mounts", "never ready", _at("ltfs", "mount", "hang")),
}  # fmt: skip

_LTFSCK = {
    "check-exits-1": _natural("ltfsck: a clean volume", "exit 1, 11233I 16022I, however often", "a clean volume"),
    "check-not-correctable": _natural(
        "ltfsck: no volume", "exit 4, 17168E or 11009E, 16080E", "a blank, foreign or destroyed medium"
    ),
    "check-fails": _armed("ltfsck: the drive fails", "exit 8, 16080E", _at("ltfsck", "check", "fail")),
    "check-device-missing": _natural("ltfsck: no such device", "exit 8, 16011E", "a wrong node"),
    "check-no-medium": _natural("ltfsck: the drive is empty", "exit 15, 16092E", "an empty drive"),
    "check-usage": _natural("ltfsck: no device", "exit 16", "the arguments"),
    "check-no-such-generation": _natural("ltfsck -g 99", "exit 8, 16072E", "the option"),
    "check-status-leaks": _natural("ltfsck -l: a damaged chain", "exit 120, 16076E", "coldstore-vtl flip of an older index"),
    "check-after-crash": _natural(
        "ltfsck: data behind the last index", "exit 1, 11227I 17259I 16022I; later files are gone", "kill -9 of ltfs"
    ),
    "check-both-indexes-damaged": _natural(
        "ltfsck: neither last index can be read", "exit 1, 11257I; files of the last generation are lost", "coldstore-vtl flip on both"
    ),
    "check-after-write-error": _natural(
        "ltfsck: a medium with a write error", "exit 1, 16111I 11333I 17287I; stays read-only", "permanent-write-error"
    ),
}  # fmt: skip

_MOUNTED = {
    "end-of-tape": _armed(
        "write(2) at the end of the tape",
        "a short count, then ENOSPC; fsync ENOSPC once, close ok; file shorter than accepted; 11072E 13014W 14022E",
        _at("ltfs", "write", "enospc", path="*.tar"),
    ),
    "silently-short": _armed(
        "write(2) at the end of the tape", "every call succeeds; only st_size tells", _at("ltfs", "write", "silently-short", path="*.tar")
    ),
    "permanent-write-error": _armed(
        "write(2): medium error 3/0C/00",
        "a short count, EROFS, fsync EIO once, then ok; size 0; index on a, 12045E 11343I; read-only for good, lock state 0x60",
        _at("ltfs", "write", "erofs", path="*.tar"),
    ),
    "hardware-write-error": _armed(
        "write(2): hardware error 4/44/00",
        "EIO, fsync ok, size 0, then EROFS; unmount 11033E, exit 0; ltfsck brings the last sync back",
        _at("ltfs", "write", "sense:4/44/00", path="*.tar"),
    ),
    "double-write-error": _armed(
        "write(2): both partitions refuse",
        "as permanent-write-error; unmount 17265I (mam lock field), 11034I, exit 0, and what was not synced is gone; 0xe0",
        _at("ltfs", "write", "double-write-error", path="*.tar"),
    ),
    "sync-fails-saved": _armed(
        "the sync attribute: a filemark fails", "EIO, then EROFS; 12047E 11343I 11344I 17069E; the index is on a all the same",
        _at("ltfs", "sync", "eio"),
    ),
    "sync-fails-lost": _armed(
        "the sync attribute: a write fails", "EIO; 11083E 11345E 11346E 17069E; nothing since the last sync is on tape",
        _at("ltfs", "sync", "eio-lost"),
    ),
    "read-error": _armed(
        "read(2): medium error 3/11/00", "EIO, mount survives, other files are read; 12049E 11088E",
        _at("ltfs", "read", "eio", path="*.tar", count=0),
    ),
    "read-error-once": _armed(
        "read(2): medium error, gone at the next try", "EIO once", _at("ltfs", "read", "eio", path="*.tar")
    ),
    "moved-under-ltfs": _armed(
        "somebody rewinds the tape of a mount",
        "write, fsync, close ok; sync EPERM, 17293E; unmount 12033E 11033E, exit 0; labels gone, ltfsck exit 4",
        _at("ltfs", "write", "position-lost", path="*.tar"),
    ),
    "attention-after-load": _armed(
        "ltfs: the drive was reset", "30205I 30263I 39802W; mounts", _at("ltfs", "mount", "unit-attention")
    ),
    "attention-while-mounted": _armed(
        "write(2): the drive was reset", "12029E 11312I 11340I; succeeds", _at("ltfs", "write", "unit-attention", path="*.tar")
    ),
    "write-hangs": _armed("write(2): the drive stands still", "no answer", _at("ltfs", "write", "hang", path="*.tar")),
    "sync-hangs": _armed("the sync attribute: the drive stands still", "no answer", _at("ltfs", "sync", "hang")),
    "locked-while-mounted": _natural(
        "mtx unload, mt offline of a mounted cartridge", "exit 1, 5/53/02; exit 2, Input/output error", "a mount"
    ),
    "listed-without-busy": _natural(
        "ltfs -o device_list", "exit 1, with drives or without; one in use is missing", "a mount"
    ),
}  # fmt: skip

_UNMOUNT = {
    "unmount-busy": _natural("umount: a file is open", "exit 32, target is busy; ltfs stays", "an open file"),
    "umount-returns-early": _natural(
        "umount", "returns before the index is on tape: ltfs ends later", "every unmount"
    ),
    "unmount-lazy": _natural("umount -l by somebody", "the mount is gone; ltfs ends with the last open file", "the option"),
    "unmount-unchanged": _natural("unmount of a volume that was only read", "17265I (not dirty), 11034I: normal", "no change"),
    "index-lost-at-unmount": _armed(
        "unmount: the index cannot be written", "exit 0; 12045E 11083E 11033E; last index on b valid, next mount ro",
        _at("ltfs", "unmount", "index-write-lost"),
    ),
    "index-on-a-at-unmount": _armed(
        "unmount: the index can be written to a only", "exit 0; 12045E 17061E 11083E, then 11034I; complete, next mount ro",
        _at("ltfs", "unmount", "index-on-a"),
    ),
    "index-lost-and-unmounted": _armed(
        "unmount: no partition takes the index", "exit 0; 17265I (mam lock field), 11034I; what was not synced is gone",
        _at("ltfs", "unmount", "double-write-error"),
    ),
    "index-does-not-fit": _armed(
        "unmount: the early warning came too late", "exit 0; 11072E 12045E 11083E 11033E; the last sync is intact",
        _at("ltfs", "unmount", "index-does-not-fit"),
    ),
    "index-partition-full": _natural(
        "unmount: files for partition a do not fit", "13013W 11072E 11034I; they stay on b", "more of them than it takes"
    ),
    "unmount-hangs": _armed("unmount: the drive stands still", "ltfs does not end", _at("ltfs", "unmount", "hang")),
}  # fmt: skip

_SIGNALS = {
    "terminated": _natural(
        "ltfs: SIGTERM, SIGINT or SIGHUP", "unmounts with index, exit 0; with open files 11998W", "the signal"
    ),
    "terminated-while-mounting": _natural(
        "ltfs: SIGTERM before it is ready", "exit 1, 17159I 14013E", "the signal"
    ),
    "terminated-twice": _natural("ltfs: SIGTERM again at the index", "killed, index lost", "the signals"),
    "terminated-and-continued": _armed(
        "ltfs: SIGTERM and SIGCONT, as of timeout(1) or systemd", "stands still for good; the last line is cut off (17294I)",
        _at("ltfs", "signal", "deadlock"), _at("ltfs", "unmount", "slow", seconds=1),
    ),
    "broken-stderr": _natural("ltfs: the reader of its stderr is gone", "SIGPIPE at unmount, index lost", "a pipe"),
    "killed-after-sync": _natural(
        "ltfs: SIGKILL, nothing behind the last index", "the next mount repairs it: 11022I", "kill -9"
    ),
    "killed-with-data": _natural(
        "ltfs: SIGKILL, data behind the last index", "ENOTCONN; needs ltfsck, later files are lost", "kill -9"
    ),
    "killed-drive-locked": _natural(
        "mt offline, mtx unload after SIGKILL of ltfs", "exit 2 EIO; 5/53/02; until the next ltfs or ltfsck ends", "kill -9"
    ),
    "dead-mountpoint": _natural(
        "ltfs on the mountpoint of a killed one", "exit 0, failed to access mountpoint, 14123W", "kill -9"
    ),
}  # fmt: skip

_LOADING = {
    "offline-is-loaded-again": _natural("ltfs: the cartridge was set offline", "loads it by itself", "mt offline"),
    "still-loading": _natural("ltfs: the drive is loading", "waits, 17189I", "model time"),
    "cleaning-never-ends": _natural(
        "ltfs, mkltfs: a cleaning cartridge", "never end, 17188I (-20297) each second", "loading one"
    ),
}  # fmt: skip

_MTX = {
    "mtx-eject-exits-0": _natural("mtx eject", "exit 0 after Eject (0x1B) failed", "the command"),
    "mtx-nothing-exits-0": _natural("mtx, mtx -f DEV", "exit 0, nothing", "the arguments"),
    "mtx-version-exits-1": _natural("mtx --version", "exit 1, on stderr", "the option"),
    "mtx-unknown-command": _natural(
        "mtx load 1 0 frobnicate", "exit 1, usage; what stood before was done", "the command"
    ),
    "mtx-not-a-slot": _natural("mtx load x, load 0", "exit 1, No source specified", "the argument"),
    "mtx-slot-out-of-range": _natural("mtx load 99, unload 99, transfer 2 99", "exit 1, Invalid, illegal", "the argument"),
    "mtx-no-such-drive": _natural("mtx load 1 5", "exit 1, illegal <drive-number> argument", "the argument"),
    "mtx-drive-full": _natural("mtx load: the drive is full", "exit 1 before any motion", "a second load"),
    "mtx-drive-empty": _natural("mtx unload: the drive is empty", "exit 1, Data Transfer Element is Empty", "an empty drive"),
    "mtx-destination-full": _natural(
        "mtx unload, transfer: the slot is full", "exit 1, Already Full, before any motion", "a full slot"
    ),
    "source-empty": _armed(
        "mtx load: the library's list disagrees with its slots", "exit 1, Source Element Address is Empty",
        _at("mtx", "load", "sense:5/3B/0E"),
    ),
    "destination-full": _armed(
        "mtx unload: the library's list disagrees with its slots", "exit 1, Destination Element Address is Already Full",
        _at("mtx", "unload", "sense:5/3B/0D"),
    ),
    "needs-offline": _armed(
        "mtx unload: the drive holds on to its tape", "exit 1, Drive needs offline before move", _at("mtx", "unload", "sense:5/3A/00")
    ),
    "removal-prevented": _armed(
        "mtx unload: the cartridge is locked", "exit 1, 5/53/02", _at("mtx", "unload", "sense:5/53/02")
    ),
    "cleaning-ejected": _armed(
        "mtx load: a cleaning cartridge is thrown out", "exit 1, Cleaning Cartridge Installed and Ejected",
        _at("mtx", "load", "sense:5/30/03"),
    ),
    "move-fails": _armed(
        "mtx load: mechanical error", "exit 1, 4/15/01, MOVE MEDIUM Failed; nothing moved", _at("mtx", "load", "sense:4/15/01")
    ),
    "move-fails-for-good": _armed(
        "mtx load, unload: the robot is broken", "exit 1, 4/15/01, again and again",
        _at("mtx", "load", "sense:4/15/01", count=0), _at("mtx", "unload", "sense:4/15/01", count=0),
    ),
    "status-fails": _armed(
        "mtx status", "exit 1, 4/44/00, READ ELEMENT STATUS Command Failed", _at("mtx", "status", "sense:4/44/00", count=0)
    ),
    "library-not-ready": _armed(
        "mtx status, load: the door is open", "exit 1, 2/04/03",
        _at("mtx", "status", "sense:2/04/03", count=0),
    ),
    "library-becoming-ready": _armed(
        "mtx load: the library is starting", "exit 1, 2/04/01, once", _at("mtx", "load", "sense:2/04/01")
    ),
    "changer-missing": _natural("mtx: no such node", "exit 1, cannot open, No such file or directory", "a wrong or removed node"),
    "changer-forbidden": _armed(
        "mtx: no permission", "exit 1, cannot open, Permission denied", _at("mtx", "start", "errno:EACCES", count=0)
    ),
    "changer-is-none": _natural("mtx: not a SCSI device", "exit 1, is not an sg device", "another file"),
    "mtx-no-device-given": _natural("mtx status without -f", "$CHANGER, $TAPE, then /dev/changer", "the arguments"),
    "mtx-takes-cleaning": _natural("mtx last, next, previous", "loads a cleaning cartridge happily", "the command"),
    "mtx-invents-a-slot": _natural(
        "mtx status: a drive without a source", "Unknown Storage Element Loaded", "a move from drive to drive"
    ),
    "barcodes-vanish": _armed(
        "mtx status after the door or mail slot was used", "exit 0, no tags on storage lines, once", _at("mtx", "status", "vanish-barcodes")
    ),
    "label-unreadable": _armed(
        "mtx status: one label cannot be read", "exit 0, its element is full without a tag",
        _at("mtx", "status", "vanish-barcode", barcode="A00001L8", count=0),
    ),
    "attention-on-move": _armed(
        "mtx load: the door was opened", "exit 1, 6/28/01; nothing moved; not retried", _at("mtx", "load", "sense:6/28/01")
    ),
    "reset-on-unload": _armed(
        "mtx unload: the library was reset", "exit 1, 6/29/00; nothing moved; not retried", _at("mtx", "unload", "sense:6/29/00")
    ),
    "moved-though-failed": _armed(
        "mtx load", "exit 1, 4/15/01, and the cartridge is in the drive", _at("mtx", "load", "sense-after:4/15/01")
    ),
    "in-the-gripper": _armed(
        "mtx load", "exit 1, 4/15/01, and the cartridge is in no element", _at("mtx", "load", "lost")
    ),
    "robot-hangs": _armed("mtx load", "no answer, nothing moves", _at("mtx", "load", "hang")),
    "robot-hangs-moved": _armed("mtx load", "no answer, the cartridge is in the drive", _at("mtx", "load", "hang-after")),
    "robot-hangs-gripper": _armed("mtx load", "no answer, the cartridge is in no element", _at("mtx", "load", "hang-lost")),
    "wrong-cartridge": _armed(
        "mtx load", "exit 0, done: another cartridge is in the drive", _at("mtx", "load", "wrong-slot")
    ),
    "wrong-slot": _armed("mtx unload", "exit 0, done: it is in another slot", _at("mtx", "unload", "wrong-slot")),
    "mtx-garbage": _armed("mtx status", "exit 0, noise", _at("mtx", "status", "garbage", count=0)),
    "killed-mtx": _natural("mtx killed", "does not stop the robot: the cartridge arrives", "kill -9"),
    "moves-in-turn": _natural("two mtx at once", "are served one after the other", "two programs"),
}  # fmt: skip

_MT = {
    "mt-unknown-command": _natural("mt frobnicate, mt eom", "exit 1, unknown command", "the command"),
    "mt-illegal-count": _natural("mt fsf x", "exit 3, illegal count", "the argument"),
    "mt-unknown-property": _natural("mt stsetoptions nonsense", "exit 1, Illegal property name", "the argument"),
    "mt-no-device-given": _natural("mt without -f", "exit 1, /dev/tape is not a character device", "the arguments"),
    "mt-not-a-tape": _natural("mt -f of another file", "exit 2, Inappropriate ioctl for device", "another file"),
    "drive-missing": _natural("mt: no such node", "exit 1, No such file or directory", "a wrong or removed node"),
    "drive-forbidden": _armed(
        "mt: no permission", "exit 1, Permission denied", _at("mt", "start", "errno:EACCES", count=0)
    ),
    "drive-removed": _armed("mt: the drive is gone", "exit 1, No such device", _at("mt", "start", "errno:ENXIO", count=0)),
    "drive-held-open": _natural(
        "mt: somebody has the node open", "exit 1, Device or resource busy, status too", "an open descriptor"
    ),
    "mt-blocks": _natural(
        "mt rewind, tell: no tape is ready", "exit 1 after 120 s, No medium found", "an empty drive"
    ),
    "mt-protected": _natural("mt weof, erase: write protected", "exit 1, Read-only file system", "coldstore-vtl protect"),
    "mt-beyond": _natural("mt fsf, fsr, bsf, seek beyond data or start", "exit 2, Input/output error", "the count"),
    "mt-no-such-partition": _natural("mt setpartition 7", "exit 2, Invalid argument", "the argument"),
    "mt-lacks-command": _armed(
        "mt tell, seek, erase: the drive lacks the command", "exit 2, Input/output error", _at("mt", "start", "errno:EIO", exit=2)
    ),
    "rewind-fails": _armed(
        "mt rewind: hardware or medium error", "exit 2, Input/output error", _at("mt", "rewind", "eio")
    ),
    "offline-fails": _armed(
        "mt offline: hardware error", "exit 2, Input/output error; the tape stays threaded", _at("mt", "offline", "eio")
    ),
    "offline-fails-for-good": _armed(
        "mt offline: the drive does not let go", "exit 2, Input/output error, again and again", _at("mt", "offline", "eio", count=0)
    ),
    "shows-empty-after-offline": _natural(
        "mt status: set offline, cartridge still in the drive", "exit 0, DR_OPEN; mtx shows the drive full", "mt offline"
    ),
    "never-ready": _armed(
        "mt status: the tape does not get ready", "exit 0, neither ONLINE nor DR_OPEN", _at("mt", "status", "never-ready", count=0)
    ),
    "late-ready": _armed(
        "mt status: a new LTO-9 cartridge is calibrated", "exit 0, neither ONLINE nor DR_OPEN, then ONLINE",
        _at("mt", "status", "never-ready", count=3),
    ),
    "mt-garbage": _armed("mt status", "exit 0, noise", _at("mt", "status", "garbage", count=0)),
    "unloaded-while-open": _natural(
        "mtx unload of a drive whose node is open", "a library that unloads by itself pulls the tape away, exit 0", "coldstore-vtl create --auto-unload"
    ),
}  # fmt: skip

INCIDENTS: Mapping[str, Incident] = MappingProxyType(
    _MKLTFS | _LTFS_START | _LTFSCK | _MOUNTED | _UNMOUNT | _SIGNALS | _LOADING | _MTX | _MT
)
"""Every incident by its name."""
