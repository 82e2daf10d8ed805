"""What every metadata store must keep of lifecycle rules: how far ranges were gone through, what is due, and what acts do."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from coldstore.interfaces.metadata import BATCH_MAX, Conflict, StepTooLarge
from coldstore.model.bundles import CopyState
from coldstore.model.configurations import ConfigurationKind
from coldstore.model.due import (
    ACTS_MAX,
    BEGINNING,
    LAST_UID,
    Act,
    ActKind,
    Candidate,
    DuePage,
    Outcome,
    Position,
    RangeProgress,
    Reason,
    Scope,
    Subject,
    Waiting,
    WaitingCount,
)
from coldstore.model.errors import NoSuchBucket, NoSuchKey, NoSuchUpload
from coldstore.model.locks import BucketLock
from coldstore.model.objects import ArchiveState, ObjectVersion, StorageClass, Versioning
from coldstore.plan.messages import LIFECYCLE_DELETED, LIFECYCLE_EVENTS, LIFECYCLE_MARKED, LIFECYCLE_MOVED
from tests.contract.metadata_contract import (
    DEEP_ARCHIVE,
    GLACIER,
    ONGOING,
    STANDARD,
    MetadataSteps,
    piece_of,
    upload_of,
)

CURRENT, NONCURRENT, MARKERS, UPLOADS = Subject
LATE = 1e9
ANY = Scope()


def act_on(version: ObjectVersion, kind: ActKind = ActKind.EXPIRE, **changes: Any) -> Act:
    """An act of rule ``r``."""
    return replace(Act(kind=kind, version=version, rule_id="r"), **changes)


def move_of(version: ObjectVersion, to: StorageClass = DEEP_ARCHIVE, **changes: Any) -> Act:
    """A transition."""
    return act_on(version, ActKind.MOVE, storage_class=to, **{"pools": ("main", "vault"), **changes})


class LifecycleContract(MetadataSteps):
    """The promises."""

    async def govern(self, *ranges: tuple[str, Subject], counts_newer: bool = False) -> int:
        """Configure bucket ``b``, and begin ranges; return the bucket's uid."""
        await self.configure()
        bucket_uid = (await self.store.bucket("b")).bucket_uid
        await self.store.change_lifecycle_ranges(
            bucket_uid, begun=dict(ranges), ended=[], counts_newer=counts_newer
        )
        return bucket_uid

    async def configure(self) -> None:
        """Give bucket ``b`` rules, whatever they are."""
        bucket = await self.store.set_bucket_configuration(
            name="b", kind=ConfigurationKind.LIFECYCLE, document="{}"
        )
        self.revision = bucket.configurations[ConfigurationKind.LIFECYCLE]

    async def versioned(self, versioning: Versioning = Versioning.ENABLED) -> None:
        """Have bucket ``b`` keep versions."""
        await self.store.set_versioning(name="b", versioning=versioning)

    async def arrive(self, key: bytes, at: float = 1000.0, **changes: Any) -> ObjectVersion:
        """Publish a version at a time, with an id of its own where that is needed."""
        return await self.publish(key, created_at=at, version_id=self.unique("v"), **changes)

    async def due(self, subject: Subject = CURRENT, scope: Scope = ANY, **changes: Any) -> DuePage:
        """Return a page of bucket ``b``."""
        asked: dict[str, Any] = {"after": BEGINNING, "until": LATE, "newer_max": 0, "limit": 1000, **changes}
        return await self.store.due_versions(
            (await self.store.bucket("b")).bucket_uid, subject, scope, **asked
        )

    async def keys_due(self, subject: Subject = CURRENT, scope: Scope = ANY, **changes: Any) -> list[bytes]:
        """Return the keys of a page."""
        page = await self.due(subject, scope, **changes)
        return [each.version.facts.key for each in page.candidates]

    async def carry_out(self, *acts: Act, at: float = 5000.0, events: Sequence[str] = ()) -> list[Outcome]:
        """Carry out acts on bucket ``b``."""
        return await self.store.carry_out(
            "b", acts, revision=self.revision, at=at, owner_id="boss", region="here", events=events
        )

    async def reviewed(self, now: float = LATE) -> list[Candidate | None]:
        """Return whose reviews are due."""
        return [each.candidate for each in await self.store.due_reviews(now=now, limit=1000)]

    async def uids_reviewed(self) -> list[int]:
        """Return the uids of the versions that are to be looked at."""
        return [each.version.version_uid for each in await self.reviewed() if each is not None]

    async def put_on_tape(self, key: bytes, **changes: Any) -> ObjectVersion:
        """Publish a version, and have it on tape in both pools."""
        version = await self.arrive(key, **changes)
        await self.on_tape(version)
        return await self.again(version)

    async def on_tape(self, version: ObjectVersion, pools: tuple[str, ...] = ("main", "vault")) -> str:
        """Have a version archived in a bundle of its own."""
        bundle_id = await self.open_bundle(pools)
        await self.store.claim_members(
            bundle_id, [self.member(bundle_id, version)], last_extents={version.version_uid}
        )
        await self.store.fix_offsets(bundle_id, {0: 512})
        await self.store.freeze_bundle(bundle_id, member_count=1, size_bytes=10, content_bytes=10)
        for pool in pools:
            await self.store.start_copy(bundle_id=bundle_id, pool=pool, barcode=f"{pool}1", epoch=1)
            await self.store.copy_synced(
                bundle_id=bundle_id,
                pool=pool,
                epoch=1,
                partition="b",
                start_block=1,
                size_bytes=10,
                sha256="ab",
                at=20.0,
            )
            await self.store.copy_verified(bundle_id=bundle_id, pool=pool, epoch=1, at=21.0)
        await self.store.settle_members(bundle_id, after_position=-1, at=22.0)
        return bundle_id

    async def trail(self) -> list[tuple[str, str, str]]:
        """Return what the lifecycle has done, oldest first."""
        found = await self.store.audit_trail(before_id=None, limit=100)
        return [(each.what, each.subject, each.detail) for each in reversed(found) if each.who == "lifecycle"]

    async def told(self) -> list[str]:
        """Return the events in the outbox."""
        return [each.event for each in await self.store.due_messages(now=LATE, limit=100)]

    # ── ranges ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def test_ranges(self) -> None:
        """Ranges begin at the beginning, advance, stay when others begin, and end."""
        uid = await self.govern(("one", CURRENT), ("two", UPLOADS))
        await self.store.advance_lifecycle_range(uid, "one", through=Position(50.0, 7))
        await self.store.advance_lifecycle_range(uid, "nobody", through=Position(60.0, 7))
        await self.store.change_lifecycle_ranges(
            uid, begun={"one": CURRENT, "three": MARKERS}, ended=["two", "nobody"], counts_newer=False
        )
        one = RangeProgress(uid, "one", CURRENT, Position(50.0, 7))
        three = RangeProgress(uid, "three", MARKERS, BEGINNING)
        self.assertEqual(await self.store.lifecycle_ranges(after=(0, ""), limit=10), [one, three])
        self.assertEqual(await self.store.lifecycle_ranges(after=(0, ""), limit=1), [one])
        self.assertEqual(await self.store.lifecycle_ranges(after=(uid, "one"), limit=10), [three])
        self.assertEqual(await self.store.lifecycle_ranges(after=(uid, "three"), limit=10), [])

    async def test_due_pages(self) -> None:
        """What is due comes by time and uid, in pages that continue each other, and not beyond the time asked for."""
        await self.configure()
        for number, at in enumerate((30.0, 10.0, 20.0, 20.0, 40.0)):
            await self.arrive(b"%d" % number, at)
        first = await self.due(until=30.0, limit=2)
        self.assertEqual([each.version.facts.key for each in first.candidates], [b"1", b"2"])
        self.assertFalse(first.is_last)
        second = await self.due(until=30.0, limit=2, after=first.through)
        self.assertEqual([each.version.facts.key for each in second.candidates], [b"3", b"0"])
        third = await self.due(until=30.0, limit=2, after=second.through)
        self.assertEqual(third, DuePage([], Position(30.0, LAST_UID), is_last=True))
        self.assertEqual(await self.keys_due(until=1e9, after=third.through), [b"4"])
        self.assertEqual(await self.keys_due(until=9.0), [])

    async def test_scope(self) -> None:
        """Prefix, size and class are looked at by the store; a prefix that ends in the greatest byte as well."""
        await self.arrive(b"a/1", storage_class=STANDARD)
        await self.arrive(b"a/2", storage_class=GLACIER)
        await self.arrive(b"b\xff\xff1", size_bytes=0, pieces=[])
        self.assertEqual(await self.keys_due(scope=Scope(prefix=b"a/")), [b"a/1", b"a/2"])
        self.assertEqual(await self.keys_due(scope=Scope(prefix=b"b\xff")), [b"b\xff\xff1"])
        self.assertEqual(await self.keys_due(scope=Scope(prefix=b"\xff\xff")), [])
        self.assertEqual(await self.keys_due(scope=Scope(classes=(STANDARD, DEEP_ARCHIVE))), [b"a/1"])
        self.assertEqual(await self.keys_due(scope=Scope(smaller_than_bytes=10)), [b"b\xff\xff1"])
        self.assertEqual(await self.keys_due(scope=Scope(larger_than_bytes=10)), [])
        self.assertEqual(await self.keys_due(scope=Scope(larger_than_bytes=9)), [b"a/1", b"a/2"])

    async def test_subjects(self) -> None:
        """What is current, what is not and delete markers are found each by their own times."""
        await self.versioned()
        old = await self.arrive(b"k", 10.0)
        new = await self.arrive(b"k", 20.0)
        await self.delete_marked(b"k", at=30.0)
        await self.arrive(b"x", 40.0)
        self.assertEqual(await self.keys_due(CURRENT), [b"x"])
        page = await self.due(NONCURRENT, newer_max=100)
        self.assertEqual(
            [(each.version.version_uid, each.newer) for each in page.candidates],
            [(old.version_uid, 1), (new.version_uid, 0)],
        )
        self.assertEqual(await self.keys_due(NONCURRENT, until=20.0), [b"k"])
        (marker,) = (await self.due(MARKERS)).candidates
        self.assertEqual((marker.version.is_marker, marker.is_alone), (True, False))
        await self.store.delete_versions(
            "b", [(b"k", old.facts.version_id), (b"k", new.facts.version_id)], at=50.0
        )
        (marker,) = (await self.due(MARKERS)).candidates
        self.assertTrue(marker.is_alone)

    async def delete_marked(self, *keys: bytes, at: float) -> list[ObjectVersion]:
        """Put delete markers."""
        return await self.store.delete_current(
            "b", keys, at=at, messages={}, owner_id="owner", marker_ids=[self.unique("m") for _ in keys]
        )

    async def test_counted_newer(self) -> None:
        """Newer versions are counted up to a bound, and delete markers are not among them."""
        await self.versioned()
        versions = [await self.arrive(b"k", 10.0 + number) for number in range(4)]
        await self.delete_marked(b"k", at=20.0)
        await self.arrive(b"k", 30.0)
        counted = {
            each.version.version_uid: each.newer
            for each in (await self.due(NONCURRENT, newer_max=2)).candidates
        }
        self.assertEqual([counted[version.version_uid] for version in versions], [2, 2, 1, 0])
        of_key = await self.store.noncurrent_of_key(versions[1].version_uid, limit=3)
        self.assertEqual([each.newer for each in of_key], [0, 0, 1])
        self.assertTrue(of_key[0].version.is_marker)

    async def test_due_uploads(self) -> None:
        """Uploads are found by age; one that seems older than what was gone through has its ranges look again."""
        uid = await self.govern(("u", UPLOADS), ("c", CURRENT))
        for number, at in enumerate((10.0, 20.0, 30.0)):
            await self.store.create_upload(upload_of(f"u{number}", b"k%d" % number, created_at=at))
        found = await self.store.due_uploads(uid, Scope(prefix=b"k"), until=20.0, limit=10)
        self.assertEqual([each.upload_id for each in found], ["u0", "u1"])
        found = await self.store.due_uploads(uid, Scope(prefix=b"k1"), until=99.0, limit=10)
        self.assertEqual([each.upload_id for each in found], ["u1"])
        for range_id in ("u", "c"):
            await self.store.advance_lifecycle_range(uid, range_id, through=Position(50.0, LAST_UID))
        await self.store.create_upload(upload_of("late", b"k", created_at=40.0))
        through = {
            each.range_id: each.through for each in await self.store.lifecycle_ranges(after=(0, ""), limit=9)
        }
        self.assertEqual(through, {"u": Position(40.0, 0), "c": Position(50.0, LAST_UID)})

    async def test_abort(self) -> None:
        """An upload is aborted by a rule once, as anybody would, and that is written down; not by rules that have changed."""
        await self.configure()
        upload = upload_of("u0")
        await self.store.create_upload(upload)
        await self.refused(
            Conflict, self.store.abort_due_upload(upload, revision=self.revision + 1, rule_id="r", at=9.0)
        )
        await self.store.abort_due_upload(upload, revision=self.revision, rule_id="r", at=9.0)
        await self.refused(
            NoSuchUpload, self.store.abort_due_upload(upload, revision=self.revision, rule_id="r", at=9.0)
        )
        self.assertEqual(await self.trail(), [("abort upload", "b/k?uploadId=u0", "rule r")])

    # ── reviews ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def test_without_rules(self) -> None:
        """Where there are no rules nothing asks for a review, whatever happens; nor once they have ended."""
        await self.everything_happens()
        self.assertEqual(await self.reviewed(), [])
        uid = await self.govern(("c", CURRENT), ("n", NONCURRENT))
        await self.store.change_lifecycle_ranges(uid, begun={}, ended=["c", "n"], counts_newer=False)
        await self.everything_happens()
        self.assertEqual(await self.reviewed(), [])

    async def everything_happens(self) -> None:
        """Do all that may make a version due."""
        await self.versioned()
        old = await self.arrive(b"k", 10.0)
        await self.store.set_tags(old.version_uid, tags=(("a", "b"),))
        await self.arrive(b"k", 20.0)
        (marker,) = await self.delete_marked(b"k", at=30.0)
        await self.store.delete_versions("b", [(b"k", marker.facts.version_id)], at=40.0)
        await self.store.delete_versions("b", [(b"k", old.facts.version_id)], at=40.0)

    async def test_late_times(self) -> None:
        """What gets a time that was gone through already is reviewed: a clock went back, or the request took long."""
        uid = await self.govern(("c", CURRENT), ("n", NONCURRENT))
        await self.versioned()
        early = await self.arrive(b"early", 10.0)
        for range_id, at in (("c", 100.0), ("n", 200.0)):
            await self.store.advance_lifecycle_range(uid, range_id, through=Position(at, LAST_UID))
        await self.arrive(b"k", 101.0)
        self.assertEqual(await self.uids_reviewed(), [])
        late = await self.arrive(b"late", 100.0)
        self.assertEqual(await self.uids_reviewed(), [late.version_uid])
        # Replaced at a time that is behind what was gone through of noncurrent versions.
        await self.arrive(b"early", 150.0)
        self.assertEqual(await self.uids_reviewed(), [late.version_uid, early.version_uid])
        (marker,) = await self.delete_marked(b"never", at=90.0)
        self.assertIn(marker.version_uid, await self.uids_reviewed())

    async def test_watched(self) -> None:
        """What gets a time that is watched is reviewed, though no range was gone through up to there; one that goes back changes nothing of that."""
        uid = await self.govern(("c", CURRENT), ("n", NONCURRENT))
        await self.versioned()
        await self.store.watch_lifecycle_range(uid, "c", until=100.0)
        await self.store.watch_lifecycle_range(uid, "nobody", until=200.0)
        await self.store.advance_lifecycle_range(uid, "c", through=Position(50.0, LAST_UID))
        await self.arrive(b"k", 101.0)
        self.assertEqual(await self.uids_reviewed(), [])
        late = await self.arrive(b"late", 100.0)
        self.assertEqual(await self.uids_reviewed(), [late.version_uid])
        ranges = await self.store.lifecycle_ranges(after=(0, ""), limit=10)
        self.assertEqual([each.through for each in ranges], [Position(50.0, LAST_UID), BEGINNING])

    async def test_current_again(self) -> None:
        """What becomes current again is reviewed, however old it is, and so is a delete marker."""
        await self.govern(("c", CURRENT))
        await self.versioned()
        old = await self.arrive(b"k", 10.0)
        new = await self.arrive(b"k", 20.0)
        await self.store.delete_versions("b", [(b"k", new.facts.version_id)], at=40.0)
        self.assertEqual(await self.uids_reviewed(), [old.version_uid])
        (marker,) = await self.delete_marked(b"k", at=50.0)
        newer = await self.arrive(b"k", 60.0)
        await self.store.delete_versions("b", [(b"k", newer.facts.version_id)], at=70.0)
        self.assertEqual(await self.uids_reviewed(), [old.version_uid, marker.version_uid])

    async def test_alone(self) -> None:
        """A delete marker of whose key another version goes is reviewed: it may be all that is left."""
        await self.govern(("m", MARKERS))
        await self.versioned()
        old = await self.arrive(b"k", 10.0)
        (marker,) = await self.delete_marked(b"k", at=20.0)
        await self.store.delete_versions("b", [(b"k", old.facts.version_id)], at=40.0)
        (candidate,) = await self.reviewed()
        assert candidate is not None
        self.assertEqual((candidate.version.version_uid, candidate.is_alone), (marker.version_uid, True))

    async def test_tags_changed(self) -> None:
        """A version that gets other tags is reviewed at once."""
        await self.govern(("n", NONCURRENT))
        version = await self.arrive(b"k", 10.0)
        await self.store.set_tags(version.version_uid, tags=(("a", "b"),))
        self.assertEqual(await self.uids_reviewed(), [version.version_uid])

    async def test_counting(self) -> None:
        """Where rules demand newer versions every version that is replaced is reviewed, whenever that is."""
        await self.govern(("n", NONCURRENT), counts_newer=True)
        await self.versioned()
        version = await self.arrive(b"k", 10.0)
        await self.arrive(b"k", 1e6)
        self.assertEqual(await self.uids_reviewed(), [version.version_uid])

    async def test_reviews(self) -> None:
        """A review is there until it is done, and a version that waits has one wish; what is gone is told as nothing."""
        uid = await self.govern(("n", NONCURRENT))
        version = await self.arrive(b"k", 10.0)
        await self.store.set_tags(version.version_uid, tags=())
        (event,) = await self.store.due_reviews(now=1.0, limit=10)
        self.assertEqual((event.bucket_uid, event.reason), (uid, Reason.EVENT))
        waits = Waiting(uid, version.version_uid, 500.0, Reason.LOCK)
        for _ in range(2):
            await self.store.keep_reviews(done=[], waiting=[waits, waits._replace(look_at=400.0)])
        self.assertEqual(
            await self.store.reviews_waiting(),
            [WaitingCount(uid, Reason.EVENT, 1, 0.0), WaitingCount(uid, Reason.LOCK, 1, 400.0)],
        )
        for _ in range(2):
            await self.store.keep_reviews(done=[event.review_id], waiting=[])
        self.assertEqual(await self.store.due_reviews(now=399.0, limit=10), [])
        (wait,) = await self.store.due_reviews(now=400.0, limit=10)
        self.assertEqual(wait.reason, Reason.LOCK)
        await self.delete(b"k")
        self.assertEqual(await self.reviewed(), [None])
        await self.drain()
        self.assertEqual(await self.reviewed(), [None])

    async def test_many_reviews(self) -> None:
        """The largest batches keep the limits of a step."""
        uid = await self.govern(("n", NONCURRENT))
        waiting = [Waiting(uid, number, 1.0, Reason.LOCK) for number in range(BATCH_MAX // 2)]
        for _ in range(2):
            await self.store.keep_reviews(done=list(range(BATCH_MAX)), waiting=waiting)

    async def test_woken(self) -> None:
        """What waits for its tape copies is looked at as soon as they are there."""
        uid = await self.govern(("c", CURRENT))
        version = await self.arrive(b"k", 10.0)
        other = await self.arrive(b"other", 10.0)
        await self.store.keep_reviews(
            done=[],
            waiting=[
                Waiting(uid, version.version_uid, 1e6, Reason.ARCHIVE),
                Waiting(uid, other.version_uid, 1e6, Reason.LOCK),
            ],
        )
        for each in (version, other):
            await self.on_tape(each)
        (woken,) = await self.reviewed(now=100.0)
        assert woken is not None
        self.assertEqual(woken.version.version_uid, version.version_uid)

    # ── acts ────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def test_expire(self) -> None:
        """Where no versions are kept what expires is deleted, and its bytes freed; with what tells of it."""
        await self.configure()
        version = await self.arrive(b"k", storage_class=STANDARD)
        (address,) = await self.addresses(version)
        self.assertEqual(await self.carry_out(act_on(version), events=LIFECYCLE_EVENTS), [Outcome.DONE])
        await self.refused(NoSuchKey, self.store.current_version("b", b"k"))
        self.assertEqual(await self.drain(), [address])
        self.assertEqual(await self.trail(), [("expire object", "b/k", "rule r")])
        self.assertEqual(await self.told(), [LIFECYCLE_DELETED])
        self.assertEqual(await self.carry_out(act_on(version)), [Outcome.MOVED])
        self.assertEqual(len(await self.trail()), 1)

    async def test_expire_behind_marker(self) -> None:
        """Where versions are kept what expires gets a delete marker of the bucket's owner in front of it, once."""
        await self.configure()
        await self.versioned()
        version = await self.arrive(b"k")
        act = act_on(version, marker_id="the-marker")
        self.assertEqual(await self.carry_out(act, events=LIFECYCLE_EVENTS), [Outcome.DONE])
        self.assertEqual((await self.again(version)).superseded_at, 5000.0)
        marker, _ = await self.store.version_content("b", b"k", "the-marker")
        self.assertEqual((marker.is_marker, marker.facts.owner_id), (True, "boss"))
        self.assertEqual(await self.told(), [LIFECYCLE_MARKED])
        self.assertEqual(await self.trail(), [("put delete marker", "b/k?versionId=the-marker", "rule r")])
        self.assertEqual(await self.carry_out(act), [Outcome.MOVED])

    async def test_expire_suspended(self) -> None:
        """Where versioning is suspended the delete marker is the null version, and replaces the one that was."""
        await self.configure()
        await self.versioned(Versioning.SUSPENDED)
        version = await self.arrive(b"k")
        self.assertEqual(await self.carry_out(act_on(version, marker_id="unused")), [Outcome.DONE])
        page = await self.store.list_versions(
            "b", prefix=b"", delimiter=b"", after_key=b"", after_version_id="", max_entries=10
        )
        self.assertEqual([(row.version_id, row.is_marker) for row in page.rows], [("null", True)])

    async def test_versioning_set_meanwhile(self) -> None:
        """Who has not heard that a bucket keeps versions now deletes nothing."""
        await self.configure()
        version = await self.arrive(b"k")
        await self.versioned()
        self.assertEqual(await self.carry_out(act_on(version)), [Outcome.MOVED])
        self.assertEqual((await self.store.current_version("b", b"k")).version_uid, version.version_uid)

    async def test_moved_meanwhile(self) -> None:
        """A version that is not as it was read is left as it is, whatever the act."""
        await self.configure()
        version = await self.put_on_tape(b"k")
        await self.store.note_reads({version.version_uid: 1}, at=1.0)
        for act in (act_on(version), move_of(version), act_on(version, ActKind.DELETE)):
            self.assertEqual(await self.carry_out(act), [Outcome.MOVED])
        self.assertEqual(await self.trail(), [])

    async def test_changed_rules(self) -> None:
        """Nothing is done by rules that a bucket does not have any more, from the moment on in which it lost them."""
        await self.configure()
        version = await self.arrive(b"k")
        act = act_on(version)
        before = self.revision
        await self.configure()
        self.revision, now = before, self.revision
        await self.refused(Conflict, self.carry_out(act))
        self.revision = now
        await self.store.set_bucket_configuration(name="b", kind=ConfigurationKind.LIFECYCLE, document=None)
        await self.refused(Conflict, self.carry_out(act))
        await self.store.delete_current("b", [b"k"], at=1.0, messages={})
        await self.store.delete_bucket("b")
        for refusal in (Conflict, NoSuchBucket):
            try:
                await self.carry_out(act)
            except refusal:
                break
        else:
            self.fail("it was carried out in a bucket that is gone")

    async def test_delete_noncurrent(self) -> None:
        """A noncurrent version is deleted for good, unless it has fewer newer ones than the rule demands."""
        await self.configure()
        await self.versioned()
        versions = [await self.arrive(b"k", 10.0 + number) for number in range(4)]
        first, second = [await self.again(version) for version in versions[:2]]
        acts = [act_on(version, ActKind.DELETE, newer=2) for version in (first, second)]
        self.assertEqual(await self.carry_out(*acts, events=LIFECYCLE_EVENTS), [Outcome.DONE, Outcome.MOVED])
        self.assertEqual(
            await self.trail(), [("delete version", f"b/k?versionId={first.facts.version_id}", "rule r")]
        )
        self.assertEqual(await self.told(), [LIFECYCLE_DELETED])
        self.assertIsNone((await self.again(second)).deleted_at)

    async def test_delete_locked(self) -> None:
        """A version under lock is not deleted, whatever was read of it before; it is reviewed when its lock changes, and goes without one."""
        await self.govern(("n", NONCURRENT))
        await self.versioned()
        await self.store.set_object_lock(name="b", object_lock=BucketLock(), at=1.0, who="boss")
        version = await self.arrive(b"k", 10.0)
        await self.arrive(b"k", 20.0)
        locked = await self.store.set_legal_hold(version.version_uid, is_on=True, at=30.0, who="boss")
        other = await self.again(await self.arrive(b"other", 10.0))
        await self.arrive(b"other", 20.0)
        acts = [act_on(await self.again(each), ActKind.DELETE) for each in (locked, other)]
        self.assertEqual(await self.carry_out(*acts), [Outcome.LOCKED, Outcome.DONE])
        free = await self.store.set_legal_hold(version.version_uid, is_on=False, at=40.0, who="boss")
        self.assertEqual(await self.uids_reviewed(), [version.version_uid, version.version_uid])
        self.assertEqual(await self.carry_out(act_on(free, ActKind.DELETE)), [Outcome.DONE])

    async def test_delete_current(self) -> None:
        """What is current is never deleted as a noncurrent version, and a delete marker only if nothing else is left."""
        await self.govern(("m", MARKERS))
        await self.versioned()
        version = await self.arrive(b"k", 10.0)
        self.assertEqual(await self.carry_out(act_on(version, ActKind.DELETE)), [Outcome.MOVED])
        (marker,) = await self.delete_marked(b"k", at=20.0)
        self.assertEqual(await self.carry_out(act_on(marker, ActKind.DELETE)), [Outcome.MOVED])
        version = await self.again(version)
        self.assertEqual(await self.carry_out(act_on(version, ActKind.DELETE)), [Outcome.DONE])
        self.assertEqual(await self.uids_reviewed(), [marker.version_uid])
        self.assertEqual(await self.carry_out(act_on(marker, ActKind.DELETE)), [Outcome.DONE])
        await self.store.delete_bucket("b")

    async def test_move(self) -> None:
        """A class changes by itself, with the shares of the disk; what bundles have of the version does not."""
        await self.configure()
        version = await self.put_on_tape(b"k", storage_class=STANDARD)
        act = move_of(version, GLACIER)
        self.assertEqual(await self.carry_out(act, events=LIFECYCLE_EVENTS), [Outcome.DONE])
        moved = await self.again(version)
        self.assertEqual(moved.facts.storage_class, GLACIER)
        self.assertEqual((moved.archive_state, moved.on_disk), (ArchiveState.ARCHIVED, True))
        self.assertEqual(moved.archived_facts, version.facts)
        use = await self.store.staging_use(bucket="b")
        self.assertEqual([(each.storage_class, each.used_bytes) for each in use], [(GLACIER, 10)])
        self.assertEqual(await self.trail(), [("move from STANDARD to GLACIER", "b/k", "rule r")])
        (message,) = await self.store.due_messages(now=LATE, limit=10)
        self.assertEqual(message.event, LIFECYCLE_MOVED)
        self.assertIn('"destinationStorageClass":"GLACIER"', message.body)
        evictable = await self.store.evictable(classes=[GLACIER], archived_before=LATE, limit=10)
        self.assertEqual([each.version_uid for each in evictable], [version.version_uid])
        self.assertEqual(await self.carry_out(move_of(moved)), [Outcome.DONE])
        moved = await self.again(version)
        self.assertEqual(moved.facts.storage_class, DEEP_ARCHIVE)
        self.assertEqual(moved.archived_facts, version.facts)

    async def test_move_too_early(self) -> None:
        """A class does not change before there is a verified copy in every pool of the new one, nor while one is lost."""
        await self.configure()
        version = await self.arrive(b"k", storage_class=STANDARD)
        self.assertEqual(await self.carry_out(move_of(version)), [Outcome.NOT_ARCHIVED])
        bundle_id = await self.on_tape(version)
        version = await self.again(version)
        elsewhere = move_of(version, pools=("main", "vault", "third"))
        self.assertEqual(await self.carry_out(elsewhere), [Outcome.NOT_ARCHIVED])
        await self.store.lose_copy(bundle_id=bundle_id, pool="vault", reason="")
        self.assertEqual(await self.carry_out(move_of(version)), [Outcome.NOT_ARCHIVED])
        self.assertEqual(await self.carry_out(move_of(version, pools=("main",))), [Outcome.DONE])
        states = {copy.pool: copy.state for copy in await self.store.copies(bundle_id=bundle_id)}
        self.assertEqual(
            states, {"main": CopyState.VERIFIED, "third": CopyState.LOST, "vault": CopyState.LOST}
        )

    async def test_wanted_on_tape(self) -> None:
        """What has no copies on tape, and goes to a class that asks for some, waits for tape as if it had that class."""
        await self.configure()
        version = await self.arrive(b"k", storage_class=STANDARD, wants_tape=False)
        self.assertEqual(await self.carry_out(move_of(version, GLACIER)), [Outcome.NOT_ARCHIVED])
        version = await self.again(version)
        self.assertEqual((version.facts.storage_class, version.transition_class), (STANDARD, GLACIER))
        waiting = await self.store.pending(classes=[GLACIER], after_sequence=0, limit=10)
        self.assertEqual(waiting, [version])
        self.assertEqual(await self.store.pending(classes=[STANDARD], after_sequence=0, limit=10), [])
        (backlog,) = await self.store.backlog()
        self.assertEqual(
            (backlog.storage_class, backlog.object_count, backlog.oldest_at), (GLACIER, 1, 1000.0)
        )
        await self.on_tape(version)
        self.assertEqual(await self.store.backlog(), [])
        version = await self.again(version)
        self.assertEqual(await self.carry_out(move_of(version, GLACIER)), [Outcome.DONE])
        version = await self.again(version)
        self.assertEqual((version.facts.storage_class, version.transition_class), (GLACIER, None))
        self.assertEqual(version.archived_facts.storage_class, STANDARD)

    async def test_wanted_in_more_pools(self) -> None:
        """A pool that lacks a copy of what is archived is to get one of the whole bundle, made from the others; asked for once."""
        await self.configure()
        version = await self.arrive(b"k", storage_class=STANDARD)
        bundle_id = await self.on_tape(version, ("main",))
        for _ in range(2):
            version = await self.again(version)
            self.assertEqual(await self.carry_out(move_of(version)), [Outcome.NOT_ARCHIVED])
        (wanted,) = await self.store.lost_copies(10)
        self.assertEqual((wanted.bundle_id, wanted.pool, wanted.barcode), (bundle_id, "vault", None))
        await self.store.start_copy(bundle_id=bundle_id, pool="vault", barcode="v", epoch=2)
        await self.store.copy_synced(
            bundle_id=bundle_id,
            pool="vault",
            epoch=2,
            partition="b",
            start_block=1,
            size_bytes=10,
            sha256="ab",
            at=30.0,
        )
        await self.store.copy_verified(bundle_id=bundle_id, pool="vault", epoch=2, at=31.0)
        self.assertEqual(await self.carry_out(move_of(version)), [Outcome.DONE])

    async def test_move_off_disk(self) -> None:
        """A class that promises bytes on disk is not given to a version that has none there."""
        await self.configure()
        version = await self.put_on_tape(b"k")
        await self.store.evict_version(version.version_uid, revision=version.revision)
        version = await self.again(version)
        self.assertEqual(await self.carry_out(move_of(version, needs_disk=True)), [Outcome.NOT_ON_DISK])
        self.assertEqual(await self.carry_out(move_of(version)), [Outcome.DONE])
        await self.drain()
        self.assertEqual(await self.store.staging_use(bucket="b"), [])

    async def test_move_while_restored(self) -> None:
        """A version that is being restored, or was, keeps its class."""
        await self.configure()
        version = await self.put_on_tape(b"k")
        version = await self.store.change_restore(
            version.version_uid, revision=version.revision, restore=ONGOING, messages=[]
        )
        self.assertEqual(await self.carry_out(move_of(version)), [Outcome.MOVED])

    async def test_move_off_tape(self) -> None:
        """What waits for tape and gets a class without copies waits no longer; what is in a bundle stays until that is archived."""
        await self.configure()
        waiting = await self.arrive(b"k", storage_class=STANDARD)
        claimed = await self.arrive(b"c", storage_class=STANDARD)
        bundle_id = await self.open_bundle()
        await self.store.claim_members(
            bundle_id, [self.member(bundle_id, claimed)], last_extents={claimed.version_uid}
        )
        claimed = await self.again(claimed)
        acts = [move_of(each, StorageClass.ONEZONE_IA, pools=()) for each in (waiting, claimed)]
        self.assertEqual(await self.carry_out(*acts), [Outcome.DONE, Outcome.NOT_ARCHIVED])
        self.assertEqual((await self.again(waiting)).archive_state, ArchiveState.NOT_WANTED)
        (backlog,) = await self.store.backlog()
        self.assertEqual((backlog.storage_class, backlog.object_count), (STANDARD, 1))

    async def test_many_acts(self) -> None:
        """The largest step of each kind keeps the limits; a larger one is refused."""
        await self.govern(("c", CURRENT), ("n", NONCURRENT), ("m", MARKERS))
        moving = [
            await self.put_on_tape(b"k%d" % number, storage_class=STANDARD) for number in range(ACTS_MAX)
        ]
        acts = [move_of(each) for each in moving]
        self.assertEqual(await self.carry_out(*acts, events=LIFECYCLE_EVENTS), [Outcome.DONE] * ACTS_MAX)
        await self.versioned()
        versions = [await self.again(each) for each in moving]
        acts = [act_on(each, marker_id=self.unique("m")) for each in versions]
        self.assertEqual(await self.carry_out(*acts, events=LIFECYCLE_EVENTS), [Outcome.DONE] * ACTS_MAX)
        versions = [await self.again(each) for each in moving]
        acts = [act_on(each, ActKind.DELETE) for each in versions]
        self.assertEqual(await self.carry_out(*acts, events=LIFECYCLE_EVENTS), [Outcome.DONE] * ACTS_MAX)
        page = await self.due(MARKERS)
        acts = [act_on(each.version, ActKind.DELETE) for each in page.candidates]
        self.assertEqual(await self.carry_out(*acts, events=LIFECYCLE_EVENTS), [Outcome.DONE] * ACTS_MAX)
        await self.refused(StepTooLarge, self.carry_out(*[*acts, acts[0]]))

    async def test_side_by_side(self) -> None:
        """Acts of one step on versions of one key, and of many steps at once, come out as if one after the other."""
        await self.configure()
        await self.versioned()
        for key in (b"a", b"b"):
            for number in range(5):
                await self.arrive(key, 10.0 + number)
        page = await self.due(NONCURRENT, newer_max=100)
        acts = [act_on(each.version, ActKind.DELETE, newer=2) for each in page.candidates]
        outcomes = await self.carry_out(*acts)
        self.assertEqual(
            [outcome is Outcome.DONE for outcome in outcomes], [each.newer >= 2 for each in page.candidates]
        )
        self.assertEqual(len((await self.due(NONCURRENT)).candidates), 4)

    async def test_pieces_of_parts(self) -> None:
        """The share of a class takes all pieces of a version along."""
        await self.configure()
        pieces = [piece_of(self.unique("piece"), ordinal) for ordinal in (1, 2, 3)]
        version = await self.arrive(
            b"k", storage_class=STANDARD, pieces=pieces, size_bytes=30, part_sizes="10x3", wants_tape=False
        )
        self.assertEqual(
            await self.carry_out(move_of(version, StorageClass.STANDARD_IA, pools=(), needs_disk=True)),
            [Outcome.DONE],
        )
        use = await self.store.staging_use(bucket="b")
        self.assertEqual(
            [(each.storage_class, each.used_bytes) for each in use], [(StorageClass.STANDARD_IA, 30)]
        )
