"""Certificates of the S3 endpoint: what is sent, what is refused, what is taken anew, what is told."""

import contextlib
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from coldstore.appliance.certificates import (
    DAY_SECONDS,
    LOOK_SECONDS,
    SETTLE_SECONDS,
    CertificateFault,
    Certificates,
    Present,
    read_certificate,
)
from coldstore.metadata.sqlite.store import SqliteStore
from coldstore.model.events import Severity
from coldstore.util.listening import TlsFiles
from coldstore.work.alerts import Alerts
from tests.certificates import Authority

AUTHORITY = Authority()


def shaken(context: SSL.Context, name: str, *, most: ssl.TLSVersion | None = None) -> ssl.SSLObject:
    """
    Return what a client has agreed on with a server, in memory; it knows the root alone.

    :raise ssl.SSLError: it does not trust the server, or they have no version in common
    """
    trusting = ssl.create_default_context(cadata=AUTHORITY.root.decode())
    if most is not None:
        trusting.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        trusting.maximum_version = most
        # Else the client's own policy would refuse first.
        trusting.set_ciphers("ALL:@SECLEVEL=0")
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting.wrap_bio(incoming, outgoing, server_hostname=name)
    server = SSL.Connection(context, None)
    server.set_accept_state()
    for _ in range(10):
        try:
            client.do_handshake()
            return client
        except ssl.SSLWantReadError:
            pass
        if sent := outgoing.read():
            server.bio_write(sent)
        try:
            server.do_handshake()
        except SSL.WantReadError:
            pass
        except SSL.Error as error:
            raise ssl.SSLError(str(error)) from error
        with contextlib.suppress(SSL.WantReadError):
            incoming.write(server.bio_read(1 << 16))
    raise AssertionError("they do not come to an end")


class CertificateCase(SynchronousTestCase):
    """Has files."""

    def setUp(self) -> None:
        """Have a folder for them."""
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.files = TlsFiles(
            certificate_file=str(self.folder / "certificate.pem"), key_file=str(self.folder / "key.pem")
        )

    def write(self, certificate: bytes, key: bytes) -> None:
        """Write both files."""
        Path(self.files.certificate_file).write_bytes(certificate)
        Path(self.files.key_file).write_bytes(key)

    def issue(self, *names: str, **when: Any) -> None:
        """Write a new certificate as an authority sends it, and its key."""
        certificate, key = AUTHORITY.issue(*(names or ("s3.test",)), **when)
        self.write(certificate + AUTHORITY.intermediate, key)


class ReadTests(CertificateCase):
    """``read_certificate``."""

    def fault(self) -> str:
        """Return why the files are refused."""
        with self.assertRaises(CertificateFault) as caught:
            read_certificate(self.files)
        return str(caught.exception)

    def test_chain(self) -> None:
        """A client that knows the root alone trusts the server, because all certificates of the file are sent."""
        self.issue()
        found = read_certificate(self.files)
        self.assertEqual((found.sent, found.subject), (2, "CN=s3.test"))
        shaken(found.context, "s3.test")
        certificate, key = AUTHORITY.issue("s3.test")
        self.write(certificate, key)
        with self.assertRaises(ssl.SSLCertVerificationError):
            shaken(read_certificate(self.files).context, "s3.test")

    def test_chain_of_its_own_file(self) -> None:
        """Those between may be in a file of their own, and key and certificate in one."""
        certificate, key = AUTHORITY.issue("s3.test")
        (self.folder / "both.pem").write_bytes(key + certificate)
        (self.folder / "chain.pem").write_bytes(AUTHORITY.intermediate)
        both = str(self.folder / "both.pem")
        found = read_certificate(
            TlsFiles(certificate_file=both, key_file=both, chain_file=str(self.folder / "chain.pem"))
        )
        shaken(found.context, "s3.test")

    def test_wildcard(self) -> None:
        """A certificate for all names below one serves each bucket as a host, and not what is below that."""
        self.issue("s3.test", "*.s3.test")
        context = read_certificate(self.files).context
        for name in ("s3.test", "bucket.s3.test"):
            shaken(context, name)
        with self.assertRaises(ssl.SSLCertVerificationError):
            shaken(context, "a.bucket.s3.test")

    def test_versions(self) -> None:
        """TLS 1.2 and 1.3 are spoken, and nothing older."""
        self.issue()
        context = read_certificate(self.files).context
        self.assertEqual(shaken(context, "s3.test").version(), "TLSv1.3")
        self.assertEqual(shaken(context, "s3.test", most=ssl.TLSVersion.TLSv1_2).version(), "TLSv1.2")
        for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
            with self.assertRaises(ssl.SSLError):
                shaken(context, "s3.test", most=version)

    def test_refused(self) -> None:
        """What cannot be used is refused by the name of the file, and no byte of a key is told."""
        certificate, key = AUTHORITY.issue("s3.test")
        _, other = AUTHORITY.issue("s3.test")
        self.assertIn("certificate.pem cannot be read", self.fault())
        self.write(certificate, b"")
        self.assertIn("key.pem: there is no private key", self.fault())
        self.write(certificate, other)
        self.assertIn("is not one for the key", self.fault())
        self.write(AUTHORITY.intermediate + certificate, key)
        self.assertIn("is not one for the key", self.fault())
        self.write(b"", key)
        self.assertIn("no certificate in PEM", self.fault())
        self.write(certificate.replace(b"M", b"N", 5), key)
        self.assertIn("damaged", self.fault())
        self.write(certificate[: len(certificate) // 2], key)
        self.assertIn("no certificate in PEM", self.fault())
        encrypted = ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"word"),
        )
        self.write(certificate, encrypted)
        self.assertIn("encrypted", self.fault())


class LookingTests(CertificateCase):
    """``Certificates``."""

    def setUp(self) -> None:
        """Have one in use that is good for 90 days."""
        super().setUp()
        self.clock = Clock()
        self.clock.advance(time.time())
        self.store = SqliteStore(":memory:")
        self.successResultOf(self.store.open())
        self.addCleanup(self.store.close)
        self.issue()
        self.begin()

    def begin(self) -> None:
        """Begin to look."""
        self.present = Present(self.files)
        self.looking = Certificates(
            [self.present],
            alerts=Alerts(store=self.store, clock=self.clock),
            clock=self.clock,
            in_thread=lambda read: maybeDeferred(read),
            warn_seconds=21 * DAY_SECONDS,
        )
        self.looking.start()
        self.addCleanup(self.looking.stop)
        self.clock.advance(0)

    def look(self) -> None:
        """Let some time pass, in which files rest."""
        self.clock.advance(LOOK_SECONDS)
        self.clock.advance(SETTLE_SECONDS)

    def alerts(self) -> list[tuple[str, str]]:
        """Return the alerts that are open: kind and sentence."""
        found = self.successResultOf(self.store.alerts(include_cleared=False, limit=9))
        return [(alert.kind, alert.sentence) for alert in found]

    def serves(self, name: str) -> bool:
        """Whether a client that asks for a host gets a certificate that it trusts."""
        connection = self.present.serverConnectionForTLS(None)
        try:
            shaken(connection.get_context(), name)
        except ssl.SSLCertVerificationError:
            return False
        return True

    def test_taken(self) -> None:
        """New files are used by themselves, once both rest."""
        self.look()
        self.assertEqual((self.serves("s3.test"), self.serves("new.test")), (True, False))
        certificate, key = AUTHORITY.issue("new.test")
        Path(self.files.certificate_file).write_bytes(certificate + AUTHORITY.intermediate)
        self.clock.advance(LOOK_SECONDS)
        # Half of it: nobody is told anything.
        Path(self.files.key_file).write_bytes(key)
        self.clock.advance(SETTLE_SECONDS)
        self.assertTrue(self.serves("s3.test"))
        self.clock.advance(SETTLE_SECONDS)
        self.assertEqual((self.serves("s3.test"), self.serves("new.test")), (False, True))
        self.assertEqual(self.alerts(), [])

    def test_broken(self) -> None:
        """What cannot be used leaves the old one in use, with an alert that ends when the files are put right."""
        certificate, _ = AUTHORITY.issue("new.test")
        broken: list[Callable[[], object]] = [
            lambda: self.write(b"", b""),
            lambda: self.write(certificate, AUTHORITY.issue("new.test")[1]),
            lambda: Path(self.files.key_file).unlink(),
            lambda: self.issue("new.test", days=-0.5),
            lambda: self.issue("new.test", begins_in_days=2),
        ]
        for write in broken:
            write()
            self.look()
            self.assertTrue(self.serves("s3.test"))
            ((kind, sentence),) = self.alerts()
            self.assertEqual(kind, "certificate-unusable")
            self.assertIn(str(self.folder), sentence)
            self.assertIn("stays in use", sentence)
        self.issue("newer.test")
        self.look()
        self.assertTrue(self.serves("newer.test"))
        self.assertEqual(self.alerts(), [])
        self.flushLoggedErrors()

    def test_before_its_time(self) -> None:
        """One that is put there before it begins is taken when it does, with nobody touching the files again."""
        self.issue("new.test", begins_in_days=2)
        self.look()
        self.assertEqual((self.serves("new.test"), len(self.alerts())), (False, 1))
        self.clock.advance(2 * DAY_SECONDS)
        self.look()
        self.assertEqual((self.present.certificate.subject, self.alerts()), ("CN=new.test", []))
        self.flushLoggedErrors()

    def test_at_once(self) -> None:
        """Whoever asks has the files read without waiting, and is told what was found."""
        self.issue("new.test")
        (sentence,) = self.successResultOf(Deferred.fromCoroutine(self.looking.reload()))
        self.assertTrue(self.serves("new.test"))
        self.assertIn("CN=new.test", sentence)
        self.write(b"", b"")
        (sentence,) = self.successResultOf(Deferred.fromCoroutine(self.looking.reload()))
        self.assertIn("stays in use", sentence)
        self.assertTrue(self.serves("new.test"))

    def test_ending(self) -> None:
        """Weeks before the end an alert tells, at the end a worse one; a new certificate ends both."""
        self.assertEqual(self.alerts(), [])
        self.clock.advance(68 * DAY_SECONDS)
        self.assertEqual(self.alerts(), [])
        self.clock.advance(1.5 * DAY_SECONDS)
        ((kind, sentence),) = self.alerts()
        self.assertEqual(kind, "certificate-ends")
        self.assertIn("no restart is needed", sentence)
        self.clock.advance(21 * DAY_SECONDS)
        ((kind, sentence),) = self.alerts()
        self.assertEqual(kind, "certificate-over")
        found = self.successResultOf(self.store.alerts(include_cleared=False, limit=9))
        self.assertEqual([alert.severity for alert in found], [Severity.CRITICAL])
        self.issue(days=400)
        self.look()
        self.assertEqual(self.alerts(), [])

    def test_over_at_the_start(self) -> None:
        """One that is over already is served, for want of a better one, and told."""
        self.looking.stop()
        self.issue("s3.test", days=-0.5)
        self.begin()
        self.assertEqual([kind for kind, _ in self.alerts()], ["certificate-over"])
        # Another one that is over is no worse.
        self.issue("new.test", days=-0.25)
        self.look()
        self.assertEqual(self.present.certificate.subject, "CN=new.test")
