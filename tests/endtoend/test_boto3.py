"""boto3 against a real appliance: the S3 operations, over plain HTTP."""

import hashlib
import io
import subprocess
import time
import zlib
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from boto3.s3.transfer import TransferConfig

from tests.endtoend.appliance import ApplianceCase
from tests.endtoend.clients import refusal, refused

MIB = 1024**2
ALGORITHMS = ("CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256", "SHA512", "XXHASH64", "XXHASH3", "XXHASH128")


def some_bytes(size_bytes: int, seed: int = 1) -> bytes:
    """Return bytes that do not compress."""
    return Random(seed).randbytes(size_bytes)


class ObjectTests(ApplianceCase):
    """Objects, listings, copies."""

    def test_put_and_get(self) -> None:
        """What is PUT is what GET gives, with its type, headers and metadata; HEAD says the same without bytes."""
        bucket = self.bucket()
        for size_bytes in (0, 1, 1000, 256 * 1024, 256 * 1024 + 1, 5 * MIB + 7):
            body = some_bytes(size_bytes)
            put = self.s3.put_object(
                Bucket=bucket,
                Key=f"k/{size_bytes}",
                Body=body,
                ContentType="text/x-test",
                CacheControl="max-age=7",
                ContentDisposition='attachment; filename="a.txt"',
                ContentEncoding="identity",
                ContentLanguage="de",
                Metadata={"colour": "blue", "weight": "12 kg"},
            )
            self.assertEqual(put["ETag"], f'"{hashlib.md5(body).hexdigest()}"')
            got = self.s3.get_object(Bucket=bucket, Key=f"k/{size_bytes}")
            self.assertEqual(got["Body"].read(), body)
            head = self.s3.head_object(Bucket=bucket, Key=f"k/{size_bytes}")
            for answer in (got, head):
                self.assertEqual(answer["ContentLength"], size_bytes)
                self.assertEqual(answer["ETag"], put["ETag"])
                self.assertEqual(answer["ContentType"], "text/x-test")
                self.assertEqual(answer["CacheControl"], "max-age=7")
                self.assertEqual(answer["ContentDisposition"], 'attachment; filename="a.txt"')
                self.assertEqual(answer["ContentLanguage"], "de")
                self.assertEqual(answer["Metadata"], {"colour": "blue", "weight": "12 kg"})
                self.assertEqual(answer["AcceptRanges"], "bytes")
                self.assertNotIn("StorageClass", answer)
                self.assertLess(abs(answer["LastModified"] - datetime.now(UTC)), timedelta(seconds=60))

    def test_files_on_one_connection(self) -> None:
        """
        Files, empty ones among them, go one after the other over the same connection: boto3 waits for 100 with each, and hangs
        when an earlier answer on the connection came in place of it.
        """
        bucket = self.bucket()
        client = self.appliance.s3(max_pool_connections=1, read_timeout=10)
        for number, size_bytes in enumerate((0, 1, 0, 0, 70_000, 0, 5)):
            client.put_object(Bucket=bucket, Key=str(number), Body=io.BytesIO(bytes(size_bytes)))
        self.assertEqual(
            [entry["Size"] for entry in self.s3.list_objects_v2(Bucket=bucket)["Contents"]],
            [0, 1, 0, 0, 70_000, 0, 5],
        )
        for number in range(3):
            error = refused(
                client.put_object, Bucket="no-such-bucket", Key="k", Body=io.BytesIO(bytes(number))
            )
            self.assertEqual(error, (404, "NoSuchBucket"))
            client.put_object(Bucket=bucket, Key="k", Body=io.BytesIO(b"x"))

    def test_default_type(self) -> None:
        """An object without a type is binary/octet-stream."""
        bucket = self.bucket()
        self.s3.put_object(Bucket=bucket, Key="k", Body=b"x")
        self.assertEqual(self.s3.head_object(Bucket=bucket, Key="k")["ContentType"], "binary/octet-stream")

    def test_overwrite(self) -> None:
        """The last writer wins, wholly; a GET that began before goes on with what it began."""
        bucket = self.bucket()
        old, new = some_bytes(8 * MIB, 1), some_bytes(3 * MIB, 2)
        self.s3.put_object(Bucket=bucket, Key="k", Body=old, Metadata={"old": "1"})
        reading = self.s3.get_object(Bucket=bucket, Key="k")["Body"]
        begin = reading.read(1000)
        self.s3.put_object(Bucket=bucket, Key="k", Body=new)
        got = self.s3.get_object(Bucket=bucket, Key="k")
        self.assertEqual((got["Body"].read(), got["Metadata"]), (new, {}))
        self.assertEqual(begin + reading.read(), old)

    def test_missing(self) -> None:
        """What is not there answers 404 with the right code."""
        bucket = self.bucket()
        error = refusal(self.s3.get_object, Bucket=bucket, Key="nö")
        self.assertEqual((error["Error"]["Code"], error["Error"]["Key"]), ("NoSuchKey", "nö"))
        self.assertEqual(refused(self.s3.head_object, Bucket=bucket, Key="no"), (404, "404"))
        self.assertEqual(refused(self.s3.get_object, Bucket="no-such-bucket", Key="k"), (404, "NoSuchBucket"))
        self.assertEqual(refused(self.s3.head_bucket, Bucket="no-such-bucket"), (404, "404"))
        self.s3.delete_object(Bucket=bucket, Key="no")

    def test_ranges(self) -> None:
        """Every form of one range; what cannot be satisfied is 416; what is no range gives everything."""
        bucket, body = self.bucket(), some_bytes(5 * MIB)
        self.s3.put_object(Bucket=bucket, Key="k", Body=body)
        size = len(body)
        for asked, first, last in (
            ("bytes=0-0", 0, 0),
            ("bytes=0-99", 0, 99),
            (f"bytes={4 * MIB - 3}-{4 * MIB + 3}", 4 * MIB - 3, 4 * MIB + 3),
            (f"bytes={size - 1}-", size - 1, size - 1),
            ("bytes=-17", size - 17, size - 1),
            (f"bytes=-{2 * size}", 0, size - 1),
            (f"bytes=100-{2 * size}", 100, size - 1),
        ):
            got = self.s3.get_object(Bucket=bucket, Key="k", Range=asked)
            self.assertEqual(got["ContentRange"], f"bytes {first}-{last}/{size}", asked)
            self.assertEqual(got["ResponseMetadata"]["HTTPStatusCode"], 206)
            self.assertEqual(got["Body"].read(), body[first : last + 1], asked)
        for asked in (f"bytes={size}-", f"bytes={size + 5}-{size + 9}", "bytes=-0"):
            self.assertEqual(
                refused(self.s3.get_object, Bucket=bucket, Key="k", Range=asked), (416, "InvalidRange")
            )
        for asked in ("bytes=9-3", "bytes=a-b", "lines=1-2"):
            got = self.s3.get_object(Bucket=bucket, Key="k", Range=asked)
            self.assertEqual(
                (got["ResponseMetadata"]["HTTPStatusCode"], len(got["Body"].read())), (200, size)
            )

    def test_conditional_reads(self) -> None:
        """If-Match, If-None-Match and their dates, with S3's precedence."""
        bucket = self.bucket()
        etag = self.s3.put_object(Bucket=bucket, Key="k", Body=b"x")["ETag"]
        past, future = datetime(2020, 1, 1, tzinfo=UTC), datetime.now(UTC) + timedelta(days=1)

        def get(**conditions: Any) -> Any:
            return self.s3.get_object(Bucket=bucket, Key="k", **conditions)["Body"].read()

        self.assertEqual(get(IfMatch=etag), b"x")
        self.assertEqual(get(IfNoneMatch='"other"'), b"x")
        self.assertEqual(get(IfModifiedSince=past), b"x")
        self.assertEqual(get(IfUnmodifiedSince=future), b"x")
        self.assertEqual(get(IfMatch=etag, IfUnmodifiedSince=past), b"x")
        self.assertEqual(refused(get, IfMatch='"other"'), (412, "PreconditionFailed"))
        self.assertEqual(refused(get, IfUnmodifiedSince=past), (412, "PreconditionFailed"))
        self.assertEqual(refused(get, IfNoneMatch=etag), (304, "304"))
        self.assertEqual(refused(get, IfNoneMatch=etag, IfModifiedSince=past), (304, "304"))
        self.assertEqual(refused(get, IfModifiedSince=datetime.now(UTC) - timedelta(seconds=0)), (304, "304"))

    def test_conditional_writes(self) -> None:
        """If-None-Match: * never overwrites; If-Match replaces only what it names."""
        bucket = self.bucket()
        etag = self.s3.put_object(Bucket=bucket, Key="k", Body=b"1", IfNoneMatch="*")["ETag"]
        put = self.s3.put_object
        self.assertEqual(
            refused(put, Bucket=bucket, Key="k", Body=b"2", IfNoneMatch="*"), (412, "PreconditionFailed")
        )
        self.assertEqual(
            refused(put, Bucket=bucket, Key="k", Body=b"2", IfMatch='"other"'), (412, "PreconditionFailed")
        )
        self.assertEqual(refused(put, Bucket=bucket, Key="new", Body=b"2", IfMatch=etag), (404, "NoSuchKey"))
        self.assertEqual(
            refused(put, Bucket=bucket, Key="k", Body=b"2", IfNoneMatch=etag), (412, "PreconditionFailed")
        )
        self.assertEqual(
            refused(put, Bucket=bucket, Key="k", Body=b"2", IfNoneMatch=f"{etag}, {etag}"),
            (501, "NotImplemented"),
        )
        self.assertEqual(self.s3.get_object(Bucket=bucket, Key="k")["Body"].read(), b"1")
        put(Bucket=bucket, Key="k", Body=b"3", IfMatch=etag)
        self.assertEqual(self.s3.get_object(Bucket=bucket, Key="k")["Body"].read(), b"3")

    def test_racing_writers(self) -> None:
        """Of many writers that each demand to be the first, exactly one is."""
        bucket = self.bucket()

        def write(number: int) -> int:
            client = self.appliance.s3()
            try:
                client.put_object(Bucket=bucket, Key="k", Body=b"%d" % number, IfNoneMatch="*")
            except client.exceptions.ClientError as error:
                self.assertIn(
                    error.response["Error"]["Code"], ("PreconditionFailed", "ConditionalRequestConflict")
                )
                return 0
            return 1

        with ThreadPoolExecutor(8) as pool:
            self.assertEqual(sum(pool.map(write, range(8))), 1)

    def test_response_overrides(self) -> None:
        """response-* of a signed GET replace the headers of the answer."""
        bucket = self.bucket()
        self.s3.put_object(Bucket=bucket, Key="k", Body=b"x")
        got = self.s3.get_object(
            Bucket=bucket,
            Key="k",
            ResponseContentType="text/html",
            ResponseCacheControl="no-store",
            ResponseContentDisposition="inline",
        )
        self.assertEqual(
            (got["ContentType"], got["CacheControl"], got["ContentDisposition"]),
            ("text/html", "no-store", "inline"),
        )

    def test_listing(self) -> None:
        """Listings of both versions: order by bytes, pages, prefixes, delimiters, markers; each key exactly once."""
        bucket = self.bucket()
        keys = [f"a/{n:03}" for n in range(12)] + ["b", "b/", "b//x", "c+d e", "é", "z%2Fz", "ä/ü/x", "\t"]
        for key in keys:
            self.s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
        ordered = sorted(keys, key=str.encode)

        def all_keys(operation: str, **options: Any) -> list[str]:
            pages = self.s3.get_paginator(operation).paginate(
                Bucket=bucket, PaginationConfig={"PageSize": 3}, **options
            )
            return [entry["Key"] for page in pages for entry in page.get("Contents", [])]

        for operation in ("list_objects", "list_objects_v2"):
            self.assertEqual(all_keys(operation), ordered, operation)
            self.assertEqual(all_keys(operation, Prefix="a/"), [key for key in ordered if key[:2] == "a/"])
            pages = list(
                self.s3.get_paginator(operation).paginate(
                    Bucket=bucket, Delimiter="/", PaginationConfig={"PageSize": 2}
                )
            )
            prefixes = [entry["Prefix"] for page in pages for entry in page.get("CommonPrefixes", [])]
            contents = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
            self.assertEqual(prefixes, sorted({"a/", "b/", "ä/"}, key=str.encode))
            self.assertEqual(contents, [key for key in ordered if "/" not in key])
        page = self.s3.list_objects_v2(Bucket=bucket, StartAfter="a/005", MaxKeys=2, FetchOwner=True)
        self.assertEqual([entry["Key"] for entry in page["Contents"]], ["a/006", "a/007"])
        self.assertEqual((page["KeyCount"], page["MaxKeys"], page["IsTruncated"]), (2, 2, True))
        entry = page["Contents"][0]
        self.assertEqual(entry["Owner"]["ID"], self.appliance.users["first"].user_id)
        self.assertEqual((entry["Size"], entry["StorageClass"]), (5, "STANDARD"))
        self.assertEqual(entry["ETag"], f'"{hashlib.md5(b"a/006").hexdigest()}"')
        self.assertEqual(self.s3.list_objects_v2(Bucket=bucket, MaxKeys=0)["KeyCount"], 0)
        self.assertEqual(self.s3.list_objects_v2(Bucket=bucket, MaxKeys=5000)["MaxKeys"], 1000)
        self.assertEqual(
            refused(self.s3.list_objects_v2, Bucket=bucket, ContinuationToken="nonsense"),
            (400, "InvalidArgument"),
        )

    def test_delete_many(self) -> None:
        """DeleteObjects deletes what is there and what is not, quietly when asked."""
        bucket = self.bucket()
        keys = [f"k{n}" for n in range(5)] + ["<&>'\"", "new\nline", "ü ü"]
        for key in keys:
            self.s3.put_object(Bucket=bucket, Key=key, Body=b"x")
        done = self.s3.delete_objects(
            Bucket=bucket, Delete={"Objects": [{"Key": key} for key in [*keys[2:], "absent"]]}
        )
        self.assertEqual([entry["Key"] for entry in done["Deleted"]], [*keys[2:], "absent"])
        self.assertNotIn("Errors", done)
        left = [entry["Key"] for entry in self.s3.list_objects_v2(Bucket=bucket)["Contents"]]
        self.assertEqual(left, keys[:2])
        quiet = self.s3.delete_objects(
            Bucket=bucket, Delete={"Objects": [{"Key": key} for key in keys[:2]], "Quiet": True}
        )
        self.assertNotIn("Deleted", quiet)
        self.s3.delete_bucket(Bucket=bucket)

    def test_copy(self) -> None:
        """A copy takes bytes and metadata, or new metadata; onto itself only with a change."""
        bucket, other = self.bucket(), self.bucket()
        body = some_bytes(300_000)
        self.s3.put_object(
            Bucket=bucket, Key="a b+é", Body=body, Metadata={"m": "1"}, ContentType="text/plain"
        )
        source = {"Bucket": bucket, "Key": "a b+é"}
        done = self.s3.copy_object(Bucket=other, Key="copy", CopySource=source)
        self.assertEqual(done["CopyObjectResult"]["ETag"], f'"{hashlib.md5(body).hexdigest()}"')
        got = self.s3.get_object(Bucket=other, Key="copy")
        self.assertEqual(
            (got["Body"].read(), got["Metadata"], got["ContentType"]), (body, {"m": "1"}, "text/plain")
        )
        self.s3.copy_object(
            Bucket=other, Key="new", CopySource=source, MetadataDirective="REPLACE", Metadata={"m": "2"}
        )
        self.assertEqual(self.s3.head_object(Bucket=other, Key="new")["Metadata"], {"m": "2"})
        copy = self.s3.copy_object
        self.assertEqual(
            refused(copy, Bucket=bucket, Key="a b+é", CopySource=source), (400, "InvalidRequest")
        )
        self.assertEqual(
            refused(copy, Bucket=other, Key="x", CopySource={"Bucket": bucket, "Key": "absent"}),
            (404, "NoSuchKey"),
        )
        self.assertEqual(
            refused(copy, Bucket=other, Key="x", CopySource=source, CopySourceIfMatch='"no"'),
            (412, "PreconditionFailed"),
        )
        self.s3.delete_object(**source)
        self.assertEqual(self.s3.get_object(Bucket=other, Key="copy")["Body"].read(), body)

    def test_buckets(self) -> None:
        """Buckets are made, listed, located and deleted; a full one is not deleted; a name is given once."""
        bucket = self.bucket()
        self.assertIn(bucket, [entry["Name"] for entry in self.s3.list_buckets()["Buckets"]])
        self.assertEqual(self.s3.get_bucket_location(Bucket=bucket)["LocationConstraint"], None)
        self.s3.head_bucket(Bucket=bucket)
        second = self.appliance.s3("second")
        self.assertNotIn(bucket, [entry["Name"] for entry in second.list_buckets()["Buckets"]])
        self.assertEqual(refused(second.create_bucket, Bucket=bucket), (409, "BucketAlreadyExists"))
        self.s3.put_object(Bucket=bucket, Key="k", Body=b"")
        self.assertEqual(refused(self.s3.delete_bucket, Bucket=bucket), (409, "BucketNotEmpty"))
        self.s3.delete_object(Bucket=bucket, Key="k")
        self.s3.delete_bucket(Bucket=bucket)
        self.assertEqual(refused(self.s3.list_objects_v2, Bucket=bucket), (404, "NoSuchBucket"))

    def test_restart(self) -> None:
        """After an end and after kill -9 everything that was acknowledged is there, byte for byte."""
        bucket, small, large = self.bucket(), some_bytes(1000), some_bytes(6 * MIB)
        for stop in (self.appliance.stop, self.appliance.kill):
            self.s3.put_object(Bucket=bucket, Key="small", Body=small, Metadata={"m": "1"})
            self.s3.put_object(Bucket=bucket, Key="large", Body=large)
            stop()
            self.appliance.start()
            self.assertEqual(self.s3.get_object(Bucket=bucket, Key="small")["Body"].read(), small)
            self.assertEqual(self.s3.get_object(Bucket=bucket, Key="large")["Body"].read(), large)
            small, large = small + b"x", large + b"x"


class UploadTests(ApplianceCase):
    """Multipart uploads and checksums."""

    def test_parallel_parts(self) -> None:
        """boto3's transfer uploads parts in parallel; ranges and part numbers read back what went in."""
        bucket, body = self.bucket(), some_bytes(23 * MIB + 11)
        self.s3.upload_fileobj(
            io.BytesIO(body),
            bucket,
            "k",
            ExtraArgs={"Metadata": {"m": "1"}},
            Config=TransferConfig(
                multipart_threshold=5 * MIB, multipart_chunksize=5 * MIB, max_concurrency=4
            ),
        )
        parts = [body[start : start + 5 * MIB] for start in range(0, len(body), 5 * MIB)]
        etag = hashlib.md5(b"".join(hashlib.md5(part).digest() for part in parts)).hexdigest()
        head = self.s3.head_object(Bucket=bucket, Key="k")
        self.assertEqual((head["ETag"], head["Metadata"]), (f'"{etag}-5"', {"m": "1"}))
        target = io.BytesIO()
        self.s3.download_fileobj(bucket, "k", target, Config=TransferConfig(multipart_chunksize=5 * MIB))
        self.assertEqual(target.getvalue(), body)
        third = self.s3.get_object(Bucket=bucket, Key="k", PartNumber=3)
        self.assertEqual((third["Body"].read(), third["PartsCount"]), (parts[2], 5))
        self.assertEqual(
            refused(self.s3.get_object, Bucket=bucket, Key="k", PartNumber=6), (416, "InvalidPartNumber")
        )

    def test_steps(self) -> None:
        """Parts out of order, replaced and left out; lists of parts and of uploads; abort frees everything."""
        bucket = self.bucket()
        upload = self.s3.create_multipart_upload(Bucket=bucket, Key="k", StorageClass="STANDARD_IA")[
            "UploadId"
        ]
        body = {1: some_bytes(5 * MIB, 1), 3: some_bytes(5 * MIB, 3), 7: b"end"}
        etags = {}
        for number in (7, 3, 1):
            self.s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=number, Body=b"replaced")
            etags[number] = self.s3.upload_part(
                Bucket=bucket, Key="k", UploadId=upload, PartNumber=number, Body=body[number]
            )["ETag"]
        self.s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=5, Body=b"left out")
        listed = self.s3.list_parts(Bucket=bucket, Key="k", UploadId=upload)["Parts"]
        self.assertEqual([(part["PartNumber"], part["Size"]) for part in listed][2:], [(5, 8), (7, 3)])
        self.assertEqual(
            [entry["Key"] for entry in self.s3.list_multipart_uploads(Bucket=bucket)["Uploads"]], ["k"]
        )
        self.assertNotIn("Contents", self.s3.list_objects_v2(Bucket=bucket))
        parts = {"Parts": [{"PartNumber": number, "ETag": etags[number]} for number in (1, 3, 7)]}
        complete = self.s3.complete_multipart_upload
        first = complete(Bucket=bucket, Key="k", UploadId=upload, MultipartUpload=parts)
        got = self.s3.get_object(Bucket=bucket, Key="k")
        self.assertEqual(got["Body"].read(), body[1] + body[3] + body[7])
        self.assertEqual(got["StorageClass"], "STANDARD_IA")
        again = complete(Bucket=bucket, Key="k", UploadId=upload, MultipartUpload=parts)
        self.assertEqual(again["ETag"], first["ETag"])
        self.assertNotIn("Uploads", self.s3.list_multipart_uploads(Bucket=bucket))

        before = self.appliance.settled_bytes()
        upload = self.s3.create_multipart_upload(Bucket=bucket, Key="gone")["UploadId"]
        self.s3.upload_part(Bucket=bucket, Key="gone", UploadId=upload, PartNumber=1, Body=body[1])
        self.s3.abort_multipart_upload(Bucket=bucket, Key="gone", UploadId=upload)
        self.assertEqual(
            refused(self.s3.upload_part, Bucket=bucket, Key="gone", UploadId=upload, PartNumber=2, Body=b"x"),
            (404, "NoSuchUpload"),
        )
        self.assertEqual(
            refused(complete, Bucket=bucket, Key="gone", UploadId=upload, MultipartUpload=parts),
            (404, "NoSuchUpload"),
        )
        self.assert_nothing_new(bucket, [("k", first["ETag"], 10 * MIB + 3)], before)

    def test_refused_completions(self) -> None:
        """Parts in the wrong order, missing, with another ETag, or too small: refused, and the upload goes on."""
        bucket = self.bucket()
        upload = self.s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
        tags = [
            self.s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=number, Body=b"x" * 100)[
                "ETag"
            ]
            for number in (1, 2)
        ]

        def complete(*parts: tuple[int, str]) -> Any:
            return self.s3.complete_multipart_upload(
                Bucket=bucket,
                Key="k",
                UploadId=upload,
                MultipartUpload={"Parts": [{"PartNumber": number, "ETag": tag} for number, tag in parts]},
            )

        self.assertEqual(refused(complete, (2, tags[1]), (1, tags[0])), (400, "InvalidPartOrder"))
        self.assertEqual(refused(complete, (1, tags[0]), (3, tags[0])), (400, "InvalidPart"))
        self.assertEqual(refused(complete, (1, '"00000000000000000000000000000000"')), (400, "InvalidPart"))
        self.assertEqual(refused(complete, (1, tags[0]), (2, tags[1])), (400, "EntityTooSmall"))
        self.assertEqual(refused(complete), (400, "MalformedXML"))
        self.assertNotIn("Contents", self.s3.list_objects_v2(Bucket=bucket))
        complete((2, tags[1]))
        self.assertEqual(self.s3.head_object(Bucket=bucket, Key="k")["ContentLength"], 100)

    def test_part_copy(self) -> None:
        """A part may be a range of another object."""
        bucket, body = self.bucket(), some_bytes(12 * MIB)
        self.s3.put_object(Bucket=bucket, Key="source", Body=body)
        upload = self.s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
        parts = []
        for number, (first, last) in enumerate([(MIB, 7 * MIB - 1), (0, 9)], start=1):
            done = self.s3.upload_part_copy(
                Bucket=bucket,
                Key="k",
                UploadId=upload,
                PartNumber=number,
                CopySource={"Bucket": bucket, "Key": "source"},
                CopySourceRange=f"bytes={first}-{last}",
            )
            parts.append({"PartNumber": number, "ETag": done["CopyPartResult"]["ETag"]})
        self.s3.complete_multipart_upload(
            Bucket=bucket, Key="k", UploadId=upload, MultipartUpload={"Parts": parts}
        )
        self.assertEqual(
            self.s3.get_object(Bucket=bucket, Key="k")["Body"].read(), body[MIB : 7 * MIB] + body[:10]
        )

    def test_checksums(self) -> None:
        """Every algorithm is verified, kept, shown on demand and checked by boto3 on the way back."""
        bucket, body = self.bucket(), some_bytes(100_000)
        for algorithm in ALGORITHMS:
            name = f"Checksum{algorithm}"
            put = self.s3.put_object(Bucket=bucket, Key=algorithm, Body=body, ChecksumAlgorithm=algorithm)
            self.assertEqual(put["ChecksumType"], "FULL_OBJECT", algorithm)
            head = self.s3.head_object(Bucket=bucket, Key=algorithm, ChecksumMode="ENABLED")
            got = self.s3.get_object(Bucket=bucket, Key=algorithm, ChecksumMode="ENABLED")
            self.assertEqual(put[name], head[name])
            self.assertEqual(put[name], got[name])
            self.assertEqual(got["Body"].read(), body)
            listed = self.s3.list_objects_v2(Bucket=bucket, Prefix=algorithm)["Contents"]
            self.assertIn([algorithm], [entry["ChecksumAlgorithm"] for entry in listed])
        self.assertEqual(
            self.s3.head_object(Bucket=bucket, Key="SHA256", ChecksumMode="ENABLED")["ChecksumSHA256"],
            b64encode(hashlib.sha256(body).digest()).decode(),
        )
        self.assertEqual(
            self.s3.head_object(Bucket=bucket, Key="CRC32", ChecksumMode="ENABLED")["ChecksumCRC32"],
            b64encode(zlib.crc32(body).to_bytes(4, "big")).decode(),
        )

    def test_wrong_checksums(self) -> None:
        """A body that does not fit its checksum changes nothing, whatever the algorithm."""
        bucket = self.bucket()
        used = self.appliance.settled_bytes()
        for size_bytes in (10, 400_000):
            for algorithm, length in zip(ALGORITHMS, (4, 4, 8, 20, 32, 64, 8, 8, 16), strict=True):
                wrong = {f"Checksum{algorithm}": b64encode(bytes(length)).decode()}
                self.assertEqual(
                    refused(self.s3.put_object, Bucket=bucket, Key="k", Body=b"x" * size_bytes, **wrong),
                    (400, "BadDigest"),
                    algorithm,
                )
            self.assertEqual(
                refused(
                    self.s3.put_object,
                    Bucket=bucket,
                    Key="k",
                    Body=b"x" * size_bytes,
                    ContentMD5=b64encode(bytes(16)).decode(),
                ),
                (400, "BadDigest"),
            )
        self.assert_nothing_new(bucket, [], used)

    def test_multipart_checksums(self) -> None:
        """Composite and full checksums of uploads in parts, as boto3 computes them and as it is told."""
        bucket, body = self.bucket(), some_bytes(12 * MIB)
        for algorithm in ALGORITHMS:
            self.s3.upload_fileobj(
                io.BytesIO(body),
                bucket,
                algorithm,
                ExtraArgs={"ChecksumAlgorithm": algorithm},
                Config=TransferConfig(multipart_threshold=5 * MIB, multipart_chunksize=5 * MIB),
            )
            head = self.s3.head_object(Bucket=bucket, Key=algorithm, ChecksumMode="ENABLED")
            kind = "FULL_OBJECT" if algorithm == "CRC64NVME" else "COMPOSITE"
            self.assertEqual(head["ChecksumType"], kind, algorithm)
            self.assertEqual(head[f"Checksum{algorithm}"].endswith("-3"), kind == "COMPOSITE")
            self.assertEqual(self.s3.get_object(Bucket=bucket, Key=algorithm)["Body"].read(), body)
        parts = [body[start : start + 5 * MIB] for start in range(0, len(body), 5 * MIB)]
        composite = hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).digest()
        self.assertEqual(
            self.s3.head_object(Bucket=bucket, Key="SHA256", ChecksumMode="ENABLED")["ChecksumSHA256"],
            b64encode(composite).decode() + "-3",
        )

        upload = self.s3.create_multipart_upload(
            Bucket=bucket, Key="full", ChecksumAlgorithm="CRC32", ChecksumType="FULL_OBJECT"
        )["UploadId"]
        done = []
        for number, part in enumerate(parts, start=1):
            answer = self.s3.upload_part(
                Bucket=bucket,
                Key="full",
                UploadId=upload,
                PartNumber=number,
                Body=part,
                ChecksumAlgorithm="CRC32",
            )
            done.append(
                {"PartNumber": number, "ETag": answer["ETag"], "ChecksumCRC32": answer["ChecksumCRC32"]}
            )
        complete = self.s3.complete_multipart_upload
        whole = b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()
        options = {"Bucket": bucket, "Key": "full", "UploadId": upload, "MultipartUpload": {"Parts": done}}
        self.assertEqual(refused(complete, ChecksumCRC32="AAAAAA==", **options), (400, "BadDigest"))
        answer = complete(ChecksumCRC32=whole, ChecksumType="FULL_OBJECT", **options)
        self.assertEqual((answer["ChecksumCRC32"], answer["ChecksumType"]), (whole, "FULL_OBJECT"))

    def test_presigned(self) -> None:
        """Presigned GET and PUT of both signature versions work without any other proof, until they expire."""
        bucket, body = self.bucket(), some_bytes(10_000)
        for version in ("s3v4", "s3"):
            client = self.appliance.s3(signature_version=version)
            parameters = {"Bucket": bucket, "Key": f"a b+é/{version}"}
            put = client.generate_presigned_url("put_object", Params=parameters, ExpiresIn=60)
            with urlopen(
                Request(put, data=body, method="PUT", headers={"Content-Type": ""}), timeout=20
            ) as answer:
                self.assertEqual(answer.status, 200)
            get = client.generate_presigned_url("get_object", Params=parameters, ExpiresIn=60)
            with urlopen(get, timeout=20) as answer:
                self.assertEqual(answer.read(), body)
            old = client.generate_presigned_url("get_object", Params=parameters, ExpiresIn=1)
            time.sleep(2.1)
            error = self.assertRaises(HTTPError, urlopen, old, timeout=20)
            with error:
                self.assertEqual(error.code, 403)
                self.assertIn(b"<Code>AccessDenied</Code>", error.read())
            tampered = get.replace("%C3%A9", "%C3%AA")
            error = self.assertRaises(HTTPError, urlopen, tampered, timeout=20)
            with error:
                self.assertEqual(error.code, 403)
                self.assertIn(b"<Code>SignatureDoesNotMatch</Code>", error.read())

    def test_signature_version_2(self) -> None:
        """A client of Signature Version 2 works on buckets as on objects, and so do its URLs."""
        client, bucket = self.appliance.s3(signature_version="s3"), "signed-by-version-2"
        client.create_bucket(Bucket=bucket)
        self.assertIn(bucket, [entry["Name"] for entry in client.list_buckets()["Buckets"]])
        client.put_object(Bucket=bucket, Key="a b+é", Body=b"body", Metadata={"who": "me"}, Tagging="a=1")
        self.assertEqual(client.get_object(Bucket=bucket, Key="a b+é")["Body"].read(), b"body")
        (entry,) = client.list_objects_v2(Bucket=bucket, Prefix="a b")["Contents"]
        self.assertEqual(entry["Key"], "a b+é")
        client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        self.assertEqual(client.get_bucket_versioning(Bucket=bucket)["Status"], "Enabled")
        for call, code in (
            (client.get_bucket_replication, "ReplicationConfigurationNotFoundError"),
            (client.get_object_lock_configuration, "ObjectLockConfigurationNotFoundError"),
        ):
            self.assertEqual(refused(call, Bucket=bucket), (404, code))
        with urlopen(
            client.generate_presigned_url("list_objects", Params={"Bucket": bucket}), timeout=20
        ) as answer:
            self.assertIn(b"<Name>signed-by-version-2</Name>", answer.read())
        versions = client.list_object_versions(Bucket=bucket)["Versions"]
        entries = [{"Key": version["Key"], "VersionId": version["VersionId"]} for version in versions]
        self.assertNotIn("Errors", client.delete_objects(Bucket=bucket, Delete={"Objects": entries}))
        client.delete_bucket(Bucket=bucket)

    def test_forms(self) -> None:
        """The fields that boto3 presigns for a browser's form, of both signature versions, upload a file with curl."""
        bucket, body = self.bucket(), some_bytes(300_000)
        file = self.appliance.folder / "upload.bin"
        file.write_bytes(body)
        for version in ("s3v4", "s3"):
            post = self.appliance.s3(signature_version=version).generate_presigned_post(
                bucket,
                f"{version}/${{filename}}",
                Fields={"x-amz-meta-who": "värd", "success_action_status": "201"},
                Conditions=[
                    {"x-amz-meta-who": "värd"},
                    {"success_action_status": "201"},
                    ["content-length-range", 1, len(body)],
                ],
                ExpiresIn=60,
            )
            fields = [word for name, value in post["fields"].items() for word in ("-F", f"{name}={value}")]
            curl = ["curl", "-sS", "-w", "%{http_code}", *fields, "-F", f"file=@{file}", post["url"]]
            said = subprocess.run(curl, capture_output=True, text=True, check=True, timeout=60).stdout
            self.assertTrue(said.endswith("201"), said)
            got = self.s3.get_object(Bucket=bucket, Key=f"{version}/upload.bin")
            self.assertEqual(got["Body"].read(), body)
            file.write_bytes(body + b"x")
            said = subprocess.run(curl, capture_output=True, text=True, check=True, timeout=60).stdout
            self.assertIn("<Code>EntityTooLarge</Code>", said)
            file.write_bytes(body)
