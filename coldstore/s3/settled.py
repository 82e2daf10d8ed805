"""
Writes of configurations that ColdStore has one value of: they succeed when they say what is so, and change nothing.

Tools that manage buckets write defaults unasked, and write them again to undo what they did: no notifications, no logging.
Every other value is refused by its name.
"""

from collections.abc import Mapping
from types import MappingProxyType

from coldstore.s3.api import Operation
from coldstore.s3.errors import SHOWN_MAX, S3Error, shown
from coldstore.s3.unset import DEFAULTS
from coldstore.s3.xml import Element, Node, element, read_document

SETTLED: Mapping[Operation, Node] = MappingProxyType(
    {
        Operation.PUT_BUCKET_ABAC: DEFAULTS[Operation.GET_BUCKET_ABAC],
        Operation.PUT_BUCKET_LOGGING: DEFAULTS[Operation.GET_BUCKET_LOGGING],
        Operation.PUT_BUCKET_NOTIFICATION: DEFAULTS[Operation.GET_BUCKET_NOTIFICATION],
        Operation.PUT_BUCKET_REQUEST_PAYMENT: DEFAULTS[Operation.GET_BUCKET_REQUEST_PAYMENT],
    }
)
"""The one document that each of them takes."""


def check_settled(operation: Operation, document: bytes) -> None:
    """
    Let a document pass that says what is so.

    :raise S3Error: MissingRequestBodyError without a document, NotImplemented for another value, which it names
    :raise MalformedDocument: for anything that is no such document
    """
    expected = SETTLED[operation]
    if not document.strip():
        raise S3Error("MissingRequestBodyError", f"{operation.value} needs a {expected.name} as its body.")
    difference = _difference(read_document(document, expected.name), expected)
    if difference is not None:
        raise S3Error(
            "NotImplemented",
            f"ColdStore does not implement this part of S3: {operation.value} with {difference}; "
            f"what it takes is {element(expected)}",
            resource=operation.value,
        )


def _difference(given: Element, expected: Node) -> str | None:
    """Return the first thing that is given and not expected, or the other way round; None where there is none."""
    if isinstance(expected.content, str):
        if given.children:
            return given.children[0].name[:SHOWN_MAX]
        text = given.text.strip()
        return None if text == expected.content else f"{given.name} {shown(text)}"
    wanted = [child for child in expected.content if isinstance(child, Node)]
    names = [child.name for child in given.children]
    for child in wanted:
        if child.name not in names:
            return f"no {child.name}"
    if names != [child.name for child in wanted]:
        return f"{given.name} of {', '.join(names)[:SHOWN_MAX]}"
    found = (_difference(child, node) for child, node in zip(given.children, wanted, strict=True))
    return next((difference for difference in found if difference is not None), None)
