"""Bundles, their members and their copies on cartridges, with the tables of their lives."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


class BundleState(StrEnum):
    """The life of a bundle."""

    FILLING = "filling"
    """Members are being claimed; nothing was written."""
    FROZEN = "frozen"
    """Members, order and offsets are fixed for ever; copies are being made."""
    ARCHIVED = "archived"
    """Every copy is verified."""
    VOID = "void"
    """Given up before it was frozen; its claims were released."""


class CopyState(StrEnum):
    """The life of one copy of a bundle."""

    PLANNED = "planned"
    WRITING = "writing"
    SYNCED = "synced"
    """Its bytes and the index that names them are on tape."""
    VERIFIED = "verified"
    """Read back past the page cache and equal."""
    LOST = "lost"
    """Was good and is no longer readable, or was to take the place of such a one: the copy count is to be restored."""


class CopyEvent(StrEnum):
    """What happens to a copy."""

    START = "start"
    SYNC = "sync"
    VERIFY = "verify"
    FAIL = "fail"
    LOSE = "lose"
    RENEW = "renew"


COPY_TRANSITIONS: Mapping[tuple[CopyState, CopyEvent], CopyState] = MappingProxyType(
    {
        (CopyState.PLANNED, CopyEvent.START): CopyState.WRITING,
        (CopyState.WRITING, CopyEvent.SYNC): CopyState.SYNCED,
        (CopyState.WRITING, CopyEvent.FAIL): CopyState.PLANNED,
        (CopyState.SYNCED, CopyEvent.VERIFY): CopyState.VERIFIED,
        (CopyState.SYNCED, CopyEvent.FAIL): CopyState.PLANNED,
        (CopyState.VERIFIED, CopyEvent.LOSE): CopyState.LOST,
        (CopyState.WRITING, CopyEvent.LOSE): CopyState.LOST,
        (CopyState.SYNCED, CopyEvent.LOSE): CopyState.LOST,
        (CopyState.LOST, CopyEvent.START): CopyState.WRITING,
        (CopyState.LOST, CopyEvent.RENEW): CopyState.PLANNED,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """The unit written to tape. ``sha256`` and ``size_bytes`` are of the tar; the hash is known after the first copy."""

    bundle_id: str
    state: BundleState
    pools: tuple[str, ...]
    created_at: float
    epoch: int
    member_count: int
    size_bytes: int
    content_bytes: int
    sha256: str
    is_settled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """
    A run of one version's bytes inside a bundle (an extent of the version).

    ``position`` orders the members of the bundle from 0; ``extent`` orders the extents of the version from 0 and
    ``extent_count`` says how many it has. ``bundle_offset_bytes`` is where its data begins in the tar (-1 until the
    offsets are fixed).
    """

    bundle_id: str
    position: int
    version_uid: int
    extent: int
    extent_count: int
    object_offset_bytes: int
    length_bytes: int
    crc64nvme: int
    bundle_offset_bytes: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """
    One bundle on one cartridge of ``pool``.

    ``partition`` and ``start_block`` are where it begins on tape; ``session_id`` is the session whose manifest on the cartridge names
    this copy, empty until that manifest's unmount was proven. ``failures`` counts attempts that came to nothing.
    """

    bundle_id: str
    pool: str
    state: CopyState
    barcode: str | None
    partition: str
    start_block: int
    epoch: int
    session_id: str
    synced_at: float | None
    verified_at: float | None
    failures: int
    reason: str
