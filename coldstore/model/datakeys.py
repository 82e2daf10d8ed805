"""Keys of data: what the keys of objects are encrypted under that the appliance encrypts itself (SSE-S3)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class DataKeyRecord:
    """
    A key of data as the record knows it: not itself, but by its id.

    :ivar key_id: the beginning of a one-way function of it
    :ivar since: when it was first used
    :ivar retired_at: when another one took its place for new objects; None: it is the one in use
    :ivar exported_at: when it was last written out for the safe; None: never
    """

    key_id: str
    since: float
    retired_at: float | None = None
    exported_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DataKeyState:
    """
    The same, with how things stand.

    :ivar is_here: whether the key file has it
    :ivar version_count: how many versions in the record are under it, counted up to a limit
    """

    record: DataKeyRecord
    is_here: bool
    version_count: int
