"""Bytes on their way to clients, over real sockets on the loopback and with a real disk."""

import os
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import md5
from pathlib import Path
from random import Random
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from twisted.internet import reactor as the_reactor
from twisted.internet import ssl, task
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import (
    SSL4ServerEndpoint,
    TCP4ClientEndpoint,
    TCP4ServerEndpoint,
    connectProtocol,
    wrapClientTLS,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from coldstore.disk.staging import DiskStaging
from coldstore.interfaces.staging import BLOCK_BYTES
from coldstore.metadata.sqlite.store import SqliteStore
from coldstore.model.objects import Piece
from coldstore.s3.auth import Authenticator
from coldstore.s3.ids import IdSource
from coldstore.s3.operations import S3Operations
from coldstore.s3.pace import Pace
from coldstore.s3.pieces import PinnedRun, cut
from coldstore.s3.resource import Endpoint
from coldstore.s3.site import S3Site
from coldstore.testing.staging import SimulatedStaging
from coldstore.util.asynchronous import returns_deferred
from tests.unit.encryption_keys import SOURCE, data_keyring, key_headers
from tests.unit.s3_rig import RULES, CountingBell, text_of
from tests.unit.s3_wire import ParsedAnswer, look_up, request_bytes, run_here

reactor: Any = the_reactor
SIZE_BYTES = 2 * BLOCK_BYTES + 12_345


class Client(Protocol):
    """A connection that collects what comes."""

    transport: Any

    def __init__(self) -> None:
        self.received = bytearray()
        self.lost: Deferred[None] = Deferred()
        self._waiting: tuple[Callable[[], bool], Deferred[None]] | None = None

    def dataReceived(self, data: bytes) -> None:
        """Collect."""
        self.received += data
        self._look()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Tell."""
        self._look(is_lost=True)
        self.lost.callback(None)

    def until(self, condition: Callable[[], bool]) -> Deferred[None]:
        """Fire when the condition holds, or the connection is lost."""
        done: Deferred[None] = Deferred()
        self._waiting = (condition, done)
        self._look()
        return done

    def _look(self, is_lost: bool = False) -> None:
        if self._waiting is not None and (is_lost or self._waiting[0]()):
            done = self._waiting[1]
            self._waiting = None
            done.callback(None)

    def has_answer(self) -> bool:
        """Whether one whole answer is there."""
        end = self.received.find(b"\r\n\r\n") + 4
        if end < 4:
            return False
        headers = ParsedAnswer.of(bytes(self.received[:end])).headers
        return len(self.received) - end >= int(headers.get("content-length", "0"))

    def take_answer(self) -> ParsedAnswer:
        """Take the first answer off what was received."""
        answer = ParsedAnswer.of(bytes(self.received))
        self.received = bytearray(answer.rest)
        return answer


class ServedTests(TestCase):
    """GET through everything that is real: sockets, disk, threads."""

    timeout = 30

    @returns_deferred
    async def setUp(self) -> None:  # type: ignore[override]
        """An endpoint on a free port of the loopback, and an object of a little more than two blocks."""
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.store = SqliteStore(":memory:")
        await self.store.open()
        self.staging = DiskStaging(
            reactor=reactor,
            random=Random(3),
            run="1",
            directory=self.directory,
            capacity_bytes=1 << 28,
            min_free_bytes=0,
        )
        await self.staging.start()
        self.addCleanup(self.staging.stop)
        operations = S3Operations(
            store=self.store,
            staging=self.staging,
            clock=reactor,
            random=Random(5),
            rules=RULES,
            region="us-east-1",
            archive_bell=CountingBell(),
            recall_bell=CountingBell(),
            janitor_bell=CountingBell(),
            messages_bell=CountingBell(),
            in_thread=lambda function: deferToThread(function),
            data_keys=data_keyring(self.store),
            sse_c_over_http=True,
        )
        self.services = operations._services
        # Counting reads would leave a timer behind.
        self.patch(operations._services.reads, "note", lambda version_uid: None)
        ids = IdSource(Random(7))
        endpoint = Endpoint(
            operations=operations.registry(),
            authenticator=Authenticator(look_up=look_up, seconds=reactor.seconds, region="us-east-1"),
            ids=ids,
            seconds=reactor.seconds,
            in_thread=run_here,
        )
        self.site = S3Site(endpoint.resource(), reactor=reactor, ids=ids, linger_seconds=0.2)
        self.port = await self.listen(TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1"))
        self.content = Random(9).randbytes(SIZE_BYTES)
        client = await self.connect()
        self.assertEqual((await self.ask(client, "PUT", "/bkt")).status, 200)
        self.assertEqual((await self.ask(client, "PUT", "/bkt/big", self.content)).status, 200)
        client.transport.loseConnection()
        await client.lost

    @returns_deferred
    async def listen(self, endpoint: object) -> int:
        """Serve; return the port."""
        port = await endpoint.listen(self.site)  # type: ignore[attr-defined]
        self.addCleanup(port.stopListening)
        return int(port.getHost().port)

    @returns_deferred
    async def connect(self) -> Client:
        """Open a connection."""
        client: Client = await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", self.port), Client())
        self.addCleanup(lambda: client.transport.abortConnection())
        return client

    @returns_deferred
    async def ask(
        self,
        client: Client,
        method: str,
        target: str,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
    ) -> ParsedAnswer:
        """Send a request and wait for its answer."""
        client.transport.write(request_bytes(method, target, headers, body, seconds=reactor.seconds()))
        await client.until(client.has_answer)
        return client.take_answer()

    @returns_deferred
    async def check_nothing_is_held(self) -> None:
        """No descriptor of the disk stays open, and nothing pinned."""
        for _ in range(100):
            held = [name for name in _open_files() if str(self.directory) in name and "/files/" in name]
            if not held and not self.staging._pins._counts:
                return
            await task.deferLater(reactor, 0.02)
        self.fail(f"still held: {held}, {self.staging._pins._counts}")

    @returns_deferred
    async def test_whole_and_again_on_one_connection(self) -> None:
        """A large object comes whole, and the connection serves the next requests."""
        client = await self.connect()
        for _ in range(2):
            answer = await self.ask(client, "GET", "/bkt/big")
            self.assertEqual((answer.status, md5(answer.body).digest()), (200, md5(self.content).digest()))
        answer = await self.ask(client, "GET", "/bkt/big", headers={"range": "bytes=4194300-4194310"})
        self.assertEqual((answer.status, answer.body), (206, self.content[4194300:4194311]))
        answer = await self.ask(client, "HEAD", "/nothing")
        self.assertEqual(answer.status, 404)
        await self.check_nothing_is_held()

    @returns_deferred
    async def test_pipelined_requests_are_answered_in_order(self) -> None:
        """What a client sends ahead waits."""
        client = await self.connect()
        for offset in range(3):
            client.transport.write(
                request_bytes(
                    "GET",
                    "/bkt/big",
                    {"range": f"bytes={offset}-{offset + 4_999_999}"},
                    seconds=reactor.seconds(),
                )
            )
        for offset in range(3):
            await client.until(client.has_answer)
            answer = client.take_answer()
            self.assertTrue(answer.body == self.content[offset : offset + 5_000_000])

    @returns_deferred
    async def test_over_tls(self) -> None:
        """The same bytes come where the kernel cannot send them from the file."""
        certificate = _certificate()
        port = await self.listen(SSL4ServerEndpoint(reactor, 0, certificate.options(), interface="127.0.0.1"))
        trust = ssl.trustRootFromCertificates([certificate])
        endpoint = wrapClientTLS(
            ssl.optionsForClientTLS("localhost", trustRoot=trust),
            TCP4ClientEndpoint(reactor, "127.0.0.1", port),
        )
        client: Client = await connectProtocol(endpoint, Client())
        answer = await self.ask(client, "GET", "/bkt/big")
        self.assertEqual((answer.status, answer.body == self.content), (200, True))
        client.transport.loseConnection()
        await client.lost
        await self.check_nothing_is_held()

    @returns_deferred
    async def test_encrypted(self) -> None:
        """Encrypted in threads on the way in, decrypted in threads on the way out, whole and in ranges; nothing stays open."""
        client, keyed = await self.connect(), key_headers()
        self.assertEqual((await self.ask(client, "PUT", "/bkt/secret", self.content, keyed)).status, 200)
        answer = await self.ask(client, "GET", "/bkt/secret", headers=keyed)
        self.assertEqual((answer.status, answer.body == self.content), (200, True))
        ranged = {**keyed, "range": "bytes=4194300-7194310"}
        answer = await self.ask(client, "GET", "/bkt/secret", headers=ranged)
        self.assertEqual((answer.status, answer.body == self.content[4194300:7194311]), (206, True))
        copied = {**keyed, **key_headers(beginning=SOURCE), "x-amz-copy-source": "bkt/secret"}
        self.assertEqual((await self.ask(client, "PUT", "/bkt/copy", headers=copied)).status, 200)
        answer = await self.ask(client, "GET", "/bkt/copy", headers=keyed)
        self.assertTrue(answer.body == self.content)
        client.transport.write(request_bytes("GET", "/bkt/secret", keyed, seconds=reactor.seconds()))
        await client.until(lambda: len(client.received) > 100_000)
        client.transport.abortConnection()
        await client.lost
        await self.check_nothing_is_held()

    @returns_deferred
    async def test_client_that_leaves(self) -> None:
        """Nothing stays open or pinned when a client goes in the middle."""
        client = await self.connect()
        client.transport.write(request_bytes("GET", "/bkt/big", seconds=reactor.seconds()))
        await client.until(lambda: len(client.received) > 100_000)
        client.transport.abortConnection()
        await client.lost
        await self.check_nothing_is_held()

    def be_strict(self) -> None:
        """Have clients take 100,000 bytes in every third of a second."""
        object.__setattr__(self.services, "pace", Pace(least_bytes=100_000, window_seconds=0.3))

    @returns_deferred
    async def test_client_that_does_not_read(self) -> None:
        """A client that takes nothing for long loses its connection; meanwhile the bytes stay pinned."""
        self.be_strict()
        client = await self.connect()
        client.transport.pauseProducing()
        client.transport.write(request_bytes("GET", "/bkt/big", seconds=reactor.seconds()))
        await task.deferLater(reactor, 0.15)
        self.assertTrue(self.staging._pins._counts)
        await task.deferLater(reactor, 0.8)
        self.assertFalse(self.staging._pins._counts)
        client.transport.resumeProducing()
        await client.lost
        self.assertLess(len(client.received), SIZE_BYTES)
        await self.check_nothing_is_held()

    @returns_deferred
    async def test_client_that_takes_a_little_now_and_then(self) -> None:
        """A client that takes less than it must in each window loses its connection, though it is never silent."""
        self.be_strict()
        client = await self.connect()
        client.transport.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.transport.bufferSize = 100
        client.transport.pauseProducing()
        client.transport.write(request_bytes("GET", "/bkt/big", seconds=reactor.seconds()))
        for _ in range(200):
            client.transport.resumeProducing()
            await task.deferLater(reactor, 0)
            client.transport.pauseProducing()
            await task.deferLater(reactor, 0.02)
            if client.received and not self.staging._pins._counts:
                break
        self.assertTrue(client.received)
        client.transport.resumeProducing()
        await client.lost
        self.assertLess(len(client.received), SIZE_BYTES)
        await self.check_nothing_is_held()

    @returns_deferred
    async def test_object_deleted_while_it_is_read(self) -> None:
        """A reader gets what it began to read, to its end."""
        client = await self.connect()
        client.transport.write(request_bytes("GET", "/bkt/big", seconds=reactor.seconds()))
        await client.until(lambda: len(client.received) > 10_000)
        client.transport.pauseProducing()
        other = await self.connect()
        self.assertEqual((await self.ask(other, "DELETE", "/bkt/big")).status, 204)
        discards = await self.store.discards(10)
        self.assertEqual(len(discards), 1)
        freed = self.staging.discard([discards[0].address])
        client.transport.resumeProducing()
        await client.until(client.has_answer)
        self.assertTrue(client.take_answer().body == self.content)
        await freed

    @returns_deferred
    async def test_damage_in_the_middle(self) -> None:
        """A damaged block is never sent: the connection breaks before it, and an operator is told."""
        self.damage(BLOCK_BYTES + 77)
        client = await self.connect()
        client.transport.write(request_bytes("GET", "/bkt/big", seconds=reactor.seconds()))
        await client.lost
        _, _, body = bytes(client.received).partition(b"\r\n\r\n")
        self.assertLessEqual(len(body), BLOCK_BYTES)
        self.assertTrue(self.content.startswith(body))
        alerts = await self.store.alerts(include_cleared=False, limit=10)
        self.assertEqual([alert.kind for alert in alerts], ["bytes-damaged"])
        self.assertIn("bkt/big", alerts[0].sentence)
        self.flushLoggedErrors()
        await self.check_nothing_is_held()

    @returns_deferred
    async def test_damage_at_the_start(self) -> None:
        """Is told by an answer, since none has begun; other parts of the object can still be read."""
        self.damage(5)
        client = await self.connect()
        answer = await self.ask(client, "GET", "/bkt/big")
        self.assertEqual((answer.status, answer.code), (500, "InternalError"))
        answer = await self.ask(client, "GET", "/bkt/big", headers={"range": f"bytes={BLOCK_BYTES}-"})
        self.assertEqual((answer.status, answer.body == self.content[BLOCK_BYTES:]), (206, True))
        self.assertEqual(len(await self.store.alerts(include_cleared=False, limit=10)), 1)
        await self.check_nothing_is_held()

    @returns_deferred
    async def test_lost_file(self) -> None:
        """A file that is gone is 503 and not a broken answer."""
        for path in self.files():
            path.unlink()
        client = await self.connect()
        answer = await self.ask(client, "GET", "/bkt/big")
        self.assertEqual((answer.status, answer.code), (503, "ServiceUnavailable"))
        await self.check_nothing_is_held()

    @returns_deferred
    async def test_object_of_many_parts(self) -> None:
        """Parts follow each other without seams; a range may begin and end in any of them."""
        client = await self.connect()
        upload_id = text_of((await self.ask(client, "POST", "/bkt/mp?uploads")).body, "UploadId")
        parts = [Random(1).randbytes(5 << 20), Random(2).randbytes((5 << 20) + 1), b"end"]
        listed = ""
        for number, part in enumerate(parts, 1):
            answer = await self.ask(client, "PUT", f"/bkt/mp?partNumber={number}&uploadId={upload_id}", part)
            etag = answer.headers["etag"]
            listed += f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"
        document = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>".encode()
        self.assertEqual(
            (await self.ask(client, "POST", f"/bkt/mp?uploadId={upload_id}", document)).status, 200
        )
        whole = b"".join(parts)
        self.assertTrue((await self.ask(client, "GET", "/bkt/mp")).body == whole)
        begin, end = (5 << 20) - 7, (10 << 20) + 2
        answer = await self.ask(client, "GET", "/bkt/mp", headers={"range": f"bytes={begin}-{end}"})
        self.assertTrue(answer.body == whole[begin : end + 1])
        answer = await self.ask(client, "GET", "/bkt/mp?partNumber=3")
        self.assertEqual((answer.status, answer.body), (206, b"end"))
        await self.check_nothing_is_held()

    def files(self) -> list[Path]:
        """Return the files that hold pieces."""
        return [
            path for path in self.directory.rglob("*") if path.is_file() and path.stat().st_size >= SIZE_BYTES
        ]

    def damage(self, offset_bytes: int) -> None:
        """Change one byte of the object on disk."""
        (path,) = self.files()
        content = path.read_bytes()
        position = content.index(self.content[:64]) + offset_bytes
        with path.open("r+b") as file:
            file.seek(position)
            file.write(bytes([content[position] ^ 1]))


class RunTests(SynchronousTestCase):
    """Segments and pins."""

    def test_cut(self) -> None:
        """A run is cut where pieces end; pieces without bytes are left out."""
        pieces = [
            Piece(ordinal=n, address=f"p{n}", length_bytes=size, crc64nvme=0)
            for n, size in enumerate((5, 0, 7))
        ]
        for begin in range(12):
            for length in range(12 - begin + 1):
                segments = cut(pieces, begin, length)
                self.assertEqual(sum(segment.length_bytes for segment in segments), length)
                self.assertNotIn("p1", [segment.piece.address for segment in segments])
        (first, second) = cut(pieces, 3, 4)
        self.assertEqual((first.offset_bytes, first.length_bytes), (3, 2))
        self.assertEqual((second.offset_bytes, second.length_bytes), (0, 2))

    def test_steps_end_at_blocks(self) -> None:
        """Steps are never longer than asked and never cross a block of their piece."""
        staging = SimulatedStaging()
        piece = Piece(ordinal=1, address="p", length_bytes=2 * BLOCK_BYTES, crc64nvme=0)
        run = PinnedRun(staging, cut([piece], BLOCK_BYTES - 10, 30))
        self.assertEqual(run.next_step(), (0, BLOCK_BYTES - 10, 10))
        self.assertEqual(run.peek(8), (0, BLOCK_BYTES, 8))
        self.assertEqual(run.next_step(), (0, BLOCK_BYTES, 20))
        self.assertIsNone(run.next_step())
        run.close()
        run.close()
        self.assertRaises(ValueError, staging.unpin, piece)


def _open_files() -> list[str]:
    names = []
    for entry in os.listdir("/proc/self/fd"):
        try:
            names.append(os.readlink(f"/proc/self/fd/{entry}"))
        except OSError:
            continue
    return names


def _certificate() -> ssl.PrivateCertificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    loaded: ssl.PrivateCertificate = ssl.PrivateCertificate.loadPEM(
        pem + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return loaded
