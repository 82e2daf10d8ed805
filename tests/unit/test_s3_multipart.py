"""Multipart uploads: the rules of completing one, and the operations around it."""

import zlib
from base64 import b64encode
from collections.abc import Sequence
from hashlib import md5, sha256

from twisted.trial.unittest import SynchronousTestCase

from coldstore.model.objects import Checksum, ChecksumKind, Piece
from coldstore.s3.errors import S3Error
from coldstore.s3.multipart_plan import (
    PART_MIN_BYTES,
    Claims,
    Completion,
    ListedPart,
    checksum_choice,
    multipart_etag,
    parse_complete,
    plan_completion,
)
from coldstore.s3.xml import MalformedDocument
from coldstore.util.checksums import crc64nvme
from tests.unit.s3_rig import Rig, text_of, texts_of
from tests.unit.s3_wire import ParsedAnswer

FULL, COMPOSITE = ChecksumKind.FULL_OBJECT, ChecksumKind.COMPOSITE
MIN = b"m" * PART_MIN_BYTES


def base64_of(raw: bytes) -> str:
    """Return base64 text."""
    return b64encode(raw).decode()


def crc32_of(content: bytes) -> str:
    """Return CRC-32 as S3 shows it."""
    return base64_of(zlib.crc32(content).to_bytes(4, "big"))


def piece(number: int, content: bytes, checksum: Checksum | None = None) -> Piece:
    """Return an uploaded part."""
    return Piece(
        ordinal=number,
        address=f"p{number}",
        length_bytes=len(content),
        crc64nvme=crc64nvme(content),
        etag=md5(content).hexdigest(),
        checksum=checksum,
    )


def completed(
    pieces: Sequence[Piece],
    listed: Sequence[ListedPart] | None = None,
    *,
    algorithm: str = "",
    kind: ChecksumKind | None = None,
    claims: Claims | None = None,
) -> Completion:
    """Complete these parts; without a list, all of them as they are."""
    return plan_completion(
        [ListedPart(number=each.ordinal, etag=each.etag) for each in pieces] if listed is None else listed,
        {each.ordinal: each for each in pieces},
        upload_id="up",
        algorithm=algorithm,
        kind=kind,
        claims=claims or Claims(),
    )


NEWER = ("SHA512", "MD5", "XXHASH64", "XXHASH3", "XXHASH128")


class CompletionTests(SynchronousTestCase):
    """The pure rules."""

    def test_object_of_parts(self) -> None:
        """ETag from the ETags, CRC64NVME of the whole from those of the parts, sizes as text; gaps are allowed."""
        found = completed([piece(1, MIN), piece(4, MIN), piece(9, b"end")])
        whole = MIN + MIN + b"end"
        digests = b"".join(md5(part).digest() for part in (MIN, MIN, b"end"))
        self.assertEqual(found.etag, md5(digests).hexdigest() + "-3")
        self.assertEqual((found.numbers, found.size_bytes), ((1, 4, 9), len(whole)))
        self.assertEqual(found.crc64nvme, crc64nvme(whole))
        self.assertEqual(found.part_sizes, f"{PART_MIN_BYTES}x2,3")
        expected = base64_of(crc64nvme(whole).to_bytes(8, "big"))
        self.assertEqual(found.checksum, Checksum(algorithm="CRC64NVME", value=expected))

    def test_published_etag(self) -> None:
        """One part has a suffix too."""
        self.assertEqual(multipart_etag([md5(b"").hexdigest()]), md5(md5(b"").digest()).hexdigest() + "-1")

    def test_full_object_crc32_of_several_parts(self) -> None:
        """Is combined from those of the parts."""
        parts = [
            piece(1, MIN, Checksum(algorithm="CRC32", value=crc32_of(MIN))),
            piece(2, b"end", Checksum(algorithm="CRC32", value=crc32_of(b"end"))),
        ]
        found = completed(parts, algorithm="CRC32", kind=FULL)
        self.assertEqual(found.checksum, Checksum(algorithm="CRC32", value=crc32_of(MIN + b"end")))

    def composite(self) -> tuple[list[Piece], list[ListedPart], str]:
        """Return parts with SHA-256, their list, and the object's checksum."""
        contents = [MIN, b"end"]
        values = [base64_of(sha256(content).digest()) for content in contents]
        pieces = [
            piece(number, content, Checksum(algorithm="SHA256", value=value))
            for number, (content, value) in enumerate(zip(contents, values, strict=True), 1)
        ]
        listed = [
            ListedPart(number=each.ordinal, etag=each.etag, checksums={"SHA256": value})
            for each, value in zip(pieces, values, strict=True)
        ]
        total = sha256(b"".join(sha256(content).digest() for content in contents)).digest()
        return pieces, listed, base64_of(total)

    def test_composite(self) -> None:
        """The checksum of the checksums with the number of parts; those that are listed must be right."""
        pieces, listed, total = self.composite()
        found = completed(pieces, listed, algorithm="SHA256", kind=COMPOSITE)
        self.assertEqual(found.checksum, Checksum(algorithm="SHA256", value=f"{total}-2", kind=COMPOSITE))
        digests = b"".join(sha256(content).digest() for content in (MIN, b"end"))
        self.assertEqual(b"".join(found.part_digests), digests)
        self.assertEqual(completed(pieces, algorithm="SHA256", kind=COMPOSITE), found)
        wrong = [
            listed[0],
            ListedPart(number=2, etag=listed[1].etag, checksums={"SHA256": base64_of(bytes(32))}),
        ]
        self.assertEqual(self._code(pieces, wrong, algorithm="SHA256", kind=COMPOSITE), "InvalidPart")

    def test_claims(self) -> None:
        """Size, checksum and its kind must be what was computed; a composite value may lack its suffix."""
        pieces, listed, total = self.composite()

        def code(claims: Claims) -> str:
            return self._code(pieces, listed, algorithm="SHA256", kind=COMPOSITE, claims=claims)

        size = PART_MIN_BYTES + 3
        for value in (total, f"{total}-2"):
            claims = Claims(
                size_bytes=size, kind=COMPOSITE, checksum=Checksum(algorithm="SHA256", value=value)
            )
            completed(pieces, listed, algorithm="SHA256", kind=COMPOSITE, claims=claims)
        self.assertEqual(code(Claims(size_bytes=size - 1)), "InvalidRequest")
        self.assertEqual(code(Claims(kind=FULL)), "InvalidRequest")
        self.assertEqual(code(Claims(checksum=Checksum(algorithm="SHA256", value=f"{total}-3"))), "BadDigest")
        self.assertEqual(
            code(Claims(checksum=Checksum(algorithm="CRC32", value="AAAAAA=="))), "InvalidRequest"
        )

    def test_refusals(self) -> None:
        """Order, presence, ETag and size of parts."""
        first, second = piece(1, MIN), piece(2, b"end")
        one, two = (ListedPart(number=each.ordinal, etag=each.etag) for each in (first, second))
        for listed, code in (
            ([two, one], "InvalidPartOrder"),
            ([one, one], "InvalidPartOrder"),
            ([one, ListedPart(number=3, etag=two.etag)], "InvalidPart"),
            ([ListedPart(number=1, etag=two.etag)], "InvalidPart"),
            ([ListedPart(number=1, etag="")], "InvalidPart"),
        ):
            self.assertEqual(self._code([first, second], listed), code)
        small = piece(1, MIN[:-1])
        error = self.assertRaises(S3Error, completed, [small, second])
        self.assertEqual(
            (error.code, error.details["ProposedSize"], error.details["MinSizeAllowed"]),
            ("EntityTooSmall", str(PART_MIN_BYTES - 1), str(PART_MIN_BYTES)),
        )

    def _code(
        self,
        pieces: Sequence[Piece],
        listed: Sequence[ListedPart] | None = None,
        *,
        algorithm: str = "",
        kind: ChecksumKind | None = None,
        claims: Claims | None = None,
    ) -> str:
        error = self.assertRaises(
            S3Error, completed, pieces, listed, algorithm=algorithm, kind=kind, claims=claims
        )
        return str(error.code)

    def test_choice(self) -> None:
        """Each algorithm has its kinds and its default."""
        for asked, expected in (
            ((None, None), ("", None)),
            (("crc32", None), ("CRC32", COMPOSITE)),
            (("CRC32C", "FULL_OBJECT"), ("CRC32C", FULL)),
            (("CRC64NVME", None), ("CRC64NVME", FULL)),
            (("SHA1", "COMPOSITE"), ("SHA1", COMPOSITE)),
            *(((name, None), (name, COMPOSITE)) for name in NEWER),
        ):
            self.assertEqual(checksum_choice(*asked), expected)
        for refused in (
            (None, "COMPOSITE"),
            ("CRC64NVME", "COMPOSITE"),
            ("SHA256", "FULL_OBJECT"),
            *((name, "FULL_OBJECT") for name in NEWER),
            ("SHA224", None),
            ("CRC32", "HALF"),
        ):
            self.assertEqual(
                self.assertRaises(S3Error, checksum_choice, *refused).code, "InvalidRequest", refused
            )

    def test_documents(self) -> None:
        """ETags in any quoting; anything else is refused."""
        body = (
            b"<CompleteMultipartUpload><Part><ETag>&quot;ab&quot;</ETag><PartNumber>1</PartNumber></Part>"
            b"<Part><PartNumber>2</PartNumber><ETag>&#34;cd&#34;</ETag><ChecksumCRC32>AAAAAA==</ChecksumCRC32></Part>"
            b"</CompleteMultipartUpload>"
        )
        self.assertEqual(
            parse_complete(body),
            [
                ListedPart(number=1, etag="ab"),
                ListedPart(number=2, etag="cd", checksums={"CRC32": "AAAAAA=="}),
            ],
        )
        empty = b"<CompleteMultipartUpload></CompleteMultipartUpload>"
        self.assertRaises(MalformedDocument, parse_complete, empty)
        many = b"<CompleteMultipartUpload>" + b"<Part/>" * 10_001 + b"</CompleteMultipartUpload>"
        self.assertRaises(MalformedDocument, parse_complete, many)
        for part in (
            b"<ETag>a</ETag>",
            b"<PartNumber>1</PartNumber>",
            b"<PartNumber>x</PartNumber><ETag>a</ETag>",
        ):
            body = b"<CompleteMultipartUpload><Part>" + part + b"</Part></CompleteMultipartUpload>"
            self.assertRaises(MalformedDocument, parse_complete, body)


def listing(*parts: tuple[int, str]) -> bytes:
    """Return a list of parts as clients send it."""
    items = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>" for number, etag in parts
    )
    return f"<CompleteMultipartUpload>{items}</CompleteMultipartUpload>".encode()


class OperationTests(SynchronousTestCase):
    """The operations, with their effects on store and disk."""

    def setUp(self) -> None:
        """A bucket."""
        self.rig = Rig()
        self.rig.put("/bkt")

    def begin(self, key: str = "k", **headers: str) -> str:
        """Create an upload."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = self.rig.ask("POST", f"/bkt/{key}?uploads", headers=sent)
        self.assertEqual(answer.status, 200, answer.body)
        return text_of(answer.body, "UploadId") or ""

    def part(
        self, upload_id: str, number: int, content: bytes, key: str = "k", **headers: str
    ) -> ParsedAnswer:
        """Upload a part."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.rig.ask("PUT", f"/bkt/{key}?partNumber={number}&uploadId={upload_id}", content, sent)

    def complete(
        self, upload_id: str, *parts: tuple[int, str], key: str = "k", **headers: str
    ) -> ParsedAnswer:
        """Complete an upload."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.rig.ask("POST", f"/bkt/{key}?uploadId={upload_id}", listing(*parts), sent)

    def test_life(self) -> None:
        """Parts in any order, one replaced, one not listed: the object has what was listed, and its class."""
        upload_id = self.begin(x_amz_storage_class="GLACIER", content_type="a/b", x_amz_meta_m="v")
        second = self.part(upload_id, 2, b"end").headers["etag"]
        self.part(upload_id, 1, b"x" * PART_MIN_BYTES)
        first = self.part(upload_id, 1, MIN).headers["etag"]
        self.part(upload_id, 7, b"unlisted")
        self.assertEqual(self.rig.ask("GET", "/bkt/k").status, 404)
        self.assertEqual(self.rig.archive_bell.rings, 0)
        answer = self.complete(upload_id, (1, first), (2, second))
        self.assertEqual(answer.status, 200, answer.body)
        etag = multipart_etag([first.strip('"'), second.strip('"')])
        self.assertEqual(text_of(answer.body, "ETag"), f"&quot;{etag}&quot;")
        self.assertEqual(text_of(answer.body, "Location"), "http://127.0.0.1:8000/bkt/k")
        self.assertEqual(self.rig.archive_bell.rings, 1)
        head = self.rig.ask("HEAD", "/bkt/k").headers
        self.assertEqual(
            (head["content-length"], head["x-amz-storage-class"], head["content-type"], head["x-amz-meta-m"]),
            (str(PART_MIN_BYTES + 3), "GLACIER", "a/b", "v"),
        )
        self.assertEqual(self.rig.version("bkt", b"k").facts.crc64nvme, crc64nvme(MIN + b"end"))

    def test_complete_again(self) -> None:
        """Answers the same again; after the object went, or for another upload, 404."""
        upload_id = self.begin()
        etag = self.part(upload_id, 1, b"x").headers["etag"]
        first = self.complete(upload_id, (1, etag))
        again = self.complete(upload_id, (1, etag))
        self.assertEqual((again.status, again.body), (200, first.body))
        self.rig.ask("DELETE", "/bkt/k")
        self.assertEqual(self.complete(upload_id, (1, etag)).code, "NoSuchUpload")
        self.assertEqual(self.complete("other", (1, etag)).code, "NoSuchUpload")

    def test_part_that_arrives_between_reading_and_completing(self) -> None:
        """Completing starts again and finds that the list no longer fits."""
        upload_id = self.begin()
        etag = self.part(upload_id, 1, b"x").headers["etag"]
        real = self.rig.store.parts
        replaced: list[int] = []

        def parts(*arguments: object, **rest: object) -> object:
            found = real(*arguments, **rest)  # type: ignore[arg-type]
            if not replaced:
                replaced.append(1)
                self.part(upload_id, 1, b"y")
            return found

        self.patch(self.rig.store, "parts", parts)
        answer = self.complete(upload_id, (1, etag))
        self.assertEqual((answer.status, answer.code), (400, "InvalidPart"))
        self.assertEqual(self.rig.ask("HEAD", "/bkt/k").status, 404)

    def test_conditions(self) -> None:
        """If-None-Match keeps an existing object; the upload stays open."""
        self.rig.put("/bkt/k", b"there")
        upload_id = self.begin()
        etag = self.part(upload_id, 1, b"x").headers["etag"]
        answer = self.complete(upload_id, (1, etag), if_none_match="*")
        self.assertEqual((answer.status, answer.code), (412, "PreconditionFailed"))
        self.assertEqual(text_of(answer.body, "Condition"), "If-None-Match")
        self.assertEqual(self.rig.ask("GET", "/bkt/k").body, b"there")
        self.assertEqual(self.complete(upload_id, (1, etag)).status, 200)

    def test_abort(self) -> None:
        """Ends it; nothing of it is left but the duty to free its bytes."""
        upload_id = self.begin()
        etag = self.part(upload_id, 1, b"x").headers["etag"]
        self.assertEqual(self.rig.ask("DELETE", f"/bkt/k?uploadId={upload_id}").status, 204)
        self.assertEqual(self.rig.ask("DELETE", f"/bkt/k?uploadId={upload_id}").code, "NoSuchUpload")
        self.assertEqual(self.complete(upload_id, (1, etag)).code, "NoSuchUpload")
        self.assertEqual(self.part(upload_id, 1, b"x").code, "NoSuchUpload")
        self.assertEqual(len(self.successResultOf(self.rig.store.discards(10))), 1)
        self.assertEqual(self.rig.piece_count, 1)

    def test_part_of_an_upload_that_ends_meanwhile(self) -> None:
        """Its bytes are freed."""
        upload_id = self.begin()
        real = self.rig.store.put_part

        def put_part(*arguments: object) -> object:
            self.rig.store.abort_upload("bkt", b"k", upload_id)
            return real(*arguments)  # type: ignore[arg-type]

        self.patch(self.rig.store, "put_part", put_part)
        self.assertEqual(self.part(upload_id, 1, b"x").code, "NoSuchUpload")
        self.assertEqual(self.rig.piece_count, 0)

    def test_part_checksums(self) -> None:
        """A part must have its upload's algorithm; wrong digests leave nothing."""
        upload_id = self.begin(x_amz_checksum_algorithm="SHA256")
        answer = self.part(upload_id, 1, b"x", x_amz_checksum_crc32=crc32_of(b"x"))
        self.assertEqual((answer.status, answer.code), (400, "InvalidRequest"))
        answer = self.part(upload_id, 1, b"x", x_amz_checksum_sha256=base64_of(bytes(32)))
        self.assertEqual(answer.code, "BadDigest")
        self.assertEqual(self.rig.piece_count, 0)
        value = base64_of(sha256(b"x").digest())
        answer = self.part(upload_id, 1, b"x")
        self.assertEqual(answer.headers["x-amz-checksum-sha256"], value)

    def test_empty_part(self) -> None:
        """An object of one part without bytes is an empty object with a multipart ETag."""
        upload_id = self.begin()
        etag = self.part(upload_id, 1, b"").headers["etag"]
        self.assertEqual(self.complete(upload_id, (1, etag)).status, 200)
        answer = self.rig.ask("GET", "/bkt/k")
        self.assertEqual((answer.status, answer.body), (200, b""))
        self.assertTrue(answer.headers["etag"].endswith('-1"'))

    def test_bad_requests(self) -> None:
        """Each has its code and changes nothing."""
        upload_id = self.begin()
        etag = self.part(upload_id, 1, b"x").headers["etag"]
        for number in ("0", "10001", "x", "", "00000000120000", "000000001" + "0" * 5000):
            answer = self.rig.ask("PUT", f"/bkt/k?partNumber={number}&uploadId={upload_id}", b"x")
            self.assertEqual(answer.code, "InvalidArgument", number)
        self.assertEqual(self.rig.ask("PUT", "/bkt/k?partNumber=1", b"x").code, "InvalidArgument")
        self.assertEqual(self.part(upload_id, 1, b"x", key="other").code, "NoSuchUpload")
        self.assertEqual(self.complete(upload_id).code, "MalformedXML")
        self.assertEqual(self.complete(upload_id, (2, etag)).code, "InvalidPart")
        self.assertEqual(self.complete(upload_id, (1, etag), x_amz_mp_object_size="2").code, "InvalidRequest")
        self.assertEqual(self.complete(upload_id, (1, etag), x_amz_mp_object_size="x").code, "InvalidRequest")
        answer = self.rig.ask("POST", f"/bkt/k?uploadId={upload_id}")
        self.assertEqual(answer.code, "MalformedXML")
        self.assertEqual(self.rig.ask("POST", f"/bkt/k?uploadId={upload_id}", b"<x").code, "MalformedXML")
        self.assertEqual(self.complete(upload_id, (1, etag), x_amz_mp_object_size="1").status, 200)

    def test_list_parts(self) -> None:
        """In pages by number."""
        upload_id = self.begin()
        for number in (3, 1, 2):
            self.part(upload_id, number, b"x" * number)
        target = f"/bkt/k?uploadId={upload_id}&max-parts=2"
        answer = self.rig.ask("GET", target)
        self.assertEqual(texts_of(answer.body, "PartNumber"), ["1", "2"])
        self.assertEqual(
            (text_of(answer.body, "IsTruncated"), text_of(answer.body, "NextPartNumberMarker")), ("true", "2")
        )
        answer = self.rig.ask("GET", target + "&part-number-marker=2")
        self.assertEqual(
            (texts_of(answer.body, "Size"), text_of(answer.body, "IsTruncated")), (["3"], "false")
        )

    def test_list_uploads(self) -> None:
        """By key and id, in pages, with common prefixes."""
        ids = {key: self.begin(key) for key in ("a", "d/1", "d/2", "e")}
        same = sorted([ids["a"], self.begin("a")])
        answer = self.rig.ask("GET", "/bkt?uploads&delimiter=/")
        self.assertEqual(texts_of(answer.body, "UploadId"), [*same, ids["e"]])
        self.assertIn(b"<CommonPrefixes><Prefix>d/</Prefix></CommonPrefixes>", answer.body)
        found: list[str] = []
        key_marker = id_marker = ""
        for _ in range(10):
            answer = self.rig.ask(
                "GET", f"/bkt?uploads&max-uploads=1&key-marker={key_marker}&upload-id-marker={id_marker}"
            )
            found += texts_of(answer.body, "UploadId")
            if text_of(answer.body, "IsTruncated") == "false":
                break
            key_marker = text_of(answer.body, "NextKeyMarker") or ""
            id_marker = text_of(answer.body, "NextUploadIdMarker") or ""
        self.assertEqual(found, [*same, ids["d/1"], ids["d/2"], ids["e"]])

    def test_part_copies(self) -> None:
        """Bytes of a readable object become a part; cold ones and ranges beyond it are refused."""
        self.rig.put("/bkt/source", b"0123456789")
        self.rig.put("/bkt/cold", b"cold", x_amz_storage_class="GLACIER")
        upload_id = self.begin()
        answer = self.part(
            upload_id, 1, b"", x_amz_copy_source="bkt/source", x_amz_copy_source_range="bytes=2-4"
        )
        self.assertEqual(answer.status, 200, answer.body)
        etag = f'"{md5(b"234").hexdigest()}"'
        for source, rest, code in (
            ("bkt/source", "bytes=2-10", "InvalidRange"),
            ("bkt/source", "2-4", "InvalidArgument"),
            ("bkt/cold", "bytes=0-1", "InvalidObjectState"),
            ("bkt/none", "bytes=0-1", "NoSuchKey"),
        ):
            answer = self.part(upload_id, 2, b"", x_amz_copy_source=source, x_amz_copy_source_range=rest)
            self.assertEqual(answer.code, code)
        self.assertEqual(self.complete(upload_id, (1, etag)).status, 200)
        self.assertEqual(self.rig.ask("GET", "/bkt/k").body, b"234")
