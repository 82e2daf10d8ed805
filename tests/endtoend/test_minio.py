"""MinIO's client for Python: its own signatures, chunks and documents, and the whole job that its users do with it."""

import hashlib
import io
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from minio import Minio
from minio.commonconfig import ENABLED, ComposeSource, CopySource, Tags
from minio.datatypes import PostPolicy
from minio.deleteobjects import DeleteObject
from minio.error import S3Error
from minio.sse import SseCustomerKey
from minio.versioningconfig import VersioningConfig
from urllib3 import PoolManager

from tests.endtoend.clients import MIB, OverTls, ProgramCase, fetched, tree


class MinioTests(ProgramCase):
    """One user's day."""

    def setUp(self) -> None:
        """Have a client."""
        super().setUp()
        keys = self.appliance.users["first"]
        self.minio = Minio(
            urlsplit(self.appliance.endpoint).netloc,
            access_key=keys.access_key,
            secret_key=keys.secret_key,
            secure=False,
        )

    def body(self, key: str, **options: Any) -> bytes:
        """Return what a GET gives."""
        answer = self.minio.get_object(self.name, key, **options)
        try:
            return bytes(answer.read())
        finally:
            answer.close()
            answer.release_conn()

    def test_buckets(self) -> None:
        """A bucket is made, found, listed, not removed while it is full, removed."""
        name = f"{self.name}-made"
        self.minio.make_bucket(name)
        self.assertTrue(self.minio.bucket_exists(name))
        self.assertFalse(self.minio.bucket_exists(f"{name}-not"))
        self.assertIn(name, [bucket.name for bucket in self.minio.list_buckets()])
        self.minio.put_object(name, "k", io.BytesIO(b"x"), 1)
        self.assertEqual(self.assertRaises(S3Error, self.minio.remove_bucket, name).code, "BucketNotEmpty")
        self.minio.remove_object(name, "k")
        self.minio.remove_bucket(name)
        self.assertFalse(self.minio.bucket_exists(name))

    def test_files(self) -> None:
        """Files go there, whole and in parts, are listed by folder and all together, and come back."""
        for name in tree(self.files):
            self.minio.fput_object(
                self.name, f"d/{name}", str(self.files / name), part_size=5 * MIB, metadata={"colour": "blue"}
            )
        self.assertEqual(self.keys(), {f"d/{name}" for name in tree(self.files)})
        listed = {entry.object_name: entry.size for entry in self.minio.list_objects(self.name, "d/")}
        self.assertEqual(listed["d/large.bin"], 17 * MIB + 3)
        self.assertIn("d/dir/", listed)
        everything = list(self.minio.list_objects(self.name, recursive=True))
        self.assertEqual({entry.object_name for entry in everything}, self.keys())
        for name in tree(self.files):
            self.minio.fget_object(self.name, f"d/{name}", str(self.back / name))
        self.assertEqual(tree(self.back), tree(self.files))
        stat = self.minio.stat_object(self.name, "d/large.bin")
        self.assertEqual((stat.size, stat.metadata["x-amz-meta-colour"]), (17 * MIB + 3, "blue"))
        self.assertRegex(stat.etag, "^[0-9a-f]{32}-4$")
        self.assertEqual(
            self.assertRaises(S3Error, self.minio.stat_object, self.name, "not").code, "NoSuchKey"
        )

    def test_streams(self) -> None:
        """A stream whose length nobody knows goes in parts; ranges of it come back."""
        body = (self.files / "large.bin").read_bytes()
        done = self.minio.put_object(self.name, "k", io.BytesIO(body), -1, part_size=5 * MIB)
        self.assertTrue(done.etag.endswith("-4"))
        self.assertEqual(hashlib.sha256(self.body("k")).digest(), hashlib.sha256(body).digest())
        self.assertEqual(self.body("k", offset=5 * MIB - 2, length=9), body[5 * MIB - 2 : 5 * MIB + 7])

    def test_copies(self) -> None:
        """An object is copied, on conditions too, and one is composed of several, each copied as parts."""
        large = (self.files / "large.bin").read_bytes()
        self.minio.put_object(self.name, "large", io.BytesIO(large), len(large), part_size=5 * MIB)
        self.minio.put_object(self.name, "small", io.BytesIO(b"the end"), 7)
        self.minio.copy_object(self.name, "copy", CopySource(self.name, "large"))
        self.assertEqual(self.body("copy"), large)
        other = CopySource(self.name, "large", match_etag="0" * 32)
        error = self.assertRaises(S3Error, self.minio.copy_object, self.name, "copy", other)
        self.assertEqual(error.code, "PreconditionFailed")
        self.minio.compose_object(
            self.name,
            "whole",
            [
                ComposeSource(self.name, "large"),
                ComposeSource(self.name, "copy", offset=3, length=6 * MIB),
                ComposeSource(self.name, "small"),
            ],
            metadata={"made": "of three"},
        )
        self.assertEqual(self.body("whole"), large + large[3 : 6 * MIB + 3] + b"the end")
        self.assertEqual(self.minio.stat_object(self.name, "whole").metadata["x-amz-meta-made"], "of three")

    def test_removing(self) -> None:
        """Many are removed with one request, some of which were never there."""
        for number in range(20):
            self.minio.put_object(self.name, f"ü&<{number}>", io.BytesIO(b""), 0)
        wanted = [DeleteObject(f"ü&<{number}>") for number in range(25)]
        self.assertEqual(list(self.minio.remove_objects(self.name, wanted)), [])
        self.assertEqual(self.keys(), set())

    def test_presigned(self) -> None:
        """Presigned URLs put and get; a form of a policy takes what the policy says."""
        put = self.minio.presigned_put_object(self.name, "dir/a b", timedelta(minutes=5))
        fetched(put, method="PUT", body=b"presigned")
        get = self.minio.presigned_get_object(
            self.name, "dir/a b", timedelta(minutes=5), response_headers={"response-content-type": "text/x"}
        )
        self.assertEqual(fetched(get), b"presigned")
        policy = PostPolicy(self.name, datetime.now(UTC) + timedelta(minutes=5))
        policy.add_starts_with_condition("key", "forms/")
        policy.add_content_length_range_condition(1, 100)
        fields = self.minio.presigned_post_policy(policy)
        with urlopen(
            form(f"{self.appliance.endpoint}/{self.name}", {**fields, "key": "forms/k"}, b"posted")
        ) as done:
            self.assertEqual(done.status, 204)
        self.assertEqual(self.body("forms/k"), b"posted")

    def test_tags(self) -> None:
        """Tags of an object are set with it and later, read, and removed."""
        tags = Tags.new_object_tags()
        tags["who"] = "a b+ü"
        self.minio.put_object(self.name, "k", io.BytesIO(b"x"), 1, tags=tags)
        self.assertEqual(self.minio.get_object_tags(self.name, "k"), tags)
        tags["more"] = ""
        self.minio.set_object_tags(self.name, "k", tags)
        self.assertEqual(self.minio.get_object_tags(self.name, "k"), tags)
        self.minio.delete_object_tags(self.name, "k")
        self.assertIsNone(self.minio.get_object_tags(self.name, "k"))
        of_bucket = Tags.new_bucket_tags()
        of_bucket["owner"] = "tests"
        self.minio.set_bucket_tags(self.name, of_bucket)
        self.assertEqual(self.minio.get_bucket_tags(self.name), of_bucket)
        self.minio.delete_bucket_tags(self.name)
        self.assertIsNone(self.minio.get_bucket_tags(self.name))

    def test_versions(self) -> None:
        """A bucket keeps versions, lists them with delete markers, gives and removes each by its id."""
        self.minio.set_bucket_versioning(self.name, VersioningConfig(ENABLED))
        self.assertEqual(self.minio.get_bucket_versioning(self.name).status, ENABLED)
        ids = [self.minio.put_object(self.name, "k", io.BytesIO(b"%d" % n), 1).version_id for n in range(3)]
        self.minio.remove_object(self.name, "k")
        self.assertEqual(list(self.minio.list_objects(self.name)), [])
        listed = list(self.minio.list_objects(self.name, include_version=True))
        self.assertEqual([entry.version_id for entry in listed if not entry.is_delete_marker], ids[::-1])
        (marker,) = (entry for entry in listed if entry.is_delete_marker)
        self.assertEqual(self.body("k", version_id=ids[1]), b"1")
        self.minio.remove_object(self.name, "k", version_id=marker.version_id)
        self.assertEqual(self.body("k"), b"2")
        gone = [DeleteObject("k", version_id=version) for version in ids]
        self.assertEqual(list(self.minio.remove_objects(self.name, gone)), [])
        self.assertEqual(list(self.minio.list_objects(self.name, include_version=True)), [])

    def test_cold(self) -> None:
        """What is sent as GLACIER is listed so and refused, until another client has had it restored."""
        body = (self.files / "large.bin").read_bytes()
        cold = {"x-amz-storage-class": "GLACIER"}
        self.minio.put_object(self.name, "k", io.BytesIO(body), len(body), metadata=cold, part_size=5 * MIB)
        (entry,) = self.minio.list_objects(self.name)
        self.assertEqual(entry.storage_class, "GLACIER")
        self.appliance.archive((self.name, "k"))
        self.assertEqual(self.assertRaises(S3Error, self.body, "k").code, "InvalidObjectState")
        self.restore("k")
        self.assertEqual(self.body("k"), body)


class MinioTlsTests(OverTls):
    """Over TLS, where it signs no body."""

    def test_customer_keys(self) -> None:
        """With and without a customer's key, whole and in parts; copied from the one to the other."""
        keys = self.appliance.users["first"]
        minio = Minio(
            urlsplit(self.appliance.endpoint).netloc,
            access_key=keys.access_key,
            secret_key=keys.secret_key,
            http_client=PoolManager(ca_certs=str(self.appliance.certificate)),
        )
        bucket, body, key = self.bucket(), Random(1).randbytes(11 * MIB), SseCustomerKey(bytes(range(32)))
        for name, sse in (("plain", None), ("sealed", key)):
            for size_bytes in (0, 1000, len(body)):
                minio.put_object(
                    bucket, name, io.BytesIO(body[:size_bytes]), size_bytes, part_size=5 * MIB, sse=sse
                )
                with minio.get_object(bucket, name, ssec=sse) as answer:
                    self.assertEqual(answer.read(), body[:size_bytes])
        self.assertEqual(
            self.assertRaises(S3Error, minio.get_object, bucket, "sealed").code, "InvalidRequest"
        )
        minio.copy_object(bucket, "opened", CopySource(bucket, "sealed", ssec=key))
        with minio.get_object(bucket, "opened") as answer:
            self.assertEqual(answer.read(), body)


def form(url: str, fields: dict[str, str], body: bytes) -> Request:
    """Return a browser's form with a file as its last field."""
    boundary = "a-boundary-of-the-tests"
    heads = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    head = (
        "".join(heads) + f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
    )
    content = head.encode() + body + f"\r\n--{boundary}--\r\n".encode()
    return Request(url, content, {"Content-Type": f"multipart/form-data; boundary={boundary}"})
