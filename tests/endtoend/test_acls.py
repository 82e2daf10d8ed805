"""Access control lists and ownership with boto3, s3cmd and rclone: of two users and of nobody, over restarts and on tape."""

import json
import tempfile
from pathlib import Path
from typing import Any

from tests.endtoend.clients import Programs, boto_client, refused
from tests.endtoend.test_cold import ColdCase

ALL_USERS = "http://acs.amazonaws.com/groups/global/AllUsers"
NO_LISTS = (400, "AccessControlListNotSupported")
DENIED = (403, "AccessDenied")


class AclTests(ColdCase):
    """One appliance with two users."""

    def setUp(self) -> None:
        """Have a bucket of the first user in which lists are allowed, public ones too."""
        super().setUp()
        self.second = self.appliance.s3("second")
        self.nobody = boto_client(self.appliance.endpoint, None)
        self.name = self.with_lists(self.bucket())

    def with_lists(self, bucket: str, ownership: str = "ObjectWriter") -> str:
        """Allow lists in a bucket."""
        self.s3.put_bucket_ownership_controls(
            Bucket=bucket, OwnershipControls={"Rules": [{"ObjectOwnership": ownership}]}
        )
        self.s3.delete_public_access_block(Bucket=bucket)
        return bucket

    def grants(self, client: Any, **what: str) -> set[tuple[str, str]]:
        """Return who has what of a bucket or an object."""
        found = (client.get_object_acl if "Key" in what else client.get_bucket_acl)(**what)
        return {
            (grant["Grantee"].get("DisplayName") or grant["Grantee"]["URI"], grant["Permission"])
            for grant in found["Grants"]
        }

    def test_without_lists(self) -> None:
        """A bucket has none unless its owner says so: what says what is so is taken, anything else is not."""
        bucket = self.bucket()
        here = {"Bucket": bucket, "Key": "k"}
        self.s3.put_object(**here, Body=b"x", ACL="private")
        self.assertEqual(refused(self.s3.put_object, **here, Body=b"y", ACL="public-read"), NO_LISTS)
        self.assertEqual(refused(self.s3.put_object_acl, **here, ACL="public-read"), NO_LISTS)
        self.assertEqual(refused(self.s3.put_bucket_acl, Bucket=bucket, ACL="public-read"), NO_LISTS)
        self.assertEqual(self.body(bucket, "k"), b"x")
        for what in ({"Bucket": bucket}, here):
            self.assertEqual(self.grants(self.s3, **what), {("first", "FULL_CONTROL")})
        shown = self.s3.get_bucket_ownership_controls(Bucket=bucket)["OwnershipControls"]
        self.assertEqual(shown, {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]})
        self.s3.delete_bucket_ownership_controls(Bucket=bucket)
        self.assertEqual(
            refused(self.s3.get_bucket_ownership_controls, Bucket=bucket),
            (404, "OwnershipControlsNotFoundError"),
        )

    def test_created(self) -> None:
        """A bucket can be created with ownership and list; without the first the second is refused, a public one while those are blocked."""
        name, second = f"{self.name}-new", self.user_id("second")
        self.assertEqual(
            refused(self.s3.create_bucket, Bucket=name, ACL="public-read"),
            (400, "InvalidBucketAclWithObjectOwnership"),
        )
        owned = {"Bucket": name, "ObjectOwnership": "BucketOwnerPreferred"}
        self.assertEqual(
            refused(self.s3.create_bucket, **owned, ACL="public-read"),
            (400, "InvalidBucketAclWithBlockPublicAccessError"),
        )
        self.s3.create_bucket(**owned, GrantWrite=f'id="{second}"')
        self.second.put_object(Bucket=name, Key="k", Body=b"x", ACL="bucket-owner-full-control")
        self.assertEqual(self.grants(self.s3, Bucket=name, Key="k"), {("first", "FULL_CONTROL")})

    def test_of_two_users(self) -> None:
        """What another writes is his: it stays so over a restart, and the bucket's owner reads what its list lets him read."""
        self.assertEqual(refused(self.second.put_object, Bucket=self.name, Key="k", Body=b"x"), DENIED)
        second = self.user_id("second")
        self.s3.put_bucket_acl(
            Bucket=self.name, GrantWrite=f'id="{second}"', GrantFullControl=f'id="{self.user_id("first")}"'
        )
        here = {"Bucket": self.name, "Key": "k"}
        self.second.put_object(**here, Body=b"of the second", StorageClass="GLACIER", ACL="bucket-owner-read")
        self.appliance.kill()
        self.appliance.start()
        self.assertEqual(self.grants(self.second, **here), {("second", "FULL_CONTROL"), ("first", "READ")})
        self.assertEqual(refused(self.s3.get_object_acl, **here), DENIED)
        (listed,) = self.s3.list_objects(Bucket=self.name)["Contents"]
        self.assertEqual(listed["Owner"]["DisplayName"], "second")
        self.appliance.archive((self.name, "k"))
        self.assertEqual(self.restore(self.name, "k"), 202)
        self.wait_restored(self.name, "k")
        self.assertEqual(self.body(self.name, "k"), b"of the second")
        self.second.put_object_acl(**here, ACL="private")
        self.assertEqual(refused(self.s3.get_object, **here), DENIED)
        self.assertEqual(refused(self.second.list_objects, Bucket=self.name), DENIED)
        self.s3.delete_object(**here)
        self.assertEqual(self.s3.list_objects(Bucket=self.name).get("Contents", []), [])

    def user_id(self, name: str) -> str:
        """Return the canonical id of a user."""
        return self.appliance.users[name].user_id

    def test_public(self) -> None:
        """An object that is public is read by nobody in particular, until public lists are ignored or there are no lists."""
        here = {"Bucket": self.name, "Key": "k"}
        self.s3.put_object(**here, Body=b"for all", ACL="public-read")
        self.s3.put_object(Bucket=self.name, Key="l", Body=b"for me")
        for client in (self.nobody, self.second):
            self.assertEqual(client.get_object(**here)["Body"].read(), b"for all")
            self.assertEqual(refused(client.get_object, Bucket=self.name, Key="l"), DENIED)
            self.assertEqual(refused(client.list_objects_v2, Bucket=self.name), DENIED)
        block = {"IgnorePublicAcls": True, "BlockPublicAcls": True}
        self.s3.put_public_access_block(Bucket=self.name, PublicAccessBlockConfiguration=block)
        self.assertEqual(refused(self.nobody.get_object, **here), DENIED)
        self.assertEqual(refused(self.s3.put_object_acl, **here, ACL="authenticated-read"), DENIED)
        self.assertEqual(self.grants(self.s3, **here), {("first", "FULL_CONTROL"), (ALL_USERS, "READ")})
        self.with_lists(self.name, "BucketOwnerEnforced")
        self.assertEqual(refused(self.nobody.get_object, **here), DENIED)
        self.assertEqual(self.grants(self.s3, **here), {("first", "FULL_CONTROL")})

    def test_s3cmd(self) -> None:
        """s3cmd setacl makes objects and the bucket public and private again, and grants to a user and revokes that."""
        s3cmd, url = self.programs().s3cmd, f"s3://{self.name}"
        second = self.user_id("second")
        here = {"Bucket": self.name, "Key": "k"}
        self.s3.put_object(**here, Body=b"x")
        s3cmd("setacl", "--acl-public", f"{url}/k")
        self.assertEqual(self.nobody.get_object(**here)["Body"].read(), b"x")
        s3cmd("setacl", "--acl-private", f"{url}/k")
        self.assertEqual(refused(self.nobody.get_object, **here), DENIED)
        s3cmd("setacl", f"--acl-grant=read:{second}", f"{url}/k")
        self.assertEqual(self.second.get_object(**here)["Body"].read(), b"x")
        self.assertIn("second", s3cmd("info", f"{url}/k").stdout)
        s3cmd("setacl", f"--acl-revoke=read:{second}", f"{url}/k")
        self.assertEqual(refused(self.second.get_object, **here), DENIED)
        s3cmd("setacl", "--acl-public", url)
        self.assertEqual(len(self.nobody.list_objects(Bucket=self.name)["Contents"]), 1)
        with tempfile.NamedTemporaryFile() as file:
            s3cmd("put", "--acl-public", file.name, f"{url}/public")
        self.assertEqual(self.nobody.get_object(Bucket=self.name, Key="public")["ContentLength"], 0)

    def test_rclone(self) -> None:
        """rclone copy --s3-acl gives what it uploads a list, where there are lists."""
        rclone = self.programs().rclone
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "k").write_bytes(b"x")
            rclone("copy", folder, f"cs:{self.name}", "--s3-acl=public-read")
            self.assertEqual(self.nobody.get_object(Bucket=self.name, Key="k")["Body"].read(), b"x")
            listed = json.loads(rclone("lsjson", f"cs:{self.name}").stdout)
            self.assertEqual([entry["Path"] for entry in listed], ["k"])
            Path(folder, "l").write_bytes(b"x")
            rclone("copy", folder, f"cs:{self.bucket()}", "--s3-acl=private")

    def programs(self) -> Programs:
        """Return programs that sign as the first user."""
        home = Path(self.mktemp()).resolve()
        return Programs(self.appliance.endpoint, self.appliance.users["first"], home)
