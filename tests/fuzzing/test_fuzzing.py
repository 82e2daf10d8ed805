"""The fuzzer of a running appliance: its requests are what it takes them for, and it sees what it must see."""

import re
import tempfile
from collections import Counter
from pathlib import Path
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from coldstore.s3.api import Operation
from tests.endtoend.wire import Keys
from tests.fuzzing.case import Asked, Case, Delivery, Edit, Ending, Place, Signed, to_text
from tests.fuzzing.client import Answer, Exchange, parsed
from tests.fuzzing.findings import Finding, Findings, case_in
from tests.fuzzing.ground import LOOKS, changes
from tests.fuzzing.judge import are_refusals, complaints, parted, traces
from tests.fuzzing.mutations import case_of
from tests.fuzzing.operations import OPERATIONS, valid
from tests.fuzzing.signing import Signer
from tests.fuzzing.wire import edited, message, pieces
from tests.unit.s3_rig import Rig, text_of
from tests.unit.s3_wire import ACCESS_KEY, HOST, NOW, SECRET_KEY, ParsedAnswer

ENABLED = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
DOCUMENT = b"<Error><Code>NoSuchKey</Code><Message>m</Message><RequestId>R</RequestId></Error>"
GET = Asked(operation="get", method=b"GET", target=b"/b/k")
SIGNER = Signer(keys=Keys(ACCESS_KEY, SECRET_KEY), at=NOW)


def answer(status: int, body: bytes = b"", *, is_whole: bool = True, request_id: str = "R") -> Answer:
    """Return an answer."""
    return Answer(status=status, headers={"x-amz-request-id": request_id}, body=body, is_whole=is_whole)


def seen(*answers: Answer, rest: bytes = b"", is_late: bool = False) -> Exchange:
    """Return what came of a case."""
    return Exchange(answers=answers, rest=rest, seconds=1.0, is_late=is_late, went_early=False)


class RequestsTests(SynchronousTestCase):
    """What is asked."""

    def setUp(self) -> None:
        """Lay the ground of the operations in memory."""
        self.rig = rig = Rig(sse_c_over_http=True)
        rig.ask("PUT", "/bkt")
        rig.ask("PUT", "/bkt?versioning", ENABLED)
        kept = rig.put("/bkt/kept", b"kept").headers
        rig.put("/bkt/other", b"other")
        rig.put("/bkt/a%20b/%C3%BC", b"")
        rig.put("/bkt/cold", b"cold", x_amz_storage_class="GLACIER")
        upload = text_of(rig.ask("POST", "/bkt/rising?uploads").body, "UploadId") or ""
        parts = [
            rig.put(f"/bkt/rising?partNumber={number}&uploadId={upload}", b"x" * 100) for number in (1, 2)
        ]
        self.facts = {
            b"@HOST@": HOST.encode(),
            b"@BUCKET@": b"bkt",
            b"@OTHER@": b"none-such",
            b"@OWNER@": b"u-1",
            b"@VERSION@": kept["x-amz-version-id"].encode(),
            b"@ETAG@": kept["etag"].encode(),
            b"@UPLOAD@": upload.encode(),
            b"@PART1@": parts[0].headers["etag"].encode(),
            b"@PART2@": parts[1].headers["etag"].encode(),
        }

    def ask(self, asked: Asked) -> ParsedAnswer:
        """Send a request as it is."""
        wire = self.rig.wire()
        wire.send(message(Case(asked=(asked,)), self.facts, SIGNER).replace(b"expect: 100-continue\r\n", b""))
        return wire.answer()

    def test_valid(self) -> None:
        """
        Valid requests of all kinds get past the signature, unless they have none, and none of them is malformed; every operation is
        among them.
        """
        routed: list[Operation] = []
        operations = self.rig.operations.registry()

        def spied(operation: Operation) -> object:
            function = operations[operation]

            async def spy(call: object) -> object:
                routed.append(operation)
                return await function(call)  # type: ignore[arg-type]

            return spy

        table = {operation: spied(operation) for operation in operations}
        self.rig.operations.registry = lambda: table  # type: ignore[method-assign,assignment,return-value]
        kinds: Counter[str] = Counter()
        configuration = OPERATIONS["configuration"][0]
        for asked in (
            *(valid(Random(number)) for number in range(900)),
            *(configuration(Random(number)) for number in range(900)),
        ):
            given = self.ask(asked)
            kinds[asked.operation] += 1
            if given.status < 400:
                continue
            self.assertTrue(given.status < 500 or given.code == "NotImplemented", f"{asked} {given.body!r}")
            if asked.signed is not Signed.NOT or asked.policy:
                self.assertNotIn(
                    given.code,
                    ("SignatureDoesNotMatch", "InvalidURI", "MalformedPOSTRequest", "AccessDenied"),
                )
            wrong = ("MalformedPolicy", "InvalidPolicyDocument", "IncompleteBody")
            self.assertNotIn(given.code, wrong, f"{asked} {given.body!r}")
        self.assertEqual(len(kinds), len(OPERATIONS))
        self.assertEqual(set(Operation) - set(routed), set())

    def test_cases(self) -> None:
        """A case is made from its number alone, and a file holds all of it; bytes come of every one of them."""
        for number in range(300):
            case = case_of(1, number)
            self.assertEqual(case, case_of(1, number))
            finding = Finding(seed=1, number=number, case=case, sent=b"", complaints=("c",))
            self.assertEqual(Case.read(case.written()), case)
            self.assertIn('"asked"', to_text(case))
            self.assertTrue(finding.kind.endswith(": c"))
            self.assertTrue(message(case, self.facts, SIGNER))
        self.assertNotEqual(case_of(1, 1), case_of(2, 1))

    def test_in_memory(self) -> None:
        """Cases against an endpoint in memory, where they are quick: nothing is wrong with any answer, and no bug is logged."""
        for number in range(600):
            case = case_of(3, number)
            sent = message(case, self.facts, SIGNER)
            wire = self.rig.wire()
            for piece in pieces(sent, case.delivery)[:50]:
                wire.send(piece)
            found, rest = parsed(wire.transport.value(), sent)
            self.assertEqual(complaints(seen(*found, rest=rest)), [], f"{number}: {sent!r}")
            wire.lose()

    def test_bytes(self) -> None:
        """Edits change what they say, and pieces are the message, as far as it is sent."""
        self.assertEqual(
            edited(b"0123456789", Edit(place=Place.BODY, at=0.5, removed=2, added=b"x")), b"01234x789"
        )
        self.assertEqual(edited(b"01", Edit(place=Place.HEAD, at=1.0, added=b"x")), b"01x")
        self.assertEqual(pieces(b"0123456789", Delivery(cuts=(0.3, 0.5))), [b"012", b"34", b"56789"])
        cut_off = Delivery(sent=0.5, cuts=(0.5,), ending=Ending.CLOSES)
        self.assertEqual(pieces(b"01234567", cut_off), [b"01", b"23"])
        changed = message(
            Case(asked=(GET,), edits=(Edit(place=Place.HEAD, at=0, removed=3, added=b"PUT"),)),
            self.facts,
            SIGNER,
        )
        self.assertTrue(changed.startswith(b"PUT /b/k HTTP/1.1\r\n"))


class AnswersTests(SynchronousTestCase):
    """What is seen."""

    def test_parsing(self) -> None:
        """Answers in a row, without those that only say go on; what is cut short and what is none shows."""
        head = b"HTTP/1.1 %d X\r\nContent-Length: %d\r\nA: b\r\n\r\n"
        found, rest = parsed(
            b"HTTP/1.1 100 Continue\r\n\r\n" + head % (200, 2) + b"ab" + head % (404, 9) + b"c", b"GET"
        )
        self.assertEqual(
            [(each.status, each.body, each.is_whole) for each in found],
            [(200, b"ab", True), (404, b"c", False)],
        )
        self.assertEqual((found[0].headers["a"], rest), ("b", b""))
        found, rest = parsed(head % (200, 7) + head % (204, 0) + b"xyz", b"HEAD / HEAD /")
        self.assertEqual(([each.is_whole for each in found], rest), ([True, True], b"xyz"))

    def test_well(self) -> None:
        """What an endpoint may say."""
        slow = DOCUMENT.replace(b"NoSuchKey", b"SlowDown")
        for each in (answer(200, b"x"), answer(204), answer(404, DOCUMENT), answer(404), answer(503, slow)):
            self.assertEqual(complaints(seen(each)), [], each)
        self.assertEqual(complaints(seen()), [])

    def test_wrong(self) -> None:
        """What it may not."""
        internal = DOCUMENT.replace(b"NoSuchKey", b"InternalError")
        for each in (
            answer(500, internal),
            answer(500),
            answer(502, b"x"),
            answer(
                200,
                b"<?xml?><Error><Code>InternalError</Code></Error>".replace(
                    b"<?xml?>", b'<?xml version="1.0"?>'
                ),
            ),
            answer(404, b"not found"),
            answer(404, DOCUMENT.replace(b"<Message>", b"<Message>&#x0;")),
            answer(404, DOCUMENT.replace(b"NoSuchKey", b"NoSuchThing")),
            answer(404, DOCUMENT.replace(b"<Message>m</Message>", b"")),
            answer(400, DOCUMENT),
            answer(404, DOCUMENT, request_id="S"),
            answer(200, b"x", is_whole=False),
            Answer(status=200, headers={}, body=b"", is_whole=True),
        ):
            self.assertEqual(len(complaints(seen(each))), 1, each)
        self.assertEqual(len(complaints(seen(rest=b"x"))), 1)
        self.assertEqual(len(complaints(seen(is_late=True))), 1)

    def test_refusals(self) -> None:
        """It is certain that nothing was done where every request got an error."""
        one, two = Case(asked=(GET,)), Case(asked=(GET, GET))
        self.assertTrue(are_refusals(seen(answer(404)), one))
        self.assertFalse(are_refusals(seen(answer(404)), two))
        self.assertFalse(are_refusals(seen(answer(404), answer(200)), two))
        self.assertFalse(are_refusals(seen(), one))

    def test_traces(self) -> None:
        """A traceback of a log is one piece, from its event to its exception; an event that may not be whole waits."""
        event = "2026-01-01T00:00:00+0000 [x] "
        trace = f"{event}Unhandled Error\nTraceback (most recent call last):\n  File\nIndexError: 1\n\n"
        log = f"{event}well\n{trace}{event}500 InternalError\n{event}well\n"
        self.assertEqual(
            [piece.splitlines()[-1] for piece in traces(log)], ["IndexError: 1", f"{event}500 InternalError"]
        )
        self.assertEqual(parted(log), (log[: -len(f"{event}well\n")], f"{event}well\n"))
        self.assertEqual(parted("no event"), ("", "no event"))

    def test_changes(self) -> None:
        """Of two pictures only what differs is told."""
        before = tuple((200, b"<a>old</a>") for _ in LOOKS)
        self.assertEqual(changes(before, before), [])
        (told,) = changes(before, ((200, b"<a>new one</a>"), *before[1:]))
        self.assertIn("200 200: b'old' became b'new one'", told)

    def test_findings(self) -> None:
        """Of one kind the first has a file, from which its case comes back."""
        folder = Path(tempfile.mkdtemp(dir="."))
        findings = Findings(folder / "found")
        kept = []
        for number, complaint in ((1, "late by 17 s"), (2, "late by 18 s"), (3, "early")):
            case = case_of(7, number)
            asked = (GET, *case.asked[1:])
            case = Case(asked=asked, edits=case.edits, delivery=case.delivery)
            finding = Finding(seed=7, number=number, case=case, sent=b"\xff", complaints=(complaint,))
            kept.append((findings.add(finding), case))
        self.assertEqual([path is None for path, _ in kept], [False, True, False])
        path, case = kept[0]
        assert path is not None
        self.assertEqual(case_in(path), case)
        self.assertEqual(sorted(findings.counts.values()), [1, 2])
        path.write_text("{}")
        self.assertTrue(re.search("no case", str(self.assertRaises(ValueError, case_in, path))))
