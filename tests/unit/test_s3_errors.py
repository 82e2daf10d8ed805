"""The table of errors and the document that tells one."""

from xml.etree import ElementTree

from twisted.trial.unittest import SynchronousTestCase
from twisted.web import http

from coldstore.model.errors import ColdStoreError, NoSuchKey, RestoreNotAllowed, StagingFull
from coldstore.s3.errors import ANSWERS, CODES, S3Error, error_document, s3_error

RETRIED = {500, 502, 503, 504}
"""SDKs repeat requests that were answered so."""


def kinds_below(kind: type[ColdStoreError]) -> set[type[ColdStoreError]]:
    """Return all descendants."""
    return {below for child in kind.__subclasses__() for below in {child} | kinds_below(child)}


class TableTests(SynchronousTestCase):
    """Codes and refusals."""

    def test_complete(self) -> None:
        """Every refusal of the model has an answer of its own, and nothing else has one."""
        own = {kind for kind in kinds_below(ColdStoreError) if kind.__module__ == "coldstore.model.errors"}
        self.assertEqual(own, set(ANSWERS))

    def test_codes_exist(self) -> None:
        """Every answer uses a code of the table, every status is one of HTTP's."""
        for kind, answer in ANSWERS.items():
            self.assertIn(answer.code, CODES, kind)
        for code, (status, message) in CODES.items():
            self.assertIn(status, http.RESPONSES, code)
            self.assertTrue(message, code)

    def test_unknown_code(self) -> None:
        """A code that is not in the table cannot be raised."""
        with self.assertRaises(KeyError):
            S3Error("NoSuchThing")

    def test_translation(self) -> None:
        """A refusal and its descendants are told by S3's name, with the headers that belong to it."""

        class Special(NoSuchKey):
            """A kind of NoSuchKey."""

        self.assertEqual(s3_error(Special()).code, "NoSuchKey")
        self.assertEqual(s3_error(RestoreNotAllowed()).status, 403)
        full = s3_error(StagingFull())
        self.assertIn(full.status, RETRIED)
        self.assertIn("Retry-After", full.headers)
        with self.assertRaises(KeyError):
            s3_error(ColdStoreError())


class DocumentTests(SynchronousTestCase):
    """The XML of an error."""

    def test_elements(self) -> None:
        """Code and Message come first, then what belongs to the code, the resource and both ids; no namespace."""
        error = S3Error("InvalidObjectState", details={"StorageClass": "GLACIER"})
        root = ElementTree.fromstring(error_document(error, resource="/b/<k>", request_id="R", host_id="H"))
        self.assertEqual(root.tag, "Error")
        self.assertEqual(
            [(child.tag, child.text) for child in root],
            [
                ("Code", "InvalidObjectState"),
                ("Message", "The operation is not valid for the object's storage class"),
                ("StorageClass", "GLACIER"),
                ("Resource", "/b/<k>"),
                ("RequestId", "R"),
                ("HostId", "H"),
            ],
        )

    def test_always_readable(self) -> None:
        """What XML cannot carry, quoted from a request, is replaced: a refusal that no parser takes tells nobody anything."""
        sent = "a\0\x01\x1f\ufffe\uffff\ud800\udfffb\t\n\r\x7f\U0010ffff"
        error = S3Error("InvalidArgument", f"wrong: {sent}", details={"ArgumentValue": sent})
        root = ElementTree.fromstring(error_document(error, resource=sent, request_id="R", host_id="H"))
        told = "a" + 7 * "\ufffd" + "b\t\n\r\x7f\U0010ffff"
        for name, text in (("Message", f"wrong: {told}"), ("ArgumentValue", told), ("Resource", told)):
            self.assertEqual(root.findtext(name), text)

    def test_own_resource(self) -> None:
        """An error may name the resource itself."""
        written = error_document(
            S3Error("NotImplemented", resource="torrent"), resource="/", request_id="", host_id=""
        )
        self.assertIn(b"<Resource>torrent</Resource>", written)
