"""boto3 over TLS, with a certificate of an authority whose root is all that it knows."""

import hashlib
import io
import os
import time
from base64 import b64encode
from pathlib import Path
from urllib.error import HTTPError, URLError

from boto3.s3.transfer import TransferConfig
from botocore.exceptions import SSLError

from tests.endtoend.appliance import wait_until
from tests.endtoend.clients import MIB, OverTls, boto_client, fetched, refused
from tests.endtoend.test_boto3 import ALGORITHMS, some_bytes

SECRET = bytes(range(32))
KEY = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": SECRET}
IN_PARTS = TransferConfig(multipart_threshold=5 * MIB, multipart_chunksize=5 * MIB)


class TlsTests(OverTls):
    """The endpoint over TLS: boto3 sends chunks with trailing checksums and no Content-Length."""

    @property
    def root(self) -> Path:
        """The file of the authority's certificate."""
        assert self.appliance.certificate is not None
        return self.appliance.certificate

    def test_unknown_authority(self) -> None:
        """Who does not know the authority sends nothing; who knows it is not served in the clear on the same port."""
        with self.assertRaises(SSLError):
            boto_client(self.appliance.endpoint, self.appliance.users["first"]).list_buckets()
        bare = self.appliance.endpoint.replace("https", "http")
        with self.assertRaises(OSError):
            fetched(bare)
        self.s3.list_buckets()

    def test_chunks(self) -> None:
        """Objects of every size and checksum go there and back in chunks; nothing of the chunks is kept."""
        bucket = self.bucket()
        for algorithm in ALGORITHMS:
            for size_bytes in (0, 1, MIB - 1, 3 * MIB + 5):
                body = some_bytes(size_bytes)
                put = self.s3.put_object(
                    Bucket=bucket, Key="k", Body=io.BytesIO(body), ChecksumAlgorithm=algorithm
                )
                self.assertEqual(put["ETag"], f'"{hashlib.md5(body).hexdigest()}"', (algorithm, size_bytes))
                got = self.s3.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
                self.assertEqual(got["Body"].read(), body)
                self.assertNotIn("ContentEncoding", got)
                self.assertIn(f"Checksum{algorithm}", got)

    def test_files(self) -> None:
        """A file of some parts goes there, is listed, copied part by part, fetched in ranges and deleted."""
        bucket, body = self.bucket(), some_bytes(17 * MIB + 3)
        there, back = self.appliance.folder / "there.bin", self.appliance.folder / "back.bin"
        there.write_bytes(body)
        self.s3.upload_file(str(there), bucket, "dir/a b+ü", Config=IN_PARTS)
        (entry,) = self.s3.list_objects_v2(Bucket=bucket, Prefix="dir/")["Contents"]
        self.assertEqual((entry["Key"], entry["Size"]), ("dir/a b+ü", len(body)))
        self.assertRegex(entry["ETag"], '^"[0-9a-f]{32}-4"$')
        self.s3.copy({"Bucket": bucket, "Key": "dir/a b+ü"}, bucket, "copy", Config=IN_PARTS)
        self.s3.download_file(bucket, "copy", str(back), Config=IN_PARTS)
        self.assertEqual(back.read_bytes(), body)
        gone = {"Objects": [{"Key": "dir/a b+ü"}, {"Key": "copy"}]}
        self.assertEqual(len(self.s3.delete_objects(Bucket=bucket, Delete=gone)["Deleted"]), 2)
        self.assertEqual(self.s3.list_objects_v2(Bucket=bucket)["KeyCount"], 0)
        self.s3.delete_bucket(Bucket=bucket)

    def test_customer_keys(self) -> None:
        """With a customer's key: whole, in parts, copied to one without; without the key nothing is read."""
        bucket, body = self.bucket(), some_bytes(11 * MIB + 17)
        self.s3.put_object(Bucket=bucket, Key="whole", Body=io.BytesIO(body), **KEY)
        self.s3.upload_fileobj(io.BytesIO(body), bucket, "parts", ExtraArgs=dict(KEY), Config=IN_PARTS)
        for key in ("whole", "parts"):
            self.assertEqual(self.s3.get_object(Bucket=bucket, Key=key, **KEY)["Body"].read(), body)
            self.assertEqual(refused(self.s3.get_object, Bucket=bucket, Key=key), (400, "InvalidRequest"))
        source = {f"CopySource{name}": value for name, value in KEY.items()}
        self.s3.copy_object(Bucket=bucket, Key="plain", CopySource=f"{bucket}/parts", **source)
        self.assertEqual(self.s3.get_object(Bucket=bucket, Key="plain")["Body"].read(), body)
        signing = self.appliance.s3(signature_version="s3v4")
        url = signing.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "whole", **KEY})
        named = "x-amz-server-side-encryption-customer-"
        headers = {
            f"{named}algorithm": "AES256",
            f"{named}key": b64encode(SECRET).decode(),
            f"{named}key-md5": b64encode(hashlib.md5(SECRET).digest()).decode(),
        }
        self.assertEqual(fetched(url, headers=headers, trusted=self.root), body)
        with self.assertRaises(HTTPError) as raised:
            fetched(url, trusted=self.root)
        raised.exception.close()
        self.assertEqual(raised.exception.code, 403)

    def test_presigned(self) -> None:
        """Presigned PUT and GET work with any client that knows the root, until they expire."""
        bucket, body = self.bucket(), os.urandom(100_000)
        where = {"Bucket": bucket, "Key": "a b+é"}
        put = self.s3.generate_presigned_url("put_object", Params=where)
        fetched(put, method="PUT", body=body, trusted=self.root)
        get = self.s3.generate_presigned_url("get_object", Params=where, ExpiresIn=3600)
        self.assertTrue(get.startswith("https://"))
        self.assertEqual(fetched(get, trusted=self.root), body)
        with self.assertRaises(URLError):
            fetched(get)
        brief = self.s3.generate_presigned_url("get_object", Params=where, ExpiresIn=1)
        time.sleep(2.1)
        with self.assertRaises(HTTPError) as raised:
            fetched(brief, trusted=self.root)
        raised.exception.close()
        self.assertEqual(raised.exception.code, 403)

    def test_restore(self) -> None:
        """A cold object in parts is refused, restored, waited for and read."""
        bucket, body = self.bucket(), some_bytes(11 * MIB)
        cold = {"StorageClass": "GLACIER"}
        self.s3.upload_fileobj(io.BytesIO(body), bucket, "k", ExtraArgs=cold, Config=IN_PARTS)
        self.appliance.archive((bucket, "k"))
        get = self.s3.get_object
        self.assertEqual(refused(get, Bucket=bucket, Key="k"), (403, "InvalidObjectState"))
        self.s3.restore_object(Bucket=bucket, Key="k", RestoreRequest={"Days": 1})
        wait_until(
            "it is restored",
            lambda: (
                'ongoing-request="false"' in self.s3.head_object(Bucket=bucket, Key="k").get("Restore", "")
            ),
        )
        self.assertEqual(get(Bucket=bucket, Key="k")["Body"].read(), body)
