"""
Who may import whom: every import of the package, also inside functions, is held against the arrows of ``coldstore``'s
docstring.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

CHECKOUT = Path(__file__).parents[2]

ADAPTERS = ("metadata", "disk", "tape", "notify", "keys", "testing")
ACTING = ("s3", "admin", "work")
ARROWS: Mapping[str, frozenset[str]] = {
    "model": frozenset(),
    "util": frozenset(),
    "plan": frozenset({"model"}),
    "ontape": frozenset({"model"}),
    "interfaces": frozenset({"model"}),
    **dict.fromkeys(ADAPTERS, frozenset({"model", "interfaces", "util"})),
    "tape": frozenset({"model", "interfaces", "util", "ontape"}),
    # The choice among its backends is made by the settings.
    "metadata": frozenset({"model", "plan", "interfaces", "util", "config"}),
    **dict.fromkeys(ACTING, frozenset({"model", "plan", "ontape", "interfaces", "util"})),
    # The operator's command is one.
    "admin": frozenset({"model", "plan", "ontape", "interfaces", "util", "upkeep"}),
    "upkeep": frozenset({"model", "plan", "interfaces", "util", "config", "metadata"}),
    "vtl": frozenset({"util"}),
    "config": frozenset({"model", "util"}),
    "appliance": frozenset(
        {
            "model",
            "util",
            "plan",
            "ontape",
            "interfaces",
            "metadata",
            "disk",
            "tape",
            "notify",
            "keys",
            *ACTING,
            "vtl",
            "config",
            "upkeep",
        }
    ),
    "tap": frozenset({"appliance", "config"}),
}
"""For each part of the package, the other parts that it may import."""

PURE = ("model", "plan", "ontape")
EFFECTS = frozenset(
    {"twisted", "zope", "time", "random", "os", "socket", "subprocess", "threading", "asyncio", "sys"}
)
"""What pure modules do not import; nor does anything there open a file."""
INTERFACES_MAY = frozenset({"zope.interface", "twisted.internet.defer", "twisted.internet.interfaces"})
"""What interfaces import of Twisted and zope."""
REACTOR = "twisted.internet.reactor"
COMPOSES = ("appliance", "tap")
"""Only these may import the reactor."""
SPAWNS = ("subprocess",)
ALONE: tuple[str, ...] = ("vtl", "tape.shim", "tape.mover_child")
"""Programs that run by themselves: they may start processes with ``subprocess``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """One imported module: by which module of the package, on which line."""

    by: str
    module: str
    line: int

    def __str__(self) -> str:
        return f"{self.by}:{self.line} imports {self.module}"


def imports(package: Path) -> Iterator[Import]:
    """Every import of a package's modules, with ``from x import y`` as ``x.y``."""
    for path in sorted(package.rglob("*.py")):
        relative = path.relative_to(package.parent)
        parts = relative.with_suffix("").parts
        here = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        folder = parts[:-1]
        for node in ast.walk(ast.parse(path.read_bytes(), str(path))):
            if isinstance(node, ast.Import):
                for name in node.names:
                    yield Import(by=here, module=name.name, line=node.lineno)
            elif isinstance(node, ast.ImportFrom):
                base = node.module or ""
                if node.level:
                    base = ".".join((*folder[: len(folder) - node.level + 1], *([base] if base else [])))
                for name in node.names:
                    yield Import(by=here, module=f"{base}.{name.name}", line=node.lineno)
            elif isinstance(node, ast.Call) and ast.unparse(node.func) in (
                "__import__",
                "import_module",
                "importlib.import_module",
            ):
                yield Import(by=here, module="a module by a name made at run time", line=node.lineno)


def is_within(module: str, *names: str) -> bool:
    """Whether a module is one of those named, or inside one."""
    return any(module == name or module.startswith(name + ".") for name in names)


def wrong_arrow(one: Import) -> str | None:
    """Say which rule an import breaks, or None."""
    _, _, here = one.by.partition(".")
    part = here.partition(".")[0]
    if one.module.startswith("a module by a name"):
        return "imports are written down"
    if not part:
        return "the package's own module imports nothing" if is_within(one.module, "coldstore") else None
    if part not in ARROWS:
        return f"{part} has no arrows: add it to the table"
    if is_within(one.module, "coldstore"):
        # "import coldstore" gives its docstring only.
        target = one.module.removeprefix("coldstore").removeprefix(".").partition(".")[0] or part
        if target != part and target not in ARROWS[part]:
            return f"{part} may import {', '.join(sorted(ARROWS[part])) or 'no other part'}"
        return None
    root = one.module.partition(".")[0]
    if part in PURE and root in EFFECTS:
        return f"{part} is pure"
    if part == "interfaces" and root in EFFECTS and not is_within(one.module, *INTERFACES_MAY):
        return "interfaces import zope.interface and Deferred only"
    if is_within(one.module, REACTOR) and part not in COMPOSES:
        return "the reactor is passed in"
    if is_within(one.module, *SPAWNS) and not is_within(here, *ALONE):
        return "processes are started by ICommandRunner"
    return None


def broken_rules(package: Path) -> list[str]:
    """Every import of a package that goes against the arrows, with the rule."""
    return [f"{one} ({rule})" for one in imports(package) if (rule := wrong_arrow(one))]


def evaluated_annotations(tree: ast.Module) -> Iterator[ast.expr]:
    """Yield the annotations that Python evaluates when a module is imported, or a function within one is made."""
    of_variables_in_functions = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.AnnAssign)
    }
    for node in ast.walk(tree):
        if (isinstance(node, ast.AnnAssign) and id(node) not in of_variables_in_functions) or (
            isinstance(node, ast.arg) and node.annotation is not None
        ):
            yield node.annotation
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.returns is not None:
            yield node.returns


class ArrowTests(SynchronousTestCase):
    """The package keeps to its arrows."""

    def test_arrows(self) -> None:
        """No module imports what its part may not."""
        self.assertEqual(broken_rules(CHECKOUT / "coldstore"), [])

    def test_all_parts_are_in_the_table(self) -> None:
        """Every part of the package has its line in the table."""
        folder = CHECKOUT / "coldstore"
        parts = {path.parent.name for path in folder.glob("*/*.py")} | {
            path.stem for path in folder.glob("*.py")
        }
        self.assertEqual(parts - {"__init__"} - set(ARROWS), set())

    def test_plugin_imports_nothing_of_ours(self) -> None:
        """The plugin that every twistd loads imports only ``ServiceMaker``; its folders are no packages."""
        folder = CHECKOUT / "twisted"
        self.assertEqual(
            [one.module for one in imports(folder)], ["twisted.application.service.ServiceMaker"]
        )
        self.assertEqual(list(folder.rglob("__init__.py")), [])

    def test_interfaces_in_unions(self) -> None:
        """An interface or something else is written in quotes: zope.interface of Debian 12 knows no ``|``."""
        wrong = [
            f"{path}:{part.lineno}"
            for path in sorted((CHECKOUT / "coldstore").rglob("*.py"))
            for annotation in evaluated_annotations(ast.parse(path.read_bytes()))
            for union in ast.walk(annotation)
            if isinstance(union, ast.BinOp)
            for part in (union.left, union.right)
            if isinstance(part, ast.Name) and re.match("I[A-Z]", part.id)
        ]
        self.assertEqual(wrong, [])

    def test_inits_are_chapters(self) -> None:
        """``__init__.py`` holds a docstring and nothing else."""
        for path in (CHECKOUT / "coldstore").rglob("__init__.py"):
            tree = ast.parse(path.read_bytes())
            self.assertTrue(ast.get_docstring(tree), path)
            self.assertEqual(len(tree.body), 1, path)


class CheckerTests(SynchronousTestCase):
    """The check itself: a wrong arrow is found and named."""

    def broken(self, name: str, text: str) -> list[str]:
        """What is said of a package that has one module."""
        package = Path(self.mktemp()) / "coldstore"
        path = package / name
        path.parent.mkdir(parents=True)
        path.write_text(text)
        return broken_rules(package)

    def test_refused(self) -> None:
        """Each kind of wrong import is named with module, line and rule."""
        for name, text, said in (
            ("plan/a.py", "import time", "coldstore.plan.a:1 imports time (plan is pure)"),
            (
                "plan/a.py",
                "def f():\n    import os.path",
                "coldstore.plan.a:2 imports os.path (plan is pure)",
            ),
            (
                "model/a.py",
                "from random import Random",
                "coldstore.model.a:1 imports random.Random (model is pure)",
            ),
            (
                "ontape/a.py",
                "if 1:\n from zope import interface",
                "coldstore.ontape.a:2 imports zope.interface (ontape is pure)",
            ),
            (
                "model/a.py",
                "from coldstore.util import x",
                "coldstore.model.a:1 imports coldstore.util.x (model may import no other part)",
            ),
            (
                "disk/a.py",
                "from coldstore.metadata.b import C",
                "coldstore.disk.a:1 imports coldstore.metadata.b.C (disk may",
            ),
            (
                "disk/a.py",
                "from ..metadata import b",
                "coldstore.disk.a:1 imports coldstore.metadata.b (disk may",
            ),
            (
                "disk/deep/a.py",
                "from ...tape import b",
                "coldstore.disk.deep.a:1 imports coldstore.tape.b (disk may",
            ),
            (
                "disk/a.py",
                "from coldstore import tape",
                "coldstore.disk.a:1 imports coldstore.tape (disk may",
            ),
            (
                "s3/a.py",
                "import coldstore.disk.files",
                "coldstore.s3.a:1 imports coldstore.disk.files (s3 may",
            ),
            (
                "work/a.py",
                "from coldstore.s3 import x",
                "coldstore.work.a:1 imports coldstore.s3.x (work may",
            ),
            (
                "vtl/a.py",
                "import coldstore.model",
                "coldstore.vtl.a:1 imports coldstore.model (vtl may import util)",
            ),
            (
                "appliance.py",
                "from coldstore.testing import x",
                "coldstore.appliance:1 imports coldstore.testing.x (appliance may",
            ),
            ("work/a.py", "import coldstore.config", "coldstore.work.a:1 imports coldstore.config (work may"),
            (
                "interfaces/a.py",
                "import twisted.web",
                "coldstore.interfaces.a:1 imports twisted.web (interfaces import",
            ),
            (
                "s3/a.py",
                "from twisted.internet import reactor",
                "coldstore.s3.a:1 imports twisted.internet.reactor (the reactor is",
            ),
            (
                "tape/a.py",
                "import subprocess",
                "coldstore.tape.a:1 imports subprocess (processes are started by",
            ),
            (
                "s3/a.py",
                "__import__('coldstore.disk')",
                "coldstore.s3.a:1 imports a module by a name made at run time (imports",
            ),
            ("fresh/a.py", "import os", "coldstore.fresh.a:1 imports os (fresh has no arrows"),
            (
                "__init__.py",
                "import coldstore.model",
                "coldstore:1 imports coldstore.model (the package's own module",
            ),
        ):
            found = self.broken(name, text)
            self.assertEqual(len(found), 1, f"{text!r} in {name}: {found}")
            self.assertTrue(found[0].startswith(said), f"{found[0]!r} does not begin with {said!r}")

    def test_accepted(self) -> None:
        """Imports along the arrows are left alone."""
        for name, text in (
            (
                "plan/a.py",
                "from coldstore.model.objects import Tier\nimport bisect\nfrom coldstore.plan import b",
            ),
            ("tape/a.py", "from coldstore.ontape import x\nfrom coldstore.interfaces import y\nimport os"),
            (
                "interfaces/a.py",
                "from twisted.internet.defer import Deferred\nfrom zope.interface import Interface",
            ),
            (
                "appliance/a.py",
                "from twisted.internet import reactor\nfrom coldstore.disk import x\nfrom coldstore.s3 import y",
            ),
            ("tape/shim.py", "import subprocess"),
            ("vtl/a.py", "import time, random, subprocess\nfrom coldstore.util import sizes"),
        ):
            self.assertEqual(self.broken(name, text), [], f"{text!r} in {name}")
