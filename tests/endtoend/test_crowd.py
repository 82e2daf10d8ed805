"""Many clients at once, of which half are no good: they vanish, fall silent, send or take a byte now and then."""

import hashlib
import os
import select
import threading
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from tests.endtoend.appliance import Appliance, ApplianceCase, wait_until
from tests.endtoend.rawclient import RawClient

MIB = 1 << 20
CLIENTS = 64
HEALTHY_ROUNDS = 3
BIG_BYTES = 24 * MIB
PATIENCE_SECONDS = 60.0
"""By when the appliance must have ended with a client that does nothing."""


def open_descriptors(appliance: Appliance) -> int:
    """Count the sockets, and the files of the staging disk, that an appliance has open."""
    assert appliance.process is not None
    folder = Path(f"/proc/{appliance.process.pid}/fd")
    count = 0
    for entry in folder.iterdir():
        try:
            target = os.readlink(entry)
        except FileNotFoundError:
            continue
        count += target.startswith("socket:") or "/staging/" in target
    return count


class CrowdTests(ApplianceCase):
    """An endpoint that is strict, so that a test needs not wait for long: 80 KiB in every five seconds."""

    settings = {
        "server": {"idle_timeout": "5s", "min_rate": "16KiB", "max_connections": 100},
        # Every object is a file of its own: then nothing is allocated ahead, and what is reserved at rest is a leak.
        "staging": {"capacity": "1GiB", "small_object": "0B"},
    }

    def client(self, **options: Any) -> RawClient:
        """A connection."""
        return RawClient(
            self.appliance.port, self.appliance.users["first"], timeout=PATIENCE_SECONDS, **options
        )

    def status(self, name: str) -> int:
        """A number of the status."""
        return int(self.appliance.ask("/status")[name])

    def descriptors(self) -> int:
        """How many sockets, and files of the staging disk, the appliance has open."""
        return open_descriptors(self.appliance)

    def test_half_of_them_are_no_good(self) -> None:
        """
        Of 64 clients half vanish, trickle or do not read. The others are served byte for byte; and when all are gone nothing is
        reserved, open or pinned, and the disk holds what was acknowledged.
        """
        bucket = self.bucket()
        self.s3.put_object(Bucket=bucket, Key="big", Body=bytes(BIG_BYTES))
        used, descriptors = self.appliance.settled_bytes(), self.descriptors()
        crowd = Crowd(self, bucket)
        crowd.begin()
        # What slow readers have open is deleted under them: it goes when they have been shown the door.
        wait_until("somebody reads", lambda: crowd.readers_begun == Crowd.READERS, seconds=PATIENCE_SECONDS)
        self.s3.delete_object(Bucket=bucket, Key="big")
        crowd.end()
        self.assertEqual(crowd.failures, [])
        self.assertEqual(len(crowd.kept), (CLIENTS // 2) * HEALTHY_ROUNDS)
        expected = used - self.rounded(BIG_BYTES) + sum(self.rounded(size) for size in crowd.kept.values())

        def is_clean() -> bool:
            return (
                self.status("staging_reserved_bytes") == 0
                and abs(self.status("staging_used_bytes") - expected) <= 64 * 1024
                and self.descriptors() <= descriptors + 2
            )

        wait_until(
            f"nothing is left behind: {expected} bytes used, none reserved, {descriptors} descriptors",
            is_clean,
            seconds=PATIENCE_SECONDS,
        )
        listed = {
            entry["Key"]: entry["Size"]
            for entry in self.s3.list_objects_v2(Bucket=bucket).get("Contents", [])
        }
        self.assertEqual(listed, crowd.kept)

    def rounded(self, size_bytes: int) -> int:
        """What an object of that size takes on the disk, but for its checksums."""
        return -(-size_bytes // 4096) * 4096

    def test_idle_connections_keep_nobody_out(self) -> None:
        """With more silent connections than there are places, whoever has something to ask is served."""
        bucket = self.bucket()
        silent = [self.client() for _ in range(150)]
        try:
            for number in range(3):
                client = self.client()
                client.ask("PUT", f"/{bucket}/k{number}", size_bytes=5)
                client.send(b"hello")
                self.assertEqual(client.answer().status, 200)
                client.close()
        finally:
            for client in silent:
                client.close()


class Crowd:
    """The clients, a thread each. ``kept`` are keys and sizes of what was acknowledged, ``failures`` what should not have been."""

    READERS = 8
    TRICKLERS = 8

    def __init__(self, case: CrowdTests, bucket: str) -> None:
        self.kept: dict[str, int] = {}
        self.failures: list[str] = []
        self.readers_begun = 0
        self._case = case
        self._bucket = bucket
        self._lock = threading.Lock()
        kinds: list[Callable[[int], None]] = [self.healthy] * (CLIENTS // 2)
        kinds += [self.read_slowly] * self.READERS + [self.trickle] * self.TRICKLERS
        kinds += [self.vanish] * (CLIENTS - len(kinds))
        self._threads = [
            threading.Thread(target=self._guarded, args=(kind, number)) for number, kind in enumerate(kinds)
        ]

    def begin(self) -> None:
        """Send them in."""
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Wait until all are through."""
        for thread in self._threads:
            thread.join()

    def _guarded(self, kind: Callable[[int], None], number: int) -> None:
        try:
            kind(number)
        except Exception as error:  # noqa: BLE001 - told by the test
            self.failures.append(f"{kind.__name__} {number}: {error!r}")

    def healthy(self, number: int) -> None:
        """Put objects, large and small, and read each back."""
        client = self._case.client()
        chance = Random(number)
        for count in range(HEALTHY_ROUNDS):
            key, content = f"k{number}-{count}", chance.randbytes(chance.choice((1, 5000, 300_000, MIB)))
            client.ask("PUT", f"/{self._bucket}/{key}", size_bytes=len(content))
            client.send(content)
            answer = client.answer()
            assert answer.status == 200, answer
            with self._lock:
                self.kept[key] = len(content)
            client.ask("GET", f"/{self._bucket}/{key}")
            answer = client.answer()
            assert answer.body == content, (answer.status, len(answer.body))
            assert answer.headers["etag"] == f'"{hashlib.md5(content).hexdigest()}"', answer
        client.close()

    def vanish(self, number: int) -> None:
        """Leave in the middle of an upload, three times, in whatever way: at once, in the body, before the answer."""
        chance = Random(number)
        for _ in range(3):
            client = self._case.client()
            size = 8 * MIB
            client.ask("PUT", f"/{self._bucket}/gone{number}", size_bytes=size)
            client.send(bytes(chance.choice((0, 1, 70_000, 3 * MIB, size - 1))))
            time.sleep(chance.random() * 0.3)
            if chance.random() < 0.5:
                client.vanish()
            else:
                client.close()

    def trickle(self, number: int) -> None:
        """Send a byte a second of an upload until the endpoint has had enough, which it says."""
        client = self._case.client()
        client.ask("PUT", f"/{self._bucket}/slow{number}", size_bytes=8 * MIB)
        client.socket.settimeout(1.0)
        end = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < end:
            client.send(b"x")
            try:
                answer = client.answer()
            except TimeoutError:
                continue
            assert (answer.status, b"RequestTimeout" in answer.body) == (400, True), answer
            client.close()
            return
        raise AssertionError("a client that sends a byte a second is still welcome")

    def read_slowly(self, number: int) -> None:
        """Take a byte of a large object now and then until the endpoint breaks it off."""
        client = self._case.client(receive_buffer_bytes=4096)
        client.ask("GET", f"/{self._bucket}/big")
        status, _ = client.answer_head()
        assert status == 200, status
        with self._lock:
            self.readers_begun += 1
        # A reset shows at once here; read() would first give out what the kernel has received.
        broken = select.poll()
        broken.register(client.socket, 0)
        end = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < end:
            client.socket.recv(1)
            if broken.poll(500):
                client.close()
                return
        raise AssertionError("a client that takes a byte now and then is still welcome")
