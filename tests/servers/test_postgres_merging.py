"""Many questions as one, on a real PostgreSQL: whatever the steps ask has the same answers as one by one, found in the same way."""

import re
import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from twisted.trial.unittest import SynchronousTestCase, TestCase

from coldstore.interfaces.metadata import IMetadataStore
from coldstore.metadata.postgres.database import Statements
from coldstore.metadata.postgres.dialect import DIALECT
from coldstore.metadata.postgres.merging import Asked, Text, is_question, questions
from coldstore.metadata.sql.database import Row
from coldstore.metadata.sql.store import SqlStore
from coldstore.metadata.sqlite import driver
from coldstore.metadata.sqlite.connection import IN_MEMORY
from coldstore.metadata.sqlite.driver import finished
from coldstore.metadata.sqlite.executors import InlineExecutor
from coldstore.metadata.sqlite.schema import shipped_migrations
from coldstore.metadata.sqlite.store import prepare
from tests.contract.metadata_contract import MetadataContract
from tests.contract.metadata_lifecycle import LifecycleContract
from tests.contract.metadata_model import MetadataModel
from tests.contract.metadata_versions import VersionsContract, least
from tests.servers.postgres_stores import OwnDatabase

Questions = dict[str, dict[tuple[object, ...], None]]
"""With what each statement was asked."""
KEPT_MAX = 40
"""Arguments of each statement that are tried."""


class Remembering(driver.Connection):
    """SQLite with those of PostgreSQL's words that it understands, that remembers what it is asked."""

    dialect = replace(
        DIALECT,
        bytes_type=driver.Connection.dialect.bytes_type,
        bytes_position=driver.Connection.dialect.bytes_position,
    )
    asked: Questions

    async def rows(self, statement: str, arguments: Sequence[object] = ()) -> list[Row]:
        """See ``Database``."""
        self.remember(statement, arguments)
        return await super().rows(statement, arguments)

    async def row(self, statement: str, arguments: Sequence[object] = ()) -> Any:
        """See ``Database``."""
        self.remember(statement, arguments)
        return await super().row(statement, arguments)

    async def rows_of_each(self, statement: str, each: Sequence[Sequence[object]]) -> list[list[Row]]:
        """See ``Database``."""
        for arguments in each:
            self.remember(statement, arguments)
        return await super().rows_of_each(statement, each)

    def remember(self, statement: str, arguments: Sequence[object]) -> None:
        """Keep a question."""
        if is_question(statement):
            self.asked.setdefault(statement, {})[tuple(arguments)] = None


def asked_by_steps() -> Questions:
    """Return what the steps ask in the contract and in a random life."""
    asked: Questions = {}

    def connect() -> Remembering:
        connection = sqlite3.connect(IN_MEMORY, factory=Remembering, isolation_level=None)
        connection.create_function("greatest", 2, max, deterministic=True)
        connection.create_function("least", 2, least, deterministic=True)
        connection.asked = asked
        prepare(connection, shipped_migrations(), new_appliance_id=lambda: "one")
        return connection

    class Asking(MetadataContract, VersionsContract, LifecycleContract, MetadataModel, SynchronousTestCase):
        """The contract and a random life, in memory."""

        seeds = range(200, 201)

        def make_store(self) -> IMetadataStore:
            """Return a new store."""
            return SqlStore(InlineExecutor(connect=connect))

    # The life last: what it asks about is there in another store that has had the same one.
    for name in sorted(dir(Asking), key="test_random_life".__eq__):
        if name.startswith("test_"):
            case = Asking(name)
            finished(case.setUp())
            finished(getattr(case, name)())
            case.doCleanups()
    return asked


class MergingTests(MetadataModel, TestCase):
    """Every question of every step."""

    seeds = range(200, 201)
    timeout = 600

    def make_store(self) -> IMetadataStore:
        """Return a store on an empty database."""
        self.database = OwnDatabase(self.addCleanup)
        return self.database.store()

    async def test_equal(self) -> None:
        """Of one question with many arguments each gets its rows, in its order, as if asked alone; no table is read that is not read then."""
        await self.test_random_life()
        db = await self.database.statements()
        asked = asked_by_steps()
        self.assertGreater(len(asked), 80)
        merged = found = 0
        for statement, each in asked.items():
            arguments = list(each)[-KEPT_MAX:]
            alone = [await db.rows(statement, one) for one in arguments]
            self.assertEqual(await db.rows_of_each(statement, arguments), alone, statement)
            merged += len(arguments) > 1
            found += any(alone)
            one, *_ = questions(Asked(0, statement, each) for each in arguments * 2)
            self.assertEqual(
                await self.scans(db, one.text) - {"*VALUES*"},
                await self.scans(db, Text(statement.replace("?", "%s"), one.of[0].arguments)) - {"*VALUES*"},
                statement,
            )
        self.assertGreater(merged, 60)
        self.assertGreater(found, 40)

    async def scans(self, db: Statements, text: Text) -> set[str]:
        """The tables that a statement would read from end to end, and how it joins others than row by row."""
        plan = (await db.ask(Text(f"EXPLAIN {text.statement}", text.arguments))).rows
        lines = "\n".join(line for (line,) in plan)
        return set(re.findall(r"Seq Scan on (\S+)|(Hash Join|Merge Join)", lines))
