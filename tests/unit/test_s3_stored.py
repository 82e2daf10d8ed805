"""What is kept of a writer's headers, how it is shown, and what buckets may be called."""

from dataclasses import replace
from email.header import decode_header

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from coldstore.model.objects import (
    ArchiveState,
    Bucket,
    ObjectVersion,
    Restore,
    RestorePhase,
    StorageClass,
    Tier,
    VersionFacts,
)
from coldstore.s3.acl_fields import Owned
from coldstore.s3.errors import S3Error
from coldstore.s3.fields import HeaderFields, Query
from coldstore.s3.names import is_bucket_name
from coldstore.s3.stored import (
    description,
    http_date,
    mail_safe,
    overridden,
    restore_header,
    shown_headers,
    stored_headers,
    user_metadata,
)
from tests.unit.s3_rig import RULES

OWNED = Owned("u-1", ())
BUCKET = Bucket(bucket_uid=1, name="bkt", owner_id="u-1", region="us-east-1", created_at=0.0)
FACTS = VersionFacts(
    bucket="bkt",
    key=b"k",
    version_id="null",
    size_bytes=1,
    etag="e1",
    storage_class=StorageClass.STANDARD,
    headers=(("content-type", "text/plain"),),
    user_metadata=(("a", "b"),),
    checksum=None,
    crc64nvme=0,
    part_sizes="",
    created_at=1_700_000_000.9,
    owner_id="u-1",
)
VERSION = ObjectVersion(
    version_uid=1,
    sequence=1,
    facts=FACTS,
    layout_id="l",
    on_disk=True,
    archive_state=ArchiveState.ARCHIVED,
    archived_at=None,
    restore=None,
    last_read_at=0.0,
    read_count=0,
    deleted_at=None,
    revision=0,
)


def fields(*pairs: tuple[str, str]) -> HeaderFields:
    """Return header fields."""
    return HeaderFields((name.encode(), value.encode()) for name, value in pairs)


class StoredTests(SynchronousTestCase):
    """From headers to facts."""

    def test_headers(self) -> None:
        """The six system headers are kept, aws-chunked is not, and a type is always there."""
        self.assertEqual(stored_headers(fields()), (("content-type", "binary/octet-stream"),))
        kept = stored_headers(
            fields(
                ("Content-Type", "text/plain"),
                ("Cache-Control", "no-cache"),
                ("Content-Encoding", "gzip,aws-chunked"),
                ("Content-Language", "de"),
                ("Content-Disposition", "attachment"),
                ("Expires", "whenever"),
                ("X-Other", "1"),
            )
        )
        self.assertEqual(
            kept,
            (
                ("cache-control", "no-cache"),
                ("content-disposition", "attachment"),
                ("content-encoding", "gzip"),
                ("content-language", "de"),
                ("content-type", "text/plain"),
                ("expires", "whenever"),
            ),
        )
        self.assertNotIn(
            "content-encoding", dict(stored_headers(fields(("Content-Encoding", "aws-chunked"))))
        )

    def test_metadata(self) -> None:
        """Names are lower case and unique: a name given twice is joined by a comma."""
        kept = user_metadata(fields(("x-amz-meta-B", "1"), ("X-Amz-Meta-a", "é"), ("x-amz-meta-b", "2")))
        self.assertEqual(kept, (("a", "é"), ("b", "1,2")))

    def test_metadata_limit(self) -> None:
        """Two kilobytes of names and values, in UTF-8, and not a byte more."""
        self.assertEqual(len(user_metadata(fields(("x-amz-meta-n", "v" * 2047)))), 1)
        error = self.assertRaises(S3Error, user_metadata, fields(("x-amz-meta-n", "v" * 2048)))
        self.assertEqual(error.code, "MetadataTooLarge")
        self.assertRaises(S3Error, user_metadata, fields(("x-amz-meta-n", "é" * 1024)))

    def test_what_no_header_can_carry(self) -> None:
        """A presigned URL can say more than a header can: line breaks and odd names are refused."""
        for name, value in (
            ("x-amz-meta-n", "a\r\nSet-Cookie: x"),
            ("x-amz-meta-n", "\x00"),
            ("x-amz-meta-a b", "x"),
            ("x-amz-meta-é", "x"),
            ("x-amz-meta-", "x"),
        ):
            headers = HeaderFields((), [(name, value)])
            self.assertEqual(self.assertRaises(S3Error, user_metadata, headers).code, "InvalidArgument", name)
        self.assertRaises(S3Error, overridden, Query([("response-content-type", "a\nb")]))

    def test_class(self) -> None:
        """As asked for, else the bucket's, else STANDARD; unknown and unconfigured ones are refused."""
        asked = description(fields(("x-amz-storage-class", "GLACIER")), BUCKET, RULES, OWNED, now=0.0)
        self.assertEqual(asked.storage_class, StorageClass.GLACIER)
        self.assertEqual(
            description(fields(), BUCKET, RULES, OWNED, now=0.0).storage_class, StorageClass.STANDARD
        )
        cold = replace(BUCKET, default_class=StorageClass.DEEP_ARCHIVE)
        self.assertEqual(
            description(fields(), cold, RULES, OWNED, now=0.0).storage_class, StorageClass.DEEP_ARCHIVE
        )
        for name in ("COLD", "glacier", "", "GLACIER_IR"):
            headers = fields(("x-amz-storage-class", name))
            error = self.assertRaises(S3Error, description, headers, BUCKET, RULES, OWNED, now=0.0)
            self.assertEqual(
                (error.code, error.details), ("InvalidStorageClass", {"StorageClassRequested": name})
            )


class ShownTests(SynchronousTestCase):
    """From facts to headers."""

    def test_headers(self) -> None:
        """ETag is quoted, the time is cut to seconds, STANDARD is not named, other classes are."""
        shown = shown_headers(FACTS)
        self.assertEqual(
            shown,
            {
                "Accept-Ranges": "bytes",
                "ETag": '"e1"',
                "Last-Modified": "Tue, 14 Nov 2023 22:13:20 GMT",
                "Content-Type": "text/plain",
                "x-amz-meta-a": "b",
            },
        )
        cold = FACTS._replace(storage_class=StorageClass.GLACIER)
        self.assertEqual(shown_headers(cold)["x-amz-storage-class"], "GLACIER")

    @given(st.text(alphabet=st.characters(blacklist_categories=("Cs", "Cc")), min_size=1, max_size=2000))
    def test_mail_safe(self, value: str) -> None:
        """Anything but ASCII is sent as words of RFC 2047 on one line, and reads back."""
        sent = mail_safe(value)
        self.assertTrue(sent.isascii())
        self.assertNotIn("\n", sent)
        if value.isascii():
            self.assertEqual(sent, value)
        else:
            decoded = "".join(
                raw.decode(charset or "ascii") if isinstance(raw, bytes) else raw
                for raw, charset in decode_header(sent)
            )
            self.assertEqual(decoded, value)

    def test_restore(self) -> None:
        """Follows S3's grammar to the letter, and never shows a time that is over."""

        def shown(phase: RestorePhase, expires_at: float | None) -> str | None:
            restore = Restore(phase=phase, tier=Tier.BULK, days=1, requested_at=0.0, expires_at=expires_at)
            return restore_header(VERSION._replace(restore=restore), 1_700_000_000.0).get("x-amz-restore")

        self.assertEqual(restore_header(VERSION, 0.0), {})
        self.assertEqual(shown(RestorePhase.ONGOING, None), 'ongoing-request="true"')
        self.assertEqual(
            shown(RestorePhase.RESTORED, 1_700_006_400.0),
            'ongoing-request="false", expiry-date="Wed, 15 Nov 2023 00:00:00 GMT"',
        )
        self.assertIsNone(shown(RestorePhase.RESTORED, 1_700_000_000.0))

    def test_overrides(self) -> None:
        """A reader may have other headers than those kept."""
        query = Query([("response-content-type", "a/b"), ("response-expires", "x"), ("response-other", "y")])
        self.assertEqual(overridden(query), {"Content-Type": "a/b", "Expires": "x"})

    def test_date(self) -> None:
        """IMF-fixdate, whatever the fraction."""
        self.assertEqual(http_date(0.999), "Thu, 01 Jan 1970 00:00:00 GMT")


class NameTests(SynchronousTestCase):
    """Names of buckets."""

    def test_names(self) -> None:
        """S3's rules for general purpose buckets."""
        for name in ("abc", "a.b-c", "0abc", "a" * 63, "a1.2.3", "1.2.3.4.5"):
            self.assertTrue(is_bucket_name(name), name)
        for name in (
            "",
            "ab",
            "a" * 64,
            "Abc",
            "a_b",
            "-ab",
            "ab-",
            ".ab",
            "a..b",
            "a.-b",
            "a-.b",
            "192.168.1.1",
            "xn--abc",
            "abc-s3alias",
            "abc--ol-s3",
            "äbc",
            "abc\n",
        ):
            self.assertFalse(is_bucket_name(name), name)
