"""What an operator should know when a disk runs full: what is refused, why it does not end by itself, and what helps."""

from dataclasses import dataclass

MIB, GIB = 1024**2, 1024**3
RECORD_FREE_BYTES = 64 * MIB
"""Below this the metadata, which need room for every change and for their log, may be refused any at the next one."""
ROOM_SHARE = 0.005
"""Of the capacity: with less room than this most uploads are refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskFacts:
    """
    The staging disk (``upload_room`` is what a new upload can be promised, ``waiting`` what is not on every tape yet: only
    looked at when the disk ``lacks_room``) and what the file system of the metadata has left
    (None: a server keeps them, on disks of its own); in bytes. ``staging_trouble`` is why the staging disk
    takes nothing at all.
    """

    capacity_bytes: int
    used_bytes: int
    upload_room_bytes: int
    waiting_bytes: int
    record_free_bytes: int | None
    record_path: str
    staging_trouble: str = ""


def lacks_room(upload_room_bytes: int, capacity_bytes: int) -> bool:
    """Whether the staging disk has so little room left that most uploads are refused."""
    return upload_room_bytes <= capacity_bytes * ROOM_SHARE


def shortages(facts: DiskFacts) -> dict[str, str]:
    """Return what is short, each with a sentence for an operator."""
    found = {}
    if facts.record_free_bytes is not None and facts.record_free_bytes < RECORD_FREE_BYTES:
        found["metadata"] = (
            f"the file system of {facts.record_path} has {_size(facts.record_free_bytes)} left: uploads, deletions, restores "
            "and everything else that has to be recorded are refused (503) when there is no room, and go on by themselves "
            "when there is; nothing acknowledged is lost. Something else than ColdStore's staging fills it, or "
            "staging.min_free is too small"
        )
    if facts.staging_trouble:
        found["staging writes"] = (
            f"{facts.staging_trouble}: uploads, restores from tape and archiving wait or are refused (503), and go on by "
            "themselves when it can be written again; what is on it is served. Make room on its file system, or have it mounted "
            "read-write"
        )
    if lacks_room(facts.upload_room_bytes, facts.capacity_bytes):
        if facts.waiting_bytes >= facts.used_bytes // 2:
            help_text = (
                f"{_size(facts.waiting_bytes)} of it are not on every tape yet and leave it when they are: see to it that "
                "drives and cartridges can be written (`coldstore drives`, `coldstore cartridges`)"
            )
        else:
            help_text = (
                "most of it stays by the rules of its storage classes, or is restored: delete objects, give the disk more "
                "room (staging.capacity), or have less kept on it (classes, quotas)"
            )
        found["staging"] = (
            f"the staging disk is full, {_size(facts.used_bytes)} of {_size(facts.capacity_bytes)} are in use: uploads are "
            f"refused (503 SlowDown) until there is room again; {help_text}"
        )
    return found


def _size(size_bytes: int) -> str:
    if size_bytes >= 10 * GIB:
        return f"{size_bytes / GIB:.0f} GiB"
    return f"{size_bytes / GIB:.1f} GiB" if size_bytes >= GIB else f"{size_bytes / MIB:.0f} MiB"
