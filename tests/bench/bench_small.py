"""
Objects of 4 KiB: ``python -m tests.bench.bench_small [requests] [rounds]``.

PUT, GET and HEAD at 1, 16 and 64 clients, each beside a bare Klein route that verifies the same signatures, reads one row
by its key and stores nothing. A GET is of bytes that were read once before, unless the line says otherwise.
"""

import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from random import Random

from tests.bench.driver import Run, dealt, exchange, request
from tests.bench.processes import Server, bare
from tests.bench.results import Figure, Report, Wanted, middle
from tests.endtoend.appliance import Appliance
from tests.endtoend.wire import Keys

SIZE_BYTES = 4096
KEYS = 2000
LEAST = 0.70
RADOSGW = {
    ("PUT", 16): (745, 2.0),
    ("PUT", 64): (847, 2.0),
    ("GET", 64): (1940, 1.7),
    ("HEAD", 16): (2150, 1.7),
}
"""Requests a second of radosgw 16.2 on such a machine, and how many times that is asked for."""


class Contender:
    """A server with a bucket of small objects; names keys that are new, and keys that are there."""

    def __init__(self, server: Server, keys: Keys, body: bytes) -> None:
        self.server = server
        self._keys = keys
        self._body = body
        self._next = 0
        self._random = Random(1)

    def requests(self, method: str, count: int) -> list[bytes]:
        """Return so many requests, signed now."""
        if method == "PUT":
            first, self._next = self._next, self._next + count
            return [
                request(self.server.port, self._keys, "PUT", f"/bench/k{at:06d}", self._body)
                for at in range(first, first + count)
            ]
        ready = self.each(method)
        return [self._random.choice(ready) for _ in range(count)]

    def each(self, method: str) -> list[bytes]:
        """Return a request for each of the first keys."""
        return [request(self.server.port, self._keys, method, f"/bench/k{at:06d}") for at in range(KEYS)]

    def run(self, method: str, clients: int, count: int) -> Run:
        """Have so many clients make so many requests."""
        requests = dealt(self.requests(method, count), clients)
        return exchange(self.server, requests, answer_bytes=SIZE_BYTES if method == "GET" else 0)


@contextmanager
def contenders() -> Iterator[tuple[Contender, Contender]]:
    """Run both servers: ours and the bare route."""
    body = Random(1).randbytes(SIZE_BYTES)
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        # No archiving meanwhile: bench_archive measures that.
        quiet = {"trigger": {"objects": 10_000_000}}
        appliance = Appliance({"staging": {"capacity": "8GiB"}, "archive": quiet})
        stack.callback(appliance.close)
        appliance.start()
        assert appliance.process is not None
        appliance.s3().create_bucket(Bucket="bench")
        keys = appliance.users["first"]
        other = stack.enter_context(bare("klein", keys.secret_key, folder))
        ours = Server(appliance.process.pid, appliance.port)
        yield Contender(ours, keys, body), Contender(other, keys, body)


def beside(
    run: Callable[[Contender], Run], ours: Contender, other: Contender, rounds: int
) -> list[tuple[Run, Run]]:
    """Have both run in turn."""
    return [(run(ours), run(other)) for _ in range(rounds)]


def figure(what: str, runs: Sequence[tuple[Run, Run]], method: str, clients: int) -> Figure:
    """Return what the runs of ours and of the bare route come to."""
    wanted = RADOSGW.get((method, clients))
    return Figure(
        what=what,
        value=middle([mine.rate for mine, _ in runs]),
        unit="/s",
        cpu=middle([mine.cpu_us for mine, _ in runs]),
        baseline=f"bare route {middle([its.rate for _, its in runs]):,.0f} /s, "
        f"{middle([its.cpu_us for _, its in runs]):.0f} us",
        ratio=middle([mine.rate / its.rate for mine, its in runs]),
        least=LEAST,
        wanted=None if wanted is None else Wanted(of="radosgw", figure=wanted[0], times=wanted[1]),
        more={
            "p50_ms": middle([mine.percentile(0.5) for mine, _ in runs]) * 1e3,
            "p99_ms": middle([mine.percentile(0.99) for mine, _ in runs]) * 1e3,
            "bare_rate": middle([its.rate for _, its in runs]),
            "bare_cpu_us": middle([its.cpu_us for _, its in runs]),
        },
    )


def main(count: int, rounds: int) -> None:
    """Measure."""
    report = Report("small")
    with contenders() as (ours, other):
        ours.run("PUT", 16, KEYS)
        ours.run("HEAD", 16, KEYS)
        first = exchange(ours.server, dealt(ours.each("GET"), 64), answer_bytes=SIZE_BYTES)
        report.add(
            Figure(what="GET 4 KiB first time, 64 clients", value=first.rate, unit="/s", cpu=first.cpu_us)
        )
        for method in ("PUT", "GET", "HEAD"):
            for clients in (1, 16, 64):
                number = count if clients > 1 else count // 4

                def run(
                    contender: Contender, method: str = method, clients: int = clients, number: int = number
                ) -> Run:
                    return contender.run(method, clients, number)

                runs = beside(run, ours, other, rounds)
                report.add(figure(f"{method} 4 KiB, {clients} clients", runs, method, clients))
    report.finish()


if __name__ == "__main__":
    main(*(int(word) for word in (*sys.argv[1:], "4000", "3")[:2]))
