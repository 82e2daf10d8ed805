"""
Stores of earlier releases, as their own code made them, written down as SQL (``tests/fixtures/metadata``).

All went through the same life: objects, uploads, bundles in every state, evictions, restores under way and done, and what operators see.
"""

import contextlib
import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

FIXTURES = Path(__file__).parents[1] / "fixtures" / "metadata"
SCHEMAS = (1, 2, 3, 4, 5, 6, 7, 8, 9)
"""Each has its fixture."""


def make_old_store(path: str, schema: int) -> None:
    """Make the file of a store of an earlier schema."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript((FIXTURES / f"schema{schema}.sql").read_text("utf-8"))
        connection.execute("PRAGMA journal_mode = WAL")


def counted(versions: Iterable[Mapping[str, Any]]) -> dict[tuple[str, int, str], tuple[int, int, int]]:
    """Recount what shares have of versions, columns by name: bytes kept, their number, bytes restored; by owner, bucket and class."""
    found: dict[tuple[str, int, str], tuple[int, int, int]] = {}
    for version in versions:
        if version["deleted_at"] is not None or version.get("is_marker"):
            continue
        share = version["owner_id"], version["bucket_uid"], version["storage_class"]
        kept, number, restored = found.get(share, (0, 0, 0))
        size_bytes = version["size_bytes"]
        content_bytes = version.get("content_bytes")
        found[share] = (
            kept + (size_bytes if content_bytes is None else content_bytes),
            number + 1,
            restored + (0 if version["restore_phase"] is None else size_bytes),
        )
    return found
