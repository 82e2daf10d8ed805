"""
What many small objects cost at every station of their life: ``python -m tests.bench.bench_million [--full] [COUNT] [FOLDER]``.

100,000 objects of 4 KiB by default, a million with ``--full``: received and published, packed into bundles, read back as
the mover reads them, settled, evicted and freed; then as many kept ones of which nine in ten are deleted at random, and the
rest moved together. Each line says how long one took and how much memory the process has; where the account of the disk
must agree with what the file system says, it is compared to the byte. Rounds of loops with nothing due are timed at every
station: they must not depend on how much there is.
"""

import os
import resource
import shutil
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from time import perf_counter, process_time
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, ensureDeferred, gatherResults
from twisted.internet.task import deferLater, react

from coldstore.disk.staging import DiskStaging
from coldstore.interfaces.metadata import BATCH_MAX
from coldstore.metadata.sqlite.store import SqliteStore
from coldstore.model.bundles import BundleState
from coldstore.model.cartridges import Cartridge, CartridgeState
from coldstore.model.objects import Piece, StorageClass, VersionFacts
from coldstore.plan.archive import ArchivePolicy
from coldstore.plan.classes import ClassRule
from coldstore.plan.evict import EvictPolicy, Preference
from coldstore.testing.tenure import SimulatedTenure
from coldstore.util.checksums import crc64nvme
from coldstore.work.bells import ReactorBell
from coldstore.work.compactor import Compactor
from coldstore.work.content import bundle_content
from coldstore.work.contents import Contents
from coldstore.work.evictor import Evictor
from coldstore.work.janitor import Janitor
from coldstore.work.leftovers import Leftovers
from coldstore.work.packer import Packer
from coldstore.work.queues import ArchiveQueue

SIZE = 4096
LANES = 64
POOLS = ("main", "vault")
RULES = {
    StorageClass.GLACIER: ClassRule(pools=POOLS, keep_on_disk=False, needs_restore=True),
    StorageClass.STANDARD: ClassRule(pools=(), keep_on_disk=True, needs_restore=False),
}
_T = TypeVar("_T")


def resident_mib() -> float:
    """What the process has in memory now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / (1 << 20)


@contextmanager
def measured(what: str, operations: int) -> Iterator[None]:
    """Print the rate and CPU time of what happens inside, and the memory after it."""
    wall, cpu = perf_counter(), process_time()
    yield
    wall, cpu = perf_counter() - wall, process_time() - cpu
    print(
        f"{what:44} {operations / wall:9.0f} /s  {cpu / operations * 1e6:7.0f} CPU us   {resident_mib():5.0f} MiB resident",
        flush=True,
    )


async def in_lanes(jobs: Iterable[Callable[[], Awaitable[object]]], lanes: int = LANES) -> None:
    """Do jobs, so many at a time."""
    waiting = iter(jobs)

    async def lane() -> None:
        for job in waiting:
            await job()

    await gatherResults([ensureDeferred(lane()) for _ in range(lanes)])


def below(directory: Path) -> tuple[int, int]:
    """Bytes that the file system has allocated below a directory, without the note of the account, and the files there."""
    size_bytes = files = 0
    for path in directory.rglob("*"):
        if path.is_file() and path.parent != directory:
            size_bytes += path.stat().st_blocks * 512
            files += 1
    return size_bytes, files


class Life:
    """One store and one disk, and the loops on them."""

    def __init__(self, reactor: Any, folder: Path, count: int) -> None:
        self.reactor = reactor
        self.folder = folder
        self.count = count
        self.directory = folder / "staging"
        self.content = Random(1).randbytes(SIZE)
        self.crc64nvme = crc64nvme(self.content)
        self.store = SqliteStore(str(folder / "metadata.sqlite"), reactor=reactor)
        self.staging = DiskStaging(
            reactor=reactor,
            random=Random(2),
            run="1",
            directory=self.directory,
            capacity_bytes=4 * count * 2 * SIZE + (1 << 30),
            segment_bytes=64 << 20,
            quiet_seconds=0.0,
        )
        bell = ReactorBell(reactor)
        self.contents = Contents(store=self.store, staging=self.staging)
        self.packer = Packer(
            store=self.store,
            staging=self.staging,
            contents=self.contents,
            clock=reactor,
            random=Random(3),
            rules=RULES,
            policy=ArchivePolicy(
                bundle_bytes=32 << 30,
                cartridge_share=0.25,
                bundle_members_max=10_000,
                trigger_bytes=1 << 60,
                trigger_objects=1 << 60,
                trigger_age=1e9,
                idle_age=1e9,
            ),
            epoch=1,
            is_drive_idle=lambda: False,
            is_disk_pressing=lambda: False,
            drives_bell=bell,
        )
        self.queue = ArchiveQueue(store=self.store)
        self.evictor = Evictor(
            store=self.store,
            staging=self.staging,
            clock=reactor,
            rules=RULES,
            policy=EvictPolicy(
                linger_seconds=0.0, high_fraction=0.85, low_fraction=0.7, preference=Preference.LRU
            ),
            rest_seconds=60.0,
            janitor_bell=bell,
        )
        self.janitor = Janitor(
            store=self.store,
            staging=self.staging,
            tenure=SimulatedTenure(),
            clock=reactor,
            on_settled=lambda: None,
        )
        self.leftovers = Leftovers(
            store=self.store, clock=reactor, bell=bell, janitor_bell=bell, grace_seconds=0.0
        )
        self.compactor = Compactor(
            store=self.store, staging=self.staging, clock=reactor, leftovers=self.leftovers
        )

    async def put(self, key: str, storage_class: StorageClass) -> None:
        """Have an object arrive."""
        incoming = self.staging.receive(
            size_bytes=SIZE,
            algorithms=frozenset({"md5"}),
            is_kept=storage_class is StorageClass.STANDARD,
        )
        incoming.write(self.content)
        received = await incoming.finish()
        await self.store.publish_version(
            VersionFacts(
                bucket="b",
                key=key.encode(),
                version_id="null",
                size_bytes=SIZE,
                etag=received.digests["md5"].hex(),
                storage_class=storage_class,
                headers=(),
                user_metadata=(),
                checksum=None,
                crc64nvme=received.crc64nvme,
                part_sizes="",
                created_at=self.reactor.seconds(),
                owner_id="o",
            ),
            layout_id=f"layout-{key}",
            pieces=[
                Piece(ordinal=1, address=received.address, length_bytes=SIZE, crc64nvme=received.crc64nvme)
            ],
            wants_tape=storage_class is StorageClass.GLACIER,
            condition=None,
            messages=[],
        )

    async def idle(self, where: str) -> None:
        """Time a round of each loop with nothing due."""
        cartridges = {one.barcode: one for one in await self.store.cartridges()}
        rounds: dict[str, Callable[[], Awaitable[object]]] = {
            "packer": self.packer.one_round,
            "archive queue": lambda: self.queue.look(0.0, in_hand=set, cartridges=cartridges),
            "evictor": self.evictor.one_round,
            "janitor": self.janitor.one_round,
            "compactor": self.compactor.one_round,
            "backlog": self.store.backlog,
        }
        taken = []
        for name, one_round in rounds.items():
            begun = perf_counter()
            await one_round()
            taken.append(f"{name} {(perf_counter() - begun) * 1e3:.1f}")
        print(f"    a round with nothing due, {where}: {', '.join(taken)} ms", flush=True)

    async def check_account(self, where: str) -> int:
        """Compare the account with the disk; return what is there."""
        await deferLater(self.reactor, 0.2, lambda: None)
        size_bytes, files = below(self.directory)
        account = self.staging.account
        agrees = "to the byte" if account.present == size_bytes else f"NOT: {account.present}"
        usage = self.staging.usage()
        print(
            f"    {where}: {usage.used_bytes / 2**20:.1f} MiB used, {usage.reserved_bytes / 2**20:.1f} MiB allocated ahead, "
            f"in {files} files; the account agrees {agrees}",
            flush=True,
        )
        assert account.present == size_bytes, (account.present, size_bytes)
        return usage.used_bytes

    async def until_done(self, one_round: Callable[[], Awaitable[float]]) -> None:
        """Let a loop have rounds as long as it wants more."""
        while not await one_round():
            pass

    async def bundles(self, *states: BundleState) -> list[str]:
        """Return the bundles in these states."""
        found: list[str] = []
        while page := await self.store.bundles(
            states=states, settled=None, after=found[-1] if found else "", limit=1000
        ):
            found += [bundle.bundle_id for bundle in page]
        return found

    async def read_back(self, bundle_ids: list[str]) -> int:
        """Read what lies on the disk for bundles, in order, as the mover does; return its size in bytes."""
        total = 0
        for bundle_id in bundle_ids:
            bundle = await self.store.bundle(bundle_id)
            assert bundle is not None
            content = await bundle_content(self.store, self.staging, bundle)
            path, descriptor = "", -1
            for piece in content.woven.ranges():
                if piece.path != path:
                    if descriptor >= 0:
                        os.close(descriptor)
                    path, descriptor = piece.path, os.open(piece.path, os.O_RDONLY)
                found = os.pread(descriptor, piece.length_bytes, piece.offset_bytes)
                assert crc64nvme(found) == piece.crc64nvme, piece
                total += len(found)
            os.close(descriptor)
            content.close()
        return total

    async def archive(self, bundle_ids: list[str]) -> None:
        """Record what a session records when it has written and verified every copy."""
        for pool in POOLS:
            for bundle_id in bundle_ids:
                bundle = await self.store.bundle(bundle_id)
                assert bundle is not None
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

    async def live(self) -> None:
        """All stations."""
        count = self.count
        await self.store.open()
        await self.staging.start()
        await self.store.create_bucket(name="b", owner_id="o", region="r", created_at=1.0, default_class=None)
        await self.store.add_cartridges([_cartridge(pool) for pool in POOLS])
        await self.idle("of nothing")
        glacier, standard = StorageClass.GLACIER, StorageClass.STANDARD
        with measured(f"received and published, {LANES} under way", count):
            await in_lanes((lambda n=n: self.put(f"g{n:08}", glacier)) for n in range(count))
        await self.idle(f"{count} waiting")
        await self.check_account("received")
        with measured("packed into bundles", count):
            self.packer.hurry()
            await self.packer.one_round()
        bundle_ids = await self.bundles(BundleState.FROZEN)
        await self.idle(f"in {len(bundle_ids)} bundles")
        with measured("located and read back as the mover does", count):
            assert await self.read_back(bundle_ids) == count * SIZE
        await self.archive(bundle_ids)
        with measured("settled", count):
            await self.until_done(self.janitor.one_round)
        with measured("evicted", count):
            await self.until_done(self.evictor.one_round)
        with measured("freed", count):
            await self.until_done(self.janitor.one_round)
        await self.idle("all on tape")
        left = await self.check_account("evicted")
        assert left < 1 << 16, left
        with measured(f"received and published, {LANES} under way", count):
            await in_lanes((lambda n=n: self.put(f"s{n:08}", standard)) for n in range(count))
        gone = [f"s{n:08}".encode() for n in range(count)]
        Random(5).shuffle(gone)
        kept = sorted(gone[count * 9 // 10 :])
        gone = gone[: count * 9 // 10]
        with measured("deleted at random", len(gone)):
            await in_lanes(
                (
                    lambda start=start: self.store.delete_current(
                        "b", gone[start : start + BATCH_MAX], at=2.0, messages={}
                    )
                )
                for start in range(0, len(gone), BATCH_MAX)
            )
        with measured("freed", len(gone)):
            await self.until_done(self.janitor.one_round)
        await self.check_account("deleted")
        with measured("rest moved together", len(kept)):
            await self.compactor.one_round()
            await self.leftovers.one_round()
            await self.until_done(self.janitor.one_round)
        await self.idle(f"{len(kept)} kept")
        left = await self.check_account("moved together")
        assert left < 2.1 * (SIZE + 512) * len(kept) + (1 << 20), left
        with measured("rest deleted and freed", len(kept)):
            for start in range(0, len(kept), BATCH_MAX):
                await self.store.delete_current("b", kept[start : start + BATCH_MAX], at=3.0, messages={})
            await self.until_done(self.janitor.one_round)
            await self.compactor.one_round()
        left = await self.check_account("empty")
        assert left == 0, left
        assert await self.store.staging_use(owner_id="o") == []
        size_bytes = (self.folder / "metadata.sqlite").stat().st_size
        print(
            f"    the metadata file has {size_bytes / 2**20:.0f} MiB, {size_bytes / count:.0f} bytes per object"
        )
        await self.staging.stop()
        await self.store.close()


def _cartridge(barcode: str) -> Cartridge:
    return Cartridge(
        barcode=barcode,
        state=CartridgeState.SCRATCH,
        pool="",
        volume_uuid="",
        home_slot=1,
        is_present=True,
        capacity_bytes=18 * 10**12,
        free_bytes=18 * 10**12,
        written_bytes=0,
        loads=0,
        failures=0,
        needs_check=False,
        format_nonce="",
        admitted_at=1.0,
        admitted_by="bench",
        reason="",
        changed_at=1.0,
        changed_by="bench",
    )


async def main(reactor: Any, *arguments: str) -> None:
    """Measure; results on stdout."""
    words = [word for word in arguments if word != "--full"]
    count = int(words[0]) if words else 1_000_000 if "--full" in arguments else 100_000
    folder = Path(tempfile.mkdtemp(prefix="coldstore-million-", dir=words[1] if len(words) > 1 else None))
    try:
        await Life(reactor, folder, count).live()
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    react(lambda reactor, *arguments: Deferred.fromCoroutine(main(reactor, *arguments)), sys.argv[1:])
