"""A second appliance on the same state directory: it stands by, takes over, and leaves alone what another machine has loaded."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from coldstore.util.thishost import host_name
from tests.endtoend.appliance import TRACES, Appliance, mounts_below, processes_of, wait_until

MIB = 1024**2
OTHER_MACHINE = """
set -e
hostname "$1"
mount --bind "$2" /proc/sys/kernel/random/boot_id
if [ -e /etc/machine-id ]; then mount --bind "$3" /etc/machine-id; fi
shift 3
exec "$@"
"""
"""Runs a program as another machine would: with its own name, machine id and boot, in name spaces of its own (unshare(1))."""


class Successor(Appliance):
    """An appliance on the state directory of another one; ``machine`` is the name of another machine that it runs on."""

    def __init__(self, first: Appliance, settings: Mapping[str, Any], *, machine: str = "") -> None:
        super().__init__(
            {**settings, "state_directory": str(first.state), "tape": first.settings["tape"]},
            metadata=first.metadata,
        )
        self.state = first.state
        self.client = first.client
        self.users = first.users
        self._machine = machine

    def remove_metadata(self) -> None:
        """See ``Appliance``: the first one does."""

    def command_line(self) -> list[str]:
        """Return how it is started."""
        words = super().command_line()
        if not self._machine:
            return words
        boot, machine = self.folder / "boot_id", self.folder / "machine-id"
        boot.write_text("11111111-2222-4333-8444-555555555555\n")
        machine.write_text("0123456789abcdef0123456789abcdef\n")
        shell = ["sh", "-c", OTHER_MACHINE, "sh", self._machine, str(boot), str(machine)]
        return ["unshare", "--mount", "--uts", "--propagation", "private", *shell, *words]


def can_be_another_machine() -> bool:
    """Whether name spaces can be had here."""
    probe = ["unshare", "--mount", "--uts", "sh", "-c", "hostname other"]
    return subprocess.run(probe, capture_output=True).returncode == 0


class StandbyCase(SynchronousTestCase):
    """Two appliances, one library."""

    def setUp(self) -> None:
        """Have the first one running, with three drives."""
        self.first = Appliance({"tape": {"virtual": {"drives": 3}}, "mount": {"idle_unload": "1h"}})
        self.addCleanup(self.first.close)
        self.first.start()
        self.s3 = self.first.s3()
        self.s3.create_bucket(Bucket="bucket")

    def successor(self, machine: str = "", *, standby: bool = True, **environment: str) -> Successor:
        """Launch another appliance."""
        made = Successor(
            self.first, {"metadata": {"standby": standby}, "mount": {"idle_unload": "1h"}}, machine=machine
        )
        self.addCleanup(made.close)
        made.environment = environment
        made.launch()
        return made

    def put(self, s3: Any, key: str) -> bytes:
        """Upload an object."""
        body = Random(key).randbytes(MIB)
        s3.put_object(Bucket="bucket", Key=key, Body=body, StorageClass="GLACIER")
        return body

    def wait_until_standing_by(self, standby: Appliance) -> None:
        """Wait until it says so, and check that it serves nobody."""
        assert self.first.process is not None
        words = f"standing by: {self.first.state} is in use by another appliance (process {self.first.process.pid} on {host_name()}"
        wait_until("it stands by", lambda: words in standby.log())
        self.assertRaises(
            ConnectionRefusedError, socket.create_connection, ("127.0.0.1", standby.port), timeout=5
        )

    def assert_no_trace(self, *appliances: Appliance) -> None:
        """Check that no log tells of a bug."""
        for appliance in appliances:
            for trace in TRACES:
                self.assertNotIn(trace, appliance.log())


class StandbyTests(StandbyCase):
    """On one machine."""

    def test_takes_over(self) -> None:
        """A standby tells the service manager for whom it waits; when the first one is killed it serves what was acknowledged."""
        address = str(self.first.folder / "notify")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(address)
            manager.settimeout(60)
            standby = self.successor(NOTIFY_SOCKET=address)
            told = manager.recv(1000).decode()
            assert self.first.process is not None
            self.assertTrue(
                told.startswith(f"READY=1\nSTATUS=standing by for process {self.first.process.pid} on "), told
            )
            self.wait_until_standing_by(standby)
            body = self.put(self.s3, "k")
            self.first.archive(("bucket", "k"))
            staged = self.put(self.s3, "staged")
            self.first.kill()
            standby.wait_until_serving()
            self.assertEqual(manager.recv(1000), b"READY=1\nSTATUS=serving S3")
        s3 = standby.s3()
        status = standby.ask("/status")
        self.assertEqual((status["epoch"], status["host"]), (2, host_name()))
        self.assertIn(f"run 2 on {host_name()}", standby.command("status").stdout)
        # It is the same machine: cartridges in drives are its own.
        s3.restore_object(
            Bucket="bucket",
            Key="k",
            RestoreRequest={"Days": 1, "GlacierJobParameters": {"Tier": "Expedited"}},
        )
        wait_until(
            "it is restored",
            lambda: 'ongoing-request="false"' in s3.head_object(Bucket="bucket", Key="k").get("Restore", ""),
            seconds=90,
        )
        self.assertEqual(s3.get_object(Bucket="bucket", Key="k")["Body"].read(), body)
        standby.archive(("bucket", "staged"))
        self.assertEqual(standby.object("bucket", "staged")["size_bytes"], len(staged))
        self.assert_no_trace(self.first, standby)

    def test_stops_while_waiting(self) -> None:
        """A standby that is told to stop ends at once, and the first one goes on."""
        standby = self.successor()
        self.wait_until_standing_by(standby)
        began_at = time.monotonic()
        self.assertIn(standby.stop(), (0, -signal.SIGTERM))
        self.assertLess(time.monotonic() - began_at, 20)
        self.put(self.s3, "k")
        self.assert_no_trace(self.first, standby)

    def test_old_one_stops(self) -> None:
        """An appliance whose lock was lost ends with status 1 and one sentence as soon as another one has taken over."""
        body = self.put(self.s3, "k")
        self.first.archive(("bucket", "k"))
        assert self.first.process is not None
        # What losing the lock of a file system that machines share comes to.
        (self.first.state / "lock").unlink()
        second = self.successor(standby=False)
        self.assertEqual(self.first.process.wait(60), 1)
        (line,) = [line for line in self.first.log().splitlines() if "taken over" in line]
        self.assertIn("this one stops now", line)
        self.assertIn(host_name(), line)
        second.wait_until_serving()
        wait_until("the library is reconciled", lambda: second.ask("/status")["is_library_reconciled"])
        self.assertEqual(second.object("bucket", "k")["size_bytes"], len(body))
        self.assert_no_trace(self.first, second)


class OtherMachineTests(StandbyCase):
    """On another machine, as far as name spaces make one."""

    def setUp(self) -> None:
        """Skip where they cannot be had."""
        if not can_be_another_machine():
            raise SkipTest("name spaces for mounts and host name cannot be had: needs root (unshare)")
        super().setUp()

    def drives(self, appliance: Appliance) -> dict[int, dict[str, Any]]:
        """What operators are told of the drives."""
        return {row["drive"]: row for row in appliance.rows("/drives")}

    def test_what_it_loaded_stays_untouched(self) -> None:
        """
        Drives that the first machine has loaded are down, its mounts go on, the third drive works; after the word of an operator
        that the machine is off they are used again.
        """
        body = self.put(self.s3, "k")
        self.first.archive(("bucket", "k"))
        held = {number: row["barcode"] for number, row in self.drives(self.first).items() if row["barcode"]}
        self.assertEqual(len(held), 2)
        standby = self.successor("othermachine")
        self.wait_until_standing_by(standby)
        assert self.first.process is not None
        # Its movers end with it, its file systems do not.
        left = {
            pid
            for pid, words in processes_of(self.first.folder).items()
            if "coldstore.tape.shim" in words or "/bin/ltfs " in words
        }
        self.assertGreaterEqual(len(left), 4)
        mounted = [
            path
            for number in held
            for path in (self.first.state / "run" / f"drive-{number}" / "mnt").glob("*")
        ]
        self.first.kill()
        standby.wait_until_serving()
        self.assertEqual(standby.ask("/status")["host"], "othermachine")
        wait_until("the library is reconciled", lambda: standby.ask("/status")["is_library_reconciled"])

        more = self.put(standby.s3(), "more")
        standby.archive(("bucket", "more"), seconds=120)
        rows = self.drives(standby)
        for number, barcode in held.items():
            self.assertEqual((rows[number]["state"], rows[number]["barcode"]), ("down", barcode))
            self.assertIn(f"it holds {barcode}, which {host_name()} loaded", rows[number]["reason"])
        used = {copy["barcode"] for copy in standby.object("bucket", "more")["copies"]}
        self.assertEqual(used & set(held.values()), set())
        alerts = {
            row["subject"]: row["sentence"] for row in standby.rows("/alerts") if row["kind"] == "drive-down"
        }
        self.assertEqual(sorted(alerts), [f"drive {number}" for number in sorted(held)])
        for number in held:
            self.assertIn(f"When {host_name()} is off", alerts[f"drive {number}"])
        # Its file systems are as they were.
        self.assertEqual({pid for pid in left if Path(f"/proc/{pid}").exists()}, left)
        for path in mounted:
            self.assertTrue(path.exists(), path)

        # The first machine is switched off.
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        for point in mounts_below(self.first.folder):
            subprocess.run(["umount", "-l", point], check=True)
        for number in held:
            done = standby.command("drives", "up", str(number))
            self.assertEqual(done.returncode, 0, done.stderr)
        s3 = standby.s3()
        s3.restore_object(
            Bucket="bucket",
            Key="k",
            RestoreRequest={"Days": 1, "GlacierJobParameters": {"Tier": "Expedited"}},
        )
        wait_until(
            "it is restored",
            lambda: 'ongoing-request="false"' in s3.head_object(Bucket="bucket", Key="k").get("Restore", ""),
            seconds=120,
        )
        self.assertEqual(s3.get_object(Bucket="bucket", Key="k")["Body"].read(), body)
        self.assertEqual(standby.object("bucket", "more")["size_bytes"], len(more))
        wait_until(
            "no drive is down",
            lambda: not [row for row in standby.rows("/alerts") if row["kind"] == "drive-down"],
        )
        self.assert_no_trace(self.first, standby)
