"""
Numbered migrations, and which of them a store still needs.

Numbers are common to all databases: what one number adds to the rows is added by that number everywhere. A migration is applied
once, in a transaction, and never changed afterwards; a ledger in the store has its number and its checksum. A database that came
later begins with a greater number, whose migration makes the whole schema as of then.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources.abc import Traversable

from coldstore.interfaces.metadata import SchemaTooNew, SchemaTooOld


class MigrationAltered(Exception):
    """A migration that this store has applied reads differently in the program: the schema cannot be trusted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One change of the schema: SQL statements."""

    number: int
    statements: str

    @property
    def checksum(self) -> str:
        """The SHA-256 of the text in hex."""
        return sha256(self.statements.encode()).hexdigest()


def read_migrations(folder: Traversable, *, first: int) -> list[Migration]:
    """
    Return the migrations of a folder by number: ``0001.sql`` has number 1.

    :param first: the number of the first
    :raise ValueError: when the numbers do not run from it without a gap
    """
    named = sorted((entry.name, entry) for entry in folder.iterdir() if entry.name.endswith(".sql"))
    found = [Migration(number=int(name[:-4]), statements=entry.read_text("utf-8")) for name, entry in named]
    if [migration.number for migration in found] != list(range(first, first + len(found))):
        raise ValueError(
            f"the migrations are not numbered from {first} without a gap: {[name for name, _ in named]}"
        )
    return found


def missing(applied: Mapping[int, str], shipped: Sequence[Migration], *, is_upgrade: bool) -> list[Migration]:
    """
    Return the migrations that a store needs, in order: all when it is new.

    :param applied: the store's ledger, number to checksum; empty when the store is new
    :param shipped: what the program has, by number
    :param is_upgrade: whether somebody wants a store that has a schema already to be changed
    :raise SchemaTooNew: one was applied that is newer than the program
    :raise SchemaTooOld: the store has a schema that is not the newest, and this is no upgrade
    :raise MigrationAltered: one that was applied had another text, or is older than all that the program has
    """
    by_number = {migration.number: migration for migration in shipped}
    newest = max(by_number, default=0)
    if applied and max(applied) > newest:
        raise SchemaTooNew(f"schema {max(applied)} was written by a newer program; this one knows {newest}")
    for number, checksum in sorted(applied.items()):
        if number not in by_number or by_number[number].checksum != checksum:
            raise MigrationAltered(f"migration {number:04} is not the one that this store was made with")
    needed = [migration for migration in shipped if migration.number not in applied]
    if applied and needed and not is_upgrade:
        raise SchemaTooOld(
            f"the metadata have schema {max(applied)} and this program needs {newest}; run: coldstore db upgrade"
        )
    return needed
