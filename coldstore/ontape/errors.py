"""What readers of a cartridge raise when its bytes are not what the format says."""


class OnTapeDamaged(Exception):
    """Bytes from a cartridge are not well-formed; the text says what is wrong and where."""


class ManifestDamaged(OnTapeDamaged):
    """A bundle's manifest or a session's manifest is damaged, truncated, or of an unknown version."""


class BundleDamaged(OnTapeDamaged):
    """The tar structure of a bundle is damaged or truncated."""


class VolumeLabelDamaged(OnTapeDamaged):
    """``volume.json`` is damaged or of an unknown version."""


class TapeFileDamaged(OnTapeDamaged):
    """The label or an index of a volume without a file system is damaged, truncated, or of an unknown version."""
