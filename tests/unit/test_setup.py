"""``etc/setup``: which Debian packages it finds missing, and what the packages for JavaScript are held to."""

import json
import os
import subprocess
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

CHECKOUT = Path(__file__).parents[2]
INSTALLED = """\
installed nodejs, node-types (= 20.1), npm (= 11), nodejs-dev
installed curl,
config-files restic, backup
"""


class PackagesTests(SynchronousTestCase):
    """What is missing is named, without being root."""

    def missing(self, *names: str) -> tuple[int, list[str]]:
        """Return status and answer where ``INSTALLED`` is what the machine has, and we are not root."""
        programs = Path(self.mktemp()).absolute()
        programs.mkdir()
        (programs / "installed").write_text(INSTALLED)
        # With names after its options it is asked for their states alone: it answers nothing then, and is asked for all.
        said = f"case $# in 3) cat {programs / 'installed'} ;; *) exit 1 ;; esac"
        for name, does in (("dpkg-query", said), ("id", "echo 1000")):
            (programs / name).write_text(f"#!/bin/sh\n{does}\n")
            (programs / name).chmod(0o755)
        done = subprocess.run(
            [CHECKOUT / "etc" / "setup", "packages", *names],
            env={"PATH": f"{programs}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stdout.split()

    def test_installed(self) -> None:
        """What is installed, and what an installed package provides, is there."""
        self.assertEqual(self.missing("nodejs", "npm", "curl"), (0, []))

    def test_missing(self) -> None:
        """What is not installed is missing, also when its settings are left, or when only those provide it."""
        self.assertEqual(
            self.missing("nodejs", "restic", "backup", "node", "types"),
            (1, ["restic", "backup", "node", "types"]),
        )


class JavaScriptTests(SynchronousTestCase):
    """The lock of the packages that the tests with the SDK for JavaScript use."""

    def test_lock(self) -> None:
        """Each is held to its hash, comes from wherever npm is told, and runs on the Node that Debian 12 has."""
        lock = json.loads((CHECKOUT / "tests/endtoend/javascript/package-lock.json").read_text())
        packages = {name: package for name, package in lock["packages"].items() if name}
        self.assertIn("node_modules/@aws-sdk/client-s3", packages)
        for name, package in packages.items():
            self.assertRegex(package["integrity"], "^sha512-", name)
            self.assertNotIn("resolved", package)
            self.assertNotIn("hasInstallScript", package)
            self.assertRegex(package.get("engines", {}).get("node", ">=18"), r"^>= ?(0|6|14|16|18)\b", name)
