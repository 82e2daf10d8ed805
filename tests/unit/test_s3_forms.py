"""Forms in any pieces: what is read of their fields, how the file goes on, and what is no form."""

from collections.abc import Callable, Sequence
from functools import partial

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from coldstore.s3.body import BodyAborted
from coldstore.s3.errors import S3Error
from coldstore.s3.fields import HeaderFields
from coldstore.s3.forms import BEFORE_FILE_LIMIT_BYTES, FIELDS_LIMIT_BYTES, Form, FormBody
from coldstore.s3.integrity import ReceivedBody

BOUNDARY = "aBoundary"


def part(name: str, value: bytes, more: str = "") -> bytes:
    """Return one part."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'
    return head.encode() + value + b"\r\n"


def form_of(*parts: bytes, end: bytes = b"\r\n") -> bytes:
    """Return a whole form."""
    return b"".join(parts) + f"--{BOUNDARY}--".encode() + end


class Source:
    """A client that sends what it is told to, unless it is held back."""

    def __init__(self) -> None:
        self.sink: Callable[[bytes], None] = lambda _: None
        self.done: Deferred[None] = Deferred()
        self.is_paused = False
        self.is_discarded = False

    def deliver(self, sink: Callable[[bytes], None]) -> Deferred[None]:
        """Begin."""
        self.sink = sink
        return self.done

    def pause(self) -> None:
        """Hold back."""
        self.is_paused = True

    def resume(self) -> None:
        """Go on."""
        self.is_paused = False

    def discard(self) -> None:
        """Drop the rest."""
        self.is_discarded = True


class Kept:
    """A sink that keeps everything."""

    def __init__(self) -> None:
        self.blocks: list[bytes] = []
        self.pause: Callable[[], None] = lambda: None
        self.resume: Callable[[], None] = lambda: None

    def write(self, block: bytes) -> None:
        """Keep."""
        self.blocks.append(block)

    def on_pressure(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        """Let a test press."""
        self.pause, self.resume = pause, resume


class Upload:
    """A form that is sent block by block, and what came of it."""

    def __init__(self, blocks: Sequence[bytes], *, most_bytes: int = 1 << 30, least_bytes: int = 0) -> None:
        self.source, self.kept = Source(), Kept()
        length = sum(map(len, blocks))
        self.body = FormBody(
            self.source,
            HeaderFields(
                [
                    (b"content-type", f"multipart/form-data; boundary={BOUNDARY}".encode()),
                    (b"content-length", str(length).encode()),
                ]
            ),
        )
        self.form: Form | None = None
        self.received: ReceivedBody | None = None
        self.error: BaseException | None = None
        self.was_held_back = False
        self._limits = (least_bytes, most_bytes)
        self.body.read_fields().addCallback(self._fields).addErrback(self._failed)
        for block in blocks:
            if self.source.is_paused:
                self.was_held_back = True
            self.source.sink(block)
        self.source.done.callback(None)

    def _fields(self, form: Form) -> None:
        self.form = form
        self.body.limit(*self._limits)

    def _failed(self, failure: Failure) -> None:
        self.error = failure.value

    def stream(self) -> "Upload":
        """Take the file."""
        self.body.stream_to(self.kept).addCallbacks(partial(setattr, self, "received"), self._failed)
        return self

    @property
    def code(self) -> str:
        """The code of the error."""
        assert isinstance(self.error, S3Error), self.error
        return self.error.code


def in_pieces(whole: bytes, size: int) -> list[bytes]:
    """Cut bytes into blocks."""
    return [whole[at : at + size] for at in range(0, len(whole), size)]


FIELDS = (part("key", b"a/${filename}"), part("X-Amz-Meta-Name", "värde".encode()))
FILE = b"\r\n--aBound\r\n--" * 7 + b"\r"


class FormTests(SynchronousTestCase):
    """A form as it arrives."""

    def test_every_split(self) -> None:
        """Wherever the blocks are cut, fields, file and lengths are the same."""
        whole = form_of(
            *FIELDS, part("file", FILE, '; filename="C:\\fakepath\\x.jpg"'), part("submit", b"go")
        )
        for size in (*range(1, 40), len(whole)):
            upload = Upload(in_pieces(whole, size)).stream()
            self.assertIsNone(upload.error)
            assert upload.form is not None and upload.received is not None
            self.assertEqual(dict(upload.form.fields), {"key": "a/${filename}", "x-amz-meta-name": "värde"})
            self.assertEqual(upload.form.file_name, "x.jpg")
            self.assertEqual(b"".join(upload.kept.blocks), FILE)
            self.assertEqual(upload.received.length_bytes, len(FILE))
            self.assertGreaterEqual(upload.body.length_bytes, len(FILE))

    @given(st.binary(max_size=200), st.integers(1, 64), st.booleans())
    def test_any_file(self, content: bytes, size: int, has_end: bool) -> None:
        """Whatever the file holds, it arrives, and the bound on its length holds."""
        if f"\r\n--{BOUNDARY}".encode() in b"\r\n" + content:
            return
        whole = form_of(*FIELDS, part("file", content), end=b"\r\n" * has_end)
        upload = Upload(in_pieces(whole, size)).stream()
        assert upload.received is not None
        self.assertEqual(b"".join(upload.kept.blocks), content)
        self.assertEqual(upload.received.length_bytes, len(content))
        self.assertGreaterEqual(upload.body.length_bytes, len(content))
        if size > len(whole):
            self.assertEqual(upload.body.length_bytes, len(content))

    def test_held_back(self) -> None:
        """Between the fields and the file's sink, and while that presses, the client is held back."""
        source, kept = Source(), Kept()
        whole = form_of(*FIELDS, part("file", b"x" * 1000))
        headers = HeaderFields(
            [
                (b"content-type", f"multipart/form-data; boundary={BOUNDARY}".encode()),
                (b"content-length", str(len(whole)).encode()),
            ]
        )
        body = FormBody(source, headers)
        forms: list[Form] = []
        body.read_fields().addCallback(forms.append)
        source.sink(whole[:-900])
        self.assertEqual((len(forms), source.is_paused), (1, True))
        body.limit(0, 1000)
        received: list[ReceivedBody] = []
        body.stream_to(kept).addCallback(received.append)
        self.assertFalse(source.is_paused)
        kept.pause()
        self.assertTrue(source.is_paused)
        kept.resume()
        self.assertFalse(source.is_paused)
        source.sink(whole[-900:])
        source.done.callback(None)
        self.assertEqual(received, [ReceivedBody(length_bytes=1000)])

    def test_client_leaves(self) -> None:
        """A client that goes ends the fields or the file, whichever is awaited."""
        for sent in (0, 60, 400):
            source = Source()
            whole = form_of(*FIELDS, part("file", b"x" * 1000))
            headers = HeaderFields(
                [
                    (b"content-type", f"multipart/form-data; boundary={BOUNDARY}".encode()),
                    (b"content-length", str(len(whole)).encode()),
                ]
            )
            body = FormBody(source, headers)
            fields = body.read_fields()
            source.sink(whole[:sent])
            source.done.errback(BodyAborted())
            if sent < 400:
                self.failureResultOf(fields, BodyAborted)
            else:
                self.successResultOf(fields)
                self.failureResultOf(body.stream_to(Kept()), BodyAborted)

    def test_limits_of_the_file(self) -> None:
        """A file that is too long is refused as soon as it is, one that is too short at its end."""
        whole = form_of(*FIELDS, part("file", b"x" * 500))
        for size in (1, 50, len(whole)):
            self.assertEqual(Upload(in_pieces(whole, size), most_bytes=499).stream().code, "EntityTooLarge")
            self.assertEqual(Upload(in_pieces(whole, size), least_bytes=501).stream().code, "EntityTooSmall")
            self.assertIsNone(Upload(in_pieces(whole, size), most_bytes=500, least_bytes=500).stream().error)

    def test_too_much_before_the_file(self) -> None:
        """Fields are bounded, and so is everything around them."""
        for before in (
            part("x", b"a" * (FIELDS_LIMIT_BYTES + 1)),
            b"".join(part(f"{number}", b"a" * 100) for number in range(FIELDS_LIMIT_BYTES // 100)),
            part("x", b"", "; " + "y=z;" * 30) * 0 + b"".join(part(f"x{n}", b"") for n in range(600)),
        ):
            upload = Upload(in_pieces(form_of(before, part("file", b"x")), 1000))
            self.assertIn(upload.code, ("MaxPostPreDataLengthExceededError", "MalformedPOSTRequest"))
            self.assertTrue(upload.source.is_discarded)
        endless = Upload([b"\r\n" * 500] * (BEFORE_FILE_LIMIT_BYTES // 1000 + 1))
        self.assertIn(endless.code, ("MaxPostPreDataLengthExceededError", "MalformedPOSTRequest"))

    def test_no_form(self) -> None:
        """What is not a form, or not one with a file, is refused by name."""
        file = part("file", b"x")
        for whole, code in (
            (b"", "MalformedPOSTRequest"),
            (b"nonsense" * 20, "MalformedPOSTRequest"),
            (form_of(*FIELDS), "InvalidArgument"),
            (form_of(*FIELDS, FIELDS[0], file), "InvalidArgument"),
            (form_of(part("key", b"\xff"), file), "InvalidArgument"),
            (form_of(file)[:-20], "MalformedPOSTRequest"),
            (form_of(file, file), "InvalidArgument"),
            (form_of(part("key", b"a").replace(b"form-data", b"attachment"), file), "MalformedPOSTRequest"),
            (form_of(part("key", b"a").replace(b"\r\n", b"\n"), file), "MalformedPOSTRequest"),
        ):
            upload = Upload([whole] if whole else [])
            if upload.error is None:
                upload.stream()
            self.assertEqual(upload.code, code, whole)

    def test_headers(self) -> None:
        """Length and boundary must be told."""
        for fields, code in (
            ([(b"content-type", b"multipart/form-data; boundary=x")], "MissingContentLength"),
            (
                [(b"content-type", b"multipart/form-data"), (b"content-length", b"5")],
                "MalformedPOSTRequest",
            ),
            (
                [
                    (b"content-type", b"multipart/form-data; boundary=" + b"x" * 71),
                    (b"content-length", b"5"),
                ],
                "MalformedPOSTRequest",
            ),
        ):
            error = self.assertRaises(S3Error, FormBody, Source(), HeaderFields(fields))
            self.assertEqual(error.code, code)
