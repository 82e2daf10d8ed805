"""Every incident that the virtual library can play is shown by a test, and survived in a test."""

import ast
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from coldstore.vtl.faults import FAULT_KINDS
from coldstore.vtl.incidents import INCIDENTS

TESTS = Path(__file__).resolve().parent.parent


def marks() -> Iterator[tuple[str, str, str]]:
    """Yield mark, incident and test of every decorated test: read, not imported, since each level has its own needs."""
    for path in sorted(TESTS.rglob("test_*.py")):
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
