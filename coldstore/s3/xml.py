"""
XML as S3 speaks it: a strict reader of small request documents, and a writer of answers.

The reader knows elements and text and nothing else: a document type, an entity, a processing instruction, a depth, a
number of elements or a size beyond the limits is refused, so no document costs more than its own length. Element
names may have S3's namespace or none.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import quote
from xml.parsers import expat

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
SCHEMA_INSTANCE = "http://www.w3.org/2001/XMLSchema-instance"
DOCUMENT_LIMIT_BYTES = 1024 * 1024
"""Most a request document may have where nothing else is said; larger ones name their own limit."""
DEPTH_LIMIT = 16
ELEMENTS_LIMIT = 150_000
"""A CompleteMultipartUpload of 10,000 parts with three checksums each has 60,001 elements."""
_SHOWN_MAX = 100
"""Characters of an element's name that a message repeats at most."""


class MalformedDocument(Exception):
    """The bytes are not a document of the kind that was asked for; the message says why, and quotes a value at most."""


class Element:
    """One element of a request document: its ``name`` without namespace, its ``text`` and its ``children``."""

    __slots__ = ("children", "name", "text")

    def __init__(self, name: str) -> None:
        self.name = name
        self.text = ""
        self.children: list[Element] = []

    def all(self, name: str) -> "list[Element]":
        """Return the children called ``name``, in order."""
        return [child for child in self.children if child.name == name]

    def one(self, name: str) -> "Element | None":
        """
        Return the only child called ``name``, or None.

        :raise MalformedDocument: when there are several
        """
        found = self.all(name)
        if len(found) > 1:
            raise MalformedDocument(f"{self.name} has several {name}")
        return found[0] if found else None

    def text_of(self, name: str) -> str | None:
        """
        Return the text of the only child called ``name``, or None without such a child.

        :raise MalformedDocument: when there are several, or it has children itself
        """
        child = self.one(name)
        if child is None:
            return None
        if child.children:
            raise MalformedDocument(f"{name} holds elements, not text")
        return child.text


class _Builder:
    """Collects what expat reports into ``Element`` values, refusing what S3's documents never have."""

    def __init__(self) -> None:
        self.root: Element | None = None
        self._open: list[Element] = []
        self._count = 0

    def start(self, full_name: str, attributes: dict[str, str]) -> None:
        """Open an element."""
        self._count += 1
        if self._count > ELEMENTS_LIMIT:
            raise MalformedDocument("too many elements")
        if len(self._open) >= DEPTH_LIMIT:
            raise MalformedDocument("elements are nested too deeply")
        element = Element(full_name.rpartition(" ")[2])
        if self._open:
            outer = self._open[-1]
            if outer.text.strip():
                raise _mixed(outer)
            outer.text = ""  # or the same white space would be looked at again for every child
            outer.children.append(element)
        else:
            self.root = element
        self._open.append(element)

    def end(self, full_name: str) -> None:
        """Close the innermost element."""
        closed = self._open.pop()
        if closed.children:
            if closed.text.strip():
                raise _mixed(closed)
            closed.text = ""

    def characters(self, text: str) -> None:
        """Add to the text of the innermost element."""
        self._open[-1].text += text

    def refuse(self, *_: object) -> int:
        """Refuse the construct that expat met."""
        raise MalformedDocument("document types, entities and processing instructions are not accepted")


def _mixed(element: Element) -> MalformedDocument:
    return MalformedDocument(f"{element.name[:_SHOWN_MAX]} mixes text and elements")


def read_document(
    body: bytes, root: str | Iterable[str], *, limit_bytes: int = DOCUMENT_LIMIT_BYTES
) -> Element:
    """
    Read a request document.

    :param root: the name, or the names, that the outermost element may have
    :param limit_bytes: refuse anything longer
    :raise MalformedDocument: for anything but a well-formed document of elements and text under such a root
    """
    if len(body) > limit_bytes:
        raise MalformedDocument(f"the document is longer than {limit_bytes} bytes")
    builder = _Builder()
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.characters
    parser.StartDoctypeDeclHandler = builder.refuse
    parser.EntityDeclHandler = builder.refuse
    parser.ExternalEntityRefHandler = builder.refuse
    parser.SkippedEntityHandler = builder.refuse
    parser.ProcessingInstructionHandler = builder.refuse
    try:
        parser.Parse(body, True)
    except (expat.ExpatError, ValueError, LookupError) as error:  # LookupError: an encoding that nobody knows
        raise MalformedDocument(str(error)) from None
    roots = {root} if isinstance(root, str) else set(root)
    if builder.root is None or builder.root.name not in roots:
        raise MalformedDocument(f"the document is no {' or '.join(sorted(roots))}")
    return builder.root


@dataclass(frozen=True, slots=True)
class Written:
    """Elements that are texts already, escaped: for answers that have thousands of them."""

    texts: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One element of an answer: nodes in order, or text, and attributes in order."""

    name: str
    content: "str | tuple[Node | Written, ...]"
    attributes: tuple[tuple[str, str], ...] = ()


def node(
    name: str,
    *content: "Node | Written | str | int | bool | None",
    attributes: tuple[tuple[str, str], ...] = (),
) -> Node:
    """
    Return an element with the given content: either nodes, of which None is left out, or one text, number or truth.

    ``node("Owner", node("ID", user_id), None)``, ``node("MaxKeys", 1000)``, ``node("IsTruncated", False)``.
    """
    given = [item for item in content if item is not None]
    nodes = tuple(item for item in given if isinstance(item, Node | Written))
    if nodes:
        assert len(nodes) == len(given), f"{name} mixes text and elements"
        return Node(name=name, content=nodes, attributes=attributes)
    return Node(name=name, content="".join(_text(item) for item in given), attributes=attributes)


def _text(value: "Node | Written | str | int | bool") -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


_ESCAPES = {
    ord("&"): "&amp;",
    ord("<"): "&lt;",
    ord(">"): "&gt;",
    ord('"'): "&quot;",
    # XML 1.0 cannot carry most control characters at all; S3 sends them as references all the same, and clients that
    # list keys holding them ask for encoding-type=url. A raw CR would be read back as LF.
    **{code: f"&#x{code:x};" for code in range(0x20) if code not in (0x09, 0x0A)},
    0x7F: "&#x7f;",
    0xFFFE: "&#xfffe;",
    0xFFFF: "&#xffff;",
}


_SPECIAL = re.compile(f"[{re.escape(''.join(map(chr, _ESCAPES)))}]")
_UNRESERVED = re.compile("[A-Za-z0-9_.~/-]*")


def escaped(text: str) -> str:
    """Return ``text`` so that it can stand in an element or a quoted attribute."""
    return text.translate(_ESCAPES) if _SPECIAL.search(text) else text


_UNREADABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
"""What is no ``Char`` of XML 1.0 (section 2.2), escaped or not."""


def readable(text: str) -> str:
    """Return ``text`` with a mark in the place of what no parser would take."""
    return _UNREADABLE.sub("\ufffd", text)


def all_escaped(texts: Sequence[str]) -> Sequence[str]:
    """Return what ``escaped`` makes of each: many at once are quicker, since most texts have nothing to escape."""
    return [escaped(text) for text in texts] if _SPECIAL.search("".join(texts)) else texts


def document(root: Node, *, namespace: str | None = NAMESPACE) -> bytes:
    """Return the UTF-8 bytes of an answer document with its declaration; ``namespace`` becomes the default one."""
    if namespace is not None:
        root = Node(name=root.name, content=root.content, attributes=(("xmlns", namespace), *root.attributes))
    pieces = ['<?xml version="1.0" encoding="UTF-8"?>\n']
    _write(root, pieces)
    return "".join(pieces).encode("utf-8")


def element(written: Node) -> str:
    """Return the text of an element, escaped."""
    pieces: list[str] = []
    _write(written, pieces)
    return "".join(pieces)


def _write(written: Node | Written, pieces: list[str]) -> None:
    if isinstance(written, Written):
        pieces += written.texts
        return
    attributes = "".join(f' {name}="{escaped(value)}"' for name, value in written.attributes)
    if isinstance(written.content, str):
        pieces.append(f"<{written.name}{attributes}>{escaped(written.content)}</{written.name}>")
        return
    pieces.append(f"<{written.name}{attributes}>")
    for child in written.content:
        _write(child, pieces)
    pieces.append(f"</{written.name}>")


def url_encoded(text: bytes | str) -> str:
    """
    Return a key as ``encoding-type=url`` shows it: ``%20`` for a space, ``%2B`` for a plus, ``/`` as it is.

    Clients decode with rules that turn a bare ``+`` into a space, so none may be left.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8")
    return text if _UNRESERVED.fullmatch(text) else quote(text, safe="/")
