"""Reading many keys page by page: every key once and in order, whatever they look like, and no page asks much further than it needs."""

from bisect import bisect_left
from collections.abc import Sequence
from random import Random

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from coldstore.metadata.etcd import walk as walk_module
from coldstore.metadata.etcd.gateway import KeyValue, Range
from coldstore.metadata.etcd.keys import Keys
from coldstore.metadata.etcd.walk import Walk, beyond
from coldstore.metadata.sql.tables import BY_NAME

KEYS = Keys("/coldstore")
FIRST, END = b"/k/", b"/k0"


class Ranges:
    """
    Keys in order, and ranges of them.

    :ivar pages: how many were asked for
    :ivar passed: through how many keys it went for them
    :ivar longest: the most keys that a page had
    """

    def __init__(self, keys: Sequence[bytes], value: bytes = b"v") -> None:
        self.keys = sorted(keys)
        self.pages = self.passed = self.longest = 0
        self._value = value

    async def ask(self, first: bytes, end: bytes, limit: int) -> Range:
        """Return a page, as etcd does."""
        assert first < end, (first, end)
        begin, behind = bisect_left(self.keys, first), bisect_left(self.keys, end)
        self.pages += 1
        self.passed += behind - begin
        found = self.keys[begin : min(behind, begin + limit)]
        self.longest = max(self.longest, len(found))
        rows = tuple(KeyValue(key=key, value=self._value, revision=1, lease=0) for key in found)
        return Range(rows=rows, revision=1, is_more=begin + limit < behind, count=behind - begin)


class WalkTests(SynchronousTestCase):
    """Walks through all kinds of keys."""

    def walked(
        self, ranges: Ranges, first: bytes = FIRST, end: bytes = END, rows_max: int | None = None
    ) -> list[bytes]:
        """Walk to the end; return the keys."""
        walk = Walk(ranges.ask, first, end, rows_max=walk_module.PAGE_ROWS if rows_max is None else rows_max)
        found: list[bytes] = []

        async def to_the_end() -> None:
            while page := await walk.page():
                found.extend(row.key for row in page)
            self.assertEqual(await walk.page(), ())

        self.successResultOf(Deferred.fromCoroutine(to_the_end()))
        return found

    def test_every_key(self) -> None:
        """Dense and sparse ones, alone and in heaps, long and short: all of them, in order."""
        chance = Random(3)
        for size in (1, 2, 3, 10):
            self.patch(walk_module, "PAGE_ROWS", size)
            for number in range(60):
                heaps = [chance.randbytes(chance.randrange(1, 9)) for _ in range(chance.randrange(6))]
                keys = {
                    FIRST + chance.choice(heaps) + chance.randbytes(chance.randrange(3))
                    for _ in range(number)
                    if heaps
                }
                keys |= {FIRST + chance.randbytes(chance.randrange(12)) for _ in range(chance.randrange(5))}
                self.assertEqual(self.walked(Ranges(list(keys))), sorted(keys))

    def test_effort(self) -> None:
        """Of real tables, each page goes through a few times as many keys as it returns; pages are hardly more than it takes."""
        count = 30_000
        self.patch(walk_module, "PAGE_ROWS", 300)
        chance = Random(4)
        layouts = [f"{chance.randrange(2**64):016x}{number:016x}" for number in range(count)]
        tables = {
            "versions": [(number,) for number in range(1, count)],
            "layouts": [(name,) for name in layouts],
            "pieces": [(name, part) for name in layouts[: count // 3] for part in (1, 2, 3)],
            "members": [(f"bundle-{number // 1_000:012}", number % 1_000) for number in range(count)],
            "copies": [
                (f"bundle-{number:012}", pool) for number in range(count // 2) for pool in ("main", "vault")
            ],
        }
        for name, places in tables.items():
            table = BY_NAME[name]
            beginning = KEYS.of_table(table)
            ranges = Ranges([KEYS.of_row(table, place) for place in places])
            self.assertEqual(self.walked(ranges, beginning, beginning[:-1] + b"0"), ranges.keys)
            self.assertLess(ranges.pages, 5 * len(places) / 300, name)
            # With every range up to the end it would be fifty times as many.
            self.assertLess(ranges.passed, 8 * len(places), name)

    def test_heavy(self) -> None:
        """Pages of heavy rows have fewer of them."""
        keys = [FIRST + b"%06d" % number for number in range(5_000)]
        ranges = Ranges(keys, value=bytes(walk_module.PAGE_BYTES // 20))
        self.assertEqual(self.walked(ranges), keys)
        self.assertGreater(ranges.pages, (5_000 - walk_module.PAGE_FIRST_ROWS) // 21)

    def test_heavy_all_at_once(self) -> None:
        """Of a table whose rows may be heavy no page has many, whatever those before it weighed."""
        table = BY_NAME["part_digests"]
        beginning = KEYS.of_table(table)
        ranges = Ranges([KEYS.of_row(table, (number,)) for number in range(1, 3_000)])
        self.assertEqual(
            self.walked(ranges, beginning, beginning[:-1] + b"0", rows_max=table.rows_max), ranges.keys
        )
        # Ten thousand SHA-512, encrypted and in base64.
        self.assertLess(ranges.longest * 1_250_000, 64 << 20)

    def test_beyond(self) -> None:
        """Keys are numbers with as many digits as the longest one; there is an end to them."""
        self.assertEqual(beyond(b"a", b"b", b"b", 2), b"d")
        self.assertEqual(beyond(b"a\0\0", b"a\0\2", b"b", 3), b"b\0\6")
        self.assertEqual(beyond(b"a", b"z", b"z", 100), b"\xff")

    def test_stopped(self) -> None:
        """The page that is on its way is given up; there is no other."""
        asked: list[Deferred[Range]] = []

        given_up: list[type[BaseException]] = []

        async def ask(*_: object) -> Range:
            asked.append(Deferred())
            try:
                return await asked[-1]
            except BaseException as error:
                given_up.append(type(error))
                raise

        walk = Walk(ask, FIRST, END, rows_max=10)
        page = Deferred.fromCoroutine(walk.page())
        row = KeyValue(key=FIRST + b"1", value=b"", revision=1, lease=0)
        asked[0].callback(Range(rows=(row,), revision=1, is_more=True, count=2))
        self.assertEqual(self.successResultOf(page), (row,))
        walk.stop()
        walk.stop()
        self.assertEqual(len(asked), 2)
        self.assertEqual(given_up, [CancelledError])
        self.assertEqual(self.successResultOf(Deferred.fromCoroutine(walk.page())), ())
