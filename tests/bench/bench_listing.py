"""
Listing 10,000 keys: ``python -m tests.bench.bench_listing [keys] [rounds]``.

All pages of ListObjectsV2, one after the other over one connection; beside the same rows read by Python's sqlite3 alone,
key, size, ETag and time, in pages of the same size.
"""

import re
import socket
import sqlite3
import sys
import time
from urllib.parse import quote

from tests.bench.bench_small import Contender
from tests.bench.driver import RECEIVE_BYTES, Run, request
from tests.bench.processes import Server, cpu_seconds
from tests.bench.results import Figure, Report, Wanted, middle
from tests.endtoend.appliance import Appliance
from tests.endtoend.wire import Keys

PAGE = 1000
RADOSGW_MS_10000 = 93
TIMES = 3.0


def pages(server: Server, keys: Keys) -> tuple[float, int]:
    """List everything; return the seconds and the number of keys."""
    seconds, count, token = 0.0, 0, b""
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        while True:
            rest = f"&continuation-token={quote(token.decode(), safe='')}" if token else ""
            asking = request(server.port, keys, "GET", f"/bench?list-type=2{rest}")
            begun = time.perf_counter()
            connection.sendall(asking)
            answer = bytearray()
            while not answer.endswith(b"</ListBucketResult>"):
                piece = connection.recv(RECEIVE_BYTES)
                if not piece:
                    raise AssertionError(bytes(answer[:1000]))
                answer += piece
            seconds += time.perf_counter() - begun
            count += answer.count(b"<Key>")
            found = re.search(rb"<NextContinuationToken>(.*?)</NextContinuationToken>", answer)
            if found is None:
                return seconds, count
            token = found[1]


def rows_alone(path: str) -> float:
    """Return the seconds that SQLite and Python alone need for the rows."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    begun, after = time.perf_counter(), b""
    while True:
        rows = connection.execute(
            "SELECT key, size_bytes, etag, created_at FROM versions"
            " WHERE bucket_uid = 1 AND deleted_at IS NULL AND key > ? ORDER BY key LIMIT ?",
            (after, PAGE),
        ).fetchall()
        if len(rows) < PAGE:
            break
        after = rows[-1][0]
    seconds = time.perf_counter() - begun
    connection.close()
    return seconds


def main(count: int, rounds: int) -> None:
    """Measure."""
    report = Report("listing")
    # No archiving meanwhile.
    quiet = {"trigger": {"objects": 10_000_000, "idle_age": "1d", "age": "1d"}}
    appliance = Appliance({"staging": {"capacity": "8GiB"}, "archive": quiet})
    try:
        appliance.start()
        assert appliance.process is not None
        appliance.s3().create_bucket(Bucket="bench")
        server, keys = Server(appliance.process.pid, appliance.port), appliance.users["first"]
        Contender(server, keys, b"x" * 100).run("PUT", 64, count)
        runs: list[tuple[Run, float]] = []
        for _ in range(rounds):
            cpu = cpu_seconds(server.pid)
            seconds, found = pages(server, keys)
            assert found == count, (found, count)
            used = cpu_seconds(server.pid) - cpu
            runs.append(
                (
                    Run(count=found, seconds=seconds, cpu=used),
                    rows_alone(str(appliance.state / "metadata.sqlite")),
                )
            )
        taken = middle([run.seconds for run, _ in runs]) * 1e3
        report.add(
            Figure(
                what=f"{count:,} keys listed",
                value=count / taken,
                unit="keys/ms",
                cpu=middle([run.cpu_us for run, _ in runs]),
                baseline=f"rows alone; {taken:.1f} ms against {middle([alone for _, alone in runs]) * 1e3:.1f} ms",
                ratio=middle([alone / run.seconds for run, alone in runs]),
                wanted=Wanted(of="radosgw", figure=10_000 / RADOSGW_MS_10000, times=TIMES),
                more={"milliseconds": taken},
            )
        )
    finally:
        appliance.close()
    report.finish()


if __name__ == "__main__":
    main(*(int(word) for word in (*sys.argv[1:], "10000", "7")[:2]))
