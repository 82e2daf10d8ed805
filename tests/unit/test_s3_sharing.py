"""Pages of other origins over the wire: rules of buckets, questions of browsers, and what every answer to a page says."""

import hashlib
from base64 import b64encode
from collections.abc import Mapping

from twisted.internet.defer import Deferred, fail
from twisted.trial.unittest import SynchronousTestCase

from coldstore.model.errors import MetadataUnavailable
from coldstore.s3.answers import Answer
from coldstore.s3.api import Operation
from coldstore.s3.call import Call
from coldstore.s3.fields import HeaderFields
from tests.unit.s3_rig import Rig, text_of
from tests.unit.s3_wire import HOST, ParsedAnswer, Wire, message, request_bytes
from tests.unit.test_s3_posting import ANY_KEY, BOUNDARY, SIGNING, form, policy, signed

RULES = b"""<CORSConfiguration>
<CORSRule><AllowedOrigin>https://www.example.com</AllowedOrigin><AllowedMethod>PUT</AllowedMethod>
<AllowedMethod>POST</AllowedMethod><AllowedHeader>*</AllowedHeader></CORSRule>
<CORSRule><AllowedOrigin>https://*.example.com</AllowedOrigin><AllowedMethod>GET</AllowedMethod>
<AllowedMethod>HEAD</AllowedMethod><ExposeHeader>ETag</ExposeHeader><MaxAgeSeconds>60</MaxAgeSeconds></CORSRule>
</CORSConfiguration>"""
PAGE = "https://www.example.com"
TO_READERS = {
    "access-control-allow-origin": PAGE,
    "access-control-allow-methods": "GET, HEAD",
    "access-control-expose-headers": "ETag",
    "access-control-max-age": "60",
    "access-control-allow-credentials": "true",
    "vary": "Origin, Access-Control-Request-Headers, Access-Control-Request-Method",
}


def told(answer: ParsedAnswer) -> dict[str, str]:
    """Return what an answer says about pages."""
    return {
        name: value
        for name, value in answer.headers.items()
        if name == "vary" or name.startswith("access-control-")
    }


class SharingCase(SynchronousTestCase):
    """A bucket with rules and an object."""

    def setUp(self) -> None:
        """Make them."""
        self.rig = Rig()
        self.rig.ask("PUT", "/pics")
        self.rig.put("/pics/k", b"bytes")
        self.assertEqual(self.put_rules(RULES).status, 200)

    def put_rules(self, document: bytes, bucket: str = "pics") -> ParsedAnswer:
        """Set a bucket's rules."""
        digest = b64encode(hashlib.md5(document).digest()).decode()
        return self.rig.ask("PUT", f"/{bucket}?cors", document, {"content-md5": digest})

    def browse(
        self, method: str, target: str, headers: Mapping[str, str], *, domain: str | None = None
    ) -> ParsedAnswer:
        """Send a request that nobody has signed."""
        wire = self.rig.wire(domains=("tape.example",))
        wire.send(message(method, target, {"host": domain or HOST, **headers}))
        return wire.answer()

    def preflight(
        self, target: str, origin: str = PAGE, method: str = "GET", headers: str = ""
    ) -> ParsedAnswer:
        """Ask what a browser asks first."""
        asked = {"origin": origin, "access-control-request-method": method}
        if headers:
            asked["access-control-request-headers"] = headers
        return self.browse("OPTIONS", target, asked)


class RulesTests(SharingCase):
    """Rules are kept, shown and removed."""

    def test_life(self) -> None:
        """What was put is shown; once removed there is nothing, and nothing more to remove."""
        shown = self.rig.ask("GET", "/pics?cors")
        self.assertEqual(shown.body.count(b"<CORSRule>"), 2)
        self.assertEqual(text_of(shown.body, "MaxAgeSeconds"), "60")
        self.assertEqual(self.put_rules(shown.body).status, 200)
        self.assertEqual(self.rig.ask("GET", "/pics?cors").body, shown.body)
        for _ in range(2):
            self.assertEqual(self.rig.ask("DELETE", "/pics?cors").status, 204)
            answer = self.rig.ask("GET", "/pics?cors")
            self.assertEqual((answer.status, answer.code), (404, "NoSuchCORSConfiguration"))
        self.assertEqual(self.preflight("/pics/k").status, 403)

    def test_refusals(self) -> None:
        """What is wrong is named, and leaves the rules as they were."""
        for document, code in (
            (b"", "MissingRequestBodyError"),
            (b"<Other/>", "MalformedXML"),
            (RULES.replace(b">PUT<", b">PATCH<"), "InvalidRequest"),
            (RULES + b" " * 65536, "MaxMessageLengthExceeded"),
        ):
            answer = self.put_rules(document)
            self.assertEqual((answer.status, answer.code), (400, code))
        wire = self.rig.wire()
        wire.send(request_bytes("PUT", "/pics?cors", body=RULES, payload="UNSIGNED-PAYLOAD"))
        self.assertIn(b"Content-MD5", wire.answer().body)
        self.assertEqual(told(self.preflight("/pics/k"))["access-control-max-age"], "60")
        self.assertEqual(self.put_rules(RULES, "none").code, "NoSuchBucket")


class PreflightTests(SharingCase):
    """Questions of browsers."""

    def test_allowed(self) -> None:
        """The rule that allows what is asked is told, of the bucket and of what is or is not in it."""
        for target in ("/pics", "/pics/", "/pics/k", "/pics/none", "/pics/k?uploadId=u&partNumber=1"):
            answer = self.preflight(target)
            self.assertEqual((answer.status, answer.body, told(answer)), (200, b"", TO_READERS), target)
        answer = self.preflight("/pics/k", method="PUT", headers="X-Amz-Date, content-type")
        self.assertEqual(told(answer)["access-control-allow-headers"], "x-amz-date, content-type")

    def test_refused(self) -> None:
        """What no rule allows is refused, and a cache is told on what that depends."""
        for answer in (
            self.preflight("/pics/k", origin="https://example.com"),
            self.preflight("/pics/k", method="DELETE"),
            self.preflight("/pics/k", headers="x-amz-date"),
        ):
            self.assertEqual((answer.status, answer.code), (403, "AccessForbidden"))
            self.assertEqual(told(answer), {"vary": TO_READERS["vary"]})
            self.assertEqual(text_of(answer.body, "ResourceType"), "OBJECT")
            self.assertIn(b"CORSResponse: This CORS request is not allowed", answer.body)
        answer = self.preflight("/pics", method="DELETE")
        self.assertEqual(text_of(answer.body, "ResourceType"), "BUCKET")
        self.assertEqual(text_of(answer.body, "Method"), "DELETE")

    def test_no_question(self) -> None:
        """Without an origin or a method nothing is asked."""
        for headers in ({}, {"origin": PAGE}, {"access-control-request-method": "GET"}):
            answer = self.browse("OPTIONS", "/pics/k", headers)
            self.assertEqual((answer.status, answer.code), (400, "BadRequest"), headers)
        answer = self.browse("OPTIONS", "/", {"origin": PAGE, "access-control-request-method": "GET"})
        self.assertEqual(
            (answer.status, answer.code, answer.headers["allow"]), (405, "MethodNotAllowed", "GET")
        )

    def test_nothing_is_given_away(self) -> None:
        """A bucket without rules, and one that is not there, are told apart by nothing."""
        self.rig.ask("PUT", "/bare")
        answers = [self.preflight(f"/{bucket}/k") for bucket in ("bare", "none")]
        for answer in answers:
            self.assertEqual((answer.status, answer.code, told(answer)), (403, "AccessForbidden", {}))
            self.assertEqual(
                text_of(answer.body, "Message"), "CORSResponse: CORS is not enabled for this bucket."
            )
        bodies = [answer.body.replace(b"/bare/", b"/none/") for answer in answers]
        self.assertEqual(*(body[: body.index(b"<RequestId>")] for body in bodies))

    def test_host(self) -> None:
        """The host can name the bucket."""
        asked = {"origin": PAGE, "access-control-request-method": "GET"}
        answer = self.browse("OPTIONS", "/k", asked, domain="pics.tape.example")
        self.assertEqual((answer.status, told(answer)), (200, TO_READERS))

    def test_store_away(self) -> None:
        """Who can say nothing now says so."""
        self.patch(self.rig.store, "bucket", lambda name: fail(MetadataUnavailable("away")))
        answer = self.preflight("/pics/k")
        self.assertEqual((answer.status, answer.code), (503, "ServiceUnavailable"))

    def test_crowd(self) -> None:
        """However many ask, whoever signs is served beside them."""
        waiting: list[Deferred[Answer]] = []

        async def wait(call: Call) -> Answer:
            waiting.append(Deferred())
            return await waiting[-1]

        wire = Wire({Operation.OPTIONS_OBJECT: wait, Operation.LIST_OBJECTS: wait}, requests_max=8)
        asked = message("OPTIONS", "/pics/k", {"host": HOST, "origin": PAGE})
        for _ in range(6):
            wire.connect()[0].dataReceived(asked)
        wire.turn()
        channel, transport = wire.connect()
        channel.dataReceived(asked)
        wire.turn()
        self.assertEqual(ParsedAnswer.of(transport.value()).code, "SlowDown")
        wire.send(request_bytes("GET", "/pics"))
        self.assertEqual(len(waiting), 7)
        for deferred in waiting:
            deferred.callback(Answer(status=204))


class AnswersTests(SharingCase):
    """What pages do."""

    def ask(self, method: str, target: str, body: bytes = b"", **headers: str) -> ParsedAnswer:
        """Send a signed request of a page."""
        return self.rig.ask(method, target, body, {"origin": PAGE, **headers})

    def test_reading(self) -> None:
        """Answers with bytes, without any, of less and of nothing have what the rule says."""
        for answer, status in (
            (self.ask("GET", "/pics/k"), 200),
            (self.ask("GET", "/pics/k", range="bytes=1-2"), 206),
            (self.ask("GET", "/pics/k", **{"if-none-match": "*"}), 304),
            (self.ask("HEAD", "/pics/k"), 200),
            (self.ask("HEAD", "/pics/none"), 404),
            (self.ask("GET", "/pics/none"), 404),
            (self.ask("GET", "/pics?list-type=2"), 200),
            (self.ask("GET", "/pics/k?torrent"), 501),
        ):
            self.assertEqual((answer.status, told(answer)), (status, TO_READERS))
        self.assertEqual(self.ask("GET", "/pics/k").body, b"bytes")

    def test_writing(self) -> None:
        """A writer is told by the rule for writers; what no rule has is done, and not shown."""
        answer = self.ask("PUT", "/pics/new", b"x")
        self.assertEqual((answer.status, told(answer)["access-control-allow-methods"]), (200, "PUT, POST"))
        answer = self.ask("DELETE", "/pics/new")
        self.assertEqual((answer.status, told(answer)), (204, {"vary": TO_READERS["vary"]}))

    def test_refused(self) -> None:
        """A page may read why its signature was refused, or that it has none."""
        for headers in ({"origin": PAGE}, {"origin": PAGE, "authorization": "Nonsense"}):
            answer = self.browse("GET", "/pics/k", headers)
            self.assertGreaterEqual(answer.status, 400)
            self.assertEqual(told(answer), TO_READERS)
        answer = self.browse("GET", "/k", {"origin": PAGE}, domain="pics.tape.example")
        self.assertEqual((answer.code, told(answer)), ("AccessDenied", TO_READERS))

    def test_form(self) -> None:
        """Forms that scripts send are answered to them, taken or not."""
        for fields, status in (
            ({"key": "k", **signed(policy(ANY_KEY, *SIGNING))}, 204),
            ({"key": "k"}, 403),
        ):
            body = form(fields)
            wire = self.rig.wire()
            headers = {
                "host": HOST,
                "origin": PAGE,
                "content-type": f"multipart/form-data; boundary={BOUNDARY}",
                "content-length": str(len(body)),
            }
            wire.send(message("POST", "/pics", headers, body))
            answer = wire.answer()
            self.assertEqual(answer.status, status)
            self.assertEqual(told(answer)["access-control-allow-methods"], "PUT, POST")

    def test_no_page(self) -> None:
        """A request of no page is told nothing, and costs no look at the rules."""
        self.assertEqual(told(self.rig.ask("GET", "/pics/k")), {})

    def test_no_rules(self) -> None:
        """Where there are no rules, or no bucket, or the rules are not to be had, the answer is what it would be."""
        self.rig.ask("PUT", "/bare")
        for target, status in (("/bare", 200), ("/none/k", 404), ("/", 200)):
            answer = self.ask("GET", target)
            self.assertEqual((answer.status, told(answer)), (status, {}))
        answer = self.rig.ask("GET", "/pics/k", headers={"origin": "https://other.test"})
        self.assertEqual((answer.status, told(answer)), (200, {"vary": TO_READERS["vary"]}))
        self.patch(self.rig.store, "bucket", lambda name: fail(MetadataUnavailable("away")))
        answer = self.ask("GET", "/pics/k")
        self.assertEqual((answer.status, answer.code, told(answer)), (503, "ServiceUnavailable", {}))


class AskingTests(SynchronousTestCase):
    """When rules are looked up."""

    def serve(self, *requests: bytes, fault: Exception | None = None) -> list[tuple[str, str]]:
        """Return of which bucket and method the rules were asked for; the first answer is in ``answer``."""
        asked: list[tuple[str, str]] = []

        async def look_up(bucket: str, method: str, fields: HeaderFields) -> Mapping[str, str]:
            asked.append((bucket, method))
            if fault is not None:
                raise fault
            return {"Vary": "Origin"}

        async def get(call: Call) -> Answer:
            return Answer(headers={"Content-Length": "5"}, stream=self.stream)

        self.stream = Stream()
        wire = Wire({Operation.GET_OBJECT: get}, told_to_page=look_up)
        for request in requests:
            wire.send(request)
        self.answer = wire.answer()
        return asked

    def test_requests_of_pages_alone(self) -> None:
        """Only a request with an origin has them looked up, and a question of a browser not once more."""
        self.assertEqual(self.serve(request_bytes("GET", "/pics/k")), [])
        page = request_bytes("GET", "/pics/k", {"origin": PAGE})
        self.assertEqual(self.serve(page), [("pics", "GET")])
        self.assertEqual(self.answer.headers["vary"], "Origin")
        self.assertEqual(self.serve(message("OPTIONS", "/pics/k", {"host": HOST, "origin": PAGE})), [])

    def test_fault(self) -> None:
        """When the look-up fails as nobody foresaw, the bytes that were to be sent are let go."""
        page = request_bytes("GET", "/pics/k", {"origin": PAGE})
        self.serve(page, fault=RuntimeError("no rules"))
        self.assertEqual(self.answer.status, 500)
        self.assertTrue(self.stream.is_abandoned)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)


class Stream:
    """Five bytes."""

    is_abandoned = False

    def start(self, request: object) -> Deferred[None]:
        """Send them."""
        request.write(b"bytes")  # type: ignore[attr-defined]
        done: Deferred[None] = Deferred()
        done.callback(None)
        return done

    def abandon(self) -> None:
        """Note it."""
        self.is_abandoned = True
