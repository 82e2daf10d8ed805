"""Certificates as an authority makes them: a root that clients know, one between, and those of servers."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

Key = ec.EllipticCurvePrivateKey


class Authority:
    """
    One with an intermediate certificate, as all that sell them.

    :ivar root: its own certificate, as PEM; clients trust this one alone
    :ivar intermediate: what it has signed, and what signs those of servers
    """

    def __init__(self) -> None:
        self._root_key, self._key = (
            ec.generate_private_key(ec.SECP256R1()),
            ec.generate_private_key(ec.SECP256R1()),
        )
        root = _name("tests: root")
        self._issuer = _name("tests: intermediate")
        begins_at = datetime.now(UTC) - timedelta(days=400)
        self.root = _pem(_signed(root, root, self._root_key, self._root_key, begins_at, 4000, authority=True))
        self.intermediate = _pem(
            _signed(self._issuer, root, self._key, self._root_key, begins_at, 4000, authority=True)
        )

    def issue(
        self, *names: str, days: float = 90, begins_in_days: float = -1, key: Key | None = None
    ) -> tuple[bytes, bytes]:
        """
        Return a certificate for host names and addresses, without any other, and its key, both as PEM.

        :param days: from now until it ends
        """
        key = ec.generate_private_key(ec.SECP256R1()) if key is None else key
        begins_at = datetime.now(UTC) + timedelta(days=begins_in_days)
        certificate = _signed(
            _name(names[0]), self._issuer, key, self._key, begins_at, days - begins_in_days, names=names
        )
        return _pem(certificate), key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _signed(
    subject: x509.Name,
    issuer: x509.Name,
    key: Key,
    signer: Key,
    begins_at: datetime,
    days: float,
    *,
    names: tuple[str, ...] = (),
    authority: bool = False,
) -> x509.Certificate:
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins_at)
        .not_valid_after(begins_at + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        # Without these two a strict client (Python 3.13) takes no certificate (RFC 5280, 4.2.1.1 and 4.2.1.2).
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
    )
    if authority:
        made = made.add_extension(
            x509.KeyUsage(
                digital_signature=True,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=True,
                crl_sign=True,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
    if names:
        shown = [_shown(name) for name in names]
        made = made.add_extension(x509.SubjectAlternativeName(shown), critical=False)
    return made.sign(signer, hashes.SHA256())


def _shown(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
