"""
How much sooner a backlog is on tape, and restored, with 2 and 4 drives than with one, in the same run.

Run ``python -m tests.bench.bench_drives [BUNDLES]``. A real ``twistd coldstore`` with a virtual library that takes 1/50 of an LTO-8
library's time for moves, loads and positioning and streams 10 MiB/s per drive: bundles of 8 MiB take as long beside a mount as
bundles of 10 to 20 GB do beside a real one. Prints wall seconds, MB/s of both copies together, and ratios to one drive.
"""

import sys
import time
from random import Random
from typing import Any

from tests.endtoend.appliance import Appliance, wait_until

MIB = 1024**2
SIZE = 8 * MIB
SCALE = 0.02
BYTES_PER_SECOND = 10 * MIB
PATIENCE_SECONDS = 1800.0


def appliance_with(drives: int) -> Appliance:
    """Return an appliance that is started, with so many drives and 40 cartridges."""
    appliance = Appliance(
        {
            "archive": {"bundle_size": "8MiB", "another_drive": "40MiB", "another_drive_share": 1.0},
            "mount": {"idle_unload": "10m"},
            "staging": {"capacity": "8GiB"},
            "tape": {
                "virtual": {
                    "drives": drives,
                    "slots": 44,
                    "cartridges": 40,
                    "capacity": "2GiB",
                    "latency_scale": SCALE,
                }
            },
        }
    )
    appliance.start()
    appliance.virtual_library("latency", "--bytes-per-second", f"{int(BYTES_PER_SECOND * SCALE)}B")
    return appliance


def measure(drives: int, bundles: int) -> dict[str, float]:
    """Return the seconds of an archive and of a recall of so many bundles."""
    appliance = appliance_with(drives)
    try:
        s3 = appliance.s3()
        s3.create_bucket(Bucket="bench")
        keys = [f"k{number:03}" for number in range(bundles)]
        for key in keys:
            body = Random(key).randbytes(SIZE - 64 * 1024)
            s3.put_object(Bucket="bench", Key=key, Body=body, StorageClass="GLACIER")
        started = time.monotonic()
        appliance.client.post("/archive")
        wait_until(
            "on tape", lambda: all(_is_archived(appliance, key) for key in keys), seconds=PATIENCE_SECONDS
        )
        archived = time.monotonic()
        appliance.drain(PATIENCE_SECONDS)
        for key in keys:
            request = {"Days": 1, "GlacierJobParameters": {"Tier": "Standard"}}
            s3.restore_object(Bucket="bench", Key=key, RestoreRequest=request)
        resumed = time.monotonic()
        appliance.resume()
        wait_until("restored", lambda: _restoring(appliance) == 0, seconds=PATIENCE_SECONDS)
        return {
            "archive_seconds": archived - started,
            "archive_mb_per_second": 2 * bundles * SIZE / 1e6 / (archived - started),
            "recall_seconds": time.monotonic() - resumed,
        }
    finally:
        appliance.close()


def _is_archived(appliance: Appliance, key: str) -> bool:
    return bool(appliance.object("bench", key)["state"] == "archived")


def _restoring(appliance: Appliance) -> Any:
    return appliance.ask("/status")["ongoing_restores"]


def main() -> None:
    """Print one figure a line."""
    bundles = int(sys.argv[1]) if len(sys.argv) > 1 else 24
    alone: dict[str, float] = {}
    for drives in (1, 2, 4):
        found = measure(drives, bundles)
        alone = alone or found
        for name, value in found.items():
            print(f"{drives}_drives_{name:24} {value:8.2f}   ratio {value / alone[name]:.2f}", flush=True)


if __name__ == "__main__":
    main()
