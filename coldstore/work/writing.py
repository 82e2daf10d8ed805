"""Writing copies of bundles onto a mounted cartridge: write, sync by group, verify past the page cache."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from coldstore.interfaces.filesystem import IMountedVolume
from coldstore.interfaces.metadata import Conflict, IMetadataStore
from coldstore.interfaces.mover import EndOfTape, NoSuchFileOnVolume, StagedBytesDamaged
from coldstore.interfaces.staging import DiskFault
from coldstore.model.bundles import BundleState, Copy, CopyState
from coldstore.model.cartridges import CartridgeEvent, CartridgeState
from coldstore.model.events import Severity
from coldstore.ontape import paths
from coldstore.plan.jobs import CopyToVerify, CopyToWrite, DoArchive
from coldstore.plan.verify import VerifyMode, to_read_back
from coldstore.work.bay import APPLIANCE, Bay, lists_all
from coldstore.work.contents import Contents, Loan
from coldstore.work.records import change_cartridge
from coldstore.work.renewing import HeldBundle, Renewals
from coldstore.work.trouble import WORLD_FAULTS, TapeTrouble, as_trouble

BUNDLE_ATTRIBUTE = "coldstore.bundle"


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncPolicy:
    """
    The index goes to tape after so many bytes or seconds of writing, whichever is first; ``verify`` says per pool what is
    read back afterwards.
    """

    sync_bytes: int
    sync_seconds: float
    verify: Mapping[str, VerifyMode]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Unsynced:
    copy: CopyToWrite
    path: str
    size_bytes: int
    sha256: str


class ArchiveSession:
    """Carries out one ``DoArchive``."""

    log = Logger()

    def __init__(
        self,
        *,
        bay: Bay,
        store: IMetadataStore,
        contents: Contents,
        clock: IReactorTime,
        epoch: int,
        policy: SyncPolicy,
        on_archived: Callable[[], None],
        renewals: Renewals,
    ) -> None:
        """:param on_archived: is called when a bundle has all its copies."""
        self._bay = bay
        self._store = store
        self._contents = contents
        self._clock = clock
        self._epoch = epoch
        self._policy = policy
        self._on_archived = on_archived
        self._renewals = renewals
        self._unsynced: list[_Unsynced] = []

    async def run(
        self,
        job: DoArchive,
        *,
        next_copy: Callable[[int], CopyToWrite | None],
        is_over: Callable[[bool], bool],
        put_off: Callable[[str], None],
    ) -> None:
        """
        Write, sync and verify; copies that end badly are PLANNED again, by us or (when even that fails) by the archive queue.

        :param next_copy: gives the next copy of the job's pool that has at most so many bytes; None: there is no more for us
        :param is_over: whether to come to an end at this boundary; is told whether a copy was written or verified by now. What
            was written is synced then, and verified by a later session.
        :param put_off: is told a bundle whose bytes cannot be had from the disk
        :raise TapeTrouble: the drive or the cartridge failed
        """
        volume = await self._bay.mount(job.barcode, pool=job.pool if job.size_bytes else None)
        await self._compare_with_record(volume, may_remove=bool(job.size_bytes))
        has_worked = False
        for pending in job.verify:
            if is_over(has_worked):
                break
            await self._resume(volume, pending)
            has_worked = True
        try:
            with as_trouble(f"writing to {volume.barcode} in drive {self._bay.index}"):
                written = await self._write_all(
                    volume, job, next_copy, lambda wrote: is_over(has_worked or wrote), put_off
                )
        except TapeTrouble as trouble:
            await self._void_unsynced(trouble.sentence)
            raise
        # A pool that is configured no longer may still be owed copies.
        mode = self._policy.verify.get(job.pool, VerifyMode.READ_BACK)
        chosen = to_read_back([copy.bundle_id for copy in written], mode)
        for copy in written:
            if copy.bundle_id not in chosen:
                await self._count_as_verified(volume, copy.bundle_id, copy.pool)
            elif not is_over(True):
                await self._verify(volume, copy.bundle_id, copy.pool)
        await self._bay.note_space()

    async def _compare_with_record(self, volume: IMountedVolume, *, may_remove: bool) -> None:
        """
        Compare the bundles on the volume with those that the record places there.

        One that is recorded and not there does not count any more. One that is there and not recorded was cut off while it was
        written; it is removed when the record proves it worthless: the bundle is known, and its copies are elsewhere or yet to be
        made.
        """
        with as_trouble(f"listing {volume.barcode} in drive {self._bay.index}"):
            try:
                listed = {entry.name for entry in await volume.mover.list(path=paths.BUNDLES_DIRECTORY)}
            except NoSuchFileOnVolume:
                listed = set()
            recorded = set()
            for copy in await self._store.copies(barcode=volume.barcode):
                name = paths.bundle_path(copy.bundle_id).rpartition("/")[2]
                recorded.add(name)
                if name not in listed:
                    await self._note_missing(volume, copy)
            for name in sorted(listed - recorded):
                if may_remove and await self._is_worthless(name.removesuffix(".tar")):
                    self.log.info(
                        "removing the stump {name} from {barcode}", name=name, barcode=volume.barcode
                    )
                    await volume.mover.unlink(path=f"{paths.BUNDLES_DIRECTORY}/{name}")

    async def _is_worthless(self, bundle_id: str) -> bool:
        """Whether nothing is lost with a file of a bundle that the record does not place where it lies."""
        bundle = await self._store.bundle(bundle_id)
        if bundle is None or bundle.state is BundleState.FROZEN:
            return bundle is not None
        # A damaged copy may be the last that has some member, until the one that takes its place is verified.
        return all(copy.state is CopyState.VERIFIED for copy in await self._store.copies(bundle_id=bundle_id))

    async def _note_missing(self, volume: IMountedVolume, copy: Copy) -> None:
        reason = f"{volume.barcode} does not list it any more"
        if copy.state is CopyState.SYNCED:
            await self._store.copy_failed(bundle_id=copy.bundle_id, pool=copy.pool, reason=reason)
        elif copy.state is CopyState.VERIFIED and lists_all(volume):
            await self._store.lose_copy(bundle_id=copy.bundle_id, pool=copy.pool, reason=reason)
        else:
            return
        await self._alarm(
            "copy-damaged",
            f"cartridge {volume.barcode}",
            Severity.CRITICAL,
            f"bundle {copy.bundle_id} was on {volume.barcode} and is not listed there any more",
        )

    async def _write_all(
        self,
        volume: IMountedVolume,
        job: DoArchive,
        next_copy: Callable[[int], CopyToWrite | None],
        is_over: Callable[[bool], bool],
        put_off: Callable[[str], None],
    ) -> list[CopyToWrite]:
        synced: list[CopyToWrite] = []
        last_sync_at = self._clock.seconds()
        room_bytes, left_bytes = job.room_bytes, job.size_bytes
        has_written = False
        while left_bytes > 0 and not is_over(has_written):
            copy = next_copy(min(room_bytes, left_bytes) if has_written else room_bytes)
            if copy is None:
                break
            try:
                written_bytes = await self._write(volume, copy, put_off)
            except EndOfTape:
                await self._end_of_tape(volume, copy)
                break
            has_written |= written_bytes > 0
            room_bytes, left_bytes = room_bytes - written_bytes, left_bytes - written_bytes
            due_bytes = sum(entry.size_bytes for entry in self._unsynced)
            if (
                due_bytes >= self._policy.sync_bytes
                or self._clock.seconds() - last_sync_at >= self._policy.sync_seconds
            ):
                synced += await self._sync(volume)
                last_sync_at = self._clock.seconds()
        synced += await self._sync(volume)
        return synced

    async def _write(self, volume: IMountedVolume, copy: CopyToWrite, put_off: Callable[[str], None]) -> int:
        """Write one copy; return its bytes, 0 when it was left out."""
        bundle = await self._store.bundle(copy.bundle_id)
        content: Loan | HeldBundle | None = None
        if bundle is not None and bundle.state is BundleState.ARCHIVED:
            content = self._renewals.held(bundle)
        elif bundle is not None and bundle.state is BundleState.FROZEN:
            try:
                content = await self._contents.of(bundle)
            except (DiskFault, LookupError) as fault:
                await self._damaged(copy, fault, put_off)
        if content is None:
            return 0
        try:
            return await self._write_content(volume, copy, content, put_off)
        finally:
            content.close()

    async def _write_content(
        self,
        volume: IMountedVolume,
        copy: CopyToWrite,
        content: Loan | HeldBundle,
        put_off: Callable[[str], None],
    ) -> int:
        bundle = content.bundle
        try:
            await self._store.start_copy(
                bundle_id=copy.bundle_id, pool=copy.pool, barcode=volume.barcode, epoch=self._epoch
            )
        except Conflict as conflict:
            self.log.info(
                "bundle {bundle} for {pool} is no longer to be written: {conflict}",
                bundle=copy.bundle_id,
                pool=copy.pool,
                conflict=conflict,
            )
            return 0
        path = paths.bundle_path(copy.bundle_id)
        self._bay.tell("writing", detail=copy.bundle_id, total_bytes=bundle.size_bytes)
        try:
            written = await volume.mover.write(
                path=path,
                pieces=content.pieces(),
                attributes={BUNDLE_ATTRIBUTE: copy.bundle_id.encode()},
                on_progress=self._bay.progress,
                # No recorded copy of this bundle is on this cartridge, so what has its name is a stump of ours.
                replace_stump=True,
            )
        except StagedBytesDamaged as damage:
            self._contents.forget(copy.bundle_id)
            await self._damaged(copy, damage, put_off)
            await volume.mover.unlink(path=path)
            return 0
        except EndOfTape:
            raise
        except WORLD_FAULTS as fault:
            # Perhaps it is what was made ready that was wrong.
            self._contents.forget(copy.bundle_id)
            await self._store.copy_failed(bundle_id=copy.bundle_id, pool=copy.pool, reason=str(fault))
            raise
        assert written.size_bytes == bundle.size_bytes, (
            copy.bundle_id,
            written.size_bytes,
            bundle.size_bytes,
        )
        self.log.info(
            "bundle {bundle} written to {barcode} in {seconds:.1f} s",
            bundle=copy.bundle_id,
            barcode=volume.barcode,
            seconds=written.seconds,
        )
        self._unsynced.append(
            _Unsynced(copy=copy, path=path, size_bytes=written.size_bytes, sha256=written.sha256)
        )
        return written.size_bytes

    async def _sync(self, volume: IMountedVolume) -> list[CopyToWrite]:
        group, self._unsynced = self._unsynced, []
        if not group:
            return []
        self._bay.tell("syncing: writing the index", detail=f"{len(group)} bundles")
        try:
            index = await volume.sync(
                f"bundles to {group[-1].copy.bundle_id}", new_files=[entry.path for entry in group]
            )
        except WORLD_FAULTS:
            self._unsynced = group
            raise
        synced: list[CopyToWrite] = []
        for entry in group:
            place = index.start_blocks[entry.path]
            try:
                await self._store.copy_synced(
                    bundle_id=entry.copy.bundle_id,
                    pool=entry.copy.pool,
                    epoch=self._epoch,
                    partition=place.partition,
                    start_block=place.block,
                    size_bytes=entry.size_bytes,
                    sha256=entry.sha256,
                    at=self._clock.seconds(),
                )
            except Conflict as conflict:
                await self._alarm(
                    "copies-differ", f"bundle {entry.copy.bundle_id}", Severity.CRITICAL, str(conflict)
                )
                await self._store.copy_failed(
                    bundle_id=entry.copy.bundle_id, pool=entry.copy.pool, reason=str(conflict)
                )
                continue
            synced.append(entry.copy)
        await self._note_written(volume.barcode, sum(entry.size_bytes for entry in group))
        return synced

    async def _verify(self, volume: IMountedVolume, bundle_id: str, pool: str) -> None:
        bundle = await self._store.bundle(bundle_id)
        assert bundle is not None, bundle_id
        self._bay.tell("verifying", detail=bundle_id, total_bytes=bundle.size_bytes)
        with as_trouble(f"reading {bundle_id} back from {volume.barcode} in drive {self._bay.index}"):
            try:
                compared = await volume.mover.verify(
                    path=paths.bundle_path(bundle_id),
                    size_bytes=bundle.size_bytes,
                    sha256=bundle.sha256,
                    on_progress=self._bay.progress,
                )
                is_identical = compared.is_identical
            except NoSuchFileOnVolume:
                is_identical = False
        if not is_identical:
            reason = f"{volume.barcode} does not give back what was written to it"
            await self._store.copy_failed(bundle_id=bundle_id, pool=pool, reason=reason)
            await self._alarm(
                "verification-failed",
                f"bundle {bundle_id}",
                Severity.CRITICAL,
                f"bundle {bundle_id}: {reason}; it is written anew",
            )
            # What lies there under its name is removed like any stump by the next session on the cartridge.
            raise TapeTrouble(f"bundle {bundle_id}: {reason}")
        await self._count_as_verified(volume, bundle_id, pool)

    async def _count_as_verified(self, volume: IMountedVolume, bundle_id: str, pool: str) -> None:
        done = await self._store.copy_verified(
            bundle_id=bundle_id, pool=pool, epoch=self._epoch, at=self._clock.seconds()
        )
        self.log.info(
            "bundle {bundle} verified on {barcode}; it is {state}",
            bundle=bundle_id,
            barcode=volume.barcode,
            state=done.state.value,
        )
        if done.state is BundleState.ARCHIVED:
            self._contents.forget(bundle_id)
            self._on_archived()

    async def _resume(self, volume: IMountedVolume, pending: CopyToVerify) -> None:
        """Verify what an earlier session wrote and synced and did not come to verify."""
        try:
            copy = await self._store.resume_copy(
                bundle_id=pending.bundle_id, pool=pending.pool, epoch=self._epoch
            )
        except Conflict:
            return
        if copy.state is CopyState.SYNCED and copy.barcode == volume.barcode:
            await self._verify(volume, pending.bundle_id, pending.pool)

    async def _end_of_tape(self, volume: IMountedVolume, copy: CopyToWrite) -> None:
        """Not an error: the bundle is void here and will be written whole on the next cartridge."""
        await self._store.copy_failed(bundle_id=copy.bundle_id, pool=copy.pool, reason="end of tape")
        await volume.mover.unlink(path=paths.bundle_path(copy.bundle_id))
        record = await self._store.cartridge(volume.barcode)
        if record is not None and record.state is CartridgeState.FILLING:
            await change_cartridge(
                self._store,
                volume.barcode,
                at=self._clock.seconds(),
                by=APPLIANCE,
                reason="end of tape",
                event=CartridgeEvent.FILL_UP,
            )
        self.log.info("{barcode} is full", barcode=volume.barcode)

    async def _void_unsynced(self, reason: str) -> None:
        for entry in self._unsynced:
            await self._store.copy_failed(bundle_id=entry.copy.bundle_id, pool=entry.copy.pool, reason=reason)
        self._unsynced = []

    async def _damaged(self, copy: CopyToWrite, damage: Exception, put_off: Callable[[str], None]) -> None:
        put_off(copy.bundle_id)
        await self._renewals.spoiled(copy.bundle_id)
        await self._store.copy_failed(bundle_id=copy.bundle_id, pool=copy.pool, reason=str(damage))
        await self._alarm(
            "staged-bytes-damaged",
            f"bundle {copy.bundle_id}",
            Severity.CRITICAL,
            f"bundle {copy.bundle_id} cannot be written, for its bytes on disk are gone or do not match their checksum: {damage}",
        )

    async def _alarm(self, kind: str, subject: str, severity: Severity, sentence: str) -> None:
        await self._store.raise_alert(
            kind=kind, subject=subject, severity=severity, sentence=sentence, at=self._clock.seconds()
        )

    async def _note_written(self, barcode: str, size_bytes: int) -> None:
        await change_cartridge(
            self._store,
            barcode,
            at=self._clock.seconds(),
            by=APPLIANCE,
            reason="",
            change=lambda known: replace(known, written_bytes=known.written_bytes + size_bytes),
        )
