"""What another process uses, and the baselines as processes of their own."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.endtoend.appliance import CHECKOUT

_TICK = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """Return the processor seconds that a process has used, its threads included (to 10 ms)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def memory_bytes(pid: int, field: str = "VmRSS") -> int:
    """Return a field of /proc/PID/status that is in kB; ``VmHWM`` is the peak of what was resident."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise LookupError(field)


def forget_peak(pid: int) -> None:
    """Have ``VmHWM`` begin anew (proc(5), clear_refs)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


@dataclass(frozen=True, slots=True)
class Server:
    """A process that serves a port of the loopback address."""

    pid: int
    port: int


@contextmanager
def bare(*words: str) -> Iterator[Server]:
    """Run ``tests.bench.bare`` with these arguments while the context lasts."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.bare", *words],
        cwd=CHECKOUT,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        yield Server(process.pid, int(process.stdout.readline()))
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
