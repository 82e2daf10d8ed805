"""Random lives of a bucket with lifecycle rules: whatever happens, and whatever clocks do, in the end nothing is left that is due."""

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from coldstore.model.due import BEGINNING, Scope, Subject
from coldstore.model.lifecycle import (
    Expiration,
    Filter,
    Lifecycle,
    NoncurrentExpiration,
    Rule,
    Transition,
    lifecycle_text,
)
from coldstore.model.objects import TAGGING, ObjectVersion, StorageClass, Versioning
from coldstore.plan.deciding import Deciding
from coldstore.plan.dueranges import compiled
from tests.unit.lifecycle_rig import BUCKET, CLASSES, DAY, Rig, rule
from tests.unit.work_rig import now_of

LIVES = 20
KEYS = ("a1", "a2", "b1", "b2", "c")
TAGS = ((), (("x", "y"),))
ROUNDS_MAX = 2000


class Life:
    """One of them."""

    def __init__(self, seed: int) -> None:
        self.chance = Random(seed)
        self.rig = Rig(
            versioning=self.chance.choice(list(Versioning)), turn_versions=self.chance.choice([1, 3, 10_000])
        )
        self.arrived: list[ObjectVersion] = []
        self.rules: list[Rule] = []
        self.change_rules()

    def pass_by(self) -> None:
        """Live."""
        moves = [
            (self.arrive, 35), (self.delete, 10), (self.delete_version, 10), (self.tag, 5),
            (self.let_pass, 15), (self.set_clock_back, 10), (self.change_rules, 4), (self.set_versioning, 3),
            (self.begin_work, 4), (self.rig.start, 3), (self.work, 7),
        ]  # fmt: skip
        for _ in range(self.chance.randint(10, 50)):
            self.chance.choices([move for move, _ in moves], [weight for _, weight in moves])[0]()
        self.work()
        for _ in range(self.chance.randint(0, 4)):
            self.rig.clock.advance(self.chance.choice([0.5, 1]) * DAY)
            self.work()

    def left(self) -> list[str]:
        """Return what is due by the rules, of all versions that there are."""
        bucket = now_of(self.rig.store.bucket(BUCKET))
        deciding = Deciding(
            rules=compiled(lifecycle_text(Lifecycle(rules=tuple(self.rules)))),
            classes=CLASSES,
            versioning=bucket.versioning,
            kept_until=lambda version, now: None,
            patience_seconds=1.0,
        )
        pages = [
            now_of(
                self.rig.store.due_versions(
                    bucket.bucket_uid, each, Scope(), after=BEGINNING, until=1e15, newer_max=100, limit=1000
                )
            )
            for each in (Subject.CURRENT, Subject.NONCURRENT, Subject.MARKERS)
        ]
        return [
            f"{decision.act.kind} {candidate.version.name}"
            for page in pages
            for candidate in page.candidates
            if (decision := deciding.of(candidate, self.rig.clock.seconds())).act is not None
        ]

    def arrive(self) -> None:
        """An object arrives, perhaps one whose request took long."""
        self.arrived.append(
            self.rig.put(
                self.chance.choice(KEYS),
                is_archived=self.chance.random() < 0.5,
                at=self.rig.clock.seconds() - self.chance.choice([0, 0, 0, 0.7]) * DAY,
                headers=self.chance.choice([(), ((TAGGING, "x=y"),)]),
            )
        )

    def delete(self) -> None:
        """What is under a key is deleted."""
        self.rig.delete(self.chance.choice(KEYS))

    def delete_version(self) -> None:
        """A version is deleted for good."""
        key = self.chance.choice(KEYS)
        ids = self.rig.versions(key)
        if ids:
            self.rig.delete(key, self.chance.choice(ids).removeprefix("-"))

    def tag(self) -> None:
        """What lives of the latest arrivals gets other tags."""
        for version in self.arrived[-3:]:
            found = now_of(self.rig.store.version(version.version_uid))
            if found is not None and found.deleted_at is None:
                now_of(self.rig.store.set_tags(version.version_uid, tags=self.chance.choice(TAGS)))

    def let_pass(self) -> None:
        """Time passes."""
        self.rig.clock.advance(self.chance.choice([0.1, 0.5, 1, 2, 5]) * DAY)

    def set_clock_back(self) -> None:
        """The clock was ahead, and is put right."""
        self.rig.clock.advance(-self.chance.choice([0.1, 0.5, 1, 3, 8]) * DAY)

    def set_versioning(self) -> None:
        """Versioning is enabled, or suspended."""
        versioning = self.chance.choice([Versioning.ENABLED, Versioning.SUSPENDED])
        now_of(self.rig.store.set_versioning(name=BUCKET, versioning=versioning))

    def change_rules(self) -> None:
        """There are other rules."""
        self.rules = [self.some_rule(f"r{number}") for number in range(self.chance.randint(1, 3))]
        self.rig.set_rules(*self.rules)

    def some_rule(self, rule_id: str) -> Rule:
        """Return a rule with an expiration, or with others too."""
        chance, tags = self.chance, self.chance.choice(TAGS)
        expirations = [
            Expiration(days=chance.randint(1, 4)),
            Expiration(date=int((100 + chance.randint(0, 8)) * DAY)),
        ]
        if not tags:
            expirations.append(Expiration(expired_markers=True))
        noncurrent = NoncurrentExpiration(
            days=chance.randint(1, 3), newer_versions=chance.choice([None, 1, 2])
        )
        transition = Transition(days=chance.randint(0, 3), storage_class=StorageClass.GLACIER)
        return rule(
            rule_id,
            filter=Filter(prefix=chance.choice(["", "a", "b"]), tags=tags),
            expiration=chance.choice(expirations),
            noncurrent_expiration=chance.choice([None, noncurrent]),
            transitions=chance.choice([(), (transition,)]),
        )

    def begin_work(self) -> None:
        """One round of the lifecycle is done."""
        now_of(self.rig.one_round())

    def work(self) -> None:
        """The lifecycle works until it rests."""
        self.rig.work(ROUNDS_MAX)


class LifeTests(SynchronousTestCase):
    """All of them."""

    def test_nothing_left(self) -> None:
        """When the lifecycle rests nothing is due any more that was looked at never, too early, or by other rules."""
        for seed in range(LIVES):
            life = Life(seed)
            life.pass_by()
            self.assertEqual(life.left(), [], f"seed {seed}")
