"""The record and the state directory of an appliance belong together."""

import os
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from coldstore.appliance.form import demand_form
from coldstore.appliance.home import OtherHome, demand_home
from coldstore.metadata.sqlite.store import SqliteStore
from coldstore.model.cartridges import VolumeForm
from coldstore.util.notes import note, noted


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

    def test_torn_notes(self) -> None:
        """Of notes that were just made, a power failure may leave no words: they are made anew."""
        self.staging.mkdir()
        for words in (b"", b"\0\0\0"):
            for name in ("appliance", "filesystem"):
                (self.state / name).write_bytes(words)
            store = self.store(is_used=True)
            self.successResultOf(self.demand(store))
            form = demand_form(VolumeForm.TAR, state_directory=self.state, store=store)
            self.successResultOf(Deferred.fromCoroutine(form))
            self.assertEqual(
                [(self.state / name).read_text() for name in ("appliance", "filesystem")], ["A\n", "tar\n"]
            )


class NoteTests(SynchronousTestCase):
    """A line that a directory keeps about itself."""

    def setUp(self) -> None:
        """Have a note."""
        self.path = Path(self.mktemp())
        note(self.path, "old")

    def test_there_and_back(self) -> None:
        """It is what was noted last; what it says already is not written again."""
        note(self.path, "new")
        self.assertEqual((noted(self.path), self.path.read_text()), ("new", "new\n"))
        before = self.path.stat().st_ino
        note(self.path, "new")
        self.assertEqual(self.path.stat().st_ino, before)

    def test_full_disk(self) -> None:
        """A note that cannot be written leaves the one that was there."""

        def full(_: int) -> None:
            raise OSError(28, "No space left on device")

        self.patch(os, "fsync", full)
        self.assertRaises(OSError, note, self.path, "new")
        self.assertEqual(noted(self.path), "old")
