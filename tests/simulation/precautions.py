"""
Precautions of the appliance that can be removed, one at a time, to see whether the simulation finds out.

Each is something that a developer might leave out one day and that no ordinary test would miss: a sync, an order of two steps, a
comparison. ``removed`` takes it away for as long as its context lasts; ``rates`` are the troubles in which it is missed.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from twisted.internet.defer import Deferred, succeed

from coldstore.appliance import tenure
from coldstore.appliance.tenure import Tenure
from coldstore.disk.incoming import LargeIncoming, SmallIncoming
from coldstore.disk.reading import PieceReader
from coldstore.disk.staging import DiskStaging
from coldstore.interfaces.filesystem import StartBlock, SyncedIndex
from coldstore.interfaces.mover import RangeState
from coldstore.metadata.sql import copies, protection, restores, standing, users
from coldstore.metadata.sql.database import Database
from coldstore.model.bundles import Bundle
from coldstore.s3.integrity import IntegrityPlan
from coldstore.testing.filesystem import SimulatedMover, SimulatedVolume
from coldstore.util.checksums import crc64nvme
from coldstore.util.loops import Loop
from coldstore.work import dispatcher, writing
from coldstore.work.bay import Bay
from coldstore.work.completing import Completer
from coldstore.work.deliverer import Deliverer
from coldstore.work.inventory import InventoryKeeper
from coldstore.work.packer import Packer
from coldstore.work.queues import RecallQueue
from tests.simulation import database
from tests.simulation.chance import TAKEOVER
from tests.simulation.disk import SimulatedFileSystem
from tests.simulation.invariants import UNLOCKED
from tests.simulation.library import COMMANDED, LifeLock
from tests.simulation.restores import NOT_DONE, NOT_TOLD


@dataclass(frozen=True, slots=True, kw_only=True)
class Precaution:
    """
    :ivar rates: of the faults in which its lack shows; all others are off
    :ivar seeds: within so many its lack must be found
    :ivar found_by: words of the complaint that must be among those
    """

    what: str
    removed: Callable[[], AbstractContextManager[Any]]
    rates: Mapping[str, float] = field(default_factory=dict)
    seeds: int = 4
    settings: str = ""
    found_by: str = ""


def _skips(method: str, concerns: Callable[[str], bool]) -> Callable[[], AbstractContextManager[Any]]:
    """Have a call of the file system do nothing for some paths."""
    inner: Any = getattr(SimulatedFileSystem, method)

    def skipping(self: Any, thing: Any) -> None:
        path = thing if isinstance(thing, Path) else self._open[thing].path
        if not concerns(str(path)):
            inner(self, thing)

    return lambda: patch.object(SimulatedFileSystem, method, skipping)


def _is_segment(path: str) -> bool:
    return "/containers/s-" in path and "." not in path.rpartition("/")[2]


def _nothing(*_args: object, **_kwargs: object) -> None:
    return None


async def _nothing_later(*_args: object, **_kwargs: object) -> None:
    return None


def _archived_by_one() -> AbstractContextManager[Any]:
    inner = copies.verified

    async def verified(db: Database, *, bundle_id: str, pool: str, epoch: int, at: float) -> Bundle:
        bundle = await inner(db, bundle_id=bundle_id, pool=pool, epoch=epoch, at=at)
        await db.do("UPDATE bundles SET state = 'archived' WHERE bundle_id = ?", (bundle_id,))
        return bundle

    return patch.object(copies, "verified", verified)


def _all_alike() -> AbstractContextManager[Any]:
    inner: Any = SimulatedMover.verify

    def verify(self: Any, **asked: Any) -> Any:
        return inner(self, **asked).addCallback(lambda compared: replace(compared, is_identical=True))

    return patch.object(SimulatedMover, "verify", verify)


def _says_synced() -> AbstractContextManager[Any]:
    def sync(self: Any, _message: str, *, new_files: Any = ()) -> Deferred[SyncedIndex]:
        block = StartBlock(partition="b", block=1)
        self.generation += 1
        return succeed(
            SyncedIndex(
                generation=self.generation, location=block, start_blocks=dict.fromkeys(new_files, block)
            )
        )

    return patch.object(SimulatedVolume, "sync", sync)


def _reads_unchecked() -> AbstractContextManager[Any]:
    def checked(self: Any, block: int) -> bytes:
        length = min(4 << 20, self.length_bytes - block * (4 << 20))
        return bytes(self._exactly(block * (4 << 20), length)) if length <= 64 * 1024 else b""

    return patch.object(PieceReader, "_checked", checked)


def _recalls_unchecked() -> AbstractContextManager[Any]:
    inner: Any = SimulatedMover._read_range

    def read_range(self: Any, ordinal: int, each: Any, content: bytes, block_bytes: int) -> Any:
        found = inner(self, ordinal, each, content, block_bytes)
        chunk = content[each.offset_bytes : each.offset_bytes + each.length_bytes]
        crcs = tuple(crc64nvme(chunk[at : at + block_bytes]) for at in range(0, len(chunk), block_bytes))
        return type(found)(ordinal=ordinal, state=RangeState.DELIVERED, block_crcs=crcs, detail="")

    return patch.object(SimulatedMover, "_read_range", read_range)


def _lock_at_once() -> AbstractContextManager[Any]:
    def acquire(self: Any, *, timeout_seconds: float) -> Deferred[None]:
        self.is_held = True
        return succeed(None)

    return patch.object(LifeLock, "acquire", acquire)


def _admits_everything() -> AbstractContextManager[Any]:
    inner: Any = InventoryKeeper.__init__

    def admitting(self: Any, **parts: Any) -> None:
        inner(self, **{**parts, "admitted_by": lambda _barcode: "nobody"})

    return patch.object(InventoryKeeper, "__init__", admitting)


def _marks_first() -> AbstractContextManager[Any]:
    async def one_round(self: Any) -> float:
        for message in await self._store.due_messages(now=self._clock.seconds(), limit=100):
            await self._store.message_delivered(message.message_id)
            self._notifier.deliver(message).addErrback(lambda _: None)
        return 15.0

    return patch.object(Deliverer, "one_round", one_round)


def _loses_messages() -> AbstractContextManager[Any]:
    return patch.object(restores, "write_messages", _nothing_later)


def _locks_nothing() -> AbstractContextManager[Any]:
    async def demand_free(_db: Database, _leaving: Any, **_: Any) -> list[Any]:
        return []

    return patch.object(protection, "demand_free", demand_free)


def _frees_at_once() -> AbstractContextManager[Any]:
    return patch.object(standing, "disposal", lambda *, is_claimed: "due")


def _dies_of_a_fault() -> AbstractContextManager[Any]:
    inner: Any = Loop._run

    async def run(self: Any) -> None:
        tell = self._tell

        def tell_and_stop(fault: Exception, pause: float) -> None:
            tell(fault, pause)
            self.running = 0

        self._tell = tell_and_stop
        await inner(self)

    return patch.object(Loop, "_run", run)


def _keeps_promises_of_room() -> AbstractContextManager[Any]:
    @contextmanager
    def both() -> Iterator[None]:
        with (
            patch.object(LargeIncoming, "_give_back", _nothing),
            patch.object(SmallIncoming, "_end", lambda self: self._owner.ended(self)),
        ):
            yield

    return both()


def _forgets_a_batch() -> AbstractContextManager[Any]:
    inner = dispatcher.plan_batches

    def plan(*args: Any, **facts: Any) -> Any:
        found = inner(*args, **facts)
        return replace(found, batches=found.batches[:-1])

    return patch.object(dispatcher, "plan_batches", plan)


def _tries_once() -> AbstractContextManager[Any]:
    inner: Any = RecallQueue.look

    async def look(self: Any, **facts: Any) -> Any:
        work = await inner(self, **facts)
        untried = (item for item in work.wanted if not any(source.failures for source in item.sources))
        return replace(work, wanted=tuple(untried))

    return patch.object(RecallQueue, "look", look)


def _forgets_restores() -> AbstractContextManager[Any]:
    async def complete(self: Any, version_uid: int) -> bool:
        version = await self._store.version(version_uid)
        if version is not None and version.restore is not None:
            await self._store.change_restore(
                version_uid, revision=version.revision, restore=None, messages=[]
            )
        return False

    return patch.object(Completer, "complete", complete)


def _asks_nobody() -> AbstractContextManager[Any]:
    return patch.object(Tenure, "confirm", lambda _self: succeed(None))


def _writes_on() -> AbstractContextManager[Any]:
    return patch.object(database, "begin_epoch", users.take_epoch)


OTHER = {TAKEOVER: 1.0}
POWER = {"power cut": 0.6}
KILLS = {"kill": 0.6, "kill while starting": 0.3}

PRECAUTIONS: Mapping[str, Precaution] = {
    "record synced": Precaution(
        what="records in a segment are synced before they are acknowledged",
        removed=_skips("sync", _is_segment),
        rates=POWER,
    ),
    "large file synced": Precaution(
        what="a large piece is synced before it gets its name",
        removed=_skips("sync", lambda path: "/incoming/" in path),
        rates=POWER,
        seeds=8,
    ),
    "large file's name synced": Precaution(
        what="the name of a large piece is made durable",
        removed=_skips("sync_directory", lambda path: "/files/" in path),
        rates=POWER,
        seeds=8,
    ),
    "segment's name synced": Precaution(
        what="the name of a new segment is made durable",
        removed=_skips("sync_directory", lambda path: path.endswith("/containers")),
        rates=POWER,
    ),
    "read back": Precaution(
        what="what was written to tape is read back before it counts",
        removed=lambda: patch.object(writing, "to_read_back", lambda _ids, _mode: frozenset()),
        rates={"tape bit flip": 0.2},
    ),
    "comparison believed": Precaution(
        what="what was read back from tape and is not what was written does not count",
        removed=_all_alike,
        rates={"tape bit flip": 0.2},
    ),
    "index proven": Precaution(
        what="a copy counts as synced when the index that lists it is on tape",
        removed=_says_synced,
    ),
    "all copies": Precaution(
        what="bytes leave the disk when all copies are verified, not the first",
        removed=_archived_by_one,
    ),
    "disk reads checked": Precaution(
        what="what is read from the disk is compared with its checksum",
        removed=_reads_unchecked,
        rates={"power cut": 0.6, "disk bit flip": 1.0},
        seeds=8,
    ),
    "tape reads checked": Precaution(
        what="what comes from tape is compared with its checksum",
        removed=_recalls_unchecked,
        rates={"tape rot": 0.8},
        seeds=8,
    ),
    "claims recovered": Precaution(
        what="a bundle that a dead process was filling is given up",
        removed=lambda: patch.object(Packer, "recover", _nothing_later),
        rates={**KILLS, "database lost after commit": 0.01},
        seeds=8,
    ),
    "device locked": Precaution(
        what="a device is left alone until the command of a dead process has ended",
        removed=_lock_at_once,
        rates={"kill": 1.0},
    ),
    "cartridge compared": Precaution(
        what="the cartridge that the robot brought is the one that was asked for",
        removed=lambda: patch.object(Bay, "_compare", _nothing),
        rates={"wrong cartridge": 0.3},
        seeds=8,
    ),
    "admission": Precaution(
        what="no cartridge is formatted that no operator has admitted",
        removed=_admits_everything,
    ),
    "delivered, then marked": Precaution(
        what="a message counts as delivered when its target has taken it",
        removed=_marks_first,
        rates={"webhook away": 0.5},
    ),
    "told in the same step": Precaution(
        what="the end of a restore is announced in the step that records it",
        removed=_loses_messages,
    ),
    "asked before an act": Precaution(
        what="an appliance has robot and drives do something only when it has asked whether it still is the one",
        removed=_asks_nobody,
        rates=OTHER,
        found_by=COMMANDED,
    ),
    "old answers do not count": Precaution(
        what="the answer to that counts for a moment only: whoever was stopped meanwhile asks again",
        removed=lambda: patch.object(tenure, "is_proof", lambda **_times: True),
        rates=OTHER,
        seeds=8,
        found_by=COMMANDED,
    ),
    "the record refuses": Precaution(
        what="the record takes nothing any more from an appliance that was taken over",
        removed=_writes_on,
        rates=OTHER,
        seeds=8,
        found_by=database.RECORDED,
    ),
    "no batch is lost": Precaution(
        what="each batch of a plan gets a drive some day, the last one too",
        removed=_forgets_a_batch,
        found_by=NOT_DONE,
    ),
    "recalls tried again": Precaution(
        what="a recall that failed is tried again",
        removed=_tries_once,
        rates={"tape read error": 0.3},
        found_by=NOT_DONE,
    ),
    "an end is told": Precaution(
        what="a restore does not end without a word",
        removed=_forgets_restores,
        found_by=NOT_TOLD,
    ),
    "claimed bytes stay": Precaution(
        what="the bytes of a deleted object stay as long as a bundle needs them",
        removed=_frees_at_once,
        rates={"kill": 1.0, "mount fails": 0.3},
        seeds=8,
    ),
    "what is under lock stays": Precaution(
        what="who deletes versions asks whether they are under lock",
        removed=_locks_nothing,
        found_by=UNLOCKED,
    ),
    "loops outlive faults": Precaution(
        what="a loop goes on after a round that failed",
        removed=_dies_of_a_fault,
        rates={"database away": 0.5},
    ),
    "room given back": Precaution(
        what="what a broken upload had promised itself of the disk is given back",
        removed=_keeps_promises_of_room,
        rates={"client hangs up": 0.2},
    ),
    "used room counted": Precaution(
        what="what is written to the disk is counted",
        removed=lambda: patch.object(DiskStaging, "_take_change", _nothing),
    ),
    "client's checksum compared": Precaution(
        what="an upload whose bytes have not the checksum that the client named is refused",
        removed=lambda: patch.object(IntegrityPlan, "verify", _nothing),
    ),
}
