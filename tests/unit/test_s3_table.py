"""The page of operations, ``coldstore/s3/OPERATIONS.md``, says what the program does."""

import re
from pathlib import Path
from typing import NamedTuple

from botocore.session import get_session
from twisted.trial.unittest import SynchronousTestCase

import coldstore.s3
from coldstore.s3.api import UNBUILT, Operation
from coldstore.s3.errors import CODES, S3Error
from coldstore.s3.fields import HeaderFields
from coldstore.s3.paths import address_of
from coldstore.s3.routes import route
from tests.unit.s3_rig import Rig

PAGE = Path(coldstore.s3.__path__[0], "OPERATIONS.md")
_REQUEST = re.compile(r"`(?P<method>[A-Z]+) (?P<target>\S+)`(?: with `(?P<header>\S+)`)?")
_EXACTLY = re.compile(r"(?P<status>\d{3})(?: `(?P<code>\w+)`)?")


class Row(NamedTuple):
    """One operation of the page."""

    name: str
    method: str
    target: str
    headers: dict[str, str]
    built: str
    remark: str

    def meaning(self) -> Operation | S3Error:
        """Return what the routes make of the request."""
        address = address_of(self.target.encode(), "h", ())
        fields = HeaderFields((name.encode(), value.encode()) for name, value in self.headers.items())
        try:
            return route(self.method, address.target, address.query, fields)
        except S3Error as error:
            return error


def rows() -> list[Row]:
    """Return the operations of the page, in order."""
    found = []
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        request = _REQUEST.fullmatch(cells[1]) if len(cells) == 4 else None
        if request is not None:
            headers = {} if request["header"] is None else {request["header"]: "x"}
            found.append(
                Row(cells[0], request["method"], request["target"], headers, built=cells[2], remark=cells[3])
            )
    return found


class TableTests(SynchronousTestCase):
    """Page and program."""

    def test_routes(self) -> None:
        """What is built is routed by its name, and nothing else is routed."""
        for row in rows():
            self.assertIn(row.built, ("yes", "partly", "no"), row.name)
            meaning = row.meaning()
            if row.built == "no":
                self.assertIsInstance(meaning, Operation | S3Error, row.name)
                self.assertEqual(getattr(meaning, "code", ""), "NotImplemented", row.name)
            else:
                self.assertEqual(meaning, row.name)
        self.assertEqual({row.name for row in rows() if row.built != "no"}, set(Operation))

    def test_each_once(self) -> None:
        """No operation is there twice."""
        names = [row.name for row in rows()]
        self.assertEqual(sorted(names), sorted(set(names)))

    def test_refusals_are_named(self) -> None:
        """What is not built is refused by the name that the page has, and the page has all of those names."""
        refused = [row for row in rows() if row.built == "no"]
        for row in refused:
            meaning = row.meaning()
            assert isinstance(meaning, S3Error)
            self.assertIn(row.name, meaning.message)
        unbuilt = {
            name
            for subresources in UNBUILT.values()
            for methods in subresources.values()
            for names in methods.values()
            for name in names.split(", ")
        }
        self.assertEqual({row.name for row in refused} - {"WriteGetObjectResponse"}, unbuilt)

    def test_answers(self) -> None:
        """Where a remark begins with a status, the answer has it, and the code beside it."""
        rig = Rig()
        rig.put("/BUCKET".lower())
        rig.put("/bucket/KEY", b"x")
        for row in rows():
            expected = _EXACTLY.match(row.remark)
            if expected is None:
                self.assertNotEqual(row.built, "no", row.name)
                continue
            target = row.target.replace("/BUCKET", "/bucket")
            answer = rig.ask(row.method, target, headers=row.headers)
            self.assertEqual(
                (str(answer.status), answer.code), (expected["status"], expected["code"] or ""), row.name
            )

    def test_codes(self) -> None:
        """Every error code on the page is one that can be answered."""
        page = PAGE.read_text(encoding="utf-8")
        codes = set(re.findall(r"\d{3} `(\w+)`", page)) | set(
            re.findall(r"^\| `(\w+)` \| \d{3} \|", page, re.M)
        )
        self.assertTrue(codes)
        self.assertEqual(codes - set(CODES), set())
        for code, status in re.findall(r"^\| `(\w+)` \| (\d{3}) \|", page, re.M):
            self.assertEqual(CODES[code][0], int(status), code)

    def test_all_of_s3(self) -> None:
        """Every action of the S3 API as the SDK for Python knows it is on the page, but for names of old."""
        model = get_session().get_service_model("s3")
        actions = {name for name in model.operation_names if not model.operation_model(name).deprecated}
        self.assertEqual(actions - {row.name for row in rows()}, set())
