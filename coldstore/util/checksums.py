"""
The checksums that S3 and the tape format know, behind one shape.

The cyclic ones and those of xxHash come from the native library ``awscrt`` (it releases the interpreter's lock on large
buffers of the former), the others from ``hashlib``. Values of the cyclic ones are unsigned integers; digests are big-endian bytes, which is what
S3 shows in base64 (S3 API, "Checking object integrity").
"""

import hashlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Protocol

from awscrt import checksums as native  # type: ignore[import-untyped]

Buffer = bytes | bytearray | memoryview


class Digest(Protocol):
    """A checksum in the making, shaped like those of ``hashlib``."""

    @property
    def name(self) -> str:
        """The algorithm, in lower case."""

    @property
    def digest_size(self) -> int:
        """Length of the digest in bytes."""

    def update(self, data: Buffer, /) -> None:
        """Take more bytes."""

    def digest(self) -> bytes:
        """The checksum of all bytes taken so far."""


def crc32(data: Buffer, previous: int = 0) -> int:
    """CRC-32 (ISO-HDLC) of ``data``, going on from ``previous``."""
    value: int = native.crc32(data, previous)
    return value


def crc32c(data: Buffer, previous: int = 0) -> int:
    """CRC-32C (Castagnoli) of ``data``, going on from ``previous``."""
    value: int = native.crc32c(data, previous)
    return value


def crc64nvme(data: Buffer, previous: int = 0) -> int:
    """CRC-64/NVME of ``data``, going on from ``previous``."""
    value: int = native.crc64nvme(data, previous)
    return value


def combine_crc32(first: int, second: int, second_length: int) -> int:
    """CRC-32 of two runs of bytes from their own; ``second_length`` is in bytes."""
    value: int = native.combine_crc32(first, second, second_length)
    return value


def combine_crc32c(first: int, second: int, second_length: int) -> int:
    """CRC-32C of two runs of bytes from their own; ``second_length`` is in bytes."""
    value: int = native.combine_crc32c(first, second, second_length)
    return value


def combine_crc64nvme(first: int, second: int, second_length: int) -> int:
    """CRC-64/NVME of two runs of bytes from their own; ``second_length`` is in bytes."""
    value: int = native.combine_crc64nvme(first, second, second_length)
    return value


class CyclicDigest:
    """A cyclic checksum in the shape of a ``hashlib`` object; ``value`` is the running integer."""

    __slots__ = ("_advance", "digest_size", "name", "value")

    def __init__(self, name: str, digest_size: int, advance: Callable[[Buffer, int], int]) -> None:
        self.name = name
        self.digest_size = digest_size
        self.value = 0
        self._advance = advance

    def update(self, data: Buffer, /) -> None:
        """Take more bytes."""
        self.value = self._advance(data, self.value)

    def digest(self) -> bytes:
        """The running value as big-endian bytes."""
        return self.value.to_bytes(self.digest_size, "big")

    def hexdigest(self) -> str:
        """The running value in lower-case hexadecimal, with its leading zeros."""
        return self.digest().hex()


class QuickDigest:
    """A hash of the xxHash family in the shape of a ``hashlib`` object, with the seed 0."""

    __slots__ = ("_state", "digest_size", "name")

    def __init__(self, name: str, digest_size: int, state: Any) -> None:
        self.name = name
        self.digest_size = digest_size
        self._state = state

    def update(self, data: Buffer, /) -> None:
        """Take more bytes."""
        # Takes nothing but bytes.
        self._state.update(data if isinstance(data, bytes) else bytes(data))

    def digest(self) -> bytes:
        """The hash of all bytes taken so far, as xxHash writes it (big-endian)."""
        value: bytes = self._state.finalize()
        return value

    def hexdigest(self) -> str:
        """The same in lower-case hexadecimal."""
        return self.digest().hex()


_ALGORITHMS: Mapping[str, Callable[[], Digest]] = MappingProxyType(
    {
        "crc32": lambda: CyclicDigest("crc32", 4, crc32),
        "crc32c": lambda: CyclicDigest("crc32c", 4, crc32c),
        "crc64nvme": lambda: CyclicDigest("crc64nvme", 8, crc64nvme),
        "sha1": lambda: hashlib.sha1(usedforsecurity=False),
        "sha256": hashlib.sha256,
        "sha512": hashlib.sha512,
        "md5": lambda: hashlib.md5(usedforsecurity=False),
        "xxhash64": lambda: QuickDigest("xxhash64", 8, native.XXHash.new_xxhash64()),
        "xxhash3": lambda: QuickDigest("xxhash3", 8, native.XXHash.new_xxhash3_64()),
        "xxhash128": lambda: QuickDigest("xxhash128", 16, native.XXHash.new_xxhash3_128()),
    }
)

ALGORITHMS = tuple(_ALGORITHMS)
"""The names that ``new_digest`` takes."""


def new_digest(algorithm: str) -> Digest:
    """
    A fresh digest of ``algorithm`` (one of ``ALGORITHMS``, lower case).

    :raises ValueError: for a name that is not known.
    """
    try:
        return _ALGORITHMS[algorithm]()
    except KeyError:
        raise ValueError(f"no such checksum: {algorithm!r}") from None
