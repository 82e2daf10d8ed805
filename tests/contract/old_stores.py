"""
Stores of earlier releases, as their own code made them, written down as SQL (``tests/fixtures/metadata``).

All went through the same life: objects, uploads, bundles in every state, evictions, restores under way and done, and what operators see.
"""

import contextlib
import sqlite3
from pathlib import Path

FIXTURES = Path(__file__).parents[1] / "fixtures" / "metadata"
SCHEMAS = (1, 2, 3, 4, 5, 6, 7, 8, 9)
"""Each has its fixture."""


def make_old_store(path: str, schema: int) -> None:
    """Make the file of a store of an earlier schema."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript((FIXTURES / f"schema{schema}.sql").read_text("utf-8"))
        connection.execute("PRAGMA journal_mode = WAL")
