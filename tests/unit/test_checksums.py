"""The native checksums against a slow reading of their definitions."""

import hashlib

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from coldstore.util import checksums

# Reflected polynomials; initial value and final xor are all ones (CRC catalogue: ISO-HDLC, ISCSI, NVME).
POLYNOMIALS = {"crc32": (0xEDB88320, 32), "crc32c": (0x82F63B78, 32), "crc64nvme": (0x9A6C9329AC4BC9B5, 64)}
CHECK_VALUES = {"crc32": 0xCBF43926, "crc32c": 0xE3069283, "crc64nvme": 0xAE8B14860A799888}


def slow_crc(name: str, data: bytes) -> int:
    """Bit by bit, as the definition says."""
    polynomial, width = POLYNOMIALS[name]
    ones = (1 << width) - 1
    value = ones
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (polynomial if value & 1 else 0)
    return value ^ ones


class CyclicChecksumsTests(SynchronousTestCase):
    """``crc32``, ``crc32c``, ``crc64nvme`` and their combination."""

    def test_check_values(self) -> None:
        """The digits 1 to 9 give the check values of the CRC catalogue, natively and in the oracle."""
        for name, expected in CHECK_VALUES.items():
            self.assertEqual(getattr(checksums, name)(b"123456789"), expected)
            self.assertEqual(slow_crc(name, b"123456789"), expected)

    @settings(max_examples=30, deadline=None)
    @given(st.binary(max_size=300), st.binary(max_size=300))
    def test_like_the_oracle(self, first: bytes, second: bytes) -> None:
        """Whole, continued, combined and incremental values are all those of the definition."""
        for name in POLYNOMIALS:
            whole = slow_crc(name, first + second)
            of = getattr(checksums, name)
            combine = getattr(checksums, f"combine_{name}")
            self.assertEqual(of(memoryview(second), of(first)), whole)
            self.assertEqual(combine(of(first), of(second), len(second)), whole)
            digest = checksums.new_digest(name)
            digest.update(first)
            digest.update(bytearray(second))
            self.assertEqual(digest.digest(), whole.to_bytes(digest.digest_size, "big"))


class NewDigestTests(SynchronousTestCase):
    """``new_digest``."""

    def test_every_algorithm(self) -> None:
        """Every name makes a digest of that name and of its size."""
        sizes = {
            "crc32": 4,
            "crc32c": 4,
            "crc64nvme": 8,
            "sha1": 20,
            "sha256": 32,
            "sha512": 64,
            "md5": 16,
            "xxhash64": 8,
            "xxhash3": 8,
            "xxhash128": 16,
        }
        self.assertEqual(set(checksums.ALGORITHMS), set(sizes))
        for name, size in sizes.items():
            digest = checksums.new_digest(name)
            self.assertEqual((digest.name, digest.digest_size, len(digest.digest())), (name, size, size))

    def test_xxhash(self) -> None:
        """The published values of nothing and of ``a``; a digest can be asked for in between."""
        for name, of_nothing, of_a in (
            ("xxhash64", "ef46db3751d8e999", "d24ec4f1a98c6e5b"),
            ("xxhash3", "2d06800538d394c2", "e6c632b61e964e1f"),
            ("xxhash128", "99aa06d3014798d86001c324468d497f", "a96faf705af16834e6c632b61e964e1f"),
        ):
            digest = checksums.new_digest(name)
            self.assertEqual(digest.digest().hex(), of_nothing)
            digest.update(memoryview(b"a"))
            self.assertEqual(digest.digest().hex(), of_a)
            whole, parts = checksums.new_digest(name), checksums.new_digest(name)
            whole.update(bytes(range(256)) * 9)
            for _ in range(9):
                parts.update(bytearray(range(256)))
                parts.digest()
            self.assertEqual(whole.digest(), parts.digest())

    def test_hashes_are_those_of_hashlib(self) -> None:
        """The cryptographic ones are the standard library's."""
        for name in ("sha1", "sha256", "sha512", "md5"):
            digest = checksums.new_digest(name)
            digest.update(b"bytes")
            self.assertEqual(digest.digest(), hashlib.new(name, b"bytes").digest())

    def test_unknown(self) -> None:
        """An unknown name is refused by name."""
        self.assertIn("SHA256", str(self.assertRaises(ValueError, checksums.new_digest, "SHA256")))
