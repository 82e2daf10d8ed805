"""The keys of data: their file, and what a running appliance holds."""

import hmac
from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from coldstore.interfaces.datakeys import DataKeyMismatch
from coldstore.interfaces.keyring import KeyFileFault
from coldstore.interfaces.metadata import Conflict
from coldstore.keys.datafile import (
    SAFE_HEAD,
    DataKey,
    DataKeyFile,
    DataKeySet,
    key_set_text,
    parse_key_set,
)
from coldstore.keys.dataring import DataKeyring
from coldstore.metadata.sqlite.store import SqliteStore
from coldstore.model.errors import DataKeyMissing
from coldstore.testing.metadata import FaultyStore
from tests.unit.encryption_keys import MemoryKeyFile

FIRST, SECOND = DataKey(bytes(range(32)), 100.0), DataKey(bytes(range(1, 33)), 200.0)
BOTH = DataKeySet(keys=(FIRST, SECOND))


def ids(keys: DataKeySet | None) -> list[str]:
    """Return the ids of keys."""
    return [] if keys is None else [key.key_id for key in keys.keys]


class TextTests(SynchronousTestCase):
    """What the file and an export say."""

    def test_both_ways(self) -> None:
        """Everything comes back, in its order, whatever is said to people."""
        for head in ("", SAFE_HEAD, "# x\n\n#y\n"):
            found = parse_key_set(key_set_text(BOTH, head=head))
            self.assertEqual(ids(found), [FIRST.key_id, SECOND.key_id])
            self.assertEqual(
                [(key.secret, key.since) for key in found.keys],
                [(FIRST.secret, 100.0), (SECOND.secret, 200.0)],
            )

    def test_as_documented(self) -> None:
        """The lines and the ids are those of the format, made here without us."""
        check = b"coldstore data key: check value"
        key_id = hmac.digest(bytes(range(32)), check, "sha256").hex()[:16]
        lines = f"coldstore-data-keys-1\nkey {key_id} 100 in-use {b64encode(bytes(range(32))).decode()}\n".encode()
        text = lines + f"sha256 {sha256(lines).hexdigest()}\n".encode()
        self.assertEqual(key_set_text(DataKeySet(keys=(FIRST,)), head="").encode(), text)

    def test_altered(self) -> None:
        """Any other character in a line that is no comment is noticed; what is said of it has no key in it."""
        text = key_set_text(BOTH, head="")
        for place in range(len(text)):
            for other in "0Z \n":
                changed = text[:place] + other + text[place + 1 :]
                if changed.split() == text.split():
                    continue
                with self.assertRaises(ValueError) as caught:
                    parse_key_set(changed)
                self.assertNotIn(b64encode(FIRST.secret).decode()[:8], str(caught.exception))
        for cut in range(len(text) - 1):
            self.assertRaises(ValueError, parse_key_set, text[:cut])

    def test_wrong_with_a_right_sum(self) -> None:
        """What is well summed up and yet is no such text."""
        key = text_line(FIRST, "retired")
        for lines in (
            [text_line(FIRST, "in-use"), text_line(SECOND, "in-use")],
            [key],
            [key, text_line(FIRST, "in-use")],
            [text_line(FIRST, "in-use").replace(FIRST.key_id, SECOND.key_id)],
            ["key x"],
            [text_line(FIRST, "in-use").replace(" 100 ", " soon ")],
            [f"key {FIRST.key_id} 100 in-use AAAA"],
            [f"key {FIRST.key_id} 100 in-use ü"],
        ):
            all_lines = ["coldstore-data-keys-1", *lines]
            total = sha256("".join(f"{line}\n" for line in all_lines).encode("ascii", "replace")).hexdigest()
            self.assertRaises(ValueError, parse_key_set, "\n".join([*all_lines, f"sha256 {total}"]))
        self.assertRaises(ValueError, parse_key_set, "")
        self.assertRaises(ValueError, parse_key_set, "coldstore-master-key-1 AAAA\n")

    def test_not_shown(self) -> None:
        """A key is shown by its id alone."""
        self.assertEqual(repr(FIRST), f"<key of data {FIRST.key_id}>")
        self.assertRaises(ValueError, DataKey, b"short", 0.0)

    def test_together(self) -> None:
        """Keys come to others; none goes, and what is in use stays so."""
        self.assertEqual(
            ids(DataKeySet(keys=(SECOND,)).with_old([FIRST, SECOND])), [FIRST.key_id, SECOND.key_id]
        )
        self.assertEqual(ids(DataKeySet(keys=(FIRST,)).with_new(SECOND)), [FIRST.key_id, SECOND.key_id])


def text_line(key: DataKey, state: str) -> str:
    """Return a line of a key."""
    return f"key {key.key_id} {key.since:.0f} {state} {b64encode(key.secret).decode()}"


class FileTests(SynchronousTestCase):
    """The file on a disk."""

    def setUp(self) -> None:
        """Have a place for it."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        self.path = folder / "data.keys"
        self.file = DataKeyFile(str(self.path))

    def test_life(self) -> None:
        """It comes for its owner alone, and gets more keys."""
        self.assertIsNone(self.file.read())
        self.file.write(DataKeySet(keys=(FIRST,)))
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)
        self.file.write(BOTH)
        self.assertEqual(ids(self.file.read()), [FIRST.key_id, SECOND.key_id])
        self.assertEqual([entry.name for entry in self.path.parent.iterdir()], ["data.keys"])

    def test_no_key_is_dropped(self) -> None:
        """Whoever would write fewer is stopped."""
        self.file.write(BOTH)
        self.assertRaises(AssertionError, self.file.write, DataKeySet(keys=(SECOND,)))
        self.assertEqual(ids(self.file.read()), [FIRST.key_id, SECOND.key_id])

    def test_refused(self) -> None:
        """A file that others may read, or that is damaged, or no file, is refused in words that tell what to do."""
        self.file.write(BOTH)
        self.path.chmod(0o640)
        self.assertIn("chmod 600", str(self.assertRaises(KeyFileFault, self.file.read)))
        self.path.chmod(0o600)
        self.path.write_text("nothing")
        refusal = str(self.assertRaises(KeyFileFault, self.file.read))
        self.assertIn("coldstore keys import", refusal)
        self.assertIn(str(self.path), refusal)
        self.path.unlink()
        self.path.mkdir(0o700)
        self.assertIn("cannot be read", str(self.assertRaises(KeyFileFault, self.file.read)))
        lost = DataKeyFile(str(self.path / "none" / "data.keys"))
        self.assertIn("cannot be written", str(self.assertRaises(KeyFileFault, lost.write, BOTH)))


class RingCase(SynchronousTestCase):
    """A store that outlives its keyrings, and a file."""

    def setUp(self) -> None:
        """Have both, empty."""
        self.random = Random(1)
        self.file = MemoryKeyFile()
        inner: Any = SqliteStore(":memory:")
        self.store = FaultyStore(inner)
        self.done(self.store.open())
        self.addCleanup(lambda: self.done(self.store.close()))
        self.now = 1000.0
        self.changes = 0
        self.writing: list[Deferred[None]] = []
        """With one in it the disk takes its time."""

    def done(self, waited: Any) -> Any:
        """Return what a coroutine or a Deferred has come to."""
        return self.successResultOf(
            waited if isinstance(waited, Deferred) else Deferred.fromCoroutine(waited)
        )

    def in_thread(self, function: Any) -> "Deferred[None]":
        """Stand for a thread."""
        waiting = self.writing.pop() if self.writing else Deferred[None]()
        if not waiting.called and self.held is not waiting:
            waiting.callback(None)
        return waiting.addCallback(lambda _: function())

    held: "Deferred[None] | None" = None

    def ring(self) -> DataKeyring:
        """Return one that is not open."""

        def changed() -> None:
            self.changes += 1

        return DataKeyring(
            store=self.store.as_store(),
            file=self.file,
            seconds=lambda: self.now,
            random_bytes=self.random.randbytes,
            in_thread=self.in_thread,
            on_changed=changed,
        )

    def opened(self) -> DataKeyring:
        """Start once more."""
        ring = self.ring()
        self.done(ring.open())
        return ring

    def ready(self) -> DataKeyring:
        """Start once more, and have a key."""
        ring = self.opened()
        self.done(ring.ready())
        return ring

    def alerts(self) -> list[tuple[str, str]]:
        """Return kinds and subjects of the alerts that are open."""
        found = self.done(self.store.alerts(include_cleared=False, limit=99))
        return sorted((alert.kind, alert.subject.removeprefix("key of data ")) for alert in found)

    def known(self) -> list[str]:
        """Return the ids that the record has."""
        return [record.key_id for record in self.done(self.store.data_keys())]


class StartTests(RingCase):
    """How keys are found."""

    def test_nothing_wanted(self) -> None:
        """As long as nothing is to be encrypted there is no key, no file and no alert."""
        ring = self.opened()
        self.assertEqual((ring.in_use(), self.file.keys, self.known(), self.alerts()), (None, None, [], []))
        self.assertIn("no keys of data yet", str(self.assertRaises(DataKeyMissing, ring.text)))

    def test_first(self) -> None:
        """The first object has a key made; later starts find it; until it is exported an alert says so."""
        ring = self.ready()
        key_id = ring.in_use()
        assert key_id is not None
        self.assertEqual((ids(self.file.keys), self.known()), ([key_id], [key_id]))
        wrapped = ring.wrap(b"k" * 32, b"here")
        again = self.ready()
        self.assertEqual((again.in_use(), again.unwrap(wrapped, b"here")), (key_id, b"k" * 32))
        self.assertEqual(self.alerts(), [("data-key-not-exported", key_id)])
        self.done(again.note_exported([key_id]))
        self.assertEqual(self.alerts(), [])

    def test_many_at_once(self) -> None:
        """Many first objects at once have one key made."""
        ring = self.opened()
        self.held = Deferred()
        self.writing.append(self.held)
        waiting = [ring.ready() for _ in range(3)]
        for each in waiting:
            self.assertNoResult(each)
        self.held.callback(None)
        for each in waiting:
            self.successResultOf(each)
        self.assertEqual(self.known(), [ring.in_use()])

    def test_who_leaves(self) -> None:
        """A client that leaves while the key is being made does not keep it from being made."""
        ring = self.opened()
        self.held = Deferred()
        self.writing.append(self.held)
        first, second = ring.ready(), ring.ready()
        first.cancel()
        self.failureResultOf(first)
        self.held.callback(None)
        self.successResultOf(second)
        self.assertEqual(ids(self.file.keys), [ring.in_use()])

    def test_disk_refuses(self) -> None:
        """When the file cannot be written nothing is encrypted, and it is tried again the next time."""
        ring = self.opened()
        self.file.fault = KeyFileFault("/state/data.keys cannot be written: no space")
        self.failureResultOf(ring.ready(), DataKeyMissing)
        self.assertEqual(self.known(), [])
        self.file.fault = None
        self.done(ring.ready())
        self.assertEqual(self.known(), [ring.in_use()])

    def test_crash_behind_the_file(self) -> None:
        """A key that is in the file, and not in the record, is taken at the next start."""
        ring = self.opened()
        self.file.keys = DataKeySet(keys=(FIRST,))
        again = self.opened()
        self.assertEqual((again.in_use(), self.known()), (FIRST.key_id, [FIRST.key_id]))
        # And the one that did not know of it does not write another one in its place.
        self.done(ring.ready())
        self.assertEqual((ring.in_use(), ids(self.file.keys)), (FIRST.key_id, [FIRST.key_id]))

    def test_missing(self) -> None:
        """Without the file the appliance starts, says which key is missing, encrypts nothing and makes no key in its place."""
        ring = self.ready()
        key_id, wrapped = ring.in_use(), ring.wrap(b"k" * 32, b"here")
        assert key_id is not None
        export, kept = ring.text(), self.file.keys
        self.done(ring.note_exported([key_id]))
        self.file.keys = None
        ring = self.opened()
        self.assertEqual(self.alerts(), [("data-key-missing", key_id)])
        fault = self.failureResultOf(ring.ready(), DataKeyMissing).value
        self.assertIn(key_id, str(fault))
        self.assertEqual(self.assertRaises(DataKeyMissing, ring.unwrap, wrapped, b"here").key_id, key_id)
        self.assertRaises(DataKeyMissing, ring.text)
        self.failureResultOf(ring.rotate(), Conflict)
        self.assertIsNone(self.file.keys)
        (state,) = self.done(ring.states())
        self.assertFalse(state.is_here)

        self.assertEqual(self.done(ring.restore(export)), [key_id])
        self.assertEqual(ring.unwrap(wrapped, b"here"), b"k" * 32)
        self.assertEqual((self.alerts(), ids(self.file.keys), self.changes), ([], ids(kept), 1))
        self.assertEqual(self.done(ring.restore(export)), [])

    def test_an_older_file(self) -> None:
        """With an older file what is under its keys is read, and new objects are under its last one."""
        ring = self.ready()
        older = self.file.keys
        first = ring.in_use()
        second = self.done(ring.rotate())
        self.file.keys = older
        ring = self.ready()
        self.assertEqual(ring.in_use(), first)
        self.assertIn(("data-key-missing", second), self.alerts())


class WrappingTests(RingCase):
    """Keys of objects."""

    def test_bound(self) -> None:
        """What was wrapped for one place opens nowhere else, and not when it has changed."""
        ring = self.ready()
        wrapped = ring.wrap(b"k" * 32, b"here")
        self.assertNotEqual(ring.wrap(b"k" * 32, b"here"), wrapped)
        self.assertRaises(DataKeyMismatch, ring.unwrap, wrapped, b"there")
        for text in ("A" + wrapped.text[1:], wrapped.text[:-4], "", "ü"):
            self.assertRaises(DataKeyMismatch, ring.unwrap, wrapped._replace(text=text), b"here")

    def test_rotation(self) -> None:
        """After it new objects are under the new key, and what is under the old one is read, and can come under the new one."""
        ring = self.ready()
        old, wrapped = ring.in_use(), ring.wrap(b"k" * 32, b"here")
        self.now = 2000.0
        new = self.done(ring.rotate())
        self.assertEqual((ring.in_use(), ring.ids(), self.changes), (new, [old, new], 1))
        self.assertEqual(ring.unwrap(wrapped, b"here"), b"k" * 32)
        after = ring.rewrapped(wrapped, b"here")
        self.assertEqual((after.master_key, ring.unwrap(after, b"here")), (new, b"k" * 32))
        states = self.done(ring.states())
        self.assertEqual([state.record.retired_at for state in states], [2000.0, None])
        again = self.ready()
        self.assertEqual((again.ids(), again.unwrap(wrapped, b"here")), ([old, new], b"k" * 32))

    def test_two_rotations_at_once(self) -> None:
        """One is refused."""
        ring = self.ready()
        self.held = Deferred()
        self.writing.append(self.held)
        first = ring.rotate()
        self.failureResultOf(ring.rotate(), Conflict)
        self.failureResultOf(ring.restore(ring.text()), Conflict)
        self.held.callback(None)
        self.successResultOf(first)

    def test_rotation_that_fails(self) -> None:
        """Nothing has changed."""
        ring = self.ready()
        before = ring.in_use()
        self.file.fault = KeyFileFault("no space")
        self.failureResultOf(ring.rotate(), KeyFileFault)
        self.assertEqual((ring.in_use(), self.known()), (before, [before]))

    def test_file_that_went(self) -> None:
        """A file that was removed under a running appliance is whole again with the next change."""
        ring = self.ready()
        before = ring.in_use()
        self.file.keys = None
        new = self.done(ring.rotate())
        self.assertEqual(ids(self.file.keys), [before, new])

    def test_export(self) -> None:
        """It holds every key; what is no export, or was altered, is refused."""
        ring = self.ready()
        self.done(ring.rotate())
        self.assertEqual(ids(parse_key_set(ring.text())), ring.ids())
        self.failureResultOf(ring.restore(ring.text().replace("retired", "in-use")), ValueError)

    def test_import_of_others(self) -> None:
        """Keys of another appliance come beside those that are here, as old ones."""
        ring = self.ready()
        before = ring.in_use()
        self.assertEqual(self.done(ring.restore(key_set_text(BOTH))), [FIRST.key_id, SECOND.key_id])
        self.assertEqual((ring.in_use(), ring.ids()), (before, [FIRST.key_id, SECOND.key_id, before]))
