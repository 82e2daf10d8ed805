"""
The index of a volume: its tree of files, as it lies on the medium.

What it says follows the LTFS format specification's index (creator, generation, location, back pointer, placement policy, highest file
uid, one tree); the notation is JSON instead of XML, since only these programs read it.
"""

import base64
import fnmatch
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

SOFTWARE_VERSION = "2.4.8.4 (Prelim)"
"""What the stand-ins say they are."""
FORMAT_VERSION = "2.4.0"
"""LTFS format specification that the reference implementation follows."""


@dataclass(slots=True)
class Extent:
    """A run of a file's bytes on a partition. ``offset`` is where it begins in the file."""

    offset: int
    partition: str
    block: int
    byte: int
    count: int

    @property
    def end(self) -> int:
        """Return the file offset behind it."""
        return self.offset + self.count


@dataclass(slots=True, kw_only=True, eq=False)
class Node:
    """One file, directory or symbolic link. Times are nanoseconds since the epoch: create, modify, access, change, backup."""

    uid: int
    name: str
    kind: str
    times: list[int]
    read_only: bool = False
    attributes: dict[str, bytes] = field(default_factory=dict)
    children: dict[str, "Node"] = field(default_factory=dict)
    parent: "Node | None" = None
    size: int = 0
    extents: list[Extent] = field(default_factory=list)
    target: str = ""
    open_count: int = 0
    failed_write: int = 0
    accepted: int = 0
    synced: bool = False
    linked: bool = True

    def walk(self) -> Iterator["Node"]:
        """Yield this node and all below it."""
        yield self
        for child in self.children.values():
            yield from child.walk()


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementPolicy:
    """Which files belong on the index partition: at most so many bytes, and one of the name patterns (none: any name)."""

    size_bytes: int = 0
    names: tuple[str, ...] = ()

    def wants(self, node: Node) -> bool:
        """Tell whether a file belongs on the index partition."""
        fits = node.kind == "file" and 0 < node.size <= self.size_bytes
        return fits and (
            not self.names or any(fnmatch.fnmatchcase(node.name, pattern) for pattern in self.names)
        )


def parse_rules(text: str) -> PlacementPolicy:
    """
    Read ``size=64M/name=*.manifest:*.json``.

    :raise ValueError: when it says anything else.
    """
    size = 0
    names: tuple[str, ...] = ()
    for position, part in enumerate(text.split("/")):
        key, _, value = part.partition("=")
        if position == 0 and key.lower() == "size" and value:
            unit = {"K": 1024, "M": 1024**2, "G": 1024**3}.get(value[-1].upper(), 1)
            size = int(value if unit == 1 else value[:-1]) * unit
        elif position == 1 and key.lower() == "name" and value:
            names = tuple(value.split(":"))
        else:
            raise ValueError(f"cannot read the rule {text!r}")
    return PlacementPolicy(size_bytes=size, names=names)


@dataclass(slots=True, kw_only=True)
class Index:
    """Everything an index says."""

    volume_uuid: str
    generation: int
    updated_at: int
    partition: str
    block: int
    previous: list[Any] | None
    highest_uid: int
    policy: PlacementPolicy | None
    lock_state: int
    comment: str
    root: Node

    def encoded(self) -> bytes:
        """Return the bytes for the medium."""
        document = {
            "ltfsindex": FORMAT_VERSION,
            "creator": f"coldstore-vtl {SOFTWARE_VERSION}",
            "volumeuuid": self.volume_uuid,
            "generationnumber": self.generation,
            "updatetime": self.updated_at,
            "location": [self.partition, self.block],
            "previousgenerationlocation": self.previous,
            "highestfileuid": self.highest_uid,
            "dataplacementpolicy": asdict(self.policy) if self.policy else None,
            "volumelockstate": self.lock_state,
            "commitmessage": self.comment,
            "directory": _encoded(self.root),
        }
        return json.dumps(document, separators=(",", ":")).encode("ascii")


def decode_index(payload: bytes) -> Index:
    """Read an index. Raises ``ValueError`` for bytes that are none."""
    try:
        document = json.loads(payload)
        policy = document["dataplacementpolicy"]
        return Index(
            volume_uuid=document["volumeuuid"],
            generation=document["generationnumber"],
            updated_at=document["updatetime"],
            partition=document["location"][0],
            block=document["location"][1],
            previous=document["previousgenerationlocation"],
            highest_uid=document["highestfileuid"],
            policy=PlacementPolicy(size_bytes=policy["size_bytes"], names=tuple(policy["names"]))
            if policy
            else None,
            lock_state=document["volumelockstate"],
            comment=document["commitmessage"],
            root=_decoded(document["directory"], None),
        )
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"no index: {error!r}") from error


def _encoded(node: Node) -> dict[str, Any]:
    record: dict[str, Any] = {"n": node.name, "u": node.uid, "k": node.kind, "t": node.times}
    if node.read_only:
        record["r"] = 1
    if node.attributes:
        record["x"] = {
            name: base64.b64encode(value).decode("ascii") for name, value in node.attributes.items()
        }
    if node.kind == "directory":
        record["c"] = [_encoded(child) for child in node.children.values()]
    elif node.kind == "symlink":
        record["l"] = node.target
    else:
        record["s"] = node.size
        record["e"] = [[e.offset, e.partition, e.block, e.byte, e.count] for e in node.extents]
    return record


def _decoded(record: dict[str, Any], parent: Node | None) -> Node:
    node = Node(
        uid=record["u"], name=record["n"], kind=record["k"], times=record["t"], parent=parent, synced=True
    )
    node.read_only = bool(record.get("r"))
    node.attributes = {name: base64.b64decode(value) for name, value in record.get("x", {}).items()}
    node.children = {child["n"]: _decoded(child, node) for child in record.get("c", ())}
    node.target = record.get("l", "")
    node.size = record.get("s", 0)
    node.extents = [Extent(*extent) for extent in record.get("e", ())]
    return node
