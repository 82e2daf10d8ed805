"""TLS, and who speaks plain HTTP to it."""

from twisted.internet.address import IPv4Address
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import CertificateOptions
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from coldstore.s3.secure import TlsFactory
from tests.unit.s3_wire import ParsedAnswer


class TlsTests(SynchronousTestCase):
    """``TlsFactory``."""

    def setUp(self) -> None:
        """Have a connection to it."""
        factory = TlsFactory(CertificateOptions(), False, Factory.forProtocol(Protocol), Clock())
        self.protocol = factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", 4000))
        assert self.protocol is not None
        self.transport = StringTransport()
        self.protocol.makeConnection(self.transport)

    def test_plain_http(self) -> None:
        """Is told to use https, in the form of an error of S3; then the connection closes."""
        for method in (b"GET", b"PUT", b"HEAD", b"OPTIONS"):
            self.setUp()
            self.protocol.dataReceived(method + b" /bkt/k HTTP/1.1\r\nHost: h\r\n")
            self.protocol.dataReceived(b"\r\n")
            answer = ParsedAnswer.of(self.transport.value())
            self.assertEqual((answer.status, answer.headers["connection"]), (400, "close"))
            self.assertEqual(answer.code, "BadRequest")
            self.assertIn(b"https", answer.body)
            self.assertEqual(answer.rest, b"")
            self.assertTrue(self.transport.disconnecting)
            self.protocol.connectionLost(Failure(connectionDone.value))

    def test_one_too_many(self) -> None:
        """Who is refused by the site is refused: he is not left with a connection that nobody counts and nothing ends."""

        class Full(Factory):
            def buildProtocol(self, addr: object) -> None:
                return None

        factory = TlsFactory(CertificateOptions(), False, Full(), Clock())
        self.assertIsNone(factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", 4000)))

    def test_anything_else(self) -> None:
        """Is for TLS to judge."""
        for first in (b"\x16\x03\x01\x00\x05hello", b"SSH-2.0-x\r\n", b"\x00"):
            self.setUp()
            self.protocol.dataReceived(first)
            self.assertNotIn(b"HTTP/1.1", self.transport.value())

    def test_later_bytes(self) -> None:
        """Only the first bytes of a connection say what it speaks."""
        self.protocol.dataReceived(b"\x16\x03\x01\x00\x20")
        self.protocol.dataReceived(b"GET / HTTP/1.1\r\n\r\n")
        self.assertNotIn(b"HTTP/1.1 400", self.transport.value())
