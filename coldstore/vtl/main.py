"""The command ``coldstore-vtl``: make a virtual library, play its operator, break it."""

import argparse
import os
import sys
from dataclasses import asdict, fields
from datetime import UTC, datetime

from coldstore.vtl.faults import FAULT_KINDS, POINTS, PROGRAMS, Fault, Faults
from coldstore.vtl.latency import Latency
from coldstore.vtl.library import Library, LibrarySpec, create_library
from coldstore.vtl.medium import Cartridge, new_cartridge

_UNITS = {
    "": 1,
    "B": 1,
    "K": 1024,
    "KIB": 1024,
    "M": 1024**2,
    "MIB": 1024**2,
    "G": 1024**3,
    "GIB": 1024**3,
    "T": 1024**4,
    "TIB": 1024**4,
}
_UNITS |= {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


_NARROWING = ("barcode", "path", "drive", "count", "after", "after_bytes", "seconds")
"""Fields of faults that narrow an incident."""


class Refused(Exception):
    """What was asked cannot be; the text says why."""


def size_bytes(text: str) -> int:
    """Read ``2GiB``, ``300MB``, ``1048576``. Raises ``ValueError``."""
    number = text.rstrip("BbGgIiKkMmTt ")
    return int(float(number) * _UNITS[text[len(number) :].strip().upper()]) if number else int(text)


def _size(text: str) -> int:
    try:
        return size_bytes(text)
    except (KeyError, ValueError):
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write 2GiB, 300MB or bytes") from None


def _create(arguments: argparse.Namespace) -> None:
    spec = LibrarySpec(**{field.name: getattr(arguments, field.name) for field in fields(LibrarySpec)})
    try:
        library = create_library(arguments.directory, spec)
    except ValueError as error:
        raise Refused(str(error)) from None
    print(library.directory)


def _status(arguments: argparse.Namespace) -> None:
    library = _library(arguments)
    elements = library.elements()
    for drive in elements.drives:
        lock = ", locked" if drive.locked else ""
        print(
            f"drive {drive.number}  serial {drive.serial}  {library.node(drive.nst)}  {drive.barcode or '-'}  {drive.state}{lock}"
        )
    for barcode, where in sorted(elements.everywhere().items()):
        memory = Cartridge(library.cartridge_directory(barcode)).memory
        protected = ", write protected" if memory.write_protected else ""
        generation = memory.coherency.get("b", [0])[0]
        print(f"{barcode}  {where}  {memory.content}  generation {generation}{protected}")
    inside = set(elements.everywhere())
    for barcode in sorted(set(os.listdir(library.path("cartridges"))) - inside):
        print(f"{barcode}  outside")
    for fault in Faults(library.directory).armed():
        print(f"fault {fault.id}: {fault.program} at {fault.at}: {fault.kind}")


def _library(arguments: argparse.Namespace) -> Library:
    library = Library(arguments.directory)
    if not library.exists:
        raise Refused(
            f"{arguments.directory} holds no virtual library; make one with: coldstore-vtl create {arguments.directory}"
        )
    return library


def _cartridge(arguments: argparse.Namespace, *, at_rest: bool = True) -> Cartridge:
    library = _library(arguments)
    drive = next((drive for drive in library.elements().drives if drive.barcode == arguments.barcode), None)
    if at_rest and drive is not None and drive.locked:
        raise Refused(f"{arguments.barcode} is mounted in drive {drive.number}")
    try:
        return Cartridge(library.cartridge_directory(arguments.barcode))
    except FileNotFoundError:
        raise Refused(f"there is no cartridge {arguments.barcode}") from None


def _insert(arguments: argparse.Namespace) -> None:
    library = _library(arguments)
    with library.changing() as elements:
        if arguments.barcode in elements.everywhere():
            raise Refused(
                f"{arguments.barcode} is in the library: {elements.everywhere()[arguments.barcode]}"
            )
        mail = [slot for slot, barcode in elements.slots.items() if elements.is_mail(slot) and not barcode]
        if not mail:
            raise Refused("every mail slot is full")
        directory = library.cartridge_directory(arguments.barcode)
        if not os.path.exists(directory):
            settings = library.settings()
            cleaning = arguments.barcode.startswith("CLN")
            new_cartridge(
                directory, arguments.barcode, capacity_bytes=settings["capacity_bytes"], cleaning=cleaning
            )
        elements.slots[mail[0]] = arguments.barcode
    print(f"{arguments.barcode} lies in slot {mail[0]}")


def _take(arguments: argparse.Namespace) -> None:
    with _library(arguments).changing() as elements:
        slot = next((slot for slot, barcode in elements.slots.items() if barcode == arguments.barcode), None)
        if slot is None or not (elements.is_mail(slot) or arguments.anywhere):
            where = elements.everywhere().get(arguments.barcode, "nowhere in the library")
            raise Refused(f"{arguments.barcode} is not in a mail slot but {where}")
        elements.slots[slot] = None
    print(f"{arguments.barcode} was taken from slot {slot}")


def _blank(arguments: argparse.Namespace) -> None:
    cartridge = _cartridge(arguments)
    memory = cartridge.memory
    new_cartridge(
        cartridge.directory, memory.barcode, capacity_bytes=memory.capacity_bytes, cleaning=memory.cleaning
    )


def _foreign(arguments: argparse.Namespace) -> None:
    _blank(arguments)
    cartridge = _cartridge(arguments)
    for letter in "ab":
        with open(cartridge.data_path(letter), "wb") as stream:
            stream.write(b"FOREIGN DATA" * 87000)
    memory = cartridge.memory
    memory.content, memory.partitioned = "foreign", arguments.partitioned
    cartridge.remember()
    track = cartridge.raw_track(0, 0)
    for _ in range(2):
        track.append(b"FOREIGN DATA" * 853)
    track.append_filemark()
    track.close()


def _protect(arguments: argparse.Namespace) -> None:
    cartridge = _cartridge(arguments)
    cartridge.memory.write_protected = arguments.state == "on"
    cartridge.remember()


def _flip(arguments: argparse.Namespace) -> None:
    cartridge = _cartridge(arguments, at_rest=False)
    with open(cartridge.data_path(arguments.partition), "r+b", buffering=0) as stream:
        for offset in range(arguments.offset, arguments.offset + arguments.count):
            stream.seek(offset)
            byte = stream.read(1)
            if not byte:
                raise Refused(
                    f"partition {arguments.partition} of {arguments.barcode} ends before byte {offset}"
                )
            stream.seek(offset)
            stream.write(bytes([byte[0] ^ 0xFF]))


def _latency(arguments: argparse.Namespace) -> None:
    library = _library(arguments)
    given = {field.name: getattr(arguments, field.name) for field in fields(Latency)}
    changed = asdict(library.latency()) | {name: value for name, value in given.items() if value is not None}
    library.set_latency(Latency() if arguments.none else Latency(**changed))
    print("  ".join(f"{name} {value:g}" for name, value in asdict(library.latency()).items()))


def _fault_add(arguments: argparse.Namespace) -> None:
    faults = Faults(_library(arguments).directory)
    names = {field.name for field in fields(Fault)} - {"id", "tries"}
    given = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    used = {fault.id for fault in faults.armed()}
    number = next(n for n in range(1, len(used) + 2) if f"f{n:04d}" not in used)
    fault = Fault(id=arguments.id or f"f{number:04d}", **given)
    try:
        faults.add(fault)
    except ValueError as error:
        raise Refused(str(error)) from None
    print(fault.id)


def _fault_stage(arguments: argparse.Namespace) -> None:
    from coldstore.vtl.incidents import INCIDENTS

    faults = Faults(_library(arguments).directory)
    incident = INCIDENTS.get(arguments.name)
    if incident is None:
        raise Refused(f"there is no incident {arguments.name!r}; `coldstore-vtl fault incidents` lists them")
    if not incident.faults:
        raise Refused(f"{arguments.name} needs no fault, it comes about by: {incident.comes_by}")
    given = {name: getattr(arguments, name) for name in _NARROWING if getattr(arguments, name) is not None}
    for fault in incident.armed(arguments.name, **given):
        faults.add(fault)
        print(fault.id)


def _fault_incidents(arguments: argparse.Namespace) -> None:
    from coldstore.vtl.incidents import INCIDENTS

    for name, incident in INCIDENTS.items():
        comes_by = f" (by: {incident.comes_by})" if incident.comes_by else ""
        print(f"{name:28} {incident.about}: {incident.says}{comes_by}")


def _fault_list(arguments: argparse.Namespace) -> None:
    for fault in Faults(_library(arguments).directory).armed():
        told = {name: value for name, value in asdict(fault).items() if value is not None}
        print("  ".join(f"{name}={value}" for name, value in told.items()))


def _fault_clear(arguments: argparse.Namespace) -> None:
    print(Faults(_library(arguments).directory).clear(arguments.id))


def _fault_kinds(arguments: argparse.Namespace) -> None:
    for name, kind in FAULT_KINDS.items():
        print(f"{name:20} at {', '.join(kind.points):40} {kind.meaning}")


def _fsck(arguments: argparse.Namespace) -> None:
    """Compare library, drives and media; complain about what cannot be."""
    library = _library(arguments)
    elements = library.elements()
    complaints = []
    held = [barcode for barcode in elements.slots.values() if barcode] + [
        d.barcode for d in elements.drives if d.barcode
    ]
    complaints += [
        f"{barcode} is in two elements" for barcode in sorted({one for one in held if held.count(one) > 1})
    ]
    for barcode in sorted(set(held)):
        try:
            cartridge = Cartridge(library.cartridge_directory(barcode))
        except OSError as error:
            complaints.append(f"{barcode}: {error}")
            continue
        if cartridge.memory.content == "ltfs" and not cartridge.memory.files_form:
            from coldstore.vtl.mounting import look

            found = look(cartridge)
            if found.newest is None:
                complaints.append(f"{barcode}: no index can be read")
            elif not found.is_clean:
                complaints.append(f"{barcode}: was not closed cleanly")
            elif found.a is None or found.b is None:
                complaints.append(f"{barcode}: an index is damaged")
    for complaint in complaints:
        print(complaint)
    if complaints:
        raise Refused(f"{len(complaints)} complaints at {datetime.now(UTC):%Y-%m-%d %H:%M:%S}")
    print("consistent")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="coldstore-vtl", description="A tape library without hardware.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(
        name: str, action: object, help_text: str, *, barcode: bool = False
    ) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=help_text)
        made.set_defaults(action=action)
        made.add_argument("directory", metavar="DIR")
        if barcode:
            made.add_argument("barcode", metavar="BARCODE")
        return made

    create = command("create", _create, "make a library; one that is there is left alone")
    default = LibrarySpec()
    for name in ("drives", "slots", "mail_slots", "cartridges", "cleaning", "seed"):
        create.add_argument(
            f"--{name.replace('_', '-')}", type=int, default=getattr(default, name), metavar="N"
        )
    create.add_argument("--generation", default=default.generation)
    create.add_argument("--prefix", default=default.prefix)
    create.add_argument(
        "--capacity", dest="capacity_bytes", type=_size, default=default.capacity_bytes, metavar="SIZE"
    )
    create.add_argument(
        "--auto-unload",
        action="store_true",
        help="a move out of a drive unloads it first, as some libraries do",
    )
    create.add_argument("--directory-only", action="store_true", help="never use FUSE")

    command("status", _status, "show drives, cartridges and faults")
    command(
        "insert",
        _insert,
        "put a cartridge (a new one, or one that was taken) into the mail slot",
        barcode=True,
    )
    take = command("take", _take, "take a cartridge out of the mail slot", barcode=True)
    take.add_argument(
        "--anywhere", action="store_true", help="reach into a storage slot, behind the library's back"
    )
    command("blank", _blank, "make a cartridge as from the shop", barcode=True)
    foreign = command("foreign", _foreign, "put data on a cartridge that is no LTFS volume", barcode=True)
    foreign.add_argument("--partitioned", action="store_true", help="two partitions, without labels")
    command("protect", _protect, "move the write protect tab", barcode=True).add_argument(
        "state", choices=("on", "off")
    )
    flip = command("flip", _flip, "damage bytes on the medium, behind the file system", barcode=True)
    flip.add_argument("--partition", choices=("a", "b"), required=True)
    flip.add_argument("--offset", type=_size, required=True, metavar="BYTE")
    flip.add_argument("--count", type=int, default=1)
    latency = command("latency", _latency, "set model times in seconds (unscaled), and the scale")
    for field in fields(Latency):
        kind = _size if field.name == "bytes_per_second" else float
        latency.add_argument(
            f"--{field.name.replace('_', '-')}", type=kind, metavar="SECONDS" if kind is float else "SIZE"
        )
    latency.add_argument("--none", action="store_true", help="no model time at all")
    command("fsck", _fsck, "compare what the library, the drives and the media say")

    faults = commands.add_parser("fault", help="make programs fail").add_subparsers(
        required=True, metavar="ACTION"
    )
    add = faults.add_parser("add", help="arm a fault")
    add.set_defaults(action=_fault_add)
    add.add_argument("directory", metavar="DIR")
    add.add_argument("--program", choices=PROGRAMS, required=True)
    add.add_argument(
        "--at", choices=sorted({point for points in POINTS.values() for point in points}), required=True
    )
    add.add_argument(
        "--kind",
        required=True,
        help="see `fault kinds`; sense:K/ASC/ASCQ, errno:NAME and read-only:CODE carry what they say",
    )
    for name in ("id", "text", "sense"):
        add.add_argument(f"--{name}")
    for name in ("exit", "seed"):
        add.add_argument(f"--{name}", type=int)
    add.add_argument("--probability", type=float)
    stage = faults.add_parser("stage", help="arm the faults of an incident: a failure of a real library")
    stage.set_defaults(action=_fault_stage)
    stage.add_argument("directory", metavar="DIR")
    stage.add_argument("name", metavar="NAME", help="see `fault incidents`")
    faults.add_parser("incidents", help="list everything that can go wrong").set_defaults(
        action=_fault_incidents
    )
    for each in (add, stage):
        for name in ("barcode", "path"):
            each.add_argument(f"--{name}")
        for name in ("drive", "count", "after"):
            each.add_argument(f"--{name}", type=int)
        each.add_argument("--seconds", type=float)
        each.add_argument("--after-bytes", type=_size)
    listing = faults.add_parser("list", help="show the armed faults")
    listing.set_defaults(action=_fault_list)
    listing.add_argument("directory", metavar="DIR")
    clear = faults.add_parser("clear", help="disarm one fault, or all")
    clear.set_defaults(action=_fault_clear)
    clear.add_argument("directory", metavar="DIR")
    clear.add_argument("id", nargs="?")
    faults.add_parser("kinds", help="explain the kinds").set_defaults(action=_fault_kinds)
    return parser


def main(words: list[str] | None = None) -> int:
    """Run ``coldstore-vtl``; returns its exit status: 1 when what was asked cannot be, 2 for usage."""
    arguments = _parser().parse_args(words)
    try:
        arguments.action(arguments)
    except Refused as error:
        print(f"coldstore-vtl: {error}", file=sys.stderr)
        return 1
    return 0
