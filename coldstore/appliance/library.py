"""Builds the tape side: the library (a real one, or the virtual one of a first run), a bay per drive, the keeper of the inventory."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

from twisted.python.threadpool import ThreadPool

from coldstore.appliance.adapters import TapeSide
from coldstore.config.schema import Configuration, Drive, Tools
from coldstore.interfaces.filesystem import ITapeFilesystem
from coldstore.interfaces.metadata import IMetadataStore
from coldstore.interfaces.reservation import IReservation
from coldstore.interfaces.tenure import ITenure
from coldstore.model.barcodes import BadBarcode, Media, parse_barcode
from coldstore.model.cartridges import VolumeForm
from coldstore.model.hosts import Host
from coldstore.tape.drive import DriveTimes, MtDrive
from coldstore.tape.filesystem import LtfsDrive, LtfsFilesystem, LtfsLimits
from coldstore.tape.launcher import ChildLauncher
from coldstore.tape.library import LibraryTimes, MtxLibrary
from coldstore.tape.locks import FlockDeviceLocks
from coldstore.tape.ltfs import LtfsOptions, LtfsTools
from coldstore.tape.ltfs_mover import LtfsMover
from coldstore.tape.mover import MoverLimits
from coldstore.tape.persist import key_of
from coldstore.tape.process import ReactorCommandRunner
from coldstore.tape.raw.filesystem import RawFilesystem, RawLimits
from coldstore.tape.raw.mover import KERNEL_PROGRAM, RawMover
from coldstore.tape.reservations import SgPersistReservation
from coldstore.tape.sysfs import tape_device
from coldstore.vtl.fuse import fuse_available
from coldstore.vtl.latency import Latency
from coldstore.vtl.library import LibrarySpec, barcodes_of, create_library
from coldstore.work.activity import ActivityBoard
from coldstore.work.bay import Bay, BayLimits
from coldstore.work.inventory import InventoryKeeper
from coldstore.work.sessions import SessionWriter

VIRTUAL = "the virtual library"
VIRTUAL_TAPE_PROGRAM = "coldstore.appliance.virtual_mover"
LEAST_CAPACITY_BYTES = 100 * 10**9
"""An LTO-1 cartridge."""
LTO8 = Latency(move=13.0, load=15.0, unload=24.0, locate=59.0, rewind=59.0, format=60.0, index=4.0)
"""Seconds of a full-height LTO-8 drive behind a small robot, as their makers publish them; format and index are estimates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DriveDevices:
    """One drive's nodes. ``generic`` is what ``ltfs`` takes; None when there is no need of it."""

    index: int
    tape: str
    generic: str | None
    serial: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """
    What a library consists of, real or virtual.

    ``tape_program`` is the module of the child that works tapes without LTFS; ``remarks`` are sentences for an operator.
    """

    changer: str
    drives: tuple[DriveDevices, ...]
    mtx: str
    mt: str
    ltfs: LtfsTools
    tape_program: str
    accepts_plain_directory: bool
    capacity_of: Callable[[str], int]
    admitted_by: Callable[[str], str]
    remarks: tuple[str, ...]


class NoSuchDevice(OSError):
    """The configuration names a device that this machine does not have, or another one than it says."""


class PlainDirectoriesApart(OSError):
    """The virtual library has no FUSE, and lies on another file system than the places where its cartridges are mounted."""


class VirtualCartridges(Exception):
    """A real library was to be run with the record of a virtual one; says so."""


async def check_recorded_cartridges(settings: Configuration, store: IMetadataStore) -> None:
    """
    See that a real library does not inherit the cartridges of a virtual one: those admit themselves, and real ones may
    have the same barcodes.

    :raise VirtualCartridges: it would
    """
    if settings.tape.library == "virtual":
        return
    virtual = sorted(record.barcode for record in await store.cartridges() if record.admitted_by == VIRTUAL)
    if virtual:
        raise VirtualCartridges(
            f"{settings.state_directory} belongs to a virtual library, whose cartridges nobody admitted "
            f"({', '.join(virtual[:3])}{', …' if len(virtual) > 3 else ''}): "
            "a real library needs a state directory of its own"
        )


def build_tape_side(
    settings: Configuration,
    reactor: Any,
    *,
    store: IMetadataStore,
    tenure: ITenure,
    random: Random,
    board: ActivityBoard,
    sessions: SessionWriter,
    host: Host,
) -> TapeSide:
    """
    Build it; devices are looked at, nothing is moved.

    :param host: this machine
    :raise NoSuchDevice: a configured drive, or a program that is needed for it, cannot be found
    :raise PlainDirectoriesApart: the virtual library cannot work there
    """
    run = Path(settings.state_directory) / "run"
    run.mkdir(mode=0o700, exist_ok=True)
    hardware = _virtual(settings, run) if settings.tape.library == "virtual" else _scsi(settings)
    locks = FlockDeviceLocks(run / "locks", reactor)
    environment = {"PATH": os.environ.get("PATH", os.defpath)}
    runner = ReactorCommandRunner(reactor, environment)
    timeouts = settings.tape.timeouts

    def reservation(device: str, name: str) -> "IReservation | None":
        if not settings.tape.reservations:
            return None
        return SgPersistReservation(
            runner,
            device,
            tenure=tenure,
            name=name,
            key=key_of(host, store.appliance_id),
            key_of=lambda other: key_of(other, store.appliance_id),
            clock=reactor,
            program=settings.tape.tools.sg_persist,
            timeout_seconds=timeouts.status_seconds,
        )

    library = MtxLibrary(
        runner,
        hardware.changer,
        lock=locks.changer(),
        tenure=tenure,
        clock=reactor,
        mtx=hardware.mtx,
        times=LibraryTimes(move=timeouts.move_seconds, status=timeouts.status_seconds),
    )
    # Their work is a look at the local disk or the mount table; never joined, so that a stuck one cannot hold up the end.
    threads = ThreadPool(0, 2 * len(hardware.drives), "tape")
    threads.start()
    bays = {}
    for devices in hardware.drives:
        bays[devices.index] = _bay(
            settings, reactor, hardware, devices,
            locks=locks, runner=runner, library=library, threads=threads, run=run, environment=environment,
            store=store, tenure=tenure, random=random, board=board, sessions=sessions,
            reservation=reservation(devices.generic or devices.tape, f"drive {devices.index}"),
        )  # fmt: skip
    keeper = InventoryKeeper(
        library=library,
        store=store,
        clock=reactor,
        capacity_of=hardware.capacity_of,
        admitted_by=hardware.admitted_by,
    )
    weak = [name for name, pool in settings.pools.items() if pool.verify != "read_back"]
    remarks = hardware.remarks + tuple(
        f"pool {name} promises less than reading back every copy before bytes leave the disk (verify: {settings.pools[name].verify})"
        for name in weak
    )
    return TapeSide(
        bays=bays,
        keeper=keeper,
        serials={devices.index: devices.serial for devices in hardware.drives},
        remarks=remarks,
        stop=threads.stop,
        changer=reservation(hardware.changer, "the changer"),
    )


def _bay(
    settings: Configuration,
    reactor: Any,
    hardware: Hardware,
    devices: DriveDevices,
    *,
    locks: FlockDeviceLocks,
    runner: ReactorCommandRunner,
    library: MtxLibrary,
    threads: ThreadPool,
    run: Path,
    environment: dict[str, str],
    store: IMetadataStore,
    tenure: ITenure,
    random: Random,
    board: ActivityBoard,
    sessions: SessionWriter,
    reservation: "IReservation | None",
) -> Bay:
    timeouts, tools = settings.tape.timeouts, settings.tape.tools
    lock = locks.drive(devices.index)
    folder = run / f"drive-{devices.index}"
    folder.mkdir(mode=0o700, exist_ok=True)

    def descriptors() -> list[int]:
        return [lock.descriptor()]

    mover_options = {
        "reactor": reactor,
        "threads": threads,
        "run_directory": str(folder),
        "tenure": tenure,
        "descriptors": descriptors,
        "limits": MoverLimits(silence_seconds=timeouts.transfer_stall_seconds),
        "environment": environment,
    }
    filesystem: ITapeFilesystem
    if settings.tape.filesystem == VolumeForm.TAR:

        def raw_mover() -> RawMover:
            return RawMover(program=hardware.tape_program, device=devices.tape, **mover_options)

        filesystem = RawFilesystem(
            reactor=reactor,
            threads=threads,
            movers=raw_mover,
            capacity_of=hardware.capacity_of,
            state_directory=str(folder / "tape"),
            new_bits=lambda: random.getrandbits(128),
            limits=RawLimits(
                format_seconds=timeouts.format_seconds,
                check_seconds=timeouts.check_seconds,
                mount_seconds=timeouts.mount_seconds,
                unmount_seconds=timeouts.unmount_seconds,
            ),
        )
    else:
        assert devices.generic is not None

        def ltfs_mover(mountpoint: str, is_plain: bool) -> LtfsMover:
            return LtfsMover(mountpoint=mountpoint, is_plain=is_plain, **mover_options)

        filesystem = LtfsFilesystem(
            reactor=reactor,
            threads=threads,
            runner=runner,
            tenure=tenure,
            launcher=ChildLauncher(reactor=reactor, environment=environment),
            movers=ltfs_mover,
            drive=LtfsDrive(
                device=devices.generic,
                guard=devices.tape,
                mountpoint=str(folder / "mnt"),
                state_directory=str(folder / "mounts"),
            ),
            descriptors=descriptors,
            tools=hardware.ltfs,
            options=LtfsOptions(
                ltfs=tools.ltfs_options, mkltfs=tools.mkltfs_options, ltfsck=tools.ltfsck_options
            ),
            limits=LtfsLimits(
                format_seconds=timeouts.format_seconds,
                check_seconds=timeouts.check_seconds,
                mount_seconds=timeouts.mount_seconds,
                unmount_seconds=timeouts.unmount_seconds,
            ),
            accept_plain_directory=hardware.accepts_plain_directory,
        )
    return Bay(
        index=devices.index,
        lock=lock,
        library=library,
        drive=MtDrive(
            runner,
            devices.tape,
            number=devices.index,
            lock=lock,
            tenure=tenure,
            clock=reactor,
            mt=hardware.mt,
            times=DriveTimes(status=timeouts.status_seconds, offline=timeouts.offline_seconds),
        ),
        filesystem=filesystem,
        store=store,
        clock=reactor,
        random=random,
        board=board,
        limits=BayLimits(
            ready_seconds=timeouts.load_seconds, first_ready_seconds=timeouts.first_load_seconds
        ),
        before_unmount=sessions.before_unmount,
        after_unmount=sessions.after_unmount,
        reservation=reservation,
    )


def _file_system_of(path: Path) -> int:
    """Return the number of the file system on which a path is, or would be made."""
    return next(place for place in (path, *path.parents) if place.exists()).stat().st_dev


def _virtual(settings: Configuration, run: Path) -> Hardware:
    """
    Return the virtual library, made where it is not there yet.

    :param run: below which its cartridges are mounted
    :raise PlainDirectoriesApart: they cannot be, without FUSE
    """
    virtual = settings.tape.virtual
    directory = settings.virtual_library_directory
    needs_fuse = settings.tape.filesystem == VolumeForm.LTFS
    has_fuse, why_not = fuse_available() if needs_fuse else (True, "")
    spec = LibrarySpec(
        drives=virtual.drives,
        slots=virtual.slots,
        mail_slots=virtual.mail_slots,
        cartridges=virtual.cartridges,
        capacity_bytes=virtual.capacity_bytes,
    )
    if not has_fuse and _file_system_of(Path(directory)) != _file_system_of(run):
        raise PlainDirectoriesApart(
            f"the virtual library in {directory} lies on another file system than {run}: without FUSE ({why_not}) its cartridges "
            "are plain directories, which are moved from one place to the other. Have tape.virtual.directory and "
            "state_directory on one file system, or make FUSE available"
        )
    library = create_library(directory, spec)
    if virtual.latency_scale:
        library.set_latency(replace(LTO8, scale=virtual.latency_scale))
    made = frozenset(barcodes_of(spec))
    programs = Path(directory) / "bin"
    devices = Path(directory) / "dev"
    remarks: tuple[str, ...] = ()
    if not has_fuse:
        remarks = (
            f"the virtual library serves cartridges as plain directories, because FUSE cannot be had: {why_not}; "
            "failures of a tape file system cannot be tried this way",
        )
    return Hardware(
        changer=str(devices / "changer"),
        drives=tuple(
            DriveDevices(
                index=drive.number,
                tape=str(devices / f"nst{drive.number}"),
                generic=str(devices / f"sg{drive.number}"),
                serial=drive.serial,
            )
            for drive in library.elements().drives
        ),
        mtx=str(programs / "mtx"),
        mt=str(programs / "mt"),
        ltfs=LtfsTools(
            ltfs=str(programs / "ltfs"),
            mkltfs=str(programs / "mkltfs"),
            ltfsck=str(programs / "ltfsck"),
            umount=(str(programs / "umount"),),
        ),
        tape_program=VIRTUAL_TAPE_PROGRAM,
        accepts_plain_directory=not has_fuse,
        capacity_of=lambda _barcode: virtual.capacity_bytes,
        admitted_by=lambda barcode: VIRTUAL if barcode in made else "",
        remarks=remarks,
    )


def _scsi(settings: Configuration) -> Hardware:
    tape = settings.tape
    if tape.changer is None:
        raise NoSuchDevice("tape.changer is not set")
    needs_ltfs = tape.filesystem == VolumeForm.LTFS
    if tape.reservations and shutil.which(tape.tools.sg_persist) is None:
        raise NoSuchDevice(
            f"tape.reservations needs {tape.tools.sg_persist}, which this machine does not have: install sg3-utils"
        )
    return Hardware(
        changer=tape.changer,
        drives=tuple(
            _scsi_drive(drive, needs_generic=needs_ltfs or tape.reservations) for drive in tape.drives
        ),
        mtx=tape.tools.mtx,
        mt=tape.tools.mt,
        ltfs=LtfsTools(
            ltfs=tape.tools.ltfs,
            mkltfs=tape.tools.mkltfs,
            ltfsck=tape.tools.ltfsck,
            umount=_umount(tape.tools),
        ),
        tape_program=KERNEL_PROGRAM,
        accepts_plain_directory=False,
        capacity_of=_native_capacity if needs_ltfs else _tape_capacity,
        admitted_by=lambda _barcode: "",
        remarks=(),
    )


def _umount(tools: Tools) -> tuple[str, ...]:
    return (tools.umount,) if os.geteuid() == 0 else (tools.fusermount, "-u")


def _scsi_drive(drive: Drive, *, needs_generic: bool) -> DriveDevices:
    found = tape_device(drive.device)
    serial = drive.serial or (found.serial if found is not None else None) or ""
    if drive.serial and found is not None and found.serial not in (None, drive.serial):
        raise NoSuchDevice(
            f"tape.drives[{drive.element}]: {drive.device} has the serial number {found.serial}, not {drive.serial}"
        )
    generic = drive.generic_device or (found.generic if found is not None else None)
    if generic is None and needs_generic:
        raise NoSuchDevice(
            f"tape.drives[{drive.element}]: the generic SCSI device of {drive.device} cannot be found; set generic_device"
        )
    return DriveDevices(index=drive.element, tape=drive.device, generic=generic, serial=serial)


def _native_capacity(barcode: str) -> int:
    """What an LTFS volume on it holds; nothing on media without partitions, and on those that we do not know."""
    media = _media(barcode)
    return media.capacity_bytes if media is not None and media.has_partitions else 0


def _tape_capacity(barcode: str) -> int:
    """What a plain tape holds; the least that there is for media that we do not know: the drive tells more once it is loaded."""
    media = _media(barcode)
    return LEAST_CAPACITY_BYTES if media is None else media.capacity_bytes


def _media(barcode: str) -> Media | None:
    try:
        return parse_barcode(barcode).media
    except BadBarcode:
        return None
