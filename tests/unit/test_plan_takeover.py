"""Whose the drives are when the appliance begins on a machine."""

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from coldstore.model.cartridges import Drive, DriveState
from coldstore.model.hosts import Host
from coldstore.model.library import DriveElement, Inventory
from coldstore.plan.takeover import (
    PROOF_SECONDS,
    WAIT_SECONDS,
    divide,
    is_proof,
    other_host,
    seconds_to_wait,
)

HERE = Host(name="here", machine_id="m1", boot_id="b2")
THERE = Host(name="there", machine_id="m2", boot_id="b9")


def drive(index: int, host: Host | None, **other: object) -> Drive:
    """A drive that is up."""
    made = Drive(
        index=index,
        serial=f"S{index}",
        state=DriveState.UP,
        reason="new",
        failures=0,
        changed_at=1.0,
        changed_by="joe",
        host="" if host is None else host.text,
    )
    return replace(made, **other)  # type: ignore[arg-type]


def inventory(*barcodes: str | None) -> Inventory:
    """Drives with these cartridges; "?" is one without a readable label."""
    return Inventory(
        drives=tuple(
            DriveElement(
                number=number,
                is_full=barcode is not None,
                barcode=None if barcode == "?" else barcode,
                source_slot=None,
            )
            for number, barcode in enumerate(barcodes)
        ),
        slots=(),
        mail_slots=(),
    )


class DivideTests(SynchronousTestCase):
    """``divide``."""

    def test_same_machine(self) -> None:
        """What this machine had, also before it was booted, is its own; so is what nobody noted."""
        records = [drive(0, replace(HERE, boot_id="b1")), drive(1, None), drive(2, HERE)]
        found = divide(records, inventory("A", "B", None), HERE)
        self.assertEqual((found.ours, found.foreign), ((0, 1, 2), ()))

    def test_other_machine(self) -> None:
        """What another one had is its own as long as there is a cartridge in it, readable or not."""
        found = divide([drive(n, THERE) for n in range(3)], inventory("A", None, "?"), HERE)
        self.assertEqual(found.ours, (1,))
        self.assertEqual([(one.record.index, one.barcode) for one in found.foreign], [(0, "A"), (2, None)])
        self.assertEqual({one.host for one in found.foreign}, {THERE})
        self.assertIn("without a readable barcode", found.foreign[1].reason)

    def test_not_reported(self) -> None:
        """Of a drive that the library does not report nobody knows what is in it: it is not taken from another machine."""
        found = divide([drive(0, None), drive(1, THERE), drive(2, HERE)], inventory("A"), HERE)
        self.assertEqual((found.ours, found.foreign), ((0, 2), ()))

    def test_reason(self) -> None:
        """It names cartridge and machine, and keeps why the drive was down already, once."""
        record = drive(0, THERE, state=DriveState.DOWN, reason="noise")
        (found,) = divide([record], inventory("A"), HERE).foreign
        self.assertEqual(found.reason, "it holds A, which there loaded and may still write to")
        self.assertEqual(found.down_reason, f"{found.reason} (it was down already: noise)")
        (again,) = divide([replace(record, reason=found.down_reason)], inventory("A"), HERE).foreign
        self.assertEqual(again.down_reason, again.reason)
        (up,) = divide([drive(0, THERE)], inventory("A"), HERE).foreign
        self.assertEqual(up.down_reason, up.reason)

    def test_other_host(self) -> None:
        """Only a machine that is not this one is another one."""
        self.assertEqual(other_host(drive(0, THERE), HERE), THERE)
        self.assertIsNone(other_host(drive(0, None), HERE))
        self.assertIsNone(other_host(drive(0, HERE), HERE))


class TimeTests(SynchronousTestCase):
    """How long an answer counts, and how long whoever takes over waits."""

    def test_proof(self) -> None:
        """An answer counts for a while after the question, and not a moment longer."""
        self.assertTrue(is_proof(asked_at=100.0, now=100.0 + PROOF_SECONDS - 0.1))
        self.assertFalse(is_proof(asked_at=100.0, now=100.0 + PROOF_SECONDS))

    def test_wait(self) -> None:
        """Whoever comes from another machine waits until no answer can count any more that was given to that; nobody else waits."""
        self.assertGreater(WAIT_SECONDS, PROOF_SECONDS)
        self.assertEqual(seconds_to_wait(THERE, HERE), WAIT_SECONDS)
        for before in (None, HERE, replace(HERE, boot_id="b1"), replace(HERE, name="renamed")):
            self.assertEqual(seconds_to_wait(before, HERE), 0.0)
