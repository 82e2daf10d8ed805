"""What a bucket does about what is public. Source: Amazon S3 API Reference, PublicAccessBlockConfiguration."""

import json
from typing import NamedTuple


class AccessBlock(NamedTuple):
    """
    The four switches of a bucket.

    :ivar block_public_acls: an ACL that is public is refused
    :ivar ignore_public_acls: one that is there counts for nothing
    :ivar block_public_policy: a policy that is public is refused
    :ivar restrict_public_buckets: what one that is there allows counts for the owner alone
    :ivar is_removed: whoever reads them is told that there are none
    """

    block_public_acls: bool = False
    ignore_public_acls: bool = False
    block_public_policy: bool = False
    restrict_public_buckets: bool = False
    is_removed: bool = False

    def written(self) -> str:
        """Write it down."""
        return json.dumps(self._asdict())

    @classmethod
    def read(cls, text: str) -> "AccessBlock":
        """Undo ``written``."""
        return cls(**json.loads(text))


EVERYTHING = AccessBlock(
    block_public_acls=True,
    ignore_public_acls=True,
    block_public_policy=True,
    restrict_public_buckets=True,
)
"""As AWS has it for buckets made since April 2023."""
REMOVED = AccessBlock(is_removed=True)
