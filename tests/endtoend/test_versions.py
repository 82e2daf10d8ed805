"""Buckets that keep versions, with boto3: what a client sees, also of versions on tape and across a kill."""

from random import Random
from typing import Any

from tests.endtoend.appliance import ApplianceCase, wait_until
from tests.endtoend.clients import refusal, refused

MIB = 1024**2


class VersionsTests(ApplianceCase):
    """One appliance with a bucket."""

    def setUp(self) -> None:
        """Make the bucket."""
        super().setUp()
        self.name = self.bucket()

    def set_state(self, status: str) -> None:
        """Enable or suspend."""
        self.s3.put_bucket_versioning(Bucket=self.name, VersioningConfiguration={"Status": status})

    def put(self, key: str, body: bytes, **arguments: Any) -> str:
        """Put a version; return its id."""
        answer = self.s3.put_object(Bucket=self.name, Key=key, Body=body, **arguments)
        return str(answer["VersionId"])

    def body(self, key: str, **arguments: Any) -> bytes:
        """Return the bytes of an object."""
        return bytes(self.s3.get_object(Bucket=self.name, Key=key, **arguments)["Body"].read())

    def listed(self, **arguments: Any) -> tuple[list[tuple[str, str, bool]], list[tuple[str, str, bool]]]:
        """Return versions and delete markers, each with its key, its id, and whether it is the latest; in pages of two."""
        pages = self.s3.get_paginator("list_object_versions").paginate(
            Bucket=self.name, PaginationConfig={"PageSize": 2}, **arguments
        )
        found: dict[str, list[tuple[str, str, bool]]] = {"Versions": [], "DeleteMarkers": []}
        for page in pages:
            for name, entries in found.items():
                entries += [(one["Key"], one["VersionId"], one["IsLatest"]) for one in page.get(name, [])]
        return found["Versions"], found["DeleteMarkers"]

    def test_life(self) -> None:
        """Versions come and go, a kill in between; what is deleted is back without its marker; in the end nothing is left."""
        s3, bucket = self.s3, self.name
        self.assertNotIn("Status", s3.get_bucket_versioning(Bucket=bucket))
        s3.put_object(Bucket=bucket, Key="a", Body=b"before")
        self.set_state("Enabled")
        self.assertEqual(s3.get_bucket_versioning(Bucket=bucket)["Status"], "Enabled")
        first = self.put("a", b"first")
        large = Random(1).randbytes(6 * MIB)
        upload = s3.create_multipart_upload(Bucket=bucket, Key="a")["UploadId"]
        part = s3.upload_part(Bucket=bucket, Key="a", UploadId=upload, PartNumber=1, Body=large)
        second = s3.complete_multipart_upload(
            Bucket=bucket,
            Key="a",
            UploadId=upload,
            MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]},
        )["VersionId"]
        gone = s3.delete_object(Bucket=bucket, Key="a")
        marker = gone["VersionId"]
        self.assertTrue(gone["DeleteMarker"])
        self.appliance.kill()
        self.appliance.start()
        self.assertEqual(
            self.listed(),
            ([("a", second, False), ("a", first, False), ("a", "null", False)], [("a", marker, True)]),
        )
        hidden = refusal(s3.get_object, Bucket=bucket, Key="a")
        self.assertEqual(hidden["Error"]["Code"], "NoSuchKey")
        self.assertEqual(hidden["ResponseMetadata"]["HTTPHeaders"]["x-amz-delete-marker"], "true")
        refused_read = refusal(s3.get_object, Bucket=bucket, Key="a", VersionId=marker)
        self.assertEqual(refused_read["Error"]["Code"], "MethodNotAllowed")
        self.assertEqual(self.body("a", VersionId=second), large)
        self.assertEqual(self.body("a", VersionId="null"), b"before")
        copied = s3.copy_object(
            Bucket=bucket, Key="a", CopySource={"Bucket": bucket, "Key": "a", "VersionId": first}
        )
        self.assertEqual(copied["CopySourceVersionId"], first)
        self.assertEqual(self.body("a"), b"first")
        self.assertTrue(s3.delete_object(Bucket=bucket, Key="a", VersionId=copied["VersionId"])["VersionId"])
        self.assertTrue(s3.delete_object(Bucket=bucket, Key="a", VersionId=marker)["DeleteMarker"])
        self.assertEqual(self.body("a"), large)
        self.set_state("Suspended")
        self.assertNotIn("VersionId", s3.put_object(Bucket=bucket, Key="a", Body=b"null again"))
        self.assertEqual(self.listed()[0], [("a", "null", True), ("a", second, False), ("a", first, False)])
        self.assertEqual(s3.delete_object(Bucket=bucket, Key="a")["VersionId"], "null")
        self.assertEqual([key for key, _, _ in self.listed(Prefix="a")[0]], ["a", "a"])
        self.assertEqual(refused(s3.delete_bucket, Bucket=bucket), (409, "BucketNotEmpty"))
        self.set_state("Enabled")
        deleted = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "a"}, {"Key": "b"}]})[
            "Deleted"
        ]
        self.assertTrue(all(one["DeleteMarker"] and one["DeleteMarkerVersionId"] for one in deleted))
        versions, markers = self.listed()
        everything = [{"Key": key, "VersionId": version_id} for key, version_id, _ in versions + markers]
        answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": everything})
        self.assertEqual(len(answer["Deleted"]), 5)
        s3.delete_bucket(Bucket=bucket)

    def test_on_tape(self) -> None:
        """Superseded versions go to tape, are refused as cold ones are, and come back by their ids."""
        s3, bucket = self.s3, self.name
        self.set_state("Enabled")
        bodies = {}
        for number in range(3):
            body = Random(number).randbytes(2 * MIB + number)
            bodies[self.put("k", body, StorageClass="GLACIER")] = body
        oldest, middle, newest = bodies
        s3.delete_object(Bucket=bucket, Key="k")

        def head(version_id: str) -> dict[str, Any]:
            answer: dict[str, Any] = s3.head_object(Bucket=bucket, Key="k", VersionId=version_id)
            return answer

        def is_on_tape(version_id: str) -> bool:
            headers = head(version_id)["ResponseMetadata"]["HTTPHeaders"]
            return bool(headers["x-coldstore-copies"] == "2/2")

        used = self.appliance.settled_bytes()
        self.appliance.client.post("/archive")
        wait_until("every version is on two tapes", lambda: all(map(is_on_tape, bodies)), seconds=120)
        wait_until(
            "their bytes leave the disk", lambda: self.appliance.settled_bytes() < used - 6 * MIB, seconds=60
        )
        for version_id in bodies:
            error = refusal(s3.get_object, Bucket=bucket, Key="k", VersionId=version_id)
            self.assertEqual(error["Error"]["Code"], "InvalidObjectState")
        for version_id in (oldest, newest):
            s3.restore_object(Bucket=bucket, Key="k", VersionId=version_id, RestoreRequest={"Days": 1})
        for version_id in (oldest, newest):
            wait_until(
                f"version {version_id} is restored",
                lambda which=version_id: 'ongoing-request="false"' in head(which).get("Restore", ""),
                seconds=120,
            )
            self.assertEqual(self.body("k", VersionId=version_id), bodies[version_id])
        self.assertNotIn("Restore", head(middle))
        statuses = s3.list_object_versions(Bucket=bucket, OptionalObjectAttributes=["RestoreStatus"])[
            "Versions"
        ]
        self.assertEqual(["RestoreStatus" in one for one in statuses], [True, False, True])
