"""RestoreObject: documents, answers, events, and what HEAD shows."""

import json

from twisted.trial.unittest import SynchronousTestCase

from coldstore.interfaces.metadata import Conflict
from coldstore.model.events import OutboxMessage
from coldstore.model.objects import Tier
from coldstore.s3.errors import S3Error
from coldstore.s3.restore import RestoreRequest, parse_restore
from coldstore.s3.xml import MalformedDocument
from tests.unit.s3_rig import Rig, text_of
from tests.unit.s3_wire import ParsedAnswer


def document(days: object = 2, tier: str | None = None, *, extra: str = "") -> bytes:
    """Return a request document."""
    parameters = "" if tier is None else f"<GlacierJobParameters><Tier>{tier}</Tier></GlacierJobParameters>"
    return f"<RestoreRequest><Days>{days}</Days>{parameters}{extra}</RestoreRequest>".encode()


class DocumentTests(SynchronousTestCase):
    """The request document."""

    def test_forms(self) -> None:
        """With and without namespace, declaration and tier; the tier may stand beside Days."""
        standard = RestoreRequest(days=3, tier=Tier.STANDARD)
        for body in (
            b"<RestoreRequest><Days>3</Days></RestoreRequest>",
            b'<?xml version="1.0"?>\n<RestoreRequest xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Days> 3 </Days>'
            b"<Description>why</Description></RestoreRequest>",
        ):
            self.assertEqual(parse_restore(body), standard)
        self.assertEqual(parse_restore(document(3, "Bulk")).tier, Tier.BULK)
        self.assertEqual(parse_restore(document(3, extra="<Tier>Expedited</Tier>")).tier, Tier.EXPEDITED)
        self.assertIsNone(parse_restore(b"<RestoreRequest/>").days)

    def test_malformed(self) -> None:
        """Anything else is no such document."""
        for body in (
            b"",
            b"nonsense",
            b"<Other><Days>3</Days></Other>",
            document("many"),
            document(""),
            document("1.5"),
            document("9" * 30),
            document(3, "Fast"),
            document(3, extra="<GlacierJobParameters/>"),
            document(3, extra="<SelectParameters/>"),
            document(3, extra="<OutputLocation/>"),
            b"<RestoreRequest><Days>1</Days><Days>2</Days></RestoreRequest>",
            b'<!DOCTYPE x [<!ENTITY a "b">]><RestoreRequest><Days>&a;</Days></RestoreRequest>',
        ):
            self.assertRaises(MalformedDocument, parse_restore, body)

    def test_select(self) -> None:
        """Is not built."""
        error = self.assertRaises(S3Error, parse_restore, document(3, extra="<Type>SELECT</Type>"))
        self.assertEqual(error.status, 501)


class OperationTests(SynchronousTestCase):
    """The operation."""

    def setUp(self) -> None:
        """One cold object on tape only, one still on disk, one warm."""
        self.rig = Rig(days_max=100)
        self.rig.put("/bkt")
        self.rig.put("/bkt/tape", b"tape", x_amz_storage_class="GLACIER")
        self.rig.put("/bkt/deep", b"deep", x_amz_storage_class="DEEP_ARCHIVE")
        self.rig.put("/bkt/disk", b"disk", x_amz_storage_class="GLACIER")
        self.rig.put("/bkt/empty", b"", x_amz_storage_class="GLACIER")
        self.rig.put("/bkt/warm", b"warm")
        self.rig.evict("bkt", b"tape")
        self.rig.evict("bkt", b"deep")

    def restore(self, key: str, body: bytes) -> ParsedAnswer:
        """Ask for a restore."""
        return self.rig.ask("POST", f"/bkt/{key}?restore", body)

    def shown(self, key: str) -> str | None:
        """Return what HEAD says of the restore."""
        answer = self.rig.ask("HEAD", f"/bkt/{key}")
        self.assertEqual(answer.status, 200)
        return answer.headers.get("x-amz-restore")

    def events(self) -> list[str]:
        """Return the names of the messages written, in order, without their prefix."""
        return [json.loads(each.body)["Records"][0]["eventName"] for each in self.messages()]

    def messages(self) -> list[OutboxMessage]:
        """Take out the messages, each due once the one before it about its key is gone."""
        found: list[OutboxMessage] = []
        while due := self.successResultOf(self.rig.store.due_messages(now=1e12, limit=100)):
            for message in due:
                self.successResultOf(self.rig.store.message_delivered(message.message_id))
            found += due
        return found

    def test_limit_of_a_bucket(self) -> None:
        """A bucket may allow fewer days than all do, never more; the refusal names the limit and whose it is."""
        self.rig.store.set_restore_days_max(name="bkt", days_max=30)
        refused = self.restore("tape", document(31))
        self.assertEqual((refused.status, refused.code), (400, "InvalidArgument"))
        self.assertEqual(
            text_of(refused.body, "Message"), "Days must be between 1 and 30, the limit of bucket bkt"
        )
        self.assertIsNone(self.shown("tape"))
        self.assertEqual(self.restore("tape", document(30)).status, 202)
        self.rig.store.set_restore_days_max(name="bkt", days_max=1000)
        refused = self.restore("disk", document(101))
        self.assertEqual(text_of(refused.body, "Message"), "Days must be between 1 and 100")
        self.rig.store.set_restore_days_max(name="bkt", days_max=None)
        self.assertEqual(self.restore("disk", document(100)).status, 202)

    def test_from_tape(self) -> None:
        """202, HEAD shows it at once, a Post event is written, the drives are woken, and GET stays refused."""
        answer = self.restore("tape", document(2))
        self.assertEqual((answer.status, answer.body), (202, b""))
        self.assertEqual(self.shown("tape"), 'ongoing-request="true"')
        self.assertEqual(self.events(), ["ObjectRestore:Post"])
        self.assertEqual(self.rig.recall_bell.rings, 1)
        answer = self.rig.ask("GET", "/bkt/tape")
        self.assertEqual((answer.status, answer.code), (403, "InvalidObjectState"))
        restore = self.rig.version("bkt", b"tape").restore
        assert restore is not None
        self.assertEqual((restore.days, restore.tier, restore.requested_by), (2, Tier.STANDARD, "u-1"))

    def test_again_while_it_runs(self) -> None:
        """409 for the same or a slower tier or other days; 202 for a faster tier."""
        self.assertEqual(self.restore("tape", document(2)).status, 202)
        for body in (document(2), document(2, "Bulk"), document(3), document(3, "Expedited")):
            answer = self.restore("tape", body)
            self.assertEqual((answer.status, answer.code), (409, "RestoreAlreadyInProgress"))
        self.assertEqual(self.restore("tape", document(2, "Expedited")).status, 202)
        restore = self.rig.version("bkt", b"tape").restore
        assert restore is not None
        self.assertEqual(restore.tier, Tier.EXPEDITED)
        self.assertEqual(self.events(), ["ObjectRestore:Post"] * 2)

    def test_while_the_bytes_are_on_disk(self) -> None:
        """The copy is readable when the request is answered, until midnight after the days; both events are written."""
        self.assertEqual(self.restore("disk", document(2)).status, 202)
        self.assertEqual(
            self.shown("disk"), 'ongoing-request="false", expiry-date="Mon, 05 Jan 2026 00:00:00 GMT"'
        )
        self.assertEqual(self.events(), ["ObjectRestore:Post", "ObjectRestore:Completed"])
        answer = self.rig.ask("GET", "/bkt/disk")
        self.assertEqual((answer.status, answer.body), (200, b"disk"))
        self.assertEqual(answer.headers["x-amz-storage-class"], "GLACIER")

    def test_empty_object(self) -> None:
        """Needs no tape, and is refused before it is restored like any other."""
        self.assertEqual(self.rig.ask("GET", "/bkt/empty").status, 403)
        self.assertEqual(self.restore("empty", document(1)).status, 202)
        self.assertEqual(self.rig.ask("GET", "/bkt/empty").status, 200)

    def test_extension(self) -> None:
        """200; the expiry counts from now and may become shorter; no event."""
        self.restore("disk", document(5))
        answer = self.restore("disk", document(1))
        self.assertEqual(answer.status, 200)
        self.assertEqual(
            self.shown("disk"), 'ongoing-request="false", expiry-date="Sun, 04 Jan 2026 00:00:00 GMT"'
        )
        self.assertEqual(len(self.events()), 2)

    def test_after_expiry(self) -> None:
        """The header goes and GET is refused, even before anybody cleans up; a new request begins anew."""
        self.restore("disk", document(1))
        self.rig.clock.advance(2 * 86_400)
        self.assertIsNone(self.shown("disk"))
        self.assertEqual(self.rig.ask("GET", "/bkt/disk").status, 403)
        self.assertEqual(self.restore("disk", document(1)).status, 202)

    def test_refusals(self) -> None:
        """Each with its code, and nothing changed."""
        for key, body, status, code in (
            ("warm", document(2), 403, "InvalidObjectState"),
            ("none", document(2), 404, "NoSuchKey"),
            ("tape", b"", 400, "MissingRequestBodyError"),
            ("tape", b"<RestoreRequest/>", 400, "MalformedXML"),
            ("tape", b"rubbish", 400, "MalformedXML"),
            ("tape", document(0), 400, "InvalidArgument"),
            ("tape", document(-1), 400, "InvalidArgument"),
            ("tape", document(101), 400, "InvalidArgument"),
            ("deep", document(2, "Expedited"), 400, "InvalidArgument"),
        ):
            answer = self.restore(key, body)
            self.assertEqual((answer.status, answer.code), (status, code), (key, body))
        self.assertEqual(self.messages(), [])
        self.assertIsNone(self.shown("tape"))
        answer = self.restore("warm", document(2))
        self.assertEqual(text_of(answer.body, "StorageClass"), "STANDARD")

    def test_versions(self) -> None:
        """The null version is the current one; another is unknown; nonsense is no version."""
        for version_id, status in (("null", 202), ("abc", 404), ("a%20b", 400), ("", 400)):
            answer = self.rig.ask("POST", f"/bkt/tape?restore&versionId={version_id}", document(2))
            self.assertEqual(answer.status, status, version_id)

    def test_version_that_moves(self) -> None:
        """A conflict is decided anew; endless ones end."""
        real = self.rig.store.change_restore
        moved: list[int] = []

        def moves_once(version_uid: int, **rest: object) -> object:
            if not moved:
                moved.append(version_uid)
                self.rig.store.note_reads({version_uid: 1}, at=1.0)
            return real(version_uid, **rest)  # type: ignore[arg-type]

        self.patch(self.rig.store, "change_restore", moves_once)
        self.assertEqual(self.restore("tape", document(2)).status, 202)

        def moves_always(version_uid: int, **rest: object) -> None:
            raise Conflict("moved")

        self.patch(self.rig.store, "change_restore", moves_always)
        answer = self.restore("deep", document(2))
        self.assertEqual((answer.status, answer.code), (409, "OperationAborted"))
