"""``tests/run``: what its levels name, and what it says in the end."""

import importlib.util
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

CHECKOUT = Path(__file__).parents[2]


def runner() -> Any:
    """The script as a module; its name has no suffix."""
    loader = SourceFileLoader("coldstore_tests_run", str(CHECKOUT / "tests" / "run"))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[loader.name] = module
    is_off, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = is_off
        del sys.modules[loader.name]
    return module


class LevelsTests(SynchronousTestCase):
    """The table of levels."""

    def test_levels(self) -> None:
        """Each level has its own name, its lock exists, and only the measurements are left out by default."""
        levels = runner().LEVELS
        names = [level.name for level in levels]
        self.assertEqual(len(set(names)), len(names))
        self.assertEqual([level.name for level in levels if not level.is_default], ["bench"])
        for level in levels:
            self.assertTrue((CHECKOUT / "etc" / "requirements" / f"{level.lock}.lock").exists(), level.name)

    def test_interpreter(self) -> None:
        """An interpreter is found on PATH, or where pyenv keeps it; what only says how to choose one is passed over."""
        there, kept = Path(self.mktemp()).absolute(), Path(self.mktemp()).absolute()
        for path, status in ((there / "python9.9", 127), (kept / ".pyenv/versions/9.9.1/bin/python9.9", 0)):
            path.parent.mkdir(parents=True)
            path.write_text(f"#!/bin/sh\nexit {status}\n")
            path.chmod(0o755)
        script = runner()
        self.patch(script.os, "environ", {"PATH": str(there), "HOME": str(kept)})
        self.assertEqual(script.interpreter("python9.9"), str(path))
        self.assertIsNone(script.interpreter("python9.8"))

    def test_end_to_end_on_postgresql(self) -> None:
        """Every module of that level runs with the embedded database and with PostgreSQL, but for those that are left out by name."""
        script = runner()
        (level,) = [level for level in script.LEVELS if level.name == "endtoend"]
        commands = [part.command for part in level.parts]
        modules = {f"tests.endtoend.{path.stem}" for path in (CHECKOUT / "tests/endtoend").glob("test_*.py")}
        left_out = {f"tests.endtoend.{name}" for name in script.NOT_ON_POSTGRESQL}
        for metadata, expected in (("sqlite", modules), ("postgresql", modules - left_out)):
            run = {command[-1] for command in commands if f"COLDSTORE_TESTS_METADATA={metadata}" in command}
            self.assertEqual(run, expected)
        self.assertLessEqual(left_out, modules)

    def test_every_folder_has_a_level(self) -> None:
        """No folder of tests is forgotten."""
        commands = " ".join(" ".join(part.command) for level in runner().LEVELS for part in level.parts)
        for folder in (CHECKOUT / "tests").iterdir():
            if folder.is_dir() and folder.name not in ("fixtures", "__pycache__"):
                self.assertTrue(
                    f"tests.{folder.name}" in commands or f"tests/{folder.name}/" in commands, folder
                )
