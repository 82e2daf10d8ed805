"""Encrypting on the way to the disk: order, threads, holding back, and what goes wrong."""

from collections.abc import Callable
from hashlib import md5
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from coldstore.model.objects import Encryption
from coldstore.s3.encryption import ObjectKey, Sealing
from coldstore.s3.encryption_pieces import CHUNK_BYTES, HEADER_BYTES, TAG_BYTES, stored_bytes
from coldstore.s3.encryption_receiving import BATCH_BYTES, WAITING_LIMIT_BYTES, SealingSink

KEY = ObjectKey(bytes(32), CHUNK_BYTES)
PLAIN = Random(1).randbytes(3 * WAITING_LIMIT_BYTES)


class Threads:
    """Threads that run when they are told."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Callable[[], None], Deferred[None]]] = []

    def run(self, function: Callable[[], None]) -> Deferred[None]:
        """Take a call."""
        done: Deferred[None] = Deferred()
        self.waiting.append((function, done))
        return done

    def go(self) -> None:
        """Run what waits."""
        (function, done), *self.waiting = self.waiting
        try:
            function()
        except ValueError as error:
            done.errback(error)
        else:
            done.callback(None)


class Recorder:
    """Stands for the disk."""

    def __init__(self) -> None:
        self.content = b""
        self.pause: Callable[[], None] = lambda: None
        self.resume: Callable[[], None] = lambda: None

    def write(self, block: bytes) -> None:
        """Keep."""
        self.content += block

    def on_pressure(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        """Remember."""
        self.pause, self.resume = pause, resume


class SinkTests(SynchronousTestCase):
    """``SealingSink``."""

    def setUp(self) -> None:
        """A sink whose threads and disk we are."""
        self.start()

    def start(self) -> None:
        """Begin another piece."""
        self.threads, self.disk = Threads(), Recorder()
        encryption = Encryption("AES256", "", "", CHUNK_BYTES)
        sealing = Sealing(encryption, KEY, Random(2), self.threads.run)
        self.sink = SealingSink(self.disk, sealing, frozenset({"md5"}))  # type: ignore[arg-type]
        self.pressed: list[bool] = []
        self.sink.on_pressure(lambda: self.pressed.append(True), lambda: self.pressed.append(False))

    def check(self, plain: bytes, digests: object) -> None:
        """See that the disk has what was written, encrypted."""
        content = self.disk.content
        self.assertEqual(digests, {"md5": md5(plain).digest()})
        self.assertEqual(len(content), stored_bytes(len(plain), CHUNK_BYTES))
        self.assertEqual(self.sink.stored_bytes, len(content))
        cipher = KEY.cipher(content[:HEADER_BYTES])
        step = CHUNK_BYTES + TAG_BYTES
        places = range(HEADER_BYTES, len(content), step)
        opened = [
            cipher.open(index, content[place : place + step], is_last=place == places[-1])
            for index, place in enumerate(places)
        ]
        self.assertEqual(b"".join(opened), plain)

    def finished(self) -> Deferred[object]:
        """Finish."""
        return Deferred.fromCoroutine(self.sink.finish())

    @settings(max_examples=40, deadline=None)
    @given(
        st.lists(
            st.sampled_from([1, 1000, CHUNK_BYTES - 1, CHUNK_BYTES, 200_000, BATCH_BYTES]),
            min_size=1,
            max_size=12,
        ),
        st.data(),
    )
    def test_blocks(self, lengths: list[int], data: st.DataObject) -> None:
        """Blocks of any lengths make the same piece, whenever threads get round to them."""
        self.start()
        at = 0
        for length in lengths:
            self.sink.write(PLAIN[at : at + length])
            at += length
            while data.draw(st.booleans()) and self.threads.waiting:
                self.threads.go()
            self.assertLessEqual(len(self.threads.waiting), 1)
        done = self.finished()
        while self.threads.waiting:
            self.threads.go()
        self.check(PLAIN[:at], self.successResultOf(done))

    def test_small(self) -> None:
        """Little is encrypted at once, and no thread is asked."""
        self.sink.write(PLAIN[:CHUNK_BYTES])
        done = self.finished()
        self.assertEqual(self.threads.waiting, [])
        self.check(PLAIN[:CHUNK_BYTES], self.successResultOf(done))

    def test_pressure(self) -> None:
        """The writer is held back by what waits to be encrypted, and by the disk, and goes on when neither does."""
        block = CHUNK_BYTES
        written = 0
        while not self.pressed:
            self.sink.write(PLAIN[written : written + block])
            written += block
            self.assertLess(written, 2 * WAITING_LIMIT_BYTES)
        self.assertEqual(self.pressed, [True])
        self.disk.pause()
        self.assertEqual(self.pressed, [True, True])
        self.threads.go()
        self.assertEqual(self.pressed, [True, True])
        self.disk.resume()
        self.assertEqual(self.pressed, [True, True, False])
        done = self.finished()
        self.assertNoResult(done)
        while self.threads.waiting:
            self.threads.go()
        self.check(PLAIN[:written], self.successResultOf(done))

    def test_failure(self) -> None:
        """What goes wrong in a thread makes the end fail; the writer is let go, and what it still writes is dropped."""

        def fail() -> None:
            raise ValueError("no memory")

        while not self.pressed:
            self.sink.write(bytes(block := CHUNK_BYTES))
        (_, done), *self.threads.waiting = self.threads.waiting
        self.threads.waiting.append((fail, done))
        self.threads.go()
        self.assertEqual(self.pressed, [True, False])
        self.sink.write(bytes(block) * 100)
        self.assertEqual((self.disk.content, self.threads.waiting), (b"", []))
        self.failureResultOf(self.finished(), ValueError)

    def test_waits_for_what_runs(self) -> None:
        """The end comes after all that is under way, also when that fails."""
        self.sink.write(PLAIN[: 2 * BATCH_BYTES])
        done = self.finished()
        (_, running), *_ = self.threads.waiting
        self.assertNoResult(done)
        running.errback(ValueError("no memory"))
        self.failureResultOf(done, ValueError)
