"""The SDK for JavaScript, version 3, on Node: the steps of ``javascript/steps.mjs``, in the clear and over TLS."""

import shutil
import subprocess
from pathlib import Path

from twisted.trial.unittest import SkipTest

from tests.endtoend.appliance import CHECKOUT
from tests.endtoend.clients import OverTls, ProgramCase, program

HERE = Path(__file__).with_name("javascript")


def packages() -> Path:
    """
    Return the folder of the packages that ``package-lock.json`` names, fetched once for all.

    :raise SkipTest: they cannot be had
    """
    program("node")
    program("npm")
    done = subprocess.run(
        [CHECKOUT / "etc" / "setup", "javascript", HERE],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        raise SkipTest(f"THE PACKAGES OF {HERE.name}/package-lock.json CANNOT BE HAD: {done.stderr}")
    return Path(done.stdout.strip(), "node_modules")


class JavaScriptTests(ProgramCase):
    """Bodies, in the clear."""

    def setUp(self) -> None:
        """Have the steps beside the packages that they import."""
        super().setUp()
        self.folder = self.programs.home / "javascript"
        if not self.folder.exists():
            found = packages()
            self.folder.mkdir()
            (self.folder / "node_modules").symlink_to(found)
            shutil.copy(HERE / "steps.mjs", self.folder)

    def step(self, name: str) -> None:
        """Have Node do a step."""
        self.programs.run("node", str(self.folder / "steps.mjs"), name, self.name, seconds=240)

    def test_objects(self) -> None:
        """Objects with metadata and tags go there, come back whole and in ranges, are listed, and refused on conditions."""
        self.step("objects")

    def test_streams(self) -> None:
        """Streams go in chunks with each of the checksums behind them."""
        self.step("streams")

    def test_parts(self) -> None:
        """Upload sends parts with each of the checksums; what breaks leaves nothing."""
        self.step("parts")

    def test_presigned(self) -> None:
        """Presigned URLs put and get until they expire."""
        self.step("presigned")


class JavaScriptTlsTests(OverTls, JavaScriptTests):
    """The same over TLS, and what depends on neither."""

    def test_cold(self) -> None:
        """A cold object in parts is refused, restored, waited for and read."""
        self.step("coldUpload")
        self.appliance.archive((self.name, "k"))
        self.step("coldRestored")

    def test_buckets(self) -> None:
        """A bucket is made, waited for, listed, and removed once it is empty."""
        self.step("buckets")

    def test_copies(self) -> None:
        """Objects are copied, whole and as parts."""
        self.step("copies")

    def test_removing(self) -> None:
        """One is removed, and many by one request."""
        self.step("removing")
