"""
Objects larger than the machine: ``python -m tests.bench.bench_sparse [--full] [GIB]``.

Parts of 5 GiB are received, block by block and with their checksums, by a disk that keeps sizes and no zeros; 20 GiB in
all, 200 GiB with ``--full``; then all of them are read and checked. Printed are rates, memory, and whether the account is
that of the sizes.
"""

import resource
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from time import perf_counter, process_time
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred, gatherResults
from twisted.internet.task import deferLater, react

from coldstore.disk.staging import DiskStaging
from coldstore.interfaces.staging import BLOCK_BYTES
from coldstore.model.objects import Piece
from coldstore.util.gate import Gate
from tests.contract.sparse import SparseFileSystem, zeros_crc

MIB, GIB = 1 << 20, 1 << 30
PART_BYTES = 5 * GIB
LANES = 4


@contextmanager
def measured(what: str, size_bytes: int) -> Iterator[None]:
    """Print rate, CPU and memory of what happens inside."""
    wall, cpu = perf_counter(), process_time()
    yield
    wall, cpu = perf_counter() - wall, process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    gigabytes = size_bytes / 1e9
    print(
        f"{what:40} {gigabytes / wall:6.2f} GB/s  {cpu / gigabytes:5.2f} CPU s/GB  {peak:4.0f} MiB at most",
        flush=True,
    )


async def receive(staging: DiskStaging, block: bytes) -> Piece:
    """Receive one part."""
    incoming = staging.receive(size_bytes=PART_BYTES, algorithms=frozenset())
    gate = Gate()
    incoming.on_pressure(gate.close, gate.open)
    for _ in range(PART_BYTES // len(block)):
        incoming.write(block)
        await gate.passage()
    received = await incoming.finish()
    return Piece(ordinal=1, address=received.address, length_bytes=PART_BYTES, crc64nvme=received.crc64nvme)


async def check(staging: DiskStaging, piece: Piece) -> None:
    """Have every block of a part read and checked."""
    reader = await staging.open(piece)
    for start in range(0, PART_BYTES, BLOCK_BYTES):
        await reader.verified_range(start, BLOCK_BYTES)
    reader.close()


async def main(reactor: Any, *arguments: str) -> None:
    """Measure; results on stdout."""
    words = [word for word in arguments if word != "--full"]
    gib = int(words[0]) if words else 200 if "--full" in arguments else 20
    parts = max(1, gib * GIB // PART_BYTES)
    folder = Path(tempfile.mkdtemp(prefix="coldstore-sparse-"))
    staging = DiskStaging(
        reactor=reactor,
        random=Random(1),
        run="1",
        directory=folder / "staging",
        capacity_bytes=2 * parts * PART_BYTES,
        system=SparseFileSystem(),
    )
    await staging.start()
    try:
        block = bytes(256 * 1024)
        pieces: list[Piece] = []
        numbers = iter(range(parts))

        async def lane() -> None:
            for _ in numbers:
                pieces.append(await receive(staging, block))

        with measured(f"{parts} parts of 5 GiB received", parts * PART_BYTES):
            await gatherResults([ensureDeferred(lane()) for _ in range(LANES)])
        assert {piece.crc64nvme for piece in pieces} == {zeros_crc(PART_BYTES)}
        await deferLater(reactor, 0.2, lambda: None)
        lists = -(-(64 + 8 * (PART_BYTES // BLOCK_BYTES)) // 4096) * 4096
        usage = staging.usage()
        assert usage.used_bytes == parts * (PART_BYTES + lists), usage
        print(f"    {usage.used_bytes} bytes are accounted, as they must be; {usage.reserved_bytes} reserved")
        with measured("read and checked", parts * PART_BYTES):
            await gatherResults([ensureDeferred(check(staging, piece)) for piece in pieces])
        await staging.discard([piece.address for piece in pieces])
        await deferLater(reactor, 0.2, lambda: None)
        assert staging.usage().used_bytes == 0, staging.usage()
    finally:
        await staging.stop()
        shutil.rmtree(folder)


if __name__ == "__main__":
    react(lambda reactor, *arguments: Deferred.fromCoroutine(main(reactor, *arguments)), sys.argv[1:])
