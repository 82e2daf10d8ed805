"""The drives' records: one per configured drive, kept over restarts."""

from twisted.internet.interfaces import IReactorTime

from coldstore.interfaces.metadata import IMetadataStore
from coldstore.model.cartridges import Drive, DriveState
from coldstore.work.bay import APPLIANCE


async def record_drives(store: IMetadataStore, clock: IReactorTime, serials: dict[int, str]) -> None:
    """Record drives that are new or were exchanged; one that an operator put down stays down."""
    known = {drive.index: drive for drive in await store.drives()}
    for index, serial in sorted(serials.items()):
        record = known.get(index)
        if record is not None and record.serial == serial:
            continue
        await store.record_drive(
            Drive(
                index=index,
                serial=serial,
                state=DriveState.UP,
                reason="new" if record is None else f"exchanged for one with serial number {serial}",
                failures=0,
                changed_at=clock.seconds(),
                changed_by=APPLIANCE,
                host="" if record is None else record.host,
            ),
            audit="new drive" if record is None else "drive exchanged",
        )
