"""Pages of listings against a naive model, and what the operations make of them."""

from dataclasses import dataclass
from urllib.parse import quote, unquote

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from coldstore.plan.listing import FETCH_MAX, Fetch, ListingPlan, rolled_up
from coldstore.s3.tokens import position_of, token_of
from tests.unit.s3_rig import Rig, text_of, texts_of

KEYS = st.text(alphabet="ab/%é\x00\U0010ffff", min_size=1, max_size=5)


@dataclass
class Asked:
    """How much a listing cost."""

    fetches: int = 0
    rows: int = 0


def look_up(keys: list[bytes], fetch: Fetch, delimiter: bytes, asked: Asked) -> list[bytes]:
    """Answer a fetch as a store would."""
    assert 1 <= fetch.limit <= FETCH_MAX
    found = [
        key
        for key in keys
        if key >= fetch.from_key
        and key > fetch.after_key
        and (fetch.before_key is None or key < fetch.before_key)
    ]
    if fetch.is_by_entry:
        entries = [rolled_up(key, fetch.from_key, delimiter) for key in found]
        found = [
            key
            for key, entry, before in zip(found, entries, [None, *entries], strict=False)
            if entry is None or entry != before
        ]
    found = found[: fetch.limit]
    asked.fetches += 1
    asked.rows += len(found)
    return found


def page_of(
    keys: list[bytes],
    prefix: bytes,
    delimiter: bytes,
    after: bytes,
    limit: int,
    asked: Asked,
    by_entry: bool = True,
) -> ListingPlan[bytes]:
    """Return a filled page."""
    plan: ListingPlan[bytes] = ListingPlan(
        prefix=prefix,
        delimiter=delimiter,
        after=after,
        max_entries=limit,
        key_of=lambda key: key,
        can_ask_by_entry=by_entry,
    )
    while (fetch := plan.next_fetch()) is not None:
        plan.take(fetch, look_up(keys, fetch, delimiter, asked))
    return plan


def model(keys: list[bytes], prefix: bytes, delimiter: bytes, after: bytes) -> list[bytes]:
    """Return the entries of a listing, the slow and plain way."""
    entries = {rolled_up(key, prefix, delimiter) or key for key in keys if key.startswith(prefix)}
    return sorted(entry for entry in entries if entry > after)


class PlanTests(SynchronousTestCase):
    """The pure part."""

    @settings(max_examples=400, deadline=None)
    @given(
        st.sets(KEYS, max_size=40),
        st.text(alphabet="ab/é", max_size=2),
        st.text(alphabet="/ab", max_size=2),
        st.text(alphabet="ab/é", max_size=3),
        st.integers(1, 7),
        st.booleans(),
    )
    def test_pages_concatenated_equal_the_model(
        self, texts: set[str], prefix: str, delimiter: str, start: str, limit: int, by_entry: bool
    ) -> None:
        """Any page size, prefix, delimiter and start: every entry once, in order, and full pages."""
        keys = sorted(text.encode() for text in texts)
        raw_prefix, raw_delimiter, after = prefix.encode(), delimiter.encode(), start.encode()
        expected = model(keys, raw_prefix, raw_delimiter, after)
        found: list[bytes] = []
        while True:
            page = page_of(keys, raw_prefix, raw_delimiter, after, limit, Asked(), by_entry)
            entries = sorted([*page.rows, *page.prefixes])
            self.assertTrue(len(entries) == limit or not page.is_truncated)
            found += entries
            if not page.is_truncated:
                break
            self.assertEqual(page.last, entries[-1])
            after = position_of(token_of(page.last))
        self.assertEqual(found, expected)

    def test_nothing_wanted(self) -> None:
        """A page of no entries asks for nothing and is not truncated."""
        asked = Asked()
        page = page_of([b"a"], b"", b"", b"", 0, asked)
        self.assertEqual((page.entry_count, page.is_truncated, asked.fetches), (0, False, 0))

    def test_cost_follows_what_is_shown(self) -> None:
        """Ten common prefixes over 20,000 keys cost two fetches; a plain page one fetch and one row more."""
        keys = sorted(b"%d/%04d" % (group, number) for group in range(10) for number in range(2000))
        asked = Asked()
        page = page_of(keys, b"", b"/", b"", 1000, asked)
        self.assertEqual(page.prefixes, [b"%d/" % group for group in range(10)])
        self.assertEqual((asked.fetches, asked.rows), (2, 16 + 9))
        asked = Asked()
        self.assertEqual(page_of(keys, b"", b"/", b"", 1000, asked, by_entry=False).prefixes, page.prefixes)
        self.assertLess(asked.rows, 400)
        asked = Asked()
        self.assertTrue(page_of(keys, b"", b"", b"", 999, asked).is_truncated)
        self.assertEqual((asked.fetches, asked.rows), (1, 1000))

    def test_flat_keys_below_a_delimiter_are_read_in_growing_steps(self) -> None:
        """A page of a thousand plain keys with a delimiter needs few fetches."""
        keys = [b"%05d" % number for number in range(3000)]
        asked = Asked()
        page = page_of(keys, b"", b"/", b"", 1000, asked)
        self.assertEqual((page.entry_count, page.is_truncated), (1000, True))
        self.assertLess(asked.fetches, 10)

    @given(st.binary(min_size=1, max_size=30))
    def test_tokens(self, position: bytes) -> None:
        """Come back as they were; what was changed is refused."""
        token = token_of(position)
        self.assertEqual(position_of(token), position)
        self.assertRaises(ValueError, position_of, "A" + token)

    def test_what_is_no_token(self) -> None:
        """Is refused, whatever it is."""
        for token in ("", "x", "é", "AAAA", "!!!!", token_of(b"a") + "\n", "AAAAAGE="):
            self.assertRaises(ValueError, position_of, token)


class OperationTests(SynchronousTestCase):
    """The documents."""

    def setUp(self) -> None:
        """A bucket with a few keys."""
        self.rig = Rig()
        self.rig.put("/bkt")
        for key in ("a", "d/1", "d/2", "e f+g", "z/1"):
            self.assertEqual(self.rig.put("/bkt/" + quote(key), b"x").status, 200)

    def pages(self, first: str, mark: str, next_name: str) -> list[list[str]]:
        """Return the entries of each page, following the marks."""
        pages, target = [], first
        while True:
            answer = self.rig.ask("GET", target)
            self.assertEqual(answer.status, 200, answer.body)
            pages.append(sorted([*texts_of(answer.body, "Key"), *_prefixes(answer.body)]))
            following = text_of(answer.body, next_name)
            if text_of(answer.body, "IsTruncated") == "false":
                self.assertIsNone(following)
                return pages
            self.assertIsNotNone(following)
            target = f"{first}&{mark}={quote(following or '', safe='')}"

    def test_version_2_pages(self) -> None:
        """Follow the token; a common prefix counts as one and comes once."""
        pages = self.pages(
            "/bkt?list-type=2&delimiter=/&max-keys=2", "continuation-token", "NextContinuationToken"
        )
        self.assertEqual(pages, [["a", "d/"], ["e f+g", "z/"]])

    def test_version_1_pages(self) -> None:
        """Follow NextMarker, which comes only with a delimiter."""
        pages = self.pages("/bkt?delimiter=/&max-keys=1", "marker", "NextMarker")
        self.assertEqual(pages, [["a"], ["d/"], ["e f+g"], ["z/"]])
        answer = self.rig.ask("GET", "/bkt?max-keys=1")
        self.assertEqual(
            (text_of(answer.body, "IsTruncated"), text_of(answer.body, "NextMarker")), ("true", None)
        )
        self.assertEqual(texts_of(self.rig.ask("GET", "/bkt?max-keys=1&marker=a").body, "Key"), ["d/1"])

    def test_key_count_and_clipping(self) -> None:
        """KeyCount counts both kinds; more than a thousand is reported as a thousand."""
        answer = self.rig.ask("GET", "/bkt?list-type=2&delimiter=/&max-keys=5000")
        self.assertEqual((text_of(answer.body, "KeyCount"), text_of(answer.body, "MaxKeys")), ("4", "1000"))
        answer = self.rig.ask("GET", "/bkt?list-type=2&max-keys=0")
        self.assertEqual(
            (text_of(answer.body, "KeyCount"), text_of(answer.body, "IsTruncated")), ("0", "false")
        )

    def test_url_encoding(self) -> None:
        """Keys, prefixes and delimiters are encoded, tokens are not."""
        answer = self.rig.ask(
            "GET", "/bkt?list-type=2&encoding-type=url&prefix=e%20&delimiter=%2B&start-after=e%20"
        )
        self.assertEqual(text_of(answer.body, "EncodingType"), "url")
        self.assertEqual(_prefixes(answer.body), ["e%20f%2B"])
        self.assertEqual(
            (text_of(answer.body, "Delimiter"), text_of(answer.body, "StartAfter")), ("%2B", "e%20")
        )
        self.assertEqual(self.rig.ask("GET", "/bkt?encoding-type=base64").code, "InvalidArgument")

    def test_token_wins_over_start_after(self) -> None:
        """Both are echoed."""
        token = token_of(b"d/2")
        answer = self.rig.ask("GET", f"/bkt?list-type=2&start-after=z&continuation-token={quote(token)}")
        self.assertEqual(texts_of(answer.body, "Key"), ["e f+g", "z/1"])
        self.assertEqual(
            (text_of(answer.body, "StartAfter"), text_of(answer.body, "ContinuationToken")), ("z", token)
        )

    def test_bad_arguments(self) -> None:
        """Are refused by name, and nothing is a fault of ours."""
        for query in (
            "max-keys=-1",
            "max-keys=x",
            "max-keys=99999999999",
            "list-type=2&continuation-token=nonsense",
            "list-type=2&max-keys=%C2%B2",
        ):
            answer = self.rig.ask("GET", f"/bkt?{query}")
            self.assertEqual((answer.status, answer.code), (400, "InvalidArgument"), query)
        self.assertEqual(self.rig.ask("GET", "/nobody").code, "NoSuchBucket")

    def test_owner(self) -> None:
        """Version 1 always shows it, version 2 when asked."""
        self.assertIn(b"<Owner>", self.rig.ask("GET", "/bkt").body)
        self.assertNotIn(b"<Owner>", self.rig.ask("GET", "/bkt?list-type=2").body)
        self.assertIn(b"<Owner>", self.rig.ask("GET", "/bkt?list-type=2&fetch-owner=true").body)

    def test_restore_status(self) -> None:
        """Is shown when asked for, in both versions, of objects that have one."""
        self.rig.put("/bkt/cold", b"x", x_amz_storage_class="GLACIER")
        self.rig.evict("bkt", b"cold")
        self.rig.ask("POST", "/bkt/cold?restore", b"<RestoreRequest><Days>1</Days></RestoreRequest>")
        attributes = {"x-amz-optional-object-attributes": "RestoreStatus,RestoreStatus"}
        for target in ("/bkt", "/bkt?list-type=2"):
            self.assertNotIn(b"RestoreStatus", self.rig.ask("GET", target).body)
            body = self.rig.ask("GET", target, headers=attributes).body
            self.assertEqual(texts_of(body, "IsRestoreInProgress"), ["true"])
            self.assertNotIn(b"RestoreExpiryDate", body)
        self.rig.put("/bkt/warm", b"x", x_amz_storage_class="GLACIER")
        self.rig.ask("POST", "/bkt/warm?restore", b"<RestoreRequest><Days>1</Days></RestoreRequest>")
        body = self.rig.ask("GET", "/bkt?prefix=warm", headers=attributes).body
        self.assertEqual(texts_of(body, "RestoreExpiryDate"), ["2026-01-04T00:00:00.000Z"])
        self.rig.clock.advance(3 * 86_400)
        body = self.rig.ask("GET", "/bkt?prefix=warm", headers=attributes).body
        self.assertNotIn(b"RestoreStatus", body)
        answer = self.rig.ask("GET", "/bkt", headers={"x-amz-optional-object-attributes": "Size"})
        self.assertEqual(answer.code, "InvalidArgument")

    def test_awkward_keys(self) -> None:
        """Keys of any byte that UTF-8 allows are listed in bytewise order."""
        rig = Rig()
        rig.put("/odd")
        keys = [
            "/lead",
            "//",
            ".",
            "..",
            "a//b",
            "tail/",
            "\x01",
            "\n",
            "<&>\"'",
            "é",
            "\U0001f4be",
            "%2F",
            "+",
        ]
        for key in keys:
            self.assertEqual(rig.put("/odd/" + quote(key, safe=""), b"x").status, 200, key)
        listed = texts_of(rig.ask("GET", "/odd?list-type=2&encoding-type=url").body, "Key")
        self.assertEqual([unquote(key) for key in listed], sorted(keys, key=str.encode))


def _prefixes(body: bytes) -> list[str]:
    return [piece.partition("</Prefix>")[0] for piece in body.decode().split("<CommonPrefixes><Prefix>")[1:]]
