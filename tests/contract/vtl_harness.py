"""What the tests of the virtual library's programs share: a library in a temporary folder, and its programs as real processes."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from coldstore.vtl.faults import Fault, Faults
from coldstore.vtl.fuse import fuse_available
from coldstore.vtl.library import Library, LibrarySpec, create_library

GOLDEN = Path(__file__).resolve().parent.parent / "fixtures" / "golden"
MIB = 1024**2


def wait_for(claim, seconds: float = 20.0):
    """Return the claim's answer once it is true; fails after some seconds."""
    end = time.monotonic() + seconds
    while not (answer := claim()):
        if time.monotonic() > end:
            raise AssertionError(f"{claim} did not come true in {seconds} s")
        time.sleep(0.01)
    return answer


class VtlCase(SynchronousTestCase):
    """One library per test, taken down with everything that was started in it."""

    spec = LibrarySpec(drives=2, slots=10, mail_slots=1, cartridges=6, cleaning=1, capacity_bytes=256 * MIB)

    def setUp(self) -> None:
        """Make the library."""
        self.folder = tempfile.mkdtemp(prefix="coldstore-vtl-")
        self.directory = os.path.join(self.folder, "library")
        self.library: Library = create_library(self.directory, self.spec)
        self.changer = self.library.node("changer")
        self.mountpoint = os.path.join(self.folder, "mount")
        os.mkdir(self.mountpoint)
        self.log = os.path.join(self.folder, "ltfs.log")
        self.environment = {
            "LANG": "C.UTF-8",
            "LC_ALL": "C",
            "PATH": os.environ["PATH"],
            "COLDSTORE_VTL_READY_SECONDS": "2",
        }
        self.processes: list[subprocess.Popen[bytes]] = []
        self.addCleanup(self.take_down)

    def take_down(self) -> None:
        """End what still runs, and unmount."""
        Faults(self.directory).clear()
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
        while any(
            self.mountpoint in line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()
        ):
            subprocess.run(["umount", "-l", self.mountpoint], check=True)
        shutil.rmtree(self.folder)

    def program(self, name: str) -> str:
        """Return the path of a launcher."""
        return self.library.path("bin", name)

    def start(self, name: str, *words: str, stderr=subprocess.PIPE, **more) -> subprocess.Popen[bytes]:
        """Start a program; it is ended with the test."""
        process = subprocess.Popen(
            [self.program(name), *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=self.environment | more.pop("env", {}),
            cwd="/",
            **more,
        )
        self.processes.append(process)
        return process

    def run_program(self, name: str, *words: str, timeout: float = 30, **more) -> tuple[int, str, str]:
        """Run a program to its end; returns exit status, stdout and stderr."""
        process = self.start(name, *words, **more)
        out, err = process.communicate(timeout=timeout)
        return process.returncode, out.decode(), err.decode("utf-8", "replace")

    def mtx(self, *words: str, **more) -> tuple[int, str, str]:
        """Run ``mtx`` on the changer."""
        return self.run_program("mtx", "-f", self.changer, *words, **more)

    def mt(self, *words: str, drive: int = 0, **more) -> tuple[int, str, str]:
        """Run ``mt`` on a drive."""
        return self.run_program("mt", "-f", self.library.node(f"nst{drive}"), *words, **more)

    def sg(self, drive: int = 0) -> str:
        """Return a drive's ``sg`` node."""
        return self.library.node(f"sg{drive}")

    def load(self, slot: int = 1, drive: int = 0) -> None:
        """Load a cartridge, which must work."""
        self.assertEqual(self.mtx("load", str(slot), str(drive))[0], 0)

    def format(self, *words: str, drive: int = 0) -> tuple[int, str, str]:
        """Format the loaded cartridge, which must work."""
        done = self.run_program("mkltfs", "-d", self.sg(drive), "-s", "A00001", "-n", "A00001L8", *words)
        self.assertEqual(done[0], 0, done[2])
        return done

    def mount(self, *options: str, drive: int = 0, **more) -> subprocess.Popen[bytes]:
        """Mount in the foreground and wait for the ready message."""
        process = self.mount_process(*options, drive=drive, **more)
        wait_for(lambda: "LTFS14029I" in self.messages() or process.poll() is not None)
        self.assertIsNone(process.poll(), self.messages())
        return process

    def mount_process(self, *options: str, drive: int = 0, **more) -> subprocess.Popen[bytes]:
        """Start ``ltfs`` in the foreground, its log in a file of its own."""
        extra = [word for option in options for word in ("-o", option)]
        with open(self.log, "wb") as log:
            words = (
                "-f",
                "-o",
                f"devname={self.sg(drive)}",
                "-o",
                "sync_type=unmount",
                *extra,
                self.mountpoint,
            )
            return self.start("ltfs", *words, stderr=log, start_new_session=True, **more)

    def messages(self) -> str:
        """Return what the last ``ltfs`` said."""
        with open(self.log, encoding="utf-8", errors="replace") as stream:
            return stream.read()

    def unmount(self, process: subprocess.Popen[bytes]) -> tuple[int, str]:
        """Unmount and wait for the process; returns its exit status and what it said."""
        status, _, err = self.run_program("umount", self.mountpoint)
        self.assertEqual(status, 0, err)
        return process.wait(20), self.messages()

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """Kill ``ltfs`` as a crash does, and clear its dead mount away."""
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.assertEqual(self.run_program("umount", self.mountpoint)[0], 0)

    def sync(self) -> None:
        """Write an index by the sync attribute."""
        os.setxattr(self.mountpoint, "user.ltfs.sync", b"1")

    def attribute(self, name: str, path: str = "") -> str:
        """Return a ``user.ltfs.`` attribute."""
        return os.getxattr(os.path.join(self.mountpoint, path), f"user.ltfs.{name}").decode()

    def path(self, name: str) -> str:
        """Return a path on the mount."""
        return os.path.join(self.mountpoint, name)

    def write(self, name: str, content: bytes) -> None:
        """Write a file and fsync it."""
        with open(self.path(name), "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())

    def read(self, name: str) -> bytes:
        """Read a file."""
        return Path(self.path(name)).read_bytes()

    def arm(self, **fields) -> None:
        """Arm a fault."""
        faults = Faults(self.directory)
        faults.add(Fault(id=f"f{len(os.listdir(self.library.path('faults'))):03d}", **fields))


class FuseCase(VtlCase):
    """Tests that need FUSE; without it they are skipped by name."""

    def setUp(self) -> None:
        """Make the library, or skip."""
        works, why = fuse_available()
        if not works:
            raise SkipTest(f"no FUSE here: {why}")
        super().setUp()

    def mounted(self, *options: str, format_words: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
        """Load slot 1, format, mount."""
        self.load()
        self.format(*format_words)
        return self.mount(*options)


def golden(name: str) -> tuple[int, str, str]:
    """Return exit status, stdout and stderr of a recorded output."""
    header, _, rest = (GOLDEN / name).read_text().partition("\n")
    out, _, err = rest.partition("# stderr:\n")
    return int(header.rpartition("exit:")[2]), out, err
