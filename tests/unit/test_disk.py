"""The pure parts of the disk: addresses, the account, lists of pieces, block checksums, pressure, records."""

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from coldstore.disk.accounts import Account
from coldstore.disk.addresses import FileAddress, Names, SliceAddress, parsed
from coldstore.disk.blocks import BlockChecksums, ChecksumsDamaged, combined, decoded, encoded
from coldstore.disk.index import ContainerIndex, Span, dead_entries, dead_pieces
from coldstore.disk.pressure import PAUSE_AT, RESUME_AT, Pressure, SharedPressure
from coldstore.disk.recall import planned
from coldstore.disk.segments import HEADER_BYTES, header, read_header, record_bytes
from coldstore.interfaces.staging import BLOCK_BYTES
from coldstore.util.checksums import crc64nvme


class AddressTests(SynchronousTestCase):
    """Addresses are text that nobody else can make up into a path."""

    def test_round_trip(self) -> None:
        """An address reads back as what it was made from, and names its run."""
        names = Names(Random(1), "17")
        file = names.file()
        self.assertEqual(parsed(str(file)), file)
        self.assertEqual((file.run, file.fan_out), ("17", file.name[:2]))
        for container in (names.segment(), names.recalled()):
            address = SliceAddress(container, 512, 70_000)
            self.assertEqual(parsed(str(address)), address)
            self.assertEqual(address.is_record, container.startswith("s"))

    def test_nonsense(self) -> None:
        """Whatever else is no address."""
        for text in (
            "",
            "f-",
            "f-../x",
            "f-0123456789abcdef-1/..",
            "s-0123456789abcdef-1",
            "x-0123456789abcdef-1",
            "f-0123456789ABCDEF-1",
            "f-0123456789abcdef-1\n",
        ):
            self.assertIsNone(parsed(text), text)

    def test_order(self) -> None:
        """Addresses of one container sort as their bytes lie."""
        addresses = [
            str(SliceAddress("s-0123456789abcdef-1", offset, 1)) for offset in (0, 9, 10, 4096, 1 << 40)
        ]
        self.assertEqual(addresses, sorted(addresses))

    def test_runs(self) -> None:
        """A tag that would not fit into an address is refused."""
        for run in ("", "a-b", "A", "x" * 33, "../"):
            self.assertRaises(ValueError, Names, Random(1), run)
        self.assertEqual(FileAddress("0123456789abcdef-abc").run, "abc")


class AccountTests(SynchronousTestCase):
    """The account never promises what is not there."""

    def test_room_is_the_same_whatever_we_are_in_the_middle_of(self) -> None:
        """What we placed on the disk ourselves does not shrink what may be used in all."""
        account = Account(1000, 100)
        self.assertEqual(account.capacity, 1000)
        account.used, account.placed, account.prepared = 50, 200, 30
        account.saw_free(500, account.present)
        self.assertEqual(account.capacity, 680)
        account.saw_free(300, account.present)
        self.assertEqual(account.capacity, 480)
        account.saw_free(0, 0)
        self.assertEqual((account.capacity, account.headroom), (0, 0))

    def test_recalls_keep_their_share(self) -> None:
        """Uploads stop where the share of recalls begins, whether large or small; recalls may use everything."""
        account = Account(1000, 0, 0.1)
        self.assertTrue(account.hold_upload(850))
        self.assertFalse(account.hold_upload(51))
        self.assertFalse(account.claim(51))
        self.assertTrue(account.claim(50))
        self.assertTrue(account.hold(100))
        self.assertFalse(account.hold(1))

    def test_small_pieces_use_what_is_prepared(self) -> None:
        """A claim inside the prepared space needs no headroom; beyond it, it does."""
        account = Account(100, 0)
        account.prepared = 60
        self.assertTrue(account.hold(40))
        self.assertTrue(account.claim(60))
        self.assertFalse(account.claim(1))
        self.assertFalse(account.hold(1))
        account.let_go(40)
        self.assertTrue(account.claim(40))
        self.assertEqual(account.reserved, 100)

    def test_an_estimate_stands_in(self) -> None:
        """While earlier files are counted, the larger of the count and the note counts."""
        account = Account(100, 0)
        account.estimate = 90
        self.assertFalse(account.hold(11))
        account.used = 95
        self.assertEqual(account.headroom, 5)
        account.estimate = account.used = 0
        self.assertTrue(account.hold(100))

    @settings(max_examples=200, deadline=None)
    @given(st.lists(st.tuples(st.sampled_from(["hold", "claim", "prepare", "publish"]), st.integers(1, 40))))
    def test_promises_fit(self, steps: list[tuple[str, int]]) -> None:
        """Whatever is asked for in whatever order, used and reserved bytes stay within the capacity."""
        account = Account(100, 0)
        for step, size in steps:
            if step == "hold":
                account.hold(size)
            elif step == "claim":
                account.claim(size)
            elif step == "prepare":
                account.prepared += min(size, account.preparable())
            elif account.held >= size:
                account.let_go(size)
                account.used += size
            self.assertLessEqual(account.used + account.reserved, 100)


class IndexTests(SynchronousTestCase):
    """Lists of pieces."""

    def sample(self) -> ContainerIndex:
        """Four small pieces of 1024 bytes each in one block, then two of 4096."""
        index = ContainerIndex()
        for at in range(4):
            index.add(at * 1024, 1000, at * 1024 + 1024)
        index.add(4096, 4096, 8192)
        index.add(8192, 100, 8704)
        return index

    def test_round_trip(self) -> None:
        """A list with its dead reads back equal; a piece of several blocks keeps their checksums."""
        index = self.sample()
        index.add(12_288, BLOCK_BYTES + 1, 12_288 + BLOCK_BYTES + 4096, (7, 8))
        entries = dead_entries([index.piece(1), index.piece(4)])
        read = ContainerIndex.decoded(index.encoded(), entries + b"torn")
        self.assertEqual((len(read), read.alive), (7, 5))
        self.assertEqual(read.dead_ordinals(), [1, 4])
        self.assertEqual(list(read.blocks(6)), [7, 8])
        self.assertEqual(list(read.blocks(0)), [])
        self.assertEqual(read.living((-1, -1), 2), [(0, 1000), (2048, 1000)])
        self.assertEqual(read.living((2048, 1000), 2), [(3072, 1000), (8192, 100)])
        self.assertEqual(read.encoded(), index.encoded())

    def test_damage(self) -> None:
        """Any changed byte or cut of a list is noticed; a garbled entry of the dead names nothing."""
        content = self.sample().encoded()
        for at in range(len(content)):
            changed = bytearray(content)
            changed[at] ^= 1
            self.assertRaises(ChecksumsDamaged, ContainerIndex.decoded, bytes(changed))
            self.assertRaises(ChecksumsDamaged, ContainerIndex.decoded, content[:at])
        entry = bytearray(dead_entries([(1024, 1000)]))
        self.assertEqual(dead_pieces(bytes(entry)), [(1024, 1000)])
        entry[3] ^= 1
        self.assertEqual(dead_pieces(bytes(entry)), [])

    def test_holes(self) -> None:
        """A block is given back when the last piece in it dies, and blocks of one piece at once."""
        index = self.sample()
        for dead, expected in (
            (0, []),
            (2, []),
            (3, []),
            (4, [Span(4096, 8192)]),
            (1, [Span(0, 4096)]),
            (5, []),
        ):
            index.mark_dead(dead)
            self.assertEqual(index.holes([dead], 4096), expected, dead)
        self.assertEqual(index.holes(range(6), 4096), [Span(0, 8192)])

    def test_disorder_is_refused(self) -> None:
        """Pieces are added in order, without overlap, with the right number of block checksums."""
        index = self.sample()
        self.assertRaises(ValueError, index.add, 0, 10, 512)
        self.assertRaises(ValueError, index.add, 9000, 600, 9500)
        self.assertRaises(ValueError, index.add, 9000, 10, 9500, (1,))
        self.assertRaises(ValueError, index.add, 9000, BLOCK_BYTES + 1, 9000 + 2 * BLOCK_BYTES, (1,))

    @settings(max_examples=100, deadline=None)
    @given(st.lists(st.integers(1, 9000), min_size=1, max_size=30), st.randoms())
    def test_holes_never_touch_the_living(self, lengths: list[int], dice: Random) -> None:
        """In whatever order pieces die, holes spare every living byte, and in the end all whole blocks are free."""
        index = ContainerIndex()
        offset = 0
        for length in lengths:
            end = offset + record_bytes(length)
            index.add(offset, length, end)
            offset = end
        order = list(range(len(lengths)))
        dice.shuffle(order)
        free: set[int] = set()
        for at in order:
            index.mark_dead(at)
            for hole in index.holes([at], 4096):
                free.update(range(hole.begin, hole.end, 4096))
                self.assertEqual((hole.begin % 4096, hole.end % 4096), (0, 0))
            for other in range(len(lengths)):
                if not index.is_dead(other):
                    begin, length = index.piece(other)
                    self.assertEqual(
                        free.intersection(range(begin // 4096 * 4096, begin + length, 4096)), set()
                    )
        self.assertEqual(free, set(range(0, offset // 4096 * 4096, 4096)))


class BlockTests(SynchronousTestCase):
    """Block checksums."""

    def test_taken_in_any_steps(self) -> None:
        """However bytes are cut, the blocks' checksums and the whole one are right."""
        content = Random(1).randbytes(2 * BLOCK_BYTES + 77)
        expected = [crc64nvme(content[at : at + BLOCK_BYTES]) for at in range(0, len(content), BLOCK_BYTES)]
        for step in (BLOCK_BYTES * 3, BLOCK_BYTES, BLOCK_BYTES - 1, 999_983):
            checksums = BlockChecksums()
            for at in range(0, len(content), step):
                checksums.update(content[at : at + step])
            self.assertEqual(list(checksums.blocks()), expected)
            self.assertEqual(checksums.whole(), crc64nvme(content))
            self.assertEqual(combined(expected, len(content)), crc64nvme(content))

    def test_record(self) -> None:
        """A record reads back; each changed byte, each cut and a wrong number of blocks is noticed."""
        record = encoded([1, 2, 3], 2 * BLOCK_BYTES + 1)
        self.assertEqual((list(decoded(record)[0]), decoded(record)[1]), ([1, 2, 3], 2 * BLOCK_BYTES + 1))
        for at in range(len(record)):
            changed = bytearray(record)
            changed[at] ^= 0x80
            self.assertRaises(ChecksumsDamaged, decoded, bytes(changed))
            self.assertRaises(ChecksumsDamaged, decoded, record[:at])
        self.assertRaises(ChecksumsDamaged, decoded, encoded([1, 2], BLOCK_BYTES))


class PressureTests(SynchronousTestCase):
    """Bounds on what is outstanding."""

    def test_one_upload(self) -> None:
        """Paused at eight, resumed at four, never told twice."""
        calls: list[str] = []
        one = Pressure(SharedPressure(100))
        one.tell(lambda: calls.append("pause"), lambda: calls.append("resume"))
        for _ in range(PAUSE_AT + 3):
            one.added()
        self.assertEqual(calls, ["pause"])
        for left in reversed(range(PAUSE_AT + 3)):
            one.ended()
            self.assertEqual(calls, ["pause"] if left > RESUME_AT else ["pause", "resume"])

    def test_told_late(self) -> None:
        """Who asks when it is too late is paused at once."""
        calls: list[str] = []
        one = Pressure(SharedPressure(1))
        one.added()
        one.tell(lambda: calls.append("pause"), lambda: calls.append("resume"))
        one.ended()
        self.assertEqual(calls, ["pause", "resume"])

    def test_all_uploads(self) -> None:
        """Above the common limit whoever writes is paused; all go on at half of it, in the order of their pauses."""
        calls: list[str] = []
        shared = SharedPressure(6)
        several = [Pressure(shared) for _ in range(4)]
        for number, each in enumerate(several):
            each.tell(
                lambda number=number: calls.append(f"pause {number}"),  # type: ignore[misc]
                lambda number=number: calls.append(f"resume {number}"),  # type: ignore[misc]
            )
            each.added()
            each.added()
        self.assertEqual(calls, ["pause 2", "pause 3"])
        for each in several:
            each.ended()
            each.ended()
        self.assertEqual(sorted(calls[2:]), ["resume 2", "resume 3"])
        self.assertEqual(shared.outstanding, 0)


class RecordTests(SynchronousTestCase):
    """Records of segments, and slots of recalls."""

    def test_header(self) -> None:
        """A header states length and checksum to who knows the tag; any changed byte, or another tag, makes it nothing."""
        content = header(5, 70_000, 99)
        self.assertEqual(len(content), HEADER_BYTES)
        self.assertEqual(read_header(content, 5), (70_000, 99))
        self.assertIsNone(read_header(content, 6))
        self.assertIsNone(read_header(content[:-9], 5))
        for at in range(HEADER_BYTES - 4):
            changed = bytearray(content)
            changed[at] ^= 1
            self.assertIsNone(read_header(bytes(changed), 5), at)

    def test_record_sizes(self) -> None:
        """Records are padded to 512 bytes."""
        self.assertEqual(
            [record_bytes(each) for each in (1, 512 - HEADER_BYTES, 513 - HEADER_BYTES)], [512, 512, 1024]
        )

    def test_slots(self) -> None:
        """Slots begin on blocks of the file system."""
        plan = planned([1, 4096, 4097])
        self.assertEqual((plan.offsets, plan.size_bytes), ((0, 4096, 8192), 16_384))
        self.assertRaises(ValueError, planned, [])
        self.assertRaises(ValueError, planned, [1, 0])
