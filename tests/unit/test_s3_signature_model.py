"""Signature Version 4: what botocore signs is accepted, however it is written on the wire, and nothing else that it did not sign."""

import hashlib
from calendar import timegm
from datetime import datetime
from urllib.parse import quote

from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from coldstore.s3.auth import Authenticator, query_fields
from coldstore.s3.errors import S3Error
from coldstore.s3.fields import HeaderFields
from coldstore.s3.head import parse_head
from coldstore.s3.paths import address_of
from coldstore.s3.signed_request import Authentication, SignedRequest
from coldstore.s3.signing import canonical_request
from tests.unit.s3_wire import ACCESS_KEY, HOST, SECRET_KEY, USER, look_up

EXAMPLES = 150
REGION = "us-east-1"
ODD = "ab/%+ &=?#;,:~!'()*é汉\U0010ffff\x01\x7f\""
METHODS = st.sampled_from(["GET", "PUT", "HEAD", "POST", "DELETE"])
KEYS = st.text(ODD, min_size=1, max_size=8)
PAIRS = st.lists(
    st.tuples(st.sampled_from(["prefix", "a", "A", "a-b", "é", "uploads", " "]), st.text(ODD, max_size=5)),
    max_size=4,
)
VALUES = st.text('ab ,;:="é\t', max_size=8).map(str.strip)
FIELDS = st.lists(
    st.tuples(st.sampled_from(["x-amz-meta-a", "x-amz-meta-b", "content-type", "X-Amz-Meta-A"]), VALUES),
    max_size=4,
)
RAW = frozenset(range(0x21, 0x7F)) - frozenset(b"%?#&=+")
"""Bytes that may stand for themselves in a target, whatever signatures make of them."""


class Writing:
    """How one client writes what it has signed; bytes come from ``choices``, again and again."""

    def __init__(self, choices: bytes) -> None:
        self._choices = choices or b"\0"
        self._at = 0

    def _choice(self) -> int:
        self._at += 1
        return self._choices[self._at % len(self._choices)]

    def text(self, text: str, also: bytes = b"") -> bytes:
        """Return a text with each byte as it is, where that can be, or escaped in upper or in lower case."""
        made = b""
        for byte in text.encode():
            choice = self._choice() % 3
            if (choice == 0 and byte in RAW) or byte in also:
                made += bytes([byte])
            else:
                made += b"%%%02X" % byte if choice == 1 else b"%%%02x" % byte
        return made

    def value(self, value: bytes) -> bytes:
        """Return a header's value with more white space, of which signatures count none."""
        blanks = (b"", b" ", b"\t", b"   ")
        outer = blanks[self._choice() % len(blanks)]
        return outer + value.replace(b" ", b" " + blanks[self._choice() % len(blanks)]) + outer


def encoded(text: str) -> str:
    """Encode as signatures do, and for a URL that botocore takes as it is."""
    return quote(text.encode(), safe="~")


class SignatureModelTests(SynchronousTestCase):
    """One endpoint that knows one user, at the moment at which a request was signed."""

    def verified(
        self, method: str, target: bytes, fields: list[tuple[bytes, bytes]], stamp: str
    ) -> Authentication | S3Error:
        """Return what comes of verifying a request at the moment of its signature."""
        now = float(timegm(datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").timetuple()))
        lines = [name + b":" + value for name, value in fields]
        try:
            head = parse_head(b"\r\n".join([method.encode() + b" " + target + b" HTTP/1.1", *lines]))
            address = address_of(head.target, HOST, ())
        except S3Error as error:
            return error
        headers = head.headers.joined(query_fields(address.query))
        authenticator = Authenticator(look_up=look_up, seconds=lambda: now, region=REGION)
        request = SignedRequest(method=method, address=address, headers=headers, body_length_bytes=0)
        done = Deferred.fromCoroutine(authenticator.authenticate(request))
        failure = done.addErrback(lambda failure: failure.trap(S3Error) and failure.value)
        return self.successResultOf(failure)

    def request(
        self, method: str, key: str, pairs: list[tuple[str, str]], fields: list[tuple[str, str]]
    ) -> AWSRequest:
        """Return a request as botocore has it before it signs."""
        query = "&".join(f"{encoded(name)}={encoded(value)}" for name, value in pairs)
        url = f"http://{HOST}/bkt/{quote(key.encode(), safe='/~')}" + ("?" + query if query else "")
        request = AWSRequest(method=method, url=url, data=b"")
        for name, value in fields:
            request.headers.add_header(name, value)
        return request

    @settings(max_examples=EXAMPLES)
    @given(METHODS, KEYS, PAIRS, FIELDS, st.binary(max_size=12), st.permutations(range(4)))
    def test_signed_in_the_header(
        self,
        method: str,
        key: str,
        pairs: list[tuple[str, str]],
        fields: list[tuple[str, str]],
        choices: bytes,
        order: list[int],
    ) -> None:
        """Any path, query and headers: accepted as botocore signed them, in any spelling; with unsigned headers that mean nothing."""
        request = self.request(method, key, pairs, fields)
        S3SigV4Auth(Credentials(ACCESS_KEY, SECRET_KEY), "s3", REGION).add_auth(request)
        sent = [(b"Host", HOST.encode()), (b"User-Agent", b"x"), (b"Accept", b"*/*")]
        writing = Writing(choices)
        sent += [
            (
                name.encode(),
                writing.value(value.encode()) if name.lower() != "authorization" else value.encode(),
            )
            for name, value in request.headers.items()
        ]
        # Fields of one name keep their order; the others may come in any.
        sent.sort(key=lambda field: order[len(field[0].lower()) % 4])
        shuffled = [pairs[number] for number in order if number < len(pairs)]
        target = b"/bkt/" + writing.text(key, b"/")
        if shuffled:
            target += b"?" + b"&".join(
                writing.text(name) + b"=" + writing.text(value) for name, value in shuffled
            )
        stamp = request.headers["X-Amz-Date"]
        found = self.verified(method, target, sent, stamp)
        self.assertIsInstance(found, Authentication, f"{target!r} {sent} {found!r}")
        assert isinstance(found, Authentication)
        self.assertEqual(found.user, USER)

    @settings(max_examples=EXAMPLES)
    @given(METHODS, KEYS, PAIRS, FIELDS, st.binary(max_size=12))
    def test_signed_in_the_query(
        self,
        method: str,
        key: str,
        pairs: list[tuple[str, str]],
        fields: list[tuple[str, str]],
        choices: bytes,
    ) -> None:
        """The same of URLs."""
        request = self.request(method, key, pairs, fields)
        S3SigV4QueryAuth(Credentials(ACCESS_KEY, SECRET_KEY), "s3", REGION, expires=60).add_auth(request)
        sent = [(name.encode(), value.encode()) for name, value in request.headers.items()]
        _, _, query = request.url.partition("?")
        target = b"/bkt/" + Writing(choices).text(key, b"/") + b"?" + query.encode()
        stamp = query.partition("X-Amz-Date=")[2][:16]
        found = self.verified(method, target, [(b"Host", HOST.encode()), *sent], stamp)
        self.assertIsInstance(found, Authentication, f"{target!r} {sent} {found!r}")

    @settings(max_examples=EXAMPLES)
    @given(METHODS, KEYS, PAIRS, FIELDS, st.integers(0, 10**6), st.integers(1, 255))
    def test_anything_else(
        self,
        method: str,
        key: str,
        pairs: list[tuple[str, str]],
        fields: list[tuple[str, str]],
        place: int,
        flip: int,
    ) -> None:
        """A request of which one byte is another one is refused, unless it says the very same."""
        request = self.request(method, key, pairs, fields)
        S3SigV4Auth(Credentials(ACCESS_KEY, SECRET_KEY), "s3", REGION).add_auth(request)
        sent = [(b"Host", HOST.encode())]
        sent += [(name.encode(), value.encode()) for name, value in request.headers.items()]
        target = request.url.removeprefix(f"http://{HOST}").encode()
        said = self.said(method, target, sent, request)
        whole = bytearray(b"\n".join([target, *(name + b":" + value for name, value in sent)]))
        whole[place % len(whole)] ^= flip
        lines = bytes(whole).split(b"\n")
        assume(len(lines) == len(sent) + 1 and all(b":" in line for line in lines[1:]))
        others = [(name, value) for name, _, value in (line.partition(b":") for line in lines[1:])]
        found = self.verified(method, lines[0], others, request.headers["X-Amz-Date"])
        if isinstance(found, Authentication):
            self.assertEqual(self.said(method, lines[0], others, request), said)

    def said(self, method: str, target: bytes, sent: list[tuple[bytes, bytes]], request: AWSRequest) -> bytes:
        """Return what of a request counts, by AWS's rule stated once more."""
        path = target.partition(b"?")[0]
        signed = request.headers["Authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
        address = address_of(target, HOST, ())
        pairs = sorted((encoded(name), encoded(value)) for name, value in address.query)
        lines = [
            method,
            quote(_unquoted(path), safe="/~"),
            "&".join(f"{name}={value}" for name, value in pairs),
        ]
        for name in signed:
            values = [
                b" ".join(value.split()) for each, value in sent if each.decode("latin-1").lower() == name
            ]
            lines.append(f"{name}:{b','.join(values).decode('latin-1')}")
        lines += ["", ";".join(signed), hashlib.sha256(b"").hexdigest()]
        stated = "\n".join(lines).encode("latin-1")
        made = canonical_request(
            method=method,
            decoded_path=address.decoded_path,
            query=address.query,
            headers=HeaderFields(sent),
            signed_headers=signed,
            payload=hashlib.sha256(b"").hexdigest(),
        )
        self.assertEqual(made, stated)
        return stated


def _unquoted(path: bytes) -> bytes:
    made, rest = b"", path
    while rest:
        head, found, rest = rest.partition(b"%")
        made += head
        if found:
            made += bytes.fromhex(rest[:2].decode())
            rest = rest[2:]
    return made
