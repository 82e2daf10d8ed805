"""
What a store costs as it grows: ``python -m tests.bench.bench_scale [sqlite|postgresql|etcd] [most] [folder]``.

The store is filled to 10,000 object versions, 100,000 and so on up to ``most`` (1,000,000 unless given). At each size it is opened
anew and asked what clients and loops ask. The last columns say how much slower each has become with every tenfold growth;
1.0 is best, and what reads an index may grow by a few hundredths.
"""

import os
import sqlite3
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, closing
from io import StringIO
from itertools import count, pairwise
from pathlib import Path
from random import Random
from time import perf_counter
from typing import Any, Protocol

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import react

from coldstore.interfaces.metadata import BATCH_MAX, IMetadataStore
from coldstore.metadata.sqlite.store import SqliteStore
from coldstore.model.bundles import Member
from coldstore.model.objects import ObjectVersion, StorageClass
from tests.bench.filling import Rows, fill, key_of, sums
from tests.contract.metadata_contract import facts_of, piece_of

FIRST = 10_000
PUBLISHED = {1: 300, 16: 1_500, 64: 3_000}
"""Publications by how many are under way at once."""
LOOKED_UP = 4_000
MEMBERS_MAX = 10_000


class Backend(Protocol):
    """A database that can be filled past its store."""

    def open(self, reactor: Any) -> IMetadataStore:
        """Return the store, not open yet."""

    def insert(self, rows: Rows) -> None:
        """Write rows."""

    def run(self, statement: str, arguments: Sequence[object] = ()) -> Any:
        """Run one statement (``?``); return its first row."""

    def settle(self) -> None:
        """Everything that was written is to be as it would be after a quiet night."""

    async def ready(self, reactor: Any) -> dict[str, float]:
        """Do what remains to be done before the store is opened; return figures of that."""

    def size_bytes(self) -> int:
        """Return what it takes of the disk."""

    def close(self) -> None:
        """Remove it."""


class Sqlite:
    """A file."""

    def __init__(self, folder: str) -> None:
        self._path = f"{folder}/metadata.sqlite"
        self._filling: sqlite3.Connection | None = None

    def open(self, reactor: Any) -> IMetadataStore:
        """See ``Backend``."""
        return SqliteStore(self._path, reactor=reactor)

    def insert(self, rows: Rows) -> None:
        """See ``Backend``."""
        marks = ",".join("?" * len(rows.columns.split(",")))
        self._connection().executemany(
            f"INSERT INTO {rows.table} ({rows.columns}) VALUES ({marks})", rows.rows
        )

    def run(self, statement: str, arguments: Sequence[object] = ()) -> Any:
        """See ``Backend``."""
        return self._connection().execute(statement, arguments).fetchone()

    def settle(self) -> None:
        """See ``Backend``."""
        if self._filling is not None:
            with closing(self._filling) as connection:
                connection.execute("COMMIT")
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            self._filling = None

    async def ready(self, reactor: Any) -> dict[str, float]:
        """See ``Backend``."""
        return {}

    def size_bytes(self) -> int:
        """See ``Backend``."""
        return Path(self._path).stat().st_size

    def close(self) -> None:
        """See ``Backend``."""

    def _connection(self) -> sqlite3.Connection:
        if self._filling is None:
            self._filling = sqlite3.connect(self._path, isolation_level=None)
            self._filling.execute("PRAGMA synchronous = OFF")
            self._filling.execute("PRAGMA cache_size = -1000000")
            self._filling.execute("BEGIN")
        return self._filling


class Postgres:
    """A server of its own, as large as an archive box has for it."""

    settings = (
        "shared_buffers=1GB", "effective_cache_size=4GB", "maintenance_work_mem=512MB", "max_wal_size=4GB",
        "max_connections=60", "wal_level=minimal", "max_wal_senders=0", "checkpoint_timeout=15min",
    )  # fmt: skip

    def __init__(self, folder: str) -> None:
        # Elsewhere nobody has psycopg2.
        from tests.servers.postgres import OWNER, Cluster

        self._cluster = Cluster(is_durable=True, settings=self.settings)
        self._where = self._cluster.database()
        self._owner = OWNER

    def open(self, reactor: Any) -> IMetadataStore:
        """See ``Backend``."""
        from coldstore.metadata.postgres.client import Address
        from coldstore.metadata.postgres.store import PostgresStore

        host, port, database = self._where
        address = Address(host=host, port=port, database=database, user=self._owner)
        return PostgresStore(address, reactor=reactor, connect_seconds=30, answer_seconds=300, readers=4)

    def insert(self, rows: Rows) -> None:
        """See ``Backend``."""
        lines = StringIO("".join("\t".join(map(_copied, row)) + "\n" for row in rows.rows))
        with closing(self._connected()) as connection, connection, connection.cursor() as cursor:
            cursor.copy_expert(f"COPY {rows.table} ({rows.columns}) FROM STDIN", lines)

    def run(self, statement: str, arguments: Sequence[object] = ()) -> Any:
        """See ``Backend``."""
        with closing(self._connected()) as connection, connection, connection.cursor() as cursor:
            cursor.execute(statement.replace("?", "%s"), arguments)
            return cursor.fetchone() if cursor.description else None

    def settle(self) -> None:
        """See ``Backend``."""
        self._cluster.sql("VACUUM ANALYZE", database=self._where.database)
        self._cluster.sql("CHECKPOINT")

    async def ready(self, reactor: Any) -> dict[str, float]:
        """See ``Backend``."""
        return {}

    def size_bytes(self) -> int:
        """See ``Backend``."""
        ((size,),) = self._cluster.sql("SELECT pg_database_size(%s)", (self._where.database,))
        return int(size)

    def close(self) -> None:
        """See ``Backend``."""
        self._cluster.remove()

    def _connected(self) -> Any:
        import psycopg2

        host, port, database = self._where
        return psycopg2.connect(host=host, port=port, dbname=database, user=self._owner)


class Etcd(Sqlite):
    """A server of its own, into which the rows are moved from a file; each size has a prefix of its own."""

    def __init__(self, folder: str) -> None:
        from coldstore.metadata.etcd.gateway import Address
        from tests.servers.etcd import Etcd as Server

        super().__init__(folder)
        self._folder = folder
        self._server = Server(quota_bytes=8 << 30)
        self._address = Address(endpoints=[self._server.url])
        self._sizes = 0

    def open(self, reactor: Any) -> IMetadataStore:
        """See ``Backend``; before the first size, the file."""
        from coldstore.metadata.etcd.store import EtcdStore

        if not self._sizes:
            return super().open(reactor)
        replica = f"{self._folder}/replica{self._sizes}"
        return EtcdStore(self._address, prefix=self._prefix, replica_path=replica, reactor=reactor)

    async def ready(self, reactor: Any) -> dict[str, float]:
        """See ``Backend``."""
        from coldstore.metadata.etcd.gateway import Gateway
        from coldstore.metadata.etcd.keys import Keys
        from coldstore.metadata.etcd.portable import PortableEtcd
        from coldstore.metadata.portable.transfer import transfer
        from coldstore.metadata.sqlite.portable import SqliteSnapshot

        async def nothing() -> None:
            """The file stays what it is."""

        self._server.clear()
        self._sizes += 1
        target = await PortableEtcd.begin(
            lambda: Gateway(self._address, reactor=reactor, request_seconds=60.0),
            Keys(self._prefix),
            name="etcd",
            reactor=reactor,
            new_appliance_id=lambda: "bench",
        )
        snapshot = SqliteSnapshot(self._path)
        moved = await seconds(
            lambda: Deferred.fromCoroutine(
                transfer(
                    snapshot,
                    target,
                    origin="bench",
                    may_replace=False,
                    tell=lambda *_: None,
                    before_settling=nothing,
                    now=0.0,
                )
            )
        )
        await snapshot.close()
        await target.close()
        revision = self._server.call("kv/range", {"key": "YQ=="})["header"]["revision"]
        self._server.call("kv/compaction", {"revision": revision, "physical": True}, seconds=600)
        self._server.call("maintenance/defragment", {}, seconds=600)
        store = self.open(reactor)
        loaded = await seconds(store.open)
        await store.close()
        return {"moved there in s": moved, "replica loaded in s": loaded}

    def size_bytes(self) -> int:
        """See ``Backend``: etcd's file."""
        return int(self._server.call("maintenance/status", {})["dbSize"])

    def close(self) -> None:
        """See ``Backend``."""
        self._server.remove()

    @property
    def _prefix(self) -> str:
        return f"/size{self._sizes}"


def _copied(value: object) -> str:
    """Return a value as COPY takes it; texts here have nothing that would be taken for something else."""
    if value is None:
        return "\\N"
    return f"\\\\x{value.hex()}" if isinstance(value, bytes) else str(value)


async def seconds(ask: Callable[[], Awaitable[object]]) -> float:
    """Return how long an answer takes."""
    begun = perf_counter()
    await ask()
    return perf_counter() - begun


async def median_ms(ask: Callable[[], Awaitable[object]], times: int = 9) -> float:
    """Return the median time of an answer, in milliseconds."""
    return sorted([await seconds(ask) for _ in range(times)])[times // 2] * 1e3


async def in_lanes(lanes: int, number: int, ask: Callable[[], Awaitable[object]]) -> float:
    """Ask ``number`` times with ``lanes`` under way; return how many were answered a second."""
    numbers = iter(range(number))

    async def lane() -> None:
        for _ in numbers:
            await ask()

    return number / await seconds(
        lambda: gatherResults([Deferred.fromCoroutine(lane()) for _ in range(lanes)])
    )


class Questions:
    """What is measured at one size; the figures are by name, times in milliseconds or (``/s``) rates."""

    def __init__(self, store: IMetadataStore, *, first: int, last: int, names: "count[int]") -> None:
        self._store = store
        self._random = Random(last)
        self._first, self._last = first, last
        self._names = names

    async def figures(self) -> dict[str, float]:
        """Ask everything."""
        found: dict[str, float] = {}
        for lanes, number in PUBLISHED.items():
            found[f"publish, {lanes} under way /s"] = await in_lanes(lanes, number, self._publish)
        for lanes in (1, 16, 64):
            found[f"look-up, {lanes} under way /s"] = await in_lanes(lanes, LOOKED_UP, self._look_up)
        middle = key_of(self._last // 2)
        places = {"beginning": b"", "middle": middle, "end": key_of(max(1, self._last - 1_100))}
        for place, after in places.items():
            found[f"1,000 keys, {place}"] = await median_ms(lambda after=after: self._page(after, b""))
        for place, after in places.items():
            found[f"page by '/', {place}"] = await median_ms(lambda after=after: self._page(after, b"/"), 3)
        found["pending 1,000"] = await median_ms(self._pending)
        found["evictable 100"] = await median_ms(
            lambda: self._store.evictable(classes=[StorageClass.GLACIER], archived_before=2e9, limit=100)
        )
        found["backlog"] = await median_ms(self._store.backlog)
        return found | await self._bundled()

    async def _publish(self) -> None:
        number = next(self._names)
        name = f"new/{number * 2654435761 % 2**32:010}/{number:012}"
        await self._store.publish_version(
            facts_of(name.encode()),
            layout_id=f"{number:032x}",
            pieces=[piece_of(f"new/{name}")],
            wants_tape=True,
            condition=None,
            messages=(),
        )

    async def _look_up(self) -> None:
        await self._store.current_version("b", key_of(self._random.randint(self._first, self._last)))

    async def _page(self, after: bytes, delimiter: bytes) -> None:
        await self._store.list_page("b", prefix=b"", delimiter=delimiter, after=after, max_entries=1_000)

    async def _pending(self) -> list[ObjectVersion]:
        return await self._store.pending(classes=[StorageClass.GLACIER], after_sequence=0, limit=1_000)

    async def _bundled(self) -> dict[str, float]:
        """Bring a bundle to tape."""
        store, bundle_id = self._store, f"measured-{next(self._names):012}"
        await store.open_bundle(bundle_id=bundle_id, pools=("main",), created_at=1.0, epoch=1)
        waiting: list[ObjectVersion] = []
        while len(waiting) < MEMBERS_MAX:
            page = await store.pending(
                classes=[StorageClass.GLACIER],
                after_sequence=waiting[-1].sequence if waiting else 0,
                limit=1_000,
            )
            if not page:
                break
            waiting += page
        members = [
            Member(
                bundle_id=bundle_id, position=position, version_uid=version.version_uid, extent=0, extent_count=1,
                object_offset_bytes=0, length_bytes=version.facts.size_bytes, crc64nvme=version.facts.crc64nvme,
            )
            for position, version in enumerate(waiting[:MEMBERS_MAX])
        ]  # fmt: skip
        batches = [members[start : start + BATCH_MAX] for start in range(0, len(members), BATCH_MAX)]

        async def claim() -> None:
            for batch in batches:
                await store.claim_members(bundle_id, batch, last_extents={each.version_uid for each in batch})

        async def place() -> None:
            for batch in batches:
                await store.fix_offsets(bundle_id, {each.position: 512 * each.position for each in batch})

        async def settle() -> None:
            position: int | None = -1
            while position is not None:
                position = await store.settle_members(bundle_id, after_position=position, at=9.0)

        thousands = len(members) / 1_000
        claimed = await seconds(claim)
        placed = await seconds(place)
        size = len(members) * 512
        await store.freeze_bundle(bundle_id, member_count=len(members), size_bytes=size, content_bytes=size)
        await store.start_copy(bundle_id=bundle_id, pool="main", barcode="T00001L9", epoch=1)
        await store.copy_synced(
            bundle_id=bundle_id, pool="main", epoch=1, partition="b", start_block=5, size_bytes=size, sha256="00", at=2.0
        )  # fmt: skip
        await store.copy_verified(bundle_id=bundle_id, pool="main", epoch=1, at=3.0)
        settled = await seconds(settle)
        return {
            "claim 1,000 members": claimed / thousands * 1e3,
            "place 1,000 members": placed / thousands * 1e3,
            "settle 1,000 members": settled / thousands * 1e3,
        }


@asynccontextmanager
async def opened(backend: Backend, reactor: Any) -> AsyncIterator[IMetadataStore]:
    """Open a store, and close it at the end."""
    store = backend.open(reactor)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def measured(backend: Backend, reactor: Any, most: int) -> dict[int, dict[str, float]]:
    """Return the figures at each size."""
    async with opened(backend, reactor) as store:
        await store.create_bucket(name="b", owner_id="owner", region="r", created_at=1.0, default_class=None)
        bucket_uid = (await store.bucket("b")).bucket_uid
    (share_uid,) = backend.run(
        "INSERT INTO shares (owner_id, bucket_uid, storage_class) VALUES ('owner', ?, 'GLACIER') RETURNING share_uid",
        (bucket_uid,),
    )
    figures: dict[int, dict[str, float]] = {}
    names = count(1)
    size, target = 0, FIRST
    while target <= most:
        first = size + 1
        begun = perf_counter()
        fill(backend.insert, first, target, bucket_uid=bucket_uid, share_uid=share_uid)
        for statement, arguments in sums(first, target, share_uid=share_uid):
            backend.run(statement, arguments)
        backend.settle()
        filled = perf_counter() - begun
        more = await backend.ready(reactor)
        size_bytes = backend.size_bytes()
        begun = perf_counter()
        async with opened(backend, reactor) as store:
            await store.take_epoch(at=1.0, host="")
            started = perf_counter() - begun
            figures[target] = {
                "start-up": started * 1e3,
                **await Questions(store, first=first, last=target, names=names).figures(),
                "bytes of a version": size_bytes / target,
                "filled in s": filled,
                **more,
            }
        print(f"{target:,} object versions are measured", flush=True)
        # Behind the numbers that were given meanwhile, with a bundle that begins.
        (last,) = backend.run("SELECT last_version FROM store")
        size = -(-last // MEMBERS_MAX) * MEMBERS_MAX
        target *= 10
    return figures


def shown(figures: dict[int, dict[str, float]]) -> str:
    """Return a table with a column for each size, then one for each growth."""
    sizes = sorted(figures)
    lines = [f"{'ms, or a second':26}" + "".join(f"{size:>14,}" for size in sizes)]
    for name in figures[sizes[0]]:
        values = [figures[size][name] for size in sizes]
        slower = [
            before / after if name.endswith("/s") else after / before for before, after in pairwise(values)
        ]
        lines.append(
            f"{name:26}"
            + "".join(f"{value:14,.2f}" for value in values)
            + "   x"
            + "".join(f"{ratio:7.2f}" for ratio in slower)
        )
    return "\n".join(lines)


async def main(reactor: Any, kind: str, most: int, folder: str) -> None:
    """Measure and print."""
    backend = backend_of(kind, folder)
    try:
        print(shown(await measured(backend, reactor, most)))
    finally:
        backend.close()


def backend_of(kind: str, folder: str) -> Backend:
    """Return an empty database."""
    kinds: dict[str, Callable[[str], Backend]] = {"sqlite": Sqlite, "postgresql": Postgres, "etcd": Etcd}
    if kind not in kinds:
        raise SystemExit(f"{kind} is not among: {', '.join(kinds)}")
    return kinds[kind](folder)


if __name__ == "__main__":
    words = sys.argv[1:]
    chosen = words[0] if words else "sqlite"
    limit = int(words[1]) if len(words) > 1 else 1_000_000
    with tempfile.TemporaryDirectory(dir=words[2] if len(words) > 2 else None) as scratch:
        os.chmod(scratch, 0o711)
        react(lambda reactor: Deferred.fromCoroutine(main(reactor, chosen, limit, scratch)))
