"""PostgreSQL's words, and its form of a statement."""

from functools import lru_cache

from coldstore.metadata.sql.database import Dialect

# It joins in whatever order and by whatever index its planner finds best.
DIALECT = Dialect(
    greatest="greatest",
    least="least",
    nested_join="JOIN",
    index_hint="",
    bytes_type="bytea",
    bytes_position="position({part} IN {whole})",
    overwriting="",
)


@lru_cache(maxsize=1024)
def translated(statement: str) -> str:
    """Return a statement of a step as psycopg2 takes it; no statement has a ``?`` or a ``%`` that means itself."""
    return statement.replace("?", "%s")


def plain(value: object) -> object:
    """Return an argument as the server takes it: a text cannot hold NUL, and shows the symbol for it instead."""
    if type(value) is str and "\0" in value:
        return value.replace("\0", "\N{SYMBOL FOR NULL}")
    return value
