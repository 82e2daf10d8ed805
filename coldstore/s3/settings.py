"""What buckets are configured by, as their documents say it, ready to be used."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeVar

from coldstore.interfaces.metadata import IMetadataStore
from coldstore.model.configurations import ConfigurationKind
from coldstore.model.objects import Bucket

KEPT_MAX = 1024
"""Documents that are kept as they were parsed."""

T = TypeVar("T")


class Settings:
    """The documents of all buckets. Of one revision there is one text: what was parsed of it stays right."""

    def __init__(self, store: IMetadataStore, kept_max: int = KEPT_MAX) -> None:
        """:param kept_max: parsed documents that are kept; the one that was used longest ago goes first"""
        self._store = store
        self._kept_max = kept_max
        self._kept: OrderedDict[tuple[int, ConfigurationKind, int], Any] = OrderedDict()

    async def of(self, bucket: Bucket, kind: ConfigurationKind, parse: Callable[[str], T]) -> T | None:
        """
        Return what a bucket is configured by, None when there is no such document. Asks the store only for what is not kept.

        :param parse: makes of the stored text what is wanted; always the same for a kind
        """
        revision = bucket.configurations.get(kind)
        if revision is None:
            return None
        name = (bucket.bucket_uid, kind, revision)
        if name in self._kept:
            self._kept.move_to_end(name)
        else:
            document = await self._store.bucket_configuration(bucket_uid=bucket.bucket_uid, kind=kind)
            if document is None:
                return None
            self._kept[name] = parse(document)
            while len(self._kept) > self._kept_max:
                self._kept.popitem(last=False)
        found: T = self._kept[name]
        return found
