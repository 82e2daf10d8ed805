"""Sizes and durations as people write them."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from coldstore.config.units import format_duration, format_size, parse_duration, parse_size


class SizeTests(SynchronousTestCase):
    """Sizes."""

    def test_units(self) -> None:
        """Powers of ten and of two are told apart by the unit."""
        for text, size_bytes in (
            ("0", 0),
            ("7B", 7),
            ("1kB", 1000),
            ("1KB", 1000),
            ("1KiB", 1024),
            ("500GB", 500 * 10**9),
            ("64GiB", 64 * 2**30),
            ("1.5 MiB", 3 * 2**19),
            (" 2TiB ", 2**41),
        ):
            self.assertEqual(parse_size(text), size_bytes, text)

    def test_refused(self) -> None:
        """What is no size is refused with the reason."""
        for text, reason in (
            ("64", "has no unit"),
            ("64Gib", "unknown unit 'Gib'"),
            ("-1B", "is not a number"),
            ("", "is not a number"),
            ("1e9B", "is not a number"),
            ("0.5B", "whole number of bytes"),
            ("\u0661B", "is not a number"),
        ):
            self.assertIn(reason, str(self.assertRaises(ValueError, parse_size, text)), text)

    @given(st.integers(0, 2**60))
    def test_there_and_back(self, size_bytes: int) -> None:
        """A size that is written reads back as itself."""
        self.assertEqual(parse_size(format_size(size_bytes)), size_bytes)

    def test_largest_unit(self) -> None:
        """A size is written in the largest unit that needs no fraction."""
        self.assertEqual(
            [format_size(n) for n in (0, 1, 1000, 1024, 5 * 2**30)], ["0B", "1B", "1KB", "1KiB", "5GiB"]
        )


class DurationTests(SynchronousTestCase):
    """Durations."""

    def test_units(self) -> None:
        """Durations become seconds."""
        for text, seconds in (
            ("0", 0),
            ("250ms", 0.25),
            ("90s", 90),
            ("15m", 900),
            ("1.5h", 5400),
            ("2d", 172800),
        ):
            self.assertEqual(parse_duration(text), seconds, text)

    def test_refused(self) -> None:
        """What is no duration is refused with the reason."""
        for text, reason in (
            ("15", "has no unit"),
            ("15min", "unknown unit 'min'"),
            ("soon", "is not a number"),
        ):
            self.assertIn(reason, str(self.assertRaises(ValueError, parse_duration, text)), text)

    @given(st.integers(0, 10**12))
    def test_there_and_back(self, milliseconds: int) -> None:
        """A duration that is written reads back as itself."""
        self.assertEqual(parse_duration(format_duration(milliseconds / 1000)), milliseconds / 1000)
