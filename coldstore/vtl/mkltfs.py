"""
The program ``mkltfs``.

Exit 0 formatted; 1 unformatted (``-w``, its success); 8 operational error; 16 usage, refusal or write protection. It refuses only a medium
with readable LTFS labels: foreign data is overwritten without a question.
"""

import getopt
import re
import time
import uuid

from coldstore.vtl.attributes import time_text
from coldstore.vtl.faults import Moment
from coldstore.vtl.fuse import fuse_available
from coldstore.vtl.index import FORMAT_VERSION, SOFTWARE_VERSION, Index, Node, PlacementPolicy, parse_rules
from coldstore.vtl.latency import charge
from coldstore.vtl.library import Library
from coldstore.vtl.medium import BLOCK_BYTES, Cartridge
from coldstore.vtl.messages import Reporter
from coldstore.vtl.mounting import (
    CannotOpen,
    Ends,
    NotReady,
    Station,
    load_cartridge,
    meet,
    open_station,
    write_index_on,
)

FORMATTED, UNFORMATTED, FAILED, USAGE = 0, 1, 8, 16

_LONG = [
    "device=", "force", "tape-serial=", "volume-name=", "rules=", "blocksize=", "no-compression", "keep-capacity", "wipe", "long-wipe",
    "no-override", "destructive", "backend=", "config=", "quiet", "trace", "version", "help", "advanced-help",
]  # fmt: skip


class Mkltfs:
    """One run of the program."""

    def __init__(self, options: dict[str, str], directory: str | None, reporter: Reporter) -> None:
        """Take the options by their short letters, or long names where there is none."""
        self._options = options
        self._directory = directory
        self._reporter = reporter
        self._policy: PlacementPolicy | None = None

    def run(self) -> int:
        """Format, and return the exit status. Raises :class:`Ends`."""
        say = self._reporter.say
        self._validate()
        device = self._options["d"]
        say("15000I", version=SOFTWARE_VERSION)
        say("15003I", device=device)
        say("15004I", size=self._options.get("b", BLOCK_BYTES))
        say("15005I", rules=self._options.get("r", "None"))
        try:
            station = open_station(device, self._directory, self._reporter, program="mkltfs", failed=FAILED)
        except CannotOpen as error:
            say("15009E", device=device, code=error.code)
            raise self._failed(FAILED) from None
        try:
            cartridge = load_cartridge(station, self._reporter)
        except NotReady:
            say("15044E")
            raise self._failed(FAILED) from None
        try:
            return self._formatted(station, cartridge)
        finally:
            station.lock_cartridge(False)
            station.close()

    def _validate(self) -> None:
        options, say = self._options, self._reporter.say
        serial = options.get("s")
        if serial is not None and len(serial) != 6:
            say("15029E")
            raise self._usage()
        if serial is not None and not re.fullmatch("[0-9A-Z]{6}", serial):
            say("15030E")
            raise self._usage()
        if "/" in options.get("n", ""):
            say("15031E")
            raise self._usage()
        if "d" not in options:
            say("15026E")
            raise self._usage()
        if int(options.get("b", BLOCK_BYTES)) < 4096:
            say("15028E")
            raise self._failed(FAILED)
        if options.get("e", "sg") not in ("sg", "file"):
            say("11267E", name=options["e"])
            say("11260E")
            say("15008E", name=options["e"])
            raise Ends(FAILED)

    def _usage(self) -> Ends:
        self._reporter.say("15002E")
        self._reporter.raw(
            "Usage: mkltfs -d DEVICE [-f] [-s SERIAL] [-n NAME] [-r RULES] [-b BYTES] [-w] [-q] [-V] [-h]\n"
        )
        return Ends(USAGE)

    def _failed(self, status: int) -> Ends:
        self._reporter.say("15023I")
        return Ends(status)

    def _formatted(self, station: Station, cartridge: Cartridge) -> int:
        options, say = self._options, self._reporter.say
        try:
            self._policy = parse_rules(options["r"]) if "r" in options else None
        except ValueError:
            say("11146E")
            say("11152E", rules=options["r"])
            say("15015E", code=-1058)
            raise self._failed(FAILED) from None
        say("15049I", what="mount")
        say("15049I", what="load")
        memory = cartridge.memory
        if memory.content == "ltfs" and not options.keys() & {"f", "w", "long-wipe", "destructive"}:
            say("15047E")
            say("15048I")
            raise self._failed(USAGE)
        if memory.write_protected:
            say("11095E")
            say("15012E", code=-1125)
            raise self._failed(USAGE)
        if int(options.get("b", BLOCK_BYTES)) > 1048576:
            say("11096E", size=options["b"])
            say("15012E", code=-1003)
            raise self._failed(FAILED)
        self._meet(station)
        latency = station.library.latency()
        charge(latency.seconds("format"))
        if options.keys() & {"w", "long-wipe"}:
            return self._unformatted(cartridge)
        self._write(station, cartridge)
        say("15019I", size=cartridge.memory.capacity_bytes // 10**9)
        say("15024I")
        return FORMATTED

    def _meet(self, station: Station) -> None:
        moment = Moment(
            program="mkltfs", at="format", barcode=station.drive.barcode, drive=station.drive.number
        )
        fault = meet(station.library, moment, self._reporter, failed=FAILED)
        if fault is None:
            return
        if fault.name == "worm":
            self._reporter.say("14116E")
        self._reporter.say("15012E", code=-20301)
        raise self._failed(FAILED)

    def _unformatted(self, cartridge: Cartridge) -> int:
        self._reporter.say("17071I")
        cartridge.clear()
        memory = cartridge.memory
        memory.content, memory.volume, memory.coherency, memory.lock_state = "blank", None, {}, 0
        memory.eod_missing = False
        memory.partitioned, memory.end = False, 0
        cartridge.remember()
        self._reporter.say("15040I")
        return UNFORMATTED

    def _write(self, station: Station, cartridge: Cartridge) -> None:
        say, memory = self._reporter.say, cartridge.memory
        serial = self._options.get("s", "")
        now = time.time_ns()
        label = {
            "uuid": str(uuid.uuid4()),
            "serial": serial or "NO_BARCODE",
            "name": self._options.get("n", ""),
            "formatted_at": time_text(now),
            "blocksize": BLOCK_BYTES,
            "format": FORMAT_VERSION,
        }
        say("15010I")
        say("15011I")
        say("17165I")
        say("11097I")
        memory.content, memory.volume, memory.coherency, memory.lock_state = "blank", None, {}, 0
        memory.mounted_at, memory.eod_missing = None, False
        cartridge.remember()
        cartridge.clear()
        cartridge.write_labels(serial, label)
        for letter in "ab":
            say("11100I", partition=letter)
        index = Index(
            volume_uuid=str(label["uuid"]),
            generation=1,
            updated_at=now,
            partition="b",
            block=0,
            previous=None,
            highest_uid=1,
            policy=self._policy,
            lock_state=0,
            comment="",
            root=Node(uid=1, name=str(label["name"]), kind="directory", times=[now] * 5),
        )
        for letter in "ba":
            say("11278I", partition=letter)
            say(
                "17235I",
                serial=label["serial"],
                partition=letter,
                reason="Format",
                files=0,
                drive=station.drive.serial,
            )
            mark = write_index_on(cartridge, letter, index)
            say(
                "17236I",
                serial=label["serial"],
                generation=1,
                partition=letter,
                block=mark.block,
                drive=station.drive.serial,
            )
        memory.content, memory.volume, memory.partitioned = "ltfs", label, True
        memory.files_form = bool(station.library.settings()["directory_only"]) or not fuse_available()[0]
        cartridge.remember()
        if memory.files_form:
            from coldstore.vtl.plain import make_empty

            make_empty(cartridge)
        say("15013I", uuid=label["uuid"])


def main(arguments: list[str], directory: str | None = None) -> int:
    """Run ``mkltfs``; returns its exit status."""
    reporter = Reporter(with_thread=False, quiet=bool({"-q", "--quiet"} & set(arguments)))
    short = {
        name.rstrip("=")[0]: name.rstrip("=") for name in ("device=", "force", "rules=", "blocksize=", "wipe")
    }
    short |= {
        "s": "tape-serial",
        "n": "volume-name",
        "e": "backend",
        "i": "config",
        "q": "quiet",
        "V": "version",
        "h": "help",
    }
    letters = {name: letter for letter, name in short.items()}
    try:
        found, rest = getopt.gnu_getopt(arguments, "d:fs:n:r:b:ckwe:i:qtVhp", _LONG)
    except getopt.GetoptError as error:
        for _ in range(2):
            reporter.raw(f"mkltfs: {error.msg}\n")
        reporter.say("15002E")
        return USAGE
    options = {letters.get(name.lstrip("-"), name.lstrip("-")): value for name, value in found}
    if "V" in options:
        reporter.raw(f"mkltfs version {SOFTWARE_VERSION}.\n")
        return 0
    if rest:
        reporter.say("15002E")
        return USAGE
    try:
        if directory is not None:
            meet(Library(directory), Moment(program="mkltfs", at="start"), reporter, failed=FAILED)
        return Mkltfs(options, directory, reporter).run()
    except Ends as end:
        return end.status
