"""
A whole appliance in memory for tests of the loops: real store, simulated disk, library and tapes, and a clock that jumps from event
to event. A ``World`` is what survives a crash; a ``Run`` is one run of the appliance on it.
"""

import hashlib
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from functools import partial
from random import Random
from typing import Any, cast

from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock

from coldstore.interfaces.metadata import IMetadataStore
from coldstore.interfaces.reservation import IReservation
from coldstore.interfaces.staging import RecallSlot
from coldstore.metadata.sqlite.store import SqliteStore
from coldstore.model.cartridges import CartridgeState, DriveState
from coldstore.model.errors import MetadataFull, MetadataUnavailable
from coldstore.model.hosts import Host
from coldstore.model.objects import (
    ArchiveState,
    ObjectVersion,
    Piece,
    Restore,
    RestorePhase,
    StorageClass,
    Tier,
    VersionFacts,
)
from coldstore.plan.archive import ArchivePolicy
from coldstore.plan.blame import ApartPolicy
from coldstore.plan.classes import ClassRule
from coldstore.plan.evict import EvictPolicy, Preference
from coldstore.plan.jobs import MountPolicy, TierPolicy
from coldstore.plan.verify import VerifyMode
from coldstore.testing.filesystem import SimulatedTapeFilesystem, SimulatedTapes
from coldstore.testing.library import SimulatedLibrary
from coldstore.testing.process import SimulatedDeviceLocks
from coldstore.testing.staging import SimulatedStaging
from coldstore.testing.tenure import SimulatedTenure
from coldstore.util.loops import Loop
from coldstore.work.activity import ActivityBoard
from coldstore.work.bay import Bay, BayLimits
from coldstore.work.bells import ReactorBell
from coldstore.work.compactor import Compactor
from coldstore.work.completing import Completer
from coldstore.work.contents import Contents
from coldstore.work.dispatcher import BlamePolicy, Dispatcher
from coldstore.work.drives import record_drives
from coldstore.work.evictor import Evictor
from coldstore.work.expirer import Expirer
from coldstore.work.inventory import InventoryKeeper
from coldstore.work.janitor import Janitor
from coldstore.work.leftovers import Leftovers
from coldstore.work.packer import Packer
from coldstore.work.reading import RecallSession
from coldstore.work.recovery import Recovery
from coldstore.work.renewing import Renewals
from coldstore.work.restorer import Restorer
from coldstore.work.sessions import SessionWriter
from coldstore.work.sweeper import Sweeper
from coldstore.work.writing import ArchiveSession, SyncPolicy

MIB = 1 << 20
POOLS = ("main", "vault")
RULES = {
    StorageClass.STANDARD: ClassRule(pools=POOLS, keep_on_disk=True, needs_restore=False),
    StorageClass.GLACIER: ClassRule(pools=POOLS, keep_on_disk=False, needs_restore=True),
}
BUCKET = "bucket"
GRAVES: list[object] = []
"""Runs that crashed: their coroutines must stay suspended for ever, as a killed process never runs on."""
TIER = TierPolicy(hold_seconds=0, enough_bytes=1, enough_items=1, limit_seconds=3600)


def now_of(deferred: "Deferred[Any]") -> Any:
    """Return the result of a Deferred that has fired."""
    found: list[Any] = []
    failed: list[Any] = []
    deferred.addCallbacks(found.append, failed.append)
    if failed:
        failed[0].raiseException()
    assert found, "it has not fired"
    return found[0]


HOST = Host(name="here", machine_id="m1")


class WorldClock:
    """The clock of the run that is on; what belongs to the world keeps this one over a crash."""

    def __init__(self) -> None:
        self.current = Clock()
        self.current.advance(1_000_000.0)

    def seconds(self) -> float:
        """Return the time."""
        return float(self.current.seconds())

    def callLater(self, delay: float, call: Callable[..., object], *args: Any, **kwargs: Any) -> Any:
        """Schedule in the run that is on."""
        return self.current.callLater(delay, call, *args, **kwargs)

    def getDelayedCalls(self) -> Any:
        """Return what is scheduled."""
        return self.current.getDelayedCalls()

    def crash(self) -> None:
        """Forget everything scheduled."""
        seconds = self.seconds()
        self.current = Clock()
        self.current.advance(seconds)


class MortalStore:
    """A store whose run is over at a given step: that step takes effect or not, and no later one is ever answered."""

    def __init__(self, store: IMetadataStore, *, dies_at: int | None, takes_effect: bool = False) -> None:
        self._store = store
        self._dies_at = dies_at
        self._takes_effect = takes_effect
        self.steps = 0
        self.is_dead = False

    def dies_at(self, step: int) -> None:
        """Die at a step that is still to come."""
        self._dies_at = step

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._store, name)
        if not callable(value):
            return value

        def step(*args: Any, **kwargs: Any) -> Any:
            if self.is_dead:
                return Deferred()
            self.steps += 1
            if self.steps != self._dies_at:
                return value(*args, **kwargs)
            self.is_dead = True
            if self._takes_effect:
                value(*args, **kwargs).addErrback(lambda _: None)
            return Deferred()

        return step


class FailingStore:
    """A store of which one step cannot be reached: it takes effect or not, and its caller is told that it failed."""

    def __init__(self, store: IMetadataStore, *, fails_at: int | None, takes_effect: bool = False) -> None:
        self._store = store
        self._fails_at = fails_at
        self._takes_effect = takes_effect
        self.steps = 0
        self._fails_first = ""
        self.failed = ""
        """The step that failed."""

    def fail_first(self, name: str) -> None:
        """Fail the first step of this name."""
        self._fails_first = name

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._store, name)
        if not callable(value):
            return value

        def step(*args: Any, **kwargs: Any) -> Any:
            self.steps += 1
            if self.steps != self._fails_at and name != self._fails_first:
                return value(*args, **kwargs)
            self.failed, self._fails_first = name, ""
            if self._takes_effect:
                value(*args, **kwargs).addErrback(lambda _: None)
            return fail(MetadataUnavailable(f"{name} was made to fail"))

        return step


class FullStore:
    """A store whose file system runs full at a given step: from then on nothing is recorded, until there is room again."""

    CHANGING = (
        "add_", "claim_", "clear_", "complete_", "copy_failed", "copy_synced", "copy_verified", "delete_", "evict_",
        "fix_", "forget_", "freeze_", "lose_", "mark_", "move_", "open_bundle", "raise_", "record_", "release_",
        "resume_", "set_", "settle_", "start_copy", "change_", "message_", "note_",
    )  # fmt: skip

    def __init__(self, store: IMetadataStore, *, full_from: int) -> None:
        self._store = store
        self._full_from = full_from
        self.has_room = True
        self.steps = 0
        self.refused = 0

    def relieve(self) -> None:
        """Have room again, for good."""
        self._full_from = 0
        self.has_room = True

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._store, name)
        if not callable(value) or not name.startswith(self.CHANGING):
            return value

        def step(*args: Any, **kwargs: Any) -> Any:
            self.steps += 1
            if 0 < self._full_from <= self.steps:
                self.has_room = False
            if self.has_room:
                return value(*args, **kwargs)
            self.refused += 1
            return fail(MetadataFull(f"{name} finds no room"))

        return step


class World:
    """What survives a crash: metadata, disk, cartridges, and what the library holds."""

    def __init__(
        self,
        *,
        drives: int = 2,
        cartridges: int = 4,
        capacity_bytes: int = 256 * MIB,
        disk_bytes: int = 1 << 40,
        move_seconds: float = 0.0,
        offline_seconds: float = 0.0,
        random: Random | None = None,
    ) -> None:
        self.clock = cast(Any, WorldClock())
        self.random = random or Random(1)
        self.store = SqliteStore(":memory:")
        now_of(self.store.open())
        now_of(
            self.store.create_bucket(
                name=BUCKET, owner_id="o", region="us-east-1", created_at=1.0, default_class=None
            )
        )
        self.capacity_bytes = capacity_bytes
        self.staging = SimulatedStaging(capacity_bytes=disk_bytes)
        now_of(self.staging.start())
        self.library = SimulatedLibrary(
            self.clock,
            drives=drives,
            cartridges={number: f"A0000{number}L8" for number in range(1, cartridges + 1)},
            move_seconds=move_seconds,
            offline_seconds=offline_seconds,
        )
        uuids = iter(range(1, 1000))
        self.tapes = SimulatedTapes(
            new_uuid=lambda: f"00000000-0000-4000-8000-{next(uuids):012d}", capacity_bytes=capacity_bytes
        )
        self.contents: dict[int, bytes] = {}
        GRAVES.append(self.clock)

    # What S3 clients do.

    def put(
        self, key: str, size_bytes: int, *, storage_class: StorageClass = StorageClass.GLACIER
    ) -> ObjectVersion:
        """Have an object arrive."""
        content = Random(f"{key}/{len(self.contents)}").randbytes(size_bytes)
        pieces = []
        crc64nvme = 0
        if content:
            incoming = self.staging.receive(size_bytes=size_bytes, algorithms=frozenset({"md5"}))
            incoming.write(content)
            received = now_of(incoming.finish())
            crc64nvme = received.crc64nvme
            pieces = [
                Piece(ordinal=1, address=received.address, length_bytes=size_bytes, crc64nvme=crc64nvme)
            ]
        version: ObjectVersion = now_of(
            self.store.publish_version(
                VersionFacts(
                    bucket=BUCKET,
                    key=key.encode(),
                    version_id=f"v{len(self.contents)}",
                    size_bytes=size_bytes,
                    etag=hashlib.md5(content).hexdigest(),
                    storage_class=storage_class,
                    headers=(),
                    user_metadata=(),
                    checksum=None,
                    crc64nvme=crc64nvme,
                    part_sizes="",
                    created_at=self.clock.seconds(),
                    owner_id="o",
                ),
                layout_id=f"layout-{len(self.contents)}",
                pieces=pieces,
                wants_tape=True,
                condition=None,
                messages=[],
            )
        )
        self.contents[version.version_uid] = content
        return version

    def delete(self, key: str) -> None:
        """Delete what is under a key."""
        now_of(self.store.delete_current(BUCKET, [key.encode()], at=self.clock.seconds(), messages={}))

    def ask_back(self, version: ObjectVersion, tier: Tier = Tier.EXPEDITED) -> None:
        """Ask for a restore."""
        known = self.version(version)
        now_of(
            self.store.change_restore(
                known.version_uid,
                revision=known.revision,
                restore=Restore(
                    phase=RestorePhase.ONGOING,
                    tier=tier,
                    days=1,
                    requested_at=self.clock.seconds(),
                    requested_by="o",
                ),
                messages=[],
            )
        )

    def version(self, version: ObjectVersion) -> ObjectVersion:
        """Return a version as it is recorded now."""
        found: ObjectVersion = now_of(self.store.version(version.version_uid))
        return found

    def read(self, version: ObjectVersion) -> bytes:
        """Read a version's bytes from the disk, checked."""
        content = b""
        for piece in now_of(self.store.pieces(self.version(version).layout_id, after_ordinal=0, limit=1000)):
            reader = now_of(self.staging.open(piece))
            for start in range(0, piece.length_bytes, 4 * MIB):
                content += now_of(reader.read(start, min(4 * MIB, piece.length_bytes - start)))
            reader.close()
        return content

    # What a test asks.

    def is_archived(self, *versions: ObjectVersion) -> bool:
        """Whether these are on every tape."""
        return all(self.version(each).archive_state is ArchiveState.ARCHIVED for each in versions)

    def is_cold(self, *versions: ObjectVersion) -> bool:
        """Whether these are on every tape and not on disk."""
        return self.is_archived(*versions) and not any(self.version(each).on_disk for each in versions)

    def is_restored(self, *versions: ObjectVersion) -> bool:
        """Whether the restores of these are complete."""
        return all(
            (restore := self.version(each).restore) is not None and restore.phase is RestorePhase.RESTORED
            for each in versions
        )

    def alerts(self) -> dict[str, str]:
        """Return kinds and subjects of open alerts."""
        found = now_of(self.store.alerts(include_cleared=False, limit=100))
        return {alert.kind: alert.subject for alert in found}

    def states(self) -> dict[str, CartridgeState]:
        """Return the states of cartridges that were used."""
        return {
            record.barcode: record.state
            for record in now_of(self.store.cartridges())
            if record.state is not CartridgeState.SCRATCH
        }

    def drive_states(self) -> list[DriveState]:
        """Return the states of drives."""
        return [drive.state for drive in now_of(self.store.drives())]

    def copies(self, version: ObjectVersion) -> list[Any]:
        """Return the copies of a version's bundles."""
        found: list[Any] = now_of(self.store.copies(version_uid=version.version_uid))
        return found

    def where(self, version: ObjectVersion) -> set[str]:
        """Return the cartridges with verified copies of a version."""
        return {copy.barcode for copy in self.copies(version) if copy.state.value == "verified"}

    def lists(self, barcode: str) -> set[str]:
        """Return the bundles that the last index on a cartridge lists."""
        files = self.tapes.medium(barcode).tree.files
        return {path.rpartition("/")[2].removesuffix(".tar") for path in files if "/bundles/" in path}

    def check(self) -> None:
        """
        Check what always holds.

        :raise AssertionError: it does not
        """
        for record in now_of(self.store.cartridges()):
            listed = self.lists(record.barcode)
            held: list[str] = []
            for copy in now_of(self.store.copies(barcode=record.barcode)):
                if copy.state.value in ("synced", "verified"):
                    assert copy.bundle_id in listed, f"{copy.bundle_id} is not on {record.barcode}"
                held.append(copy.bundle_id)
            assert len(held) == len(set(held)), f"two copies of one bundle are on {record.barcode}"

    def check_disk(self) -> None:
        """
        Check that the disk holds what the record refers to, and nothing else.

        :raise AssertionError: it does not
        """
        addresses = sorted(self.staging.medium.pieces)
        known = now_of(self.store.referenced(addresses)) if addresses else frozenset()
        assert set(addresses) == set(known), "there are bytes on disk that nothing refers to"
        assert not now_of(self.store.discards(100)), "there are bytes that should have been freed"
        assert self.staging.usage().reserved_bytes == 0, "space is promised to nobody"

    def bury(self, run: "Run") -> None:
        """End the world: what is large is given back."""
        GRAVES.append(run)
        self.clock.crash()
        self.contents.clear()
        self.staging.medium.pieces.clear()
        self.tapes.media.clear()

    def crash(self, run: "Run") -> None:
        """End a run as kill -9 does."""
        GRAVES.append(run)
        self.clock.crash()
        self.staging.crash(self.random)
        self.staging = self.staging.restarted()


class Run:
    """One run of the appliance: all loops on the world's clock."""

    def __init__(
        self,
        world: World,
        *,
        store: Any = None,
        seconds: dict[str, float] | None = None,
        bytes_per_second: float = 10 * MIB,
        hold_seconds: float = 3600.0,
        idle_unload_seconds: float = 60.0,
        attempts_max: int = 6,
        sync_bytes: int = 64 * MIB,
        bundle_bytes: int = 16 * MIB,
        verify: VerifyMode = VerifyMode.READ_BACK,
        portion_items: int = 10,
        linger_seconds: float = 0.0,
        cartridge_share: float = 1.0,
        members_max: int = 100,
        another_drive_bytes: int = 1 << 40,
        trigger_age: float = 30.0,
        without: Collection[str] = (),
        host: Host = HOST,
        reservations: Mapping[int, IReservation] | None = None,
        changer: IReservation | None = None,
    ) -> None:
        """
        :param without: names of loops that do not run
        :param host: the machine; ``reservations`` (by drive) and ``changer`` keep others out
        """
        self.world = world
        self._without = without
        self.clock: Any = world.clock
        self.store: Any = store or world.store
        random = Random(world.random.getrandbits(64))
        now_of(world.staging.start())
        epoch = now_of(world.store.take_epoch(at=self.clock.seconds(), host=host.text)).number
        locks = SimulatedDeviceLocks(self.clock)
        sessions = SessionWriter(store=self.store, clock=self.clock, random=random)
        self.filesystems = {
            drive.number: SimulatedTapeFilesystem(
                tapes=world.tapes,
                drive=drive.number,
                clock=self.clock,
                loaded=partial(getattr, drive, "barcode"),
                seconds=seconds or {"format": 5, "mount": 2, "unmount": 2, "sync": 1},
                bytes_per_second=bytes_per_second,
                read_disk=world.staging.content,
                write_disk=self._write_disk,
            )
            for drive in world.library.drives
        }
        self.locks = locks
        board = self.board = ActivityBoard()
        self.bays = {
            drive.number: Bay(
                index=drive.number,
                lock=locks.drive(drive.number),
                library=world.library,
                drive=drive,
                filesystem=self.filesystems[drive.number],
                store=self.store,
                clock=self.clock,
                random=random,
                board=board,
                limits=BayLimits(ready_seconds=60, first_ready_seconds=600),
                before_unmount=sessions.before_unmount,
                after_unmount=sessions.after_unmount,
                reservation=(reservations or {}).get(drive.number),
            )
            for drive in world.library.drives
        }
        self.keeper = InventoryKeeper(
            library=world.library,
            store=self.store,
            clock=self.clock,
            capacity_of=lambda _: world.capacity_bytes,
            admitted_by=lambda _: "the test",
        )
        self.bells = {
            name: ReactorBell(self.clock)
            for name in (
                "packer",
                "dispatcher",
                "restorer",
                "expirer",
                "evictor",
                "janitor",
                "compactor",
                "leftovers",
                "sweeper",
                "deliverer",
            )
        }
        self.leftovers = Leftovers(
            store=self.store,
            clock=self.clock,
            bell=self.bells["leftovers"],
            janitor_bell=self.bells["janitor"],
        )
        completer = Completer(
            store=self.store,
            clock=self.clock,
            region="us-east-1",
            day_seconds=86_400.0,
            messages_bell=self.bells["deliverer"],
        )
        sync = SyncPolicy(sync_bytes=sync_bytes, sync_seconds=600, verify=dict.fromkeys(POOLS, verify))
        self.evictor = Evictor(
            store=self.store,
            staging=world.staging,
            clock=self.clock,
            rules=RULES,
            policy=EvictPolicy(
                linger_seconds=linger_seconds, high_fraction=0.85, low_fraction=0.7, preference=Preference.LRU
            ),
            rest_seconds=30,
            janitor_bell=self.bells["janitor"],
        )
        mounts = MountPolicy(
            tiers=dict.fromkeys(Tier, TIER),
            archive_share=0.5,
            idle_unload_seconds=idle_unload_seconds,
            another_drive_bytes=another_drive_bytes,
            another_drive_fraction=1.0,
            max_hold_seconds=hold_seconds,
            reserve_fraction=0.05,
            reserve_bytes=MIB,
            session_bytes_max=1 << 40,
        )
        contents = self.contents = Contents(store=self.store, staging=world.staging)
        renewals = self.renewals = Renewals(
            store=self.store,
            staging=world.staging,
            clock=self.clock,
            policy=mounts,
            attempts_max=attempts_max,
            on_held=self.bells["dispatcher"].ring,
        )
        self.dispatcher = Dispatcher(
            bays=self.bays,
            store=self.store,
            clock=self.clock,
            keeper=self.keeper,
            policy=mounts,
            blame=BlamePolicy(
                window_seconds=86_400,
                apart=ApartPolicy(apart_seconds=3600, alone_seconds=60),
                attempts_max=attempts_max,
            ),
            region="us-east-1",
            bell=self.bells["dispatcher"],
            messages_bell=self.bells["deliverer"],
            archive_session=lambda bay: ArchiveSession(
                bay=bay,
                store=self.store,
                contents=contents,
                clock=self.clock,
                epoch=epoch,
                policy=sync,
                on_archived=self.bells["janitor"].ring,
                renewals=renewals,
            ),
            recall_session=lambda bay, on_bad_source: RecallSession(
                bay=bay,
                store=self.store,
                staging=world.staging,
                clock=self.clock,
                completer=completer,
                new_layout_id=lambda: f"{random.getrandbits(128):032x}",
                on_bad_source=on_bad_source,
                doubtful=self.leftovers.note,
                portion_items=portion_items,
                renewals=renewals,
            ),
            renewals=renewals,
            contents=contents,
            make_room=self._make_room,
            on_idle=self.bells["packer"].ring,
            host=host,
            changer=changer,
        )
        self.packer = Packer(
            store=self.store,
            staging=world.staging,
            contents=contents,
            clock=self.clock,
            random=random,
            rules=RULES,
            policy=ArchivePolicy(
                bundle_bytes=bundle_bytes,
                cartridge_share=cartridge_share,
                bundle_members_max=members_max,
                trigger_bytes=1 << 40,
                trigger_objects=1000,
                trigger_age=trigger_age,
                idle_age=10,
            ),
            epoch=epoch,
            is_drive_idle=self.dispatcher.is_any_drive_idle,
            is_disk_pressing=lambda: self.evictor.pressure() > 0,
            drives_bell=self.bells["dispatcher"],
        )
        self._rounds = {
            "packer": self.packer.one_round,
            "dispatcher": self.dispatcher.one_round,
            "restorer": Restorer(store=self.store, completer=completer).one_round,
            "expirer": Expirer(
                store=self.store,
                clock=self.clock,
                region="us-east-1",
                rest_seconds=60,
                evictor_bell=self.bells["evictor"],
                messages_bell=self.bells["deliverer"],
            ).one_round,
            "evictor": self.evictor.one_round,
            "janitor": Janitor(
                store=self.store,
                staging=world.staging,
                tenure=SimulatedTenure(),
                clock=self.clock,
                on_settled=self.bells["evictor"].ring,
            ).one_round,
            "compactor": Compactor(
                store=self.store, staging=world.staging, clock=self.clock, leftovers=self.leftovers
            ).one_round,
            "leftovers": self.leftovers.one_round,
            "sweeper": Sweeper(
                store=self.store,
                staging=world.staging,
                janitor_bell=self.bells["janitor"],
                is_spared=self.leftovers.holds,
            ).one_round,
        }
        self._recovery = Recovery(store=self.store, packer=self.packer, epoch=epoch)
        self.loops: list[Loop] = []

    def _make_room(self) -> None:
        self.evictor.make_room()
        self.bells["evictor"].ring()

    def _write_disk(self, path: str, offset_bytes: int, content: bytes) -> None:
        try:
            self.world.staging.fill(
                RecallSlot(path=path, offset_bytes=offset_bytes, length_bytes=len(content)), content
            )
        except ValueError:
            # A range that ended early: what is at its destination is worthless.
            return

    def before(self, operation: str, act: Callable[[int], None]) -> None:
        """Have something done before each such operation of any drive; ``act`` is told the drive and may raise."""
        for drive, filesystem in self.filesystems.items():
            filesystem.take_time = partial(  # type: ignore[method-assign]
                self._act_first, filesystem.take_time, operation, partial(act, drive)
            )

    async def _act_first(
        self,
        original: Callable[[str, int], Coroutine[Any, Any, None]],
        awaited: str,
        act: Callable[[], None],
        operation: str,
        size_bytes: int,
    ) -> None:
        await original(operation, size_bytes)
        if operation == awaited:
            act()

    def wear_out(self, barcode: str, fault: Exception) -> None:
        """Have every sync of this cartridge fail, whichever drive it is in."""

        def fail_if_there(drive: int) -> None:
            if self.world.library.drives[drive].barcode == barcode:
                raise fault

        self.before("sync", fail_if_there)

    def start(self) -> "Run":
        """Recover, and start all loops; without its record it starts none."""
        starting = Deferred.fromCoroutine(self._start())
        starting.addErrback(lambda failure: failure.trap(MetadataUnavailable) and None)
        return self

    async def _start(self) -> None:
        await record_drives(self.store, self.clock, {index: f"serial{index}" for index in self.bays})
        await self._recovery.run()
        for name, one_round in self._rounds.items():
            if name in self._without:
                continue
            loop = Loop(name, one_round, self.bells[name])
            loop.startService()
            self.loops.append(loop)

    def stop(self) -> None:
        """End in good order."""
        for loop in self.loops:
            loop.stopService()
        now_of(Deferred.fromCoroutine(self.dispatcher.stop()))

    def step(self) -> bool:
        """Let the next event happen; tell whether there was one."""
        calls: Sequence[Any] = self.clock.getDelayedCalls()
        if not calls:
            return False
        at = min(call.getTime() for call in calls)
        self.clock.current.advance(max(0.0, at - self.clock.seconds()))
        return True

    def until(
        self, claim: Callable[[], bool], *, seconds: float = 3000.0, steps: int = 20_000, hurry: bool = True
    ) -> None:
        """
        Let events happen until the claim holds.

        :raise AssertionError: it does not within the time, or too much happens in it
        """
        if hurry:
            self.packer.hurry()
            for bell in self.bells.values():
                bell.ring()
        end = self.clock.seconds() + seconds
        for _ in range(steps):
            if claim():
                return
            if self.clock.seconds() > end or not self.step():
                break
        else:
            raise AssertionError(f"more than {steps} events by {self.clock.seconds()}")
        raise AssertionError(
            f"not within {seconds:.0f} s; alerts: {now_of(self.world.store.alerts(include_cleared=True, limit=10))}"
        )

    def let_pass(self, seconds: float, *, steps: int = 20_000) -> int:
        """Let a time go by; return how many events there were, of which there must be fewer than ``steps``."""
        end = self.clock.seconds() + seconds
        for count in range(steps):
            calls = self.clock.getDelayedCalls()
            if not calls or min(call.getTime() for call in calls) > end:
                self.clock.current.advance(max(0.0, end - self.clock.seconds()))
                return count
            self.step()
        raise AssertionError(f"more than {steps} events in {seconds:.0f} s")
