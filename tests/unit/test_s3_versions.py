"""Operations in buckets that keep versions."""

from base64 import b64encode
from hashlib import md5
from urllib.parse import quote

from twisted.trial.unittest import SynchronousTestCase

from coldstore.interfaces.metadata import DELETED_KEYS_MAX, DELETIONS_MAX
from coldstore.s3.objects import WantedDeletion, batches
from tests.unit.s3_rig import Rig, text_of, texts_of
from tests.unit.s3_wire import ParsedAnswer


class Case(SynchronousTestCase):
    """Has an endpoint with an enabled bucket."""

    def setUp(self) -> None:
        """Make it."""
        self.rig = Rig()
        self.rig.put("/bkt")
        self.set("Enabled")

    def set(self, state: str) -> None:
        """Set the bucket's state."""
        answer = self.rig.put("/bkt?versioning", self.configuration(f"<Status>{state}</Status>"))
        self.assertEqual(answer.status, 200, answer.body)

    def configuration(self, inner: str) -> bytes:
        """Return a document."""
        return f"<VersioningConfiguration>{inner}</VersioningConfiguration>".encode()

    def put(self, key: str, body: bytes = b"x", **headers: str) -> str:
        """Put a version; return its id."""
        answer = self.rig.put(f"/bkt/{quote(key)}", body, **headers)
        self.assertEqual(answer.status, 200, answer.body)
        return answer.headers["x-amz-version-id"]

    def get(self, key: str, version_id: str | None = None, method: str = "GET") -> ParsedAnswer:
        """Ask for what is under a key, or for a version."""
        of_id = "" if version_id is None else f"?versionId={version_id}"
        return self.rig.ask(method, f"/bkt/{quote(key)}{of_id}")

    def mark(self, key: str) -> str:
        """Delete a key; return the id of the marker."""
        answer = self.get(key, method="DELETE")
        self.assertEqual((answer.status, answer.headers["x-amz-delete-marker"]), (204, "true"))
        return answer.headers["x-amz-version-id"]

    def delete_objects(self, items: str) -> ParsedAnswer:
        """Send a DeleteObjects."""
        document = f"<Delete>{items}</Delete>".encode()
        digest = b64encode(md5(document, usedforsecurity=False).digest()).decode()
        return self.rig.ask("POST", "/bkt?delete", document, {"content-md5": digest})


class MisdirectedTests(Case):
    """Writes that name a version."""

    def test_refused(self) -> None:
        """No version is ever overwritten: whoever wants that is refused, and what is current stays."""
        self.set("Suspended")
        self.assertEqual(self.rig.put("/bkt/k", b"kept").status, 200)
        upload_id = text_of(self.rig.ask("POST", "/bkt/k?uploads").body, "UploadId")
        source = {"x-amz-copy-source": "/bkt/k", "x-amz-metadata-directive": "REPLACE"}
        for method, query, headers in (
            ("PUT", "versionId=null", {}),
            ("PUT", "versionId=", {}),
            ("PUT", "versionId=null", source),
            ("POST", "uploads&versionId=null", {}),
            ("PUT", f"uploadId={upload_id}&partNumber=1&versionId=null", {}),
            ("POST", f"uploadId={upload_id}&versionId=null", {}),
        ):
            answer = self.rig.ask(method, f"/bkt/k?{query}", b"x", headers)
            self.assertEqual((answer.status, text_of(answer.body, "Code")), (400, "InvalidArgument"), query)
            self.assertEqual(text_of(answer.body, "ArgumentName"), "versionId")
        self.assertEqual(self.get("k").body, b"kept")


class StateTests(Case):
    """PutBucketVersioning and GetBucketVersioning."""

    def test_state(self) -> None:
        """A bucket has no Status until one is set, and then the one that was set last."""
        self.rig.put("/new")
        self.assertIsNone(text_of(self.rig.ask("GET", "/new?versioning").body, "Status"))
        for state in ("Enabled", "Suspended"):
            self.set(state)
            self.assertEqual(text_of(self.rig.ask("GET", "/bkt?versioning").body, "Status"), state)

    def test_refused(self) -> None:
        """What is no configuration, and MfaDelete, are refused and change nothing."""
        for body, code in (
            (b"", "MissingRequestBodyError"),
            (b"<Other/>", "MalformedXML"),
            (self.configuration(""), "IllegalVersioningConfigurationException"),
            (self.configuration("<Status>On</Status>"), "MalformedXML"),
            (self.configuration("<Status>Suspended</Status><MfaDelete>x</MfaDelete>"), "MalformedXML"),
            (
                self.configuration("<Status>Suspended</Status><MfaDelete>Enabled</MfaDelete>"),
                "NotImplemented",
            ),
        ):
            answer = self.rig.put("/bkt?versioning", body)
            self.assertEqual(answer.code, code, body)
        self.assertIn(b"MfaDelete", answer.body)
        self.assertEqual(text_of(self.rig.ask("GET", "/bkt?versioning").body, "Status"), "Enabled")
        harmless = self.configuration("<Status>Suspended</Status><MfaDelete>Disabled</MfaDelete>")
        self.assertEqual(self.rig.put("/bkt?versioning", harmless).status, 200)


class ObjectTests(Case):
    """Single objects."""

    def test_versions(self) -> None:
        """Every PUT has an id of its own, by which its bytes are read; ids are safe in URLs, and nobody can guess them."""
        first, second = self.put("k", b"one"), self.put("k", b"second")
        self.assertNotEqual(first, second)
        for version_id in (first, second):
            self.assertRegex(version_id, r"^[0-9a-f]{32}$")
        for version_id, asked, body in (
            (first, first, b"one"),
            (second, second, b"second"),
            (second, None, b"second"),
        ):
            for method in ("GET", "HEAD"):
                answer = self.get("k", asked, method)
                self.assertEqual(answer.status, 200)
                self.assertEqual(answer.headers["x-amz-version-id"], version_id)
                self.assertEqual(answer.headers["content-length"], str(len(body)))
            self.assertEqual(self.get("k", asked).body, body)

    def test_without_versioning(self) -> None:
        """Where versioning was never set answers name no version, unless one was asked for; ``null`` is that of every object."""
        self.rig.put("/plain")
        self.assertNotIn("x-amz-version-id", self.rig.put("/plain/k", b"x").headers)
        self.assertNotIn("x-amz-version-id", self.rig.ask("GET", "/plain/k").headers)
        self.assertEqual(self.rig.ask("GET", "/plain/k?versionId=null").headers["x-amz-version-id"], "null")
        deleted = self.rig.ask("DELETE", "/plain/k")
        self.assertEqual((deleted.status, deleted.headers.get("x-amz-delete-marker")), (204, None))
        self.assertEqual(self.rig.ask("DELETE", "/plain/k?versionId=null").status, 204)
        listing = self.rig.ask("GET", "/plain?versions")
        self.assertEqual(texts_of(listing.body, "VersionId"), [])

    def test_null_versions(self) -> None:
        """Objects from before, and those of a suspended bucket, are the version ``null``."""
        self.rig.put("/old")
        self.rig.put("/old/k", b"before")
        for state in ("Enabled", "Suspended"):
            self.rig.put("/old?versioning", self.configuration(f"<Status>{state}</Status>"))
            self.assertEqual(self.rig.ask("GET", "/old/k").headers["x-amz-version-id"], "null")
        # Their writer is told of none.
        self.assertNotIn("x-amz-version-id", self.rig.put("/old/k", b"after").headers)
        self.assertEqual(self.rig.ask("GET", "/old/k?versionId=null").body, b"after")
        self.assertEqual(self.rig.ask("DELETE", "/old/k").headers["x-amz-version-id"], "null")
        self.assertEqual(texts_of(self.rig.ask("GET", "/old?versions").body, "VersionId"), ["null"])

    def test_markers(self) -> None:
        """Under a delete marker nothing is found, and the marker itself cannot be read; without it, what was there is back."""
        version = self.put("k", b"kept")
        marker = self.mark("k")
        for method in ("GET", "HEAD"):
            hidden = self.get("k", None, method)
            self.assertEqual((hidden.status, hidden.headers["x-amz-delete-marker"]), (404, "true"))
            self.assertEqual(hidden.headers["x-amz-version-id"], marker)
            refused = self.get("k", marker, method)
            self.assertEqual((refused.status, refused.headers["allow"]), (405, "DELETE"))
            self.assertEqual(refused.headers["x-amz-delete-marker"], "true")
        self.assertEqual((self.get("k").code, self.get("k", marker).code), ("NoSuchKey", "MethodNotAllowed"))
        self.assertEqual(self.get("k", version).body, b"kept")
        answer = self.get("k", marker, "DELETE")
        self.assertEqual((answer.status, answer.headers["x-amz-delete-marker"]), (204, "true"))
        self.assertEqual(answer.headers["x-amz-version-id"], marker)
        self.assertEqual(self.get("k").body, b"kept")

    def test_ids_that_name_nothing(self) -> None:
        """Ids that no version has are not found, others are refused; deleting what is not there succeeds."""
        self.put("k")
        self.assertEqual(self.get("k", "0" * 32).code, "NoSuchVersion")
        for bad in ("", "a%2Fb", "%20"):
            for method in ("GET", "DELETE"):
                self.assertEqual(self.get("k", bad, method).code, "InvalidArgument", bad)
        self.assertEqual(self.get("k", "0" * 32, "DELETE").status, 204)
        self.assertEqual(
            self.rig.ask("POST", "/bkt/k?restore&versionId=a%2Fb", b"<RestoreRequest/>").status, 400
        )

    def test_deleting_a_version(self) -> None:
        """A version that is deleted by its id is gone for good, and the one before is current."""
        first, second = self.put("k", b"1"), self.put("k", b"2")
        answer = self.get("k", second, "DELETE")
        self.assertEqual((answer.status, answer.headers["x-amz-version-id"]), (204, second))
        self.assertNotIn("x-amz-delete-marker", answer.headers)
        self.assertEqual(self.get("k").headers["x-amz-version-id"], first)
        self.assertEqual(self.get("k", second).code, "NoSuchVersion")

    def test_conditions(self) -> None:
        """Conditional writes and deletions look at what is current; a marker is nothing."""
        version = self.put("k", b"1")
        absent = {"if-none-match": "*"}
        self.assertEqual(self.rig.ask("PUT", "/bkt/k", b"2", absent).status, 412)
        wrong = {"if-match": '"wrong"'}
        self.assertEqual(self.rig.ask("DELETE", "/bkt/k", headers=wrong).status, 412)
        self.assertEqual(self.rig.ask("DELETE", f"/bkt/k?versionId={version}", headers=wrong).status, 412)
        self.mark("k")
        self.assertEqual(self.rig.ask("PUT", "/bkt/k", b"2", {"if-match": "*"}).status, 404)
        self.assertEqual(self.rig.ask("PUT", "/bkt/k", b"2", absent).status, 200)

    def test_bucket(self) -> None:
        """A bucket with a version or a marker in it is not empty."""
        version = self.put("k")
        marker = self.mark("k")
        self.assertEqual(texts_of(self.rig.ask("GET", "/bkt").body, "Key"), [])
        for version_id in (version, marker):
            self.assertEqual(self.rig.ask("DELETE", "/bkt").code, "BucketNotEmpty")
            self.get("k", version_id, "DELETE")
        self.assertEqual(self.rig.ask("DELETE", "/bkt").status, 204)


class SeveralTests(Case):
    """DeleteObjects."""

    def test_several(self) -> None:
        """Each is told what became of it: versions gone, markers put, markers gone."""
        version, marker = self.put("a"), None
        marker = self.mark("a")
        other = self.put("b")
        items = f"<Object><Key>a</Key><VersionId>{version}</VersionId></Object>"
        items += f"<Object><Key>a</Key><VersionId>{marker}</VersionId></Object>"
        items += "<Object><Key>b</Key></Object><Object><Key>none</Key></Object>"
        items += f"<Object><Key>b</Key><VersionId>{'0' * 32}</VersionId></Object>"
        answer = self.delete_objects(items)
        told = answer.body.decode().split("<Deleted>")[1:]
        self.assertEqual(len(told), 5, answer.body)
        self.assertIn(f"<VersionId>{version}</VersionId>", told[0])
        self.assertNotIn("DeleteMarker", told[0])
        self.assertIn(f"<VersionId>{marker}</VersionId><DeleteMarker>true</DeleteMarker>", told[1])
        self.assertIn(f"<DeleteMarkerVersionId>{marker}</DeleteMarkerVersionId>", told[1])
        for part in told[2:4]:
            self.assertIn("<DeleteMarker>true</DeleteMarker><DeleteMarkerVersionId>", part)
            self.assertNotIn("<VersionId>", part)
        self.assertNotIn("DeleteMarker", told[4])
        self.assertEqual(self.get("b", other).status, 200)
        self.assertEqual(
            self.get("b").headers["x-amz-version-id"], text_of(told[2].encode(), "DeleteMarkerVersionId")
        )

    def test_many(self) -> None:
        """A thousand versions, of one key and of many, go in batches."""
        ids = [("one", self.put("one")) for _ in range(3 * DELETIONS_MAX)]
        ids += [(f"k{number}", self.put(f"k{number}")) for number in range(3 * DELETIONS_MAX)]
        items = "".join(f"<Object><Key>{key}</Key><VersionId>{i}</VersionId></Object>" for key, i in ids)
        self.assertEqual(texts_of(self.delete_objects(items).body, "VersionId"), [i for _, i in ids])
        self.assertEqual(texts_of(self.rig.ask("GET", "/bkt?versions").body, "VersionId"), [])

    def test_batches(self) -> None:
        """What goes together is in one batch, up to what a step takes, in the order that was asked for."""
        plain = WantedDeletion(key=b"k", version_id=None, if_match=None)
        of_id = WantedDeletion(key=b"k", version_id="v", if_match=None)
        conditional = WantedDeletion(key=b"k", version_id=None, if_match="e")

        def sizes(wanted: list[WantedDeletion], *, keeps_versions: bool) -> list[int]:
            parts = list(batches(list(enumerate(wanted)), keeps_versions=keeps_versions))
            self.assertEqual([index for part in parts for index, _ in part], list(range(len(wanted))))
            return [len(part) for part in parts]

        self.assertEqual(
            sizes([plain] * 100, keeps_versions=False), [*[DELETED_KEYS_MAX] * 3, 100 - 3 * DELETED_KEYS_MAX]
        )
        self.assertEqual(sizes([plain] * (DELETIONS_MAX + 1), keeps_versions=True), [DELETIONS_MAX, 1])
        self.assertEqual(sizes([of_id] * (DELETIONS_MAX + 1), keeps_versions=False), [DELETIONS_MAX, 1])
        mixed = [plain, plain, of_id, plain, conditional, conditional, plain]
        self.assertEqual(sizes(mixed, keeps_versions=True), [2, 1, 1, 1, 1, 1])
        self.assertEqual(sizes([], keeps_versions=True), [])


class OtherTests(Case):
    """Copies, uploads, restores."""

    def test_copy(self) -> None:
        """A version can be the source of a copy, onto its own key, too; a delete marker cannot."""
        first = self.put("k", b"one")
        second = self.put("k", b"two")
        answer = self.rig.put("/bkt/k", x_amz_copy_source=f"bkt/k?versionId={first}")
        self.assertEqual((answer.status, answer.headers["x-amz-copy-source-version-id"]), (200, first))
        self.assertNotIn(answer.headers["x-amz-version-id"], (first, second))
        self.assertEqual(self.get("k").body, b"one")
        self.assertEqual(self.rig.put("/bkt/k", x_amz_copy_source="bkt/k").code, "InvalidRequest")
        copied = self.rig.put("/bkt/other", x_amz_copy_source="bkt/k")
        self.assertEqual(copied.headers["x-amz-copy-source-version-id"], answer.headers["x-amz-version-id"])
        marker = self.mark("k")
        self.assertEqual(self.rig.put("/bkt/c", x_amz_copy_source="bkt/k").code, "NoSuchKey")
        refused = self.rig.put("/bkt/c", x_amz_copy_source=f"bkt/k?versionId={marker}")
        self.assertEqual((refused.status, refused.code), (400, "InvalidRequest"))
        missing = self.rig.put("/bkt/c", x_amz_copy_source=f"bkt/k?versionId={'0' * 32}")
        self.assertEqual(missing.code, "NoSuchVersion")
        self.assertEqual(self.rig.put("/bkt/c", x_amz_copy_source="bkt/k?versionId=").code, "InvalidArgument")

    def test_upload(self) -> None:
        """A completed upload tells its version, again as well; a part may be copied from a version."""
        source = self.put("source", b"part")
        self.put("source", b"newer")
        begun = self.rig.ask("POST", "/bkt/k?uploads")
        upload_id = text_of(begun.body, "UploadId")
        copied = self.rig.put(
            f"/bkt/k?partNumber=1&uploadId={upload_id}", x_amz_copy_source=f"bkt/source?versionId={source}"
        )
        self.assertEqual(copied.headers["x-amz-copy-source-version-id"], source)
        etag = text_of(copied.body, "ETag")
        document = f"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part></CompleteMultipartUpload>"
        ids = []
        for _ in range(2):
            answer = self.rig.ask("POST", f"/bkt/k?uploadId={upload_id}", document.encode())
            self.assertEqual(answer.status, 200, answer.body)
            ids.append(answer.headers["x-amz-version-id"])
            self.put("k", b"newer")
        self.assertEqual(ids[0], ids[1])
        self.assertEqual(self.get("k", ids[0]).body, b"part")

    def test_restore(self) -> None:
        """A version is restored by its id, whatever is current; a marker cannot be."""
        document = b"<RestoreRequest><Days>2</Days></RestoreRequest>"
        version = self.put("k", b"cold", x_amz_storage_class="GLACIER")
        self.put("k", b"warm")
        self.assertEqual(self.get("k", version).code, "InvalidObjectState")
        self.assertEqual(self.rig.ask("POST", "/bkt/k?restore", document).code, "InvalidObjectState")
        answer = self.rig.ask("POST", f"/bkt/k?restore&versionId={version}", document)
        self.assertEqual(answer.status, 202)
        self.assertIn("expiry-date", self.get("k", version, "HEAD").headers["x-amz-restore"])
        self.assertNotIn("x-amz-restore", self.get("k", None, "HEAD").headers)
        listing = self.rig.ask(
            "GET", "/bkt?versions", headers={"x-amz-optional-object-attributes": "RestoreStatus"}
        )
        self.assertEqual(texts_of(listing.body, "IsRestoreInProgress"), ["false"])
        self.assertNotIn(b"RestoreStatus", self.rig.ask("GET", "/bkt?versions").body)
        marker = self.mark("k")
        self.assertEqual(self.rig.ask("POST", f"/bkt/k?restore&versionId={marker}", document).status, 405)
        self.assertEqual(self.rig.ask("POST", "/bkt/k?restore", document).code, "NoSuchKey")

    def test_unset(self) -> None:
        """What no object has is told of a version as of what is current."""
        version = self.put("k")
        self.mark("k")
        self.assertEqual(self.rig.ask("GET", f"/bkt/k?acl&versionId={version}").status, 200)
        self.assertEqual(self.rig.ask("GET", "/bkt/k?acl").code, "NoSuchKey")


class ListingTests(Case):
    """ListObjectVersions."""

    def test_elements(self) -> None:
        """Versions and markers are told with what they are, newest first, as they follow each other."""
        first = self.put("a b", b"1")
        marker = self.mark("a b")
        last = self.put("c", b"333", x_amz_storage_class="STANDARD_IA")
        body = self.rig.ask("GET", "/bkt?versions&encoding-type=url").body
        self.assertEqual(texts_of(body, "VersionId"), [marker, first, last])
        self.assertEqual(texts_of(body, "IsLatest"), ["true", "false", "true"])
        self.assertEqual(texts_of(body, "Key"), ["a%20b", "a%20b", "c"])
        self.assertEqual(texts_of(body, "Size"), ["1", "3"])
        self.assertEqual(texts_of(body, "StorageClass"), ["STANDARD", "STANDARD_IA"])
        self.assertEqual(len(texts_of(body, "ID")), 3)
        places = [body.index(name) for name in (b"<DeleteMarker>", b"<Version>")]
        self.assertEqual(places, sorted(places))
        self.assertEqual((text_of(body, "Name"), text_of(body, "IsTruncated")), ("bkt", "false"))
        self.assertEqual(text_of(body, "EncodingType"), "url")

    def test_pages(self) -> None:
        """Pages go on where the last one ended, within a key as well."""
        ids = [self.put(key) for key in ("a", "b", "b", "d/1", "d/2", "e")]
        wanted = [ids[0], ids[2], ids[1], "d/", ids[5]]
        found: list[str] = []
        markers = ""
        while True:
            body = self.rig.ask("GET", f"/bkt?versions&delimiter=/&max-keys=1{markers}").body
            found += [
                *texts_of(body, "VersionId"),
                *texts_of(body.partition(b"<CommonPrefixes>")[2], "Prefix"),
            ]
            if text_of(body, "IsTruncated") == "false":
                break
            version_id = text_of(body, "NextVersionIdMarker")
            markers = f"&key-marker={quote(text_of(body, 'NextKeyMarker') or '')}"
            markers += f"&version-id-marker={version_id}" if version_id else ""
        self.assertEqual(found, wanted)
        self.assertEqual(texts_of(self.rig.ask("GET", "/bkt?versions&prefix=d").body, "VersionId"), ids[3:5])
        body = self.rig.ask("GET", "/bkt?versions&max-keys=0").body
        self.assertEqual((texts_of(body, "VersionId"), text_of(body, "IsTruncated")), ([], "false"))

    def test_refused(self) -> None:
        """A marker of a version without one of a key, and what is no version id."""
        self.assertEqual(self.rig.ask("GET", "/bkt?versions&version-id-marker=x").code, "InvalidArgument")
        refused = self.rig.ask("GET", "/bkt?versions&key-marker=k&version-id-marker=a/b")
        self.assertEqual(refused.code, "InvalidArgument")
        self.assertEqual(self.rig.ask("GET", "/none?versions").code, "NoSuchBucket")
