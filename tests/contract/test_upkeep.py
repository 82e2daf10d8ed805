"""``coldstore db`` on files: what each command does, says, refuses, and what is left of one that was killed."""

import contextlib
import io
import json
import os
import shutil
import sqlite3
import sys
import tempfile
from pathlib import Path
from typing import Any, cast

from twisted.internet import reactor as installed_reactor
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from coldstore.admin import main as command
from coldstore.appliance.dumps import ProcessDumps
from coldstore.config.reading import read
from coldstore.interfaces.dumps import DumpFault, IDumps
from coldstore.metadata.portable.dumped import check_dump
from coldstore.metadata.portable.packing import PackedFile, packed_lines
from coldstore.metadata.sql.tables import TABLES
from coldstore.metadata.sqlite.driver import finished
from coldstore.metadata.sqlite.portable import PortableSqlite, SqliteSnapshot
from coldstore.metadata.sqlite.schema import shipped_migrations
from coldstore.metadata.sqlite.store import SqliteStore
from coldstore.plan.dumps import name_of
from coldstore.tape.process import ReactorCommandRunner
from coldstore.util.statedir import StateDirectory, holder_of
from tests.contract.old_stores import make_old_store
from tests.contract.portable_contract import lead_life, rows_of, without_acts

reactor = cast(Any, installed_reactor)

NEWEST = shipped_migrations()[-1].number
"""The number of the newest schema."""


class DbCase(SynchronousTestCase):
    """Runs the command on a state directory of its own."""

    def setUp(self) -> None:
        """Have a state directory with the metadata of a life."""
        # A short path: the socket below it may have 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="cs-db-"))
        self.addCleanup(shutil.rmtree, self.folder)
        self.state = self.folder / "state"
        self.state.mkdir(parents=True)
        self.path = str(self.state / "metadata.sqlite")
        for name in list(os.environ):
            if name.startswith("COLDSTORE_"):
                self.patch(os, "environ", {key: value for key, value in os.environ.items() if key != name})
        self.configuration = self.folder / "coldstore.yaml"
        self.configuration.write_text(f"state_directory: {self.state}\n")

    def live(self, path: str, seed: int = 1) -> None:
        """Have a life in a file."""
        finished(lead_life(path, seed=seed, steps=40))

    def db(self, *words: str, answer: str | None = None) -> tuple[int, str, str]:
        """Return exit status, standard output and standard error of a command; ``answer`` is what is typed at a terminal."""
        out, err, typed = io.StringIO(), io.StringIO(), io.StringIO(answer)
        typed.isatty = lambda: answer is not None  # type: ignore[method-assign]
        for name, stream in (("stdout", out), ("stderr", err), ("stdin", typed)):
            self.patch(sys, name, stream)
        try:
            status = command.main(["db", words[0], "--config", str(self.configuration), *words[1:]])
        except SystemExit as ended:
            status = int(str(ended.code))
        return status, out.getvalue(), err.getvalue()

    def done(self, *words: str) -> dict[str, Any]:
        """Return what a command that must succeed says."""
        status, out, err = self.db(words[0], "--json", *words[1:])
        self.assertEqual(status, 0, err)
        result: dict[str, Any] = json.loads(out)
        return result

    def refused(self, said: str, *words: str) -> None:
        """A command must be refused, say why in a line, and change no file."""
        before = self.content()
        status, out, err = self.db(*words)
        self.assertEqual((status, out), (1, ""), err)
        self.assertRegex(err.splitlines()[-1], f"^coldstore: .*{said}")
        self.assertNotIn("Traceback", err)
        self.assertEqual(self.content(), before)

    def content(self) -> dict[str, bytes]:
        """Return what files of metadata and dumps hold."""
        return {
            str(path): path.read_bytes()
            for path in self.folder.rglob("*")
            if path.suffix in (".sqlite", ".gz")
        }

    def rows(self, path: str) -> Any:
        """Return the rows of a file, but for what commands have added to its audit trail."""
        return self.rows_and_acts(path)[0]

    def acts(self, path: str) -> list[Any]:
        """Return what commands have added to the audit trail of a file: what, to what, how."""
        return [row[3:] for row in self.rows_and_acts(path)[1]]

    def rows_and_acts(self, path: str) -> Any:
        """Return both."""
        snapshot = SqliteSnapshot(path)
        try:
            return without_acts(finished(rows_of(snapshot)))
        finally:
            finished(snapshot.close())

    def opens(self, path: str) -> bool:
        """Whether an appliance may open a file."""
        store = SqliteStore(path)
        opened = store.open()
        failures: list[Any] = []
        opened.addErrback(failures.append)
        store.close()
        return not failures


class StatusTests(DbCase):
    """``status``."""

    def test_no_store_yet(self) -> None:
        """Before the first start it says so, and makes nothing."""
        found = self.done("status")
        self.assertEqual((found["store"], found["schema"]), (f"sqlite:{self.path}", None))
        self.assertFalse(Path(self.path).exists())

    def test_store(self) -> None:
        """Schema, appliance, run, size; the rows of every table when asked for; who runs; the last dump."""
        self.live(self.path)
        found = self.done("status")
        self.assertEqual((found["schema"], found["run"], found["appliance"]), (NEWEST, 1, "does not run"))
        self.assertNotIn("schema_wanted", found)
        self.assertGreater(found["size_bytes"], 4096)
        found = self.done("status", "--rows")
        self.assertEqual(set(found["rows"]), {table.name for table in TABLES})
        self.assertEqual(found["rows"]["buckets"], 1)
        running = StateDirectory(self.state)
        self.assertIn(str(os.getpid()), self.done("status")["appliance"])
        self.assertIn(f"process {os.getpid()} on ", holder_of(self.state))
        running.release()
        self.assertEqual(holder_of(self.state), "")
        _, out, _ = self.db("status", "--rows")
        self.assertIn("rows of audit events", out)

    def test_old_schema(self) -> None:
        """A store of an older program is looked at, and what helps is said."""
        make_old_store(self.path, 3)
        found = self.done("status", "--rows")
        self.assertEqual(
            (found["schema"], found["schema_wanted"]), (3, f"{NEWEST}: run `coldstore db upgrade`")
        )

    def test_configuration(self) -> None:
        """Mistakes in the configuration are told, and nothing is looked at."""
        self.configuration.write_text("state_directory: 7\nfoo: 1\n")
        status, _, err = self.db("status")
        self.assertEqual(status, 1)
        self.assertIn("foo: there is no such setting", err)

    def test_another_owner(self) -> None:
        """Who is not the owner of the state is told whom to be, before anything is made."""
        self.live(self.path)
        self.patch(os, "geteuid", lambda: os.stat(self.path).st_uid + 1)
        for words in (
            ("status",),
            ("backup", "x"),
            ("upgrade",),
            ("restore", "x"),
            ("move", "sqlite", "sqlite:/x/y"),
        ):
            self.refused("Try: sudo -u", *words)


class UpgradeTests(DbCase):
    """``upgrade``."""

    def test_upgrade(self) -> None:
        """An old store is dumped, upgraded, and then opened; a second time there is nothing to do."""
        for schema in (1, 4):
            Path(self.path).unlink(missing_ok=True)
            make_old_store(self.path, schema)
            before = self.rows(self.path)
            self.assertFalse(self.opens(self.path))
            found = self.done("upgrade")
            self.assertEqual(
                (found["schema_before"], found["schema"], found["result"]), (schema, NEWEST, "done")
            )
            self.assertIn(f"before-upgrade-of-schema-{schema}-", found["dump"])
            self.assertTrue(self.opens(self.path))
            self.assertIn("nothing was done", self.done("upgrade")["result"])
            # The dump is of the old store, and becomes the new one.
            upgraded = self.rows(self.path)
            self.configuration.write_text(f"state_directory: {self.folder}/again{schema}\n")
            (self.folder / f"again{schema}").mkdir()
            self.done("restore", found["dump"])
            self.assertEqual(self.rows(f"{self.folder}/again{schema}/metadata.sqlite"), upgraded)
            self.assertEqual(
                {name: len(rows) for name, rows in before.items()},
                {name: len(upgraded[name]) for name in before},
            )
            self.configuration.write_text(f"state_directory: {self.state}\n")

    def test_no_dump(self) -> None:
        """Without a dump when that is wanted."""
        make_old_store(self.path, 2)
        self.assertNotIn("dump", self.done("upgrade", "--no-dump"))
        self.assertFalse((self.state / "dumps").exists())

    def test_refusals(self) -> None:
        """Nothing there, an appliance that runs, a folder of dumps that cannot be used, a newer store: nothing is changed."""
        self.refused("nothing to upgrade", "upgrade")
        make_old_store(self.path, 2)
        running = StateDirectory(self.state)
        self.refused(f"in use by process {os.getpid()}.*Stop it first", "upgrade")
        running.release()
        (self.state / "dumps").touch()
        self.refused("dumps", "upgrade")
        with contextlib.closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            connection.execute("INSERT INTO migrations VALUES (99, 'x')")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self.refused("newer program", "upgrade")


class BackupTests(DbCase):
    """``backup`` and ``restore``."""

    def setUp(self) -> None:
        """Have a life, and its dump."""
        super().setUp()
        self.live(self.path)
        self.file = str(self.folder / "copy.gz")
        self.saved = self.done("backup", self.file)
        self.expected = self.rows(self.path)

    def elsewhere(self) -> str:
        """Go on with an empty state directory; return the path of its metadata."""
        state = self.folder / "other"
        state.mkdir()
        self.configuration.write_text(f"state_directory: {state}\n")
        self.path = str(state / "metadata.sqlite")
        self.state = state
        return self.path

    def test_round_trip(self) -> None:
        """What was dumped is what is restored, to the last value, in a store that an appliance opens."""
        self.assertEqual(self.saved["rows"], sum(map(len, self.expected.values())))
        self.assertEqual(self.saved["size_bytes"], os.path.getsize(self.file))
        path = self.elsewhere()
        found = self.done("restore", self.file)
        self.assertEqual(found["rows"], self.saved["rows"] - 1)
        self.assertEqual(self.rows(path), self.expected)
        self.assertEqual(self.acts(path), [("restore metadata", f"sqlite:{path}", f"from {self.file}")])
        self.assertTrue(self.opens(path))
        self.assertEqual([entry.name for entry in self.state.iterdir() if "restore" in entry.name], [])

    def test_leftovers(self) -> None:
        """What a restore that was killed has left in the state directory goes with the next one."""
        self.elsewhere()
        (self.state / "restore-x").mkdir()
        (self.state / "restore-x" / "older.sqlite").touch()
        self.done("restore", self.file)
        self.assertEqual([entry.name for entry in self.state.iterdir() if "restore" in entry.name], [])

    def test_backup_while_it_serves(self) -> None:
        """An appliance that runs is no reason not to make a backup; a directory is, and a folder that is not there."""
        running = StateDirectory(self.state)
        self.addCleanup(running.release)
        self.assertEqual(self.done("backup", self.file)["rows"], self.saved["rows"])
        self.refused("is a directory", "backup", str(self.folder))
        self.refused("No such file", "backup", str(self.folder / "no" / "x.gz"))

    def test_backup_over_something(self) -> None:
        """A dump takes the place of an earlier dump or of an empty file, and of nothing else: not of the metadata themselves."""
        for path in (self.path, str(self.configuration)):
            self.refused("is there and is no dump", "backup", path)
        self.assertEqual(self.rows(self.path), self.expected)
        self.refused("is no file", "backup", "/dev/null")
        empty = self.folder / "empty"
        empty.touch()
        for path in (str(empty), self.file):
            self.done("backup", path)

    def test_full_disk(self) -> None:
        """A disk that takes no more is an error that names the file."""
        path = self.folder / "full.gz"
        with PackedFile(path) as file:
            file._file.close()
            file._file = open("/dev/full", "wb", buffering=0)  # noqa: SIM115 - closed with the other
            with self.assertRaises(OSError) as caught:
                file.publish()
        self.assertEqual((caught.exception.errno, caught.exception.filename), (28, str(path)))

    def test_two_backups_to_one_file(self) -> None:
        """The first of two that write one file at a time fails, and never gives its name to what the second has not written yet."""
        path = self.folder / "both.gz"
        first = PackedFile(path)
        first.write(b"1\n")
        with PackedFile(path) as second:
            second.write(b"2\n")
            with first:
                self.assertRaises(FileExistsError, first.publish)
            self.assertFalse(path.exists())
            second.publish()
        self.assertEqual(list(packed_lines(path)), [b"2\n"])

    def test_not_the_record(self) -> None:
        """What is not the record, or not whole, is not dumped."""
        for mark in ("moved_to", "arriving_from"):
            with contextlib.closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
                connection.execute(f"UPDATE store SET {mark} = 'elsewhere'")
            status, _, err = self.db("backup", self.file)
            self.assertEqual(status, 1)
            self.assertIn("elsewhere", err)

    def test_restore_refused(self) -> None:
        """A store with rows, a running appliance, a damaged file, one of a newer schema, one that is missing: nothing is changed."""
        self.refused("it is not empty.*--replace", "restore", self.file)
        running = StateDirectory(self.state)
        self.refused("in use", "restore", self.file)
        running.release()
        self.refused("Say --yes", "restore", self.file, "--replace")
        damaged = str(self.folder / "damaged.gz")
        Path(damaged).write_bytes(Path(self.file).read_bytes()[:-9])
        self.refused(
            "damaged.gz: the file ends too soon. Nothing was changed",
            "restore",
            damaged,
            "--replace",
            "--yes",
        )
        self.refused("No such file", "restore", str(self.folder / "missing.gz"))
        self.elsewhere()
        self.refused("ends too soon", "restore", damaged)

    def test_damaged(self) -> None:
        """A store that is damaged, anywhere, is said to be; moved away as a restore says, it makes room for the dump."""
        with contextlib.closing(sqlite3.connect(self.path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        good = Path(self.path).read_bytes()
        garbage = bytes([0xEE]) * 4096
        for place in range(0, 10 * 4096, 4096):
            Path(self.path).write_bytes(good[:place] + garbage + good[place + 4096 :])
            for words in (
                ("status", "--rows"),
                ("backup", self.file),
                ("upgrade",),
                ("restore", self.file, "--replace", "--yes"),
            ):
                status, _, err = self.db(*words)
                self.assertIn(status, (0, 1))
                self.assertNotIn("Traceback", err)
        Path(self.path).write_bytes(garbage)
        self.refused(
            f"not a database. Move {self.path} .*-wal.* away", "restore", self.file, "--replace", "--yes"
        )
        for path in Path(self.state).glob("metadata.sqlite*"):
            path.unlink()
        self.done("restore", self.file)
        self.assertEqual(self.rows(self.path), self.expected)

    def test_replace(self) -> None:
        """What is there goes when the operator says yes, and only then."""
        self.live(self.elsewhere(), seed=9)
        other = self.rows(self.path)
        status, _, err = self.db("restore", self.file, "--replace", answer="no\n")
        self.assertEqual((status, self.rows(self.path)), (1, other))
        self.assertIn("Type yes", err)
        status, _, err = self.db("restore", self.file, "--replace", answer="yes\n")
        self.assertEqual(status, 0, err)
        self.assertEqual(self.rows(self.path), self.expected)

    def test_broken_off(self) -> None:
        """A restore that was killed leaves what no appliance opens; the same command finishes it, another one says what is there."""
        path = self.elsewhere()
        real = PortableSqlite.put
        left = 5

        async def put(store: PortableSqlite, table: Any, rows: Any) -> None:
            nonlocal left
            left -= 1
            if not left:
                raise KeyboardInterrupt
            await real(store, table, rows)

        self.patch(PortableSqlite, "put", put)
        status, _, _ = self.db("restore", self.file)
        self.assertEqual(status, 130)
        self.patch(PortableSqlite, "put", real)
        self.assertFalse(self.opens(path))
        self.assertIn("a dump of appliance", self.done("status")["not_whole"])
        self.refused("a dump of appliance", "backup", str(self.folder / "half.gz"))
        other = str(self.folder / "other.gz")
        self.configuration.write_text(f"state_directory: {self.folder / 'third'}\n")
        (self.folder / "third").mkdir()
        self.live(str(self.folder / "third" / "metadata.sqlite"), seed=4)
        self.done("backup", other)
        self.configuration.write_text(f"state_directory: {self.state}\n")
        self.refused("a part of something else is there already", "restore", other)
        self.done("restore", self.file)
        self.assertEqual(self.rows(path), self.expected)
        self.assertTrue(self.opens(path))


class ProcessDumpsTests(TestCase):
    """Dumps that an appliance has made by a process of its own."""

    def setUp(self) -> None:
        """Have a state directory."""
        self.state = Path(tempfile.mkdtemp(prefix="cs-db-"))
        self.addCleanup(shutil.rmtree, self.state)
        self.settings = read(f"{{state_directory: {self.state}}}", "test", {})
        runner = ReactorCommandRunner(reactor, os.environ)
        self.dumps = ProcessDumps(self.settings, runner, os.environ)
        self.assertTrue(verifyObject(IDumps, self.dumps))

    async def test_dump(self) -> None:
        """It is made, found and removed; what a killed one has left goes with the next one."""
        self.assertEqual(self.dumps.kept(), [])
        self.assertGreater(self.dumps.free_bytes(), 0)
        await lead_life(self.settings.sqlite_path, seed=2, steps=40)
        left = self.state / "dumps" / f".{name_of(1.5e9)}.partial"
        left.parent.mkdir()
        left.touch()
        for at in (1.6e9, 1.7e9):
            await self.dumps.make(at)
        self.assertFalse(left.exists())
        older, newer = self.dumps.kept()
        self.assertEqual((older.at, newer.at), (1.6e9, 1.7e9))
        checked = check_dump(self.state / "dumps" / newer.name, lambda _: None)
        self.assertEqual(checked.header.standing.appliance_id, "appliance-2")
        for _ in range(2):
            self.dumps.remove(older)
        self.assertEqual(self.dumps.kept(), [newer])

    async def test_failures(self) -> None:
        """What is in the way is told in a sentence: no metadata, a folder that cannot be made."""
        with self.assertRaisesRegex(DumpFault, f"^{self.state}/metadata.sqlite: unable to open"):
            await self.dumps.make(1.6e9)
        folder = self.state / "dumps"
        self.assertEqual(list(folder.iterdir()), [])
        folder.rmdir()
        folder.touch()
        with self.assertRaisesRegex(DumpFault, "dumps: File exists"):
            await self.dumps.make(1.6e9)


class MoveTests(DbCase):
    """``move``."""

    def setUp(self) -> None:
        """Have a life, and a place to go to."""
        super().setUp()
        self.live(self.path)
        self.expected = self.rows(self.path)
        (self.folder / "new").mkdir()
        self.there = str(self.folder / "new" / "metadata.sqlite")

    def test_there_and_back(self) -> None:
        """The old store refuses from then on, the new one serves; back again everything is as it was."""
        found = self.done("move", "sqlite", f"sqlite:{self.there}")
        self.assertEqual(found["rows"], sum(map(len, self.expected.values())) - 1)
        self.assertIn(f"name sqlite:{self.there} in the configuration", found["next"])
        self.assertEqual(self.rows(self.there), self.expected)
        moved = ("move metadata", f"sqlite:{self.there}", f"from sqlite:{self.path}")
        self.assertEqual(self.acts(self.there), [moved])
        self.assertEqual((self.opens(self.path), self.opens(self.there)), (False, True))
        self.assertIn("nothing was done", self.done("move", "sqlite", f"sqlite:{self.there}")["result"])
        self.refused("--replace", "move", f"sqlite:{self.there}", "sqlite")
        found = self.done("move", f"sqlite:{self.there}", "sqlite", "--replace", "--yes")
        self.assertNotIn("next", found)
        self.assertEqual(self.rows(self.path), self.expected)
        self.assertEqual([act[0] for act in self.acts(self.path)], ["move metadata"] * 2)
        self.assertEqual((self.opens(self.path), self.opens(self.there)), (True, False))

    def test_refused(self) -> None:
        """What cannot be is refused before anything is changed."""
        self.refused("names no store", "move", "sqlite", "mysql")
        self.refused("names no store", "move", "sqlite:", "sqlite")
        self.refused("to itself", "move", "sqlite", f"sqlite:{self.path}")
        link = self.folder / "link.sqlite"
        link.symlink_to(self.path)
        self.refused("to itself", "move", "sqlite", f"sqlite:{link}", "--replace", "--yes")
        self.refused("is not there", "move", f"sqlite:{self.there}", "sqlite")
        for folder in (self.state, self.folder / "new"):
            running = StateDirectory(folder)
            self.refused("in use", "move", "sqlite", f"sqlite:{self.there}")
            running.release()
        self.live(self.there, seed=8)
        self.refused("it is not empty", "move", "sqlite", f"sqlite:{self.there}")
        make_old_store(str(self.folder / "old.sqlite"), 3)
        self.refused(
            "coldstore db upgrade", "move", f"sqlite:{self.folder}/old.sqlite", f"sqlite:{self.there}"
        )

    def test_moved_elsewhere(self) -> None:
        """What was moved to one store is not moved to another one from there."""
        self.done("move", "sqlite", f"sqlite:{self.there}")
        self.refused(
            "were moved to.*move them from there", "move", "sqlite", f"sqlite:{self.folder}/third.sqlite"
        )

    def test_killed_anywhere(self) -> None:
        """Killed before or after any change of either store, at most one of them opens, and the same command comes to the same end."""
        count = self.killed_at(10**6)
        self.assertGreater(count, 10)
        for place in range(count):
            for name in (self.path, self.there):
                for suffix in ("", "-wal", "-shm"):
                    Path(name + suffix).unlink(missing_ok=True)
            self.live(self.path)
            expected = self.rows(self.path)
            self.assertEqual(self.killed_at(place), place + 1)
            self.assertLessEqual(self.opens(self.path) + self.opens(self.there), 1, place)
            self.done("move", "sqlite", f"sqlite:{self.there}")
            self.assertEqual(self.rows(self.there), expected)
            self.assertEqual(len(self.acts(self.there)), 1, place)
            self.assertEqual((self.opens(self.path), self.opens(self.there)), (False, True))

    def killed_at(self, place: int) -> int:
        """Begin a move that is killed with the change of a number, counted over both stores; return how many there were."""
        changes = 0
        reals = {name: getattr(PortableSqlite, name) for name in ("mark", "put", "settle")}

        def counted(name: str) -> Any:
            async def change(store: PortableSqlite, *args: Any, **kwargs: Any) -> None:
                nonlocal changes
                is_last = changes == place
                changes += 1
                if is_last and place % 2:
                    raise KeyboardInterrupt
                await reals[name](store, *args, **kwargs)
                if is_last:
                    raise KeyboardInterrupt

            return change

        for name in reals:
            self.patch(PortableSqlite, name, counted(name))
        status, _, err = self.db("move", "sqlite", f"sqlite:{self.there}")
        for name, method in reals.items():
            self.patch(PortableSqlite, name, method)
        self.assertEqual(status, 130 if changes == place + 1 else 0, err)
        return changes

    def test_changed_meanwhile(self) -> None:
        """A move that was broken off does not go on once an appliance has run on the old store; begun anew it has everything."""
        self.killed_at(6)
        with contextlib.closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            connection.execute("INSERT INTO epochs (began_at) VALUES (7)")
        self.refused(
            "a part of something else is there already.*run 1.*run 2",
            "move",
            "sqlite",
            f"sqlite:{self.there}",
        )
        self.done("move", "sqlite", f"sqlite:{self.there}", "--replace", "--yes")
        self.assertEqual(len(self.rows(self.there)["epochs"]), 2)
        self.assertTrue(self.opens(self.there))
