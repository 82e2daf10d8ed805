"""The quick start as a stranger runs it: the demonstration to its end and again, and the appliance left running."""

import os
import re
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.contract.old_stores import make_old_store
from tests.endtoend.appliance import CHECKOUT, mounts_below, processes_of, wait_until
from tests.endtoend.clients import program
from tests.ports import free_port

QUICKSTART = CHECKOUT / "etc" / "quickstart"
NAMES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_ENDPOINT_URL",
    "AWS_DEFAULT_REGION",
    "ALT_ACCESS_KEY_ID",
    "ALT_SECRET_ACCESS_KEY",
)


class QuickstartTests(SynchronousTestCase):
    """``etc/quickstart``."""

    def setUp(self) -> None:
        """Have a folder for the state, and a home without anybody's settings."""
        self.folder = Path(tempfile.mkdtemp(prefix="cs-e2e-"))
        self.addCleanup(self.clean_up)
        self.state = self.folder / "state"
        cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        dropped = ("AWS_", "ALT_", "COLDSTORE_", "PYTHON", "XDG_STATE")
        self.environment = {
            **{
                name: value
                for name, value in os.environ.items()
                if name.startswith("COLDSTORE_SETUP_") or not name.startswith(dropped)
            },
            "HOME": str(self.folder),
            "XDG_CACHE_HOME": cache,
        }

    def clean_up(self) -> None:
        """Nothing of it is left; what is left is ended all the same."""
        end_left = processes_of(self.folder)
        for pid in end_left:
            os.kill(pid, signal.SIGKILL)
        mounts = mounts_below(self.folder)
        for point in reversed(mounts):
            subprocess.run(["umount", "-l", point], capture_output=True)
        shutil.rmtree(self.folder, ignore_errors=True)
        self.assertEqual((end_left, mounts), ({}, []))

    def assert_clean_log(self) -> None:
        """Check that the appliance logged no traceback."""
        log = (self.state / "coldstore.log").read_text()
        self.assertNotIn("Traceback", log)
        self.assertNotIn("Unhandled", log)

    def demonstrate(self) -> str:
        """Run the demonstration to its end; return what it prints."""
        done = subprocess.run(
            [QUICKSTART, "--state", self.state],
            env=self.environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=280,
        )
        self.assertEqual(done.returncode, 0, done.stdout[-3000:])
        return done.stdout

    def test_demonstration(self) -> None:
        """It archives, shows the refusal, restores and compares, and sums up; again on the same state."""
        # Steps are seen by looking several times a second: the short ones can be missed.
        for steps in (("formatting", "mounting", "writing", "verifying"), ("writing", "verifying")):
            said = self.demonstrate()
            for shown in ("empty.bin", "readme.md", "large.bin"):
                self.assertRegex(said, rf"GET \S+/{shown}: 403 InvalidObjectState")
                self.assertRegex(said, rf"HEAD \S+/{shown}: x-coldstore-copies 2/2")
                self.assertRegex(said, rf"downloaded \S+/{shown}: identical")
            for step in steps:
                self.assertRegex(said, rf"drive [01], A0000\dL\d: {step}")
            self.assertRegex(
                said, r"Summary: 3 objects in \d+ bundles?, 256\.\d MiB.*, \d+ mounts?, \d+ seconds"
            )
            self.assertRegex(said, r"main: A0000\dL\d, vault: A0000\dL\d")
            self.assert_clean_log()

    def start_serving(self, port: int) -> "tuple[subprocess.Popen[str], Path]":
        """Start it with ``--serve``; return the process and the file of what it prints."""
        output = self.folder / "output"
        with output.open("w") as stream:
            process = subprocess.Popen(
                [QUICKSTART, "--serve", "--state", self.state, "--port", str(port)],
                env=self.environment,
                cwd=CHECKOUT,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )

        def is_ready() -> bool:
            self.assertIsNone(process.poll(), output.read_text())
            return "What it does with them" in output.read_text()

        wait_until("it serves", is_ready, seconds=120)
        return process, output

    def test_serve(self) -> None:
        """It writes the keys, and prints three commands that work as they stand; Ctrl-C ends it, a restart goes on."""
        port = free_port()
        process, output = self.start_serving(port)
        self.assertIn(f"http://127.0.0.1:{port}", output.read_text())
        keys = self.state / "client.env"
        self.assertEqual(keys.stat().st_mode & 0o777, 0o600)
        for name in NAMES:
            self.assertRegex(keys.read_text(), rf"(?m)^(export )?{name}=\S+$")
        commands = re.findall(r"(?m)^  ((?:aws|rclone|s3cmd) .*)$", output.read_text())
        self.assertEqual([command.split()[0] for command in commands], ["aws", "rclone", "s3cmd"])
        said = [self.in_shell(command) for command in commands]
        self.assertIn("s3://demo/README.md", said[2])
        self.assertIn("GLACIER", self.in_shell("aws s3api head-object --bucket demo --key README.md"))
        refused = self.in_shell("aws s3api get-object --bucket demo --key README.md x || true")
        self.assertIn("InvalidObjectState", refused)
        alt = self.in_shell(
            "AWS_ACCESS_KEY_ID=$ALT_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY=$ALT_SECRET_ACCESS_KEY aws s3 ls s3://demo || true"
        )
        self.assertIn("AccessDenied", alt)
        self.assertIn("README.md", self.in_shell(f"{self.state}/bin/coldstore objects demo"))
        self.in_shell(f"{self.state}/bin/coldstore wait demo --timeout 120")

        os.kill(process.pid, signal.SIGINT)
        self.assertEqual(process.wait(120), 130)
        self.assertIn("Interrupted", output.read_text())
        self.assertNotIn("Traceback", output.read_text())
        wait_until("nothing of it runs", lambda: not processes_of(self.folder), seconds=30)

        process, _ = self.start_serving(port)
        self.assertIn("README.md", self.in_shell(commands[2]))
        self.assertIn("2/2", self.in_shell(f"{self.state}/bin/coldstore objects demo README.md"))
        os.kill(process.pid, signal.SIGINT)
        self.assertEqual(process.wait(120), 130)
        self.assert_clean_log()

    def test_after_an_older_release(self) -> None:
        """What an earlier release has left is brought up to date, after a dump."""
        (self.state / "staging").mkdir(parents=True)
        make_old_store(str(self.state / "metadata.sqlite"), 4)
        process, _ = self.start_serving(free_port())
        self.assertEqual(len(list((self.state / "dumps").iterdir())), 1)
        os.kill(process.pid, signal.SIGINT)
        # Its log is not looked at: there are no bytes to what that store knows.
        self.assertEqual(process.wait(120), 130)

    def in_shell(self, command: str) -> str:
        """Run a command in a shell as a person would, with client.env sourced; return what it prints."""
        path = f"{Path(program('aws')).parent}:{os.environ['PATH']}"
        done = subprocess.run(
            ["sh", "-c", f". '{self.state}/client.env' && {command}"],
            env={"PATH": path, "HOME": str(self.folder), "LANG": "C.UTF-8"},
            cwd=CHECKOUT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=150,
        )
        self.assertEqual(done.returncode, 0, f"{command}: {done.stdout}")
        return done.stdout
