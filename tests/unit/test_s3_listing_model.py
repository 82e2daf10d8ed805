"""Listings over the wire against naive models: any prefix, delimiter, marker and page size, and what comes and goes between two pages."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import quote, unquote_to_bytes
from xml.etree import ElementTree

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from coldstore.plan import listing
from coldstore.s3.xml import NAMESPACE
from tests.unit.s3_rig import Rig, text_of

ODD = ["a", "b", "/", "//", "%", "%2F", "+", " ", "é", "\U0010ffff", "\x01", "\x7f", "&", "<"]
USUAL = ["a", "a", "/", "/", "a/", "a/b"]
"""Many keys have a beginning in common."""
KEYS = st.lists(st.one_of(st.sampled_from(USUAL), st.sampled_from(ODD)), min_size=1, max_size=4).map("".join)
PREFIXES = st.one_of(st.just(""), st.just("a"), KEYS).filter(lambda prefix: "\x01" not in prefix)
"""Without what XML has no place for: version 1 never encodes its prefix."""
DELIMITERS = st.sampled_from(["/", "", "/", "//", "a/", "a", "ab", "é", "%2F", "\U0010ffff", " "])
STARTS = st.one_of(st.just(""), KEYS)
SIZES = st.integers(1, 5)
PAGES_MOST = 200
ENABLED = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
EXAMPLES = 40

Entry = tuple[bytes, str]
"""A key with the id of a version or an upload, or a common prefix with nothing."""


def query(**parameters: str | int | None) -> str:
    """Return a query; an underscore stands for a dash, and what is None or empty is left out."""
    return "&".join(
        f"{name.replace('_', '-')}={quote(str(value), safe='')}"
        for name, value in parameters.items()
        if value not in (None, "")
    )


@dataclass(frozen=True)
class Page:
    """
    What one page shows.

    :ivar entries: in the order of their bytes, versions of one key as they came
    """

    entries: list[Entry]
    root: ElementTree.Element

    def text(self, name: str) -> str:
        """Return a text of the page's own, empty when it is not there."""
        return self.root.findtext(f"{{{NAMESPACE}}}{name}") or ""

    @property
    def is_truncated(self) -> bool:
        """Whether there is more."""
        return self.text("IsTruncated") == "true"


def page(rig: Rig, target: str) -> Page:
    """Ask for one page, keys encoded."""
    answer = rig.ask("GET", f"{target}&encoding-type=url")
    assert answer.status == 200, answer.body
    root = ElementTree.fromstring(answer.body)
    entries: list[Entry] = []
    for child in root:
        tag = child.tag.rpartition("}")[2]
        fields = {field.tag.rpartition("}")[2]: field.text or "" for field in child}
        if tag in ("Contents", "Version", "DeleteMarker", "Upload"):
            entries.append((decoded(fields["Key"]), fields.get("VersionId") or fields.get("UploadId") or ""))
        elif tag == "CommonPrefixes":
            entries.append((decoded(fields["Prefix"]), ""))
    return Page(sorted(entries, key=lambda entry: entry[0]), root)


def decoded(text: str) -> bytes:
    """Undo ``encoding-type=url``."""
    return unquote_to_bytes(text)


def common_prefix(key: bytes, prefix: bytes, delimiter: bytes) -> bytes | None:
    """Return what a key is shown as together with others, None when it is shown itself."""
    if not delimiter:
        return None
    head, found, _ = key[len(prefix) :].partition(delimiter)
    return prefix + head + found if found else None


def modelled(
    rows: Sequence[Entry],
    prefix: str,
    delimiter: str,
    is_behind: Callable[[Entry, bytes | None], bool],
) -> list[Entry]:
    """
    Return all entries of a listing, the slow and plain way.

    :param rows: everything in the bucket, in the order in which it is listed
    :param is_behind: whether a row, shown itself or in this common prefix, is behind the place where the listing begins
    """
    shown: list[Entry] = []
    for key, name in rows:
        if not key.startswith(prefix.encode()):
            continue
        common = common_prefix(key, prefix.encode(), delimiter.encode())
        if not is_behind((key, name), common):
            continue
        if common is None:
            shown.append((key, name))
        elif (common, "") not in shown:
            shown.append((common, ""))
    return shown


def from_key(start: str) -> Callable[[Entry, bytes | None], bool]:
    """Return what is behind a key."""
    return lambda row, common: (row[0] if common is None else common) > start.encode()


class ListingModelTests(SynchronousTestCase):
    """One endpoint over an SQLite store for all examples, each with a bucket of its own."""

    def setUp(self) -> None:
        self.rig = Rig()
        self.buckets = 0
        # So that pages of a few entries are made of several fetches, too.
        self.patch(listing, "FETCH_FIRST", 2)

    def bucket(self, *, is_versioned: bool = False) -> str:
        """Return the path of a fresh bucket."""
        self.buckets += 1
        path = f"/bucket-{self.buckets}"
        self.assertEqual(self.rig.ask("PUT", path).status, 200)
        if is_versioned:
            self.assertEqual(self.rig.ask("PUT", f"{path}?versioning", ENABLED).status, 200)
        return path

    def put(self, bucket: str, key: str) -> str:
        """Put an object; return its version."""
        answer = self.rig.put(f"{bucket}/{quote(key, safe='')}", b"x")
        self.assertEqual(answer.status, 200, answer.body)
        return answer.headers.get("x-amz-version-id", "")

    def delete(self, bucket: str, key: str) -> str:
        """Delete an object; return the version of its marker."""
        answer = self.rig.ask("DELETE", f"{bucket}/{quote(key, safe='')}")
        self.assertEqual(answer.status, 204, answer.body)
        return answer.headers.get("x-amz-version-id", "")

    def begin(self, bucket: str, key: str) -> str:
        """Begin an upload; return its id."""
        answer = self.rig.ask("POST", f"{bucket}/{quote(key, safe='')}?uploads")
        upload_id = text_of(answer.body, "UploadId")
        assert upload_id
        return upload_id

    def walked(
        self,
        first: Callable[[], str],
        following: Callable[[Page], str],
        size: int,
        between: Callable[[], None] = lambda: None,
    ) -> list[Entry]:
        """
        Return the entries of all pages, each of which must be full but the last.

        :param following: what asks for the page behind one
        :param between: is called between two pages
        """
        found: list[Entry] = []
        target = first()
        for _ in range(PAGES_MOST):
            shown = page(self.rig, target)
            self.assertLessEqual(len(shown.entries), size)
            found += shown.entries
            if not shown.is_truncated:
                return found
            self.assertEqual(len(shown.entries), size)
            between()
            target = following(shown)
        self.fail("a listing without an end")

    # -- objects -----------------------------------------------------------------------------------------------------

    def walk_v2(
        self,
        bucket: str,
        prefix: str,
        delimiter: str,
        start: str,
        size: int,
        between: Callable[[], None] = lambda: None,
    ) -> list[Entry]:
        """ListObjectsV2 by its tokens."""
        base = f"{bucket}?list-type=2&{query(prefix=prefix, delimiter=delimiter, max_keys=size)}"

        def following(shown: Page) -> str:
            self.assertEqual(shown.text("KeyCount"), str(len(shown.entries)))
            token = shown.text("NextContinuationToken")
            self.assertTrue(token)
            return f"{base}&{query(continuation_token=token, start_after=start)}"

        return self.walked(lambda: f"{base}&{query(start_after=start)}", following, size, between)

    def walk_v1(
        self,
        bucket: str,
        prefix: str,
        delimiter: str,
        start: str,
        size: int,
        between: Callable[[], None] = lambda: None,
    ) -> list[Entry]:
        """ListObjects by its markers: NextMarker with a delimiter, the last key without."""
        base = f"{bucket}?{query(prefix=prefix, delimiter=delimiter, max_keys=size)}"

        def following(shown: Page) -> str:
            marker = decoded(shown.text("NextMarker"))
            self.assertEqual(bool(marker), bool(delimiter))
            last = shown.entries[-1][0]
            self.assertIn(marker, (b"", last))
            return f"{base}&{query(marker=last.decode())}"

        return self.walked(lambda: f"{base}&{query(marker=start)}", following, size, between)

    @settings(max_examples=EXAMPLES)
    @given(st.sets(KEYS, max_size=18), PREFIXES, DELIMITERS, STARTS, SIZES)
    def test_objects(self, keys: set[str], prefix: str, delimiter: str, start: str, size: int) -> None:
        """Both versions show what the model shows, once and in order, whatever the page."""
        bucket = self.bucket()
        for key in keys:
            self.put(bucket, key)
        rows = [(key, "") for key in sorted(key.encode() for key in keys)]
        expected = modelled(rows, prefix, delimiter, from_key(start))
        self.assertEqual(self.walk_v2(bucket, prefix, delimiter, start, size), expected)
        self.assertEqual(self.walk_v1(bucket, prefix, delimiter, start, size), expected)

    @settings(max_examples=EXAMPLES)
    @given(
        st.sets(KEYS, min_size=2, max_size=10),
        st.lists(st.tuples(st.booleans(), KEYS), max_size=20),
        PREFIXES,
        DELIMITERS,
        st.integers(1, 3),
        st.booleans(),
    )
    def test_objects_that_come_and_go(
        self,
        keys: set[str],
        changes: list[tuple[bool, str]],
        prefix: str,
        delimiter: str,
        size: int,
        is_v2: bool,
    ) -> None:
        """What is there all the time is shown once, whatever is put and deleted between the pages; nothing is shown twice."""
        bucket = self.bucket()
        for key in keys:
            self.put(bucket, key)
        standing, ever, coming = set(keys), set(keys), list(changes)

        def between() -> None:
            for is_put, key in coming[:2]:
                if is_put:
                    self.put(bucket, key)
                    ever.add(key)
                else:
                    self.delete(bucket, key)
                    standing.discard(key)
            del coming[:2]

        walk = self.walk_v2 if is_v2 else self.walk_v1
        shown = [key for key, _ in walk(bucket, prefix, delimiter, "", size, between)]
        self.assertEqual(shown, sorted(set(shown)))
        for those, check in ((standing, self.assertLessEqual), (ever, self.assertGreaterEqual)):
            rows = [(key.encode(), "") for key in those]
            check({entry for entry, _ in modelled(rows, prefix, delimiter, lambda *_: True)}, set(shown))

    # -- versions ----------------------------------------------------------------------------------------------------

    def fill_versions(self, bucket: str, steps: Sequence[tuple[bool, str]]) -> list[Entry]:
        """Put and delete; return versions and markers as they are listed: by key, the newest first."""
        made: dict[bytes, list[str]] = {}
        for is_put, key in steps:
            step = self.put if is_put else self.delete
            made.setdefault(key.encode(), []).insert(0, step(bucket, key))
        return [(key, version) for key in sorted(made) for version in made[key]]

    def walk_versions(
        self,
        bucket: str,
        prefix: str,
        delimiter: str,
        start: tuple[str, str],
        size: int,
        between: Callable[[], None] = lambda: None,
    ) -> list[Entry]:
        """ListObjectVersions by both of its markers."""
        base = f"{bucket}?versions&{query(prefix=prefix, delimiter=delimiter, max_keys=size)}"

        def following(shown: Page) -> str:
            marker = decoded(shown.text("NextKeyMarker")).decode()
            self.assertTrue(marker)
            return f"{base}&{query(key_marker=marker, version_id_marker=shown.text('NextVersionIdMarker'))}"

        first = f"{base}&{query(key_marker=start[0], version_id_marker=start[1])}"
        return self.walked(lambda: first, following, size, between)

    @settings(max_examples=EXAMPLES)
    @given(
        st.lists(st.tuples(st.booleans(), KEYS), max_size=14),
        PREFIXES,
        DELIMITERS,
        STARTS,
        st.integers(0, 20),
        SIZES,
    )
    def test_versions(
        self, steps: list[tuple[bool, str]], prefix: str, delimiter: str, start: str, nth: int, size: int
    ) -> None:
        """Versions and markers are shown as the model shows them, from any key and from any version of a key."""
        bucket = self.bucket(is_versioned=True)
        rows = self.fill_versions(bucket, steps)
        expected = modelled(rows, prefix, delimiter, from_key(start))
        self.assertEqual(
            self.ordered(self.walk_versions(bucket, prefix, delimiter, (start, ""), size)), expected
        )
        if not rows:
            return
        at = nth % len(rows)
        key, version = rows[at]

        def is_behind(row: Entry, common: bytes | None) -> bool:
            return rows.index(row) > at if common is None else common > key

        expected = modelled(rows, prefix, delimiter, is_behind)
        found = self.walk_versions(bucket, prefix, delimiter, (key.decode(), version), size)
        self.assertEqual(self.ordered(found), expected)

    def ordered(self, entries: list[Entry]) -> list[Entry]:
        """Return entries, of which no page has shown one before another of a smaller key."""
        self.assertEqual([key for key, _ in entries], sorted(key for key, _ in entries))
        return entries

    @settings(max_examples=EXAMPLES)
    @given(
        st.lists(st.tuples(st.booleans(), KEYS), min_size=2, max_size=10),
        st.lists(st.tuples(st.booleans(), KEYS), max_size=12),
        DELIMITERS,
        st.integers(1, 3),
    )
    def test_versions_that_come(
        self, steps: list[tuple[bool, str]], changes: list[tuple[bool, str]], delimiter: str, size: int
    ) -> None:
        """Versions that are there all the time are shown once, whatever comes between the pages."""
        bucket = self.bucket(is_versioned=True)
        rows = self.fill_versions(bucket, steps)
        coming = list(changes)

        def between() -> None:
            for is_put, key in coming[:2]:
                (self.put if is_put else self.delete)(bucket, key)
            del coming[:2]

        shown = self.walk_versions(bucket, "", delimiter, ("", ""), size, between)
        self.assertEqual(len(shown), len(set(shown)))
        self.assertLessEqual(set(modelled(rows, "", delimiter, lambda *_: True)), set(shown))

    # -- uploads -----------------------------------------------------------------------------------------------------

    def walk_uploads(
        self,
        bucket: str,
        prefix: str,
        delimiter: str,
        start: tuple[str, str],
        size: int,
        between: Callable[[], None] = lambda: None,
    ) -> list[Entry]:
        """ListMultipartUploads by both of its markers."""
        base = f"{bucket}?uploads&{query(prefix=prefix, delimiter=delimiter, max_uploads=size)}"

        def following(shown: Page) -> str:
            marker = decoded(shown.text("NextKeyMarker")).decode()
            self.assertTrue(marker)
            return f"{base}&{query(key_marker=marker, upload_id_marker=shown.text('NextUploadIdMarker'))}"

        first = f"{base}&{query(key_marker=start[0], upload_id_marker=start[1])}"
        return self.walked(lambda: first, following, size, between)

    @settings(max_examples=EXAMPLES)
    @given(st.lists(KEYS, max_size=18), PREFIXES, DELIMITERS, STARTS, st.integers(0, 20), SIZES)
    def test_uploads(
        self, keys: list[str], prefix: str, delimiter: str, start: str, nth: int, size: int
    ) -> None:
        """Uploads are shown as the model shows them, by key and by id, from any key and from any upload of a key."""
        bucket = self.bucket()
        rows = sorted((key.encode(), self.begin(bucket, key)) for key in keys)
        expected = modelled(rows, prefix, delimiter, from_key(start))
        self.assertEqual(self.walk_uploads(bucket, prefix, delimiter, (start, ""), size), expected)
        if not rows:
            return
        key, upload_id = rows[nth % len(rows)]

        def is_behind(row: Entry, common: bytes | None) -> bool:
            return row > (key, upload_id) if common is None else common > key

        expected = modelled(rows, prefix, delimiter, is_behind)
        found = self.walk_uploads(bucket, prefix, delimiter, (key.decode(), upload_id), size)
        self.assertEqual(found, expected)

    @settings(max_examples=EXAMPLES)
    @given(
        st.lists(KEYS, min_size=2, max_size=10),
        st.lists(KEYS, max_size=8),
        st.sets(st.integers(0, 9), max_size=6),
        DELIMITERS,
        st.integers(1, 3),
    )
    def test_uploads_that_come_and_go(
        self, keys: list[str], coming: list[str], going: set[int], delimiter: str, size: int
    ) -> None:
        """Uploads that are there all the time are shown once, whatever is begun and aborted between the pages."""
        bucket = self.bucket()
        rows = [(key.encode(), self.begin(bucket, key)) for key in keys]
        ending = [rows[number] for number in sorted(going) if number < len(rows)]
        standing = sorted(set(rows) - set(ending))
        comes, ends = list(coming), list(ending)

        def between() -> None:
            for key in comes[:1]:
                self.begin(bucket, key)
            for raw_key, upload_id in ends[:1]:
                target = f"{bucket}/{quote(raw_key, safe='')}?uploadId={upload_id}"
                self.assertEqual(self.rig.ask("DELETE", target).status, 204)
            del comes[:1], ends[:1]

        shown = self.walk_uploads(bucket, "", delimiter, ("", ""), size, between)
        self.assertEqual(len(shown), len(set(shown)))
        self.assertLessEqual(set(modelled(standing, "", delimiter, lambda *_: True)), set(shown))
