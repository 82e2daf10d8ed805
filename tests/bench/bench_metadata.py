"""
How fast the metadata stores are, as ratios measured in one run: ``python -m tests.bench.bench_metadata [folder]``.

Durable publications, and look-ups as a HEAD request asks them, with 1, 16 and 64 under way. SQLite in group commits against one commit each;
PostgreSQL with its steps side by side and its look-ups together against one statement after the other, and against SQLite. What
becomes of them as a store grows is told by ``bench_scale``.
"""

import os
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count
from time import perf_counter, process_time
from typing import Any
from unittest.mock import patch

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import react
from twisted.trial.unittest import SkipTest

from coldstore.interfaces.metadata import IMetadataStore
from coldstore.metadata.postgres import groupcommit, readers
from coldstore.metadata.postgres.client import Address
from coldstore.metadata.postgres.database import Statements
from coldstore.metadata.postgres.store import PostgresStore
from coldstore.metadata.sql.executor import Outcome, Step
from coldstore.metadata.sqlite.store import SqliteStore
from tests.bench.results import Figure, Report, middle
from tests.contract.metadata_contract import facts_of, piece_of
from tests.servers.postgres import OWNER, Cluster

ROUNDS = 5
LANES = (1, 16, 64)
SECONDS = 0.7
"""For each figure, in each round."""
WARM = 1_000

Measured = tuple[float, float]
"""How many a second, and the microseconds of our processor for each."""


async def rate(lanes: int, ask: Callable[[], Awaitable[object]]) -> Measured:
    """Ask for some time with ``lanes`` under way."""
    end = perf_counter() + SECONDS
    asked = 0

    async def lane() -> None:
        nonlocal asked
        while perf_counter() < end:
            await ask()
            asked += 1

    wall, cpu = perf_counter(), process_time()
    await gatherResults([Deferred.fromCoroutine(lane()) for _ in range(lanes)])
    return asked / (perf_counter() - wall), (process_time() - cpu) / asked * 1e6


class Questions:
    """What is asked of one store; every name is new to it."""

    def __init__(self, store: IMetadataStore) -> None:
        self._store = store
        self._numbers = count()
        self._keys: list[bytes] = []
        self._looked_up = count()

    async def publish(self) -> None:
        """Publish an object of one piece, as a PUT does."""
        number = next(self._numbers)
        # A multiplicative scramble: keys come in no order, as clients send them.
        name = f"{number * 2654435761 % 2**32:010}/{number:020}"
        await self._store.publish_version(
            facts_of(name.encode()),
            layout_id=f"layout-{name}",
            pieces=[piece_of(f"piece-{name}")],
            wants_tape=True,
            condition=None,
            messages=(),
        )
        self._keys.append(name.encode())

    async def look_up(self) -> None:
        """Look for one of the objects."""
        at = next(self._looked_up) * 7919 % len(self._keys)
        await self._store.current_content("b", self._keys[at])


async def in_turn(db: Statements, steps: Sequence[Step[Any]], **_: object) -> list[Outcome]:
    """Run the steps of a transaction one after the other, and each of their statements by itself."""
    return [Outcome(result=await step(db)) for step in steps]


@contextmanager
def one_by_one() -> Iterator[None]:
    """Have PostgreSQL asked one statement after the other."""
    with patch.object(groupcommit, "run_in_waves", in_turn), patch.object(readers, "LOOK_UPS_MAX", 1):
        yield


@contextmanager
def as_it_is() -> Iterator[None]:
    """Change nothing."""
    yield


async def opened(store: IMetadataStore) -> Questions:
    """Open a new store with a bucket and some objects."""
    await store.open()
    await store.create_bucket(name="b", owner_id="o", region="r", created_at=1.0, default_class=None)
    questions = Questions(store)
    await gatherResults([Deferred.fromCoroutine(questions.publish()) for _ in range(WARM)])
    return questions


def added(
    report: Report, what: str, mine: list[Measured], others: list[Measured] | None, baseline: str
) -> None:
    """Take a figure, with its ratio to what was measured beside it."""
    report.add(
        Figure(
            what=what,
            value=middle([value for value, _ in mine]),
            unit="/s",
            cpu=middle([cpu for _, cpu in mine]),
            baseline=baseline,
            ratio=None
            if others is None
            else middle([one / other for (one, _), (other, _) in zip(mine, others, strict=True)]),
        )
    )


async def main(reactor: Any, folder: str, stack: ExitStack) -> None:
    """Measure and print."""
    report = Report("metadata")
    stores: dict[str, IMetadataStore] = {
        "SQLite, a commit each": SqliteStore(f"{folder}/single", reactor=reactor, write_batch_max=1),
        "SQLite": SqliteStore(f"{folder}/group", reactor=reactor),
    }
    ways = {"SQLite, a commit each": as_it_is, "SQLite": as_it_is}
    try:
        cluster = Cluster(is_durable=True)
    except SkipTest as lack:
        print(f"without PostgreSQL: {lack}")
    else:
        stack.callback(cluster.stop)
        where = cluster.database()
        address = Address(
            host=where.host, port=where.port, database=where.database, user=OWNER, tls="disable"
        )
        stores["PostgreSQL"] = PostgresStore(
            address, reactor=reactor, connect_seconds=30, answer_seconds=60, readers=4
        )
        ways |= {"PostgreSQL, one by one": one_by_one, "PostgreSQL": as_it_is}
    asked = {name: await opened(store) for name, store in stores.items()}
    found: dict[tuple[str, int, str], list[Measured]] = {}
    for _ in range(ROUNDS):
        for what in ("publish", "look_up"):
            for lanes in LANES:
                for name, way in ways.items():
                    if what == "look_up" and "commit" in name:
                        continue
                    questions = asked[name.partition(", one")[0]]
                    with way():
                        measured = await rate(lanes, getattr(questions, what))
                    found.setdefault((what, lanes, name), []).append(measured)
    baselines = {
        "SQLite": ["SQLite, a commit each"],
        "PostgreSQL": ["PostgreSQL, one by one", "SQLite"],
    }
    for what, lanes, name in sorted(found, key=lambda each: each[:2]):
        for baseline in baselines.get(name, [""]):
            others = found.get((what, lanes, baseline))
            words = f"{what.replace('_', ' ')}, {lanes} under way, {name}"
            added(report, words, found[what, lanes, name], others, baseline if others else "")
    report.finish()
    for store in stores.values():
        await store.close()


if __name__ == "__main__":
    with ExitStack() as ending:
        scratch = ending.enter_context(
            tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None)
        )
        os.chmod(scratch, 0o711)
        react(lambda reactor: Deferred.fromCoroutine(main(reactor, scratch, ending)))
