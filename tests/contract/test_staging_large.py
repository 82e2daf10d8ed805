"""An object of more than 200 GB, from its parts to its restored copy: sizes, extents, checksums and account are real, bytes are zeros."""

from pathlib import Path
from random import Random
from typing import Any, cast

from twisted.internet import reactor as the_reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from coldstore.disk.addresses import Names
from coldstore.disk.layout import Layout
from coldstore.disk.staging import DiskStaging
from coldstore.interfaces.metadata import BATCH_MAX
from coldstore.interfaces.staging import BLOCK_BYTES, RecalledBytes
from coldstore.metadata.sqlite.store import SqliteStore
from coldstore.model.bundles import BundleState
from coldstore.model.errors import StagingFull
from coldstore.model.objects import (
    ArchiveState,
    ObjectVersion,
    Piece,
    Restore,
    RestorePhase,
    StorageClass,
    Tier,
)
from coldstore.plan.archive import ArchivePolicy
from coldstore.plan.classes import ClassRule
from coldstore.testing.tenure import SimulatedTenure
from coldstore.util.asynchronous import returns_deferred
from coldstore.util.checksums import combine_crc64nvme
from coldstore.work.bells import ReactorBell
from coldstore.work.content import bundle_content
from coldstore.work.contents import Contents
from coldstore.work.janitor import Janitor
from coldstore.work.packer import Packer
from tests.contract.metadata_contract import cartridge_of, facts_of, upload_of
from tests.contract.sparse import SparseFileSystem, lay_out, zeros_checksums, zeros_crc

reactor: Any = the_reactor
GIB = 1 << 30
PART_BYTES = 5 * GIB
PARTS = [PART_BYTES] * 40 + [3 * GIB + 17]
SIZE_BYTES = sum(PARTS)
BUNDLE_BYTES = 32 * GIB
CAPACITY_BYTES = 300 * GIB
RULES = {StorageClass.GLACIER: ClassRule(pools=("main", "vault"), keep_on_disk=False, needs_restore=True)}


def rounded(size_bytes: int) -> int:
    """In whole blocks of the file system."""
    return -(-size_bytes // 4096) * 4096


class LargeObjectTests(TestCase):
    """A life."""

    timeout = 600

    @returns_deferred
    async def setUp(self) -> None:  # type: ignore[override]
        """A disk on which the parts lie, and a store that knows them as an upload."""
        directory = Path(self.mktemp()).absolute()
        names = Names(Random(1), "0")
        addresses = [names.file() for _ in PARTS]
        for address, length in zip(addresses, PARTS, strict=True):
            lay_out(Layout(directory), address, length)
        self.staging = DiskStaging(
            reactor=reactor,
            random=Random(2),
            run="1",
            directory=directory,
            capacity_bytes=CAPACITY_BYTES,
            system=SparseFileSystem(),
        )
        await self.staging.start()
        self.addCleanup(self.staging.stop)
        self.store = SqliteStore(self.mktemp(), reactor=reactor)
        await self.store.open()
        self.addCleanup(self.store.close)
        await self.store.create_bucket(
            name="b", owner_id="owner", region="r", created_at=1.0, default_class=None
        )
        await self.store.create_upload(upload_of("u"))
        crcs = {length: zeros_crc(length) for length in set(PARTS)}
        self.pieces = [
            Piece(ordinal=number, address=str(address), length_bytes=length, crc64nvme=crcs[length])
            for number, (address, length) in enumerate(zip(addresses, PARTS, strict=True), start=1)
        ]
        for piece in self.pieces:
            await self.store.put_part("u", piece)

    @returns_deferred
    async def complete(self) -> ObjectVersion:
        """Make it an object."""
        return await self.store.complete_upload(
            "u",
            facts_of(b"k", size_bytes=SIZE_BYTES, crc64nvme=zeros_crc(SIZE_BYTES)),
            listed=[piece.ordinal for piece in self.pieces],
            wants_tape=True,
            condition=None,
            messages=(),
        )

    @returns_deferred
    async def pack(self) -> list[str]:
        """Have it packed; return the bundles."""
        await self.store.add_cartridges([cartridge_of("A00001L9", capacity_bytes=18 * 10**12)])
        self.contents = Contents(store=self.store, staging=self.staging)
        packer = Packer(
            store=self.store,
            staging=self.staging,
            contents=self.contents,
            clock=reactor,
            random=Random(3),
            rules=RULES,
            policy=ArchivePolicy(
                bundle_bytes=BUNDLE_BYTES,
                cartridge_share=0.25,
                bundle_members_max=10_000,
                trigger_bytes=1,
                trigger_objects=1,
                trigger_age=0.0,
                idle_age=0.0,
            ),
            epoch=1,
            is_drive_idle=lambda: False,
            is_disk_pressing=lambda: False,
            drives_bell=ReactorBell(reactor),
        )
        await packer.one_round()
        bundles = await self.store.bundles(states=list(BundleState), settled=None, after="", limit=99)
        self.assertEqual({bundle.state for bundle in bundles}, {BundleState.FROZEN})
        return [bundle.bundle_id for bundle in bundles]

    @returns_deferred
    async def test_life(self) -> None:
        """
        It is cut into extents that fit bundles and end on checksum blocks, each with the checksum of its bytes; it leaves the
        disk, comes back, and every byte is accounted for at each station.
        """
        version = await self.complete()
        self.assertGreater(SIZE_BYTES, 200 * 10**9)
        lists = sum(rounded(64 + 8 * -(-length // BLOCK_BYTES)) for length in PARTS)
        used = sum(map(rounded, PARTS))
        self.assertTrue(used < self.staging.usage().used_bytes <= used + lists)
        self.assertEqual(self.staging.usage().reserved_bytes, 0)
        bundle_ids = await self.pack()
        extents = await self.store.extents(version.version_uid)
        self.check_extents(extents)
        self.assertEqual([member.bundle_id for member in extents], bundle_ids)
        for bundle_id, member in zip(bundle_ids, extents, strict=True):
            await self.check_content(bundle_id, member.length_bytes, member.crc64nvme)
        await self.archive(bundle_ids)
        version = await self.now(version)
        self.assertIs(version.archive_state, ArchiveState.ARCHIVED)
        await self.store.evict_version(version.version_uid, revision=version.revision)
        await self.free()
        self.assertEqual(self.staging.usage().used_bytes, 0)
        await self.restore(version, [(member.length_bytes, member.crc64nvme) for member in extents])

    def check_extents(self, extents: Any) -> None:
        """They follow each other, end on blocks, fit bundles, and make up the object by size and checksum."""
        self.assertEqual(len(extents), -(-SIZE_BYTES // BUNDLE_BYTES))
        crc64nvme = offset_bytes = 0
        for member in extents:
            self.assertEqual(member.object_offset_bytes, offset_bytes)
            self.assertEqual(member.object_offset_bytes % BLOCK_BYTES, 0)
            self.assertLessEqual(member.length_bytes, BUNDLE_BYTES)
            self.assertEqual(member.crc64nvme, zeros_crc(member.length_bytes))
            crc64nvme = combine_crc64nvme(crc64nvme, member.crc64nvme, member.length_bytes)
            offset_bytes += member.length_bytes
        self.assertEqual((offset_bytes, crc64nvme), (SIZE_BYTES, zeros_crc(SIZE_BYTES)))

    @returns_deferred
    async def check_content(self, bundle_id: str, length_bytes: int, crc64nvme: int) -> None:
        """What the mover is told lies on the disk and is the extent, by size and checksum."""
        bundle = await self.store.bundle(bundle_id)
        assert bundle is not None
        self.assertEqual(bundle.content_bytes, length_bytes)
        content = await bundle_content(self.store, self.staging, bundle)
        found = crc = 0
        for one in content.woven.ranges():
            self.assertGreaterEqual(Path(one.path).stat().st_size, one.offset_bytes + one.length_bytes)
            crc = combine_crc64nvme(crc, one.crc64nvme, one.length_bytes)
            found += one.length_bytes
        content.close()
        self.assertEqual((found, crc), (length_bytes, crc64nvme))

    @returns_deferred
    async def archive(self, bundle_ids: list[str]) -> None:
        """Record what sessions record when every copy is written and verified, and settle."""
        for bundle_id in bundle_ids:
            bundle = await self.store.bundle(bundle_id)
            assert bundle is not None
            for pool in bundle.pools:
                await self.store.start_copy(bundle_id=bundle_id, pool=pool, barcode=pool, epoch=1)
                await self.store.copy_synced(
                    bundle_id=bundle_id,
                    pool=pool,
                    epoch=1,
                    partition="b",
                    start_block=5,
                    size_bytes=bundle.size_bytes,
                    sha256="0" * 64,
                    at=1.0,
                )
                await self.store.copy_verified(bundle_id=bundle_id, pool=pool, epoch=1, at=1.0)
                self.contents.forget(bundle_id)
        await self.free()

    @returns_deferred
    async def free(self) -> None:
        """Let the janitor do everything there is to do."""
        janitor = Janitor(
            store=self.store,
            staging=self.staging,
            tenure=SimulatedTenure(),
            clock=reactor,
            on_settled=lambda: None,
        )
        await Deferred.fromCoroutine(janitor.one_round())

    @returns_deferred
    async def now(self, version: ObjectVersion) -> ObjectVersion:
        """The version as it is recorded now."""
        found = await self.store.version(version.version_uid)
        assert found is not None
        return found

    @returns_deferred
    async def restore(self, version: ObjectVersion, extents: list[tuple[int, int]]) -> None:
        """Bring it back, as a recall session does."""
        version = await self.now(version)
        restore = Restore(phase=RestorePhase.ONGOING, tier=Tier.BULK, days=1, requested_at=1.0)
        version = await self.store.change_restore(
            version.version_uid, revision=version.revision, restore=restore, messages=()
        )
        (use,) = await self.store.staging_use(bucket="b")
        self.assertEqual((use.used_bytes, use.promised_bytes), (0, SIZE_BYTES))
        lengths = [length for length, _ in extents]
        await self.assertFailure(
            cast("Deferred[object]", self.staging.reserve_recall([*lengths, 100 * GIB])), StagingFull
        )
        space = await self.staging.reserve_recall(lengths)
        self.assertEqual(self.staging.usage().reserved_bytes, sum(map(rounded, lengths)))
        arrived = [
            RecalledBytes(slot=slot, crc64nvme=crc, block_checksums=tuple(zeros_checksums(length)))
            for slot, (length, crc) in enumerate(extents)
        ]
        addresses = await self.staging.adopt_recalled(space, arrived)
        self.assertEqual(self.staging.usage().reserved_bytes, 0)
        pieces = [
            Piece(ordinal=number, address=address, length_bytes=length, crc64nvme=crc)
            for number, (address, (length, crc)) in enumerate(zip(addresses, extents, strict=True), start=1)
        ]
        for piece in pieces:
            taken = await self.store.add_recalled(
                version.version_uid, extent=piece.ordinal - 1, layout_id="recall", piece=piece
            )
            self.assertTrue(taken)
        version = await self.now(version)
        await self.store.complete_recall(
            version.version_uid, revision=version.revision, expires_at=9.0, messages=()
        )
        (use,) = await self.store.staging_use(bucket="b")
        self.assertEqual((use.used_bytes, use.promised_bytes), (SIZE_BYTES, 0))
        overhead = self.staging.usage().used_bytes - sum(map(rounded, lengths))
        self.assertTrue(0 < overhead < 1 << 20, overhead)
        for piece in (pieces[0], pieces[-1]):
            reader = await self.staging.open(piece)
            end = piece.length_bytes
            for start in (0, (end - 1) // BLOCK_BYTES * BLOCK_BYTES):
                content = await reader.read(start, min(BLOCK_BYTES, end - start))
                self.assertEqual(content, bytes(min(BLOCK_BYTES, end - start)))
            reader.close()
        await self.store.delete_current("b", [b"k"], at=2.0, messages={})
        await self.free()
        self.assertEqual(self.staging.usage().used_bytes, 0)
        self.assertEqual(await self.store.staging_use(bucket="b"), [])

    @returns_deferred
    async def test_parts_that_are_not_listed(self) -> None:
        """Of an upload that is completed with some of its parts the others' bytes, 200 GB of them, come back at once."""
        listed = self.pieces[:1]
        await self.store.complete_upload(
            "u",
            facts_of(b"k", size_bytes=PART_BYTES, crc64nvme=listed[0].crc64nvme),
            listed=[1],
            wants_tape=True,
            condition=None,
            messages=(),
        )
        await self.free()
        self.assertTrue(PART_BYTES < self.staging.usage().used_bytes < PART_BYTES + 20_000)
        (use,) = await self.store.staging_use(bucket="b")
        self.assertEqual(use.used_bytes, PART_BYTES)
        self.assertLess(len(self.pieces), BATCH_MAX + 2)
