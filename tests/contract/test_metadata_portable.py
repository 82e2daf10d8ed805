"""SQLite files as rows: the contract of portable stores, and dumps of them."""

import contextlib
import gzip
import json
import os
import stat
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase, TestCase

from coldstore.interfaces.metadata import IMetadataStore, SchemaTooOld
from coldstore.metadata.portable.dumped import CheckedDump, DumpSnapshot, check_dump
from coldstore.metadata.portable.dumping import dump
from coldstore.metadata.portable.lines import DumpDamaged
from coldstore.metadata.portable.stores import Portable
from coldstore.metadata.sql.tables import TABLES
from coldstore.metadata.sqlite.driver import finished
from coldstore.metadata.sqlite.portable import PortableSqlite, SqliteSnapshot
from coldstore.metadata.sqlite.schema import shipped_migrations
from coldstore.metadata.sqlite.store import SqliteStore
from coldstore.model.errors import MetadataUnavailable
from tests.contract.old_stores import SCHEMAS, make_old_store
from tests.contract.portable_contract import PortableContract, lead_life, rows_of


class SqlitePortableTests(PortableContract, TestCase):
    """The contract, on SQLite."""

    def make_portable(self) -> Portable:
        """See the contract."""
        store = PortableSqlite(self.mktemp())
        self.addCleanup(store._connection.close)
        return store

    def store_on(self, portable: Portable) -> IMetadataStore:
        """See the contract."""
        store = SqliteStore(portable.name.removeprefix("sqlite:"))
        self.addCleanup(store.close)
        return store


class SqliteSnapshotTests(SynchronousTestCase):
    """What only files of SQLite have."""

    def test_older_schemas(self) -> None:
        """A file of an older schema is read as it is, and not written."""
        for schema in SCHEMAS:
            path = self.mktemp()
            make_old_store(path, schema)
            snapshot = SqliteSnapshot(path)
            standing = finished(snapshot.standing())
            self.assertEqual((standing.schema, standing.epoch, standing.moved_to), (schema, 2, ""))
            rows = finished(rows_of(snapshot))
            self.assertEqual("shares" in rows, schema > 1)
            self.assertEqual(len(rows["versions"]), 24)
            with self.assertRaises(SchemaTooOld):
                PortableSqlite(path)

    def test_newest_schema(self) -> None:
        """A file of the newest schema has exactly the portable tables."""
        path = self.mktemp()
        finished(PortableSqlite(path).close())
        snapshot = SqliteSnapshot(path)
        self.assertEqual(snapshot.tables, TABLES)
        finished(snapshot.close())

    def test_nothing_there(self) -> None:
        """A file that is missing, or is no database, or an empty one, is said to be so, and not made."""
        missing, other, empty = (Path(self.mktemp()) for _ in range(3))
        other.write_bytes(b"something else" * 100)
        empty.touch()
        for path in (missing, other, empty):
            with self.assertRaisesRegex(MetadataUnavailable, str(path)):
                SqliteSnapshot(str(path))
        self.assertFalse(missing.exists())


class DumpTests(SynchronousTestCase):
    """A dump as a file."""

    def make_dump(self, seed: int = 3) -> tuple[Path, SqliteSnapshot]:
        """Dump a random life."""
        source, path = self.mktemp(), Path(self.mktemp())
        finished(lead_life(source, seed=seed, steps=60))
        snapshot = SqliteSnapshot(source)
        self.addCleanup(snapshot._connection.close)
        finished(dump(snapshot, path, backend="sqlite", made_at=1.5e9, tell=lambda *_: None))
        return path, snapshot

    def checked(self, path: Path) -> CheckedDump:
        """Read a dump."""
        return check_dump(path, lambda _: None)

    def test_what_it_says(self) -> None:
        """The file has mode 0600 whatever the umask; any program reads it as lines of JSON; header and trailer tell what it is."""
        self.addCleanup(os.umask, os.umask(0))
        path, snapshot = self.make_dump()
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
        self.assertEqual([each.name for each in path.parent.iterdir() if "partial" in each.name], [])
        lines = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
        self.assertEqual(
            (lines[0]["format"], lines[0]["version"], lines[0]["schema"]),
            ("coldstore-metadata", 1, shipped_migrations()[-1].number),
        )
        checked = self.checked(path)
        self.assertEqual(checked.header.standing, finished(snapshot.standing()))
        self.assertEqual((checked.header.made_at, checked.header.backend), (1.5e9, "sqlite"))
        self.assertEqual(
            checked.trailer.rows, {name: len(rows) for name, rows in finished(rows_of(snapshot)).items()}
        )
        self.assertEqual(sum(isinstance(line, list) for line in lines), sum(checked.trailer.rows.values()))

    def test_older_schemas(self) -> None:
        """A dump of an older schema has its columns."""
        for schema in SCHEMAS:
            source, path = self.mktemp(), Path(self.mktemp())
            make_old_store(source, schema)
            snapshot = SqliteSnapshot(source)
            finished(dump(snapshot, path, backend="sqlite", made_at=1.5e9, tell=lambda *_: None))
            checked = self.checked(path)
            self.assertEqual(checked.header.standing.schema, schema)
            self.assertEqual(finished(rows_of(DumpSnapshot(checked))), finished(rows_of(snapshot)))

    def test_pages_from_anywhere(self) -> None:
        """Pages can be asked for in any order, again, and behind any key."""
        path, snapshot = self.make_dump()
        found = DumpSnapshot(self.checked(path))
        chance = Random(1)
        for _ in range(60):
            table = chance.choice(TABLES)
            keys = [
                tuple(row[place] for place in table.key_places)
                for row in finished(snapshot.page(table, None, 10_000))
            ]
            after = chance.choice([None, *keys])
            limit = chance.choice([1, 3, 1000])
            self.assertEqual(
                finished(found.page(table, after, limit)), finished(snapshot.page(table, after, limit))
            )
            self.assertEqual(finished(found.count(table)), len(keys))

    def test_truncated(self) -> None:
        """A file that ends too soon, wherever that is, is refused."""
        path, _ = self.make_dump()
        whole = path.read_bytes()
        for length in (*range(40), *range(40, len(whole) - 40, 97), *range(len(whole) - 40, len(whole))):
            path.write_bytes(whole[:length])
            with self.assertRaises(DumpDamaged, msg=length):
                self.checked(path)

    def test_altered(self) -> None:
        """A file of which any bit is another one is refused, unless what gzip makes of it is the same to the last byte."""
        path, _ = self.make_dump()
        whole = path.read_bytes()
        chance = Random(2)
        for place in (*range(64), *range(64, len(whole) - 64, 41), *range(len(whole) - 64, len(whole))):
            altered = bytearray(whole)
            altered[place] ^= 1 << chance.randrange(8)
            path.write_bytes(altered)
            with contextlib.suppress(DumpDamaged):
                self.checked(path)
                self.assertEqual(gzip.decompress(altered), gzip.decompress(whole))

    def test_lines_altered(self) -> None:
        """A file that was unpacked, changed and packed again is refused, whichever line was changed, left out, doubled or moved."""
        path, _ = self.make_dump()
        lines = gzip.decompress(path.read_bytes()).splitlines(keepends=True)
        chance = Random(3)
        marks = [place for place, line in enumerate(lines) if not line.startswith(b"[")]
        for place in sorted({*marks, *chance.sample(range(len(lines)), 40)}):
            line = lines[place]
            digits = [at for at, letter in enumerate(line) if letter in b"0123456789"]
            at = chance.choice(digits or [2])
            other = line[:at] + (b"1" if line[at : at + 1] != b"1" else b"2") + line[at + 1 :]
            for changed in (
                [other],
                [],
                [line, line],
                [line[:-2] + b"\n"],
                [b"[]\n"],
                [b"{}\n"],
                [b'{"table":"x"}\n'],
            ):
                path.write_bytes(gzip.compress(b"".join([*lines[:place], *changed, *lines[place + 1 :]])))
                with self.assertRaises(DumpDamaged, msg=(place, line, changed)):
                    self.checked(path)
        for more in (b"\n", b"[1]\n", lines[-1], b"\0"):
            path.write_bytes(gzip.compress(b"".join(lines) + more))
            with self.assertRaises(DumpDamaged, msg=more):
                self.checked(path)
            path.write_bytes(gzip.compress(b"".join(lines)) + more)
            with self.assertRaises(DumpDamaged, msg=more):
                self.checked(path)

    def test_values_altered(self) -> None:
        """A file whose sums are right is refused all the same, when a value is none that a database can hold."""
        path, _ = self.make_dump()
        lines = gzip.decompress(path.read_bytes()).splitlines()
        header, table = json.loads(lines[0]), lines.index(b'{"table":"buckets"}')

        def refused(said: str, *changes: tuple[int, Any]) -> None:
            changed = list(lines)
            for place, document in changes:
                changed[place] = json.dumps(document).encode()
            body = b"".join(line + b"\n" for line in changed[:-1])
            trailer = json.loads(lines[-1]) | {"sha256": sha256(body).hexdigest()}
            path.write_bytes(gzip.compress(body + json.dumps(trailer).encode() + b"\n"))
            with self.assertRaisesRegex(DumpDamaged, said):
                self.checked(path)

        row = json.loads(lines[table + 1])
        for place, value in (
            (1, "\ud800"),
            (4, float("nan")),
            (4, float("inf")),
            (6, 2**63),
            (7, -(2**63) - 1),
        ):
            refused("is no", (table + 1, [*row[:place], value, *row[place + 1 :]]))
        for name in ("last_version", "epoch"):
            refused("more than 64 bits", (0, header | {name: 2**63}))
        tables = json.loads(lines[0])["tables"]
        (buckets,) = (each for each in tables if each["name"] == "buckets")
        buckets["columns"][0][2] = True
        refused("has no key", (0, header | {"tables": tables}), (table + 1, [None, *row[1:]]))

    def test_packed_anew(self) -> None:
        """A file that was unpacked and packed again by other means, unchanged, is good."""
        path, snapshot = self.make_dump()
        path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()), 9))
        self.assertEqual(finished(rows_of(DumpSnapshot(self.checked(path)))), finished(rows_of(snapshot)))

    def test_other_files(self) -> None:
        """Files that are no dumps are refused, and a dump of a newer form says that it is one."""
        path = Path(self.mktemp())
        for content in (
            b"",
            b"\n",
            b"{}",
            b"SQLite format 3\0",
            gzip.compress(b""),
            gzip.compress(b"{}\n"),
            gzip.compress(b"[]\n"),
        ):
            path.write_bytes(content)
            with self.assertRaises(DumpDamaged, msg=content):
                self.checked(path)
        path.write_bytes(gzip.compress(b'{"format":"coldstore-metadata","version":2}\n'))
        with self.assertRaisesRegex(DumpDamaged, "newer program"):
            self.checked(path)

    def test_failure(self) -> None:
        """When a dump cannot be written to its end nothing is left of it, and what had the name before stays."""
        path, snapshot = self.make_dump()
        before = path.read_bytes()

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        with self.assertRaises(OSError):
            finished(dump(snapshot, path, backend="sqlite", made_at=2.0, tell=full))
        self.assertEqual(path.read_bytes(), before)
        self.assertEqual([each.name for each in path.parent.iterdir() if "partial" in each.name], [])
