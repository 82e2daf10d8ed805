"""Steps that wait for the writer."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from coldstore.metadata.sql import stepqueue
from coldstore.metadata.sql.executor import Outcome
from coldstore.metadata.sql.stepqueue import StepQueue
from coldstore.model.errors import MetadataUnavailable


async def a_step(_: Any) -> None:
    """Do nothing."""


async def another_step(_: Any) -> None:
    """Do nothing."""


class StepQueueTests(SynchronousTestCase):
    """The queue of a writer that notes how often it is begun."""

    def setUp(self) -> None:
        """Have an open one."""
        self.clock = Clock()
        self.begun = 0
        self.queue = StepQueue(self.clock, self.begin)
        self.queue.open()

    def begin(self) -> None:
        """Take note."""
        self.begun += 1

    def test_order(self) -> None:
        """The writer is begun once for all that a turn of the reactor brings; steps stay until they are told, in their order."""
        one, other = self.queue.put(a_step), self.queue.put(another_step)
        self.assertEqual(self.begun, 0)
        self.clock.advance(0)
        self.assertEqual(self.begun, 1)
        self.assertEqual(self.queue.first(1), [a_step])
        self.assertEqual(self.queue.first(5), [a_step, another_step])
        self.queue.tell([Outcome(result=1)])
        self.assertEqual(self.successResultOf(one), 1)
        self.assertEqual((len(self.queue), self.queue.first(5)), (1, [another_step]))
        self.queue.tell([Outcome(error=ValueError())])
        self.failureResultOf(other, ValueError)
        self.queue.rest()
        self.queue.put(a_step)
        self.clock.advance(0)
        self.assertEqual(self.begun, 2)

    def test_left(self) -> None:
        """Who has left hears nothing; his step is carried out all the same."""
        left = self.queue.put(a_step)
        left.cancel()
        self.failureResultOf(left)
        self.assertEqual(self.queue.first(1), [a_step])
        self.queue.tell([Outcome(result=1)])

    def test_refused(self) -> None:
        """None is taken before it is open, once it is closed, nor behind too many others."""
        self.failureResultOf(StepQueue(self.clock, self.begin).put(a_step), MetadataUnavailable)
        self.patch(stepqueue, "QUEUE_MAX", 2)
        for _ in range(2):
            self.assertNoResult(self.queue.put(a_step))
        self.failureResultOf(self.queue.put(a_step), MetadataUnavailable)
        closing = Deferred.fromCoroutine(self.queue.close())
        self.queue.tell([Outcome(), Outcome()])
        self.failureResultOf(self.queue.put(a_step), MetadataUnavailable)
        self.assertNoResult(closing)
        again = Deferred.fromCoroutine(self.queue.close())
        self.queue.rest()
        self.successResultOf(closing)
        self.successResultOf(again)
        self.successResultOf(Deferred.fromCoroutine(self.queue.close()))
