"""Who may do what without a policy: a bucket is its owner's alone, and nobody is anybody without a valid proof."""

import time
from collections.abc import Callable
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from tests.endtoend.appliance import ApplianceCase, listing
from tests.endtoend.clients import boto_client, refused
from tests.endtoend.wire import Keys, RawClient


def operations(bucket: str, own: str, upload: str) -> dict[str, Callable[[Any], Any]]:
    """Return one call of everything that touches a bucket; ``own`` is a bucket of the caller."""
    here = {"Bucket": bucket, "Key": "k"}
    parts = {"Parts": [{"PartNumber": 1, "ETag": '"00000000000000000000000000000000"'}]}
    return {
        "HeadBucket": lambda s3: s3.head_bucket(Bucket=bucket),
        "DeleteBucket": lambda s3: s3.delete_bucket(Bucket=bucket),
        "GetBucketLocation": lambda s3: s3.get_bucket_location(Bucket=bucket),
        "GetBucketVersioning": lambda s3: s3.get_bucket_versioning(Bucket=bucket),
        "PutBucketVersioning": lambda s3: s3.put_bucket_versioning(
            Bucket=bucket, VersioningConfiguration={"Status": "Enabled"}
        ),
        "GetBucketAcl": lambda s3: s3.get_bucket_acl(Bucket=bucket),
        "GetBucketPolicy": lambda s3: s3.get_bucket_policy(Bucket=bucket),
        "GetBucketPolicyStatus": lambda s3: s3.get_bucket_policy_status(Bucket=bucket),
        "PutBucketPolicy": lambda s3: s3.put_bucket_policy(Bucket=bucket, Policy="{}"),
        "DeleteBucketPolicy": lambda s3: s3.delete_bucket_policy(Bucket=bucket),
        "GetPublicAccessBlock": lambda s3: s3.get_public_access_block(Bucket=bucket),
        "PutPublicAccessBlock": lambda s3: s3.put_public_access_block(
            Bucket=bucket, PublicAccessBlockConfiguration={"BlockPublicPolicy": False}
        ),
        "DeletePublicAccessBlock": lambda s3: s3.delete_public_access_block(Bucket=bucket),
        "PutBucketAcl": lambda s3: s3.put_bucket_acl(Bucket=bucket, ACL="private"),
        "PutObjectAcl": lambda s3: s3.put_object_acl(**here, ACL="private"),
        "PutBucketOwnershipControls": lambda s3: s3.put_bucket_ownership_controls(
            Bucket=bucket, OwnershipControls={"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}
        ),
        "GetBucketCors": lambda s3: s3.get_bucket_cors(Bucket=bucket),
        "PutBucketCors": lambda s3: s3.put_bucket_cors(
            Bucket=bucket,
            CORSConfiguration={"CORSRules": [{"AllowedOrigins": ["*"], "AllowedMethods": ["GET"]}]},
        ),
        "DeleteBucketCors": lambda s3: s3.delete_bucket_cors(Bucket=bucket),
        "ListBucketMetricsConfigurations": lambda s3: s3.list_bucket_metrics_configurations(Bucket=bucket),
        "ListObjects": lambda s3: s3.list_objects(Bucket=bucket),
        "ListObjectsV2": lambda s3: s3.list_objects_v2(Bucket=bucket),
        "ListObjectVersions": lambda s3: s3.list_object_versions(Bucket=bucket),
        "ListMultipartUploads": lambda s3: s3.list_multipart_uploads(Bucket=bucket),
        "DeleteObjects": lambda s3: s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "k"}]}),
        "GetObject": lambda s3: s3.get_object(**here),
        "GetObject of a version": lambda s3: s3.get_object(**here, VersionId="null"),
        "GetObject of none": lambda s3: s3.get_object(Bucket=bucket, Key="none"),
        "HeadObject": lambda s3: s3.head_object(**here),
        "GetObjectAcl": lambda s3: s3.get_object_acl(**here),
        "GetObjectTagging": lambda s3: s3.get_object_tagging(**here),
        "PutObjectTagging": lambda s3: s3.put_object_tagging(**here, Tagging={"TagSet": []}),
        "DeleteObjectTagging": lambda s3: s3.delete_object_tagging(**here),
        "GetBucketTagging": lambda s3: s3.get_bucket_tagging(Bucket=bucket),
        "PutBucketTagging": lambda s3: s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": []}),
        "DeleteBucketTagging": lambda s3: s3.delete_bucket_tagging(Bucket=bucket),
        "GetObjectAttributes": lambda s3: s3.get_object_attributes(**here, ObjectAttributes=["ETag"]),
        "PutObject": lambda s3: s3.put_object(**here, Body=b"other"),
        "PutObject of a large body": lambda s3: s3.put_object(**here, Body=bytes(3_000_000)),
        "PutObject of a new key": lambda s3: s3.put_object(Bucket=bucket, Key="new", Body=b"other"),
        "DeleteObject": lambda s3: s3.delete_object(**here),
        "DeleteObject of a version": lambda s3: s3.delete_object(**here, VersionId="null"),
        "DeleteObject of none": lambda s3: s3.delete_object(Bucket=bucket, Key="none"),
        "CopyObject into": lambda s3: s3.copy_object(**here, CopySource={"Bucket": own, "Key": "mine"}),
        "CopyObject out of": lambda s3: s3.copy_object(Bucket=own, Key="stolen", CopySource=here),
        "RestoreObject": lambda s3: s3.restore_object(Bucket=bucket, Key="cold", RestoreRequest={"Days": 1}),
        "CreateMultipartUpload": lambda s3: s3.create_multipart_upload(**here),
        "UploadPart": lambda s3: s3.upload_part(**here, UploadId=upload, PartNumber=1, Body=b"x"),
        "UploadPartCopy": lambda s3: s3.upload_part_copy(
            **here, UploadId=upload, PartNumber=1, CopySource={"Bucket": own, "Key": "mine"}
        ),
        "ListParts": lambda s3: s3.list_parts(**here, UploadId=upload),
        "CompleteMultipartUpload": lambda s3: s3.complete_multipart_upload(
            **here, UploadId=upload, MultipartUpload=parts
        ),
        "AbortMultipartUpload": lambda s3: s3.abort_multipart_upload(**here, UploadId=upload),
    }


class AuthorisationTests(ApplianceCase):
    """Everything that must be refused, for the right reason."""

    def setUp(self) -> None:
        """Have a bucket of the first user with an object, a cold object and an upload, and one of the second."""
        super().setUp()
        self.theirs = self.bucket()
        self.s3.put_object(Bucket=self.theirs, Key="k", Body=b"secret")
        self.s3.put_object(Bucket=self.theirs, Key="cold", Body=b"secret", StorageClass="GLACIER")
        self.upload = self.s3.create_multipart_upload(Bucket=self.theirs, Key="k")["UploadId"]
        self.own = self.bucket("second")
        self.second = self.appliance.s3("second")
        self.second.put_object(Bucket=self.own, Key="mine", Body=b"mine")
        self.before = listing(self.s3, self.theirs)
        self.used = self.appliance.settled_bytes()

    def assert_unchanged(self) -> None:
        """Check that nothing happened to the first user's bucket."""
        self.assert_nothing_new(self.theirs, self.before, self.used)
        self.assertEqual(self.s3.get_object(Bucket=self.theirs, Key="k")["Body"].read(), b"secret")
        self.assertNotIn("Restore", self.s3.head_object(Bucket=self.theirs, Key="cold"))
        self.assertEqual(
            self.s3.list_parts(Bucket=self.theirs, Key="k", UploadId=self.upload).get("Parts", []), []
        )
        self.assertEqual([key for key, _, _ in listing(self.second, self.own)], ["mine"])

    def assert_refused_everywhere(self, client: Any, code: str) -> None:
        """Check that every operation answers 403 with a code (a HEAD has no body to name one)."""
        for name, call in operations(self.theirs, self.own, self.upload).items():
            wanted = "403" if name.startswith("Head") else code
            self.assertEqual(refused(call, client), (403, wanted), name)

    def test_second_user(self) -> None:
        """Another user is denied every operation on a bucket that is not his, and changes nothing."""
        self.assert_refused_everywhere(self.second, "AccessDenied")
        self.assert_unchanged()

    def test_nobody(self) -> None:
        """Without a signature everything is denied."""
        nobody = boto_client(self.appliance.endpoint, None)
        for name, call in operations(self.theirs, self.theirs, self.upload).items():
            wanted = "403" if name.startswith("Head") else "AccessDenied"
            self.assertEqual(refused(call, nobody), (403, wanted), name)
        self.assertEqual(refused(nobody.list_buckets), (403, "AccessDenied"))
        self.assertEqual(refused(nobody.create_bucket, Bucket="anybodys-bucket"), (403, "AccessDenied"))
        self.assert_unchanged()

    def test_unknown_key(self) -> None:
        """An access key that nobody has is named as such."""
        stranger = boto_client(self.appliance.endpoint, Keys("CSNOSUCHKEY", "x" * 40))
        self.assert_refused_everywhere(stranger, "InvalidAccessKeyId")
        self.assertEqual(refused(stranger.list_buckets), (403, "InvalidAccessKeyId"))
        self.assert_unchanged()

    def test_wrong_secret(self) -> None:
        """A signature by another secret matches nothing."""
        first = self.appliance.users["first"]
        forger = boto_client(self.appliance.endpoint, Keys(first.access_key, "x" * 40))
        self.assert_refused_everywhere(forger, "SignatureDoesNotMatch")
        self.assert_unchanged()

    def test_presigned(self) -> None:
        """An expired URL, one of another user, and one for another method or key open nothing."""
        here = {"Bucket": self.theirs, "Key": "k"}

        def answer(url: str, method: str = "GET", body: bytes | None = None) -> tuple[int, bytes]:
            request = Request(url, method=method, data=body, headers={"Content-Type": ""} if body else {})
            error = self.assertRaises(HTTPError, urlopen, request, timeout=20)
            with error:
                return error.code, error.read()

        for version in ("s3v4", "s3"):
            mine = self.appliance.s3(signature_version=version)
            others = self.appliance.s3("second", signature_version=version)
            short = mine.generate_presigned_url("get_object", Params=here, ExpiresIn=1)
            status, body = answer(others.generate_presigned_url("get_object", Params=here))
            self.assertEqual((status, b"<Code>AccessDenied</Code>" in body), (403, True), version)
            get = mine.generate_presigned_url("get_object", Params=here)
            for url, method in ((get, "DELETE"), (get.replace("/k?", "/cold?"), "GET")):
                status, body = answer(url, method)
                self.assertEqual((status, b"<Code>SignatureDoesNotMatch</Code>" in body), (403, True), method)
            status, body = answer(get, "PUT", b"other")
            self.assertEqual((status, b"<Code>SignatureDoesNotMatch</Code>" in body), (403, True))
            time.sleep(2.1)
            status, body = answer(short)
            self.assertEqual((status, b"<Code>AccessDenied</Code>" in body), (403, True), version)
        self.assert_unchanged()

    def test_expected_owner(self) -> None:
        """x-amz-expected-bucket-owner must name the owner."""
        first, second = (self.appliance.users[name].user_id for name in ("first", "second"))
        head = self.s3.head_bucket
        head(Bucket=self.theirs, ExpectedBucketOwner=first)
        self.assertEqual(refused(head, Bucket=self.theirs, ExpectedBucketOwner=second), (403, "403"))
        self.assertEqual(
            refused(
                self.s3.put_object, Bucket=self.theirs, Key="k", Body=b"other", ExpectedBucketOwner=second
            ),
            (403, "AccessDenied"),
        )
        self.assert_unchanged()

    def test_signatures(self) -> None:
        """A clock that is off, a scope of another region, a signed header that was changed, a body that was changed."""
        raw = RawClient(self.appliance.port, self.appliance.users["first"])
        target = f"/{self.theirs}/k"
        for answer, code in (
            (raw.ask("GET", target, shifted_seconds=-1000), "RequestTimeTooSkewed"),
            (raw.ask("GET", target, shifted_seconds=1000), "RequestTimeTooSkewed"),
            (
                raw.ask(
                    "PUT",
                    target,
                    b"other",
                    {"x-amz-meta-a": "1"},
                    unsigned_headers={"x-amz-meta-a": "2"},
                ),
                "SignatureDoesNotMatch",
            ),
            (
                raw.ask("PUT", target, b"other", unsigned_headers={"x-amz-storage-class": "GLACIER"}),
                "AccessDenied",
            ),
        ):
            self.assertEqual((answer.status, answer.code), (403, code), answer.body)
        answer = raw.ask("PUT", target, b"other", sends=b"0ther")
        self.assertEqual((answer.status, answer.code), (400, "XAmzContentSHA256Mismatch"))
        answer = raw.ask("GET", target, region="mars-north-1")
        self.assertEqual((answer.status, answer.code), (400, "AuthorizationHeaderMalformed"))
        nobody = RawClient(self.appliance.port, None)
        for words in ("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA256 Credential=x", "Basic eDp5", "AWS x:y", "\t"):
            answer = nobody.ask("GET", target, headers={"authorization": words})
            self.assertIn(answer.status, (400, 403), words)
            self.assertTrue(answer.code, words)
        self.assert_unchanged()
