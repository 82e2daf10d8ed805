"""What a running appliance holds: finding the master key, using it, changing it."""

from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.trial.unittest import SynchronousTestCase

from coldstore.interfaces.keyring import KeyFileFault, SecretUnreadable
from coldstore.interfaces.metadata import Conflict
from coldstore.keys.keyfile import KeyFile
from coldstore.keys.keyring import Keyring
from coldstore.keys.sealing import MasterSecret, id_in
from coldstore.metadata.sqlite.store import SqliteStore
from coldstore.model.errors import MetadataUnavailable
from coldstore.model.keys import AccessKey, MasterKey
from coldstore.model.objects import User
from coldstore.testing.metadata import FaultyStore


class KeyringCase(SynchronousTestCase):
    """A store that outlives its keyrings, and a file."""

    def setUp(self) -> None:
        """Have both, empty."""
        self.random = Random(1)
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.file = KeyFile(str(self.folder / "master.key"))
        self.inner: Any = SqliteStore(":memory:")
        self.store = FaultyStore(self.inner)
        self.done(self.store.open())
        self.addCleanup(lambda: self.done(self.store.close()))
        self.users = 0

    def done(self, waited: Any) -> Any:
        """Return what a coroutine or a Deferred has come to."""
        return self.successResultOf(
            waited if isinstance(waited, Deferred) else Deferred.fromCoroutine(waited)
        )

    def failed(self, kind: type[Exception], waited: Any) -> str:
        """Return what it has failed with, in words."""
        waited = waited if isinstance(waited, Deferred) else Deferred.fromCoroutine(waited)
        return str(self.failureResultOf(waited, kind).value)

    def keyring(self) -> Keyring:
        """Return one that is not open."""
        return Keyring(
            store=self.store.as_store(),
            file=self.file,
            seconds=lambda: 1000.0,
            random_bytes=self.random.randbytes,
            in_thread=lambda write: maybeDeferred(write),
        )

    def opened(self) -> Keyring:
        """Start once more."""
        keyring = self.keyring()
        self.done(keyring.open())
        return keyring

    def add(self, keyring: Keyring, count: int = 1) -> None:
        """Add users U0, U1... with keys K0, K1... and secrets s0, s1..."""
        for _ in range(count):
            n, self.users = self.users, self.users + 1
            key = AccessKey(
                access_key=f"K{n}",
                user_id=f"{n}",
                sealed_secret=keyring.seal(access_key=f"K{n}", secret_key=f"s{n}"),
                created_at=1.0,
            )
            self.done(self.store.create_user(User(user_id=f"{n}", name=f"U{n}", created_at=1.0), key))

    def secret(self, keyring: Keyring, n: int = 0) -> str:
        """Return the secret of a key."""
        signer = self.done(keyring.look_up(f"K{n}"))
        assert signer is not None
        return str(signer.secret_key)

    def ids(self) -> set[str]:
        """Return the ids of the master keys that secrets are under."""
        return {id_in(key.sealed_secret) for key in self.done(self.store.access_keys(after="", limit=999))}

    def known(self) -> list[str]:
        """Return the ids of the master keys that the store knows."""
        return [key.check_value[:16] for key in self.done(self.store.master_keys())]


class StartTests(KeyringCase):
    """Finding the key."""

    def test_first(self) -> None:
        """The first start makes a key, later ones find it; two look-ups of a key give one object."""
        keyring = self.opened()
        self.assertEqual(self.known(), [keyring.key_id])
        self.add(keyring, 2)
        again = self.opened()
        self.assertEqual(again.key_id, keyring.key_id)
        self.assertEqual([self.secret(again, n) for n in range(2)], ["s0", "s1"])
        self.assertIs(self.done(again.look_up("K0")), self.done(again.look_up("K0")))
        self.assertIsNone(self.done(again.look_up("K9")))
        self.assertNotIn("s0", repr(self.done(again.look_up("K0"))))

    def test_disabled_at_once(self) -> None:
        """What was looked up before is nobody's once the key is disabled, and somebody's again afterwards."""
        keyring = self.opened()
        self.add(keyring)
        self.assertEqual(self.secret(keyring), "s0")
        self.done(self.store.set_access_key_disabled(access_key="K0", disabled_at=1.0))
        self.assertIsNone(self.done(keyring.look_up("K0")))
        self.done(self.store.set_access_key_disabled(access_key="K0", disabled_at=None))
        self.assertEqual(self.secret(keyring), "s0")

    def test_missing(self) -> None:
        """Without the file there is no start as long as secrets are encrypted under it, and nothing is made in its place."""
        self.add(self.opened())
        self.folder.joinpath("master.key").rename(self.folder / "copy")
        reason = self.failed(KeyFileFault, self.keyring().open())
        self.assertIn("master.key", reason)
        self.assertIn("put back", reason)
        self.assertEqual([entry.name for entry in self.folder.iterdir()], ["copy"])
        self.folder.joinpath("copy").rename(self.folder / "master.key")
        self.assertEqual(self.secret(self.opened()), "s0")

    def test_missing_and_nothing_lost(self) -> None:
        """When nothing is encrypted under it, a new one is made."""
        before = self.opened().key_id
        self.folder.joinpath("master.key").unlink()
        after = self.opened().key_id
        self.assertNotEqual(before, after)
        self.assertEqual(self.known(), [after])

    def test_wrong(self) -> None:
        """Another key than the one of the store is refused by both ids, and changes nothing."""
        keyring = self.opened()
        self.add(keyring)
        self.folder.joinpath("master.key").unlink()
        other = MasterSecret(bytes(32))
        self.file.write(other)
        reason = self.failed(KeyFileFault, self.keyring().open())
        self.assertIn(keyring.key_id, reason)
        self.assertIn(other.key_id, reason)
        self.assertEqual(self.known(), [keyring.key_id])

    def test_older_dump(self) -> None:
        """A store from before a change of the key finds the old one beside the new one, and is brought up to it."""
        first = self.opened()
        self.add(first)
        before = self.done(self.store.access_keys(after="", limit=9))[0].sealed_secret
        self.done(first.rotate())
        # What a dump from before brings back.
        now = self.done(self.store.access_keys(after="", limit=9))[0].sealed_secret
        self.done(self.store.seal_secrets({"K0": (now, before)}))
        for key in self.done(self.store.master_keys()):
            self.done(self.store.forget_master_key(key.check_value))
        old = self.file.old(id_in(before))
        assert old is not None
        self.done(self.store.add_master_key(MasterKey(check_value=old.check_value, since=1.0)))
        keyring = self.opened()
        self.assertEqual(self.secret(keyring), "s0")
        self.assertEqual((self.ids(), self.known()), ({keyring.key_id}, [keyring.key_id]))

    def test_given_up(self) -> None:
        """Who has lost the key for good says so once: those access keys are gone, users have new ones, and the next start is as any other."""
        keyring = self.opened()
        self.add(keyring, 3)
        self.folder.joinpath("master.key").unlink()
        self.assertIn(
            f"touch {self.folder}/master.key.lost", self.failed(KeyFileFault, self.keyring().open())
        )
        note = self.folder / "master.key.lost"
        note.touch()
        self.store.fail_next("delete_access_key")
        self.failed(MetadataUnavailable, self.keyring().open())
        after = self.opened()
        self.assertFalse(note.exists())
        self.assertEqual((self.ids(), self.known()), (set(), [after.key_id]))
        self.assertIsNone(self.done(after.look_up("K0")))
        self.assertEqual(len(self.done(self.store.users())), 3)
        self.add(after)
        again = self.opened()
        self.assertEqual((again.key_id, self.secret(again, 3)), (after.key_id, "s3"))

    def test_given_up_for_nothing(self) -> None:
        """When the key is there nothing is given up, and the word is taken back."""
        self.add(self.opened())
        note = self.folder / "master.key.lost"
        note.touch()
        self.assertEqual(self.secret(self.opened()), "s0")
        self.assertFalse(note.exists())


class RotationTests(KeyringCase):
    """Another master key."""

    def test_all(self) -> None:
        """All secrets are under the new key, the store knows it alone, and the old one lies beside it."""
        keyring = self.opened()
        self.add(keyring, 95)
        before = keyring.key_id
        self.assertEqual(self.done(keyring.rotate()), 95)
        self.assertNotEqual(keyring.key_id, before)
        self.assertEqual((self.ids(), self.known()), ({keyring.key_id}, [keyring.key_id]))
        self.assertIsNotNone(self.file.old(before))
        self.assertEqual(self.secret(keyring, 94), "s94")
        self.assertEqual(self.secret(self.opened(), 94), "s94")

    def test_broken_off(self) -> None:
        """Wherever it is broken off, all secrets are known meanwhile and at the next start, which goes on with it."""
        self.add(self.opened(), 90)
        for step in ("add_master_key", "seal_secrets", "second seal_secrets", "forget_master_key"):
            for took_effect in (False, True):
                keyring = self.opened()
                before = keyring.key_id
                self.arm(step, took_effect=took_effect)
                self.failed(MetadataUnavailable, keyring.rotate())
                self.assertEqual([self.secret(keyring, n) for n in (0, 89)], ["s0", "s89"])
                if "seal" in step:
                    self.assertIn(before, self.ids())
                again = self.opened()
                self.assertNotEqual(again.key_id, before)
                self.assertEqual((self.ids(), self.known()), ({again.key_id}, [again.key_id]), step)
                self.assertEqual([self.secret(again, n) for n in (0, 89)], ["s0", "s89"])

    def arm(self, step: str, *, took_effect: bool) -> None:
        """Have a step of a change fail: of those that are repeated the first one, or the one after that."""
        name = step.removeprefix("second ")
        if name == step:
            self.store.fail_next(name, took_effect=took_effect)
            return
        through = self.inner.seal_secrets

        def first(sealed: Mapping[str, tuple[str, str]]) -> Deferred[None]:
            del self.inner.seal_secrets
            self.store.fail_next(name, took_effect=took_effect)
            return through(sealed)

        self.inner.seal_secrets = first

    def test_again_after_a_fault(self) -> None:
        """Whoever asks again after it was broken off gets a key that all secrets are under."""
        keyring = self.opened()
        self.add(keyring, 50)
        self.store.fail_next("seal_secrets")
        self.failed(MetadataUnavailable, keyring.rotate())
        self.done(keyring.rotate())
        self.assertEqual((self.ids(), self.known()), ({keyring.key_id}, [keyring.key_id]))
        self.assertEqual(self.secret(self.opened(), 49), "s49")

    def test_file_cannot_be_written(self) -> None:
        """When the file cannot be written nothing has changed."""
        keyring = self.opened()
        self.add(keyring)
        before = keyring.key_id
        self.patch(self.file, "write", self.refuse)
        self.failed(KeyFileFault, keyring.rotate())
        self.assertEqual((keyring.key_id, self.ids(), self.known()), (before, {before}, [before]))

    def refuse(self, _secret: MasterSecret, _before: MasterSecret | None = None) -> None:
        """Stand for a file system that is read-only."""
        raise KeyFileFault("read-only")

    def test_old_file_gone(self) -> None:
        """When a change is not through and the old key is gone, there is no start, and the refusal names the file that is missing."""
        keyring = self.opened()
        self.add(keyring)
        self.store.fail_next("seal_secrets")
        self.failed(MetadataUnavailable, keyring.rotate())
        (old,) = self.folder.glob("master.key.old-*")
        old.rename(self.folder / "away")
        self.assertIn(str(old), self.failed(KeyFileFault, self.keyring().open()))
        (self.folder / "away").rename(old)
        self.assertEqual(self.secret(self.opened()), "s0")

    def test_file_gone_meanwhile(self) -> None:
        """The key that is in use is kept as an old one although its file has gone or is another's: a change that breaks off loses nothing."""
        for other in (None, MasterSecret(bytes(32))):
            keyring = self.opened()
            self.add(keyring)
            self.folder.joinpath("master.key").unlink()
            if other is not None:
                self.file.write(other)
            self.store.fail_next("seal_secrets")
            self.failed(MetadataUnavailable, keyring.rotate())
            again = self.opened()
            self.assertEqual(
                [self.secret(again, n) for n in range(self.users)], [f"s{n}" for n in range(self.users)]
            )
            self.assertEqual(self.ids(), {again.key_id})

    def test_made_meanwhile(self) -> None:
        """A secret that is sealed while the new key is being recorded is under the new one: the old one is forgotten soon."""
        keyring = self.opened()
        before = keyring.key_id
        through = self.inner.add_master_key
        sealed: list[str] = []

        def recorded(key: MasterKey) -> Deferred[None]:
            sealed.append(keyring.seal(access_key="K0", secret_key="s0"))
            return through(key)

        self.patch(self.inner, "add_master_key", recorded)
        self.done(keyring.rotate())
        self.assertNotEqual(before, keyring.key_id)
        self.assertEqual([id_in(each) for each in sealed], [keyring.key_id])

    def test_one_at_a_time(self) -> None:
        """A second change waits for nobody: it is refused."""
        waiting: Deferred[None] = Deferred()
        keyring = self.keyring()
        self.done(keyring.open())
        self.patch(keyring, "_in_thread", lambda _write: waiting)
        first = keyring.rotate()
        self.failed(Conflict, keyring.rotate())
        waiting.callback(None)
        self.done(first)

    def test_unreadable(self) -> None:
        """A secret that somebody has altered is refused when it is asked for, and keeps no other from being encrypted anew."""
        keyring = self.opened()
        self.add(keyring, 3)
        sealed = {
            key.access_key: key.sealed_secret for key in self.done(self.store.access_keys(after="", limit=9))
        }
        self.done(self.store.seal_secrets({"K1": (sealed["K1"], sealed["K0"])}))
        self.failed(SecretUnreadable, keyring.look_up("K1"))
        before = keyring.key_id
        self.assertEqual(self.done(keyring.rotate()), 2)
        self.assertEqual(self.ids(), {before, keyring.key_id})
        self.assertEqual(self.secret(self.opened(), 2), "s2")
