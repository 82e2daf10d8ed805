"""
What S3 clients know: every acknowledged operation, and every one of which nobody can say whether it happened.

A key belongs to one client, which does one thing at a time, so what the key may hold is a short list: what was acknowledged last,
and behind that whatever was asked for since and not answered.
"""

import hashlib
from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class Content:
    """An object's content, made from its seed: nothing of it is kept."""

    seed: int
    size_bytes: int
    storage_class: str
    part_bytes: tuple[int, ...] = ()

    def parts(self) -> list[bytes]:
        """Return the bytes as they are uploaded: one run per part, or the whole."""
        sizes = self.part_bytes or (self.size_bytes,)
        return [Random(f"{self.seed}/{number}").randbytes(size) for number, size in enumerate(sizes)]

    def digest(self) -> str:
        """Return the SHA-256 of all bytes."""
        whole = hashlib.sha256()
        for part in self.parts():
            whole.update(part)
        return whole.hexdigest()

    @property
    def is_cold(self) -> bool:
        """Whether a read needs a restore."""
        return self.storage_class in ("GLACIER", "DEEP_ARCHIVE")

    def __str__(self) -> str:
        return f"{self.storage_class} of {self.size_bytes} bytes, seed {self.seed}"


class Ledger:
    """What each key may hold; None stands for nothing."""

    def __init__(self) -> None:
        self._possible: dict[str, list[Content | None]] = {}

    def names(self) -> list[str]:
        """Return every key that was ever used."""
        return sorted(self._possible)

    def possible(self, key: str) -> list[Content | None]:
        """Return what a key may hold."""
        return self._possible.get(key, [None])

    def acknowledged(self, key: str, content: Content | None) -> None:
        """A write (or with None a deletion) was answered with success."""
        self._possible[key] = [content]

    def uncertain(self, key: str, content: Content | None) -> None:
        """A write or deletion was not answered: it may have happened."""
        self._possible[key] = [*self.possible(key), content]

    def must_exist(self, key: str) -> bool:
        """Whether something must be under the key."""
        return None not in self.possible(key)

    def may_exist(self, key: str) -> bool:
        """Whether something may be under the key."""
        return any(content is not None for content in self.possible(key))

    def complaint(self, key: str, size_bytes: int | None, digest: str | None = None) -> str | None:
        """
        Compare a key with what it may hold; return what is wrong, None when nothing is.

        :param size_bytes: of what is there, None when nothing is
        :param digest: SHA-256 of what is there, None when it was not read
        """
        for content in self.possible(key):
            if content is None or size_bytes is None:
                if content is None and size_bytes is None:
                    return None
            elif content.size_bytes == size_bytes and digest in (None, content.digest()):
                return None
        expected = " or ".join(
            "nothing" if content is None else str(content) for content in self.possible(key)
        )
        found = "nothing" if size_bytes is None else f"{size_bytes} bytes with SHA-256 {digest}"
        return f"{key}: {found} instead of {expected}"

    def settle(self, key: str, size_bytes: int | None, digest: str | None = None) -> None:
        """What is there was seen: only what fits it remains possible."""
        fitting = [
            content
            for content in self.possible(key)
            if (content is None and size_bytes is None)
            or (
                content is not None
                and content.size_bytes == size_bytes
                and digest in (None, content.digest())
            )
        ]
        if fitting:
            self._possible[key] = fitting
