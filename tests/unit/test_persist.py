"""The language of ``sg_persist``, with what the program (0.67, sg3-utils 1.46) prints, and keys as LTFS makes them."""

from twisted.trial.unittest import SynchronousTestCase

from coldstore.interfaces.process import Completed
from coldstore.model.hosts import Host
from coldstore.tape.output import UnknownOutput
from coldstore.tape.persist import (
    Held,
    Trouble,
    explain,
    holder_of,
    is_of_ltfs,
    key_of,
    parse_reservation,
    preempt_command,
    read_command,
    register_command,
    reserve_command,
)

LTFS = bytes.fromhex("40000000c0000207")
KEY = bytes.fromhex("c500000000000123")
FREE = b"  PR generation=0x1, there is NO reservation held\n"
HELD = b"""  PR generation=0x8, Reservation follows:
    Key=0x40000000c0000207
    scope: LU_SCOPE,  type: Exclusive Access
"""


def ended(exit_status: int | None, signal: int | None = None) -> Completed:
    """A command that ended so."""
    return Completed(
        argv=("sg_persist",), exit_status=exit_status, signal=signal, stdout=b"", stderr=b"", seconds=0.1
    )


class PersistTests(SynchronousTestCase):
    """Commands, answers, keys."""

    def test_commands(self) -> None:
        """Nothing is changed without --out; numbers are hexadecimal, as the program takes them."""
        self.assertEqual(
            register_command("p", "/dev/sg1", KEY),
            ("p", "--no-inquiry", "--out", "--register-ignore", "--param-sark=c500000000000123", "/dev/sg1"),
        )
        self.assertEqual(
            reserve_command("p", "/dev/sg1", KEY),
            ("p", "--no-inquiry", "--out", "--reserve", "--param-rk=c500000000000123", "--prout-type=3", "/dev/sg1"),
        )  # fmt: skip
        self.assertEqual(
            preempt_command("p", "/dev/sg1", KEY, LTFS)[2:-1],
            ("--out", "--preempt-abort", "--param-rk=c500000000000123", "--param-sark=40000000c0000207", "--prout-type=3"),
        )  # fmt: skip
        self.assertNotIn("--out", read_command("p", "/dev/sg1"))

    def test_free(self) -> None:
        """Nobody has it."""
        self.assertIsNone(parse_reservation(FREE))

    def test_held(self) -> None:
        """Somebody has it, also by a key whose first digits are zeros."""
        self.assertEqual(parse_reservation(HELD), Held(key=LTFS, type="Exclusive Access"))
        short = HELD.replace(b"0x40000000c0000207", b"0x123abc").replace(
            b"Access", b"Access, registrants only"
        )
        self.assertEqual(
            parse_reservation(short),
            Held(key=bytes.fromhex("0000000000123abc"), type="Exclusive Access, registrants only"),
        )

    def test_unknown(self) -> None:
        """What is not known is not guessed at: it decides whether a tape may be written."""
        for wrong in (
            b"",
            b"sg_persist from the future\n",
            FREE + HELD,
            HELD.replace(b"Key=0x4", b"Key=4"),
            HELD[: HELD.index(b"    scope")],
            b"  PR generation=0x1, there are NO registered reservation keys\n",
        ):
            self.assertRaises(UnknownOutput, parse_reservation, wrong)

    def test_troubles(self) -> None:
        """What an exit status means (sg3_utils(8))."""
        for status, trouble in (
            (0, None),
            (24, Trouble.CONFLICT),
            (5, Trouble.UNSUPPORTED),
            (9, Trouble.UNSUPPORTED),
            (6, Trouble.PASSING),
            (2, Trouble.PASSING),
            (15, Trouble.OTHER),
            (99, Trouble.OTHER),
        ):
            self.assertEqual(explain(ended(status)), trouble, status)
        self.assertEqual(explain(ended(None, 9)), Trouble.OTHER)

    def test_our_keys(self) -> None:
        """A machine has the same key over boots; other machines and other appliances have others; none looks like one of LTFS."""
        host = Host(name="one", machine_id="m1", boot_id="b1")
        key = key_of(host, "A")
        self.assertEqual(len(key), 8)
        self.assertEqual(key_of(Host(name="one", machine_id="m1", boot_id="b2"), "A"), key)
        self.assertNotEqual(key_of(Host(name="two", machine_id="m1"), "A"), key)
        self.assertNotEqual(key_of(host, "B"), key)
        self.assertFalse(is_of_ltfs(key))
        self.assertIn("ColdStore", holder_of(key))

    def test_keys_of_ltfs(self) -> None:
        """They tell an address or a name."""
        for key, told in (
            (LTFS, "the LTFS of 192.0.2.7"),
            (bytes.fromhex("60") + bytes(range(1, 8)), "01:02:03:04:05:06:07"),
            (b"\x10tapehos", "called tapehos"),
        ):
            self.assertTrue(is_of_ltfs(key))
            self.assertIn(told, holder_of(key))
        for other in (bytes(8), bytes.fromhex("40000001c0000207"), bytes.fromhex("0000000000123abc")):
            self.assertFalse(is_of_ltfs(other))
            self.assertIn(other.hex(), holder_of(other))
