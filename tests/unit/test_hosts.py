"""Machines are known again, and told apart; what this one says of itself."""

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from coldstore.model.hosts import Host, taken_over_by
from coldstore.util import thishost


class HostTests(SynchronousTestCase):
    """``Host``."""

    def test_text(self) -> None:
        """The text has everything, also of a machine that knows little of itself, and a name with blanks."""
        for host in (
            Host(name="archive1", machine_id="m1", boot_id="b1"),
            Host(name="archive1"),
            Host(name="a b", boot_id="b1"),
        ):
            self.assertEqual(Host.of_text(host.text), host)
        self.assertIsNone(Host.of_text(""))
        self.assertRaises(ValueError, Host.of_text, "archive1")

    def test_is_same(self) -> None:
        """One kernel is one machine; after a boot both name and machine id must be what they were."""
        host = Host(name="one", machine_id="m1", boot_id="b1")
        for other, is_same in (
            (host, True),
            (Host(name="one", machine_id="m1", boot_id="b2"), True),
            (Host(name="container", machine_id="", boot_id="b1"), True),
            (Host(name="two", machine_id="m1", boot_id="b2"), False),
            (Host(name="one", machine_id="m2", boot_id="b2"), False),
            (Host(name="one", machine_id="", boot_id="b2"), False),
            (Host(name="one", machine_id="", boot_id=""), False),
        ):
            self.assertIs(host.is_same(other), is_same, other)
            self.assertIs(other.is_same(host), is_same, other)
        self.assertTrue(Host(name="one").is_same(Host(name="one")))

    def test_digest(self) -> None:
        """It is the same over boots, and another one for another machine or appliance."""
        digest = Host(name="one", machine_id="m1", boot_id="b1").digest("A")
        self.assertEqual(Host(name="one", machine_id="m1", boot_id="b2").digest("A"), digest)
        for other in (Host(name="two", machine_id="m1"), Host(name="one", machine_id="m2")):
            self.assertNotEqual(other.digest("A"), digest)
        self.assertNotEqual(Host(name="one", machine_id="m1").digest("B"), digest)

    def test_sentence(self) -> None:
        """Who has taken over is told by name, if it is known."""
        self.assertIn("on two", taken_over_by(7, Host(name="two").text))
        self.assertIn("run 7", taken_over_by(7, ""))


class ThisHostTests(SynchronousTestCase):
    """``coldstore.util.thishost``."""

    def test_machine_id(self) -> None:
        """It is the line of the file; what is missing, not made yet or no id is none."""
        path = Path(self.mktemp())
        self.assertEqual(thishost.machine_id(path), "")
        for content, found in (
            (b"0123456789abcdef0123456789abcdef\n", "0123456789abcdef0123456789abcdef"),
            (b"", ""),
            (b"uninitialized\n", ""),
            (b"two words", ""),
            (b"\xff\xfe", ""),
        ):
            path.write_bytes(content)
            self.assertEqual(thishost.machine_id(path), found)

    def test_boot_id(self) -> None:
        """The kernel tells which boot this is."""
        self.assertEqual(len(thishost.boot_id()), 36)
        self.assertEqual(thishost.boot_id(), thishost.boot_id())

    def test_name(self) -> None:
        """It has no domain."""
        self.assertTrue(thishost.host_name())
        self.assertNotIn(".", thishost.host_name())
