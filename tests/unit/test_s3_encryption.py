"""What requests say of customers' keys, and how keys and checksums are kept."""

from base64 import b64decode
from hashlib import md5
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from coldstore.model.objects import Checksum, ChecksumKind, Encryption
from coldstore.s3.encryption import (
    SEALED_MORE_BYTES,
    ObjectKey,
    Sealing,
    encryption_headers,
)
from coldstore.s3.encryption_customer import CustomerKey, customer_key, place_of
from coldstore.s3.errors import S3Error
from coldstore.s3.fields import CUSTOMER_KEY_PREFIX, SOURCE_KEY_PREFIX, HeaderFields
from tests.unit.encryption_keys import KEY, OTHER_KEY, SOURCE, base64_of, key_headers
from tests.unit.s3_wire import run_here


def fields(headers: dict[str, str]) -> HeaderFields:
    """Return header fields."""
    return HeaderFields((name.encode(), value.encode()) for name, value in headers.items())


class CustomerKeyTests(SynchronousTestCase):
    """The three fields."""

    def brought(self, headers: dict[str, str], *, is_writing: bool = True) -> CustomerKey | None:
        """Return the key that they bring."""
        return customer_key(fields(headers), CUSTOMER_KEY_PREFIX, is_writing=is_writing)

    def test_none(self) -> None:
        """Without them there is none; those of the source of a copy are others."""
        self.assertIsNone(self.brought({"x-amz-meta-a": "b"}))
        self.assertIsNone(self.brought(key_headers(beginning=SOURCE)))
        source = customer_key(fields(key_headers(beginning=SOURCE)), SOURCE_KEY_PREFIX, is_writing=False)
        self.assertIsNotNone(source)

    def test_key(self) -> None:
        """All three make a key, which is shown by its digest alone."""
        key = self.brought(key_headers())
        assert key is not None
        self.assertEqual(key.md5, base64_of(md5(KEY).digest()))
        self.assertNotIn(base64_of(KEY), repr(key))
        self.assertNotIn(repr(KEY), repr(key))

    def test_refused(self) -> None:
        """Each mistake has the code that AWS answers with, and names the field, never its value when that is a key."""
        short, digest_of_short = base64_of(b"short"), base64_of(md5(b"short").digest())
        for changes, code, name in (
            ({"algorithm": None}, "InvalidArgument", "algorithm"),
            ({"algorithm": "AES128"}, "InvalidEncryptionAlgorithmError", "algorithm"),
            ({"algorithm": "aws:kms"}, "InvalidEncryptionAlgorithmError", "algorithm"),
            ({"key": None}, "InvalidArgument", "key"),
            ({"key": None, "key_md5": None}, "InvalidArgument", "key"),
            ({"key_md5": None}, "InvalidArgument", "key-MD5"),
            ({"key_md5": base64_of(bytes(16))}, "InvalidArgument", "key-MD5"),
            ({"key_md5": "no base64!"}, "InvalidArgument", "key-MD5"),
            ({"key": "no base64!"}, "InvalidArgument", "key-MD5"),
            ({"key": short}, "InvalidArgument", "key-MD5"),
            ({"key": short, "key_md5": digest_of_short}, "InvalidArgument", "key"),
        ):
            with self.assertRaises(S3Error) as caught:
                self.brought(key_headers(**changes))
            error = caught.exception
            self.assertEqual((error.status, error.code), (400, code), changes)
            self.assertEqual(error.details["ArgumentName"], CUSTOMER_KEY_PREFIX + name)
            self.assertNotIn(changes.get("key") or base64_of(KEY), f"{error.message}{error.details}")

    def test_reading(self) -> None:
        """Who reads may leave the digest out, but not send a wrong one; a key that cannot be one is a wrong one."""
        self.assertIsNotNone(self.brought(key_headers(key_md5=None), is_writing=False))
        wrapped = CustomerKey(KEY, "").wrap(bytes(32), bytes(32), b"b/k")
        key = self.brought(key_headers(b"short"), is_writing=False)
        assert key is not None
        self.assertIsNone(key.unwrap(wrapped, b"b/k"))
        for changes in ({"key_md5": base64_of(bytes(16))}, {"algorithm": None}, {"key": None}):
            with self.assertRaises(S3Error):
                self.brought(key_headers(**changes), is_writing=False)


class WrappingTests(SynchronousTestCase):
    """Keys of objects under keys of customers."""

    def test_both_ways(self) -> None:
        """The right key opens it in its place; no other key does, nor the right one elsewhere, nor when a byte has changed."""
        place, object_key = place_of("b", b"k"), Random(1).randbytes(32)
        wrapped = CustomerKey(KEY, "").wrap(object_key, Random(2).randbytes(32), place)
        self.assertEqual(CustomerKey(KEY, "").unwrap(wrapped, place), object_key)
        self.assertIsNone(CustomerKey(OTHER_KEY, "").unwrap(wrapped, place))
        self.assertIsNone(CustomerKey(KEY, "").unwrap(wrapped, place_of("b", b"l")))
        raw = b64decode(wrapped)
        for at in range(len(raw)):
            changed = bytearray(raw)
            changed[at] ^= 1
            self.assertIsNone(CustomerKey(KEY, "").unwrap(base64_of(bytes(changed)), place))
        self.assertIsNone(CustomerKey(KEY, "").unwrap("AAAA", place))

    def test_places(self) -> None:
        """No two objects have the same place."""
        self.assertNotEqual(place_of("a", b"b/c"), place_of("a/b", b"c").replace(b"a/b", b"a-b"))
        self.assertEqual(place_of("b", "ü".encode()), b"b/\xc3\xbc")

    def test_two_objects(self) -> None:
        """What is recorded of two objects with the same key has nothing in common."""
        random = Random(3)
        first, second = (CustomerKey(KEY, "").wrap(bytes(32), random.randbytes(32), b"b/k") for _ in range(2))
        self.assertNotEqual(b64decode(first)[32:], b64decode(second)[32:])


class ChecksumTests(SynchronousTestCase):
    """Checksums of what was encrypted."""

    def test_both_ways(self) -> None:
        """The value is not to be seen without the object's key, and belongs to its algorithm and kind."""
        key, random = ObjectKey(bytes(32), 16), Random(4)
        for checksum in (
            Checksum("CRC32", "AAAAAA=="),
            Checksum("SHA256", base64_of(bytes(32)) + "-3", ChecksumKind.COMPOSITE),
        ):
            sealed = key.sealed_checksum(checksum, random)
            self.assertEqual((sealed.algorithm, sealed.kind), (checksum.algorithm, checksum.kind))
            self.assertNotIn(checksum.value, sealed.value)
            self.assertNotEqual(key.sealed_checksum(checksum, random), sealed)
            self.assertEqual(key.opened_checksum(sealed), checksum)
            self.assertIsNone(ObjectKey(bytes(31) + b"1", 16).opened_checksum(sealed))
            self.assertIsNone(key.opened_checksum(sealed._replace(algorithm="CRC32C")))
        self.assertIsNone(key.opened_checksum(Checksum("CRC32", "no base64!")))
        self.assertIsNone(key.opened_checksum(Checksum("CRC32", "AAAAAA==")))

    def test_digests_of_parts(self) -> None:
        """Any run of them is opened, each in its place alone."""
        key, random = ObjectKey(bytes(32), 16), Random(5)
        digests = [random.randbytes(8) for _ in range(5)]
        sealed = key.sealed_digests(digests, random)
        step = 8 + SEALED_MORE_BYTES
        self.assertEqual(len(sealed), 5 * step)
        for digest in digests:
            self.assertNotIn(digest, sealed)
        self.assertEqual(key.opened_digests(sealed, 8, first=0), b"".join(digests))
        self.assertEqual(key.opened_digests(sealed[2 * step : 4 * step], 8, first=2), b"".join(digests[2:4]))
        self.assertEqual(key.opened_digests(b"", 8, first=0), b"")
        for wrong, first in ((sealed[step:], 0), (sealed[:-1], 0), (bytes(step), 0)):
            self.assertEqual(key.opened_digests(wrong, 8, first=first), b"")
        self.assertEqual(ObjectKey(bytes(31) + b"1", 16).opened_digests(sealed, 8, first=0), b"")


class ShownTests(SynchronousTestCase):
    """What may be seen."""

    def test_headers(self) -> None:
        """Answers tell algorithm and digest of the key; nothing of objects that are not encrypted."""
        self.assertEqual(dict(encryption_headers(None)), {})
        told = encryption_headers(Encryption("AES256", "digest", "wrapped", 16))
        self.assertEqual(set(told.values()), {"AES256", "digest"})

    def test_no_keys_in_texts(self) -> None:
        """What carries keys does not show them where values are shown."""
        key = ObjectKey(b"s" * 32, 16)
        sealing = Sealing(Encryption("AES256", "digest", "wrapped", 16), key, Random(1), run_here)
        for shown in (repr(key), str(key), repr(sealing), f"{sealing}", repr((key, sealing))):
            self.assertNotIn("sss", shown)
