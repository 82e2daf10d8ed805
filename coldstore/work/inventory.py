"""Keeps the record of cartridges equal to what the library shows: new ones, vanished ones, doubtful labels."""

from collections.abc import Callable
from dataclasses import replace

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from coldstore.interfaces.library import ILibrary
from coldstore.interfaces.metadata import BATCH_MAX, IMetadataStore
from coldstore.model.barcodes import BadBarcode, is_cleaning_label, parse_barcode
from coldstore.model.cartridges import Cartridge, CartridgeState
from coldstore.model.events import Severity
from coldstore.model.library import DriveElement, Inventory, name_of
from coldstore.work.alerts import Alerts
from coldstore.work.bay import APPLIANCE
from coldstore.work.records import change_cartridge


class InventoryKeeper:
    """Takes inventory and records it."""

    log = Logger()

    def __init__(
        self,
        *,
        library: ILibrary,
        store: IMetadataStore,
        clock: IReactorTime,
        capacity_of: Callable[[str], int],
        admitted_by: Callable[[str], str],
    ) -> None:
        """
        :param capacity_of: native capacity in bytes of a cartridge that was never mounted, by barcode
        :param admitted_by: who admitted a new cartridge before we saw it, "" for nobody (every real one)
        """
        self._library = library
        self._store = store
        self._clock = clock
        self._capacity_of = capacity_of
        self._admitted_by = admitted_by
        self._alerts = Alerts(store=store, clock=clock)
        self.latest: Inventory | None = None

    async def take(self) -> Inventory:
        """
        Read the inventory, record every cartridge's presence, and raise or clear the alerts that follow from it.

        :raise LibraryFault: the library does not answer
        """
        inventory = await self._library.inventory()
        self.latest = inventory
        now = self._clock.seconds()
        repeated = inventory.repeated_barcodes()
        seen: dict[str, int | None] = {}
        for element in inventory.elements():
            if element.barcode is None or is_cleaning_label(element.barcode) or element.barcode in repeated:
                continue
            seen[element.barcode] = None if isinstance(element, DriveElement) else element.number
        known = {record.barcode: record for record in await self._store.cartridges()}
        await self._add_new([barcode for barcode in seen if barcode not in known], seen, now)
        for record in known.values():
            await self._note_presence(record, seen, now)
        await self._alert_about(inventory, repeated)
        return inventory

    async def _add_new(self, barcodes: list[str], seen: dict[str, int | None], now: float) -> None:
        new = [self._new(barcode, seen[barcode], now) for barcode in sorted(barcodes)]
        for start in range(0, len(new), BATCH_MAX):
            await self._store.add_cartridges(new[start : start + BATCH_MAX])
        if new:
            self.log.info(
                "{count} new cartridges: {barcodes}", count=len(new), barcodes=", ".join(sorted(barcodes))
            )

    def _new(self, barcode: str, slot: int | None, now: float) -> Cartridge:
        capacity_bytes = self._capacity_of(barcode)
        admitted_by = self._admitted_by(barcode)
        return Cartridge(
            barcode=barcode,
            state=CartridgeState.SCRATCH if admitted_by else CartridgeState.UNADMITTED,
            pool="",
            volume_uuid="",
            home_slot=slot,
            is_present=True,
            capacity_bytes=capacity_bytes,
            free_bytes=capacity_bytes,
            written_bytes=0,
            loads=0,
            failures=0,
            needs_check=False,
            format_nonce="",
            admitted_at=now if admitted_by else None,
            admitted_by=admitted_by,
            reason=f"made by {admitted_by}" if admitted_by else "seen in the library",
            changed_at=now,
            changed_by=APPLIANCE,
        )

    async def _note_presence(self, record: Cartridge, seen: dict[str, int | None], now: float) -> None:
        is_present = record.barcode in seen
        slot = seen.get(record.barcode)
        if record.is_present == is_present and (slot is None or slot == record.home_slot):
            return
        await change_cartridge(
            self._store,
            record.barcode,
            at=now,
            by=APPLIANCE,
            reason="",
            change=lambda known: replace(
                known, is_present=is_present, home_slot=known.home_slot if slot is None else slot
            ),
        )
        if record.is_present != is_present:
            self.log.info(
                "{barcode} is {now}",
                barcode=record.barcode,
                now="in the library again" if is_present else "gone from the library",
            )

    async def _alert_about(self, inventory: Inventory, repeated: frozenset[str]) -> None:
        await self._alerts.look()
        await self._alerts.keep_only(
            "barcode-twice",
            {
                f"cartridge {barcode}": f"{barcode} is on two cartridges: neither is touched; take one out"
                for barcode in repeated
            },
            Severity.WARNING,
        )
        await self._alerts.keep_only(
            "no-barcode",
            {
                name_of(element): f"{name_of(element)} holds a cartridge whose label cannot be read"
                for element in inventory.unlabelled()
            },
            Severity.WARNING,
        )
        unusual: dict[str, str] = {}
        for barcode in inventory.barcodes():
            try:
                parse_barcode(barcode)
            except BadBarcode as bad:
                if not is_cleaning_label(barcode):
                    unusual[f"cartridge {barcode}"] = f"{bad}: it is left alone"
        await self._alerts.keep_only("barcode-unusual", unusual, Severity.WARNING)
