"""Threads that take calls, and strands of calls on them: real ones on the real reactor, and those of the simulated world."""

import threading
from collections import Counter
from random import Random
from typing import cast

from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import gatherResults
from twisted.trial.unittest import TestCase

from coldstore.disk.threads import BURST, Strand
from coldstore.util.asynchronous import returns_deferred
from coldstore.util.workers import Pool, Reactor, Workers
from tests.contract.pool_contract import PoolContract
from tests.contract.virtual import InVirtualTime
from tests.simulation.life import Life, LifeThreads

reactor = cast(Reactor, installed_reactor)


class WorkersContractTests(PoolContract, TestCase):
    """``Workers``, as pools go."""

    def make_pool(self, count: int) -> Pool:
        """On the real reactor."""
        workers = Workers(reactor, count, "test")
        self.addCleanup(workers.stop)
        return workers


class LifeThreadsContractTests(InVirtualTime, PoolContract, TestCase):
    """The threads of a simulated process."""

    def make_pool(self, count: int) -> Pool:
        """Of a life of its own."""
        chance = Random(1)
        return LifeThreads(Life(self.virtual), count, lambda: chance.uniform(0.001, 0.01))


class WorkersTests(TestCase):
    """``Workers``, as threads."""

    def setUp(self) -> None:
        """Have three threads at most."""
        self.workers = Workers(reactor, 3, "test")
        self.addCleanup(self.workers.stop)

    @returns_deferred
    async def test_outcomes(self) -> None:
        """Results and exceptions reach who waits for them, in the reactor's thread; the call is in another."""
        here = threading.get_ident()
        self.assertNotEqual(await self.workers.run(threading.get_ident), here)
        self.assertEqual(await self.workers.run(divmod, 7, 2), (3, 1))
        await self.assertFailure(self.workers.run(divmod, 7, 0), ZeroDivisionError)
        told: list[int] = []
        await self.workers.run(int).addCallback(lambda _: told.append(threading.get_ident()))
        self.assertEqual(told, [here])

    @returns_deferred
    async def test_bounded(self) -> None:
        """As many calls run at once as there may be threads, and all are made."""
        barrier = threading.Barrier(3)
        self.assertEqual(
            sorted(await gatherResults([self.workers.run(barrier.wait, 30) for _ in range(3)])), [0, 1, 2]
        )
        used = Counter(
            await gatherResults([self.workers.run(threading.get_ident) for _ in range(100)])  # type: ignore[arg-type]
        )
        self.assertEqual((sum(used.values()), len(used) <= 3), (100, True))

    @returns_deferred
    async def test_stop(self) -> None:
        """Stopping waits for what is under way and ends the threads; a later call gets new ones."""
        gate = threading.Event()
        call = self.workers.run(gate.wait, 30)
        stopping = self.workers.stop()
        self.assertNoResult(stopping)
        gate.set()
        self.assertTrue(await call)
        await stopping
        await self.workers.stop()
        self.assertEqual(await self.workers.run(int), 0)


class StrandTests(TestCase):
    """``Strand``."""

    def setUp(self) -> None:
        """Have two strands on one thread."""
        self.workers = Workers(reactor, 1, "test")
        self.addCleanup(self.workers.stop)
        self.one, self.other = Strand(self.workers), Strand(self.workers)

    @returns_deferred
    async def test_turns(self) -> None:
        """A long strand lets another one have the thread."""
        made: list[str] = []
        gate = threading.Event()
        calls = [self.workers.run(gate.wait, 30)]
        calls += [self.one.run(made.append, "one") for _ in range(4 * BURST)]
        calls += [self.other.run(made.append, "other") for _ in range(BURST)]
        gate.set()
        await gatherResults(calls)
        self.assertLess(made.index("other"), 2 * BURST + 1)
        self.assertEqual(Counter(made), {"one": 4 * BURST, "other": BURST})
