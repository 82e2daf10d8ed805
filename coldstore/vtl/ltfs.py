"""
The program ``ltfs``: mount the loaded cartridge's volume, serve it, unmount.

Exit statuses as measured on the reference implementation 2.4.8: 1 for failures before FUSE starts; 0 for everything after, also when the
mountpoint was not empty, an option was unknown, or the index could not be written. ``device_list`` exits 1.
"""

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from coldstore.vtl.faults import Fault, Faults, Moment
from coldstore.vtl.fuse import fuse_available
from coldstore.vtl.index import FORMAT_VERSION, SOFTWARE_VERSION, parse_rules
from coldstore.vtl.library import Library
from coldstore.vtl.medium import Cartridge
from coldstore.vtl.messages import Reporter
from coldstore.vtl.mounting import (
    CannotOpen,
    Mountable,
    NotReady,
    NoVolume,
    Station,
    load_cartridge,
    open_station,
    read_volume,
    write_index_on,
)
from coldstore.vtl.volume import Volume

_OWN_OPTIONS = frozenset(
    str.split(
        "devname tape_backend iosched_backend kmi_backend sync_type work_directory capture_index noatime atime eject noeject umask fmask dmask"
        " uid gid rules min_pool_size max_pool_size rollback_mount force_mount_no_eod scsi_append_only_mode symlink_type quiet trace verbose"
        " syslogtrace fulltrace device_list release_device release allow_other noautodump advanced_opt skip_eod_check strict_unmount"
    )
)
_FUSE_OPTIONS = frozenset(
    str.split(
        "ro rw nonempty auto_unmount direct_io default_permissions fsname max_read nodev nosuid noexec dev suid exec"
    )
)
_USAGE = "usage: ltfs -o devname=DEVICE [-f] [-o options] MOUNTPOINT\n"


class Ends(Exception):
    """The program ends with a status; the messages are out."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


@dataclass(slots=True)
class Arguments:
    """The command line, read."""

    foreground: bool = False
    version: bool = False
    options: dict[str, str] = field(default_factory=dict)
    mountpoint: str | None = None

    @property
    def unknown(self) -> str | None:
        """Return the first option that neither ltfs nor FUSE knows."""
        return next((name for name in self.options if name not in _OWN_OPTIONS | _FUSE_OPTIONS), None)


def read_arguments(words: list[str]) -> Arguments:
    """Read the command line; an unreadable one ends with usage, exit 1."""
    arguments = Arguments()
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word in ("-f", "-d"):
            arguments.foreground = True
        elif word in ("-V", "--version"):
            arguments.version = True
        elif word.startswith("-o"):
            for option in (word[2:] or (rest.pop(0) if rest else "")).split(","):
                name, _, value = option.partition("=")
                if name:
                    arguments.options[name] = value
        elif word.startswith("-") or arguments.mountpoint is not None:
            os.write(2, _USAGE.encode())
            raise Ends(1)
        else:
            arguments.mountpoint = word
    return arguments


class Ltfs:
    """One run of the program."""

    def __init__(self, arguments: Arguments, directory: str | None, reporter: Reporter) -> None:
        """Take the command line and the launcher's library."""
        self._arguments = arguments
        self._options = arguments.options
        self._directory = directory
        self._reporter = reporter
        self._ready: Callable[[], None] = lambda: None

    def run(self) -> int:
        """Do what was asked; returns the exit status. Raises :class:`Ends`."""
        say, options = self._reporter.say, self._options
        if self._arguments.version:
            self._reporter.raw(
                f"LTFS version {SOFTWARE_VERSION}.\nLTFS Format Specification version {FORMAT_VERSION}.\n"
            )
            return 0
        say("14000I", version=SOFTWARE_VERSION)
        say("14058I", format=FORMAT_VERSION)
        if "device_list" in options:
            return self._list_devices()
        if "devname" not in options:
            self._reporter.raw(_USAGE)
            raise Ends(1)
        if "release_device" in options:
            return self._release()
        self._check_sync_type()
        if not self._arguments.foreground:
            self._go_to_background()
        say("14095I")
        station = self._open()
        try:
            return self._mount(station)
        finally:
            station.lock_cartridge(False)
            station.close()

    def _open(self) -> Station:
        device = self._options["devname"]
        try:
            return open_station(device, self._directory, self._reporter)
        except CannotOpen:
            self._reporter.say("10004E", device=device)
            raise Ends(1) from None

    def _check_sync_type(self) -> None:
        kind, _, minutes = self._options.get("sync_type", "time@5").partition("@")
        if kind not in ("time", "close", "unmount"):
            self._reporter.say("14061E", type=self._options["sync_type"])
            raise Ends(1)
        if kind == "time":
            self._reporter.say("14064I", type="time", seconds=60 * int(minutes or 5))
        else:
            self._reporter.say("14063I", type=kind)

    def _mount(self, station: Station) -> int:
        say = self._reporter.say
        try:
            cartridge = load_cartridge(station, self._reporter)
        except NotReady:
            say("14075E")
            raise Ends(1) from None
        say("17157I")
        say("11005I")
        fault = self._meet(station)
        try:
            mountable = self._readable(cartridge, fault)
        except NoVolume:
            say("14013E")
            raise Ends(1) from None
        self._check_mountpoint()
        say("17227I", vendor="IBM")
        say("17228I", name=(cartridge.memory.volume or {}).get("name", ""), barcode=cartridge.barcode[:6])
        if cartridge.memory.files_form:
            self._serve_directory(
                station,
                cartridge,
                "the volume was formatted for it" if fuse_available()[0] else fuse_available()[1],
            )
        else:
            self._serve(station, cartridge, mountable)
        if "eject" in self._options:
            say("11289I")
            station.eject(self._reporter)
            say("11291I")
        return 0

    def _readable(self, cartridge: Cartridge, fault: Fault | None) -> Mountable:
        if fault is not None:
            self._reporter.say("12045E", code=-20301)
            raise NoVolume("fault")
        rollback = self._options.get("rollback_mount")
        mountable = read_volume(cartridge, self._reporter, rollback=int(rollback) if rollback else None)
        if not cartridge.memory.files_form and not fuse_available()[0]:
            self._reporter.raw(
                f"coldstore-vtl: {cartridge.barcode} was formatted with FUSE, and FUSE is not here: {fuse_available()[1]}\n"
            )
            raise NoVolume("form")
        if mountable.restore_a and not cartridge.memory.write_protected:
            write_index_on(cartridge, "a", mountable.index)
        return mountable

    def _check_mountpoint(self) -> None:
        say, raw, mountpoint = self._reporter.say, self._reporter.raw, self._arguments.mountpoint
        if mountpoint is None:
            say("14094E", code=0)
            raise Ends(1)
        try:
            names = os.listdir(mountpoint)
        except (FileNotFoundError, NotADirectoryError) as error:
            raw(f"fuse: bad mount point `{mountpoint}': {error.strerror}\n")
            say("14094E", code=-1)
            raise Ends(1) from None
        except OSError as error:
            raw(f"fuse: failed to access mountpoint {mountpoint}: {error.strerror}\n")
            say("14123W", code=1)
            raise Ends(0) from None
        if names and "nonempty" not in self._options:
            raw(
                "fuse: mountpoint is not empty\nfuse: if you are sure this is safe, use the 'nonempty' mount option\n"
            )
            say("14123W", code=1)
            raise Ends(0)
        if self._arguments.unknown is not None:
            raw(f"fuse: unknown option `{self._arguments.unknown}'\n")
            say("14123W", code=1)
            raise Ends(0)

    def _volume(self, station: Station, cartridge: Cartridge, mountable: Mountable) -> Volume:
        say, options = self._reporter.say, self._options
        protected = cartridge.memory.write_protected
        volume = Volume(
            library=station.library,
            drive=station.drive,
            cartridge=cartridge,
            index=mountable.index,
            reporter=self._reporter,
            read_only=mountable.read_only or protected or "ro" in options,
            policy=parse_rules(options["rules"]) if options.get("rules") else None,
            pool_bytes=int(options.get("max_pool_size") or 50) * 1024**2,
        )
        blocks = {letter: position[1] for letter, position in cartridge.memory.coherency.items()}
        say(
            "11031I",
            serial=volume.serial,
            generation=volume.index.generation,
            a_block=blocks.get("a", 0),
            b_block=blocks.get("b", 0),
            drive=station.drive.serial,
        )
        if "rollback_mount" in options:
            say("14072I")
        elif mountable.read_only or protected:
            say("14019I")
        elif volume.full:
            say("14071I")
        for code in ("14111I", "14112I", "14113I"):
            say(code)
        return volume

    def _serve(self, station: Station, cartridge: Cartridge, mountable: Mountable) -> None:
        from coldstore.vtl.fusefs import Files, serve

        options, mountpoint = self._options, self._arguments.mountpoint
        assert mountpoint is not None
        volume = self._volume(station, cartridge, mountable)

        def mounted() -> None:
            self._reporter.say("14029I")
            self._ready()

        _set_handlers(signal.SIG_DFL)  # libfuse puts its own where it finds the default
        umask = int(options.get("umask") or "0", 8)
        files = Files(
            volume,
            uid=int(options.get("uid") or os.geteuid()),
            gid=int(options.get("gid") or os.getegid()),
            file_mask=int(options["fmask"], 8) if options.get("fmask") else umask,
            directory_mask=int(options["dmask"], 8) if options.get("dmask") else umask,
            mounted=mounted,
        )
        fuse_options: dict[str, Any] = {
            "default_permissions": True,
            "direct_io": "direct_io" in options,
            "ro": volume.read_only,
        }
        if os.geteuid() == 0 or "allow_other" in options:
            fuse_options["allow_other"] = True
        fuse_options["auto_unmount"] = "auto_unmount" in options
        if not serve(
            files, os.path.abspath(mountpoint), source=f"ltfs:{options['devname']}", options=fuse_options
        ):
            self._reporter.say("14123W", code=1)
        volume.unmount()

    def _serve_directory(self, station: Station, cartridge: Cartridge, why: str) -> None:
        from coldstore.vtl.plain import PlainVolume

        assert self._arguments.mountpoint is not None
        volume = PlainVolume(station, cartridge, self._reporter, os.path.abspath(self._arguments.mountpoint))
        self._reporter.say("00001W", why=why)
        volume.serve(self._ready)

    def _meet(self, station: Station) -> Fault | None:
        faults = Faults(station.library.directory)
        drive = station.drive
        for at in ("start", "mount"):
            fault = faults.take(Moment(program="ltfs", at=at, barcode=drive.barcode, drive=drive.number))
            if fault is None or faults.endure(fault):
                continue
            if fault.name == "exit":
                self._reporter.raw(fault.text or "")
                raise Ends(1 if fault.exit is None else fault.exit)
            if fault.name == "garbage":
                sys.stdout.write(fault.text or "\x00\x7f?? garbled line\n")
                sys.stdout.flush()
                raise Ends(fault.exit or 0)
            return fault
        return None

    def _list_devices(self) -> int:
        """List the drives that nobody uses. Exit 1, with drives and without."""
        from coldstore.vtl.devices import is_generic_node_taken

        self._reporter.raw("Tape Device list:.\n")
        if self._directory is not None:
            library = Library(self._directory)
            product = library.generation().product
            for drive in library.elements().drives:
                if not is_generic_node_taken(library, drive):
                    self._reporter.raw(
                        f"Device Name = {library.node(drive.sg)} (8.0.{drive.number}.0), Vendor ID = IBM     , Product ID = {product:<16},"
                        f" Serial Number = {drive.serial}, Product Name =[{product}].\n"
                    )
        return 1

    def _release(self) -> int:
        """Unlock and unload the drive."""
        station = self._open()
        station.eject(self._reporter)
        station.close()
        return 0

    def _go_to_background(self) -> None:
        """Fork; the parent exits 0 when the volume is mounted, 1 when it failed before."""
        readable, writable = os.pipe()
        child = os.fork()
        if child:
            os.close(writable)
            os._exit(0 if os.read(readable, 1) else 1)
        os.close(readable)
        os.setsid()

        def ready() -> None:
            null = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(null, descriptor)
            os.close(null)
            self._reporter.muted = True
            os.write(writable, b"1")
            os.close(writable)

        self._ready = ready


class Interrupted(Exception):
    """A signal came before the volume was mounted."""


def _interrupt(number: int, frame: object) -> None:
    raise Interrupted(number)


def _set_handlers(handler: Callable[[int, Any], None] | signal.Handlers) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, handler)


def main(words: list[str], directory: str | None = None) -> int:
    """Run ``ltfs``; returns its exit status."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # as in C; libfuse ignores it while mounted
    with open("/proc/self/comm", "w", encoding="ascii") as comm:
        comm.write("ltfs")
    reporter = Reporter(with_thread=True)
    _set_handlers(_interrupt)
    try:
        if not os.environ.get("LANG"):
            reporter.raw(
                "LTFS9015W Setting the locale to 'en_US.UTF-8'. If LTFS fails to start, set the LANG environment variable.\n"
            )
        return Ltfs(read_arguments(words), directory, reporter).run()
    except Ends as end:
        return end.status
    except Interrupted:
        reporter.say("17159I")
        reporter.say("14013E")
        return 1
