"""The record and the state directory of an appliance belong together."""

from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from coldstore.appliance.home import OtherHome, demand_home
from coldstore.metadata.sqlite.store import SqliteStore


class HomeTests(SynchronousTestCase):
    """``demand_home``."""

    def setUp(self) -> None:
        """A state directory without anything in it."""
        self.state = Path(self.mktemp())
        self.state.mkdir()
        self.staging = self.state / "staging"

    def store(self, appliance_id: str = "A", *, is_used: bool = False) -> SqliteStore:
        """Return a store that is new, or had a run already."""
        store = SqliteStore(":memory:", new_appliance_id=lambda: appliance_id)
        self.successResultOf(store.open())
        self.addCleanup(store.close)
        if is_used:
            self.successResultOf(store.take_epoch(at=1.0, host=""))
        return store

    def demand(self, store: SqliteStore) -> "Deferred[None]":
        """Ask."""
        return Deferred.fromCoroutine(
            demand_home(store, state_directory=self.state, staging_directory=self.staging, where="the record")
        )

    def test_new(self) -> None:
        """Both new: they belong together from now on."""
        self.successResultOf(self.demand(self.store()))
        self.successResultOf(self.demand(self.store(is_used=True)))

    def test_earlier_release(self) -> None:
        """Both used and nothing noted: an earlier release has not."""
        self.staging.mkdir()
        self.successResultOf(self.demand(self.store(is_used=True)))

    def test_other_record(self) -> None:
        """A directory that belongs to another record is refused with both names."""
        self.successResultOf(self.demand(self.store()))
        refusal = str(self.failureResultOf(self.demand(self.store("B")), OtherHome).value)
        for words in (str(self.state), "appliance A", "those of B", "the record"):
            self.assertIn(words, refusal)

    def test_other_directory(self) -> None:
        """A record that was in use, and a new directory: the bytes are elsewhere; said what to do if they are lost."""
        store = self.store(is_used=True)
        refusal = str(self.failureResultOf(self.demand(store), OtherHome).value)
        self.assertIn(f"make {self.staging} by hand", refusal)
        self.assertEqual(list(self.state.iterdir()), [])
        self.staging.mkdir()
        self.successResultOf(self.demand(store))
