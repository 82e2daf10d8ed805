"""
How fast and how large the metadata in etcd are, against the SQLite store in the same run:
``python -m tests.bench.bench_etcd [objects] [folder]``.

Durable publications with 1, 16 and 64 under way; then, with many objects, what each of them takes in etcd and in the replica, how
long a new replica is loaded, and how long a start takes that has nothing to load. etcd runs beside on the same machine and disk.
"""

import sys
import tempfile
from pathlib import Path
from time import perf_counter, process_time

from twisted.internet.defer import Deferred
from twisted.internet.task import react
from twisted.trial.unittest import SkipTest

from coldstore.metadata.etcd.gateway import Address
from coldstore.metadata.etcd.store import EtcdStore
from coldstore.metadata.sql.store import SqlStore
from coldstore.metadata.sqlite.store import SqliteStore
from tests.bench.bench_metadata import publish
from tests.servers.etcd import Etcd
from tests.servers.etcd_rows import all_keys

LANES = (1, 16, 64)
ROUNDS = 3
SKIPPED_STATUS = 77


def resident_bytes(pid: int) -> int:
    """Return what a process has in memory."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


async def opened(store: SqlStore) -> SqlStore:
    """Open a store, with a bucket."""
    await store.open()
    if not await store.buckets(owner_id=None, after="", limit=1):
        await store.create_bucket(name="b", owner_id="o", region="r", created_at=1.0, default_class=None)
    return store


async def speeds(etcd: SqlStore, sqlite: SqlStore) -> None:
    """Publish on both in turn, and print the best of each."""
    for lanes in LANES:
        best: dict[str, tuple[float, float]] = {}
        for turn in range(ROUNDS):
            for name, store in (("etcd", etcd), ("sqlite", sqlite)):
                found = await publish(
                    store,  # type: ignore[arg-type]
                    150 * min(lanes, 20),
                    prefix=f"{name}{lanes}.{turn}",
                    lanes=lanes,
                )
                best[name] = max(best.get(name, found), found)
        (rate, cpu), (other, other_cpu) = best["etcd"], best["sqlite"]
        print(
            f"publish_version, {lanes:3} under way   etcd {rate:7.0f}/s {cpu:5.0f} us CPU   sqlite {other:7.0f}/s"
            f" {other_cpu:5.0f} us CPU   ratio {rate / other:.2f}"
        )


async def main(reactor: object, objects: int, folder: str) -> None:
    """Measure and print."""
    server = Etcd()
    try:
        address = Address(endpoints=[server.url])

        def on_etcd(replica: str) -> EtcdStore:
            return EtcdStore(address, prefix="/coldstore", replica_path=replica, reactor=reactor)

        store = await opened(on_etcd(f"{folder}/replica"))
        sqlite = await opened(SqliteStore(f"{folder}/sqlite", reactor=reactor))  # type: ignore[arg-type]
        await speeds(store, sqlite)
        await sqlite.close()
        await store.close()
        server.clear()
        Path(f"{folder}/replica").unlink()

        store = await opened(on_etcd(f"{folder}/replica"))
        server.restart()
        before = resident_bytes(server.pid)
        rate, _ = await publish(store, objects, prefix="rows", lanes=256)  # type: ignore[arg-type]
        await store.close()
        revision = server.call("kv/range", {"key": "YQ=="})["header"]["revision"]
        grown = int(server.call("maintenance/status", {})["dbSize"])
        server.call("kv/compaction", {"revision": revision, "physical": True})
        server.call("maintenance/defragment", {})
        status = server.call("maintenance/status", {})
        server.restart()
        resident = resident_bytes(server.pid) - before
        keys = all_keys(server)
        raw = sum(len(key) + len(value) for key, value in keys.items())
        print(f"{objects} objects of one piece, {rate:.0f}/s with 256 under way; for each:")
        print(f"  keys and values           {raw / objects:8.0f} bytes in {len(keys) / objects:.1f} keys")
        print(
            f"  etcd's file               {int(status['dbSize']) / objects:8.0f} bytes ({grown / objects:.0f} before it was defragmented)"
        )
        print(f"  etcd's memory             {resident / objects:8.0f} bytes (once it was started anew)")
        print(f"  the replica               {Path(f'{folder}/replica').stat().st_size / objects:8.0f} bytes")
        for name, replica in (("loading a new replica", "new"), ("a start with one that is even", "new")):
            begun, cpu = perf_counter(), process_time()
            store = on_etcd(f"{folder}/{replica}")
            await store.open()
            taken = perf_counter() - begun
            print(
                f"{name:30} {taken:6.1f} s ({process_time() - cpu:.1f} s CPU), {objects / taken:8.0f} objects/s"
            )
            await store.close()
    finally:
        server.remove()


if __name__ == "__main__":
    object_count = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000
    try:
        with tempfile.TemporaryDirectory(dir=sys.argv[2] if len(sys.argv) > 2 else None) as scratch:
            react(lambda reactor: Deferred.fromCoroutine(main(reactor, object_count, scratch)))
    except SkipTest as missing:
        print(missing)
        sys.exit(SKIPPED_STATUS)
