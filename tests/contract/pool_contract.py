"""What every ``Pool`` promises, and strands of calls on one."""

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.trial.unittest import TestCase

from coldstore.disk.threads import Strand
from coldstore.util.asynchronous import returns_deferred
from coldstore.util.workers import Pool, outcome_of

if TYPE_CHECKING:
    _Base = TestCase
else:
    _Base = object


class PoolContract(_Base):
    """Mixed into a test case that says how to make a pool, and stops it."""

    def make_pool(self, count: int) -> Pool:
        """Return a pool of at most so many threads."""
        raise NotImplementedError

    @returns_deferred
    async def test_results(self) -> None:
        """Results and exceptions reach who waits for them, and not before somebody can wait."""
        pool = self.make_pool(2)
        calls = [pool.run(divmod, number, 3) for number in range(20)]
        self.assertFalse(any(call.called for call in calls))
        self.assertEqual(await gatherResults(calls), [divmod(number, 3) for number in range(20)])
        await self.assertFailure(pool.run(divmod, 7, 0), ZeroDivisionError)

    @returns_deferred
    async def test_told(self) -> None:
        """What a call tells of reaches who waits for it before the call's own end does, in order; nobody hears what he gave up."""
        pool = self.make_pool(1)
        heard: list[object] = []
        waiting: list[Deferred[Any]] = [Deferred(lambda _: None) for _ in range(3)]
        for each in waiting:
            each.addBoth(lambda outcome: heard.append(getattr(outcome, "type", outcome)))

        def tell() -> None:
            for each, result in zip(waiting, (1, outcome_of(divmod, (1, 0)), 3), strict=True):
                pool.tell(each, result)

        waiting[2].cancel()
        await pool.run(tell).addCallback(lambda _: heard.append("end"))
        self.assertEqual(heard, [CancelledError, 1, ZeroDivisionError, "end"])

    @returns_deferred
    async def test_one_thread(self) -> None:
        """One thread makes the calls in their order."""
        pool = self.make_pool(1)
        made: list[int] = []
        await gatherResults([pool.run(made.append, number) for number in range(30)])
        self.assertEqual(made, list(range(30)))

    @returns_deferred
    async def test_cancelled(self) -> None:
        """A cancelled call is made; its outcome is dropped."""
        pool = self.make_pool(2)
        made: list[int] = []
        call = pool.run(made.append, 1)
        call.cancel()
        await self.assertFailure(call, CancelledError)
        await pool.stop()
        self.assertEqual(made, [1])

    @returns_deferred
    async def test_stop(self) -> None:
        """Stopping waits for what is under way and what follows upon it, as often as it is asked for; a later call is made all the same."""
        pool = self.make_pool(2)
        made: list[int] = []

        def following(number: int) -> "Deferred[object]":
            return pool.run(made.append, number).addCallback(
                lambda _: following(number + 1) if number < 5 else None
            )

        call = following(1)
        stopping = [pool.stop() for _ in range(2)]
        for each in stopping:
            await each
            self.assertEqual(made, [1, 2, 3, 4, 5])
            self.assertTrue(call.called)
        await pool.stop()
        self.assertEqual(await pool.run(int), 0)

    @returns_deferred
    async def test_strand(self) -> None:
        """A strand makes its calls one after the other in their order, whatever came of those before."""
        strand = Strand(self.make_pool(2))
        made: list[int] = []

        def call(number: int) -> int:
            made.append(number)
            return 1 // (number % 7)

        calls: list[Deferred[Any]] = []
        for number in range(50):
            calls.append(strand.run(call, number))
            if number % 7 == 0:
                calls[-1] = self.assertFailure(calls[-1], ZeroDivisionError)
        await gatherResults(calls)
        self.assertEqual(made, list(range(50)))
        self.assertEqual(await strand.run(int), 0)
