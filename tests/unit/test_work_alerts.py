"""Alerts that follow the state of things."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from coldstore.metadata.sqlite.store import SqliteStore
from coldstore.model.errors import MetadataUnavailable
from coldstore.model.events import Severity
from coldstore.model.hosts import Host
from coldstore.work.alerts import Alerts
from coldstore.work.notices import Notices
from coldstore.work.trouble import TapeTrouble
from tests.unit.work_rig import FailingStore


class AlertsTests(SynchronousTestCase):
    """What a run knows to be open, beside the record of it."""

    def setUp(self) -> None:
        self.store = SqliteStore(":memory:")
        self.successResultOf(self.store.open())
        self.alerts = Alerts(store=self.store, clock=Clock())

    def do(self, work: object) -> object:
        """Have it done at once."""
        return self.successResultOf(Deferred.fromCoroutine(work))  # type: ignore[arg-type]

    def is_open(self) -> list[str]:
        """The kinds that the record has."""
        return [
            alert.kind for alert in self.successResultOf(self.store.alerts(include_cleared=False, limit=9))
        ]

    def test_looked_at_while_it_is_closed(self) -> None:
        """Somebody who looks while another one closes an alert does not break the closing."""
        self.do(self.alerts.open("library", "library", Severity.CRITICAL, "it cannot be used"))
        clear, waiting = self.store.clear_alert, Deferred[None]()

        def cleared_later(**which: object) -> Deferred[None]:
            self.successResultOf(clear(**which))  # type: ignore[arg-type]
            return waiting

        self.patch(self.store, "clear_alert", cleared_later)
        closing = Deferred.fromCoroutine(self.alerts.close("library", "library"))
        self.do(self.alerts.look())
        waiting.callback(None)
        self.successResultOf(closing)
        self.assertEqual((self.is_open(), self.alerts.subjects("library")), ([], []))

    def test_followed(self) -> None:
        """A kind that nobody else opens is looked for once, and then only while something of it is open or to be opened."""
        looks: list[None] = []
        look = self.alerts.look

        def counted() -> object:
            looks.append(None)
            return look()

        self.patch(self.alerts, "look", counted)
        for sentences, expected in (
            ({}, 1),
            ({}, 1),
            ({"a": "full"}, 2),
            ({"a": "full"}, 3),
            ({}, 4),
            ({}, 4),
        ):
            self.do(self.alerts.follow("disk-full", sentences, Severity.CRITICAL))
            self.assertEqual((len(looks), self.is_open()), (expected, ["disk-full"] if sentences else []))

    def test_closed_by_an_operator(self) -> None:
        """What is still so is opened again."""
        self.do(self.alerts.follow("disk-full", {"a": "full"}, Severity.CRITICAL))
        self.successResultOf(self.store.clear_alert(kind="disk-full", subject="a", at=1.0))
        self.do(self.alerts.follow("disk-full", {"a": "full"}, Severity.CRITICAL))
        self.assertEqual(self.is_open(), ["disk-full"])

    def test_opened_although_that_failed(self) -> None:
        """An alert that was opened, and of which that was not heard, is closed when it is over."""
        store = FailingStore(self.store, fails_at=None, takes_effect=True)
        alerts = Alerts(store=store, clock=Clock())  # type: ignore[arg-type]
        self.do(alerts.follow("full", {}, Severity.CRITICAL))
        store.fail_first("raise_alert")
        opening = Deferred.fromCoroutine(alerts.follow("full", {"disk": "full"}, Severity.CRITICAL))
        self.failureResultOf(opening, MetadataUnavailable)
        self.assertEqual(self.is_open(), ["full"])
        self.do(alerts.follow("full", {}, Severity.CRITICAL))
        self.assertEqual(self.is_open(), [])


class SessionsTests(SynchronousTestCase):
    """Alerts about drives that failed with a cartridge."""

    def test_two_work_at_once(self) -> None:
        """Of two sessions that end at once, either may be what closes an alert; both end well."""
        store = SqliteStore(":memory:")
        self.successResultOf(store.open())
        notices = Notices(store=store, clock=Clock(), host=Host(name="here", machine_id="1"))

        def do(work: Any) -> None:
            self.successResultOf(Deferred.fromCoroutine(work))

        do(notices.session_failed(1, "A00001L8", TapeTrouble("it broke")))
        do(notices.session_worked(1, "A00002L8"))
        clear = store.clear_alert
        waiting: list[tuple[Deferred[None], Any]] = []

        def cleared_later(**which: Any) -> Deferred[None]:
            waiting.append((Deferred(), which))
            return waiting[-1][0]

        self.patch(store, "clear_alert", cleared_later)
        both = [
            Deferred.fromCoroutine(work)
            for work in (notices.session_worked(0, "A00001L8"), notices.session_worked(1, "A00003L8"))
        ]
        for told, which in waiting:
            self.successResultOf(clear(**which))
            told.callback(None)
        for each in both:
            self.successResultOf(each)
        self.assertFalse(notices.is_anything_open)
