"""
The tape file system of one drive: format, check, mount, unmount.

A volume is the file system on one cartridge, known by its UUID; the two are one to one and are checked against each other. The
cartridge must be loaded and the drive ready before anything here is called, and the robot and ``mt`` must keep off the drive until
the Deferred has fired, and while a volume is mounted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from coldstore.interfaces.mover import IMover, VolumeSpace
from coldstore.model.cartridges import VolumeForm

__all__ = [
    "AlreadyFormatted",
    "CannotStart",
    "CheckFailed",
    "CheckVerdict",
    "CutOff",
    "DriveBusy",
    "EndedMount",
    "FilesystemFault",
    "FormatFailed",
    "FormattedVolume",
    "IMountedVolume",
    "ITapeFilesystem",
    "MountBusy",
    "MountFailed",
    "NeedsCheck",
    "NoMedium",
    "NotFormatted",
    "OutcomeUnknown",
    "ReadOnly",
    "StartBlock",
    "SyncFailed",
    "SyncedIndex",
    "UnmountOutcome",
    "UnmountVerdict",
    "UnsupportedMedium",
    "VolumeSpace",
    "WriteProtected",
    "WrongVolume",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class FormattedVolume:
    """A volume that was just made."""

    barcode: str
    volume_uuid: str
    volume_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckVerdict:
    """
    What a check found and did.

    ``is_consistent``: the volume can be mounted; files written after its last index on tape are not listed.
    ``was_repaired``: something had to be done for that, so recorded positions and lists are to be compared with the volume.
    ``finding``: what is wrong with it, in words; empty when it is consistent.
    ``exit_status`` is that of the program that checked, None when there was none.
    """

    is_consistent: bool
    was_repaired: bool
    finding: str
    exit_status: int | None
    log_tail: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StartBlock:
    """Where a file begins on tape; reading in the order of these spares seeking."""

    partition: str
    block: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncedIndex:
    """An index that is on tape: what it lists survives the loss of everything but the cartridge."""

    generation: int
    location: StartBlock
    start_blocks: Mapping[str, StartBlock]


class ReadOnly(Enum):
    """Why a mounted volume cannot be written."""

    ASKED = "it was mounted so"
    WRITE_ERROR = "it had a write error"
    PROTECTED = "it is write protected, or had a write error: look at its tab"
    FULL = "its index partition is full"
    OLDER = "an older state of it is mounted"
    NOT_CLOSED = "it was not closed in order, and cannot be"
    UNKNOWN = "the file system does not say why"

    @property
    def may_list_less(self) -> bool:
        """Whether files can be whole on tape that the volume does not list."""
        return self in (ReadOnly.OLDER, ReadOnly.NOT_CLOSED)


class UnmountOutcome(Enum):
    """What the end of a mount says about the cartridge."""

    CLEAN = "clean"
    """The last index is on tape, wherever the file system wants it."""
    UNKNOWN = "unknown"
    """The index may not be on tape: check the volume before the next mount, then compare what it lists."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnmountVerdict:
    """
    How a mount ended.

    ``findings`` are reasons for an unknown outcome, in words; ``full_because`` is why nothing more is to be written to the volume, empty when
    there is room; that is no failure. ``was_cut_off``: what served the mount was killed, or nobody saw its end, which says nothing of drive
    and cartridge. ``exit_status`` and ``signal`` are those of the process that served the mount, as far as there was one and somebody saw its
    end.
    """

    outcome: UnmountOutcome
    exit_status: int | None
    signal: int | None
    findings: tuple[str, ...]
    log_tail: tuple[str, ...]
    full_because: str = ""
    was_cut_off: bool = False

    @property
    def is_clean(self) -> bool:
        """The volume is consistent and complete on tape."""
        return self.outcome is UnmountOutcome.CLEAN


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedMount:
    """A mount that was found to be over when the service looked for it; ``volume_uuid`` is None when it never got ready."""

    barcode: str
    volume_uuid: str | None
    verdict: UnmountVerdict


class FilesystemFault(Exception):
    """
    A tape file system operation failed.

    ``log_tail`` are the last lines that the tool said.
    """

    def __init__(self, message: str, log_tail: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.log_tail = tuple(log_tail)


class AlreadyFormatted(FilesystemFault):
    """The cartridge is not blank: it has a volume, ours or not, or other data that are not to be overwritten. Nothing was changed."""


class WriteProtected(FilesystemFault):
    """The cartridge's write protection is on; nothing was changed."""


class NoMedium(FilesystemFault):
    """No cartridge is loaded in the drive."""


class DriveBusy(FilesystemFault):
    """Something else has the drive: another program, or another host's reservation. Can pass by itself."""


class CannotStart(FilesystemFault):
    """
    The program cannot work as things are set up: its drive's node, the program itself, an option or the mountpoint is not as it must be.

    Nothing was touched, and the cartridge has nothing to do with it.
    """


class UnsupportedMedium(FilesystemFault):
    """The file system does not use this kind of medium: write-once, for one."""


class FormatFailed(FilesystemFault):
    """Formatting failed; what is on the cartridge now is unknown."""


class CheckFailed(FilesystemFault):
    """The check could not look at the volume; nothing is known about it."""


class NeedsCheck(FilesystemFault):
    """The volume was not closed cleanly and must be checked before it can be mounted."""


class NotFormatted(FilesystemFault):
    """There is no volume of this form on the cartridge: blank, foreign data, or a volume whose labels are lost. Formatting would destroy the latter."""


class WrongVolume(FilesystemFault):
    """
    The volume in the drive is another one than expected; it is unmounted again.

    ``found_label`` is the barcode that it was formatted with, as far as its form keeps it (LTFS: the first six characters).
    """

    def __init__(self, message: str, *, found_label: str, found_uuid: str) -> None:
        super().__init__(message)
        self.found_label = found_label
        self.found_uuid = found_uuid


class MountFailed(FilesystemFault):
    """Mounting failed for another reason; the log's tail says which."""


class CutOff(FilesystemFault):
    """A program was killed, or nobody saw its end, before it had done its work: this says nothing about drive and cartridge."""


class NotRecorded(FilesystemFault):
    """What is to be done could not be written down: the appliance's own disk is full or fails. Nothing was begun; drive and cartridge are innocent."""


class OutcomeUnknown(FilesystemFault):
    """
    A time limit passed. What was under way was ended, or still runs when ending it would destroy data (``ltfs`` is never signalled).

    The drive is suspect: look again (``adopt``) before anything else.
    """


class MountBusy(FilesystemFault):
    """Files of the mount are open, by us or by somebody else; it is still mounted."""


class SyncFailed(FilesystemFault):
    """The index could not be proven to be on tape. What was written since the last sync may be lost; unmount, check, compare."""


class IMountedVolume(Interface):
    """A mounted volume. When what serves it dies, or somebody takes the tape away from it, every operation fails and ``is_alive`` says so."""

    barcode: str = Attribute("The cartridge's full barcode.")
    form: VolumeForm = Attribute("How files lie on the cartridge.")
    volume_uuid: str = Attribute("The UUID of the volume.")
    volume_name: str = Attribute("The name given at format; empty if none.")
    is_read_only: bool = Attribute(
        "Nothing can be written: asked for, write protected, or an earlier write error."
    )
    read_only: ReadOnly | None = Attribute("Why that is so; None when it can be written.")
    generation: int = Attribute("The generation of the newest index known to be on tape.")
    mover: IMover = Attribute("Moves bytes to and from this volume.")

    def is_alive() -> bool:
        """
        Whether the volume is mounted still, as far as can be told without touching the tape: the process that serves it runs, and no
        operation has found it gone.
        """

    def sync(message: str, *, new_files: Sequence[str] = ()) -> Deferred[SyncedIndex]:
        """
        Write the index to tape and prove that it is there. Blocks the volume for seconds to minutes. Repeatable.

        When the Deferred fires: the index and all before it are on the medium without error, the generation grew (unless nothing had
        changed), and each of ``new_files`` (none of them empty) has a start block. They can be recorded as synced.

        :param message: is stored with the index, for people who list the generations of the volume.
        :raise SyncFailed: one of these does not hold. The bytes may be there nevertheless: find out by unmount, check and mount.
        :raise MoverFault: the volume could not be asked at all.
        """

    def space() -> Deferred[VolumeSpace]:
        """The space of the volume; zero free when the end of the tape was met. Raises what ``IMover.space`` raises."""

    def unmount() -> Deferred[UnmountVerdict]:
        """
        Unmount, and wait until nothing of ours has the drive; only then may ``mt`` or the robot touch it.

        Ends the mover. Harmless to call twice: the second call gets the same verdict; it is also the way to learn the verdict of a
        mount that died.

        :return: fires with the verdict, good or bad.
        :raise MountBusy: files are open and stayed open during all retries; the volume is still mounted and usable.
        :raise OutcomeUnknown: the mount has not ended within the time limit; call again to wait longer.
        """


class ITapeFilesystem(Interface):
    """The tape file system of one drive. One operation at a time; further calls wait for their turn."""

    def format(*, barcode: str, volume_name: str) -> Deferred[FormattedVolume]:
        """
        Make a volume on a cartridge that has none. Seconds to hours.

        When the Deferred fires the volume is on the cartridge, with the barcode as its label (as far as its form keeps it), and the given name.
        A repetition after success is ``AlreadyFormatted``; the name on the volume then tells whether it was ours.

        :param volume_name: no slashes; the intent of the caller, to recognise after a crash what the format was for.
        :raise AlreadyFormatted: and nothing was changed.
        :raise WriteProtected: and nothing was changed.
        :raise NoMedium: no cartridge is loaded.
        :raise DriveBusy: something else has the drive.
        :raise CannotStart: the program cannot work as things are set up.
        :raise UnsupportedMedium: the file system does not use this kind of medium.
        :raise CutOff: the program was killed; what is on the medium now is unknown.
        :raise FormatFailed: anything else.
        :raise OutcomeUnknown: the time limit passed and the command was killed.
        :raise ValueError: barcode or name cannot be used.
        """

    def check() -> Deferred[CheckVerdict]:
        """
        Check the loaded volume and repair its consistency. Minutes to hours. Repeatable.

        :return: fires with the verdict, good or bad.
        :raise NoMedium: no cartridge is loaded.
        :raise DriveBusy: something else has the drive.
        :raise CannotStart: the program cannot work as things are set up.
        :raise CutOff: the program was killed.
        :raise CheckFailed: the check could not be made for another reason.
        :raise OutcomeUnknown: the time limit passed and the command was killed.
        """

    def mount(*, barcode: str, volume_uuid: str | None, read_only: bool = False) -> Deferred[IMountedVolume]:
        """
        Mount the loaded volume.

        When the Deferred fires the volume is usable, is the expected one, and outlives this process. A second mount while one is mounted
        is refused with ``DriveBusy``.

        :param volume_uuid: the recorded UUID; None accepts any volume whose label fits the barcode.
        :raise NeedsCheck: it was not closed cleanly.
        :raise NotFormatted: there is no volume.
        :raise WrongVolume: another volume is in the drive.
        :raise NoMedium: no cartridge is loaded.
        :raise DriveBusy: something else has the drive.
        :raise CannotStart: the file system cannot work as things are set up.
        :raise UnsupportedMedium: the file system does not use this kind of medium.
        :raise CutOff: what was to serve the mount was killed, told to end, or did not start.
        :raise NotRecorded: the appliance's own disk takes no record of it.
        :raise MountFailed: anything else.
        :raise OutcomeUnknown: not ready within the time limit.
        """

    def adopt() -> "Deferred[IMountedVolume | EndedMount | None]":
        """
        Find what an earlier run of the service left in this drive. To be called before anything else after a start. Repeatable.

        :return: fires with the mounted volume when it still is (waits when it is about to get ready or about to end); with how it ended when
            it is over, also after a stale mount was cleared (an unclean verdict means: check before the next mount); with None when nothing
            was mounted since the last format or check. An ended mount is reported until it is settled, or the next format, check or mount.
        :raise DriveBusy: something else has the drive.
        :raise OutcomeUnknown: whether there is a mount could not be found out within the time limit.
        """

    def settle() -> Deferred[None]:
        """Take note that the end of the last mount was recorded, so that it is reported no more. Harmless when nothing has ended."""
