"""Policies as clients see them: other users, whoever does not sign, limits that an operator sets, and what survives a restart."""

import json
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from tests.endtoend.clients import boto_client, refused
from tests.endtoend.test_operator import OperatorCase


def policy(*statements: dict[str, Any]) -> str:
    """Write a policy."""
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


class PolicyTests(OperatorCase):
    """A bucket of the first user's, with an object."""

    def setUp(self) -> None:
        """Make it."""
        super().setUp()
        self.name = self.bucket()
        self.second = self.appliance.s3("second")
        self.nobody = boto_client(self.appliance.endpoint, None)
        self.s3.put_object(Bucket=self.name, Key="pub/k", Body=b"shared", Tagging="team=red")
        self.s3.put_object(Bucket=self.name, Key="k", Body=b"secret")

    def statement(self, action: str | list[str], key: str | None = "*", **more: Any) -> dict[str, Any]:
        """Return a statement about the bucket, or objects in it, that allows everybody something."""
        arn = f"arn:aws:s3:::{self.name}" + ("" if key is None else f"/{key}")
        return {"Effect": "Allow", "Principal": "*", "Action": action, "Resource": arn, **more}

    def open(self, *statements: dict[str, Any]) -> None:
        """Have nothing blocked, and this allowed."""
        self.s3.delete_public_access_block(Bucket=self.name)
        self.s3.put_bucket_policy(Bucket=self.name, Policy=policy(*statements))

    def test_public_access_block(self) -> None:
        """A public policy is refused until the owner unblocks it."""
        text = policy(self.statement("s3:GetObject"))
        asked = {"Bucket": self.name, "Policy": text}
        self.assertEqual(refused(self.s3.put_bucket_policy, **asked), (403, "AccessDenied"))
        block = self.s3.get_public_access_block(Bucket=self.name)["PublicAccessBlockConfiguration"]
        self.assertEqual(set(block.values()), {True})
        self.open(self.statement("s3:GetObject"))
        self.assertTrue(self.s3.get_bucket_policy_status(Bucket=self.name)["PolicyStatus"]["IsPublic"])
        self.s3.put_public_access_block(
            Bucket=self.name, PublicAccessBlockConfiguration={"RestrictPublicBuckets": True}
        )
        self.assertEqual(refused(self.nobody.get_object, Bucket=self.name, Key="k"), (403, "AccessDenied"))

    def test_nobody(self) -> None:
        """Without a signature: what the policy allows, and nothing else, with any client and a browser's form."""
        self.open(self.statement("s3:GetObject", "pub/*"), self.statement("s3:PutObject", "in/*"))
        got = self.nobody.get_object(Bucket=self.name, Key="pub/k")["Body"].read()
        self.assertEqual(got, b"shared")
        with urlopen(f"{self.appliance.endpoint}/{self.name}/pub/k", timeout=20) as answer:
            self.assertEqual(answer.read(), b"shared")
        for call, arguments in (
            (self.nobody.get_object, {"Key": "k"}),
            (self.nobody.get_object, {"Key": "pub/none"}),
            (self.nobody.list_objects_v2, {}),
            (self.nobody.delete_object, {"Key": "pub/k"}),
            (self.nobody.put_object, {"Key": "pub/k", "Body": b"x"}),
            (self.nobody.get_bucket_policy, {}),
        ):
            self.assertEqual(refused(call, Bucket=self.name, **arguments), (403, "AccessDenied"))
        self.nobody.put_object(Bucket=self.name, Key="in/large", Body=bytes(3_000_000))
        boundary = "b"
        form = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="key"\r\n\r\nin/form\r\n'
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\nformed\r\n--{boundary}--\r\n'
        ).encode()

        def post(data: bytes) -> int:
            request = Request(
                f"{self.appliance.endpoint}/{self.name}",
                data=data,
                headers={"Content-Type": f"multipart/form-data; boundary={boundary}"},
            )
            try:
                with urlopen(request, timeout=20) as answer:
                    return int(answer.status)
            except HTTPError as error:
                with error:
                    return error.code

        self.assertEqual(post(form), 204)
        self.assertEqual(post(form.replace(b"in/form", b"out/form")), 403)
        self.assertEqual(self.s3.get_object(Bucket=self.name, Key="in/form")["Body"].read(), b"formed")
        owner = self.s3.list_objects_v2(Bucket=self.name, FetchOwner=True, Prefix="in/")["Contents"]
        first = self.appliance.users["first"]
        self.assertEqual({one["Owner"]["ID"] for one in owner}, {first.user_id})
        self.assertEqual([one["Size"] for one in owner], [6, 3_000_000])

    def test_another_user(self) -> None:
        """A user whom the policy names, by every part of an upload and a copy; it outlives the appliance."""
        second = self.appliance.users["second"]
        self.s3.put_bucket_policy(
            Bucket=self.name,
            Policy=policy(
                self.statement(
                    ["s3:GetObject", "s3:GetObjectTagging", "s3:PutObject", "s3:AbortMultipartUpload"],
                    Principal={"AWS": f"arn:aws:iam::{second.user_id}:user/second"},
                ),
                self.statement(
                    "s3:ListBucket",
                    None,
                    Principal={"CanonicalUser": second.user_id},
                    Condition={"StringLike": {"s3:prefix": "pub/*"}},
                ),
            ),
        )
        own = self.bucket("second")
        here = {"Bucket": self.name, "Key": "parts"}
        self.second.copy_object(Bucket=own, Key="c", CopySource={"Bucket": self.name, "Key": "pub/k"})
        tags = self.second.get_object_tagging(Bucket=own, Key="c")["TagSet"]
        self.assertEqual(tags, [{"Key": "team", "Value": "red"}])
        upload = self.second.create_multipart_upload(**here)["UploadId"]
        part = self.second.upload_part(**here, UploadId=upload, PartNumber=1, Body=b"p")
        parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
        self.second.complete_multipart_upload(**here, UploadId=upload, MultipartUpload=parts)
        for _ in range(2):
            listed = self.second.list_objects_v2(Bucket=self.name, Prefix="pub/")
            self.assertEqual([one["Key"] for one in listed["Contents"]], ["pub/k"])
            self.assertEqual(refused(self.second.list_objects_v2, Bucket=self.name), (403, "AccessDenied"))
            self.assertEqual(refused(self.second.delete_object, **here), (403, "AccessDenied"))
            self.assertEqual(self.second.get_object(**here)["Body"].read(), b"p")
            url = self.second.generate_presigned_url("get_object", Params=here)
            with urlopen(url, timeout=20) as answer:
                self.assertEqual(answer.read(), b"p")
            self.appliance.stop()
            self.appliance.start()

    def test_operator(self) -> None:
        """What an operator says of a user counts from the next request on, and explain says why."""
        asked = ("policy", "explain", "second", "s3:GetObject", f"{self.name}/k")
        explained = self.appliance.command(*asked)
        self.assertEqual((explained.returncode, explained.stderr), (4, ""))
        self.assertIn("deny: neither", explained.stdout)
        self.say("user", "policy", "set", "second", "--read-only", "--may-restore", "--bucket", self.name)
        self.assertIn("allow: allowed by statement 1 of user policy", self.say(*asked))
        self.assertEqual(self.second.get_object(Bucket=self.name, Key="k")["Body"].read(), b"secret")
        for call, arguments in (
            (self.second.put_object, {"Bucket": self.name, "Key": "k", "Body": b"x"}),
            (self.second.delete_object, {"Bucket": self.name, "Key": "k"}),
            (self.second.create_bucket, {"Bucket": "one-more-bucket"}),
        ):
            self.assertEqual(refused(call, **arguments), (403, "AccessDenied"))
        self.s3.put_object(Bucket=self.name, Key="cold", Body=b"c", StorageClass="GLACIER")
        self.second.restore_object(Bucket=self.name, Key="cold", RestoreRequest={"Days": 1})
        self.say("user", "policy", "remove", "second", "--policy", f"read-only may-restore {self.name}")
        self.assertEqual(refused(self.second.get_object, Bucket=self.name, Key="k"), (403, "AccessDenied"))
        self.say("user", "policy", "set", "first", "--no-delete")
        self.s3.put_object(Bucket=self.name, Key="k2", Body=b"x")
        self.assertEqual(refused(self.s3.delete_object, Bucket=self.name, Key="k2"), (403, "AccessDenied"))
        failed = self.s3.delete_objects(Bucket=self.name, Delete={"Objects": [{"Key": "k2"}]})["Errors"]
        self.assertEqual([one["Code"] for one in failed], ["AccessDenied"])
        self.say("user", "policy", "remove", "first", "--policy", "no-delete")
        self.s3.delete_object(Bucket=self.name, Key="k2")
