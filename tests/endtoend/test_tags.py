"""Tags and attributes with boto3, over the life of objects: restarts, tapes, restores, copies."""

import hashlib
from base64 import b64encode
from random import Random
from typing import Any

from tests.endtoend.clients import refused
from tests.endtoend.test_cold import ColdCase

MIB = 1024**2


def tag_set(**tags: str) -> dict[str, Any]:
    """Return tags as boto3 takes and gives them."""
    return {"TagSet": [{"Key": key, "Value": value} for key, value in tags.items()]}


class TagTests(ColdCase):
    """One appliance."""

    def tags(self, bucket: str, key: str) -> dict[str, str]:
        """Return the tags of an object."""
        found = self.s3.get_object_tagging(Bucket=bucket, Key=key)["TagSet"]
        return {tag["Key"]: tag["Value"] for tag in found}

    def test_tags(self) -> None:
        """Tags of objects come and go with every writer, stay over restarts and on tape, and never touch the object."""
        bucket = self.bucket()
        here = {"Bucket": bucket, "Key": "k"}
        self.s3.put_object(**here, Body=b"body", Tagging="a=1&b=%C3%BC", StorageClass="GLACIER")
        written = self.s3.head_object(**here)
        self.assertEqual(written["TagCount"], 2)
        self.s3.put_object_tagging(**here, Tagging=tag_set(now="this", then=""))
        self.s3.put_bucket_tagging(Bucket=bucket, Tagging=tag_set(team="archive"))
        self.appliance.kill()
        self.appliance.start()
        self.assertEqual(self.tags(bucket, "k"), {"now": "this", "then": ""})
        self.assertEqual(
            self.s3.get_bucket_tagging(Bucket=bucket)["TagSet"], tag_set(team="archive")["TagSet"]
        )
        self.appliance.archive((bucket, "k"))
        self.s3.put_object_tagging(**here, Tagging=tag_set(on="tape"))
        head = self.s3.head_object(**here)
        self.assertEqual((head["ETag"], head["LastModified"]), (written["ETag"], written["LastModified"]))
        self.restore(bucket, "k")
        self.wait_restored(bucket, "k")
        self.s3.copy_object(Bucket=bucket, Key="copy", CopySource=here)
        self.s3.copy_object(
            Bucket=bucket, Key="other", CopySource=here, TaggingDirective="REPLACE", Tagging="c=3"
        )
        self.assertEqual(self.tags(bucket, "copy"), {"on": "tape"})
        self.assertEqual(self.tags(bucket, "other"), {"c": "3"})
        self.s3.delete_object_tagging(**here)
        self.assertEqual((self.tags(bucket, "k"), self.body(bucket, "k")), ({}, b"body"))
        self.s3.delete_bucket_tagging(Bucket=bucket)
        self.assertEqual(refused(self.s3.get_bucket_tagging, Bucket=bucket), (404, "NoSuchTagSet"))
        eleven = tag_set(**{f"k{number}": "" for number in range(11)})
        self.assertEqual(refused(self.s3.put_object_tagging, **here, Tagging=eleven), (400, "InvalidTag"))

    def test_parts(self) -> None:
        """The checksum of a part is told of an object that was on tape and came back, whose parts are long one file."""
        bucket, body = self.bucket(), Random(5).randbytes(11 * MIB)
        here = {"Bucket": bucket, "Key": "k"}
        contents = [body[begin : begin + 5 * MIB] for begin in range(0, len(body), 5 * MIB)]
        checksums = [b64encode(hashlib.sha256(content).digest()).decode() for content in contents]
        begun = self.s3.create_multipart_upload(
            **here, ChecksumAlgorithm="SHA256", StorageClass="GLACIER", Tagging="a=1"
        )
        upload = {**here, "UploadId": begun["UploadId"]}
        parts = [
            {
                "PartNumber": number,
                "ETag": self.s3.upload_part(
                    **upload, PartNumber=number, Body=content, ChecksumAlgorithm="SHA256"
                )["ETag"],
            }
            for number, content in enumerate(contents, 1)
        ]
        done = self.s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
        self.appliance.archive((bucket, "k"))
        self.assert_cold(bucket, "k")
        found = self.s3.get_object_attributes(
            **here,
            ObjectAttributes=["ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"],
            MaxParts=2,
        )
        self.assertEqual((found["ETag"], found["ObjectSize"]), (done["ETag"].strip('"'), len(body)))
        self.assertEqual((found["StorageClass"], found["Checksum"]["ChecksumType"]), ("GLACIER", "COMPOSITE"))
        shown = found["ObjectParts"]
        self.assertEqual(
            (shown["TotalPartsCount"], shown["NextPartNumberMarker"], shown["IsTruncated"]), (3, 2, True)
        )
        self.assertEqual([part["ChecksumSHA256"] for part in shown["Parts"]], checksums[:2])
        self.restore(bucket, "k")
        self.wait_restored(bucket, "k")
        for number, content in enumerate(contents, 1):
            # boto3 compares the bytes with it as well.
            got = self.s3.get_object(**here, PartNumber=number, ChecksumMode="ENABLED")
            self.assertEqual(got["Body"].read(), content)
            self.assertEqual((got["ChecksumSHA256"], got["PartsCount"]), (checksums[number - 1], 3))
        self.assertEqual(self.tags(bucket, "k"), {"a": "1"})

    def test_limit_of_restores(self) -> None:
        """An operator bounds the days of restores in a bucket; the refusal says what the bound is."""
        bucket = self.bucket()
        self.s3.put_object(Bucket=bucket, Key="k", Body=b"x", StorageClass="GLACIER")
        self.appliance.command("bucket", "restore-days", bucket, "--most", "3")
        answer = refused(self.restore, bucket, "k", 4)
        self.assertEqual(answer, (400, "InvalidArgument"))
        self.assertIn(self.restore(bucket, "k", 3), (200, 202))
