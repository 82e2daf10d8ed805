"""What policies are asked: may somebody do something to something, as things are."""

from dataclasses import dataclass
from typing import Protocol

ARN_OF_BUCKETS = "arn:aws:s3:::"


class Circumstances(Protocol):
    """What a request says besides."""

    def values(self, key: str) -> tuple[str, ...]:
        """Return what there is under a condition key, given as ``plain_key`` has it; nothing where it is absent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """
    One question.

    :ivar user_id: of who asks; empty for somebody who does not say who he is
    :ivar action: by its name as AWS writes it
    :ivar resource: an ARN
    """

    user_id: str
    action: str
    resource: str
    circumstances: Circumstances

    def look_up(self, key: str) -> str | None:
        """Return the one value that there is under a condition key; None: there is none, or several."""
        found = self.circumstances.values(key)
        return found[0] if len(found) == 1 else None


def bucket_arn(bucket: str) -> str:
    """Return how policies name a bucket."""
    return ARN_OF_BUCKETS + bucket


def object_arn(bucket: str, key: bytes) -> str:
    """Return how policies name an object."""
    return f"{ARN_OF_BUCKETS}{bucket}/{key.decode('utf-8')}"
