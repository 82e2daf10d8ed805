"""
What lifecycle rules cost: ``python -m tests.bench.bench_lifecycle [sqlite|postgresql] [objects] [folder]``.

In a store of so many objects (10,000,000 unless given), all of a bucket that has rules: a pass when nothing is due, one at a midnight at
which nothing becomes due, transitions and expirations of a thousand objects and more, and a rule that is new, is about nearly nothing, and
has all of them to go through. How long our reactor was kept meanwhile is told as the greatest lateness of a call that is due every 10 ms.
"""

import os
import sys
import tempfile
from contextlib import closing
from time import perf_counter
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall, react

from coldstore.interfaces.metadata import IMetadataStore
from coldstore.model.configurations import ConfigurationKind
from coldstore.model.lifecycle import Expiration, Filter, Lifecycle, Rule, Transition, lifecycle_text
from coldstore.model.objects import StorageClass
from coldstore.plan.classes import ClassRule
from coldstore.work.lifecycle import Lifecycle as Loop
from coldstore.work.lifecycle import LifecyclePolicy
from tests.bench.bench_scale import Backend, backend_of
from tests.bench.filling import fill, sums
from tests.bench.results import Figure, Report, middle

BORN = 1_700_000_000
"""When the first object came into being; each of the others a second later (``filling``)."""
DAY = 1_000.0
"""So many objects become due at each midnight."""
STEP_SECONDS = 0.01
PASSES = 30
DUE = (1, 10, 100)
"""Thousands of objects."""


class Now:
    """A clock that stands still."""

    now = 0.0

    def seconds(self) -> float:
        """Return what it was set to."""
        return self.now


class Deaf:
    """A bell."""

    def ring(self) -> None:
        """Nobody is there."""


class Lateness:
    """How late a call comes that is due every 10 ms."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._call = LoopingCall(self._tick)
        self._due = 0.0
        self.worst = 0.0

    def __enter__(self) -> "Lateness":
        self._due = self._reactor.seconds()
        self._call.start(STEP_SECONDS, now=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._call.stop()

    def _tick(self) -> None:
        now = self._reactor.seconds()
        self.worst = max(self.worst, now - self._due)
        self._due = now + STEP_SECONDS


class Bench:
    """A bucket, its rules, and the loop."""

    def __init__(self, store: IMetadataStore, reactor: Any, report: Report, kind: str) -> None:
        self._store = store
        self._reactor = reactor
        self._report = report
        self._kind = kind
        self._clock = Now()
        classes = {
            name: ClassRule(pools=("main", "vault"), keep_on_disk=False, needs_restore=True)
            for name in StorageClass
        }
        bell: Any = Deaf()
        clock: Any = self._clock
        self._loop = Loop(
            store=store,
            clock=clock,
            classes=classes,
            policy=LifecyclePolicy(interval_seconds=900.0, turn_versions=2_000, day_seconds=DAY),
            region="here",
            events=(),
            new_version_id=lambda: "",
            kept_until=lambda version, now: None,
            packer_bell=bell,
            evictor_bell=bell,
            janitor_bell=bell,
            messages_bell=bell,
        )

    async def run(self, objects: int) -> None:
        """Measure everything."""
        moving = Rule(
            rule_id="move",
            is_enabled=True,
            filter=Filter(),
            transitions=(Transition(days=30, storage_class=StorageClass.DEEP_ARCHIVE),),
        )
        expiring = Rule(rule_id="expire", is_enabled=True, filter=Filter(), expiration=Expiration(days=400))
        await self._govern(moving, expiring)
        self._at_day(30)
        await self._work()
        await self._idle("a pass with nothing due", nights=False)
        await self._idle("a midnight at which nothing becomes due", nights=True)
        for rule, kind, days in ((moving, "move", 30), (expiring, "expire", 400)):
            await self._due(rule, kind, days)
        nearly_none = Rule(
            rule_id="new", is_enabled=True, filter=Filter(prefix="000999/"), expiration=Expiration(days=1)
        )
        await self._govern(nearly_none)
        self._at_day(objects / DAY + 3)
        await self._scan(objects)

    def _at_day(self, day: float) -> None:
        self._clock.now = BORN + day * DAY + 1

    async def _govern(self, *rules: Rule) -> None:
        await self._store.set_bucket_configuration(
            name="b", kind=ConfigurationKind.LIFECYCLE, document=lifecycle_text(Lifecycle(rules=rules))
        )

    async def _work(self) -> int:
        rounds = 1
        while not await self._loop.one_round():
            rounds += 1
        return rounds

    async def _idle(self, what: str, *, nights: bool) -> None:
        took = []
        for number in range(PASSES):
            if nights:
                # Before the first object was due.
                self._at_day(-PASSES + number)
                await self._govern(
                    Rule(
                        rule_id="later",
                        is_enabled=True,
                        filter=Filter(),
                        expiration=Expiration(days=1 + number % 2),
                    )
                )
                await self._loop.one_round()
                self._at_day(-PASSES + number + 1)
            begun = perf_counter()
            assert await self._loop.one_round() > 0
            took.append(perf_counter() - begun)
        self._report.add(Figure(what=f"{self._kind}: {what}", value=middle(took) * 1e3, unit="ms"))

    async def _due(self, rule: Rule, kind: str, days: int) -> None:
        """Have more and more objects be due at once."""
        first: float | None = None
        day = float(days)
        await self._govern(rule)
        self._at_day(day)
        await self._work()
        for thousands in DUE:
            before = self._loop.acted[kind]
            day += thousands
            self._at_day(day)
            begun = perf_counter()
            with Lateness(self._reactor) as late:
                rounds = await self._work()
            took = perf_counter() - begun
            done = self._loop.acted[kind] - before
            # Of ten objects one is not on tape and is not moved.
            assert done >= 0.9 * thousands * DAY - 1, (done, thousands)
            each = took / done * 1e6
            first = each if first is None else first
            self._report.add(
                Figure(
                    what=f"{self._kind}: {kind} {done:,} objects",
                    value=took,
                    unit="s",
                    cpu=each,
                    cpu_unit="us each",
                    ratio=each / first,
                    baseline="for each, those of the fewest",
                    more={"rounds": rounds, "worst lateness in ms": late.worst * 1e3},
                )
            )
            print(f"  {rounds} rounds, the reactor was late by {late.worst * 1e3:.0f} ms at most", flush=True)

    async def _scan(self, objects: int) -> None:
        begun = perf_counter()
        with Lateness(self._reactor) as late:
            rounds = await self._work()
        took = perf_counter() - begun
        self._report.add(
            Figure(
                what=f"{self._kind}: a new rule goes through {objects:,} objects",
                value=took,
                unit="s",
                cpu=took / objects * 1e6,
                cpu_unit="us each",
                more={"rounds": rounds, "worst lateness in ms": late.worst * 1e3},
            )
        )
        print(f"  {rounds} rounds, the reactor was late by {late.worst * 1e3:.0f} ms at most", flush=True)


async def prepared(backend: Backend, reactor: Any, objects: int) -> None:
    """Fill a store."""
    store = backend.open(reactor)
    await store.open()
    await store.take_epoch(at=1.0, host="")
    bucket = await store.create_bucket(
        name="b", owner_id="owner", region="here", created_at=1.0, default_class=None
    )
    await store.close()
    backend.run(
        "INSERT INTO shares (owner_id, bucket_uid, storage_class) VALUES ('owner', ?, 'GLACIER')",
        (bucket.bucket_uid,),
    )
    (share_uid,) = backend.run("SELECT share_uid FROM shares")
    begun = perf_counter()
    fill(backend.insert, 1, objects, bucket_uid=bucket.bucket_uid, share_uid=share_uid)
    for statement, arguments in sums(1, objects, share_uid=share_uid):
        backend.run(statement, arguments)
    backend.settle()
    print(
        f"{objects:,} objects in {perf_counter() - begun:.0f} s, {backend.size_bytes() / objects:.0f} bytes each",
        flush=True,
    )


async def main(reactor: Any, kind: str, objects: int, folder: str) -> None:
    """Measure and print."""
    report = Report(f"lifecycle-{kind}")
    with closing(backend_of(kind, folder)) as backend:
        await prepared(backend, reactor, objects)
        store = backend.open(reactor)
        await store.open()
        await store.take_epoch(at=2.0, host="")
        try:
            await Bench(store, reactor, report, kind).run(objects)
        finally:
            await store.close()
    report.finish()


if __name__ == "__main__":
    words = sys.argv[1:]
    chosen = words[0] if words else "sqlite"
    count = int(words[1]) if len(words) > 1 else 10_000_000
    with tempfile.TemporaryDirectory(dir=words[2] if len(words) > 2 else None) as scratch:
        os.chmod(scratch, 0o711)
        react(lambda reactor: Deferred.fromCoroutine(main(reactor, chosen, count, scratch)))
