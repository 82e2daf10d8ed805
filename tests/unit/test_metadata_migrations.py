"""Which migrations a store needs."""

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from coldstore.interfaces.metadata import SchemaTooNew, SchemaTooOld
from coldstore.metadata.sql.migrations import Migration, MigrationAltered, missing, read_migrations

SHIPPED = [Migration(number=number, statements=f"CREATE TABLE t{number} (a);") for number in (5, 6, 7)]
LEDGER = {migration.number: migration.checksum for migration in SHIPPED}


def needed(applied: dict[int, str], *, is_upgrade: bool = False) -> list[int]:
    """Return the numbers of what a ledger lacks."""
    return [migration.number for migration in missing(applied, SHIPPED, is_upgrade=is_upgrade)]


class MissingTests(SynchronousTestCase):
    """A ledger beside what is shipped."""

    def test_new(self) -> None:
        """A new store gets everything, whether or not somebody upgrades it."""
        self.assertEqual(needed({}), [5, 6, 7])
        self.assertEqual(needed({}, is_upgrade=True), [5, 6, 7])

    def test_newest(self) -> None:
        """A store with the newest schema needs nothing."""
        self.assertEqual(needed(LEDGER), [])
        self.assertEqual(needed(LEDGER, is_upgrade=True), [])

    def test_older(self) -> None:
        """A store that exists is changed only when somebody wants it; until then the refusal says what to run."""
        older = {5: LEDGER[5]}
        self.assertEqual(needed(older, is_upgrade=True), [6, 7])
        with self.assertRaises(SchemaTooOld) as caught:
            needed(older)
        self.assertEqual(
            str(caught.exception),
            "the metadata have schema 5 and this program needs 7; run: coldstore db upgrade",
        )

    def test_newer(self) -> None:
        """A store of a newer program is left alone, upgrade or not, and also when something else is wrong with it."""
        for is_upgrade in (False, True):
            with self.assertRaises(SchemaTooNew) as caught:
                needed({5: "another", 6: LEDGER[6], 9: "x"}, is_upgrade=is_upgrade)
            self.assertEqual(
                str(caught.exception), "schema 9 was written by a newer program; this one knows 7"
            )

    def test_altered(self) -> None:
        """A store that was made with another text of a migration is left alone; so is one with a number nobody shipped."""
        for applied in ({**LEDGER, 6: "another"}, {4: "x", **LEDGER}, {5: "another"}):
            for is_upgrade in (False, True):
                with self.assertRaises(MigrationAltered):
                    needed(applied, is_upgrade=is_upgrade)


class ReadTests(SynchronousTestCase):
    """A folder of migrations."""

    def folder(self, *names: str) -> Path:
        """Return a folder with files of these names."""
        folder = Path(self.mktemp())
        folder.mkdir()
        for name in names:
            (folder / name).write_text(f"-- {name}")
        return folder

    def test_read(self) -> None:
        """Migrations are read by number, and other files left alone."""
        found = read_migrations(self.folder("0006.sql", "0005.sql", "README"), first=5)
        self.assertEqual([migration.number for migration in found], [5, 6])
        self.assertEqual(found[0].statements, "-- 0005.sql")
        self.assertEqual(len(found[0].checksum), 64)
        self.assertNotEqual(found[0].checksum, found[1].checksum)

    def test_numbering(self) -> None:
        """A gap in the numbers is noticed, and a first number that is another one."""
        for names in (("0001.sql", "0003.sql"), ("0002.sql", "0003.sql")):
            with self.assertRaises(ValueError):
                read_migrations(self.folder(*names), first=1)
