"""
To tape and back: ``python -m tests.bench.bench_archive [MiB] [small objects]``.

Objects of 1 GiB, then objects of 4 KiB, are written to one cartridge of the virtual library: until they are synced, and until
they are verified; beside ``cp`` and ``sync`` of as many bytes to the very same mount. Then all are restored. While the large
ones are on their way to tape and back, the reactor notes every 10 ms how late it is.

Bytes are those of bundles, tar headers included: that is what a tape holds.
"""

import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.bench.driver import UNSIGNED, dealt, exchange, request, upload
from tests.bench.lateness import lateness
from tests.bench.processes import Server, cpu_seconds
from tests.bench.results import Figure, Report
from tests.endtoend.appliance import Appliance, mounts_below, wait_until

MIB = 1024 * 1024
LARGE_COUNT = 4
SMALL_BYTES = 4096
LEAST = {"large": 0.9, "small": 0.8}
PATIENCE_SECONDS = 900.0
IDLE_SECONDS = 5.0
SETTINGS = {
    "staging": {"capacity": "24GiB"},
    "classes": {"GLACIER": {"tape_copies": ["main"], "keep_on_disk": False}},
    "archive": {
        "bundle_size": "2GiB",
        "bundle_cartridge_share": 1.0,
        "sync": "64GiB",
        "trigger": {"objects": 10_000_000},
    },
    "mount": {"idle_unload": "1h"},
    "logging": {"format": "json"},
    "tape": {"virtual": {"drives": 1, "slots": 4, "cartridges": 1, "capacity": "64GiB"}},
}


class Watched(Appliance):
    """An appliance whose reactor is watched."""

    @property
    def notes(self) -> Path:
        """Where lateness is noted."""
        return self.folder / "lateness"

    def command_line(self) -> list[str]:
        """Return how it is started."""
        return [sys.executable, "-m", "tests.bench.lateness", str(self.notes), *super().command_line()[1:]]

    def rows_of(self, statement: str) -> list[tuple[float, ...]]:
        """Ask the metadata file."""
        connection = sqlite3.connect(f"file:{self.state / 'metadata.sqlite'}?mode=ro", uri=True)
        try:
            return connection.execute(statement).fetchall()
        finally:
            connection.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Archived:
    """
    What came of archiving: bytes of bundles, and seconds from the first byte to tape on. ``begun`` is in unix seconds,
    ``packed_seconds`` is what went before; ``cpu`` is that of the service, without movers and file system.
    """

    size_bytes: int
    packed_seconds: float
    written_seconds: float
    verified_seconds: float
    begun: float
    cpu: float


class Bench:
    """One appliance with one drive and one cartridge."""

    def __init__(self, appliance: Watched, report: Report) -> None:
        self._appliance = appliance
        self._report = report
        assert appliance.process is not None
        self._server = Server(appliance.process.pid, appliance.port)
        self._keys = appliance.users["first"]
        self._block = Random(1).randbytes(MIB)

    def put_large(self, count: int, size_bytes: int) -> None:
        """Upload large GLACIER objects."""
        for number in range(count):
            head = self._head(f"/bench/large{number}", UNSIGNED)
            head = head[:-2] + b"content-length: %d\r\n\r\n" % size_bytes
            upload(self._server, head, self._block, size_bytes)

    def put_small(self, count: int) -> None:
        """Upload small GLACIER objects."""
        body = self._block[:SMALL_BYTES]
        requests = [
            request(
                self._server.port,
                self._keys,
                "PUT",
                f"/bench/small{number:06d}",
                body,
                headers={"x-amz-storage-class": "GLACIER"},
            )
            for number in range(count)
        ]
        exchange(self._server, dealt(requests, 16), answer_bytes=0)

    def _head(self, target: str, payload: str) -> bytes:
        return request(
            self._server.port,
            self._keys,
            "PUT",
            target,
            payload=payload,
            headers={"x-amz-storage-class": "GLACIER"},
        )

    def archive(self, what: str) -> "Archived":
        """Have everything archived."""
        known = {bundle for bundle, _ in self._bundles()}
        self._appliance.new_log()
        cpu, asked = cpu_seconds(self._server.pid), time.time()
        self._appliance.client.post("/archive")
        wait_until(f"{what} is on tape", self._nothing_waits, seconds=PATIENCE_SECONDS, pause=0.1)
        cpu = cpu_seconds(self._server.pid) - cpu
        events = [json.loads(line) for line in self._appliance.new_log().splitlines() if line.startswith("{")]
        begun = min(event["at"] - event["seconds"] for event in events if " written to " in event["message"])
        ((synced, verified),) = self._appliance.rows_of("SELECT max(synced_at), max(verified_at) FROM copies")
        return Archived(
            size_bytes=sum(size for bundle, size in self._bundles() if bundle not in known),
            packed_seconds=begun - asked,
            written_seconds=synced - begun,
            verified_seconds=verified - begun,
            begun=begun,
            cpu=cpu,
        )

    def _bundles(self) -> list[tuple[str, int]]:
        return [
            (str(name), int(size))
            for name, size in self._appliance.rows_of("SELECT bundle_id, size_bytes FROM bundles")
        ]

    def _nothing_waits(self) -> bool:
        ((waiting,),) = self._appliance.rows_of(
            "SELECT count(*) FROM versions WHERE archive_state <> 'archived' AND deleted_at IS NULL"
        )
        return waiting == 0

    def copied(self, size_bytes: int) -> float:
        """Return the seconds that ``cp`` and ``sync`` take to bring so many bytes to the mount that the appliance wrote to."""
        source = self._appliance.folder / "source"
        with source.open("wb") as file:
            for begin in range(0, size_bytes, MIB):
                file.write(self._block[: min(MIB, size_bytes - begin)])
        (mount,) = mounts_below(self._appliance.folder)
        target = f"{mount}/copied"
        begun = time.perf_counter()
        subprocess.run(["cp", str(source), target], check=True)
        subprocess.run(["sync", target], check=True)
        subprocess.run(["sync", "-f", mount], check=True)
        seconds = time.perf_counter() - begun
        Path(target).unlink()
        source.unlink()
        return seconds

    def restore(self, what: str) -> tuple[float, int]:
        """Have everything restored; return the seconds and the bytes of the objects."""
        off_disk = "SELECT count(*) FROM versions WHERE on_disk = 1"
        wait_until(f"{what} left the disk", lambda: self._appliance.rows_of(off_disk) == [(0,)], seconds=60)
        keys = [
            key for (key,) in self._appliance.rows_of("SELECT key FROM versions WHERE deleted_at IS NULL")
        ]
        document = b"<RestoreRequest><Days>9</Days></RestoreRequest>"
        asking = [
            request(self._server.port, self._keys, "POST", f"/bench/{bytes(key).decode()}?restore", document)
            for key in keys
        ]
        begun = time.perf_counter()
        exchange(self._server, dealt(asking, min(16, len(asking))), answer_bytes=0, status=202)
        back = "SELECT count(*) FROM versions WHERE restore_phase = 'restored'"
        wait_until(
            f"{what} is back",
            lambda: self._appliance.rows_of(back) == [(len(keys),)],
            seconds=PATIENCE_SECONDS,
            pause=0.02,
        )
        seconds = time.perf_counter() - begun
        ((size_bytes,),) = self._appliance.rows_of(
            "SELECT sum(size_bytes) FROM versions WHERE deleted_at IS NULL"
        )
        return seconds, int(size_bytes)

    def clear(self) -> None:
        """Delete everything."""
        for (key,) in self._appliance.rows_of("SELECT key FROM versions WHERE deleted_at IS NULL"):
            self._appliance.s3().delete_object(Bucket="bench", Key=bytes(key).decode())

    def measure(self, what: str, kind: str, put: Callable[[], None]) -> None:
        """Upload, archive, copy beside it, and restore; add the figures."""
        put()
        archived = self.archive(what)
        megabytes = archived.size_bytes / 1e6
        copied = self.copied(archived.size_bytes)
        beside = f"cp and sync {megabytes / copied:,.0f} MB/s"
        for name, seconds, least in (
            ("written", archived.written_seconds, LEAST[kind]),
            ("written and verified", archived.verified_seconds, None),
        ):
            self._report.add(
                Figure(
                    what=f"{what} {name}",
                    value=megabytes / seconds,
                    unit="MB/s",
                    cpu=archived.cpu / megabytes * 1e3,
                    cpu_unit="s/GB",
                    baseline=beside,
                    ratio=copied / seconds,
                    least=least,
                    more={"megabytes": megabytes, "packed_seconds": archived.packed_seconds},
                )
            )
        self._late(f"{what} to tape", archived.begun, archived.begun + archived.verified_seconds)
        begun = time.time()
        seconds, size_bytes = self.restore(what)
        self._report.add(Figure(what=f"{what} recalled", value=size_bytes / 1e6 / seconds, unit="MB/s"))
        self._late(f"{what} from tape", begun, begun + seconds)
        self.clear()

    def _late(self, what: str, begin: float, end: float) -> None:
        noted = lateness(self._appliance.notes, begin, end)
        for name, share in (("p50", 0.5), ("p99", 0.99), ("most", 1.0)):
            late = noted[min(len(noted) - 1, int(len(noted) * share))]
            self._report.add(Figure(what=f"reactor late, {what}, {name}", value=late * 1e3, unit="ms"))

    def idle(self) -> None:
        """Add how late the reactor is with nothing to do."""
        begun = time.time()
        time.sleep(IDLE_SECONDS)
        self._late("nothing to do", begun, begun + IDLE_SECONDS)


def main(size_mib: int, small_count: int) -> None:
    """Measure."""
    report = Report("archive")
    appliance = Watched(SETTINGS)
    try:
        appliance.start()
        appliance.s3().create_bucket(Bucket="bench")
        bench = Bench(appliance, report)
        bench.idle()
        large = f"{LARGE_COUNT} x {size_mib} MiB"
        bench.measure(large, "large", lambda: bench.put_large(LARGE_COUNT, size_mib * MIB))
        small = f"{small_count:,} x 4 KiB"
        bench.measure(small, "small", lambda: bench.put_small(small_count))
    finally:
        appliance.close()
    report.finish()


if __name__ == "__main__":
    main(*(int(word) for word in (*sys.argv[1:], "1024", "20000")[:2]))
