"""Ranges, parts and the text that describes them."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from coldstore.s3.errors import S3Error
from coldstore.s3.part_sizes import part_count, part_extent, part_runs, part_sizes_after, part_sizes_text
from coldstore.s3.ranges import ByteRange, copy_range, header_range, part_number, part_range


def run(offset: int, length: int, parts: int | None = None) -> ByteRange:
    """Return a range."""
    return ByteRange(offset_bytes=offset, length_bytes=length, parts_count=parts)


NUMBERS = st.one_of(
    st.just(""),
    st.integers(0, 40).map(str),
    st.integers(0, 2**70).map(str),
    st.sampled_from(["00", "007", "-1", "+1", "1.5", "\u0663", "x"]),
)
BLANKS = st.sampled_from(["", "", "", " ", "\t", "  "])
VALUES = st.one_of(
    st.tuples(
        BLANKS,
        st.just("bytes"),
        BLANKS,
        st.just("="),
        BLANKS,
        NUMBERS,
        BLANKS,
        st.just("-"),
        BLANKS,
        NUMBERS,
        BLANKS,
    ).map("".join),
    st.lists(st.tuples(NUMBERS, st.just("-"), NUMBERS).map("".join), max_size=3).map(
        lambda ranges: "bytes=" + ",".join(ranges)
    ),
    st.text("bytes=-0123456789, ", max_size=14),
)
DIGITS_MOST = 19


def modelled(value: str, size: int) -> tuple[int, int] | str | None:
    """Return offset and length that a field asks for, "behind" for what an object has not, None for the whole of it."""
    unit, equals, asked = value.partition("=")
    first, dash, last = asked.partition("-")
    first, last = first.strip(), last.strip()
    numbers = [text for text in (first, last) if text]
    is_range = unit.strip() == "bytes" and bool(equals) and bool(dash) and bool(numbers)
    if not is_range or any(set(text) - set("0123456789") or len(text) > DIGITS_MOST for text in numbers):
        return None
    if not first:
        begin, end = max(size - int(last), 0), size
    else:
        begin, end = int(first), min(int(last) + 1 if last else size, size)
        if last and int(last) < begin:
            return None
    return (begin, end - begin) if begin < end else "behind"


class HeaderRangeTests(SynchronousTestCase):
    """``Range`` on an object of ten bytes."""

    def test_forms(self) -> None:
        """From-to, from, and the last n; ends behind the object are cut."""
        for value, expected in (
            ("bytes=0-0", run(0, 1)),
            ("bytes=2-5", run(2, 4)),
            ("bytes=2-", run(2, 8)),
            ("bytes=-3", run(7, 3)),
            ("bytes=-30", run(0, 10)),
            ("bytes=5-99", run(5, 5)),
            (" bytes = 5 - 9 ", run(5, 5)),
        ):
            self.assertEqual(header_range(value, 10), expected, value)

    def test_what_is_no_single_range_is_ignored(self) -> None:
        """The whole object is sent."""
        for value in (
            None,
            "",
            "bytes=",
            "bytes=-",
            "bytes=5-2",
            "bytes=a-b",
            "lines=1-2",
            "bytes=0-1,3-4",
            "bytes=" + "9" * 30 + "-",
            "bytes=0-" + "9" * 30,
        ):
            self.assertIsNone(header_range(value, 10), value)

    def test_behind_the_end(self) -> None:
        """Is refused with the size; so is everything of an empty object."""
        for value, size in (
            ("bytes=10-", 10),
            ("bytes=10-12", 10),
            ("bytes=-0", 10),
            ("bytes=0-", 0),
            ("bytes=-5", 0),
        ):
            error = self.assertRaises(S3Error, header_range, value, size)
            self.assertEqual((error.status, error.code), (416, "InvalidRange"), value)
            self.assertEqual(error.details, {"RangeRequested": value, "ActualObjectSize": str(size)})
            self.assertEqual(error.headers["Content-Range"], f"bytes */{size}")

    @given(st.integers(0, 50), st.integers(0, 60), st.integers(0, 60))
    def test_equals_slicing(self, size: int, first: int, last: int) -> None:
        """A satisfiable range is the slice that Python would take."""
        content = bytes(range(size))
        try:
            found = header_range(f"bytes={first}-{last}", size)
        except S3Error:
            self.assertGreaterEqual(first, size)
            return
        if found is None:
            self.assertLess(last, first)
        else:
            taken = content[found.offset_bytes : found.offset_bytes + found.length_bytes]
            self.assertEqual(taken, content[first : last + 1])
            self.assertTrue(taken)

    @settings(max_examples=500)
    @given(VALUES, st.one_of(st.integers(0, 30), st.integers(0, 2**63)))
    def test_equals_the_model(self, value: str, size: int) -> None:
        """Whatever stands in the field, for objects of any size: what a plain reading of it says."""
        expected = modelled(value, size)
        try:
            found = header_range(value, size)
        except S3Error as error:
            self.assertEqual((error.code, expected), ("InvalidRange", "behind"), value)
            return
        if found is None:
            self.assertIsNone(expected, value)
            return
        self.assertEqual((found.offset_bytes, found.length_bytes), expected, value)
        self.assertTrue(0 <= found.offset_bytes < found.offset_bytes + found.length_bytes <= size)

    def test_content_range(self) -> None:
        """Counts from zero and includes the last byte."""
        self.assertEqual(run(2, 4).content_range(10), "bytes 2-5/10")


class PartTests(SynchronousTestCase):
    """Parts of an object."""

    def test_text(self) -> None:
        """Equal neighbours are one run."""
        self.assertEqual(part_sizes_text([5, 5, 5, 17]), "5x3,17")
        self.assertEqual(part_sizes_text([5, 6, 5]), "5,6,5")
        self.assertEqual(part_runs("5x3,17"), [(5, 3), (17, 1)])

    @given(st.lists(st.integers(0, 3), min_size=1, max_size=20))
    def test_text_tells_each_part(self, sizes: list[int]) -> None:
        """Offsets and lengths come back, and nothing behind the last part."""
        text = part_sizes_text(sizes)
        self.assertEqual(part_count(text), len(sizes))
        for index, size in enumerate(sizes):
            self.assertEqual(part_extent(text, index + 1), (sum(sizes[:index]), size))
            self.assertEqual(part_sizes_after(text, index, 2), sizes[index : index + 2])
        self.assertIsNone(part_extent(text, len(sizes) + 1))

    def test_part_range(self) -> None:
        """A part of an object of parts tells how many there are; another object has one part, itself."""
        self.assertEqual(part_range("4", "5x3,17", 32), replace(run(15, 17, 4), part_number=4))
        self.assertEqual(part_range("1", "", 32), run(0, 32))
        for value, sizes in (("5", "5x3,17"), ("2", "")):
            error = self.assertRaises(S3Error, part_range, value, sizes, 32)
            self.assertEqual((error.status, error.code), (416, "InvalidPartNumber"))

    def test_numbers(self) -> None:
        """Are 1 to 10,000."""
        self.assertEqual([part_number("1"), part_number("10000")], [1, 10000])
        for value in (None, "", "0", "10001", "-1", "1.0", "x", "\uff19", "1" * 40):
            error = self.assertRaises(S3Error, part_number, value)
            self.assertEqual((error.code, error.details["ArgumentName"]), ("InvalidArgument", "partNumber"))


class CopyRangeTests(SynchronousTestCase):
    """``x-amz-copy-source-range``."""

    def test_forms(self) -> None:
        """One strict form, inside the source; absent means all."""
        self.assertEqual(copy_range(None, 10), run(0, 10))
        self.assertEqual(copy_range("bytes=2-9", 10), run(2, 8))
        for value in (
            "bytes=2-",
            "bytes=-2",
            "0-1",
            "bytes=0-1,2-3",
            "bytes=3-2",
            "",
        ):
            self.assertEqual(self.assertRaises(S3Error, copy_range, value, 10).code, "InvalidArgument", value)
        for value in ("bytes=0-10", "bytes=10-10", "bytes=0-21"):
            refused = self.assertRaises(S3Error, copy_range, value, 10)
            self.assertEqual((refused.status, refused.code), (416, "InvalidRange"), value)
