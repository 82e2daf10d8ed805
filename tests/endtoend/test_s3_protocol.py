"""The S3 protocol layer alone, on a real socket, with boto3 as the client and objects in memory behind it."""

import io
import socket
import warnings
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from random import Random
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from OpenSSL.crypto import X509, PKey
from twisted.internet import reactor
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IAddress, IListeningPort
from twisted.internet.ssl import CertificateOptions
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from coldstore.model.keys import Signer
from coldstore.s3.answers import Answer, xml_answer
from coldstore.s3.api import Operation
from coldstore.s3.auth import Authenticator
from coldstore.s3.call import Call
from coldstore.s3.errors import S3Error
from coldstore.s3.ids import IdSource
from coldstore.s3.integrity import checksum_headers
from coldstore.s3.payload import PayloadKind
from coldstore.s3.resource import Endpoint
from coldstore.s3.site import S3Channel, S3Site
from coldstore.s3.xml import node, read_document
from coldstore.util.asynchronous import returns_deferred
from coldstore.util.checksums import new_digest

USER = Signer(user_id="u", name="u", access_key="AK", secret_key="secret/+key")


def own_certificate() -> CertificateOptions:
    """Return a key and a certificate that nobody else has signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    begins_at = datetime(2020, 1, 1, tzinfo=UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(begins_at)
        .not_valid_after(begins_at + timedelta(days=36500))
        .sign(key, hashes.SHA256())
    )
    return CertificateOptions(
        privateKey=PKey.from_cryptography_key(key), certificate=X509.from_cryptography(certificate)
    )


class Kept:
    """A sink in memory with its digests."""

    def __init__(self, algorithms: frozenset[str]) -> None:
        self.body = bytearray()
        self._digests = {name: new_digest(name) for name in algorithms}

    def write(self, block: bytes) -> None:
        """Take bytes."""
        self.body += block
        for digest in self._digests.values():
            digest.update(block)

    def on_pressure(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        """Never press."""

    def digests(self) -> dict[str, bytes]:
        """Return what came out."""
        return {name: digest.digest() for name, digest in self._digests.items()}


class Memory:
    """A few operations over a dict."""

    def __init__(self) -> None:
        self.objects: dict[bytes, bytes] = {}
        self.calls: list[Call] = []

    async def put(self, call: Call) -> Answer:
        """PutObject."""
        self.calls.append(call)
        plan = call.body.object_plan()
        kept = Kept(plan.algorithms)
        received = await call.body.stream_to(kept)
        checksum = plan.check(kept.digests(), received)
        self.objects[call.object_key] = bytes(kept.body)
        return Answer(headers={"ETag": f'"{kept.digests()["md5"].hex()}"', **checksum_headers(checksum)})

    async def refuse(self, call: Call) -> Answer:
        """UploadPart: no such upload, whatever the body."""
        raise S3Error("NoSuchUpload")

    async def get(self, call: Call) -> Answer:
        """GetObject and HeadObject."""
        self.calls.append(call)
        body = self.objects.get(call.object_key)
        if body is None:
            raise S3Error("NoSuchKey", details={"Key": call.object_key.decode()})
        return Answer(
            headers={"Content-Length": str(len(body)), "Content-Type": "binary/octet-stream"}, body=body
        )

    async def delete_many(self, call: Call) -> Answer:
        """DeleteObjects."""
        self.calls.append(call)
        document = read_document(await call.body.read_document(requires_digest=True), "Delete")
        keys = [item.text_of("Key") or "" for item in document.all("Object")]
        for key in keys:
            self.objects.pop(key.encode(), None)
        return xml_answer(node("DeleteResult", *(node("Deleted", node("Key", key)) for key in keys)))

    async def restore(self, call: Call) -> Answer:
        """RestoreObject."""
        self.calls.append(call)
        read_document(await call.body.read_document(), "RestoreRequest")
        return Answer(status=202)


class ProtocolTests(TestCase):
    """A server on loopback."""

    timeout = 60

    def setUp(self) -> None:
        """Listen."""
        self.memory = Memory()
        ids = IdSource(Random(1))
        seconds: Callable[[], float] = reactor.seconds  # type: ignore[attr-defined]

        def look_up(access_key: str) -> Deferred[Signer | None]:
            return succeed(USER if access_key == USER.access_key else None)

        endpoint = Endpoint(
            operations={
                Operation.PUT_OBJECT: self.memory.put,
                Operation.UPLOAD_PART: self.memory.refuse,
                Operation.GET_OBJECT: self.memory.get,
                Operation.HEAD_OBJECT: self.memory.get,
                Operation.DELETE_OBJECTS: self.memory.delete_many,
                Operation.RESTORE_OBJECT: self.memory.restore,
            },
            authenticator=Authenticator(look_up=look_up, seconds=seconds, region="eu-tape-1"),
            ids=ids,
            seconds=seconds,
            in_thread=deferToThread,
            domains=("localhost",),
        )
        site = S3Site(endpoint.resource(), reactor=reactor, ids=ids, linger_seconds=0.5)
        self.channels: list[S3Channel] = []
        build = site.buildProtocol

        def built(address: IAddress) -> S3Channel:
            self.channels.append(build(address))
            return self.channels[-1]

        site.buildProtocol = built  # type: ignore[method-assign]
        plain = reactor.listenTCP(0, site, interface="127.0.0.1")  # type: ignore[attr-defined]
        secure = reactor.listenSSL(0, site, own_certificate(), interface="127.0.0.1")  # type: ignore[attr-defined]
        self.addCleanup(self.close, plain, secure)
        self.port: int = plain.getHost().port
        self.secure_port: int = secure.getHost().port

    @returns_deferred
    async def close(self, *ports: IListeningPort) -> None:
        """Stop listening and end the connections that clients keep."""
        for port in ports:
            await maybeDeferred(port.stopListening)
        for channel in self.channels:
            if channel.transport is not None and channel.transport.connected:
                channel.transport.abortConnection()
        await deferLater(reactor, 0.05, lambda: None)  # type: ignore[arg-type]

    def client(self, **config: Any) -> Any:
        """Return a boto3 client."""
        s3 = {"addressing_style": "path", **config.pop("s3", {})}
        return boto3.client(
            "s3",
            endpoint_url=config.pop("endpoint_url", f"http://127.0.0.1:{self.port}"),
            verify=False,
            aws_access_key_id=USER.access_key,
            aws_secret_access_key=config.pop("secret", USER.secret_key),
            region_name="eu-tape-1",
            config=Config(s3=s3, retries={"total_max_attempts": 1}, **config),
        )

    @returns_deferred
    async def test_round_trip(self) -> None:
        """Awkward keys and bodies of many sizes go through signatures, 100-continue and checksums and come back."""
        client = self.client()
        keys = ("a b+c%d", "é/ü//x", "./../k", "/lead", "trail/", "q?&=#;", "\x01\x7f", "~*'()!")

        def talk() -> None:
            for number, key in enumerate(keys):
                body = bytes([number]) * (number * 100_000 + number)
                client.put_object(
                    Bucket="b", Key=key, Body=body, StorageClass="GLACIER", Metadata={"x": "y  z"}
                )
                self.assertEqual(client.get_object(Bucket="b", Key=key)["Body"].read(), body)
                self.assertEqual(client.head_object(Bucket="b", Key=key)["ContentLength"], len(body))

        await deferToThread(talk)
        self.assertEqual(set(self.memory.objects), {key.encode() for key in keys})

    @returns_deferred
    async def test_algorithms(self) -> None:
        """Each checksum that boto3 can send is verified and echoed."""
        client = self.client()

        def talk() -> None:
            for algorithm in ("CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"):
                answer = client.put_object(Bucket="b", Key="k", Body=b"hello", ChecksumAlgorithm=algorithm)
                self.assertIn(f"Checksum{algorithm}", answer)

        await deferToThread(talk)

    @returns_deferred
    async def test_documents(self) -> None:
        """Requests whose bodies are documents are read, whether protected by CRC32 or MD5."""
        client = self.client()

        def talk() -> None:
            client.put_object(Bucket="b", Key="a\n<&>b", Body=b"x")
            deleted = client.delete_objects(Bucket="b", Delete={"Objects": [{"Key": "a\n<&>b"}]})["Deleted"]
            self.assertEqual(deleted, [{"Key": "a\n<&>b"}])
            client.restore_object(Bucket="b", Key="k", RestoreRequest={"Days": 3})

        await deferToThread(talk)
        self.assertEqual(self.memory.objects, {})

    @returns_deferred
    async def test_errors(self) -> None:
        """boto3 understands refusals, and a refused large upload gets its answer, not a reset."""
        wrong, client = self.client(secret="other"), self.client()

        def refusal(call: Callable[[], object]) -> tuple[str, int]:
            with self.assertRaises(ClientError) as caught:
                call()
            response = caught.exception.response
            self.assertTrue(response["ResponseMetadata"]["RequestId"])
            return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]

        def talk() -> None:
            large = io.BytesIO(bytes(20_000_000))
            self.assertEqual(
                refusal(lambda: wrong.put_object(Bucket="b", Key="k", Body=large)),
                ("SignatureDoesNotMatch", 403),
            )
            self.assertEqual(refusal(lambda: client.get_object(Bucket="b", Key="none")), ("NoSuchKey", 404))
            self.assertEqual(refusal(lambda: client.head_object(Bucket="b", Key="none")), ("404", 404))
            self.assertEqual(refusal(lambda: client.list_buckets()), ("NotImplemented", 501))

        await deferToThread(talk)
        self.assertEqual(self.memory.objects, {})

    @returns_deferred
    async def test_presigned(self) -> None:
        """URLs presigned by boto3 work, in Version 4 and in Version 2, fields in the query included."""
        clients = [self.client(signature_version="s3v4"), self.client(signature_version="s3")]

        def talk() -> None:
            for client in clients:
                extra = {"StorageClass": "GLACIER", "ContentType": "text/x"}
                url = client.generate_presigned_url(
                    "put_object", Params={"Bucket": "b", "Key": "p q", **extra}
                )
                connection = HTTPConnection("127.0.0.1", self.port)
                target = url.split(str(self.port), 1)[1]
                headers = {"Content-Type": "text/x"}
                if (
                    "X-Amz-Signature" in target
                ):  # Version 4 leaves this field in the headers, Version 2 in the query
                    headers["x-amz-storage-class"] = "GLACIER"
                connection.request("PUT", target, b"hello", headers)
                answer = connection.getresponse()
                self.assertEqual(answer.status, 200, answer.read())
                answer.read()
                url = client.generate_presigned_url("get_object", Params={"Bucket": "b", "Key": "p q"})
                connection.request("GET", url.split(str(self.port), 1)[1])
                self.assertEqual(connection.getresponse().read(), b"hello")
                connection.close()

        await deferToThread(talk)
        classes = [
            call.headers.get("x-amz-storage-class") for call in self.memory.calls if call.method == "PUT"
        ]
        self.assertEqual(classes, ["GLACIER", "GLACIER"])

    @returns_deferred
    async def test_secure(self) -> None:
        """Over TLS boto3 sends chunks within chunks, a trailer and no length; the object has none of the framing."""
        client = self.client(endpoint_url=f"https://127.0.0.1:{self.secure_port}")
        bodies = {"empty": b"", "small": b"hello", "large": bytes(range(256)) * 20_000}

        def talk() -> None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the certificate is the test's own
                for key, body in bodies.items():
                    for algorithm in ("CRC32", "CRC64NVME", "SHA256"):
                        client.put_object(
                            Bucket="b", Key=key, Body=io.BytesIO(body), ChecksumAlgorithm=algorithm
                        )
                        self.assertEqual(client.get_object(Bucket="b", Key=key)["Body"].read(), body)
                with self.assertRaises(ClientError):
                    client.upload_part(
                        Bucket="b", Key="k/", PartNumber=1, UploadId="u", Body=bytes(9_000_000)
                    )

        await deferToThread(talk)
        call = self.memory.calls[0]
        self.assertEqual(call.body.payload.kind, PayloadKind.UNSIGNED_CHUNKS_TRAILER)
        self.assertTrue(call.is_secure)
        self.assertNotIn("content-length", call.headers)
        self.assertEqual(self.memory.objects, {key.encode(): body for key, body in bodies.items()})

    @returns_deferred
    async def test_virtual_host(self) -> None:
        """A bucket in the host name is found."""
        client = boto3.client(
            "s3",
            endpoint_url=f"http://localhost:{self.port}",
            aws_access_key_id=USER.access_key,
            aws_secret_access_key=USER.secret_key,
            region_name="us-east-1",
            config=Config(s3={"addressing_style": "virtual"}, retries={"total_max_attempts": 1}),
        )
        original = socket.getaddrinfo

        def loopback(host: str, *rest: Any, **more: Any) -> Any:
            return original("127.0.0.1" if host.endswith(".localhost") else host, *rest, **more)

        self.patch(socket, "getaddrinfo", loopback)
        await deferToThread(lambda: client.put_object(Bucket="photos", Key="a/b", Body=b"x"))
        self.assertEqual((self.memory.calls[0].bucket, self.memory.calls[0].key), ("photos", b"a/b"))
