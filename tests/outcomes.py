"""What came of tests, read from what their commands printed: counts, what failed and was skipped, and the end of the report."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

SKIPPED_STATUS = 77
"""What a command exits with when it cannot run here (automake's convention); its last line says why."""
FAILURE_LINES = 60
"""What is repeated of one failure, at most."""
FAILURES_LINES = 140
"""What is repeated of all failures together, at most: whoever reads only the end of a report finds something of each."""
FEWEST_LINES = 12
"""What is repeated of one failure, at least; those for which that leaves no room are named only."""
BLOCK = re.compile(
    r"^\[(SKIPPED|FAIL|ERROR|SUCCESS!\?!)\]\n(.*?)(?=^={70,}|^-{70,})", re.MULTILINE | re.DOTALL
)
"""What trial says of one or several tests with the same end."""
LOG = re.compile(r"^((tests(?:\.\w+)+): log in [^\n]*, its end:\n(?:[^\n]*\n){,25})", re.MULTILINE)
"""The end of an appliance's log, which a test of its prints when it fails."""


@dataclass(frozen=True)
class Failure:
    """
    What was said of tests that failed.

    :ivar said: by the command
    :ivar log: the end of the log of what was tested, when a test printed it
    """

    said: str
    log: str = ""

    def shortened(self, lines: int) -> str:
        """Leave lines out of it; of the log there is what room remains."""
        said = shortened(self.said, lines)
        room = lines - len(said.splitlines()) - 1
        return "\n".join([said, *self.log.splitlines()[-room:]]) if room > 0 and self.log else said


@dataclass
class Outcome:
    """
    What came of a command, or of several.

    :ivar seconds: how long they ran
    :ivar processor_seconds: of all cores, theirs and that of what they started
    :ivar notes: what failed or was skipped, a line each
    :ivar failures: what was said of those that failed
    """

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    processor_seconds: float = 0.0
    notes: list[str] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    def add(self, other: "Outcome") -> None:
        """Count another's in."""
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped
        self.seconds += other.seconds
        self.processor_seconds += other.processor_seconds
        self.notes += other.notes
        self.failures += other.failures


def counted(output: str, status: int) -> Outcome:
    """Count the tests of one command from what it printed and its exit status."""
    output = output.replace("\r", "")
    last_line = output.strip().rpartition("\n")[2].strip()
    if status == SKIPPED_STATUS:
        return Outcome(skipped=1, notes=[f"skipped: {last_line or 'cannot run here'}"])
    outcome = Outcome()
    plain = re.findall(r"^(\d+) passed, (\d+) failed, (\d+) skipped$", output, re.MULTILINE)
    by_trial = re.findall(
        r"^Ran (\d+) tests? in [^\n]*\n+(?:PASSED|FAILED)(?: \(([a-zA-Z=0-9, ]*)\))?$", output, re.MULTILINE
    )
    if plain:
        outcome.passed, outcome.failed, outcome.skipped = map(int, plain[-1])
    elif by_trial:
        for ran, summary in by_trial:
            counts = {name: int(number) for name, number in re.findall(r"(\w+)=(\d+)", summary)}
            outcome.failed += sum(
                counts.get(name, 0) for name in ("failures", "errors", "unexpectedSuccesses")
            )
            outcome.skipped += counts.get("skips", 0)
            outcome.passed += counts.get("successes", 0) + counts.get("expectedFailures", 0)
            if int(ran) == 0:
                outcome.failed += 1
                outcome.notes.append("no test was found")
        outcome.notes += remarks(output)
        outcome.failures += failures(output)
    else:
        outcome.passed = int(status == 0)
    if status != 0 and outcome.failed == 0:
        outcome.failed = 1
        outcome.notes.append(f"exit status {status}: {last_line}")
    if outcome.failed and not outcome.failures:
        outcome.failures.append(Failure(output.strip()))
    return outcome


def _blocks(output: str) -> Iterator[tuple[str, list[str], list[str]]]:
    """Return trial's blocks of tests with the same end: the word for that end, the names, and the lines with the names among them."""
    for word, part in BLOCK.findall(output):
        lines = part.strip().splitlines()
        names = [line.strip() for line in lines if re.fullmatch(r"tests(\.\w+)+", line.strip())]
        yield word, names, lines


def remarks(output: str) -> list[str]:
    """Return what trial says of tests that failed or were skipped: their names, and why they were skipped."""
    said = []
    for word, names, lines in _blocks(output):
        if word == "SKIPPED":
            stripped = [line.strip() for line in lines if line.strip()]
            reason = " ".join(line for line in stripped if line not in names)
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            said.append(f"skipped {names[0] if names else '?'}{more}: {reason}")
        else:
            said += [f"failed {name}" for name in names]
    return said


def failures(output: str) -> list[Failure]:
    """Return what trial says of the tests that failed, which they are, and the end of the log that they printed."""
    logs = {name: log.rstrip() for log, name in LOG.findall(output)}
    return [
        Failure("\n".join([f"[{word}]", *lines]), "\n".join(logs[name] for name in names if name in logs))
        for word, names, lines in _blocks(output)
        if word != "SKIPPED"
    ]


def shortened(text: str, lines: int) -> str:
    """Leave lines out of the middle of a text: an error stands at its end, and where it began at its beginning."""
    every = text.splitlines()
    if len(every) <= lines:
        return text
    head = lines // 4
    tail = lines - head - 1
    left_out = f"... {len(every) - head - tail} lines ..."
    return "\n".join([*every[:head], left_out, *every[-tail:]])


def repeated(outcomes: Mapping[str, Outcome]) -> Iterator[str]:
    """Say once more, in short, what was said of everything that failed, by level."""
    every = [(name, failure) for name, outcome in outcomes.items() for failure in outcome.failures]
    if not every:
        return
    shown = every[: FAILURES_LINES // FEWEST_LINES]
    lines = min(FAILURE_LINES, FAILURES_LINES // len(shown))
    for name, failure in shown:
        yield f"\n--- {name}: {failure.shortened(lines)}"
    if len(every) > len(shown):
        yield f"\n--- and {len(every) - len(shown)} more failures"


def table(outcomes: Mapping[str, Outcome]) -> Iterator[str]:
    """Return the lines of the table of levels, and what is to be noted of them."""
    yield f"\n{'level':10} {'run':>6} {'passed':>7} {'failed':>7} {'skipped':>8} {'seconds':>8}"
    for name, each in outcomes.items():
        ran = each.passed + each.failed
        yield f"{name:10} {ran:6} {each.passed:7} {each.failed:7} {each.skipped:8} {each.seconds:8.1f}"
    for name, each in outcomes.items():
        for note in each.notes:
            yield f"{name}: {note}"


def total(outcomes: Iterable[Outcome]) -> Outcome:
    """Count everything together."""
    every = Outcome()
    for outcome in outcomes:
        every.add(outcome)
    return every


def report(outcomes: Mapping[str, Outcome], seconds: float) -> Sequence[str]:
    """
    Return the end of a run's output.

    :param seconds: how long the run took; less than its parts together when they ran beside each other
    """
    every = total(outcomes.values())
    return [
        *repeated(outcomes),
        *table(outcomes),
        f"{seconds:.0f} s for everything, {every.processor_seconds:.0f} s of processor time",
        f"{every.passed} passed, {every.failed} failed, {every.skipped} skipped",
    ]
