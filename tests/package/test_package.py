"""The Debian package as its users meet it."""

import functools
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from coldstore.util.version import VERSION
from coldstore.vtl.fuse import fuse_available
from coldstore.vtl.library import Library
from tests.certificates import Authority
from tests.endtoend.appliance import TRACES, wait_until
from tests.package.building import CHECKOUT, build, run
from tests.package.machine import Machine, booted, running, unpacked
from tests.package.operating import BODIES, Client, Operator, archive, bring_back, new_keys

START_SECONDS = 180.0
STATE = "/var/lib/coldstore"
PURGED = "/var/lib/coldstore and the user coldstore stay"


_FOLDER = tempfile.TemporaryDirectory(prefix="cs-package-")
"""For all tests; it goes with the process."""


def folder() -> Path:
    """Return the folder of all tests."""
    return Path(_FOLDER.name)


@functools.cache
def changes() -> Path:
    """Build the package; return its ``.changes`` file."""
    return build(folder() / "build")


def package() -> Path:
    """Return the package."""
    (found,) = changes().parent.glob("*.deb")
    return found


@functools.cache
def installed() -> Path:
    """Install the package in a clean system; return its root, which nobody changes after that."""
    package()
    root = folder() / "installed"
    unpacked(root)
    shutil.copy(package(), root / "root/coldstore.deb")
    with running(root, has_network=True) as machine:
        machine.run("apt-get", "update", "--quiet")
        machine.run(
            "apt-get", "install", "--quiet", "--yes", "--no-install-recommends", "/root/coldstore.deb"
        )
        machine.run("apt-get", "clean")
    return root


class BuildTests(SynchronousTestCase):
    """The package itself."""

    def test_lintian(self) -> None:
        """lintian finds neither errors nor warnings."""
        run(["lintian", "--fail-on=error,warning", "--tag-display-limit=0", changes()])

    def test_version(self) -> None:
        """It has the version that the appliance says it has."""
        self.assertEqual(run(["dpkg-deb", "--field", package(), "Version"]).strip(), VERSION)

    def test_dependencies(self) -> None:
        """Every Python from 3.11 on will do, and native modules are Debian's."""
        names = run(["dpkg-deb", "--field", package(), "Depends"])
        self.assertNotIn("<<", names)
        self.assertNotIn("python3.", names)
        for name in ("cryptography", "markupsafe", "openssl", "yaml", "zope.interface"):
            self.assertIn(f"python3-{name}", names)

    def test_reproducible(self) -> None:
        """Built again in another folder, it is the same to the byte."""
        again = build(folder() / "in another folder" / "once more")
        (second,) = again.parent.glob("*.deb")
        self.assertEqual(sha256(package().read_bytes()).hexdigest(), sha256(second.read_bytes()).hexdigest())


class MachineCase(SynchronousTestCase):
    """Tests on a machine of their own."""

    def setUp(self) -> None:
        """Have a machine that is not running."""
        self.root = Path(tempfile.mkdtemp(dir=folder())) / "root"
        self.addCleanup(shutil.rmtree, self.root.parent, ignore_errors=True)
        run(["cp", "--archive", installed(), self.root])

    def client(self, machine: Machine, operator: Operator) -> Client:
        """Return a client of a new user, with a bucket of the name ``cold``."""
        made = Client(machine, self.root.parent / "home", new_keys(operator))
        made.aws("s3", "mb", "s3://cold")
        return made

    def assert_sound(self, log: str) -> None:
        """Check that a log holds no trace of a mistake, nor of a plugin cache that is out of date."""
        for trace in (*TRACES, "plugin cache"):
            self.assertNotIn(trace, log)

    def assert_mounted(self, operator: Operator) -> list[str]:
        """Check that cartridges are mounted, where a mount can be had; return their barcodes."""
        remarks = operator.ask("status")["problems"]
        has_fuse, why = fuse_available()
        if has_fuse:
            self.assertEqual(remarks, [])
            self.assertNotEqual(operator.mounted(), [])
        else:
            self.assertTrue(any("FUSE" in remark for remark in remarks), f"{why}; {remarks}")
        return operator.mounted()

    def wait_mounted(self, operator: Operator, barcodes: list[str]) -> None:
        """Wait until a service that has just started has taken over these cartridges."""
        wait_until(
            f"{barcodes} are taken over", lambda: operator.mounted() == barcodes, seconds=START_SECONDS
        )

    def assert_removed(self, machine: Machine, *left: str) -> None:
        """Check that nothing bears our name but these, records of what was done, and what lies in the state directory."""
        named = machine.run(
            "find", "/", "-xdev", "-path", STATE, "-prune", "-o", "-name", "*coldstore*", "-print"
        )
        self.assertEqual(
            {path for path in named.split() if not re.match(r"/(proc|root|run|var/log|var/lib/apt)/", path)},
            set(left),
        )


class ByHandTests(MachineCase):
    """Without a service manager, as in a container."""

    @contextmanager
    def appliance(self, machine: Machine, **settings: str) -> Iterator[Path]:
        """Run the service's command line as its user; gives the log. Ends it as a service manager does."""
        log_path = self.root.parent / "log"
        words = ["/usr/lib/coldstore/bin/twistd", "--nodaemon", "--pidfile=", "coldstore"]
        words += ["--config", "/etc/coldstore/coldstore.yaml"]
        variables = [f"{name}={value}" for name, value in settings.items()]
        with log_path.open("ab") as log:
            process = subprocess.Popen(
                machine.entered("env", f"--chdir={STATE}", *variables, *words, user="coldstore"),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            wait_until(
                "it serves", lambda: self.is_serving(machine, process, log_path), seconds=START_SECONDS
            )
            yield log_path
            machine.run("sh", "-c", f"kill $(sed -n -E 's/process ([0-9]+) .*/\\1/p' {STATE}/lock)")
            process.wait(120)
        finally:
            process.kill()
            process.wait()
        self.assert_sound(log_path.read_text())

    @staticmethod
    def is_serving(machine: Machine, process: "subprocess.Popen[bytes]", log: Path) -> bool:
        """Say whether it serves."""
        assert process.poll() is None, log.read_text()
        return "serving S3" in log.read_text()

    def test_life(self) -> None:
        """It archives and restores, restarts with cartridges mounted, serves TLS, and goes when they are put away."""
        with running(self.root) as machine:
            operator = Operator(machine)
            with self.appliance(machine) as log:
                client = self.client(machine, operator)
                archive(operator, client, "cold", BODIES)
                bring_back(operator, client, "cold", BODIES)
                mounted = self.assert_mounted(operator)
                self.assertIn(f"ColdStore {VERSION} serves S3", operator.order("status"))
            self.check_stopped(machine, has_mounts=bool(mounted))
            log.unlink()
            authority = Authority()
            certificate, key = authority.issue("127.0.0.1")
            state = self.root / STATE[1:]
            (state / "root").write_bytes(authority.root)
            (state / "certificate").write_bytes(certificate + authority.intermediate)
            (state / "key").write_bytes(key)
            tls = {
                "COLDSTORE_SERVER_TLS_CERTIFICATE_FILE": f"{STATE}/certificate",
                "COLDSTORE_SERVER_TLS_KEY_FILE": f"{STATE}/key",
            }
            with self.appliance(machine, **tls):
                self.wait_mounted(operator, mounted)
                client.environment |= {
                    "AWS_ENDPOINT_URL": "https://127.0.0.1:8420",
                    "AWS_CA_BUNDLE": str(state / "root"),
                }
                for name, body in BODIES.items():
                    self.assertEqual(client.get("cold", name), body)
                said = machine.run("apt-get", "remove", "--quiet", "--yes", "coldstore")
                self.assertIn("putting the cartridges away", said)
                self.assertEqual(machine.file_systems(), [])
                self.assertEqual(
                    machine.run("id", "--name", "--groups", "coldstore").split(), ["coldstore", "tape"]
                )
            self.assert_removed(
                machine, "/etc/coldstore", "/etc/coldstore/coldstore.yaml", "/var/lib/dpkg/info/coldstore.list",
                "/var/lib/dpkg/info/coldstore.postrm",
                "/var/lib/systemd/deb-systemd-helper-enabled/coldstore.service.dsh-also",
            )  # fmt: skip
            self.assertIn(PURGED, machine.run("apt-get", "purge", "--quiet", "--yes", "coldstore"))
            self.assert_removed(machine)
            self.assertTrue((self.root / STATE[1:] / "metadata.sqlite").exists())

    def check_stopped(self, machine: Machine, *, has_mounts: bool) -> None:
        """Check what a stopped service means: the command says so; mounted cartridges keep the package from being removed."""
        said = machine.run("coldstore", "status", statuses=[1])
        self.assertIn("admin.sock", said)
        if has_mounts:
            said = machine.run("apt-get", "remove", "--quiet", "--yes", "coldstore", statuses=[100])
            self.assertIn("not removed: cartridges are still mounted", said)
            self.assertIn(f"{STATE}/run/drive-", said)
            self.assertIn("coldstore", machine.run("coldstore", "--help"))

    def test_never_used(self) -> None:
        """Purged before it was ever started, it leaves a locked user and nothing else."""
        with running(self.root) as machine:
            self.assertNotIn(PURGED, machine.run("apt-get", "purge", "--quiet", "--yes", "coldstore"))
            self.assert_removed(machine)
            self.assertFalse((self.root / STATE[1:]).exists())
            self.assertRegex(machine.run("getent", "passwd", "coldstore"), ":/usr/sbin/nologin$")


class ServiceTests(MachineCase):
    """With a real systemd."""

    def test_life(self) -> None:
        """Mounted cartridges survive a restart and an upgrade, and are put away by a removal and a shutdown."""
        with booted(self.root) as machine:
            operator = Operator(machine)
            self.check_units(machine)
            self.check_mistake(machine)
            machine.run("systemctl", "start", "coldstore")
            client = self.client(machine, operator)
            archive(operator, client, "cold", BODIES)
            bring_back(operator, client, "cold", BODIES)
            mounted = self.assert_mounted(operator)
            for restart in (
                ["systemctl", "restart", "coldstore"],
                ["dpkg", "--install", "/root/coldstore.deb"],
            ):
                before, programs = self.main_process(machine), machine.file_systems()
                machine.run(*restart)
                self.assertNotEqual(self.main_process(machine), before)
                self.assertEqual(machine.file_systems(), programs)
                self.wait_mounted(operator, mounted)
            archive(operator, client, "cold", {"later": b"after the upgrade"})
            self.assertIn("putting the cartridges away", machine.run("dpkg", "--remove", "coldstore"))
            self.assertEqual(
                machine.run("systemctl", "is-active", "coldstore", statuses=[3, 4]).strip(), "inactive"
            )
            self.assertEqual(machine.file_systems(), [])
            self.assertIn(PURGED, machine.run("dpkg", "--purge", "coldstore"))
            self.assert_removed(machine)

            machine.run("dpkg", "--install", "/root/coldstore.deb")
            self.assertEqual(
                machine.run("systemctl", "is-active", "coldstore", statuses=[3]).strip(), "inactive"
            )
            machine.run("systemctl", "start", "coldstore")
            bring_back(operator, client, "cold", {"later": b"after the upgrade"})
            self.assert_mounted(operator)
            self.assert_sound(machine.run("journalctl", "--unit=coldstore"))
            machine.run("systemctl", "poweroff")
            machine.process.wait(300)
        self.check_put_away()

    def check_units(self, machine: Machine) -> None:
        """Check the units and the rule for devices, and that nothing was started."""
        self.assertEqual(
            machine.run("systemctl", "is-enabled", "coldstore", statuses=[1]).strip(), "disabled"
        )
        self.assertEqual(machine.run("systemctl", "is-active", "coldstore", statuses=[3]).strip(), "inactive")
        verified = machine.run(
            "systemd-analyze", "verify", "--man=no", "coldstore.service", "coldstore-drain.service"
        )
        self.assertEqual(verified, "")
        parsed = machine.run("udevadm", "test", "/sys/class/net/lo")
        self.assertIn("60-coldstore.rules", parsed)
        self.assertNotIn("60-coldstore.rules:", parsed)

    def check_mistake(self, machine: Machine) -> None:
        """Check that a start with a mistake in the configuration fails, says where it is, and makes nothing."""
        configuration = self.root / "etc/coldstore/coldstore.yaml"
        good = configuration.read_text()
        configuration.write_text(good + "prot: 8420\n")
        machine.run("systemctl", "start", "coldstore", statuses=[1])
        line = len(good.splitlines()) + 1
        self.assertIn(f"coldstore.yaml:{line}: ", machine.run("journalctl", "--unit=coldstore"))
        self.assertEqual(list((self.root / STATE[1:]).iterdir()), [])
        machine.run("systemctl", "stop", "coldstore")
        configuration.write_text(good)

    @staticmethod
    def main_process(machine: Machine) -> str:
        """Return the process id of the service."""
        return machine.run("systemctl", "show", "--property=MainPID", "--value", "coldstore").strip()

    def check_put_away(self) -> None:
        """Check on the disk of a machine that is off that every cartridge lies in its slot, closed cleanly."""
        library = Library(str(self.root / STATE[1:] / "vtl"))
        self.assertEqual([drive.barcode for drive in library.elements().drives], [None, None])
        command = [sys.executable, "-m", "coldstore.vtl", "fsck", library.directory]
        self.assertEqual(run(command, environment={"PYTHONPATH": str(CHECKOUT)}), "consistent\n")
