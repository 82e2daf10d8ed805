"""
How much memory a real appliance takes with 64 uploads at once: ``python -m tests.bench.bench_memory [--full] [MiB]``.

64 clients send an object each (32 MiB, 1 GiB with ``--full``), all at the same time: plainly, in signed chunks, and with
TLS; then as many small ones as possible, and as many downloads. Printed is the most that was resident at any moment, as
the kernel keeps it. Ends with status 1 when that is more than 300 MiB.
"""

import ssl
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random

from tests.certificates import Authority
from tests.endtoend.appliance import Appliance
from tests.endtoend.rawclient import Gone, RawClient

MOST_MIB = 300
CLIENTS = 64
MIB = 1 << 20
STEP = 64 * 1024


def of_process(pid: int, name: str) -> float:
    """A line of /proc/PID/status in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise LookupError(name)


def threads(pid: int) -> int:
    """How many threads a process has."""
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def all_at_once(action: Callable[[int], None]) -> float:
    """Have every client do something; return the seconds until the last was done."""
    failures: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            action(number)
        except BaseException as error:  # noqa: BLE001 - told below
            failures.append(error)

    begun = time.perf_counter()
    clients = [threading.Thread(target=guarded, args=(number,)) for number in range(CLIENTS)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    if failures:
        raise failures[0]
    return time.perf_counter() - begun


class Measurement:
    """One appliance under one load after the other."""

    def __init__(self, size_bytes: int, *, tls: bool) -> None:
        self.size_bytes = size_bytes
        self.block = Random(1).randbytes(STEP)
        capacity = f"{(4 * CLIENTS * size_bytes >> 20) + 4096}MiB"
        self.appliance = Appliance({"staging": {"capacity": capacity, "min_free": "0B"}})
        self.context: ssl.SSLContext | None = None
        self.worst = 0.0
        if tls:
            self.appliance.use_tls(Authority())
            self.context = ssl.create_default_context(cafile=str(self.appliance.certificate))
        self.appliance.start()
        assert self.appliance.process is not None
        self.pid = self.appliance.process.pid
        self.appliance.s3().create_bucket(Bucket="bench")
        print(f"    after the start: {of_process(self.pid, 'VmRSS'):.0f} MiB in {threads(self.pid)} threads")

    def client(self) -> RawClient:
        """A connection."""
        return RawClient(
            self.appliance.port, self.appliance.users["first"], timeout=600.0, context=self.context
        )

    def load(self, what: str, action: Callable[[int], None], size_bytes: int) -> None:
        """Put a load on the appliance and print the most memory that it took."""
        # 5: have the kernel forget the peak (proc(5), clear_refs).
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")
        seconds = all_at_once(action)
        peak = of_process(self.pid, "VmHWM")
        self.worst = max(self.worst, peak)
        rate = CLIENTS * size_bytes / seconds / 1e6
        print(
            f"{what:58} {peak:6.0f} MiB at most   {rate:6.0f} MB/s   {threads(self.pid)} threads", flush=True
        )

    def upload(self, number: int) -> None:
        """PUT an object."""
        client = self.client()
        client.ask("PUT", f"/bench/{number}", size_bytes=self.size_bytes)
        with suppress(Gone):  # the answer tells why
            client.send_all([self.block] * (self.size_bytes // STEP))
        done(client)

    def upload_in_chunks(self, number: int) -> None:
        """PUT an object in signed chunks."""
        client = self.client()
        with suppress(Gone):
            client.put_in_signed_chunks(f"/bench/{number}", [self.block] * (self.size_bytes // STEP))
        done(client)

    def download(self, number: int) -> None:
        """GET an object."""
        client = self.client()
        client.ask("GET", f"/bench/{number}")
        _, headers = client.answer_head()
        for _ in client.read(int(headers["content-length"])):
            pass
        client.close()

    def upload_small(self, number: int) -> None:
        """PUT many small objects."""
        client = self.client()
        for count in range(40):
            client.ask("PUT", f"/bench/small-{number}-{count}", size_bytes=STEP)
            client.send(self.block)
            answer = client.answer()
            assert answer.status == 200, answer
        client.close()


def done(client: RawClient) -> None:
    """See that an upload succeeded."""
    answer = client.answer()
    assert answer.status == 200, answer
    client.close()


def main(*arguments: str) -> int:
    """Measure; results on stdout."""
    words = [word for word in arguments if word != "--full"]
    size_mib = int(words[0]) if words else 1024 if "--full" in arguments else 32
    worst = 0.0
    for tls in (False, True):
        measurement = Measurement(size_mib * MIB, tls=tls)
        how = ", with TLS" if tls else ""
        try:
            measurement.load(f"{CLIENTS} uploads of {size_mib} MiB{how}", measurement.upload, size_mib * MIB)
            measurement.load(
                f"{CLIENTS} uploads of {size_mib} MiB in signed chunks{how}",
                measurement.upload_in_chunks,
                size_mib * MIB,
            )
            measurement.load(
                f"{CLIENTS} downloads of {size_mib} MiB{how}", measurement.download, size_mib * MIB
            )
            measurement.load(
                f"{CLIENTS} times 40 uploads of 64 KiB{how}", measurement.upload_small, 40 * STEP
            )
        finally:
            measurement.appliance.close()
        worst = max(worst, measurement.worst)
    print(f"at most {worst:.0f} MiB resident, of {MOST_MIB}")
    return int(worst > MOST_MIB)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
