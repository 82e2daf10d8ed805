"""A library of four drives and forty cartridges: everything at once, and a drive that is put down in the middle."""

import json
from collections.abc import Callable
from itertools import pairwise
from random import Random
from typing import Any, TypeVar

from tests.endtoend.appliance import Appliance, ApplianceCase, wait_until

Truth = TypeVar("Truth")
MIB = 1024**2
SIZE = 5 * MIB
SCALE = 0.01
"""The part of a real library's time that robot, loading and positioning take."""
BYTES_PER_SECOND = 12 * MIB


class DrivesTests(ApplianceCase):
    """Every object is a bundle; a further cartridge is mounted for four of them."""

    settings = {
        "archive": {"bundle_size": "8MiB", "another_drive": "20MiB"},
        "tape": {
            "virtual": {
                "drives": 4,
                "slots": 44,
                "mail_slots": 1,
                "cartridges": 40,
                "capacity": "1GiB",
                "latency_scale": SCALE,
            }
        },
    }

    @classmethod
    def make_appliance(cls) -> Appliance:
        """Return an appliance whose drives stream at a speed that can be watched."""
        appliance = super().make_appliance()
        start = appliance.start

        def start_and_slow_down() -> None:
            start()
            appliance.virtual_library("latency", "--bytes-per-second", f"{int(BYTES_PER_SECOND * SCALE)}B")

        appliance.start = start_and_slow_down  # type: ignore[method-assign]
        return appliance

    def setUp(self) -> None:
        """Remember what was seen of the drives during a test."""
        super().setUp()
        self.seen: list[dict[int, dict[str, Any]]] = []

    def tearDown(self) -> None:
        """Check the library's own journal: no order for the robot came before the one before had ended."""
        super().tearDown()
        lines = (self.appliance.library / "moves.jsonl").read_text().splitlines()
        orders = sorted((json.loads(line) for line in lines), key=lambda order: float(order["from"]))
        self.assertGreater(len(orders), 3)
        for earlier, later in pairwise(orders):
            self.assertLessEqual(earlier["until"], later["from"], "the robot got two orders at once")

    def watch(self, what: str, claim: Callable[[], Truth], seconds: float = 120.0) -> Truth:
        """Wait until something is true, noting what the drives do."""

        def look() -> Truth:
            self.seen.append({row["drive"]: row for row in self.appliance.rows("/drives")})
            for drives in self.seen[-1:]:
                held = [row["barcode"] for row in drives.values() if row["barcode"]]
                self.assertEqual(len(held), len(set(held)), "a cartridge in two drives")
            return claim()

        return wait_until(what, look, seconds=seconds, pause=0.03)

    def put(self, bucket: str, count: int) -> dict[str, bytes]:
        """Upload so many objects."""
        bodies = {f"k{number:02}": Random(f"{bucket}/{number}").randbytes(SIZE) for number in range(count)}
        for key, body in bodies.items():
            self.s3.put_object(Bucket=bucket, Key=key, Body=body, StorageClass="GLACIER")
        return bodies

    def copies(self, bucket: str, key: str) -> str:
        """Return what HEAD says of the copies."""
        answer = self.s3.head_object(Bucket=bucket, Key=key)["ResponseMetadata"]
        return str(answer["HTTPHeaders"]["x-coldstore-copies"])

    def are_on_tape(self, bucket: str, bodies: dict[str, bytes]) -> bool:
        """Whether every object has its copies."""
        return all(self.copies(bucket, key) == "2/2" for key in bodies)

    def assert_whole(self, bucket: str, bodies: dict[str, bytes]) -> set[str]:
        """Check that each object has two verified copies on two cartridges, one of each pool; return the cartridges."""
        barcodes: set[str] = set()
        for key in bodies:
            copies = self.appliance.object(bucket, key)["copies"]
            self.assertEqual({copy["state"] for copy in copies}, {"verified"}, key)
            self.assertEqual(sorted(copy["pool"] for copy in copies), ["main", "vault"], key)
            self.assertEqual(len({copy["barcode"] for copy in copies}), 2, key)
            barcodes |= {copy["barcode"] for copy in copies}
        return barcodes

    def is_restored(self, bucket: str, key: str) -> bool:
        """Whether a restored copy can be read."""
        return 'ongoing-request="false"' in self.s3.head_object(Bucket=bucket, Key=key).get("Restore", "")

    def test_backlog(self) -> None:
        """A backlog is written by four drives at once: two copies of everything beside each other, two drives for each copy."""
        bucket = self.bucket()
        first = self.put(bucket, 10)
        self.appliance.client.post("/archive")
        self.watch("the first are on tape", lambda: self.are_on_tape(bucket, first))
        self.assertEqual(len(self.assert_whole(bucket, first)), 4)
        # Now every drive has a cartridge: nothing but writing is to be seen.
        other = self.bucket()
        second = self.put(other, 10)
        self.appliance.client.post("/archive")
        self.watch("the others are on tape", lambda: self.are_on_tape(other, second))
        pools = {row["barcode"]: row["pool"] for row in self.appliance.rows("/cartridges")}
        writing = [
            sorted(pools[row["barcode"]] for row in drives.values() if row["step"] == "writing")
            for drives in self.seen
        ]
        self.assertIn(["main", "main", "vault", "vault"], writing)
        self.assertEqual(len(self.assert_whole(other, second)), 4)

    def test_few(self) -> None:
        """A few small bundles do not mount four cartridges."""
        self.appliance.drain()
        self.appliance.resume()
        bucket = self.bucket()
        bodies = self.put(bucket, 2)
        self.appliance.client.post("/archive")
        self.watch("everything is on tape", lambda: self.are_on_tape(bucket, bodies))
        self.assertEqual(len(self.assert_whole(bucket, bodies)), 2)

    def test_both_directions(self) -> None:
        """Archives and recalls have drives at the same time, and both end."""
        bucket = self.bucket()
        bodies = self.put(bucket, 8)
        self.appliance.archive(*((bucket, key) for key in bodies), seconds=120)
        other = self.bucket()
        more = self.put(other, 8)
        for key in bodies:
            request = {"Days": 1, "GlacierJobParameters": {"Tier": "Standard"}}
            self.s3.restore_object(Bucket=bucket, Key=key, RestoreRequest=request)
        self.appliance.client.post("/archive")
        self.watch("everything is restored", lambda: all(self.is_restored(bucket, key) for key in bodies))
        self.watch("everything is on tape", lambda: self.are_on_tape(other, more))
        for key, body in bodies.items():
            self.assertEqual(self.s3.get_object(Bucket=bucket, Key=key)["Body"].read(), body)
        self.assertTrue(
            any(
                {"archive", "recall"} <= {row["job"] for row in drives.values() if row["is_mounted"]}
                for drives in self.seen
            ),
            "both directions were never seen at once",
        )
        self.assert_whole(other, more)

    def test_put_down_in_the_middle(self) -> None:
        """The work of a drive that is put down while it writes goes to the others, and its cartridge back to its slot."""
        bucket = self.bucket()
        bodies = self.put(bucket, 14)
        self.appliance.client.post("/archive")

        def writer() -> dict[str, Any] | None:
            rows = [row for row in self.seen[-1].values() if row["step"] == "writing"]
            return rows[-1] if rows else None

        found = self.watch("a drive writes", writer)
        assert found is not None
        said = self.appliance.command("drives", "down", str(found["drive"]), "--reason", "a trial")
        self.assertEqual(said.returncode, 0, said.stderr)
        self.watch("its cartridge is put away", lambda: not self.seen[-1][found["drive"]]["barcode"])
        self.watch("everything is on tape", lambda: self.are_on_tape(bucket, bodies))
        self.assert_whole(bucket, bodies)
        after = [drives for drives in self.seen if drives[found["drive"]]["state"] == "down"]
        self.assertTrue(any(row["job"] == "archive" for drives in after for row in drives.values()))
        self.assertEqual(self.seen[-1][found["drive"]]["job"], "idle")
        record = next(row for row in self.appliance.rows("/cartridges") if row["barcode"] == found["barcode"])
        self.assertEqual(record["state"], "filling")
        self.assertEqual(self.appliance.rows("/alerts"), [])
        self.appliance.command("drives", "up", str(found["drive"]))
