"""A random life of a metadata store, compared all the way with a small model of what must be true."""

from collections import Counter
from collections.abc import Awaitable, Callable
from random import Random

from coldstore.interfaces.metadata import DELETIONS_MAX, Conflict
from coldstore.metadata.sql import shares
from coldstore.metadata.sql.database import Database
from coldstore.metadata.sql.tally import Tally
from coldstore.metadata.sql.versions import by_uid, move
from coldstore.model.bundles import BundleState, CopyState
from coldstore.model.errors import NoSuchKey
from coldstore.model.objects import ArchiveState, ObjectVersion, Pairs, RestorePhase, StorageClass, Versioning
from coldstore.model.quotas import Use
from tests.contract.metadata_contract import (
    EVERY_CLASS,
    GLACIER,
    MAX_CRC,
    MetadataSteps,
    facts_of,
    piece_of,
    upload_of,
)

KEYS = [b"", b"a", b"a/b", b"a\xff", b"b", b"\x00", b"\xff"]


class MetadataModel(MetadataSteps):
    """Every address that was ever handed in is tracked: it is held by something that lives, or freed exactly once."""

    seeds = range(3)
    steps = 300

    async def test_random_life(self) -> None:
        """After any course of events the store holds what was acknowledged, and frees the rest exactly once."""
        for seed in self.seeds:
            await self.store.close()
            self.store = self.make_store()
            await self.store.open()
            await self.create_bucket("b")
            try:
                await self.live(Random(seed))
            except Exception as error:
                error.add_note(f"seed {seed}")
                raise

    async def live(self, chance: Random) -> None:
        """Do random things, then let everything come to its end, and compare."""
        self.chance = chance
        self.now = 1000.0
        self.versioning = Versioning.UNSET
        self.history: dict[bytes, list[tuple[str, str | None]]] = {}
        """Key to version id and ETag of every version, newest last; delete markers have no ETag."""
        self.open_uploads: dict[str, dict[int, str]] = {}
        """Upload id to address by part number."""
        self.tags: dict[int, Pairs] = {}
        self.acls: dict[int, Pairs] = {}
        """Both by uid, of those that were given some."""
        self.given: set[str] = set()
        self.freed: list[str] = []
        moves = self.moves()
        for number in range(self.steps):
            self.now += chance.random() * 10
            move = chance.choices([move for move, _ in moves], [weight for _, weight in moves])[0]
            await move()
            if number % 25 == 0:
                await self.compare()
        await self.compare()
        await self.come_to_rest()

    def moves(self) -> list[tuple[Callable[[], Awaitable[object]], int]]:
        """Return what can happen, and how often it does."""
        return [
            (self.put, 6), (self.remove, 3), (self.begin_upload, 2), (self.send_part, 6), (self.end_upload, 2),
            (self.pack, 4), (self.advance_bundle, 10), (self.begin_restore, 3), (self.bring_back, 3),
            (self.expire, 1), (self.evict, 4), (self.free, 2), (self.read, 1), (self.move, 3),
            (self.set_versioning, 1), (self.remove_versions, 3),
            (self.tag, 2), (self.grant, 1), (self.change_class, 2),
        ]  # fmt: skip

    async def compare(self) -> None:
        """The store shows exactly what was acknowledged, and nothing that is held was freed."""
        current = await self.store.list_current("b", from_key=b"", before_key=None, limit=999)
        self.assertEqual({one.facts.key: one.facts.etag for one in current}, self.current)
        self.assertEqual([one.facts.key for one in current], sorted(self.current))
        living = await self.living()
        self.compare_history(living)
        found = [version for version in living if not version.is_marker]
        await self.check_backlog()
        for one in found:
            self.assertEqual(one.tags, self.tags.get(one.version_uid))
            self.assertEqual(one.acl, self.acls.get(one.version_uid))
            digests = await self.store.part_digests(one.version_uid, offset_bytes=0, length_bytes=99)
            self.assertEqual(digests, one.facts.etag.encode() if one.facts.part_sizes else b"")
        self.assertEqual(len(self.freed), len(set(self.freed)))
        held = await self.held(found)
        self.assertEqual(len(held), len(set(held)))
        self.assertEqual(set(held) & set(self.freed), set())
        known = await self.known(self.given)
        self.assertEqual(known, self.given - set(self.freed))
        await self.compare_use(found)

    def compare_history(self, living: list[ObjectVersion]) -> None:
        """Every version is listed once, newest first, is found by its id, and is current when it is the newest of its key."""
        wanted = [
            (key, version_id, etag)
            for key in sorted(self.history)
            for version_id, etag in reversed(self.history[key])
        ]
        self.assertEqual(
            [
                (one.facts.key, one.facts.version_id, None if one.is_marker else one.facts.etag)
                for one in living
            ],
            wanted,
        )
        newest = {key: of_key[-1][0] for key, of_key in self.history.items()}
        for version in living:
            is_current = newest[version.facts.key] == version.facts.version_id
            self.assertEqual(version.superseded_at is None, is_current, version)
            self.assertIsNone(version.deleted_at)

    async def compare_use(self, versions: list[ObjectVersion], *, is_at_rest: bool = False) -> None:
        """What is counted on the disk is what lives there, and at most what is not freed yet; promises are exact."""
        living: Counter[StorageClass] = Counter()
        promised: Counter[StorageClass] = Counter()
        for parts in self.open_uploads.values():
            living[GLACIER] += 10 * len(parts)
        for version in versions:
            is_wanted = version.restore is not None and version.restore.phase is RestorePhase.ONGOING
            if version.on_disk:
                living[version.facts.storage_class] += version.facts.size_bytes
            elif is_wanted:
                promised[version.facts.storage_class] += version.facts.size_bytes
        await self.compare_quota_use(versions)
        in_use = await self.store.staging_use(owner_id="owner")
        self.assertEqual(in_use, await self.store.staging_use(bucket="b"))
        used = Counter({one.storage_class: one.used_bytes for one in in_use})
        self.assertEqual(
            Counter({one.storage_class: one.promised_bytes for one in in_use}) - Counter(), promised
        )
        self.assertEqual(living - used, Counter())
        self.assertLessEqual(used.total(), (await self.store.totals()).on_disk_bytes)
        if is_at_rest:
            self.assertEqual(used, +living)

    async def compare_quota_use(self, versions: list[ObjectVersion]) -> None:
        """What quotas count is what a recount finds, of the owner and of the bucket, alone and among all."""
        use = await self.store.quota_use(owner_id="owner")
        in_use = await self.store.staging_use(owner_id="owner")
        self.assertEqual(
            use,
            Use(
                staging=sum(one.used_bytes + one.promised_bytes for one in in_use),
                kept=sum(version.facts.content_bytes for version in versions),
                restores=sum(version.facts.size_bytes for version in versions if version.restore is not None),
                objects=len(versions),
            ),
        )
        self.assertEqual(use, await self.store.quota_use(bucket="b"))
        ((bucket, found),) = await self.store.uses_of_buckets(after="", limit=9)
        self.assertEqual((bucket.name, found), ("b", use))

    async def held(self, versions: list[ObjectVersion]) -> list[str]:
        """Return the addresses that living versions, recalls and uploads need."""
        addresses = [address for parts in self.open_uploads.values() for address in parts.values()]
        for version in versions:
            if version.on_disk:
                mine = await self.addresses(version)
                self.assertTrue(mine, version)
                addresses += mine
            else:
                self.assertEqual(version.archive_state, ArchiveState.ARCHIVED)
        return addresses

    async def known(self, addresses: set[str]) -> set[str]:
        """Return which addresses the store knows."""
        asked = sorted(addresses)
        found: set[str] = set()
        for start in range(0, len(asked), 100):
            found |= await self.store.referenced(asked[start : start + 100])
        return found

    async def come_to_rest(self) -> None:
        """When every bundle, upload and restore has ended, exactly what lives is still held."""
        for upload_id in list(self.open_uploads):
            await self.store.abandon_upload(upload_id)
            del self.open_uploads[upload_id]
        for _ in range(500):
            if not await self.advance_bundle():
                break
        for version in await self.versions():
            if version.restore is not None:
                await self.ask_restore(version, None)
        await self.free()
        held = await self.held(await self.versions())
        self.assertEqual(self.given - set(self.freed), set(held))
        self.assertEqual(len(self.freed), len(set(self.freed)))
        await self.compare()
        await self.compare_use(await self.versions(), is_at_rest=True)

    # ── what can happen ─────────────────────────────────────────────────────────────────────────────────────────────

    async def versions(self) -> list[ObjectVersion]:
        """Return all versions that have bytes."""
        return [version for version in await self.living() if not version.is_marker]

    @property
    def current(self) -> dict[bytes, str]:
        """Key to ETag of what must be current."""
        newest = {key: of_key[-1][1] for key, of_key in self.history.items()}
        return {key: etag for key, etag in newest.items() if etag is not None}

    def enters(self, key: bytes, version_id: str, etag: str | None) -> None:
        """A version or a marker comes into being."""
        of_key = self.history.setdefault(key, [])
        if self.versioning is not Versioning.ENABLED:
            version_id = "null"
            of_key[:] = [one for one in of_key if one[0] != "null"]
        of_key.append((version_id, etag))

    def leaves(self, key: bytes, version_id: str) -> None:
        """A version or a marker is gone."""
        of_key = [one for one in self.history.pop(key) if one[0] != version_id]
        if of_key:
            self.history[key] = of_key

    async def set_versioning(self) -> None:
        """Enable or suspend versioning."""
        self.versioning = self.chance.choice([Versioning.ENABLED, Versioning.ENABLED, Versioning.SUSPENDED])
        await self.store.set_versioning(name="b", versioning=self.versioning)

    async def remove_versions(self) -> None:
        """Delete some versions for good, several of a key perhaps, and some that are not there."""
        wanted = [(self.chance.choice(KEYS), "nope")]
        for key, of_key in self.history.items():
            wanted += [(key, version_id) for version_id, _ in of_key if self.chance.random() < 0.1]
        self.chance.shuffle(wanted)
        gone = await self.store.delete_versions("b", wanted[:DELETIONS_MAX], at=self.now)
        those = [(key, version_id) for key, version_id in wanted[:DELETIONS_MAX] if version_id != "nope"]
        self.assertEqual([(one.facts.key, one.facts.version_id) for one in gone], those)
        for key, version_id in those:
            self.leaves(key, version_id)

    def address(self) -> str:
        """Return a new address."""
        address = self.unique("address")
        self.given.add(address)
        return address

    async def put(self) -> None:
        """Publish an object of one to three pieces."""
        key, etag, version_id = self.chance.choice(KEYS), self.unique("etag"), self.unique("version")
        pieces = [piece_of(self.address(), n + 1) for n in range(self.chance.choice([1, 1, 2, 3]))]
        await self.publish(
            key, pieces=pieces, etag=etag, size_bytes=10 * len(pieces), created_at=self.now,
            wants_tape=self.chance.random() < 0.8, storage_class=self.chance.choice(EVERY_CLASS),
            version_id=version_id,
        )  # fmt: skip
        self.enters(key, version_id, etag)

    async def remove(self) -> None:
        """Delete some keys."""
        keys = self.chance.sample(KEYS, self.chance.randint(1, 3))
        marker_ids = [self.unique("marker") for _ in keys]
        told = await self.store.delete_current(
            "b", keys, at=self.now, messages={}, owner_id="owner", marker_ids=marker_ids
        )
        if self.versioning is Versioning.UNSET:
            self.assertEqual({one.facts.key for one in told}, set(keys) & set(self.history))
            for key in keys:
                self.history.pop(key, None)
            return
        self.assertEqual([one.facts.key for one in told if one.is_marker], keys)
        for key, marker_id in zip(keys, marker_ids, strict=True):
            self.enters(key, marker_id, None)

    async def begin_upload(self) -> None:
        """Begin an upload."""
        upload_id = self.unique("upload")
        await self.store.create_upload(upload_of(upload_id, self.chance.choice(KEYS)))
        self.open_uploads[upload_id] = {}

    async def send_part(self) -> None:
        """Send a part, perhaps again."""
        if self.open_uploads:
            upload_id = self.chance.choice(sorted(self.open_uploads))
            number, address = self.chance.randint(1, 4), self.address()
            await self.store.put_part(upload_id, piece_of(address, number))
            self.open_uploads[upload_id][number] = address

    async def end_upload(self) -> None:
        """Complete an upload with some of its parts, or give it up."""
        if not self.open_uploads:
            return
        upload_id = self.chance.choice(sorted(self.open_uploads))
        parts = self.open_uploads.pop(upload_id)
        (upload,) = [
            one
            for one in await self.store.uploads("b", prefix=b"", after_key=b"", after_upload_id="", limit=999)
            if one.upload_id == upload_id
        ]
        if not parts or self.chance.random() < 0.3:
            await self.store.abort_upload("b", upload.key, upload_id)
            return
        listed = sorted(self.chance.sample(sorted(parts), self.chance.randint(1, len(parts))))
        facts = facts_of(
            upload.key,
            etag=self.unique("etag"),
            size_bytes=10 * len(listed),
            created_at=self.now,
            version_id=self.unique("version"),
            part_sizes=f"10x{len(listed)}",
        )
        version = await self.store.complete_upload(
            upload_id,
            facts,
            listed=listed,
            wants_tape=True,
            condition=None,
            messages=(),
            revision=upload.revision,
            part_digests=facts.etag.encode(),
        )
        self.assertEqual(await self.addresses(version), [parts[number] for number in listed])
        self.enters(upload.key, facts.version_id, facts.etag)

    async def tag(self) -> None:
        """Give an object tags, or take them away."""
        versions = await self.versions()
        for version in self.chance.sample(versions, min(1, len(versions))):
            tags = self.chance.choice([(), (("a", self.unique("tag")),)])
            await self.store.set_tags(version.version_uid, tags=tags)
            self.tags[version.version_uid] = tags

    async def grant(self) -> None:
        """Give an object grants, or none at all."""
        versions = await self.versions()
        for version in self.chance.sample(versions, min(1, len(versions))):
            grants = self.chance.choice([(), (("x-amz-grant-read", self.unique("user")),)])
            await self.store.set_acl(version.version_uid, acl=grants)
            self.acls[version.version_uid] = grants

    async def change_class(self) -> None:
        """Have an object be of another class, as a step of some other part may do it: all that is counted of it goes along."""
        versions = await self.versions()
        for version in self.chance.sample(versions, min(1, len(versions))):
            storage_class = self.chance.choice(EVERY_CLASS)

            async def step(db: Database, before: ObjectVersion, name: str) -> None:
                tally = Tally()
                await move(db, before.version_uid, {"storage_class": name})
                after = await by_uid(db, before.version_uid)
                assert after is not None
                bucket_uid = await shares.bucket_uid_of(db, before.version_uid)
                await shares.move(db, tally, before, after, bucket_uid=bucket_uid)
                await tally.write(db)

            await self.store._write(step, version, storage_class.value)

    async def pack(self) -> None:
        """Claim what waits, versions of several pieces in two bundles, perhaps only in part."""
        waiting = await self.store.pending(
            classes=EVERY_CLASS, after_sequence=0, limit=self.chance.randint(1, 9)
        )
        bundles = [await self.open_bundle(), await self.open_bundle()]
        positions = [0, 0]
        for version in waiting:
            wanted = version.facts.size_bytes // 10
            held = {one.extent for one in await self.store.extents(version.version_uid)}
            for extent in range(wanted):
                if extent in held or (extent < wanted - 1 and self.chance.random() < 0.1):
                    continue
                which = extent % 2
                member = self.member(bundles[which], version, positions[which], extent, wanted)
                held.add(extent)
                last = {version.version_uid} if len(held) == wanted else set()
                await self.store.claim_members(bundles[which], [member], last_extents=last)
                positions[which] += 1

    async def advance_bundle(self) -> bool:
        """Take some bundle a step further; return whether there was one."""
        unsettled = await self.store.bundles(
            states=[BundleState.FILLING, BundleState.FROZEN, BundleState.ARCHIVED],
            settled=False,
            after="",
            limit=999,
        )
        if not unsettled:
            return False
        bundle = self.chance.choice(unsettled)
        if bundle.state is BundleState.FILLING:
            members = await self.store.members(bundle.bundle_id, after_position=-1, limit=999)
            if not members or self.chance.random() < 0.3:
                await self.store.release_members(bundle.bundle_id)
            else:
                await self.freeze(bundle.bundle_id)
        elif bundle.state is BundleState.FROZEN:
            await self.advance_copy(bundle.bundle_id)
        else:
            await self.settle(bundle.bundle_id, at=self.now)
        return True

    async def advance_copy(self, bundle_id: str) -> None:
        """Write, verify or fail a copy."""
        copies = await self.store.copies(bundle_id=bundle_id)
        copy = self.chance.choice([one for one in copies if one.state is not CopyState.VERIFIED])
        if copy.state is CopyState.PLANNED:
            await self.sync(bundle_id, copy.pool)
        elif self.chance.random() < 0.2:
            await self.store.copy_failed(bundle_id=bundle_id, pool=copy.pool, reason="chance")
        else:
            await self.store.copy_verified(bundle_id=bundle_id, pool=copy.pool, epoch=1, at=self.now)

    async def begin_restore(self) -> None:
        """Ask for a restore of something that has none."""
        idle = [version for version in await self.versions() if version.restore is None]
        if idle:
            await self.ask_restore(self.chance.choice(idle))

    async def bring_back(self) -> None:
        """Bring some wanted extents back, complete what is complete, and try to bring one that nobody wants."""
        for wanted in await self.store.wanted_extents(after=(0, -1), limit=self.chance.randint(1, 9)):
            extent = wanted.member.extent
            took = await self.store.add_recalled(
                wanted.version.version_uid,
                extent=extent,
                layout_id=self.unique("recall"),
                piece=piece_of(self.address(), extent + 1, crc64nvme=MAX_CRC - extent),
            )
            self.assertTrue(took)
        lost = await self.store.add_recalled(
            10**9, extent=0, layout_id=self.unique("recall"), piece=piece_of(self.address())
        )
        self.assertFalse(lost)
        for is_on_disk in (True, False):
            for version in await self.store.ongoing_restores(on_disk=is_on_disk, limit=9):
                try:
                    await self.complete(version, expires_at=self.now + 50)
                except Conflict:
                    self.assertFalse(is_on_disk)

    async def expire(self) -> None:
        """End what is over, and now and then what is not."""
        for version in await self.store.expired_restores(now=self.now, limit=99):
            await self.ask_restore(version, None)
        ongoing = [
            one for one in await self.versions() if one.restore and one.restore.phase is RestorePhase.ONGOING
        ]
        if ongoing and self.chance.random() < 0.3:
            await self.ask_restore(self.chance.choice(ongoing), None)

    async def evict(self) -> None:
        """Take something off the disk."""
        found = await self.store.evictable(classes=EVERY_CLASS, archived_before=self.now, limit=2)
        for version in found:
            await self.store.evict_version(version.version_uid, revision=version.revision)

    async def free(self) -> None:
        """Free everything that may be freed."""
        self.freed += await self.drain()

    async def move(self) -> None:
        """Have some pieces lie elsewhere, known ones and others."""
        if not self.given:
            return
        asked = self.chance.sample(sorted(self.given), min(len(self.given), 10))
        there = {piece.address for piece in await self.store.pieces_at(asked)}
        moves = {address: self.unique("moved") for address in asked}
        self.given.update(moves.values())
        self.assertEqual(await self.store.move_pieces(moves), there)
        await self.store.add_discards(sorted(there) + [moves[old] for old in asked if old not in there])
        for parts in self.open_uploads.values():
            parts.update({number: moves.get(address, address) for number, address in parts.items()})

    async def read(self) -> None:
        """Read something."""
        try:
            version = await self.store.current_version("b", self.chance.choice(KEYS))
        except NoSuchKey:
            return
        await self.store.note_reads({version.version_uid: 1}, at=self.now)
