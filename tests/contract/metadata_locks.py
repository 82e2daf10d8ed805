"""What every metadata store keeps of object lock: what is under lock stays, whoever asks and however."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from random import Random

from twisted.internet.defer import DeferredList

from coldstore.interfaces.metadata import BATCH_MAX, DELETIONS_MAX, Conflict
from coldstore.model.errors import (
    BucketNotEmpty,
    BucketTakesNoLocks,
    InvalidBucketState,
    NoSuchBucket,
    NoSuchVersion,
    ObjectLocked,
)
from coldstore.model.locks import UNLOCKED, BucketLock, DefaultRetention, Lock, LockMode, Retention
from coldstore.model.objects import Bucket, ObjectVersion, Restore, RestorePhase, Tier, Versioning
from coldstore.plan.lock import LEEWAY_SECONDS, is_loosened, is_protected, lock_time
from tests.contract.metadata_contract import EVERY_CLASS, MetadataSteps, facts_of, piece_of, upload_of
from tests.contract.metadata_model import MetadataModel

GOVERNANCE, COMPLIANCE = LockMode
DAY = 86_400.0
YEAR = 365 * DAY
NOW = 1000.0
"""When buckets and versions come into being here."""
KEPT = Lock(Retention(COMPLIANCE, NOW + DAY))
GOVERNED = Lock(Retention(GOVERNANCE, NOW + DAY))
HELD = Lock(legal_hold=True)


class LockSteps(MetadataSteps):
    """What the tests do, in a line each."""

    async def locking_bucket(self, name: str = "c", default: DefaultRetention | None = None) -> Bucket:
        """Create a bucket that takes locks."""
        return await self.store.create_bucket(
            name=name,
            owner_id="owner",
            region="here",
            created_at=NOW,
            default_class=None,
            object_lock=BucketLock(default),
        )

    async def keep(self, key: bytes = b"k", lock: Lock = UNLOCKED, **changes: object) -> ObjectVersion:
        """Publish a version in bucket ``c``."""
        changes = {"bucket": "c", "version_id": self.unique("v"), "created_at": NOW, **changes}
        return await self.store.publish_version(
            facts_of(key, **changes),
            layout_id=self.unique("layout"),
            pieces=[piece_of(self.unique("piece"))],
            wants_tape=True,
            condition=None,
            messages=(),
            lock=lock,
        )

    async def delete_these(
        self, *versions: ObjectVersion, at: float = NOW, bypass: bool = False
    ) -> list[ObjectVersion]:
        """Delete versions for good."""
        pairs = [(version.facts.key, version.facts.version_id) for version in versions]
        return await self.store.delete_versions(
            versions[0].facts.bucket, pairs, at=at, bypass=bypass, who="somebody"
        )

    async def retain(
        self, version: ObjectVersion, retention: Retention | None, *, at: float = NOW, bypass: bool = False
    ) -> ObjectVersion:
        """Set a retention."""
        return await self.store.set_retention(
            version.version_uid, retention=retention, at=at, bypass=bypass, who="somebody"
        )

    async def hold(self, version: ObjectVersion, is_on: bool) -> ObjectVersion:
        """Put a version under legal hold, or end that."""
        return await self.store.set_legal_hold(version.version_uid, is_on=is_on, at=NOW, who="somebody")

    async def acts(self) -> list[tuple[str, str]]:
        """Return what the audit trail says that was done to what, the oldest first."""
        return [
            (event.what, event.subject)
            for event in reversed(await self.store.audit_trail(before_id=None, limit=99))
        ]


class LockContract(LockSteps):
    """The contract."""

    # ── buckets ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def test_bucket(self) -> None:
        """A bucket that takes locks keeps versions from the beginning, and neither ends."""
        bucket = await self.locking_bucket()
        self.assertEqual((bucket.object_lock, bucket.versioning), (BucketLock(), Versioning.ENABLED))
        self.assertEqual(await self.store.bucket("c"), bucket)
        await self.refused(
            InvalidBucketState, self.store.set_versioning(name="c", versioning=Versioning.SUSPENDED)
        )
        self.assertEqual(await self.store.bucket("c"), bucket)
        await self.store.set_versioning(name="c", versioning=Versioning.ENABLED)

    async def test_enabled_later(self) -> None:
        """One that keeps versions may begin to take locks, others may not."""
        yearly = BucketLock(DefaultRetention(COMPLIANCE, years=1))

        async def enable(name: str) -> Bucket:
            return await self.store.set_object_lock(name=name, object_lock=yearly, at=NOW, who="somebody")

        await self.refused(NoSuchBucket, enable("none"))
        await self.refused(InvalidBucketState, enable("b"))
        await self.store.set_versioning(name="b", versioning=Versioning.SUSPENDED)
        await self.refused(InvalidBucketState, enable("b"))
        await self.store.set_versioning(name="b", versioning=Versioning.ENABLED)
        self.assertEqual((await enable("b")).object_lock, yearly)
        self.assertEqual((await self.store.bucket("b")).object_lock, yearly)
        self.assertEqual(await self.acts(), [("object lock", "bucket b")])

    async def test_default(self) -> None:
        """A version whose writer names no retention gets the bucket's, from its creation on; later defaults change nothing."""
        await self.locking_bucket(default=DefaultRetention(GOVERNANCE, days=2))
        version = await self.keep()
        self.assertEqual(version.lock, Lock(Retention(GOVERNANCE, NOW + 2 * DAY)))
        own = await self.keep(lock=KEPT)
        self.assertEqual(own.lock, KEPT)
        held = await self.keep(lock=HELD)
        self.assertEqual(held.lock, Lock(Retention(GOVERNANCE, NOW + 2 * DAY), legal_hold=True))
        await self.store.set_object_lock(name="c", object_lock=BucketLock(), at=NOW, who="somebody")
        self.assertEqual((await self.keep()).lock, UNLOCKED)
        for each in (version, own, held):
            self.assertEqual(await self.again(each), await self.again(each))
            self.assertEqual((await self.again(each)).lock, each.lock)

    async def test_default_by_a_clock_that_was_set_back(self) -> None:
        """It ends no earlier than if the clock were right."""
        await self.locking_bucket(default=DefaultRetention(GOVERNANCE, days=2))
        version = await self.keep(created_at=NOW - YEAR)
        self.assertEqual(version.lock, Lock(Retention(GOVERNANCE, NOW + 2 * DAY)))

    async def test_upload(self) -> None:
        """An upload in parts carries its lock to the version; without one that gets the default."""
        await self.locking_bucket(default=DefaultRetention(GOVERNANCE, days=2))
        for upload_id, lock, expected in (
            ("own", replaced_hold(KEPT, False), replaced_hold(KEPT, False)),
            ("none", UNLOCKED, Lock(Retention(GOVERNANCE, NOW + 2 * DAY))),
        ):
            upload = replace(upload_of(upload_id, bucket="c"), lock=lock)
            await self.store.create_upload(upload)
            self.assertEqual((await self.store.upload("c", b"k", upload_id)).lock, lock)
            await self.store.put_part(upload_id, piece_of(self.unique("part")))
            version = await self.store.complete_upload(
                upload_id,
                facts_of(b"k", bucket="c", version_id=self.unique("v"), part_sizes="10"),
                listed=[1],
                wants_tape=True,
                condition=None,
                messages=(),
            )
            self.assertEqual(version.lock, expected)
            self.assertEqual((await self.again(version)).lock, expected)

    async def test_bucket_without(self) -> None:
        """Nothing can be locked in a bucket that takes no locks."""
        version = await self.publish(b"k")
        await self.refused(BucketTakesNoLocks, self.keep(bucket="b", lock=HELD, version_id="null"))
        await self.refused(BucketTakesNoLocks, self.retain(version, KEPT.retention))
        await self.refused(BucketTakesNoLocks, self.hold(version, True))
        self.assertEqual(await self.store.current_version("b", b"k"), version)

    # ── what is under lock stays ────────────────────────────────────────────────────────────────────────────────────

    async def test_protected(self) -> None:
        """What is under lock is not deleted, with whatever else; what is not goes."""
        await self.locking_bucket()
        for lock, bypass, is_kept in (
            (UNLOCKED, False, False),
            (GOVERNED, False, True),
            (GOVERNED, True, False),
            (KEPT, False, True),
            (KEPT, True, True),
            (HELD, True, True),
            (Lock(GOVERNED.retention, legal_hold=True), True, True),
            (Lock(legal_hold=False), False, False),
            (Lock(Retention(COMPLIANCE, NOW)), False, False),
        ):
            version, other = await self.keep(lock=lock), await self.keep(b"other")
            if not is_kept:
                self.assertEqual(len(await self.delete_these(version, other, bypass=bypass)), 2)
                await self.refused(
                    NoSuchVersion, self.store.version_content("c", b"k", version.facts.version_id)
                )
                continue
            refusal = await self.refused(ObjectLocked, self.delete_these(other, version, bypass=bypass))
            assert isinstance(refusal, ObjectLocked)
            self.assertEqual(list(refusal.reasons), [(b"k", version.facts.version_id)])
            self.assertEqual(await self.again(version), version)
            self.assertEqual(await self.again(other), other)
            await self.refused(BucketNotEmpty, self.store.delete_bucket("c"))
        self.assertEqual(await self.acts(), [("bypass retention, delete", "bucket c")])

    async def test_marker(self) -> None:
        """A delete without an id puts a marker on what is under lock; markers go, and cannot be locked."""
        await self.locking_bucket()
        version = await self.keep(lock=KEPT)
        (marker,) = await self.store.delete_current(
            "c", [b"k"], at=NOW, messages={}, owner_id="owner", marker_ids=["m"]
        )
        self.assertEqual(marker.lock, UNLOCKED)
        await self.refused(Conflict, self.retain(marker, KEPT.retention))
        await self.refused(Conflict, self.hold(marker, True))
        await self.refused(ObjectLocked, self.delete_these(version, bypass=True))
        await self.delete_these(marker)
        self.assertEqual((await self.store.current_version("c", b"k")).lock, KEPT)

    async def test_null_version(self) -> None:
        """What was there before the bucket took locks can be locked, and stays then."""
        version = await self.publish(b"k")
        await self.store.set_versioning(name="b", versioning=Versioning.ENABLED)
        await self.store.set_object_lock(name="b", object_lock=BucketLock(), at=NOW, who="somebody")
        locked = await self.retain(version, KEPT.retention)
        self.assertEqual(locked.lock, KEPT)
        await self.keep(bucket="b")
        await self.refused(ObjectLocked, self.delete_these(locked, bypass=True))
        self.assertEqual((await self.again(version)).lock, KEPT)

    async def test_expiry(self) -> None:
        """A retention binds up to its end, and not from then on."""
        await self.locking_bucket()
        version = await self.keep(lock=Lock(Retention(COMPLIANCE, NOW + 10)))
        await self.refused(ObjectLocked, self.delete_these(version, at=NOW + 9.999))
        self.assertEqual(len(await self.delete_these(version, at=NOW + 10)), 1)

    async def test_clock_ahead(self) -> None:
        """A clock that was set ahead ends no retention; time that was measured does, at twice its pace at most."""
        await self.locking_bucket()
        version = await self.keep(lock=KEPT)
        ahead = NOW + YEAR
        await self.refused(ObjectLocked, self.delete_these(version, at=ahead))
        await self.refused(ObjectLocked, self.retain(version, None, at=ahead))
        elapsed = (DAY - LEEWAY_SECONDS) / 2
        self.assertEqual(
            await self.store.advance_lock_clock(now=ahead, elapsed_seconds=elapsed - 1),
            NOW + DAY - LEEWAY_SECONDS - 2,
        )
        await self.refused(ObjectLocked, self.delete_these(version, at=ahead))
        await self.store.advance_lock_clock(now=ahead, elapsed_seconds=1)
        self.assertEqual(len(await self.delete_these(version, at=ahead)), 1)

    async def test_clock(self) -> None:
        """The time of locks begins with the first bucket that takes them, and never goes back."""
        self.assertIsNone(await self.store.advance_lock_clock(now=NOW, elapsed_seconds=5.0))
        await self.locking_bucket()
        for now, elapsed, expected in (
            (NOW + 3, 0.0, NOW),
            (NOW + 3, 10.0, NOW + 3),
            (NOW - 99, 10.0, NOW + 3),
            (NOW + YEAR, -5.0, NOW + 3),
            (NOW + YEAR, 5.0, NOW + 13),
        ):
            self.assertEqual(await self.store.advance_lock_clock(now=now, elapsed_seconds=elapsed), expected)
        await self.locking_bucket("later")
        self.assertEqual(await self.store.advance_lock_clock(now=0.0, elapsed_seconds=1.0), NOW + 13)

    async def test_last_bytes(self) -> None:
        """Bytes do not leave the disk when they can be read from no tape any more."""
        await self.locking_bucket()
        version = await self.keep(lock=KEPT)
        bundle_id = await self.archive(version)
        archived = await self.again(version)
        await self.store.lose_copy(bundle_id=bundle_id, pool="main", reason="broken")
        self.assertEqual(await self.evictable(), [archived])
        await self.store.lose_copy(bundle_id=bundle_id, pool="vault", reason="broken")
        self.assertEqual(await self.evictable(), [])
        await self.refused(
            Conflict, self.store.evict_version(version.version_uid, revision=archived.revision)
        )
        self.assertTrue(await self.addresses(await self.again(version)))

    async def evictable(self) -> list[ObjectVersion]:
        """Return what may leave the disk."""
        return await self.store.evictable(classes=EVERY_CLASS, archived_before=1e9, limit=9)

    async def test_cold(self) -> None:
        """A lock stays with a version that goes to tape, leaves the disk and is restored."""
        await self.locking_bucket()
        version = await self.keep(lock=KEPT)
        await self.archive(version)
        archived = await self.again(version)
        await self.store.evict_version(version.version_uid, revision=archived.revision)
        cold = await self.again(version)
        self.assertEqual((cold.lock, cold.on_disk), (KEPT, False))
        await self.store.change_restore(
            cold.version_uid,
            revision=cold.revision,
            restore=Restore(phase=RestorePhase.ONGOING, tier=Tier.BULK, days=1, requested_at=NOW),
            messages=(),
        )
        await self.refused(ObjectLocked, self.delete_these(version, bypass=True))
        again = await self.again(version)
        self.assertEqual((again.lock, again.deleted_at), (KEPT, None))

    async def test_member(self) -> None:
        """What a tape is to say of a lock is fixed with the claim, whatever becomes of the lock; a new claim fixes it anew."""
        await self.locking_bucket()
        version, free = await self.keep(lock=replaced_hold(GOVERNED, False)), await self.keep(b"free")
        changed = await self.retain(version, Retention(GOVERNANCE, NOW + YEAR))
        for locks in ({version.version_uid: version.lock}, {version.version_uid: changed.lock}, {}):
            bundle_id = await self.open_bundle()
            members = [self.member(bundle_id, version), self.member(bundle_id, free, 1)]
            uids = {version.version_uid, free.version_uid}
            for again in (locks, {version.version_uid: KEPT}):
                await self.store.claim_members(bundle_id, members, last_extents=uids, locks=again)
            found = await self.store.members(bundle_id, after_position=-1, limit=9)
            expected = locks.get(version.version_uid, UNLOCKED)
            self.assertEqual([one.tape_lock for one in found], [expected, UNLOCKED])
            self.assertEqual(found[0].version.lock, changed.lock)
            await self.store.release_members(bundle_id)

    async def test_fullest_claim(self) -> None:
        """As many members as a step may have are claimed with their locks, of one extent or with more to come."""
        await self.locking_bucket()
        for extent_count in (1, 2):
            found = [await self.keep(lock=KEPT) for _ in range(BATCH_MAX)]
            bundle_id = await self.open_bundle()
            members = [
                self.member(bundle_id, version, position, 0, extent_count)
                for position, version in enumerate(found)
            ]
            await self.store.claim_members(
                bundle_id,
                members,
                last_extents={one.version_uid for one in found} if extent_count == 1 else (),
                locks={one.version_uid: one.lock for one in found},
            )
            claimed = await self.store.members(bundle_id, after_position=-1, limit=BATCH_MAX)
            self.assertEqual([one.tape_lock for one in claimed], [KEPT] * BATCH_MAX)

    async def test_fullest_deletion(self) -> None:
        """As many retained versions as a step may have are deleted at once by who bypasses that."""
        await self.locking_bucket()
        found = [await self.keep(b"key %d" % number, lock=GOVERNED) for number in range(DELETIONS_MAX)]
        for version in found:
            await self.keep(version.facts.key)
            await self.archive(version)
        self.assertEqual(len(await self.delete_these(*found, bypass=True)), DELETIONS_MAX)
        self.assertEqual(await self.acts(), [("bypass retention, delete", "bucket c")])

    # ── how locks change ────────────────────────────────────────────────────────────────────────────────────────────

    async def test_changes(self) -> None:
        """A retention is extended by anybody; COMPLIANCE is loosened by nobody, GOVERNANCE by the bypass alone."""
        await self.locking_bucket()
        later, sooner = NOW + 2 * DAY, NOW + DAY / 2
        for lock, retention, free, bypass in (
            (UNLOCKED, KEPT.retention, True, True),
            (GOVERNED, Retention(GOVERNANCE, later), True, True),
            (GOVERNED, Retention(GOVERNANCE, sooner), False, True),
            (GOVERNED, Retention(COMPLIANCE, later), False, True),
            (GOVERNED, None, False, True),
            (KEPT, Retention(COMPLIANCE, later), True, True),
            (KEPT, KEPT.retention, True, True),
            (KEPT, Retention(COMPLIANCE, sooner), False, False),
            (KEPT, Retention(GOVERNANCE, later), False, False),
            (KEPT, None, False, False),
            (Lock(Retention(COMPLIANCE, NOW)), None, True, True),
        ):
            for bypasses, is_allowed in ((False, free), (True, bypass)):
                version = await self.keep(lock=lock)
                change = self.retain(version, retention, bypass=bypasses)
                if is_allowed:
                    self.assertEqual((await change).lock.retention, retention)
                else:
                    await self.refused(ObjectLocked, change)
                    self.assertEqual(await self.again(version), version)

    async def test_audit(self) -> None:
        """What changes a lock is in the audit trail; what changes nothing, or is refused, is not."""
        await self.locking_bucket()
        version = await self.keep(lock=GOVERNED)
        name = f"object {version.name}"
        await self.refused(ObjectLocked, self.retain(version, None))
        await self.retain(version, GOVERNED.retention)
        await self.retain(version, None, bypass=True)
        await self.retain(version, GOVERNED.retention)
        for is_on in (True, True, False):
            await self.hold(version, is_on)
        expected = ["bypass retention", "retain", "legal hold", "end legal hold"]
        self.assertEqual(await self.acts(), [(what, name) for what in expected])
        (*_, first) = await self.store.audit_trail(before_id=None, limit=99)
        self.assertEqual(
            (first.who, first.detail),
            ("somebody", "from GOVERNANCE mode until 1970-01-02T00:16:40.000Z to no mode"),
        )

    async def test_hold(self) -> None:
        """A legal hold keeps a version until it is ended, and leaves its retention as it is."""
        await self.locking_bucket()
        version = await self.keep(lock=Lock(Retention(GOVERNANCE, NOW)))
        held = await self.hold(version, True)
        self.assertEqual(held.lock, Lock(version.lock.retention, legal_hold=True))
        await self.refused(ObjectLocked, self.delete_these(held, bypass=True, at=NOW + YEAR))
        freed = await self.hold(held, False)
        self.assertEqual(freed.lock, Lock(version.lock.retention, legal_hold=False))
        self.assertEqual(len(await self.delete_these(freed)), 1)
        await self.refused(Conflict, self.hold(freed, True))
        await self.refused(Conflict, self.retain(freed, None))

    async def test_many_at_once(self) -> None:
        """Of many who change and delete at once nobody shortens a COMPLIANCE retention: the latest of all ends stays."""
        await self.locking_bucket()
        version = await self.keep(lock=KEPT)
        chance = Random(7)
        ends = [NOW + chance.random() * YEAR for _ in range(24)]
        calls = []
        for number, end in enumerate(ends):
            calls.append(
                self.store.set_retention(
                    version.version_uid,
                    retention=Retention(LockMode.COMPLIANCE if number % 3 else GOVERNANCE, end),
                    at=NOW,
                    bypass=True,
                    who="somebody",
                )
            )
            calls.append(
                self.store.delete_versions(
                    "c", [(b"k", version.facts.version_id)], at=NOW, bypass=True, who="somebody"
                )
            )
        outcomes = await DeferredList(calls, consumeErrors=True)
        for is_success, outcome in outcomes:
            self.assertTrue(is_success or outcome.check(ObjectLocked), outcome)
        latest = max([NOW + DAY, *(end for number, end in enumerate(ends) if number % 3)])
        self.assertEqual((await self.again(version)).lock, Lock(Retention(COMPLIANCE, latest)))


def replaced_hold(lock: Lock, legal_hold: bool | None) -> Lock:
    """Return a lock with another legal hold."""
    return lock._replace(legal_hold=legal_hold)


class LockedModel(LockSteps, MetadataModel):
    """The random life, in a bucket that takes locks: who deletes, evicts, loses and changes whatever, what is under lock is there."""

    async def live(self, chance: Random) -> None:
        """Live in such a bucket."""
        self.locks: dict[tuple[bytes, str], Lock] = {}
        self.reached_at = NOW
        await self.store.set_versioning(name="b", versioning=Versioning.ENABLED)
        await self.store.set_object_lock(name="b", object_lock=BucketLock(), at=NOW, who="model")
        await super().live(chance)

    def moves(self) -> list[tuple[Callable[[], Awaitable[object]], int]]:
        """Locks change, too."""
        self.versioning = Versioning.ENABLED
        return [
            *super().moves(),
            (self.change_retention, 6),
            (self.change_hold, 3),
            (self.let_time_pass, 2),
            (self.lose_copy, 1),
        ]

    async def compare(self) -> None:
        """Every lock is as it was set, and who is under lock has bytes somewhere."""
        await super().compare()
        for version in await self.versions():
            expected = self.locks.get((version.facts.key, version.facts.version_id), UNLOCKED)
            self.assertEqual(version.lock, expected)

    def time(self) -> float:
        """Return the time by which retentions end."""
        return lock_time(self.now, self.reached_at)

    async def some_version(self) -> ObjectVersion | None:
        """Return one that can be locked."""
        found = await self.versions()
        return self.chance.choice(found) if found else None

    async def change_retention(self) -> None:
        """Set, extend, shorten or remove a retention, as whoever it may be."""
        version = await self.some_version()
        if version is None:
            return
        mode = self.chance.choice([GOVERNANCE, COMPLIANCE])
        wanted = Retention(mode, self.now + self.chance.choice([5, 50, 500]) * self.chance.random())
        retention = self.chance.choice([None, wanted, wanted, wanted])
        bypass = self.chance.random() < 0.5
        place = (version.facts.key, version.facts.version_id)
        before = self.locks.get(place, UNLOCKED)
        change = self.retain(version, retention, at=self.now, bypass=bypass)
        if is_loosened(before.retention, retention, self.time(), bypass=bypass):
            await self.refused(ObjectLocked, change)
            return
        self.locks[place] = (await change).lock
        self.assertEqual(self.locks[place], before._replace(retention=retention))

    async def change_hold(self) -> None:
        """Begin a legal hold, or end it."""
        version = await self.some_version()
        if version is not None:
            place = (version.facts.key, version.facts.version_id)
            before = self.locks.get(place, UNLOCKED)
            is_on = self.chance.random() < 0.4
            self.locks[place] = (await self.hold(version, is_on)).lock
            self.assertEqual(self.locks[place], before._replace(legal_hold=is_on))

    async def let_time_pass(self) -> None:
        """The time of locks is moved on, now and then by a clock that is far ahead."""
        now = self.now + self.chance.choice([0.0, 0.0, YEAR])
        elapsed = self.chance.random() * 20
        reached_at = await self.store.advance_lock_clock(now=now, elapsed_seconds=elapsed)
        assert reached_at is not None
        self.assertTrue(self.reached_at <= reached_at <= self.reached_at + 2 * elapsed)
        self.reached_at = reached_at

    async def lose_copy(self) -> None:
        """A copy that was verified can be read no more."""
        copies = await self.store.copies(barcode=self.chance.choice(["tape-main", "tape-vault"]))
        verified = [copy for copy in copies if copy.state.value == "verified"]
        if verified:
            copy = self.chance.choice(verified)
            await self.store.lose_copy(bundle_id=copy.bundle_id, pool=copy.pool, reason="chance")

    async def set_versioning(self) -> None:
        """Versioning cannot be suspended any more."""
        await self.refused(
            InvalidBucketState, self.store.set_versioning(name="b", versioning=Versioning.SUSPENDED)
        )

    async def remove_versions(self) -> None:
        """Delete some versions for good; what is under lock stays, and with it all that was to go with it."""
        places = [(key, version_id) for key, of_key in self.history.items() for version_id, _ in of_key]
        wanted = self.chance.sample(places, min(len(places), self.chance.randint(1, 6)))
        bypass = self.chance.random() < 0.5
        # As well by a clock that is far ahead.
        at = self.now + self.chance.choice([0.0, 0.0, YEAR])
        kept = {
            place
            for place in wanted
            if is_protected(self.locks.get(place, UNLOCKED), lock_time(at, self.reached_at), bypass=bypass)
        }
        deletion = self.store.delete_versions("b", wanted, at=at, bypass=bypass, who="model")
        if kept:
            refusal = await self.refused(ObjectLocked, deletion)
            assert isinstance(refusal, ObjectLocked)
            self.assertEqual(set(refusal.reasons), kept)
            return
        self.assertEqual({(one.facts.key, one.facts.version_id) for one in await deletion}, set(wanted))
        for place in wanted:
            self.leaves(*place)
            self.locks.pop(place, None)
