"""
Ownership controls of buckets: whose the objects in one are, and whether it has access control lists. Pure.

Nothing is kept of the default, which is that everything is the bucket owner's. Controls that were removed are kept as such: from then on
each object is its writer's, as in buckets from before there were such controls (S3 User Guide, "Controlling ownership of objects").
"""

import json
from typing import NamedTuple

from coldstore.model.acl import Ownership
from coldstore.s3.errors import S3Error, shown
from coldstore.s3.xml import MalformedDocument, Node, node, read_document

OWNERSHIP_HEADER = "x-amz-object-ownership"
REMOVED = "null"
"""What is kept of controls that were removed."""


class Controls(NamedTuple):
    """Whose the objects in a bucket are; ``is_set`` is false of controls that were removed."""

    ownership: Ownership
    is_set: bool = True


DEFAULT = Controls(Ownership.ENFORCED)


def named_ownership(name: str) -> Ownership:
    """
    Return the ownership of a name.

    :raise S3Error: InvalidArgument
    """
    try:
        return Ownership(name)
    except ValueError:
        raise S3Error(
            "InvalidArgument",
            f"Invalid {OWNERSHIP_HEADER} header: {shown(name)}; there are {', '.join(Ownership)}",
            details={"ArgumentName": OWNERSHIP_HEADER, "ArgumentValue": name},
        ) from None


def parse_ownership(document: bytes) -> Ownership:
    """
    Read an ``OwnershipControls`` document: of one rule.

    :raise MalformedDocument: for anything that is no such document
    """
    root = read_document(document, "OwnershipControls")
    rule = root.one("Rule")
    if rule is None:
        raise MalformedDocument("OwnershipControls has no Rule")
    name = (rule.text_of("ObjectOwnership") or "").strip()
    try:
        return Ownership(name)
    except ValueError:
        raise MalformedDocument(
            f"ObjectOwnership is {shown(name)}, and can be {', '.join(Ownership)}"
        ) from None


def ownership_node(ownership: Ownership) -> Node:
    """Return the document that shows an ownership."""
    return node("OwnershipControls", node("Rule", node("ObjectOwnership", ownership.value)))


def ownership_text(ownership: Ownership) -> str | None:
    """Return what is kept of an ownership: nothing of the default."""
    return None if ownership is Ownership.ENFORCED else json.dumps(ownership.value)


def kept_controls(text: str) -> Controls:
    """Undo ``ownership_text``, and read what is kept of controls that were removed."""
    name = json.loads(text)
    return Controls(Ownership.WRITER, is_set=False) if name is None else Controls(Ownership(name))
