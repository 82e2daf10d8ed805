"""Cartridges and drives as recorded, with the tables of their lives."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


class VolumeForm(StrEnum):
    """How files lie on a cartridge."""

    LTFS = "ltfs"
    """An LTFS volume in two partitions."""
    TAR = "tar"
    """Plain tar files separated by file marks."""


class CartridgeState(StrEnum):
    """What may be done with a cartridge."""

    UNADMITTED = "unadmitted"
    """Seen in the library; no operator has given it to us. It is never written."""
    SCRATCH = "scratch"
    """Admitted by an operator, not yet formatted by us; in no data pool unless one was named."""
    FORMATTING = "formatting"
    """Formatting was begun; its outcome is not recorded yet."""
    FILLING = "filling"
    """Takes bundles."""
    FULL = "full"
    """Takes no more bundles; is read."""
    SUSPECT = "suspect"
    """Failed on a drive in a way that may be its own fault; is read, never written."""
    BROKEN = "broken"
    """Neither read nor written."""
    FOREIGN = "foreign"
    """Holds what is not ours; an operator must decide."""


class CartridgeEvent(StrEnum):
    """What happens to a cartridge."""

    ADMIT = "admit"
    WITHDRAW = "withdraw"
    FORMAT = "format"
    FORMATTED = "formatted"
    FORMAT_FAILED = "format-failed"
    FILL_UP = "fill-up"
    FAIL = "fail"
    TRUST = "trust"
    CONDEMN = "condemn"
    FOUND_FOREIGN = "found-foreign"


_S = CartridgeState
_E = CartridgeEvent

CARTRIDGE_TRANSITIONS: Mapping[tuple[CartridgeState, CartridgeEvent], CartridgeState] = MappingProxyType(
    {
        (_S.UNADMITTED, _E.ADMIT): _S.SCRATCH,
        (_S.SCRATCH, _E.WITHDRAW): _S.UNADMITTED,
        (_S.SCRATCH, _E.FORMAT): _S.FORMATTING,
        (_S.FORMATTING, _E.FORMATTED): _S.FILLING,
        (_S.FORMATTING, _E.FORMAT_FAILED): _S.SCRATCH,
        (_S.FORMATTING, _E.FOUND_FOREIGN): _S.FOREIGN,
        (_S.FORMATTING, _E.FAIL): _S.SUSPECT,
        (_S.SCRATCH, _E.FOUND_FOREIGN): _S.FOREIGN,
        (_S.SCRATCH, _E.FAIL): _S.SUSPECT,
        (_S.FOREIGN, _E.WITHDRAW): _S.UNADMITTED,
        (_S.FILLING, _E.FILL_UP): _S.FULL,
        (_S.FILLING, _E.FAIL): _S.SUSPECT,
        (_S.FILLING, _E.FOUND_FOREIGN): _S.FOREIGN,
        (_S.FULL, _E.FAIL): _S.SUSPECT,
        (_S.SUSPECT, _E.FAIL): _S.SUSPECT,
        (_S.SUSPECT, _E.TRUST): _S.FULL,
        **{(state, _E.CONDEMN): _S.BROKEN for state in _S if state is not _S.BROKEN},
    }
)

WRITABLE = frozenset({CartridgeState.SCRATCH, CartridgeState.FILLING})
READABLE = frozenset({CartridgeState.FILLING, CartridgeState.FULL, CartridgeState.SUSPECT})


@dataclass(frozen=True, slots=True, kw_only=True)
class Cartridge:
    """
    A cartridge: identity is the full barcode together with the volume's UUID.

    ``home_slot`` is the slot it goes back to; ``is_present`` tells whether the last inventory saw it.
    ``format_nonce`` names the format we began (it is part of the volume's name), so that a crash between
    formatting and its record is recognised. ``needs_check`` asks for a check of the volume before the next mount.
    """

    barcode: str
    state: CartridgeState
    pool: str
    volume_uuid: str
    home_slot: int | None
    is_present: bool
    capacity_bytes: int
    free_bytes: int
    written_bytes: int
    loads: int
    failures: int
    needs_check: bool
    format_nonce: str
    admitted_at: float | None
    admitted_by: str
    reason: str
    changed_at: float
    changed_by: str
    revision: int = 0


class DriveState(StrEnum):
    """Whether a drive takes work."""

    UP = "up"
    DOWN = "down"


@dataclass(frozen=True, slots=True, kw_only=True)
class Drive:
    """
    A drive as recorded. ``index`` is the data transfer element's number in the library, from 0; ``host`` the machine that had it
    last (``Host.text``, empty: nobody noted it).
    """

    index: int
    serial: str
    state: DriveState
    reason: str
    failures: int
    changed_at: float
    changed_by: str
    host: str = ""
