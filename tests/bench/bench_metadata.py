"""
How fast the SQLite store is, as ratios measured in one run: ``python -m tests.bench.bench_metadata [rows] [folder]``.

Durable publications with 64 under way, in group commits against one commit each; then listing, pending and backlog over
many rows against a few.
"""

import sys
import tempfile
from collections.abc import Awaitable, Callable
from time import perf_counter, process_time

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import react

from coldstore.metadata.sqlite.store import SqliteStore
from coldstore.model.objects import StorageClass
from tests.contract.metadata_contract import facts_of, piece_of

LANES = 64
CLASSES = [StorageClass.GLACIER]


async def opened(reactor: object, path: str, *, write_batch_max: int) -> SqliteStore:
    """Open a new store with a bucket."""
    store = SqliteStore(path, reactor=reactor, write_batch_max=write_batch_max)  # type: ignore[arg-type]
    await store.open()
    await store.create_bucket(name="b", owner_id="o", region="r", created_at=1.0, default_class=None)
    return store


async def publish(store: SqliteStore, count: int, *, prefix: str, lanes: int = LANES) -> tuple[float, float]:
    """Publish ``count`` versions, ``lanes`` at a time; return the rate per second and the CPU microseconds of each."""
    numbers = iter(range(count))

    async def lane() -> None:
        for number in numbers:
            # A multiplicative scramble: keys come in no order, as clients send them.
            name = f"{prefix}/{number * 2654435761 % 2**32:010}/{number:020}"
            await store.publish_version(
                facts_of(name.encode()),
                layout_id=f"layout-{name}",
                pieces=[piece_of(f"piece-{name}")],
                wants_tape=True,
                condition=None,
                messages=(),
            )

    wall, cpu = perf_counter(), process_time()
    await gatherResults([Deferred.fromCoroutine(lane()) for _ in range(lanes)])
    return count / (perf_counter() - wall), (process_time() - cpu) / count * 1e6


async def milliseconds(ask: Callable[[], Awaitable[object]], *, times: int = 15) -> float:
    """Return the median time of an answer."""
    taken = []
    for _ in range(times):
        begun = perf_counter()
        await ask()
        taken.append((perf_counter() - begun) * 1e3)
    return sorted(taken)[times // 2]


async def questions(store: SqliteStore) -> dict[str, float]:
    """Time what loops and listings ask."""
    found = await store.list_current("b", from_key=b"rows/2", before_key=None, limit=1)
    middle = (found or await store.list_current("b", from_key=b"", before_key=None, limit=1))[0].facts.key
    return {
        "current_version": await milliseconds(lambda: store.current_version("b", middle)),
        "list_current 1000": await milliseconds(
            lambda: store.list_current("b", from_key=middle, before_key=None, limit=1000)
        ),
        "pending 1000": await milliseconds(
            lambda: store.pending(classes=CLASSES, after_sequence=0, limit=1000)
        ),
        "backlog": await milliseconds(store.backlog),
    }


async def main(reactor: object, rows: int, folder: str) -> None:
    """Measure and print."""
    one = await opened(reactor, f"{folder}/single", write_batch_max=1)
    single, single_cpu = await publish(one, 1500, prefix="single")
    await one.close()
    store = await opened(reactor, f"{folder}/group", write_batch_max=256)
    alone, _ = await publish(store, 300, prefix="alone", lanes=1)
    group, group_cpu = await publish(store, 10_000, prefix="group")
    print(f"publish_version, {LANES} under way, a commit each   {single:9.0f}/s {single_cpu:6.0f} us CPU")
    print(f"publish_version, {LANES} under way, group commit    {group:9.0f}/s {group_cpu:6.0f} us CPU")
    print(f"publish_version, one under way               {alone:9.0f}/s")
    print(f"group commit is {group / single:.1f} times as fast as a commit each")
    few = await questions(store)
    await publish(store, rows, prefix="rows", lanes=256)
    many = await questions(store)
    for name, taken in many.items():
        print(
            f"{name:20} {few[name]:8.2f} ms of 10k   {taken:8.2f} ms of {rows}   ratio {taken / few[name]:.1f}"
        )
    await store.close()


if __name__ == "__main__":
    row_count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory(dir=sys.argv[2] if len(sys.argv) > 2 else None) as scratch:
        react(lambda reactor: Deferred.fromCoroutine(main(reactor, row_count, scratch)))
