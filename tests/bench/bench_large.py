"""
Objects of 1 GiB: ``python -m tests.bench.bench_large [MiB] [rounds]``.

PUT and GET over one and over four connections, each with an object of its own, beside a bare resource of twisted.web that
drops or makes the bytes, and beside MD5 alone, which every ETag needs and which cannot be split within an object. The first
GET after a start reads everything once more to check it; "again" is the second. Encrypted objects (SSE-C, and SSE-S3, whose ETag
is the MD5 of what is sent) are put and got beside others; they go without TLS, so that the two ciphers are not taken for each other.
"""

import hashlib
import sys
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from random import Random

from tests.bench.driver import UNSIGNED, Run, download, request, together, upload
from tests.bench.processes import Server, bare
from tests.bench.results import Figure, Report, Wanted, middle
from tests.endtoend.appliance import Appliance
from tests.endtoend.wire import Keys
from tests.unit.encryption_keys import key_headers

MIB = 1024 * 1024
BLOCK_BYTES = MIB
RADOSGW = {("PUT", 1): (264, 1.3), ("PUT", 4): (319, 1.5), ("GET again", 1): (699, 2.5)}
"""MB/s of radosgw 16.2 on such a machine, and how many times that is asked for."""


def hashing(streams: int, size_bytes: int, block: bytes) -> float:
    """Return the MB/s of MD5 in so many threads."""

    def hash_all() -> None:
        digest = hashlib.md5(usedforsecurity=False)
        for _ in range(size_bytes // len(block)):
            digest.update(block)

    threads = [threading.Thread(target=hash_all) for _ in range(streams)]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return streams * size_bytes / 1e6 / (time.perf_counter() - begun)


class Bench:
    """Our appliance and the plain resource, and objects of one size."""

    def __init__(self, ours: Server, plain: Server, keys: Keys, size_bytes: int) -> None:
        self._ours = ours
        self._plain = plain
        self._keys = keys
        self._size_bytes = size_bytes
        self.block = Random(1).randbytes(BLOCK_BYTES)

    def put(self, server: Server, streams: int, *, is_signed: bool = False, encryption: str = "") -> Run:
        """Upload; a signed body has its SHA-256 in the request. An encrypted object is another one."""
        payload = UNSIGNED
        if is_signed:
            digest = hashlib.sha256()
            for _ in range(self._size_bytes // len(self.block)):
                digest.update(self.block)
            payload = digest.hexdigest()
        stem, headers = NAMED[encryption]
        heads = [
            self._head(server, "PUT", f"/bench/{stem}{number}", payload, headers) for number in range(streams)
        ]
        return together(
            server, [partial(upload, server, head, self.block, self._size_bytes) for head in heads]
        )

    def _head(
        self,
        server: Server,
        method: str,
        target: str,
        payload: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        head = request(server.port, self._keys, method, target, payload=payload, headers=headers)
        if method == "PUT":
            head = head[:-2] + b"content-length: %d\r\n\r\n" % self._size_bytes
        return head

    def get(self, server: Server, streams: int, *, encryption: str = "") -> Run:
        """Download."""
        is_ours = server is self._ours
        stem, headers = NAMED[encryption]
        headers = headers if encryption == SSE_C else {}
        targets = [f"/bench/{stem}{at}" if is_ours else f"/size/{self._size_bytes}" for at in range(streams)]
        heads = [self._head(server, "GET", target, headers=headers) for target in targets]
        return together(server, [partial(download, server, head, self._size_bytes) for head in heads])


SSE_C, SSE_S3 = "SSE-C", "SSE-S3"
NAMED: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "": ("large", {}),
    SSE_C: ("secret", key_headers()),
    SSE_S3: ("sealed", {"x-amz-server-side-encryption": "AES256"}),
}
"""How objects are called, and what is said of their encryption when they are put."""


def rate(run: Run) -> float:
    """Return MB/s."""
    return run.count / 1e6 / run.seconds


def figure(
    what: str, mine: list[Run], against: str, theirs: list[float], wanted: Wanted | None = None
) -> Figure:
    """Return what runs of ours come to, against the MB/s of something else."""
    return Figure(
        what=what,
        value=middle([rate(run) for run in mine]),
        unit="MB/s",
        cpu=middle([run.cpu / run.count * 1e9 for run in mine]),
        cpu_unit="s/GB",
        baseline=f"{against} {middle(theirs):,.0f} MB/s",
        ratio=middle([rate(run) / other for run, other in zip(mine, theirs, strict=True)]),
        wanted=wanted,
        more={"baseline": middle(theirs)},
    )


def measure(
    bench: Bench, ours: Server, plain: Server, streams: int, size_bytes: int, rounds: int, report: Report
) -> None:
    """Add the figures of so many connections."""

    def wanted(what: str) -> Wanted | None:
        known = RADOSGW.get((what, streams))
        return None if known is None else Wanted(of="radosgw", figure=known[0], times=known[1])

    name = f"{size_bytes // MIB} MiB, {streams} at once"
    runs: dict[str, list[Run]] = {}
    hashed: list[float] = []

    def ran(what: str, run: Callable[[], Run]) -> None:
        runs.setdefault(what, []).append(run())

    for _ in range(rounds):
        ran("PUT", lambda: bench.put(ours, streams))
        ran("bare PUT", lambda: bench.put(plain, streams))
        hashed.append(hashing(streams, size_bytes, bench.block))
        ran("GET", lambda: bench.get(ours, streams))
        ran("GET again", lambda: bench.get(ours, streams))
        ran("bare GET", lambda: bench.get(plain, streams))
        ran("PUT signed", lambda: bench.put(ours, streams, is_signed=True))
        for way in (SSE_C, SSE_S3):
            ran(f"PUT {way}", partial(bench.put, ours, streams, encryption=way))
            ran(f"GET {way}", partial(bench.get, ours, streams, encryption=way))
            ran(f"GET {way} again", partial(bench.get, ours, streams, encryption=way))
    sent, made = [rate(run) for run in runs["bare PUT"]], [rate(run) for run in runs["bare GET"]]
    report.add(figure(f"PUT {name}", runs["PUT"], "MD5 alone", hashed, wanted("PUT")))
    report.add(figure(f"PUT {name}", runs["PUT"], "bare PUT", sent))
    report.add(figure(f"PUT {name}, signed body", runs["PUT signed"], "bare PUT", sent))
    report.add(figure(f"GET {name}, first", runs["GET"], "bare GET", made))
    report.add(figure(f"GET {name}, again", runs["GET again"], "bare GET", made, wanted("GET again")))
    for way in (SSE_C, SSE_S3):
        for what in ("PUT", "GET", "GET again"):
            method, _, how = what.partition(" ")
            mine = runs[f"{method} {way} {how}".rstrip()]
            shown = f"{method} {name}, {way}{how and f', {how}'}"
            report.add(figure(shown, mine, f"not: {what}", [rate(run) for run in runs[what]]))


def main(size_mib: int, rounds: int) -> None:
    """Measure."""
    report, size_bytes = Report("large"), size_mib * MIB
    # What is replaced stays on disk for a minute: there is room for everything that is sent.
    capacity = f"{20 * rounds * size_mib // 1024 + 4}GiB"
    appliance = Appliance({"staging": {"capacity": capacity}, "server": {"sse_c_over_http": True}})
    try:
        appliance.start()
        assert appliance.process is not None
        appliance.s3().create_bucket(Bucket="bench")
        ours = Server(appliance.process.pid, appliance.port)
        with bare("plain") as plain:
            bench = Bench(ours, plain, appliance.users["first"], size_bytes)
            for streams in (1, 4):
                measure(bench, ours, plain, streams, size_bytes, rounds, report)
    finally:
        appliance.close()
    report.finish()


if __name__ == "__main__":
    main(*(int(word) for word in (*sys.argv[1:], "1024", "3")[:2]))
