"""
The load: bytes that were made before the clock starts, over connections that are kept, by one epoll loop.

Nothing of an answer is looked at but its status and its length: a client costs some ten microseconds a request, so that on
two cores it is the server that is measured.
"""

import hashlib
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tests.bench.processes import Server, cpu_seconds
from tests.endtoend.wire import Keys, signed_headers

RECEIVE_BYTES = 1024 * 1024
UNSIGNED = "UNSIGNED-PAYLOAD"


class WrongAnswer(AssertionError):
    """The server did not answer as it should; a figure of that would mean nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one run came to; ``latencies`` in seconds, sorted; ``cpu`` of the server in seconds."""

    count: int
    seconds: float
    cpu: float
    latencies: Sequence[float] = ()

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.count / self.seconds

    @property
    def cpu_us(self) -> float:
        """Processor time of the server for each answer."""
        return self.cpu / self.count * 1e6

    def percentile(self, share: float) -> float:
        """Return the latency that this share of the answers kept."""
        return self.latencies[min(len(self.latencies) - 1, int(len(self.latencies) * share))]


def request(
    port: int,
    keys: Keys,
    method: str,
    target: str,
    body: bytes | None = None,
    *,
    payload: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """
    Return a signed request, body included.

    :param payload: value of x-amz-content-sha256; None for the body's hash. With one, the body is left to the caller.
    """
    hashed = hashlib.sha256(body or b"").hexdigest() if payload is None else payload
    sent = {"host": f"127.0.0.1:{port}", **(headers or {})}
    sent |= signed_headers(keys, method, target.encode(), sent, hashed, at=time.time())
    if body is not None:
        sent["content-length"] = str(len(body))
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in sent.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + (body or b"")


def exchange(
    server: Server, lanes: Sequence[Sequence[bytes]], *, answer_bytes: int, status: int = 200
) -> Run:
    """
    Send the requests of each lane one after the other over a connection of its own.

    :param answer_bytes: length of the body of every answer as it is sent
    :raise WrongAnswer: one has another status
    """
    poll = select.epoll()
    connections: dict[int, tuple[socket.socket, Iterator[bytes]]] = {}
    received: dict[int, bytes] = {}
    begun_at: dict[int, float] = {}
    latencies: list[float] = []
    right = b"HTTP/1.1 %d " % status
    for lane in lanes:
        connection = socket.create_connection(("127.0.0.1", server.port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connections[connection.fileno()] = connection, iter(lane)
        poll.register(connection.fileno(), select.EPOLLIN)
    cpu, clock = cpu_seconds(server.pid), time.perf_counter
    begun = clock()
    for number, (connection, waiting) in connections.items():
        begun_at[number] = clock()
        connection.sendall(next(waiting))
    left = len(connections)
    while left:
        for number, _ in poll.poll(30):
            connection, waiting = connections[number]
            answer = received.pop(number, b"") + connection.recv(RECEIVE_BYTES)
            end = answer.find(b"\r\n\r\n")
            if end < 0 or len(answer) < end + 4 + answer_bytes:
                if not answer:
                    raise WrongAnswer("the connection was closed")
                received[number] = answer
                continue
            if not answer.startswith(right):
                raise WrongAnswer(answer[:1000].decode(errors="replace"))
            now = clock()
            latencies.append(now - begun_at[number])
            following = next(waiting, None)
            if following is None:
                left -= 1
                poll.unregister(number)
                continue
            begun_at[number] = now
            connection.sendall(following)
    seconds = clock() - begun
    used = cpu_seconds(server.pid) - cpu
    poll.close()
    for connection, _ in connections.values():
        connection.close()
    return Run(count=len(latencies), seconds=seconds, cpu=used, latencies=sorted(latencies))


def dealt(requests: Sequence[bytes], lanes: int) -> list[Sequence[bytes]]:
    """Return requests dealt out to so many lanes."""
    return [requests[at::lanes] for at in range(lanes)]


def together(server: Server, jobs: Sequence[Callable[[], int]]) -> Run:
    """Run jobs, each in a thread of its own; ``count`` is the sum of what they return."""
    counts: list[int] = []
    failures: list[BaseException] = []

    def run(job: Callable[[], int]) -> None:
        try:
            counts.append(job())
        except BaseException as error:  # noqa: BLE001 - raised again below
            failures.append(error)

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    cpu, begun = cpu_seconds(server.pid), time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - begun
    if failures:
        raise failures[0]
    return Run(count=sum(counts), seconds=seconds, cpu=cpu_seconds(server.pid) - cpu)


def upload(server: Server, head: bytes, block: bytes, size_bytes: int) -> int:
    """Send a header section and a body made of a repeated block; return the length of the body."""
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(head)
        left = size_bytes
        while left:
            piece = memoryview(block)[: min(left, len(block))]
            connection.sendall(piece)
            left -= len(piece)
        _check(connection.recv(65536))
    return size_bytes


def download(server: Server, head: bytes, size_bytes: int) -> int:
    """Send a request and receive an answer with a body of that length."""
    buffer = bytearray(RECEIVE_BYTES)
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(head)
        answer = connection.recv(65536)
        _check(answer)
        left = size_bytes - len(answer.partition(b"\r\n\r\n")[2])
        while left:
            count = connection.recv_into(buffer)
            if not count:
                raise WrongAnswer(f"{left} bytes are missing")
            left -= count
    return size_bytes


def _check(answer: bytes) -> None:
    if not answer.startswith(b"HTTP/1.1 200 "):
        raise WrongAnswer(answer[:1000].decode(errors="replace"))
