"""Heads of requests: bytes to what they say, and what is refused."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from coldstore.s3.errors import S3Error
from coldstore.s3.head import (
    LINES_LIMIT,
    SIZE_LIMIT_BYTES,
    check_beginning,
    parse_head,
    without_blank_lines,
)


class HeadTests(SynchronousTestCase):
    """``parse_head``."""

    def code(self, head: bytes) -> str:
        """Return the code with which a head is refused."""
        return self.assertRaises(S3Error, parse_head, head).code

    def test_fields(self) -> None:
        """Names are lower case, values are what came without the white space around them, lines of a name stay apart."""
        head = parse_head(
            b"PUT /b/k?x=%20 HTTP/1.1\r\nHost:\ta:1 \r\nX-Amz-Meta-A: 1\r\nx-amz-meta-a:\xc3\xa4  b"
        )
        self.assertEqual((head.method, head.target, head.is_1_1), ("PUT", b"/b/k?x=%20", True))
        self.assertEqual(head.headers.raw("host"), [b"a:1"])
        self.assertEqual(head.headers.raw("x-amz-meta-a"), [b"1", b"\xc3\xa4  b"])
        self.assertEqual(
            list(head.headers.lines())[1:], [("x-amz-meta-a", b"1"), ("x-amz-meta-a", b"\xc3\xa4  b")]
        )

    def test_length(self) -> None:
        """A length is a number, chunked has none, and nothing is said of no body."""
        for field, length in (
            (b"Content-Length: 007", 7),
            (b"content-length:0", 0),
            (b"Transfer-Encoding: Chunked", None),
            (b"X: y", 0),
        ):
            self.assertEqual(parse_head(b"PUT / HTTP/1.1\r\n" + field).length_bytes, length, field)

    def test_length_in_doubt(self) -> None:
        """What could be read in two ways is refused, in whichever order it stands."""
        for fields in (
            b"Content-Length: 5\r\nContent-Length: 5",
            b"Content-Length: 5\r\nTransfer-Encoding: chunked",
            b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            b"Transfer-Encoding: gzip, chunked",
            b"Content-Length: +5",
            b"Content-Length: 5 5",
            b"Content-Length:",
            b"Content-Length: " + b"9" * 20,
            b"Content-Length: \xb2",
            b"Host: a\r\nHost: a",
            b"A: b\r\n Content-Length: 5",
            b"A: b\r\n\tc",
            b"A: b\nContent-Length: 5",
            b"A: b\rContent-Length: 5",
            b"A: b\x00",
        ):
            self.assertEqual(self.code(b"PUT / HTTP/1.1\r\n" + fields), "InvalidRequest", fields)
        self.assertEqual(self.code(b"PUT / HTTP/1.0\r\nTransfer-Encoding: chunked"), "InvalidRequest")

    def test_not_http(self) -> None:
        """Anything that is not a request line and fields is named as such."""
        for head in (
            b"",
            b"GET /",
            b"GET  / HTTP/1.1",
            b"GET / HTTP/1.2",
            b"GET / HTTP/1.1 ",
            b"GET / http/1.1",
            b"G{T / HTTP/1.1",
            b"GET /a b HTTP/1.1",
            b"GET /\x7f\xff HTTP/1.1",
            b"GET /a\nb HTTP/1.1",
            b"GET / HTTP/1.1\r\nno colon",
            b"GET / HTTP/1.1\r\n: empty",
            b"GET / HTTP/1.1\r\nContent-Length : 5",
            b"GET / HTTP/1.1\r\n" + b"n\xc3\xa4me: x",
            b"GET / HTTP/1.1" + b"\r\na: b" * (LINES_LIMIT + 1),
        ):
            self.assertEqual(self.code(head), "BadRequest", head[:60])

    def test_connection(self) -> None:
        """HTTP/1.1 keeps its connection unless told otherwise; HTTP/1.0 never does."""
        for head, keeps in (
            (b"GET / HTTP/1.1", True),
            (b"GET / HTTP/1.1\r\nConnection: Keep-Alive", True),
            (b"GET / HTTP/1.1\r\nConnection: Close", False),
            (b"GET / HTTP/1.0\r\nConnection: keep-alive", False),
        ):
            self.assertIs(parse_head(head).keeps_connection, keeps, head)

    def test_continue(self) -> None:
        """Who waits for 100 Continue says so in HTTP/1.1."""
        for version, expects in ((b"1.1", True), (b"1.0", False)):
            head = parse_head(b"PUT / HTTP/" + version + b"\r\nExpect: 100-Continue\r\nContent-Length: 1")
            self.assertIs(head.expects_continue, expects)
        self.assertFalse(parse_head(b"PUT / HTTP/1.1\r\nExpect: 200-ok").expects_continue)

    @given(st.binary(max_size=200))
    def test_any_bytes(self, noise: bytes) -> None:
        """Whatever the bytes, they are a head or refused."""
        for head in (noise, b"GET / HTTP/1.1\r\n" + noise):
            try:
                parse_head(head)
            except S3Error as error:
                self.assertIn(error.code, ("BadRequest", "InvalidRequest"))


class BeginningTests(SynchronousTestCase):
    """Heads that are not complete."""

    def code(self, received: bytes) -> str:
        """Return the code with which a beginning is refused."""
        return self.assertRaises(S3Error, check_beginning, received).code

    def test_what_may_become_a_head(self) -> None:
        """Half an empty line, part of a request line, and lines whatever they say, are waited for."""
        for received in (
            b"",
            b"\r",
            b"GE",
            b"GET / HTTP/1.1\r\n",
            b"GET / HTTP/1.1\r\nA: b\r\nno colon\r\n",
        ):
            check_beginning(received)

    def test_what_cannot(self) -> None:
        """A line that is no request line, too many lines and too many bytes are refused before the end comes."""
        for first in (b"\x16\x03", b"\x80", b" ", b"\x00", b"\rG", b"\n", b"GET / HTTP/2.0\r\n"):
            self.assertEqual(self.code(first), "BadRequest")
        self.assertEqual(self.code(b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * LINES_LIMIT), "BadRequest")
        self.assertEqual(self.code(b"x" * (SIZE_LIMIT_BYTES + 1)), "RequestHeaderSectionTooLarge")

    def test_blank_lines(self) -> None:
        """Empty lines before a request are skipped; a single line feed is none."""
        self.assertEqual(without_blank_lines(b"\r\n\r\nGET"), b"GET")
        for received in (b"GET\r\n", b"\nGET", b"\r", b"\rGET"):
            self.assertEqual(without_blank_lines(received), received)
        self.assertEqual(without_blank_lines(b"\r\n\nGET"), b"\nGET")
