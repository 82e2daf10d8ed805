"""A store in memory with a bucket that has lifecycle rules, a clock, and the loop that carries them out."""

from itertools import count
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from coldstore.interfaces.metadata import IMetadataStore
from coldstore.metadata.sqlite.store import SqliteStore
from coldstore.model.bundles import Member
from coldstore.model.configurations import ConfigurationKind
from coldstore.model.due import Reason
from coldstore.model.lifecycle import Filter, Lifecycle, Rule, lifecycle_text
from coldstore.model.objects import ObjectVersion, Piece, StorageClass, Upload, VersionFacts, Versioning
from coldstore.ontape.paths import bundle_id as new_bundle_id
from coldstore.plan.classes import ClassRule
from coldstore.work import lifecycle
from tests.unit.work_rig import now_of

DAY = 86_400.0
BUCKET = "bucket"
POOLS = ("main", "vault")
CLASSES = {
    **{
        name: ClassRule(pools=POOLS, keep_on_disk=True, needs_restore=False)
        for name in (StorageClass.STANDARD, StorageClass.STANDARD_IA)
    },
    StorageClass.ONEZONE_IA: ClassRule(pools=(), keep_on_disk=True, needs_restore=False),
    StorageClass.GLACIER: ClassRule(pools=POOLS, keep_on_disk=False, needs_restore=True),
    StorageClass.DEEP_ARCHIVE: ClassRule(pools=POOLS, keep_on_disk=False, needs_restore=True),
}


def rule(rule_id: str = "r", **changes: Any) -> Rule:
    """A rule about everything."""
    return Rule(**{"rule_id": rule_id, "is_enabled": True, "filter": Filter(), **changes})


class Counting:
    """A store that counts what it is asked, and may fail at a step."""

    def __init__(self, store: IMetadataStore) -> None:
        self._store = store
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._store, name)
        if not callable(value):
            return value

        def step(*args: Any, **kwargs: Any) -> Any:
            self.asked.append(name)
            return value(*args, **kwargs)

        return step


class Bell:
    """Counts."""

    def __init__(self) -> None:
        self.rings = 0

    def ring(self) -> None:
        """Count."""
        self.rings += 1


class Rig:
    """All of it. The time begins at noon of day 100."""

    def __init__(self, *, versioning: Versioning = Versioning.UNSET, turn_versions: int = 10_000) -> None:
        self.clock = Clock()
        self.clock.advance(100.5 * DAY)
        self.store = SqliteStore(":memory:")
        now_of(self.store.open())
        now_of(
            self.store.create_bucket(
                name=BUCKET, owner_id="boss", region="here", created_at=1.0, default_class=None
            )
        )
        if versioning is not Versioning.UNSET:
            now_of(self.store.set_versioning(name=BUCKET, versioning=versioning))
        self.turn_versions = turn_versions
        self.kept: dict[int, float] = {}
        self.bells = {name: Bell() for name in ("packer", "evictor", "janitor", "messages")}
        self.events: frozenset[str] = frozenset()
        self._numbers = count(1)
        self.start()

    def start(self, store: Any = None) -> None:
        """Begin to work, perhaps anew, with the store or what stands before it."""
        self.counting = Counting(cast(IMetadataStore, store or self.store))
        self.loop = lifecycle.Lifecycle(
            store=cast(IMetadataStore, self.counting),
            clock=self.clock,
            classes=CLASSES,
            policy=lifecycle.LifecyclePolicy(
                interval_seconds=900.0, turn_versions=self.turn_versions, day_seconds=DAY
            ),
            region="here",
            events=self.events,
            new_version_id=lambda: f"marker{next(self._numbers)}",
            kept_until=lambda version, now: self.kept.get(version.version_uid),
            packer_bell=cast(Any, self.bells["packer"]),
            evictor_bell=cast(Any, self.bells["evictor"]),
            janitor_bell=cast(Any, self.bells["janitor"]),
            messages_bell=cast(Any, self.bells["messages"]),
        )

    # What the world does.

    def add_bucket(self, name: str, *rules: Rule) -> None:
        """Create one more bucket."""
        now_of(
            self.store.create_bucket(
                name=name, owner_id="boss", region="here", created_at=1.0, default_class=None
            )
        )
        self.set_rules(*rules, bucket=name)

    def set_rules(self, *rules: Rule, bucket: str = BUCKET) -> None:
        """Configure a bucket; by nothing: remove the configuration."""
        document = lifecycle_text(Lifecycle(rules=rules)) if rules else None
        now_of(
            self.store.set_bucket_configuration(
                name=bucket, kind=ConfigurationKind.LIFECYCLE, document=document
            )
        )

    def put(
        self,
        key: str,
        *,
        storage_class: StorageClass = StorageClass.STANDARD,
        size_bytes: int = 10,
        at: float | None = None,
        headers: tuple[tuple[str, str], ...] = (),
        is_archived: bool = False,
        bucket: str = BUCKET,
    ) -> ObjectVersion:
        """Have an object arrive."""
        number = next(self._numbers)
        version: ObjectVersion = now_of(
            self.store.publish_version(
                VersionFacts(
                    bucket=bucket,
                    key=key.encode(),
                    version_id=f"v{number}",
                    size_bytes=size_bytes,
                    etag="e",
                    storage_class=storage_class,
                    headers=headers,
                    user_metadata=(),
                    checksum=None,
                    crc64nvme=7,
                    part_sizes="",
                    created_at=self.clock.seconds() if at is None else at,
                    owner_id="o",
                ),
                layout_id=f"layout{number}",
                pieces=[Piece(ordinal=1, address=f"piece{number}", length_bytes=size_bytes, crc64nvme=7)],
                wants_tape=bool(CLASSES[storage_class].pools),
                condition=None,
                messages=[],
            )
        )
        if is_archived:
            self.archive(version)
        return version

    def archive(self, version: ObjectVersion) -> str:
        """Have a version on tape, in a bundle of its own."""
        bundle_id = new_bundle_id(next(self._numbers), 0)
        size_bytes = version.facts.size_bytes
        now_of(self.store.open_bundle(bundle_id=bundle_id, pools=POOLS, created_at=1.0, epoch=1))
        member = Member(
            bundle_id=bundle_id,
            position=0,
            version_uid=version.version_uid,
            extent=0,
            extent_count=1,
            object_offset_bytes=0,
            length_bytes=size_bytes,
            crc64nvme=7,
            bundle_offset_bytes=-1,
        )
        now_of(self.store.claim_members(bundle_id, [member], last_extents={version.version_uid}))
        now_of(self.store.fix_offsets(bundle_id, {0: 512}))
        now_of(
            self.store.freeze_bundle(
                bundle_id, member_count=1, size_bytes=size_bytes, content_bytes=size_bytes
            )
        )
        for pool in POOLS:
            now_of(self.store.start_copy(bundle_id=bundle_id, pool=pool, barcode=pool, epoch=1))
            now_of(
                self.store.copy_synced(
                    bundle_id=bundle_id,
                    pool=pool,
                    epoch=1,
                    partition="b",
                    start_block=1,
                    size_bytes=size_bytes,
                    sha256="ab",
                    at=self.clock.seconds(),
                )
            )
            now_of(self.store.copy_verified(bundle_id=bundle_id, pool=pool, epoch=1, at=self.clock.seconds()))
        now_of(self.store.settle_members(bundle_id, after_position=-1, at=self.clock.seconds()))
        return bundle_id

    def delete(self, key: str, version_id: str | None = None) -> None:
        """Delete what is under a key, or a version."""
        if version_id is not None:
            now_of(self.store.delete_versions(BUCKET, [(key.encode(), version_id)], at=self.clock.seconds()))
            return
        now_of(
            self.store.delete_current(
                BUCKET,
                [key.encode()],
                at=self.clock.seconds(),
                messages={},
                owner_id="o",
                marker_ids=[f"m{next(self._numbers)}"],
            )
        )

    def begin_upload(self, key: str) -> str:
        """Begin a multipart upload."""
        upload_id = f"upload{next(self._numbers)}"
        now_of(
            self.store.create_upload(
                Upload(
                    upload_id=upload_id,
                    bucket=BUCKET,
                    key=key.encode(),
                    owner_id="o",
                    storage_class=StorageClass.STANDARD,
                    headers=(),
                    user_metadata=(),
                    checksum_algorithm="",
                    checksum_kind=None,
                    created_at=self.clock.seconds(),
                )
            )
        )
        return upload_id

    # What the appliance does.

    def work(self, rounds_max: int = 100) -> int:
        """Work until it rests; return how many rounds that took."""
        for number in range(1, rounds_max + 1):
            if now_of(self.one_round()) > 0:
                return number
        raise AssertionError("it does not come to rest")

    def one_round(self) -> Any:
        """Begin one round."""
        return Deferred.fromCoroutine(self.loop.one_round())

    def pass_days(self, days: float, *, working: bool = True) -> None:
        """Let time go by, and work at every noon on the way."""
        self.clock.advance(days * DAY)
        if working:
            self.work()

    # What a test asks.

    def current(self, bucket: str = BUCKET) -> list[str]:
        """Return what is current."""
        found = now_of(self.store.list_current(bucket, from_key=b"", before_key=None, limit=10_000))
        return [version.facts.key.decode() for version in found]

    def classes(self) -> dict[str, StorageClass]:
        """Return the classes of what is current, by key."""
        found = now_of(self.store.list_current(BUCKET, from_key=b"", before_key=None, limit=1000))
        return {version.facts.key.decode(): version.facts.storage_class for version in found}

    def versions(self, key: str) -> list[str]:
        """Return the ids of the versions of a key, newest first; with ``-`` before those of delete markers."""
        page = now_of(
            self.store.list_versions(
                BUCKET,
                prefix=key.encode(),
                delimiter=b"",
                after_key=b"",
                after_version_id="",
                max_entries=1000,
            )
        )
        return [f"{'-' * row.is_marker}{row.version_id}" for row in page.rows if row.shown[0] == key.encode()]

    def uploads(self) -> list[str]:
        """Return the ids of uploads in progress."""
        found = now_of(self.store.uploads(BUCKET, prefix=b"", after_key=b"", after_upload_id="", limit=1000))
        return [upload.upload_id for upload in found]

    def trail(self) -> list[tuple[str, str]]:
        """Return what was done to what, oldest first."""
        found = now_of(self.store.audit_trail(before_id=None, limit=1000))
        return [(each.what, each.subject.partition("?")[0]) for each in reversed(found)]

    def waits(self) -> dict[Reason, int]:
        """Return how many versions are to be looked at again, by reason."""
        return {each.reason: each.versions for each in now_of(self.store.reviews_waiting())}
