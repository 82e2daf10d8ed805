"""
The LTFS programs: how they are called, and what they said. Pure: text in, verdicts out.

Sources: the manual pages ``ltfs(8)``, ``mkltfs(8)``, ``ltfsck(8)``, and runs of the reference implementation 2.4.8.4 on its file back end
and on emulated SCSI drives. An exit status says little: ``ltfs`` exits 0 after a failed index write and after a failed mount, ``ltfsck`` exits 1
when all is well. Verdicts are made from message numbers, which all vendors share; the level letter is none either.

Decisions:

- ``sync_type=unmount``: indexes are written when we ask for them; the default writes them at any moment.
- ``noeject``: append-only mode, which ``eject`` brings, would guard against foreign rewinds, but stays in the drive after a kill and makes the
  next mount fail. The shim holds the tape device open instead, which keeps foreign programs out altogether.
- ``max_pool_size``: files for the index partition wait in the write cache until the unmount; when it is full, ltfs seeks to the index
  partition in mid-session. So it is large enough for a session's manifest.
- Drive dumps (``noautodump``) and the back end are options of the site: the back ends do not know each other's.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from coldstore.interfaces.filesystem import ReadOnly, StartBlock, UnmountOutcome, UnmountVerdict

PLACEMENT_RULE = "size=64M/name=*.manifest:*.json:*.txt"
"""What goes to the index partition, so that a rebuild reads no data partition."""

SERIAL_CHARACTERS = 6
LOG_TAIL_LINES = 40

READY = "14029I"
READ_ONLY_REASONS: Mapping[str, ReadOnly] = {
    "14073I": ReadOnly.FULL,
    "14074I": ReadOnly.FULL,
    "14078I": ReadOnly.OLDER,
    "14072I": ReadOnly.OLDER,
    "14019I": ReadOnly.PROTECTED,
}
PLAIN_DIRECTORY = "00001W"
"""The virtual library's announcement that it mounted nothing and serves a plain directory (a number that no LTFS uses)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LtfsTools:
    """The programs. ``umount`` is an argument list that the mountpoint is appended to (``fusermount3 -u`` for users other than root)."""

    ltfs: str = "ltfs"
    mkltfs: str = "mkltfs"
    ltfsck: str = "ltfsck"
    umount: tuple[str, ...] = ("umount",)


@dataclass(frozen=True, slots=True, kw_only=True)
class LtfsOptions:
    """Further arguments for each program, as the site needs them (back end, drive dumps, small machines)."""

    ltfs: tuple[str, ...] = ()
    mkltfs: tuple[str, ...] = ()
    ltfsck: tuple[str, ...] = ()


# --- Arguments ------------------------------------------------------------------------------------------------------------------------


def volume_serial(barcode: str) -> str:
    """
    Return the serial that a cartridge's volume gets: the barcode without its media suffix.

    :raise ValueError: the first six characters are not digits and capital letters (LTFS Format Specification, VOL1 label).
    """
    serial = barcode[:SERIAL_CHARACTERS]
    if not re.fullmatch(r"[0-9A-Z]{6}", serial):
        raise ValueError(f"no volume serial can be made from barcode {barcode!r}")
    return serial


def checked_volume_name(volume_name: str) -> str:
    """
    Return the name of a volume, or refuse it.

    :raise ValueError: it is empty, too long or no file name (LTFS Format Specification, name of the root directory).
    """
    if not volume_name or "/" in volume_name or "\0" in volume_name or len(volume_name) > 255:
        raise ValueError(f"not a volume name: {volume_name!r}")
    return volume_name


def format_arguments(
    tools: LtfsTools, options: LtfsOptions, *, device: str, barcode: str, volume_name: str
) -> tuple[str, ...]:
    """
    How to format. Without ``-f``, so that a readable volume is refused.

    :raise ValueError: the barcode or the name cannot be used.
    """
    return (
        tools.mkltfs,
        *options.mkltfs,
        "-d",
        device,
        "-s",
        volume_serial(barcode),
        "-n",
        checked_volume_name(volume_name),
        "-r",
        PLACEMENT_RULE,
    )


def check_arguments(tools: LtfsTools, options: LtfsOptions, *, device: str, is_deep: bool) -> tuple[str, ...]:
    """How to check; ``is_deep`` repairs a missing end-of-data mark as well."""
    return (tools.ltfsck, *options.ltfsck, *(("-z",) if is_deep else ()), device)


def mount_arguments(
    tools: LtfsTools,
    options: LtfsOptions,
    *,
    device: str,
    mountpoint: str,
    work_directory: str,
    pool_mebibytes: int,
    read_only: bool,
) -> tuple[str, ...]:
    """How to mount, in the foreground."""
    chosen = [
        f"devname={device}",
        "sync_type=unmount",
        f"work_directory={work_directory}",
        f"max_pool_size={pool_mebibytes}",
        *(["ro"] if read_only else []),
    ]
    return (
        tools.ltfs,
        "-f",
        *(word for option in chosen for word in ("-o", option)),
        *options.ltfs,
        mountpoint,
    )


# --- Messages -------------------------------------------------------------------------------------------------------------------------

_MESSAGE = re.compile(r"^(?:[0-9a-f]+ )?LTFS(\d{4,5}[IWED]) ?(.*)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One numbered line: ``code`` is the number with its level letter (``11034I``)."""

    code: str
    text: str

    def __str__(self) -> str:
        """Return it as the tool wrote it."""
        return f"LTFS{self.code} {self.text}"


def lines_of(output: bytes) -> tuple[str, ...]:
    """Split what a tool said; file names in it need not be UTF-8."""
    return tuple(
        line for line in output.decode(errors="backslashreplace").splitlines() if line.strip("\0 \t")
    )


def message_of(line: str) -> Message | None:
    """Read one line; None when it has no number (libfuse, usage, blank)."""
    match = _MESSAGE.match(line.lstrip("\0"))
    return None if match is None else Message(code=match[1], text=match[2])


def messages_of(lines: Iterable[str]) -> tuple[Message, ...]:
    """Read all numbered lines."""
    return tuple(message for line in lines if (message := message_of(line)) is not None)


def codes_of(lines: Iterable[str]) -> frozenset[str]:
    """The numbers that occur."""
    return frozenset(message.code for message in messages_of(lines))


def tail_of(lines: Sequence[str]) -> tuple[str, ...]:
    """The last lines, for people."""
    return tuple(lines[-LOG_TAIL_LINES:])


def is_plain_directory_announced(lines: Iterable[str]) -> bool:
    """Whether the virtual library said that it mounts nothing."""
    return PLAIN_DIRECTORY in codes_of(lines)


class Trouble(Enum):
    """Why a program could not do its work, sorted by what is to be done."""

    NO_MEDIUM = "no cartridge is loaded"
    DRIVE_BUSY = "the drive is in use"
    NOT_FORMATTED = "there is no LTFS volume, or its labels cannot be read"
    NEEDS_CHECK = "the volume was not closed cleanly"
    ALREADY_FORMATTED = "the cartridge has an LTFS volume"
    WRITE_PROTECTED = "the cartridge is write protected"
    CANNOT_START = "it cannot work as it is set up"
    UNSUPPORTED = "LTFS does not use this kind of medium"
    TOLD_TO_END = "somebody told it to end"
    OTHER = "it failed"


NO_MEDIUM_CODES = frozenset({"12016E", "11331E", "14075E", "15044E", "16092E", "30046I"})
NOT_FORMATTED_CODES = frozenset({"17168E", "11175E", "11170E", "11174E", "11171E", "11009E"})
NEEDS_CHECK_CODES = frozenset({"11220E", "11027E", "11024E", "17146E", "17148E"})
BUSY_CODES = frozenset({"30266W", "12014E", "30293I"})
EOD_MISSING_CODES = frozenset({"17146E", "17148E"})
CANNOT_START_CODES = frozenset(
    str.split(
        "10004E 12012E 14061E 14094E 14123W 15002E 15008E 15009E 15015E 15026E 15028E 15029E 15030E 15031E 11096E 11146E 11152E 11260E"
        " 11267E 16011E"
    )
)
"""Nodes that are missing or no drives, back ends, options, arguments, the mountpoint."""
UNSUPPORTED_CODES = frozenset({"14116E"})
TOLD_TO_END_CODES = frozenset({"17159I"})
_BUSY_ERRNO = re.compile(r"\(16\)|-21711|-21719")


def drive_is_busy(messages: Iterable[Message]) -> bool:
    """Whether another program (errno 16) or another host (a reservation) has the drive."""
    return any(
        message.code in BUSY_CODES
        or (message.code in ("30210I", "15009E", "16011E", "12012E") and _BUSY_ERRNO.search(message.text))
        for message in messages
    )


def common_trouble(lines: Iterable[str]) -> Trouble | None:
    """What all three programs can meet before they see the tape."""
    messages = messages_of(lines)
    if drive_is_busy(messages):
        return Trouble.DRIVE_BUSY
    codes = codes_of(lines)
    for trouble, of_trouble in (
        (Trouble.NO_MEDIUM, NO_MEDIUM_CODES),
        (Trouble.UNSUPPORTED, UNSUPPORTED_CODES),
        (Trouble.TOLD_TO_END, TOLD_TO_END_CODES),
        (Trouble.CANNOT_START, CANNOT_START_CODES),
    ):
        if codes & of_trouble:
            return trouble
    return None


_SAYS_NOTHING = frozenset(
    str.split("10004E 11027E 12012E 14013E 14075E 14094E 15002E 15012E 16080E 30002E 30061E")
)
"""Errors that only repeat that something failed, or that good runs have as well."""
_HINT = "fuse: if you are sure"


def reason_of(lines: Sequence[str]) -> str:
    """
    Return the line that says best why a program failed, for people.

    A reservation first, then what libfuse says, then the last error that is not a mere repetition, then anything.
    """
    messages = messages_of(lines)
    plain = [line for line in lines if message_of(line) is None]
    errors = [message for message in messages if message.code.endswith("E")]
    best: list[str] = [
        *(str(message) for message in messages if message.code in BUSY_CODES),
        *(line for line in plain if line.startswith("fuse: ") and not line.startswith(_HINT)),
        *(str(message) for message in reversed(errors) if message.code not in _SAYS_NOTHING),
        *plain,
        *(str(message) for message in reversed(errors)),
    ]
    return best[0].rstrip(". ") if best else "it said nothing"


# --- mkltfs ---------------------------------------------------------------------------------------------------------------------------

_VOLUME_UUID = re.compile(r"([0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})")


def formatted_uuid(lines: Sequence[str]) -> str | None:
    """The UUID of the volume that was made (15013I)."""
    for message in messages_of(lines):
        if message.code == "15013I" and (match := _VOLUME_UUID.search(message.text)):
            return match[1].lower()
    return None


def format_trouble(exit_status: int | None, lines: Sequence[str]) -> Trouble | None:
    """
    Judge ``mkltfs``: None when the medium was formatted.

    Exit status 0, 15024I and a UUID together mean success. A refusal (15047E) and write protection (11095E) exit with 16, as does wrong usage.
    """
    codes = codes_of(lines)
    if exit_status == 0 and "15024I" in codes and formatted_uuid(lines):
        return None
    if "15047E" in codes:
        return Trouble.ALREADY_FORMATTED
    if "11095E" in codes:
        return Trouble.WRITE_PROTECTED
    return common_trouble(lines) or Trouble.OTHER


# --- ltfs -----------------------------------------------------------------------------------------------------------------------------


def is_ready(lines: Iterable[str]) -> bool:
    """Whether ``ltfs`` says that it takes requests. It is not mounted for sure before the mount table and its attributes agree."""
    return READY in codes_of(lines)


def mount_trouble(lines: Sequence[str]) -> Trouble:
    """Sort why an ``ltfs`` ended before it was ready. Its exit status tells nothing: it is 0 after several failures."""
    codes = codes_of(lines)
    if trouble := common_trouble(lines):
        return trouble
    if codes & NEEDS_CHECK_CODES:
        return Trouble.NEEDS_CHECK
    if codes & NOT_FORMATTED_CODES:
        return Trouble.NOT_FORMATTED
    return Trouble.OTHER


def read_only_reason(lines: Iterable[str]) -> ReadOnly | None:
    """Why ``ltfs`` mounted read-only, as it says; None when it does not say so."""
    return next(
        (READ_ONLY_REASONS[one.code] for one in messages_of(lines) if one.code in READ_ONLY_REASONS), None
    )


UNMOUNT_FAILURES: Mapping[str, str] = {
    "11033E": "the index was not written at unmount",
    "11083E": "the index was not written",
    "11084E": "the index was not written",
    "12045E": "a block was not written",
    "12047E": "a file mark was not written",
    "11345E": "the index was not written to a partition",
    "11346E": "the index was not written to a partition",
    "17069E": "a sync failed",
    "14123W": "the file system never came up",
}
NOT_DIRTY = "not dirty"
INDEX_PARTITION_FULL = frozenset({"13013W"})
"""11072E comes with it, and with every full data partition as well."""

NOTABLE_CODES = frozenset(
    {READY, "11034I", "17265I", *READ_ONLY_REASONS, *UNMOUNT_FAILURES, *INDEX_PARTITION_FULL}
    | NO_MEDIUM_CODES
    | NOT_FORMATTED_CODES
    | NEEDS_CHECK_CODES
    | BUSY_CODES
    | UNSUPPORTED_CODES
    | TOLD_TO_END_CODES
    | {"30210I", "12012E", "10004E", PLAIN_DIRECTORY}
)
"""What a verdict can depend on: the shim keeps these lines however much else is said."""


def unmount_verdict(
    *,
    exit_status: int | None,
    signal: int | None,
    notable: Sequence[str],
    log_tail: Sequence[str],
) -> UnmountVerdict:
    """
    Judge a finished ``ltfs``. The outcome is clean only when every sign agrees.

    :param exit_status: None when a signal ended it, or when nobody saw its end.
    :param notable: all lines whose code is notable, in order.
    """
    messages = messages_of(notable)
    codes = frozenset(message.code for message in messages)
    findings = []
    if signal is not None:
        findings.append(f"ltfs was ended by signal {signal}")
    elif exit_status is None:
        findings.append("nobody saw how ltfs ended")
    elif exit_status != 0:
        findings.append(f"ltfs exited with status {exit_status}")
    if READY not in codes:
        findings.append("ltfs never was ready")
    if "11034I" not in codes:
        findings.append("ltfs did not say that the volume was unmounted")
    findings += [f"{code}: {meaning}" for code, meaning in UNMOUNT_FAILURES.items() if code in codes]
    if any(message.code == "17265I" and NOT_DIRTY not in message.text for message in messages):
        findings.append("17265I: an index write was skipped although it was due")
    return UnmountVerdict(
        outcome=UnmountOutcome.UNKNOWN if findings else UnmountOutcome.CLEAN,
        exit_status=exit_status,
        signal=signal,
        findings=tuple(findings),
        full_because=ReadOnly.FULL.value if codes & INDEX_PARTITION_FULL else "",
        log_tail=tail_of(log_tail),
        was_cut_off=exit_status is None,
    )


# --- ltfsck ---------------------------------------------------------------------------------------------------------------------------

REPAIR_CODES = frozenset({"11227I", "11223I", "11257I", "17259I", "11022I"})
CHECK_RAN = frozenset({0, 1, 4})
"""Unchanged, corrected, not correctable; everything else says nothing about the volume."""


class CheckOutcome(Enum):
    """What ``ltfsck`` found."""

    CONSISTENT = "consistent"
    REPAIRED = "repaired"
    DAMAGED = "damaged"
    EOD_MISSING = "the end-of-data mark is missing"


def check_outcome(exit_status: int | None, lines: Sequence[str]) -> CheckOutcome | Trouble:
    """
    Judge ``ltfsck``. Consistent only with exit status 0 or 1 (1 is usual on a clean volume) and 16022I or 16086I.

    :return: what is the matter with the volume, or why it could not be looked at.
    """
    messages = messages_of(lines)
    codes = frozenset(message.code for message in messages)
    if exit_status in (0, 1) and codes & {"16022I", "16086I"}:
        was_repaired = codes & REPAIR_CODES or any(
            message.code == "17235I" and "Reason: Recovery" in message.text for message in messages
        )
        return CheckOutcome.REPAIRED if was_repaired else CheckOutcome.CONSISTENT
    if trouble := common_trouble(lines):
        return trouble
    if codes & EOD_MISSING_CODES:
        return CheckOutcome.EOD_MISSING
    if exit_status in CHECK_RAN:
        return CheckOutcome.DAMAGED
    return Trouble.OTHER


# --- Attributes and mount table -------------------------------------------------------------------------------------------------------

WRITE_ERROR_LOCK_MASK = 0xE0
"""Bits of ``volumeLockState`` that a permanent write error sets; only a reformat clears them."""


def start_block_of(value: str) -> StartBlock:
    """
    Read a location such as ``b:312``.

    :raise ValueError: it is none.
    """
    partition, separator, block = value.partition(":")
    if not separator or len(partition) != 1 or not block.isdecimal():
        raise ValueError(f"not a location on tape: {value!r}")
    return StartBlock(partition=partition, block=int(block))


@dataclass(frozen=True, slots=True, kw_only=True)
class MountEntry:
    """One line of ``/proc/self/mountinfo`` (proc_pid_mountinfo(5))."""

    mountpoint: str
    filesystem_type: str
    source: str
    is_read_only: bool


def _unescaped(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)


def mount_entries(mountinfo: str) -> tuple[MountEntry, ...]:
    """Read a mount table. Later entries hide earlier ones of the same place."""
    entries = []
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        left, right = before.split(" "), after.split(" ")
        if len(left) < 6 or len(right) < 3:
            raise ValueError(f"not a line of a mount table: {line!r}")
        options = {*left[5].split(","), *right[2].split(",")}
        entries.append(
            MountEntry(
                mountpoint=_unescaped(left[4]),
                filesystem_type=right[0],
                source=_unescaped(right[1]),
                is_read_only="ro" in options,
            )
        )
    return tuple(entries)


def mounted_at(mountinfo: str, mountpoint: str) -> MountEntry | None:
    """What is mounted on exactly this place, if anything."""
    found = None
    for entry in mount_entries(mountinfo):
        if entry.mountpoint == mountpoint:
            found = entry
    return found


def is_ours(entry: MountEntry | None, device: str) -> bool:
    """Whether this is the file system that ``ltfs`` serves for the device (source ``ltfs:DEV``)."""
    return entry is not None and entry.filesystem_type.startswith("fuse") and entry.source == f"ltfs:{device}"
