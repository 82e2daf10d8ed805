"""The statements behind the verbs ``insert`` and ``add`` of a ``Database``."""

from functools import lru_cache


@lru_cache
def inserting(table: str, columns: str) -> str:
    """Return the statement that inserts a row."""
    return f"INSERT INTO {table} ({columns}) VALUES ({','.join('?' * len(columns.split(',')))})"


@lru_cache
def adding(table: str, key: str, sums: str) -> str:
    """Return the statement that adds to sums, beginning with 0."""
    return inserting(table, f"{key}, {sums}") + growing(table, key, sums)


@lru_cache
def growing(table: str, key: str, sums: str) -> str:
    """Return what follows the rows of sums that are to be added to those that are there."""
    grown = (name.strip() for name in sums.split(","))
    return (
        f" ON CONFLICT ({key}) DO UPDATE SET"
        f" {', '.join(f'{name} = {table}.{name} + excluded.{name}' for name in grown)}"
    )
