# mypy: disallow-untyped-calls=False
# (pyOpenSSL is not annotated in the versions of Debian 12)
"""
Certificates of the S3 endpoint: read with all that stands in their files, taken anew when those change, without a restart.

A connection has the certificate that there was when it began. What cannot be used, because it is damaged, does not fit its key or is
over already, does not replace one that can; an alert tells, and tells some time before one ends.
"""

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from OpenSSL import SSL, crypto
from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IDelayedCall, IOpenSSLServerConnectionCreator, IReactorTime
from twisted.internet.ssl import CertificateOptions, TLSVersion
from twisted.logger import Logger
from zope.interface import implementer

from coldstore.model.errors import MetadataUnavailable
from coldstore.model.events import Severity
from coldstore.util.listening import TlsFiles
from coldstore.work.alerts import Alerts

LOOK_SECONDS = 30.0
SETTLE_SECONDS = 2.0
"""Files that have changed are read once they have rested so long: a certificate and its key are written one after the other."""
DAY_SECONDS = 86400.0
UNUSABLE, ENDING, OVER = "certificate-unusable", "certificate-ends", "certificate-over"
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)

Stamp = tuple[tuple[int, int, int, int] | None, ...]


class CertificateFault(OSError):
    """Files do not hold a certificate that can be used; says which and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """One that can be used: ``begins_at`` and ``ends_at`` are in unix seconds; ``sent`` is how many certificates clients get."""

    context: Any
    subject: str
    begins_at: float
    ends_at: float
    sent: int


def read_certificate(files: TlsFiles) -> Certificate:
    """
    Read a certificate with its key, and those that vouch for it.

    :raise CertificateFault: it cannot be used
    """
    pem = _bytes_of(files.certificate_file)
    chain = _certificates(pem, files.certificate_file)
    if files.chain_file is not None:
        chain += _certificates(_bytes_of(files.chain_file), files.chain_file)
    try:
        key = load_pem_private_key(_bytes_of(files.key_file), password=None)
    except TypeError:
        raise CertificateFault(
            f"{files.key_file}: the key is encrypted, and nobody is there to say how"
        ) from None
    except Exception as error:  # noqa: BLE001 - cryptography says what it finds by many classes, which differ with its version
        raise CertificateFault(
            f"{files.key_file}: there is no private key that can be read: {error}"
        ) from None
    leaf = chain[0]
    if _public(leaf.public_key()) != _public(key.public_key()):
        raise CertificateFault(
            f"the first certificate of {files.certificate_file} is not one for the key of {files.key_file}"
        )
    try:
        context = CertificateOptions(
            privateKey=crypto.PKey.from_cryptography_key(key),  # type: ignore[arg-type]
            certificate=crypto.X509.from_cryptography(leaf),
            extraCertChain=[crypto.X509.from_cryptography(each) for each in chain[1:]],
            raiseMinimumTo=TLSVersion.TLSv1_2,
        ).getContext()
    except (SSL.Error, TypeError, ValueError) as error:
        raise CertificateFault(f"{files.certificate_file} cannot be used: {error}") from None
    return Certificate(
        context=context,
        subject=leaf.subject.rfc4514_string(),
        begins_at=_unix(leaf, "not_valid_before"),
        ends_at=_unix(leaf, "not_valid_after"),
        sent=len(chain),
    )


def _bytes_of(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise CertificateFault(f"{path} cannot be read: {error.strerror}") from None


def _certificates(pem: bytes, path: str) -> list[x509.Certificate]:
    try:
        found = [x509.load_pem_x509_certificate(each) for each in _CERTIFICATE.findall(pem)]
    except ValueError as error:
        raise CertificateFault(f"{path}: a certificate in it is damaged: {error}") from None
    if not found:
        raise CertificateFault(f"{path}: there is no certificate in PEM in it")
    return found


def _public(key: Any) -> bytes:
    found: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return found


def _unix(certificate: x509.Certificate, name: str) -> float:
    # cryptography 42 tells the zone, earlier ones leave it out.
    moment: datetime | None = getattr(certificate, f"{name}_utc", None)
    return (moment or getattr(certificate, name).replace(tzinfo=UTC)).timestamp()


def stamp_of(files: TlsFiles) -> Stamp:
    """Return what tells whether files have changed; a file that is not there counts."""
    return tuple(_stamp_of(path) for path in files.paths)


def _stamp_of(path: str) -> tuple[int, int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


@implementer(IOpenSSLServerConnectionCreator)
class Present:
    """What new connections get: the certificate that is in use."""

    def __init__(self, files: TlsFiles) -> None:
        """
        Read it; blocks.

        :raise CertificateFault: it cannot be used
        """
        self.files = files
        self.stamp = self.seen = stamp_of(files)
        self.certificate = read_certificate(files)
        self.fault = ""
        """Why what is in the files now is not used; empty: it is."""
        self.due_at: float | None = None
        """When what is in the files now begins, where that is why it is not used."""

    def serverConnectionForTLS(self, tlsProtocol: object) -> SSL.Connection:
        """See ``IOpenSSLServerConnectionCreator``."""
        return SSL.Connection(self.certificate.context, None)

    def take(self, stamp: Stamp, found: "Certificate | CertificateFault", now: float) -> None:
        """Use what was read when the files had a stamp, or note why not."""
        self.stamp = self.seen = stamp
        self.due_at = None
        if isinstance(found, CertificateFault):
            self.fault = str(found)
        elif found.ends_at <= now < self.certificate.ends_at:
            self.fault = f"the certificate in {self.files.certificate_file} was over on {_day(found.ends_at)}"
        elif found.begins_at > now >= self.certificate.begins_at:
            self.fault = f"the certificate in {self.files.certificate_file} begins on {_day(found.begins_at)}"
            self.due_at = found.begins_at
        else:
            self.certificate, self.fault = found, ""


class Certificates:
    """Looks after those of all listeners."""

    log = Logger()

    def __init__(
        self,
        present: Sequence[Present],
        *,
        alerts: Alerts,
        clock: IReactorTime,
        in_thread: Callable[[Callable[[], Any]], Deferred[Any]],
        warn_seconds: float,
    ) -> None:
        """
        :param in_thread: where files are read
        :param warn_seconds: how long before the end of one an alert tells
        """
        self._present = tuple(present)
        self._alerts = alerts
        self._clock = clock
        self._in_thread = in_thread
        self._warn_seconds = warn_seconds
        self._turn = DeferredLock()
        self._next: IDelayedCall | None = None
        self._is_stopped = False

    def start(self) -> None:
        """Begin to look."""
        self._later(0.0)

    def stop(self) -> None:
        """Look no more."""
        self._is_stopped = True
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _later(self, seconds: float) -> None:
        if not self._is_stopped:
            self._next = self._clock.callLater(seconds, self._look)

    def _look(self) -> None:
        self._next = None
        Deferred.fromCoroutine(self.look()).addErrback(
            lambda failure: self.log.failure("certificates could not be looked at", failure)
        )

    async def look(self) -> None:
        """Look at the files, take what has changed and rests, and tell how things are."""
        is_settling = False
        try:
            for present in self._present:
                stamp = await self._in_thread(partial(stamp_of, present.files))
                if stamp != present.stamp:
                    if stamp == present.seen:
                        await self._read(present)
                    else:
                        present.seen = stamp
                        is_settling = True
                elif present.due_at is not None and present.due_at <= self._clock.seconds():
                    await self._read(present)
            await self._tell()
        except MetadataUnavailable as fault:
            self.log.warn("alerts about certificates have to wait: {reason}", reason=str(fault))
        finally:
            self._later(SETTLE_SECONDS if is_settling else LOOK_SECONDS)

    async def reload(self) -> list[str]:
        """Read everything now; return a sentence about each."""
        for present in self._present:
            await self._read(present)
        await self._tell()
        return [self._sentence(present) for present in self._present]

    async def _read(self, present: Present) -> None:
        await self._turn.acquire()
        try:
            stamp = await self._in_thread(partial(stamp_of, present.files))
            found = await self._in_thread(partial(_read_or_fault, present.files))
            present.take(stamp, found, self._clock.seconds())
        finally:
            self._turn.release()
        tell = self.log.error if present.fault else self.log.info
        tell("{sentence}", sentence=self._sentence(present))

    def _sentence(self, present: Present) -> str:
        certificate = present.certificate
        if present.fault:
            return f"{present.fault}; the one from before stays in use, until {_day(certificate.ends_at)}"
        return (
            f"{present.files.certificate_file}: {certificate.subject}, until {_day(certificate.ends_at)},"
            f" sent with {certificate.sent - 1} more"
        )

    async def _tell(self) -> None:
        now = self._clock.seconds()
        unusable, ending, over = {}, {}, {}
        for present in self._present:
            path, ends_at = present.files.certificate_file, present.certificate.ends_at
            if present.fault:
                unusable[path] = (
                    f"{present.fault}. The one from before stays in use, until {_day(ends_at)}: put the files right; they are read by"
                    " themselves"
                )
            if ends_at <= now:
                over[path] = (
                    f"the certificate in {path} was over on {_day(ends_at)}: clients refuse to connect. Put a new one there"
                )
            elif ends_at - now <= self._warn_seconds:
                ending[path] = (
                    f"the certificate in {path} ends on {_day(ends_at)}: put a new one there, no restart is needed"
                )
        await self._alerts.follow(UNUSABLE, unusable, Severity.WARNING)
        await self._alerts.follow(ENDING, ending, Severity.WARNING)
        await self._alerts.follow(OVER, over, Severity.CRITICAL)


def _read_or_fault(files: TlsFiles) -> "Certificate | CertificateFault":
    try:
        return read_certificate(files)
    except CertificateFault as fault:
        return fault


def _day(unix_seconds: float) -> str:
    return datetime.fromtimestamp(unix_seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
