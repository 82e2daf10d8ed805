"""What the kernel tells of a tape device without touching it: its serial number and its generic node (sysfs, st(4))."""

from dataclasses import dataclass
from pathlib import Path

_TAPES = Path("/sys/class/scsi_tape")
_SERIAL_PAGE_HEADER_BYTES = 4
"""A vital product data page begins with type, page code and length (SPC-4, 7.8.1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TapeDevice:
    """A tape device of the kernel. ``serial`` and ``generic`` (``/dev/sgN``) are None when the kernel has none."""

    name: str
    serial: str | None
    generic: str | None


def tape_device(device: str, *, tapes: Path = _TAPES) -> TapeDevice | None:
    """
    Tell what the kernel knows of a device node, a link to one included.

    :return: None for a path that is no tape device of this kernel: a virtual library's, or one that is missing.
    """
    name = Path(device).resolve().name
    folder = tapes / name / "device"
    if not folder.is_dir():
        return None
    return TapeDevice(name=name, serial=_serial(folder), generic=_generic(folder))


def tape_devices(*, tapes: Path = _TAPES) -> tuple[TapeDevice, ...]:
    """Every non-rewinding tape device of this kernel, by name; the nodes of other modes (``nst0a``) left out."""
    if not tapes.is_dir():
        return ()
    names = sorted(
        path.name for path in tapes.iterdir() if path.name[:3] == "nst" and path.name[3:].isdigit()
    )
    found = (tape_device(f"/dev/{name}", tapes=tapes) for name in names)
    return tuple(device for device in found if device is not None)


def _serial(folder: Path) -> str | None:
    try:
        page = (folder / "vpd_pg80").read_bytes()
    except OSError:
        return None
    return page[_SERIAL_PAGE_HEADER_BYTES:].decode("ascii", "replace").strip("\0 ") or None


def _generic(folder: Path) -> str | None:
    try:
        names = sorted(path.name for path in (folder / "scsi_generic").iterdir())
    except OSError:
        return None
    return f"/dev/{names[0]}" if names else None
