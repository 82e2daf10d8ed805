"""What the tests in the tape VM share: the devices that its variables name, and its way to inject faults."""

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred

from coldstore.interfaces.process import Completed, ICommandRunner, IDeviceLocks
from coldstore.tape.drive import DriveTimes, MtDrive
from coldstore.tape.library import LibraryTimes, MtxLibrary
from coldstore.tape.locks import FlockDeviceLocks
from coldstore.tape.process import IProcessReactor, ReactorCommandRunner
from coldstore.testing.tenure import SimulatedTenure

reactor = cast(IProcessReactor, global_reactor)
ENVIRONMENT: Mapping[str, str] = {"PATH": os.environ.get("PATH", os.defpath)}
CHANGER = os.environ.get("TAPEVM_CHANGER", "")
DRIVE_COUNT = int(os.environ.get("TAPEVM_DRIVE_COUNT", "0"))
CONTROL = "/run/library/control"
"""Where the emulated library takes requests (``tapevm-library request`` sends them there as well, and takes a second)."""
CHANGER_UNIT = 0
"""The changer's logical unit, for ``inject`` and ``attention``."""

SKIP = None if CHANGER else "runs in the tape VM only: tests/tapevm/run"


class WatchedRunner:
    """Runs commands for real and remembers them."""

    def __init__(self) -> None:
        self._runner = ReactorCommandRunner(reactor, ENVIRONMENT)
        self.ran: list[tuple[str, ...]] = []

    def run(self, argv, **arguments) -> "Deferred[Completed]":  # type: ignore[no-untyped-def]
        """Run one command."""
        self.ran.append(tuple(argv))
        return self._runner.run(argv, **arguments)

    def verbs(self) -> list[str]:
        """What was asked of mtx and mt: ``[mtx, -f, device, verb]``."""
        return [argv[3] for argv in self.ran]


def device_of(number: int) -> str:
    """Return the node of a drive, as the rig found it by serial number."""
    return os.environ[f"TAPEVM_DRIVE{number}"]


def serial_of(number: int) -> str:
    """Return a drive's serial number."""
    return os.environ[f"TAPEVM_DRIVE{number}_SERIAL"]


def unit_of(number: int) -> int:
    """Return a drive's logical unit, for ``inject``: the emulation numbers its serials by unit."""
    return int(serial_of(number)[-6:])


def make_library(
    runner: ICommandRunner,
    locks: IDeviceLocks,
    *,
    mtx: str = "mtx",
    times: LibraryTimes | None = None,
    tenure: SimulatedTenure | None = None,
) -> MtxLibrary:
    """Return the library of the VM."""
    return MtxLibrary(
        runner,
        CHANGER,
        lock=locks.changer(),
        tenure=tenure or SimulatedTenure(),
        clock=reactor,
        mtx=mtx,
        times=times or LibraryTimes(pause=1.0),
    )


def make_drive(
    runner: ICommandRunner,
    locks: IDeviceLocks,
    number: int,
    *,
    device: str | None = None,
    tenure: SimulatedTenure | None = None,
) -> MtDrive:
    """Return a drive of the VM."""
    return MtDrive(
        runner,
        device or device_of(number),
        number=number,
        lock=locks.drive(number),
        tenure=tenure or SimulatedTenure(),
        clock=reactor,
        times=DriveTimes(poll=0.5),
    )


def make_locks(folder: str) -> FlockDeviceLocks:
    """Return locks in a folder."""
    return FlockDeviceLocks(Path(folder).absolute(), reactor)


def ask_rig(*words: str) -> str:
    """Ask something of the emulated library; see ``rig/README.md``, section on faults."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(60)
        client.connect(CONTROL)
        client.sendall(" ".join(words).encode())
        answer = client.recv(65536).decode()
    assert not answer.startswith("error"), (words, answer)
    return answer


def inject(unit: int, operation: str, sense: str, count: int = 1) -> None:
    """Let the next commands of one operation fail, for instance ``inject(0, "a5", "6 28 1")``: all numbers in hex."""
    ask_rig("inject", str(unit), operation, *sense.split(), str(count))
