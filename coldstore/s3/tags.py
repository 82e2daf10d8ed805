"""
Tags of objects and buckets: how they are written in headers and documents, and which there can be. Pure.

Source: S3 User Guide, "Categorizing your objects using tags"; API Reference, PutObjectTagging, PutBucketTagging.
"""

import unicodedata
from collections.abc import Iterable
from itertools import pairwise

from coldstore.model.objects import TAGGING, ObjectVersion, Pairs
from coldstore.model.tags import tags_of, tags_text
from coldstore.s3.errors import S3Error, shown
from coldstore.s3.fields import HeaderFields, percent_decoded
from coldstore.s3.xml import Element, MalformedDocument, Node, node, read_document

OBJECT_TAGS_MAX = 10
BUCKET_TAGS_MAX = 50
KEY_MAX, VALUE_MAX = 128, 256
"""In characters."""
DOCUMENT_MAX_BYTES = 1024 * 1024
_MARKS = frozenset("+-=._:/@")
_CATEGORIES = "LNZ"
"""Letters, numbers and separators, by the first letter of their category in Unicode."""
_SYSTEM = "aws:"


def checked_tags(pairs: Iterable[tuple[str, str]], *, most: int) -> Pairs:
    """
    Return tags sorted by name.

    :param most: how many there may be
    :raise S3Error: InvalidTag
    """
    tags = tuple(sorted(pairs))
    if len(tags) > most:
        raise S3Error("InvalidTag", f"There are {len(tags)} tags, and there can be {most} at most.")
    for key, value in tags:
        if not 1 <= len(key) <= KEY_MAX or not _is_text(key):
            raise S3Error(
                "InvalidTag",
                f"The TagKey you have provided is invalid: {shown(key)}; a key has 1 to {KEY_MAX} letters, digits, spaces and + - = . _ : / @",
                details={"TagKey": key},
            )
        if key.startswith(_SYSTEM):
            raise S3Error(
                "InvalidTag",
                f"System tags cannot be added by requester: no key begins with {_SYSTEM}, and {shown(key)} does",
                details={"TagKey": key},
            )
        if len(value) > VALUE_MAX or not _is_text(value):
            raise S3Error(
                "InvalidTag",
                f"The TagValue you have provided is invalid: {shown(value)} of {shown(key)}; a value has up to {VALUE_MAX} letters, digits, spaces and"
                " + - = . _ : / @",
                details={"TagKey": key, "TagValue": value},
            )
    for (key, _), (other, _) in pairwise(tags):
        if key == other:
            raise S3Error(
                "InvalidTag",
                f"Cannot provide multiple Tags with the same key: {shown(key)}",
                details={"TagKey": key},
            )
    return tags


def _is_text(text: str) -> bool:
    return all(character in _MARKS or unicodedata.category(character)[0] in _CATEGORIES for character in text)


def parse_tagging(document: bytes, *, most: int = OBJECT_TAGS_MAX) -> Pairs:
    """
    Read a ``Tagging`` document, the body of a request or a field of a form.

    :param most: how many tags there may be
    :raise S3Error: InvalidTag
    :raise MalformedDocument: for anything that is no such document
    """
    tag_set = read_document(document, "Tagging", limit_bytes=DOCUMENT_MAX_BYTES).one("TagSet")
    if tag_set is None:
        raise MalformedDocument("Tagging has no TagSet")
    return checked_tags(map(_pair, tag_set.all("Tag")), most=most)


def _pair(tag: Element) -> tuple[str, str]:
    key, value = tag.text_of("Key"), tag.text_of("Value")
    if key is None or value is None:
        raise MalformedDocument("a Tag has no Key or no Value")
    return key, value


def tagging_node(tags: Pairs) -> Node:
    """Return the document that shows tags."""
    shown = [node("Tag", node("Key", key), node("Value", value)) for key, value in tags]
    return node("Tagging", node("TagSet", *shown))


def header_tags(headers: HeaderFields) -> Pairs:
    """
    Return the tags that a writer gives with ``x-amz-tagging``: names and values as in a query.

    :raise S3Error: InvalidArgument for what is not URL-encoded UTF-8, InvalidTag
    """
    text = headers.get(TAGGING)
    if text is None:
        return ()
    try:
        pairs = [
            tuple(percent_decoded(part.encode()).decode("utf-8") for part in (key, value))
            for key, _, value in (item.partition("=") for item in text.replace("+", " ").split("&") if item)
        ]
    except (S3Error, UnicodeDecodeError):
        raise S3Error(
            "InvalidArgument",
            f"The header '{TAGGING}' shall be encoded as UTF-8 then URLEncoded URL query parameters without tag name duplicates.",
            details={"ArgumentName": TAGGING, "ArgumentValue": text},
        ) from None
    return checked_tags(((key, value) for key, value in pairs), most=OBJECT_TAGS_MAX)


def with_tags(headers: Pairs, tags: Pairs) -> Pairs:
    """Return stored headers with these tags of the writer among them, in place of others; sorted by name."""
    kept = [pair for pair in headers if pair[0] != TAGGING]
    if tags:
        kept.append((TAGGING, tags_text(tags)))
    return tuple(sorted(kept))


def tagging_count(version: ObjectVersion) -> dict[str, str]:
    """Return the field that says how many tags a version has; nothing when it has none."""
    tags = tags_of(version)
    return {"x-amz-tagging-count": str(len(tags))} if tags else {}
