"""
The kill loop: appliances that live under a mixed load and kill -9 of anything at any moment, until the time is over.

Each life has settings and choices of its own, made from the seed (the moments still differ from run to run). It ends when the load has ended and
everything was checked against the clients' ledgers: what was acknowledged is there, byte for byte, what was not is as if it never
was, nothing half-written shows, no drive ever had two users, every cartridge can be used, and nothing leaks.

The exit status is 0 when all lives ended well, 1 when one did not (its log is kept, its seed said), 77 when nothing can be killed here.
"""

import argparse
import contextlib
import json
import os
import shutil
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random, SystemRandom
from typing import Any

from coldstore.vtl.fuse import fuse_available
from coldstore.vtl.library import Library
from tests.endtoend.appliance import TRACES, Appliance, NotInTime, processes_of, surroundings, wait_until
from tests.endtoend.databases import KINDS
from tests.endtoend.killing import Victim, Watch, kill, victims_of
from tests.endtoend.load import LoadClient, Refused, asked, read_whole

SKIPPED_STATUS = 77
KILLS_PER_LIFE = 25
CLIENTS = 4
BUCKET = "killed"
PATIENCE_SECONDS = 1.5
"""How long a victim that is not always there is waited for."""
CALM_SECONDS = 180.0
MIB = 1 << 20
USABLE = frozenset({"scratch", "formatting", "filling", "full"})


def settings_of_a_life(random: Random) -> Mapping[str, Any]:
    """
    Choose settings under which everything comes and goes often, so that there is always something to be cut off.

    A cartridge takes 1 GiB and a life writes at most half of that to each pool: no life ends for want of tape.
    """
    drives = random.choice((1, 2, 2, 4))
    return {
        "staging": {"capacity": "3GiB", "segment": random.choice(("1MiB", "4MiB"))},
        "archive": {
            "bundle_size": random.choice(("4MiB", "12MiB", "24MiB")),
            "sync": random.choice(("8MiB", "24MiB", "64MiB")),
            "trigger": {"age": random.choice(("1s", "2s", "4s")), "idle_age": "1s", "size": "24MiB"},
        },
        "recall": {"tiers": {"standard": {"hold": "0s", "target": "5h"}}},
        "mount": {"idle_unload": random.choice(("500ms", "1s", "3s"))},
        "time": {"day": random.choice(("20s", "40s"))},
        "tape": {
            "virtual": {
                "drives": drives,
                "cartridges": 8 + 2 * drives,
                "slots": 12 + 2 * drives,
                "capacity": "1GiB",
                "latency_scale": random.choice((0.003, 0.01, 0.02)),
            }
        },
    }


@dataclass(kw_only=True)
class Tally:
    """What lives did and survived."""

    lives: int = 0
    killed: Counter[str] = field(default_factory=Counter)
    operations: Counter[str] = field(default_factory=Counter)
    read_back: int = 0
    read_back_from_tape: int = 0

    def say(self) -> None:
        """Print it."""
        say(f"{self.lives} lives, {self.killed.total()} kills: {dict(self.killed)}")
        say(f"operations: {dict(self.operations)}")
        say(f"{self.read_back} objects read back at the end, {self.read_back_from_tape} of them from tape")


class Life:
    """One appliance from its first start to an empty disk; every check that fails is an ``AssertionError``."""

    def __init__(self, seed: int, tally: Tally, metadata: str) -> None:
        self._random = Random(seed)
        self._tally = tally
        self.appliance = Appliance(settings_of_a_life(self._random), metadata=KINDS[metadata]())
        self._is_up = threading.Event()
        self._clients: list[LoadClient] = []

    def live(self) -> None:
        """
        Live it.

        :raise AssertionError: a promise was broken; says which
        """
        self.appliance.start()
        self.appliance.s3().create_bucket(Bucket=BUCKET)
        self._is_up.set()
        self._clients = [self._client(number) for number in range(CLIENTS)]
        watch = Watch(self.appliance, self._library_complaints)
        watch.start()
        try:
            self._under_load()
            self._check_calm()
        finally:
            watch.stop()
        assert not watch.complaints, watch.complaints
        assert watch.looks > KILLS_PER_LIFE, "the watch hardly looked"
        self._check_log()
        self._check_nothing_left()
        self._tally.lives += 1

    def close(self, *, keep_as: Path | None) -> None:
        """
        End what is left and remove everything.

        :param keep_as: where to keep log and settings
        :raise AssertionError: something was left that should have ended
        """
        if keep_as is not None:
            keep_as.mkdir(parents=True, exist_ok=True)
            for path in (self.appliance.log_path, self.appliance.configuration):
                if path.exists():
                    shutil.copy(path, keep_as)
        self.appliance.close()

    def _client(self, number: int) -> LoadClient:
        return LoadClient(
            f"client{number}",
            self.appliance.s3,
            BUCKET,
            self._random.getrandbits(32),
            bytes_max=120 * MIB,
            is_up=self._is_up,
        )

    def _under_load(self) -> None:
        for client in self._clients:
            client.start()
        try:
            self._kill_again_and_again()
        finally:
            for client in self._clients:
                client.stop()
            for client in self._clients:
                client.join(90)
        for client in self._clients:
            assert not client.is_alive(), f"{client.name} hangs"
            self._tally.operations += client.counts
            assert not client.complaints, client.complaints

    # ── killing ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _kill_again_and_again(self) -> None:
        victims = victims_of(self.appliance)
        order = [victims[number % len(victims)] for number in range(KILLS_PER_LIFE)]
        self._random.shuffle(order)
        while order:
            time.sleep(self._random.uniform(0.1, 2.0))
            victim = self._kill_one_of(order)
            self._tally.killed[str(victim)] += 1
            assert self.appliance.process is not None
            if self.appliance.process.poll() is not None:
                self._is_up.clear()
                time.sleep(self._random.choice((0.0, 0.0, 0.0, 1.0)))
                self.appliance.start()
                self._is_up.set()

    def _kill_one_of(self, order: list[Victim]) -> Victim:
        """Kill the next one of the list; when it is not there, the first one behind it that is."""
        patience_seconds = PATIENCE_SECONDS
        for victim in order:
            if kill(self.appliance, victim, self._random, patience_seconds=patience_seconds):
                order.remove(victim)
                return victim
            patience_seconds = 0.0
        # Nobody else is at work.
        order.pop()
        kill(self.appliance, Victim.APPLIANCE, self._random, patience_seconds=0)
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

    def _wait_until(self, what: str, claim: Any, pause: float = 0.3) -> None:
        """Wait for a claim of the appliance at rest; when it does not come true, tell what the appliance says."""
        try:
            wait_until(what, claim, seconds=CALM_SECONDS, pause=pause)
        except NotInTime as error:
            jobs = json.dumps(self.appliance.ask("/jobs"), indent=1)
            alerts = json.dumps(self.appliance.rows("/alerts"), indent=1)
            raise NotInTime(f"{error}\n{jobs}\n{alerts}\n{self.appliance.log_tail(60)}") from error

    def _check_calm(self) -> None:
        """Everything comes to rest: all on tape, every drive and cartridge usable, every object as acknowledged."""
        self.appliance.client.post("/archive")
        self._wait_until("everything is on every tape", self._is_calm)
        drives = [row for row in self.appliance.rows("/drives") if row["state"] != "up"]
        assert not drives, f"a drive is out of service: {drives}"
        unusable = [
            row
            for row in self.appliance.rows("/cartridges")
            if row["state"] not in USABLE or not row["is_present"]
        ]
        assert not unusable, f"a cartridge cannot be used: {unusable}"
        self._check_objects()
        self._check_copies()

    def _is_calm(self) -> bool:
        waiting = self.appliance.ask("/status")["not_yet_on_every_tape_objects"]
        # Bundles are finished even when all that is in them was deleted meanwhile.
        return waiting == 0 and not self.appliance.ask("/jobs")["bundles"]

    def _is_empty(self) -> bool:
        status = self.appliance.ask("/status")
        # The open segment keeps a promise of its own.
        is_promised = status["staging_reserved_bytes"] > 2 * MIB
        return not (status["staging_used_bytes"] or status["on_disk_bytes"] or is_promised)

    def _check_objects(self) -> None:
        s3 = self.appliance.s3()
        listed = {
            entry["Key"]: int(entry["Size"])
            for page in s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
            for entry in page.get("Contents", [])
        }
        owner = {key: client for client in self._clients for key in client.ledger.names()}
        assert set(listed) <= set(owner), f"keys that nobody wrote: {sorted(set(listed) - set(owner))}"
        cold = []
        for key, client in sorted(owner.items()):
            complaint = client.ledger.complaint(key, listed.get(key))
            assert complaint is None, complaint
            if key not in listed:
                continue
            head = s3.head_object(Bucket=BUCKET, Key=key)
            assert head["ContentLength"] == listed[key], key
            copies = head["ResponseMetadata"]["HTTPHeaders"]["x-coldstore-copies"]
            assert copies == "2/2", f"{key}: {copies}"
            if head.get("StorageClass", "STANDARD") != "STANDARD":
                cold.append(key)
        for key in cold:
            with contextlib.suppress(Refused):
                asked(s3.restore_object, Bucket=BUCKET, Key=key, RestoreRequest={"Days": 30})
        for key in sorted(listed):
            if key in cold:
                self._wait_for_restore(s3, key)
            size_bytes, digest = read_whole(s3, BUCKET, key)
            complaint = owner[key].ledger.complaint(key, size_bytes, digest)
            assert complaint is None, complaint
        self._tally.read_back += len(listed)
        self._tally.read_back_from_tape += len(cold)

    def _wait_for_restore(self, s3: Any, key: str) -> None:
        def is_restored() -> bool:
            told = s3.head_object(Bucket=BUCKET, Key=key).get("Restore")
            if told is None:
                # The client's own short restore was under way and has ended.
                s3.restore_object(Bucket=BUCKET, Key=key, RestoreRequest={"Days": 30})
                return False
            return 'ongoing-request="false"' in told

        self._wait_until(f"{key} is restored", is_restored, pause=0.1)

    def _check_copies(self) -> None:
        """The record has no two copies of a bundle on one cartridge, and no bundle that nobody works on."""
        ((verified,),) = self._record("SELECT count(*) FROM copies WHERE state = 'verified'")
        twice = self._record(
            "SELECT bundle_id, barcode FROM copies WHERE barcode IS NOT NULL GROUP BY 1, 2 HAVING count(*) > 1"
        )
        stuck = self._record("SELECT * FROM bundles WHERE state IN ('filling', 'frozen')")
        assert not twice, f"two copies of one bundle on one cartridge: {twice}"
        assert not stuck, f"bundles that nobody works on: {stuck}"
        assert verified > 1, "nothing was archived"

    def _record(self, statement: str) -> list[Any]:
        return self.appliance.metadata.rows(self.appliance.state, statement)

    def _check_log(self) -> None:
        lines = self.appliance.log().splitlines()
        traces = [line for line in lines if any(trace in line for trace in TRACES)]
        around = "\n".join(surroundings(lines, traces))
        assert not traces, f"{len(traces)} traces in the log:\n{around}"

    def _check_nothing_left(self) -> None:
        """With every object deleted and every upload ended, the disk is empty after the next start, and the library at rest."""
        s3 = self.appliance.s3()
        for client in self._clients:
            for key in client.ledger.names():
                s3.delete_object(Bucket=BUCKET, Key=key)
        for upload in s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads", []):
            s3.abort_multipart_upload(Bucket=BUCKET, Key=upload["Key"], UploadId=upload["UploadId"])
        self.appliance.kill()
        self.appliance.start()
        self._wait_until("disk and record are empty", self._is_empty)
        s3.delete_bucket(Bucket=BUCKET)
        self.appliance.drain(CALM_SECONDS)
        self.appliance.stop()
        # A shim ends a moment after it has told the end of its ltfs.
        wait_until("every process has ended", lambda: not processes_of(self.appliance.folder), seconds=30)
        assert "consistent" in self.appliance.virtual_library("fsck").stdout


def say(sentence: str) -> None:
    """Tell whoever watches."""
    print(f"[kill loop] {time.strftime('%H:%M:%S')} {sentence}", flush=True)


def ends_well(seed: int, tally: Tally, keep: Path, metadata: str) -> bool:
    """Live one life; tell whether it ended well, and when not, what was wrong."""
    say(f"life {tally.lives + 1}, seed {seed}")
    life = Life(seed, tally, metadata)
    is_good = False
    try:
        life.live()
        is_good = True
    except Exception as error:  # noqa: BLE001 - whatever it is, this life has failed
        kept = keep / f"life-{seed}"
        say(f"FAILED with seed {seed}: {error!r:.20000}".replace("\\n", "\n"))
        say(f"its log is kept in {kept}")
    try:
        life.close(keep_as=None if is_good else keep / f"life-{seed}")
    except AssertionError as error:
        say(f"FAILED with seed {seed} at its end: {error}")
        is_good = False
    return is_good


def main(arguments: list[str]) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(
        prog="tests/killloop",
        description="Live under kill -9 until the time is over, and check every promise.",
    )
    parser.add_argument("--minutes", type=float, default=5.0, help="begin no life after so long (default 5)")
    parser.add_argument("--lives", type=int, default=10**6, help="at most so many lives")
    parser.add_argument("--seed", type=int, help="repeat the choices of a run (the moments still differ)")
    parser.add_argument("--go-on", action="store_true", help="begin the next life also after a failed one")
    parser.add_argument(
        "--keep", type=Path, default=Path("killloop-failures"), help="where the logs of failed lives are kept"
    )
    parser.add_argument("--metadata", choices=sorted(KINDS), default="sqlite", help="where they are kept")
    options = parser.parse_args(arguments)
    has_fuse, why_not = fuse_available()
    if not has_fuse:
        print(f"NOTHING IS KILLED: the virtual library needs FUSE for that, and {why_not}")
        return SKIPPED_STATUS
    seed = SystemRandom().getrandbits(32) if options.seed is None else options.seed
    say(f"{options.minutes:g} minutes, seed {seed}")
    tally, seeds, failures, lives = Tally(), Random(seed), 0, 0
    end = time.monotonic() + 60 * options.minutes
    next_seed = seed
    while lives < options.lives and time.monotonic() < end and (not failures or options.go_on):
        failures += not ends_well(next_seed, tally, options.keep, options.metadata)
        lives += 1
        next_seed = seeds.getrandbits(32)
    tally.say()
    print(f"{lives - failures} passed, {failures} failed, 0 skipped", flush=True)
    return int(failures > 0)


if __name__ == "__main__":
    os.umask(0o077)
    sys.exit(main(sys.argv[1:]))
