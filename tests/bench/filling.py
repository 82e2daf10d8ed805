"""
Rows of an archive of any size, as the steps would have left them, for stores that are filled without the steps.

Of ten objects eight are on tape only, one is on tape and on disk, and one is new. All lie in bucket ``b``, in folders of 1,000.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from coldstore.metadata.sql.rows import signed

Row = tuple[Any, ...]
MEMBERS = 10_000
"""Of a bundle."""
SIZE_BYTES = 65_536
CRC = signed(0x9E3779B97F4A7C15)
CHUNK = 10_000
"""Objects whose rows are written together."""

VERSIONS = (
    "version_uid, sequence, bucket_uid, key, version_id, size_bytes, etag, storage_class, headers, user_metadata,"
    " checksum_algorithm, checksum_value, checksum_kind, crc64nvme, part_sizes, created_at, owner_id, layout_id, on_disk,"
    " archive_state, archived_at"
)
LAYOUTS = "layout_id, state, share_uid"
PIECES = "layout_id, ordinal, address, length_bytes, crc64nvme, etag, created_at"
BUNDLES = (
    "bundle_id, state, pools, created_at, epoch, member_count, size_bytes, content_bytes, sha256, is_settled"
)
COPIES = "bundle_id, pool, state, barcode, partition, start_block, epoch, session_id, synced_at, verified_at"
MEMBER_ROWS = (
    "bundle_id, position, version_uid, extent, extent_count, object_offset_bytes, length_bytes, crc64nvme,"
    " bundle_offset_bytes"
)


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of one table, with their columns separated by commas."""

    table: str
    columns: str
    rows: list[Row]


def key_of(number: int) -> bytes:
    """Return the key of an object; numbers from 1."""
    return b"%06d/object-%09d" % (number // 1_000, number)


def is_new(number: int) -> bool:
    """Whether an object waits for tape."""
    return number % 10 == 0


def is_on_disk(number: int) -> bool:
    """Whether its bytes are on the disk."""
    return number % 10 in (0, 5)


def chunks(first: int, last: int, *, bucket_uid: int, share_uid: int) -> Iterator[list[Rows]]:
    """Yield the rows of objects ``first`` to ``last``, in portions that may be written in their order."""
    numbers = iter(range(first, last + 1))
    while portion := list(islice(numbers, CHUNK)):
        yield _chunk(portion, bucket_uid, share_uid)


def _chunk(numbers: list[int], bucket_uid: int, share_uid: int) -> list[Rows]:
    on_disk = [number for number in numbers if is_on_disk(number)]
    archived = [number for number in numbers if not is_new(number)]
    # A bundle begins with the first of its members that is written.
    begun = [number for number in archived if number % MEMBERS == 1]
    return [
        Rows("bundles", BUNDLES, [_bundle(number) for number in begun]),
        Rows("copies", COPIES, [_copy(number, pool) for number in begun for pool in ("main", "vault")]),
        Rows("layouts", LAYOUTS, [(_layout_id(number), "live", share_uid) for number in on_disk]),
        Rows("versions", VERSIONS, [_version(number, bucket_uid) for number in numbers]),
        Rows("pieces", PIECES, [_piece(number) for number in on_disk]),
        Rows("members", MEMBER_ROWS, [_member(number) for number in archived]),
    ]


def counted(first: int, last: int) -> tuple[int, int]:
    """Return how many of the objects are on disk, and how many of those are new."""
    numbers = range(first, last + 1)
    return sum(map(is_on_disk, numbers)), sum(map(is_new, numbers))


def fill(insert: Callable[[Rows], None], first: int, last: int, *, bucket_uid: int, share_uid: int) -> None:
    """Write the rows of objects ``first`` to ``last``."""
    for portion in chunks(first, last, bucket_uid=bucket_uid, share_uid=share_uid):
        for rows in portion:
            if rows.rows:
                insert(rows)


def sums(first: int, last: int, *, share_uid: int) -> Iterable[tuple[str, Row]]:
    """Return the statements, with ``?``, that bring the store's sums and numbers up to these objects."""
    disk_count, new_count = counted(first, last)
    yield "UPDATE store SET last_version = ?", (last,)
    yield (
        "UPDATE shares SET used_bytes = used_bytes + ? WHERE share_uid = ?",
        (disk_count * SIZE_BYTES, share_uid),
    )
    yield (
        "INSERT INTO backlogs (storage_class, object_count, size_bytes) VALUES ('GLACIER', ?, ?)"
        " ON CONFLICT (storage_class) DO UPDATE SET object_count = backlogs.object_count + excluded.object_count,"
        " size_bytes = backlogs.size_bytes + excluded.size_bytes",
        (new_count, new_count * SIZE_BYTES),
    )


def _bundle_id(number: int) -> str:
    return f"bundle-{(number - 1) // MEMBERS:012}"


def _layout_id(number: int) -> str:
    # As wide, and as unordered, as real ones.
    return f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}{number:016x}"


def _bundle(number: int) -> Row:
    size = MEMBERS * (SIZE_BYTES + 1024)
    return (_bundle_id(number), "archived", '["main","vault"]', 1.0, 1, MEMBERS, size, size, "ab" * 32, 1)


def _copy(number: int, pool: str) -> Row:
    barcode = f"{pool[0].upper()}{(number - 1) // MEMBERS // 100:05}L9"
    return (_bundle_id(number), pool, "verified", barcode, "b", number, 1, "session", 2.0, 3.0)


def _version(number: int, bucket_uid: int) -> Row:
    new, disk = is_new(number), is_on_disk(number)
    etag = f"{number * 0xD6E8FEB86659FD93 % 2**128:032x}"
    return (
        number, number, bucket_uid, key_of(number), "null", SIZE_BYTES, etag, "GLACIER", "", "", "CRC64NVME",
        "nzejlcqJpLU=", "FULL_OBJECT", CRC, "", 1_700_000_000.5 + number, "owner", _layout_id(number) if disk else "",
        int(disk), "pending" if new else "archived", None if new else 1_700_000_999.5 + number,
    )  # fmt: skip


def _piece(number: int) -> Row:
    address = f"segments/{number // 1024:08x}/{number:012x}"
    return (_layout_id(number), 1, address, SIZE_BYTES, CRC, "", 1_700_000_000.5 + number)


def _member(number: int) -> Row:
    position = (number - 1) % MEMBERS
    return (_bundle_id(number), position, number, 0, 1, 0, SIZE_BYTES, CRC, position * (SIZE_BYTES + 1024))
