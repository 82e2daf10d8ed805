"""How the appliance starts and refuses to start: configuration, environment, ports, its state directory."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

from coldstore.util.thishost import host_name
from tests.endtoend.appliance import Appliance, wait_until
from tests.endtoend.wire import RawClient
from tests.ports import free_port


class StartCase(SynchronousTestCase):
    """Appliances that may not come up."""

    def appliance(self, **settings: object) -> Appliance:
        """Return an appliance, not started; it goes with the test."""
        made = Appliance(settings)
        self.addCleanup(made.close)
        return made

    def run_to_its_end(self, appliance: Appliance, **environment: str) -> subprocess.CompletedProcess[str]:
        """Start it and wait until it ends by itself."""
        return subprocess.run(
            appliance.command_line(),
            env=appliance.process_environment(**environment),
            cwd=appliance.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def assert_refused(self, done: subprocess.CompletedProcess[str], *patterns: str) -> None:
        """Check that it ended with a failure, said what is wrong, and showed no traceback."""
        said = done.stdout + done.stderr
        self.assertNotEqual(done.returncode, 0, said)
        self.assertNotIn("Traceback", said)
        for pattern in patterns:
            self.assertRegex(said, pattern)


class ConfigurationTests(StartCase):
    """Mistakes in the configuration."""

    def test_several_mistakes(self) -> None:
        """Every mistake is told with its file and line, in order; nothing is made."""
        appliance = self.appliance()
        path = appliance.configuration
        path.write_text(
            f"state_directory: {appliance.state}\n"
            "server:\n"
            "  port: 99999\n"
            "  prot: 8420\n"
            "staging:\n"
            "  capacity: lots\n"
            "archive:\n"
            "  trigger: {age: 4 fortnights}\n"
            "classes:\n"
            "  GLACIER: {tape_copies: [nowhere]}\n"
            "  LUKEWARM: {}\n"
        )
        done = self.run_to_its_end(appliance)
        self.assert_refused(
            done, "[5-9] mistakes", *(f"{re.escape(str(path))}:{line}: " for line in (3, 4, 6, 8, 11))
        )
        self.assertIn("server.port", done.stderr)
        self.assertFalse(appliance.state.exists())

    def test_contradiction(self) -> None:
        """Settings that are right one by one and wrong together are told as well."""
        appliance = self.appliance(classes={"GLACIER": {"tape_copies": ["nowhere"]}})
        self.assert_refused(self.run_to_its_end(appliance), "nowhere")
        self.assertFalse(appliance.state.exists())

    def test_virtual_library_elsewhere(self) -> None:
        """Without FUSE a virtual library on another file system than its mountpoints is refused, with the way out."""
        elsewhere = "/dev/shm"
        appliance = self.appliance(tape={"virtual": {"directory": f"{elsewhere}/coldstore-{os.getpid()}"}})
        if not os.path.isdir(elsewhere) or os.stat(elsewhere).st_dev == os.stat(appliance.folder).st_dev:
            raise SkipTest("there is no second file system here")
        self.addCleanup(shutil.rmtree, f"{elsewhere}/coldstore-{os.getpid()}", ignore_errors=True)
        done = self.run_to_its_end(appliance, COLDSTORE_VTL_DIRECTORY="1")
        self.assert_refused(done, "another file system", "tape.virtual.directory", "FUSE")
        self.assertFalse(os.path.exists(f"{elsewhere}/coldstore-{os.getpid()}"))

    def test_no_file(self) -> None:
        """A file that is not there is told by its name."""
        appliance = self.appliance()
        appliance.configuration.unlink()
        self.assert_refused(self.run_to_its_end(appliance), re.escape(str(appliance.configuration)))

    def test_environment(self) -> None:
        """Variables override nested settings and elements of lists; a wrong one is told by its name."""
        appliance = self.appliance(
            notify={"webhooks": [{"name": "one", "url": "http://127.0.0.1:1/from-the-file"}]}
        )
        done = self.run_to_its_end(
            appliance,
            COLDSTORE_SERVER_PORT="many",
            COLDSTORE_NOTIFY_WEBHOOKS_0_URL="gopher://x",
            COLDSTORE_NO_SUCH_THING="1",
        )
        self.assert_refused(
            done,
            "COLDSTORE_SERVER_PORT",
            "COLDSTORE_NOTIFY_WEBHOOKS_0_URL",
            "COLDSTORE_NO_SUCH_THING",
            "3 mistakes",
        )
        self.assertFalse(appliance.state.exists())
        appliance.port = free_port()
        appliance.environment = {
            "COLDSTORE_SERVER_PORT": str(appliance.port),
            "COLDSTORE_SERVER_REGION": "moon-1",
            "COLDSTORE_NOTIFY_WEBHOOKS_0_URL": "http://127.0.0.1:1/from-the-environment",
            "COLDSTORE_TAPE_VIRTUAL_CARTRIDGES": "3",
        }
        appliance.start()
        wait_until("three cartridges are known", lambda: len(appliance.rows("/cartridges")) == 3)
        raw = RawClient(appliance.port, appliance.users["first"])
        self.assertEqual(raw.ask("GET", "/", region="moon-1").status, 200)
        self.assertEqual(raw.ask("GET", "/", region="mars-1").code, "AuthorizationHeaderMalformed")


class ConflictTests(StartCase):
    """Things that only one process can have."""

    def test_second_appliance(self) -> None:
        """A second appliance on the same state refuses and names the first, which goes on."""
        first = self.appliance()
        first.start()
        assert first.process is not None
        done = self.run_to_its_end(
            first,
            COLDSTORE_SERVER_PORT=str(free_port()),
            COLDSTORE_OPERATOR_PORT=str(free_port()),
        )
        self.assert_refused(
            done,
            "in use by another appliance",
            rf"process {first.process.pid} on {re.escape(host_name())} since 20",
        )
        first.s3().create_bucket(Bucket="still-there")
        self.assertTrue(first.ask("/status")["is_serving"])

    def test_port_in_use(self) -> None:
        """A port that somebody has is told; the process ends, and a start with another port works."""
        appliance = self.appliance()
        for setting in ("server", "operator"):
            with socket.socket() as taken:
                taken.bind(("127.0.0.1", 0))
                taken.listen()
                port = taken.getsockname()[1]
                done = self.run_to_its_end(appliance, **{f"COLDSTORE_{setting.upper()}_PORT": str(port)})
                self.assert_refused(done, str(port), "in use")
        appliance.start()

    def test_real_library_after_a_virtual_one(self) -> None:
        """A real library does not start with the record of a virtual one, whose admitted barcodes it might have as well."""
        appliance = self.appliance()
        appliance.start()
        wait_until("the cartridges are known", lambda: appliance.rows("/cartridges"))
        appliance.stop()
        drive = {"element": 0, "device": "/dev/null", "generic_device": "/dev/null"}
        tape = {"library": "scsi", "changer": "/dev/null", "drives": [drive]}
        appliance.settings = {**appliance.settings, "tape": tape}
        appliance.write_configuration()
        done = self.run_to_its_end(appliance)
        self.assert_refused(
            done, re.escape(str(appliance.state)), "virtual library", "A00001L8", "of its own"
        )

    def test_state_that_cannot_be_made(self) -> None:
        """A state directory below a file is told."""
        appliance = self.appliance()
        done = self.run_to_its_end(
            appliance, COLDSTORE_STATE_DIRECTORY=str(appliance.configuration / "below")
        )
        self.assert_refused(done, "below")


class EndTests(StartCase):
    """How it ends."""

    def test_sigterm(self) -> None:
        """SIGTERM ends it in good order, quickly, with a connection open, and the socket of operators goes."""
        appliance = self.appliance()
        appliance.start()
        with socket.create_connection(("127.0.0.1", appliance.port), timeout=5):
            began_at = time.monotonic()
            # twistd raises the signal again once it has ended in good order.
            self.assertIn(appliance.stop(), (0, -signal.SIGTERM))
            self.assertLess(time.monotonic() - began_at, 20)
        self.assertNotIn("Traceback", appliance.log())

    def test_service_manager(self) -> None:
        """The service manager is told when it serves and when it begins to end; one that is deaf keeps nobody from serving."""
        appliance = self.appliance()
        address = str(appliance.folder / "notify")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(address)
            manager.settimeout(30)
            appliance.environment = {"NOTIFY_SOCKET": address}
            appliance.start()
            self.assertEqual(manager.recv(100), b"READY=1")
            with socket.create_connection(("127.0.0.1", appliance.port), timeout=5):
                pass
            appliance.stop()
            self.assertEqual(manager.recv(100), b"STOPPING=1")
        appliance.start()
        self.assertIn("the service manager cannot be told READY=1", appliance.log())

    def test_json_log(self) -> None:
        """The log for programs is one JSON object per line."""
        appliance = self.appliance(logging={"format": "json"})
        appliance.start()
        appliance.s3().create_bucket(Bucket="a-bucket")
        appliance.stop()
        lines = [json.loads(line) for line in appliance.log().splitlines()]
        (request,) = [line for line in lines if "CreateBucket" in line["message"]]
        self.assertEqual(request["level"], "info")
        self.assertTrue(request["request_id"])
