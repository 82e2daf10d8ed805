"""Writing a dump: one snapshot, table by table, in bounded memory."""

from collections.abc import Callable
from pathlib import Path

from coldstore.metadata.portable.lines import (
    Header,
    Trailer,
    header_line,
    row_lines,
    table_line,
    trailer_line,
)
from coldstore.metadata.portable.packing import PackedFile
from coldstore.metadata.portable.stores import Snapshot

PAGE_ROWS = 1_000
Tell = Callable[[int, int], object]
"""Is told how many rows are through, and of about how many."""


async def dump(snapshot: Snapshot, path: Path, *, backend: str, made_at: float, tell: Tell) -> Trailer:
    """
    Write all rows into a file, which is there wholly when this returns, and not at all when it fails.

    :param backend: what kind of store it is
    :param made_at: unix seconds
    :raise OSError: the file cannot be written
    :raise MetadataUnavailable: the rows cannot be read
    """
    expected = sum([await snapshot.count(table) for table in snapshot.tables])
    rows: dict[str, int] = {}
    done = 0
    with PackedFile(path) as file:
        header = Header(
            standing=await snapshot.standing(),
            made_at=made_at,
            backend=backend,
            tables=tuple(snapshot.tables),
        )
        file.write(header_line(header))
        for table in snapshot.tables:
            file.write(table_line(table))
            rows[table.name] = 0
            page = await snapshot.page(table, None, min(PAGE_ROWS, table.rows_max))
            while page:
                file.write(row_lines(table, page))
                rows[table.name] += len(page)
                done += len(page)
                tell(done, expected)
                last = page[-1]
                page = await snapshot.page(
                    table, tuple(last[place] for place in table.key_places), min(PAGE_ROWS, table.rows_max)
                )
        trailer = Trailer(rows=rows, sha256=file.sha256)
        file.write(trailer_line(trailer))
        file.publish()
    return trailer
