"""
kill -9 at random moments of a mixed load: what was acknowledged stays, nothing half-written shows, nothing leaks.

``COLDSTORE_TEST_KILLS`` sets how many kills there are, ``COLDSTORE_TEST_SEED`` repeats a run's choices (the moments still differ).
"""

import contextlib
import json
import os
import sqlite3
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from random import Random, SystemRandom
from typing import Any
from urllib.request import pathname2url

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from coldstore.vtl.fuse import fuse_available
from coldstore.vtl.library import Library
from tests.endtoend.appliance import TRACES, Appliance, NotInTime, processes_of, wait_until
from tests.endtoend.killing import Victim, Watch, kill
from tests.endtoend.load import LoadClient, Refused, asked, read_whole

KILLS = int(os.environ.get("COLDSTORE_TEST_KILLS", "25"))
CLIENTS = 4
BUCKET = "killed"
PATIENCE_SECONDS = 1.5
"""How long a victim that is not always there is waited for."""
CALM_SECONDS = 120.0
SETTINGS = {
    "staging": {"capacity": "3GiB", "segment": "1MiB"},
    "archive": {
        "bundle_size": "12MiB",
        "sync": "24MiB",
        "trigger": {"age": "2s", "idle_age": "1s", "size": "24MiB"},
    },
    "recall": {"tiers": {"standard": {"hold": "0s", "target": "5h"}}},
    # Cartridges come and go often: there is always something to be cut off.
    "mount": {"idle_unload": "1s"},
    "time": {"day": "20s"},
    "tape": {"virtual": {"cartridges": 8, "slots": 10, "capacity": "1GiB", "latency_scale": 0.01}},
}


class KillTests(SynchronousTestCase):
    """One appliance under load, killed again and again."""

    timeout = 240 + 12 * KILLS

    def test_nothing_acknowledged_is_lost(self) -> None:
        """
        After any number of kill -9 of the appliance, the shim, ``ltfs``, the mover and ``mtx``, every acknowledged object reads back
        identical, the rest is as if it never was, no drive ever had two users, every cartridge can be used, and nothing is left over.
        """
        has_fuse, why_not = fuse_available()
        if not has_fuse:
            raise SkipTest(f"NOTHING IS KILLED: the virtual library needs FUSE for that, and {why_not}")
        seed = int(os.environ.get("COLDSTORE_TEST_SEED", "0")) or SystemRandom().getrandbits(32)
        say(f"{KILLS} kills, seed {seed}")
        self.random = Random(seed)
        self.appliance = Appliance(SETTINGS)
        self.addCleanup(self._remove)
        self.appliance.start()
        self.appliance.s3().create_bucket(Bucket=BUCKET)
        is_up = threading.Event()
        is_up.set()
        watch = Watch(self.appliance, self._library_complaints)
        watch.start()
        self.addCleanup(watch.stop)
        clients = [
            LoadClient(
                f"client{number}",
                self.appliance.s3,
                BUCKET,
                self.random.getrandbits(32),
                bytes_max=(40 + 4 * KILLS) << 20,
                is_up=is_up,
            )
            for number in range(CLIENTS)
        ]
        for client in clients:
            client.start()
        killed = self._kill_again_and_again(is_up)
        for client in clients:
            client.stop()
        for client in clients:
            client.join(90)
            self.assertFalse(client.is_alive(), f"{client.name} hangs")
        say(f"killed: {dict(killed)}")
        say(f"operations: {dict(sum((client.counts for client in clients), Counter()))}")
        self.assertEqual([line for client in clients for line in client.complaints], [])
        self._check_calm(clients)
        watch.stop()
        self.assertEqual(watch.complaints, [])
        self.assertGreater(watch.looks, 10 * KILLS)
        self._check_log()
        self._check_nothing_left(clients)

    # ── killing ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _kill_again_and_again(self, is_up: threading.Event) -> Counter[str]:
        victims = list(Victim)
        order = [victims[number % len(victims)] for number in range(KILLS)]
        self.random.shuffle(order)
        killed: Counter[str] = Counter()
        while order:
            time.sleep(self.random.uniform(0.1, 2.0))
            victim = self._kill_one_of(order)
            killed[victim] += 1
            say(f"killed {victim}")
            assert self.appliance.process is not None
            if self.appliance.process.poll() is not None:
                is_up.clear()
                time.sleep(self.random.choice((0.0, 0.0, 0.0, 1.0)))
                self.appliance.start()
                is_up.set()
        return killed

    def _kill_one_of(self, order: list[Victim]) -> Victim:
        """Kill the next one of the list; when it is not there, the first one behind it that is."""
        patience_seconds = PATIENCE_SECONDS
        for victim in order:
            if kill(self.appliance, victim, patience_seconds=patience_seconds):
                order.remove(victim)
                return victim
            patience_seconds = 0.0
        # Nobody else is at work.
        order.pop()
        kill(self.appliance, Victim.APPLIANCE, patience_seconds=0)
        return Victim.APPLIANCE

    def _library_complaints(self) -> list[str]:
        """Compare what the library knows: no cartridge in two elements, no tape moved under its user."""
        library = Library(str(self.appliance.library))
        if not library.exists:
            return []
        elements = library.elements()
        held = [barcode for barcode in elements.slots.values() if barcode]
        held += [drive.barcode for drive in elements.drives if drive.barcode]
        held += [elements.move.barcode] if elements.move is not None else []
        complaints = [
            f"{barcode} is in {count} places" for barcode, count in Counter(held).items() if count > 1
        ]
        return complaints + [
            f"the tape was moved under its user: {marker.name}"
            for marker in (self.appliance.library / "locks").glob("*.displaced")
        ]

    # ── checking ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _check_calm(self, clients: list[LoadClient]) -> None:
        """Everything comes to rest: all on tape, every drive and cartridge usable, every object as acknowledged."""
        self.appliance.client.post("/archive")
        try:
            wait_until(
                "everything is on every tape",
                self._is_calm,
                seconds=CALM_SECONDS,
                pause=0.3,
            )
        except NotInTime as error:
            self._explain(error)
        self.assertEqual(
            [row for row in self.appliance.rows("/drives") if row["state"] != "up"],
            [],
            "a drive is out of service",
        )
        usable = {"scratch", "formatting", "filling", "full"}
        self.assertEqual(
            [
                row
                for row in self.appliance.rows("/cartridges")
                if row["state"] not in usable or not row["is_present"]
            ],
            [],
            "a cartridge is unusable",
        )
        self._check_objects(clients)
        self._check_copies()

    def _is_calm(self) -> bool:
        waiting = self.appliance.ask("/status")["not_yet_on_every_tape_objects"]
        # Bundles are finished even when all that is in them was deleted meanwhile.
        return waiting == 0 and not self.appliance.ask("/jobs")["bundles"]

    def _explain(self, error: NotInTime) -> None:
        jobs = json.dumps(self.appliance.ask("/jobs"), indent=1)
        alerts = json.dumps(self.appliance.rows("/alerts"), indent=1)
        raise NotInTime(f"{error}\n{jobs}\n{alerts}\n{self.appliance.log_tail(60)}")

    def _check_objects(self, clients: list[LoadClient]) -> None:
        s3 = self.appliance.s3()
        listed = {
            entry["Key"]: int(entry["Size"])
            for page in s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
            for entry in page.get("Contents", [])
        }
        owner = {key: client for client in clients for key in client.ledger.names()}
        self.assertEqual(sorted(set(listed) - set(owner)), [], "keys that nobody wrote")
        cold = []
        for key, client in sorted(owner.items()):
            complaint = client.ledger.complaint(key, listed.get(key))
            self.assertIsNone(complaint)
            if key in listed:
                head = s3.head_object(Bucket=BUCKET, Key=key)
                self.assertEqual(head["ContentLength"], listed[key])
                copies = head["ResponseMetadata"]["HTTPHeaders"]["x-coldstore-copies"]
                self.assertEqual(copies, "2/2", key)
                if head.get("StorageClass", "STANDARD") != "STANDARD":
                    cold.append(key)
        for key in cold:
            with contextlib.suppress(Refused):
                asked(s3.restore_object, Bucket=BUCKET, Key=key, RestoreRequest={"Days": 30})
        for key in sorted(listed):
            if key in cold:
                self._wait_for_restore(s3, key)
            size_bytes, digest = read_whole(s3, BUCKET, key)
            self.assertIsNone(owner[key].ledger.complaint(key, size_bytes, digest))
        say(f"{len(listed)} objects read back, {len(cold)} of them from tape")
        self.assertGreater(len(cold), 3)

    def _wait_for_restore(self, s3: Any, key: str) -> None:
        def is_restored() -> bool:
            told = s3.head_object(Bucket=BUCKET, Key=key).get("Restore")
            if told is None:
                # The client's own short restore was under way and has ended.
                s3.restore_object(Bucket=BUCKET, Key=key, RestoreRequest={"Days": 30})
                return False
            return 'ongoing-request="false"' in told

        try:
            wait_until(f"{key} is restored", is_restored, seconds=CALM_SECONDS, pause=0.1)
        except NotInTime as error:
            self._explain(error)

    def _check_copies(self) -> None:
        """What the record counts as verified is on that cartridge, by what the cartridge's own index lists."""
        with contextlib.closing(
            sqlite3.connect(
                f"file:{pathname2url(str(self.appliance.state / 'metadata.sqlite'))}?mode=ro", uri=True
            )
        ) as database:
            pairs = database.execute(
                "SELECT bundle_id, barcode FROM copies WHERE state = 'verified'"
            ).fetchall()
            twice = database.execute(
                "SELECT bundle_id, barcode FROM copies WHERE barcode IS NOT NULL GROUP BY 1, 2 HAVING count(*) > 1"
            ).fetchall()
            stuck = database.execute("SELECT * FROM bundles WHERE state IN ('filling', 'frozen')").fetchall()
        self.assertEqual(twice, [], "two copies of one bundle on one cartridge")
        self.assertEqual(stuck, [], "bundles that nobody works on")
        self.assertGreater(len(pairs), 1)

    def _check_log(self) -> None:
        log = self.appliance.log()
        lines = [line for line in log.splitlines() if any(trace in line for trace in TRACES)]
        if lines:
            self.fail(f"{len(lines)} traces in the log, which is kept in KillTests.log: {lines[:5]}")

    def _check_nothing_left(self, clients: list[LoadClient]) -> None:
        """With every object deleted and every upload ended, the disk is empty after the next start."""
        s3 = self.appliance.s3()
        for client in clients:
            for key in client.ledger.names():
                s3.delete_object(Bucket=BUCKET, Key=key)
        for upload in s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads", []):
            s3.abort_multipart_upload(Bucket=BUCKET, Key=upload["Key"], UploadId=upload["UploadId"])
        self.appliance.kill()
        self.appliance.start()
        try:
            wait_until(
                "the disk is empty",
                lambda: self.appliance.ask("/status")["staging_used_bytes"] == 0,
                seconds=60,
                pause=0.3,
            )
        except NotInTime as error:
            self._explain(error)
        status = self.appliance.ask("/status")
        self.assertEqual(status["on_disk_bytes"], 0)
        self.assertLessEqual(status["staging_reserved_bytes"], 2 << 20)
        s3.delete_bucket(Bucket=BUCKET)
        self.appliance.drain(60)
        self.appliance.stop()
        self.assertEqual(processes_of(self.appliance.folder), {}, "processes are left")
        checked = self.appliance.virtual_library("fsck")
        self.assertIn("consistent", checked.stdout)

    def _remove(self) -> None:
        if self.appliance.log_path.exists():
            Path("KillTests.log").write_text(self.appliance.log())
        self.appliance.close()


def say(sentence: str) -> None:
    """Tell whoever watches the test."""
    print(f"\n[kill] {time.strftime('%H:%M:%S')} {sentence}", file=sys.stderr, flush=True)
