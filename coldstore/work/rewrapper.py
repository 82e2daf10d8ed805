"""After a change of the keys of data: the keys of objects come under the new one, in the record; those on tape stay as they are."""

from collections.abc import Sequence

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from coldstore.interfaces.datakeys import DataKeyMismatch, IDataKeys
from coldstore.interfaces.metadata import IMetadataStore
from coldstore.model.errors import DataKeyMissing
from coldstore.model.objects import ObjectVersion, WrappedKey

REST_SECONDS = 3600.0
"""What was uploaded during a change may be under the old key: it is found by itself. A change rings the bell."""
BATCH = 20
"""Versions in a step: some milliseconds of processor time."""
PACE_SECONDS = 0.05


class Rewrapper:
    """
    One round brings every version in the record under the key of data in use.

    Where it has come to is written nowhere: what is under another key is found by an index. So it may be broken off anywhere.
    """

    log = Logger()

    def __init__(self, *, store: IMetadataStore, clock: IReactorTime, data_keys: IDataKeys) -> None:
        self._store = store
        self._clock = clock
        self._data_keys = data_keys

    async def one_round(self) -> float:
        """Bring them there; return how long to rest."""
        in_use = self._data_keys.in_use()
        if in_use is None:
            return REST_SECONDS
        for record in await self._store.data_keys():
            if record.key_id != in_use:
                count, left = await self._from(record.key_id)
                if count:
                    self.log.info(
                        "{count} objects are under the key of data {new} now, and were under {old}; copies on tape stay under that",
                        count=count,
                        new=in_use,
                        old=record.key_id,
                    )
                if left:
                    self.log.warn(
                        "{left} objects stay under the key of data {old}: it is not here, or what is recorded of them is not what was",
                        left=left,
                        old=record.key_id,
                    )
        return REST_SECONDS

    async def _from(self, key_id: str) -> tuple[int, int]:
        """Bring what is under one key under that in use; return how many came there, and how many cannot."""
        count = left = after_uid = 0
        while found := await self._store.versions_under_data_key(key_id, after_uid=after_uid, limit=BATCH):
            after_uid = found[-1].version_uid
            wrapped = self._rewrapped(found)
            left += len(found) - len(wrapped)
            if wrapped:
                count += await self._store.rewrap_keys(wrapped)
            await deferLater(self._clock, PACE_SECONDS)
        return count, left

    def _rewrapped(self, versions: Sequence[ObjectVersion]) -> dict[int, tuple[WrappedKey, WrappedKey]]:
        wrapped = {}
        for version in versions:
            facts, before = version.facts, version.wrapped_key
            assert facts.encryption is not None
            try:
                after = self._data_keys.rewrapped(before, facts.encryption.bound_to(facts.bucket, facts.key))
            except (DataKeyMissing, DataKeyMismatch) as fault:
                self.log.error("{name} stays as it is: {fault}", name=version.name, fault=str(fault))
                continue
            wrapped[version.version_uid] = before, after
        return wrapped
