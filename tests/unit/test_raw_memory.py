"""What a cartridge's memory tells of its room."""

import struct

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from coldstore.tape.raw.memory import _HEADER, Room, parse_attributes


def answer(*attributes: tuple[int, bytes]) -> bytes:
    """An answer to READ ATTRIBUTE, with the rest of its buffer behind it."""
    body = b"".join(struct.pack(">HBH", number, 0x80, len(value)) + value for number, value in attributes)
    return struct.pack(">I", len(body)) + body + bytes(64)


class AttributeTests(SynchronousTestCase):
    """READ ATTRIBUTE."""

    def test_room(self) -> None:
        """Remaining and maximum capacity, in MiB, wherever they stand among others."""
        remaining, most = (100).to_bytes(8, "big"), (800_000).to_bytes(8, "big")
        expected = Room(total_bytes=800_000 * 2**20, free_bytes=100 * 2**20)
        self.assertEqual(parse_attributes(answer((0, remaining), (1, most), (2, bytes(8)))), expected)
        self.assertEqual(parse_attributes(answer((1, most), (0x401, b"x" * 32), (0, remaining))), expected)

    def test_nothing(self) -> None:
        """An answer that does not tell both is none."""
        number = (100).to_bytes(8, "big")
        for attributes in (
            (),
            ((0, number),),
            ((1, number),),
            ((0, number), (1, bytes(8))),
            ((0, b"1"), (1, b"2")),
        ):
            self.assertIsNone(parse_attributes(answer(*attributes)))

    @settings(max_examples=200, deadline=None)
    @given(st.binary(max_size=80))
    def test_garbage(self, garbage: bytes) -> None:
        """Whatever comes is an answer or none."""
        parse_attributes(garbage)

    def test_size(self) -> None:
        """The structure has the size that scsi/sg.h gives it on 64-bit machines."""
        self.assertEqual(_HEADER.size, 88)
