"""
The program ``mt`` (texts and exit statuses of mt-st 1.7 on the kernel's ``st`` driver).

Exit 0; 1 for usage or a device that cannot be opened; 2 when the operation failed. Text is ``DEV: strerror`` on stderr. Commands that open
blocking wait for a drive that is not ready, as the kernel does: up to 120 s (``COLDSTORE_VTL_READY_SECONDS`` shortens that for tests).
"""

import errno
import os
import sys
import time
from collections.abc import Callable

from coldstore.vtl.devices import displaced_marker, is_generic_node_taken, tape_node
from coldstore.vtl.faults import Fault, Faults, Moment
from coldstore.vtl.latency import charge
from coldstore.vtl.library import Drive, Library, library_of_node
from coldstore.vtl.medium import Cartridge, Layout

_COMMANDS = str.split(
    "weof wset eof fsf fsfm bsf bsfm fsr bsr fss bss rewind offline rewoffl eject retension eod seod seek tell status erase setblk lock"
    " unlock load compression setdensity drvbuffer stwrthreshold stoptions stsetoptions stclearoptions defblksize defdensity defdrvbuffer"
    " defcompression stsetcln sttimeout stlongtimeout densities setpartition mkpartition partseek asf stshowoptions"
)

_USAGE = """usage: mt [-v] [--version] [-h] [ -f device ] command [ count ]
default tape device: /dev/tape
commands: weof, wset, eof, fsf, fsfm, bsf, bsfm, fsr, bsr, fss, bss, rewind, 
          offline, rewoffl, eject, retension, eod, seod, seek, tell, status, 
          erase, setblk, lock, unlock, load, compression, setdensity, 
          drvbuffer, stwrthreshold, stoptions, stsetoptions, stclearoptions, 
          defblksize, defdensity, defdrvbuffer, defcompression, stsetcln, 
          sttimeout, stlongtimeout, densities, setpartition, mkpartition, 
          partseek, asf, stshowoptions.
"""  # noqa: W291 - the program prints these blanks

_NOT_BLOCKING = frozenset(
    str.split(
        "status setblk load compression setdensity drvbuffer stwrthreshold stoptions stsetoptions stclearoptions stshowoptions"
        " defblksize defdensity defdrvbuffer defcompression stsetcln sttimeout stlongtimeout"
    )
)
"""These open with O_NONBLOCK and never wait for the drive."""

_WRITING = frozenset({"weof", "eof", "wset", "erase"})

_FLAGS: tuple[tuple[int, str], ...] = (
    (0x80000000, "EOF"),
    (0x40000000, "BOT"),
    (0x08000000, "EOD"),
    (0x04000000, "WR_PROT"),
    (0x01000000, "ONLINE"),
    (0x00040000, "DR_OPEN"),
    (0x00010000, "IM_REP_EN"),
)
"""General status bits in print order (mtio.h)."""


class Failed(Exception):
    """The program ends: exit status, and what stderr says."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


def status_text(
    drive: Drive, layout: "Layout | None", *, density: int, density_name: str, write_protected: bool
) -> str:
    """Return what ``mt status`` prints for a drive; ``layout`` is None when no readable tape stands at its heads."""
    if drive.state in ("empty", "unloading", "unloaded"):
        file, block, bits, density, name = -1, -1, 0x50000, 0, "default"
    elif layout is None:
        file, block, bits, density, name = -1, -1, 0x10000, 0, "default"
    else:
        file, block, name = drive.file, drive.block, density_name
        bits = 0x01010000 | (0x04000000 if write_protected else 0)
        if (file, block) == (0, 0):
            bits |= 0x40000000
        elif block == 0:
            bits |= 0x80000000
        elif file >= 0 and drive.logical == layout.end:
            bits |= 0x08000000
    flags = " ".join(text for bit, text in _FLAGS if bits & bit)
    return (
        "SCSI 2 tape drive:\n"
        f"File number={file}, block number={block}, partition={drive.partition}.\n"
        f"Tape block size {drive.block_size} bytes. Density code 0x{density:x} ({name}).\n"
        "Soft error count since last status=0\n"
        f"General status bits on ({bits:x}):\n {flags}\n"
    )


class Mt:
    """One command on one drive, whose node is open."""

    def __init__(self, library: Library, device: str, number: int) -> None:
        """Serve a drive by its number."""
        self._library = library
        self._device = device
        self._number = number
        self._latency = library.latency()
        self._faults = Faults(library.directory)

    def run(self, command: str, arguments: list[str]) -> None:
        """Carry out a command. Raises :class:`Failed`."""
        self._meet("start")
        if command not in _NOT_BLOCKING:
            self._wait_until_ready()
        drive = self._drive()
        if command in _WRITING and drive.barcode and self._cartridge(drive).memory.write_protected:
            raise self._failed(errno.EROFS, 1)
        action = self._actions().get(command)
        if action is None:
            self._set_option(command, arguments)
        else:
            action(self._count(arguments))

    def _actions(self) -> dict[str, Callable[[int], None]]:
        return {
            "status": self._status,
            "offline": self._offline,
            "rewoffl": self._offline,
            "eject": self._offline,
            "rewind": self._rewind,
            "retension": self._rewind,
            "load": self._load,
            "tell": self._tell,
            "eod": self._to_end,
            "seod": self._to_end,
            "seek": self._seek,
            "asf": self._to_file,
            "fsf": lambda count: self._space_files(count),
            "fsfm": lambda count: self._space_files(count),
            "bsf": lambda count: self._space_files(-count),
            "bsfm": lambda count: self._space_files(-count),
            "fsr": lambda count: self._space_records(count),
            "bsr": lambda count: self._space_records(-count),
            "weof": self._write_filemarks,
            "eof": self._write_filemarks,
            "wset": lambda _: None,
            "erase": self._erase,
            "lock": lambda _: self._lock(True),
            "unlock": lambda _: self._lock(False),
            "setblk": self._set_block_size,
            "setpartition": self._set_partition,
            "stshowoptions": self._show_options,
        }

    # -- looking ------------------------------------------------------------------------------------------------------

    def _status(self, _: int) -> None:
        fault = self._meet("status")
        drive = self._drive()
        cartridge = self._cartridge(drive) if drive.barcode else None
        generation = self._library.generation()
        readable = cartridge is not None and drive.state == "ready" and not cartridge.memory.cleaning
        if fault is not None and fault.name == "never-ready":
            readable, drive.state = False, "loading"
        if not readable:
            drive.file = drive.block = -1
        sys.stdout.write(
            status_text(
                drive,
                cartridge.layout(drive.partition) if cartridge is not None and readable else None,
                density=generation.density,
                density_name=generation.density_name,
                write_protected=cartridge is not None and cartridge.memory.write_protected,
            )
        )

    def _tell(self, _: int) -> None:
        sys.stdout.write(f"At block {self._drive().logical}.\n")

    def _show_options(self, _: int) -> None:
        sys.stdout.write(f"The options set: {' '.join(self._drive().options)}\n")

    # -- the cartridge in the drive -----------------------------------------------------------------------------------

    def _offline(self, _: int) -> None:
        fault = self._meet("offline")
        drive = self._drive()
        if (fault is not None and fault.name == "eio") or drive.locked:
            raise self._failed(errno.EIO, 2)
        seconds = self._latency.seconds("unload") + self._latency.seconds("rewind")
        with self._library.changing() as elements:
            changed = elements.drives[self._number]
            changed.state = "unloading"
            changed.until = time.time() + seconds
            changed.rewound()
        charge(seconds)

    def _load(self, _: int) -> None:
        fault = self._meet("load")
        drive = self._drive()
        if fault is not None and fault.name == "eio":
            raise self._failed(errno.EIO, 2)
        if not drive.barcode:
            raise self._failed(errno.ENOMEDIUM, 2)
        if drive.state == "ready":
            return
        seconds = self._latency.seconds("load")
        with self._library.changing() as elements:
            changed = elements.drives[self._number]
            changed.state = "loading"
            changed.until = time.time() + seconds
        charge(seconds)
        with self._library.changing() as elements:
            changed = elements.drives[self._number]
            changed.file = changed.block = -1

    def _lock(self, locked: bool) -> None:
        with self._library.changing() as elements:
            elements.drives[self._number].locked = locked

    # -- moving the tape ----------------------------------------------------------------------------------------------

    def _rewind(self, _: int) -> None:
        fault = self._meet("rewind")
        if fault is not None and fault.name == "eio":
            raise self._failed(errno.EIO, 2)
        if self._drive().logical:
            charge(self._latency.seconds("rewind"))
        self._stand(0)

    def _to_end(self, _: int) -> None:
        layout = self._layout()
        self._stand(layout.end)

    def _seek(self, block: int) -> None:
        if block > self._layout().end:
            raise self._failed(errno.EIO, 2)
        self._stand(block, counted=False)

    def _to_file(self, file: int) -> None:
        self._stand(0)
        if file:
            self._space_files(file)

    def _space_files(self, count: int) -> None:
        drive, layout = self._drive(), self._layout()
        if count >= 0:
            ahead = [mark for mark in layout.filemarks if mark >= drive.logical]
            if len(ahead) < count:
                self._stand(layout.end)
                raise self._failed(errno.EIO, 2)
            self._stand(ahead[count - 1] + 1 if count else drive.logical)
            return
        behind = [mark for mark in layout.filemarks if mark < drive.logical]
        if len(behind) < -count:
            self._stand(0)
            raise self._failed(errno.EIO, 2)
        self._stand(behind[count], before_filemark=True)

    def _space_records(self, count: int) -> None:
        drive, layout = self._drive(), self._layout()
        step = (
            range(drive.logical, drive.logical + count)
            if count >= 0
            else range(drive.logical - 1, drive.logical + count - 1, -1)
        )
        for block in step:
            if not 0 <= block < layout.end:
                raise self._failed(errno.EIO, 2)
            if block in layout.filemarks:
                self._stand(block + 1 if count > 0 else block, before_filemark=count < 0)
                raise self._failed(errno.EIO, 2)
        self._stand(drive.logical + count)

    def _stand(self, logical: int, *, counted: bool = True, before_filemark: bool = False) -> None:
        """Record the position; a locate that the driver did not count itself leaves file and block unknown."""
        layout = self._layout()
        charge(self._latency.locate_seconds(logical - self._drive().logical, layout.end))
        with self._library.changing() as elements:
            drive = elements.drives[self._number]
            drive.logical = logical
            file = sum(mark < logical for mark in layout.filemarks)
            start = max((mark + 1 for mark in layout.filemarks if mark < logical), default=0)
            drive.file = file if counted else -1
            drive.block = logical - start if counted else -1
            if before_filemark or (counted and logical == layout.end and logical != start):
                drive.block = -1
            if counted and logical == layout.end and layout.end and not before_filemark:
                drive.block = -1
        self._displaced()

    def _set_partition(self, number: int) -> None:
        if number > 1:
            raise self._failed(errno.EINVAL, 2)
        with self._library.changing() as elements:
            elements.drives[self._number].rewound()
            elements.drives[self._number].partition = number
        self._displaced()

    def _write_filemarks(self, count: int) -> None:
        if not count:
            return
        drive = self._drive()
        self._cartridge(drive).write_filemarks(drive.partition, drive.logical, count)
        self._stand(drive.logical + count)
        with self._library.changing() as elements:
            elements.drives[self._number].block = 0

    def _erase(self, _: int) -> None:
        drive = self._drive()
        self._cartridge(drive).write_filemarks(drive.partition, drive.logical, 0)
        self._displaced()

    def _displaced(self) -> None:
        """Note that the tape was moved while LTFS has the drive through ``sg``: it does not notice, and writes where the tape stands."""
        drive = self._drive()
        if is_generic_node_taken(self._library, drive):
            with open(displaced_marker(self._library, drive), "a"):
                pass

    # -- settings -----------------------------------------------------------------------------------------------------

    def _set_block_size(self, size: int) -> None:
        drive = self._drive()
        if not drive.barcode:
            raise self._failed(errno.ENOMEDIUM, 2)
        with self._library.changing() as elements:
            elements.drives[self._number].block_size = size

    def _set_option(self, command: str, arguments: list[str]) -> None:
        if command not in ("stsetoptions", "stclearoptions"):
            return
        with self._library.changing() as elements:
            drive = elements.drives[self._number]
            kept = [option for option in drive.options if option not in arguments]
            drive.options = kept if command == "stclearoptions" else kept + arguments

    # -- helpers ------------------------------------------------------------------------------------------------------

    @staticmethod
    def _count(arguments: list[str]) -> int:
        try:
            return int(arguments[0], 0) if arguments else 1
        except ValueError:
            raise Failed(f"mt: illegal count '{arguments[0]}'\n", 3) from None

    def _drive(self) -> Drive:
        return self._library.elements().drives[self._number]

    def _cartridge(self, drive: Drive) -> Cartridge:
        if drive.barcode is None:
            raise self._failed(errno.ENOMEDIUM, 2)
        return Cartridge(self._library.cartridge_directory(drive.barcode))

    def _layout(self) -> Layout:
        drive = self._drive()
        return self._cartridge(drive).layout(drive.partition)

    def _wait_until_ready(self) -> None:
        end = time.monotonic() + float(os.environ.get("COLDSTORE_VTL_READY_SECONDS", "120"))
        while (drive := self._drive()).state != "ready" or self._cartridge(drive).memory.cleaning:
            if time.monotonic() >= end:
                raise self._failed(errno.ENOMEDIUM, 1)
            time.sleep(0.05)

    def _failed(self, code: int, status: int) -> Failed:
        return Failed(f"{self._device}: {os.strerror(code)}\n", status)

    def _meet(self, at: str) -> Fault | None:
        drive = self._drive()
        fault = self._faults.take(Moment(program="mt", at=at, barcode=drive.barcode, drive=drive.number))
        if fault is None or self._faults.endure(fault):
            return None
        if fault.name == "exit":
            raise Failed(
                fault.text or f"{self._device}: {os.strerror(errno.EIO)}\n",
                2 if fault.exit is None else fault.exit,
            )
        if fault.name == "garbage":
            sys.stdout.write(fault.text or "\x00\x7f?? garbled line\n")
            raise Failed("", fault.exit or 0)
        return fault


def _command_named(word: str) -> str:
    """Return the command of an unambiguous abbreviation."""
    if word in _COMMANDS:
        return word
    fitting = [command for command in _COMMANDS if command.startswith(word)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise Failed(f'mt: ambiguous command "{word}"\n' + _USAGE, 1)
    raise Failed(f'mt: unknown command "{word}"\n' + _USAGE, 1)


def _run(arguments: list[str]) -> None:
    if arguments and arguments[0] in ("-v", "--version"):
        sys.stdout.write("mt-st v. 1.7\ndefault tape device: /dev/tape\n")
        return
    if arguments and arguments[0] == "-h":
        sys.stdout.write(_USAGE)
        return
    device = os.environ.get("TAPE", "")
    if len(arguments) > 1 and arguments[0] in ("-f", "-t"):
        device, arguments = arguments[1], arguments[2:]
    if not device:
        raise Failed("The default '/dev/tape' is not a character device.\n\n" + _USAGE, 1)
    if not arguments:
        raise Failed(_USAGE, 1)
    command = _command_named(arguments[0])
    if command == "densities":
        raise Failed("mt: the density table is not kept here\n", 1)
    library = library_of_node(device)
    drive = library.drive_of_node(device) if library is not None else None
    try:
        os.close(os.open(device, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
        if (
            library is None
            or drive is None
            or not os.path.basename(os.path.realpath(device)).startswith("nst")
        ):
            raise Failed(f"{device}: {os.strerror(errno.ENOTTY)}\n", 2)
        with tape_node(library, drive, device):
            Mt(library, device, drive.number).run(command, arguments[1:])
    except BlockingIOError:  # the node is leased by another mt
        raise Failed(f"{device}: {os.strerror(errno.EBUSY)}\n", 1) from None
    except OSError as error:
        if error.errno == errno.EBUSY or error.filename == device:
            raise Failed(f"{device}: {error.strerror}\n", 1) from None
        raise


def main(arguments: list[str], directory: str | None = None) -> int:
    """Run ``mt``; returns its exit status. ``directory`` is the launcher's library, not needed: the device says it."""
    try:
        _run(arguments)
    except Failed as failed:
        sys.stdout.flush()
        sys.stderr.write(str(failed))
        return failed.status
    return 0
