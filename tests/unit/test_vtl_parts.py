"""The parts of the virtual library that can be asked without a process."""

import errno
import os

from twisted.trial.unittest import SynchronousTestCase

from coldstore.vtl.faults import FAULT_KINDS, POINTS, Fault, Faults, Moment
from coldstore.vtl.index import Extent, Index, Node, PlacementPolicy, decode_index, parse_rules
from coldstore.vtl.latency import Latency
from coldstore.vtl.library import Drive, Elements, LibrarySpec, Move, barcodes_of
from coldstore.vtl.main import size_bytes
from coldstore.vtl.medium import BLOCK_BYTES, Cartridge, blocks_of, new_cartridge
from coldstore.vtl.messages import TEXTS
from coldstore.vtl.sense import sense_block
from coldstore.vtl.tree import Tree
from coldstore.vtl.volume import Volume


def index() -> Index:
    """Return the index of an empty volume."""
    root = Node(uid=1, name="vol", kind="directory", times=[0] * 5)
    return Index(
        volume_uuid="u", generation=1, updated_at=0, partition="b", block=5, previous=None, highest_uid=1,
        policy=None, lock_state=0, comment="", root=root,
    )  # fmt: skip


class RulesTests(SynchronousTestCase):
    """Placement rules as mkltfs takes them."""

    def test_read(self) -> None:
        """Sizes have units, names are patterns divided by colons."""
        self.assertEqual(
            parse_rules("size=64M/name=*.a:*.b"),
            PlacementPolicy(size_bytes=64 * 1024**2, names=("*.a", "*.b")),
        )
        self.assertEqual(parse_rules("size=500"), PlacementPolicy(size_bytes=500))

    def test_refused(self) -> None:
        """Anything else is refused."""
        for text in ("", "name=*.a", "size=", "size=1M/age=3", "size=1M/name="):
            with self.assertRaises(ValueError, msg=text):
                parse_rules(text)

    def test_wants(self) -> None:
        """A file is wanted by size and name; empty files and directories are not."""
        policy = PlacementPolicy(size_bytes=10, names=("*.m",))
        node = Node(uid=2, name="x.m", kind="file", times=[0] * 5, size=10)
        self.assertTrue(policy.wants(node))
        for field, value in (("size", 11), ("size", 0), ("name", "x.t"), ("kind", "directory")):
            other = Node(uid=2, name="x.m", kind="file", times=[0] * 5, size=10)
            setattr(other, field, value)
            self.assertFalse(policy.wants(other), field)


class IndexTests(SynchronousTestCase):
    """An index on the medium says all that the tree says."""

    def test_round_trip(self) -> None:
        """What is written is read again."""
        tree = Tree(index())
        tree.add("/d", "directory")
        node = tree.add("/d/\u6f22", "file")
        node.size, node.extents, node.attributes = 7, [Extent(0, "b", 7, 0, 7)], {"ltfs.hash.x": b"\x00\xff"}
        tree.add("/s", "symlink", "d")
        tree.index.policy = PlacementPolicy(size_bytes=5, names=("*",))
        again = Tree(decode_index(tree.index.encoded()))
        found = again.find("/d/\u6f22")
        self.assertEqual(
            (found.size, found.extents, found.attributes), (node.size, node.extents, node.attributes)
        )
        self.assertEqual(again.find("/s").target, "d")
        self.assertEqual(again.path_of(found), "/d/\u6f22")
        self.assertEqual(again.index.policy, tree.index.policy)
        self.assertEqual(again.index.highest_uid, 4)

    def test_no_index(self) -> None:
        """Other bytes are refused."""
        for payload in (b"", b"{}", b"[1]", b"\xff"):
            with self.assertRaises(ValueError):
                decode_index(payload)


class TreeTests(SynchronousTestCase):
    """Names and what they refuse."""

    def refused(self, step, *words) -> int:
        """Return the errno of a step that must fail."""
        with self.assertRaises(OSError) as caught:
            step(*words)
        return caught.exception.errno

    def test_refusals(self) -> None:
        """Each wrong step has its errno."""
        tree = Tree(index())
        tree.add("/f", "file")
        tree.add("/d", "directory")
        tree.add("/d/e", "directory")
        self.assertEqual(self.refused(tree.find, "/none"), errno.ENOENT)
        self.assertEqual(self.refused(tree.find, "/f/x"), errno.ENOTDIR)
        self.assertEqual(self.refused(tree.add, "/f", "file"), errno.EEXIST)
        self.assertEqual(self.refused(tree.rename, "/d", "/d/e/x"), errno.EINVAL)
        self.assertEqual(self.refused(tree.rename, "/f", "/d"), errno.EISDIR)
        self.assertEqual(self.refused(tree.rename, "/d", "/f"), errno.ENOTDIR)
        self.assertEqual(self.refused(lambda: tree.remove("/d", directory=True)), errno.ENOTEMPTY)
        self.assertEqual(self.refused(lambda: tree.remove("/", directory=True)), errno.ENOTEMPTY)
        self.assertEqual(self.refused(tree.add, "/" + "x" * 256, "file"), errno.ENAMETOOLONG)
        self.assertEqual(self.refused(tree.add, "/\udcff", "file"), errno.EINVAL)
        self.assertEqual(tree.add("/e\u0301", "file").name, "\u00e9")

    def test_splice(self) -> None:
        """A new extent cuts what it covers, and the bytes behind it keep their place."""
        node = Node(
            uid=2, name="x", kind="file", times=[0] * 5, extents=[Extent(0, "b", 10, 0, 2 * BLOCK_BYTES)]
        )
        Volume._splice(node, Extent(100, "b", 50, 0, 50))
        self.assertEqual(
            node.extents,
            [
                Extent(0, "b", 10, 0, 100),
                Extent(100, "b", 50, 0, 50),
                Extent(150, "b", 10, 150, 2 * BLOCK_BYTES - 150),
            ],
        )


class MediumTests(SynchronousTestCase):
    """Partitions in blocks."""

    def test_indexes(self) -> None:
        """Indexes lie between filemarks, damage is noticed, and writing earlier forgets what lay behind."""
        cartridge = new_cartridge(self.mktemp(), "A00001L8", capacity_bytes=64 * 1024**2)
        cartridge.write_labels("A00001", {})
        partition = cartridge.partition("b")
        self.addCleanup(partition.close)
        first = partition.append_index(b"first", 1)
        self.assertEqual((first.block, first.end_block, partition.end_block), (5, 7, 7))
        second = partition.append_index(b"x" * (BLOCK_BYTES + 1), 2)
        self.assertEqual((second.block, second.end_block), (8, 11))
        self.assertEqual(partition.layout().filemarks, (1, 3, 4, 6, 7, 10))
        self.assertEqual(partition.read_index(first), b"first")
        os.pwrite(partition.descriptor, b"?", first.block * BLOCK_BYTES)
        self.assertIsNone(partition.read_index(first))
        partition.cut(7)
        self.assertEqual((partition.marks(), partition.end_block), ([first], 7))

    def test_no_room(self) -> None:
        """An index that does not fit is refused."""
        cartridge = new_cartridge(self.mktemp(), "A00001L8", capacity_bytes=16 * 1024**2)
        partition = cartridge.partition("a")
        self.addCleanup(partition.close)
        with self.assertRaises(OSError) as caught:
            partition.append_index(b"x" * 9 * 1024**2, 1)
        self.assertEqual(caught.exception.errno, errno.ENOSPC)

    def test_capacity(self) -> None:
        """A twentieth is for indexes, and half of that is kept free on b."""
        cartridge = Cartridge(new_cartridge(self.mktemp(), "A00001L8", capacity_bytes=2 * 1024**3).directory)
        self.assertEqual(cartridge.index_partition_bytes // 1024**2, 102)
        self.assertEqual(cartridge.reserve_bytes // 1024**2, 51)
        self.assertEqual(blocks_of(0), 0)
        self.assertEqual(blocks_of(BLOCK_BYTES + 1), 2)


class LibraryTests(SynchronousTestCase):
    """Elements settle as time goes by."""

    def elements(self) -> Elements:
        """Return two drives, three slots, one of them a mail slot."""
        return Elements(
            slots={1: "A", 2: None, 3: None},
            drives=[Drive(number=0, serial="s"), Drive(number=1, serial="t")],
            mail_count=1,
        )

    def test_addresses(self) -> None:
        """Slots, mail slots and drives have the SCSI addresses of a usual library."""
        elements = self.elements()
        self.assertEqual([elements.address_of(slot) for slot in (1, 2, 3)], [4096, 4097, 16])
        self.assertEqual([elements.slot_at(address) for address in (4096, 4097, 16)], [1, 2, 3])

    def test_settle(self) -> None:
        """A move arrives at its end, the drive is then loading, and ready after the load time."""
        elements = self.elements()
        elements.slots[1] = None
        elements.move = Move(barcode="A", source=4096, destination=256, until=10)
        elements.settle(9.9, 5)
        self.assertIsNotNone(elements.move)
        elements.settle(12, 5)
        self.assertEqual(
            (elements.move, elements.drives[0].barcode, elements.drives[0].state), (None, "A", "loading")
        )
        self.assertEqual(elements.drives[0].source, 1)
        elements.settle(15, 5)
        self.assertEqual(elements.drives[0].state, "ready")

    def test_barcodes(self) -> None:
        """Prefix and number make six characters before the suffix."""
        self.assertEqual(
            barcodes_of(LibrarySpec(cartridges=2, prefix="AB", generation="L9")), ["AB0001L9", "AB0002L9"]
        )
        with self.assertRaises(ValueError):
            barcodes_of(LibrarySpec(cartridges=10, prefix="ABCDE"))

    def test_latency(self) -> None:
        """Locates cost a tenth and a share of the distance; the average from the start costs the average."""
        latency = Latency(locate=50, scale=0.1, bytes_per_second=100)
        self.assertAlmostEqual(latency.locate_seconds(500, 1000), 5.0)
        self.assertEqual(latency.locate_seconds(0, 1000), 0)
        self.assertAlmostEqual(latency.stream_seconds(1000), 1.0)

    def test_sizes(self) -> None:
        """Sizes are read with binary and decimal units."""
        self.assertEqual(
            [size_bytes(text) for text in ("2GiB", "300MB", "1k", "77")], [2 * 1024**3, 300 * 10**6, 1024, 77]
        )


class FaultTests(SynchronousTestCase):
    """The table of faults."""

    def setUp(self) -> None:
        """Start without faults."""
        self.directory = self.mktemp()
        self.faults = Faults(self.directory)
        self.moment = Moment(program="mtx", at="load", barcode="A", drive=0)

    def strikes(self, times: int) -> list[bool]:
        """Return whether a fault strikes at each of some moments."""
        return [self.faults.take(self.moment) is not None for _ in range(times)]

    def test_counts(self) -> None:
        """``after`` lets moments pass, ``count`` bounds, and a spent fault is gone."""
        self.faults.add(Fault(id="x", program="mtx", at="load", kind="sense:4/15/01", after=1, count=2))
        self.assertEqual(self.strikes(5), [False, True, True, False, False])
        self.assertEqual(self.faults.armed(), [])

    def test_without_bound(self) -> None:
        """``count`` 0 strikes for ever."""
        self.faults.add(Fault(id="x", program="mtx", at="load", kind="lost", count=0))
        self.assertEqual(self.strikes(4), [True] * 4)

    def test_narrowed(self) -> None:
        """Barcode, drive, path and bytes narrow a fault."""
        self.assertFalse(self.moment.fits(Fault(id="x", program="mtx", at="load", kind="lost", barcode="B")))
        self.assertFalse(self.moment.fits(Fault(id="x", program="mtx", at="load", kind="lost", drive=1)))
        self.assertFalse(self.moment.fits(Fault(id="x", program="mtx", at="unload", kind="lost")))
        fault = Fault(id="x", program="ltfs", at="write", kind="erofs", path="/d/*", after_bytes=10)
        self.assertFalse(Moment(program="ltfs", at="write", path="/d/x", bytes_written=9).fits(fault))
        self.assertTrue(Moment(program="ltfs", at="write", path="/d/x", bytes_written=10).fits(fault))
        self.assertFalse(Moment(program="ltfs", at="write", path="/e", bytes_written=10).fits(fault))

    def test_probability(self) -> None:
        """Equal seeds decide alike."""
        runs = []
        for _ in range(2):
            self.faults.add(
                Fault(id="x", program="mtx", at="load", kind="lost", count=0, probability=0.5, seed=3)
            )
            runs.append(self.strikes(20))
        self.assertEqual(runs[0], runs[1])
        self.assertEqual(len(set(runs[0])), 2)

    def test_hand_written(self) -> None:
        """A file with the few needed fields is a fault; nonsense is named with its file."""
        os.makedirs(os.path.join(self.directory, "faults"))
        path = os.path.join(self.directory, "faults", "mine.json")
        with open(path, "w") as stream:
            stream.write('{"program": "mtx", "at": "load", "kind": "sense:6/28/01"}')
        taken = self.faults.take(self.moment)
        assert taken is not None
        self.assertEqual(taken.sense_code, (6, 0x28, 1))
        with open(path, "w") as stream:
            stream.write('{"program": "mtx", "at": "load", "kind": "no-such"}')
        with self.assertRaisesRegex(ValueError, "mine.json.*no-such"):
            self.faults.take(self.moment)

    def test_table(self) -> None:
        """Every kind happens at points that exist, and explains itself."""
        points = {point for group in POINTS.values() for point in group} | {"*"}
        for name, kind in FAULT_KINDS.items():
            self.assertLessEqual(set(kind.points), points, name)
            self.assertTrue(kind.meaning.endswith("."), name)


class TextTests(SynchronousTestCase):
    """What the programs print."""

    def test_messages(self) -> None:
        """Codes have four or five digits and a level."""
        for code in TEXTS:
            self.assertRegex(code, r"^\d{5}[IWED]$")

    def test_sense(self) -> None:
        """A sense block has twelve lines, numbers in hex."""
        lines = sense_block(0xB, 0x3B, 0x0D).splitlines()
        self.assertEqual(len(lines), 12)
        self.assertEqual(lines[3], "mtx: Request Sense: Sense Key=Aborted Command")
        self.assertEqual(lines[7], "mtx: Request Sense: Additional Sense Code = 3B")
