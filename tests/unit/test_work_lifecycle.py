"""Carrying out lifecycle rules: what happens when, what waits, and what it costs."""

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.trial.unittest import SynchronousTestCase

from coldstore.model.due import Reason
from coldstore.model.errors import MetadataUnavailable
from coldstore.model.lifecycle import (
    Expiration,
    Filter,
    NoncurrentExpiration,
    NoncurrentTransition,
    Transition,
)
from coldstore.model.objects import TAGGING, Restore, RestorePhase, StorageClass, Tier, Versioning
from coldstore.plan.messages import LIFECYCLE_EVENTS, LIFECYCLE_MOVED
from coldstore.work.content import bundle_checksum
from tests.unit.lifecycle_rig import BUCKET, DAY, Rig, rule
from tests.unit.work_rig import now_of

GLACIER, DEEP_ARCHIVE, STANDARD = StorageClass.GLACIER, StorageClass.DEEP_ARCHIVE, StorageClass.STANDARD
IN_A_DAY = Expiration(days=1)


class ExpirationTests(SynchronousTestCase):
    """What is current."""

    def test_not_early(self) -> None:
        """An object expires at the midnight after its days are over, and not before."""
        rig = Rig()
        rig.set_rules(rule(expiration=IN_A_DAY))
        rig.put("k")
        rig.pass_days(1.49)
        self.assertEqual(rig.current(), ["k"])
        rig.pass_days(0.01)
        self.assertEqual(rig.current(), [])
        self.assertEqual(rig.trail(), [("expire object", "bucket/k")])
        self.assertEqual(rig.bells["janitor"].rings, 1)

    def test_date(self) -> None:
        """A rule with a date acts from then on, also on what comes later, at its next midnight."""
        rig = Rig()
        rig.set_rules(rule(expiration=Expiration(date=int(103 * DAY))))
        rig.put("early")
        rig.pass_days(2)
        self.assertEqual(rig.current(), ["early"])
        rig.pass_days(1)
        self.assertEqual(rig.current(), [])
        rig.put("later")
        rig.pass_days(0.4)
        self.assertEqual(rig.current(), ["later"])
        rig.pass_days(0.1)
        self.assertEqual(rig.current(), [])

    def test_filter(self) -> None:
        """Only what a filter is about expires."""
        rig = Rig()
        rig.set_rules(
            rule(
                expiration=IN_A_DAY,
                filter=Filter(prefix="a/", tags=(("x", "y"),), greater_than_bytes=10, less_than_bytes=20),
            )
        )
        tagged = ((TAGGING, "x=y"),)
        for key, size_bytes, headers in (
            ("a/1", 15, tagged), ("b/2", 15, tagged), ("a/3", 15, ()), ("a/4", 10, tagged), ("a/5", 20, tagged),
        ):  # fmt: skip
            rig.put(key, size_bytes=size_bytes, headers=headers)
        rig.pass_days(2)
        self.assertEqual(rig.current(), ["a/3", "a/4", "a/5", "b/2"])

    def test_marker(self) -> None:
        """Where versions are kept an expired object gets a delete marker, once, and stays behind it."""
        rig = Rig(versioning=Versioning.ENABLED)
        rig.set_rules(rule(expiration=IN_A_DAY))
        version = rig.put("k")
        for _ in range(3):
            rig.pass_days(1)
        self.assertEqual(len(rig.versions("k")), 2)
        self.assertEqual(rig.versions("k")[1], version.facts.version_id)
        self.assertEqual(rig.trail(), [("put delete marker", "bucket/k")])

    def test_locked(self) -> None:
        """A lock keeps nobody from a delete marker in front of what is locked."""
        rig = Rig(versioning=Versioning.ENABLED)
        rig.set_rules(rule(expiration=IN_A_DAY))
        rig.kept[rig.put("k").version_uid] = 1e9
        rig.pass_days(2)
        self.assertEqual(len(rig.versions("k")), 2)

    def test_back_again(self) -> None:
        """An old version that becomes current again expires, though its time was gone through long ago."""
        rig = Rig(versioning=Versioning.ENABLED)
        rig.set_rules(rule(expiration=Expiration(days=30)))
        rig.put("k")
        rig.pass_days(20)
        new = rig.put("k")
        rig.put("other")
        rig.pass_days(25)
        self.assertEqual(rig.trail(), [])
        rig.delete("k", new.facts.version_id)
        rig.work()
        self.assertEqual(rig.trail(), [("put delete marker", "bucket/k")])

    def test_tags_later(self) -> None:
        """An object that gets the tag of a rule when its time is over expires then."""
        rig = Rig()
        rig.set_rules(rule(expiration=IN_A_DAY, filter=Filter(tags=(("x", "y"),))))
        version = rig.put("k")
        rig.pass_days(5)
        self.assertEqual(rig.current(), ["k"])
        now_of(rig.store.set_tags(version.version_uid, tags=(("x", "y"),)))
        rig.work()
        self.assertEqual(rig.current(), [])

    def test_clock_back(self) -> None:
        """An object that was written by a clock that was behind expires, though its time was gone through."""
        rig = Rig()
        rig.set_rules(rule(expiration=IN_A_DAY))
        rig.work()
        rig.put("k", at=50 * DAY)
        rig.work()
        self.assertEqual(rig.current(), [])

    def test_clock_ahead(self) -> None:
        """An object that was written by a clock that was ahead keeps nobody else waiting, and expires when it should."""
        rig = Rig()
        rig.set_rules(rule(expiration=IN_A_DAY))
        rig.put("ahead", at=200.5 * DAY)
        rig.put("k")
        rig.pass_days(2)
        self.assertEqual(rig.current(), ["ahead"])
        rig.pass_days(99.4)
        self.assertEqual(rig.current(), ["ahead"])
        rig.pass_days(0.2)
        self.assertEqual(rig.current(), [])

    def test_clock_was_ahead(self) -> None:
        """What arrives after a clock that was ahead was put right expires as it should, and not never: its time had been gone through."""
        for when in (IN_A_DAY, Expiration(date=int(110 * DAY))):
            rig = Rig()
            rig.set_rules(rule(expiration=when))
            rig.pass_days(20)
            rig.clock.advance(-20 * DAY)
            rig.work()
            rig.put("k")
            rig.work()
            self.assertEqual(rig.current(), ["k"])
            rig.pass_days(15)
            self.assertEqual(rig.current(), [])

    def test_arrives_meanwhile(self) -> None:
        """An object that arrives behind a page that was just read, with a time on it, is not passed over."""
        rig = Rig()
        rig.set_rules(rule(expiration=IN_A_DAY))
        rig.put("k")
        rig.work()
        begun = rig.clock.seconds()
        rig.clock.advance(2 * DAY)
        rig.start(_Arriving(rig.store, lambda: rig.put("late", at=begun)))
        rig.work()
        self.assertEqual(rig.current(), [])


class NoncurrentTests(SynchronousTestCase):
    """Versions that something newer replaced."""

    def test_days(self) -> None:
        """A version goes so many days after something newer took its place, not after it came into being."""
        rig = Rig(versioning=Versioning.ENABLED)
        rig.set_rules(rule(noncurrent_expiration=NoncurrentExpiration(days=2)))
        rig.put("k")
        rig.pass_days(10)
        new = rig.put("k")
        rig.pass_days(2.4)
        self.assertEqual(len(rig.versions("k")), 2)
        rig.pass_days(0.1)
        self.assertEqual(rig.versions("k"), [new.facts.version_id])
        self.assertEqual(rig.trail(), [("delete version", "bucket/k")])

    def test_newer(self) -> None:
        """Versions go when both their days are over and enough newer ones are there, whichever comes last."""
        rig = Rig(versioning=Versioning.ENABLED)
        rig.set_rules(rule(noncurrent_expiration=NoncurrentExpiration(days=1, newer_versions=2)))
        versions = [rig.put("k") for _ in range(3)]
        rig.pass_days(3)
        # Old enough, but there are only two noncurrent ones.
        self.assertEqual(len(rig.versions("k")), 3)
        versions += [rig.put("k")]
        rig.work()
        # Of three noncurrent ones the oldest has two newer ones now.
        ids = [version.facts.version_id for version in reversed(versions)]
        self.assertEqual(rig.versions("k"), ids[:3])
        for _ in range(4):
            versions += [rig.put("k")]
        rig.work()
        # The newest two noncurrent ones stay whatever their age, the others until they are old enough; those that were are gone.
        rig.pass_days(2)
        ids = [version.facts.version_id for version in reversed(versions)]
        self.assertEqual(rig.versions("k"), ids[:3])

    def test_locked(self) -> None:
        """A version under lock stays, and goes when the lock has ended."""
        rig = Rig(versioning=Versioning.ENABLED)
        rig.set_rules(rule(noncurrent_expiration=NoncurrentExpiration(days=1)))
        version = rig.put("k")
        rig.kept[version.version_uid] = 110 * DAY
        rig.put("k")
        rig.pass_days(5)
        self.assertEqual(len(rig.versions("k")), 2)
        self.assertEqual(rig.waits(), {Reason.LOCK: 1})
        rig.pass_days(5)
        del rig.kept[version.version_uid]
        rig.pass_days(0.5)
        self.assertEqual(len(rig.versions("k")), 1)
        self.assertEqual(rig.waits(), {})

    def test_marker_alone(self) -> None:
        """A delete marker goes as soon as nothing is left behind it, however old it is then, and stays before that."""
        rig = Rig(versioning=Versioning.ENABLED)
        rig.set_rules(
            rule(
                expiration=Expiration(expired_markers=True),
                noncurrent_expiration=NoncurrentExpiration(days=5),
            )
        )
        rig.put("k")
        rig.delete("k")
        rig.put("other")
        rig.pass_days(4)
        self.assertEqual(len(rig.versions("k")), 2)
        rig.pass_days(2)
        self.assertEqual(rig.versions("k"), [])
        self.assertEqual(rig.trail(), [("delete version", "bucket/k"), ("delete marker", "bucket/k")])
        self.assertEqual(rig.current(), ["other"])

    def test_marker_deleted_by_client(self) -> None:
        """A client that deletes the last version behind a delete marker leaves that alone, and it goes."""
        rig = Rig(versioning=Versioning.ENABLED)
        rig.set_rules(rule(expiration=Expiration(expired_markers=True)))
        version = rig.put("k")
        rig.delete("k")
        rig.pass_days(5)
        self.assertEqual(len(rig.versions("k")), 2)
        rig.delete("k", version.facts.version_id)
        rig.work()
        self.assertEqual(rig.versions("k"), [])

    def test_noncurrent_marker(self) -> None:
        """A delete marker that something newer replaced goes like any noncurrent version."""
        rig = Rig(versioning=Versioning.ENABLED)
        rig.set_rules(rule(noncurrent_expiration=NoncurrentExpiration(days=1)))
        rig.delete("k")
        new = rig.put("k")
        rig.pass_days(2)
        self.assertEqual(rig.versions("k"), [new.facts.version_id])

    def test_transition(self) -> None:
        """A noncurrent version changes its class, and what is current does not."""
        rig = Rig(versioning=Versioning.ENABLED)
        rig.set_rules(rule(noncurrent_transitions=(NoncurrentTransition(storage_class=GLACIER, days=1),)))
        old = rig.put("k", is_archived=True)
        rig.put("k", is_archived=True)
        rig.pass_days(2)
        found = now_of(rig.store.version(old.version_uid))
        self.assertEqual(found.facts.storage_class, GLACIER)
        self.assertEqual(rig.classes(), {"k": STANDARD})


class TransitionTests(SynchronousTestCase):
    """Changes of class."""

    def moving(self, days: int = 1, to: StorageClass = GLACIER) -> Rig:
        """A bucket with a transition."""
        rig = Rig()
        rig.set_rules(rule(transitions=(Transition(days=days, storage_class=to),)))
        return rig

    def test_flip(self) -> None:
        """What is on tape already changes its class and nothing else; the evictor is told."""
        rig = self.moving()
        version = rig.put("k", is_archived=True)
        rig.pass_days(1.4)
        self.assertEqual(rig.classes(), {"k": STANDARD})
        rig.pass_days(0.1)
        self.assertEqual(rig.classes(), {"k": GLACIER})
        found = now_of(rig.store.version(version.version_uid))
        self.assertEqual((found.on_disk, found.layout_id), (True, version.layout_id))
        self.assertEqual(rig.trail(), [("move from STANDARD to GLACIER", "bucket/k")])
        self.assertEqual(rig.bells["evictor"].rings, 1)

    def test_not_on_tape_yet(self) -> None:
        """What is not on every tape yet keeps its class, waits where an operator sees it, and changes once it is."""
        rig = self.moving()
        version = rig.put("k")
        rig.pass_days(3)
        self.assertEqual(rig.classes(), {"k": STANDARD})
        self.assertEqual(rig.waits(), {Reason.ARCHIVE: 1})
        rig.archive(version)
        rig.work()
        self.assertEqual(rig.classes(), {"k": GLACIER})
        self.assertEqual(rig.waits(), {})

    def test_no_tape_before(self) -> None:
        """What has no copies on tape gets them first, and keeps its class until then."""
        rig = self.moving()
        version = rig.put("k", storage_class=StorageClass.ONEZONE_IA)
        rig.pass_days(3)
        self.assertEqual(rig.classes(), {"k": StorageClass.ONEZONE_IA})
        self.assertEqual(rig.waits(), {Reason.ARCHIVE: 1})
        self.assertEqual(rig.bells["packer"].rings, 1)
        rig.archive(version)
        rig.work()
        self.assertEqual(rig.classes(), {"k": GLACIER})

    def test_bundle_stays(self) -> None:
        """What a bundle is by the record does not change with the class: a lost copy is made anew to the byte."""
        rig = self.moving()
        bundle_id = rig.archive(rig.put("k"))
        bundle = now_of(rig.store.bundle(bundle_id))

        def checksum() -> int:
            return int(now_of(Deferred.fromCoroutine(bundle_checksum(rig.store, bundle))))

        before = checksum()
        rig.pass_days(3)
        self.assertEqual(rig.classes(), {"k": GLACIER})
        self.assertEqual(checksum(), before)

    def test_both_due(self) -> None:
        """Of several transitions that are due the coldest counts, in one go."""
        rig = Rig()
        rig.set_rules(
            rule(
                transitions=(
                    Transition(days=1, storage_class=GLACIER),
                    Transition(days=3, storage_class=DEEP_ARCHIVE),
                )
            )
        )
        rig.put("late", is_archived=True)
        rig.pass_days(5)
        self.assertEqual(rig.classes(), {"late": DEEP_ARCHIVE})
        self.assertEqual(len(rig.trail()), 1)
        rig.put("k", is_archived=True)
        rig.pass_days(2)
        self.assertEqual(rig.classes(), {"late": DEEP_ARCHIVE, "k": GLACIER})
        rig.pass_days(2)
        self.assertEqual(rig.classes(), {"late": DEEP_ARCHIVE, "k": DEEP_ARCHIVE})

    def test_never_back(self) -> None:
        """Nothing goes to a warmer class."""
        rig = self.moving(to=StorageClass.STANDARD_IA)
        rig.put("k", storage_class=GLACIER, is_archived=True, size_bytes=200_000)
        rig.pass_days(3)
        self.assertEqual(rig.classes(), {"k": GLACIER})
        self.assertEqual(rig.trail(), [])

    def test_small(self) -> None:
        """Small objects stay out of classes that would not take them."""
        rig = self.moving(to=StorageClass.STANDARD_IA)
        rig.put("small", is_archived=True, size_bytes=131_071)
        rig.put("large", is_archived=True, size_bytes=131_072)
        rig.pass_days(3)
        self.assertEqual(rig.classes(), {"large": StorageClass.STANDARD_IA, "small": STANDARD})

    def test_restored(self) -> None:
        """While a restored copy lives the class stays, and changes when it has ended."""
        rig = self.moving(to=DEEP_ARCHIVE)
        version = rig.put("k", storage_class=GLACIER, is_archived=True)
        version = now_of(rig.store.version(version.version_uid))
        restore = Restore(
            phase=RestorePhase.RESTORED, tier=Tier.BULK, days=5, requested_at=1.0, expires_at=106 * DAY
        )
        version = now_of(
            rig.store.change_restore(
                version.version_uid, revision=version.revision, restore=restore, messages=[]
            )
        )
        rig.pass_days(3)
        self.assertEqual(rig.classes(), {"k": GLACIER})
        self.assertEqual(rig.waits(), {Reason.RESTORE: 1})
        rig.clock.advance(3 * DAY)
        now_of(
            rig.store.change_restore(
                version.version_uid, revision=version.revision, restore=None, messages=[]
            )
        )
        rig.work()
        self.assertEqual(rig.classes(), {"k": DEEP_ARCHIVE})

    def test_restore_ends_early(self) -> None:
        """A restored copy that ends before it was to, because its days became fewer, keeps the class no longer."""
        rig = self.moving(to=DEEP_ARCHIVE)
        version = rig.put("k", storage_class=GLACIER, is_archived=True)
        version = now_of(rig.store.version(version.version_uid))
        restore = Restore(
            phase=RestorePhase.RESTORED, tier=Tier.BULK, days=3650, requested_at=1.0, expires_at=3750 * DAY
        )
        for each in (restore, None):
            version = now_of(
                rig.store.change_restore(
                    version.version_uid, revision=version.revision, restore=each, messages=[]
                )
            )
            rig.pass_days(3)
        self.assertEqual(rig.classes(), {"k": DEEP_ARCHIVE})

    def test_before_marker(self) -> None:
        """Of a transition and a delete marker that are due at once both happen, the transition first."""
        rig = Rig(versioning=Versioning.ENABLED)
        rig.set_rules(
            rule(transitions=(Transition(days=1, storage_class=GLACIER),), expiration=Expiration(days=2))
        )
        rig.put("k", is_archived=True)
        rig.pass_days(5)
        self.assertEqual(
            rig.trail(), [("move from STANDARD to GLACIER", "bucket/k"), ("put delete marker", "bucket/k")]
        )

    def test_marker_waits_for_no_copy(self) -> None:
        """A delete marker is put although the transition that goes before it has to wait for a copy on tape."""
        rig = Rig(versioning=Versioning.ENABLED)
        rig.set_rules(
            rule(transitions=(Transition(days=1, storage_class=GLACIER),), expiration=Expiration(days=2))
        )
        bundle_id = rig.archive(rig.put("k"))
        now_of(rig.store.lose_copy(bundle_id=bundle_id, pool="vault", reason="torn"))
        rig.pass_days(5)
        self.assertEqual(rig.trail(), [("put delete marker", "bucket/k")])

    def test_behind_deletion(self) -> None:
        """What is to be deleted for good is not moved before."""
        rig = Rig()
        rig.set_rules(
            rule(transitions=(Transition(days=1, storage_class=GLACIER),), expiration=Expiration(days=2))
        )
        rig.put("k", is_archived=True)
        rig.pass_days(5)
        self.assertEqual(rig.trail(), [("expire object", "bucket/k")])

    def test_told(self) -> None:
        """Events that somebody wants are in the outbox, others are not."""
        for events in ((), LIFECYCLE_EVENTS):
            rig = self.moving()
            rig.events = frozenset(events)
            rig.start()
            rig.put("k", is_archived=True)
            rig.pass_days(3)
            told = [message.event for message in now_of(rig.store.due_messages(now=1e9, limit=9))]
            self.assertEqual(told, [LIFECYCLE_MOVED] if events else [])


class UploadTests(SynchronousTestCase):
    """Uploads that nobody completes."""

    def test_abort(self) -> None:
        """An upload is aborted at the midnight after its days, if its key begins as the rule says."""
        rig = Rig()
        rig.set_rules(rule(abort_days=2, filter=Filter(prefix="a/")))
        rig.begin_upload("a/k")
        other = rig.begin_upload("b/k")
        rig.pass_days(2.4)
        self.assertEqual(len(rig.uploads()), 2)
        rig.pass_days(0.1)
        self.assertEqual(rig.uploads(), [other])
        self.assertEqual(rig.trail(), [("abort upload", "bucket/a/k")])
        young = rig.begin_upload("a/k")
        rig.pass_days(1)
        self.assertEqual(rig.uploads(), [young, other])
        self.assertEqual(rig.loop.acted["abort"], 1)


class RulesTests(SynchronousTestCase):
    """Rules that come, change and go."""

    def test_changed(self) -> None:
        """A shorter time is looked for from the beginning; what a rule is called makes no difference."""
        rig = Rig()
        rig.set_rules(rule(expiration=Expiration(days=30)))
        for key in ("a", "b"):
            rig.put(key)
        rig.pass_days(10)
        self.assertEqual(rig.current(), ["a", "b"])
        before = now_of(rig.store.lifecycle_ranges(after=(0, ""), limit=10))
        rig.set_rules(rule("renamed", expiration=Expiration(days=30)))
        rig.work()
        self.assertEqual(now_of(rig.store.lifecycle_ranges(after=(0, ""), limit=10)), before)
        rig.set_rules(rule(expiration=Expiration(days=5)))
        rig.work()
        self.assertEqual(rig.current(), [])

    def test_unchanged_ranges(self) -> None:
        """When one rule changes the others are not gone through anew."""
        rig = Rig()
        kept = rule("kept", expiration=Expiration(days=1), filter=Filter(prefix="a/"))
        rig.set_rules(kept, rule("x", expiration=Expiration(days=5)))
        rig.pass_days(3)
        before = set(now_of(rig.store.lifecycle_ranges(after=(0, ""), limit=10)))
        rig.set_rules(kept, rule("x", expiration=Expiration(days=6)))
        rig.work()
        after = set(now_of(rig.store.lifecycle_ranges(after=(0, ""), limit=10)))
        # Of each expiration there is one range for objects and one for delete markers.
        self.assertEqual([len(before & after), len(after)], [2, 4])

    def test_removed(self) -> None:
        """Nothing happens any more when rules were removed, disabled, or their bucket is gone; nor is anything left of them."""
        rig = Rig()
        rig.set_rules(rule(expiration=IN_A_DAY))
        version = rig.put("k")
        rig.work()
        now_of(rig.store.set_tags(version.version_uid, tags=()))
        rig.set_rules()
        rig.pass_days(5)
        self.assertEqual(rig.current(), ["k"])
        self.assertEqual(now_of(rig.store.lifecycle_ranges(after=(0, ""), limit=10)), [])
        self.assertEqual(rig.waits(), {})
        rig.set_rules(rule(expiration=IN_A_DAY, is_enabled=False))
        rig.pass_days(5)
        self.assertEqual(rig.current(), ["k"])
        rig.set_rules(rule(expiration=IN_A_DAY))
        rig.clock.advance(-5 * DAY)
        rig.work()
        rig.delete("k")
        now_of(rig.store.delete_bucket(BUCKET))
        rig.work()
        self.assertEqual(now_of(rig.store.lifecycle_ranges(after=(0, ""), limit=10)), [])

    def test_many_rules(self) -> None:
        """A thousand rules are taken up, and each is carried out."""
        rig = Rig()
        rig.set_rules(
            *(
                rule(
                    f"r{number}", expiration=Expiration(days=number + 1), filter=Filter(prefix=f"{number:03}")
                )
                for number in range(1000)
            )
        )
        for number in (0, 500, 999):
            rig.put(f"{number:03}/k")
        rig.pass_days(502)
        self.assertEqual(rig.current(), ["999/k"])
        rig.pass_days(600)
        self.assertEqual(rig.current(), [])


class CostTests(SynchronousTestCase):
    """What it costs."""

    def asked(self, rig: Rig) -> int:
        """Return how many questions a pass asks."""
        rig.counting.asked.clear()
        rig.work()
        return len(rig.counting.asked)

    def test_nothing_due(self) -> None:
        """Without anything due a pass asks three questions, however many objects and rules there are."""
        found = []
        for objects in (0, 3000):
            rig = Rig()
            rig.set_rules(
                rule(expiration=Expiration(days=9)),
                rule("b", transitions=(Transition(days=3, storage_class=GLACIER),)),
            )
            for number in range(objects):
                rig.put(f"k{number}")
            rig.work()
            found.append(self.asked(rig))
        self.assertEqual(found, [3, 3])

    def test_nothing_due_at_midnight(self) -> None:
        """At a midnight at which nothing becomes due each range costs three questions, however many objects there are."""
        for objects in (0, 3000):
            rig = Rig()
            rig.set_rules(rule(expiration=Expiration(days=9), filter=Filter(prefix="k", tags=(("a", "b"),))))
            for number in range(objects):
                rig.put(f"k{number}")
            rig.work()
            rig.clock.advance(DAY)
            self.assertEqual(self.asked(rig), 6)

    def test_turns(self) -> None:
        """Much that is due is done in turns, between which others have theirs, and that it is behind is told."""
        rig = Rig(turn_versions=1000)
        rig.set_rules(rule(expiration=IN_A_DAY))
        for number in range(2500):
            rig.put(f"k{number}")
        rig.clock.advance(2 * DAY)
        self.assertEqual(now_of(rig.one_round()), 0.0)
        self.assertEqual(rig.loop.behind_since, rig.clock.seconds())
        self.assertEqual(rig.loop.acted["expire"], 1000)
        rig.work()
        self.assertEqual(rig.loop.acted["expire"], 2500)
        self.assertIsNone(rig.loop.behind_since)
        self.assertEqual(rig.current(), [])

    def test_buckets_in_turn(self) -> None:
        """A bucket with much to do does not keep the others waiting."""
        rig = Rig(turn_versions=1000)
        rig.set_rules(rule(expiration=IN_A_DAY))
        rig.add_bucket("other", rule(expiration=IN_A_DAY))
        for number in range(5000):
            rig.put(f"k{number}")
        rig.put("k", bucket="other")
        rig.clock.advance(2 * DAY)
        while rig.current("other"):
            now_of(rig.one_round())
        self.assertGreater(len(rig.current()), 0)

    def test_ranges_in_turn(self) -> None:
        """Nor does a range of a bucket keep the others of the bucket waiting."""
        rig = Rig(turn_versions=1000)
        many = [
            rule(f"r{number}", expiration=IN_A_DAY, filter=Filter(prefix=f"{number}/")) for number in range(5)
        ]
        rig.set_rules(*many, rule("u", abort_days=1))
        for number in range(5):
            rig.put(f"{number}/k")
        for number in range(3000):
            rig.put(f"0/k{number}")
        rig.begin_upload("u")
        rig.clock.advance(2 * DAY)
        while rig.uploads() or {key[:2] for key in rig.current()} != {"0/"}:
            now_of(rig.one_round())
        self.assertGreater(len(rig.current()), 0)


class CutOffTests(SynchronousTestCase):
    """Rounds that end in the middle."""

    def test_any_step_fails(self) -> None:
        """Whichever step of a round fails, done or not, the next rounds come to the same end, and each act is written down once."""
        for is_done in (False, True):
            step = 0
            while True:
                step += 1
                rig = self.due()
                rig.start(_FailsAt(rig.store, step, is_done=is_done))
                failed = False
                try:
                    rig.work()
                except MetadataUnavailable:
                    failed = True
                rig.start()
                rig.work()
                self.assertEqual(rig.versions("expiring")[1:], ["v1"])
                self.assertEqual(rig.classes()["moving"], GLACIER)
                self.assertEqual(rig.uploads(), [])
                self.assertEqual(rig.versions("old"), ["v4"])
                self.assertEqual(rig.waits(), {Reason.ARCHIVE: 1})
                self.assertEqual(
                    sorted(rig.trail()),
                    [
                        ("abort upload", "bucket/u"),
                        ("delete version", "bucket/old"),
                        ("move from STANDARD to GLACIER", "bucket/moving"),
                        ("put delete marker", "bucket/expiring"),
                    ],
                )
                if not failed:
                    break
            self.assertGreater(step, 10)

    def due(self) -> Rig:
        """A bucket with something of each kind that is due."""
        rig = Rig(versioning=Versioning.ENABLED)
        rig.set_rules(
            rule("e", expiration=IN_A_DAY, filter=Filter(prefix="expiring")),
            rule(
                "m", transitions=(Transition(days=1, storage_class=GLACIER),), filter=Filter(prefix="moving")
            ),
            rule("n", noncurrent_expiration=NoncurrentExpiration(days=1)),
            rule("a", abort_days=1),
        )
        rig.put("expiring")
        rig.put("moving", is_archived=True)
        rig._numbers = iter(range(3, 1000))  # type: ignore[assignment]
        rig.put("old")
        rig.put("old")
        rig.put("moving-later")
        rig.begin_upload("u")
        rig.clock.advance(2 * DAY)
        return rig


class _Arriving:
    """A store to which something comes in once, just after a page of a range was read."""

    def __init__(self, store: Any, arrive: Callable[[], object]) -> None:
        self._store = store
        self._arrivals = [arrive]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def due_versions(self, *args: Any, **kwargs: Any) -> Any:
        """Read it."""
        page = self._store.due_versions(*args, **kwargs)
        while self._arrivals:
            self._arrivals.pop()()
        return page


class _FailsAt:
    """A store of which one step fails, after it was done or not."""

    def __init__(self, store: Any, number: int, *, is_done: bool) -> None:
        self._store = store
        self._left = number
        self._is_done = is_done

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._store, name)
        if not callable(value):
            return value

        def step(*args: Any, **kwargs: Any) -> Any:
            self._left -= 1
            if self._left != 0:
                return value(*args, **kwargs)
            if self._is_done:
                now_of(value(*args, **kwargs))
            return fail(MetadataUnavailable("gone"))

        return step
