"""
What good clients notice of bad ones: ``python -m tests.bench.bench_crowd [MIB]``.

32 clients upload objects (8 MiB) to a real appliance, alone; and again while 32 others vanish in the middle of uploads,
send a byte a second, or take one now and then. Printed are both rates and their ratio, and what is left behind.
"""

import sys
import threading
import time
from random import Random

from tests.endtoend.appliance import Appliance, wait_until
from tests.endtoend.rawclient import Gone, RawClient
from tests.endtoend.test_crowd import open_descriptors

MIB = 1 << 20
GOOD, BAD = 32, 32
ROUNDS = 3


class Crowd:
    """An appliance and its clients."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.block = Random(1).randbytes(64 * 1024)
        self.appliance = Appliance(
            {
                "server": {"idle_timeout": "5s", "min_rate": "16KiB"},
                "staging": {"capacity": f"{(8 * GOOD * size_bytes >> 20) + 4096}MiB", "small_object": "0B"},
            }
        )
        self.appliance.start()
        self.appliance.s3().create_bucket(Bucket="bench")
        self.is_over = threading.Event()

    def client(self) -> RawClient:
        """A connection that is not read from by the kernel for us."""
        return RawClient(
            self.appliance.port, self.appliance.users["first"], timeout=300.0, receive_buffer_bytes=16 * 1024
        )

    def upload(self, number: int) -> None:
        """Upload some objects."""
        client = self.client()
        for count in range(ROUNDS):
            client.ask("PUT", f"/bench/{number}-{count}", size_bytes=self.size_bytes)
            client.send_all([self.block] * (self.size_bytes // len(self.block)))
            answer = client.answer()
            assert answer.status == 200, answer
        client.close()

    def misbehave(self, number: int) -> None:
        """Go on with one kind of misbehaviour until it is over."""
        chance = Random(number)
        while not self.is_over.is_set():
            client = self.client()
            try:
                if number % 3 == 0:
                    client.ask("GET", "/bench/big")
                    client.answer_head()
                    self._until_over(lambda client=client: client.socket.recv(1))
                else:
                    client.ask("PUT", f"/bench/bad{number}", size_bytes=64 * MIB)
                    if number % 3 == 1:
                        self._until_over(lambda client=client: client.send(b"x"))
                    else:
                        client.send(bytes(chance.randrange(4 * MIB)))
                        time.sleep(0.2)
            except (Gone, OSError):
                pass
            client.vanish()

    def _until_over(self, action: object) -> None:
        end = time.monotonic() + 30
        while not self.is_over.wait(0.5) and time.monotonic() < end:
            action()  # type: ignore[operator]

    def rate(self) -> float:
        """MB/s of the good ones."""
        begun = time.perf_counter()
        clients = [threading.Thread(target=self.upload, args=(number,)) for number in range(GOOD)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        return GOOD * ROUNDS * self.size_bytes / (time.perf_counter() - begun) / 1e6


def main(*arguments: str) -> None:
    """Measure; results on stdout."""
    crowd = Crowd((int(arguments[0]) if arguments else 8) * MIB)
    try:
        crowd.appliance.s3().put_object(Bucket="bench", Key="big", Body=bytes(64 * MIB))
        crowd.rate()
        descriptors = open_descriptors(crowd.appliance)
        bad = [threading.Thread(target=crowd.misbehave, args=(number,)) for number in range(BAD)]
        alone = crowd.rate()
        for client in bad:
            client.start()
        time.sleep(2)
        among = crowd.rate()
        crowd.is_over.set()
        for client in bad:
            client.join()
        print(
            f"{GOOD} clients alone {alone:.0f} MB/s, among {BAD} bad ones {among:.0f} MB/s: {among / alone:.2f}"
        )
        wait_until("all are gone", lambda: open_descriptors(crowd.appliance) <= descriptors, seconds=60)
        wait_until(
            "nothing is reserved",
            lambda: crowd.appliance.ask("/status")["staging_reserved_bytes"] == 0,
            seconds=60,
        )
        print("no descriptor and no reservation is left")
    finally:
        crowd.is_over.set()
        crowd.appliance.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
