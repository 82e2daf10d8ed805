"""
The program ``ltfsck``: check and repair, list generations, roll back.

Exit 1 is the normal end of a check, also of a clean volume; 0 for ``-l`` and ``-g``; 4 not correctable; 8 operational; 15 no cartridge;
16 usage.
"""

import getopt
import sys
from datetime import UTC, datetime

from coldstore.vtl.faults import Faults, Moment
from coldstore.vtl.index import SOFTWARE_VERSION, Extent, Index, Node
from coldstore.vtl.medium import BLOCK_BYTES, FIRST_INDEX_BLOCK, Cartridge, Mark
from coldstore.vtl.messages import Reporter
from coldstore.vtl.mounting import (
    CannotOpen,
    NotReady,
    NoVolume,
    Station,
    check_labels,
    index_of_generation,
    load_cartridge,
    look,
    open_station,
    write_index_on,
)

UNCHANGED, CORRECTED, NOT_CORRECTABLE, FAILED, NO_CARTRIDGE, USAGE = 0, 1, 4, 8, 15, 16

LOST_AND_FOUND = "_ltfs_lostandfound"


class Ltfsck:
    """One run of the program on one device."""

    def __init__(
        self, options: dict[str, str], device: str, directory: str | None, reporter: Reporter
    ) -> None:
        """Take the options by their letters."""
        self._options = options
        self._device = device
        self._directory = directory
        self._reporter = reporter

    def run(self) -> int:
        """Do what was asked; returns the exit status."""
        say = self._reporter.say
        say("16000I", version=SOFTWARE_VERSION)
        try:
            station = open_station(self._device, self._directory, self._reporter)
        except CannotOpen as error:
            say("16011E", device=self._device, code=-21711 if error.args[0] == 16 else -21700)
            return FAILED
        try:
            cartridge = load_cartridge(station, self._reporter)
        except NotReady:
            say("16092E", code=-20209)
            return NO_CARTRIDGE
        try:
            return self._on(station, cartridge)
        finally:
            station.lock_cartridge(False)
            station.close()

    def _on(self, station: Station, cartridge: Cartridge) -> int:
        faults = Faults(station.library.directory)
        fault = faults.take(
            Moment(program="ltfsck", at="check", barcode=cartridge.barcode, drive=station.drive.number)
        )
        if fault is not None and not faults.endure(fault):
            self._reporter.say("16080E", code=FAILED)
            return FAILED if fault.exit is None else fault.exit
        try:
            check_labels(cartridge, self._reporter)
        except NoVolume as error:
            if error.args[0] in ("blank", "foreign"):
                self._reporter.say("11009E")
            self._reporter.say("16080E", code=FAILED)
            return NOT_CORRECTABLE
        if cartridge.memory.files_form:
            from coldstore.vtl.plain import bring_back

            bring_back(cartridge)
        if "l" in self._options:
            return self._list(cartridge)
        if "g" in self._options:
            return self._generation(cartridge, station, int(self._options["g"]))
        self._reporter.say("16014I", device=self._device)
        if "z" in self._options:
            self._reporter.say("17141I")
        return self._check(cartridge, station)

    def _check(self, cartridge: Cartridge, station: Station) -> int:
        say = self._reporter.say
        found = look(cartridge)
        newest = found.newest
        if newest is None:
            newest = self._last_readable(cartridge)
        if newest is None:
            say("16080E", code=FAILED)
            return NOT_CORRECTABLE
        if cartridge.memory.lock_state:
            say("16111I")
            say("11333I", generation=newest.generation, partition=newest.partition)
            say("17287I", generation=newest.generation)
            say("16022I")
            return CORRECTED
        if found.is_clean and found.a is not None and found.b is not None:
            say("11233I")
        elif found.is_clean:
            self._mend(
                cartridge,
                station,
                newest,
                damaged="b" if found.a is not None else "a",
                both=found.newest is None,
            )
        else:
            self._recover(cartridge, station, newest)
        say("16022I")
        return CORRECTED

    def _mend(
        self, cartridge: Cartridge, station: Station, index: Index, *, damaged: str, both: bool
    ) -> None:
        """Write an index that the medium has damaged again, from the partition where it can be read."""
        for letter in "ab" if both else damaged:
            self._reporter.say("11257I", partition=letter)
            self._reporter.say("17259I", partition=letter, source="a" if letter == "b" else "b")
        index.generation = max(mark.generation for mark in self._marks(cartridge)) + 1
        self._write(cartridge, station, index, "b")
        self._write(cartridge, station, index, "a")

    def _recover(self, cartridge: Cartridge, station: Station, index: Index) -> None:
        """Put the newest index behind whatever was written after it; that data stays, unreferenced."""
        say = self._reporter.say
        for code in ("17037E", "17016E", "11194W"):
            say(code)
        partition = cartridge.partition("b", writable=False)
        end, partition_marks = partition.end_block, partition.marks()
        partition.close()
        say("11227I", partition="b", block=end + 1)
        say("17259I", partition="a", source="b")
        if "f" in self._options:
            self._collect(index, end, partition_marks)
        index.previous = ["b", (cartridge.memory.coherency.get("b") or [0, 0])[1]]
        index.generation = max(mark.generation for mark in self._marks(cartridge)) + 1
        self._write(cartridge, station, index, "b")
        self._write(cartridge, station, index, "a")

    def _write(self, cartridge: Cartridge, station: Station, index: Index, letter: str) -> None:
        serial = (cartridge.memory.volume or {}).get("serial", "")
        files = sum(node.kind == "file" for node in index.root.walk())
        say = self._reporter.say
        say(
            "17235I",
            serial=serial,
            partition=letter,
            reason="Recovery",
            files=files,
            drive=station.drive.serial,
        )
        mark = write_index_on(cartridge, letter, index)
        say(
            "17236I",
            serial=serial,
            generation=mark.generation,
            partition=letter,
            block=mark.block,
            drive=station.drive.serial,
        )

    def _collect(self, index: Index, end: int, marks: list[Mark]) -> None:
        """Make every unreferenced block of partition b a read-only file."""
        used = set(range(FIRST_INDEX_BLOCK + 2))
        for node in index.root.walk():
            for extent in node.extents:
                if extent.partition == "b":
                    used.update(
                        range(extent.block, extent.block + -(-(extent.byte + extent.count) // BLOCK_BYTES))
                    )
        for mark in marks:
            used.update(range(mark.block - 1, mark.end_block))
        folder = index.root.children.get(LOST_AND_FOUND)
        if folder is None:
            index.highest_uid += 1
            folder = Node(
                uid=index.highest_uid,
                name=LOST_AND_FOUND,
                kind="directory",
                times=list(index.root.times),
                parent=index.root,
            )
            index.root.children[LOST_AND_FOUND] = folder
        for block in range(end):
            if block not in used:
                index.highest_uid += 1
                name = f"partition1_block{block}_{BLOCK_BYTES}bytes"
                node = Node(
                    uid=index.highest_uid,
                    name=name,
                    kind="file",
                    times=list(folder.times),
                    parent=folder,
                    read_only=True,
                )
                node.size = BLOCK_BYTES
                node.extents = [Extent(offset=0, partition="b", block=block, byte=0, count=BLOCK_BYTES)]
                folder.children[name] = node
                self._reporter.say("11223I", name=name)

    @staticmethod
    def _marks(cartridge: Cartridge) -> list[Mark]:
        marks: list[Mark] = []
        for letter in "ab":
            partition = cartridge.partition(letter, writable=False)
            marks += partition.marks()
            partition.close()
        return marks

    def _last_readable(self, cartridge: Cartridge) -> Index | None:
        """Return the newest older index on b when both last ones are damaged; its later files are lost."""
        partition = cartridge.partition("b", writable=False)
        generations = [mark.generation for mark in reversed(partition.marks())]
        partition.close()
        return next(
            (index for one in generations if (index := index_of_generation(cartridge, one)) is not None), None
        )

    def _list(self, cartridge: Cartridge) -> int:
        partition = cartridge.partition("b", writable=False)
        generations = [mark.generation for mark in partition.marks()]
        partition.close()
        if self._options.get("v", "forward") == "backward":
            generations.reverse()
        for generation in generations:
            index = index_of_generation(cartridge, generation)
            if index is None:
                sys.stdout.flush()
                self._reporter.say("16076E", code=-5000)
                return 120
            self._print(index)
        return UNCHANGED

    @staticmethod
    def _print(index: Index) -> None:
        seconds, rest = divmod(index.updated_at, 10**9)
        previous = f"({int(index.previous[0] == 'b')}, {index.previous[1]})" if index.previous else "(0, 0)"
        location = f"({int(index.partition == 'b')}, {index.block})"
        stamp = f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}.{rest:09d} UTC"
        sys.stdout.write(f"{index.generation:>10}: {stamp}      {location}->{previous}\n")
        comment = index.comment or ("<<Initial Index>>" if index.generation == 1 else "")
        sys.stdout.write(f"{'':11}{comment}\n" if comment else f"{'':12}No commit message\n")

    def _generation(self, cartridge: Cartridge, station: Station, generation: int) -> int:
        index = index_of_generation(cartridge, generation)
        if index is None:
            self._reporter.say("16072E", code=-1053)
            return FAILED
        if "r" not in self._options:
            self._print(index)
            return UNCHANGED
        newest = max(mark.generation for mark in self._marks(cartridge))
        if "j" in self._options:
            partition = cartridge.partition("b")
            mark = next(mark for mark in partition.marks() if mark.generation == generation)
            partition.cut(mark.end_block)
            partition.close()
            newest = generation
        index.generation = newest + 1
        self._write(cartridge, station, index, "b")
        self._write(cartridge, station, index, "a")
        self._reporter.say("16086I")
        return CORRECTED


def main(arguments: list[str], directory: str | None = None) -> int:
    """Run ``ltfsck``; returns its exit status."""
    reporter = Reporter(with_thread=False, quiet="-q" in arguments)
    try:
        found, rest = getopt.gnu_getopt(
            arguments, "fzlmv:g:rkje:i:qtVhp", ["full-recovery", "deep-recovery", "version", "help"]
        )
    except getopt.GetoptError as error:
        reporter.raw(f"ltfsck: {error.msg}\n")
        return USAGE
    options = {name.lstrip("-")[:1]: value for name, value in found}
    if "V" in options or any(name == "--version" for name, _ in found):
        reporter.raw(f"ltfsck version {SOFTWARE_VERSION}.\n")
        return UNCHANGED
    if len(rest) != 1:
        reporter.raw("Usage: ltfsck [-f|-z] [-l|-g N|-r -g N [-j|-k]] [-q] DEVICE\n")
        return USAGE
    return Ltfsck(options, rest[0], directory, reporter).run()
