"""Operations on buckets."""

from urllib.parse import quote

from twisted.trial.unittest import SynchronousTestCase

from coldstore.s3.api import Operation
from tests.unit.s3_rig import Rig, text_of, texts_of


class BucketTests(SynchronousTestCase):
    """The operations of this family."""

    def setUp(self) -> None:
        """An endpoint."""
        self.rig = Rig()

    def test_creating(self) -> None:
        """200 with the place; again by the owner as well in the first region; bad names are refused."""
        for _ in range(2):
            answer = self.rig.put("/bkt")
            self.assertEqual((answer.status, answer.headers["location"]), (200, "/bkt"))
        for name in ("Bkt", "ab", "a..b", "1.2.3.4"):
            self.assertEqual(self.rig.put(f"/{name}").code, "InvalidBucketName")

    def test_creating_elsewhere(self) -> None:
        """In other regions one's own bucket cannot be created again."""
        rig = Rig(region="eu-tape-1")
        self.assertEqual(rig.put("/bkt").status, 200)
        answer = rig.put("/bkt")
        self.assertEqual((answer.status, answer.code), (409, "BucketAlreadyOwnedByYou"))
        self.assertEqual(text_of(rig.ask("GET", "/bkt?location").body, "LocationConstraint") or "", "")

    def test_constraint(self) -> None:
        """Must name the region, or nothing."""

        def creation(region: str) -> bytes:
            return (
                '<CreateBucketConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
                f"<LocationConstraint>{region}</LocationConstraint></CreateBucketConfiguration>"
            ).encode()

        self.assertEqual(self.rig.put("/bkt", creation("us-east-1")).status, 200)
        self.assertEqual(self.rig.put("/bkt2", creation("mars-1")).code, "InvalidLocationConstraint")
        self.assertEqual(self.rig.put("/bkt3", b"rubbish").code, "MalformedXML")
        self.assertEqual(texts_of(self.rig.ask("GET", "/").body, "Name"), ["bkt"])

    def test_somebody_elses(self) -> None:
        """Is taken; reading, writing and deleting in it are refused."""
        self.rig.store.create_bucket(
            name="theirs", owner_id="u-2", region="us-east-1", created_at=1.0, default_class=None
        )
        self.assertEqual(self.rig.put("/theirs").code, "BucketAlreadyExists")
        for method, target in (
            ("GET", "/theirs"),
            ("HEAD", "/theirs"),
            ("DELETE", "/theirs"),
            ("PUT", "/theirs/k"),
            ("GET", "/theirs/k"),
            ("DELETE", "/theirs/k"),
            ("POST", "/theirs/k?uploads"),
            ("POST", "/theirs/k?restore"),
            ("GET", "/theirs?uploads"),
            ("GET", "/theirs?acl"),
            ("GET", "/theirs?versioning"),
            ("GET", "/theirs?location"),
            ("GET", "/theirs?x-coldstore-default-class"),
            ("PUT", "/theirs?x-coldstore-default-class"),
        ):
            self.assertEqual(self.rig.ask(method, target).status, 403, (method, target))
        self.rig.put("/bkt")
        answer = self.rig.put("/bkt/k", b"", x_amz_copy_source="theirs/k")
        self.assertEqual(answer.code, "AccessDenied")
        self.assertEqual(texts_of(self.rig.ask("GET", "/").body, "Name"), ["bkt"])

    def test_looking(self) -> None:
        """HEAD tells the region; versioning was never set; the location of the first region has no name."""
        self.rig.put("/bkt")
        answer = self.rig.ask("HEAD", "/bkt")
        self.assertEqual((answer.status, answer.headers["x-amz-bucket-region"]), (200, "us-east-1"))
        self.assertEqual(self.rig.ask("HEAD", "/none").status, 404)
        self.assertIn(b"<LocationConstraint xmlns=", self.rig.ask("GET", "/bkt?location").body)
        answer = self.rig.ask("GET", "/bkt?versioning")
        self.assertEqual(answer.status, 200)
        self.assertNotIn(b"Status", answer.body)

    def test_expected_owner(self) -> None:
        """Another than the real one is refused."""
        self.rig.put("/bkt")
        for owner, status in (("u-1", 200), ("u-2", 403)):
            headers = {"x-amz-expected-bucket-owner": owner}
            self.assertEqual(self.rig.ask("HEAD", "/bkt", headers=headers).status, status)

    def test_deleting(self) -> None:
        """Only when no object is in it; open uploads do not block it."""
        self.rig.put("/bkt")
        self.rig.put("/bkt/k", b"x")
        self.rig.ask("POST", "/bkt/up?uploads")
        answer = self.rig.ask("DELETE", "/bkt")
        self.assertEqual((answer.status, answer.code), (409, "BucketNotEmpty"))
        self.rig.ask("DELETE", "/bkt/k")
        self.assertEqual(self.rig.ask("DELETE", "/bkt").status, 204)
        self.assertEqual(self.rig.ask("DELETE", "/bkt").code, "NoSuchBucket")

    def test_listing_in_pages(self) -> None:
        """max-buckets and tokens; a prefix filters."""
        for name in ("b-1", "b-2", "c-1"):
            self.rig.put(f"/{name}")
        answer = self.rig.ask("GET", "/?max-buckets=2")
        self.assertEqual(texts_of(answer.body, "Name"), ["b-1", "b-2"])
        token = quote(text_of(answer.body, "ContinuationToken") or "", safe="")
        answer = self.rig.ask("GET", f"/?max-buckets=2&continuation-token={token}")
        self.assertEqual(texts_of(answer.body, "Name"), ["c-1"])
        self.assertIsNone(text_of(answer.body, "ContinuationToken"))
        self.assertEqual(texts_of(self.rig.ask("GET", "/?prefix=c").body, "Name"), ["c-1"])
        self.assertEqual(texts_of(self.rig.ask("GET", "/?bucket-region=mars-1").body, "Name"), [])
        for query in (
            "max-buckets=0",
            "max-buckets=x",
            "max-buckets=10001",
            "max-buckets=00000000120000",
            "max-buckets=000000001" + "0" * 5000,
            "continuation-token=%C3%A9",
            "continuation-token=a",
        ):
            self.assertEqual(self.rig.ask("GET", f"/?{query}").code, "InvalidArgument", query)

    def test_default_class(self) -> None:
        """Is given to objects and uploads whose writer names none; it can be read and cleared."""
        self.rig.put("/bkt")
        target = "/bkt?x-coldstore-default-class"
        setting = b"<DefaultStorageClass>GLACIER</DefaultStorageClass>"
        self.assertEqual(self.rig.ask("PUT", target, setting).status, 200)
        self.assertIn(b">GLACIER<", self.rig.ask("GET", target).body)
        self.rig.put("/bkt/k", b"x")
        self.assertEqual(self.rig.ask("HEAD", "/bkt/k").headers["x-amz-storage-class"], "GLACIER")
        self.rig.put("/bkt/k", b"x", x_amz_storage_class="STANDARD")
        self.assertNotIn("x-amz-storage-class", self.rig.ask("HEAD", "/bkt/k").headers)
        for document, code in (
            (b"<DefaultStorageClass>WARM</DefaultStorageClass>", "InvalidStorageClass"),
            (b"", "MissingRequestBodyError"),
            (b"<Other/>", "MalformedXML"),
        ):
            self.assertEqual(self.rig.ask("PUT", target, document).code, code)
        self.assertEqual(self.rig.ask("PUT", target, b"<DefaultStorageClass/>").status, 200)
        self.rig.put("/bkt/k2", b"x")
        self.assertNotIn("x-amz-storage-class", self.rig.ask("HEAD", "/bkt/k2").headers)

    def test_everything_is_built(self) -> None:
        """Every operation that a request can be routed to has a function."""
        self.assertEqual(set(self.rig.operations.registry()), set(Operation))
