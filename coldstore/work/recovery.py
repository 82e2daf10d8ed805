"""
What every start does before tape work begins: take up or undo what an earlier run left.

It may be cut off at any point and simply begins again. The other loops do the rest by the same code as on any day:
synced copies are verified, recalls go on, discards are repeated, orphans are swept.
"""

from twisted.logger import Logger

from coldstore.interfaces.metadata import IMetadataStore
from coldstore.model.bundles import CopyState
from coldstore.work.packer import Packer

COPIES_MAX = 100_000


class Recovery:
    """Undoes claims and copies that were under way."""

    log = Logger()

    def __init__(self, *, store: IMetadataStore, packer: Packer, epoch: int) -> None:
        self._store = store
        self._packer = packer
        self._epoch = epoch

    async def run(self) -> None:
        """
        Bring the record of bundles and copies into a state that this run can go on from.

        A copy that was being WRITING has no index on tape that names it whole: it is PLANNED again, and what may be on
        the cartridge under its name is a stump, replaced or removed by the next session there.
        """
        await self._packer.recover()
        for copy in await self._store.unfinished_copies(COPIES_MAX):
            if copy.state is CopyState.WRITING and copy.epoch != self._epoch:
                self.log.info(
                    "writing bundle {bundle} to {barcode} was cut off; it is written anew",
                    bundle=copy.bundle_id,
                    barcode=copy.barcode,
                )
                await self._store.copy_failed(
                    bundle_id=copy.bundle_id, pool=copy.pool, reason="cut off by the end of an earlier run"
                )
