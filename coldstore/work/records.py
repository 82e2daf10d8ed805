"""Changing the record of a cartridge safely: read, decide by the table, write by revision, try again on conflict."""

from collections.abc import Callable
from dataclasses import replace

from coldstore.interfaces.metadata import Conflict, IMetadataStore
from coldstore.model.cartridges import CARTRIDGE_TRANSITIONS, Cartridge, CartridgeEvent
from coldstore.model.states import after

ATTEMPTS = 10


async def change_cartridge(
    store: IMetadataStore,
    barcode: str,
    *,
    at: float,
    by: str,
    reason: str,
    event: CartridgeEvent | None = None,
    change: Callable[[Cartridge], Cartridge] = lambda record: record,
) -> Cartridge:
    """
    Apply ``event`` (audited) and ``change`` to a cartridge's record; return the new record.

    :raise ImpossibleTransition: when the event cannot happen in its state
    :raise LookupError: when the cartridge is unknown
    """
    for _ in range(ATTEMPTS):
        record = await store.cartridge(barcode)
        if record is None:
            raise LookupError(f"no cartridge {barcode} is known")
        changed = change(record)
        if event is not None:
            changed = replace(
                changed,
                state=after(CARTRIDGE_TRANSITIONS, record.state, event),
                reason=reason,
                changed_at=at,
                changed_by=by,
            )
        if changed == record:
            return record
        try:
            return await store.record_cartridge(changed, audit=event.value if event is not None else "")
        except Conflict:
            continue
    raise Conflict(f"the record of {barcode} kept changing")
