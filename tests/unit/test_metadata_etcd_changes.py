"""What a transaction of the replica has changed, and how much of it a batch takes."""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from coldstore.interfaces.metadata import StepTooLarge
from coldstore.metadata.etcd.changes import ROWS_MAX, Change, WatchedConnection
from coldstore.metadata.etcd.keys import Keys
from coldstore.metadata.sql.database import Database
from coldstore.metadata.sql.executor import Step
from coldstore.metadata.sql.tables import BY_NAME
from coldstore.metadata.sqlite.connection import IN_MEMORY, open_as
from coldstore.metadata.sqlite.groupcommit import commit, run_together
from coldstore.metadata.sqlite.schema import migrate, shipped_migrations

KEYS = Keys("/c")


def adding(first: int, count: int, *, text: str = "s", fails: bool = False) -> Step[int]:
    """A step that inserts users, and then may fail."""

    async def step(db: Database) -> int:
        for number in range(first, first + count):
            name = f"{number:04}"
            await db.insert("users", "user_id, name, created_at", (name, f"{name}{text}", 1.0))
        if fails:
            raise LookupError("as it should")
        return first

    return step


class Watched(SynchronousTestCase):
    """A replica in memory."""

    def setUp(self) -> None:
        """Open it."""
        self.db = open_as(WatchedConnection, IN_MEMORY)
        self.addCleanup(self.db.close)
        migrate(self.db, shipped_migrations(), new_appliance_id=lambda: "me")
        self.db.watch(KEYS)

    def run_all(self, *steps: Step[Any]) -> list[Any]:
        """Run steps in one transaction; return what each came to, or the kind of its failure."""
        return [
            outcome.result if outcome.error is None else type(outcome.error)
            for outcome in run_together(self.db, steps)
        ]

    def changed(self) -> dict[bytes, bytes | None]:
        """Return what is to be written, and end the transaction."""
        changes = self.db.changes()
        self.db.execute("COMMIT")
        self.assertEqual(len({change.key for change in changes}), len(changes))
        return dict(changes)

    def user(self, number: int) -> bytes:
        """Return the key of a user."""
        return KEYS.of_row(BY_NAME["users"], (f"{number:04}",))


class ChangesTests(Watched):
    """What is noted."""

    def execute(self, *statements: str) -> Step[None]:
        """A step of statements."""

        async def step(db: Database) -> None:
            for statement in statements:
                await db.do(statement)

        return step

    def test_every_kind(self) -> None:
        """A row that is inserted or changed is set to what it is at last, one that is deleted is deleted."""
        self.run_all(adding(1, 3))
        self.assertEqual(set(self.changed()), {self.user(1), self.user(2), self.user(3)})
        self.run_all(
            self.execute(
                "UPDATE users SET name = 'x' WHERE user_id = '0001'",
                "UPDATE users SET name = 'y' WHERE user_id = '0001'",
                "DELETE FROM users WHERE user_id = '0002'",
                "DELETE FROM users WHERE user_id = '0003'",
            ),
            adding(3, 2),
        )
        found = self.changed()
        self.assertEqual(set(found), {self.user(number) for number in (1, 2, 3, 4)})
        self.assertIn(b'"name":"y"', found[self.user(1)] or b"")
        self.assertIsNone(found[self.user(2)])
        self.assertIn(b'"name":"0003s"', found[self.user(3)] or b"")

    def test_upsert(self) -> None:
        """One that is inserted or else changed counts once."""
        upsert = "INSERT INTO backlogs VALUES ('A', 1, 1) ON CONFLICT (storage_class) DO UPDATE SET size_bytes = size_bytes + 1"
        self.run_all(self.execute(upsert, upsert, upsert))
        self.assertEqual(
            self.changed(),
            {KEYS.of_row(BY_NAME["backlogs"], ("A",)): b'{"object_count":1,"size_bytes":3}'},
        )

    def test_moved(self) -> None:
        """A row that gets another primary key is deleted where it was; two that change places are both set."""
        self.run_all(
            self.execute(
                "INSERT INTO layouts (layout_id, state) VALUES ('a', 'live'), ('b', 'live')",
                "INSERT INTO pieces (layout_id, ordinal, address, length_bytes, crc64nvme, etag, created_at)"
                " VALUES ('a', 1, 'x', 1, 1, '', 0), ('a', 2, 'y', 1, 1, '', 0)",
            )
        )
        self.changed()
        self.run_all(
            self.execute("UPDATE pieces SET layout_id = 'b', ordinal = ordinal + 7 WHERE address = 'x'")
        )
        pieces = BY_NAME["pieces"]
        found = self.changed()
        self.assertEqual(set(found), {KEYS.of_row(pieces, ("a", 1)), KEYS.of_row(pieces, ("b", 8))})
        self.assertIsNone(found[KEYS.of_row(pieces, ("a", 1))])

    def test_undone(self) -> None:
        """What a step did that failed is not noted, whether it was run alone or among others."""
        self.assertEqual(
            self.run_all(adding(1, 2), adding(10, 3, fails=True), adding(20, 2)), [1, LookupError, 20]
        )
        self.assertEqual(set(self.changed()), {self.user(number) for number in (1, 2, 20, 21)})
        self.assertEqual(self.run_all(adding(30, 1, fails=True)), [LookupError])
        self.assertEqual(self.db.changes(), [])
        commit(self.db, run_together(self.db, [adding(30, 1, fails=True)]))
        self.run_all(adding(40, 1))
        self.assertEqual(set(self.changed()), {self.user(40)})

    def test_numbers(self) -> None:
        """The greatest number of a table is kept when its row goes, and only then."""
        number = KEYS.of_number(BY_NAME["discards"])
        self.run_all(
            self.execute(
                *(f"INSERT INTO discards (address, length_bytes) VALUES ('{n}', 1)" for n in range(5))
            )
        )
        self.assertNotIn(number, self.changed())
        self.run_all(self.execute("DELETE FROM discards WHERE discard_id < 5"))
        self.assertNotIn(number, self.changed())
        self.run_all(self.execute("DELETE FROM discards"))
        self.assertEqual(self.changed()[number], b"5")
        self.run_all(
            self.execute(
                "INSERT INTO discards (address, length_bytes) VALUES ('n', 1)", "DELETE FROM discards"
            )
        )
        self.assertEqual(self.changed()[number], b"6")

    def test_numbers_that_no_row_got(self) -> None:
        """An insertion that met its own kind uses up a number, too; those that rows had do not come again for that."""
        again = (
            "INSERT INTO discards (address, length_bytes) VALUES ('n', 1) ON CONFLICT (address) DO NOTHING"
        )
        self.run_all(self.execute(again))
        self.changed()
        self.run_all(self.execute(again))
        self.assertEqual(self.changed(), {})
        self.run_all(self.execute("DELETE FROM discards"))
        kept = self.changed()[KEYS.of_number(BY_NAME["discards"])]
        self.assertGreaterEqual(int(kept or b"0"), 1)


class LimitTests(Watched):
    """What fits."""

    def test_rows(self) -> None:
        """Steps are run as long as the next one surely fits; what turns out not to waits, and is not noted."""
        self.assertEqual(self.run_all(*(adding(10 * n, 10) for n in range(20))), [10 * n for n in range(12)])
        self.assertEqual(len(self.changed()), ROWS_MAX)
        self.assertEqual(
            self.run_all(adding(1000, 1), adding(2000, 60), adding(3000, 60), adding(4000, 1)), [1000, 2000]
        )
        self.assertEqual(len(self.changed()), 61)

    def test_too_many_rows(self) -> None:
        """A step that changes more than the interface allows is refused alone."""
        self.assertEqual(self.run_all(adding(0, 101), adding(1000, 1)), [StepTooLarge, 1000])
        self.assertEqual(set(self.changed()), {self.user(1000)})

    def test_moves(self) -> None:
        """A row that is moved counts as one row, as it does elsewhere."""
        self.run_all(adding(0, 60))
        self.changed()

        async def move(db: Database) -> int:
            return await db.change("UPDATE users SET user_id = user_id || 'x' WHERE user_id < '0055'")

        self.assertEqual(self.run_all(move), [55])
        self.assertEqual(len(self.changed()), 110)

    def test_more_than_a_batch(self) -> None:
        """One that no batch would take is refused, and the others are run."""

        async def move(db: Database) -> int:
            return await db.change("UPDATE users SET user_id = user_id || 'x'")

        self.run_all(adding(0, 70))
        self.changed()
        self.assertEqual(issubclass(self.run_all(move, adding(1000, 1))[0], StepTooLarge), True)
        self.assertEqual(set(self.changed()), {self.user(1000)})

    def test_bytes(self) -> None:
        """Of steps that weigh too much together some are run; one that does alone is refused."""
        heavy = [adding(n, 1, text="x" * 400_000) for n in range(8)]
        done = self.run_all(*heavy)
        self.assertIn(len(done), (2, 3))
        self.assertEqual(len(self.changed()), len(done))
        self.assertEqual(self.run_all(adding(100, 1, text="x" * 2_000_000), adding(200, 1)), [StepTooLarge])
        self.assertFalse(self.db.in_transaction)
        self.assertEqual(self.run_all(adding(200, 1)), [200])
        self.assertEqual([type(change) for change in self.db.changes()], [Change])
