"""What was found: each kind once, in a file from which it can be repeated."""

import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from tests.fuzzing.case import Case

KIND_LENGTH = 160


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """
    A case that something is wrong with.

    :ivar sent: the bytes, as they went
    :ivar seed: with ``number``, what the case is made from
    """

    seed: int
    number: int
    case: Case
    sent: bytes
    complaints: tuple[str, ...]

    @property
    def kind(self) -> str:
        """What it has in common with others of the same cause, as far as one can tell."""
        told = re.sub(r"RequestId>.*|[0-9A-F]{16}|[0-9a-f]{8,}|\d+", "#", self.complaints[0])
        return f"{self.case.asked[0].operation}: {told[:KIND_LENGTH]}"

    def written(self) -> str:
        """Return the text of its file."""
        return json.dumps(
            {
                "complaints": self.complaints,
                "seed": self.seed,
                "number": self.number,
                "case": self.case.written(),
                "sent": self.sent.decode("latin-1"),
            },
            indent=1,
        )


def case_in(path: Path) -> Case:
    """
    Return the case of a finding's file.

    :raise OSError: it cannot be read
    :raise ValueError: it is no such file
    """
    try:
        written: dict[str, Any] = json.loads(path.read_text())
        return Case.read(written["case"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} holds no case: {error!r}") from None


class Findings:
    """All findings of a run; for any thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = Lock()
        self.counts: Counter[str] = Counter()

    def add(self, finding: Finding) -> Path | None:
        """Count one; write and return its file when it is the first of its kind."""
        with self._lock:
            self.counts[finding.kind] += 1
            if self.counts[finding.kind] > 1:
                return None
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / f"{finding.seed}-{finding.number}.json"
            path.write_text(finding.written())
            return path
