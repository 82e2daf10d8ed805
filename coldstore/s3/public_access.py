"""What buckets do about what is public."""

from coldstore.model.configurations import ConfigurationKind
from coldstore.model.objects import Bucket
from coldstore.plan.policy.access_block import EVERYTHING, REMOVED, AccessBlock
from coldstore.s3.settings import Settings


class PublicAccess:
    """The public access blocks of buckets. ``of_new`` is that of a bucket of which nobody has said anything."""

    def __init__(self, settings: Settings, *, blocks_public: bool) -> None:
        """:param blocks_public: whether a bucket of which nobody has said otherwise blocks what is public"""
        self._settings = settings
        self.of_new = EVERYTHING if blocks_public else REMOVED

    async def of(self, bucket: Bucket) -> AccessBlock:
        """Return that of a bucket."""
        found = await self._settings.of(bucket, ConfigurationKind.PUBLIC_ACCESS_BLOCK, AccessBlock.read)
        return self.of_new if found is None else found
