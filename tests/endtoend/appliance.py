"""
A real appliance for tests: ``twistd coldstore`` as a process of its own, in a folder that vanishes with everything in it.

Plain blocking code: what is under test is another process. ``ApplianceCase`` shares one appliance among the tests of a class.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar
from urllib.request import urlopen

import yaml
from twisted.python.failure import Failure
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from coldstore.admin.client import Client, NotRunning
from tests.endtoend.databases import Metadata, chosen
from tests.endtoend.wire import Keys, RawClient
from tests.ports import free_port

if TYPE_CHECKING:
    from tests.certificates import Authority

CHECKOUT = Path(__file__).resolve().parent.parent.parent
START_SECONDS = 30.0
STOP_SECONDS = 30.0
BUSY = 4
"""How many times as long as alone everything may take on a machine with much else to do."""
SLACK_BYTES = 1040 * 1024
"""What may be dead in an open segment without being given back: stretches of less than 1 MiB, and blocks in use in part."""
TRACES = ("Traceback (most recent call last)", "Unhandled", "InternalError", "Logged failure")
"""What no log may hold unless a test expects it."""

Truth = TypeVar("Truth")


class NotInTime(AssertionError):
    """Something did not come true; says what."""


def wait_until(what: str, claim: Callable[[], Truth], *, seconds: float = 30.0, pause: float = 0.05) -> Truth:
    """
    Return the claim's answer once it is true.

    :param seconds: what that may take on a machine with nothing else to do
    :raise NotInTime: it never was
    """
    seconds *= BUSY
    end = time.monotonic() + seconds
    while not (answer := claim()):
        if time.monotonic() > end:
            raise NotInTime(f"not within {seconds:.0f} s: {what}")
        time.sleep(pause)
    return answer


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return two trees of settings as one; ``above`` wins."""
    result = dict(below)
    for name, value in above.items():
        old = result.get(name)
        result[name] = (
            merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
        )
    return result


def processes_of(folder: Path) -> dict[int, str]:
    """Return the processes whose command line names the folder: process id and command line."""
    found = {}
    for entry in os.scandir("/proc"):
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        try:
            words = Path(entry.path, "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            state = Path(entry.path, "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if str(folder) in words and state != "Z":
            found[int(entry.name)] = words.strip()
    return found


def mounts_below(folder: Path) -> list[str]:
    """Return the mount points below a folder, innermost last."""
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [point for point in points if point.startswith(f"{folder}/")]


class Appliance:
    """One appliance: its folder, its configuration, its metadata, its process and the keys of its two users."""

    start_seconds = START_SECONDS

    def __init__(
        self,
        settings: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
        metadata: Metadata | None = None,
    ) -> None:
        """
        Write the configuration; nothing is started.

        :param settings: laid over those of a small, quick appliance that archives when it is told to
        :param environment: variables of its process besides ours
        :param metadata: where they are (None: as the environment of the tests says)
        """
        self.metadata = chosen() if metadata is None else metadata
        # A short path: the socket below it may have 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="cs-e2e-"))
        self.state = self.folder / "state"
        self.log_path = self.folder / "coldstore.log"
        self.configuration = self.folder / "coldstore.yaml"
        self.port, self.operator_port = free_port(), free_port()
        self.users: dict[str, Keys] = {}
        self.client = Client(str(self.state / "admin.sock"))
        self.environment = dict(environment or {})
        self.settings = merged(
            {
                "state_directory": str(self.state),
                "metadata": self.metadata.settings,
                "server": {"port": self.port},
                "operator": {"port": self.operator_port},
                "staging": {"capacity": "2GiB", "min_free": "64MiB"},
                "archive": {
                    "bundle_size": "64MiB",
                    "trigger": {"age": "4h", "idle_age": "4h"},
                },
                "recall": {
                    "tiers": {
                        "standard": {"hold": "0s", "target": "5h"},
                        "bulk": {"hold": "0s", "target": "12h"},
                    }
                },
                "mount": {"idle_unload": "1m"},
                "tape": {
                    "virtual": {"drives": 2, "slots": 8, "mail_slots": 1, "cartridges": 6, "capacity": "1GiB"}
                },
            },
            settings or {},
        )
        self.certificate: Path | None = None
        self.write_configuration()
        self.process: subprocess.Popen[bytes] | None = None
        self._read_to = 0

    @property
    def endpoint(self) -> str:
        """URL of S3."""
        return f"{'http' if self.certificate is None else 'https'}://127.0.0.1:{self.port}"

    @property
    def library(self) -> Path:
        """Directory of the virtual library."""
        return self.state / "vtl"

    def use_tls(self, authority: "Authority") -> None:
        """Serve with a certificate of an authority whose root is all that our clients know."""
        certificate, key = authority.issue("127.0.0.1")
        self.certificate = self.folder / "root.pem"
        served, kept = self.folder / "server.pem", self.folder / "server.key"
        self.certificate.write_bytes(authority.root)
        served.write_bytes(certificate + authority.intermediate)
        kept.write_bytes(key)
        files = {"certificate_file": str(served), "key_file": str(kept)}
        self.settings = merged(self.settings, {"server": {"tls": files}})
        self.write_configuration()

    def write_configuration(self) -> None:
        """Write the file from ``settings``."""
        self.configuration.write_text(yaml.safe_dump(self.settings, sort_keys=False))

    # ── life ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def command_line(self) -> list[str]:
        """Return how it is started."""
        twistd = str(Path(sys.executable).with_name("twistd"))
        return [twistd, "-n", "--pidfile=", "coldstore", "--config", str(self.configuration)]

    def process_environment(self, **more: str) -> dict[str, str]:
        """Return the environment of a process of the product: ours without settings, and the checkout."""
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("COLDSTORE_", "AWS_"))
        }
        return inherited | {"PYTHONPATH": str(CHECKOUT), "PYTHONUNBUFFERED": "1"} | self.environment | more

    def start(self) -> None:
        """Start it and wait until it serves; its users are made at the first start."""
        self.launch()
        self.wait_until_serving()

    def launch(self) -> None:
        """Start it."""
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                self.command_line(),
                cwd=self.folder,
                env=self.process_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait_until_serving(self) -> None:
        """Wait until it serves, and have its users."""
        wait_until("the appliance serves", self._is_serving, seconds=self.start_seconds)
        for name in ("first", "second"):
            if name not in self.users:
                made = self.client.post("/users", {"name": name})
                assert isinstance(made, dict)
                self.users[name] = Keys(made["access_key"], made["secret_key"], made["user_id"])

    def _is_serving(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"ended with status {self.process.returncode}:\n{self.log_tail()}")
        try:
            return bool(self.ask("/status")["is_serving"])
        except NotRunning:
            return False

    def stop(self) -> int:
        """End it in good order, as a service manager does; cartridges stay mounted. Return its exit status."""
        assert self.process is not None
        self.process.terminate()
        try:
            return self.process.wait(BUSY * STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"did not end within {BUSY * STOP_SECONDS:.0f} s of SIGTERM") from None

    def kill(self) -> None:
        """End it by kill -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def drain(self, seconds: float = 60.0) -> None:
        """Have every cartridge put away."""
        self.client.post("/drain", {"on": True})
        wait_until(
            "every drive is empty",
            lambda: (
                not any(
                    row["barcode"] or row["job"] != "idle"
                    for row in self.rows("/drives")
                    if row["state"] == "up"
                )
            ),
            seconds=seconds,
        )

    def resume(self) -> None:
        """Let drives work again."""
        self.client.post("/drain", {"on": False})

    def close(self) -> None:
        """
        End it and remove everything.

        :raise AssertionError: it did not put its cartridges away, or left a process or a mount behind
        """
        complaints = []
        if self.process is not None and self.process.poll() is None:
            try:
                self.drain()
                self.stop()
            except (AssertionError, NotRunning) as error:
                complaints.append(str(error))
                self.kill()
        complaints += self._swept()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.remove_metadata()
        if complaints:
            raise AssertionError("; ".join(complaints))

    def remove_metadata(self) -> None:
        """Remove what of them does not lie in the state directory."""
        self.metadata.remove()

    def _swept(self) -> list[str]:
        """End and unmount what is left; say what that was."""
        end = time.monotonic() + BUSY * 10
        while (left := processes_of(self.folder)) and time.monotonic() < end:
            time.sleep(0.05)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        mounts = mounts_below(self.folder)
        for point in reversed(mounts):
            if subprocess.run(["umount", "-l", point], capture_output=True).returncode:
                subprocess.run(["fusermount3", "-uz", point], capture_output=True)
        return [f"left running: {words}" for words in left.values()] + [
            f"left mounted: {point}" for point in mounts
        ]

    # ── log ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def log(self) -> str:
        """Return everything that it logged."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def log_tail(self, lines: int = 40) -> str:
        """Return the end of its log."""
        return "\n".join(self.log().splitlines()[-lines:])

    def new_log(self) -> str:
        """Return what it logged since this was asked last."""
        if not self.log_path.exists():
            return ""
        with self.log_path.open("rb") as log:
            log.seek(self._read_to)
            new = log.read()
        self._read_to += len(new)
        return new.decode(errors="replace")

    # ── the operator ────────────────────────────────────────────────────────────────────────────────────────────────

    def ask(self, question: str, **arguments: str) -> dict[str, Any]:
        """Ask through the admin socket for one row."""
        answer = self.client.get(question, **arguments)
        assert isinstance(answer, dict), answer
        return answer

    def rows(self, question: str, **arguments: str) -> list[dict[str, Any]]:
        """Ask through the admin socket for rows."""
        answer = self.client.get(question, **arguments)
        assert isinstance(answer, list), answer
        return answer

    def command(self, *words: str, seconds: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run the ``coldstore`` command."""
        return subprocess.run(
            [sys.executable, "-m", "coldstore.admin.main", *words],
            env=self.process_environment(COLDSTORE_ADMIN_SOCKET=str(self.state / "admin.sock")),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=BUSY * seconds,
        )

    def virtual_library(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run ``coldstore-vtl``: ``words`` are its command and what stands behind the directory."""
        return subprocess.run(
            [sys.executable, "-m", "coldstore.vtl", words[0], str(self.library), *words[1:]],
            env=self.process_environment(),
            capture_output=True,
            text=True,
            timeout=BUSY * 30,
            check=True,
        )

    def object(self, bucket: str, key: str) -> dict[str, Any]:
        """Return what the operator is told of an object."""
        (row,) = self.rows("/objects", bucket=bucket, key=key)
        return row

    def settled_bytes(self, still_seconds: float = 0.4) -> int:
        """Return what the staging disk holds once that does not change any more."""
        seen, since = (-1, -1), 0.0

        def is_still() -> bool:
            nonlocal seen, since
            status = self.ask("/status")
            now = status["staging_used_bytes"], status["staging_reserved_bytes"]
            if now != seen:
                seen, since = now, time.monotonic()
            return time.monotonic() - since >= still_seconds

        wait_until("the disk settles", is_still, seconds=15)
        return seen[0]

    def metrics(self) -> dict[str, float]:
        """Return the metrics by their names and labels."""
        with urlopen(f"http://127.0.0.1:{self.operator_port}/metrics", timeout=BUSY * 10) as answer:
            lines = answer.read().decode().splitlines()
        return {
            name: float(value)
            for name, _, value in (line.rpartition(" ") for line in lines if not line.startswith("#"))
        }

    def archive(self, *objects: tuple[str, str], seconds: float = 60.0, off_disk: bool = True) -> None:
        """Have everything archived, and wait until these objects (bucket, key) are on tape and their bytes off the disk."""
        self.client.post("/archive")

        def is_done() -> bool:
            rows = [self.object(bucket, key) for bucket, key in objects]
            return all(
                row["state"] == "archived" and not (off_disk and row["on_disk"] and row["size_bytes"])
                for row in rows
            )

        try:
            wait_until(f"on tape: {objects}", is_done, seconds=seconds)
        except NotInTime as error:
            jobs = json.dumps(self.ask("/jobs"), indent=1)
            raise NotInTime(f"{error}\n{jobs}\n{self.rows('/alerts')}") from None

    def s3(self, user: str = "first", **options: Any) -> Any:
        """Return a boto3 client with a user's keys; ``options`` as ``boto_client``'s."""
        # Not everywhere where an appliance runs is boto3.
        from tests.endtoend.clients import boto_client

        trusted = None if self.certificate is None else str(self.certificate)
        return boto_client(self.endpoint, self.users[user], verify=trusted, **options)

    def wire(self, user: str = "first") -> RawClient:
        """Return a client made of bytes with a user's keys."""
        return RawClient(self.port, self.users[user])


class ApplianceCase(SynchronousTestCase):
    """
    Tests that share one appliance per class, started by the first and removed after the last.

    A test fails when the log holds a traceback that it does not expect. What names are shared are buckets: ``bucket``
    makes a fresh one.
    """

    settings: ClassVar[Mapping[str, Any]] = {}

    _appliance: ClassVar[Appliance | None] = None
    _to_run: ClassVar[int] = 0
    _bucket_count: ClassVar[int] = 0

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls._appliance, cls._to_run, cls._bucket_count = None, 0, 0

    def __init__(self, methodName: str = "runTest") -> None:
        super().__init__(methodName)
        # Trial makes every test of a run before the first one runs, and knows no class fixtures.
        type(self)._to_run += 1
        self._has_failed = False

    def run(self, result: Any) -> Any:
        """Run the test; after the last one of the class the appliance goes."""
        cls = type(self)
        self._watch_test()
        try:
            return super().run(result)
        finally:
            cls._to_run -= 1
            if cls._to_run <= 0 and cls._appliance is not None:
                closing, cls._appliance = cls._appliance, None
                try:
                    closing.close()
                except Exception:  # noqa: BLE001 - whatever it is, it belongs into the result
                    result.addError(self, Failure())

    def _watch_test(self) -> None:
        """Have ``_has_failed`` say whether the test failed, which trial tells only afterwards."""
        test = getattr(self, self._testMethodName)

        @wraps(test)
        def watched() -> None:
            try:
                test()
            except SkipTest:
                raise
            except BaseException:
                self._has_failed = True
                raise

        setattr(self, self._testMethodName, watched)

    @classmethod
    def make_appliance(cls) -> Appliance:
        """Return the appliance of the class, not started."""
        return Appliance(cls.settings)

    def setUp(self) -> None:
        """Have an appliance that runs."""
        cls = type(self)
        if cls._appliance is None:
            appliance = self.make_appliance()
            try:
                appliance.start()
            except BaseException:
                appliance.close()
                raise
            cls._appliance = appliance
        self.appliance = cls._appliance
        self.s3 = self.appliance.s3()
        self.expected_traces: list[str] = []
        self.appliance.new_log()

    def tearDown(self) -> None:
        """Look into the log."""
        log = self.appliance.new_log()
        lines = [
            line
            for line in log.splitlines()
            if any(trace in line for trace in TRACES)
            and not any(re.search(expected, line) for expected in self.expected_traces)
        ]
        if lines or self._has_failed:
            kept = Path(f"{type(self).__name__}.{self._testMethodName}.log").resolve()
            kept.write_text(self.appliance.log())
            around = "\n".join(surroundings(log.splitlines(), lines))
            end = self.appliance.log_tail(25)
            print(f"\n{self.id()}: log in {kept}\n{around}\nits end:\n{end}", file=sys.stderr)
        self.assertEqual(lines, [], "the log holds what no log should hold")

    def bucket(self, user: str = "first") -> str:
        """Return a new bucket."""
        cls = type(self)
        cls._bucket_count += 1
        name = f"{re.sub('[^a-z0-9]', '', cls.__name__.lower())}-{cls._bucket_count}"
        self.appliance.s3(user).create_bucket(Bucket=name)
        return name

    def assert_nothing_new(self, bucket: str, before: Sequence[Any], used_before: int) -> None:
        """Check that a bucket lists what it listed, and that the disk holds what it held, after a short while."""
        self.assertEqual(listing(self.s3, bucket), before)
        more = self.appliance.settled_bytes() - used_before
        self.assertTrue(-SLACK_BYTES <= more <= SLACK_BYTES, f"the disk holds {more} bytes more than before")


def surroundings(log: Sequence[str], lines: Collection[str], before: int = 3, after: int = 40) -> list[str]:
    """Return the first of some lines of a log with what stands around it."""
    for at, line in enumerate(log):
        if line in lines:
            return list(log[max(0, at - before) : at + after])
    return []


def listing(s3: Any, bucket: str) -> list[tuple[str, str, int]]:
    """Return what a bucket lists: key, ETag and size; and the keys of its uploads under way."""
    found = [
        (entry["Key"], entry["ETag"], entry["Size"])
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        for entry in page.get("Contents", [])
    ]
    uploads = s3.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
    return found + [(upload["Key"], "upload", 0) for upload in uploads]
