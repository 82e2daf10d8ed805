"""
The program ``mtx`` (texts and exit statuses of mtx 1.3.12 on a SCSI library; every error exits 1, ``eject`` exits 0).

Commands on one line run one after the other. ``-f`` must come first; without it $CHANGER, then $TAPE, then /dev/changer.
"""

import os
import sys
from collections.abc import Callable

from coldstore.vtl.faults import Fault, Faults, Moment
from coldstore.vtl.library import Drive, Elements, Library, library_of_node
from coldstore.vtl.moves import MoveRefused, Robot, drive_address, free_slot, full_slot
from coldstore.vtl.sense import sense_block

_USAGE = """Usage:
\tmtx --version
\tmtx [ -f <loader-dev> ] noattach <more commands>
\tmtx [ -f <loader-dev> ] inquiry | inventory \n\tmtx [ -f <loader-dev> ] [altres] [nobarcode] status
\tmtx [ -f <loader-dev> ] [altres] first [<drive#>]
\tmtx [ -f <loader-dev> ] [altres] last [<drive#>]
\tmtx [ -f <loader-dev> ] [altres] previous [<drive#>]
\tmtx [ -f <loader-dev> ] [altres] next [<drive#>]
\tmtx [ -f <loader-dev> ] [altres] [invert] load <storage-element-number> [<drive#>]
\tmtx [ -f <loader-dev> ] [altres] [invert] unload [<storage-element-number>][<drive#>]
\tmtx [ -f <loader-dev> ] [altres] [eepos eepos-number] transfer <storage-element-number> <storage-element-number>
\tmtx [ -f <loader-dev> ] [altres] [eepos eepos-number][invert][invert2] exchange <storage-element-number> <storage-element-number>
\tmtx [ -f <loader-dev> ] [altres] position <storage-element-number>
\tmtx [ -f <loader-dev> ] eject
"""

_TAG_WIDTH = 32
"""Volume tags come blank-padded to this width."""


class Failed(Exception):
    """The program ends: exit status, and what stderr says."""

    def __init__(self, text: str, status: int = 1) -> None:
        super().__init__(text)
        self.status = status


def _out(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


class Mtx:
    """One run of the program on one changer."""

    def __init__(self, library: Library, device: str) -> None:
        """Open a changer by the device path that was given, which ``status`` prints."""
        self._library = library
        self._device = device
        self._robot = Robot(library)
        self._faults = Faults(library.directory)
        self._with_barcodes = True

    def run(self, words: list[str]) -> None:
        """Carry out the commands of one line, in order. Raises :class:`Failed`; what came before was done."""
        self._meet("start")
        rest = words
        while rest:
            word, *rest = rest
            command = self._commands().get(word)
            if command is None:
                raise Failed(_USAGE)
            arguments: list[str] = []
            while rest and rest[0].isdigit():
                arguments.append(rest.pop(0))
            command(arguments)

    def _commands(self) -> dict[str, Callable[[list[str]], None]]:
        return {
            "status": self._status,
            "load": self._load,
            "unload": self._unload,
            "transfer": self._transfer,
            "exchange": self._exchange,
            "inventory": self._inventory,
            "inquiry": self._inquiry,
            "position": lambda _: None,
            "first": self._first,
            "last": self._last,
            "next": self._following,
            "previous": self._preceding,
            "eject": self._eject,
            "nobarcode": self._nobarcode,
            "altres": self._altres,
            "noattach": lambda _: None,
            "invert": lambda _: None,
            "invert2": lambda _: None,
        }

    # -- looking ------------------------------------------------------------------------------------------------------

    def _inquiry(self, _: list[str]) -> None:
        _out(
            "Product Type: Medium Changer\nVendor ID: 'IBM     '\nProduct ID: '3573-TL         '\n"
            "Revision: 'D.00'\nAttached Changer API: No\n"
        )

    def _nobarcode(self, _: list[str]) -> None:
        self._with_barcodes = False

    def _altres(self, _: list[str]) -> None:
        raise Failed("no Data Transfer Element reported\n")

    def _inventory(self, _: list[str]) -> None:
        fault = self._meet("inventory")
        if fault is not None:
            raise Failed(
                sense_block(*fault.sense_code)
                + "Initialize Element Status (0x07) failed\nmtx:inventory failed\n"
            )
        self._robot.wait_until_idle()

    def _eject(self, _: list[str]) -> None:
        raise Failed(sense_block(0x5, 0x20, 0x00) + "Eject (0x1B) failed\nmtx:eject failed\n", status=0)

    def _status(self, _: list[str]) -> None:
        elements = self._robot.wait_until_idle()
        fault = self._meet("status")
        if fault is not None and fault.name == "sense":
            raise Failed(sense_block(*fault.sense_code) + "READ ELEMENT STATUS Command Failed\n")
        kind = fault.name if fault else ""
        hidden = fault.barcode if fault is not None and kind == "vanish-barcode" else None
        with_tags = self._with_barcodes and kind != "vanish-barcodes"
        lines = [
            f"  Storage Changer {self._device}:{len(elements.drives)} Drives, {len(elements.slots)} Slots"
            f" ( {elements.mail_count} Import/Export )"
        ]
        lines += [self._drive_line(drive, with_tags, hidden) for drive in elements.drives]
        for slot, barcode in elements.slots.items():
            mail = elements.is_mail(slot)
            shown = "" if barcode == hidden else barcode or ""
            tag = f":VolumeTag={shown:<{_TAG_WIDTH}}" if (with_tags or (mail and self._with_barcodes)) else ""
            if barcode and barcode == hidden:
                tag = ""
            lines.append(
                f"      Storage Element {slot}{' IMPORT/EXPORT' if mail else ''}:{'Full ' if barcode else 'Empty'}{tag}"
            )
        _out("\n".join(lines) + "\n")

    @staticmethod
    def _drive_line(drive: Drive, with_tags: bool, hidden: str | None) -> str:
        if not drive.barcode:
            return f"Data Transfer Element {drive.number}:Empty"
        source = (
            "Unknown Storage Element Loaded"
            if drive.source is None
            else f"Storage Element {drive.source} Loaded"
        )
        tag = f":VolumeTag = {drive.barcode:<{_TAG_WIDTH}}" if with_tags and drive.barcode != hidden else ""
        return f"Data Transfer Element {drive.number}:Full ({source}){tag}"

    # -- moving -------------------------------------------------------------------------------------------------------

    def _load(self, arguments: list[str]) -> None:
        if not arguments or int(arguments[0]) == 0:
            raise Failed("No source specified\n")
        elements = self._robot.wait_until_idle()
        slot = int(arguments[0])
        drive = self._drive(elements, arguments[1] if len(arguments) > 1 else "0", "load")
        if slot not in elements.slots:
            raise Failed(f"Invalid <storage-element-number> argument '{slot}' to 'load' command\n")
        if drive.barcode:
            where = "Unknown Storage Element" if drive.source is None else f"Storage Element {drive.source}"
            raise Failed(f"Drive {drive.number} Full ({where} loaded)\n")
        _out(f"Loading media from Storage Element {slot} into drive {drive.number}...")
        self._carry(
            "load", elements.address_of(slot), drive_address(drive.number), elements.slots[slot], drive.number
        )
        _out("done\n")

    def _unload(self, arguments: list[str]) -> None:
        elements = self._robot.wait_until_idle()
        drive = self._drive(elements, arguments[1] if len(arguments) > 1 else "0", "unload")
        if arguments and int(arguments[0]) not in elements.slots:
            raise Failed(f"illegal <storage-element-number> argument '{arguments[0]}' to 'unload' command\n")
        if not drive.barcode:
            raise Failed(f"Data Transfer Element {drive.number} is Empty\n")
        slot = int(arguments[0]) if arguments else self._home(elements, drive)
        if elements.slots[slot]:
            raise Failed(f"Storage Element {slot} is Already Full\n")
        _out(f"Unloading drive {drive.number} into Storage Element {slot}...")
        self._carry(
            "unload", drive_address(drive.number), elements.address_of(slot), drive.barcode, drive.number
        )
        _out("done\n")

    def _transfer(self, arguments: list[str]) -> None:
        if not arguments:
            raise Failed("No source specified\n")
        if len(arguments) < 2:
            raise Failed("No destination specified\n")
        elements = self._robot.wait_until_idle()
        source, destination = int(arguments[0]), int(arguments[1])
        if source not in elements.slots:
            raise Failed("Invalid source\n")
        if destination not in elements.slots:
            raise Failed("Invalid destination\n")
        self._carry(
            "transfer",
            elements.address_of(source),
            elements.address_of(destination),
            elements.slots[source],
            None,
        )

    def _exchange(self, arguments: list[str]) -> None:
        if len(arguments) < 2:
            raise Failed("No destination specified\n")
        elements = self._robot.wait_until_idle()
        first, second = int(arguments[0]), int(arguments[1])
        third = int(arguments[2]) if len(arguments) > 2 else first
        if {first, second, third} - set(elements.slots):
            raise Failed("Invalid source\n")
        if not elements.slots[first]:
            raise Failed(f"Source Element Address {elements.address_of(first)} is Empty\n")
        with self._library.changing() as changed:
            changed.slots[first], moved = None, changed.slots[first]
            changed.slots[third], changed.slots[second] = changed.slots[second], moved

    def _first(self, arguments: list[str]) -> None:
        self._pick(arguments, lambda elements, _: full_slot(elements, 0))

    def _last(self, arguments: list[str]) -> None:
        self._pick(
            arguments, lambda elements, _: max((s for s, b in elements.slots.items() if b), default=None)
        )

    def _following(self, arguments: list[str]) -> None:
        self._pick(arguments, lambda elements, source: full_slot(elements, source))

    def _preceding(self, arguments: list[str]) -> None:
        self._pick(
            arguments,
            lambda elements, source: max(
                (s for s, b in elements.slots.items() if b and s < source), default=None
            ),
        )

    def _pick(self, arguments: list[str], choice: Callable[[Elements, int], int | None]) -> None:
        elements = self._robot.wait_until_idle()
        drive = self._drive(elements, arguments[0] if arguments else "0", "load")
        slot = choice(elements, drive.source or 0)
        if drive.barcode:
            self._unload([str(self._home(elements, drive)), str(drive.number)])
        if slot is None:
            raise Failed("No More Media\n")
        self._load([str(slot), str(drive.number)])

    @staticmethod
    def _drive(elements: Elements, number: str, command: str) -> Drive:
        if int(number) >= len(elements.drives):
            raise Failed(f"illegal <drive-number> argument '{number}' to '{command}' command\n")
        return elements.drives[int(number)]

    @staticmethod
    def _home(elements: Elements, drive: Drive) -> int:
        if drive.source is not None and not elements.slots[drive.source]:
            return drive.source
        slot = free_slot(elements, 0)
        if slot is None:
            raise Failed("No empty storage element\n")
        return slot

    def _carry(self, at: str, source: int, destination: int, barcode: str | None, drive: int | None) -> None:
        fault = self._meet(at, barcode, drive)
        kind = fault.name if fault else ""
        if fault is not None and kind == "sense":
            raise self._move_failed(MoveRefused(*fault.sense_code, source, destination))
        try:
            if fault is not None and kind == "lost":
                self._robot.lose(source)
                raise MoveRefused(*fault.sense_code, source, destination)
            if kind == "wrong-slot":
                source, destination = self._mistaken(source, destination)
            self._robot.move(source, destination)
            if at == "load" and drive is not None:
                self._count_load(drive)
            if fault is not None and kind == "sense-after":
                raise MoveRefused(*fault.sense_code, source, destination)
        except MoveRefused as refused:
            raise self._move_failed(refused) from None
        if fault is not None and kind == "hang-after":
            self._faults.endure(fault)

    def _count_load(self, number: int) -> None:
        """Count a load in the cartridge memory, as the drive does."""
        from coldstore.vtl.medium import Cartridge

        barcode = self._library.elements().drives[number].barcode
        if barcode:
            cartridge = Cartridge(self._library.cartridge_directory(barcode))
            cartridge.memory.loads += 1
            cartridge.remember()

    def _mistaken(self, source: int, destination: int) -> tuple[int, int]:
        elements = self._library.elements()
        if elements.drive_at(source) is None:
            slot = full_slot(elements, elements.slot_at(source))
            return (elements.address_of(slot) if slot else source), destination
        slot = free_slot(elements, elements.slot_at(destination))
        return source, (elements.address_of(slot) if slot else destination)

    @staticmethod
    def _move_failed(refused: MoveRefused) -> Failed:
        code = (refused.key, refused.code, refused.qualifier)
        sentences = {
            (0x5, 0x3B, 0x0E): f"Source Element Address {refused.source} is Empty\n",
            (0x5, 0x3B, 0x0D): f"Destination Element Address {refused.destination} is Already Full\n",
            (0x5, 0x3A, 0x00): "Drive needs offline before move\n",
            (0x5, 0x30, 0x03): "Cleaning Cartridge Installed and Ejected\n",
        }
        ending = f"MOVE MEDIUM from Element Address {refused.source} to {refused.destination} Failed\n"
        return Failed(sentences.get(code) or sense_block(*code) + ending)

    def _meet(self, at: str, barcode: str | None = None, drive: int | None = None) -> Fault | None:
        """Return the fault for the caller to act out; the kinds that need no caller are acted out here."""
        moment = Moment(program="mtx", at=at, barcode=barcode, drive=drive)
        if at == "status" and (fault := self._vanishing()) is not None:
            return fault
        fault = self._faults.take(moment)
        if fault is None or fault.name == "hang-after":
            return fault
        if self._faults.endure(fault):
            return None
        if fault.name == "exit":
            raise Failed(fault.text or "", 1 if fault.exit is None else fault.exit)
        if fault.name == "garbage":
            _out(fault.text or "\x00\x7f?? garbled line\n")
            raise Failed("", fault.exit or 0)
        return fault

    def _vanishing(self) -> Fault | None:
        """Return the fault of one unreadable label: it names the barcode that vanishes, not one that mtx was given."""
        for fault in self._faults.armed():
            if (fault.program, fault.at, fault.name) == ("mtx", "status", "vanish-barcode"):
                return self._faults.take(Moment(program="mtx", at="status", barcode=fault.barcode))
        return None


def _device(arguments: list[str]) -> tuple[str, list[str]]:
    if arguments and arguments[0] == "-f":
        if len(arguments) < 2:
            raise Failed(_USAGE)
        return arguments[1], arguments[2:]
    return os.environ.get("CHANGER") or os.environ.get("TAPE") or "/dev/changer", arguments


def _inquiry_of_drive(library: Library) -> None:
    product = library.generation().product
    _out(
        f"Product Type: Tape Drive\nVendor ID: 'IBM     '\nProduct ID: '{product:<16}'\n"
        "Revision: 'J4D1'\nAttached Changer API: No\n"
    )


def _run(arguments: list[str]) -> None:
    if not arguments:
        return
    if arguments[0] == "--version":
        raise Failed("mtx version 1.3.12\n\n" + _USAGE)
    device, words = _device(arguments)
    if not words:
        return
    try:
        os.close(os.open(device, os.O_RDONLY | os.O_NONBLOCK))
    except OSError as error:
        raise Failed(f"cannot open SCSI device '{device}' - {error.strerror}\n") from None
    library = library_of_node(device)
    if library is None:
        raise Failed(f"{device} is not an sg device, or old sg driver\n")
    if os.path.basename(os.path.realpath(device)) == "changer":
        Mtx(library, device).run(words)
    elif words == ["inquiry"]:
        _inquiry_of_drive(library)
    else:
        raise Failed(
            sense_block(0x5, 0x24, 0x00)
            + "Mode sense (0x1A) for Page 0x1D failed\n"
            + sense_block(0x5, 0x20, 0x00)
            + "READ ELEMENT STATUS Command Failed\n"
        )


def main(arguments: list[str], directory: str | None = None) -> int:
    """Run ``mtx``; returns its exit status. ``directory`` is the launcher's library, not needed: the device says it."""
    try:
        _run(arguments)
    except Failed as failed:
        sys.stdout.flush()
        sys.stderr.write(str(failed))
        return failed.status
    return 0
