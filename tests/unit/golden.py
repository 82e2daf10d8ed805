"""Outputs recorded from the real programs: ``tests/fixtures/golden/PROGRAM/CASE.txt``."""

import re
from pathlib import Path

from coldstore.interfaces.process import Completed
from coldstore.testing.process import Script

FOLDER = Path(__file__).resolve().parent.parent / "fixtures" / "golden"
_FIRST_LINE = re.compile(rb"# command: (?P<command>.*) ; exit: (?P<status>\d+)\n")
_DIVIDER = b"# stderr:\n"


def recorded(program: str, case: str) -> Completed:
    """
    Read one recording.

    The first line tells command and exit status; standard error follows its divider, which stands at the end of a line
    that standard output left unfinished.
    """
    content = (FOLDER / program / f"{case}.txt").read_bytes()
    match = _FIRST_LINE.match(content)
    assert match is not None, case
    stdout, _, stderr = content[match.end() :].partition(_DIVIDER)
    return Completed(
        argv=tuple(match["command"].decode().split()),
        exit_status=int(match["status"]),
        signal=None,
        stdout=stdout,
        stderr=stderr,
        seconds=0.1,
    )


def script(program: str, case: str, *, seconds: float | None = 0.0) -> Script:
    """Make a simulated command say what was recorded."""
    completed = recorded(program, case)
    assert completed.exit_status is not None
    return Script(
        stdout=completed.stdout, stderr=completed.stderr, exit_status=completed.exit_status, seconds=seconds
    )


def cases(program: str, prefix: str = "") -> list[str]:
    """Name every recording of a program whose name begins so."""
    return sorted(path.stem for path in (FOLDER / program).glob(f"{prefix}*.txt"))
