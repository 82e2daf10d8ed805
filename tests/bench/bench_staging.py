"""
How fast the disk is, as ratios measured in one run: ``python -m tests.bench.bench_staging [MiB] [folder]``.

Receiving one large piece with MD5 and SHA-256 against one thread that hashes and writes; 4 KiB pieces with 64 under way
against a synced file for each; reading a piece for the first time (checked) and again.
"""

import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from random import Random
from time import perf_counter, process_time
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred, gatherResults
from twisted.internet.task import react

from coldstore.disk.staging import DiskStaging
from coldstore.model.objects import Piece

MIB = 1024 * 1024
STEP = 256 * 1024
SMALL = 4096
LANES = 64
COUNT = 6400


@contextmanager
def measured(what: str, megabytes: float = 0.0, operations: int = 0) -> Iterator[None]:
    """Print rate and CPU of what happens inside."""
    wall, cpu = perf_counter(), process_time()
    yield
    wall, cpu = perf_counter() - wall, process_time() - cpu
    if megabytes:
        print(f"{what:46} {megabytes / wall:8.0f} MB/s   {cpu / megabytes * 1000:6.2f} CPU s/GB")
    else:
        print(f"{what:46} {operations / wall:8.0f} /s     {cpu / operations * 1e6:6.0f} CPU us")


def plainly(path: Path, block: bytes, count: int) -> None:
    """Hash and write in one thread: the baseline."""
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    with path.open("wb") as file:
        for _ in range(count):
            md5.update(block)
            sha256.update(block)
            file.write(block)
        file.flush()
        os.fsync(file.fileno())


def file_each(directory: Path, number: int, content: bytes) -> None:
    """A synced file for one small piece: the baseline."""
    path = directory / f"{number % 256:02x}" / str(number)
    with open(f"{path}.new", "wb") as file:
        file.write(content)
        hashlib.md5(content, usedforsecurity=False).digest()
        file.flush()
        os.fdatasync(file.fileno())
    os.rename(f"{path}.new", path)
    folder = os.open(path.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


async def receive_large(staging: DiskStaging, size_mib: int, block: bytes) -> Piece:
    """Receive one piece from a sender that heeds the pressure."""
    incoming = staging.receive(size_bytes=size_mib * MIB, algorithms=frozenset({"md5", "sha256"}))
    waiting: list[Deferred[None]] = []
    incoming.on_pressure(lambda: waiting.append(Deferred()), lambda: waiting.pop().callback(None))
    for _ in range(size_mib * MIB // STEP):
        incoming.write(block)
        if waiting:
            await waiting[0]
    received = await incoming.finish()
    return Piece(
        ordinal=1, address=received.address, length_bytes=received.length_bytes, crc64nvme=received.crc64nvme
    )


async def receive_small(staging: DiskStaging, content: bytes) -> None:
    """Receive COUNT small pieces, LANES at a time."""
    numbers = iter(range(COUNT))

    async def lane() -> None:
        for _ in numbers:
            incoming = staging.receive(size_bytes=SMALL, algorithms=frozenset({"md5"}))
            incoming.write(content)
            await incoming.finish()

    await gatherResults([ensureDeferred(lane()) for _ in range(LANES)])


async def read(staging: DiskStaging, piece: Piece) -> None:
    """Read a piece in steps, as a client would be sent it."""
    reader = await staging.open(piece)
    for at in range(0, piece.length_bytes, STEP):
        await reader.read(at, STEP)
    reader.close()


async def main(reactor: Any, size_text: str = "1024", folder: str = "") -> None:
    """Measure; results on stdout."""
    size_mib = int(size_text)
    directory = Path(tempfile.mkdtemp(prefix="coldstore-bench-", dir=folder or None))
    block = Random(1).randbytes(STEP)
    megabytes = size_mib * MIB / 1e6
    staging = DiskStaging(
        reactor=reactor,
        random=Random(1),
        run="1",
        directory=directory / "staging",
        capacity_bytes=8 * size_mib * MIB + (1 << 30),
    )
    await staging.start()
    try:
        for attempt in (1, 2):
            with measured(f"{size_mib} MiB: one thread hashes and writes ({attempt})", megabytes):
                plainly(directory / "plain", block, size_mib * MIB // STEP)
            (directory / "plain").unlink()
            with measured(f"{size_mib} MiB: received ({attempt})", megabytes):
                piece = await receive_large(staging, size_mib, block)
            with measured(f"{size_mib} MiB: read and checked ({attempt})", megabytes):
                await read(staging, piece)
            with measured(f"{size_mib} MiB: read again ({attempt})", megabytes):
                await read(staging, piece)
            await staging.discard([piece.address])
        for number in range(256):
            (directory / f"{number:02x}").mkdir()
        with (
            measured("4 KiB: a synced file each, 16 threads", operations=COUNT),
            ThreadPoolExecutor(16) as pool,
        ):
            list(pool.map(lambda number: file_each(directory, number, block[:SMALL]), range(COUNT)))
        with measured(f"4 KiB: segment, {LANES} under way", operations=COUNT):
            await receive_small(staging, block[:SMALL])
    finally:
        await staging.stop()
        shutil.rmtree(directory)


if __name__ == "__main__":
    react(lambda reactor, *arguments: ensureDeferred(main(reactor, *arguments)), sys.argv[1:])
