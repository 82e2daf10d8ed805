"""The label of a cartridge: ``volume.json`` for programs and ``README.txt`` for people."""

import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime

from coldstore.model.cartridges import VolumeForm

from .errors import VolumeLabelDamaged
from .member import number_field, parse_json_object, text_field
from .paths import FORMAT_VERSION
from .readme import (
    DECRYPT_BEGIN,
    DECRYPT_END,
    DECRYPT_SCRIPT,
    GET_OBJECT_SCRIPT,
    LTFS_WORDS,
    README_TEMPLATE,
    SCRIPT_BEGIN,
    SCRIPT_END,
    TAR_WORDS,
)

_SIZE_LIMIT_BYTES = 1 << 16
_LAST_SECOND = 253402300800


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeLabel:
    """
    What a cartridge is: identity (full barcode and volume UUID), owner and pool, and who admitted it when.

    ``admitted_at`` is in unix seconds.

    :raises ValueError: at construction, if a text is empty or has characters that cannot be printed, or the time is
        not within the years 1970 to 9999.
    """

    appliance_id: str
    pool: str
    barcode: str
    volume_uuid: str
    admitted_at: float
    admitted_by: str

    def __post_init__(self) -> None:
        for name in ("appliance_id", "pool", "barcode", "volume_uuid", "admitted_by"):
            text: str = getattr(self, name)
            if not text or not text.isprintable():
                raise ValueError(f"{name} is empty or not printable: {text!r}")
        if not math.isfinite(self.admitted_at) or not 0 <= self.admitted_at < _LAST_SECOND:
            raise ValueError(f"admitted_at is out of range: {self.admitted_at}")


def volume_json(label: VolumeLabel) -> bytes:
    """The content of ``volume.json``."""
    record = {
        "coldstore_volume": FORMAT_VERSION,
        "appliance_id": label.appliance_id,
        "pool": label.pool,
        "barcode": label.barcode,
        "volume_uuid": label.volume_uuid,
        "admitted_at": float(label.admitted_at),
        "admitted_by": label.admitted_by,
    }
    return (json.dumps(record, ensure_ascii=False, indent=2) + "\n").encode()


def parse_volume_json(data: bytes) -> VolumeLabel:
    """
    The label from the content of ``volume.json``.

    :raises VolumeLabelDamaged: if it is not exactly what the writer makes for such a label.
    """
    if len(data) > _SIZE_LIMIT_BYTES:
        raise VolumeLabelDamaged(f"volume.json has {len(data)} bytes")
    try:
        record = parse_json_object(data.decode())
        version = record.get("coldstore_volume")
        if version != FORMAT_VERSION:
            raise ValueError(f"format version {version!r} is not known")
        label = VolumeLabel(
            appliance_id=text_field(record, "appliance_id"),
            pool=text_field(record, "pool"),
            barcode=text_field(record, "barcode"),
            volume_uuid=text_field(record, "volume_uuid"),
            admitted_at=number_field(record, "admitted_at"),
            admitted_by=text_field(record, "admitted_by"),
        )
        if volume_json(label) != data:
            raise ValueError("not in the format's form")
    except ValueError as error:
        raise VolumeLabelDamaged(f"volume.json: {error}") from error
    return label


_WORDS = {VolumeForm.LTFS: LTFS_WORDS, VolumeForm.TAR: TAR_WORDS}


def readme_text(label: VolumeLabel, form: VolumeForm) -> str:
    """The content of ``README.txt`` on a volume of this form, to be written in UTF-8."""
    return README_TEMPLATE.format(
        **_WORDS[form],
        barcode=label.barcode,
        volume_uuid=label.volume_uuid,
        pool=label.pool,
        appliance_id=label.appliance_id,
        admitted_at=datetime.fromtimestamp(label.admitted_at, UTC).strftime("%Y-%m-%d %H:%M UTC"),
        admitted_by=label.admitted_by,
        format_version=FORMAT_VERSION,
        begin=SCRIPT_BEGIN,
        end=SCRIPT_END,
        script=GET_OBJECT_SCRIPT,
        decrypt_begin=DECRYPT_BEGIN,
        decrypt_end=DECRYPT_END,
        decrypt_script=DECRYPT_SCRIPT,
    )
