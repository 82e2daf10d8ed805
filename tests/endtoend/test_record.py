"""The metadata as a whole: dumped while it serves, restored where there is nothing, upgraded, moved; with real processes."""

import json
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError
from twisted.trial.unittest import SynchronousTestCase

from coldstore.admin.client import Client
from coldstore.metadata.portable.dumped import check_dump
from coldstore.metadata.sqlite.schema import shipped_migrations
from tests.contract.old_stores import make_old_store
from tests.endtoend.appliance import Appliance, wait_until
from tests.endtoend.databases import chosen

SMALL, LARGE = b"small" * 100, bytes(range(256)) * 4096


class RecordCase(SynchronousTestCase):
    """Has an appliance whose disk and library are not in its state directory."""

    def setUp(self) -> None:
        """Make it; nothing is started."""
        self.appliance = Appliance()
        self.addCleanup(self.appliance.close)
        folder = self.appliance.folder
        self.appliance.settings["staging"]["directory"] = f"{folder}/staging"
        self.appliance.settings["tape"]["virtual"]["directory"] = f"{folder}/vtl"
        self.keep_record_in(self.appliance.metadata.settings)

    def keep_record_in(self, where: Mapping[str, Any]) -> None:
        """Have the configuration say where the metadata are."""
        self.appliance.settings["metadata"] = {**where, "dumps": {"every": "1m"}}
        self.appliance.write_configuration()

    def db(self, *words: str, status: int = 0) -> Any:
        """Run ``coldstore db``; return what it says, or complains."""
        done = self.appliance.command(
            "db", words[0], "--config", str(self.appliance.configuration), "--json", *words[1:]
        )
        self.assertEqual(done.returncode, status, f"{words}: {done.stdout}{done.stderr}")
        self.assertNotIn("Traceback", done.stderr)
        return json.loads(done.stdout) if status == 0 else done.stderr

    def move_house(self, name: str) -> None:
        """Go on with another state directory, and with metadata that know nothing."""
        self.addCleanup(self.appliance.metadata.remove)
        self.appliance.metadata = chosen()
        self.appliance.state = self.appliance.folder / name
        self.appliance.settings["state_directory"] = str(self.appliance.state)
        self.appliance.client = Client(str(self.appliance.state / "admin.sock"))
        self.keep_record_in(self.appliance.metadata.settings)

    def refuses_to_start(self, said: str) -> None:
        """Start it; it must end and say why."""
        before = len(self.appliance.log())
        with self.assertRaises(AssertionError):
            self.appliance.start()
        process = self.appliance.process
        assert process is not None
        self.assertEqual(process.wait(30), 1)
        log = self.appliance.log()[before:]
        self.assertRegex(log, f"cannot start: .*{said}")
        self.assertNotIn("Traceback", log)


class BackupTests(RecordCase):
    """From a backup everything is served again."""

    def test_backup_and_restore(self) -> None:
        """A backup made while clients write is restored into a fresh state directory, and what it knows is served, on disk or tape."""
        appliance = self.appliance
        appliance.start()
        s3 = appliance.s3()
        s3.create_bucket(Bucket="kept")
        s3.put_object(Bucket="kept", Key="on/disk", Body=SMALL)
        s3.put_object(Bucket="kept", Key="on/tape", Body=LARGE, StorageClass="GLACIER")
        appliance.archive(("kept", "on/tape"), ("kept", "on/disk"), off_disk=False)
        self.assertIn("in use by process", self.db("upgrade", status=1))
        backend, elsewhere = appliance.metadata.backend, f"sqlite:{appliance.folder}/x.sqlite"
        self.assertIn("in use by process", self.db("move", backend, elsewhere, status=1))

        stopping = threading.Event()
        written: list[str] = []

        def write() -> None:
            while not stopping.is_set():
                key = f"while/{len(written):05}"
                s3.put_object(Bucket="kept", Key=key, Body=SMALL)
                written.append(key)

        writer = threading.Thread(target=write)
        writer.start()
        self.addCleanup(stopping.set)
        wait_until("something is written", lambda: len(written) > 20)
        before = list(written)
        file = str(appliance.folder / "backup.gz")
        saved = self.db("backup", file)
        stopping.set()
        writer.join()
        self.assertGreater(len(written), len(before))
        self.assertGreater(saved["rows"], 40)
        self.assertIn("in use by process", self.db("restore", file, "--replace", "--yes", status=1))

        dump = wait_until(
            "a dump on schedule", lambda: appliance.ask("/status")["last_dump_bytes"], seconds=60
        )
        (path,) = (appliance.state / "dumps").iterdir()
        self.assertEqual(path.stat().st_size, dump)
        self.assertEqual(check_dump(path, lambda _: None).header.standing.epoch, 1)
        self.assertEqual(appliance.metrics()["coldstore_metadata_dump_bytes"], dump)
        self.assertIn("last dumped at", appliance.command("status").stdout)
        self.assertEqual(appliance.rows("/alerts"), [])
        appliance.drain()
        appliance.stop()

        key = appliance.state / "master.key"
        self.move_house("fresh")
        restored = self.db("restore", file)
        self.refuses_to_start("the secrets of access keys are encrypted, and .*/fresh/master.key")
        shutil.copy2(key, appliance.state)
        self.assertEqual(restored["rows"], saved["rows"] - 1)
        appliance.start()
        listed = [
            entry["Key"]
            for page in s3.get_paginator("list_objects_v2").paginate(Bucket="kept", Prefix="while/")
            for entry in page["Contents"]
        ]
        self.assertEqual(listed[: len(before)], before)
        for key in ("on/disk", before[0], before[-1]):
            self.assertEqual(s3.get_object(Bucket="kept", Key=key)["Body"].read(), SMALL)
        with self.assertRaises(ClientError):
            s3.get_object(Bucket="kept", Key="on/tape")
        s3.restore_object(Bucket="kept", Key="on/tape", RestoreRequest={"Days": 1})
        appliance.command("wait", "kept", "on/tape", "--restored", "--timeout", "60")
        self.assertEqual(s3.get_object(Bucket="kept", Key="on/tape")["Body"].read(), LARGE)
        self.assertEqual(self.db("status")["run"], 3)


class MoveTests(RecordCase):
    """The metadata go elsewhere."""

    def test_move(self) -> None:
        """Moved to a file, even when the move is killed in between, the old place starts no appliance and the file serves everything."""
        appliance = self.appliance
        appliance.start()
        s3 = appliance.s3()
        s3.create_bucket(Bucket="kept")
        for number in range(30):
            s3.put_object(Bucket="kept", Key=f"{number:03}", Body=SMALL)
        appliance.stop()
        there = f"{appliance.folder}/elsewhere.sqlite"
        backend, old = appliance.metadata.backend, appliance.metadata.settings
        new = {"backend": "sqlite", "sqlite": {"path": there}}
        words = ["db", "move", "--config", str(appliance.configuration), backend, f"sqlite:{there}"]
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED_IN_BETWEEN, *words],
            env=appliance.process_environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.assertEqual(process.wait(60), -signal.SIGKILL)
        self.assertTrue(Path(there).exists())
        # The old one is whole, and nobody was told that it is not the record any more.
        self.assertNotIn("moved_to", self.db("status"))
        self.keep_record_in(new)
        self.refuses_to_start(f"not whole: what comes from {backend}:.*coldstore db")
        self.keep_record_in(old)
        self.db("move", backend, f"sqlite:{there}")
        self.refuses_to_start(f"were moved to sqlite:{there}")
        self.keep_record_in(new)
        appliance.start()
        self.assertEqual(len(s3.list_objects_v2(Bucket="kept")["Contents"]), 30)
        self.assertEqual(s3.get_object(Bucket="kept", Key="029")["Body"].read(), SMALL)


class UpgradeTests(RecordCase):
    """The metadata of an older release."""

    def test_upgrade(self) -> None:
        """The appliance refuses to start on them and says what to run; after that it starts."""
        appliance = self.appliance
        # Whatever the others use: only files are that old.
        self.keep_record_in({})
        appliance.state.mkdir(mode=0o700)
        (appliance.folder / "staging").mkdir(mode=0o700)
        make_old_store(str(appliance.state / "metadata.sqlite"), 1)
        self.refuses_to_start("schema 1 .*run: coldstore db upgrade")
        done = self.db("upgrade")
        self.assertEqual((done["schema_before"], done["schema"]), (1, shipped_migrations()[-1].number))
        self.assertTrue(Path(done["dump"]).exists())
        appliance.start()
        self.assertEqual(appliance.ask("/status")["epoch"], 3)
        self.assertEqual([row["bucket"] for row in appliance.rows("/buckets")], ["b", "empty"])


KILLED_IN_BETWEEN = """
import os, signal, sys
from coldstore.admin.main import main
from coldstore.metadata.sqlite.portable import PortableSqlite
real, left = PortableSqlite.put, [5]

async def put(self, table, rows):
    await real(self, table, rows)
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)

PortableSqlite.put = put
main(sys.argv[1:])
"""
