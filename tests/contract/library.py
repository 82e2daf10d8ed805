"""
The contract of ``ILibrary`` and ``IDrive``, for every library there is: simulated, virtual, and behind kernel devices.

A library may be shared by many tests and slow to make, so every test takes cartridges where it finds them, and
``put_back`` leaves all drives empty.
"""

from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from coldstore.interfaces.drive import DriveCondition, DriveNotReady, IDrive
from coldstore.interfaces.library import CartridgeNotThere, ElementOccupied, ILibrary, NoSuchElement
from coldstore.model.barcodes import is_cleaning_label
from coldstore.model.errors import MetadataUnavailable, TakenOver
from coldstore.model.library import Inventory, Slot
from coldstore.testing.tenure import SimulatedTenure
from coldstore.util.asynchronous import returns_deferred
from tests.incidents import survives

if TYPE_CHECKING:
    _Base = TestCase
else:
    _Base = object

_T = TypeVar("_T")
READY_SECONDS = 120.0


class LibraryInHand(_Base):
    """Tests with a library and its drives: two of them, a mail slot, and three data cartridges at least."""

    library: ILibrary
    drives: tuple[IDrive, ...]
    tenure: SimulatedTenure

    def finish(self, deferred: "Deferred[_T]") -> "Deferred[_T]":
        """Let time go by until the Deferred fires, where time is ours to move."""
        return deferred

    async def put_back(self) -> None:
        """Empty every drive into free slots."""
        inventory = await self.finish(self.library.inventory())
        free = [slot.number for slot in inventory.empty_slots()]
        for element in inventory.drives:
            if element.barcode is not None:
                await self.finish(self.drives[element.number].offline())
                slot = free.pop()
                await self.finish(
                    self.library.unload(drive=element.number, slot=slot, barcode=element.barcode)
                )
        for mail_slot in inventory.mail_slots:
            if mail_slot.barcode is not None:
                move = self.library.transfer(
                    source=mail_slot.number, destination=free.pop(), barcode=mail_slot.barcode
                )
                await self.finish(move)

    async def data_slots(self) -> tuple[Inventory, list[tuple[int, str]]]:
        """The inventory, and its slots with data cartridges: number and barcode."""
        inventory = await self.finish(self.library.inventory())
        slots = [
            (slot.number, slot.barcode)
            for slot in inventory.slots
            if slot.barcode is not None and not is_cleaning_label(slot.barcode)
        ]
        return inventory, slots

    async def refused(self, deferred: "Deferred[Any]", kind: type[Exception]) -> Any:
        """Return the fault that the call fails with."""
        try:
            await self.finish(deferred)
        except kind as fault:
            return fault
        self.fail(f"{kind.__name__} not raised")


class LibraryContract(LibraryInHand):
    """What every library and its drives keep."""

    def test_interfaces(self) -> None:
        """Library and drives have what the interfaces list."""
        verifyObject(ILibrary, self.library)
        for number, drive in enumerate(self.drives):
            verifyObject(IDrive, drive)
            self.assertEqual(drive.number, number)

    @returns_deferred
    async def test_inventory(self) -> None:
        """Elements are numbered without gaps; every cartridge has a barcode of its own; two looks agree."""
        inventory, slots = await self.data_slots()
        self.assertEqual([drive.number for drive in inventory.drives], list(range(len(self.drives))))
        storage = [slot.number for slot in inventory.slots] + [slot.number for slot in inventory.mail_slots]
        self.assertEqual(storage, list(range(1, len(storage) + 1)))
        self.assertTrue(inventory.mail_slots)
        self.assertGreaterEqual(len(slots), 3)
        self.assertEqual(inventory.repeated_barcodes(), frozenset())
        self.assertEqual(inventory.unlabelled(), ())
        self.assertEqual(await self.finish(self.library.inventory()), inventory)

    @returns_deferred
    async def test_taken_over(self) -> None:
        """Once another appliance has taken over no cartridge is moved and no drive lets go of one; looking goes on."""
        inventory, [(slot, barcode), (next_slot, next_barcode), *_] = await self.data_slots()
        drive = self.drives[0]
        empty = inventory.empty_slots()[0].number
        await self.finish(self.library.load(slot=slot, drive=0, barcode=barcode))
        await self.finish(drive.wait_until_ready(timeout_seconds=READY_SECONDS))
        loaded = await self.finish(self.library.inventory())

        self.tenure.fault = TakenOver("by machine two")
        await self.refused(self.library.load(slot=next_slot, drive=1, barcode=next_barcode), TakenOver)
        await self.refused(
            self.library.transfer(source=next_slot, destination=empty, barcode=next_barcode), TakenOver
        )
        await self.refused(drive.offline(), TakenOver)
        self.assertTrue((await self.finish(drive.status())).is_ready)
        self.tenure.fault = None
        await self.finish(drive.offline())
        self.tenure.fault = MetadataUnavailable("away")
        await self.refused(self.library.unload(drive=0, slot=slot, barcode=barcode), MetadataUnavailable)
        self.assertEqual(await self.finish(self.library.inventory()), loaded)
        self.tenure.fault = None
        await self.finish(self.library.unload(drive=0, slot=slot, barcode=barcode))

    @survives("shows-empty-after-offline")
    @returns_deferred
    async def test_whole_way(self) -> None:
        """A cartridge goes into a drive, becomes ready, is let go, and comes back into another slot."""
        inventory, [(slot, barcode), *_] = await self.data_slots()
        drive = self.drives[1]
        other = inventory.empty_slots()[0].number
        self.assertEqual((await self.finish(drive.status())).condition, DriveCondition.EMPTY)
        await self.finish(self.library.load(slot=slot, drive=1, barcode=barcode))
        loaded = await self.finish(self.library.inventory())
        self.assertEqual(loaded.drive(1).barcode, barcode)
        self.assertEqual(loaded.storage(slot), Slot(number=slot, is_full=False, barcode=None))
        status = await self.finish(drive.wait_until_ready(timeout_seconds=READY_SECONDS))
        self.assertTrue(status.is_ready)
        self.assertIsNotNone(status.density_code)
        self.assertFalse(status.is_write_protected)
        self.assertEqual((await self.finish(self.drives[0].status())).condition, DriveCondition.EMPTY)
        await self.finish(drive.offline())
        self.assertEqual((await self.finish(drive.status())).condition, DriveCondition.EMPTY)
        self.assertEqual((await self.finish(self.library.inventory())).drive(1).barcode, barcode)
        await self.finish(self.library.unload(drive=1, slot=other, barcode=barcode))
        after = await self.finish(self.library.inventory())
        self.assertEqual((after.drive(1).is_full, after.storage(other).barcode), (False, barcode))

    @returns_deferred
    async def test_repeating(self) -> None:
        """Every call may be repeated: what is done stays done."""
        _, [(slot, barcode), *_] = await self.data_slots()
        for _ in range(2):
            await self.finish(self.library.load(slot=slot, drive=0, barcode=barcode))
        await self.finish(self.drives[0].wait_until_ready(timeout_seconds=READY_SECONDS))
        for _ in range(2):
            await self.finish(self.drives[0].offline())
        for _ in range(2):
            await self.finish(self.library.unload(drive=0, slot=slot, barcode=barcode))
        inventory = await self.finish(self.library.inventory())
        self.assertEqual(inventory.storage(slot).barcode, barcode)

    @returns_deferred
    async def test_mail_slot(self) -> None:
        """A cartridge goes into the mail slot and back; a repeated transfer is harmless."""
        inventory, [(slot, barcode), *_] = await self.data_slots()
        mail = inventory.mail_slots[0].number
        for _ in range(2):
            await self.finish(self.library.transfer(source=slot, destination=mail, barcode=barcode))
        outside = await self.finish(self.library.inventory())
        self.assertEqual((outside.storage(mail).barcode, outside.storage(slot).is_full), (barcode, False))
        await self.finish(self.library.transfer(source=mail, destination=slot, barcode=barcode))
        self.assertEqual(await self.finish(self.library.inventory()), inventory)

    @survives("mtx-drive-empty")
    @returns_deferred
    async def test_not_there(self) -> None:
        """A move of another cartridge than the one in the source, or out of an empty element, moves nothing."""
        inventory, [(slot, barcode), (_, other), *_] = await self.data_slots()
        empty = inventory.empty_slots()[0].number
        for call in (
            self.library.load(slot=slot, drive=0, barcode=other),
            self.library.load(slot=empty, drive=0, barcode=barcode),
            self.library.transfer(source=empty, destination=inventory.mail_slots[0].number, barcode=barcode),
            self.library.unload(drive=0, slot=empty, barcode=barcode),
        ):
            fault = await self.refused(call, CartridgeNotThere)
            self.assertTrue(fault.is_outcome_known)
        self.assertEqual(await self.finish(self.library.inventory()), inventory)

    @survives("mtx-drive-full", "mtx-destination-full")
    @returns_deferred
    async def test_occupied(self) -> None:
        """A move onto another cartridge moves nothing."""
        _, [(slot, barcode), (second, another), *_] = await self.data_slots()
        await self.finish(self.library.load(slot=slot, drive=0, barcode=barcode))
        before = await self.finish(self.library.inventory())
        for call in (
            self.library.load(slot=second, drive=0, barcode=another),
            self.library.unload(drive=0, slot=second, barcode=barcode),
        ):
            await self.refused(call, ElementOccupied)
        self.assertEqual(await self.finish(self.library.inventory()), before)

    @survives("mtx-slot-out-of-range", "mtx-no-such-drive", "mtx-not-a-slot")
    @returns_deferred
    async def test_no_such_element(self) -> None:
        """Numbers that the library does not have are refused."""
        inventory, [(slot, barcode), *_] = await self.data_slots()
        beyond = len(inventory.slots) + len(inventory.mail_slots) + 1
        for call in (
            self.library.load(slot=beyond, drive=0, barcode=barcode),
            self.library.load(slot=0, drive=0, barcode=barcode),
            self.library.load(slot=slot, drive=len(self.drives), barcode=barcode),
            self.library.unload(drive=len(self.drives), slot=slot, barcode=barcode),
            self.library.transfer(source=slot, destination=beyond, barcode=barcode),
        ):
            await self.refused(call, NoSuchElement)
        self.assertEqual(await self.finish(self.library.inventory()), inventory)

    @survives("moves-in-turn")
    @returns_deferred
    async def test_at_once(self) -> None:
        """Calls made at the same time all come true, one after the other."""
        _, [(first, one), (second, two), *_] = await self.data_slots()
        both = gatherResults(
            [
                self.library.load(slot=first, drive=0, barcode=one),
                self.library.load(slot=second, drive=1, barcode=two),
                self.library.inventory(),
            ],
            consumeErrors=True,
        )
        results = await self.finish(both)
        seen = [[drive.barcode for drive in inventory.drives[:2]] for inventory in results]
        # What a load saw is from before the next move.
        self.assertEqual(seen, [[one, None], [one, two], [one, two]])
        ready = gatherResults(
            [drive.wait_until_ready(timeout_seconds=READY_SECONDS) for drive in self.drives[:2]],
            consumeErrors=True,
        )
        self.assertTrue(all(status.is_ready for status in await self.finish(ready)))

    @survives("mt-blocks")
    @returns_deferred
    async def test_waiting_without_cartridge(self) -> None:
        """Waiting for a tape that was never loaded ends at its deadline."""
        await self.refused(self.drives[0].wait_until_ready(timeout_seconds=2), DriveNotReady)
