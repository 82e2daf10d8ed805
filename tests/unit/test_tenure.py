"""Finding out whether an appliance is still the one of its library."""

from collections.abc import Callable

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from coldstore.appliance.clocks import wakeful_ticks
from coldstore.appliance.tenure import ATTEMPTS, Tenure, later_run
from coldstore.interfaces.tenure import ITenure
from coldstore.metadata.sqlite.store import SqliteStore
from coldstore.model.errors import MetadataUnavailable, TakenOver
from coldstore.model.hosts import Host
from coldstore.plan.takeover import PROOF_SECONDS
from coldstore.testing.tenure import SimulatedTenure


class TenureTests(SynchronousTestCase):
    """``Tenure``."""

    def setUp(self) -> None:
        """Two that can be asked, who know of nobody else."""
        self.clock = Clock()
        self.asleep = 1000.0
        self.asked: list[str] = []
        self.answers: dict[str, Callable[[], Deferred[str | None]]] = {}
        self.tenure = Tenure(
            questions=[lambda: self.ask("record"), lambda: self.ask("directory")],
            clock=self.clock,
            ticks=lambda: self.clock.seconds() + self.asleep,
        )

    def ask(self, whom: str) -> "Deferred[str | None]":
        """Put a question."""
        self.asked.append(whom)
        return self.answers.get(whom, lambda: succeed(None))()

    def test_interface(self) -> None:
        """It is what acts ask, as is the one that tests take away."""
        verifyObject(ITenure, self.tenure)
        verifyObject(ITenure, SimulatedTenure())

    def test_nobody(self) -> None:
        """Everybody is asked, for every act anew."""
        for _ in range(2):
            self.successResultOf(self.tenure.confirm())
        self.assertEqual(self.asked, ["record", "directory"] * 2)
        self.assertNoResult(self.tenure.when_lost())

    def test_taken_over(self) -> None:
        """One who knows of another appliance is enough: it is told, to those who wanted to know too, and nobody is asked again."""
        early, cancelled = self.tenure.when_lost(), self.tenure.when_lost()
        cancelled.addErrback(lambda _: None)
        cancelled.cancel()
        self.answers["record"] = lambda: succeed("machine two has it")
        for _ in range(2):
            refusal = self.failureResultOf(self.tenure.confirm(), TakenOver)
            self.assertEqual(str(refusal.value), "machine two has it")
        self.assertEqual(self.asked, ["record"])
        for told in (early, self.tenure.when_lost()):
            self.assertEqual(self.successResultOf(told), "machine two has it")

    def test_taken_over_meanwhile(self) -> None:
        """What one act has learnt counts for those that are still being answered, whatever they hear: it was asked earlier."""
        late: Deferred[str | None] = Deferred()
        self.answers["directory"] = lambda: late
        slow = self.tenure.confirm()
        self.answers["record"] = lambda: succeed("machine two has it")
        self.failureResultOf(self.tenure.confirm(), TakenOver)
        late.callback(None)
        self.failureResultOf(slow, TakenOver)
        self.assertEqual(self.successResultOf(self.tenure.when_lost()), "machine two has it")

    def test_stopped(self) -> None:
        """An answer that waited for a process which was stopped proves nothing: what is true now is asked."""
        answer: Deferred[str | None] = Deferred()
        self.answers["record"] = lambda: answer
        confirming = self.tenure.confirm()
        self.asleep += 3600.0
        self.answers["record"] = lambda: succeed("machine two has it")
        answer.callback(None)
        self.failureResultOf(confirming, TakenOver)

    def test_age(self) -> None:
        """An answer is as old as its question, whoever is asked in between."""
        slow: Deferred[str | None] = Deferred()
        self.answers["directory"] = lambda: slow
        confirming = self.tenure.confirm()
        self.clock.advance(PROOF_SECONDS - 0.1)
        slow.callback(None)
        self.successResultOf(confirming)

        def takes_too_long() -> "Deferred[str | None]":
            self.asleep += PROOF_SECONDS
            return succeed(None)

        self.answers["directory"] = takes_too_long
        self.asked.clear()
        refusal = self.failureResultOf(self.tenure.confirm(), MetadataUnavailable)
        self.assertNotIsInstance(refusal.value, TakenOver)
        self.assertEqual(len(self.asked), 2 * ATTEMPTS)

    def test_silence(self) -> None:
        """Who does not answer is not waited for any longer than his answer would count; the other one is asked again as well."""
        self.answers["directory"] = Deferred
        confirming = self.tenure.confirm()
        for _ in range(ATTEMPTS):
            self.assertNoResult(confirming)
            self.clock.advance(PROOF_SECONDS)
        self.failureResultOf(confirming, MetadataUnavailable)
        self.assertEqual(self.asked, ["record", "directory"] * ATTEMPTS)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.answers["record"] = lambda: succeed("machine two has it")
        self.failureResultOf(self.tenure.confirm(), TakenOver)

    def test_unknown(self) -> None:
        """Who cannot be asked proves nothing, and is no reason to end either."""
        for error in (OSError(5, "Input/output error"), MetadataUnavailable("the database is away")):
            self.answers["directory"] = lambda error=error: fail(error)  # type: ignore[misc]
            refusal = self.failureResultOf(self.tenure.confirm(), MetadataUnavailable)
            self.assertIn(str(error), str(refusal.value))
            self.assertNotIsInstance(refusal.value, TakenOver)
        self.answers = {"record": self.answers["directory"]}
        self.failureResultOf(self.tenure.confirm(), MetadataUnavailable)
        self.answers.clear()
        self.successResultOf(self.tenure.confirm())

    def test_half_known(self) -> None:
        """One who cannot be asked keeps nobody from hearing what the other one knows; a store may know it itself."""
        self.answers["record"] = lambda: fail(MetadataUnavailable("the database is away"))
        self.answers["directory"] = lambda: fail(TakenOver("machine two has it"))
        refusal = self.failureResultOf(self.tenure.confirm(), TakenOver)
        self.assertEqual(str(refusal.value), "machine two has it")
        self.assertEqual(self.successResultOf(self.tenure.when_lost()), "machine two has it")

    def test_record(self) -> None:
        """The record knows of later runs, and by whom."""
        store = SqliteStore(":memory:")
        self.successResultOf(store.open())
        self.addCleanup(store.close)
        epoch = self.successResultOf(store.take_epoch(at=1.0, host=Host(name="one").text))
        ask = later_run(store, epoch.number)
        self.assertIsNone(self.successResultOf(ask()))
        self.successResultOf(store.take_epoch(at=2.0, host=Host(name="two").text))
        self.assertIn("on two", self.successResultOf(ask()) or "")

    def test_clock(self) -> None:
        """The clock that ages answers goes on."""
        before = wakeful_ticks()
        self.assertGreaterEqual(wakeful_ticks(), before)
