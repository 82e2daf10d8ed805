"""
Digests of what arrives: MD5 in one thread, the others in another, because MD5 takes as long as all of them.
"""

from collections.abc import Iterable, Mapping

from coldstore.util.checksums import ALGORITHMS, Digest, new_digest

FREE = "crc64nvme"
"""Always computed block by block, so it costs nothing to answer."""
SLOWEST = "md5"


def checked(algorithms: frozenset[str]) -> frozenset[str]:
    """
    Return ``algorithms``.

    :raise ValueError: one of them is unknown.
    """
    if unknown := algorithms.difference(ALGORITHMS):
        raise ValueError(f"no such checksum: {', '.join(sorted(unknown))}")
    return algorithms


def crc64_digest(value: int) -> bytes:
    """Return a CRC64NVME as the eight bytes that S3 shows in base64."""
    return value.to_bytes(8, "big")


class Digests:
    """Several digests of the same bytes."""

    def __init__(self, algorithms: Iterable[str]) -> None:
        self._digests: Mapping[str, Digest] = {name: new_digest(name) for name in sorted(algorithms)}

    def update(self, buffers: Iterable[bytes]) -> None:
        """Take more bytes."""
        digests = self._digests.values()
        for each in buffers:
            for digest in digests:
                digest.update(each)

    def values(self) -> dict[str, bytes]:
        """The digests of everything so far."""
        return {name: digest.digest() for name, digest in self._digests.items()}


def of_small(buffers: Iterable[bytes], algorithms: frozenset[str]) -> tuple[int, dict[str, bytes]]:
    """Return CRC64NVME and digests of a piece that is complete in memory."""
    whole = b"".join(buffers)
    digests = Digests(algorithms | {FREE})
    digests.update([whole])
    values = digests.values()
    value = int.from_bytes(values[FREE], "big")
    return value, {name: values[name] for name in algorithms}
