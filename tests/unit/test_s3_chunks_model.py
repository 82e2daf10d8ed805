"""Bodies in aws-chunked over the wire: cut anywhere they say the same, and with any byte changed they say the same or nothing."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.endtoend.wire import Keys
from tests.fuzzing.case import Asked, Case, Framing
from tests.fuzzing.signing import Signer
from tests.fuzzing.wire import message
from tests.unit.s3_rig import Rig
from tests.unit.s3_wire import ACCESS_KEY, HOST, NOW, SECRET_KEY, ParsedAnswer, Wire

END = b"\r\n\r\n"
FRAMINGS = (Framing.SIGNED_CHUNKS, Framing.SIGNED_CHUNKS_TRAILER, Framing.UNSIGNED_CHUNKS_TRAILER)
SMALL = b"a chunk and its end"
FLIPS = (0x01, 0x20, 0x80)
"""Another digit, the other case, no ASCII at all."""
CHUNK_BYTES = 8192


def request(framing: Framing, content: bytes, checksum: str = "crc32") -> bytes:
    """Return a PUT of content as a client sends it, written without any code of the product."""
    asked = Asked(
        operation="put",
        method=b"PUT",
        target=b"/bkt/k",
        body=content,
        framing=framing,
        chunk_bytes=CHUNK_BYTES,
        checksum=checksum,
    )
    signer = Signer(keys=Keys(ACCESS_KEY, SECRET_KEY), at=NOW)
    return message(Case(asked=(asked,)), {b"@HOST@": HOST.encode()}, signer)


class ChunkModelTests(SynchronousTestCase):
    """One endpoint, and one key that is put again and again."""

    def setUp(self) -> None:
        self.rig = Rig()
        self.assertEqual(self.rig.ask("PUT", "/bkt").status, 200)

    def put(self, *pieces: bytes) -> ParsedAnswer | None:
        """Send a request in pieces; return its answer, None when there is none (yet)."""
        wire: Wire = self.rig.wire()
        for piece in pieces:
            wire.send(piece)
        return wire.answer() if wire.transport.value() else None

    def kept(self) -> bytes | None:
        """Return what is under the key, None when there is nothing, and leave nothing."""
        answer = self.rig.ask("GET", "/bkt/k")
        self.assertEqual(self.rig.ask("DELETE", "/bkt/k").status, 204)
        return answer.body if answer.status == 200 else None

    def assert_kept(self, content: bytes, *pieces: bytes) -> None:
        """Check that pieces make an object of this content."""
        answer = self.put(*pieces)
        assert answer is not None, pieces
        self.assertEqual((answer.status, answer.body), (200, b""), pieces)
        self.assertEqual(self.kept(), content)

    def test_every_split(self) -> None:
        """In two pieces, cut between any two bytes of the body."""
        for framing in FRAMINGS:
            sent = request(framing, SMALL)
            for at in range(sent.index(END) + len(END), len(sent) + 1):
                self.assert_kept(SMALL, sent[:at], sent[at:])

    def test_byte_by_byte(self) -> None:
        """Every byte alone, the head's too."""
        for framing in FRAMINGS:
            for content in (b"", SMALL):
                sent = request(framing, content)
                self.assert_kept(content, *(sent[at : at + 1] for at in range(len(sent))))

    @settings(max_examples=25)
    @given(
        st.sampled_from(FRAMINGS),
        st.sampled_from([0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES + 5]),
        st.sampled_from(["crc32", "sha1", "sha256"]),
        st.lists(st.floats(0, 1), max_size=8),
    )
    def test_random_splits(self, framing: Framing, size: int, checksum: str, cuts: list[float]) -> None:
        """Several chunks in several pieces, with any checksum."""
        content = bytes(number * number % 251 for number in range(size))
        sent = request(framing, content, checksum)
        places = sorted({0, len(sent), *(int(cut * len(sent)) for cut in cuts)})
        pieces = [sent[begin:end] for begin, end in pairwise(places)]
        self.assert_kept(content, *pieces)

    def test_every_byte_changed(self) -> None:
        """A change of one byte of the body, wherever, is refused or does no harm: no other content is ever kept."""
        for framing in FRAMINGS:
            sent = request(framing, SMALL)
            refused = 0
            for at in range(sent.index(END) + len(END), len(sent)):
                changed = sent[:at] + bytes([sent[at] ^ FLIPS[at % len(FLIPS)]]) + sent[at + 1 :]
                pieces = self.rig.piece_count
                answer = self.put(changed)
                if answer is not None and answer.status == 200:
                    self.assertEqual(self.kept(), SMALL, (framing, at))
                    continue
                self.assertIn(None if answer is None else answer.status, (None, 400, 403), (framing, at))
                self.assertEqual(self.rig.piece_count, pieces, (framing, at))
                refused += 1
            self.assertGreater(refused, len(SMALL))
            self.assertIsNone(self.kept())

    def test_every_truncation(self) -> None:
        """A body that ends before its time is no object, wherever it ends."""
        for framing in FRAMINGS:
            sent = request(framing, SMALL)
            for end in range(sent.index(END) + len(END), len(sent)):
                wire = self.rig.wire()
                wire.send(sent[:end])
                wire.lose()
                self.assertEqual(self.rig.piece_count, 0, (framing, end))
        self.assertIsNone(self.kept())
