"""kill -9 for processes of one appliance, and a watch that no drive is ever used by two programs of LTFS at once."""

import os
import re
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from random import Random

from tests.endtoend.appliance import Appliance, processes_of

WATCH_SECONDS = 0.1
LTFS_PROGRAMS = re.compile(r"/bin/(?:ltfs|mkltfs|ltfsck) .*?/dev/(sg\d+)")


class Victim(StrEnum):
    """Who is killed."""

    APPLIANCE = "the appliance alone"
    EVERYTHING = "the appliance with everything it started"
    LTFS = "ltfs"
    SHIM = "the shim"
    SHIM_AND_LTFS = "the shim and ltfs"
    MOVER = "the mover"
    MTX = "a running mtx"
    MTX_AND_APPLIANCE = "a running mtx and the appliance"
    TOOL = "a running mkltfs, ltfsck or mt"
    ANY = "any process that it started"
    DATABASE = "the database server"
    CONNECTION = "connections to the database"
    DATABASE_AND_APPLIANCE = "the database server and the appliance"


SERVERS = frozenset({Victim.DATABASE, Victim.CONNECTION, Victim.DATABASE_AND_APPLIANCE})
"""Those that there are only where another process keeps the metadata."""
AWAY_SECONDS = (0.0, 0.0, 1.0, 3.0)
"""How long a server stays away; one of these."""


PATTERNS = {
    Victim.LTFS: re.compile(r"/bin/ltfs "),
    Victim.SHIM: re.compile(r"coldstore\.tape\.shim "),
    Victim.SHIM_AND_LTFS: re.compile(r"coldstore\.tape\.shim "),
    Victim.MOVER: re.compile(r"coldstore\.tape\.mover_child "),
    Victim.MTX: re.compile(r"/bin/mtx .*load "),
    Victim.MTX_AND_APPLIANCE: re.compile(r"/bin/mtx .*load "),
    Victim.TOOL: re.compile(r"/bin/(?:mkltfs|ltfsck|mt) "),
    Victim.ANY: re.compile(r""),
}


def kill_all(process_ids: list[int]) -> int:
    """Kill these at one moment, as nearly as that goes; return how many there were."""
    for process_id in process_ids:
        try:
            os.kill(process_id, signal.SIGKILL)
        except ProcessLookupError:
            continue
    return len(process_ids)


def matching(folder: Path, pattern: re.Pattern[str]) -> list[int]:
    """Return the processes of an appliance whose command line matches."""
    return [pid for pid, words in processes_of(folder).items() if pattern.search(words)]


def caught(folder: Path, pattern: re.Pattern[str], seconds: float) -> list[int]:
    """Wait for such a process; return those that there are, none when none came."""
    end = time.monotonic() + seconds
    while not (found := matching(folder, pattern)) and time.monotonic() < end:
        time.sleep(0.01)
    return found


def kill(appliance: Appliance, victim: Victim, random: Random, *, patience_seconds: float) -> bool:
    """
    Kill a victim as soon as there is one, by chance one of several.

    :return: whether there was one; the appliance is to be started again when it was among those killed
    """
    folder = appliance.folder
    if victim is Victim.APPLIANCE:
        appliance.kill()
        return True
    if victim is Victim.EVERYTHING:
        assert appliance.process is not None
        # The appliance first, so that it does not see the others die.
        kill_all([appliance.process.pid, *processes_of(folder)])
        appliance.kill()
        return True
    if victim in SERVERS:
        _kill_database(appliance, victim, random)
        return True
    present = others(appliance, victim, patience_seconds)
    found = [random.choice(present)] if present else []
    if victim is Victim.SHIM_AND_LTFS:
        found += children_of(found)
    kill_all(found)
    if found and victim is Victim.MTX_AND_APPLIANCE:
        appliance.kill()
    return bool(found)


def victims_of(appliance: Appliance) -> list[Victim]:
    """Return who can be killed around an appliance."""
    return [victim for victim in Victim if victim not in SERVERS or appliance.metadata.server is not None]


def _kill_database(appliance: Appliance, victim: Victim, random: Random) -> None:
    """Kill what keeps the metadata, or cut it off, and bring it back after some time."""
    server = appliance.metadata.server
    assert server is not None
    if victim is Victim.CONNECTION:
        appliance.metadata.disconnect()
        return
    server.kill()
    if victim is Victim.DATABASE_AND_APPLIANCE:
        appliance.kill()
    time.sleep(random.choice(AWAY_SECONDS))
    server.start()


def others(appliance: Appliance, victim: Victim, patience_seconds: float) -> list[int]:
    """Return the processes besides the appliance itself that can be this victim, in order."""
    assert appliance.process is not None
    found = caught(appliance.folder, PATTERNS[victim], patience_seconds)
    return sorted(set(found) - {appliance.process.pid})


def children_of(process_ids: list[int]) -> list[int]:
    """Return the direct children of processes."""
    found = []
    for process_id in process_ids:
        for task in Path(f"/proc/{process_id}/task").glob("*/children"):
            try:
                found += [int(child) for child in task.read_text().split()]
            except OSError:
                continue
    return found


def holders_by_device(processes: dict[int, str]) -> dict[str, frozenset[int]]:
    """Return which programs of LTFS are at work on which device."""
    found: dict[str, set[int]] = defaultdict(set)
    for process_id, words in processes.items():
        used = LTFS_PROGRAMS.search(words)
        if used is not None and "coldstore.tape.shim" not in words:
            found[used[1]].add(process_id)
    return {device: frozenset(holders) for device, holders in found.items()}


class Watch(threading.Thread):
    """
    Looks all the time whether two programs of LTFS are at work on one drive, or one cartridge is in two places.

    :ivar complaints: what it saw
    """

    def __init__(self, appliance: Appliance, complaints_of_library: Callable[[], list[str]]) -> None:
        super().__init__(name="watch", daemon=True)
        self.complaints: list[str] = []
        self.looks = 0
        self._appliance = appliance
        self._complaints_of_library = complaints_of_library
        self._stopping = threading.Event()

    def stop(self) -> None:
        """End."""
        self._stopping.set()
        self.join()

    def run(self) -> None:
        """Look again and again; two looks must agree, since processes come and go while one is taken."""
        before: dict[str, frozenset[int]] = {}
        while not self._stopping.wait(WATCH_SECONDS):
            now = holders_by_device(processes_of(self._appliance.folder))
            for device, holders in now.items():
                both = holders & before.get(device, frozenset())
                if len(both) > 1:
                    self.complaints.append(f"{len(both)} programs work on {device} at once: {sorted(both)}")
            for complaint in self._complaints_of_library():
                self.complaints.append(complaint)
            before = now
            self.looks += 1
