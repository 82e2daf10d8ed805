"""Rules about pages of other origins: documents, matching, and what browsers are told."""

from twisted.trial.unittest import SynchronousTestCase

from coldstore.s3.cors import AGE_MAX_SECONDS, CorsRule, cors_node, cors_of, cors_record, parse_cors
from coldstore.s3.errors import S3Error
from coldstore.s3.fields import HeaderFields
from coldstore.s3.origins import PageRequest, headers_for, of_preflight, of_request
from coldstore.s3.xml import MalformedDocument, document

RULES = (
    CorsRule(
        rule_id="uploads",
        origins=("https://www.example.com", "https://*.example.org"),
        methods=("PUT", "POST"),
        headers=("x-amz-*", "Content-Type"),
        exposed=("ETag", "x-amz-version-id"),
        max_age_seconds=3000,
    ),
    CorsRule(origins=("*",), methods=("GET", "HEAD")),
)


def written(*rules: str) -> bytes:
    """Return a document of rules."""
    content = "".join(f"<CORSRule>{rule}</CORSRule>" for rule in rules)
    return f"<CORSConfiguration>{content}</CORSConfiguration>".encode()


def rule(origin: str = "*", method: str = "GET", more: str = "") -> str:
    """Return what is in a rule."""
    return f"<AllowedOrigin>{origin}</AllowedOrigin><AllowedMethod>{method}</AllowedMethod>{more}"


def fields(**values: str) -> HeaderFields:
    """Return header fields; underscores stand for dashes."""
    return HeaderFields(
        (name.replace("_", "-").encode(), value.encode("utf-8", "surrogateescape"))
        for name, value in values.items()
    )


class DocumentTests(SynchronousTestCase):
    """What can be written."""

    def test_there_and_back(self) -> None:
        """What is shown can be read, and what is kept as well."""
        self.assertEqual(parse_cors(document(cors_node(RULES))), RULES)
        self.assertEqual(parse_cors(document(cors_node(RULES), namespace=None)), RULES)
        self.assertEqual(cors_of(cors_record(RULES)), RULES)

    def test_bounds(self) -> None:
        """A hundred rules, an id of 255 characters, an age of none and of 68 years."""
        self.assertEqual(len(parse_cors(written(*[rule()] * 100))), 100)
        (found,) = parse_cors(written(f"<ID>{'ä' * 255}</ID>" + rule()))
        self.assertEqual(found.rule_id, "ä" * 255)
        for age in (0, AGE_MAX_SECONDS):
            (found,) = parse_cors(written(rule(more=f"<MaxAgeSeconds> {age} </MaxAgeSeconds>")))
            self.assertEqual(found.max_age_seconds, age)
        (found,) = parse_cors(written("<ID/>" + rule()))
        self.assertIsNone(found.rule_id)

    def test_rules_that_cannot_be(self) -> None:
        """Are refused by what is wrong."""
        for rules, named in (
            ([rule()] * 101, "should not exceed allowed limit of 100 rules: there are 101"),
            ([rule(method="PATCH")], "Unsupported method is 'PATCH'; there are GET, PUT"),
            ([rule(method="get")], "Unsupported method is 'get'"),
            ([rule(origin="http://*.*.com")], "AllowedOrigin 'http://*.*.com' can not have more than one"),
            ([rule(origin="")], "AllowedOrigin '' is no origin"),
            ([rule(origin="a b")], "AllowedOrigin 'a b' is no origin"),
            ([rule(origin="https://ü.de")], "AllowedOrigin 'https://ü.de' is no origin"),
            ([rule(more="<AllowedHeader>*a*</AllowedHeader>")], "AllowedHeader '*a*' can not have more than"),
            ([rule(more="<AllowedHeader>a b</AllowedHeader>")], "AllowedHeader 'a b' is not the name"),
            ([rule(more="<ExposeHeader>x-*</ExposeHeader>")], "ExposeHeader 'x-*' contains wildcard"),
            ([rule(more="<ExposeHeader>a:b</ExposeHeader>")], "ExposeHeader 'a:b' is not the name"),
            ([rule(more=f"<ID>{'x' * 256}</ID>")], "255 characters at most"),
            ([rule(more="<ID>a</ID>"), rule(more="<ID> a </ID>")], "Rule ID must be unique"),
        ):
            with self.assertRaises(S3Error) as caught:
                parse_cors(written(*rules))
            self.assertEqual(caught.exception.code, "InvalidRequest")
            self.assertIn(named, caught.exception.message)
            self.assertLess(len(caught.exception.message), 500)

    def test_no_such_document(self) -> None:
        """What lacks an element, or has another, is none."""
        for given in (
            b"<Other/>",
            b"<CORSConfiguration/>",
            b"<CORSConfiguration><Rule/></CORSConfiguration>",
            written("<AllowedOrigin>*</AllowedOrigin>"),
            written("<AllowedMethod>GET</AllowedMethod>"),
            written(rule(more="<Other/>")),
            written(rule(more="<AllowedOrigin><a/></AllowedOrigin>")),
            written(rule(more="<ID>a</ID><ID>b</ID>")),
            *(
                written(rule(more=f"<MaxAgeSeconds>{age}</MaxAgeSeconds>"))
                for age in ("", "x", "-1", "1.5", "2147483648", "9" * 5000)
            ),
            b"<CORSConfiguration>" + b" " * 65536 + b"</CORSConfiguration>",
        ):
            with self.assertRaises(MalformedDocument):
                parse_cors(given)


class PageRequestTests(SynchronousTestCase):
    """What a request says of the page behind it."""

    def test_preflight(self) -> None:
        """Origin, method and the names of headers, in any case and with any space."""
        asked = of_preflight(
            fields(
                origin="https://a",
                access_control_request_method="PUT",
                access_control_request_headers="X-Amz-Date,, content-Type ",
            )
        )
        self.assertEqual(asked, PageRequest("https://a", "PUT", ("x-amz-date", "content-type")))

    def test_no_preflight(self) -> None:
        """What lacks origin or method, or has another method than there is, is refused."""
        for given, named in (
            (fields(access_control_request_method="GET"), "Origin request header needed"),
            (fields(origin="", access_control_request_method="GET"), "Origin request header needed"),
            (fields(origin="https://a"), "Invalid Access-Control-Request-Method: null"),
            (fields(origin="https://a", access_control_request_method="PATCH"), "Method: 'PATCH'"),
        ):
            with self.assertRaises(S3Error) as caught:
                of_preflight(given)
            self.assertEqual(caught.exception.code, "BadRequest")
            self.assertIn(named, caught.exception.message)

    def test_request(self) -> None:
        """The method is that of the request, unless it names one; without an origin nothing is asked."""
        self.assertEqual(of_request("GET", fields(origin="https://a")), PageRequest("https://a", "GET", ()))
        named = fields(origin="https://a", access_control_request_method="GET")
        self.assertEqual(of_request("PUT", named), PageRequest("https://a", "GET", ()))
        self.assertIsNone(of_request("GET", fields(host="h")))
        self.assertIsNone(of_request("GET", fields(origin="\udcff")))


class MatchingTests(SynchronousTestCase):
    """Which rule decides, and what follows."""

    def told(self, origin: str, method: str = "GET", *headers: str) -> dict[str, str] | None:
        """Return what a browser is told, without what always is."""
        found = headers_for(RULES, PageRequest(origin, method, headers))
        if found is None:
            return None
        self.assertEqual(
            found["Vary"], "Origin, Access-Control-Request-Headers, Access-Control-Request-Method"
        )
        return {
            name.removeprefix("Access-Control-"): value for name, value in found.items() if name != "Vary"
        }

    def test_everything(self) -> None:
        """A rule of an origin tells all it has, and lets credentials be sent."""
        self.assertEqual(
            self.told("https://www.example.com", "PUT", "x-amz-date", "content-type"),
            {
                "Allow-Origin": "https://www.example.com",
                "Allow-Methods": "PUT, POST",
                "Allow-Headers": "x-amz-date, content-type",
                "Expose-Headers": "ETag, x-amz-version-id",
                "Max-Age": "3000",
                "Allow-Credentials": "true",
            },
        )

    def test_any_origin(self) -> None:
        """Of a rule for every origin no credentials are asked."""
        self.assertEqual(self.told("null"), {"Allow-Origin": "*", "Allow-Methods": "GET, HEAD"})
        self.assertEqual(self.told("https://www.example.com"), self.told("null"))

    def test_nothing(self) -> None:
        """Another origin, another method or another header is not allowed by anything."""
        self.assertIsNone(self.told("https://www.example.com", "DELETE"))
        self.assertIsNone(self.told("https://www.example.com.evil.test", "PUT"))
        self.assertIsNone(self.told("HTTPS://www.example.com", "PUT"))
        self.assertIsNone(self.told("https://www.example.com", "PUT", "x-amz-date", "authorization"))
        self.assertIsNone(self.told("https://www.example.com", "GET", "x-amz-date"))
        self.assertIsNone(headers_for((), PageRequest("https://a", "GET", ())))

    def test_wildcards(self) -> None:
        """Stand for anything, and for nothing, and neither end of a pattern is used twice."""
        for pattern, matching, other in (
            ("*suffix", ("suffix", "foo.suffix"), ("foo.suffix.get", "uffix")),
            ("start*end", ("startend", "start12end"), ("0start12end", "star")),
            ("prefix*", ("prefix", "prefix.suffix"), ("bla.prefix",)),
            ("ab*ba", ("abba", "ab.ba"), ("aba",)),
        ):
            rules = (CorsRule(origins=(pattern,), methods=("GET",)),)
            for origin in matching:
                found = headers_for(rules, PageRequest(origin, "GET", ()))
                assert found is not None, origin
                self.assertEqual(found["Access-Control-Allow-Origin"], origin)
            for origin in other:
                self.assertIsNone(headers_for(rules, PageRequest(origin, "GET", ())), origin)

    def test_headers_in_any_case(self) -> None:
        """A rule may write the names of fields as it likes."""
        self.assertIsNotNone(self.told("https://a.example.org", "PUT", "content-type"))
        rules = (CorsRule(origins=("*",), methods=("GET",), headers=("X-AMZ-*",)),)
        self.assertIsNotNone(headers_for(rules, PageRequest("o", "GET", ("x-amz-meta-a",))))
