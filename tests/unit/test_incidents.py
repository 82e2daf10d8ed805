"""Every incident that the virtual library can play is shown by a test, and survived in a test."""

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from twisted.trial.unittest import SynchronousTestCase

from coldstore.tape import ltfs, mt, mtx
from coldstore.tape.ltfs import LtfsOptions, LtfsTools
from coldstore.vtl.faults import FAULT_KINDS
from coldstore.vtl.incidents import INCIDENTS
from coldstore.vtl.index import parse_rules
from tests.incidents import survives

TESTS = Path(__file__).resolve().parent.parent


def marks() -> Iterator[tuple[str, str, str]]:
    """Yield mark, incident and test of every decorated test: read, not imported, since each level has its own needs."""
    for path in sorted(TESTS.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            for decorator in node.decorator_list:
                if (
                    isinstance(decorator, ast.Call)
                    and isinstance(decorator.func, ast.Name)
                    and decorator.func.id in ("shows", "survives")
                ):
                    for argument in decorator.args:
                        yield decorator.func.id, ast.literal_eval(argument), f"{path.name}:{node.name}"


class IncidentTests(SynchronousTestCase):
    """The table of incidents, and the tests that prove its rows."""

    def test_every_row_is_proved(self) -> None:
        """A row without a test that shows it, or without one that survives it, is named here."""
        found = {(mark, name) for mark, name, _ in marks()}
        wanted = {(mark, name) for mark in ("shows", "survives") for name in INCIDENTS}
        self.assertEqual(sorted(wanted - found), [])
        self.assertEqual(sorted(found - wanted), [], "no such incidents")

    def test_marks_are_on_tests(self) -> None:
        """A mark on what trial does not run proves nothing."""
        self.assertEqual([test for _, _, test in marks() if ":test_" not in test], [])

    def test_every_kind_is_used(self) -> None:
        """A kind of fault that no incident needs is reached by tests of its own only: those that are left are few and known."""
        used = {fault.name for name, incident in INCIDENTS.items() for fault in incident.armed(name)}
        self.assertEqual(FAULT_KINDS.keys() - used, set())

    def test_rows_make_sense(self) -> None:
        """A row is armed or comes about by itself, says something, and its faults are valid, also for one drive alone."""
        for name, incident in INCIDENTS.items():
            self.assertRegex(name, r"^[a-z0-9]+(-[a-z0-9]+)*$")
            self.assertEqual(bool(incident.faults), not incident.comes_by, name)
            self.assertTrue(incident.about and incident.says, name)
            for fault in incident.armed(name, drive=1):
                fault.check()
                self.assertEqual(fault.drive, 1)


class NeverAskedTests(SynchronousTestCase):
    """Traps of commands that the product never runs: these are all command lines that there are."""

    def command_lines(self, module: ModuleType) -> dict[str, tuple[str, ...]]:
        """Call every function of a module that makes a command line, with words and numbers that can be told again."""
        given = {
            "mtx": "mtx",
            "mt": "mt",
            "changer": "CH",
            "device": "DEV",
            "slot": 3,
            "drive": 1,
            "source": 4,
            "destination": 5,
        }
        given |= {
            "tools": LtfsTools(),
            "options": LtfsOptions(),
            "barcode": "A00001L8",
            "volume_name": "V",
            "is_deep": True,
        }
        given |= {"mountpoint": "MP", "work_directory": "WD", "pool_mebibytes": 7, "read_only": False}
        found = {}
        for name, function in vars(module).items():
            if inspect.isfunction(function) and name.endswith(("_command", "_arguments")):
                wanted = inspect.signature(function).parameters
                found[name] = function(**{parameter: given[parameter] for parameter in wanted})
        return found

    @survives(
        "mtx-eject-exits-0",
        "mtx-nothing-exits-0",
        "mtx-version-exits-1",
        "mtx-unknown-command",
        "mtx-no-device-given",
        "mtx-takes-cleaning",
    )
    def test_mtx(self) -> None:
        """Status, load, unload and transfer, one command a line, with the device and both numbers."""
        self.assertEqual(
            set(self.command_lines(mtx).values()),
            {
                ("mtx", "-f", "CH", "status"),
                ("mtx", "-f", "CH", "load", "3", "1"),
                ("mtx", "-f", "CH", "unload", "3", "1"),
                ("mtx", "-f", "CH", "transfer", "4", "5"),
            },
        )

    @survives(
        "mt-unknown-command",
        "mt-illegal-count",
        "mt-unknown-property",
        "mt-no-device-given",
        "mt-protected",
        "mt-beyond",
        "mt-no-such-partition",
        "mt-lacks-command",
        "rewind-fails",
    )
    def test_mt(self) -> None:
        """Status and offline, with the device: no command that writes, counts, positions or waits in the kernel for a tape."""
        expected = {("mt", "-f", "DEV", "status"), ("mt", "-f", "DEV", "offline")}
        self.assertEqual(set(self.command_lines(mt).values()), expected)

    @survives(
        "unformat-exits-1",
        "format-bad-rules",
        "check-no-such-generation",
        "mount-no-such-generation",
        "rollback-mount",
        "listed-without-busy",
    )
    def test_ltfs(self) -> None:
        """Formats without force and with a rule that is right, checks without lists and generations, mounts the newest state."""
        lines = self.command_lines(ltfs)
        self.assertEqual(set(lines), {"format_arguments", "check_arguments", "mount_arguments"})
        for argv in lines.values():
            for word in ("-f", "-w", "-l", "-g", "-r"):
                allowed = {"mount_arguments": ("-f",), "format_arguments": ("-r",)}
                known = allowed.get(next(name for name, line in lines.items() if line is argv), ())
                self.assertEqual(word in argv, word in known, argv)
            self.assertFalse([word for word in argv if "rollback" in word or "device_list" in word])
        policy = parse_rules(lines["format_arguments"][-1])
        self.assertIn("*.manifest", policy.names)
