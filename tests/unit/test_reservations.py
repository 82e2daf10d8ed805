"""``SgPersistReservation`` over a simulated runner and a device that keeps its own books."""

from collections.abc import Sequence

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from coldstore.interfaces.reservation import ReservationFault, ReservationsUnsupported, ReservedByAnother
from coldstore.model.errors import TakenOver
from coldstore.model.hosts import Host
from coldstore.tape.persist import key_of
from coldstore.tape.reservations import SgPersistReservation
from coldstore.testing.process import Script, SimulatedCommandRunner
from coldstore.testing.tenure import SimulatedTenure

APPLIANCE = "00000000-0000-4000-8000-000000000001"
HERE, THERE = Host(name="here", machine_id="m1"), Host(name="there", machine_id="m2")
LTFS = bytes.fromhex("40000000c0000207")


class Device:
    """
    A device that knows persistent reservations of type 3, as two machines use it through ``sg_persist``.

    ``keys`` has the key that each machine has registered; ``holder`` is the machine that has the device.
    """

    def __init__(self) -> None:
        self.keys: dict[str, bytes] = {}
        self.holder: str | None = None
        self.attentions = 0

    def program(self, machine: str) -> "Program":
        """What a machine runs."""
        return Program(self, machine)


class Program:
    """``sg_persist`` on one machine."""

    def __init__(self, device: Device, machine: str) -> None:
        self._device = device
        self._machine = machine

    def __call__(self, argv: Sequence[str]) -> Script:
        """Do what the words say."""
        device, machine = self._device, self._machine
        if device.attentions:
            device.attentions -= 1
            return Script(exit_status=6, stderr=b"PR in (Read reservation): Unit attention\n")
        words = dict(word.lstrip("-").partition("=")[::2] for word in argv[1:-1])
        own, theirs = (bytes.fromhex(words.get(name, "00" * 8)) for name in ("param-rk", "param-sark"))
        if "read-reservation" in words:
            if device.holder is None:
                return Script(stdout=b"  PR generation=0x1, there is NO reservation held\n")
            key = device.keys[device.holder].hex().lstrip("0")
            text = f"  PR generation=0x1, Reservation follows:\n    Key=0x{key}\n    scope: LU_SCOPE,  type: Exclusive Access\n"
            return Script(stdout=text.encode())
        assert "out" in words, argv
        if "register-ignore" in words:
            device.keys[machine] = theirs
            return Script()
        if device.keys.get(machine) != own or words["prout-type"] != "3":
            return Script(exit_status=24)
        if "reserve" in words:
            if device.holder not in (None, machine):
                return Script(exit_status=24, stderr=b"PR out (Reserve): Reservation conflict\n")
            device.holder = machine
            return Script()
        assert "preempt-abort" in words, argv
        losers = [name for name, key in device.keys.items() if key == theirs]
        if not losers:
            return Script(exit_status=24)
        for name in losers:
            del device.keys[name]
        if device.holder in losers:
            device.holder = machine
        return Script()


class ReservationTests(SynchronousTestCase):
    """Holding a device, and taking it."""

    def setUp(self) -> None:
        """A device and what this machine has of it."""
        self.clock = Clock()
        self.device = Device()
        self.runner = SimulatedCommandRunner(self.clock)
        self.runner.install("sg_persist", self.device.program("here"))
        self.tenure = SimulatedTenure()
        self.reservation = SgPersistReservation(
            self.runner,
            "/dev/sg1",
            tenure=self.tenure,
            name="drive 0",
            key=key_of(HERE, APPLIANCE),
            key_of=lambda host: key_of(host, APPLIANCE),
            clock=self.clock,
            program="sg_persist",
            timeout_seconds=60,
        )

    def reserved_by(self, machine: str, key: bytes) -> None:
        """Have a machine have the device."""
        self.device.keys[machine] = key
        self.device.holder = machine

    def test_hold(self) -> None:
        """A free device is ours afterwards, also when it was so before, and again after LTFS has used it with a key of its own."""
        for _ in range(2):
            self.successResultOf(self.reservation.hold())
            self.assertEqual(
                (self.device.holder, self.device.keys), ("here", {"here": key_of(HERE, APPLIANCE)})
            )
        self.device.keys, self.device.holder = {}, None
        self.successResultOf(self.reservation.hold())
        self.assertEqual(self.device.holder, "here")

    def test_hold_what_another_has(self) -> None:
        """Nothing is taken from anybody, and the refusal says who it is."""
        self.reserved_by("there", LTFS)
        refusal = self.failureResultOf(self.reservation.hold(), ReservedByAnother).value
        self.assertEqual(
            str(refusal), "drive 0 is reserved by the LTFS of 192.0.2.7 (key 0x40000000c0000207)"
        )
        self.assertEqual((self.device.holder, self.device.keys["there"]), ("there", LTFS))

    def test_take(self) -> None:
        """It is taken from the machine before, or from an LTFS, or had when nobody has it; their keys are gone then."""
        for key in (key_of(THERE, APPLIANCE), LTFS):
            self.reserved_by("there", key)
            self.successResultOf(self.reservation.take_from(THERE))
            self.assertEqual((self.device.holder, list(self.device.keys)), ("here", ["here"]))
            self.successResultOf(self.reservation.take_from(THERE))
            self.device.holder = None
        self.successResultOf(self.reservation.take_from(THERE))
        self.assertEqual(self.device.holder, "here")

    def test_taken_over(self) -> None:
        """Once another appliance has taken over nothing is taken from it, nor held."""
        self.reserved_by("there", key_of(THERE, APPLIANCE))
        self.tenure.fault = TakenOver("by machine two")
        for attempt in (lambda: self.reservation.take_from(THERE), self.reservation.hold):
            self.failureResultOf(attempt(), TakenOver)
        self.assertEqual((self.device.holder, list(self.device.keys)), ("there", ["there"]))

    def test_take_from_a_third(self) -> None:
        """Somebody that we were not told of keeps it."""
        for key, told in (
            (bytes.fromhex("0000000000123abc"), "another machine (key 0x0000000000123abc)"),
            (key_of(Host(name="third"), APPLIANCE), "a ColdStore on another machine"),
        ):
            self.reserved_by("third", key)
            refusal = self.failureResultOf(self.reservation.take_from(THERE), ReservedByAnother).value
            self.assertIn(told, str(refusal))
            self.assertEqual(self.device.holder, "third")

    def test_gone_in_between(self) -> None:
        """Whoever lets go between the question and the command is no obstacle."""
        self.reserved_by("there", key_of(THERE, APPLIANCE))
        answer = self.device.program("here")(["sg_persist", "--read-reservation", "/dev/sg1"])
        self.device.keys, self.device.holder = {}, None
        self.runner.expect(["sg_persist", "--no-inquiry", "--in"], answer)
        self.successResultOf(self.reservation.take_from(THERE))
        self.assertEqual(self.device.holder, "here")

    def test_another_path(self) -> None:
        """A device that this machine has by another path answers with conflicts: said so, and not tried for ever."""
        self.reserved_by("here by the other cable", key_of(HERE, APPLIANCE))
        fault = self.failureResultOf(self.reservation.hold(), ReservationFault).value
        self.assertIn("by another path", str(fault))

    def test_unit_attention(self) -> None:
        """What a device has to tell first is no failure."""
        self.device.attentions = 2
        holding = self.reservation.hold()
        for _ in range(5):
            self.clock.advance(1)
        self.successResultOf(holding)
        self.device.attentions = 100
        holding = self.reservation.hold()
        for _ in range(10):
            self.clock.advance(1)
        self.assertIn("Unit attention", str(self.failureResultOf(holding, ReservationFault).value))

    def test_unsupported(self) -> None:
        """A device without reservations is told apart from one that fails."""
        said = b"PR out (Register and ignore existing key): command not supported\n"
        self.runner.expect(["sg_persist"], Script(exit_status=9, stderr=said))
        fault = self.failureResultOf(self.reservation.hold(), ReservationsUnsupported).value
        for words in ("drive 0", "registering a key", "exit status 9", "command not supported"):
            self.assertIn(words, str(fault))

    def test_failures(self) -> None:
        """Others say what was being done, too; nothing is believed that is not understood."""
        self.runner.expect(["sg_persist"], Script(exit_status=15, stderr=b"error opening file: /dev/sg1"))
        self.assertIn(
            "error opening", str(self.failureResultOf(self.reservation.hold(), ReservationFault).value)
        )
        self.runner.expect(["sg_persist", "--no-inquiry", "--in"], Script(stdout=b"from the future\n"))
        self.assertIn(
            "from the future", str(self.failureResultOf(self.reservation.hold(), ReservationFault).value)
        )
        self.runner.expect(["sg_persist"], Script(seconds=None))
        holding = self.reservation.hold()
        self.clock.advance(60)
        self.assertIn("no end within 60 s", str(self.failureResultOf(holding, ReservationFault).value))

    def test_no_program(self) -> None:
        """Without the program the fault names it."""
        reservation = SgPersistReservation(
            self.runner, "/dev/sg1", tenure=self.tenure, name="the changer", key=bytes(8), key_of=lambda _: bytes(8), clock=self.clock,
            program="nothing", timeout_seconds=60,
        )  # fmt: skip
        self.assertIn("nothing", str(self.failureResultOf(reservation.hold(), ReservationFault).value))
