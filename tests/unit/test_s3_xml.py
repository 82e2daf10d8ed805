"""Documents: what the reader refuses, and what the writer makes of awkward text."""

import time
from xml.etree import ElementTree

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from coldstore.s3.xml import (
    DEPTH_LIMIT,
    Element,
    MalformedDocument,
    document,
    node,
    read_document,
    url_encoded,
)


def tree(element: Element) -> object:
    """Return an element as plain tuples."""
    return (element.name, element.text, [tree(child) for child in element.children])


class ReaderTests(SynchronousTestCase):
    """Reading request documents."""

    def assertRefused(self, body: bytes, root: str = "R") -> None:
        """Read what must not be read."""
        with self.assertRaises(MalformedDocument):
            read_document(body, root)

    def test_dialects(self) -> None:
        """With or without declaration and namespace, with any prefix and quoting, the same document is read."""
        expected = ("R", "", [("ETag", '"x"', []), ("Days", "3", [])])
        for body in (
            b'<R><ETag>"x"</ETag><Days>3</Days></R>',
            b'<?xml version="1.0" encoding="UTF-8"?>\n<R xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            b"<ETag>&quot;x&quot;</ETag>\n  <Days>3</Days></R>\n",
            b'<a:R xmlns:a="http://s3.amazonaws.com/doc/2006-03-01/"><a:ETag>&#34;x&#34;</a:ETag><a:Days>3</a:Days></a:R>',
            b"<R a='1'><!-- c --><ETag><![CDATA[\"x\"]]></ETag><Days>3</Days></R>",
            '<?xml version="1.0" encoding="UTF-16"?><R><ETag>"x"</ETag><Days>3</Days></R>'.encode("utf-16"),
        ):
            self.assertEqual(tree(read_document(body, "R")), expected, body)

    def test_text(self) -> None:
        """References and awkward text arrive as they were meant."""
        body = "<R><Key>a&#10;b&#13;c&amp;&lt; é \U0001f4fc</Key></R>".encode()
        self.assertEqual(read_document(body, "R").text_of("Key"), "a\nb\rc&< é \U0001f4fc")

    def test_entity_bombs(self) -> None:
        """Document types, entities and instructions are refused before they cost anything."""
        levels = b"".join(b'<!ENTITY e%d "%s">' % (i + 1, b"&e%d;" % i * 10) for i in range(9))
        for body in (
            b'<!DOCTYPE R [<!ENTITY e0 "x">' + levels + b"]><R>&e9;</R>",
            b'<!DOCTYPE R [<!ENTITY a SYSTEM "file:///etc/passwd">]><R>&a;</R>',
            b'<!DOCTYPE R [<!ENTITY % p SYSTEM "http://127.0.0.1/x">%p;]><R/>',
            b'<!DOCTYPE R SYSTEM "http://127.0.0.1/x"><R/>',
            b"<!DOCTYPE R><R/>",
            b"<R>&undefined;</R>",
            b"<?php x?><R/>",
            b"<R><?x y?></R>",
        ):
            self.assertRefused(body)

    def test_malformed(self) -> None:
        """What is not well-formed, or another document, is refused."""
        for body in (
            b"",
            b"  ",
            b"<R>",
            b"<R></S>",
            b"<S/>",
            b"<R/><R/>",
            b"<R/>x",
            b"<R>text<A/></R>",
            b"<R><A/>text</R>",
            b"<R a=1/>",
            b"<R>\x00</R>",
            b"<R>&#1;</R>",
            b"<R>\xff</R>",
            b'<?xml version="1.0" encoding="no-such"?><R/>',
        ):
            self.assertRefused(body)

    def test_limits(self) -> None:
        """Length, depth and number of elements are limited."""
        with self.assertRaises(MalformedDocument):
            read_document(b"<R>" + b" " * 100 + b"</R>", "R", limit_bytes=100)
        deep = DEPTH_LIMIT - 1
        read_document(b"<R>" + b"<a>" * deep + b"</a>" * deep + b"</R>", "R")
        self.assertRefused(b"<R>" + b"<a>" * (deep + 1) + b"</a>" * (deep + 1) + b"</R>")
        self.assertRefused(b"<R>" + b"<a/>" * 160_000 + b"</R>")

    def test_white_space_costs_once(self) -> None:
        """White space before many elements is looked at once: half a megabyte of it takes no time to speak of."""
        body = b"<Delete>" + b" " * 500_000 + b"<a/>" * 120_000 + b"</Delete>"
        began = time.process_time()
        self.assertEqual(len(read_document(body, "Delete").children), 120_000)
        self.assertLess(time.process_time() - began, 5.0)

    def test_long_names(self) -> None:
        """Are not repeated in full."""
        name = b"x" * 9000
        for body in (b"<R><%s>t<a/></%s></R>", b"<R><%s><a/>t</%s></R>"):
            refused = self.assertRaises(MalformedDocument, read_document, body % (name, name), "R")
            self.assertLess(len(str(refused)), 500)

    def test_several(self) -> None:
        """A child that may come once is refused when it comes twice, or is not text."""
        root = read_document(b"<R><A>1</A><A>2</A><B><C/></B></R>", "R")
        self.assertEqual([child.text for child in root.all("A")], ["1", "2"])
        self.assertIsNone(root.one("D"))
        self.assertIsNone(root.text_of("D"))
        for name in ("A", "B"):
            with self.assertRaises(MalformedDocument):
                root.text_of(name)

    def test_alternatives(self) -> None:
        """A document may be allowed several roots."""
        self.assertEqual(read_document(b"<B/>", ("A", "B")).name, "B")

    @settings(max_examples=300, deadline=None)
    @given(st.one_of(st.binary(max_size=200), st.text("<>/R!&;[]?x\"'= -", max_size=80).map(str.encode)))
    def test_nonsense(self, body: bytes) -> None:
        """Anything is read or refused, and nothing else happens."""
        try:
            self.assertEqual(read_document(body, "R").name, "R")
        except MalformedDocument as refused:
            self.assertTrue(str(refused))


class WriterTests(SynchronousTestCase):
    """Writing answers."""

    def test_shape(self) -> None:
        """Nodes nest, None is left out, truths and numbers are spelt as S3 spells them."""
        written = document(
            node("R", node("A", 1), None, node("B", True), node("C"), node("D", node("E", "x")))
        )
        self.assertEqual(
            written,
            b'<?xml version="1.0" encoding="UTF-8"?>\n<R xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            b"<A>1</A><B>true</B><C></C><D><E>x</E></D></R>",
        )

    def test_without_namespace(self) -> None:
        """A document may have no namespace, and attributes."""
        self.assertTrue(
            document(node("R", "x", attributes=(("a", '"<'),)), namespace=None).endswith(
                b'<R a="&quot;&lt;">x</R>'
            )
        )

    def test_control_characters(self) -> None:
        """What XML cannot carry raw is sent as a reference, carriage returns included."""
        written = document(node("R", "a\x01\x1f\r\n\t\x7f&<>"), namespace=None)
        self.assertTrue(written.endswith(b"<R>a&#x1;&#x1f;&#xd;\n\t&#x7f;&amp;&lt;&gt;</R>"))

    @settings(max_examples=200, deadline=None)
    @given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="".join(map(chr, range(9))))))
    def test_read_back(self, text: str) -> None:
        """Whatever XML can carry is read back as it was."""
        text = "".join(letter for letter in text if letter in "\t\n\r" or letter >= " ")
        text = text.replace("\ufffe", "").replace("\uffff", "")
        self.assertEqual(ElementTree.fromstring(document(node("R", text))).text or "", text)
        self.assertEqual(read_document(document(node("R", text)), "R").text, text)

    def test_url_encoding(self) -> None:
        """Keys in encoding-type=url keep slashes and have no bare plus or space."""
        self.assertEqual(url_encoded("a b+c/é\x01%~-_."), "a%20b%2Bc/%C3%A9%01%25~-_.")
