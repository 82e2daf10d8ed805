"""What is done to a version now, or why not yet."""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from coldstore.model.due import ActKind, Candidate, Reason
from coldstore.model.lifecycle import (
    Expiration,
    Lifecycle,
    NoncurrentExpiration,
    NoncurrentTransition,
    Rule,
    Transition,
    lifecycle_text,
)
from coldstore.model.objects import (
    NULL_VERSION_ID,
    ArchiveState,
    ObjectVersion,
    Restore,
    RestorePhase,
    StorageClass,
    Tier,
    VersionFacts,
    Versioning,
)
from coldstore.plan.deciding import Deciding, Decision, Later
from coldstore.plan.dueranges import compiled
from tests.unit.lifecycle_rig import CLASSES, DAY, rule

NOW = 10.5 * DAY
PATIENCE = 3600.0
GLACIER, ONEZONE_IA, STANDARD = StorageClass.GLACIER, StorageClass.ONEZONE_IA, StorageClass.STANDARD
EXPIRES = Expiration(days=1)
MOVES = (Transition(days=1, storage_class=GLACIER),)


def version_of(
    storage_class: StorageClass = STANDARD, version_id: str = "v", **changes: Any
) -> ObjectVersion:
    """An archived version of day 1."""
    facts = VersionFacts(
        bucket="b",
        key=b"k",
        version_id=version_id,
        size_bytes=1 << 20,
        etag="e",
        storage_class=storage_class,
        headers=(),
        user_metadata=(),
        checksum=None,
        crc64nvme=0,
        part_sizes="",
        created_at=DAY,
        owner_id="o",
    )
    version = ObjectVersion(
        version_uid=1,
        sequence=1,
        facts=facts,
        layout_id="l",
        on_disk=True,
        archive_state=ArchiveState.ARCHIVED,
        archived_at=DAY,
        restore=None,
        last_read_at=0.0,
        read_count=0,
        deleted_at=None,
        revision=0,
    )
    return version._replace(**changes)


def decided(
    version: ObjectVersion,
    *rules: Rule,
    versioning: Versioning = Versioning.UNSET,
    kept_until: float | None = None,
    newer: int = 0,
    is_alone: bool = True,
) -> Decision:
    """Decide about a version."""
    deciding = Deciding(
        rules=compiled(lifecycle_text(Lifecycle(rules=rules))),
        classes=CLASSES,
        versioning=versioning,
        kept_until=lambda version, now: kept_until,
        patience_seconds=PATIENCE,
    )
    return deciding.of(Candidate(version, newer, is_alone), NOW)


class DecidingTests(SynchronousTestCase):
    """Decisions."""

    def test_nothing(self) -> None:
        """Where nothing is due nothing is done."""
        both = rule(expiration=EXPIRES, transitions=MOVES)
        young = version_of()._replace(facts=version_of().facts._replace(created_at=NOW))
        self.assertEqual(decided(young, both), Decision())
        # Of what is not current other rules speak.
        self.assertEqual(decided(version_of(superseded_at=DAY), both), Decision())

    def test_permanent_first(self) -> None:
        """A deletion for good goes before a transition, and that before a delete marker, which follows at once."""
        both = rule(expiration=EXPIRES, transitions=MOVES)
        found = decided(version_of(), both)
        assert found.act is not None
        self.assertEqual((found.act.kind, found.later), (ActKind.EXPIRE, None))
        found = decided(version_of(), both, versioning=Versioning.ENABLED)
        assert found.act is not None
        self.assertEqual((found.act.kind, found.later), (ActKind.MOVE, Later(NOW, Reason.MORE)))
        null = version_of(version_id=NULL_VERSION_ID)
        found = decided(null, both, versioning=Versioning.SUSPENDED)
        assert found.act is not None
        self.assertEqual(found.act.kind, ActKind.EXPIRE)
        found = decided(version_of(), both, versioning=Versioning.SUSPENDED)
        assert found.act is not None
        self.assertEqual(found.act.kind, ActKind.MOVE)

    def test_marker_does_not_wait(self) -> None:
        """A delete marker is put though the version waits for tape before it can change its class."""
        waiting = version_of(archive_state=ArchiveState.PENDING)
        found = decided(waiting, rule(expiration=EXPIRES, transitions=MOVES), versioning=Versioning.ENABLED)
        assert found.act is not None
        self.assertEqual((found.act.kind, found.later), (ActKind.EXPIRE, None))

    def test_locked(self) -> None:
        """What is under lock is not deleted for good, and looked at when that ends; it may change its class meanwhile."""
        gone = rule(noncurrent_expiration=NoncurrentExpiration(days=1))
        old = version_of(superseded_at=DAY)
        self.assertEqual(decided(old, gone, kept_until=NOW + 7), Decision(None, Later(NOW + 7, Reason.LOCK)))
        for unknown in (float("inf"), NOW - 5):
            self.assertEqual(
                decided(old, gone, kept_until=unknown), Decision(None, Later(NOW + PATIENCE, Reason.LOCK))
            )
        moves = rule(
            noncurrent_expiration=NoncurrentExpiration(days=1),
            noncurrent_transitions=(NoncurrentTransition(storage_class=GLACIER, days=1),),
        )
        found = decided(old, moves, kept_until=NOW + 7)
        assert found.act is not None
        self.assertEqual((found.act.kind, found.later), (ActKind.MOVE, Later(NOW + 7, Reason.LOCK)))
        # What the class waits for may be over long before the lock is.
        restore = Restore(
            phase=RestorePhase.RESTORED, tier=Tier.BULK, days=1, requested_at=1.0, expires_at=NOW + 9
        )
        for until, later in (
            (NOW + 7, Later(NOW + 7, Reason.LOCK)),
            (NOW + 11, Later(NOW + 9, Reason.RESTORE)),
        ):
            found = decided(old._replace(restore=restore), moves, kept_until=until)
            self.assertEqual(found, Decision(None, later))
        # Where nothing is kept behind a delete marker the lock keeps what is current as well.
        found = decided(version_of(), rule(expiration=EXPIRES), kept_until=NOW + 7)
        self.assertEqual(found, Decision(None, Later(NOW + 7, Reason.LOCK)))

    def test_newer(self) -> None:
        """A noncurrent version goes when enough others are newer, and the act says how many must be."""
        gone = rule(noncurrent_expiration=NoncurrentExpiration(days=1, newer_versions=2))
        old = version_of(superseded_at=DAY)
        self.assertEqual(decided(old, gone, newer=1), Decision())
        found = decided(old, gone, newer=7)
        assert found.act is not None
        self.assertEqual((found.act.kind, found.act.newer), (ActKind.DELETE, 2))

    def test_markers(self) -> None:
        """A delete marker goes when it is all that is left of its key, and old enough."""
        marker = version_of(is_marker=True)
        goes = rule(expiration=Expiration(expired_markers=True))
        self.assertEqual(decided(marker, goes, is_alone=False), Decision())
        found = decided(marker, goes)
        assert found.act is not None
        self.assertEqual(found.act.kind, ActKind.DELETE)
        self.assertEqual(decided(marker, rule(abort_days=1)), Decision())
        self.assertEqual(decided(marker, rule(expiration=Expiration(days=20))), Decision())

    def test_restored(self) -> None:
        """While there is a restored copy, or one comes, the class stays."""
        restore = Restore(
            phase=RestorePhase.RESTORED, tier=Tier.BULK, days=1, requested_at=1.0, expires_at=NOW + 9
        )
        moves = rule(transitions=(Transition(days=1, storage_class=StorageClass.DEEP_ARCHIVE),))
        restored = version_of(GLACIER, restore=restore)
        self.assertEqual(decided(restored, moves), Decision(None, Later(NOW + 9, Reason.RESTORE)))
        ongoing = Restore(phase=RestorePhase.ONGOING, tier=Tier.BULK, days=1, requested_at=1.0)
        found = decided(version_of(GLACIER, restore=ongoing), moves)
        self.assertEqual(found, Decision(None, Later(NOW + PATIENCE, Reason.RESTORE)))

    def test_on_its_way_to_tape(self) -> None:
        """What waits for its tape copies keeps its class; what has or wants none is asked to get them."""
        waits = Decision(None, Later(NOW + PATIENCE, Reason.ARCHIVE))
        for state in (ArchiveState.PENDING, ArchiveState.CLAIMED):
            self.assertEqual(decided(version_of(archive_state=state), rule(transitions=MOVES)), waits)
        found = decided(version_of(archive_state=ArchiveState.NOT_WANTED), rule(transitions=MOVES))
        assert found.act is not None
        self.assertEqual((found.act.pools, found.act.needs_disk), (("main", "vault"), False))

    def test_to_a_class_without_tape(self) -> None:
        """A class without copies on tape needs the bytes on disk, and takes what only waits for tape, but nothing that a bundle holds."""
        moves = rule(transitions=(Transition(days=1, storage_class=ONEZONE_IA),))
        found = decided(version_of(archive_state=ArchiveState.PENDING), moves)
        assert found.act is not None
        self.assertEqual((found.act.pools, found.act.needs_disk), ((), True))
        found = decided(version_of(archive_state=ArchiveState.CLAIMED), moves)
        self.assertEqual(found, Decision(None, Later(NOW + PATIENCE, Reason.ARCHIVE)))
