"""Stores in servers as rows, for tests: one that makes room for an appliance, and ``coldstore db`` with one on one side."""

import argparse
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from coldstore.config.reading import read
from coldstore.config.schema import Configuration
from coldstore.interfaces.metadata import IMetadataStore, RecordElsewhere
from coldstore.metadata.choice import store_of
from coldstore.metadata.portable.stores import Act, Portable
from coldstore.metadata.sql.tables import Table
from coldstore.metadata.sqlite.portable import SqliteSnapshot
from coldstore.metadata.sqlite.schema import shipped_migrations
from coldstore.upkeep.desk import Desk
from coldstore.upkeep.progress import Progress
from coldstore.upkeep.running import COMMANDS
from tests.contract.old_stores import counted
from tests.contract.portable_contract import Rows, lead_life, rows_of, without_acts

reactor = cast(Any, installed_reactor)


def settings_with(metadata: str, state: str) -> Configuration:
    """Settings with these of the metadata."""
    # The path of a socket has a limit, that of a test's folder has none.
    text = f"{{state_directory: {state}, admin: {{socket: /nowhere/socket}}, metadata: {metadata}}}"
    return read(text, "test", {})


class Lazy:
    """
    A portable store that is begun when it is used first, and again after it had to make room for an appliance.

    Whatever keeps a second writer out lets nobody in beside it.
    """

    def __init__(self, case: TestCase, settings: Configuration, place: Any, kind: Any) -> None:
        """:param kind: the class of the portable store"""
        case.addCleanup(lambda: Deferred.fromCoroutine(self.close()))
        self._settings = settings
        self._place = place
        self._portable: Portable | None = None
        self._store: IMetadataStore | None = None
        self.name = place.name
        self.as_kept = kind.as_kept.__get__(self)

    def store(self) -> IMetadataStore:
        """Return the metadata store of an appliance, which opens once this is closed."""
        made: Any = store_of(self._settings, reactor)
        opening = made.open

        def opened() -> Any:
            return Deferred.fromCoroutine(self.close()).addCallback(lambda _: opening())

        made.open = opened
        self._store = made
        return self._store

    async def _there(self) -> Portable:
        if self._store is not None:
            await self._store.close()
            self._store = None
        if self._portable is None:
            self._portable = await self._place.portable(reactor)
        return self._portable

    async def snapshot(self) -> Any:
        """See ``Portable``."""
        return await self._place.snapshot(reactor) if self._store else await (await self._there()).snapshot()

    async def mark(self, **marks: str) -> None:
        """See ``Portable``."""
        await (await self._there()).mark(**marks)

    async def last_key(self, table: Any) -> Any:
        """See ``Portable``."""
        return await (await self._there()).last_key(table)

    async def reached(self, table: Any) -> Any:
        """See ``Portable``."""
        return await (await self._there()).reached(table)

    async def put(self, table: Any, rows: Any) -> None:
        """See ``Portable``."""
        await (await self._there()).put(table, rows)

    async def remove(self, table: Any, limit: int) -> int:
        """See ``Portable``."""
        return await (await self._there()).remove(table, limit)

    async def settle(self, *, appliance_id: str, last_version: int, act: Act | None) -> None:
        """See ``Portable``."""
        await (await self._there()).settle(appliance_id=appliance_id, last_version=last_version, act=act)

    async def close(self) -> None:
        """See ``Portable``."""
        if self._portable is not None:
            await self._portable.close()
            self._portable = None


class Commands:
    """
    ``coldstore db`` of an appliance. Mix it in, and call ``prepare`` in ``setUp``.

    :ivar state: the state directory
    """

    async def check_kept(self: Any, store: IMetadataStore, tables: Sequence[Table], rows: Rows) -> None:
        """Check that an upgrade has counted what owners keep. :param rows: from before"""
        (names,) = [table.column_names for table in tables if table.name == "versions"]
        recount = counted(dict(zip(names, row, strict=True)) for row in rows["versions"])
        for asked in {owner_id for owner_id, _, _ in recount}:
            use = await store.quota_use(owner_id=asked)
            mine = [amounts for (owner_id, _, _), amounts in recount.items() if owner_id == asked]
            self.assertEqual((use.kept, use.objects, use.restores), tuple(map(sum, zip(*mine, strict=True))))
            self.assertGreater(use.restores, 0)

    def prepare(self: Any) -> None:
        """Have an empty state directory."""
        self.state = Path(self.mktemp()).absolute()
        self.state.mkdir()
        self.said = io.StringIO()

    def db(self: Any, name: str, **options: Any) -> Deferred[dict[str, Any]]:
        """Carry out a command."""
        desk = Desk(
            settings=self.settings,
            reactor=reactor,
            progress=Progress(self.said, lambda: 0.0, is_terminal=False),
            questions=io.StringIO(),
            remarks=self.said,
            now=lambda: 1.8e9,
            who="olga",
        )
        given = {"replace": False, "yes": False, "rows": False, "no_dump": False, **options}
        return Deferred.fromCoroutine(COMMANDS[name](desk, argparse.Namespace(db=name, **given)))

    async def check_life(self: Any, backend: str, name: str, refusal: type[Exception], said: str) -> None:
        """
        From a file into a server, dumped there, back again, and the dump into the server: all the same rows.

        :param name: what the server is called
        :param refusal: what is said (``said``) while an appliance has it
        """
        path = self.settings.sqlite_path
        await lead_life(path, seed=41, steps=80)
        snapshot = SqliteSnapshot(path)
        expected = await rows_of(snapshot)
        await snapshot.close()
        self.assertIsNone((await self.db("status", rows=True))["schema"])
        found = await self.db("move", source="sqlite", target=backend)
        self.assertEqual(found["rows"], sum(map(len, expected.values())) - 1)
        self.assertNotIn("next", found)
        found = await self.db("status", rows=True)
        self.assertEqual((found["schema"], found["run"]), (shipped_migrations()[-1].number, 1))
        counts = {name: len(rows) for name, rows in expected.items()}
        self.assertEqual(found["rows"], {**counts, "audit_events": counts["audit_events"] + 1})
        store = store_of(self.settings, reactor)
        await store.open()
        with self.assertRaisesRegex(refusal, said):
            await self.db("move", source=backend, target="sqlite", replace=True, yes=True)
        dump = str(self.state / "dump.gz")
        await self.db("backup", file=dump)
        await store.close()
        self.assertIn("nothing was done", (await self.db("upgrade"))["result"])
        found = await self.db("move", source=name, target="sqlite", replace=True, yes=True)
        self.assertIn("next", found)
        snapshot = SqliteSnapshot(path)
        rows, acts = without_acts(await rows_of(snapshot))
        self.assertEqual((rows, len(acts)), (expected, 2))
        await snapshot.close()
        with self.assertRaises(RecordElsewhere):
            await store_of(self.settings, reactor).open()
        await self.db("restore", file=dump, replace=True, yes=True)
        store = store_of(self.settings, reactor)
        await store.open()
        self.assertEqual(store.appliance_id, "appliance-41")
        await store.close()
