"""Names of members are safe to extract, readable, and never the same for two things."""

import unicodedata
from urllib.parse import unquote_to_bytes

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from coldstore.ontape.names import encode_component, member_name, version_tag

awkward_texts = st.text(
    st.one_of(st.sampled_from("a/.%~\\-+\n\0\x7f\u0301\u00e9e长\u202e2EA"), st.characters(codec="utf-8")),
    min_size=1,
    max_size=40,
)
long_texts = st.builds(lambda text, times: (text * times)[:1000], awkward_texts, st.integers(1, 60))
keys = st.one_of(awkward_texts, long_texts).map(
    lambda text: text.encode()[:1024].decode("utf-8", "ignore").encode()
)
keys = keys.filter(bool)


def name_of(key: bytes, tag: str = "v1", bucket: str = "bucket") -> str:
    return member_name(bucket, key, tag)


def decode_component(encoded: str) -> bytes | None:
    """What ``encode_component`` was given, or nothing if the component was cut."""
    if "%+" in encoded:
        return None
    return b"" if encoded == "%-" else unquote_to_bytes(encoded)


class SafetyTests(SynchronousTestCase):
    """What holds for every key."""

    @settings(max_examples=300, deadline=None)
    @given(keys)
    @example(b"/")
    @example(b"//")
    @example(b"../../etc/passwd")
    @example(b"/etc/passwd")
    @example(b"\x01" * 1024)
    @example("长".encode() * 341)
    @example(b"/" * 1024)
    @example("e\u0301".encode() * 341)
    def test_extracts_below(self, key: bytes) -> None:
        """No component is empty, a dot, too long for a file system or has control characters; nothing is absolute."""
        name = member_name("bucket", key, "x" * 36, 99998, 99999)
        components = name.split("/")
        self.assertEqual(components[:2], ["objects", "bucket"])
        for component in components:
            self.assertNotIn(component, ("", ".", ".."))
            self.assertLessEqual(len(component.encode()), 255)
            self.assertNotIn("\\", component)
            self.assertFalse({unicodedata.category(c) for c in component} & {"Cc", "Cs", "Zl", "Zp"})
        self.assertLess(len(name.encode()), 3400)
        for directory in components[:-1]:
            self.assertNotIn("~", directory)
        self.assertEqual(components[-1].count("~"), 2)

    @settings(max_examples=300, deadline=None)
    @given(keys)
    def test_normal_form(self, key: bytes) -> None:
        """A file system that normalises to form C changes no name, so it cannot make two names one."""
        name = name_of(key)
        self.assertEqual(unicodedata.normalize("NFC", name), name)

    @settings(max_examples=300, deadline=None)
    @given(keys)
    def test_decodes(self, key: bytes) -> None:
        """Components that are not cut decode to the key: different keys have different names."""
        path, _, tag = name_of(key).removeprefix("objects/bucket/").rpartition("~")
        self.assertEqual(tag, "v1")
        originals = key.split(b"/")
        encoded = path.split("/")
        self.assertEqual(len(encoded), len(originals))
        for one, original in zip(encoded, originals, strict=True):
            decoded = decode_component(one)
            if decoded is None:
                self.assertGreater(3 * len(original), 200)
            else:
                self.assertEqual(decoded, original)

    @settings(max_examples=100, deadline=None)
    @given(st.lists(keys, unique=True, min_size=2, max_size=30))
    def test_no_collision(self, several: list[bytes]) -> None:
        """Many keys have as many names, and none is a directory of another."""
        names = {name_of(key) for key in several}
        self.assertEqual(len(names), len(several))
        directories = {name.rsplit("/", up)[0] for name in names for up in range(1, name.count("/") + 1)}
        self.assertFalse(names & directories)


class ExamplesTests(SynchronousTestCase):
    """Single decisions."""

    def test_readable(self) -> None:
        """Letters of all scripts, spaces, quotes and pictographs stay as they are."""
        for key in (
            "a b/c.txt",
            'it\'s "x" $y',
            "假期/照片.jpg",
            "\u00e9t\u00e9",
            "\U0001f4fc",
            "\U00020000",
        ):
            self.assertEqual(name_of(key.encode()), f"objects/bucket/{key}~v1")

    def test_encoded(self) -> None:
        """What is not safe is written by its bytes."""
        for key, path in {
            "a%b": "a%25b",
            "a~b": "a%7Eb",
            "a\\b": "a%5Cb",
            "a\nb": "a%0Ab",
            "..": "%2E%2E",
            "./x": "%2E/x",
            "...": "...",
            "a/": "a/%-",
            "//": "%-/%-/%-",
            "e\u0301!": "e%CC%81!",
            "\u202e": "%E2%80%AE",
            "a\u00adb": "a%C2%ADb",
            "\u200d": "%E2%80%8D",
        }.items():
            self.assertEqual(name_of(key.encode()), f"objects/bucket/{path}~v1")

    def test_file_and_directory(self) -> None:
        """The keys ``a``, ``a/`` and ``a/b`` become three files, none of them a directory of another."""
        self.assertEqual(
            [name_of(key) for key in (b"a", b"a/", b"a/b")],
            ["objects/bucket/a~v1", "objects/bucket/a/%-~v1", "objects/bucket/a/b~v1"],
        )

    def test_cut(self) -> None:
        """Long components that differ at their end only still differ, and no character is cut in two."""
        long = "长" * 341
        first, second = encode_component(long + "a"), encode_component(long + "b")
        self.assertNotEqual(first, second)
        self.assertEqual(first.partition("%+")[0], "长" * 55)
        self.assertEqual(encode_component("\x01" * 300).partition("%+")[0], "%01" * 55)

    def test_forged_cut(self) -> None:
        """A key that spells the name of a cut component does not get that name."""
        cut = encode_component("a" * 300)
        self.assertNotEqual(encode_component(cut), cut)

    def test_extents(self) -> None:
        """Extents count from 1 in names, and only where there are several."""
        self.assertEqual(member_name("b", b"k", "v1", 0, 3), "objects/b/k~v1~1of3")
        self.assertRaises(ValueError, member_name, "b", b"k", "v1", 3, 3)
        self.assertRaises(ValueError, member_name, "b", b"k", "v/1")
        self.assertRaises(UnicodeDecodeError, member_name, "b", b"\xff", "v1")

    def test_version_tags(self) -> None:
        """Plain version ids stay; ``null`` is told apart by our own number; others are hashed and cannot be forged."""
        self.assertEqual(
            version_tag("3HL4kqtJlcpXroDTDmJ-rmSpXd3dIbrH", 7), "3HL4kqtJlcpXroDTDmJ-rmSpXd3dIbrH"
        )
        self.assertEqual(version_tag("null", 7), "null-7")
        tags = {
            version_tag(text, 1) for text in ("null", "null-1", "a/b", "a~b", "x" * 37, version_tag("a/b", 1))
        }
        self.assertEqual(len(tags), 6)
        for tag in tags:
            self.assertRegex(tag, r"\A[A-Za-z0-9._-]{1,36}\Z")
