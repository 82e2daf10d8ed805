"""Coroutines that answer as Deferreds."""

from twisted.internet.defer import CancelledError, Deferred, DeferredLock
from twisted.trial.unittest import SynchronousTestCase

from coldstore.util.asynchronous import shielded


class ShieldedTests(SynchronousTestCase):
    """Work that goes on although who asked for it has left."""

    def test_left_alone(self) -> None:
        """Who waits gets the result."""
        inner: Deferred[int] = Deferred()
        outer = shielded(inner)
        self.assertNoResult(outer)
        inner.callback(7)
        self.assertEqual(self.successResultOf(outer), 7)

    def test_cancelled(self) -> None:
        """Who leaves is told so at once; the work goes on, and its result is undone."""
        undone: list[int] = []
        inner: Deferred[int] = Deferred()
        outer = shielded(inner, undone.append)
        outer.cancel()
        self.failureResultOf(outer, CancelledError)
        inner.callback(7)
        self.assertEqual(undone, [7])

    def test_cancelled_while_the_work_waits_for_other_work(self) -> None:
        """It is the same for work whose own beginning has come and gone, as that of a lock which was free."""
        undone: list[int] = []
        work: Deferred[int] = Deferred()
        outer = shielded(DeferredLock().run(lambda: work), undone.append)
        outer.cancel()
        self.failureResultOf(outer, CancelledError)
        work.callback(7)
        self.assertEqual(undone, [7])

    def test_fails_after_it_was_left(self) -> None:
        """A failure that nobody waits for is dropped."""
        inner: Deferred[int] = Deferred()
        outer = shielded(inner)
        outer.cancel()
        self.failureResultOf(outer, CancelledError)
        inner.errback(ValueError("nobody asked"))
        self.assertEqual(self.flushLoggedErrors(), [])
