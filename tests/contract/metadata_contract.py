"""What every metadata store must keep: one suite, written against the interface alone."""

from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred, DeferredList, gatherResults
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from coldstore.interfaces.metadata import (
    BATCH_MAX,
    DELETED_KEYS_MAX,
    KEYS_MAX,
    Conflict,
    DiscardedPiece,
    IMetadataStore,
    StepTooLarge,
    WriteCondition,
)
from coldstore.model.bundles import Bundle, BundleState, CopyState, Member
from coldstore.model.cartridges import Cartridge, CartridgeState, Drive, DriveState
from coldstore.model.configurations import DOCUMENT_MAX_BYTES, ConfigurationKind
from coldstore.model.errors import (
    BucketAlreadyOwned,
    BucketExists,
    BucketNotEmpty,
    MetadataUnavailable,
    NoSuchBucket,
    NoSuchKey,
    NoSuchUpload,
    PreconditionFailed,
)
from coldstore.model.events import NewMessage, Severity
from coldstore.model.objects import (
    TAGGING,
    ArchiveState,
    Bucket,
    Checksum,
    ChecksumKind,
    Encryption,
    ListedObject,
    ObjectVersion,
    Piece,
    Restore,
    RestorePhase,
    StorageClass,
    Tier,
    Upload,
    VersionFacts,
    Versioning,
)
from coldstore.model.quotas import UNLIMITED, QuotaKind, Quotas, Use
from coldstore.plan.listing import rolled_up
from tests.contract.metadata_datakeys import DataKeySteps
from tests.contract.metadata_keys import KeySteps, user_of

if TYPE_CHECKING:
    _Base = TestCase
else:
    _Base = object

GLACIER = StorageClass.GLACIER
DEEP_ARCHIVE = StorageClass.DEEP_ARCHIVE
STANDARD = StorageClass.STANDARD
EVERY_CLASS = tuple(StorageClass)
MAX_CRC = 2**64 - 1


def shown_of(version: ObjectVersion) -> ListedObject:
    """Return what a listing shows of a version."""
    facts, restore = version.facts, version.restore
    return (
        facts.key,
        facts.created_at,
        facts.etag,
        facts.content_bytes,
        facts.storage_class.value,
        facts.checksum.algorithm if facts.checksum else None,
        facts.checksum.kind.value if facts.checksum else None,
        facts.owner_id,
        restore.phase.value if restore else None,
        restore.expires_at if restore else None,
    )


def facts_of(key: bytes, **changes: Any) -> VersionFacts:
    """Facts of a version under a key of bucket ``b``."""
    facts = VersionFacts(
        bucket="b",
        key=key,
        version_id="null",
        size_bytes=10,
        etag=f"etag-{key!r}",
        storage_class=GLACIER,
        headers=(("content-type", "text/plain"),),
        user_metadata=(("colour", "grün"),),
        checksum=Checksum(algorithm="CRC64NVME", value="AAAAAAAAAAA="),
        crc64nvme=MAX_CRC,
        part_sizes="",
        created_at=1000.0,
        owner_id="owner",
    )
    return facts._replace(**changes)


def piece_of(address: str, ordinal: int = 1, **changes: Any) -> Piece:
    """A piece of ten bytes."""
    return Piece(ordinal=ordinal, address=address, length_bytes=10, crc64nvme=MAX_CRC)._replace(**changes)


def upload_of(upload_id: str, key: bytes = b"k", **changes: Any) -> Upload:
    """An upload to a key of bucket ``b``."""
    upload = Upload(
        upload_id=upload_id,
        bucket="b",
        key=key,
        owner_id="owner",
        storage_class=GLACIER,
        headers=(),
        user_metadata=(("a", "1"),),
        checksum_algorithm="CRC32",
        checksum_kind=ChecksumKind.COMPOSITE,
        created_at=900.0,
    )
    return replace(upload, **changes)


def message_of(key: bytes, event: str = "event", created_at: float = 100.0) -> NewMessage:
    """A message about a key of bucket ``b``."""
    return NewMessage(event=event, bucket="b", key=key, body='{"a":1}', created_at=created_at)


def cartridge_of(barcode: str, **changes: Any) -> Cartridge:
    """A cartridge that was seen and not admitted."""
    cartridge = Cartridge(
        barcode=barcode,
        state=CartridgeState.UNADMITTED,
        pool="",
        volume_uuid="",
        home_slot=3,
        is_present=True,
        capacity_bytes=10**12,
        free_bytes=10**12,
        written_bytes=0,
        loads=0,
        failures=0,
        needs_check=False,
        format_nonce="",
        admitted_at=None,
        admitted_by="",
        reason="",
        changed_at=1.0,
        changed_by="inventory",
    )
    return replace(cartridge, **changes)


ONGOING = Restore(phase=RestorePhase.ONGOING, tier=Tier.BULK, days=2, requested_at=50.0, requested_by="owner")


class MetadataSteps(_Base):
    """What the tests do with a store, in a line each. ``make_store`` returns a new store that is not open yet."""

    store: IMetadataStore

    def make_store(self) -> IMetadataStore:
        """Return a new, empty store."""
        raise NotImplementedError

    async def setUp(self) -> None:  # type: ignore[override]
        """Open a new store with one bucket."""
        self.serial = 0
        self.store = self.make_store()
        self.addCleanup(lambda: self.store.close())
        await self.store.open()
        await self.create_bucket("b")

    async def refused(self, kind: type[Exception], step: Awaitable[object]) -> Exception:
        """Return the failure of a step, which must be of this kind."""
        try:
            result = await step
        except kind as refusal:
            return refusal
        raise self.failureException(f"{kind.__name__} was expected, not {result!r}")

    def unique(self, stem: str) -> str:
        """Return a name that was not used before."""
        self.serial += 1
        return f"{stem}{self.serial:06}"

    async def create_bucket(self, name: str, owner_id: str = "owner") -> Bucket:
        """Create a bucket."""
        return await self.store.create_bucket(
            name=name, owner_id=owner_id, region="here", created_at=1.0, default_class=None
        )

    async def publish(
        self,
        key: bytes,
        *,
        wants_tape: bool = True,
        pieces: Sequence[Piece] | None = None,
        condition: WriteCondition | None = None,
        messages: Sequence[NewMessage] = (),
        bucket_uid: int | None = None,
        **changes: Any,
    ) -> ObjectVersion:
        """Publish a version of one piece, or of those given."""
        return await self.store.publish_version(
            facts_of(key, **changes),
            layout_id=self.unique("layout"),
            pieces=[piece_of(self.unique("piece"))] if pieces is None else pieces,
            wants_tape=wants_tape,
            condition=condition,
            messages=messages,
            bucket_uid=bucket_uid,
        )

    async def delete(self, *keys: bytes, at: float = 2000.0) -> list[ObjectVersion]:
        """Delete keys of bucket ``b``."""
        return await self.store.delete_current("b", keys, at=at, messages={})

    async def again(self, version: ObjectVersion) -> ObjectVersion:
        """Read a version again; it must not be forgotten."""
        found = await self.store.version(version.version_uid)
        assert found is not None
        return found

    async def addresses(self, version: ObjectVersion) -> list[str]:
        """Return where the pieces of a version are."""
        return [
            piece.address
            for piece in await self.store.pieces(version.layout_id, after_ordinal=0, limit=20_000)
        ]

    async def drain(self) -> list[str]:
        """Free everything that is to be freed; return the addresses in order."""
        freed: list[str] = []
        while found := await self.store.discards(1000):
            freed += [piece.address for piece in found]
            for start in range(0, len(found), BATCH_MAX):
                await self.store.forget_discards([one.discard_id for one in found[start : start + BATCH_MAX]])
        return freed

    async def open_bundle(self, pools: tuple[str, ...] = ("main", "vault")) -> str:
        """Begin a bundle."""
        bundle_id = self.unique("bundle")
        await self.store.open_bundle(bundle_id=bundle_id, pools=pools, created_at=10.0, epoch=1)
        return bundle_id

    def member(
        self,
        bundle_id: str,
        version: ObjectVersion,
        position: int = 0,
        extent: int = 0,
        extent_count: int = 1,
    ) -> Member:
        """A member for an extent of a version; extents are of ten bytes."""
        return Member(
            bundle_id=bundle_id,
            position=position,
            version_uid=version.version_uid,
            extent=extent,
            extent_count=extent_count,
            object_offset_bytes=10 * extent,
            length_bytes=10,
            crc64nvme=MAX_CRC - extent,
        )

    async def claim(self, versions: Iterable[ObjectVersion], bundle_id: str | None = None) -> str:
        """Claim whole versions for a bundle, a new one unless named."""
        bundle_id = bundle_id or await self.open_bundle()
        members = [self.member(bundle_id, version, position) for position, version in enumerate(versions)]
        for start in range(0, len(members), BATCH_MAX):
            batch = members[start : start + BATCH_MAX]
            await self.store.claim_members(bundle_id, batch, last_extents={one.version_uid for one in batch})
        return bundle_id

    async def freeze(self, bundle_id: str) -> Bundle:
        """Freeze a bundle of fewer than 1,000 members."""
        positions = [
            one.member.position for one in await self.store.members(bundle_id, after_position=-1, limit=1000)
        ]
        for start in range(0, len(positions), BATCH_MAX):
            batch = positions[start : start + BATCH_MAX]
            await self.store.fix_offsets(bundle_id, {position: 512 * (position + 1) for position in batch})
        return await self.store.freeze_bundle(
            bundle_id, member_count=len(positions), size_bytes=5000, content_bytes=10 * len(positions)
        )

    async def sync(
        self,
        bundle_id: str,
        pool: str,
        *,
        barcode: str = "",
        epoch: int = 1,
        sha256: str = "aa",
        size: int = 5000,
    ) -> None:
        """Bring a PLANNED copy to SYNCED."""
        await self.store.start_copy(
            bundle_id=bundle_id, pool=pool, barcode=barcode or f"tape-{pool}", epoch=epoch
        )
        await self.store.copy_synced(
            bundle_id=bundle_id,
            pool=pool,
            epoch=epoch,
            partition="b",
            start_block=7,
            size_bytes=size,
            sha256=sha256,
            at=20.0,
        )

    async def write(self, bundle_id: str) -> Bundle:
        """Make and verify both copies of a FROZEN bundle."""
        for pool in ("main", "vault"):
            await self.sync(bundle_id, pool)
            bundle = await self.store.copy_verified(bundle_id=bundle_id, pool=pool, epoch=1, at=30.0)
        return bundle

    async def settle(self, bundle_id: str, at: float = 40.0) -> None:
        """Settle an ARCHIVED bundle wholly."""
        position: int | None = -1
        while position is not None:
            position = await self.store.settle_members(bundle_id, after_position=position, at=at)

    async def archive(self, *versions: ObjectVersion) -> str:
        """Bring versions to tape in one bundle."""
        bundle_id = await self.claim(versions)
        await self.freeze(bundle_id)
        await self.write(bundle_id)
        await self.settle(bundle_id)
        return bundle_id

    async def evicted(self, key: bytes, **changes: Any) -> ObjectVersion:
        """Publish a version that is on tape only."""
        version = await self.publish(key, **changes)
        await self.archive(version)
        version = await self.again(version)
        await self.store.evict_version(version.version_uid, revision=version.revision)
        return await self.again(version)

    async def ask_restore(self, version: ObjectVersion, restore: Restore | None = ONGOING) -> ObjectVersion:
        """Change the restore of a version."""
        version = await self.again(version)
        return await self.store.change_restore(
            version.version_uid, revision=version.revision, restore=restore, messages=()
        )

    async def recall(self, version: ObjectVersion, address: str, layout_id: str = "recall") -> bool:
        """Bring the only extent of a version back."""
        return await self.store.add_recalled(
            version.version_uid, extent=0, layout_id=layout_id, piece=piece_of(address, 1)
        )

    async def complete(self, version: ObjectVersion, *, expires_at: float = 500.0) -> ObjectVersion:
        """Complete the recall of a version."""
        version = await self.again(version)
        return await self.store.complete_recall(
            version.version_uid, revision=version.revision, expires_at=expires_at, messages=()
        )

    async def living(self) -> list[ObjectVersion]:
        """Return all versions of bucket ``b``, delete markers among them, as they are listed."""
        found: list[ObjectVersion] = []
        after_key, after_version_id = b"", ""
        while True:
            page = await self.store.list_versions(
                "b",
                prefix=b"",
                delimiter=b"",
                after_key=after_key,
                after_version_id=after_version_id,
                max_entries=1000,
            )
            # All at once: a database far away answers them together.
            contents = await gatherResults(
                [self.store.version_content("b", row.shown[0], row.version_id) for row in page.rows]
            )
            found += [version for version, _ in contents]
            if not page.is_truncated:
                return found
            after_key, after_version_id = page.last_key, page.last_version_id

    async def recount(self) -> dict[StorageClass, tuple[int, int]]:
        """Count what versions of bucket ``b`` are not on every tape, one by one."""
        sums: dict[StorageClass, tuple[int, int]] = {}
        for version in await self.living():
            if version.archive_state in (ArchiveState.PENDING, ArchiveState.CLAIMED):
                count, size = sums.get(version.facts.storage_class, (0, 0))
                sums[version.facts.storage_class] = (count + 1, size + version.facts.size_bytes)
        return sums

    async def check_backlog(self) -> None:
        """The kept sums are those of a recount."""
        kept = {one.storage_class: (one.object_count, one.size_bytes) for one in await self.store.backlog()}
        self.assertEqual(kept, await self.recount())


class MetadataContract(MetadataSteps, DataKeySteps, KeySteps):
    """The promises, family by family."""

    # ── life ────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def test_life(self) -> None:
        """A store has an id, epochs that grow and know the machine before, and refuses steps once it is closed, as often as that is."""
        self.assertTrue(self.store.appliance_id)
        self.assertIsNone(await self.store.newest_epoch())
        first = await self.store.take_epoch(at=1.0, host="")
        self.assertEqual((first.began_at, first.host, first.host_before), (1.0, "", ""))
        second = await self.store.take_epoch(at=0.5, host="m1 b1 one")
        third = await self.store.take_epoch(at=2.0, host="m2 b2 two")
        self.assertLess(first.number, second.number)
        self.assertLess(second.number, third.number)
        self.assertEqual((second.host, second.host_before), ("m1 b1 one", ""))
        self.assertEqual((third.host, third.host_before), ("m2 b2 two", "m1 b1 one"))
        self.assertEqual(await self.store.newest_epoch(), third)
        await self.store.take_epoch(at=3.0, host="m1 b1 one")
        self.assertEqual(await self.store.hosts(), ["m1 b1 one", "m2 b2 two"])
        await self.store.close()
        await self.store.close()
        await self.refused(MetadataUnavailable, self.store.bucket("b"))
        await self.refused(MetadataUnavailable, self.store.take_epoch(at=2.0, host=""))

    async def test_totals(self) -> None:
        """The totals count what there is."""
        one = await self.publish(b"1")
        two = await self.publish(b"2")
        await self.archive(one)
        await self.ask_restore(one)
        await self.complete(one)
        await self.ask_restore(two)
        await self.publish(b"3", messages=[message_of(b"3")])
        await self.store.raise_alert(kind="k", subject="s", severity=Severity.INFO, sentence="!", at=1.0)
        totals = await self.store.totals()
        self.assertEqual((totals.bucket_count, totals.object_count, totals.object_bytes), (1, 3, 30))
        self.assertEqual((totals.on_disk_bytes, totals.on_tape_bytes), (30, 10))
        self.assertEqual((totals.ongoing_restores, totals.restored_objects), (1, 1))
        self.assertEqual((totals.outbox_messages, totals.open_alerts), (1, 1))

    # ── buckets ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def test_buckets(self) -> None:
        """Buckets are created once, listed by name, and have a default class that can change."""
        await self.refused(BucketAlreadyOwned, self.create_bucket("b"))
        await self.refused(BucketExists, self.create_bucket("b", owner_id="other"))
        await self.refused(NoSuchBucket, self.store.bucket("nope"))
        await self.create_bucket("a", owner_id="other")
        await self.create_bucket("c")

        async def names(owner_id: str | None, after: str, limit: int) -> list[str]:
            return [one.name for one in await self.store.buckets(owner_id=owner_id, after=after, limit=limit)]

        self.assertEqual(await names(None, "", 10), ["a", "b", "c"])
        self.assertEqual(await names("owner", "", 10), ["b", "c"])
        self.assertEqual(await names(None, "a", 1), ["b"])
        await self.store.set_default_class(name="b", default_class=GLACIER)
        self.assertEqual((await self.store.bucket("b")).default_class, GLACIER)
        await self.store.set_default_class(name="b", default_class=None)
        self.assertIsNone((await self.store.bucket("b")).default_class)
        await self.refused(NoSuchBucket, self.store.set_default_class(name="nope", default_class=None))

    async def test_configurations(self) -> None:
        """A bucket has a document of each kind, whose revision is another with every change; they go with the bucket."""
        store, kind, other = self.store, ConfigurationKind.CORS, ConfigurationKind.POLICY
        plain = await self.create_bucket("plain")
        bucket = await self.create_bucket("configured")
        self.assertEqual(bucket.configurations, {})

        async def document_of(bucket: Bucket, kind: ConfigurationKind) -> str | None:
            return await store.bucket_configuration(bucket_uid=bucket.bucket_uid, kind=kind)

        async def having(after_uid: int = 0, limit: int = 9) -> list[str]:
            found = await store.configured_buckets(kind=kind, after_uid=after_uid, limit=limit)
            return [bucket.name for bucket in found]

        revisions = set()
        for document in ("ä", "b" * DOCUMENT_MAX_BYTES, "c"):
            changed = await store.set_bucket_configuration(name="configured", kind=kind, document=document)
            self.assertEqual(changed, await store.bucket("configured"))
            revisions.add(changed.configurations[kind])
            self.assertEqual(await document_of(bucket, kind), document)
        self.assertEqual(len(revisions), 3)
        both = await store.set_bucket_configuration(name="configured", kind=other, document="{}")
        self.assertEqual(set(both.configurations), {kind, other})
        self.assertEqual(await document_of(plain, kind), None)
        await store.set_bucket_configuration(name="plain", kind=kind, document="")
        self.assertEqual(await having(), ["plain", "configured"])
        self.assertEqual(await having(after_uid=plain.bucket_uid), ["configured"])
        self.assertEqual(await having(limit=1), ["plain"])
        for _ in range(2):
            left = await store.set_bucket_configuration(name="configured", kind=kind, document=None)
            self.assertEqual(left.configurations, {other: both.configurations[other]})
            self.assertEqual(await document_of(bucket, kind), None)
        await store.delete_bucket("plain")
        self.assertEqual((await having(), await document_of(plain, kind)), ([], None))
        await self.refused(
            NoSuchBucket, store.set_bucket_configuration(name="plain", kind=kind, document="x")
        )
        self.assertEqual((await self.create_bucket("plain")).configurations, {})

    async def test_delete_bucket(self) -> None:
        """A bucket goes when no object is in it; its name is free then, and nothing of the old one shows in the new."""
        before = await self.store.bucket("b")
        await self.publish(b"k")
        await self.store.create_upload(upload_of("u"))
        await self.refused(BucketNotEmpty, self.store.delete_bucket("b"))
        await self.delete(b"k")
        await self.store.delete_bucket("b")
        await self.refused(NoSuchBucket, self.store.delete_bucket("b"))
        await self.refused(NoSuchBucket, self.store.bucket("b"))
        await self.refused(NoSuchBucket, self.store.current_version("b", b"k"))
        await self.refused(NoSuchBucket, self.store.current_content("b", b"k"))
        await self.refused(NoSuchBucket, self.publish(b"k"))
        await self.refused(NoSuchBucket, self.delete(b"k"))
        await self.refused(NoSuchBucket, self.store.list_current("b", from_key=b"", before_key=None, limit=1))
        self.assertEqual(await self.store.buckets(owner_id=None, after="", limit=9), [])
        after = await self.create_bucket("b", owner_id="other")
        self.assertNotEqual(after.bucket_uid, before.bucket_uid)
        self.assertEqual(await self.store.list_current("b", from_key=b"", before_key=None, limit=1), [])
        await self.refused(NoSuchUpload, self.store.upload("b", b"k", "u"))
        await self.refused(NoSuchUpload, self.store.put_part("u", piece_of("late")))

    async def test_abandoned_uploads(self) -> None:
        """Uploads outlive their bucket until they are abandoned, which discards their parts."""
        await self.store.create_upload(upload_of("u"))
        await self.store.put_part("u", piece_of("part"))
        self.assertEqual(await self.store.abandoned_uploads(10), [])
        await self.store.delete_bucket("b")
        self.assertEqual([one.upload_id for one in await self.store.abandoned_uploads(10)], ["u"])
        await self.store.abandon_upload("u")
        await self.store.abandon_upload("u")
        self.assertEqual(await self.store.abandoned_uploads(10), [])
        self.assertEqual(await self.drain(), ["part"])
        await self.create_bucket("b")
        await self.store.delete_bucket("b")

    async def test_publish_into_another_bucket(self) -> None:
        """An upload into a bucket that was deleted meanwhile does not end in another one that has its name now."""
        old = await self.store.bucket("b")
        await self.store.delete_bucket("b")
        new = await self.create_bucket("b", owner_id="other")
        await self.refused(NoSuchBucket, self.publish(b"k", bucket_uid=old.bucket_uid))
        await self.refused(NoSuchKey, self.store.current_version("b", b"k"))
        version = await self.publish(b"k", bucket_uid=new.bucket_uid)
        self.assertEqual(await self.store.current_version("b", b"k"), version)

    # ── versions ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def test_publish(self) -> None:
        """A published version is what its writer gave, current, on disk and waiting for tape when it wants it."""
        checksum = Checksum(algorithm="SHA256", value="x-2", kind=ChecksumKind.COMPOSITE)
        pieces = [
            piece_of("p1", 1, crc64nvme=0, etag="e1", checksum=checksum, created_at=3.5),
            piece_of("p2", 2, crc64nvme=1 << 63),
        ]
        version = await self.publish(
            b"\xff\x00k", pieces=pieces, size_bytes=20, part_sizes="10x2", checksum=checksum
        )
        self.assertEqual(
            version.facts, facts_of(b"\xff\x00k", size_bytes=20, part_sizes="10x2", checksum=checksum)
        )
        self.assertEqual(await self.store.current_version("b", b"\xff\x00k"), version)
        self.assertEqual(await self.store.version(version.version_uid), version)
        self.assertTrue(version.on_disk)
        self.assertEqual((version.archive_state, version.restore), (ArchiveState.PENDING, None))
        self.assertEqual(await self.store.pieces(version.layout_id, after_ordinal=0, limit=9), pieces)
        self.assertEqual(await self.store.pieces(version.layout_id, after_ordinal=1, limit=9), pieces[1:])
        self.assertEqual(await self.store.pieces(version.layout_id, after_ordinal=0, limit=1), pieces[:1])
        kept = await self.publish(b"kept", wants_tape=False, pieces=[], size_bytes=0, checksum=None)
        self.assertEqual((kept.archive_state, kept.facts.checksum), (ArchiveState.NOT_WANTED, None))
        self.assertEqual(await self.store.pieces(kept.layout_id, after_ordinal=0, limit=9), [])
        self.assertGreater(kept.sequence, version.sequence)
        self.assertIsNone(await self.store.version(10**9))
        await self.refused(NoSuchKey, self.store.current_version("b", b"nope"))

    async def test_content(self) -> None:
        """The piece that is all of a version comes with it; pieces that are a part of one do not, nor others of its length."""
        whole = piece_of("whole")
        checksum = Checksum(algorithm="CRC32", value="AAAAAA==")
        for piece in (whole, piece_of("described", etag="e", checksum=checksum, created_at=5.0)):
            version = await self.publish(b"k", pieces=[piece], crc64nvme=MAX_CRC)
            self.assertEqual(await self.store.current_content("b", b"k"), (version, piece))
        others: list[tuple[bytes, list[Piece], dict[str, Any]]] = [
            (b"parts", [piece_of("one", 1), piece_of("two", 2)], {"size_bytes": 20}),
            (b"listed", [piece_of("first", 1), piece_of("second", 2)], {"part_sizes": "10"}),
            (b"other", [piece_of("other")], {"crc64nvme": MAX_CRC - 1}),
            (b"none", [], {"size_bytes": 0, "crc64nvme": 0}),
        ]
        for key, pieces, changes in others:
            version = await self.publish(key, pieces=pieces, **{"crc64nvme": MAX_CRC, **changes})
            self.assertEqual(await self.store.current_content("b", key), (version, None))
        await self.store.delete_current("b", [b"k"], at=9.0, messages={})
        await self.refused(NoSuchKey, self.store.current_content("b", b"k"))

    async def test_overwrite(self) -> None:
        """What a version replaces is discarded, once."""
        first = await self.publish(b"k", pieces=[piece_of("old")])
        second = await self.publish(b"k", pieces=[piece_of("new")])
        self.assertEqual(await self.store.current_version("b", b"k"), second)
        self.assertGreater(second.sequence, first.sequence)
        self.assertEqual(await self.drain(), ["old"])
        self.assertIsNone(await self.store.version(first.version_uid))
        self.assertEqual(await self.addresses(second), ["new"])
        await self.check_backlog()

    async def test_conditions(self) -> None:
        """A write whose condition fails changes nothing at all."""
        absent = WriteCondition(if_none_match="*")
        await self.refused(NoSuchKey, self.publish(b"k", condition=WriteCondition(if_match="e")))
        await self.refused(NoSuchKey, self.publish(b"k", condition=WriteCondition(if_match="*")))
        first = await self.publish(b"k", condition=absent, etag="e")
        for condition in (absent, WriteCondition(if_none_match="e"), WriteCondition(if_match="f")):
            refused = self.publish(
                b"k", pieces=[piece_of("refused")], condition=condition, messages=[message_of(b"k")]
            )
            await self.refused(PreconditionFailed, refused)
        self.assertEqual(await self.store.current_version("b", b"k"), first)
        self.assertEqual(await self.store.referenced(["refused"]), frozenset())
        self.assertEqual(await self.store.due_messages(now=1e9, limit=9), [])
        self.assertEqual(await self.drain(), [])
        await self.check_backlog()
        second = await self.publish(b"k", condition=WriteCondition(if_match="e"), etag="f")
        third = await self.publish(b"k", condition=WriteCondition(if_match="*"), messages=[message_of(b"k")])
        self.assertGreater(third.sequence, second.sequence)
        other = WriteCondition(if_none_match="e")
        await self.publish(b"k", condition=other, etag="e")
        await self.publish(b"l", condition=other, etag="e")
        await self.refused(PreconditionFailed, self.publish(b"l", condition=other))
        self.assertEqual(len(await self.store.due_messages(now=1e9, limit=9)), 1)

    async def test_pieces_are_named_once(self) -> None:
        """An address that is in use or about to be freed cannot become part of a version."""
        version = await self.publish(b"k", pieces=[piece_of("used")])
        await self.refused(Conflict, self.publish(b"l", pieces=[piece_of("used")]))
        await self.store.add_discards(["doomed", "used", "doomed"])
        await self.refused(Conflict, self.publish(b"l", pieces=[piece_of("doomed")]))
        for second in ("used", "doomed", "new"):
            pieces = [piece_of("new"), piece_of(second, 2)]
            await self.refused(Conflict, self.publish(b"l", pieces=pieces))
        await self.store.create_upload(upload_of("u"))
        for address in ("used", "doomed"):
            await self.refused(Conflict, self.store.put_part("u", piece_of(address)))
        self.assertEqual(await self.store.referenced(["new"]), frozenset())
        self.assertEqual([one.address for one in await self.store.discards(9)], ["doomed"])
        again = self.store.publish_version(
            facts_of(b"l"),
            layout_id=version.layout_id,
            pieces=[],
            wants_tape=True,
            condition=None,
            messages=(),
        )
        await self.refused(Conflict, again)
        await self.refused(NoSuchKey, self.store.current_version("b", b"l"))

    async def test_list(self) -> None:
        """Keys are listed bytewise, between bounds, up to a limit, without what was deleted."""
        keys = [b"", b"\x00", b"a", b"a\x00", b"a/b", b"a\xff", b"b", b"\xc3\xa4", b"\xff", b"\xff\xff"]
        for key in reversed(keys):
            await self.publish(key)
        await self.create_bucket("other")
        await self.store.publish_version(
            facts_of(b"a", bucket="other"),
            layout_id="else",
            pieces=[],
            wants_tape=False,
            condition=None,
            messages=(),
        )

        async def listed(from_key: bytes, before_key: bytes | None, limit: int = 100) -> list[bytes]:
            found = await self.store.list_current("b", from_key=from_key, before_key=before_key, limit=limit)
            return [version.facts.key for version in found]

        self.assertEqual(await listed(b"", None), keys)
        self.assertEqual(await listed(b"a", b"b"), [b"a", b"a\x00", b"a/b", b"a\xff"])
        self.assertEqual(await listed(b"a\x00", None, 2), [b"a\x00", b"a/b"])
        self.assertEqual(await listed(b"\xff\xff\x00", None), [])
        await self.delete(b"a/b")
        self.assertEqual(await listed(b"a", b"b"), [b"a", b"a\x00", b"a\xff"])

    async def test_pages(self) -> None:
        """Pages show keys and common prefixes, each once, as they follow each other; nothing beside the bucket or the prefix."""
        keys = [
            b"a",
            b"a/",
            b"a/b",
            b"a/b/c",
            b"a0",
            b"b/x",
            b"b/\xc3\xa4",
            b"c\x00",
            b"d/e",
            b"\xf0\x9f\x93\xbc",
        ]
        found = {key: await self.publish(key) for key in reversed(keys)}
        await self.create_bucket("a")

        async def entries(prefix: bytes, delimiter: bytes, most: int, after: bytes = b"") -> list[bytes]:
            page = await self.store.list_page(
                "b", prefix=prefix, delimiter=delimiter, after=after, max_entries=most
            )
            self.assertEqual(page.rows, [shown_of(found[row[0]]) for row in page.rows])
            shown = sorted([*(row[0] for row in page.rows), *page.prefixes])
            self.assertEqual(page.entry_count, len(shown))
            self.assertTrue(len(shown) == most or not page.is_truncated)
            if not page.is_truncated:
                return shown
            self.assertEqual(page.last, shown[-1])
            return shown + await entries(prefix, delimiter, most, page.last)

        for most in (1, 2, 3, 20):
            self.assertEqual(await entries(b"", b"", most), keys)
            self.assertEqual(
                await entries(b"", b"/", most), [b"a", b"a/", b"a0", b"b/", b"c\x00", b"d/", keys[-1]]
            )
            self.assertEqual(await entries(b"a/", b"/", most), [b"a/", b"a/b", b"a/b/"])
            self.assertEqual(await entries(b"b", b"", most, after=b"b/x"), [keys[6]])
        await self.refused(
            NoSuchBucket, self.store.list_page("c", prefix=b"", delimiter=b"", after=b"", max_entries=1)
        )

    async def test_pages_of_folders(self) -> None:
        """Whatever keys look like, pages with a delimiter show what a slow and plain reading of them would."""
        random = Random(5)
        letters = ("a", "b", "/", "//", "\0", "é", "%", "?", "\U0001f4fc")
        keys = {"".join(random.choices(letters, k=random.randint(1, 6))).encode() for _ in range(150)}
        keys |= {b"big/%03d/%d" % (folder, number) for folder in range(40) for number in range(3)}
        for key in sorted(keys):
            await self.publish(key)
        for prefix, delimiter in (
            (b"", b"/"),
            (b"big/", b"/"),
            (b"", b"//"),
            (b"a", "é".encode()),
            (b"b", b"a\0"),
            (b"/", b"%"),
        ):
            wanted = sorted(
                {rolled_up(key, prefix, delimiter) or key for key in keys if key.startswith(prefix)}
            )
            for most in (7, 1000):
                after, found = b"", list[bytes]()
                while True:
                    page = await self.store.list_page(
                        "b", prefix=prefix, delimiter=delimiter, after=after, max_entries=most
                    )
                    found += sorted([*(row[0] for row in page.rows), *page.prefixes])
                    after = page.last
                    if not page.is_truncated:
                        break
                self.assertEqual(found, wanted, (prefix, delimiter, most))

    async def test_delete(self) -> None:
        """Deletion tells what was there, writes a message for each, and is harmless to repeat."""
        one, two = (
            await self.publish(b"1", pieces=[piece_of("p1")]),
            await self.publish(b"2", pieces=[piece_of("p2")]),
        )
        messages = {key: message_of(key, event="gone") for key in (b"1", b"2", b"3")}
        gone = await self.store.delete_current("b", [b"2", b"3", b"1", b"2"], at=5.0, messages=messages)
        self.assertEqual(gone, [two, one])
        told = await self.store.due_messages(now=1e9, limit=9)
        self.assertEqual({message.key for message in told}, {b"1", b"2"})
        self.assertEqual(await self.store.delete_current("b", [b"1"], at=6.0, messages=messages), [])
        self.assertEqual(len(await self.store.due_messages(now=1e9, limit=9)), 2)
        self.assertEqual(sorted(await self.drain()), ["p1", "p2"])
        self.assertEqual(await self.store.backlog(), [])

    async def test_delete_if_match(self) -> None:
        """A conditional deletion of another ETag changes nothing."""
        version = await self.publish(b"k", etag="e")
        refused = self.store.delete_current(
            "b", [b"k"], at=5.0, messages={b"k": message_of(b"k")}, if_match="f"
        )
        await self.refused(PreconditionFailed, refused)
        self.assertEqual(await self.store.current_version("b", b"k"), version)
        self.assertEqual(await self.store.due_messages(now=1e9, limit=9), [])
        gone = await self.store.delete_current("b", [b"k"], at=5.0, messages={}, if_match="e")
        self.assertEqual(gone, [version])

    async def test_note_reads(self) -> None:
        """Reads are added up; unknown versions do no harm."""
        version = await self.publish(b"k")
        await self.store.note_reads({version.version_uid: 3, 10**9: 1}, at=70.0)
        await self.store.note_reads({version.version_uid: 1}, at=60.0)
        version = await self.again(version)
        self.assertEqual((version.read_count, version.last_read_at), (4, 70.0))

    # ── uploads ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def test_upload(self) -> None:
        """An upload in progress is what was begun, with the last part of each number."""
        await self.store.create_upload(upload_of("u"))
        await self.refused(Conflict, self.store.create_upload(upload_of("u")))
        await self.refused(NoSuchBucket, self.store.create_upload(upload_of("v", bucket="nope")))
        self.assertEqual(await self.store.upload("b", b"k", "u"), upload_of("u"))
        first, second = piece_of("one", 1, etag="e1"), piece_of("two", 10_000)
        await self.store.put_part("u", second)
        await self.store.put_part("u", piece_of("first", 1))
        await self.store.put_part("u", first)
        await self.store.put_part("u", first)
        self.assertEqual(await self.store.parts("u", after_ordinal=0, limit=9), [first, second])
        self.assertEqual(await self.store.parts("u", after_ordinal=1, limit=9), [second])
        self.assertEqual(await self.drain(), ["first"])
        self.assertGreater((await self.store.upload("b", b"k", "u")).revision, 0)
        await self.refused(Conflict, self.store.put_part("u", piece_of("one", 2)))
        self.assertEqual(await self.store.parts("u", after_ordinal=0, limit=9), [first, second])
        for missing in (
            self.store.upload("b", b"other", "u"),
            self.store.upload("b", b"k", "v"),
            self.store.put_part("v", piece_of("x")),
            self.store.parts("v", after_ordinal=0, limit=1),
            self.store.abort_upload("b", b"other", "u"),
        ):
            await self.refused(NoSuchUpload, missing)
        await self.refused(NoSuchBucket, self.store.upload("nope", b"k", "u"))
        await self.refused(NoSuchBucket, self.store.abort_upload("nope", b"k", "u"))

    async def test_encryption(self) -> None:
        """How an object is encrypted is kept with it, and with its upload; listings show its size as S3 does."""
        encryption = Encryption(
            algorithm="AES256", key_md5="digest", wrapped_key="wrapped", chunk_bytes=65_536, size_bytes=7
        )
        begun = encryption._replace(size_bytes=0)
        await self.store.publish_version(
            facts_of(b"a", encryption=encryption), layout_id="a", pieces=[piece_of("a")], wants_tape=True,
            condition=None, messages=(),
        )  # fmt: skip
        await self.store.create_upload(upload_of("u", b"b", encryption=begun))
        upload = await self.store.upload("b", b"b", "u")
        self.assertEqual(upload.encryption, begun)
        self.assertEqual(
            await self.store.uploads("b", prefix=b"", after_key=b"", after_upload_id="", limit=9), [upload]
        )
        await self.store.put_part("u", piece_of("p", 1))
        of_parts = encryption._replace(part_sizes="3,4")
        await self.store.complete_upload(
            "u", facts_of(b"b", encryption=of_parts), listed=[1], wants_tape=True, condition=None, messages=(),
        )  # fmt: skip
        for key, expected in ((b"a", encryption), (b"b", of_parts)):
            version = await self.store.current_version("b", key)
            self.assertEqual((version.facts.encryption, version.facts.size_bytes), (expected, 10))
            self.assertEqual(version.facts.content_bytes, 7)
        plain = await self.publish(b"c")
        self.assertIsNone(plain.facts.encryption)
        page = await self.store.list_page("b", prefix=b"", delimiter=b"", after=b"", max_entries=9)
        self.assertEqual([row[3] for row in page.rows], [7, 7, 10])

    async def test_parts_left_out(self) -> None:
        """Pages of an object go past the parts that its client left out, be they ever so many."""
        await self.store.create_upload(upload_of("u"))
        for number in range(1, 41):
            await self.store.put_part("u", piece_of(f"p{number}", number))
        listed = [1, 3, 30, 38, 39]
        version = await self.complete_of(listed)
        for limit in (1, 2, 3, 5, 9, 99):
            found: list[int] = []
            while page := await self.store.pieces(
                version.layout_id, after_ordinal=max(found, default=0), limit=limit
            ):
                self.assertEqual(len(page), min(limit, len(listed) - len(found)))
                found += [piece.ordinal for piece in page]
            self.assertEqual(found, listed)

    async def test_list_uploads(self) -> None:
        """Uploads are listed by key and id, from a marker on."""
        for upload_id, key in (
            ("3", b"a"),
            ("1", b"a"),
            ("2", b"a"),
            ("4", b"aa"),
            ("5", b"b"),
            ("6", b"\xff\xff"),
        ):
            await self.store.create_upload(upload_of(upload_id, key))

        async def ids(
            prefix: bytes = b"", after_key: bytes = b"", after_id: str = "", limit: int = 99
        ) -> str:
            found = await self.store.uploads(
                "b", prefix=prefix, after_key=after_key, after_upload_id=after_id, limit=limit
            )
            return "".join(upload.upload_id for upload in found)

        self.assertEqual(await ids(), "123456")
        self.assertEqual(await ids(limit=2), "12")
        self.assertEqual(await ids(prefix=b"a"), "1234")
        self.assertEqual(await ids(prefix=b"\xff"), "6")
        self.assertEqual(await ids(after_key=b"a"), "456")
        self.assertEqual(await ids(after_key=b"a", after_id="1"), "23456")
        self.assertEqual(await ids(prefix=b"a", after_key=b"a", after_id="2"), "34")
        self.assertEqual(await ids(prefix=b"b", after_key=b"a", after_id="2"), "5")
        self.assertEqual(await ids(prefix=b"a", after_key=b"b"), "")
        await self.refused(
            NoSuchBucket, self.store.uploads("nope", prefix=b"", after_key=b"", after_upload_id="", limit=1)
        )

    async def complete_of(self, listed: Sequence[int], **arguments: Any) -> ObjectVersion:
        """Complete upload ``u`` of key ``k`` with parts of ten bytes."""
        return await self.store.complete_upload(
            "u",
            facts_of(b"k", size_bytes=arguments.pop("size_bytes", 10 * len(listed))),
            listed=listed,
            wants_tape=True,
            condition=arguments.pop("condition", None),
            messages=arguments.pop("messages", ()),
            **arguments,
        )

    async def test_complete_upload(self) -> None:
        """The listed parts become the version; the others are discarded; the upload is over."""
        replaced = await self.publish(b"k", pieces=[piece_of("old")])
        await self.store.create_upload(upload_of("u"))
        for number in (1, 2, 3, 5, 9):
            await self.store.put_part("u", piece_of(f"part{number}", number))
        version = await self.complete_of([1, 3, 9], messages=[message_of(b"k")])
        self.assertEqual(await self.store.current_version("b", b"k"), version)
        self.assertEqual(await self.addresses(version), ["part1", "part3", "part9"])
        self.assertEqual(len(await self.store.due_messages(now=1e9, limit=9)), 1)
        self.assertEqual(await self.store.completed_upload("b", b"k", "u"), version)
        self.assertIsNone(await self.store.completed_upload("b", b"k", "v"))
        self.assertIsNone(await self.store.completed_upload("nope", b"k", "u"))
        for over in (
            self.store.put_part("u", piece_of("late")),
            self.store.upload("b", b"k", "u"),
            self.complete_of([1, 3, 9]),
            self.store.abort_upload("b", b"k", "u"),
        ):
            await self.refused(NoSuchUpload, over)
        await self.store.abandon_upload("u")
        self.assertEqual(sorted(await self.drain()), ["old", "part2", "part5"])
        self.assertIsNone(await self.store.version(replaced.version_uid))
        self.assertEqual(await self.addresses(version), ["part1", "part3", "part9"])
        await self.check_backlog()
        await self.delete(b"k")
        self.assertIsNone(await self.store.completed_upload("b", b"k", "u"))
        self.assertEqual(sorted(await self.drain()), ["part1", "part3", "part9"])

    async def test_complete_refused(self) -> None:
        """A completion that cannot be leaves the upload as it was."""
        await self.publish(b"k")
        await self.store.create_upload(upload_of("u"))
        for number in (1, 2):
            await self.store.put_part("u", piece_of(f"part{number}", number))
        upload = await self.store.upload("b", b"k", "u")
        await self.refused(Conflict, self.complete_of([1, 2, 3]))
        await self.refused(Conflict, self.complete_of([1, 2], size_bytes=21))
        await self.refused(
            PreconditionFailed, self.complete_of([1], condition=WriteCondition(if_none_match="*"))
        )
        await self.store.put_part("u", piece_of("again", 2))
        await self.refused(Conflict, self.complete_of([1, 2], revision=upload.revision))
        elsewhere = self.store.complete_upload(
            "u", facts_of(b"other"), listed=[1], wants_tape=True, condition=None, messages=()
        )
        await self.refused(NoSuchUpload, elsewhere)
        self.assertEqual(await self.drain(), ["part2"])
        self.assertEqual(len(await self.store.parts("u", after_ordinal=0, limit=9)), 2)
        upload = await self.store.upload("b", b"k", "u")
        version = await self.complete_of([1, 2], revision=upload.revision)
        self.assertEqual(await self.addresses(version), ["part1", "again"])

    async def test_abort_upload(self) -> None:
        """An aborted upload is gone and its parts are discarded."""
        await self.store.create_upload(upload_of("u"))
        for number in range(1, 4):
            await self.store.put_part("u", piece_of(f"part{number}", number))
        await self.store.abort_upload("b", b"k", "u")
        await self.refused(NoSuchUpload, self.store.put_part("u", piece_of("late", 4)))
        self.assertEqual(await self.drain(), ["part1", "part2", "part3"])
        self.assertEqual(await self.store.referenced(["late", "part1"]), frozenset())

    async def test_many_parts(self) -> None:
        """Uploads of hundreds of parts complete, and are taken apart, in steps that keep the bounds."""
        await self.store.create_upload(upload_of("u"))
        await gatherResults([self.store.put_part("u", piece_of(f"{n:05}", n)) for n in range(1, 601)])
        listed = [n for n in range(1, 601) if n % 3]
        version = await self.complete_of(listed)
        self.assertEqual(await self.addresses(version), [f"{n:05}" for n in listed])
        self.assertEqual(sorted(await self.drain()), [f"{n:05}" for n in range(3, 601, 3)])
        await self.delete(b"k")
        self.assertEqual(sorted(await self.drain()), [f"{n:05}" for n in listed])

    # ── discards ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def test_discards(self) -> None:
        """Duties are told oldest first until they are forgotten; addresses are known until then."""
        await self.publish(b"k", pieces=[piece_of("used")])
        await self.store.add_discards(["x", "used"])
        await self.store.add_discards(["y", "x"])
        found = await self.store.discards(9)
        self.assertEqual([one.address for one in found], ["x", "y"])
        self.assertEqual(await self.store.discards(1), found[:1])
        self.assertEqual(await self.store.discards(9, after=found[0].discard_id), found[1:])
        self.assertEqual(await self.store.referenced({"x", "used", "z"}), frozenset({"x", "used"}))
        await self.store.forget_discards([found[0].discard_id])
        await self.store.forget_discards([found[0].discard_id])
        self.assertEqual(await self.store.discards(9), found[1:])
        self.assertEqual(await self.store.referenced(["x"]), frozenset())

    async def test_about_nothing(self) -> None:
        """Whoever asks about nothing gets nothing, and what is to be done with nothing changes nothing."""
        version = await self.publish(b"k")
        await self.store.add_discards(["x"])
        self.assertEqual(await self.store.referenced([]), frozenset())
        self.assertEqual(await self.store.pieces_at([]), [])
        self.assertEqual(await self.store.first_pieces([]), {})
        self.assertEqual(await self.store.move_pieces({}), frozenset())
        self.assertEqual(await self.store.delete_current("b", [], at=2.0, messages={}), [])
        await self.store.forget_discards([])
        await self.store.add_discards([])
        await self.store.note_reads({}, at=2.0)
        await self.store.mark_manifested(barcode="T", session_id="s", bundle_ids=[])
        self.assertEqual(await self.store.current_version("b", b"k"), version)
        self.assertEqual(await self.drain(), ["x"])

    async def test_discards_limit(self) -> None:
        """No more duties are told than asked for, however many versions died, and none is forgotten over it."""
        names = [self.unique("p") for _ in range(120)]
        versions = [await self.publish(name.encode(), pieces=[piece_of(name)]) for name in names]
        for start in range(0, len(names), BATCH_MAX):
            await self.delete(*(name.encode() for name in names[start : start + BATCH_MAX]))
        found: list[DiscardedPiece] = await self.store.discards(7)
        self.assertEqual(len(found), 7)
        others = await self.store.discards(1000, after=found[-1].discard_id)
        self.assertEqual(len({one.discard_id for one in [*found, *others]}), 120)
        self.assertEqual(sorted(await self.drain()), names)
        self.assertIsNone(await self.store.version(versions[0].version_uid))

    # ── archive ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def test_backlog(self) -> None:
        """The backlog counts what is not on every tape by class, with its oldest."""
        await self.publish(b"1", created_at=30.0)
        two = await self.publish(b"2", created_at=20.0, size_bytes=7)
        await self.publish(b"3", storage_class=STANDARD)
        await self.publish(b"4", wants_tape=False)
        glacier, standard = await self.store.backlog()
        self.assertEqual((glacier.storage_class, glacier.object_count, glacier.size_bytes), (GLACIER, 2, 17))
        self.assertEqual((glacier.oldest_at, standard.object_count), (20.0, 1))
        bundle_id = await self.claim([two])
        self.assertEqual((await self.store.backlog())[0], glacier)
        await self.freeze(bundle_id)
        await self.write(bundle_id)
        await self.settle(bundle_id)
        glacier, standard = await self.store.backlog()
        self.assertEqual((glacier.object_count, glacier.size_bytes, glacier.oldest_at), (1, 10, 30.0))
        await self.delete(b"3")
        self.assertEqual(await self.store.backlog(), [glacier])

    async def test_pending(self) -> None:
        """What waits is told in order of publication, of the classes asked for."""
        a = await self.publish(b"z")
        b = await self.publish(b"y", storage_class=STANDARD)
        c = await self.publish(b"x")
        await self.publish(b"w", wants_tape=False)
        await self.publish(b"v")
        await self.delete(b"v")

        async def waiting(classes: Sequence[StorageClass], after: int = 0, limit: int = 99) -> list[int]:
            found = await self.store.pending(classes=classes, after_sequence=after, limit=limit)
            return [version.version_uid for version in found]

        uids = [version.version_uid for version in (a, b, c)]
        self.assertEqual(await waiting([GLACIER, STANDARD]), uids)
        self.assertEqual(await waiting([GLACIER]), [uids[0], uids[2]])
        self.assertEqual(await waiting([GLACIER, STANDARD], a.sequence, 1), uids[1:2])
        self.assertEqual(await waiting([]), [])
        await self.claim([a])
        self.assertEqual(await waiting([GLACIER]), uids[2:])

    async def test_claim(self) -> None:
        """A claim takes what waits and leaves out what does not; the version is CLAIMED with its last extent."""
        a, b, c = [await self.publish(key) for key in (b"a", b"b", b"c")]
        kept = await self.publish(b"kept", wants_tape=False)
        await self.delete(b"b")
        bundle_id = await self.open_bundle()
        await self.refused(
            Conflict, self.store.open_bundle(bundle_id=bundle_id, pools=("x",), created_at=1.0, epoch=1)
        )
        members = [
            self.member(bundle_id, version, position) for position, version in enumerate((a, b, kept, c))
        ]
        uids = {version.version_uid for version in (a, b, kept, c)}
        taken = await self.store.claim_members(bundle_id, members, last_extents=uids)
        self.assertEqual(taken, [members[0], members[3]])
        self.assertEqual(await self.store.claim_members(bundle_id, members, last_extents=uids), taken)
        self.assertEqual((await self.again(a)).archive_state, ArchiveState.CLAIMED)
        self.assertEqual((await self.again(kept)).archive_state, ArchiveState.NOT_WANTED)
        other = await self.open_bundle()
        self.assertEqual(
            await self.store.claim_members(other, [self.member(other, a)], last_extents={a.version_uid}), []
        )
        late = await self.publish(b"late")
        await self.refused(
            Conflict, self.store.claim_members(bundle_id, [self.member(bundle_id, late, 3)], last_extents=())
        )
        await self.refused(
            Conflict, self.store.claim_members("nope", [self.member("nope", late)], last_extents=())
        )
        held = await self.store.members(bundle_id, after_position=-1, limit=9)
        self.assertEqual([one.member for one in held], taken)
        self.assertEqual([one.version.version_uid for one in held], [a.version_uid, c.version_uid])
        self.assertEqual(len(await self.store.members(bundle_id, after_position=0, limit=9)), 1)

    async def test_extents(self) -> None:
        """A version in several bundles is CLAIMED with the last extent and ARCHIVED with the last bundle."""
        big = await self.publish(b"big", size_bytes=30)
        one, two = await self.open_bundle(), await self.open_bundle()
        first = [self.member(one, big, n, n, 3) for n in (0, 1)]
        await self.refused(Conflict, self.store.claim_members(one, first, last_extents={big.version_uid}))
        self.assertEqual(await self.store.extents(big.version_uid), [])
        await self.store.claim_members(one, first, last_extents=())
        self.assertEqual((await self.again(big)).archive_state, ArchiveState.PENDING)
        last = [self.member(two, big, 0, 2, 3)]
        await self.store.claim_members(two, last, last_extents={big.version_uid})
        self.assertEqual((await self.again(big)).archive_state, ArchiveState.CLAIMED)
        self.assertEqual(await self.store.extents(big.version_uid), first + last)
        for bundle_id in (one, two):
            self.assertEqual((await self.store.copy_count(big.version_uid, wanted=2)).verified, 0)
            self.assertEqual((await self.again(big)).archive_state, ArchiveState.CLAIMED)
            await self.freeze(bundle_id)
            await self.write(bundle_id)
            await self.settle(bundle_id)
        self.assertEqual((await self.again(big)).archive_state, ArchiveState.ARCHIVED)
        self.assertEqual((await self.store.copy_count(big.version_uid, wanted=2)).verified, 2)
        self.assertEqual(len(await self.store.copies(version_uid=big.version_uid)), 4)

    async def test_freeze(self) -> None:
        """A bundle is frozen once, with all its members and offsets; a PLANNED copy exists per pool then."""
        version = await self.publish(b"k")
        bundle_id = await self.claim([version])
        freeze = {"size_bytes": 5000, "content_bytes": 10}
        await self.refused(Conflict, self.store.freeze_bundle(bundle_id, member_count=1, **freeze))
        await self.refused(Conflict, self.store.fix_offsets(bundle_id, {0: 512, 1: 600}))
        await self.store.fix_offsets(bundle_id, {0: 1024})
        await self.store.fix_offsets(bundle_id, {0: 512})
        await self.refused(Conflict, self.store.freeze_bundle(bundle_id, member_count=2, **freeze))
        await self.refused(Conflict, self.store.freeze_bundle("nope", member_count=0, **freeze))
        self.assertEqual(await self.store.copies(bundle_id=bundle_id), [])
        bundle = await self.store.freeze_bundle(bundle_id, member_count=1, **freeze)
        self.assertEqual((bundle.state, bundle.pools), (BundleState.FROZEN, ("main", "vault")))
        self.assertEqual((bundle.member_count, bundle.size_bytes, bundle.content_bytes), (1, 5000, 10))
        self.assertEqual(await self.store.bundle(bundle_id), bundle)
        self.assertIsNone(await self.store.bundle("nope"))
        copies = await self.store.copies(bundle_id=bundle_id)
        self.assertEqual(
            [(one.pool, one.state) for one in copies], [("main", "planned"), ("vault", "planned")]
        )
        self.assertEqual(await self.store.unfinished_copies(9), copies)
        self.assertEqual(await self.store.unfinished_copies(1), copies[:1])
        (extent,) = await self.store.extents(version.version_uid)
        self.assertEqual(extent.bundle_offset_bytes, 512)
        for late in (
            self.store.freeze_bundle(bundle_id, member_count=1, **freeze),
            self.store.fix_offsets(bundle_id, {0: 1}),
            self.store.claim_members(bundle_id, [], last_extents=()),
            self.store.release_members(bundle_id),
            self.store.settle_members(bundle_id, after_position=-1, at=1.0),
        ):
            await self.refused(Conflict, late)

    async def test_list_bundles(self) -> None:
        """Bundles are found by state and whether they are settled, by id, from a marker on."""
        filling = await self.claim([await self.publish(b"1")])
        frozen = await self.claim([await self.publish(b"2")])
        await self.freeze(frozen)
        archived = await self.archive(await self.publish(b"3"))

        async def ids(
            *states: BundleState, settled: bool | None = None, after: str = "", limit: int = 9
        ) -> list[str]:
            found = await self.store.bundles(states=states, settled=settled, after=after, limit=limit)
            return [bundle.bundle_id for bundle in found]

        self.assertEqual(await ids(*BundleState), [filling, frozen, archived])
        self.assertEqual(await ids(*BundleState, after=filling, limit=1), [frozen])
        self.assertEqual(await ids(BundleState.ARCHIVED, BundleState.FILLING, settled=True), [archived])
        self.assertEqual(await ids(BundleState.ARCHIVED, BundleState.FILLING, settled=False), [filling])
        self.assertEqual(await ids(), [])

    async def test_release(self) -> None:
        """Released versions wait again, in batches; deleted ones are discarded; the bundle is VOID."""
        versions = [await self.publish(f"{n:03}".encode()) for n in range(BATCH_MAX + 5)]
        bundle_id = await self.claim(versions)
        await self.delete(b"000")
        self.assertEqual(await self.drain(), [])
        self.assertFalse(await self.store.release_members(bundle_id))
        self.assertTrue(await self.store.release_members(bundle_id))
        self.assertTrue(await self.store.release_members(bundle_id))
        bundle = await self.store.bundle(bundle_id)
        assert bundle is not None
        self.assertEqual(bundle.state, BundleState.VOID)
        waiting = await self.store.pending(classes=[GLACIER], after_sequence=0, limit=99)
        self.assertEqual([one.version_uid for one in waiting], [one.version_uid for one in versions[1:]])
        self.assertEqual(await self.drain(), await self.addresses_before(versions[:1]))
        self.assertIsNone(await self.store.version(versions[0].version_uid))
        self.assertEqual(await self.store.extents(versions[1].version_uid), [])
        await self.check_backlog()
        await self.refused(Conflict, self.store.release_members("nope"))
        await self.archive(await self.again(versions[1]))
        self.assertEqual((await self.again(versions[1])).archive_state, ArchiveState.ARCHIVED)

    async def addresses_before(self, versions: Iterable[ObjectVersion]) -> list[str]:
        """Return the addresses that ``publish`` gave to versions: the number after that of the layout."""
        return [f"piece{int(one.layout_id.removeprefix('layout')) + 1:06}" for one in versions]

    async def test_release_of_some_extents(self) -> None:
        """A deleted version whose extents are in a FROZEN and a released bundle keeps its bytes until the first is settled."""
        big = await self.publish(b"big", pieces=[piece_of("bytes")])
        one, two = await self.open_bundle(), await self.open_bundle()
        await self.store.claim_members(one, [self.member(one, big, 0, 0, 2)], last_extents=())
        await self.store.claim_members(two, [self.member(two, big, 0, 1, 2)], last_extents={big.version_uid})
        await self.freeze(one)
        await self.delete(b"big")
        self.assertTrue(await self.store.release_members(two))
        self.assertEqual(await self.drain(), [])
        await self.write(one)
        await self.settle(one)
        self.assertEqual(await self.drain(), ["bytes"])
        again = await self.again(big)
        self.assertFalse(again.on_disk)
        self.assertEqual(len(await self.store.members(one, after_position=-1, limit=9)), 1)

    async def test_copy_life(self) -> None:
        """A copy goes from PLANNED to VERIFIED, and the last one makes its bundle ARCHIVED."""
        version = await self.publish(b"k")
        bundle_id = await self.claim([version])
        await self.freeze(bundle_id)
        main: dict[str, Any] = {"bundle_id": bundle_id, "pool": "main"}
        copy = await self.store.start_copy(**main, barcode="T1", epoch=1)
        self.assertEqual((copy.state, copy.barcode, copy.epoch), (CopyState.WRITING, "T1", 1))
        await self.refused(Conflict, self.store.start_copy(**main, barcode="T2", epoch=1))
        await self.refused(
            Conflict, self.store.start_copy(bundle_id=bundle_id, pool="vault", barcode="T1", epoch=1)
        )
        await self.refused(
            Conflict, self.store.start_copy(bundle_id=bundle_id, pool="x", barcode="T3", epoch=1)
        )
        await self.refused(Conflict, self.store.copy_verified(**main, epoch=1, at=1.0))
        synced: dict[str, Any] = {
            "partition": "b",
            "start_block": 9,
            "size_bytes": 5000,
            "sha256": "aa",
            "at": 5.0,
        }
        await self.refused(Conflict, self.store.copy_synced(**main, epoch=2, **synced))
        await self.refused(Conflict, self.store.copy_synced(**main, epoch=1, **{**synced, "size_bytes": 1}))
        copy = await self.store.copy_synced(**main, epoch=1, **synced)
        self.assertEqual((copy.state, copy.partition, copy.start_block), (CopyState.SYNCED, "b", 9))
        self.assertEqual(copy.synced_at, 5.0)
        bundle = await self.store.bundle(bundle_id)
        assert bundle is not None
        self.assertEqual(bundle.sha256, "aa")
        await self.refused(Conflict, self.store.copy_verified(**main, epoch=2, at=6.0))
        self.assertEqual((await self.store.resume_copy(**main, epoch=2)).epoch, 2)
        bundle = await self.store.copy_verified(**main, epoch=2, at=6.0)
        self.assertEqual(bundle.state, BundleState.FROZEN)
        await self.refused(Conflict, self.store.resume_copy(**main, epoch=3))
        await self.refused(Conflict, self.store.copy_failed(**main, reason="no"))
        self.assertEqual((await self.store.copy_count(version.version_uid, wanted=2)).verified, 1)
        await self.sync(bundle_id, "vault", barcode="T2")
        bundle = await self.store.copy_verified(bundle_id=bundle_id, pool="vault", epoch=1, at=7.0)
        self.assertEqual((bundle.state, bundle.is_settled), (BundleState.ARCHIVED, False))
        self.assertEqual(await self.store.unfinished_copies(9), [])
        self.assertEqual((await self.store.copy_count(version.version_uid, wanted=2)).verified, 2)
        self.assertEqual((await self.again(version)).archive_state, ArchiveState.CLAIMED)
        await self.settle(bundle_id, at=8.0)
        version = await self.again(version)
        self.assertEqual((version.archive_state, version.archived_at), (ArchiveState.ARCHIVED, 8.0))
        self.assertEqual([one.pool for one in await self.store.copies(barcode="T2")], ["vault"])
        await self.refused(ValueError, self.store.copies(barcode="T1", bundle_id=bundle_id))
        bundle = replace(bundle, is_settled=True)
        self.assertEqual(await self.store.bundle(bundle_id), bundle)
        await self.settle(bundle_id, at=9.0)
        self.assertEqual(await self.again(version), version)

    async def test_copies_must_be_equal(self) -> None:
        """A copy with another hash than the first is refused and changes nothing; a first one that fails binds nobody."""
        bundle_id = await self.claim([await self.publish(b"k")])
        await self.freeze(bundle_id)
        await self.sync(bundle_id, "main", sha256="aa")
        await self.refused(Conflict, self.sync(bundle_id, "vault", sha256="bb"))
        _, vault = await self.store.copies(bundle_id=bundle_id)
        self.assertEqual((vault.state, vault.synced_at), (CopyState.WRITING, None))
        copy = await self.store.copy_failed(bundle_id=bundle_id, pool="vault", reason="hash")
        self.assertEqual((copy.state, copy.barcode, copy.failures), (CopyState.PLANNED, None, 1))
        self.assertEqual(await self.store.copy_failed(bundle_id=bundle_id, pool="vault", reason="x"), copy)
        copy = await self.store.copy_failed(bundle_id=bundle_id, pool="main", reason="unreadable")
        self.assertEqual((copy.partition, copy.synced_at, copy.reason), ("", None, "unreadable"))
        await self.sync(bundle_id, "vault", sha256="bb")
        bundle = await self.store.bundle(bundle_id)
        assert bundle is not None
        self.assertEqual(bundle.sha256, "bb")

    async def test_lost_copies(self) -> None:
        """A lost copy is LOST; as long as the bundle is FROZEN it is made again, and counts for nothing."""
        version = await self.publish(b"k")
        bundle_id = await self.claim([version])
        await self.freeze(bundle_id)
        main: dict[str, Any] = {"bundle_id": bundle_id, "pool": "main"}
        await self.refused(Conflict, self.store.lose_copy(**main, reason="?"))
        await self.sync(bundle_id, "main")
        await self.store.copy_verified(**main, epoch=1, at=1.0)
        copy = await self.store.lose_copy(**main, reason="scratched")
        self.assertEqual((copy.state, copy.failures, copy.barcode), (CopyState.PLANNED, 1, None))
        await self.sync(bundle_id, "vault")
        bundle = await self.store.copy_verified(bundle_id=bundle_id, pool="vault", epoch=1, at=1.0)
        self.assertEqual(bundle.state, BundleState.FROZEN)
        await self.sync(bundle_id, "main", barcode="T9")
        bundle = await self.store.copy_verified(**main, epoch=1, at=1.0)
        self.assertEqual(bundle.state, BundleState.ARCHIVED)
        copy = await self.store.lose_copy(**main, reason="torn")
        self.assertEqual((copy.state, copy.barcode, copy.reason), (CopyState.LOST, "T9", "torn"))
        self.assertEqual(await self.store.lose_copy(**main, reason="again"), copy)
        bundle_now = await self.store.bundle(bundle_id)
        assert bundle_now is not None
        self.assertEqual(bundle_now.state, BundleState.ARCHIVED)
        self.assertEqual((await self.store.copy_count(version.version_uid, wanted=2)).verified, 1)

    async def test_renewed_copies(self) -> None:
        """A lost copy of an ARCHIVED bundle is made anew: cut off or failed it is LOST again, verified it counts."""
        version = await self.publish(b"k")
        bundle_id = await self.claim([version])
        await self.freeze(bundle_id)
        main: dict[str, Any] = {"bundle_id": bundle_id, "pool": "main"}
        vault: dict[str, Any] = {"bundle_id": bundle_id, "pool": "vault"}
        for copy, barcode in ((main, "T1"), (vault, "T2")):
            await self.sync(bundle_id, copy["pool"], barcode=barcode)
            bundle = await self.store.copy_verified(**copy, epoch=1, at=1.0)
        self.assertEqual(await self.store.lost_copies(9), [])
        lost = await self.store.lose_copy(**main, reason="torn")
        self.assertEqual(await self.store.lost_copies(9), [lost])
        self.assertEqual(await self.store.unfinished_copies(9), [])
        await self.refused(Conflict, self.store.start_copy(**main, barcode="T2", epoch=2))
        copy_now = await self.store.start_copy(**main, barcode="T3", epoch=2)
        self.assertEqual((copy_now.state, copy_now.barcode), (CopyState.WRITING, "T3"))
        self.assertEqual((copy_now.partition, copy_now.verified_at, copy_now.session_id), ("", None, ""))
        self.assertEqual(await self.store.lost_copies(9), [])
        self.assertEqual(await self.store.unfinished_copies(9), [copy_now])
        copy_now = await self.store.copy_failed(**main, reason="no")
        self.assertEqual((copy_now.state, copy_now.barcode), (CopyState.LOST, None))
        await self.refused(Conflict, self.store.copy_failed(**vault, reason="no"))
        await self.sync(bundle_id, "main", barcode="T4")
        copy_now = await self.store.copy_failed(**main, reason="not read back")
        self.assertEqual((copy_now.state, copy_now.barcode), (CopyState.LOST, None))
        await self.refused(Conflict, self.sync(bundle_id, "main", barcode="T5", sha256="other"))
        await self.store.copy_failed(**main, reason="other bytes")
        await self.sync(bundle_id, "main", barcode="T6")
        after = await self.store.copy_verified(**main, epoch=1, at=2.0)
        self.assertEqual(after, bundle)
        self.assertEqual((await self.store.copy_count(version.version_uid, wanted=2)).verified, 2)
        second = await self.claim([await self.publish(b"l")])
        await self.freeze(second)
        for pool, barcode in (("main", "T1"), ("vault", "T2")):
            await self.sync(second, pool, barcode=barcode)
            await self.store.copy_verified(bundle_id=second, pool=pool, epoch=1, at=1.0)
        for pool in ("vault", "main"):
            await self.store.lose_copy(bundle_id=second, pool=pool, reason="fire")
        await self.store.lose_copy(**main, reason="fire")
        names = [(copy.bundle_id, copy.pool) for copy in await self.store.lost_copies(9)]
        self.assertEqual(names, sorted([(bundle_id, "main"), (second, "main"), (second, "vault")]))
        self.assertEqual(len(await self.store.lost_copies(2)), 2)

    async def test_settle_in_batches(self) -> None:
        """A large bundle is settled batch by batch; what was deleted meanwhile is discarded exactly once."""
        versions = [await self.publish(f"{n:03}".encode()) for n in range(BATCH_MAX + 10)]
        bundle_id = await self.claim(versions)
        await self.freeze(bundle_id)
        await self.delete(b"001", b"045")
        await self.publish(b"002")
        pinned = await self.again(versions[1])
        self.assertEqual((pinned.deleted_at, pinned.on_disk), (2000.0, True))
        self.assertEqual(await self.drain(), [])
        await self.write(bundle_id)
        position = await self.store.settle_members(bundle_id, after_position=-1, at=1.0)
        self.assertEqual(position, BATCH_MAX - 1)
        await self.store.settle_members(bundle_id, after_position=-1, at=1.0)
        assert position is not None
        await self.delete(b"049")
        self.assertIsNone(await self.store.settle_members(bundle_id, after_position=position, at=1.0))
        gone = [versions[n] for n in (1, 2, 45, 49)]
        self.assertEqual(sorted(await self.drain()), sorted(await self.addresses_before(gone)))
        self.assertEqual(await self.drain(), [])
        for version in gone:
            again = await self.again(version)
            self.assertEqual((again.on_disk, again.deleted_at is None), (False, False))
        self.assertEqual(
            len(await self.store.members(bundle_id, after_position=-1, limit=99)), BATCH_MAX + 10
        )
        await self.check_backlog()

    async def test_manifests(self) -> None:
        """Copies are unmanifested from their sync until a session manifest is proven on their cartridge."""
        one, two = [await self.claim([await self.publish(key)]) for key in (b"1", b"2")]
        for bundle_id in (one, two):
            await self.freeze(bundle_id)
        await self.sync(one, "main", barcode="T1")
        await self.store.start_copy(bundle_id=two, pool="main", barcode="T1", epoch=1)
        self.assertEqual([bundle.bundle_id for bundle in await self.store.unmanifested("T1")], [one])
        await self.store.mark_manifested(barcode="T2", session_id="s", bundle_ids=[one])
        await self.store.mark_manifested(barcode="T1", session_id="s", bundle_ids=[two])
        self.assertEqual([bundle.bundle_id for bundle in await self.store.unmanifested("T1")], [one])
        await self.store.copy_verified(bundle_id=one, pool="main", epoch=1, at=1.0)
        self.assertEqual([bundle.bundle_id for bundle in await self.store.unmanifested("T1")], [one])
        await self.store.mark_manifested(barcode="T1", session_id="s", bundle_ids=[one])
        await self.store.mark_manifested(barcode="T1", session_id="s", bundle_ids=[one])
        self.assertEqual(await self.store.unmanifested("T1"), [])
        self.assertEqual([copy.session_id for copy in await self.store.copies(barcode="T1")], ["s", ""])

    # ── eviction ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def test_evict(self) -> None:
        """What is archived and not promised may leave the disk, the least recently used first."""
        versions = [await self.publish(key) for key in (b"1", b"2", b"3", b"4", b"5")]
        empty = await self.publish(b"empty", size_bytes=0, pieces=[])
        await self.publish(b"waits")
        await self.archive(*versions, empty)
        await self.store.note_reads({versions[0].version_uid: 1}, at=99.0)
        await self.ask_restore(versions[2])
        await self.delete(b"4")

        async def candidates(before: float = 1e9, limit: int = 9) -> list[ObjectVersion]:
            return await self.store.evictable(classes=[GLACIER], archived_before=before, limit=limit)

        found = await candidates()
        self.assertEqual([one.facts.key for one in found], [b"2", b"5", b"1"])
        self.assertEqual(await candidates(limit=1), found[:1])
        self.assertEqual(await candidates(before=40.0), [])
        self.assertEqual(await self.store.evictable(classes=[STANDARD], archived_before=1e9, limit=9), [])
        await self.drain()
        victim = found[0]
        await self.refused(
            Conflict, self.store.evict_version(victim.version_uid, revision=victim.revision + 1)
        )
        await self.store.evict_version(victim.version_uid, revision=victim.revision)
        after = await self.again(victim)
        self.assertFalse(after.on_disk)
        self.assertEqual(after.facts, victim.facts)
        self.assertEqual(await self.drain(), await self.addresses_before([victim]))
        await self.refused(Conflict, self.store.evict_version(victim.version_uid, revision=after.revision))
        for unfit in (versions[2], await self.store.current_version("b", b"waits"), versions[3]):
            now = await self.again(unfit)
            await self.refused(Conflict, self.store.evict_version(now.version_uid, revision=now.revision))
        self.assertEqual([one.facts.key for one in await candidates()], [b"5", b"1"])

    # ── restore ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def test_restore_on_disk(self) -> None:
        """A version that never left the disk is restored at once, expires, and stays on disk."""
        version = await self.ask_restore(await self.publish(b"k"))
        self.assertEqual(version.restore, ONGOING)
        await self.check_shown(version)
        self.assertEqual(await self.store.ongoing_restores(on_disk=True, limit=9), [version])
        self.assertEqual(await self.store.ongoing_restores(on_disk=False, limit=9), [])
        self.assertEqual(await self.store.wanted_extents(after=(0, -1), limit=9), [])
        done = await self.store.complete_recall(
            version.version_uid, revision=version.revision, expires_at=500.0, messages=[message_of(b"k")]
        )
        self.assertEqual(done.restore, replace(ONGOING, phase=RestorePhase.RESTORED, expires_at=500.0))
        await self.check_shown(done)
        self.assertEqual(len(await self.store.due_messages(now=1e9, limit=9)), 1)
        await self.refused(Conflict, self.complete(version))
        self.assertEqual(await self.store.expired_restores(now=499.0, limit=9), [])
        self.assertEqual(await self.store.expired_restores(now=500.0, limit=9), [done])
        assert done.restore is not None
        longer = await self.ask_restore(done, replace(done.restore, days=9, expires_at=900.0))
        self.assertEqual(await self.store.expired_restores(now=500.0, limit=9), [])
        ended = await self.ask_restore(longer, None)
        self.assertEqual((ended.restore, ended.on_disk), (None, True))
        self.assertEqual(await self.drain(), [])

    async def check_shown(self, version: ObjectVersion) -> None:
        """Check that a listing shows the only version."""
        page = await self.store.list_page("b", prefix=b"", delimiter=b"", after=b"", max_entries=9)
        self.assertEqual(page.rows, [shown_of(version)])

    async def test_change_restore_refused(self) -> None:
        """A restore is not changed by who saw an older state, nor on what is deleted, and nothing is told then."""
        version = await self.publish(b"k")
        await self.ask_restore(version)
        stale = self.store.change_restore(
            version.version_uid, revision=version.revision, restore=None, messages=[message_of(b"k")]
        )
        await self.refused(Conflict, stale)
        self.assertEqual((await self.again(version)).restore, ONGOING)
        cold = await self.evicted(b"cold")
        await self.refused(Conflict, self.ask_restore(cold, replace(ONGOING, phase=RestorePhase.RESTORED)))
        await self.delete(b"cold")
        await self.refused(Conflict, self.ask_restore(cold))
        await self.refused(Conflict, self.store.change_restore(10**9, revision=0, restore=None, messages=()))
        self.assertEqual(await self.store.due_messages(now=1e9, limit=9), [])

    async def test_recall(self) -> None:
        """The extents of a cold version come back one by one and become its bytes in one step."""
        big = await self.publish(b"big", size_bytes=20)
        bundle_id = await self.open_bundle()
        members = [self.member(bundle_id, big, n, n, 2) for n in (0, 1)]
        await self.store.claim_members(bundle_id, members, last_extents={big.version_uid})
        await self.freeze(bundle_id)
        await self.write(bundle_id)
        await self.settle(bundle_id)
        big = await self.again(big)
        await self.store.evict_version(big.version_uid, revision=big.revision)
        await self.drain()
        big = await self.ask_restore(big)
        self.assertEqual(await self.store.ongoing_restores(on_disk=False, limit=9), [big])
        wanted = await self.store.wanted_extents(after=(0, -1), limit=9)
        self.assertEqual([(one.member.extent, one.bundle_size_bytes, one.bundle_sha256) for one in wanted],
                         [(0, 5000, "aa"), (1, 5000, "aa")])  # fmt: skip
        self.assertEqual([copy.pool for copy in wanted[0].copies], ["main", "vault"])
        self.assertEqual(wanted[0].version, big)
        self.assertEqual(await self.store.wanted_extents(after=(big.version_uid, 0), limit=9), wanted[1:])
        self.assertEqual(await self.store.wanted_extents(after=(0, -1), limit=1), wanted[:1])
        await self.store.lose_copy(bundle_id=bundle_id, pool="main", reason="torn")
        (now, _) = await self.store.wanted_extents(after=(0, -1), limit=9)
        self.assertEqual(
            [(copy.pool, copy.state) for copy in now.copies],
            [("vault", CopyState.VERIFIED), ("main", CopyState.LOST)],
        )
        self.assertIsNone(await self.store.recall_layout(big.version_uid))

        async def bring(extent: int, address: str, layout_id: str = "recall") -> bool:
            piece = piece_of(address, extent + 1, crc64nvme=MAX_CRC - extent)
            return await self.store.add_recalled(
                big.version_uid, extent=extent, layout_id=layout_id, piece=piece
            )

        self.assertTrue(await bring(1, "back1"))
        self.assertEqual(await self.store.recall_layout(big.version_uid), "recall")
        self.assertTrue(await bring(1, "back1"))
        self.assertFalse(await bring(1, "twice", "other"))
        await self.refused(Conflict, self.complete(big))
        await self.refused(ValueError, bring(2, "nothing"))
        self.assertEqual(
            [one.member.extent for one in await self.store.wanted_extents(after=(0, -1), limit=9)], [0]
        )
        self.assertTrue(await bring(0, "back0", "other"))
        done = await self.store.complete_recall(
            big.version_uid, revision=big.revision, expires_at=500.0, messages=[message_of(b"big")]
        )
        self.assertTrue(done.on_disk)
        self.assertEqual(await self.addresses(done), ["back0", "back1"])
        self.assertIsNone(await self.store.recall_layout(big.version_uid))
        self.assertFalse(await bring(0, "late"))
        self.assertEqual(sorted(await self.drain()), ["late", "twice"])
        ended = await self.ask_restore(done, None)
        await self.store.evict_version(ended.version_uid, revision=ended.revision)
        self.assertEqual(sorted(await self.drain()), ["back0", "back1"])

    async def test_recall_of_wrong_bytes(self) -> None:
        """Bytes that are not the extent's are never recorded as the object's."""
        cold = await self.ask_restore(await self.evicted(b"k"))
        for wrong in (piece_of("x", 1, length_bytes=9), piece_of("x", 1, crc64nvme=5), piece_of("x", 2)):
            refused = self.store.add_recalled(cold.version_uid, extent=0, layout_id="recall", piece=wrong)
            await self.refused(ValueError, refused)
        self.assertIsNone(await self.store.recall_layout(cold.version_uid))
        self.assertEqual(await self.store.referenced(["x"]), frozenset())

    async def test_recall_races(self) -> None:
        """Whatever ends a restore meanwhile, what the recall had brought is discarded, once, and nothing shows."""
        cold = await self.ask_restore(await self.evicted(b"ended"))
        await self.drain()
        self.assertTrue(await self.recall(cold, "ended1", "r1"))
        ended = await self.ask_restore(cold, None)
        self.assertFalse(ended.on_disk)
        self.assertFalse(await self.recall(cold, "ended2", "r1"))
        self.assertEqual(sorted(await self.drain()), ["ended1", "ended2"])
        await self.refused(Conflict, self.complete(cold))
        cold = await self.ask_restore(await self.evicted(b"deleted"))
        await self.drain()
        self.assertTrue(await self.recall(cold, "deleted1", "r2"))
        await self.delete(b"deleted")
        self.assertEqual(await self.store.ongoing_restores(on_disk=False, limit=9), [])
        self.assertEqual(await self.store.wanted_extents(after=(0, -1), limit=9), [])
        self.assertIsNone((await self.again(cold)).restore)
        self.assertFalse(await self.recall(cold, "deleted2", "r2"))
        await self.refused(Conflict, self.complete(cold))
        self.assertEqual(sorted(await self.drain()), ["deleted1", "deleted2"])
        self.assertFalse(
            await self.store.add_recalled(10**9, extent=0, layout_id="r3", piece=piece_of("nobody"))
        )
        self.assertEqual(await self.drain(), ["nobody"])

    async def in_use(self, **of: str) -> dict[StorageClass, tuple[int, int]]:
        """Used and promised bytes by class; of the owner of bucket ``b`` unless said otherwise."""
        found = await self.store.staging_use(**(of or {"owner_id": "owner"}))
        self.assertEqual([one.storage_class for one in found], sorted(one.storage_class for one in found))
        return {one.storage_class: (one.used_bytes, one.promised_bytes) for one in found}

    async def test_staging_use(self) -> None:
        """What lies on the disk is counted for its owner and its bucket, by class, until it is taken apart to be freed."""
        self.assertEqual(await self.in_use(), {})
        await self.create_bucket("other", "somebody")
        await self.publish(b"a", pieces=[piece_of("a1", 1), piece_of("a2", 2)], size_bytes=20)
        await self.publish(b"s", storage_class=STANDARD)
        await self.publish(b"empty", pieces=[], size_bytes=0)
        await self.publish(b"x", bucket="other", owner_id="somebody")
        await self.store.create_upload(upload_of("u", storage_class=DEEP_ARCHIVE))
        await self.store.put_part("u", piece_of("p1", 1))
        await self.store.put_part("u", piece_of("p1", 1))
        await self.store.put_part("u", piece_of("p2", 2, length_bytes=7))
        await self.store.put_part("u", piece_of("p3", 2))
        expected = {GLACIER: (20, 0), STANDARD: (10, 0), DEEP_ARCHIVE: (20, 0)}
        self.assertEqual(await self.in_use(), expected)
        self.assertEqual(await self.in_use(bucket="b"), expected)
        self.assertEqual(await self.in_use(owner_id="somebody"), {GLACIER: (10, 0)})
        self.assertEqual(await self.in_use(bucket="other"), {GLACIER: (10, 0)})
        self.assertEqual(await self.in_use(owner_id="nobody"), {})
        await self.refused(NoSuchBucket, self.store.staging_use(bucket="none"))
        facts = facts_of(b"k", size_bytes=10, storage_class=DEEP_ARCHIVE)
        await self.store.complete_upload("u", facts, listed=[2], wants_tape=True, condition=None, messages=())
        self.assertEqual((await self.in_use())[DEEP_ARCHIVE], (20, 0))
        await self.delete(b"a", b"empty")
        self.assertEqual((await self.in_use())[GLACIER], (20, 0))
        await self.drain()
        self.assertEqual(await self.in_use(), {STANDARD: (10, 0), DEEP_ARCHIVE: (10, 0)})
        await self.delete(b"s", b"k")
        await self.drain()
        self.assertEqual(await self.in_use(), {})

    async def test_staging_use_of_restores(self) -> None:
        """A restore from tape counts as promised from the request on, and as used when it is complete."""
        cold = await self.evicted(b"k")
        await self.drain()
        self.assertEqual(await self.in_use(), {})
        cold = await self.ask_restore(cold)
        self.assertEqual(await self.in_use(), {GLACIER: (0, 10)})
        self.assertTrue(await self.recall(cold, "back", "r"))
        self.assertEqual(await self.in_use(), {GLACIER: (0, 10)})
        done = await self.complete(cold)
        self.assertEqual(await self.in_use(), {GLACIER: (10, 0)})
        ended = await self.ask_restore(done, None)
        self.assertEqual(await self.in_use(), {GLACIER: (10, 0)})
        await self.store.evict_version(ended.version_uid, revision=ended.revision)
        await self.drain()
        self.assertEqual(await self.in_use(), {})
        for ending in ("given up", "deleted"):
            cold = await self.ask_restore(await self.evicted(ending.encode()))
            await self.drain()
            self.assertTrue(await self.recall(cold, f"back {ending}", f"r {ending}"))
            if ending == "deleted":
                await self.delete(ending.encode())
            else:
                await self.ask_restore(cold, None)
            self.assertEqual(await self.in_use(), {}, ending)
            self.assertEqual(await self.drain(), [f"back {ending}"])
            self.assertEqual(await self.in_use(), {}, ending)

    async def test_quota_use(self) -> None:
        """Versions count as they are shown, superseded ones too, until they are deleted; markers and open uploads do not."""
        await self.create_bucket("other", "somebody")
        self.assertEqual(await self.store.quota_use(owner_id="owner"), Use())
        sealed = Encryption("AES256", "md5", "key", 64, size_bytes=7)
        await self.publish(b"a", pieces=[piece_of("a1", 1), piece_of("a2", 2)], size_bytes=20)
        await self.publish(b"sealed", storage_class=STANDARD, encryption=sealed)
        await self.publish(b"empty", pieces=[], size_bytes=0)
        await self.publish(b"x", bucket="other", owner_id="somebody")
        await self.store.create_upload(upload_of("u", b"a"))
        await self.store.put_part("u", piece_of("p1", 1))
        self.assertEqual(await self.use(), Use(staging=40, kept=27, objects=3))
        self.assertEqual(await self.use(owner_id="somebody"), Use(staging=10, kept=10, objects=1))
        facts = facts_of(b"a", size_bytes=10)
        await self.store.complete_upload("u", facts, listed=[1], wants_tape=True, condition=None, messages=())
        self.assertEqual(await self.use(), Use(staging=40, kept=17, objects=3))
        await self.store.set_versioning(name="b", versioning=Versioning.ENABLED)
        await self.publish(b"a", version_id="v2")
        await self.store.delete_current(
            "b", [b"a", b"sealed"], at=1.0, messages={}, owner_id="owner", marker_ids=["m1", "m2"]
        )
        self.assertEqual(await self.use(), Use(staging=50, kept=27, objects=4))
        await self.store.delete_versions("b", [(b"a", "v2"), (b"a", "m1"), (b"sealed", "null")], at=2.0)
        self.assertEqual(await self.use(), Use(staging=50, kept=10, objects=2))
        await self.drain()
        self.assertEqual(await self.use(), Use(staging=10, kept=10, objects=2))
        await self.refused(NoSuchBucket, self.store.quota_use(bucket="none"))

    async def use(self, **of: str) -> Use:
        """Return what there is; of bucket ``b`` and its owner, who has nothing else, unless said otherwise."""
        found: Use = await self.store.quota_use(**(of or {"owner_id": "owner"}))
        if not of:
            self.assertEqual(await self.store.quota_use(bucket="b"), found)
        return found

    async def test_quota_use_of_restores(self) -> None:
        """A restore counts from the request until it is over, whether its bytes have to come from tape or are there."""
        self.assertEqual((await self.use()).restores, 0)
        cold = await self.ask_restore(await self.evicted(b"cold"))
        here = await self.ask_restore(await self.publish(b"here"))
        self.assertEqual((await self.use()).restores, 20)
        self.assertTrue(await self.recall(cold, "back", "r"))
        cold, here = await self.complete(cold), await self.complete(here)
        self.assertEqual((await self.use()).restores, 20)
        await self.ask_restore(cold, None)
        self.assertEqual((await self.use()).restores, 10)
        await self.delete(b"here")
        self.assertEqual((await self.use()).restores, 0)
        self.assertEqual((await self.use()).objects, 1)

    async def test_uses_of_all(self) -> None:
        """All users and all buckets are told, those that have nothing as well; a bucket that is gone no longer."""
        ann, key = user_of("owner", "ann", "K")
        await self.store.create_user(ann, key)
        bob, key = user_of("2", "bob", "L")
        await self.store.create_user(bob, key)
        await self.create_bucket("a-bare", "2")
        await self.create_bucket("gone", "owner")
        await self.publish(b"k")
        await self.publish(b"k", bucket="gone")
        await self.store.delete_current("gone", [b"k"], at=1.0, messages={})
        await self.store.delete_bucket("gone")
        self.assertEqual(
            await self.store.uses_of_users(), [(ann, Use(staging=20, kept=10, objects=1)), (bob, Use())]
        )
        first = await self.store.uses_of_buckets(after="", limit=1)
        self.assertEqual([(bucket.name, use) for bucket, use in first], [("a-bare", Use())])
        rest = await self.store.uses_of_buckets(after="a-bare", limit=9)
        self.assertEqual(
            [(bucket.name, use) for bucket, use in rest], [("b", Use(staging=10, kept=10, objects=1))]
        )
        self.assertEqual(await self.store.uses_of_buckets(after="b", limit=9), [])

    async def test_change_whose_caller_leaves(self) -> None:
        """A change whose caller does not wait for its end happens, and whoever asks afterwards sees it."""
        user, key = user_of("1", "ann", "K")
        await self.store.create_user(user, key)
        changing = [
            self.store.set_user_quotas(name="ann", quotas={QuotaKind.STAGED: 7}),
            self.store.set_bucket_quotas(name="b", quotas={QuotaKind.STAGED: 8}),
        ]
        for change in changing:
            change.addErrback(lambda failure: failure.trap(CancelledError))
            change.cancel()
        # What is asked for before the change is through may well be kept.
        await self.store.signer("K")
        await self.store.bucket("b")
        await self.store.audit(at=1.0, who="w", what="w", subject="s", detail="d")
        known = await self.store.signer("K")
        assert known is not None
        self.assertEqual(known.quotas.staging, 7)
        self.assertEqual((await self.store.bucket("b")).quotas.staging, 8)

    async def quota_of(self, access_key: str) -> int | None:
        """Return the quota of whoever signs with a key."""
        signer = await self.store.signer(access_key)
        assert signer is not None
        return signer.quotas.staging

    async def test_quotas(self) -> None:
        """Quotas of users and buckets are kept, taken back, and shown with them."""
        user, key = user_of("1", "ann", "K")
        await self.store.create_user(user, key)
        limited = await self.store.set_user_quotas(name="ann", quotas={QuotaKind.STAGED: 5})
        self.assertEqual(limited, replace(user, quotas=Quotas(staging=5)))
        self.assertEqual(await self.quota_of("K"), 5)
        self.assertEqual(await self.store.users(), [limited])
        unlimited = await self.store.set_user_quotas(name="ann", quotas={QuotaKind.STAGED: UNLIMITED})
        self.assertEqual(unlimited.quotas.staging, UNLIMITED)
        self.assertEqual(await self.quota_of("K"), UNLIMITED)
        self.assertEqual(await self.store.set_user_quotas(name="ann", quotas={QuotaKind.STAGED: None}), user)
        await self.refused(Conflict, self.store.set_user_quotas(name="bob", quotas={QuotaKind.STAGED: 5}))
        bucket = await self.store.set_bucket_quotas(name="b", quotas={QuotaKind.STAGED: 0})
        self.assertEqual((bucket.name, bucket.quotas.staging), ("b", 0))
        self.assertEqual(await self.store.bucket("b"), bucket)
        self.assertEqual(await self.store.buckets(owner_id=None, after="", limit=9), [bucket])
        bucket = await self.store.set_bucket_quotas(name="b", quotas={QuotaKind.STAGED: None})
        self.assertIsNone(bucket.quotas.staging)
        self.assertEqual(await self.store.bucket("b"), bucket)
        await self.refused(
            NoSuchBucket, self.store.set_bucket_quotas(name="none", quotas={QuotaKind.STAGED: 1})
        )
        wanted = dict(zip(QuotaKind, (1, 2, 3, 4), strict=True))
        bucket = await self.store.set_bucket_quotas(name="b", quotas=wanted)
        self.assertEqual(bucket.quotas, Quotas(staging=1, kept=2, restores=3, objects=4))
        self.assertEqual((await self.store.set_user_quotas(name="ann", quotas=wanted)).quotas, bucket.quotas)
        some = {QuotaKind.KEPT: None, QuotaKind.OBJECTS: 5}
        user = await self.store.set_user_quotas(name="ann", quotas=some)
        self.assertEqual(user.quotas, Quotas(staging=1, restores=3, objects=5))
        known = await self.store.signer("K")
        assert known is not None
        self.assertEqual(known.quotas, user.quotas)

    async def test_tags(self) -> None:
        """A version has the tags that it was given last, whatever else changes; its successor has none of them."""
        written = await self.publish(b"k", headers=((TAGGING, "a=1"), ("content-type", "text/plain")))
        self.assertIsNone(written.tags)
        pairs = (("a", "ä ö"), ("b", ""))
        tagged = await self.store.set_tags(written.version_uid, tags=pairs)
        self.assertEqual(tagged, written._replace(tags=pairs, revision=tagged.revision))
        self.assertGreater(tagged.revision, written.revision)
        self.assertEqual(await self.store.current_version("b", b"k"), tagged)
        self.assertEqual((await self.store.current_content("b", b"k"))[0], tagged)
        self.assertEqual(await self.store.pending(classes=[GLACIER], after_sequence=0, limit=9), [tagged])
        await self.store.note_reads({written.version_uid: 2}, at=5.0)
        self.assertEqual((await self.store.current_version("b", b"k")).tags, pairs)
        untagged = await self.store.set_tags(written.version_uid, tags=())
        self.assertEqual((untagged.tags, untagged.facts), ((), written.facts))
        self.assertEqual((await self.store.set_tags(written.version_uid, tags=())).tags, ())
        self.assertIsNone((await self.publish(b"k")).tags)
        await self.refused(Conflict, self.store.set_tags(written.version_uid, tags=pairs))
        await self.refused(Conflict, self.store.set_tags(10**9, tags=pairs))

    async def test_acl(self) -> None:
        """A version has the grants that it was given last, none of them included; its successor has none of them."""
        written = await self.publish(
            b"k", headers=(("content-type", "text/plain"), ("x-amz-grant-read", 'id="a"'))
        )
        self.assertIsNone(written.acl)
        grants = (("x-amz-grant-full-control", 'id="ä"'), ("x-amz-grant-read", 'uri="u", id="b"'))
        given = await self.store.set_acl(written.version_uid, acl=grants)
        self.assertEqual(given, written._replace(acl=grants, revision=given.revision))
        self.assertGreater(given.revision, written.revision)
        self.assertEqual(await self.store.current_version("b", b"k"), given)
        self.assertEqual((await self.store.current_content("b", b"k"))[0], given)
        tagged = await self.store.set_tags(written.version_uid, tags=(("a", "b"),))
        self.assertEqual((tagged.acl, tagged.tags), (grants, (("a", "b"),)))
        for _ in range(2):
            emptied = await self.store.set_acl(written.version_uid, acl=())
            self.assertEqual((emptied.acl, emptied.facts), ((), written.facts))
        self.assertIsNone((await self.publish(b"k")).acl)
        await self.refused(Conflict, self.store.set_acl(written.version_uid, acl=grants))
        await self.refused(Conflict, self.store.set_acl(10**9, acl=grants))

    async def test_initiator(self) -> None:
        """An upload knows who began it, beside whose its object will be."""
        for upload in (upload_of("u"), replace(upload_of("v"), initiator_id="another")):
            await self.store.create_upload(upload)
            self.assertEqual(await self.store.upload("b", upload.key, upload.upload_id), upload)
        found = await self.store.uploads("b", prefix=b"", after_key=b"", after_upload_id="", limit=9)
        self.assertEqual([(one.upload_id, one.initiator_id) for one in found], [("u", ""), ("v", "another")])

    async def test_user_names(self) -> None:
        """The names of those users that there are are found by their ids."""
        for name in ("ann", "bob", "cid"):
            user, key = user_of(f"id of {name}", name, name.upper())
            await self.store.create_user(user, key)
        asked = ["id of bob", "nobody", "id of ann", "bob"]
        self.assertEqual(await self.store.user_names(asked), {"id of ann": "ann", "id of bob": "bob"})
        self.assertEqual(await self.store.user_names([]), {})
        await self.refused(StepTooLarge, self.store.user_names([str(number) for number in range(101)]))

    async def test_configured_from_the_beginning(self) -> None:
        """A bucket can be created with its documents, all of it in one step or not at all."""
        documents = {ConfigurationKind.ACL: "[]", ConfigurationKind.OWNERSHIP: '"x"'}

        async def create(name: str) -> Bucket:
            return await self.store.create_bucket(
                name=name,
                owner_id="owner",
                region="here",
                created_at=1.0,
                default_class=None,
                documents=documents,
            )

        bucket = await create("configured")
        self.assertEqual(await self.store.bucket("configured"), bucket)
        self.assertEqual(set(bucket.configurations), set(documents))
        for kind, document in documents.items():
            found = await self.store.bucket_configuration(bucket_uid=bucket.bucket_uid, kind=kind)
            self.assertEqual(found, document)
        await self.refused(BucketAlreadyOwned, create("b"))
        self.assertEqual((await self.store.bucket("b")).configurations, {})
        documents[ConfigurationKind.CORS] = "c" * (DOCUMENT_MAX_BYTES + 1)
        await self.refused(StepTooLarge, create("large"))
        await self.refused(NoSuchBucket, self.store.bucket("large"))

    async def test_bucket_tags(self) -> None:
        """A bucket has the tags, and the limit for restores, that it was given last; another one of its name has none."""
        self.assertEqual((await self.store.bucket("b")).tags, ())
        many = tuple((f"key {n:02}", "ü" * 256) for n in range(50))
        for tags in (many, (("a", ""),), ()):
            await self.store.set_bucket_tags(name="b", tags=tags)
            self.assertEqual((await self.store.bucket("b")).tags, tags)
        await self.store.set_bucket_tags(name="b", tags=many)
        limited = await self.store.set_restore_days_max(name="b", days_max=30)
        self.assertEqual((limited.restore_days_max, limited.tags), (30, many))
        self.assertEqual(await self.store.bucket("b"), limited)
        self.assertEqual(await self.store.buckets(owner_id=None, after="", limit=9), [limited])
        self.assertIsNone((await self.store.set_restore_days_max(name="b", days_max=None)).restore_days_max)
        await self.refused(NoSuchBucket, self.store.set_bucket_tags(name="none", tags=()))
        await self.refused(NoSuchBucket, self.store.set_restore_days_max(name="none", days_max=1))
        await self.store.delete_bucket("b")
        await self.create_bucket("b")
        self.assertEqual((await self.store.bucket("b")).tags, ())

    async def test_part_digests(self) -> None:
        """The digests of parts are there, run by run, until the version is deleted and gone, and cost no step its bounds."""
        contents = []
        for number in range(30):
            contents.append(bytes([number]) * 64 * (10_000 if number < 2 else 3))
            facts = facts_of(f"k{number:02}".encode(), size_bytes=10, part_sizes="10")
            await self.store.create_upload(upload_of(f"u{number}", facts.key))
            await self.store.put_part(f"u{number}", piece_of(f"of{number}", 1))
            version = await self.store.complete_upload(
                f"u{number}",
                facts,
                listed=[1],
                wants_tape=True,
                condition=None,
                messages=(),
                part_digests=contents[-1],
            )
            whole = await self.store.part_digests(version.version_uid, offset_bytes=0, length_bytes=10**6)
            self.assertEqual(whole, contents[-1])
        uid = version.version_uid
        self.assertEqual(await self.store.part_digests(uid, offset_bytes=64, length_bytes=64), b"\x1d" * 64)
        self.assertEqual(await self.store.part_digests(uid, offset_bytes=128, length_bytes=128), b"\x1d" * 64)
        self.assertEqual(await self.store.part_digests(uid, offset_bytes=192, length_bytes=64), b"")
        plain = await self.publish(b"plain")
        self.assertEqual(
            await self.store.part_digests(plain.version_uid, offset_bytes=0, length_bytes=64), b""
        )
        await self.delete(*(f"k{number:02}".encode() for number in range(30)))
        await self.drain()
        self.assertIsNone(await self.store.version(uid))
        self.assertEqual(await self.store.part_digests(uid, offset_bytes=0, length_bytes=64), b"")

    async def test_use_outlives_a_bucket(self) -> None:
        """Bytes of a bucket that is gone count for its owner until they are freed, and never for a new one of its name."""
        await self.store.create_upload(upload_of("u"))
        await self.store.put_part("u", piece_of("p", 1))
        await self.store.delete_bucket("b")
        await self.create_bucket("b")
        self.assertEqual(await self.in_use(), {GLACIER: (10, 0)})
        self.assertEqual(await self.in_use(bucket="b"), {})
        await self.store.abandon_upload("u")
        await self.drain()
        self.assertEqual(await self.in_use(), {})
        await self.store.delete_bucket("b")
        await self.create_bucket("b")
        self.assertEqual(await self.in_use(), {})

    async def test_first_pieces(self) -> None:
        """Of each layout the piece that comes first, unless some of its pieces do not count."""
        one = await self.publish(b"one", pieces=[piece_of("a")])
        two = await self.publish(b"two", pieces=[piece_of("c", 7), piece_of("b", 3)], size_bytes=20)
        empty = await self.publish(b"empty", pieces=[], size_bytes=0)
        await self.store.create_upload(upload_of("u"))
        for number in (1, 2):
            await self.store.put_part("u", piece_of(f"p{number}", number))
        layouts = [version.layout_id for version in (one, two, empty)]
        found = await self.store.first_pieces([*layouts, "u", "unknown"])
        self.assertEqual(
            found, {one.layout_id: piece_of("a"), two.layout_id: piece_of("b", 3), "u": piece_of("p1", 1)}
        )
        await self.complete_of([2])
        self.assertEqual(await self.store.first_pieces(["u"]), {})

    async def test_moving_pieces(self) -> None:
        """A piece that lies elsewhere now is found there by all who look for it, and only there."""
        version = await self.publish(b"k", pieces=[piece_of("a", 1), piece_of("b", 2)], size_bytes=20)
        await self.store.create_upload(upload_of("u"))
        await self.store.put_part("u", piece_of("part", 3))
        found = await self.store.pieces_at(["b", "part", "a", "nobody's"])
        self.assertEqual(
            sorted(found, key=lambda piece: piece.ordinal),
            [piece_of("a", 1), piece_of("b", 2), piece_of("part", 3)],
        )
        moved = await self.store.move_pieces({"a": "a2", "part": "part2", "nobody's": "x"})
        self.assertEqual(moved, {"a", "part"})
        self.assertEqual(await self.addresses(version), ["a2", "b"])
        self.assertEqual(await self.again(version), version)
        self.assertEqual(await self.store.parts("u", after_ordinal=0, limit=9), [piece_of("part2", 3)])
        self.assertEqual(await self.store.referenced(["a", "a2", "part", "part2", "x"]), {"a2", "part2"})
        self.assertEqual(await self.store.move_pieces({"a": "a3"}), frozenset())
        await self.store.add_discards(["a", "part"])
        await self.delete(b"k")
        await self.store.abandon_upload("u")
        self.assertEqual(sorted(await self.drain()), ["a", "a2", "b", "part", "part2"])

    async def test_moving_to_where_something_is(self) -> None:
        """A new address must be nobody's and not about to be freed; then nothing moves."""
        version = await self.publish(b"k", pieces=[piece_of("a", 1), piece_of("b", 2)], size_bytes=20)
        await self.store.add_discards(["doomed"])
        for taken in ("b", "doomed"):
            await self.refused(Conflict, self.store.move_pieces({"a": taken}))
        await self.refused(Conflict, self.store.move_pieces({"a": "fresh", "b": "doomed"}))
        self.assertEqual(await self.addresses(version), ["a", "b"])

    async def test_deletion_at_every_stage(self) -> None:
        """However far a version is, its bytes are discarded exactly once after its deletion, and never while needed."""
        stages = ["pending", "filling", "frozen", "archived", "settled", "restored", "cold"]
        for stage in stages:
            version = await self.publish(stage.encode())
            held = await self.addresses(version)
            bundle_id = ""
            if stage != "pending":
                bundle_id = await self.claim([version])
            if stage in stages[2:]:
                await self.freeze(bundle_id)
            if stage in stages[3:]:
                await self.write(bundle_id)
            if stage in stages[4:]:
                await self.settle(bundle_id)
            if stage in ("restored", "cold"):
                await self.ask_restore(version)
                await self.complete(version)
            if stage == "cold":
                version = await self.ask_restore(version, None)
                await self.store.evict_version(version.version_uid, revision=version.revision)
                self.assertEqual(await self.drain(), held, stage)
                held = []
            await self.delete(stage.encode())
            self.assertEqual(await self.store.expired_restores(now=1e12, limit=9), [], stage)
            if stage in ("filling", "frozen"):
                self.assertEqual(await self.drain(), [], stage)
                self.assertEqual(await self.addresses(await self.again(version)), held)
                if stage == "filling":
                    await self.freeze(bundle_id)
                await self.write(bundle_id)
            if bundle_id:
                await self.settle(bundle_id)
            self.assertEqual(await self.drain(), held, stage)
            self.assertEqual(await self.drain(), [], stage)
        self.assertEqual(await self.store.backlog(), [])

    # ── cartridges, drives, telling ─────────────────────────────────────────────────────────────────────────────────

    async def test_cartridges(self) -> None:
        """A cartridge's record is replaced only by who saw the last one; the audit trail tells of it."""
        await self.store.add_cartridges([cartridge_of("B"), cartridge_of("A")])
        await self.store.add_cartridges([cartridge_of("A", state=CartridgeState.BROKEN)])
        a, b = await self.store.cartridges()
        self.assertEqual((a, b), (cartridge_of("A"), cartridge_of("B")))
        self.assertIsNone(await self.store.cartridge("C"))
        wish = replace(
            a, state=CartridgeState.SCRATCH, needs_check=True, admitted_at=4.0, reason="new", changed_by="joe"
        )
        renewed = await self.store.record_cartridge(wish, audit="admit")
        self.assertEqual(renewed, replace(wish, revision=a.revision + 1))
        self.assertEqual(await self.store.cartridge("A"), renewed)
        await self.refused(Conflict, self.store.record_cartridge(wish, audit="admit"))
        await self.refused(Conflict, self.store.record_cartridge(cartridge_of("C"), audit=""))
        await self.store.record_cartridge(renewed, audit="")
        (event,) = await self.store.audit_trail(before_id=None, limit=9)
        self.assertEqual((event.who, event.what, event.detail, event.at), ("joe", "admit", "new", 1.0))
        self.assertIn("A", event.subject)

    async def test_drives(self) -> None:
        """Drives are recorded by index and put up and down, audited."""
        drive = Drive(
            index=1,
            serial="S1",
            state=DriveState.UP,
            reason="",
            failures=0,
            changed_at=1.0,
            changed_by="start",
        )
        await self.store.record_drive(drive, audit="")
        await self.store.record_drive(replace(drive, index=0, serial="S0"), audit="found")
        await self.store.record_drive(replace(drive, failures=2), audit="")
        self.assertEqual([(one.index, one.failures) for one in await self.store.drives()], [(0, 0), (1, 2)])
        down = await self.store.set_drive_state(
            index=1, state=DriveState.DOWN, reason="noise", at=5.0, by="joe"
        )
        self.assertEqual((down.state, down.failures, down.reason), (DriveState.DOWN, 2, "noise"))
        self.assertEqual((await self.store.drives())[1], down)
        await self.refused(
            Conflict, self.store.set_drive_state(index=7, state=DriveState.UP, reason="", at=6.0, by="joe")
        )
        trail = await self.store.audit_trail(before_id=None, limit=9)
        self.assertEqual([event.who for event in trail], ["joe", "start"])

    async def test_whose_a_drive_is(self) -> None:
        """A drive has the machine that took it, or that an operator put it up on, until another one does."""
        drive = Drive(
            index=0, serial="S", state=DriveState.UP, reason="", failures=0, changed_at=1.0, changed_by="a",
            host="m1 b1 one",
        )  # fmt: skip
        await self.store.record_drive(drive, audit="")
        down = await self.store.set_drive_state(index=0, state=DriveState.DOWN, reason="", at=2.0, by="b")
        self.assertEqual(down.host, "m1 b1 one")
        await self.store.take_drive(index=0, host="m2 b2 two")
        self.assertEqual((await self.store.drives())[0], replace(down, host="m2 b2 two"))
        up = await self.store.set_drive_state(
            index=0, state=DriveState.UP, reason="", at=3.0, by="c", host="m3 b3 three"
        )
        self.assertEqual(up.host, "m3 b3 three")
        await self.store.record_drive(replace(up, host="m4 b4 four"), audit="")
        self.assertEqual([one.host for one in await self.store.drives()], ["m4 b4 four"])
        await self.refused(Conflict, self.store.take_drive(index=7, host="m2 b2 two"))

    async def test_outbox(self) -> None:
        """Messages are due until delivered, put off after a failure, and kept apart when given up."""
        await self.publish(b"1", messages=[message_of(b"1", created_at=10.0)])
        await self.publish(b"2", messages=[message_of(b"2", created_at=20.0), message_of(b"2", "more", 20.0)])
        self.assertEqual(await self.store.due_messages(now=9.0, limit=9), [])
        one, two = await self.store.due_messages(now=20.0, limit=9)
        self.assertEqual((one.key, one.body, one.created_at, one.attempts), (b"1", '{"a":1}', 10.0, 0))
        self.assertEqual((two.key, two.event), (b"2", "event"))
        self.assertEqual(await self.store.due_messages(now=20.0, limit=1), [one])
        await self.store.message_failed(one.message_id, error="away", next_attempt_at=50.0)
        self.assertEqual(await self.store.due_messages(now=49.0, limit=9), [two])
        await self.store.message_delivered(two.message_id)
        await self.store.message_delivered(two.message_id)
        (three,) = await self.store.due_messages(now=49.0, limit=9)
        self.assertEqual((three.key, three.event), (b"2", "more"))
        await self.store.message_dead(three.message_id, error="too old", at=60.0)
        (again,) = await self.store.due_messages(now=50.0, limit=9)
        self.assertEqual((again.message_id, again.attempts, again.last_error), (one.message_id, 1, "away"))

    async def test_outbox_in_order(self) -> None:
        """A message waits behind an older one about its key that failed, and no longer when that one is given up."""
        await self.publish(b"k", messages=[message_of(b"k", "first", 10.0), message_of(b"k", "second", 10.0)])
        await self.publish(b"k", messages=[message_of(b"k", "third", 11.0)])
        await self.publish(b"l", messages=[message_of(b"l", "another", 12.0)])
        first, another = await self.store.due_messages(now=20.0, limit=9)
        self.assertEqual((first.event, another.event), ("first", "another"))
        await self.store.message_failed(first.message_id, error="away", next_attempt_at=50.0)
        self.assertEqual(await self.store.due_messages(now=49.0, limit=9), [another])
        self.assertEqual((await self.store.due_messages(now=50.0, limit=9))[1].event, "first")
        await self.store.message_dead(first.message_id, error="too old", at=60.0)
        second, _ = await self.store.due_messages(now=50.0, limit=9)
        self.assertEqual(second.event, "second")
        await self.store.message_delivered(second.message_id)
        self.assertEqual((await self.store.due_messages(now=50.0, limit=9))[0].event, "third")

    async def test_alerts(self) -> None:
        """One alert is open per kind and subject; it counts, is cleared, and opens anew."""

        async def alert(subject: str, sentence: str, at: float) -> int:
            raised = await self.store.raise_alert(
                kind="drive-down", subject=subject, severity=Severity.WARNING, sentence=sentence, at=at
            )
            return raised.alert_id

        first = await alert("drive 0", "once", 1.0)
        self.assertEqual(await alert("drive 0", "twice", 2.0), first)
        second = await alert("drive 1", "else", 3.0)
        await self.store.clear_alert(kind="drive-down", subject="drive 0", at=4.0)
        await self.store.clear_alert(kind="drive-down", subject="drive 0", at=5.0)
        third = await alert("drive 0", "anew", 6.0)
        everything = await self.store.alerts(include_cleared=True, limit=9)
        self.assertEqual([one.alert_id for one in everything], [third, second, first])
        cleared = everything[2]
        self.assertEqual((cleared.count, cleared.sentence, cleared.raised_at), (2, "twice", 1.0))
        self.assertEqual((cleared.last_seen_at, cleared.cleared_at), (2.0, 4.0))
        self.assertEqual(await self.store.alerts(include_cleared=False, limit=9), everything[:2])
        self.assertEqual(await self.store.alerts(include_cleared=True, limit=1), everything[:1])

    async def test_audit(self) -> None:
        """The audit trail is told newest first, page by page."""
        for n in range(5):
            await self.store.audit(at=float(n), who="joe", what="did", subject=f"thing {n}", detail="d")
        page = await self.store.audit_trail(before_id=None, limit=2)
        self.assertEqual([event.subject for event in page], ["thing 4", "thing 3"])
        rest = await self.store.audit_trail(before_id=page[-1].event_id, limit=9)
        self.assertEqual([event.subject for event in rest], ["thing 2", "thing 1", "thing 0"])

    # ── bounds ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def test_bounds(self) -> None:
        """A step that asks for too much is refused wholly; the largest that is allowed is not."""
        keys = [f"{n:03}".encode() for n in range(BATCH_MAX + 1)]
        pieces = [piece_of(f"p{n}", n + 1) for n in range(BATCH_MAX + 1)]
        await self.refused(StepTooLarge, self.publish(b"k", pieces=pieces))
        await self.refused(StepTooLarge, self.store.delete_current("b", keys, at=1.0, messages={}))
        await self.refused(StepTooLarge, self.store.add_discards([f"d{n}" for n in range(BATCH_MAX + 1)]))
        await self.refused(StepTooLarge, self.store.forget_discards(range(BATCH_MAX + 1)))
        await self.refused(StepTooLarge, self.store.referenced([f"d{n}" for n in range(KEYS_MAX + 1)]))
        await self.refused(StepTooLarge, self.store.pieces_at([f"d{n}" for n in range(KEYS_MAX + 1)]))
        await self.refused(StepTooLarge, self.store.first_pieces([f"d{n}" for n in range(KEYS_MAX + 1)]))
        too_many = {f"d{n}": f"e{n}" for n in range(BATCH_MAX + 1)}
        await self.refused(StepTooLarge, self.store.move_pieces(too_many))
        await self.refused(StepTooLarge, self.publish(b"k", user_metadata=(("a", "x" * 1_000_001),)))
        self.assertEqual(await self.store.list_current("b", from_key=b"", before_key=None, limit=9), [])
        everything = [message_of(key) for key in keys[:BATCH_MAX]]
        await self.publish(b"k", pieces=pieces[:BATCH_MAX], messages=everything)
        await self.publish(
            b"k", pieces=[piece_of(f"q{n}", n + 1) for n in range(BATCH_MAX)], messages=everything
        )
        classes = [EVERY_CLASS[n % len(EVERY_CLASS)] for n in range(BATCH_MAX)]
        for key, storage_class in zip(keys[:BATCH_MAX], classes, strict=True):
            await self.publish(key, storage_class=storage_class)
        messages = {key: message_of(key) for key in keys[:BATCH_MAX]}
        gone = await self.store.delete_current("b", keys[:BATCH_MAX], at=1.0, messages=messages)
        self.assertEqual(len(gone), BATCH_MAX)
        some = keys[:DELETED_KEYS_MAX]
        for key, storage_class in zip(some, classes, strict=False):
            await self.publish(key, storage_class=storage_class, owner_id=f"owner-{key!r}")
        found = await self.store.list_current("b", from_key=b"", before_key=None, limit=99)
        for version in found:
            await self.ask_restore(version)
        gone = await self.store.delete_current(
            "b", some, at=1.0, messages={key: messages[key] for key in some}
        )
        self.assertEqual(len(gone), DELETED_KEYS_MAX)
        await self.store.move_pieces({f"q{n}": f"r{n}" for n in range(BATCH_MAX)})
        self.assertEqual(len(await self.drain()), 2 * BATCH_MAX + DELETED_KEYS_MAX)
        await self.check_backlog()


class GroupCommitContract(MetadataSteps):
    """Many steps at once, for stores that do not carry out each of them before it returns."""

    async def test_failures_stay_alone(self) -> None:
        """Of many steps given at once those fail that must; every other one is there once its Deferred fired."""
        await self.publish(b"taken")
        given: list[Deferred[Any]] = []
        for number in range(300):
            key = f"{number:03}".encode()
            if number % 3 == 0:
                given.append(
                    self.store.delete_current("b", [b"taken"], at=1.0, messages={}, if_match="other")
                )
            elif number % 3 == 1:
                given.append(Deferred.fromCoroutine(self.publish(key, pieces=[piece_of("x" * 20)] * 41)))
            else:
                given.append(Deferred.fromCoroutine(self.publish(key)))
        outcomes = await DeferredList(given, consumeErrors=True)
        kinds = [type(result.value) if isinstance(result, Failure) else None for _, result in outcomes]
        self.assertEqual(kinds, [PreconditionFailed, StepTooLarge, None] * 100)
        found = await self.store.list_current("b", from_key=b"", before_key=None, limit=999)
        self.assertEqual(len(found), 101)

    async def test_reads_see_what_was_told(self) -> None:
        """A read that begins when a step's Deferred has fired sees what the step did, every time."""

        async def write_and_read(number: int) -> bool:
            version = await self.publish(f"{number}".encode())
            return await self.store.current_version("b", f"{number}".encode()) == version

        outcomes = await DeferredList([Deferred.fromCoroutine(write_and_read(n)) for n in range(200)])
        self.assertEqual(outcomes, [(True, True)] * 200)

    async def test_close_finishes(self) -> None:
        """Closing lets what was given come to its end; what comes later is refused."""
        given: list[Deferred[Any]] = []
        for number in range(100):
            given.append(Deferred.fromCoroutine(self.publish(f"{number}".encode())))
            given.append(self.store.list_current("b", from_key=b"", before_key=None, limit=9))
        closed = self.store.close()
        late = DeferredList([self.store.take_epoch(at=1.0, host="")], consumeErrors=True)
        await closed
        self.assertTrue(all(each.called for each in given))
        outcomes = await DeferredList(given, consumeErrors=True)
        self.assertTrue(all(succeeded for succeeded, _ in outcomes))
        ((succeeded, failure),) = await late
        assert isinstance(failure, Failure)
        self.assertFalse(succeeded)
        self.assertIs(failure.type, MetadataUnavailable)

    async def test_cancelled(self) -> None:
        """Who no longer waits harms nobody: the step is carried out, the next one too."""
        given = Deferred.fromCoroutine(self.publish(b"k"))
        given.cancel()
        await self.assertFailure(given, CancelledError)
        await self.publish(b"l")
        self.assertEqual((await self.store.current_version("b", b"k")).facts.key, b"k")
